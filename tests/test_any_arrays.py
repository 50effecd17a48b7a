"""Public array functions on arrays of any type, shape and value: refused, or a sound answer."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from metal_jax import exhaust, label_model, labeling, metrics, network, task_tree
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


SHAPES = [(), (0,), (3,), (0, 4), (3, 0), (3, 2), (3, 4), (3, 3), (2, 3, 4)]
EXTREMES = {
    "i": [-3, -2, -1, 0, 1, 2, 3, 99, 2**31, 2**62],
    "f": [0.0, 0.25, 0.5, 1.0, -1.0, 2.0, np.nan, np.inf, -np.inf, 1e300],
    "u": [0, 1, 255],
    "b": [False, True],
    "c": [0j, 1 + 2j],
    "U": ["", "0", "nan", "\ud800", "<script>"],
    "O": [None, "a", {}, 2**70],
}
# Few, since each is a program of its own to compile.
KINDS = {"i": np.int64, "f": np.float64, "u": np.uint8, "b": bool, "c": complex, "U": "U8",
         "O": object}  # fmt: skip
ODD = [None, "votes", {"a": 1}, [[1], [1, 2]], [], 2**70, float("nan"), [[None]], b"\xff"]


@st.composite
def junk(draw):
    """An array of few shapes, of any type, tame or wild; or something that is no array."""
    if draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from(ODD))
    kind = draw(st.sampled_from("iiifffubcUO"))
    dtype, shape = KINDS[kind], draw(st.sampled_from(SHAPES))
    tame = draw(st.booleans())
    values = EXTREMES[kind][2:4] if kind == "i" and tame else EXTREMES[kind]
    values = values[:4] if kind == "f" and tame else values
    picked = draw(st.lists(st.sampled_from(values), min_size=1, max_size=4))
    with np.errstate(over="ignore"):
        return np.resize(np.array(picked, dtype), shape)


def real(value, *ranks, kinds="iufb"):
    """Whether it is an array of numbers with so many axes, all of them finite in 32 bits."""
    try:
        value = np.asarray(value)
    except ValueError:
        return False
    if value.dtype.kind not in kinds or (ranks and value.ndim not in ranks):
        return False
    with np.errstate(over="ignore"):
        return bool(np.isfinite(value.astype(np.float32)).all())


def shares(value):
    return real(value, 3) and ((np.asarray(value) >= 0) & (np.asarray(value) <= 1)).all()


def plain_votes(value):
    """Votes of any tree."""
    if shares(value):
        return np.shape(value)[1] > 0
    return (
        real(value, 2, kinds="iu") and np.shape(value)[1] > 0 and np.max(value, initial=0) < 2**31
    )


def nodes_of_tree(value):
    if not real(value, kinds="iu"):
        return False
    return np.min(value, initial=0) >= -2 and np.max(value, initial=0) < TREE.num_nodes


def votes_of_fit(value):
    """Votes of four LFs on `TREE`."""
    return nodes_of_tree(value) and np.shape(value) == (3, 4)


def beside_three(value):
    """Whether it broadcasts against three numbers."""
    return real(value) and np.shape(value)[-1:] in ((), (3,))


def beside(*shape, most_axes=9):
    """Whether its last axis is the same and the others broadcast."""

    def fits(value):
        given = np.shape(value) if real(value) else ()
        if not 0 < len(given) <= most_axes or given[-1] != shape[-1]:
            return False
        return all(a == b or 1 in (a, b) for a, b in zip(given[::-1], shape[::-1], strict=False))

    return fits


def of_nodes(value):
    return real(value) and np.shape(value)[-1:] == (4,)


def gold_of_three(value):
    """Gold of three items on a tree of one root: a column, or several that agree to be silent."""
    if not real(value, 1, 2, kinds="iu") or len(value) != 3 or not np.size(value):
        return False
    columns = np.reshape(value, (3, -1)).astype(float)
    known = (columns >= 0).sum(axis=1)
    return bool((known <= 1).all() and columns.min() >= -1 and columns.max() < TREE.num_nodes)


def floats(*shape, least=-np.inf, most=np.inf, kinds="iufb"):
    """Finite numbers of a shape (None: any length), within bounds."""

    def fits(value):
        if not real(value, len(shape), kinds=kinds):
            return False
        given = np.shape(value)
        if any(want not in (None, have) for want, have in zip(shape, given, strict=True)):
            return False
        array = np.asarray(value, float)
        return bool((array >= least).all() and (array <= most).all())

    return fits


KEY = jax.random.key(0)
VOTES = np.random.default_rng(0).integers(-1, TREE.num_nodes, (40, 4))
STATISTICS = labeling.overlap_statistics(VOTES)
COLUMNS = STATISTICS.columns
FIT = label_model.fit_dawid_skene(VOTES, TREE)
DATA = label_model.vote_data(VOTES[:3], COLUMNS)
PRIOR = label_model.dirichlet_prior(
    COLUMNS, TREE, np.full(4, 0.1), accuracy=0.7, votes=1.0, balance_items=1.0
)
NETWORK = network.build(TREE, INPUTS["features"].encoder)
ITEMS = np.ones((3, 2), np.float32)
PARAMS = jax.jit(NETWORK.init)(KEY, ITEMS)
MODEL = network.Model(TREE, INPUTS["features"], PARAMS)
LOG_P = np.log(np.full((3, 4), 0.5, np.float32))
THREE, ONES = np.array([0.1, 0.9, 0.5]), np.ones(2, np.float32)
TRACE = exhaust.SearchTrace(THREE, THREE, np.arange(3), 9.0, 3)
FOUR, TASKS = floats(3, 4), floats(2)

# Name, and argument that is given anything -> the call; what it must take; it refuses the rest.
CALLS = {
    "used_columns": (labeling.used_columns, plain_votes),
    "overlap_statistics": (labeling.overlap_statistics, plain_votes),
    "overlap_statistics_of_batches": (
        lambda v: labeling.overlap_statistics_of_batches([v]), plain_votes),
    "column_ids": (
        lambda v: labeling.column_ids(v, COLUMNS),
        lambda v: plain_votes(v) and np.ndim(v) == 2 and np.shape(v)[1] == 4),
    "narrowest_integers": (
        lambda v: labeling.narrowest_integers(np.asarray(v)),
        lambda v: real(v, kinds="iu") and np.max(v, initial=0) < 2**63),
    "summarise_lfs": (
        lambda v: labeling.summarise_lfs(v, TREE),
        lambda v: nodes_of_tree(v) and np.ndim(v) == 2 and np.size(v) > 0),
    "vote_log_likelihood": (
        lambda v: label_model.vote_log_likelihood(FIT.params, v, COLUMNS),
        lambda v: plain_votes(v) and np.ndim(v) == 2 and np.shape(v)[1] == 4),
    "log_posterior": (
        lambda v: label_model.log_posterior(FIT.params, v, COLUMNS, TREE), votes_of_fit),
    "posterior": (lambda v: label_model.posterior(FIT, v), votes_of_fit),
    "explain": (lambda v: label_model.explain(FIT, v), votes_of_fit),
    "diagnose": (lambda v: label_model.diagnose(FIT, v), None),
    "diagnose replicates": (
        lambda v: label_model.diagnose(FIT, VOTES, replicates=v),
        lambda v: floats(None, 4)(v) and len(v) > 0),
    "gold_mask": (lambda v: label_model.gold_mask(v, TREE), None),
    "triple_statistics": (
        lambda v: label_model.triple_statistics(KEY, v, COLUMNS, 5),
        lambda v: plain_votes(v) and np.ndim(v) == 2 and np.shape(v)[1] == 4),
    "e_step": (lambda v: label_model.e_step(FIT.params._replace(log_prior=v), DATA, TREE),
               floats(3)),
    "m_step": (lambda v: label_model.m_step(v, DATA, PRIOR, TREE), floats(3, 3)),
    "fit_overlap": (
        lambda v: label_model.fit_overlap(STATISTICS._replace(counts=v), TREE), None),
    "fit_overlap class_balance": (
        lambda v: label_model.fit_overlap(STATISTICS, TREE, v), None),
    "regret": (lambda v: exhaust.regret(v, THREE, 1), floats(3)),
    "regret true": (lambda v: exhaust.regret(THREE, v, 1), floats(3)),
    "top_k_overlap": (lambda v: exhaust.top_k_overlap(v, THREE, 1), floats(3)),
    "top_k_overlap true": (lambda v: exhaust.top_k_overlap(THREE, v, 1), floats(3)),
    "search": (lambda v: exhaust.search(v, THREE, 1), floats(3)),
    "search std": (lambda v: exhaust.search(THREE, v, 1), floats(3, least=0)),
    "search seconds": (
        lambda v: exhaust.search(THREE, THREE, 1, seconds=v, seconds_limit=1.0), floats(3)),
    "expected_improvement": (
        lambda v: exhaust.expected_improvement(v, THREE, 1.0), beside_three),
    "log_expected_improvement": (
        lambda v: exhaust.log_expected_improvement(THREE, v, 1.0),
        lambda v: beside_three(v) and np.min(v, initial=0) >= 0),
    "predict_from_neighbours": (
        lambda v: exhaust.predict_from_neighbours(v, THREE), floats(None, 3, least=0)),
    "predict_from_neighbours values": (
        lambda v: exhaust.predict_from_neighbours(np.ones((2, 3)), v), floats(3)),
    "predict_from_closest_depth": (
        lambda v: exhaust.predict_from_closest_depth([2, 5], [1, 2, 3], v), floats(3)),
    "predict_from_closest_depth layers": (
        lambda v: exhaust.predict_from_closest_depth(v, [1, 2, 3], THREE), floats(None)),
    "predict_mean": (lambda v: exhaust.predict_mean(v, 2), floats(3)),
    "fit_power_law": (
        lambda v: exhaust.fit_power_law(v, [1, 2, 3, 4]), floats(None, 4)),
    "fit_power_law epochs": (
        lambda v: exhaust.fit_power_law(np.eye(3), v), floats(3, least=1e-9)),
    "best_at": (lambda v: exhaust.best_at(TRACE, v), real),
    "conditional_probs": (lambda v: network.conditional_probs(TREE, v), of_nodes),
    "conditional_balance": (
        lambda v: network.conditional_balance(TREE, v),
        lambda v: of_nodes(v) and np.ndim(v) > 1),
    "confident_tasks": (lambda v: network.confident_tasks(TREE, v, 0.5), of_nodes),
    "smooth_labels": (
        lambda v: network.smooth_labels(TREE, v, jnp.full(4, 0.5), 0.1), of_nodes),
    "smooth_labels balance": (
        lambda v: network.smooth_labels(TREE, jnp.exp(LOG_P), v, 0.1), beside(3, 4)),
    "soft_label_loss": (lambda v: network.soft_label_loss(v, jnp.exp(LOG_P)), beside(3, 4)),
    "soft_label_loss probs": (lambda v: network.soft_label_loss(LOG_P, v), beside(3, 4)),
    "soft_label_loss weights": (
        lambda v: network.soft_label_loss(LOG_P, np.exp(LOG_P), v), floats()),
    "task_losses": (lambda v: network.task_losses(TREE, LOG_P, v), beside(3, 4)),
    "consistency_loss": (
        lambda v: network.consistency_loss(TREE, v, LOG_P, np.ones((3, 2), bool)), FOUR),
    "consistency_loss unlabelled": (
        lambda v: network.consistency_loss(TREE, LOG_P, LOG_P, v), floats(3, 2, kinds="b")),
    "scale_temperatures": (lambda v: network.scale_temperatures(TREE, v, ONES), of_nodes),
    "scale_temperatures temperatures": (
        lambda v: network.scale_temperatures(TREE, LOG_P, v), floats(2, least=0.1)),
    "fit_temperatures": (
        lambda v: network.fit_temperatures(TREE, v, np.zeros((3, 1), int)),
        floats(3, 4, kinds="f")),
    "uncertainty_weighted_loss": (
        lambda v: network.uncertainty_weighted_loss(v, ONES, ONES), TASKS),
    "gradient_norm_loss": (
        lambda v: network.gradient_norm_loss(ONES, ONES, v, ONES, restoring_force=1.0), TASKS),
    "evaluate": (lambda v: network.evaluate(NETWORK, PARAMS, ITEMS, v), gold_of_three),
    "evaluate weights": (
        lambda v: network.evaluate(NETWORK, PARAMS, ITEMS, [0, 1, 2], weights=v),
        floats(3, least=0)),
    "evaluate_slices": (
        lambda v: network.evaluate_slices(NETWORK, PARAMS, ITEMS, [0, 1, 2], v),
        floats(3, None, kinds="b")),
    "evaluate_predictions": (
        lambda v: network.evaluate_predictions(TREE, v, np.zeros((3, 1), int)), FOUR),
    "calibrate": (lambda v: network.calibrate(NETWORK, PARAMS, ITEMS, v), gold_of_three),
    "error_buckets": (
        lambda v: network.error_buckets(VOTES[:3], v, [0, 1, 2], TREE), gold_of_three),
    "predict": (lambda v: network.predict(MODEL, v, batch_size=3), floats(None, 2)),
    "fit_standardisation": (network.fit_standardisation, None),
    "standardise": (
        lambda v: network.standardise(v, network.fit_standardisation(np.eye(4))), floats(None, 4)),
    "with_membership": (
        lambda v: network.with_membership(np.full((3, 2), 0.5), v),
        floats(3, None, least=0, most=1)),
    "with_temperatures": (
        lambda v: network.with_temperatures(NETWORK, v), floats(2, least=0.1)),
    "hierarchical_scores": (
        lambda v: metrics.hierarchical_scores(v, np.zeros((3, 4), int)),
        lambda v: floats(3, 4, kinds="iu")(v) and np.max(v) < 2**31),
    "reliability_bins": (
        lambda v: metrics.reliability_bins(v, [0, 1, 2]),
        lambda v: floats(3, None)(v) and np.size(v) > 0),
    "per_task": (
        lambda v: metrics.per_task(metrics.accuracy, v, np.zeros((3, 4), int)),
        lambda v: floats(3, 4, kinds="iu")(v) and np.max(v) < 2**31),
    "coverage": (
        metrics.coverage,
        lambda v: floats(None, kinds="iu")(v) and np.max(v, initial=0) < 2**31),
    **{
        name: (lambda v, function=function: function(TREE, v),
               lambda v, width=width: real(v) and np.ndim(v) and np.shape(v)[-1] == width)
        for name, (function, width) in SUMS.items()
    },
}  # fmt: skip
# Functions that cannot look at values, being called inside jit, or that take NaN for "missing".
VALUES_UNSEEN = {
    "regret", "top_k_overlap", "search", "expected_improvement", "log_expected_improvement",
    "predict_from_neighbours values", "predict_from_closest_depth", "predict_mean",
    "predict_from_closest_depth layers", "fit_power_law", "conditional_probs",
    "conditional_balance", "confident_tasks", "smooth_labels", "soft_label_loss", "task_losses",
    "consistency_loss", "scale_temperatures", "fit_temperatures", "uncertainty_weighted_loss",
    "gradient_norm_loss", "evaluate_predictions", "hierarchical_scores", "reliability_bins",
    "diagnose replicates", "per_task", "coverage", "e_step", "m_step", "standardise",
    "best_at", *SUMS,
}  # fmt: skip
# Answers of which documented parts are NaN or infinite.
UNDEFINED = {
    "m_step", "regret", "top_k_overlap", "search", "fit_power_law", "log_expected_improvement",
    "explain", "reliability_bins", "hierarchical_scores", "evaluate", "evaluate_slices",
    "error_buckets", "evaluate_predictions", "coverage", "per_task", "summarise_lfs",
    "best_at", *SUMS,
}  # fmt: skip
OPTIONAL = {"diagnose replicates", "fit_overlap class_balance", "evaluate weights"}


def may_take(name, value):
    """Whether an answer is no nonsense: all is sound, or all that the function can see."""
    _, fits = CALLS[name]
    if fits is None or fits(value) or (value is None and name in OPTIONAL):
        return True
    unseen = name in VALUES_UNSEEN or name.split()[0] in VALUES_UNSEEN
    return unseen and fits(np.ones_like(np.asarray(value)))


def give(name, value):
    call, fits = CALLS[name]
    taken, answer = False, None
    with contextlib.suppress(ValueError):
        answer, taken = call(value), True
    if not taken:
        assert fits is None or not fits(value), "what fits is refused"
        return
    assert may_take(name, value), "nonsense is taken"
    if fits is not None and fits(value) and name.split()[0] not in UNDEFINED:
        for leaf in map(np.asarray, jax.tree.leaves(answer)):
            assert leaf.dtype.kind != "f" or np.isfinite(leaf).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=12, deadline=None)
@given(value=junk())
def test_anything_is_refused_or_answered(name, value):
    """What fits is taken, all else is a ValueError; answers to finite numbers are finite."""
    give(name, value)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=300, deadline=None, derandomize=False)
@given(value=junk())
def test_anything_is_refused_or_answered_for_long(name, value):
    give(name, value)


@pytest.mark.parametrize("name", CALLS)
def test_what_is_never_an_argument_is_refused(name):
    never = ["votes", np.full((3, 4), "a"), np.full((3, 4), None), np.ones((3, 4), complex),
             [[1], [1, 2]], *([] if name in OPTIONAL else [None])]  # fmt: skip
    for value in never:
        with pytest.raises(ValueError, match="."):
            CALLS[name][0](value)
