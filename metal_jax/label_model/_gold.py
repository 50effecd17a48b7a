"""What is known beside the votes: gold labels, item weights, LF accuracies. Checks on the host.

Legend: `n` items, `m` LFs, `s` leaf states.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.checks import check_integer, check_shape, real_array
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
    nodes = np.asarray(real_array("gold", gold))
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
    weights = np.asarray(real_array("item_weights", item_weights), float)
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


class Supervision(NamedTuple):
    """Gold labels and item weights, checked.

    Attributes:
        possible: bool[n, s] from `gold_mask`; None without gold.
        weight: float64[n]; None for ones.
    """

    possible: np.ndarray | None
    weight: np.ndarray | None

    def present(self) -> tuple[np.ndarray | slice, Supervision]:
        """Which items have a weight above zero, and what is known of those."""
        if self.weight is None:
            return slice(None), self
        rows = self.weight > 0
        possible = None if self.possible is None else self.possible[rows]
        return rows, Supervision(possible, self.weight[rows])


def checked_supervision(
    gold: ArrayLike | None, item_weights: ArrayLike | None, num_items: int, tree: TaskTree
) -> Supervision:
    """Gold labels and item weights of `n` items, checked.

    Args:
        gold: as in `gold_mask`, or None.
        item_weights: as in `checked_item_weights`, or None.
        num_items: n.
        tree: the task tree.

    Returns:
        Both.

    Raises:
        ValueError: as the two functions, or gold of another number of items.
    """
    possible = None if gold is None else gold_mask(gold, tree)
    if possible is not None:
        check_shape("gold", possible, (num_items, tree.num_leaves))
    weight = None if item_weights is None else checked_item_weights(item_weights, num_items)
    return Supervision(possible, weight)


def checked_accuracy(
    accuracy: ArrayLike | None, num_lfs: int, default: float = math.nan
) -> np.ndarray:
    """What is believed of each LF before its votes are seen.

    Args:
        accuracy: float[m] in (0, 1), NaN where nothing is believed; None for nowhere.
        num_lfs: m.
        default: what stands for NaN.

    Returns:
        float64[m].

    Raises:
        ValueError: the wrong shape, or a value outside (0, 1); names the LF.
    """
    if accuracy is None:
        return np.full(num_lfs, default)
    values = np.asarray(accuracy, float)
    check_shape("accuracy", values, (num_lfs,))
    bad = (values <= 0) | (values >= 1)
    if bad.any():
        lf = int(np.flatnonzero(bad)[0])
        raise ValueError(f"accuracy: LF {lf}: got {values[lf]}, expected a number in (0, 1) or NaN")
    return np.where(np.isnan(values), default, values)
