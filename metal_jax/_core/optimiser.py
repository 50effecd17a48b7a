"""AdamW with a learning-rate schedule chosen by name."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

SCHEDULES = ("constant", "cosine", "inverse_sqrt", "linear")

TRACED_SETTINGS = ("learning_rate", "weight_decay", "max_gradient_norm")
"""Settings that may differ between the replicas of one compiled program."""


@dataclasses.dataclass(frozen=True)
class OptimiserConfig:
    """Settings of AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019).

    Attributes:
        learning_rate: the peak, reached from zero on a straight line over `warmup_steps`.
        schedule: what follows: "cosine" or "linear", both down to zero at the last step,
            "inverse_sqrt", which falls with the square root of the step's number (Vaswani et al.,
            2017, section 5.3), or "constant".
        warmup_steps: see above; fewer than the steps of the training, 0 for none.
        weight_decay: decoupled, times the learning rate in each step; strong by default, since
            every n-gram has an embedding and most are rare.
        max_gradient_norm: gradients of a larger global norm are scaled down to it; None: never.
    """

    learning_rate: float = 3e-2
    schedule: str = "cosine"
    warmup_steps: int = 20
    weight_decay: float = 0.6
    max_gradient_norm: float | None = 1.0

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule: got {self.schedule!r}, expected one of {SCHEDULES}")
        for name in ("learning_rate", "warmup_steps", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected 0 or more")
        if self.max_gradient_norm is not None and not self.max_gradient_norm > 0:
            raise ValueError(
                f"max_gradient_norm: got {self.max_gradient_norm}, expected a positive number"
            )


def learning_rates(config: OptimiserConfig, num_steps: int) -> optax.Schedule:
    """Step's number, from 0 -> learning rate.

    Args:
        config: settings.
        num_steps: steps of the training.

    Returns:
        The schedule.

    Example:
        >>> schedule = learning_rates(OptimiserConfig(1.0, "linear", warmup_steps=2), 6)
        >>> [float(schedule(step)) for step in range(7)]
        [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    peak = config.learning_rate
    warmup_steps = min(config.warmup_steps, num_steps - 1)
    decay_steps = num_steps - warmup_steps
    scale = float(max(warmup_steps, 1))
    decay = {
        "constant": optax.constant_schedule(peak),
        "cosine": optax.cosine_decay_schedule(peak, decay_steps),
        "inverse_sqrt": lambda step: peak * jnp.sqrt(scale / (scale + jnp.maximum(step, 0))),
        "linear": optax.linear_schedule(peak, 0.0, decay_steps),
    }[config.schedule]
    if not warmup_steps:
        return decay
    rise = optax.linear_schedule(0.0, peak, warmup_steps)
    return optax.join_schedules([rise, decay], [warmup_steps])


@functools.lru_cache(maxsize=64)
def make_optimiser(config: OptimiserConfig, num_steps: int) -> optax.GradientTransformation:
    """The optimiser of these settings.

    Cached, since `jax.jit` recognises a function by identity: a second fit does not recompile.

    Args:
        config: settings.
        num_steps: steps of the training; the schedule ends there.

    Returns:
        An optax transformation.
    """
    return _adamw(learning_rates(config, num_steps), config.weight_decay, config.max_gradient_norm)


@functools.lru_cache(maxsize=64)
def make_traced_optimiser(
    config: OptimiserConfig, num_steps: int, names: tuple[str, ...]
) -> optax.GradientTransformationExtraArgs:
    """The optimiser with some of its settings as arguments of each update.

    Cached like `make_optimiser`.

    Args:
        config: the other settings.
        num_steps: steps of the training; the schedule ends there.
        names: of `TRACED_SETTINGS`, those that `update(..., settings=)` maps to float32[].

    Returns:
        An optax transformation whose update may be mapped over the settings.

    Example:
        >>> optimiser = make_traced_optimiser(OptimiserConfig(), 9, ("learning_rate",))
        >>> params = jnp.ones(3)
        >>> updates, _ = optimiser.update(
        ...     params, optimiser.init(params), params, settings={"learning_rate": jnp.float32(0.1)}
        ... )
        >>> updates.shape
        (3,)
    """
    unit = learning_rates(dataclasses.replace(config, learning_rate=1.0), num_steps)

    def with_settings(settings: Mapping[str, Any]) -> optax.GradientTransformation:
        peak, weight_decay, norm = (
            settings[name] if name in names else getattr(config, name) for name in TRACED_SETTINGS
        )

        def schedule(step: ArrayLike) -> jax.Array:
            share = jnp.asarray(unit(step))
            return share * jnp.asarray(peak, share.dtype)

        return _adamw(schedule, weight_decay, norm)

    def init(params: optax.Params) -> optax.OptState:
        return with_settings(dict.fromkeys(names, 1.0)).init(params)

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        *,
        settings: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        dtype = optax.tree.dtype(updates, "highest")
        own = {name: jnp.asarray(value, dtype) for name, value in (settings or {}).items()}
        return with_settings(own).update(updates, state, params)

    return optax.GradientTransformationExtraArgs(init, update)


def _adamw(
    schedule: optax.Schedule, weight_decay: Any, max_gradient_norm: Any
) -> optax.GradientTransformation:
    adamw = optax.adamw(schedule, weight_decay=weight_decay)
    if max_gradient_norm is None:
        return adamw
    return optax.chain(optax.clip_by_global_norm(max_gradient_norm), adamw)
