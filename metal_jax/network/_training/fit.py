"""Training a compiled network on soft labels; `_losses` states the loss."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metal_jax._core.batches import BatchStream
from metal_jax._core.optimiser import OptimiserConfig, make_optimiser
from metal_jax._core.precision import cast_floats
from metal_jax._core.training import OnProgress, train
from metal_jax._core.training_config import TrainingConfig
from metal_jax._core.training_logs import LogConfig
from metal_jax._core.training_state import Init, Score
from metal_jax._core.training_steps import Loss
from metal_jax.checkpoint import CheckpointConfig, TrainingCheckpoints
from metal_jax.network._compiler.build import Network
from metal_jax.network._training.examples import Batch, Examples, check_examples
from metal_jax.network._training.loss_config import LossConfig
from metal_jax.network._training.objective import initial_params, loss_optimiser, objective


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """Settings of `fit`.

    Attributes:
        optimiser: learning rate, its schedule, weight decay, clipping.
        loss: which loss, and which labels it trusts.
        compute_dtype: "bfloat16" computes the network in it, from the parameters in float32 and
            back to float32 logits, so that softmax, loss and optimiser are in float32; None
            computes in the type of the parameters.
        training: batches, steps, evaluation, early stopping, averaging of parameters.
    """

    optimiser: OptimiserConfig = OptimiserConfig()
    loss: LossConfig = LossConfig()
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
        unsupervised_tasks: names of the tasks that no training item has a label for (in some
            replica), which were not trained; not known, and empty, where examples are streamed.
    """

    params: Any
    best_step: np.ndarray
    num_steps: int
    train_loss: np.ndarray
    valid_scores: dict[str, np.ndarray]
    seconds: np.ndarray
    unsupervised_tasks: tuple[str, ...] = ()

    @property
    def valid_loss(self) -> np.ndarray:
        """float[e] or [e, r], validation loss at each evaluation."""
        return self.valid_scores["loss"]


@functools.lru_cache(maxsize=64)
def _computed_in(network: Network, dtype: str | None) -> Network:
    """The network computed in another type; the types of parameters and results stay.

    Cached like `objective`.
    """
    if dtype is None:
        return network

    def apply(params: Any, inputs: Any, key: jax.Array | None = None, **own: Any) -> jax.Array:
        return network.apply(cast_floats(params, dtype), cast_floats(inputs, dtype), key, **own)

    return network._replace(apply=apply)


@functools.lru_cache(maxsize=64)
def _init(network: Network, config: LossConfig) -> Callable[[jax.Array, Batch], Any]:
    """The parameters of network and loss for such a batch."""
    return lambda key, batch: initial_params(network, config, key, batch.inputs)


@functools.lru_cache(maxsize=64)
def _weighted(loss: Callable[..., jax.Array]) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """The mean loss of a batch with the weight of its items, by which means are joined."""

    def weighted(params: Any, batch: Batch, key: jax.Array, **own: Any) -> Any:
        return loss(params, batch, key, **own), jnp.sum(batch.weights)

    return weighted


class TrainingFunctions(NamedTuple):
    """What the training engine is given of a network.

    Attributes:
        init: `(key, batch) -> params`.
        loss: `(params, batch, key, settings=None) -> (loss, weight)`, see `objective`.
        score: `(params, batch) -> validation loss`.
    """

    init: Init
    loss: Loss
    score: Score


def training_functions(network: Network, config: FitConfig) -> TrainingFunctions:
    """Functions to train a network by; the same ones for the same arguments."""
    loss, score = objective(_computed_in(network, config.compute_dtype), config.loss)
    return TrainingFunctions(_init(network, config.loss), _weighted(loss), score)


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
            stay there), "data", over which the items of each batch are, "model", over which the
            labels of wide heads and the units of wide layers are, or several of them. Of several
            processes (see `distributed`) all make this call, with the same examples or, where
            these are an iterable, each with its own share of every batch.
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
            labels (names the item), no item with a positive weight, no label left to learn from,
            sizes that do not divide, or checkpoints of another training (names what differs).

    Example:
        >>> from metal_jax.network import build, mlp
        >>> from metal_jax.task_tree import TaskTree
        >>> net = build(TaskTree.single(2), mlp((4,), dropout=0.0))
        >>> x = np.array([[0.0], [1.0]] * 8, np.float32)
        >>> examples = Examples(x, np.eye(2, dtype=np.float32)[x[:, 0].astype(int)])
        >>> config = FitConfig(training=TrainingConfig(num_steps=2, steps_per_chunk=2))
        >>> fit(net, examples, examples, config, key=jax.random.key(0)).num_steps
        2
    """
    replicated = key.ndim == 1
    data: Any
    unsupervised: tuple[str, ...] = ()
    if isinstance(examples, Examples):
        data, train_axes, unsupervised = check_examples(
            "examples", examples, network.tree, config.loss
        )
    else:
        data = BatchStream(
            examples, lambda batch: check_examples("examples", batch, network.tree, config.loss)[0]
        )
        _, train_axes, _ = check_examples("examples", data.first(), network.tree, config.loss)
    valid_batch, valid_axes, _ = check_examples(
        "validation", validation, network.tree, LossConfig()
    )
    functions = training_functions(network, config)
    settings = dataclasses.asdict(config)
    del settings["training"]  # `train` compares its own
    if checkpoints is not None and not isinstance(checkpoints, CheckpointConfig):
        checkpoints = CheckpointConfig(checkpoints)
    if log is not None:
        log = log if isinstance(log, LogConfig) else LogConfig(log)
        fields = {"optimiser": {"name": "adamw", **settings["optimiser"]}, **log.fields}
        log = dataclasses.replace(log, fields=fields)
    result = train(
        *functions,
        loss_optimiser(make_optimiser(config.optimiser, config.training.num_steps), config.loss),
        data,
        valid_batch,
        config.training,
        key if replicated else key[None],
        data_axes=(train_axes, valid_axes),
        mesh=mesh,
        on_progress=on_progress,
        log=log,
        checkpoints=None if checkpoints is None else TrainingCheckpoints(checkpoints),
        identity={
            "task_tree": network.tree.to_dict(),
            "network": dataclasses.asdict(network.config),
            "config": settings,
        },
    )
    if replicated:
        return FitResult(*result, unsupervised)
    params, scores = jax.tree.map(lambda x: x[0], result.params), result.scores
    return FitResult(
        params,
        result.best_step[0],
        result.num_steps,
        result.train_loss[:, 0],
        {name: values[:, 0] for name, values in scores.items()},
        result.seconds,
        unsupervised,
    )
