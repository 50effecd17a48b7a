"""Metrics of several tasks at once: one by one, or along the whole path.

Shapes: n items, t tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.checks import check_rank, check_shape, real_jax_array
from metal_jax.metrics._common import (
    as_labels,
    float_dtype,
    item_weights,
    weighted_mean,
)


def per_task(
    metric: Callable[..., jax.Array],
    predicted: ArrayLike | Sequence[ArrayLike],
    gold: ArrayLike,
    *,
    num_classes: Sequence[int] | None = None,
    weights: ArrayLike | None = None,
) -> jax.Array:
    """Applies a metric to each task; the tasks may differ in their number of classes.

    Args:
        metric: A function of this package, called as `metric(predicted, gold, weights=weights)`,
            or `metric(predicted, gold, num_classes, weights=weights)` if `num_classes` is
            given. Its results must have the same shape for all tasks.
        predicted: int[n, t] labels; or, as a sequence of t arrays, what the metric takes, such as
            probabilities float[n, k] with a k for each task.
        gold: int[n, t]; -1 where missing, or where the task is not on the path of the item.
        num_classes: The number of classes of each task, static.
        weights: bool, integer or float [n]; a mask or non-negative weights of the items.

    Returns:
        float[t, ...]; the metric of each task.

    Raises:
        ValueError: If the numbers of tasks differ, or the arrays do not fit.

    Example:
        >>> from metal_jax.metrics import precision
        >>> predicted = jnp.array([[0, 1], [1, -1], [1, 2], [1, 0]])
        >>> gold = jnp.array([[0, 0], [1, -1], [0, 2], [-1, -1]])
        >>> per_task(precision, predicted, gold, num_classes=(2, 4)).tolist()
        [0.75, 0.25]
    """
    gold = as_labels("gold", gold, ndim=2)
    is_sequence = isinstance(predicted, Sequence)
    if is_sequence and np.ndim(predicted[0] if predicted else 0) == 0:
        raise ValueError("predicted: got a sequence of numbers, expected an array for each task")
    columns = predicted if is_sequence else _columns(predicted)
    if len(columns) != gold.shape[1]:
        raise ValueError(f"predicted: got {len(columns)} tasks, expected {gold.shape[1]}")
    if num_classes is not None and len(num_classes) != gold.shape[1]:
        raise ValueError(f"num_classes: got {len(num_classes)} tasks, expected {gold.shape[1]}")
    counts = [()] * len(columns) if num_classes is None else [(k,) for k in num_classes]
    return jnp.stack(
        [
            metric(column, gold[:, task], *count, weights=weights)
            for task, (column, count) in enumerate(zip(columns, counts, strict=True))
        ]
    )


def _columns(predicted: ArrayLike) -> Sequence[jax.Array]:
    array = real_jax_array("predicted", predicted)
    check_rank("predicted", array, 2)
    return jnp.unstack(array, axis=1)


def path_accuracy(
    predicted: ArrayLike, gold: ArrayLike, *, weights: ArrayLike | None = None
) -> jax.Array:
    """Share of the items that are right in every task for which they have a gold label.

    For the other metrics of whole paths, number the paths (the leaves of the task tree) and use
    them as classes.

    Args:
        predicted: int[n, t]; -1 where the predictor abstains.
        gold: int[n, t]; -1 where missing, or where the task is not on the path of the item. Items
            without any gold label are left out.
        weights: bool, integer or float [n]; a mask or non-negative weights of the items.

    Returns:
        float[]; nan if no item counts.

    Raises:
        ValueError: If the shapes or types do not fit.

    Example:
        >>> predicted = jnp.array([[0, 1], [1, -1], [1, 2]])
        >>> gold = jnp.array([[0, 0], [1, -1], [1, 2]])
        >>> round(float(path_accuracy(predicted, gold)), 3)
        0.667
    """
    predicted, gold = as_labels("predicted", predicted, ndim=2), as_labels("gold", gold, ndim=2)
    check_shape("gold", gold, predicted.shape)
    weights = item_weights(jnp.any(gold >= 0, axis=1), weights)
    right = jnp.all((predicted == gold) | (gold < 0), axis=1)
    return weighted_mean(right.astype(float_dtype(weights.dtype)), weights)
