"""Predictors that look up what was trained before: the paper's nearest neighbour and baselines.

Legend: n networks to predict, r reference networks that were trained.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from metal_jax._core.checks import check_known, check_rank, check_shape, real_jax_array


def predict_from_neighbours(
    distances: ArrayLike,
    values: ArrayLike,
    num_neighbours: int = 1,
    *,
    softening: float | None = None,
) -> jax.Array:
    """Mean of the nearest references, ties shared, so that their order does not matter.

    References as far as the last neighbour share its places: with one neighbour and three
    references at the same smallest distance the prediction is the mean of the three, which is
    what a random choice among them gives on average.

    Args:
        distances: float[n, r], from `pairwise` or any other distance.
        values: float[r], the references' targets; NaN ones are left out.
        num_neighbours: how many.
        softening: None: neighbours count alike; otherwise by 1 / (distance + softening).

    Returns:
        float[n]; NaN where no reference has a value.

    Raises:
        ValueError: shapes do not match, a distance is negative, infinite or NaN, or there are no
            neighbours to take.

    Example:
        >>> predict_from_neighbours([[0.0, 1.0, 1.0, 5.0]], [1.0, 2.0, 4.0, 9.0], 2).tolist()
        [2.0]
    """
    distances = real_jax_array("distances", distances)
    values = _references(values)
    if distances.ndim != 2 or values.shape != distances.shape[1:]:
        raise ValueError(
            f"got distances {distances.shape} and values {values.shape}, expected [n, r] and [r]"
        )
    if num_neighbours < 1 or (softening is not None and softening <= 0):
        raise ValueError(
            f"got num_neighbours={num_neighbours} and softening={softening}, expected 1 or more "
            "and a positive number"
        )
    check_known("distances", (distances >= 0) & ~jnp.isinf(distances), "0 or more, and finite")
    distances = distances.astype(values.dtype)
    known = ~jnp.isnan(values)
    distances = jnp.where(known, distances, jnp.inf)
    count = jnp.minimum(num_neighbours, jnp.sum(known))
    ranked = jnp.sort(distances, axis=1)
    last = jnp.take(ranked, jnp.maximum(count - 1, 0), axis=1)[:, None]
    nearer = distances < last
    tied = (distances == last) & known
    places = (count - jnp.sum(nearer, 1, keepdims=True)) / jnp.maximum(
        jnp.sum(tied, 1, keepdims=True), 1
    )
    weights = jnp.where(nearer, 1, jnp.where(tied, places, 0)).astype(values.dtype)
    if softening is not None:
        weights = weights / (jnp.where(weights > 0, distances, 0) + softening)
    total = jnp.sum(weights * jnp.where(known, values, 0), 1)
    return total / jnp.sum(weights, 1)


def predict_from_closest_depth(
    num_layers: ArrayLike,
    reference_num_layers: ArrayLike,
    values: ArrayLike,
    *,
    key: jax.Array | None = None,
) -> jax.Array:
    """The paper's baseline: the trained network with the closest number of layers.

    Many networks share a number of layers, so the rule for ties matters: report both.

    Args:
        num_layers: int[n].
        reference_num_layers: int[r].
        values: float[r], the references' targets; NaN ones are left out.
        key: for one of the closest at random, consumed; without it, the mean of the closest.

    Returns:
        float[n].

    Raises:
        ValueError: shapes do not match, or there are no references.

    Example:
        >>> predict_from_closest_depth([4], [3, 5, 9], [1.0, 2.0, 7.0]).tolist()
        [1.5]
    """
    layers = real_jax_array("num_layers", num_layers)
    reference_layers = real_jax_array("reference_num_layers", reference_num_layers)
    values = _references(values)
    check_rank("num_layers", layers, 1)
    check_shape("reference_num_layers", reference_layers, values.shape)
    distances = jnp.abs(layers[:, None] - reference_layers[None])
    if key is None:
        return predict_from_neighbours(distances, values)
    distances = jnp.where(jnp.isnan(values), jnp.inf, distances.astype(values.dtype))
    closest = distances == jnp.min(distances, 1, keepdims=True)
    draw = jax.random.uniform(key, distances.shape)
    return values[jnp.argmax(jnp.where(closest, draw, -1), 1)]


def predict_mean(values: ArrayLike, num: int) -> jax.Array:
    """The baseline that knows no architecture: the references' mean.

    Args:
        values: float[r], the references' targets; NaN ones are left out.
        num: n.

    Returns:
        float[n].

    Raises:
        ValueError: there are no references.

    Example:
        >>> predict_mean([1.0, 3.0], 2).tolist()
        [2.0, 2.0]
    """
    return jnp.full(num, jnp.nanmean(_references(values)))


def _references(values: ArrayLike) -> jax.Array:
    array = real_jax_array("values", values).astype(float)
    check_rank("values", array, 1)
    if not len(array):
        raise ValueError("values: got none, expected at least one reference")
    return array
