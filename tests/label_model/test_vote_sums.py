"""Sums over votes against loops, for few items and for many, and their derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metal_jax.label_model import _vote_sums
from metal_jax.label_model._vote_sums import leaf_scores, vote_sums
from metal_jax.label_model._votes import count_by_lf
from metal_jax.task_tree import TaskTree, log_normalise_roots


def problem(n, m, num_nodes=3, width=4, dtype=np.int8):
    rng = np.random.default_rng(0)
    votes = rng.integers(-2, num_nodes, (n, m))
    table = rng.normal(size=(m, num_nodes, width)).astype(np.float32)
    silence = rng.normal(size=(m, width)).astype(np.float32)
    lf, symbol = np.divmod(np.arange(m * num_nodes), num_nodes)
    return votes.astype(dtype), lf, symbol, table.reshape(-1, width), silence


def by_loop(votes, lf, symbol, table, silence):
    total = np.zeros((len(votes), table.shape[1]))
    for j, u, row in zip(lf, symbol, table, strict=True):
        total += (votes[:, j] == u)[:, None] * row
    if silence is not None:
        for j, row in enumerate(silence):
            total += (votes[:, j] == -1)[:, None] * row
    return total


# So few LFs, items and blocks that each way of cutting them occurs.
@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(_vote_sums, "FEW_ITEMS", 30)
    monkeypatch.setattr(_vote_sums, "_SELECT", 64)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(("n", "m"), [(20, 18), (50, 1), (50, 16), (140, 18)])
def test_selections_and_products_are_the_sums(n, m):
    votes, lf, symbol, table, silence = problem(n, m, num_nodes=2, width=2)
    for quiet in (None, silence):
        ours = jax.jit(vote_sums, static_argnums=4)(jnp.asarray(votes), lf, symbol, table, 2, quiet)
        np.testing.assert_allclose(ours, by_loop(votes, lf, symbol, table, quiet), atol=1e-5)


@pytest.mark.usefixtures("small_blocks")
def test_votes_that_are_no_node_select_nothing_in_any_width():
    votes, lf, symbol, table, silence = problem(50, 5, dtype=np.int32)
    strange = np.where(votes == 1, 256 + 1, votes)  # 1 in eight bits
    ours = vote_sums(jnp.asarray(strange), lf, symbol, table, 3, silence)
    expected = by_loop(strange, lf, symbol, table, silence)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.usefixtures("small_blocks")
def test_derivatives_of_selections_are_those_of_products(x64):
    votes, lf, symbol, table, silence = problem(50, 2, num_nodes=2, width=2)

    def score(tables, n):
        sums = vote_sums(jnp.asarray(votes[:n]), lf, symbol, tables[0], 2, tables[1])
        return jnp.sum(jnp.tanh(sums))

    tables = (jnp.asarray(table, float), jnp.asarray(silence, float))
    # 50 items are selected; twice 25 are multiplied.
    halves = [jax.grad(score)(tables, 25)]
    votes = np.roll(votes, 25, axis=0)
    halves.append(jax.grad(score)(tables, 25))
    whole = jax.grad(score)(tables, 50)
    for a, b, c in zip(*halves, whole, strict=True):
        np.testing.assert_allclose(a + b, c, atol=1e-10)
    tangent = jax.jvp(lambda t: score(t, 50), (tables,), (tables,))[1]
    dots = [jnp.vdot(a, b) for a, b in zip(whole, tables, strict=True)]
    np.testing.assert_allclose(tangent, sum(dots), rtol=1e-10)
    batch = jax.vmap(lambda scale: score(jax.tree.map(lambda x: scale * x, tables), 50))
    one = score(jax.tree.map(lambda x: 0.5 * x, tables), 50)
    np.testing.assert_allclose(batch(jnp.array([1.0, 0.5]))[1], one, rtol=1e-10)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("n", [20, 50])
def test_leaf_scores_differ_from_the_sums_by_a_number_for_each_root(n):
    tree = TaskTree.from_dict({"a": ["x", "y"], "b": {"u": {"c": ["p", "q"]}, "v": None}})
    votes, lf, symbol, table, silence = problem(n, 4, tree.num_nodes, tree.num_leaves + 1)
    sums = vote_sums(jnp.asarray(votes), lf, symbol, table, tree.num_nodes, silence)
    scores = leaf_scores(jnp.asarray(votes), lf, symbol, table, tree, silence)
    np.testing.assert_allclose(scores[:, -1], sums[:, -1], atol=1e-5)
    ours, expected = (log_normalise_roots(tree, x[:, :-1]) for x in (scores, sums))
    np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (255, 3), (40_000, 3), (300, 5000), (21_000, 50)])
def test_counts_by_lf_are_sums(n, m):
    mask = np.random.default_rng(0).random((n, m)) < 0.9
    np.testing.assert_array_equal(count_by_lf(mask), mask.sum(axis=0))
    np.testing.assert_array_equal(count_by_lf(np.asfortranarray(mask)), mask.sum(axis=0))


def test_impossible_votes_leave_no_nan_where_rows_are_looked_up():
    tree, lf, symbol = TaskTree.single(20), np.zeros(20, int), np.arange(20)
    table = np.zeros((20, 20), np.float32)
    table[0, 10:] = -np.inf  # of the last leaf too
    scores = leaf_scores(jnp.array([[0], [1]]), lf, symbol, table, tree)
    probs = np.exp(log_normalise_roots(tree, scores))
    np.testing.assert_allclose(probs, [[0.1] * 10 + [0] * 10, [0.05] * 20], atol=1e-6)
