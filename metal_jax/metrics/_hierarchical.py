"""Metrics of paths in a hierarchy of classes, where a near miss is worth something.

Shapes: n items, d levels of the hierarchy.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from metal_jax._core.checks import check_shape
from metal_jax.metrics._common import as_labels, float_dtype, item_weights


class HierarchicalScores(NamedTuple):
    """Hierarchical precision, recall and F-score.

    Attributes:
        precision: float[]; share of the predicted classes, ancestors included, that are right.
        recall: float[]; share of the gold classes, ancestors included, that are predicted.
        f_beta: float[]; their weighted harmonic mean.
    """

    precision: jax.Array
    recall: jax.Array
    f_beta: jax.Array


def hierarchical_scores(
    predicted: ArrayLike,
    gold: ArrayLike,
    *,
    beta: float = 1.0,
    weights: ArrayLike | None = None,
) -> HierarchicalScores:
    """Precision and recall over classes with all their ancestors, pooled over the items.

    Kiritchenko et al., Learning and evaluation in the presence of class hierarchies (2006): each
    class stands for the set of itself and its ancestors without the root of the hierarchy, which
    all share; precision is the overlap of the predicted and the gold sets over the size of the
    predicted ones, recall over that of the gold ones. In a tree a set is a path from the top.

    Where gold ends before the hierarchy does and the prediction goes on beneath it, the levels
    below are not known, and are not counted.

    Args:
        predicted: int[n, d]; class ids along the predicted path from the top, -1 below its end, no
            id in two levels.
        gold: int[n, d]; the same for gold. Items with -1 throughout are left out.
        beta: positive; recall weighs beta squared.
        weights: bool, integer or float [n]; a mask or non-negative weights of the items.

    Returns:
        The scores; nan if no item counts, precision also if nothing is predicted.

    Raises:
        ValueError: If the shapes or types do not fit.

    Example:
        >>> scores = hierarchical_scores(jnp.array([[0, 2], [1, -1]]), jnp.array([[0, 3], [1, -1]]))
        >>> round(float(scores.precision), 3)
        0.667
    """
    predicted, gold = as_labels("predicted", predicted, ndim=2), as_labels("gold", gold, ndim=2)
    check_shape("gold", gold, predicted.shape)
    known = gold >= 0
    weights = item_weights(jnp.any(known, axis=1), weights)
    same = known & (predicted == gold)
    goes_on_below = jnp.all(same | ~known, axis=1, keepdims=True) & ~known
    judged = (predicted >= 0) & ~goes_on_below
    dtype = float_dtype(weights.dtype)

    def total(counted: jax.Array) -> jax.Array:
        counts = jnp.sum(counted, axis=1, dtype=weights.dtype)
        return jnp.sum(counts * weights).astype(dtype)

    hits, num_predicted, num_gold = total(same), total(judged), total(known)
    recall_weight = jnp.square(jnp.asarray(beta, dtype))
    return HierarchicalScores(
        hits / num_predicted,
        hits / num_gold,
        (1 + recall_weight) * hits / (recall_weight * num_gold + num_predicted),
    )
