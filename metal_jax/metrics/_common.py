"""Checks, item weights and ties, shared by the metrics.

Shapes: n items, k classes.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.checks import (
    check_integer,
    check_rank,
    check_shape,
    real_array,
    real_jax_array,
)


def as_labels(name: str, labels: ArrayLike, *, ndim: int = 1) -> jax.Array:
    """Returns `labels` as int32, once checked to be integers with `ndim` axes."""
    labels = real_array(name, labels)
    check_rank(name, labels, ndim)
    check_integer(name, labels)
    if isinstance(labels, np.ndarray) and labels.dtype.itemsize >= 4 and labels.size:
        limits = np.iinfo(np.int32)
        if labels.min() < limits.min or labels.max() > limits.max:
            raise ValueError(f"{name}: got labels beyond 32 bits: {labels.min()}..{labels.max()}")
    return jnp.asarray(labels).astype(jnp.int32)


def as_floats(name: str, values: ArrayLike, *, ndim: int) -> jax.Array:
    """Returns `values` as floats of 32 bits or more, once checked to have `ndim` axes."""
    values = real_jax_array(name, values)
    check_rank(name, values, ndim)
    return values.astype(float_dtype(values.dtype))


def float_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """Returns the type to compute in: at least float32, the default float for integers."""
    if not jnp.issubdtype(dtype, jnp.floating):
        return jnp.result_type(float)
    return dtype if jnp.finfo(dtype).bits >= 32 else jnp.dtype(jnp.float32)


def check_num_classes(num_classes: int) -> None:
    """Checks that there is a class."""
    if num_classes < 1:
        raise ValueError(f"num_classes: got {num_classes}, expected 1 or more")


def item_weights(known: jax.Array, weights: ArrayLike | None) -> jax.Array:
    """Returns the weight of each item: zero where its gold label is missing.

    Args:
        known: bool[n]; whether the item counts at all.
        weights: bool, integer or float [n]; a mask or non-negative weights. None is one for all.

    Returns:
        int32[n] for a mask or integers, so that counts are exact; else float[n].
    """
    if weights is None:
        return known.astype(jnp.int32)
    weights = real_jax_array("weights", weights)
    check_shape("weights", weights, known.shape)
    is_float = jnp.issubdtype(weights.dtype, jnp.floating)
    weights = weights.astype(float_dtype(weights.dtype) if is_float else jnp.int32)
    return jnp.where(known, weights, 0)


def weighted_mean(values: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns the mean of `values` over the items of positive weight, nan if there are none.

    Args:
        values: float[n]; read only where the weight is positive.
        weights: int or float [n].

    Returns:
        float[], of the type of `values`.
    """
    weights = weights.astype(values.dtype)
    return jnp.sum(jnp.where(weights > 0, values, 0) * weights) / jnp.sum(weights)


def prepare_probs(
    probs: ArrayLike, gold: ArrayLike, weights: ArrayLike | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Checks the arguments of a metric of probabilities and makes the missing items harmless.

    Args:
        probs: float[n, k]; a distribution over the classes for each item.
        gold: int[n]; -1 where missing.
        weights: [n], or None.

    Returns:
        float[n, k], int32[n] and [n]: probabilities, gold labels in 0..k-1, and item weights.
        Items without weight hold ones and label 0, so that neither they nor their gradients
        can turn a result into nan.
    """
    probs = as_floats("probs", probs, ndim=2)
    gold = as_labels("gold", gold)
    check_shape("gold", gold, probs.shape[:1])
    check_num_classes(probs.shape[1])
    weights = item_weights((gold >= 0) & (gold < probs.shape[1]), weights)
    counts = weights > 0
    return jnp.where(counts[:, None], probs, 1), jnp.where(counts, gold, 0), weights


def top_label_hits(probs: jax.Array, gold: jax.Array) -> jax.Array:
    """Returns the chance that a fair draw among the most probable classes is the gold one.

    Args:
        probs: float[n, k].
        gold: int[n]; in 0..k-1.

    Returns:
        float[n]; 1 or 0 where one class is the most probable.
    """
    tied = (probs == jnp.max(probs, axis=1, keepdims=True)).astype(probs.dtype)
    return jnp.take_along_axis(tied, gold[:, None], axis=1)[:, 0] / jnp.sum(tied, axis=1)


def tie_bounds(ordered: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Finds, for each entry of a sorted array, the run of equal values that it is in.

    Args:
        ordered: float[n]; ascending.

    Returns:
        int[n] twice: the index of the first and of the last entry of the run.
    """
    index = jnp.arange(ordered.shape[0])
    changes = ordered[1:] != ordered[:-1]
    starts = jnp.pad(changes, (1, 0), constant_values=True)[: index.size]
    ends = jnp.pad(changes, (0, 1), constant_values=True)[: index.size]
    first = jax.lax.cummax(jnp.where(starts, index, 0))
    last = jax.lax.cummin(jnp.where(ends, index, index.size), reverse=True)
    return first, last
