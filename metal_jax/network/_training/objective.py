"""The training objective and the validation score of a network, from a `LossConfig`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metal_jax._core.checks import check_last_axis
from metal_jax.network._compiler.build import Network
from metal_jax.network._compiler.plan import compile_plan
from metal_jax.network._training.examples import Batch
from metal_jax.network._training.loss_config import LossConfig
from metal_jax.network._training.losses import consistency_loss, soft_label_loss, task_losses
from metal_jax.network._training.task_balance import (
    STATE,
    gradient_norm_loss,
    gradient_norm_weights,
    task_gradient_norms,
    uncertainty_weighted_loss,
    with_loss_state,
)
from metal_jax.task_tree import TaskTree, task_sum

_SMALLEST_WEIGHT = 1e-6


@functools.lru_cache(maxsize=64)
def objective(
    network: Network, config: LossConfig
) -> tuple[Callable[..., jax.Array], Callable[[Any, Batch], jax.Array]]:
    """Loss and validation score of a network.

    Cached, since `jax.jit` recognises a function by identity: a second fit does not recompile.

    The loss is a mean over the weight of the items of a batch, so a task weighs by the share of
    items that it has labels for. The score leaves out what is for training only: dropout,
    consistency and learned task weights, which would make scores of different steps incomparable.

    Args:
        network: from `build`.
        config: settings.

    Returns:
        `loss(params, batch, key, settings=None)`, a scalar to differentiate, and `score(params,
        batch)`. The settings, where replicas of a training differ in them, may hold "task_weights",
        float[t], and "dropout", float[], of the network; they take the place of the configured.

    Raises:
        ValueError: task or class weights of the wrong length.
    """
    tree = network.tree
    fixed_weights = _task_weights(tree, config)
    exponent = config.robust_exponent

    def fixed_loss(log_conditionals: jax.Array, batch: Batch, node_weights: jax.Array) -> jax.Array:
        losses = soft_label_loss(
            log_conditionals, batch.node_probs, node_weights, robust_exponent=exponent
        )
        return _mean(losses, batch.weights)

    def by_task(log_conditionals: jax.Array, batch: Batch, node_weights: jax.Array) -> jax.Array:
        losses = task_losses(
            tree, log_conditionals, batch.node_probs, node_weights, robust_exponent=exponent
        )
        return _mean(losses, batch.weights)

    def by_uncertainty(
        params: Any, log_conditionals: jax.Array, batch: Batch, node_weights: jax.Array
    ) -> jax.Array:
        masses = _mean(task_sum(tree, batch.node_probs * node_weights), batch.weights)
        losses = by_task(log_conditionals, batch, node_weights)
        return uncertainty_weighted_loss(losses, masses, params[STATE]["log_variances"])

    def by_gradient_norm(
        apply: Callable[..., jax.Array],
        params: Any,
        log_conditionals: jax.Array,
        batch: Batch,
        key: jax.Array | None,
        node_weights: jax.Array,
    ) -> jax.Array:
        fixed = jax.lax.stop_gradient(params)
        layer = _shared_layer(network, config)

        def losses_of(shared: Any) -> jax.Array:
            changed = _replace(fixed, layer, shared)
            return by_task(apply(changed, batch.inputs, key), batch, node_weights)

        norms = task_gradient_norms(losses_of, shared_parameters(fixed, layer))
        losses = by_task(log_conditionals, batch, node_weights)
        guess = jnp.broadcast_to(_uniform(tree), batch.node_probs.shape)
        uniform = by_task(guess, batch, node_weights)
        weights = gradient_norm_weights(params[STATE]["log_weights"], uniform > 0)
        imbalance = gradient_norm_loss(
            weights, norms, losses, uniform, restoring_force=config.restoring_force
        )
        # Adds the gradient of the weights and nothing to the value.
        imbalance -= jax.lax.stop_gradient(imbalance)
        return jnp.sum(jax.lax.stop_gradient(weights) * losses) + imbalance

    def loss(
        params: Any,
        batch: Batch,
        key: jax.Array | None,
        settings: Mapping[str, jax.Array] | None = None,
    ) -> jax.Array:
        own = settings or {}
        apply = network.apply
        if "dropout" in own:
            apply = functools.partial(apply, dropout=own["dropout"])
        task_weights = own.get("task_weights", fixed_weights)
        node_weights = _node_weights(tree, config, task_weights)
        log_conditionals = apply(params, batch.inputs, key)
        if config.task_balance == "fixed":
            value = fixed_loss(log_conditionals, batch, node_weights)
        elif config.task_balance == "uncertainty":
            value = by_uncertainty(params, log_conditionals, batch, node_weights)
        else:
            value = by_gradient_norm(apply, params, log_conditionals, batch, key, node_weights)
        if config.consistency is None:
            return value
        teacher = network.apply(jax.lax.stop_gradient(params), batch.inputs, None)
        step = params[STATE]["step"]
        return value + _consistency(
            tree, config, task_weights, step, log_conditionals, teacher, batch
        )

    def score(params: Any, batch: Batch) -> jax.Array:
        node_weights = _node_weights(tree, config, fixed_weights)
        return fixed_loss(network.apply(params, batch.inputs, None), batch, node_weights)

    return loss, score


def _task_weights(tree: TaskTree, config: LossConfig) -> np.ndarray:
    """float32[t], after a check of the lengths."""
    if config.class_weights is not None:
        check_last_axis("class_weights", np.asarray(config.class_weights), tree.num_nodes)
    weights = np.ones(tree.num_tasks) if config.task_weights is None else config.task_weights
    weights = np.asarray(weights, np.float32)
    check_last_axis("task_weights", weights, tree.num_tasks)
    return weights


def _node_weights(
    tree: TaskTree, config: LossConfig, task_weights: np.ndarray | jax.Array
) -> jax.Array:
    """float32[N], from those of the tasks and the classes."""
    weights = jnp.asarray(task_weights[tree.node_task])
    if config.class_weights is None:
        return weights
    return weights * jnp.asarray(config.class_weights, weights.dtype)


def _mean(losses: jax.Array, weights: jax.Array) -> jax.Array:
    """Mean over the items of [b] or [b, t] losses."""
    total = jnp.sum(weights)
    if losses.ndim == 2:
        weights = weights[:, None]
    return jnp.sum(losses * weights, axis=0) / jnp.maximum(total, _SMALLEST_WEIGHT)


def _uniform(tree: TaskTree) -> jax.Array:
    """float32[N], log-probabilities of the labels when all of a task are alike."""
    widths = np.array([len(task.labels) for task in tree.tasks])
    return jnp.asarray(-np.log(widths)[tree.node_task], jnp.float32)


def _consistency(
    tree: TaskTree,
    config: LossConfig,
    task_weights: np.ndarray | jax.Array,
    step: jax.Array,
    log_conditionals: jax.Array,
    teacher: jax.Array,
    batch: Batch,
) -> jax.Array:
    """Mean over the items of the batch that have a task without a label."""
    consistency = config.consistency
    assert consistency is not None
    assert batch.unlabelled is not None
    losses = consistency_loss(
        tree,
        log_conditionals,
        teacher,
        batch.unlabelled,
        task_weights,
        threshold=consistency.threshold,
        temperature=consistency.temperature,
    )
    num_items = jnp.sum(batch.unlabelled.any(axis=-1), dtype=losses.dtype)
    progress = jnp.minimum(jax.lax.stop_gradient(step) / consistency.ramp_up_steps, 1)
    ramp = jnp.exp(-5 * (1 - progress) ** 2)
    return consistency.weight * ramp * jnp.sum(losses) / jnp.maximum(num_items, 1)


def initial_params(network: Network, config: LossConfig, key: jax.Array, inputs: Any) -> Any:
    """The network's parameters and, where the loss has a state of its own, `params["loss"]`.

    Args:
        network: from `build`.
        config: settings.
        key: consumed by `network.init`.
        inputs: for the shapes.

    Returns:
        A nested dict.

    Raises:
        ValueError: no parameters at `config.shared_layer`, where they are needed.
    """
    params = network.init(key, inputs)
    zeros = jnp.zeros(network.tree.num_tasks, jnp.float32)
    state = {}
    if config.task_balance == "uncertainty":
        state["log_variances"] = zeros
    if config.task_balance == "gradient_norm":
        shared_parameters(params, _shared_layer(network, config))
        state["log_weights"] = zeros
    if config.consistency is not None:
        state["step"] = jnp.float32(0)
    return {**params, STATE: state} if state else params


def loss_optimiser(
    optimiser: optax.GradientTransformation, config: LossConfig
) -> optax.GradientTransformation:
    """The network's optimiser, extended to the state of the loss where there is one."""
    if config.task_balance == "fixed" and config.consistency is None:
        return optimiser
    return with_loss_state(optimiser, config.balance_learning_rate)


def _shared_layer(network: Network, config: LossConfig) -> tuple[str, ...]:
    """Where the last layer lies that all tasks share."""
    if config.shared_layer is not None:
        return config.shared_layer
    names = tuple(name for name, _ in network.task_encoders)
    plan = compile_plan(network.tree, network.config, names)
    return ("tower", f"trunk_{min(head.layer for head in plan.heads)}")


def shared_parameters(params: Any, path: tuple[str, ...]) -> Any:
    """The parameters at a path; ValueError that names what is there instead."""
    found = params
    for name in path:
        if not isinstance(found, dict) or name not in found:
            names = sorted(found) if isinstance(found, dict) else "an array"
            raise ValueError(f"shared_layer: no {name!r} of {path} in the parameters, got {names}")
        found = found[name]
    return found


def _replace(params: Any, path: tuple[str, ...], value: Any) -> Any:
    if not path:
        return value
    return {**params, path[0]: _replace(params[path[0]], path[1:], value)}
