"""Metrics of rankings: the area under the ROC curve.

Shapes: n items, k classes.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from metal_jax._core.checks import check_shape
from metal_jax.metrics._common import (
    as_floats,
    as_labels,
    check_num_classes,
    item_weights,
    tie_bounds,
)


def roc_auc(scores: ArrayLike, gold: ArrayLike, *, weights: ArrayLike | None = None) -> jax.Array:
    """Chance that a positive item scores above a negative one; a tie counts one half.

    This is the area under the ROC curve as a Mann-Whitney statistic (Hanley and McNeil, 1982),
    from the mid-ranks of one sort.

    Args:
        scores: float[n]; larger for a more likely positive. Only the order matters.
        gold: int[n]; 1 for positive, 0 for negative; other items are left out.
        weights: bool, integer or float [n]; a mask or non-negative weights of the items.

    Returns:
        float[]; nan without a positive or without a negative item, or if a score is nan.

    Raises:
        ValueError: If the shapes or types do not fit.

    Example:
        >>> float(roc_auc(jnp.array([0.1, 0.4, 0.4, 0.8]), jnp.array([0, 0, 1, 1])))
        0.875
    """
    scores, gold = as_floats("scores", scores, ndim=1), as_labels("gold", gold)
    check_shape("gold", gold, scores.shape)
    weights = item_weights((gold == 0) | (gold == 1), weights)
    order = jnp.argsort(scores)
    first, last = tie_bounds(scores[order])
    positive = jnp.where(gold == 1, weights, 0)[order]
    negative = jnp.where(gold == 0, weights, 0)[order]
    below = jnp.cumulative_sum(negative, include_initial=True)
    twice_beaten = (below[first] + below[last + 1]).astype(scores.dtype)
    num_positive = jnp.sum(positive).astype(scores.dtype)
    num_negative = jnp.sum(negative).astype(scores.dtype)
    share_beaten = twice_beaten / (2 * num_negative)
    area = jnp.sum(positive.astype(scores.dtype) * share_beaten) / num_positive
    return jnp.where(jnp.any(jnp.isnan(scores) & (weights > 0)), jnp.nan, area)


def roc_auc_one_vs_rest(
    scores: ArrayLike,
    gold: ArrayLike,
    *,
    average: Literal["macro", "per_class"] = "macro",
    weights: ArrayLike | None = None,
) -> jax.Array:
    """Area under the ROC curve of each class against all others.

    Args:
        scores: float[n, k]; for each class, larger for a more likely member.
        gold: int[n]; items with a label outside 0..k-1 are left out.
        average: "macro" (mean over the classes) or "per_class"; static.
        weights: bool, integer or float [n]; a mask or non-negative weights of the items.

    Returns:
        float[], or float[k] per class; nan for a class that no item or every item is in. One such
        class makes the macro average nan: `jnp.nanmean` of the areas per class leaves it out.

    Raises:
        ValueError: If the shapes, types or `average` do not fit.

    Example:
        >>> probs = jnp.array([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.1, 0.2, 0.7]])
        >>> float(roc_auc_one_vs_rest(probs, jnp.array([0, 1, 2])))
        1.0
    """
    if average not in ("macro", "per_class"):
        raise ValueError(f"average: got {average!r}, expected 'macro' or 'per_class'")
    scores, gold = as_floats("scores", scores, ndim=2), as_labels("gold", gold)
    num_classes = scores.shape[1]
    check_num_classes(num_classes)
    known = (gold >= 0) & (gold < num_classes)

    def area(class_scores: jax.Array, label: jax.Array) -> jax.Array:
        is_member = jnp.where(known, (gold == label).astype(jnp.int32), -1)
        return roc_auc(class_scores, is_member, weights=weights)

    areas = jax.vmap(area, in_axes=(1, 0))(scores, jnp.arange(num_classes, dtype=jnp.int32))
    return jnp.mean(areas) if average == "macro" else areas
