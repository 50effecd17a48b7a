r"""Task weights that are learned beside the network: by uncertainty, or by gradient norm.

The weights' state is one more entry of the parameters, `params["loss"]`, a dict of arrays that
`Network.apply` ignores. So it is trained, replicated and kept like the rest; an optimiser of its
own moves it, without weight decay.

Legend: `t` tasks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from metal_jax._core.checks import check_shape, real_array
from metal_jax._core.numerics import masked_logsumexp

STATE = "loss"
"""The entry of the parameters that holds the state of the loss."""


def uncertainty_weighted_loss(
    losses: jax.Array, masses: jax.Array, log_variances: jax.Array
) -> jax.Array:
    r"""Tasks weighted by homoscedastic uncertainty.

    .. math:: \sum_t e^{-s_t} L_t + \tfrac12 s_t m_t,

    Kendall, Gal and Cipolla (CVPR 2018, section 3.2) with :math:`s_t = \log \sigma_t^2`. The second
    term counts for the mass of labels that the task has, so a task that is seldom active is neither
    favoured nor forgotten: at the optimum :math:`e^{s_t} = 2 L_t / m_t`, the mean loss of an active
    item.

    Args:
        losses: float[t], loss of each task.
        masses: float[t], label mass behind each.
        log_variances: float[t].

    Returns:
        float[].

    Example:
        >>> float(uncertainty_weighted_loss(jnp.array([2.0]), jnp.ones(1), jnp.zeros(1)))
        2.0
    """
    _check_tasks(losses=losses, masses=masses, log_variances=log_variances)
    return jnp.sum(jnp.exp(-log_variances) * losses + 0.5 * log_variances * masses)


def _check_tasks(**arrays: jax.Array) -> None:
    """Raise unless all are float[t] of the same tasks."""
    named = {name: real_array(name, values) for name, values in arrays.items()}
    num_tasks = max(len(array) if array.ndim else 0 for array in named.values())
    for name, array in named.items():
        check_shape(name, array, (num_tasks,))


def gradient_norm_weights(log_weights: jax.Array, supervised: jax.Array) -> jax.Array:
    """Positive task weights that sum to the number of supervised tasks; 0 for the others.

    Chen et al. rescale the weights after each step instead.

    Args:
        log_weights: float[t].
        supervised: bool[t].

    Returns:
        float[t].
    """
    total = masked_logsumexp(log_weights, supervised)
    total = jnp.where(supervised.any(), total, 0)  # -inf where there is no task, a NaN gradient
    share = jnp.where(supervised, jnp.exp(log_weights - total), 0)
    return share * jnp.sum(supervised, dtype=share.dtype)


def gradient_norm_loss(
    weights: jax.Array,
    norms: jax.Array,
    losses: jax.Array,
    uniform_losses: jax.Array,
    *,
    restoring_force: float,
) -> jax.Array:
    r"""How far the tasks' gradients are from where they should be.

    .. math:: \sum_t | w_t g_t - \bar g\, r_t^\alpha |, \qquad
        \bar g = \operatorname{mean}_t w_t g_t, \quad
        r_t \propto L_t / L_t(0) \text{ with mean } 1,

    GradNorm (Chen et al., ICML 2018, eq. 2): the target is a constant, gradients flow into the
    weights alone. :math:`L_t(0)` is the loss of a uniform prediction on the same items, which
    for cross-entropy is log k.

    Args:
        weights: float[t], task weights.
        norms: float[t], norm of the gradient of each task's loss in the shared layer.
        losses: float[t].
        uniform_losses: float[t], 0 for a task without labels, which is left out.
        restoring_force: alpha; the larger, the more weight for tasks that learn slowly.

    Returns:
        float[].

    Example:
        >>> ones = jnp.ones(2)
        >>> float(gradient_norm_loss(ones, jnp.array([1.0, 3.0]), ones, ones, restoring_force=0.0))
        2.0
    """
    _check_tasks(weights=weights, norms=norms, losses=losses, uniform_losses=uniform_losses)
    norms, losses, uniform_losses = jax.lax.stop_gradient((norms, losses, uniform_losses))
    counted = uniform_losses > 0
    num_counted = jnp.maximum(jnp.sum(counted), 1).astype(weights.dtype)
    ratios = jnp.where(counted, losses / jnp.where(counted, uniform_losses, 1), 0)
    mean_ratio = jnp.sum(ratios) / num_counted
    rates = ratios / jnp.where(mean_ratio > 0, mean_ratio, 1)
    weighted = jnp.where(counted, weights * norms, 0)
    target = jnp.sum(weighted) / num_counted * rates**restoring_force
    return jnp.sum(jnp.where(counted, jnp.abs(weighted - jax.lax.stop_gradient(target)), 0))


def task_gradient_norms(losses_of: Callable[[Any], jax.Array], shared: Any) -> jax.Array:
    """Norm of the gradient of each task's loss in the shared parameters.

    Args:
        losses_of: shared parameters -> float[t].
        shared: pytree of arrays.

    Returns:
        float[t].

    Example:
        >>> task_gradient_norms(lambda x: jnp.stack([3 * x, -x]), jnp.float32(1.0)).tolist()
        [3.0, 1.0]
    """
    jacobian = jax.jacrev(losses_of)(shared)
    squares = [jnp.sum(x * x, axis=tuple(range(1, x.ndim))) for x in jax.tree.leaves(jacobian)]
    return jnp.sqrt(sum(squares[1:], squares[0]))


def learned_task_weights(params: Mapping[str, Any]) -> jax.Array | None:
    """The task weights that a fit with a learned balance arrived at.

    Args:
        params: from a fit; with a leading axis of replicas or without.

    Returns:
        float[..., t]; None when the weights were fixed. By gradient norm they are the weights as if
        every task had labels.

    Example:
        >>> learned_task_weights({"tower": {}}) is None
        True
    """
    state = params.get(STATE, {})
    if "log_variances" in state:
        return jnp.exp(-state["log_variances"])
    if "log_weights" in state:
        log_weights = state["log_weights"]
        return log_weights.shape[-1] * jax.nn.softmax(log_weights, axis=-1)
    return None


def _count(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
    return jax.tree.map(jnp.ones_like, updates), state


@functools.lru_cache(maxsize=64)
def with_loss_state(
    optimiser: optax.GradientTransformation, learning_rate: float
) -> optax.GradientTransformation:
    """An optimiser of the network that also moves the state of the loss.

    Args:
        optimiser: for the network's parameters; its clipping and decay stay theirs.
        learning_rate: of Adam for the task weights; a "step" in the state counts steps.

    Returns:
        The transformation.
    """

    def labels(params: dict[str, Any]) -> dict[str, Any]:
        state = {name: "step" if name == "step" else "weights" for name in params[STATE]}
        return {name: "network" for name in params if name != STATE} | {STATE: state}

    parts: dict[Hashable, optax.GradientTransformation] = {
        "network": optimiser,
        "weights": optax.adam(learning_rate),
        "step": optax.GradientTransformation(lambda params: optax.EmptyState(), _count),
    }
    return optax.partition(parts, labels)
