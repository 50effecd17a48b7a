"""The indicator matrix `A` of votes as a linear operator: `A x` (E-step) and `A^T q` (M-step).

Three forms of the same operator. *Dense* stores A and multiplies (best for accelerators); *coded*
keeps the votes themselves and compares them with one node after the other, block by block (best on
a CPU where the nodes are few: a hundredth of the memory to read); *sparse* stores one entry for
each vote, so that memory is O(votes) however many (LF, symbol) columns there are (1,200 LFs x 56
classes). Legend: `n` items, `m` LFs, `d` columns, `v` votes.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from metal_jax._core.sharding import DATA_AXIS, map_over_data, spread_items
from metal_jax.label_model._vote_sums import sums_by_vote, vote_sums

_DENSE_LIMIT = 2**27  # entries of A; float32, so half a gigabyte


class DenseIncidence(NamedTuple):
    """The matrix itself.

    Attributes:
        matrix: float32[n, d] of zeros and ones.
    """

    matrix: jax.Array

    @property
    def num_items(self) -> int:
        """Number of items, `n`."""
        return self.matrix.shape[0]

    def apply(self, table: jax.Array) -> jax.Array:
        """`A x`: for each item the sum of the rows of `table` [d, s] that its votes select."""
        matrix = self.matrix.astype(table.dtype)
        return jnp.matmul(matrix, table, precision=jax.lax.Precision.HIGHEST)

    def transpose_apply(self, values: jax.Array) -> jax.Array:
        """`A^T q`: for each column the sum of the rows of `values` [n, s] over its items."""
        matrix = self.matrix.astype(values.dtype)
        return jnp.matmul(matrix.T, values, precision=jax.lax.Precision.HIGHEST)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["votes", "lf", "symbol"],
    meta_fields=["num_nodes", "mesh"],
)
@dataclasses.dataclass(frozen=True)
class CodedIncidence:
    """The votes.

    Attributes:
        votes: int[n, m] node ids, negative = no vote.
        lf: int32[d], the LF of each column.
        symbol: int32[d], its node; `num_nodes` for a column that nobody votes for.
        num_nodes: how many nodes a vote is compared with (static).
        mesh: the devices whose "data" axis the items are spread over (static); None for one. Each
            cuts its own items into blocks.
    """

    votes: jax.Array
    lf: jax.Array
    symbol: jax.Array
    num_nodes: int
    mesh: Mesh | None = None

    @property
    def num_items(self) -> int:
        """Number of items, `n`."""
        return self.votes.shape[0]

    def apply(self, table: jax.Array) -> jax.Array:
        """As `DenseIncidence.apply`."""

        def of_shard(votes: jax.Array) -> jax.Array:
            return vote_sums(votes, self.lf, self.symbol, table, self.num_nodes)

        if self.mesh is None:
            return of_shard(self.votes)
        return map_over_data(of_shard, self.votes, self.mesh, fill=-1)

    def transpose_apply(self, values: jax.Array) -> jax.Array:
        """As `DenseIncidence.transpose_apply`."""

        def of_shard(votes: jax.Array, values: jax.Array) -> jax.Array:
            return sums_by_vote(votes, self.lf, self.symbol, values, self.num_nodes)

        if self.mesh is None:
            return of_shard(self.votes, values)
        items = PartitionSpec(DATA_AXIS)
        return jax.shard_map(
            lambda *shards: jax.lax.psum(of_shard(*shards), DATA_AXIS),
            mesh=self.mesh,
            in_specs=(items, items),
            out_specs=PartitionSpec(),
            check_vma=False,
        )(self.votes, values)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["item", "column"],
    meta_fields=["num_items", "num_columns"],
)
@dataclasses.dataclass(frozen=True)
class SparseIncidence:
    """One entry for each vote.

    Attributes:
        item: int32[v], sorted.
        column: int32[v].
        num_items: n (static).
        num_columns: d (static).
    """

    item: jax.Array
    column: jax.Array
    num_items: int
    num_columns: int

    def apply(self, table: jax.Array) -> jax.Array:
        """As `DenseIncidence.apply`."""
        return jax.ops.segment_sum(
            table[self.column], self.item, self.num_items, indices_are_sorted=True
        )

    def transpose_apply(self, values: jax.Array) -> jax.Array:
        """As `DenseIncidence.transpose_apply`."""
        return jax.ops.segment_sum(values[self.item], self.column, self.num_columns)


Incidence = DenseIncidence | CodedIncidence | SparseIncidence
"""Which votes were cast, `A` float[n, d], in whichever form suits the data."""


def fits_dense(num_items: int, num_columns: int) -> bool:
    """Whether the dense form is used unless another is asked for."""
    return num_items * num_columns <= _DENSE_LIMIT


def incidence(codes: np.ndarray, num_columns: int, *, dense: bool | None = None) -> Incidence:
    """The operator of a matrix of column ids.

    Args:
        codes: int[n, m] from `labeling.column_ids`, -1 = no vote; on the host.
        num_columns: d.
        dense: which form; by default dense while A has at most 2^27 entries.

    Returns:
        The operator.

    Example:
        >>> operator = incidence(np.array([[0, -1], [1, 2]]), 3)
        >>> operator.apply(jnp.array([[1.0], [2.0], [4.0]])).tolist()
        [[1.0], [6.0]]
    """
    codes = np.asarray(codes)
    shape = (codes.shape[0], num_columns)
    item, lf = np.nonzero(codes >= 0)
    column = codes[item, lf]
    if dense if dense is not None else fits_dense(*shape):
        matrix = np.zeros(shape, np.float32)
        matrix[item, column] = 1
        return DenseIncidence(jax.device_put(matrix))  # unlike `jnp.asarray`, it compiles nothing
    item, column = (jax.device_put(x.astype(np.int32)) for x in (item, column))
    return SparseIncidence(item, column, *shape)


def spread_incidence(votes: Any, num_items: int, mesh: Mesh) -> Any:
    """An operator with its items spread over the "data" axis of a mesh, padded without votes.

    A sparse one stays on every device: its entries do not split by items.

    Args:
        votes: `Incidence` or `RelationIncidence`.
        num_items: n.
        mesh: with an axis "data".

    Returns:
        The operator of a few more items.
    """
    padded = num_items + -num_items % mesh.shape[DATA_AXIS]
    if isinstance(votes, SparseIncidence):
        votes = dataclasses.replace(votes, num_items=padded)
        return jax.device_put(votes, NamedSharding(mesh, PartitionSpec()))
    if isinstance(votes, DenseIncidence):
        return spread_items(votes, num_items, mesh)
    # Zeros for padding are no vote then.
    spread = spread_items(votes.votes + 1, num_items, mesh) - 1
    everywhere = jax.device_put(votes, NamedSharding(mesh, PartitionSpec()))
    if isinstance(votes, CodedIncidence):
        return dataclasses.replace(everywhere, votes=spread, mesh=mesh)
    return dataclasses.replace(everywhere, votes=spread)
