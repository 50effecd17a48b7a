"""Training a compiled network on soft labels; `_losses` states the loss."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from metal_jax._core.training import TrainingConfig, train
from metal_jax.network._build import Network
from metal_jax.network._examples import Examples, check_examples
from metal_jax.network._loss_config import LossConfig
from metal_jax.network._objective import initial_params, loss_optimiser, objective


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """Settings of `fit`.

    Attributes:
        learning_rate: peak of Adam's; warmed up over `warmup_steps`, then a cosine down to zero.
        warmup_steps: see above.
        weight_decay: decoupled, times the learning rate in each step (AdamW); strong, since every
            n-gram has an embedding and most are rare.
        loss: which loss.
        training: batches, steps, evaluation, early stopping.
    """

    learning_rate: float = 3e-2
    warmup_steps: int = 20
    weight_decay: float = 0.6
    loss: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig(num_steps=300)


class FitResult(NamedTuple):
    """A trained network; with r keys every array has a leading axis of r replicas.

    Attributes:
        params: parameters of the lowest validation loss.
        best_step: int[] or int[r], the step they were reached at.
        num_steps: steps taken.
        train_loss: float[chunks] or [chunks, r], mean loss over each chunk of steps.
        valid_loss: float[chunks] or [chunks, r], validation loss after each, without what is for
            training only: dropout, consistency, learned task weights.
        unsupervised_tasks: names of the tasks that no training item has a label for (in some
            replica); they were not trained.
    """

    params: Any
    best_step: np.ndarray
    num_steps: int
    train_loss: np.ndarray
    valid_loss: np.ndarray
    unsupervised_tasks: tuple[str, ...] = ()


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
            labels (names the item), no item with a positive weight, or no label left.
    """
    replicated = key.ndim == 1
    training = check_examples("examples", examples, network.tree, config.loss)
    held_out = check_examples("validation", validation, network.tree, LossConfig())
    loss, score = objective(network, config.loss)
    first = jax.tree.map(lambda x: x[:1], training.batch.inputs)
    result = train(
        lambda k: initial_params(network, config.loss, k, first),
        loss,
        score,
        loss_optimiser(_optimiser(config), config.loss),
        training.batch,
        training.batch.weights.shape[-1],
        held_out.batch,
        config.training,
        key if replicated else key[None],
        data_axes=(training.axes, held_out.axes),
        mesh=mesh,
        on_progress=on_progress,
    )
    if replicated:
        return FitResult(*result, training.unsupervised_tasks)
    return FitResult(
        jax.tree.map(lambda x: x[0], result.params),
        result.best_step[0],
        result.num_steps,
        result.train_loss[:, 0],
        result.valid_score[:, 0],
        training.unsupervised_tasks,
    )
