"""What an LF chooses among: all labels of the tasks that it votes on, used or not.

Legend: `m` LFs, `d` used (LF, node) columns, `s` leaf states, `t` tasks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from metal_jax.labeling import Columns
from metal_jax.task_tree import TaskTree


class Choices(NamedTuple):
    """Numbers of labels that an LF chooses among.

    Attributes:
        right: float[m, s], those on the path to a leaf; 0 on the leaves of other roots.
        wrong: float[m, s], those off the path; 0 on the leaves of other roots.
        total: float[m], all; 0 for an LF that never votes.
    """

    right: np.ndarray
    wrong: np.ndarray
    total: np.ndarray


def choices(columns: Columns, tree: TaskTree) -> Choices:
    """Count the labels of the tasks that each LF votes on, against each leaf.

    Args:
        columns: the used columns.
        tree: the task tree.

    Returns:
        The counts: 1 right and k - 1 wrong for a single task of k labels.

    Example:
        >>> from metal_jax.labeling import used_columns
        >>> choices(used_columns([[0], [2]]), TaskTree.single(4)).wrong.tolist()
        [[3.0, 3.0, 3.0, 3.0]]
    """
    voted = _tasks_voted_on(columns, tree).astype(float)
    on_path = (tree.node_task_labels[tree.leaf_nodes] >= 0).T.astype(float)  # [t, s]
    size = np.array([len(task.labels) for task in tree.tasks], float)
    task_root = tree.node_root[[nodes[0] for nodes in tree.task_nodes]]
    own_root = task_root[:, None] == tree.node_root[tree.leaf_nodes]
    right = voted @ (on_path * own_root)
    return Choices(right, voted @ (size[:, None] * own_root) - right, voted @ size)


def choice_columns(columns: Columns, tree: TaskTree) -> Columns:
    """The used columns and those of all other labels of the same tasks.

    Args:
        columns: the used columns.
        tree: the task tree.

    Returns:
        The columns, sorted by LF and then node.
    """
    lf, node = np.nonzero(_tasks_voted_on(columns, tree)[:, tree.node_task])
    return Columns(lf.astype(np.int32), node.astype(np.int32), columns.num_lfs)


def _tasks_voted_on(columns: Columns, tree: TaskTree) -> np.ndarray:
    """bool[m, t]."""
    voted = np.zeros((columns.num_lfs, tree.num_tasks), bool)
    voted[columns.lf, tree.node_task[columns.symbol]] = True
    return voted
