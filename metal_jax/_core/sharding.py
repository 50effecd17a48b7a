"""Spreading items over devices."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, PartitionSpec

DATA_AXIS = "data"


def data_mesh(num_devices: int | None = None) -> Mesh:
    """A mesh of the first `num_devices` devices (all by default) along one axis, "data"."""
    devices = jax.devices()[:num_devices]
    return jax.make_mesh(
        (len(devices),), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=devices
    )


def sum_over_data(
    function: Callable[[jax.Array], jax.Array], items: jax.Array, mesh: Mesh, *, fill: float
) -> jax.Array:
    """Sum of `function` over the shards of `items`, padded with rows of `fill` to equal shards.

    The function must be additive over items, and `fill` rows must add nothing.
    """
    padding = -items.shape[0] % mesh.shape[DATA_AXIS]
    items = jnp.pad(items, ((0, padding), *((0, 0),) * (items.ndim - 1)), constant_values=fill)
    return jax.shard_map(
        lambda shard: jax.lax.psum(function(shard), DATA_AXIS),
        mesh=mesh,
        in_specs=PartitionSpec(DATA_AXIS),
        out_specs=PartitionSpec(),
        check_vma=False,
    )(items)
