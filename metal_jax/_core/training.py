"""The training engine: minibatch steps in compiled chunks, replicas by vmap, early stopping.

A chunk is one `lax.scan` over optimiser steps followed by an evaluation, compiled once. Between
chunks the host looks at the scores, calls the progress callback, and decides whether to go on. The
batch of a step depends on the key and the step's number alone, so the chunk length changes nothing.

Replicas (seeds, or tasks, or both) are a leading axis of the state and, where they differ between
replicas, of the data; `jax.vmap` trains all of them in one program, and `jax.shard_map` spreads
them over the devices of a mesh.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec

Loss = Callable[[Any, Any, jax.Array], jax.Array]
"""`loss(params, batch, key) -> scalar`; the key drives dropout."""

Score = Callable[[Any, Any], jax.Array]
"""`score(params, validation) -> scalar`, lower is better."""


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Settings of `train`.

    Attributes:
        batch_size: items in a step; all of them when there are fewer.
        num_steps: most optimiser steps.
        steps_per_chunk: steps between evaluations.
        patience: stop after this many evaluations without a better score; 0 never stops early.
    """

    batch_size: int = 128
    num_steps: int = 1000
    steps_per_chunk: int = 50
    patience: int = 5

    def __post_init__(self) -> None:
        for name in ("batch_size", "num_steps", "steps_per_chunk"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected at least 1")


class TrainState(NamedTuple):
    """State of one replica.

    Attributes:
        params: current parameters.
        opt_state: the optimiser's state.
        key: the replica's key; batches and dropout are folded out of it, it never changes.
        step: int32[], steps taken.
        best_params: parameters of the best score.
        best_score: float[], lowest validation score so far.
        best_step: int32[], the step it was reached at.
        stale: int32[], evaluations since.
    """

    params: Any
    opt_state: Any
    key: jax.Array
    step: jax.Array
    best_params: Any
    best_score: jax.Array
    best_step: jax.Array
    stale: jax.Array


class TrainResult(NamedTuple):
    """Result of `train`; every array has a leading axis of r replicas.

    Attributes:
        params: the parameters of the best validation score.
        best_step: int[r], the step they were reached at.
        num_steps: steps taken by the last replica to stop.
        train_loss: float[chunks, r], mean loss over each chunk.
        valid_score: float[chunks, r], score after each chunk.
    """

    params: Any
    best_step: np.ndarray
    num_steps: int
    train_loss: np.ndarray
    valid_score: np.ndarray


def batch_indices(
    key: jax.Array, first_step: jax.Array, num_steps: int, num_items: int, batch_size: int
) -> jax.Array:
    """Items of each step: epochs of random order, a fresh one from `fold_in(key, epoch)`.

    Args:
        key: folded, not consumed.
        first_step: int32[], number of the first step.
        num_steps: steps wanted (static).
        num_items: n (static).
        batch_size: b <= n (static); the n mod b items left at the end of an epoch are skipped.

    Returns:
        int32[num_steps, b].
    """
    per_epoch = num_items // batch_size
    first_epoch = first_step // per_epoch
    num_epochs = math.ceil(num_steps / per_epoch) + 1
    epochs = first_epoch + jnp.arange(num_epochs)
    orders = jax.vmap(
        lambda epoch: jax.random.permutation(jax.random.fold_in(key, epoch), num_items)
    )(epochs)
    orders = orders[:, : per_epoch * batch_size].reshape(-1, batch_size)
    offset = first_step - first_epoch * per_epoch
    return jax.lax.dynamic_slice_in_dim(orders, offset, num_steps)


@functools.partial(
    jax.jit,
    static_argnames=("loss", "score", "optimiser", "batch_size", "num_steps", "data_axes", "mesh"),
    donate_argnames=("state",),
)
def _chunk(
    state: TrainState,
    data: Any,
    validation: Any,
    *,
    loss: Loss,
    score: Score,
    optimiser: optax.GradientTransformation,
    batch_size: int,
    num_steps: int,
    data_axes: tuple[Any, Any],
    mesh: Mesh | None,
) -> tuple[TrainState, jax.Array, jax.Array]:
    """`num_steps` steps and an evaluation of every replica."""

    def run(state: TrainState, data: Any, validation: Any):
        num_items = jax.tree.leaves(data)[0].shape[0]
        order_key, noise_key = jax.random.split(state.key)
        indices = batch_indices(order_key, state.step, num_steps, num_items, batch_size)

        def one(carry, rows):
            params, opt_state, step = carry
            batch = jax.tree.map(lambda x: x[rows], data)
            key = jax.random.fold_in(noise_key, step)
            value, grads = jax.value_and_grad(loss)(params, batch, key)
            updates, opt_state = optimiser.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state, step + 1), value

        (params, opt_state, step), losses = jax.lax.scan(
            one, (state.params, state.opt_state, state.step), indices
        )
        value = score(params, validation)
        better = value < state.best_score
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), params, state.best_params)
        state = TrainState(
            params,
            opt_state,
            state.key,
            step,
            best,
            jnp.where(better, value, state.best_score),
            jnp.where(better, step, state.best_step),
            jnp.where(better, 0, state.stale + 1),
        )
        return state, jnp.mean(losses), value

    return _replicate(run, (0, *data_axes), mesh)(state, data, validation)


def _replicate(
    function: Callable[..., Any], in_axes: tuple[Any, ...], mesh: Mesh | None
) -> Callable[..., Any]:
    """`function` for every replica: mapped, and spread over the mesh where there is one."""
    mapped = jax.vmap(function, in_axes=in_axes)
    if mesh is None:
        return mapped
    spread = PartitionSpec(mesh.axis_names[0])
    specs = jax.tree.map(
        lambda axis: PartitionSpec() if axis is None else spread,
        in_axes,
        is_leaf=lambda axis: axis is None,
    )
    return jax.shard_map(mapped, mesh=mesh, in_specs=specs, out_specs=spread, check_vma=False)


def _pad_replicas(tree: Any, axes: Any, padding: int) -> Any:
    """Repeat the last replica of every array that has a replicas' axis."""

    def pad(axis: int | None, part: Any) -> Any:
        if axis is None:
            return part
        return jax.tree.map(lambda x: jnp.concatenate([x, *[x[-1:]] * padding]), part)

    return jax.tree.map(pad, axes, tree, is_leaf=lambda axis: axis is None)


def train(
    init: Callable[[jax.Array], Any],
    loss: Loss,
    score: Score,
    optimiser: optax.GradientTransformation,
    data: Any,
    num_items: int,
    validation: Any,
    config: TrainingConfig,
    keys: jax.Array,
    *,
    data_axes: tuple[Any, Any] = (None, None),
    mesh: Mesh | None = None,
    on_progress: Callable[[int, dict[str, np.ndarray]], None] | None = None,
) -> TrainResult:
    """Train r replicas at once and keep each one's best parameters.

    Args:
        init: key -> parameters of one replica.
        loss: see `Loss`; keep the function object to keep the compiled program.
        score: see `Score`.
        optimiser: an optax transformation; likewise kept.
        data: pytree of arrays with a leading axis of n items (after the replicas' axis, if any).
        num_items: n.
        validation: pytree handed to `score`.
        config: settings.
        keys: r typed keys, consumed.
        data_axes: `vmap` axes of `data` and `validation`, as pytrees of hashable containers: None
            where shared by the replicas, 0 where the first axis is the replica's.
        mesh: one-axis mesh of devices to spread the replicas over; the data is copied to each.
        on_progress: called as `(step, {"train_loss": [r], "valid_score": [r]})` after each chunk.

    Returns:
        The best parameters and the curves.

    Raises:
        ValueError: no items.
    """
    if num_items < 1:
        raise ValueError("training needs at least one item")
    batch_size = min(config.batch_size, num_items)

    def start(key: jax.Array) -> TrainState:
        init_key, run_key = jax.random.split(key)
        params = init(init_key)
        dtype = jnp.result_type(*jax.tree.leaves(params))
        return TrainState(
            params,
            optimiser.init(params),
            run_key,
            jnp.int32(0),
            jax.tree.map(jnp.copy, params),
            jnp.asarray(jnp.inf, dtype),
            jnp.int32(0),
            jnp.int32(0),
        )

    num_replicas = len(keys)
    if mesh is not None and (padding := -num_replicas % mesh.size):
        keys = _pad_replicas(keys, 0, padding)
        data, validation = _pad_replicas((data, validation), data_axes, padding)
    state = jax.jit(_replicate(start, (0,), mesh))(keys)
    losses, scores = [], []
    step = 0
    while step < config.num_steps:
        num_steps = min(config.steps_per_chunk, config.num_steps - step)
        state, train_loss, valid_score = _chunk(
            state,
            data,
            validation,
            loss=loss,
            score=score,
            optimiser=optimiser,
            batch_size=batch_size,
            num_steps=num_steps,
            data_axes=data_axes,
            mesh=mesh,
        )
        step += num_steps
        losses.append(np.asarray(train_loss)[:num_replicas])
        scores.append(np.asarray(valid_score)[:num_replicas])
        if on_progress is not None:
            on_progress(step, {"train_loss": losses[-1], "valid_score": scores[-1]})
        if config.patience and bool((np.asarray(state.stale) >= config.patience).all()):
            break
    params = state.best_params
    if mesh is not None:
        params = jax.tree.map(lambda x: x[:num_replicas], params)
    best_step = np.asarray(state.best_step)[:num_replicas]
    return TrainResult(params, best_step, step, np.stack(losses), np.stack(scores))
