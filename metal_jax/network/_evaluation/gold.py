"""Gold nodes as paths from the roots down; checks on the host.

Legend: `n` items, `r` roots, `d` levels, `t` tasks, `N` label nodes.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.checks import check_integer, check_known, check_shape, real_array
from metal_jax.task_tree import TaskTree


def gold_by_root(gold: ArrayLike, tree: TaskTree, num_items: int, name: str = "gold") -> np.ndarray:
    """Gold nodes with one column for each root.

    Args:
        gold: int[n] node ids, the deepest known node of each item, -1 unknown; or int[n, g], at
            most one for each root.
        tree: the task tree.
        num_items: n.
        name: what to call them in errors.

    Returns:
        int32[n, r].

    Raises:
        ValueError: the wrong shape or type, a value that is no node, or two nodes of one root;
            names the item.
    """
    nodes = np.asarray(real_array(name, gold))
    check_integer(name, nodes)
    if nodes.ndim not in (1, 2) or len(nodes) != num_items or 0 in nodes.shape[1:]:
        raise ValueError(f"{name}: got shape {nodes.shape}, expected [{num_items}]")
    nodes = nodes if nodes.ndim == 2 else nodes[:, None]
    bad = (nodes < -1) | (nodes >= tree.num_nodes)
    if bad.any():
        item, column = np.argwhere(bad)[0]
        raise ValueError(
            f"{name}: item {item}: got {nodes[item, column]}, expected a node id in "
            f"0..{tree.num_nodes - 1} or -1 (unknown)"
        )
    placed = np.full((num_items, len(tree.roots)), -1, np.int32)
    for column in nodes.T:
        items = np.flatnonzero(column >= 0)
        roots = tree.node_root[column[items]]
        taken = placed[items, roots] >= 0
        if taken.any():
            item = items[taken][0]
            raise ValueError(
                f"{name}: item {item}: got nodes {nodes[item].tolist()}, expected one for each root"
            )
        placed[items, roots] = column[items]
    return placed


def checked_weights(weights: ArrayLike | None, num_items: int) -> np.ndarray:
    """A mask or weights of items, checked; a mask of ones for None.

    Raises:
        ValueError: another number of items, or a weight that is negative or not finite.
    """
    if weights is None:
        return np.ones(num_items, bool)
    mass = np.asarray(real_array("weights", weights))
    check_shape("weights", mass, (num_items,))
    check_known("weights", np.isfinite(mass) & (mass >= 0), "finite and 0 or more")
    return mass


def node_paths(tree: TaskTree) -> np.ndarray:
    """int32[N + 1, d], the nodes from the root down to each node, -1 below; the last row is -1."""
    paths = np.full((tree.num_nodes + 1, tree.depth), -1, np.int32)
    for node, (above, depth) in enumerate(zip(tree.node_parent, tree.node_depth, strict=True)):
        if above >= 0:  # parents come first
            paths[node] = paths[above]
        paths[node, depth] = node
    return paths


def task_labels(tree: TaskTree, nodes: jax.Array) -> jax.Array:
    """The label of each task on the paths to the nodes of an item.

    Args:
        tree: the task tree (static).
        nodes: int32[n, r], at most one for each root, -1 unknown.

    Returns:
        int32[n, t], -1 where the task is not on the path.
    """
    table = np.vstack([tree.node_task_labels, np.full((1, tree.num_tasks), -1, np.int32)])
    return jnp.max(jnp.asarray(table)[nodes], axis=1)  # node -1 is the last row


def best_leaves(tree: TaskTree, leaf_log_probs: jax.Array) -> jax.Array:
    """The node of the most probable leaf beneath each root.

    Args:
        tree: the task tree (static).
        leaf_log_probs: float[n, s].

    Returns:
        int32[n, r]; of equally probable leaves the first.
    """
    columns = [
        jnp.asarray(tree.leaf_nodes[span])[jnp.argmax(leaf_log_probs[:, span], axis=1)]
        for span in tree.root_leaves
    ]
    return jnp.stack(columns, axis=1)
