r"""Losses of soft labels, for each item and each task: pure functions of arrays.

The loss of an item with label-model posterior q is

.. math:: -\sum_t w_t \sum_v q(Y_t = v) \log P(Y_t = v \mid \text{parent label}),

a soft cross-entropy for each task in which a child counts by the probability that it is active,
since its marginals sum to that. With unit task weights this is the expected negative
log-likelihood of the path (Ratner et al., AAAI 2019, section 3, noise-aware loss).

Legend: `b` batch, `N` label nodes, `t` tasks.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.checks import (
    check_broadcast,
    check_last_axis,
    check_shape,
    real_array,
    real_jax_array,
)
from metal_jax.task_tree import TaskTree, log_normalise_tasks, path_sum, task_max, task_sum


def soft_label_loss(
    log_conditionals: jax.Array,
    node_probs: jax.Array,
    node_weights: ArrayLike = 1.0,
    *,
    robust_exponent: float = 0.0,
) -> jax.Array:
    r"""Activity-weighted soft cross-entropy of each item, or its generalised, robust form.

    With a positive exponent r the term :math:`-\log p` of every label becomes
    :math:`(1 - p^r) / r`, the generalised cross-entropy of Zhang and Sabuncu (NeurIPS 2018, eq. 6):
    r to 0 is cross-entropy, r = 1 the mean absolute error up to a factor of two. A soft label takes
    its expectation, which is lowest at probabilities in proportion to :math:`q^{1 / (1 - r)}`: the
    larger r, the more the soft label is sharpened, and the less an item counts that the network
    finds improbable.

    Args:
        log_conditionals: float[b, N], `log P(label | parent label)` from `Network.apply`.
        node_probs: float[b, N], soft labels as node marginals, `task_tree.node_sum` of leaf
            posteriors; zeros where a task has no label.
        node_weights: float[N], the weight of each node, of its task or of the label itself.
        robust_exponent: r, static, in [0, 1].

    Returns:
        float[b].

    Example:
        >>> log_p = jnp.log(jnp.array([[0.25, 0.75]]))
        >>> loss = soft_label_loss(log_p, jnp.array([[0.0, 1.0]]), robust_exponent=1.0)
        >>> round(float(loss[0]), 3)
        0.25
    """
    gains = _node_gains(log_conditionals, node_probs, robust_exponent)
    return -jnp.sum(_weighted(gains, node_weights), axis=-1)


def task_losses(
    tree: TaskTree,
    log_conditionals: jax.Array,
    node_probs: jax.Array,
    node_weights: ArrayLike = 1.0,
    *,
    robust_exponent: float = 0.0,
) -> jax.Array:
    """The parts of `soft_label_loss`, one for each task.

    Args:
        tree: the task tree (static).
        log_conditionals: float[b, N].
        node_probs: float[b, N].
        node_weights: float[N].
        robust_exponent: see `soft_label_loss`.

    Returns:
        float[b, t], which sums to `soft_label_loss`.

    Example:
        >>> log_p = jnp.log(jnp.array([[0.5, 0.5]]))
        >>> losses = task_losses(TaskTree.single(2), log_p, jnp.array([[1.0, 0.0]]))
        >>> print(np.asarray(losses).round(3))
        [[0.693]]
    """
    gains = _node_gains(log_conditionals, node_probs, robust_exponent)
    return -task_sum(tree, _weighted(gains, node_weights))


def _weighted(gains: jax.Array, node_weights: ArrayLike) -> jax.Array:
    if gains.ndim < 1:
        raise ValueError("log_conditionals: got one number, expected [..., nodes]")
    weights = real_array("node_weights", node_weights)
    if weights.shape not in ((), gains.shape[-1:]):
        raise ValueError(
            f"node_weights: got shape {tuple(weights.shape)}, expected () or {gains.shape[-1:]}"
        )
    return gains * node_weights


def _node_gains(
    log_conditionals: jax.Array, node_probs: jax.Array, robust_exponent: float
) -> jax.Array:
    """float[b, N], mass times `log p`, or times the Box-Cox transform `(p^r - 1) / r`."""
    log_conditionals = real_jax_array("log_conditionals", log_conditionals)
    node_probs = real_jax_array("node_probs", node_probs)
    if log_conditionals.shape[-1:] != node_probs.shape[-1:]:
        raise ValueError(
            f"node_probs: got shape {node_probs.shape}, expected [..., nodes] as of "
            f"log_conditionals, {log_conditionals.shape}"
        )
    check_broadcast(log_conditionals=log_conditionals, node_probs=node_probs)
    gains = log_conditionals
    if robust_exponent > 0:
        gains = jnp.expm1(robust_exponent * log_conditionals) / robust_exponent
    # 0 * -inf is 0 here: an impossible label without mass costs nothing.
    return jnp.where(node_probs > 0, node_probs * gains, 0)


def consistency_loss(
    tree: TaskTree,
    log_conditionals: jax.Array,
    teacher_log_conditionals: jax.Array,
    unlabelled: jax.Array,
    task_weights: ArrayLike = 1.0,
    *,
    threshold: float = 0.0,
    temperature: float = 1.0,
) -> jax.Array:
    """Cross-entropy of each item against the network's own prediction, where that is confident.

    The target is the prediction without noise, sharpened by a temperature (Xie et al., Unsupervised
    Data Augmentation, NeurIPS 2020, section 3.1); no gradient flows into it. A task counts where
    its top conditional probability reaches the threshold (Sohn et al., FixMatch, NeurIPS 2020,
    eq. 4), and a child task by the probability that it is active, by the same prediction.

    Args:
        tree: the task tree (static).
        log_conditionals: float[b, N], prediction with dropout.
        teacher_log_conditionals: float[b, N], prediction without.
        unlabelled: bool[b, t], the tasks of each item that have no label to learn from.
        task_weights: float[t].
        threshold: least top conditional probability of the target before it is sharpened.
        temperature: of the target; below 1 sharpens.

    Returns:
        float[b].

    Example:
        >>> log_p = jnp.log(jnp.array([[0.25, 0.75], [0.5, 0.5]]))
        >>> found = consistency_loss(
        ...     TaskTree.single(2), log_p, log_p, jnp.ones((2, 1), bool), threshold=0.7
        ... )
        >>> [round(loss, 3) for loss in found.tolist()]
        [0.562, 0.0]
    """
    log_conditionals = real_jax_array("log_conditionals", log_conditionals)
    teacher = real_jax_array("teacher_log_conditionals", teacher_log_conditionals)
    unlabelled = real_jax_array("unlabelled", unlabelled)
    check_last_axis("log_conditionals", log_conditionals, tree.num_nodes)
    check_shape("teacher_log_conditionals", teacher, log_conditionals.shape)
    check_shape("unlabelled", unlabelled, (*log_conditionals.shape[:-1], tree.num_tasks))
    if unlabelled.dtype != bool:
        raise ValueError(f"unlabelled: got dtype {unlabelled.dtype}, expected booleans")
    teacher = jax.lax.stop_gradient(teacher)
    is_child = tree.task_parent >= 0
    log_active = path_sum(tree, teacher)[..., np.maximum(tree.task_parent, 0)]
    counted = unlabelled & (jnp.exp(task_max(tree, teacher)) >= threshold)
    weight = jnp.where(counted, jnp.where(is_child, jnp.exp(log_active), 1), 0) * task_weights
    target = jnp.exp(log_normalise_tasks(tree, teacher / temperature))
    terms = jnp.where(target > 0, target * log_conditionals, 0)
    return -jnp.sum(weight * task_sum(tree, terms), axis=-1)
