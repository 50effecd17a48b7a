"""The class balance: prior probabilities of the leaf states."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.checks import check_shape, real_array
from metal_jax.task_tree import TaskTree, node_sum, path_sum


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
    balance = np.array(real_array("class_balance", class_balance), float)
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


def label_pseudo_items(items_of_a_pair: float, tree: TaskTree) -> np.ndarray:
    """Strength of the Dirichlet priors on the class balance, one for each task, in items.

    For a single task of k labels it grows as k (k - 1): what a class gains from items that belong
    to another, its table can always explain, and there are as many such exchanges as pairs. In a
    tree items are exchanged between leaves, so a label of any task counts as one of as many as its
    root has leaves.

    Args:
        items_of_a_pair: pseudo-items of each label for each other leaf of its root.
        tree: the task tree.

    Returns:
        float[N].

    Example:
        >>> tree = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
        >>> label_pseudo_items(5.0, tree).tolist()
        [10.0, 10.0, 10.0, 10.0]
    """
    size = np.array([span.stop - span.start for span in tree.root_leaves])
    return items_of_a_pair * np.maximum(size[tree.node_root] - 1, 1)


def log_balance_of(items: jax.Array, pseudo_items: jax.Array, tree: TaskTree) -> jax.Array:
    """The class balance from items of each leaf: shares of labels task by task, then their product.

    Args:
        items: float[s].
        pseudo_items: float[N].
        tree: the task tree.

    Returns:
        float[s], its logarithm.
    """
    mass = node_sum(tree, items) + pseudo_items
    task = jnp.asarray(tree.node_task)
    share = mass / jax.ops.segment_sum(mass, task, tree.num_tasks)[task]
    return path_sum(tree, jnp.log(share))[tree.leaf_nodes]


def node_masses(class_balance: np.ndarray, tree: TaskTree) -> np.ndarray:
    """float64[N], the class balance summed over the leaves beneath each node.

    A node above all leaves of its root has exactly one, so that nothing is left outside it.
    """
    mass = tree.covers @ np.asarray(class_balance, float)
    return np.where(mass > 1 - 1e-6, 1.0, mass)
