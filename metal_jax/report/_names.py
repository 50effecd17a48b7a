"""Names of labels as a page shows them."""

from __future__ import annotations

import collections

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
