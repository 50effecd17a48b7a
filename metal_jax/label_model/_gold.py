"""What is known of the items beside the votes: gold labels and weights. Checks on the host.

Legend: `n` items, `s` leaf states.
"""

from __future__ import annotations

import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.checks import check_integer, check_shape
from metal_jax.task_tree import TaskTree


def gold_mask(gold: ArrayLike, tree: TaskTree) -> np.ndarray:
    """Which leaf states the gold labels leave open.

    Args:
        gold: int[n] node ids, the deepest known node of each item, -1 = unknown; or int[n, g],
            several nodes that all lie on the item's path, such as one for each root of a forest.
        tree: the task tree.

    Returns:
        bool[n, s]: the leaves beneath the gold node, and all leaves of roots without gold.

    Raises:
        ValueError: not integers, a value that is no node of the tree, or nodes of an item that
            cannot lie on one path; names the item.

    Example:
        >>> tree = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
        >>> gold_mask([tree.node("a", "x"), -1], tree).tolist()
        [[True, True, False], [True, True, True]]
    """
    nodes = np.asarray(gold)
    check_integer("gold", nodes)
    if nodes.ndim not in (1, 2):
        raise ValueError(f"gold: got shape {nodes.shape}, expected [n items] or [n items, g]")
    nodes = nodes.reshape(len(nodes), -1)
    bad = (nodes < -1) | (nodes >= tree.num_nodes)
    if bad.any():
        item, column = np.argwhere(bad)[0]
        raise ValueError(
            f"gold: item {item}: got {nodes[item, column]}, expected a node id in "
            f"0..{tree.num_nodes - 1} or -1 (unknown)"
        )
    leaf_root = tree.node_root[tree.leaf_nodes]
    open_by_node = tree.covers | (tree.node_root[:, None] != leaf_root)
    unknown = np.ones((1, tree.num_leaves), bool)  # the last row: node -1
    mask = np.all(np.concatenate([open_by_node, unknown])[nodes], axis=1)
    for root, span in zip(tree.roots, tree.root_leaves, strict=True):
        empty = ~mask[:, span].any(axis=1)
        if empty.any():
            item = int(np.flatnonzero(empty)[0])
            names = [tree.node_names[node] for node in nodes[item] if node >= 0]
            raise ValueError(
                f"gold: item {item}: the nodes {names} contradict each other: no leaf of root "
                f"{tree.tasks[root].name!r} lies beneath all of them"
            )
    return mask


def checked_item_weights(item_weights: ArrayLike, num_items: int) -> np.ndarray:
    """Item weights, checked.

    Args:
        item_weights: float[n], not negative.
        num_items: n.

    Returns:
        float64[n].

    Raises:
        ValueError: the wrong shape, a negative or non-finite weight (names the item), or nothing
            but zeros.
    """
    weights = np.asarray(item_weights, float)
    check_shape("item_weights", weights, (num_items,))
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        item = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"item_weights: item {item}: got {weights[item]}, expected a number of at least 0"
        )
    if not weights.any():
        raise ValueError("item_weights: every weight is 0; there is nothing to fit")
    return weights
