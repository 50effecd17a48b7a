"""Metrics of hard predictions: a class for each item, or an abstain.

Shapes: n items, k classes.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from metal_jax._core.checks import check_shape
from metal_jax.metrics._common import (
    as_labels,
    check_num_classes,
    float_dtype,
    item_weights,
    prepare_probs,
    top_label_hits,
    weighted_mean,
)

Average = Literal["macro", "micro", "per_class"]


class _ClassCounts(NamedTuple):
    hit: jax.Array  # float[k], or float[] for micro; predicted and gold agree
    predicted: jax.Array
    actual: jax.Array


def accuracy(
    predicted: ArrayLike, gold: ArrayLike, *, weights: ArrayLike | None = None
) -> jax.Array:
    """Share of the items with a gold label whose prediction equals it.

    An abstain counts as wrong; pass `weights=predicted >= 0` for the accuracy where predicted.

    Args:
        predicted: int[n]; -1 where the predictor abstains.
        gold: int[n]; -1 where missing.
        weights: bool, integer or float [n]; a mask or non-negative weights of the items.

    Returns:
        float[]; nan if no item counts.

    Raises:
        ValueError: If the shapes or types do not fit.

    Example:
        >>> predicted = jnp.array([0, 1, -1, 2])
        >>> float(accuracy(predicted, jnp.array([0, 2, 1, -1]), weights=predicted >= 0))
        0.5
    """
    predicted, gold = as_labels("predicted", predicted), as_labels("gold", gold)
    check_shape("gold", gold, predicted.shape)
    weights = item_weights(gold >= 0, weights)
    return weighted_mean((predicted == gold).astype(float_dtype(weights.dtype)), weights)


def expected_accuracy(
    probs: ArrayLike, gold: ArrayLike, *, weights: ArrayLike | None = None
) -> jax.Array:
    """Accuracy of the most probable class, where ties are broken by a fair draw.

    An item with c classes exactly tied at the top scores 1/c if its gold label is one of them, so
    the result depends neither on the order of the classes nor on a random draw.

    Args:
        probs: float[n, k]; probabilities, or any scores that rank the classes.
        gold: int[n]; -1 where missing.
        weights: bool, integer or float [n]; a mask or non-negative weights of the items.

    Returns:
        float[]; nan if no item counts.

    Raises:
        ValueError: If the shapes or types do not fit.

    Example:
        >>> float(expected_accuracy(jnp.array([[0.5, 0.5], [0.2, 0.8]]), jnp.array([0, 1])))
        0.75
    """
    probs, gold, weights = prepare_probs(probs, gold, weights)
    return weighted_mean(top_label_hits(probs, gold), weights)


def coverage(predicted: ArrayLike, *, weights: ArrayLike | None = None) -> jax.Array:
    """Share of the items for which a prediction is made.

    Args:
        predicted: int[n]; -1 where the predictor abstains.
        weights: bool, integer or float [n]; a mask or non-negative weights of the items, such as
            `gold >= 0`.

    Returns:
        float[]; nan if no item counts.

    Raises:
        ValueError: If the shapes or types do not fit.

    Example:
        >>> float(coverage(jnp.array([0, -1, 2, 1])))
        0.75
    """
    predicted = as_labels("predicted", predicted)
    weights = item_weights(jnp.ones_like(predicted, bool), weights)
    return weighted_mean((predicted >= 0).astype(float_dtype(weights.dtype)), weights)


def confusion_matrix(
    predicted: ArrayLike,
    gold: ArrayLike,
    num_classes: int,
    *,
    weights: ArrayLike | None = None,
    include_abstain: bool = False,
) -> jax.Array:
    """Counts the items of each pair of gold label (row) and prediction (column).

    Args:
        predicted: int[n]; -1 where the predictor abstains.
        gold: int[n]; items with a label outside 0..k-1 are left out.
        num_classes: k, static.
        weights: bool, integer or float [n]; a mask or non-negative weights of the items.
        include_abstain: Whether to add a last column, for predictions outside 0..k-1; static.

    Returns:
        int32[k, k] or, with the abstains, int32[k, k + 1]; float if the weights are.

    Raises:
        ValueError: If the shapes or types do not fit.

    Example:
        >>> predicted, gold = jnp.array([0, 1, 1, -1]), jnp.array([0, 0, 1, 1])
        >>> confusion_matrix(predicted, gold, 2, include_abstain=True).tolist()
        [[1, 1, 0], [0, 1, 1]]
    """
    predicted, gold = as_labels("predicted", predicted), as_labels("gold", gold)
    check_shape("gold", gold, predicted.shape)
    check_num_classes(num_classes)
    weights = item_weights((gold >= 0) & (gold < num_classes), weights)
    column = jnp.where((predicted >= 0) & (predicted < num_classes), predicted, num_classes)
    counts = jnp.zeros((num_classes, num_classes + 1), weights.dtype)
    counts = counts.at[jnp.clip(gold, 0, num_classes - 1), column].add(weights)
    return counts if include_abstain else counts[:, :-1]


def precision(
    predicted: ArrayLike,
    gold: ArrayLike,
    num_classes: int,
    *,
    average: Average = "macro",
    weights: ArrayLike | None = None,
    zero_division: float = 0.0,
) -> jax.Array:
    """Share of the predictions of a class that are right.

    Args:
        predicted: int[n]; -1 where the predictor abstains.
        gold: int[n]; items with a label outside 0..k-1 are left out.
        num_classes: k, static.
        average: "macro" (mean over the classes), "micro" (counts pooled over the classes) or
            "per_class"; static.
        weights: bool, integer or float [n]; a mask or non-negative weights of the items.
        zero_division: The value where a class is never predicted. If nan, the macro average leaves
            such classes out.

    Returns:
        float[], or float[k] per class.

    Raises:
        ValueError: If the shapes, types or `average` do not fit.

    Example:
        >>> predicted, gold = jnp.array([0, 1, 1, -1]), jnp.array([0, 0, 1, 1])
        >>> precision(predicted, gold, 2, average="per_class").tolist()
        [1.0, 0.5]
    """
    counts = _class_counts(predicted, gold, num_classes, average, weights)
    return _ratio(counts.hit, counts.predicted, average, zero_division)


def recall(
    predicted: ArrayLike,
    gold: ArrayLike,
    num_classes: int,
    *,
    average: Average = "macro",
    weights: ArrayLike | None = None,
    zero_division: float = 0.0,
) -> jax.Array:
    """Share of the items of a class that are predicted as such; an abstain is a miss.

    Args:
        predicted: int[n]; -1 where the predictor abstains.
        gold: int[n]; items with a label outside 0..k-1 are left out.
        num_classes: k, static.
        average: "macro" (mean over the classes), "micro" (counts pooled over the classes) or
            "per_class"; static.
        weights: bool, integer or float [n]; a mask or non-negative weights of the items.
        zero_division: The value where a class has no item. If nan, the macro average leaves such
            classes out.

    Returns:
        float[], or float[k] per class.

    Raises:
        ValueError: If the shapes, types or `average` do not fit.

    Example:
        >>> predicted, gold = jnp.array([0, 1, 1, -1]), jnp.array([0, 0, 1, 1])
        >>> float(recall(predicted, gold, 2))
        0.5
    """
    counts = _class_counts(predicted, gold, num_classes, average, weights)
    return _ratio(counts.hit, counts.actual, average, zero_division)


def f_beta(
    predicted: ArrayLike,
    gold: ArrayLike,
    num_classes: int,
    *,
    beta: float = 1.0,
    average: Average = "macro",
    weights: ArrayLike | None = None,
    zero_division: float = 0.0,
) -> jax.Array:
    """Weighted harmonic mean of precision and recall, where recall weighs `beta` squared.

    Args:
        predicted: int[n]; -1 where the predictor abstains.
        gold: int[n]; items with a label outside 0..k-1 are left out.
        num_classes: k, static.
        beta: Positive; 1 for F1.
        average: "macro" (mean over the classes), "micro" (counts pooled over the classes) or
            "per_class"; static.
        weights: bool, integer or float [n]; a mask or non-negative weights of the items.
        zero_division: The value where a class neither has an item nor is predicted. If nan, the
            macro average leaves such classes out.

    Returns:
        float[], or float[k] per class.

    Raises:
        ValueError: If the shapes, types or `average` do not fit.

    Example:
        >>> predicted, gold = jnp.array([0, 1, 1, -1]), jnp.array([0, 0, 1, 1])
        >>> round(float(f_beta(predicted, gold, 2)), 3)
        0.583
    """
    counts = _class_counts(predicted, gold, num_classes, average, weights)
    recall_weight = jnp.square(jnp.asarray(beta, counts.hit.dtype))
    return _ratio(
        (1 + recall_weight) * counts.hit,
        recall_weight * counts.actual + counts.predicted,
        average,
        zero_division,
    )


def matthews_correlation(
    predicted: ArrayLike,
    gold: ArrayLike,
    num_classes: int,
    *,
    weights: ArrayLike | None = None,
) -> jax.Array:
    """Correlation of gold labels and predictions as indicator vectors.

    For two classes, Matthews (1975); for more, R_K of Gorodkin, Comparing two K-category
    assignments by a K-category correlation coefficient (2004). Abstains are a further class, which
    is never right.

    Args:
        predicted: int[n]; -1 where the predictor abstains.
        gold: int[n]; items with a label outside 0..k-1 are left out.
        num_classes: k, static.
        weights: bool, integer or float [n]; a mask or non-negative weights of the items.

    Returns:
        float[], in [-1, 1]; 0 if all gold labels or all predictions are the same, nan if no item
        counts.

    Raises:
        ValueError: If the shapes or types do not fit.

    Example:
        >>> float(matthews_correlation(jnp.array([0, 1, 1, 0]), jnp.array([0, 1, 1, 0]), 2))
        1.0
    """
    matrix = confusion_matrix(predicted, gold, num_classes, weights=weights, include_abstain=True)
    # Differences of counts, not of shares, keep rare classes exact in float32.
    total, hit = jnp.sum(matrix), jnp.diagonal(matrix)
    columns, actual = jnp.sum(matrix, axis=0), jnp.sum(matrix, axis=1)
    missed, false = actual - hit, columns[:-1] - hit

    def scaled_product(left: jax.Array, right: jax.Array) -> jax.Array:
        dtype = float_dtype(matrix.dtype)
        scale = total.astype(dtype)
        return jnp.sum((left.astype(dtype) / scale) * (right.astype(dtype) / scale))

    covariance = scaled_product(hit, total - hit - missed - false) - scaled_product(missed, false)
    spread = scaled_product(columns, total - columns) * scaled_product(actual, total - actual)
    defined = spread > 0
    # Zero times the covariance is nan, as it should be, when there is no item at all.
    return jnp.where(defined, covariance / jnp.sqrt(jnp.where(defined, spread, 1)), 0 * covariance)


def _class_counts(
    predicted: ArrayLike,
    gold: ArrayLike,
    num_classes: int,
    average: Average,
    weights: ArrayLike | None,
) -> _ClassCounts:
    if average not in ("macro", "micro", "per_class"):
        raise ValueError(f"average: got {average!r}, expected 'macro', 'micro' or 'per_class'")
    predicted, gold = as_labels("predicted", predicted), as_labels("gold", gold)
    check_shape("gold", gold, predicted.shape)
    check_num_classes(num_classes)
    weights = item_weights((gold >= 0) & (gold < num_classes), weights)

    def count(labels: jax.Array, weights: jax.Array) -> jax.Array:
        # Never the whole confusion matrix: the leaves of a large tree are many classes.
        inside = (labels >= 0) & (labels < num_classes)
        rows = jnp.where(inside, labels, num_classes)
        counts = jnp.zeros(num_classes + 1, weights.dtype).at[rows].add(weights)[:-1]
        return jnp.sum(counts) if average == "micro" else counts

    per_class = (
        count(gold, jnp.where(predicted == gold, weights, 0)),
        count(predicted, weights),
        count(gold, weights),
    )
    return _ClassCounts(*(counts.astype(float_dtype(weights.dtype)) for counts in per_class))


def _ratio(
    numerator: jax.Array, denominator: jax.Array, average: Average, zero_division: float
) -> jax.Array:
    defined = denominator > 0
    ratio = jnp.where(
        defined,
        numerator / jnp.where(defined, denominator, 1),
        jnp.asarray(zero_division, numerator.dtype),
    )
    return jnp.nanmean(ratio) if average == "macro" else ratio
