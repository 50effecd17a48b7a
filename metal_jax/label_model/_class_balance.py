"""The class balance: prior probabilities of the leaf states."""

from __future__ import annotations

import math

import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.checks import check_shape
from metal_jax.task_tree import TaskTree


def uniform_class_balance(tree: TaskTree) -> np.ndarray:
    """Equal probabilities for the labels of each task, given that the task is active.

    Not for the leaves: splitting one class of a task into finer ones must not make it likelier.

    Args:
        tree: the task tree.

    Returns:
        float64[s], summing to one over the leaves of each root.

    Example:
        >>> tree = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
        >>> uniform_class_balance(tree).tolist()
        [0.25, 0.25, 0.5]
    """
    width = [len(task.labels) for task in tree.tasks]
    return np.array(
        [1 / math.prod(width[tree.task_index(t)] for t, _ in p) for p in tree.leaf_paths]
    )


def checked_class_balance(class_balance: ArrayLike | None, tree: TaskTree) -> np.ndarray:
    """A class balance as given, checked; `uniform_class_balance` when None.

    Args:
        class_balance: float[s] or None.
        tree: the task tree.

    Returns:
        float64[s], summing to exactly one over the leaves of each root.

    Raises:
        ValueError: the wrong length, a value that is not in (0, 1] (names the leaf: a class of
            probability zero can never be predicted, so drop it from the tree instead), or a root
            whose values do not sum to one.
    """
    if class_balance is None:
        return uniform_class_balance(tree)
    balance = np.array(class_balance, float)
    check_shape("class_balance", balance, (tree.num_leaves,))
    bad = ~((balance > 0) & (balance <= 1))
    if bad.any():
        leaf = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"class_balance: leaf {tree.leaf_paths[leaf][-1]}: got {balance[leaf]}, expected a "
            "probability in (0, 1]"
        )
    for root, span in zip(tree.roots, tree.root_leaves, strict=True):
        total = balance[span].sum()
        if abs(total - 1) > 1e-3:
            raise ValueError(
                f"class_balance: root {tree.tasks[root].name!r} sums to {total:.4g}, expected 1"
            )
        balance[span] /= total
    return balance


def balance_pseudo_items(
    class_balance: np.ndarray, items_of_a_pair: float, tree: TaskTree
) -> np.ndarray:
    """Strength of a Dirichlet prior on the class balance, as items of each leaf state.

    It grows with the number of leaves k of a root as k (k - 1): what a class gains from items that
    belong to another, its table can always explain, and there are as many such exchanges as pairs.

    Args:
        class_balance: float[s], the prior's mean.
        items_of_a_pair: pseudo-items for each ordered pair of leaves of a root.
        tree: the task tree.

    Returns:
        float[s].

    Example:
        >>> balance_pseudo_items(np.full(3, 1 / 3), 5.0, TaskTree.single(3)).tolist()
        [10.0, 10.0, 10.0]
    """
    size = np.array([span.stop - span.start for span in tree.root_leaves])
    k = size[tree.node_root[tree.leaf_nodes]]
    return items_of_a_pair * k * np.maximum(k - 1, 1) * class_balance
