"""Sums up and down the tree, level by level: O(nodes), never (nodes x leaves).

Values live on the last axis: `[..., N]` on nodes, `[..., s]` on leaves. Every function is pure,
jit-able with the tree static, and differentiable.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.checks import check_last_axis, real_jax_array
from metal_jax._core.numerics import masked_logsumexp
from metal_jax._core.precision import at_least_float32
from metal_jax.task_tree._tree import Level, TaskTree


def _up(tree: TaskTree, values_at, reduce_labels, join=lambda own, below: below) -> jax.Array:
    """Node values from the leaves upwards.

    Args:
        tree: the task tree.
        values_at: nodes int[W] -> their own values float[..., W].
        reduce_labels: `(values[..., T, W], mask)` -> float[..., T], joins siblings.
        join: an inner node's own value and that of its child task -> its value.

    Returns:
        float[..., N].
    """
    below: jax.Array | None = None  # [..., tasks of the level beneath], the joined value of each
    by_level: list[jax.Array] = []
    for depth in range(tree.depth - 1, -1, -1):
        level = tree.levels[depth]
        nodes = level.nodes[level.mask]
        leaf = tree.node_leaf[nodes]
        values = values_at(nodes)
        if below is not None:
            child = tree.node_child[nodes]
            row = np.searchsorted(tree.levels[depth + 1].tasks, np.maximum(child, 0))
            row = np.minimum(row, len(tree.levels[depth + 1].tasks) - 1)
            values = jnp.where(leaf >= 0, values, join(values, below[..., row]))
        by_level.append(values)
        below = reduce_labels(values[..., _positions(level)], level.mask)
    return jnp.concatenate(by_level[::-1], axis=-1)


def _positions(level: Level) -> np.ndarray:
    """int[T, W], where each label of a level stands among the level's (contiguous) nodes."""
    return np.maximum(level.nodes - level.nodes[0, 0], 0)


def node_sum(tree: TaskTree, leaf_values: ArrayLike) -> jax.Array:
    """For each node the sum over the leaves beneath it, e.g. `P(Y_t = v)` from leaf posteriors.

    Args:
        tree: the task tree (static).
        leaf_values: float[..., s].

    Returns:
        float[..., N].

    Raises:
        ValueError: another last axis.

    Example:
        >>> tree = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
        >>> node_sum(tree, jnp.array([0.5, 0.25, 0.25])).tolist()
        [0.75, 0.25, 0.5, 0.25]
    """
    leaf_values = real_jax_array("leaf_values", leaf_values)
    check_last_axis("leaf_values", leaf_values, tree.num_leaves)
    return _up(tree, _leaf_values_at(tree, leaf_values), _masked_sum)


def subtree_sum(tree: TaskTree, node_values: ArrayLike) -> jax.Array:
    """For each node the sum of the values at it and at all nodes beneath it.

    With counts of votes: how many say "the path goes through here".

    Args:
        tree: the task tree (static).
        node_values: float[..., N].

    Returns:
        float[..., N].

    Raises:
        ValueError: another last axis.

    Example:
        >>> tree = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
        >>> subtree_sum(tree, jnp.array([1, 10, 100, 1000])).tolist()
        [1101, 10, 100, 1000]
    """
    node_values = real_jax_array("node_values", node_values)
    check_last_axis("node_values", node_values, tree.num_nodes)
    return _up(tree, lambda nodes: node_values[..., nodes], _masked_sum, jnp.add)


def _leaf_values_at(tree: TaskTree, leaf_values: jax.Array):
    """The `values_at` of `_up` for values on the leaves; arbitrary at inner nodes."""
    return lambda nodes: leaf_values[..., np.maximum(tree.node_leaf[nodes], 0)]


def _masked_sum(values: jax.Array, mask: np.ndarray) -> jax.Array:
    return jnp.sum(jnp.where(mask, values, 0), axis=-1)


def node_logsumexp(tree: TaskTree, leaf_values: ArrayLike) -> jax.Array:
    """Like `node_sum` in log space: the log of the summed exponentials beneath each node.

    Args:
        tree: the task tree (static).
        leaf_values: float[..., s], e.g. leaf log-posteriors; -inf allowed.

    Returns:
        float[..., N].

    Raises:
        ValueError: another last axis.

    Example:
        >>> tree = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
        >>> log_probs = jnp.log(jnp.array([0.2, 0.3, 0.5]))  # of the leaves u, v, y
        >>> print(np.asarray(jnp.exp(node_logsumexp(tree, log_probs))).round(2))  # x, y, u, v
        [0.5 0.5 0.2 0.3]
    """
    leaf_values = real_jax_array("leaf_values", leaf_values)
    check_last_axis("leaf_values", leaf_values, tree.num_leaves)
    return _up(tree, _leaf_values_at(tree, leaf_values), masked_logsumexp)


def path_sum(tree: TaskTree, node_values: ArrayLike) -> jax.Array:
    """For each node the sum of the values on the path from the root down to it.

    With conditional log-probabilities this is the log-probability of reaching the node.

    Args:
        tree: the task tree (static).
        node_values: float[..., N].

    Returns:
        float[..., N]; index with `tree.leaf_nodes` for the paths of the leaves.

    Raises:
        ValueError: another last axis.

    Example:
        >>> tree = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
        >>> names = [name for _, name in tree.node_names]
        >>> dict(zip(names, path_sum(tree, jnp.ones(tree.num_nodes)).tolist(), strict=True))["v"]
        2.0
    """
    node_values = real_jax_array("node_values", node_values)
    check_last_axis("node_values", node_values, tree.num_nodes)
    values = jnp.moveaxis(node_values, -1, 0)  # picking nodes then moves whole rows
    total: jax.Array | None = None
    by_level: list[jax.Array] = []
    first_above = 0
    for level in tree.levels:
        nodes = level.nodes[level.mask]
        own = values[nodes[0] : nodes[-1] + 1]
        if total is not None:
            own = own + total[tree.node_parent[nodes] - first_above]
        by_level.append(own)
        first_above, total = int(nodes[0]), own
    return jnp.moveaxis(jnp.concatenate(by_level), 0, -1)


def task_sum(tree: TaskTree, node_values: ArrayLike) -> jax.Array:
    """For each task the sum over its labels; of node marginals, the probability of being active.

    Args:
        tree: the task tree (static).
        node_values: float[..., N].

    Returns:
        float[..., t].

    Example:
        >>> tree = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
        >>> task_sum(tree, jnp.array([0.75, 0.25, 0.5, 0.25])).tolist()
        [1.0, 0.75]
    """
    return _reduce_tasks(tree, node_values, _masked_sum)


def task_max(tree: TaskTree, node_values: ArrayLike) -> jax.Array:
    """For each task the largest value among its labels.

    Args:
        tree: the task tree (static).
        node_values: float[..., N].

    Returns:
        float[..., t].

    Example:
        >>> tree = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
        >>> task_max(tree, jnp.array([0.75, 0.25, 0.5, 0.25])).tolist()
        [0.75, 0.5]
    """
    return _reduce_tasks(
        tree, node_values, lambda values, mask: jnp.max(jnp.where(mask, values, -jnp.inf), axis=-1)
    )


def _reduce_tasks(tree: TaskTree, node_values: ArrayLike, reduce_labels) -> jax.Array:
    """Join the labels of each task: `(values[..., T, W], mask)` -> float[..., T] for a level."""
    node_values = real_jax_array("node_values", node_values)
    check_last_axis("node_values", node_values, tree.num_nodes)
    return jnp.concatenate(
        [
            reduce_labels(node_values[..., np.maximum(level.nodes, 0)], level.mask)
            for level in tree.levels
        ],
        axis=-1,
    )


def log_normalise_tasks(tree: TaskTree, logits: ArrayLike) -> jax.Array:
    """One log-softmax for each task: conditional log-probabilities `log P(label | parent label)`.

    Args:
        tree: the task tree (static).
        logits: float[..., N].

    Returns:
        float[..., N], float32 or wider; the exponentials of each task's nodes sum to one.

    Raises:
        ValueError: another last axis.

    Example:
        >>> tree = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
        >>> log_p = log_normalise_tasks(tree, jnp.zeros(tree.num_nodes))
        >>> jnp.exp(log_p).round(2).tolist()
        [0.5, 0.5, 0.5, 0.5]
    """
    logits = at_least_float32(real_jax_array("logits", logits))
    check_last_axis("logits", logits, tree.num_nodes)
    values = jnp.moveaxis(logits, -1, 0)  # picking nodes then moves whole rows
    by_level = []
    for level in tree.levels:
        nodes = level.nodes[level.mask]
        own = values[nodes[0] : nodes[-1] + 1]
        mask = level.mask.reshape(*level.mask.shape, *[1] * (logits.ndim - 1))
        total = masked_logsumexp(own[_positions(level)], mask, axis=1)
        row = np.repeat(np.arange(len(level.tasks), dtype=np.int32), level.mask.sum(-1))
        by_level.append(own - total[row])
    return jnp.moveaxis(jnp.concatenate(by_level), 0, -1)


def log_normalise_roots(tree: TaskTree, leaf_values: ArrayLike) -> jax.Array:
    """Log-softmax over the leaves of each root: the roots of a forest are separate distributions.

    Args:
        tree: the task tree (static).
        leaf_values: float[..., s], unnormalised log-probabilities.

    Returns:
        float[..., s].

    Raises:
        ValueError: another last axis.

    Example:
        >>> tree = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
        >>> log_p = log_normalise_roots(tree, jnp.log(jnp.array([1.0, 1.0, 2.0])))
        >>> jnp.exp(log_p).round(2).tolist()
        [0.25, 0.25, 0.5]
    """
    leaf_values = real_jax_array("leaf_values", leaf_values)
    if leaf_values.dtype == bool:
        leaf_values = leaf_values.astype(float)
    check_last_axis("leaf_values", leaf_values, tree.num_leaves)
    parts = [jax.nn.log_softmax(leaf_values[..., span], axis=-1) for span in tree.root_leaves]
    return jnp.concatenate(parts, axis=-1)
