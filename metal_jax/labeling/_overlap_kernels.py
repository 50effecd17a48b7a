r"""Kernels of the overlap counts :math:`A^\top A`: a product of bytes, or a walk over the votes.

**Dense.** Blocks of items are turned over and compared with the symbol of each column, which gives
`A^T` of the block as bytes, [d, b]. Its product with itself contracts the minor axis, sums in int32
(so it is exact up to 2^31 items) and is taken for tiles of columns on and above the diagonal only.
One byte a vote is the narrowest input that matrix units take: VNNI and AMX on CPU, tensor cores,
TPUs. Memory is O(block d + d^2), whatever n.

Measured on two cores of a Xeon with AMX, CPU seconds of the product alone for 2^17 items x 100
columns: bytes .0046, bfloat16 .0097, float32 .038, packed bits with a population count .08 (full
square, best block). With the columns to contract major instead: bytes .20. So bits are packed no
further: a product of bytes needs 8 times their memory traffic and is 17 times as fast.

**Listed.** For LFs that hardly ever vote: each pair of votes on one item is counted where it is
met, O(votes x most votes of an item). A counted pair costs as much as some thousand entries of the
product; `prefers_list` weighs the two.

Legend: `n` items, `m` LFs, `d` columns, `b` items of a block, `v` votes.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax.labeling._columns import Columns

_TILE = 256  # columns; the best of 64 to 1024 at d = 1000
_MIN_LISTED_COLUMNS = 512  # with fewer the product is quick at any coverage
_PAIR_COST = {"cpu": 3_000}  # entries of the product for one pair met in the list, measured
_OTHER_PAIR_COST = 100_000  # on accelerators: from published peaks, not measured


def overlap_counts(votes: ArrayLike, columns: Columns, *, block_size: int = 2048) -> jax.Array:
    """The counts `A^T A` of a label matrix, in one blocked pass; jit-able, exact.

    Args:
        votes: int[n, m] node ids, negative = no vote; fastest as int8. Votes for symbols without a
            column are not counted.
        columns: which (LF, symbol) pairs to count.
        block_size: items for each matrix product (static); memory is O(block_size * d + d^2).

    Returns:
        int32[d, d].

    Example:
        >>> columns = Columns(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
        >>> overlap_counts(jnp.array([[0, 1], [1, 1], [0, -1]]), columns).tolist()
        [[2, 0, 1], [0, 1, 1], [1, 1, 2]]
    """
    lf, symbol = jnp.asarray(columns.lf), jnp.asarray(columns.symbol)
    return blocked_overlap_counts(jnp.asarray(votes), lf, symbol, block_size)


def blocked_overlap_counts(
    matrix: jax.Array, lf: jax.Array, symbol: jax.Array, block_size: int = 2048
) -> jax.Array:
    """`overlap_counts` of traced columns, int32[d] each."""
    n, m = matrix.shape
    d = len(lf)
    tile_starts = range(0, d, _TILE)
    if not (n and d):
        return jnp.zeros((d, d), jnp.int32)
    symbol = _in_dtype(symbol, matrix.dtype)
    size = min(block_size, n)

    def add(block: jax.Array, totals: list[jax.Array]) -> list[jax.Array]:
        first = jnp.minimum(block * size, n - size)  # the last block may begin in the one before
        rows = jax.lax.dynamic_slice(matrix, (first, jnp.zeros_like(first)), (size, m))
        fresh = first + jnp.arange(size, dtype=first.dtype) >= block * size
        # Barriers: fused into one loop, these would read the votes against the grain.
        turned = jax.lax.optimization_barrier(jnp.where(fresh[:, None], rows, -1).T)
        of_column = jax.lax.optimization_barrier(turned[lf])
        fired = (of_column == symbol[:, None]).astype(jnp.int8)
        fired = jax.lax.optimization_barrier(fired)
        return [
            total + _product(fired[start : start + _TILE], fired[start:])
            for start, total in zip(tile_starts, totals, strict=True)
        ]

    totals = [jnp.zeros((min(_TILE, d - at), d - at), jnp.int32) for at in tile_starts]
    totals = jax.lax.fori_loop(jnp.int32(0), jnp.int32(-(-n // size)), add, totals)
    rows = [
        jnp.pad(total, ((0, 0), (at, 0))) for at, total in zip(tile_starts, totals, strict=True)
    ]
    upper = jnp.concatenate(rows)
    tile = np.arange(d) // _TILE
    return jnp.where(tile[:, None] <= tile, upper, upper.T)


def _in_dtype(symbol: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Symbols as votes of a type can say them; those that do not fit never match."""
    limits = jnp.iinfo(dtype)
    wide = symbol.astype(jnp.int32)
    return jnp.where(wide <= min(limits.max, 2**31 - 1), wide, max(limits.min, -(2**31))).astype(
        dtype
    )


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    """`a b^T` of int8[., b] in int32."""
    dimensions = (((1,), (1,)), ((), ()))
    return jax.lax.dot_general(a, b, dimensions, preferred_element_type=jnp.int32)


@functools.partial(jax.jit, static_argnames="num_columns")
def listed_overlap_counts(
    item: jax.Array, column: jax.Array, most_votes: jax.Array, num_columns: int
) -> jax.Array:
    """The counts `A^T A` from votes one by one.

    Args:
        item: int32[v], sorted; n or more where an entry is padding.
        column: int32[v]; `num_columns` where an entry is padding.
        most_votes: int32[], the most votes of an item.
        num_columns: d (static).

    Returns:
        int32[d, d].

    Example:
        >>> item, column = jnp.array([0, 0, 1, 1, 2]), jnp.array([0, 2, 1, 2, 0])
        >>> listed_overlap_counts(item, column, jnp.int32(2), 3).tolist()
        [[2, 0, 1], [0, 1, 1], [1, 1, 2]]
    """
    index = jnp.arange(item.shape[0])

    def add(offset: jax.Array, pairs: jax.Array) -> jax.Array:
        other_item, other = jnp.roll(item, -offset), jnp.roll(column, -offset)
        together = (item == other_item) & (index < len(index) - offset)
        return pairs.at[jnp.where(together, column, num_columns), other].add(1, mode="drop")

    pairs = jnp.zeros((num_columns, num_columns), jnp.int32)
    pairs = jax.lax.fori_loop(jnp.int32(1), most_votes, add, pairs)
    single = jnp.zeros(num_columns, jnp.int32).at[column].add(1, mode="drop")
    return pairs + pairs.T + jnp.diag(single)


def prefers_list(votes: np.ndarray, num_columns: int, platform: str) -> bool:
    """Whether `listed_overlap_counts` is the faster.

    Args:
        votes: int[n, m].
        num_columns: d.
        platform: "cpu", "gpu" or "tpu".

    Returns:
        See above.

    Example:
        >>> rare = np.full((10, 1000), -1)
        >>> prefers_list(rare, 1000, "cpu"), prefers_list(rare + 1, 1000, "cpu")
        (True, False)
    """
    if num_columns < _MIN_LISTED_COLUMNS:
        return False
    of_item = np.count_nonzero(votes >= 0, axis=1)
    pairs = int(of_item.sum()) * int(of_item.max(initial=0))
    return pairs * _PAIR_COST.get(platform, _OTHER_PAIR_COST) < len(votes) * num_columns**2
