"""Labels as a page shows them: their names, and their shares; plain numpy, nothing compiled."""

from __future__ import annotations

import collections

import numpy as np

from metal_jax.task_tree import TaskTree


def node_names(tree: TaskTree) -> list[str]:
    """The label of each node, as "task: label" where several tasks have it."""
    count = collections.Counter(label for _, label in tree.node_names)
    return [label if count[label] == 1 else f"{task}: {label}" for task, label in tree.node_names]


def path_names(tree: TaskTree) -> list[str]:
    """The path to each node, "news / sport / ball"."""
    return [
        " / ".join(tree.node_names[n][1] for n in (*tree.ancestors(node), node))
        for node in range(tree.num_nodes)
    ]


def is_plain(tree: TaskTree) -> bool:
    """Whether there is a single task."""
    return tree.num_tasks == 1


def node_mass(tree: TaskTree, leaf_values: np.ndarray) -> np.ndarray:
    """float[..., N], what the leaves beneath each node have together; as `task_tree.node_sum`."""
    return np.asarray(leaf_values, float) @ tree.covers.T.astype(float)
