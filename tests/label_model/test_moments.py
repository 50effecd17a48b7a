"""Third-order statistics: exact counts, the objective, and the class balance they identify."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from metal_jax.label_model._moments import (
    TripleStatistics,
    balance_from_skewness,
    binary_skewness,
    estimate_class_balance,
    sample_triples,
    third_order_objective,
    triple_statistics,
)
from metal_jax.labeling import OverlapStatistics, overlap_statistics, synthetic_votes, used_columns
from metal_jax.task_tree import TaskTree

TREE = TaskTree.single(2)


def all_triples(lf):
    return np.array([t for t in itertools.combinations(range(len(lf)), 3) if len({*lf[[*t]]}) == 3])


def test_counts_equal_loops_over_items():
    votes = np.random.default_rng(0).integers(-2, 3, (2500, 6))
    columns = used_columns(votes)
    statistics = triple_statistics(jax.random.key(0), votes, columns, 50)
    lf = columns.lf[statistics.triples]
    assert (lf[:, 0] != lf[:, 1]).all()
    assert (lf[:, 0] != lf[:, 2]).all()
    assert (lf[:, 1] != lf[:, 2]).all()
    fires = votes[:, columns.lf] == columns.symbol
    expected = [fires[:, t].all(axis=1).sum() for t in statistics.triples]
    np.testing.assert_array_equal(statistics.counts, expected)
    halves = [triple_statistics(jax.random.key(0), v, columns, 50) for v in np.split(votes, 2)]
    np.testing.assert_array_equal(halves[0].triples, statistics.triples)
    np.testing.assert_array_equal(halves[0].counts + halves[1].counts, statistics.counts)


def test_two_lfs_have_no_triples():
    votes = np.random.default_rng(0).integers(0, 2, (10, 2))
    assert sample_triples(jax.random.key(0), used_columns(votes), 5).shape == (0, 3)


@pytest.mark.usefixtures("x64")
def test_objective_is_the_definition():
    rng = np.random.default_rng(0)
    rates, balance = rng.random((6, 3)), np.array([0.5, 0.3, 0.2])
    triples = rng.integers(0, 6, (20, 3))
    observed = rng.random(20)
    expected = np.mean(
        [
            (t - sum(balance * rates[a] * rates[b] * rates[c])) ** 2
            for t, (a, b, c) in zip(observed, triples, strict=True)
        ]
    )

    def loss(rates, balance):
        return third_order_objective(rates, jnp.asarray(observed), balance, jnp.asarray(triples))

    args = jnp.asarray(rates), jnp.asarray(balance)
    np.testing.assert_allclose(loss(*args), expected, rtol=1e-12)
    np.testing.assert_allclose(jax.jit(loss)(*args), expected, rtol=1e-12)
    check_grads(loss, args, order=1, modes=["rev"])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_binary_closed_form_is_exact(share):
    """Exact moments, unipolar LFs and a worse-than-chance one among them."""
    rates = np.array([[0.4, 0.1], [0.3, 0.05], [0.1, 0.6], [0.2, 0.3], [0.5, 0.3]])
    side = np.array([1.0, 1, -1, 1, 1])
    lf = np.arange(5)
    balance = np.array([share, 1 - share])
    overlaps = rates @ np.diag(balance) @ rates.T
    np.fill_diagonal(overlaps, rates @ balance)
    triples = all_triples(lf)
    third = (balance * rates[triples].prod(axis=1)).sum(axis=1)
    skewness = binary_skewness(
        jnp.asarray(overlaps), lf[:, None] != lf, jnp.asarray(side), triples, jnp.asarray(third)
    )
    np.testing.assert_allclose(skewness, (1 - 2 * share) / np.sqrt(share * (1 - share)), atol=1e-9)
    np.testing.assert_allclose(balance_from_skewness(skewness), share, rtol=1e-9)


def estimated(balance, seed, prior=None, prior_items=0.0):
    tree = TaskTree.single(len(balance))
    votes = synthetic_votes(
        jax.random.key(seed), 10_000, 10, tree, class_balance=jnp.array(balance)
    ).votes
    statistics = overlap_statistics(votes)
    triples = triple_statistics(jax.random.key(9), votes, statistics.columns, 3000)
    return estimate_class_balance(statistics, triples, tree, prior, prior_items=prior_items)


def test_recovers_a_skewed_balance_of_two():
    # Measured over four seeds: at most .0044 off.
    np.testing.assert_allclose(estimated([0.8, 0.2], 0), [0.8, 0.2], atol=0.01)
    pulled = estimated([0.8, 0.2], 0, [0.5, 0.5], prior_items=10_000)
    np.testing.assert_allclose(pulled, [0.65, 0.35], atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_recovers_a_skewed_balance_of_three(seed):
    # Measured over four seeds: at most .0111 off (the draw itself is .0072 off there).
    np.testing.assert_allclose(estimated([0.6, 0.3, 0.1], seed), [0.6, 0.3, 0.1], atol=0.015)


def test_not_identified_when_votes_ignore_the_truth():
    votes = np.random.default_rng(0).integers(0, 2, (2000, 5))
    statistics = overlap_statistics(votes)
    triples = triple_statistics(jax.random.key(0), votes, statistics.columns, 100)
    assert np.isfinite(estimate_class_balance(statistics, triples, TREE)).all()
    flat = OverlapStatistics(statistics.columns, np.full((10, 10), 500), 2000)
    flat.counts[np.diag_indices(10)] = 1000  # every pair exactly as by chance
    np.testing.assert_allclose(estimate_class_balance(flat, triples, TREE), 0.5)


def test_errors():
    votes = np.random.default_rng(0).integers(0, 2, (100, 3))
    statistics = overlap_statistics(votes)
    none = TripleStatistics(np.zeros((0, 3), np.int32), np.zeros(0, np.int64), 100)
    with pytest.raises(ValueError, match="at least three LFs"):
        estimate_class_balance(statistics, none, TREE)
    other = TripleStatistics(np.array([[0, 2, 9]], np.int32), np.ones(1, np.int64), 100)
    with pytest.raises(ValueError, match="got column 9, the statistics have 6"):
        estimate_class_balance(statistics, other, TREE)
