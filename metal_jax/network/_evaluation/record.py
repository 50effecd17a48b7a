"""An evaluation as plain JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from metal_jax.network._evaluation.evaluate import Evaluation, PathScores
from metal_jax.task_tree import TaskTree


def evaluation_record(
    evaluation: Evaluation, tree: TaskTree, *, slice_names: Sequence[str] | None = None
) -> dict[str, Any]:
    """An evaluation by the names of tasks, labels and slices, for `json.dumps`.

    Args:
        evaluation: from `evaluate`, or from `evaluate_slices` with the names.
        tree: the task tree.
        slice_names: S names.

    Returns:
        `"tasks"`: name -> scores, labels and confusion matrix; `"levels"`: a list; `"path"`;
        `"hierarchical"`. With slices, one such record for each name. NaN becomes None.

    Raises:
        ValueError: another number of names than of slices.

    Example:
        >>> import jax.numpy as jnp
        >>> from metal_jax.network import evaluate_predictions
        >>> tree = TaskTree.single(["ball", "board"], name="game")
        >>> log_p = jnp.log(jnp.array([[0.2, 0.8]]))
        >>> record = evaluation_record(evaluate_predictions(tree, log_p, jnp.array([[1]])), tree)
        >>> record["tasks"]["game"]["confusion"], record["path"]["accuracy"]
        ([[0, 0], [0, 1]], 1.0)
    """
    host = jax.tree.map(np.asarray, evaluation)
    if slice_names is None:
        return _record(host, tree)
    num_slices = len(np.atleast_1d(host.path.num_items))
    if host.path.num_items.ndim != 1 or len(slice_names) != num_slices:
        raise ValueError(f"slice_names: got {len(slice_names)}, expected {num_slices}")
    return {
        name: _record(jax.tree.map(lambda x, i=i: x[i], host), tree)
        for i, name in enumerate(slice_names)
    }


def _record(evaluation: Evaluation, tree: TaskTree) -> dict[str, Any]:
    scores = evaluation.tasks._asdict()
    return {
        "tasks": {
            task.name: {name: _plain(values[t]) for name, values in scores.items()}
            | {"labels": list(task.labels), "confusion": evaluation.confusion[t].tolist()}
            for t, task in enumerate(tree.tasks)
        },
        "levels": [
            _fields(PathScores(*(values[level] for values in evaluation.levels)))
            for level in range(tree.depth)
        ],
        "path": _fields(evaluation.path),
        "hierarchical": _fields(evaluation.hierarchical),
    }


def _fields(scores: Any) -> dict[str, Any]:
    return {name: _plain(value) for name, value in scores._asdict().items()}


def _plain(values: Any) -> Any:
    if isinstance(values, list):
        return [_plain(value) for value in values]
    if isinstance(values, float):
        return None if math.isnan(values) else values
    return values if isinstance(values, int) else _plain(np.asarray(values).tolist())
