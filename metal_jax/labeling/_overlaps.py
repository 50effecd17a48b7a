r"""Overlap statistics: how often LFs vote together.

With the indicator matrix :math:`A \in \{0,1\}^{n \times d}` (one column for each used (LF, symbol)
pair) the statistics are the integer counts :math:`A^\top A` and `n`: sums over items, so that parts
merge by addition and a stream or a shard is just a part. (Ratner et al., AAAI 2019, section 4;
uncentred.) How they are counted is chosen here; see `_overlap_kernels`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.checks import check_shape
from metal_jax._core.sharding import sum_over_data
from metal_jax.labeling._columns import Columns, column_table, union_columns, used_columns
from metal_jax.labeling._matrix import narrowest_integers, plain_votes
from metal_jax.labeling._overlap_kernels import (
    blocked_overlap_counts,
    listed_overlap_counts,
    prefers_list,
)


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


@functools.partial(jax.jit, static_argnames="mesh")
def _counts(
    votes: jax.Array, lf: jax.Array, symbol: jax.Array, mesh: jax.sharding.Mesh | None
) -> jax.Array:
    def kernel(votes: jax.Array) -> jax.Array:
        return blocked_overlap_counts(votes, lf, symbol)

    return kernel(votes) if mesh is None else sum_over_data(kernel, votes, mesh, fill=-1)


def _listed_counts(votes: np.ndarray, columns: Columns) -> jax.Array:
    table = column_table(columns)
    item, lf = np.nonzero(votes >= 0)
    column = table[lf, np.minimum(votes[item, lf], table.shape[1] - 1)]
    counted = column >= 0
    item, column = item[counted], column[counted]
    most_votes = np.bincount(item, minlength=1).max()
    # Rounded up, so that matrices of about the same size share a program.
    padding = -len(item) % 2 ** max(len(item).bit_length() - 3, 10)
    item = np.pad(item.astype(np.int32), (0, padding), constant_values=len(votes))
    column = np.pad(column, (0, padding), constant_values=columns.num_columns)
    return listed_overlap_counts(item, column, np.int32(most_votes), columns.num_columns)


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
        ValueError: there are no LFs, another number of LFs than of `columns`, or values that are
            neither node ids nor shares.

    Example:
        >>> stats = overlap_statistics(np.array([[0, 1], [0, -1], [1, 1]]))
        >>> stats.columns.symbol.tolist(), stats.counts.tolist()
        ([0, 1, 1], [[2, 0, 1], [0, 1, 1], [1, 1, 2]])
    """
    matrix = plain_votes(votes)
    columns = used_columns(matrix) if columns is None else columns
    check_shape("votes", matrix, (len(matrix), columns.num_lfs, *matrix.shape[2:]))
    if matrix.ndim == 3:
        return OverlapStatistics(columns, _expected_counts(matrix, columns), len(matrix))
    matrix = _narrow(matrix)
    if mesh is None and prefers_list(matrix, columns.num_columns, jax.default_backend()):
        counts = _listed_counts(matrix, columns)
    else:
        counts = _counts(matrix, columns.lf, columns.symbol, mesh)
    return OverlapStatistics(columns, np.asarray(counts, np.int64), len(matrix))


def _narrow(votes: np.ndarray) -> np.ndarray:
    """The votes in as few bytes as hold them; what is negative stays so."""
    if votes.dtype == np.int8:
        return votes
    return narrowest_integers(votes if votes.min(initial=0) >= -128 else np.maximum(votes, -1))


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

    Example:
        >>> stats = overlap_statistics_of_batches([np.array([[0, 1]]), np.array([[0, -1], [1, 1]])])
        >>> stats.counts.tolist(), stats.num_items
        ([[2, 0, 1], [0, 1, 1], [1, 1, 2]], 3)
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

    Example:
        >>> first, second = (overlap_statistics(np.array(x)) for x in ([[0, 1]], [[0, -1], [1, 1]]))
        >>> merge_statistics(first, second).counts.tolist()
        [[2, 0, 1], [0, 1, 1], [1, 1, 2]]
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
