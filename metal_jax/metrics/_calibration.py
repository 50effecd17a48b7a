"""Metrics of probabilities: proper scores and the calibration error.

Shapes: n items, k classes.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from metal_jax.metrics._common import prepare_probs, tie_bounds, top_label_hits, weighted_mean


def log_loss(probs: ArrayLike, gold: ArrayLike, *, weights: ArrayLike | None = None) -> jax.Array:
    """Mean negative logarithm of the probability of the gold label.

    Probabilities below the machine epsilon of their type count as that epsilon, so the loss and
    its gradient stay finite.

    Args:
        probs: float[n, k]; a distribution over the classes for each item.
        gold: int[n]; items with a label outside 0..k-1 are left out.
        weights: bool, integer or float [n]; a mask or non-negative weights of the items.

    Returns:
        float[]; nan if no item counts.

    Raises:
        ValueError: If the shapes or types do not fit.

    Example:
        >>> round(float(log_loss(jnp.array([[0.5, 0.5], [0.0, 1.0]]), jnp.array([0, 1]))), 3)
        0.347
    """
    probs, gold, weights = prepare_probs(probs, gold, weights)
    gold_probs = jnp.take_along_axis(probs, gold[:, None], axis=1)[:, 0]
    return weighted_mean(-jnp.log(jnp.maximum(gold_probs, jnp.finfo(probs.dtype).eps)), weights)


def brier_score(
    probs: ArrayLike, gold: ArrayLike, *, weights: ArrayLike | None = None
) -> jax.Array:
    """Mean squared distance between the probabilities and the gold label as a one-hot vector.

    Summed over all classes, as in Brier (1950): from 0 to 2, also for two classes, where the
    one-column form is half of it.

    Args:
        probs: float[n, k]; a distribution over the classes for each item.
        gold: int[n]; items with a label outside 0..k-1 are left out.
        weights: bool, integer or float [n]; a mask or non-negative weights of the items.

    Returns:
        float[]; nan if no item counts.

    Raises:
        ValueError: If the shapes or types do not fit.

    Example:
        >>> float(brier_score(jnp.array([[0.5, 0.5], [0.0, 1.0]]), jnp.array([0, 1])))
        0.25
    """
    probs, gold, weights = prepare_probs(probs, gold, weights)
    target = jax.nn.one_hot(gold, probs.shape[1], dtype=probs.dtype)
    return weighted_mean(jnp.sum(jnp.square(probs - target), axis=1), weights)


def expected_calibration_error(
    probs: ArrayLike,
    gold: ArrayLike,
    *,
    num_bins: int = 15,
    weights: ArrayLike | None = None,
) -> jax.Array:
    """Mean distance between confidence and accuracy of the top label, over bins of equal mass.

    The error of Guo et al., On Calibration of Modern Neural Networks (2017), eq. 3, with the items
    ordered by confidence and cut into bins that hold the same share of them. The shares are
    exactly equal: an item on an edge is divided between its two bins, items of the same
    confidence are divided alike, and a top label that is tied is right with the chance of a fair
    draw. So the order of the items and of the classes makes no difference.

    Args:
        probs: float[n, k]; a distribution over the classes for each item.
        gold: int[n]; items with a label outside 0..k-1 are left out.
        num_bins: Number of bins, static.
        weights: bool, integer or float [n]; a mask or non-negative weights of the items.

    Returns:
        float[], in [0, 1]; nan if no item counts.

    Raises:
        ValueError: If the shapes or types do not fit, or there is no bin.

    Example:
        >>> probs = jnp.array([[0.75, 0.25]] * 4)
        >>> float(expected_calibration_error(probs, jnp.array([0, 0, 1, 0])))
        0.0
    """
    confidence, hits, weights = _confidence(probs, gold, num_bins, weights)
    gap = jnp.where(weights > 0, weights * (confidence - hits), 0)
    rises, mass = _bin_rises(confidence, weights, num_bins, gap)
    return jnp.sum(jnp.abs(rises[0])) / mass


class ReliabilityBins(NamedTuple):
    """The points of a reliability diagram, bins of equal mass.

    Attributes:
        confidence: float[bins]; mean probability of the top label, ascending.
        accuracy: float[bins]; share of the items whose top label is right.
        mass: float[]; weight of the items in each bin.
    """

    confidence: jax.Array
    accuracy: jax.Array
    mass: jax.Array


def reliability_bins(
    probs: ArrayLike,
    gold: ArrayLike,
    *,
    num_bins: int = 15,
    weights: ArrayLike | None = None,
) -> ReliabilityBins:
    """Confidence and accuracy of the top label in each bin of `expected_calibration_error`.

    The mean distance between the two over the bins is that error.

    Args:
        probs: float[n, k]; a distribution over the classes for each item.
        gold: int[n]; items with a label outside 0..k-1 are left out.
        num_bins: Number of bins, static.
        weights: bool, integer or float [n]; a mask or non-negative weights of the items.

    Returns:
        The bins; confidence and accuracy are nan and the mass is 0 if no item counts.

    Raises:
        ValueError: If the shapes or types do not fit, or there is no bin.

    Example:
        >>> probs = jnp.array([[0.5, 0.5], [0.5, 0.5], [0.0, 1.0], [0.0, 1.0]])
        >>> bins = reliability_bins(probs, jnp.array([0, 1, 1, 0]), num_bins=2)
        >>> bins.confidence.tolist(), bins.accuracy.tolist(), float(bins.mass)
        ([0.5, 1.0], [0.5, 0.5], 2.0)
    """
    confidence, hits, weights = _confidence(probs, gold, num_bins, weights)
    counted = [jnp.where(weights > 0, weights * values, 0) for values in (confidence, hits)]
    (confident, right), mass = _bin_rises(confidence, weights, num_bins, *counted)
    return ReliabilityBins(num_bins * confident / mass, num_bins * right / mass, mass / num_bins)


def _confidence(
    probs: ArrayLike, gold: ArrayLike, num_bins: int, weights: ArrayLike | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """float[n] thrice: probability of the top label, whether it is right, and item weights."""
    if num_bins < 1:
        raise ValueError(f"num_bins: got {num_bins}, expected 1 or more")
    probs, gold, weights = prepare_probs(probs, gold, weights)
    return jnp.max(probs, axis=1), top_label_hits(probs, gold), weights.astype(probs.dtype)


def _bin_rises(
    confidence: jax.Array, weights: jax.Array, num_bins: int, *values: jax.Array
) -> tuple[list[jax.Array], jax.Array]:
    """Sums of the values in bins of equal mass, float[bins] each, and the whole mass.

    Mass and values accumulated by confidence form a curve with one straight piece for each run of
    ties; the sum over a bin is the rise of the curve between the edges of the bin.
    """
    order = jnp.argsort(confidence)
    run_end = tie_bounds(confidence[order])[1] + 1
    mass = jnp.cumulative_sum(weights[order], include_initial=True)
    curve_mass = jnp.pad(mass[run_end], (1, 0))
    edges = mass[-1] * jnp.linspace(0, 1, num_bins + 1, dtype=weights.dtype)
    rises = []
    for value in values:
        total = jnp.cumulative_sum(value[order], include_initial=True)
        curve = jnp.pad(total[run_end], (1, 0))
        rises.append(jnp.diff(jnp.interp(edges, curve_mass, curve)))
    return rises, mass[-1]
