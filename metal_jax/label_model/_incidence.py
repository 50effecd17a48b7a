"""The indicator matrix `A` of votes as a linear operator: `A x` for the E-step, `A^T q` for the M-step.

Two forms of the same operator. *Dense* stores A and multiplies (best for accelerators and for most
label matrices); *sparse* stores one entry for each vote, so that memory is O(votes) however many
(LF, symbol) columns there are (1,200 LFs x 56 classes). Legend: `n` items, `d` columns, `v` votes.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

_DENSE_LIMIT = 2**27  # entries of A; float32, so half a gigabyte


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["matrix", "item", "column"],
    meta_fields=["shape"],
)
@dataclasses.dataclass(frozen=True)
class Incidence:
    """The operator; build it with `incidence`.

    Attributes:
        matrix: float[n, d] in the dense form, else None.
        item: int32[v] in the sparse form, sorted, else None.
        column: int32[v] in the sparse form, else None.
        shape: `(n, d)`.
    """

    matrix: jax.Array | None
    item: jax.Array | None
    column: jax.Array | None
    shape: tuple[int, int]

    def apply(self, table: jax.Array) -> jax.Array:
        """`A x`: for each item the sum of the rows of `table` [d, s] that its votes select."""
        if self.matrix is not None:
            return jnp.matmul(
                self.matrix.astype(table.dtype), table, precision=jax.lax.Precision.HIGHEST
            )
        return jax.ops.segment_sum(
            table[self.column], self.item, self.shape[0], indices_are_sorted=True
        )

    def transpose_apply(self, values: jax.Array) -> jax.Array:
        """`A^T q`: for each column the sum of the rows of `values` [n, s] over its items."""
        if self.matrix is not None:
            return jnp.matmul(
                self.matrix.astype(values.dtype).T, values, precision=jax.lax.Precision.HIGHEST
            )
        return jax.ops.segment_sum(values[self.item], self.column, self.shape[1])


def incidence(codes: np.ndarray, num_columns: int, *, dense: bool | None = None) -> Incidence:
    """The operator of a matrix of column ids.

    Args:
        codes: int[n, m] from `labeling.column_ids`, -1 = no vote; on the host.
        num_columns: d.
        dense: which form; by default dense while A has at most 2^27 entries.

    Returns:
        The operator.
    """
    codes = np.asarray(codes)
    shape = (codes.shape[0], num_columns)
    item, lf = np.nonzero(codes >= 0)
    column = codes[item, lf]
    if dense if dense is not None else shape[0] * num_columns <= _DENSE_LIMIT:
        matrix = np.zeros(shape, np.float32)
        matrix[item, column] = 1
        return Incidence(jnp.asarray(matrix), None, None, shape)
    return Incidence(None, jnp.asarray(item, jnp.int32), jnp.asarray(column, jnp.int32), shape)
