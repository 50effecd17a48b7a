"""The detectors' pair model against its definition, level by level, and its bound on pairs."""

import jax.numpy as jnp
import numpy as np
import pytest

from metal_jax.label_model import uniform_class_balance
from metal_jax.label_model._class_balance import node_masses
from metal_jax.label_model._detectors import _partners, detector_statistics, expected_overlaps
from metal_jax.label_model._mixture_program import level_lifts
from metal_jax.label_model._mixture_steps import node_levels
from metal_jax.label_model._tables import column_root_mask
from metal_jax.labeling import Columns
from metal_jax.task_tree import TaskTree

TREE = TaskTree.from_dict(
    {"a": {"x": {"b": ["u", "v", "w"]}, "y": {"c": {"p": {"d": ["i", "j"]}, "q": None}}, "z": None}}
)
BALANCE = uniform_class_balance(TREE)
COLUMNS = Columns(
    np.arange(TREE.num_nodes, dtype=np.int32),
    np.arange(TREE.num_nodes, dtype=np.int32),
    TREE.num_nodes,
)
PRECISION = np.linspace(0.4, 0.9, TREE.num_nodes).astype(np.float32)


def truth_given_vote(node, precision):
    """float[s], by the module's text."""
    covered = TREE.covers[node]
    mass = BALANCE[covered].sum()
    return np.where(covered, precision / mass, (1 - precision) / (1 - mass)) * BALANCE


def test_expected_overlaps_are_their_definition():
    n, count = 1000, np.arange(50, 50 + TREE.num_nodes)
    stats = detector_statistics(
        np.diag(count), n, COLUMNS, count, np.ones(len(count)), node_masses(BALANCE, TREE), TREE
    )
    given = np.array([truth_given_vote(u, PRECISION[u]) for u in range(TREE.num_nodes)])
    expected = np.outer(count, count) / n * ((given / BALANCE) @ given.T)
    found = expected_overlaps(jnp.asarray(PRECISION), stats)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    partner = jnp.array([4, 1])
    np.testing.assert_allclose(
        expected_overlaps(jnp.asarray(PRECISION), stats, partner), expected[:, [4, 1]], rtol=1e-5
    )


def test_levels_make_one_distribution():
    levels = node_levels(COLUMNS, TREE)
    assert [level.symbol[TREE.node("d", "j")] for level in levels] == [
        TREE.node("a", "y"),
        TREE.node("c", "p"),
        TREE.node("d", "j"),
    ]
    symbol = np.array([level.symbol for level in levels])
    precision = np.stack([PRECISION[::-1], PRECISION, PRECISION])
    lift, own = level_lifts(
        jnp.asarray(precision),
        jnp.asarray(node_masses(BALANCE, TREE)[symbol], jnp.float32),
        jnp.asarray(TREE.covers[symbol]),
        jnp.asarray(column_root_mask(COLUMNS, TREE)),
    )
    given = BALANCE * np.exp(lift.sum(axis=0))
    np.testing.assert_allclose(given.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose((given * TREE.covers).sum(axis=1), own, rtol=1e-5)
    for node in range(TREE.num_nodes):
        expected, top = np.ones(TREE.num_leaves), np.ones(TREE.num_leaves, bool)
        for h, at in enumerate(symbol[:, node]):
            conditional = truth_given_vote(at, precision[h, node]) * top
            conditional /= conditional.sum()
            prior = BALANCE * top / BALANCE[top].sum()
            expected[top] *= (conditional / np.where(top, prior, 1))[top]
            top = TREE.covers[at]
        np.testing.assert_allclose(np.exp(lift.sum(axis=0))[node], expected, rtol=1e-4)


def test_one_task_is_one_level():
    tree = TaskTree.single(3)
    columns = Columns(np.arange(3), np.arange(3), 3)
    (level,) = node_levels(columns, tree)
    assert level.symbol.tolist() == [0, 1, 2]
    precision, mass = np.array([0.5, 0.7, 1.0], np.float32), np.full(3, 1 / 3, np.float32)
    lift, own = level_lifts(
        jnp.asarray(precision)[None],
        jnp.asarray(mass)[None],
        jnp.asarray(tree.covers[None]),
        jnp.ones((3, 3), bool),
    )
    np.testing.assert_allclose(own, precision)
    np.testing.assert_allclose(jnp.diagonal(lift[0]), np.log(precision * 3), rtol=1e-6)
    np.testing.assert_allclose(lift[0, :2, 2], np.log([0.75, 0.45]), rtol=1e-5)


@pytest.mark.parametrize("num_columns", [40, 600])
def test_partners_are_the_most_frequent_of_each_node(num_columns):
    symbol = (np.arange(num_columns) % 4 == 0).astype(np.int32)  # a fourth votes for node 1
    columns = Columns(np.arange(num_columns, dtype=np.int32), symbol, num_columns)
    rate = np.random.default_rng(0).random(num_columns)
    partners = _partners(rate, columns, 640)
    if num_columns == 40:
        assert partners.tolist() == list(range(640))  # all, empty ones included
        return
    assert len(partners) == 512
    assert (np.diff(partners) > 0).all()
    assert (symbol[partners] == 1).sum() == 150  # all of these
    rest = np.setdiff1d(np.flatnonzero(symbol == 0), partners)
    assert rate[rest].max() < rate[partners][symbol[partners] == 0].min()
