"""Full-batch minimisation as one compiled loop: L-BFGS, Adam, SGD."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

GRADIENT, STALLED, MAX_STEPS, NOT_FINITE = range(4)
STATUS = (
    "converged: the gradient is small",
    "converged: the objective stopped falling",
    "stopped at max_steps before converging",
    "stopped: the objective is not finite",
)
"""What each value of a result's `status` means."""


@dataclasses.dataclass(frozen=True)
class MinimiseConfig:
    """Settings of `minimise`.

    Attributes:
        method: "lbfgs" (zoom line search), "adam" or "sgd".
        max_steps: the most steps taken.
        learning_rate: of Adam and SGD.
        momentum: of SGD.
        gradient_tolerance: stop when the gradient's norm is this fraction of the first one's;
            0 switches the test off. Relative, since float32 never reaches an absolute one.
        stall_tolerance: stop when `stall_steps` steps in a row do not lower the best objective by
            more than this fraction of it; 0 switches the test off.
        stall_steps: see `stall_tolerance`; by default 5 for L-BFGS, which descends at every step,
            and 50 for the others, which oscillate.
    """

    method: Literal["lbfgs", "adam", "sgd"] = "lbfgs"
    max_steps: int = 500
    learning_rate: float = 0.01
    momentum: float = 0.9
    gradient_tolerance: float = 1e-6
    stall_tolerance: float = 1e-7
    stall_steps: int | None = None

    def __post_init__(self) -> None:
        if self.method not in ("lbfgs", "adam", "sgd"):
            raise ValueError(f"method: got {self.method!r}, expected 'lbfgs', 'adam' or 'sgd'")
        if self.max_steps < 1:
            raise ValueError(f"max_steps: got {self.max_steps}, expected at least 1")


class MinimiseResult(NamedTuple):
    """Result of `minimise`.

    Attributes:
        params: the parameters of the lowest objective seen.
        converged: bool[], whether a tolerance was met.
        status: int32[], an index into `STATUS`.
        num_steps: int32[], steps taken.
        objective_trace: float[max_steps + 1], the objective before each step and at the end; NaN
            after the stop.
    """

    params: Any
    converged: jax.Array
    status: jax.Array
    num_steps: jax.Array
    objective_trace: jax.Array


def minimise(
    objective: Callable[[Any], jax.Array], params: Any, config: MinimiseConfig
) -> MinimiseResult:
    """Minimise a smooth function of a pytree. Pure; jit, vmap and export apply.

    Args:
        objective: params -> scalar.
        params: where to start; a pytree of float arrays.
        config: settings (static).

    Returns:
        The best parameters, why it stopped, and the trace. Nothing is raised.
    """
    if config.method == "lbfgs":
        optimiser = optax.lbfgs()
        value_and_grad = optax.value_and_grad_from_state(objective)  # reuses the line search's
    else:
        optimiser = (
            optax.adam(config.learning_rate)
            if config.method == "adam"
            else optax.sgd(config.learning_rate, momentum=config.momentum)
        )
        plain = jax.value_and_grad(objective)

        def value_and_grad(params, *, state):
            del state
            return plain(params)

    def step(carry):
        params, state, best, best_value, trace, count, stalled, first_norm, _ = carry
        value, grad = value_and_grad(params, state=state)
        norm = optax.tree.norm(grad)
        first_norm = jnp.where(count == 0, norm, first_norm)
        trace = trace.at[count].set(value)
        advanced = best_value - value > config.stall_tolerance * jnp.abs(value)
        stalled = jnp.where(advanced, 0, stalled + 1)
        improved = value < best_value
        best = jax.tree.map(lambda new, old: jnp.where(improved, new, old), params, best)
        best_value = jnp.where(improved, value, best_value)
        status = jnp.where(count >= config.max_steps, MAX_STEPS, -1)
        status = jnp.where((config.stall_tolerance > 0) & (stalled >= stall_steps), STALLED, status)
        at_rest = norm <= config.gradient_tolerance * first_norm
        status = jnp.where((config.gradient_tolerance > 0) & at_rest, GRADIENT, status)
        status = jnp.where(jnp.isfinite(value) & jnp.isfinite(norm), status, NOT_FINITE)
        status = status.astype(jnp.int32)  # Python integers are 64 bits wide under x64
        updates, state = optimiser.update(
            grad, state, params, value=value, grad=grad, value_fn=objective
        )
        moved = optax.apply_updates(params, updates)
        params = jax.tree.map(lambda new, old: jnp.where(status < 0, new, old), moved, params)
        count = jnp.where(status < 0, count + 1, count)
        return params, state, best, best_value, trace, count, stalled, first_norm, status

    default_steps = 5 if config.method == "lbfgs" else 50
    stall_steps = default_steps if config.stall_steps is None else config.stall_steps
    optimiser = optax.with_extra_args_support(optimiser)
    dtype = jnp.result_type(*jax.tree.leaves(params))
    infinity = jnp.asarray(jnp.inf, dtype)
    carry = (
        params,
        optimiser.init(params),
        params,
        infinity,
        jnp.full(config.max_steps + 1, jnp.nan, dtype),
        jnp.int32(0),
        jnp.int32(0),
        infinity,
        jnp.int32(-1),
    )
    carry = jax.lax.while_loop(lambda carry: carry[-1] < 0, step, carry)
    _, _, best, _, trace, count, _, _, status = carry
    converged = (status == GRADIENT) | (status == STALLED)
    return MinimiseResult(best, converged, status, count, trace)
