"""Sums up and down the tree against their definitions over leaf paths."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from metal_jax.task_tree import (
    TaskTree,
    log_normalise_roots,
    log_normalise_tasks,
    node_logsumexp,
    node_sum,
    path_sum,
    subtree_sum,
    task_max,
    task_sum,
)

TREE = TaskTree.from_dict(
    {
        "triage": {"normal": None, "abnormal": {"urgency": {"a": None, "b": {"c": ["x", "y"]}}}},
        "view": {"front": {"side": ["left"]}, "back": {"zone": ["up", "mid", "low"]}},
    }
)


def leaf_values(*batch):
    return jax.random.normal(jax.random.key(0), (*batch, TREE.num_leaves))


def test_node_sums_are_sums_over_covered_leaves():
    values = leaf_values(4, 2)
    expected = np.asarray(values) @ TREE.covers.T
    np.testing.assert_allclose(node_sum(TREE, values), expected, atol=1e-6)
    logs = np.log(np.exp(np.asarray(values)) @ TREE.covers.T)
    np.testing.assert_allclose(node_logsumexp(TREE, values), logs, atol=1e-5)


def test_tiny_probabilities_do_not_vanish():
    values = leaf_values(3) - 500.0
    assert np.isfinite(node_logsumexp(TREE, values)).all()
    values = values.at[:, 0].set(-jnp.inf)
    out = node_logsumexp(TREE, values)
    assert (np.asarray(out[:, TREE.leaf_nodes[0]]) == -np.inf).all()
    assert not np.isnan(out).any()


def test_subtree_sums_add_descendants():
    values = np.random.default_rng(2).normal(size=(3, TREE.num_nodes)).astype(np.float32)
    expected = np.zeros_like(values)
    for node in range(TREE.num_nodes):
        for above in (*TREE.ancestors(node), node):
            expected[:, above] += values[:, node]
    np.testing.assert_allclose(subtree_sum(TREE, values), expected, atol=1e-6)


def test_sums_and_maxima_over_the_labels_of_a_task():
    values = np.random.default_rng(3).normal(size=(3, TREE.num_nodes)).astype(np.float32) - 2
    columns = [values[:, list(nodes)] for nodes in TREE.task_nodes]
    sums = np.stack([x.sum(1) for x in columns], axis=1)
    np.testing.assert_allclose(task_sum(TREE, values), sums, atol=1e-6)
    np.testing.assert_array_equal(task_max(TREE, values), np.stack([x.max(1) for x in columns], 1))


def test_path_sum_adds_ancestors():
    values = jax.random.normal(jax.random.key(1), (3, TREE.num_nodes))
    expected = np.stack(
        [values[:, [*TREE.ancestors(n), n]].sum(-1) for n in range(TREE.num_nodes)], axis=-1
    )
    np.testing.assert_allclose(path_sum(TREE, values), expected, atol=1e-6)


def test_products_of_conditionals_are_a_distribution():
    logits = 5 * jax.random.normal(jax.random.key(2), (7, TREE.num_nodes))
    log_conditionals = log_normalise_tasks(TREE, logits)
    for nodes in TREE.task_nodes:
        totals = jnp.exp(log_conditionals[:, nodes.start : nodes.stop]).sum(-1)
        np.testing.assert_allclose(totals, 1, atol=1e-6)
    marginals = jnp.exp(path_sum(TREE, log_conditionals))
    leaves = marginals[:, TREE.leaf_nodes]
    np.testing.assert_allclose(node_sum(TREE, leaves), marginals, atol=1e-6)
    normalised = log_normalise_roots(TREE, jnp.log(leaves) + 3.0)
    np.testing.assert_allclose(jnp.exp(normalised), leaves, atol=1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("function", [node_sum, node_logsumexp, log_normalise_roots])
def test_gradients(function):
    values = jnp.asarray(np.random.default_rng(0).normal(size=TREE.num_leaves))
    check_grads(lambda v: function(TREE, v), (values,), order=2, modes=["rev"])


def test_wrong_width_is_named():
    with pytest.raises(ValueError, match=r"leaf_values: got shape \(3,\), expected"):
        node_sum(TREE, jnp.zeros(3))
