r"""Training a compiled network on soft labels.

The loss of an item with label-model posterior q is

.. math:: -\sum_t w_t \sum_v q(Y_t = v) \log P(Y_t = v \mid \text{parent label}),

a soft cross-entropy for each task in which a child counts by the probability that it is active,
since its marginals sum to that. With unit task weights this is the expected negative
log-likelihood of the path (Ratner et al., AAAI 2019, section 3, noise-aware loss).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from metal_jax._core.checks import check_last_axis
from metal_jax._core.training import TrainingConfig, train
from metal_jax.network._build import Network
from metal_jax.task_tree import TaskTree, node_sum


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """Settings of `fit`.

    Attributes:
        learning_rate: peak of Adam's; warmed up over `warmup_steps`, then a cosine down to zero.
        warmup_steps: see above.
        weight_decay: decoupled, times the learning rate in each step (AdamW); strong, since every
            n-gram has an embedding and most are rare.
        task_weights: weight of each task's loss, in the order of `tree.tasks`; all 1 by default.
        training: batches, steps, evaluation, early stopping.
    """

    learning_rate: float = 3e-2
    warmup_steps: int = 20
    weight_decay: float = 0.6
    task_weights: tuple[float, ...] | None = None
    training: TrainingConfig = TrainingConfig(num_steps=300)


class FitResult(NamedTuple):
    """A trained network; with r keys every array has a leading axis of r replicas.

    Attributes:
        params: parameters of the lowest validation loss.
        best_step: int[] or int[r], the step they were reached at.
        num_steps: steps taken.
        train_loss: float[chunks] or [chunks, r], mean loss over each chunk of steps.
        valid_loss: float[chunks] or [chunks, r], validation loss after each.
    """

    params: Any
    best_step: np.ndarray
    num_steps: int
    train_loss: np.ndarray
    valid_loss: np.ndarray


class Examples(NamedTuple):
    """Items with soft labels.

    Attributes:
        inputs: pytree of arrays with a leading axis of n items, as the encoder takes them.
        leaf_probs: float[n, s], soft labels over leaf states, or float[r, n, s] with different
            ones for each replica.
        weights: float[n] or float[r, n], weight of each item; None for ones. Give items without a
            vote weight 0, or leave them out.
    """

    inputs: Any
    leaf_probs: ArrayLike
    weights: ArrayLike | None = None


class _Batch(NamedTuple):
    inputs: Any
    node_probs: jax.Array
    weights: jax.Array


def soft_label_loss(
    log_conditionals: jax.Array, node_probs: jax.Array, node_weights: ArrayLike = 1.0
) -> jax.Array:
    """Activity-weighted soft cross-entropy of each item.

    Args:
        log_conditionals: float[b, N], `log P(label | parent label)` from `Network.apply`.
        node_probs: float[b, N], soft labels as node marginals, `task_tree.node_sum` of leaf
            posteriors.
        node_weights: float[N], the weight of each node's task.

    Returns:
        float[b].
    """
    # 0 * -inf is 0 here: an impossible label without mass costs nothing.
    terms = jnp.where(node_probs > 0, node_probs * log_conditionals, 0)
    return -jnp.sum(terms * node_weights, axis=-1)


@functools.lru_cache(maxsize=64)
def _objective(network: Network, task_weights: tuple[float, ...] | None):
    """Loss and score of a network.

    Cached, since `jax.jit` recognises a function by identity: a second fit does not recompile.
    """
    tree = network.tree
    weights = np.ones(tree.num_tasks) if task_weights is None else np.asarray(task_weights)
    check_last_axis("task_weights", weights, tree.num_tasks)
    node_weights = jnp.asarray(weights[tree.node_task], jnp.float32)

    def mean_loss(params: Any, batch: _Batch, key: jax.Array | None) -> jax.Array:
        log_conditionals = network.apply(params, batch.inputs, key)
        losses = soft_label_loss(log_conditionals, batch.node_probs, node_weights)
        total = jnp.sum(batch.weights)
        return jnp.sum(losses * batch.weights) / jnp.maximum(total, 1e-6)

    def score(params: Any, batch: _Batch) -> jax.Array:
        return mean_loss(params, batch, None)

    return mean_loss, score


@functools.lru_cache(maxsize=64)
def _optimiser(config: FitConfig) -> optax.GradientTransformation:
    num_steps = config.training.num_steps
    warmup_steps = min(config.warmup_steps, num_steps - 1)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, warmup_steps, num_steps
    )
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=config.weight_decay)
    )


def fit(
    network: Network,
    examples: Examples,
    validation: Examples,
    config: FitConfig = FitConfig(),
    *,
    key: jax.Array,
    mesh: jax.sharding.Mesh | None = None,
    on_progress: Callable[[int, dict[str, np.ndarray]], None] | None = None,
) -> FitResult:
    """Train a network on soft labels, keep the parameters of the lowest validation loss.

    Args:
        network: from `build`.
        examples: training items.
        validation: items for early stopping; soft labels of held-out items serve when there is no
            gold.
        config: settings.
        key: one typed key, or r of them to train r replicas at once; consumed.
        mesh: device mesh with one axis to spread the replicas over; their parameters stay there.
        on_progress: called as `(step, {"train_loss", "valid_score"})` after each chunk of steps.

    Returns:
        Parameters and curves.

    Raises:
        ValueError: arrays of different length, soft labels of the wrong width, NaN in inputs or
            labels (names the item), or no item with a positive weight.
    """
    replicated = key.ndim == 1
    train_batch, train_axes = _batch("examples", examples, network.tree)
    valid_batch, valid_axes = _batch("validation", validation, network.tree)
    loss, score = _objective(network, config.task_weights)
    first = jax.tree.map(lambda x: x[:1], train_batch.inputs)
    result = train(
        lambda k: network.init(k, first),
        loss,
        score,
        _optimiser(config),
        train_batch,
        train_batch.weights.shape[-1],
        valid_batch,
        config.training,
        key if replicated else key[None],
        data_axes=(train_axes, valid_axes),
        mesh=mesh,
        on_progress=on_progress,
    )
    if replicated:
        return FitResult(*result)
    return FitResult(
        jax.tree.map(lambda x: x[0], result.params),
        result.best_step[0],
        result.num_steps,
        result.train_loss[:, 0],
        result.valid_score[:, 0],
    )


def _batch(name: str, examples: Examples, tree: TaskTree) -> tuple[_Batch, _Batch]:
    """Check examples on the host; device arrays, and which of them differ between replicas."""
    probs = np.asarray(examples.leaf_probs)
    if probs.ndim not in (2, 3) or probs.shape[-1] != tree.num_leaves:
        raise ValueError(
            f"{name}: got leaf_probs of shape {probs.shape}, expected [n, {tree.num_leaves}]"
        )
    n = probs.shape[-2]
    weights = np.ones(n) if examples.weights is None else np.asarray(examples.weights)
    for path, leaf in jax.tree.leaves_with_path(examples.inputs):
        field = f"{name}: inputs{jax.tree_util.keystr(path)}"
        if leaf.shape[0] != n:
            raise ValueError(f"{field} has {leaf.shape[0]} items, leaf_probs has {n}")
        if np.issubdtype(leaf.dtype, np.floating) and not np.isfinite(leaf).all():
            row = np.argwhere(~np.isfinite(np.asarray(leaf)))[0][0]
            raise ValueError(f"{field}: item {row} is not finite")
    if weights.shape[-1] != n or weights.ndim > probs.ndim - 1 + (probs.ndim == 2):
        raise ValueError(f"{name}: got weights of shape {weights.shape}, expected [{n}]")
    for field, values in (("leaf_probs", probs), ("weights", weights)):
        if not (np.isfinite(values).all() and (values >= 0).all()):
            row = np.argwhere(~(np.isfinite(values) & (values >= 0)))[0]
            raise ValueError(f"{name}: {field} at {tuple(row.tolist())} is negative or not finite")
    if not (weights.sum(-1) > 0).all():
        raise ValueError(f"{name}: no item has a positive weight")
    node_probs = node_sum(tree, jnp.asarray(probs, jnp.float32))
    inputs = jax.tree.map(jnp.asarray, examples.inputs)
    batch = _Batch(inputs, node_probs, jnp.asarray(weights, jnp.float32))
    axes = _Batch(None, 0 if probs.ndim == 3 else None, 0 if weights.ndim == 2 else None)  # pyright: ignore
    return batch, axes
