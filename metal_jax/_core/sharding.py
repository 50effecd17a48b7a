"""Spreading items and replicas over devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

DATA_AXIS = "data"
REPLICA_AXIS = "replica"
MODEL_AXIS = "model"

_MIN_SHARE = 128  # outputs of a layer on each device, under which splitting it saves nothing


def data_mesh(num_devices: int | None = None, *, local: bool = False) -> Mesh:
    """A mesh of the first `num_devices` devices (all by default) along one axis, "data".

    Args:
        num_devices: how many.
        local: of this process alone, where there are several.

    Returns:
        The mesh.

    Example:
        >>> dict(data_mesh(1).shape)
        {'data': 1}
    """
    return _line(DATA_AXIS, jax.local_devices() if local else jax.devices(), num_devices)


def replica_mesh(num_devices: int | None = None) -> Mesh:
    """A mesh of the first `num_devices` devices (all by default) along one axis, "replica".

    Args:
        num_devices: how many; all by default.

    Returns:
        The mesh; its axis shards over replicas.

    Example:
        >>> dict(replica_mesh(1).shape)
        {'replica': 1}
    """
    return _line(REPLICA_AXIS, jax.devices(), num_devices)


def _line(axis: str, devices: Sequence[Any], num_devices: int | None) -> Mesh:
    devices = devices[:num_devices]
    return jax.make_mesh((len(devices),), (axis,), axis_types=(AxisType.Auto,), devices=devices)


def sum_over_data(
    function: Callable[[jax.Array], Any], items: jax.Array, mesh: Mesh, *, fill: float
) -> Any:
    """Sum of `function` over the shards of `items`, padded with rows of `fill` to equal shards.

    The function must be additive over items, and `fill` rows must add nothing. It may return a
    pytree.
    """
    return jax.shard_map(
        lambda shard: jax.lax.psum(function(shard), DATA_AXIS),
        mesh=mesh,
        in_specs=PartitionSpec(DATA_AXIS),
        out_specs=PartitionSpec(),
        check_vma=False,
    )(_padded(items, mesh, fill))


def map_over_data(
    function: Callable[[jax.Array], jax.Array], items: jax.Array, mesh: Mesh, *, fill: float
) -> jax.Array:
    """`function`, which treats each item by itself, on the shards of `items`."""
    mapped = jax.shard_map(
        function,
        mesh=mesh,
        in_specs=PartitionSpec(DATA_AXIS),
        out_specs=PartitionSpec(DATA_AXIS),
        check_vma=False,
    )(_padded(items, mesh, fill))
    return mapped[: items.shape[0]]


def _padded(items: jax.Array, mesh: Mesh, fill: float) -> jax.Array:
    padding = -items.shape[0] % mesh.shape[DATA_AXIS]
    widths = ((0, padding), *((0, 0),) * (items.ndim - 1))
    return jnp.pad(items, widths, constant_values=fill) if padding else items


def spread_items(tree: Any, num_items: int, mesh: Mesh) -> Any:
    """Arrays on the devices of a mesh, those of items spread over its "data" axis.

    Args:
        tree: pytree of arrays.
        num_items: n; arrays with a leading axis of n are padded with zeros to equal shards.
        mesh: with an axis "data".

    Returns:
        The tree; other arrays are on all devices.
    """

    def put(x: jax.Array) -> jax.Array:
        if x.ndim < 2 or x.shape[0] != num_items:
            return jax.device_put(x, NamedSharding(mesh, PartitionSpec()))
        host = np.asarray(x)
        padding = -num_items % mesh.shape[DATA_AXIS]
        host = np.pad(host, ((0, padding), *((0, 0),) * (host.ndim - 1)))
        return jax.device_put(host, NamedSharding(mesh, PartitionSpec(DATA_AXIS)))

    return jax.tree.map(put, tree)


def off_mesh(tree: Any, mesh: Mesh | None) -> Any:
    """Results that are whole on every device of a mesh, on the default device alone."""
    if mesh is None:
        return tree
    return jax.tree.map(lambda x: jax.device_put(np.asarray(x)), tree)


def training_mesh(mesh: Mesh | None) -> Mesh | None:
    """The mesh with axes that the compiler partitions, after a check of their names.

    Args:
        mesh: axes "replica", "data", "model", or some of them in any order.

    Returns:
        The same devices and names; None for None.

    Raises:
        ValueError: another axis, or a model axis with several processes.
    """
    if mesh is None:
        return None
    for name in mesh.axis_names:
        if name not in (known := (REPLICA_AXIS, DATA_AXIS, MODEL_AXIS)):
            raise ValueError(f"mesh: got axis {name!r}, expected some of {known}")
    if MODEL_AXIS in mesh.axis_names and jax.process_count() > 1:
        raise ValueError("mesh: a model axis is for the devices of one process")
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))


def axis_size(mesh: Mesh | None, axis: str) -> int:
    """Devices along an axis; 1 where there is no such axis."""
    return 1 if mesh is None else mesh.shape.get(axis, 1)


def over_replicas(
    function: Callable[..., Any], in_axes: tuple[Any, ...], mesh: Mesh | None
) -> Callable[..., Any]:
    """`function` for every replica: mapped, and spread over the mesh's "replica" axis, if any.

    Args:
        function: of one replica; may use `split_items` inside.
        in_axes: for each argument 0, or None where shared, or a pytree of them.
        mesh: from `training_mesh`.

    Returns:
        A function whose results all have a leading axis of replicas.
    """
    mapped = jax.vmap(function, in_axes=in_axes)
    if mesh is None or REPLICA_AXIS not in mesh.axis_names:
        return mapped
    specs = tree_map_axes(lambda axis, _: _spec(mesh, axis), in_axes, in_axes)
    # "data" stays with the compiler: only the replicas are known to need nothing of one another.
    return jax.shard_map(
        mapped,
        mesh=mesh,
        in_specs=specs,
        out_specs=PartitionSpec(REPLICA_AXIS),
        axis_names={REPLICA_AXIS},
        check_vma=False,
    )


def split_items(batch: Any, mesh: Mesh | None) -> Any:
    """Spread the items of a batch, the leading axis, over the mesh's "data" axis, if any.

    Args:
        batch: pytree of arrays with a leading axis of b items, inside a function under `jax.jit`.
        mesh: from `training_mesh`.

    Returns:
        The batch; what is computed from it is partitioned, and gradients are summed, by XLA.

    Raises:
        ValueError: b does not split evenly.
    """
    size = axis_size(mesh, DATA_AXIS)
    if mesh is None or DATA_AXIS not in mesh.axis_names:
        return batch
    spec = PartitionSpec(DATA_AXIS)
    # Inside `shard_map` the mesh is that of the context, with "replica" already taken.
    sharding = spec if REPLICA_AXIS in mesh.axis_names else NamedSharding(mesh, spec)

    def split(x: jax.Array) -> jax.Array:
        if x.shape[0] % size:
            raise ValueError(
                f"got a batch of {x.shape[0]} items, expected a multiple of the {size} devices "
                "of the data axis"
            )
        return jax.lax.with_sharding_constraint(x, sharding)

    return jax.tree.map(split, batch)


def split_wide(state: Any, mesh: Mesh | None) -> Any:
    """Spread wide layers and heads over the mesh's "model" axis, if any, by their outputs.

    XLA computes each device's outputs from its own weights, and gathers what needs all of them
    (the softmax of a head, the next layer).

    Args:
        state: pytree of arrays with a leading axis of replicas: parameters and whatever an
            optimiser keeps for them. Split are those of two axes or more beside it whose last one
            divides into shares of at least 128.
        mesh: from `training_mesh`.

    Returns:
        The tree; inside `jax.jit` a constraint on its results.
    """
    size = axis_size(mesh, MODEL_AXIS)
    if mesh is None or size == 1:
        return state

    def split(x: Any) -> Any:
        if x.ndim < 3 or x.shape[-1] % size or x.shape[-1] < _MIN_SHARE * size:
            return x
        spec = [*_spec(mesh, 0), *[None] * x.ndim][: x.ndim - 1]
        sharding = NamedSharding(mesh, PartitionSpec(*spec, MODEL_AXIS))
        if isinstance(x, Tracer):
            return jax.lax.with_sharding_constraint(x, sharding)
        return jax.device_put(x, sharding)

    return jax.tree.map(split, state)


def place(
    tree: Any,
    axes: Any,
    mesh: Mesh | None,
    items_axis: int | None = None,
    *,
    own_share: bool = False,
) -> Any:
    """Arrays on the devices where `over_replicas` wants them.

    Args:
        tree: pytree of arrays.
        axes: of the replicas, as `in_axes` of `over_replicas`.
        mesh: from `training_mesh`.
        items_axis: axis of one replica's arrays to split over "data", where it splits evenly; None
            copies them to all devices of that axis.
        own_share: of several processes each gives its own share of the items, rather than all.

    Returns:
        The tree.
    """
    if mesh is None:
        return jax.tree.map(jnp.asarray, tree)

    def put(axis: int | None, part: Any) -> Any:
        def one(x: jax.Array | np.ndarray) -> jax.Array:
            if jax.process_count() > 1 and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
                # Keys of one process do not move to devices of others; the numbers in them do.
                data = one(np.asarray(jax.random.key_data(x)))
                return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
            spec = list(_spec(mesh, axis))
            at = None if items_axis is None else items_axis + (axis is not None)
            size = axis_size(mesh, DATA_AXIS)
            if own_share and at is not None and jax.process_count() > 1:
                spec += [None] * (at - len(spec)) + [DATA_AXIS]
                sharding = NamedSharding(mesh, PartitionSpec(*spec))
                return jax.make_array_from_process_local_data(sharding, np.asarray(x))
            if at is not None and size > 1 and x.ndim > at and x.shape[at] % size == 0:
                spec += [None] * (at - len(spec)) + [DATA_AXIS]
            return jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))

        return jax.tree.map(one, part)

    return tree_map_axes(put, axes, tree)


def pad_replicas(tree: Any, axes: Any, padding: int) -> Any:
    """Repeat the last replica of every array that has a replicas' axis.

    Args:
        tree: pytree of arrays, or typed keys.
        axes: as `in_axes` of `over_replicas`.
        padding: how often.

    Returns:
        The tree.
    """

    def pad(axis: int | None, part: Any) -> Any:
        if axis is None:
            return part
        return jax.tree.map(lambda x: jnp.concatenate([x, *[x[-1:]] * padding]), part)

    return tree_map_axes(pad, axes, tree) if padding else tree


def tree_map_axes(function: Callable[..., Any], axes: Any, *trees: Any) -> Any:
    """`function(axis, *parts)` over a prefix tree of axes, in which None is an axis too."""
    return jax.tree.map(function, axes, *trees, is_leaf=lambda axis: axis is None)


def _spec(mesh: Mesh | None, axis: int | None) -> PartitionSpec:
    spread = axis is not None and mesh is not None and REPLICA_AXIS in mesh.axis_names
    return PartitionSpec(REPLICA_AXIS) if spread else PartitionSpec()
