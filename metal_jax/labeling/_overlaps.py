r"""Overlap statistics: how often LFs vote together.

With the indicator matrix :math:`A \in \{0,1\}^{n \times d}` (one column for each used (LF, symbol)
pair) the statistics are the integer counts :math:`A^\top A` and `n`: sums over items, so that parts
merge by addition and a stream or a shard is just a part. (Ratner et al., AAAI 2019, section 4;
uncentred.)
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.sharding import sum_over_data
from metal_jax.labeling._columns import Columns, column_ids, union_columns, used_columns


class OverlapStatistics(NamedTuple):
    """Mergeable second-order statistics of a label matrix.

    Attributes:
        columns: what the rows and columns of `counts` stand for.
        counts: int[d, d], items on which both votes were cast; the diagonal counts single votes.
            Of soft votes float[d, d], the numbers expected when each LF draws its vote on its own.
        num_items: number of items, those without a vote included.
    """

    columns: Columns
    counts: np.ndarray
    num_items: int

    def overlaps(self) -> np.ndarray:
        """float64[d, d], `O = A^T A / n`; the diagonal holds the vote rates."""
        return self.counts / self.num_items


def overlap_counts(
    column_of_vote: ArrayLike, num_columns: int, *, block_size: int = 4096
) -> jax.Array:
    """The counts `A^T A` from the column of each vote, in one blocked pass.

    Args:
        column_of_vote: int[n, m] from `column_ids`, -1 = no vote.
        num_columns: d (static).
        block_size: items for each matrix product (static); memory is O(block_size * d).

    Returns:
        int32[d, d], exact: a float32 product of at most 2^24 ones, summed as integers.

    Example:
        >>> overlap_counts(jnp.array([[0, 2], [1, 2], [0, -1]]), 3).tolist()
        [[2, 0, 1], [0, 1, 1], [1, 1, 2]]
    """
    codes = jnp.asarray(column_of_vote)
    n = codes.shape[0]
    block_size = min(block_size, max(n, 1), 2**24)
    padding = -n % block_size
    codes = jnp.pad(codes, ((0, padding), (0, 0)), constant_values=-1)
    blocks = codes.reshape(-1, block_size, codes.shape[1])

    def add(total: jax.Array, block: jax.Array) -> tuple[jax.Array, None]:
        rows = jnp.broadcast_to(jnp.arange(block_size)[:, None], block.shape)
        indicators = jnp.zeros((block_size, num_columns), jnp.float32)
        block = jnp.where(block < 0, num_columns, block)  # out of bounds: dropped
        indicators = indicators.at[rows, block].set(1, mode="drop")
        product = jnp.matmul(indicators.T, indicators, precision=jax.lax.Precision.HIGHEST)
        return total + product.astype(jnp.int32), None

    start = jnp.zeros((num_columns, num_columns), jnp.int32)
    return jax.lax.scan(add, start, blocks)[0]


@functools.partial(jax.jit, static_argnames=("num_columns", "mesh"))
def _counts(codes: jax.Array, num_columns: int, mesh: jax.sharding.Mesh | None) -> jax.Array:
    kernel = functools.partial(overlap_counts, num_columns=num_columns)
    return kernel(codes) if mesh is None else sum_over_data(kernel, codes, mesh, fill=-1)


def overlap_statistics(
    votes: ArrayLike,
    columns: Columns | None = None,
    *,
    mesh: jax.sharding.Mesh | None = None,
) -> OverlapStatistics:
    """Overlap statistics of a label matrix.

    Args:
        votes: int[n, m] node ids, negative = no vote; or soft votes float[n, m, N], how much of
            its vote an LF gives to each node.
        columns: the columns to count; by default those that occur.
        mesh: device mesh with an axis called "data" over which the items are spread; soft votes
            are counted on the host.

    Returns:
        The statistics, the same for any number of devices.

    Raises:
        ValueError: there are no LFs.

    Example:
        >>> stats = overlap_statistics(np.array([[0, 1], [0, -1], [1, 1]]))
        >>> stats.columns.symbol.tolist(), stats.counts.tolist()
        ([0, 1, 1], [[2, 0, 1], [0, 1, 1], [1, 1, 2]])
    """
    if np.ndim(votes) > 1 and np.shape(votes)[1] == 0:
        raise ValueError(f"votes: got shape {np.shape(votes)}, expected at least one LF")
    columns = used_columns(votes) if columns is None else columns
    if np.ndim(votes) == 3:
        soft = np.asarray(votes)
        return OverlapStatistics(columns, _expected_counts(soft, columns), len(soft))
    codes = column_ids(votes, columns)
    counts = _counts(codes, columns.num_columns, mesh)
    return OverlapStatistics(columns, np.asarray(counts, np.int64), codes.shape[0])


def _expected_counts(votes: np.ndarray, columns: Columns) -> np.ndarray:
    """float64[d, d] of soft votes; an LF does not cast two votes at once."""
    shares = votes[:, columns.lf, columns.symbol].astype(float)
    counts = np.where(columns.lf[:, None] == columns.lf, 0, shares.T @ shares)
    np.fill_diagonal(counts, shares.sum(axis=0))
    return counts


def overlap_statistics_of_batches(
    batches: Iterable[ArrayLike], *, mesh: jax.sharding.Mesh | None = None
) -> OverlapStatistics:
    """Overlap statistics of a label matrix that arrives in batches of items.

    Args:
        batches: each int[b, m] node ids, negative = no vote.
        mesh: as in `overlap_statistics`.

    Returns:
        The statistics, the same for any batching.

    Raises:
        ValueError: no batches, or batches with different numbers of LFs.
    """
    parts = (overlap_statistics(batch, mesh=mesh) for batch in batches)
    first = next(parts, None)
    if first is None:
        raise ValueError("no batches were given")
    return functools.reduce(merge_statistics, parts, first)


def merge_statistics(first: OverlapStatistics, second: OverlapStatistics) -> OverlapStatistics:
    """The statistics of two disjoint sets of items voted on by the same LFs.

    Args:
        first: statistics of one part.
        second: statistics of the other.

    Returns:
        The statistics of the whole, over the columns that either part uses.

    Raises:
        ValueError: different numbers of LFs.
    """
    columns = union_columns(first.columns, second.columns)
    dtype = np.result_type(first.counts, second.counts)
    total = np.zeros((columns.num_columns, columns.num_columns), dtype)
    keys = np.stack(columns[:2]).T.tolist()
    position = {tuple(key): i for i, key in enumerate(keys)}
    for part in (first, second):
        at = [position[tuple(key)] for key in np.stack(part.columns[:2]).T.tolist()]
        total[np.ix_(at, at)] += part.counts
    return OverlapStatistics(columns, total, first.num_items + second.num_items)
