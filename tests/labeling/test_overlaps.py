"""Overlap statistics and synthetic votes."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metal_jax._core.sharding import data_mesh
from metal_jax.labeling import (
    Columns,
    merge_statistics,
    overlap_counts,
    overlap_statistics,
    overlap_statistics_of_batches,
    synthetic_votes,
    used_columns,
)
from metal_jax.labeling._overlap_kernels import prefers_list
from metal_jax.labeling._overlaps import _listed_counts
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


@pytest.mark.parametrize("block_size", [1, 7, 99, 4096])
def test_blocks_do_not_matter(block_size):
    votes = random_votes(n=100)
    columns = used_columns(votes)
    counts = overlap_counts(votes.astype(np.int8), columns, block_size=block_size)
    np.testing.assert_array_equal(counts, one_hot_product(votes, columns))


def test_tiles_do_not_matter():
    votes = random_votes(n=300, m=130, k=5)  # over two tiles of columns
    columns = used_columns(votes)
    assert columns.num_columns > 512
    counts = overlap_counts(votes, columns)
    np.testing.assert_array_equal(counts, one_hot_product(votes, columns))


def test_votes_that_no_column_stands_for():
    votes = random_votes(n=200)
    columns = used_columns(votes)
    some = Columns(columns.lf[::2], columns.symbol[::2], columns.num_lfs)
    expected = one_hot_product(votes, some)
    np.testing.assert_array_equal(overlap_statistics(votes, some).counts, expected)
    # A symbol that bytes cannot say is not taken for the vote that it wraps round to.
    wide = Columns(np.array([0, 1]), np.array([255, 1]), 6)
    counts = overlap_counts(votes.astype(np.int8), wide)
    np.testing.assert_array_equal(counts, one_hot_product(votes, wide))


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int64])
def test_integer_types_agree(dtype):
    votes = random_votes().astype(dtype)
    stats = overlap_statistics(votes)
    np.testing.assert_array_equal(stats.counts, one_hot_product(votes, stats.columns))
    np.testing.assert_array_equal(stats.columns.symbol, used_columns(random_votes()).symbol)
    order = overlap_statistics(np.asfortranarray(votes))
    np.testing.assert_array_equal(order.counts, stats.counts)


def test_negative_votes_stay_negative_as_bytes():
    votes = random_votes()
    far = np.where(votes < 0, -1000, votes)  # -1000 is 24 as a byte
    np.testing.assert_array_equal(overlap_statistics(far).counts, overlap_statistics(votes).counts)


def rare_votes(n=400, m=600):
    votes = np.full((n, m), -1, np.int8)
    rng = np.random.default_rng(3)
    item, lf = rng.integers(0, n, 900), rng.integers(0, m, 900)
    votes[item, lf] = rng.integers(0, 3, 900)
    votes[:2, :m] = 1  # every LF is used
    return votes


def test_listed_votes_give_the_same_counts():
    votes = rare_votes()
    columns = used_columns(votes)
    order = np.random.default_rng(4).permutation(columns.num_columns)
    columns = Columns(columns.lf[order], columns.symbol[order], columns.num_lfs)
    expected = one_hot_product(votes, columns)
    np.testing.assert_array_equal(_listed_counts(votes, columns), expected)
    np.testing.assert_array_equal(overlap_counts(votes, columns), expected)
    some = Columns(columns.lf[::2], columns.symbol[::2], columns.num_lfs)
    np.testing.assert_array_equal(_listed_counts(votes, some), expected[::2, ::2])


def test_the_list_is_for_rare_votes():
    rare = rare_votes()[2:]
    columns = used_columns(rare)
    assert prefers_list(rare, columns.num_columns, "cpu")
    assert not prefers_list(rare, columns.num_columns, "tpu")
    assert not prefers_list(np.zeros((400, 600), np.int8), 600, "cpu")
    assert not prefers_list(rare, 100, "cpu")
    stats = overlap_statistics(rare)
    np.testing.assert_array_equal(stats.counts, one_hot_product(rare, columns))


@hypothesis.settings(deadline=None, max_examples=50)
@hypothesis.given(
    n=st.integers(1, 9000), m=st.integers(1, 7), k=st.integers(1, 127), seed=st.integers(0, 9)
)
def test_used_columns_are_those_that_occur(n, m, k, seed):
    votes = np.random.default_rng(seed).integers(-2, k, (n, m)).astype(np.int8)
    quick, sorted_out = used_columns(votes), used_columns(votes.astype(np.int16))
    for a, b in zip(quick, sorted_out, strict=True):
        np.testing.assert_array_equal(a, b)


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


def test_votes_that_are_no_label_matrix_are_refused():
    columns = used_columns(random_votes())
    with pytest.raises(ValueError, match="integer"):
        overlap_statistics(np.zeros((3, 6)), columns)
    with pytest.raises(ValueError, match="votes"):
        overlap_statistics(np.zeros((3, 5), int), columns)


def test_no_lfs_are_refused():
    with pytest.raises(ValueError, match="at least one LF"):
        overlap_statistics(np.zeros((3, 0), int))
