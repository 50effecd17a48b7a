"""Overlap statistics and synthetic votes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metal_jax._core.sharding import data_mesh
from metal_jax.labeling import (
    merge_statistics,
    overlap_counts,
    overlap_statistics,
    overlap_statistics_of_batches,
    synthetic_votes,
    used_columns,
)
from metal_jax.task_tree import TaskTree


def random_votes(n=1000, m=6, k=4):
    rng = np.random.default_rng(0)
    votes = rng.integers(-2, k, (n, m))
    votes[:, 0] = np.where(votes[:, 0] == 1, 1, -1)  # a keyword LF: one column
    return votes


def one_hot_product(votes, columns):
    indicators = (votes[:, columns.lf] == columns.symbol).astype(np.int64)
    return indicators.T @ indicators


def test_counts_are_the_product_of_used_indicators():
    votes = random_votes()
    stats = overlap_statistics(votes)
    assert stats.columns.num_columns == 1 + 5 * 4
    np.testing.assert_array_equal(stats.counts, one_hot_product(votes, stats.columns))
    np.testing.assert_allclose(np.diag(stats.overlaps())[0], (votes[:, 0] == 1).mean())


@pytest.mark.parametrize("block_size", [1, 7, 4096])
def test_blocks_do_not_matter(block_size):
    codes = np.random.default_rng(1).integers(-1, 9, (100, 3))
    codes = np.where(codes < 0, -1, codes % 3 + 3 * np.arange(3))
    whole = overlap_counts(codes, 9)
    np.testing.assert_array_equal(overlap_counts(codes, 9, block_size=block_size), whole)


def test_batches_equal_the_whole():
    votes = random_votes()
    whole = overlap_statistics(votes)
    # The first batch lacks a symbol that later ones use.
    batches = [votes[votes[:, 1] != 2], votes[votes[:, 1] == 2]]
    parts = overlap_statistics_of_batches(iter(batches))
    np.testing.assert_array_equal(parts.counts, whole.counts)
    np.testing.assert_array_equal(parts.columns.symbol, whole.columns.symbol)
    assert parts.num_items == whole.num_items
    with pytest.raises(ValueError, match="no batches"):
        overlap_statistics_of_batches([])
    with pytest.raises(ValueError, match="votes of 6 and of 2 LFs"):
        merge_statistics(whole, overlap_statistics(votes[:, :2]))


@pytest.mark.parametrize("num_devices", [1, 2, 4, 8])
def test_devices_agree_exactly(num_devices):
    votes = random_votes(n=1003)  # not divisible: the last shard is padded
    mesh = data_mesh(num_devices)
    sharded = overlap_statistics(votes, mesh=mesh)
    np.testing.assert_array_equal(sharded.counts, overlap_statistics(votes).counts)


def test_lf_order_permutes_the_counts():
    votes = random_votes()
    order = np.array([3, 0, 5, 1, 4, 2])
    stats, moved = overlap_statistics(votes), overlap_statistics(votes[:, order])
    keys = {
        key: i for i, key in enumerate(zip(stats.columns.lf, stats.columns.symbol, strict=True))
    }
    at = [keys[order[j], u] for j, u in zip(moved.columns.lf, moved.columns.symbol, strict=True)]
    np.testing.assert_array_equal(moved.counts, stats.counts[np.ix_(at, at)])


def test_no_votes_at_all():
    votes = np.full((5, 2), -1)
    assert used_columns(votes).num_columns == 0
    assert overlap_statistics(votes).counts.shape == (0, 0)


def test_generator_follows_its_tables():
    tree = TaskTree.single(3)
    data = synthetic_votes(jax.random.key(0), 200_000, 6, tree, edge_prob=0.7)
    assert (data.parents >= 0).any()
    assert (data.parents < np.arange(6)).all()
    np.testing.assert_allclose(data.conditionals.sum(1), 1, atol=1e-6)
    for j in range(6):
        for y in range(3):
            votes = data.votes[data.leaves == y, j]
            rates = [(votes == v).mean() for v in (0, 1, 2, -1)]
            np.testing.assert_allclose(rates, data.conditionals[j, :, y], atol=0.01)
    child = int(np.flatnonzero(data.parents >= 0)[0])
    assert data.edge_weights[child] != 0
    assert (data.edge_weights[data.parents < 0] == 0).all()


def test_generator_shows_dependencies():
    tree = TaskTree.single(2)
    data = synthetic_votes(
        jax.random.key(1), 100_000, 2, tree, edge_prob=1.0, edge_range=(0.8, 0.8)
    )
    for y in range(2):
        first, second = data.votes[data.leaves == y].T
        together = ((first == 0) & (second == 0)).mean()
        assert together > (first == 0).mean() * (second == 0).mean() + 0.03


def test_generator_on_a_tree_and_its_errors():
    tree = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
    balance = jnp.array([0.7, 0.2, 0.1])
    data = synthetic_votes(jax.random.key(0), 20_000, 3, tree, class_balance=balance)
    assert set(np.unique(data.votes)) == {-1, *tree.leaf_nodes.tolist()}
    np.testing.assert_allclose(np.bincount(data.leaves) / 20_000, balance, atol=0.02)
    with pytest.raises(ValueError, match="one root"):
        synthetic_votes(jax.random.key(0), 10, 3, TaskTree.from_dict({"a": ["x"], "b": ["y"]}))
    with pytest.raises(ValueError, match="class_balance"):
        synthetic_votes(jax.random.key(0), 10, 3, tree, class_balance=jnp.ones(2))


def test_no_lfs_are_refused():
    with pytest.raises(ValueError, match="at least one LF"):
        overlap_statistics(np.zeros((3, 0), int))
