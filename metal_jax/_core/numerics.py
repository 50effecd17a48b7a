"""Numerics that stay finite, and keep finite gradients, at the edges."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def safe_log(x: jax.Array) -> jax.Array:
    """`log(x)` floored at the smallest normal number: finite, with gradient 0 at x = 0."""
    tiny = jnp.finfo(x.dtype).tiny
    return jnp.log(jnp.maximum(x, tiny))


def masked_logsumexp(x: jax.Array, mask: ArrayLike, axis: int = -1) -> jax.Array:
    """Log-sum-exp over an axis where `mask` holds; -inf (gradient 0) for an empty row."""
    x = jnp.where(mask, x, -jnp.inf)
    peak = jnp.max(x, axis=axis, keepdims=True)
    peak = jax.lax.stop_gradient(jnp.where(jnp.isfinite(peak), peak, 0))
    total = jnp.sum(jnp.where(mask, jnp.exp(x - peak), 0), axis=axis)
    empty = total == 0
    log_total = jnp.log(jnp.where(empty, 1, total)) + jnp.squeeze(peak, axis)
    return jnp.where(empty, -jnp.inf, log_total)


def masked_softmax(x: jax.Array, mask: ArrayLike) -> jax.Array:
    """Softmax over the last axis where `mask` holds, 0 elsewhere and everywhere in an empty row."""
    peak = jnp.max(jnp.where(mask, x, -jnp.inf), axis=-1, keepdims=True)
    peak = jax.lax.stop_gradient(jnp.where(jnp.isfinite(peak), peak, 0))
    terms = jnp.where(mask, jnp.exp(jnp.where(mask, x - peak, 0)), 0)
    total = jnp.sum(terms, axis=-1, keepdims=True)
    return terms / jnp.where(total == 0, 1, total)
