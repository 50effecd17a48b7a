"""Indicator columns: one for each (LF, symbol) pair that the LF actually uses.

A keyword LF that only ever votes for one class has one column, not k (MATH: Ratner et al. 2019,
section 4, over the minimal statistics). Legend: `n` items, `m` LFs, `d` columns.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.checks import check_integer, check_shape
from metal_jax.labeling._matrix import plain_votes

_RUN = 2**12  # bytes that are compared in one go


class Columns(NamedTuple):
    """The used (LF, symbol) pairs, sorted by LF and then symbol.

    Attributes:
        lf: int32[d], the LF of each column.
        symbol: int32[d], the node id that the column stands for.
        num_lfs: m, LFs without any vote included.
    """

    lf: np.ndarray
    symbol: np.ndarray
    num_lfs: int

    @property
    def num_columns(self) -> int:
        """Number of columns, `d`."""
        return len(self.lf)


def used_columns(votes: ArrayLike) -> Columns:
    """The (LF, symbol) pairs that occur in a label matrix.

    Args:
        votes: int[n, m] node ids, negative = no vote; or soft votes float[n, m, N], how much of
            its vote an LF gives to each node. On the host: the result has data-dependent size.

    Returns:
        The columns.

    Raises:
        ValueError: other axes, no LFs, or values that are neither node ids nor shares.

    Example:
        >>> used_columns(np.array([[0, -1], [1, 1]])).symbol.tolist()
        [0, 1, 1]
    """
    matrix = plain_votes(votes)
    if matrix.ndim == 3:
        lf, symbol = np.nonzero((matrix > 0).any(axis=0))
        return Columns(lf.astype(np.int32), symbol.astype(np.int32), matrix.shape[1])
    if matrix.dtype == np.int8 and matrix.size and matrix.flags.c_contiguous:
        lf, symbol = np.nonzero(_occurrence(matrix))
        return Columns(lf.astype(np.int32), symbol.astype(np.int32), matrix.shape[1])
    symbols = [np.unique(column[column >= 0]) for column in matrix.T]
    lf = np.repeat(np.arange(len(symbols)), [len(s) for s in symbols])
    symbol = np.concatenate([*symbols, np.zeros(0, matrix.dtype)])
    return Columns(lf.astype(np.int32), symbol.astype(np.int32), matrix.shape[1])


def _occurrence(votes: np.ndarray) -> np.ndarray:
    """bool[m, N], whether each LF ever casts each vote; of int8[n, m].

    Rows are laid side by side to wide ones, so that numpy compares and joins long runs of bytes:
    5 ms for a symbol in 10^6 x 50 votes, where sorting each column takes 0.75 s for all.
    """
    n, m = votes.shape
    width = max(1, _RUN // m)
    block = 64 * width
    found = np.zeros((int(votes.max(initial=-1)) + 1, width * m), bool)
    for start in range(0, n, block):
        rows = votes[start : start + block]
        whole = len(rows) // width * width
        wide, rest = rows[:whole].reshape(-1, width * m), rows[whole:].reshape(-1)
        for symbol, seen in enumerate(found):
            seen |= (wide == symbol).any(axis=0)
            seen[: rest.size] |= rest == symbol
    return np.any(found.reshape(len(found), width, m), axis=1).T


def union_columns(first: Columns, second: Columns) -> Columns:
    """The columns of either of two parts of one label matrix.

    Args:
        first: the columns of one part.
        second: those of another.

    Returns:
        The columns, by LF and then symbol.

    Raises:
        ValueError: another number of LFs.

    Example:
        >>> a = Columns(np.array([0]), np.array([1]), 2)
        >>> b = Columns(np.array([0, 1]), np.array([0, 1]), 2)
        >>> union_columns(a, b).lf.tolist(), union_columns(a, b).symbol.tolist()
        ([0, 0, 1], [0, 1, 1])
    """
    if first.num_lfs != second.num_lfs:
        raise ValueError(f"cannot join votes of {first.num_lfs} and of {second.num_lfs} LFs")
    lf, symbol = np.unique(
        np.concatenate([np.stack(c[:2]) for c in (first, second)], axis=1), axis=1
    )
    return Columns(lf, symbol, first.num_lfs)


def column_ids(votes: ArrayLike, columns: Columns) -> jax.Array:
    """The column of each vote; jit-able with the columns closed over.

    Args:
        votes: int[n, m] node ids, negative = no vote.
        columns: the columns of these LFs.

    Returns:
        int32[n, m], -1 where there is no vote or the pair has no column (a symbol that the LF
        never used when the columns were made carries no information).

    Raises:
        ValueError: no integers, or another number of LFs.

    Example:
        >>> columns = Columns(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
        >>> column_ids(np.array([[0, 1], [1, -1], [-1, 0]]), columns).tolist()
        [[0, 2], [1, -1], [-1, -1]]
    """
    votes = votes if isinstance(votes, jax.Array) else plain_votes(votes)
    check_integer("votes", votes)
    check_shape("votes", votes, (*votes.shape[:1], columns.num_lfs))
    votes = jnp.asarray(votes)
    table = column_table(columns)
    width = table.shape[1] - 1
    votes = votes.astype(jnp.int32)
    symbol = jnp.where((votes < 0) | (votes >= width), width, votes)
    return jnp.asarray(table)[jnp.arange(columns.num_lfs), symbol]


def column_table(columns: Columns) -> np.ndarray:
    """int32[m, w + 1], the column of each (LF, symbol) pair, -1 where there is none.

    Args:
        columns: the columns; their symbols are below w.

    Returns:
        The table; its last entries stand for no vote and for symbols from w on.

    Example:
        >>> column_table(Columns(np.array([0, 1]), np.array([1, 0]), 2)).tolist()
        [[-1, 0, -1], [1, -1, -1]]
    """
    width = int(columns.symbol.max(initial=-1)) + 1
    table = np.full((columns.num_lfs, width + 1), -1, np.int32)
    table[columns.lf, columns.symbol] = np.arange(columns.num_columns)
    return table
