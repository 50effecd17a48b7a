"""Items with soft labels: checked on the host, then arrays for training.

Legend: `n` items, `s` leaf states, `N` label nodes, `t` tasks, `r` replicas.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.checks import check_shape
from metal_jax.network._training.loss_config import LossConfig
from metal_jax.network._training.targets import conditional_balance, confident_tasks, smooth_labels
from metal_jax.task_tree import TaskTree, node_sum, task_sum

_MASS_TOLERANCE = 1e-3
"""Soft labels are often float32 sums."""


class Examples(NamedTuple):
    """Items with soft labels.

    Attributes:
        inputs: pytree of arrays with a leading axis of n items, as the encoder takes them.
        leaf_probs: float[n, s], soft labels over leaf states, or float[r, n, s] with different
            ones for each replica. A row of zeros over the leaves of a root is an item without a
            label there.
        weights: float[n] or float[r, n], weight of each item; None for ones. An item without a vote
            has weight 0 or is left out: it serves only a `ConsistencyConfig`.
        task_mask: bool[n, t], which tasks of an item have a label at all, where data sets that are
            labelled for different tasks are mixed; None for all. What `leaf_probs` says about a
            masked task is not read, so any spread over its labels will do.
    """

    inputs: Any
    leaf_probs: ArrayLike
    weights: ArrayLike | None = None
    task_mask: ArrayLike | None = None


class Batch(NamedTuple):
    """Arrays of a training step, with a leading axis of items.

    Attributes:
        inputs: as in `Examples`.
        node_probs: float32[n, N] or [r, n, N], label mass of each node; zeros where a task is
            masked or its label not trusted.
        weights: float32[n] or [r, n].
        unlabelled: bool[n, t] or [r, n, t], the pairs that the network teaches itself; None without
            consistency.
    """

    inputs: Any
    node_probs: jax.Array
    weights: jax.Array
    unlabelled: jax.Array | None = None


class CheckedExamples(NamedTuple):
    """What `check_examples` returns.

    Attributes:
        batch: the arrays.
        axes: the same with 0 where the first axis is the replica's, None where it is shared.
        unsupervised_tasks: names of tasks that no item teaches (in some replica).
    """

    batch: Batch
    axes: Batch
    unsupervised_tasks: tuple[str, ...]


def check_examples(
    name: str, examples: Examples, tree: TaskTree, config: LossConfig
) -> CheckedExamples:
    """Check examples on the host and prepare their labels for the loss.

    Args:
        name: what to call them in errors.
        examples: the items.
        tree: the task tree.
        config: which labels to trust and how to soften them.

    Returns:
        Device arrays.

    Raises:
        ValueError: arrays of different length, soft labels of the wrong width, values that are
            negative or not finite, more mass over a root than one (each names the item), no item
            with a positive weight, or no label left for any task.
    """
    probs, weights, mask = _check(name, examples, tree)
    raw = node_sum(tree, jnp.asarray(probs, jnp.float32))
    trusted = jnp.ones((*raw.shape[:-1], tree.num_tasks), bool)
    if mask is not None:
        trusted &= mask
    if config.confidence_threshold > 0:
        trusted &= confident_tasks(tree, raw, config.confidence_threshold)
    node_probs = raw
    if not trusted.all():
        node_probs = jnp.where(trusted[..., tree.node_task], raw, 0)
    device_weights = jnp.asarray(weights, jnp.float32)
    labelled = (task_sum(tree, node_probs) > 0) & (device_weights > 0)[..., None]
    supervised = np.asarray(labelled.any(axis=-2))  # [..., t]
    if not supervised.any(axis=-1).all():
        raise ValueError(
            f"{name}: no item has a label to learn from; leaf_probs, weights, task_mask and "
            f"confidence_threshold={config.confidence_threshold} leave nothing"
        )
    if config.smoothing > 0:
        balance = conditional_balance(tree, node_probs, device_weights)
        node_probs = smooth_labels(tree, node_probs, balance[..., None, :], config.smoothing)

    unlabelled = None
    if config.consistency is not None:
        # An inactive task of a labelled item has nothing to learn; one below the threshold has.
        root_mass = _root_mass(tree, raw)
        unknown = (device_weights == 0)[..., None] | (root_mass == 0)
        doubtful = ~trusted & (task_sum(tree, raw) > 0)
        unlabelled = (unknown | doubtful) & supervised[..., None, :]
        if mask is not None:
            unlabelled &= mask

    batch = Batch(
        jax.tree.map(jnp.asarray, examples.inputs), node_probs, device_weights, unlabelled
    )
    axes = Batch(
        None,
        0 if node_probs.ndim == 3 else None,  # pyright: ignore[reportArgumentType]
        0 if device_weights.ndim == 2 else None,  # pyright: ignore[reportArgumentType]
        0 if unlabelled is not None and unlabelled.ndim == 3 else None,  # pyright: ignore
    )
    everywhere = supervised.reshape(-1, tree.num_tasks).all(axis=0)
    names = tuple(tree.tasks[t].name for t in np.flatnonzero(~everywhere))
    return CheckedExamples(batch, axes, names)


def _root_mass(tree: TaskTree, node_probs: jax.Array) -> jax.Array:
    """float[..., t], label mass of the root above each task."""
    first_node = [nodes.start for nodes in tree.task_nodes]
    root_of_task = np.asarray(tree.roots)[tree.node_root[first_node]]
    return task_sum(tree, node_probs)[..., root_of_task]


def _check(
    name: str, examples: Examples, tree: TaskTree
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Soft labels, weights and mask on the host, or an error that names the item."""
    probs = np.asarray(examples.leaf_probs)
    if probs.ndim not in (2, 3) or probs.shape[-1] != tree.num_leaves:
        raise ValueError(
            f"{name}: got leaf_probs of shape {probs.shape}, expected [n, {tree.num_leaves}]"
        )
    n = probs.shape[-2]
    for path, leaf in jax.tree.leaves_with_path(examples.inputs):
        field = f"{name}: inputs{jax.tree_util.keystr(path)}"
        if leaf.shape[0] != n:
            raise ValueError(f"{field} has {leaf.shape[0]} items, leaf_probs has {n}")
        if np.issubdtype(leaf.dtype, np.floating) and not np.isfinite(leaf).all():
            row = np.argwhere(~np.isfinite(np.asarray(leaf)))[0][0]
            raise ValueError(f"{field}: item {row} is not finite")
    weights = np.ones(n) if examples.weights is None else np.asarray(examples.weights)
    if weights.shape[-1:] != (n,) or weights.ndim > 2:
        raise ValueError(f"{name}: got weights of shape {weights.shape}, expected [{n}]")
    for field, values in (("leaf_probs", probs), ("weights", weights)):
        if not (np.isfinite(values).all() and (values >= 0).all()):
            row = np.argwhere(~(np.isfinite(values) & (values >= 0)))[0]
            raise ValueError(f"{name}: {field} at {tuple(row.tolist())} is negative or not finite")
    if not (weights.sum(-1) > 0).all():
        raise ValueError(f"{name}: no item has a positive weight")
    for root, span in zip(tree.roots, tree.root_leaves, strict=True):
        mass = probs[..., span].sum(axis=-1)
        if (mass > 1 + _MASS_TOLERANCE).any():
            row = np.argwhere(mass > 1 + _MASS_TOLERANCE)[0]
            raise ValueError(
                f"{name}: leaf_probs of item {row[-1]} sum to {mass[tuple(row)]:.4g} over task "
                f"{tree.tasks[root].name!r}, expected at most 1"
            )
    mask = None
    if examples.task_mask is not None:
        mask = np.asarray(examples.task_mask)
        check_shape(f"{name}: task_mask", mask, (n, tree.num_tasks))
        if mask.dtype != bool:
            raise ValueError(f"{name}: task_mask: got dtype {mask.dtype}, expected bool")
    return probs, weights, mask
