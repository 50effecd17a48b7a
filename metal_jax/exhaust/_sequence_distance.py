"""The edit distance of layer sequences: the dynamic programme, for a block of pairs at a time.

`D[i, j]`, the distance of the first i layers of one sequence and the first j of the other, is the
least of `D[i - 1, j]` and deleting a layer, `D[i, j - 1]` and inserting one, `D[i - 1, j - 1]` and
replacing one (Wagner and Fischer, "The string-to-string correction problem", JACM 1974). Padding
costs nothing to insert and a layer's own cost to replace, so sequences need no lengths.

Two orders of the same additions, equal to the last bit. A CPU is kept busy by the pairs of a block
alone and takes cell after cell, which computes each just once; an accelerator wants more at once
and takes an anti-diagonal at a time, twice the work in a tenth of the steps.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from metal_jax.exhaust._layer_costs import EncodedLayers, layer_distance, layer_lengths, pad_layers


def sequence_block(a: EncodedLayers, b: EncodedLayers) -> jax.Array:
    """The edit distance of every pair of two sets.

    Args:
        a: encoded layers of ra sequences, fields [ra, la] and [h, ra, la].
        b: fields [rb, lb] and [h, rb, lb].

    Returns:
        float32[ra, rb].
    """
    lengths = [layer_lengths(each).max(initial=0) for each in (a, b)]
    return _block(a, b, *lengths)


@jax.jit
def _block(a: EncodedLayers, b: EncodedLayers, la: jax.Array, lb: jax.Array) -> jax.Array:
    rows = EncodedLayers(*(jnp.swapaxes(x, -1, -2)[..., :, None] for x in a))
    columns = EncodedLayers(*(jnp.swapaxes(x, -1, -2)[..., None, :] for x in b))

    def diagonals(rows, columns, la, lb):
        del la, lb
        return by_diagonals(rows, columns)

    return jax.lax.platform_dependent(rows, columns, la, lb, cpu=by_cells, default=diagonals)


def by_cells(a: EncodedLayers, b: EncodedLayers, la: ArrayLike, lb: ArrayLike) -> jax.Array:
    """The edit distance of layer sequences, row by row and cell by cell.

    Args:
        a: fields [l, ...] and [h, l, ...]; the axes after the layers are pairs, and broadcast.
        b: fields [k, ...] and [h, k, ...].
        la: int[], layers of `a` that are looked at, at most l; the others are padding.
        lb: int[], the same of `b`.

    Returns:
        float32[...].
    """
    pairs = jnp.broadcast_shapes(a.kind.shape[1:], b.kind.shape[1:])
    inserted = jnp.cumsum(b.cost, 0)
    inserted = jnp.broadcast_to(inserted, (len(inserted), *pairs))
    first = jnp.concatenate([jnp.zeros((1, *pairs), b.cost.dtype), inserted])

    def row(i: jax.Array, last: jax.Array) -> jax.Array:
        layer = _layer(a, i)

        def cell(j: jax.Array, carry):
            table, left, corner = carry
            column, above = _layer(b, j), _pick(table, j + 1)
            best = jnp.minimum(left + column.cost, above + layer.cost)
            best = jnp.minimum(best, corner + layer_distance(layer, column))
            return jax.lax.dynamic_update_index_in_dim(table, best, j + 1, 0), best, above

        deleted = last[0] + layer.cost
        return jax.lax.fori_loop(0, lb, cell, (last.at[0].set(deleted), deleted, last[0]))[0]

    return _pick(jax.lax.fori_loop(0, la, row, first), lb)


def _layer(encoded: EncodedLayers, index: jax.Array) -> EncodedLayers:
    of_layers = (_pick(x, index) for x in (encoded.kind, encoded.family, encoded.cost))
    return EncodedLayers(*of_layers, sizes=_pick(encoded.sizes, index, 1))


def _pick(x: ArrayLike, index: ArrayLike, axis: int = 0) -> jax.Array:
    # Not x[index], which would check for a negative index in every cell.
    return jax.lax.dynamic_index_in_dim(jnp.asarray(x), index, axis, keepdims=False)


def by_diagonals(a: EncodedLayers, b: EncodedLayers) -> jax.Array:
    """The same, anti-diagonal by anti-diagonal: each depends on the two before it alone.

    Args:
        a: fields [la, ...] and [h, la, ...]; the axes after the layers are pairs, and broadcast.
        b: fields [lb, ...] and [h, lb, ...].

    Returns:
        float32[...].
    """
    la, lb = a.kind.shape[0], b.kind.shape[0]
    pairs = jnp.broadcast_shapes(a.kind.shape[1:], b.kind.shape[1:])
    if la == 0 or lb == 0:
        return jnp.broadcast_to(jnp.sum(a.cost, 0) + jnp.sum(b.cost, 0), pairs)
    # Entry i of an anti-diagonal meets layer i - 1 of a (a dummy for i = 0) and, when b runs
    # backwards, a window of b that moves by one with each step.
    rest = ((0, 0),) * (a.kind.ndim - 1)
    row = pad_layers(a, (1, 0), *rest, xp=jnp)
    backwards = EncodedLayers(
        jnp.flip(b.kind, 0), jnp.flip(b.family, 0), jnp.flip(b.cost, 0), jnp.flip(b.sizes, 1)
    )
    window = pad_layers(backwards, (la, la), *rest, xp=jnp)

    # Place i + 1 of an anti-diagonal holds entry i; place 0 stays infinite, outside the table.
    def step(carry, diagonal):
        before, last = carry
        start = la + lb - diagonal
        column = EncodedLayers(
            jax.lax.dynamic_slice_in_dim(window.kind, start, la + 1, 0),
            jax.lax.dynamic_slice_in_dim(window.family, start, la + 1, 0),
            jax.lax.dynamic_slice_in_dim(window.cost, start, la + 1, 0),
            jax.lax.dynamic_slice_in_dim(window.sizes, start, la + 1, 1),
        )
        deleted = last[:-1] + row.cost
        inserted = last[1:] + column.cost
        replaced = before[:-1] + layer_distance(row, column)
        best = jnp.minimum(jnp.minimum(deleted, inserted), replaced)
        return (last, before.at[1:].set(best)), None

    outside = jnp.full((la + 2, *pairs), jnp.inf, a.cost.dtype)
    (_, last), _ = jax.lax.scan(step, (outside, outside.at[1].set(0)), jnp.arange(1, la + lb + 1))
    return last[la + 1]
