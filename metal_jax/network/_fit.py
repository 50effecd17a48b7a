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
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.batches import BatchStream
from metal_jax._core.checks import check_last_axis
from metal_jax._core.optimiser import OptimiserConfig, make_optimiser
from metal_jax._core.precision import cast_floats
from metal_jax._core.training import OnProgress, train
from metal_jax._core.training_config import TrainingConfig
from metal_jax._core.training_logs import LogConfig
from metal_jax.checkpoint import CheckpointConfig, TrainingCheckpoints
from metal_jax.network._build import Network
from metal_jax.task_tree import TaskTree, node_sum


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """Settings of `fit`.

    Attributes:
        optimiser: learning rate, its schedule, weight decay, clipping.
        task_weights: weight of each task's loss, in the order of `tree.tasks`; all 1 by default.
        compute_dtype: "bfloat16" computes the network in it, from the parameters in float32 and
            back to float32 logits, so that softmax, loss and optimiser are in float32; None
            computes in the type of the parameters.
        training: batches, steps, evaluation, early stopping, averaging of parameters.
    """

    optimiser: OptimiserConfig = OptimiserConfig()
    task_weights: tuple[float, ...] | None = None
    compute_dtype: str | None = None
    training: TrainingConfig = TrainingConfig(num_steps=300)

    def __post_init__(self) -> None:
        if self.compute_dtype not in (None, "bfloat16"):
            raise ValueError(f"compute_dtype: got {self.compute_dtype!r}, expected 'bfloat16'")


class FitResult(NamedTuple):
    """A trained network; with r keys every array but `seconds` has an axis of r replicas.

    Attributes:
        params: parameters of the best watched score, by default of the lowest validation loss;
            float[r, ...] with r keys.
        best_step: int[] or int[r], the step they were reached at.
        num_steps: steps taken.
        train_loss: float[e] or [e, r], mean loss over the steps before each of e evaluations.
        valid_scores: name -> float[e] or [e, r]; "loss" is the validation loss.
        seconds: float[e], wall time up to each evaluation.
    """

    params: Any
    best_step: np.ndarray
    num_steps: int
    train_loss: np.ndarray
    valid_scores: dict[str, np.ndarray]
    seconds: np.ndarray

    @property
    def valid_loss(self) -> np.ndarray:
        """float[e] or [e, r], validation loss at each evaluation."""
        return self.valid_scores["loss"]


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
def _computed_in(network: Network, dtype: str | None) -> Network:
    """The network computed in another type; the types of parameters and results stay.

    Cached like `_objective`.
    """
    if dtype is None:
        return network

    def apply(params: Any, inputs: Any, key: jax.Array | None = None) -> jax.Array:
        return network.apply(cast_floats(params, dtype), cast_floats(inputs, dtype), key)

    return network._replace(apply=apply)


@functools.lru_cache(maxsize=64)
def _init(network: Network) -> Callable[[jax.Array, _Batch], Any]:
    """The network's parameters for such a batch."""
    return lambda key, batch: network.init(key, batch.inputs)


@functools.lru_cache(maxsize=64)
def _weighted(loss: Callable[..., jax.Array]) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """The mean loss of a batch with the weight of its items, by which means are joined."""
    return lambda params, batch, key: (loss(params, batch, key), jnp.sum(batch.weights))


def fit(
    network: Network,
    examples: Examples | Iterable[Examples],
    validation: Examples,
    config: FitConfig = FitConfig(),
    *,
    key: jax.Array,
    mesh: jax.sharding.Mesh | None = None,
    on_progress: OnProgress | None = None,
    log: str | os.PathLike[str] | LogConfig | None = None,
    checkpoints: str | os.PathLike[str] | CheckpointConfig | None = None,
) -> FitResult:
    """Train a network on soft labels, keep the parameters of the best validation score.

    Args:
        network: from `build`.
        examples: training items; where they do not fit on the device, an iterable of batches of
            them, all of the same shapes, read again and again. An iterator with `get_state` and
            `set_state` (as Grain's) is saved and restored with the checkpoints; any other is read
            up to where it was, with a warning.
        validation: items for early stopping; soft labels of held-out items serve when there is no
            gold.
        config: settings.
        key: one typed key, or r of them to train r replicas at once; consumed.
        mesh: devices along an axis "replica", over which the replicas are spread (their parameters
            stay there), or "data", over which the items of each batch are, or both.
        on_progress: called as `(step, {"train_loss": ..., "valid_loss": ..., ...})` after each
            evaluation, with an array float[r] for each score.
        log: file of run records, which `exhaust.read_runs` reads, or more in a `LogConfig`.
        checkpoints: folder where the training is saved after each evaluation, or more in a
            `CheckpointConfig`. A training that is found there goes on where it was, to the same
            result bit for bit.

    Returns:
        Parameters and curves.

    Raises:
        ValueError: arrays of different length, soft labels of the wrong width, NaN in inputs or
            labels (names the item), no item with a positive weight, sizes that do not divide, or
            checkpoints of another training (names what differs).
    """
    replicated = key.ndim == 1
    data: Any
    if isinstance(examples, Examples):
        data, train_axes = _batch("examples", examples, network.tree)
    else:
        data = BatchStream(examples, lambda batch: _batch("examples", batch, network.tree)[0])
        _, train_axes = _batch("examples", data.first(), network.tree)
    valid_batch, valid_axes = _batch("validation", validation, network.tree)
    loss, score = _objective(_computed_in(network, config.compute_dtype), config.task_weights)
    settings = dataclasses.asdict(config)
    if checkpoints is not None and not isinstance(checkpoints, CheckpointConfig):
        checkpoints = CheckpointConfig(checkpoints)
    if log is not None:
        log = log if isinstance(log, LogConfig) else LogConfig(log)
        fields = {"optimiser": {"name": "adamw", **settings["optimiser"]}, **log.fields}
        log = dataclasses.replace(log, fields=fields)
    result = train(
        _init(network),
        _weighted(loss),
        score,
        make_optimiser(config.optimiser, config.training.num_steps),
        data,
        valid_batch,
        config.training,
        key if replicated else key[None],
        data_axes=(train_axes, valid_axes),
        mesh=mesh,
        on_progress=on_progress,
        log=log,
        checkpoints=None if checkpoints is None else TrainingCheckpoints(checkpoints),
        identity={"task_tree": network.tree.to_dict(), "config": settings},
    )
    if replicated:
        return FitResult(*result)
    params, scores = jax.tree.map(lambda x: x[0], result.params), result.scores
    return FitResult(
        params,
        result.best_step[0],
        result.num_steps,
        result.train_loss[:, 0],
        {name: values[:, 0] for name, values in scores.items()},
        result.seconds,
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
