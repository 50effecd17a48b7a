"""State of the training engine, how it starts and how it is evaluated.

Both programs are written for one replica and mapped over r replicas.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from metal_jax._core.sharding import over_replicas, split_wide

Init = Callable[[jax.Array, Any], Any]
"""`init(key, batch)` -> parameters of one replica, for batches like this one of a single item."""

Score = Callable[[Any, Any], Any]
"""`score(params, validation)` -> a scalar, called "loss", or a dict or NamedTuple of scalars."""


class TrainState(NamedTuple):
    """State of the replicas; every array has a leading axis of r.

    Attributes:
        params: current parameters.
        opt_state: the optimiser's state.
        average: exponential moving sum of the parameters, from zero; None without averaging.
        key: the replica's key; batches and dropout are folded out of it, it never changes.
        best_params: parameters of the best watched score, the averaged ones with averaging.
        best_score: float[r], that score.
        best_step: int32[r], the step it was reached at.
        stale: int32[r], evaluations since.
        settings: name -> float[r, ...], what the replicas' losses and optimisers differ in; None
            where they are alike.
    """

    params: Any
    opt_state: Any
    average: Any
    key: jax.Array
    best_params: Any
    best_score: jax.Array
    best_step: jax.Array
    stale: jax.Array
    settings: Any = None


@functools.partial(
    jax.jit,
    static_argnames=("init", "optimiser", "averaged", "lower_is_better", "data_axes", "mesh"),
)
def start(
    keys: jax.Array,
    data: Any,
    *,
    init: Init,
    optimiser: optax.GradientTransformation,
    averaged: bool,
    lower_is_better: bool,
    data_axes: Any,
    mesh: Mesh | None,
) -> TrainState:
    """The state before the first step.

    Args:
        keys: r typed keys, consumed.
        data: pytree of all n items, or of a batch.
        init: see `Init`.
        optimiser: an optax transformation.
        averaged: whether a moving average is kept.
        lower_is_better: of the watched score.
        data_axes: of the replicas in `data`.
        mesh: from `training_mesh`.

    Returns:
        The state.
    """

    def one(key: jax.Array, data: Any) -> TrainState:
        init_key, run_key = jax.random.split(key)
        params = init(init_key, jax.tree.map(lambda x: x[:1], data))
        worst = jnp.inf if lower_is_better else -jnp.inf
        return TrainState(
            params,
            optimiser.init(params),
            jax.tree.map(jnp.zeros_like, params) if averaged else None,
            run_key,
            jax.tree.map(jnp.copy, params),
            jnp.full((), worst, jnp.result_type(float)),
            jnp.int32(0),
            jnp.int32(0),
        )

    return split_wide(over_replicas(one, (0, data_axes), mesh)(keys, data), mesh)


@functools.partial(
    jax.jit,
    static_argnames=("score", "watch", "lower_is_better", "ema_decay", "validation_axes", "mesh"),
    donate_argnames=("state",),
)
def evaluate(
    state: TrainState,
    validation: Any,
    step: jax.Array,
    *,
    score: Score,
    watch: str,
    lower_is_better: bool,
    ema_decay: float,
    validation_axes: Any,
    mesh: Mesh | None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Scores of every replica; its best parameters are replaced where they are beaten.

    Args:
        state: donated.
        validation: handed to `score`.
        step: int32[], steps taken.
        score: see `Score`.
        watch: name of the score that decides.
        lower_is_better: of that score; NaN is never better.
        ema_decay: of the average that is evaluated; 0 for the parameters themselves.
        validation_axes: of the replicas in `validation`.
        mesh: from `training_mesh`.

    Returns:
        The state, and name -> float[r].
    """

    def run(state: TrainState, validation: Any, step: jax.Array):
        params = state.params
        if ema_decay:
            # The sum of the weights so far, exact for decays close to one.
            total = -jnp.expm1(step.astype(state.best_score.dtype) * math.log(ema_decay))
            params = jax.tree.map(lambda x: x / total.astype(x.dtype), state.average)
        scores = named_scores(score(params, validation), watch)
        value = scores[watch].astype(state.best_score.dtype)
        better = value < state.best_score if lower_is_better else value > state.best_score
        best_params = jax.tree.map(
            lambda new, old: jnp.where(better, new, old), params, state.best_params
        )
        state = state._replace(
            best_params=best_params,
            best_score=jnp.where(better, value, state.best_score),
            best_step=jnp.where(better, step, state.best_step),
            stale=jnp.where(better, 0, state.stale + 1),
        )
        return state, scores

    state, scores = over_replicas(run, (0, validation_axes, None), mesh)(state, validation, step)
    return split_wide(state, mesh), scores


def named_scores(found: Any, watch: str) -> dict[str, jax.Array]:
    """What `Score` returned as a dict.

    Args:
        found: a scalar, or a dict or NamedTuple of scalars.
        watch: a name that must be among them.

    Returns:
        Name -> scalar.

    Raises:
        ValueError: something else than scalars, or no such name.
    """
    if isinstance(found, tuple) and hasattr(found, "_asdict"):
        found = found._asdict()  # pyright: ignore[reportAttributeAccessIssue]
    scores = {
        str(name): jnp.asarray(value)
        for name, value in (found if isinstance(found, dict) else {"loss": found}).items()
    }
    for name, value in scores.items():
        if value.shape:
            raise ValueError(f"score {name!r}: got shape {value.shape}, expected a scalar")
    if watch not in scores:
        raise ValueError(f"watch: got {watch!r}, expected one of {sorted(scores)}")
    return scores
