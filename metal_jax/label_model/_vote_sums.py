r"""What an item's votes select from a table, added up, and the reverse: the kernels of EM.

Written on the votes as they come, with nothing decided on the host, so that it can be traced,
exported with a symbolic number of items, and spread over devices.

Legend: `n` items, `m` LFs, `N` label nodes, `d` used (LF, node) columns.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from metal_jax.labeling import NOT_ASKED
from metal_jax.task_tree import TaskTree

FEW_NODES = 16  # up to here a product for each node is faster than a look-up for each vote
# On a CPU so many items that their masks stay in a core's cache; elsewhere so many that a device
# is busy.
_BLOCKS = {"cpu": 1024, "default": 65536}
# On a CPU selections are up to twice as fast as products, but take longer to compile: they are for
# many items, whose votes, LF by LF, stay in the second cache, and for so many LFs at a time.
FEW_ITEMS = 8192
_SELECT = 32768
_FEW_LFS = 16


def vote_sums(
    votes: jax.Array,
    lf: jax.Array,
    symbol: jax.Array,
    table: jax.Array,
    num_nodes: int,
    silence: jax.Array | None = None,
) -> jax.Array:
    r"""For each item the sum of the rows of `table` that its votes select.

    With few nodes :math:`\sum_u (v = u)\, T_u`, by masks and matrix products, or on a CPU with many
    items by selections: on two cores 100,000 items x 50 LFs take 5 and 3 ms for 2 classes, 15 and 9
    for 5; look-ups 27 and 45.

    Args:
        votes: int[n, m] node ids, negative = no vote; or soft votes float[n, m, N].
        lf: int[d], the LF of each row.
        symbol: int[d], its node; votes without a row select nothing.
        table: float[d, x].
        num_nodes: N (static).
        silence: float[m, x], what an abstain adds; None for nothing. -2 = never asked adds nothing.

    Returns:
        float[n, x].

    Example:
        >>> lf, symbol = jnp.array([0, 0, 1]), jnp.array([0, 1, 1])
        >>> table = jnp.array([[1.0], [10.0], [100.0]])
        >>> votes = jnp.array([[0, 1], [1, -1], [-1, 0]])
        >>> vote_sums(votes, lf, symbol, table, 2).ravel().tolist()
        [101.0, 10.0, 0.0]
    """
    if votes.ndim == 3:
        shares = votes.astype(table.dtype)
        told = _product(shares[:, lf, symbol], table)
        return told if silence is None else told + _product(1 - jnp.sum(shares, axis=-1), silence)
    if num_nodes > FEW_NODES:
        return _look_up(votes, lf, symbol, table, num_nodes, silence)
    full = jnp.zeros((num_nodes, votes.shape[1], table.shape[1]), table.dtype)
    full = full.at[symbol, lf].set(table)
    told = _narrow(votes, num_nodes)
    if silence is not None:
        told = jnp.where(_abstains(told), jnp.asarray(num_nodes, told.dtype), told)
        full = jnp.concatenate([full, silence[None].astype(table.dtype)])
    return _chosen_rows(told, full)


def _narrow(votes: jax.Array, num_nodes: int) -> jax.Array:
    """Votes as int8, of few nodes: a byte is what a comparison has to read."""
    if votes.dtype == jnp.int8:
        return votes
    known = jnp.where(votes < num_nodes, jnp.maximum(votes, NOT_ASKED), NOT_ASKED)
    return known.astype(jnp.int8)


@jax.custom_jvp
def _chosen_rows(votes: jax.Array, full: jax.Array) -> jax.Array:
    r"""float[n, x], :math:`\sum_j T_{v_{ij}, j}` of float[N, m, x]; other votes add nothing."""

    def on_cpu(votes: jax.Array) -> jax.Array:
        if not isinstance(votes.shape[0], int) or votes.shape[0] < FEW_ITEMS:
            return product(votes)
        if votes.shape[0] < _SELECT:
            return _selected(votes, full)
        whole = votes.shape[0] - votes.shape[0] % _SELECT
        blocks = votes[:whole].reshape(-1, _SELECT, votes.shape[1])
        sums = jax.lax.map(lambda part: _selected(part, full), blocks)
        # The rest is multiplied: selections of another length would have to be compiled.
        return jnp.concatenate([sums.reshape(whole, -1), product(votes[whole:])])

    def product(votes: jax.Array, size: int = _BLOCKS["cpu"]) -> jax.Array:
        return _map_blocks(lambda part: _rows_by_product(part, full), size, votes, full.shape[2])

    elsewhere = functools.partial(product, size=_BLOCKS["default"])
    return jax.lax.platform_dependent(votes, cpu=on_cpu, default=elsewhere)


@_chosen_rows.defjvp
def _chosen_rows_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[Any, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Linear in the table; the products have a quick transpose, the selections have not."""
    votes, full = primals

    def in_blocks(size: int, votes: jax.Array) -> jax.Array:
        # Gradients compare again, rather than keep an indicator of every vote.
        block = jax.checkpoint(lambda part: _rows_by_product(part, tangents[1]))
        return _map_blocks(block, size, votes, full.shape[2])

    return _chosen_rows(votes, full), _by_platform(in_blocks, votes)


def _rows_by_product(votes: jax.Array, full: jax.Array) -> jax.Array:
    """`_chosen_rows` by masks and matrix products."""
    total = jnp.zeros((votes.shape[0], full.shape[2]), full.dtype)
    for node in range(full.shape[0]):
        total = total + _product((votes == node).astype(full.dtype), full[node])
    return total


@jax.jit  # traced once for all the calls in a program: that takes longer than to load it
def _selected(votes: jax.Array, full: jax.Array) -> jax.Array:
    """`_chosen_rows` by selections, a few LFs at a time, with the items along the vector lanes."""
    num_nodes, m, width = full.shape
    size = min(_FEW_LFS, m)
    first = np.arange(0, m, size)
    # The last few begin early enough to be as many; what was added before weighs nothing there.
    start = np.minimum(first, m - size)
    lfs = start[:, None] + np.arange(size)
    rows = jnp.where((lfs >= first[:, None])[..., None], full[:, lfs], 0)  # [N, parts, size, x]

    def add(total: jax.Array, own: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        begin, said = own
        few = jax.lax.dynamic_slice_in_dim(by_lf, begin, size)
        part = jnp.zeros_like(total)
        for j in range(size):
            row = jnp.zeros_like(total)
            for node in range(num_nodes):
                row = jnp.where(few[j] == node, said[node, j][:, None], row)
            part = part + row
        # Were the sum fused with its total, the compiler would not use vectors.
        return total + jax.lax.optimization_barrier(part), None

    by_lf = jax.lax.optimization_barrier(votes.T)
    none = jnp.zeros((width, votes.shape[0]), full.dtype)
    return jax.lax.scan(add, none, (jnp.asarray(start), jnp.moveaxis(rows, 1, 0)))[0].T


def leaf_scores(
    votes: jax.Array,
    lf: jax.Array,
    symbol: jax.Array,
    table: jax.Array,
    tree: TaskTree,
    silence: jax.Array | None = None,
) -> jax.Array:
    """`vote_sums` of a table over the leaf states, up to a number for each item and root.

    What is compared within each root needs no more. With few nodes the sum at the last leaf of the
    root is taken off, which with two leaves is half of the work.

    Args:
        votes: as of `vote_sums`.
        lf: int[d].
        symbol: int[d].
        table: float[d, s + y]; columns beyond the leaves are summed as they are.
        tree: the task tree (static).
        silence: float[m, s + y].

    Returns:
        float[n, s + y].

    Example:
        >>> lf, symbol = jnp.array([0, 0]), jnp.array([0, 1])
        >>> table = jnp.array([[5.0, 2.0], [0.0, 1.0]])
        >>> leaf_scores(jnp.array([[0], [1]]), lf, symbol, table, TaskTree.single(2)).tolist()
        [[3.0, 0.0], [-1.0, 0.0]]
    """
    if tree.num_nodes > FEW_NODES:  # little would be saved, and looked-up rows may hold -inf
        return vote_sums(votes, lf, symbol, table, tree.num_nodes, silence)
    last = np.array([span.stop - 1 for span in tree.root_leaves])
    own_last = np.repeat(last, [span.stop - span.start for span in tree.root_leaves])
    others = np.setdiff1d(np.arange(tree.num_leaves), last)

    def reduced(values: jax.Array) -> jax.Array:
        differences = values[:, others] - values[:, own_last[others]]
        return jnp.concatenate([differences, values[:, tree.num_leaves :]], axis=1)

    silent = None if silence is None else reduced(silence)
    sums = vote_sums(votes, lf, symbol, reduced(table), tree.num_nodes, silent)
    parts, at = [], 0
    for span in tree.root_leaves:
        width = span.stop - span.start - 1
        parts += [sums[:, at : at + width], jnp.zeros((sums.shape[0], 1), sums.dtype)]
        at += width
    return jnp.concatenate([*parts, sums[:, at:]], axis=1)


def sums_by_vote(
    votes: jax.Array, lf: jax.Array, symbol: jax.Array, values: jax.Array, num_nodes: int
) -> jax.Array:
    r"""For each column the sum of the rows of `values` over the items with its vote.

    The transpose of `vote_sums`: :math:`\sum_i [v_{ij} = u]\, q_i`.

    Args:
        votes: int[n, m] node ids, negative = no vote.
        lf: int[d], the LF of each column.
        symbol: int[d], its node; 0 where it is no node.
        values: float[n, x].
        num_nodes: N (static), 16 at most.

    Returns:
        float[d, x].

    Example:
        >>> lf, symbol = jnp.array([0, 0, 1]), jnp.array([0, 1, 1])
        >>> votes = jnp.array([[0, 1], [1, -1], [-1, 0]])
        >>> sums_by_vote(votes, lf, symbol, jnp.array([[1.0], [10.0], [100.0]]), 2).ravel().tolist()
        [1.0, 10.0, 1.0]
    """

    def block(votes: jax.Array, values: jax.Array) -> jax.Array:
        # Values first: a product of few rows, three times as fast as one of few columns.
        masks = [(votes == node).astype(values.dtype) for node in range(num_nodes)]
        return jnp.stack([_product(values.T, mask) for mask in masks])

    def in_blocks(size: int, votes: jax.Array, values: jax.Array) -> jax.Array:
        (blocks, rest), (parts, left) = _cut(votes, size), _cut(values, size)
        if blocks is None or parts is None:
            return block(votes, values)
        start = block(rest, left)
        return jax.lax.scan(lambda sum, part: (sum + block(*part), None), start, (blocks, parts))[0]

    total = _by_platform(in_blocks, votes, values)
    return total.at[symbol, :, lf].get(mode="fill", fill_value=0)


def vote_tallies(votes: jax.Array, num_nodes: int) -> jax.Array:
    """How many of an item's votes each node has.

    Args:
        votes: int[n, m] node ids, negative = no vote.
        num_nodes: N (static), few.

    Returns:
        float32[n, N].

    Example:
        >>> vote_tallies(jnp.array([[0, 1, 1], [1, -1, -1]]), 2).tolist()
        [[1.0, 2.0], [0.0, 1.0]]
    """

    def block(votes: jax.Array) -> jax.Array:
        # A product with ones is vectorised, a sum along the rows is not.
        one = jnp.ones((votes.shape[1], 1), jnp.float32)
        cast = [_product((votes == node).astype(one.dtype), one) for node in range(num_nodes)]
        return jnp.concatenate(cast, axis=1)

    def in_blocks(size: int, votes: jax.Array) -> jax.Array:
        return _map_blocks(block, size, votes, num_nodes)

    return _by_platform(in_blocks, votes)


def _map_blocks(
    block: Callable[[jax.Array], jax.Array], size: int, votes: jax.Array, width: int
) -> jax.Array:
    blocks, rest = _cut(votes, size)
    if blocks is None:
        return block(votes)
    return jnp.concatenate([jax.lax.map(block, blocks).reshape(-1, width), block(rest)])


def _cut(array: jax.Array, size: int) -> tuple[jax.Array | None, jax.Array]:
    """Blocks of so many rows, and the rest; None where that is not worth it."""
    n = array.shape[0]
    if not isinstance(n, int) or n < 2 * size:  # a symbolic number is not cut into blocks
        return None, array
    whole = n - n % size
    return array[:whole].reshape(-1, size, *array.shape[1:]), array[whole:]


def _by_platform(in_blocks: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
    """Blocks of the size that the platform wants."""
    ways = {name: functools.partial(in_blocks, size) for name, size in _BLOCKS.items()}
    return jax.lax.platform_dependent(*arrays, **ways)


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _abstains(votes: jax.Array) -> jax.Array:
    return (votes < 0) & (votes != NOT_ASKED)


def _look_up(
    votes: jax.Array,
    lf: jax.Array,
    symbol: jax.Array,
    table: jax.Array,
    num_nodes: int,
    silence: jax.Array | None,
) -> jax.Array:
    """One LF at a time, so that memory stays O(n x)."""
    nothing = table.shape[0]
    padded = jnp.concatenate([table, jnp.zeros((1, table.shape[1]), table.dtype)])
    rows = jnp.full((votes.shape[1], num_nodes + 1), nothing, jnp.int32)  # last column: no vote
    rows = rows.at[lf, symbol].set(jnp.arange(nothing, dtype=jnp.int32))

    def add(
        total: jax.Array, own: tuple[jax.Array, jax.Array, jax.Array | None]
    ) -> tuple[jax.Array, None]:
        vote, row, silent = own
        told = padded[row[jnp.where(vote < 0, num_nodes, vote.astype(jnp.int32))]]
        if silent is not None:
            told = jnp.where(_abstains(vote)[:, None], silent, told)
        return total + told, None

    start = jnp.zeros((votes.shape[0], table.shape[1]), table.dtype)
    return jax.lax.scan(add, start, (votes.T, rows, silence))[0]


def indicators(votes: jax.Array, lf: jax.Array, symbol: jax.Array, dtype: DTypeLike) -> jax.Array:
    """The indicator matrix of some (LF, node) pairs.

    Args:
        votes: int[n, m] or float[n, m, N].
        lf: int[e].
        symbol: int[e].
        dtype: of the result.

    Returns:
        float[n, e].
    """
    if votes.ndim == 3:
        return votes[:, lf, symbol].astype(dtype)
    return (votes[:, lf].astype(jnp.int32) == symbol).astype(dtype)
