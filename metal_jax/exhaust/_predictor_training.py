"""Training and applying the members of the LSTM predictor.

Legend: r training runs, n runs, m members, o outputs.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from metal_jax._core.sharding import over_replicas, split_items
from metal_jax.exhaust._predictor_checkpoint import PredictorCheckpoint
from metal_jax.exhaust._predictor_inputs import Inputs
from metal_jax.exhaust._predictor_network import LstmNetwork, NetworkConfig, apply_network
from metal_jax.exhaust._tokens import PADDING, UNKNOWN

_MAX_GRADIENT = 1.0
_MIN_LOG_SCALE = -5.0
_NUM_CHUNKS = 24  # of a training that is watched


@dataclasses.dataclass(frozen=True)
class PredictorConfig:
    """Settings of `fit_predictor`; one default serves all sets of logs.

    Attributes:
        network: sizes.
        num_members: m, of the ensemble; 2 or more, since each leaves a part out.
        num_steps: optimiser steps.
        batch_size: runs in a step.
        learning_rate: the highest of a cosine schedule with a warm-up of a twentieth.
        weight_decay: of AdamW.
        dropout: rates, before and after the last hidden layer, that the members take in turn. Logs
            with little noise want none and noisy ones much: how well each rate predicts the runs
            that its members left out decides how much they count, target by target.
        auxiliary_weight: weight of all auxiliary targets together; each target has weight 1.
        ranking_weight: of the pairwise logistic ranking loss beside the absolute error.
        unknown_rate: share of layers whose kind is hidden in a step, so that the network learns
            what to make of kinds that it has not met; their sizes stay.
    """

    network: NetworkConfig = NetworkConfig()
    num_members: int = 8
    num_steps: int = 1200
    batch_size: int = 64
    learning_rate: float = 5e-3
    weight_decay: float = 0.3
    dropout: tuple[float, ...] = (0.0, 0.3)
    auxiliary_weight: float = 0.3
    ranking_weight: float = 0.0
    unknown_rate: float = 0.02

    def __post_init__(self) -> None:
        if self.num_members < 2 or self.num_steps < 1 or self.batch_size < 2:
            raise ValueError(
                f"got {self.num_members} members, {self.num_steps} steps and batches of "
                f"{self.batch_size}, expected at least 2, 1 and 2"
            )
        object.__setattr__(self, "dropout", tuple(self.dropout))
        if not 1 <= len(self.dropout) <= self.num_members:
            raise ValueError(
                f"dropout: got {len(self.dropout)} rates, expected 1 to {self.num_members}"
            )
        if not all(0 <= rate < 1 for rate in self.dropout):
            raise ValueError(f"dropout: got {self.dropout}, expected rates from 0 up to 1")

    @property
    def member_rate(self) -> np.ndarray:
        """int[m], which of the rates each member takes."""
        return np.arange(self.num_members) % len(self.dropout)


def leave_out(num: int, num_members: int, key: jax.Array) -> np.ndarray:
    """int[r], the member that leaves a run out."""
    order = np.asarray(jax.random.permutation(key, num))
    part = np.empty(num, np.int64)
    part[order] = np.arange(num) % num_members
    return part


def trained_on(part: np.ndarray, member: int) -> np.ndarray:
    """The runs that a member trains on: as many for each, so one with a smaller part skips some."""
    num = len(part) - -(-len(part) // (part.max() + 1))
    return np.flatnonzero(part != member)[:num]


OnProgress = Callable[[int, int], None]
"""Called with the steps taken so far and those in all, from 0 on."""


def train_members(
    keys: jax.Array,
    arrays: Inputs,
    values: jax.Array,
    rows: jax.Array,
    weights: jax.Array,
    *,
    network: LstmNetwork,
    config: PredictorConfig,
    mesh: Mesh | None = None,
    on_progress: OnProgress | None = None,
    checkpoint: PredictorCheckpoint | None = None,
) -> Any:
    """Parameters of all members: one loop over steps, mapped over members.

    A mesh (from `training_mesh`) spreads the members over its "replica" axis, and the runs of each
    batch over its "data" axis. To tell of progress or to save a checkpoint the loop is left a few
    times; the steps are the same.
    """
    watched = on_progress is not None or checkpoint is not None
    chunk = -(-config.num_steps // _NUM_CHUNKS) if watched else config.num_steps
    state, first = _start_members(keys, arrays, network=network, config=config, mesh=mesh), 0
    if checkpoint is not None:
        state, first = checkpoint.read(state)
    while True:
        if on_progress is not None:
            on_progress(first, config.num_steps)
        if first == config.num_steps:
            return state[0]
        last = min(first + chunk, config.num_steps)
        bounds = jnp.asarray([first, last], jnp.int32)
        state = _train_steps(
            state,
            bounds,
            keys,
            arrays,
            values,
            rows,
            weights,
            network=network,
            config=config,
            mesh=mesh,
        )
        if checkpoint is not None:
            checkpoint.write(state, last)
        if watched:
            jax.block_until_ready(state)
        first = last


def _optimiser(config: PredictorConfig) -> optax.GradientTransformation:
    warm_up = config.num_steps // 20
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, warm_up, config.num_steps
    )
    return optax.chain(
        optax.clip_by_global_norm(_MAX_GRADIENT),
        optax.adamw(schedule, weight_decay=config.weight_decay),
    )


@functools.partial(jax.jit, static_argnames=("network", "config", "mesh"))
def _start_members(
    keys: jax.Array,
    arrays: Inputs,
    *,
    network: LstmNetwork,
    config: PredictorConfig,
    mesh: Mesh | None,
) -> Any:
    """Parameters and optimiser states before the first step."""

    def member(key: jax.Array, arrays: Inputs) -> Any:
        init_key, _ = jax.random.split(key)
        params = network.init(init_key, jax.tree.map(lambda x: x[:1], arrays))
        return params, _optimiser(config).init(params)

    return over_replicas(member, (0, None), mesh)(keys, arrays)


@functools.partial(jax.jit, static_argnames=("network", "config", "mesh"))
def _train_steps(
    state: Any,
    bounds: jax.Array,
    keys: jax.Array,
    arrays: Inputs,
    values: jax.Array,
    rows: jax.Array,
    weights: jax.Array,
    *,
    network: LstmNetwork,
    config: PredictorConfig,
    mesh: Mesh | None,
) -> Any:
    """The state after the steps `bounds[0]` up to `bounds[1]`, the same program for any."""
    optimiser = _optimiser(config)
    batch_size = min(config.batch_size, rows.shape[1])

    def loss(params, batch, values, dropout, key):
        location, log_scale = apply_network(network, params, batch, dropout, key)
        known = ~jnp.isnan(values)
        values = jnp.where(known, values, 0)
        share = jnp.where(known, weights, 0) / len(values)
        error = jnp.abs(location - values)
        log_scale = jnp.maximum(log_scale, _MIN_LOG_SCALE)
        # A Laplace likelihood of the error, for the scale alone.
        misfit = jax.lax.stop_gradient(error) * jnp.exp(-log_scale) + log_scale
        total = jnp.sum(share * (error + misfit))
        if config.ranking_weight:
            total += config.ranking_weight * _ranking_loss(location, values, known, weights)
        return total

    def member(
        state: Any,
        key: jax.Array,
        rows: jax.Array,
        dropout: jax.Array,
        bounds: jax.Array,
        arrays: Inputs,
        values: jax.Array,
    ):
        _, run_key = jax.random.split(key)

        def step(number, state):
            params, opt_state = state
            step_key = jax.random.fold_in(run_key, number)
            batch_key, dropout_key, unknown_key = jax.random.split(step_key, 3)
            chosen = rows[jax.random.randint(batch_key, (batch_size,), 0, len(rows))]
            batch = jax.tree.map(lambda x: x[chosen], arrays)
            batch = _hide_kinds(batch, config.unknown_rate, unknown_key)
            batch, known = split_items((batch, values[chosen]), mesh)
            grads = jax.grad(loss)(params, batch, known, dropout, dropout_key)
            updates, opt_state = optimiser.update(grads, opt_state, params)
            return optax.apply_updates(params, updates), opt_state

        return jax.lax.fori_loop(bounds[0], bounds[1], step, state)

    rates = jnp.asarray(np.array(config.dropout)[config.member_rate], jnp.float32)
    mapped = over_replicas(member, (0, 0, 0, 0, None, None, None), mesh)
    return mapped(state, keys, rows, rates, bounds, arrays, values)


def _hide_kinds(batch: Inputs, rate: float, key: jax.Array) -> Inputs:
    """Make a share of the layers unknown."""

    def hide(ids: jax.Array, key: jax.Array) -> jax.Array:
        hidden = jax.random.bernoulli(key, rate, ids.shape) & (ids != PADDING)
        return jnp.where(hidden, UNKNOWN, ids)

    layer_key, path_key = jax.random.split(key)
    return batch._replace(
        ids=hide(jnp.asarray(batch.ids), layer_key),
        path_ids=hide(jnp.asarray(batch.path_ids), path_key),
    )


def _ranking_loss(
    location: jax.Array, values: jax.Array, known: jax.Array, weights: jax.Array
) -> jax.Array:
    """Logistic loss over the pairs of a batch (Burges et al. 2005, RankNet, section 3)."""
    above = (values[:, None] > values[None]) & known[:, None] & known[None]
    pairs = jax.nn.softplus(location[None] - location[:, None])
    total = jnp.sum(jnp.where(above, pairs, 0), (0, 1)) / jnp.maximum(jnp.sum(above, (0, 1)), 1)
    return jnp.sum(weights * total)


@functools.partial(jax.jit, static_argnames=("network",))
def _apply_all(params: Any, arrays: Inputs, *, network: LstmNetwork):
    location, log_scale = jax.vmap(lambda p: apply_network(network, p, arrays))(params)
    return location, jnp.exp(jnp.maximum(log_scale, _MIN_LOG_SCALE))


def apply_members(
    params: Any, network: LstmNetwork, arrays: Inputs
) -> tuple[np.ndarray, np.ndarray]:
    """Location and scale of every member, float64[m, n, o], standardised."""
    location, scale = _apply_all(params, jax.tree.map(jnp.asarray, arrays), network=network)
    return np.asarray(location, np.float64), np.asarray(scale, np.float64)
