"""Public array functions on arrays of any type, shape and value: refused, or a sound answer."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from metal_jax import metrics, network, task_tree
from metal_jax.task_tree import TaskTree

TREE = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
few = settings(max_examples=15, deadline=None)

# Of this machine's order of bytes: JAX takes no other, and readers of files turn it round.
kinds = arrays.integer_dtypes(endianness="=", sizes=(8, 32))
kinds |= arrays.floating_dtypes(endianness="=", sizes=(32,))
shapes = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
anything = arrays.arrays(kinds | arrays.boolean_dtypes(), shapes)

LABELS = {
    "accuracy": metrics.accuracy,
    "confusion_matrix": lambda p, g: metrics.confusion_matrix(p, g, num_classes=3),
    "f_beta": lambda p, g: metrics.f_beta(p, g, num_classes=3),
    "matthews_correlation": lambda p, g: metrics.matthews_correlation(p, g, num_classes=3),
    "path_accuracy": metrics.path_accuracy,
    "precision": lambda p, g: metrics.precision(p, g, num_classes=3),
    "recall": lambda p, g: metrics.recall(p, g, num_classes=3),
}
PROBS = {
    "brier_score": metrics.brier_score,
    "expected_accuracy": metrics.expected_accuracy,
    "expected_calibration_error": metrics.expected_calibration_error,
    "log_loss": metrics.log_loss,
    "roc_auc_one_vs_rest": metrics.roc_auc_one_vs_rest,
}
METRICS = LABELS | PROBS | {"roc_auc": metrics.roc_auc}


@pytest.mark.parametrize("name", METRICS)
@few
@given(predicted=anything, gold=anything)
def test_metrics_refuse_what_does_not_fit(name, predicted, gold):
    """Floats as labels, texts as probabilities, other ranks, other lengths."""
    ranks = 2 if name in PROBS or name == "path_accuracy" else 1
    fits = predicted.ndim == ranks and gold.ndim == (2 if name == "path_accuracy" else 1)
    fits = fits and len(predicted) == len(gold)
    wanted = "fiub" if name in PROBS or name == "roc_auc" else "iu"
    if fits and predicted.dtype.kind in wanted and gold.dtype.kind in "iu":
        return  # the contract's tests are about these
    with pytest.raises(ValueError, match="."):
        METRICS[name](predicted, gold)


SUMS = {
    "log_normalise_roots": (task_tree.log_normalise_roots, TREE.num_leaves),
    "log_normalise_tasks": (task_tree.log_normalise_tasks, TREE.num_nodes),
    "node_logsumexp": (task_tree.node_logsumexp, TREE.num_leaves),
    "node_sum": (task_tree.node_sum, TREE.num_leaves),
    "path_sum": (task_tree.path_sum, TREE.num_nodes),
    "subtree_sum": (task_tree.subtree_sum, TREE.num_nodes),
    "task_max": (task_tree.task_max, TREE.num_nodes),
    "task_sum": (task_tree.task_sum, TREE.num_nodes),
}


@pytest.mark.parametrize("name", SUMS)
@few
@given(values=arrays.arrays(np.float32, shapes))
def test_sums_refuse_another_width(name, values):
    function, width = SUMS[name]
    if values.ndim and values.shape[-1] == width:
        return
    with pytest.raises(ValueError, match="."):
        function(TREE, values)


@few
@given(st.lists(st.sampled_from([-np.inf, -50.0, 0.0, 1.0, 50.0]), min_size=4, max_size=4))
def test_log_probabilities_stay_probabilities(logits):
    """Whatever the logits, short of a task without any finite one."""
    values = np.asarray(logits, np.float32)
    if any(np.isneginf(values[nodes.start : nodes.stop]).all() for nodes in TREE.task_nodes):
        return
    # A logit of 1,000 is known to 6e-5.
    probs = np.exp(task_tree.log_normalise_tasks(TREE, values))
    assert np.isfinite(probs).all()
    np.testing.assert_allclose(task_tree.task_sum(TREE, jnp.asarray(probs)), 1, rtol=2e-4)


INPUTS = {
    "features": network.fit_inputs("features", [[0.0, 1.0], [2.0, 3.0]]),
    "embeddings": network.fit_inputs("embeddings", np.ones((2, 2), np.float32)),
}
TEXTS = {
    "bag": network.fit_inputs("bag", ["red fox", "red sea"]),
    "lstm": network.fit_inputs("lstm", ["red fox", "red sea"]),
}


@pytest.mark.parametrize("kind", INPUTS)
@few
@given(items=anything)
def test_vectors(kind, items):
    if items.ndim == 2 and items.shape[1] == 2 and np.isfinite(items).all():
        assert len(INPUTS[kind].encode(items)) == len(items)
        return
    with pytest.raises(ValueError, match="."):
        INPUTS[kind].encode(items)


@pytest.mark.parametrize("kind", TEXTS)
@few
@given(items=st.lists(st.text() | st.none() | st.binary() | st.integers(), max_size=3) | st.text())
def test_texts(kind, items):
    if isinstance(items, list) and all(isinstance(item, str) for item in items):
        TEXTS[kind].encode(items)
        return
    with pytest.raises(ValueError, match="."):
        TEXTS[kind].encode(items)
