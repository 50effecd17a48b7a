"""The compiled loop over optimiser steps, written for one replica and mapped over replicas.

The number of steps is an argument of the loop, not a part of its shape: a step is computed by the
same instructions in a chunk of any length, so that the chunk length cannot change a bit of the
result.

Legend: r replicas, n items, b of a batch, k batches of a block.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from metal_jax._core.batches import epoch_order
from metal_jax._core.sharding import over_replicas, split_items, split_wide
from metal_jax._core.training_state import TrainState

Loss = Callable[[Any, Any, jax.Array], Any]
"""`loss(params, batch, key)` -> the mean loss of the batch, or the mean and its weight.

The key drives dropout. The weight is what the mean was divided by: the means of micro-batches are
joined by it. Without it all of them count the same.

Where replicas have settings of their own, both the loss and the update of the optimiser (see
`optax.GradientTransformationExtraArgs`) are called with `settings=`, a mapping from names to the
replica's values.
"""


class StepOptions(NamedTuple):
    """What the compiled steps depend on beside the functions; see `TrainingConfig`."""

    batch_size: int
    micro_batches: int
    ema_decay: float


@functools.partial(
    jax.jit,
    static_argnames=("loss", "optimiser", "options", "streamed", "data_axes", "mesh"),
    donate_argnames=("state",),
)
def run_steps(
    state: TrainState,
    data: Any,
    first_step: jax.Array,
    num_steps: jax.Array,
    *,
    loss: Loss,
    optimiser: optax.GradientTransformation,
    options: StepOptions,
    streamed: bool,
    data_axes: Any,
    mesh: Mesh | None,
) -> tuple[TrainState, jax.Array]:
    """A number of steps of every replica.

    Args:
        state: donated.
        data: pytree of all n items, or, if `streamed`, of a block of k batches: [k, b, ...].
        first_step: int32[], the number of the first step.
        num_steps: int32[], how many; at most k if `streamed`.
        loss: see `Loss`.
        optimiser: an optax transformation.
        options: sizes.
        streamed: whether the batches are given.
        data_axes: of the replicas in `data`.
        mesh: from `training_mesh`.

    Returns:
        The state, and float[r], the sum of the losses of the steps.
    """

    def run(state: TrainState, data: Any, first_step: jax.Array, num_steps: jax.Array):
        order_key, noise_key = jax.random.split(state.key)
        own = {} if state.settings is None else {"settings": state.settings}
        own_loss = functools.partial(loss, **own)
        fetch, order = (
            (functools.partial(_pick, data), None)
            if streamed
            else _shuffled(data, order_key, first_step, options.batch_size)
        )

        def body(i: jax.Array, carry: Any) -> Any:
            params, opt_state, average, order, total = carry
            step = first_step + i
            order, batch = fetch(order, step, i)
            key = jax.random.fold_in(noise_key, step)
            value, grads = _gradient(own_loss, params, batch, key, options.micro_batches, mesh)
            updates, opt_state = optimiser.update(grads, opt_state, params, **own)
            params = optax.apply_updates(params, updates)
            if options.ema_decay:
                average = optax.incremental_update(params, average, 1 - options.ema_decay)
            return params, opt_state, average, order, total + value.astype(total.dtype)

        start = (state.params, state.opt_state, state.average, order, jnp.zeros(()))
        params, opt_state, average, _, total = jax.lax.fori_loop(0, num_steps, body, start)
        state = state._replace(params=params, opt_state=opt_state, average=average)
        return state, total

    in_axes = (0, data_axes, None, None)
    state, total = over_replicas(run, in_axes, mesh)(state, data, first_step, num_steps)
    return split_wide(state, mesh), total


def _pick(block: Any, order: None, step: jax.Array, i: jax.Array) -> tuple[None, Any]:
    """The i-th batch of a block."""
    return order, jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), block)


def _shuffled(data: Any, key: jax.Array, first_step: jax.Array, batch_size: int):
    """A function that fetches a step's batch, and the order of the first step's epoch.

    An epoch takes every item once in random order; those left at its end, fewer than b, are
    skipped. The order is carried from step to step and drawn anew at the start of an epoch.
    """
    num_items = jax.tree.leaves(data)[0].shape[0]
    if not num_items:
        raise ValueError("training needs at least one item")
    batch_size = min(batch_size, num_items)
    per_epoch = num_items // batch_size

    def fetch(order: jax.Array, step: jax.Array, i: jax.Array) -> tuple[jax.Array, Any]:
        position = step % per_epoch
        # Steps are numbered alike in all replicas, so that this stays a branch under vmap.
        order = jax.lax.cond(
            position == 0, lambda: epoch_order(key, step // per_epoch, num_items), lambda: order
        )
        rows = jax.lax.dynamic_slice_in_dim(order, position * batch_size, batch_size)
        return order, jax.tree.map(lambda x: x[rows], data)

    return fetch, epoch_order(key, first_step // per_epoch, num_items)


def _gradient(
    loss: Loss, params: Any, batch: Any, key: jax.Array, micro_batches: int, mesh: Mesh | None
) -> tuple[jax.Array, Any]:
    """Loss and gradient of a batch, a micro-batch at a time."""

    def weighted(params: Any, batch: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = loss(params, split_items(batch, mesh), key)
        value, weight = found if isinstance(found, tuple) else (found, jnp.ones_like(found))
        return value, jax.lax.stop_gradient(weight).astype(value.dtype)

    differentiate = jax.value_and_grad(weighted, has_aux=True)
    if micro_batches == 1:
        (value, _), grads = differentiate(params, batch, key)
        return value, grads
    size = jax.tree.leaves(batch)[0].shape[0]
    if size % micro_batches:
        raise ValueError(
            f"got a batch of {size} items, expected a multiple of micro_batches, {micro_batches}"
        )
    # Neighbours go to different micro-batches: a device's share of the batch stays with it.
    parts = jax.tree.map(
        lambda x: jnp.swapaxes(x.reshape(-1, micro_batches, *x.shape[1:]), 0, 1), batch
    )

    def add(carry: Any, part: Any) -> tuple[Any, None]:
        number, batch = part
        (value, weight), grads = differentiate(params, batch, jax.random.fold_in(key, number))
        terms = (jax.tree.map(lambda g: weight.astype(g.dtype) * g, grads), weight * value, weight)
        return jax.tree.map(jnp.add, carry, terms), None

    value = jax.eval_shape(weighted, params, jax.tree.map(lambda x: x[0], parts), key)[0]
    zero = jnp.zeros((), value.dtype)
    start = (jax.tree.map(jnp.zeros_like, params), zero, zero)
    (grads, value, weight), _ = jax.lax.scan(add, start, (jnp.arange(micro_batches), parts))
    scale = jnp.where(weight > 0, 1 / jnp.where(weight > 0, weight, 1), 0)
    return value * scale, jax.tree.map(lambda g: scale.astype(g.dtype) * g, grads)
