"""What a soft label is worth, task by task: which to trust, which to soften.

It happens once, before training, on node marginals.

Legend: `n` items, `N` label nodes, `t` tasks.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from metal_jax._core.checks import (
    check_broadcast,
    check_last_axis,
    check_shape,
    real_jax_array,
)
from metal_jax.task_tree import TaskTree, task_max, task_sum


def conditional_probs(tree: TaskTree, node_probs: jax.Array) -> jax.Array:
    """Soft labels of each task given that it is active.

    Args:
        tree: the task tree (static).
        node_probs: float[..., N], node marginals.

    Returns:
        float[..., N], `P(label | parent label)`; zeros where the task is not active at all.

    Example:
        >>> tree = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
        >>> names = [name for _, name in tree.node_names]
        >>> marginal = {"x": 0.5, "y": 0.5, "u": 0.4, "v": 0.1}
        >>> probs = conditional_probs(tree, jnp.array([marginal[name] for name in names]))
        >>> round(float(probs[names.index("u")]), 2)
        0.8
    """
    node_probs = real_jax_array("node_probs", node_probs)
    check_last_axis("node_probs", node_probs, tree.num_nodes)
    active = task_sum(tree, node_probs)[..., tree.node_task]
    return jnp.where(active > 0, node_probs / jnp.where(active > 0, active, 1), 0)


def confident_tasks(tree: TaskTree, node_probs: jax.Array, threshold: float) -> jax.Array:
    """The tasks whose soft label has a top conditional probability of `threshold` or more.

    Args:
        tree: the task tree (static).
        node_probs: float[..., N], node marginals.
        threshold: in [0, 1].

    Returns:
        bool[..., t]; False where the task is not active.

    Example:
        >>> tree = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
        >>> confident_tasks(tree, jnp.array([0.25, 0.75, 0.25, 0.0]), 0.8).tolist()
        [False, True]
    """
    top = task_max(tree, conditional_probs(tree, node_probs))
    return (top > 0) & (top >= threshold)


def conditional_balance(
    tree: TaskTree, node_probs: jax.Array, weights: jax.Array | None = None
) -> jax.Array:
    """Share of each label among the items on which its task is active.

    Args:
        tree: the task tree (static).
        node_probs: float[..., n, N], node marginals.
        weights: float[..., n], of the items; None for ones.

    Returns:
        float[..., N], zeros for a task without any label.

    Example:
        >>> conditional_balance(TaskTree.single(2), jnp.array([[1.0, 0.0], [0.5, 0.5]])).tolist()
        [0.75, 0.25]
    """
    node_probs = real_jax_array("node_probs", node_probs)
    if node_probs.ndim < 2:
        raise ValueError(f"node_probs: got shape {node_probs.shape}, expected [..., n, nodes]")
    mass = node_probs
    if weights is not None:
        weights = real_jax_array("weights", weights)
        check_shape("weights", weights, node_probs.shape[:-1])
        mass = node_probs * weights[..., None]
    return conditional_probs(tree, jnp.sum(mass, axis=-2))


def smooth_labels(
    tree: TaskTree, node_probs: jax.Array, balance: jax.Array, strength: float
) -> jax.Array:
    r"""Soften soft labels towards the class balance, the more the less certain they are.

    For each task, with conditional label q, class balance p and k labels,

    .. math:: q' = (1 - \lambda h) q + \lambda h p, \qquad h = H(q) / \log k.

    Plain label smoothing (Szegedy et al., CVPR 2016, section 7) treats all items alike and pulls
    towards uniform labels. Here a certain label stays as it is, and a label that the label model
    hardly knows teaches no more than how frequent the classes are, which biases can learn, instead
    of a preference that rests on one weak vote. How much the task counts does not change.

    Args:
        tree: the task tree (static).
        node_probs: float[..., N], node marginals.
        balance: float[..., N], from `conditional_balance`.
        strength: lambda, in [0, 1].

    Returns:
        float[..., N], no longer marginals: the labels of a child need not sum to its parent label.

    Example:
        >>> labels = jnp.array([[0.5, 0.5], [1.0, 0.0]])
        >>> smooth_labels(TaskTree.single(2), labels, jnp.array([0.75, 0.25]), 1.0).tolist()
        [[0.75, 0.25], [1.0, 0.0]]
    """
    node_probs, balance = (
        real_jax_array(name, values).astype(float)
        for name, values in (("node_probs", node_probs), ("balance", balance))
    )
    check_last_axis("balance", balance, tree.num_nodes)
    conditional = conditional_probs(tree, node_probs)
    check_broadcast(node_probs=node_probs, balance=balance)
    log_conditional = jnp.log(jnp.where(conditional > 0, conditional, 1))
    widths = np.array([len(task.labels) for task in tree.tasks])
    most = np.log(np.maximum(widths, 2))  # a task of one label has no entropy
    entropy = -task_sum(tree, conditional * log_conditional) / jnp.asarray(most, node_probs.dtype)
    active = task_sum(tree, node_probs)
    mixing = (strength * jnp.clip(entropy, 0, 1))[..., tree.node_task]
    return active[..., tree.node_task] * (conditional + mixing * (balance - conditional))
