"""Compiled programs of a tuning: many trials as replicas of one training.

Settings that are numbers of the loss or the optimiser go into the program as arrays, with an axis
of replicas; each combination of the others has a program of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metal_jax._core.optimiser import TRACED_SETTINGS, make_optimiser, make_traced_optimiser
from metal_jax._core.training_run import PausedReplicas, TrainingRun
from metal_jax.network._compiler.build import Network
from metal_jax.network._compiler.config import NetworkConfig
from metal_jax.network._training.examples import Batch, Examples, check_examples
from metal_jax.network._training.fit import FitConfig, training_functions
from metal_jax.network._training.loss_config import LossConfig
from metal_jax.network._training.objective import loss_optimiser
from metal_jax.network._tuning.search_space import (
    DROPOUT,
    OPTIMISER,
    TASK_WEIGHTS,
    SearchSpace,
    build_with,
    fit_config_with,
    is_traced,
    network_config_with,
)
from metal_jax.network._tuning.trials import Replica, Trial
from metal_jax.task_tree import TaskTree


class Program:
    """Trains trials that differ in traced settings alone, as replicas of one training.

    Args:
        network: the trials' network.
        config: their settings, but for the traced ones.
        traced: names of these in the space.
        scored_by: the loss that the scores of all trials are computed with.
        batches: training and validation items, checked.
        seed_keys: of the seeds.
        max_replicas: most that are trained at once; None for all.
        mesh: over which the replicas, or the items of batches, are spread.
    """

    def __init__(
        self,
        network: Network,
        config: FitConfig,
        traced: Collection[str],
        scored_by: LossConfig,
        batches: tuple[Batch, Batch],
        seed_keys: jax.Array,
        max_replicas: int | None,
        mesh: jax.sharding.Mesh | None,
    ):
        """Make loss, score and optimiser; nothing is compiled yet."""
        self.network = network
        # A trial's steps are fixed: stopping is the search's business.
        self._training = dataclasses.replace(config.training, patience=0)
        self._init, self._loss, _ = training_functions(network, config)
        scored = dataclasses.replace(config, loss=scored_by)
        self._score = training_functions(network, scored).score
        num_steps = config.training.num_steps
        optimiser = make_optimiser(config.optimiser, num_steps)
        if traced:
            own = tuple(name for name in TRACED_SETTINGS if OPTIMISER + name in traced)
            optimiser = make_traced_optimiser(config.optimiser, num_steps, own)
        self._optimiser = loss_optimiser(optimiser, config.loss)
        self._batches, self._mesh = batches, mesh
        self._seed_keys, self._max_replicas = seed_keys, max_replicas

    def advance(self, replicas: Sequence[Replica], num_steps: int) -> None:
        """Train replicas that are all at the same step up to a number of steps.

        They are taken in parts of equal size, at most `max_replicas`; what is missing in a part is
        filled with copies, so that there is one program.

        Args:
            replicas: changed in place.
            num_steps: of each, from the start.
        """
        most = len(replicas) if self._max_replicas is None else self._max_replicas
        num_parts = -(-len(replicas) // most)
        size = -(-len(replicas) // num_parts)
        for start in range(0, len(replicas), size):
            self._advance(replicas[start : start + size], size, num_steps)

    def _advance(self, replicas: Sequence[Replica], size: int, num_steps: int) -> None:
        filled = [*replicas, *[replicas[-1]] * (size - len(replicas))]
        traced = [replica.traced for replica in filled]
        run = TrainingRun(
            self._init,
            self._loss,
            self._score,
            self._optimiser,
            *self._batches,
            self._training,
            self._seed_keys[np.array([replica.seed for replica in filled])],
            (None, None),
            self._mesh,
            settings=jax.tree.map(lambda *x: np.stack(x), *traced) if traced[0] else None,
            paused=_paused(filled),
        )
        while run.num_steps < num_steps:
            run.chunk(num_steps)
        state = run.pause().state
        curves = np.stack(run.history.scores[self._training.watch])
        for i, replica in enumerate(replicas):
            replica.state = jax.tree.map(lambda x, i=i: x[i], state)
            replica.steps += run.history.steps
            replica.scores += curves[:, i].tolist()


def _paused(replicas: Sequence[Replica]) -> PausedReplicas | None:
    states = [replica.state for replica in replicas if replica.state is not None]
    if not states:
        return None
    return PausedReplicas(jax.tree.map(lambda *x: np.stack(x), *states), replicas[0].num_steps())


def make_trials(
    network: Network | Callable[..., Network],
    examples: Examples,
    validation: Examples,
    space: SearchSpace,
    settings: Sequence[dict[str, Any]],
    config: FitConfig,
    *,
    seed_keys: jax.Array,
    max_replicas: int | None,
    mesh: jax.sharding.Mesh | None,
) -> tuple[list[Trial], list[Program]]:
    """The trials of some settings, and the programs that they share.

    Args:
        network: see `tune`.
        examples: see `tune`.
        validation: see `tune`.
        space: what the settings were drawn from.
        settings: of each trial.
        config: what is not searched.
        seed_keys: of the seeds.
        max_replicas: see `TuneConfig`.
        mesh: see `fit`.

    Returns:
        Trials in the order of their settings, and programs.

    Raises:
        ValueError: see `tune`.
    """
    static = [name for name, values in space.items() if not is_traced(name, values)]
    tree = build_with(network, settings[0]).tree
    # On the device once, however many programs there are.
    examples, validation = (
        items._replace(inputs=jax.tree.map(jnp.asarray, items.inputs))
        for items in (examples, validation)
    )
    held_out = _check("validation", validation, tree, LossConfig())
    programs: list[Program] = []
    numbers: dict[tuple[Any, ...], int] = {}
    trials = []
    for index, values in enumerate(settings):
        fit = fit_config_with(config, values, tree)
        shared = {name: values[name] for name in static}
        number = numbers.setdefault(tuple(shared.values()), len(programs))
        if number == len(programs):
            own = fit_config_with(config, shared, tree)
            built = build_with(network, shared)
            if built.tree != tree:
                raise ValueError(f"network: got another task tree with {shared}, expected one tree")
            programs.append(
                Program(
                    built,
                    own,
                    [name for name in space if name not in static],
                    config.loss,
                    (_check("examples", examples, tree, own.loss), held_out),
                    seed_keys,
                    max_replicas,
                    mesh,
                )
            )
        net = network_config_with(programs[number].network.config, values)
        traced = _traced([name for name in values if name not in static], fit, net)
        replicas = [Replica(seed, traced) for seed in range(len(seed_keys))]
        trials.append(Trial(index, values, number, replicas, config.training.lower_is_better))
    return trials, programs


def _traced(names: Iterable[str], fit: FitConfig, network: NetworkConfig) -> dict[str, np.ndarray]:
    """What the compiled loss and optimiser are handed, under the names they know."""
    traced = {}
    for name in names:
        if name.startswith(TASK_WEIGHTS):
            traced["task_weights"] = np.asarray(fit.loss.task_weights, np.float32)
        elif name == DROPOUT:
            traced["dropout"] = np.asarray(network.dropout, np.float32)
        else:
            field = name.removeprefix(OPTIMISER)
            traced[field] = np.asarray(getattr(fit.optimiser, field), np.float32)
    return traced


def _check(name: str, examples: Examples, tree: TaskTree, loss: LossConfig) -> Batch:
    checked = check_examples(name, examples, tree, loss)
    if any(axis is not None for axis in checked.axes):
        raise ValueError(f"{name}: got labels or weights by replica, expected the same for all")
    return checked.batch
