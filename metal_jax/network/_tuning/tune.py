"""Tuning of the network's settings: many settings and seeds trained at once, the bad ones stopped.

Settings that leave the compiled program as it is are an axis of replicas; over the others, each a
program of its own, the search is random. What is trained for how long follows random search,
successive halving or Hyperband.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax

from metal_jax._core.checks import check_rank
from metal_jax.network._compiler.build import Network
from metal_jax.network._training.examples import Examples
from metal_jax.network._training.fit import FitConfig
from metal_jax.network._tuning.brackets import Rung, halving_rungs, hyperband_brackets, select
from metal_jax.network._tuning.programs import Program, make_trials
from metal_jax.network._tuning.search_space import (
    SearchSpace,
    build_with,
    check_space,
    draw_settings,
    fit_config_with,
)
from metal_jax.network._tuning.trials import Trial

Method = Literal["random", "halving", "hyperband"]


@dataclasses.dataclass(frozen=True)
class TuneConfig:
    """Settings of `tune`.

    Attributes:
        method: "random" trains every trial for all steps; "halving" is successive halving
            (Jamieson and Talwalkar, AISTATS 2016); "hyperband" runs it in several brackets, from
            many trials that are stopped early to a few that are not (Li et al., JMLR 2018).
        num_trials: settings that are tried; "hyperband" finds the number itself, see table 1 there.
        num_seeds: trainings of each trial, whose scores are averaged.
        min_steps: the fewest that a trial is judged after.
        reduction: one in so many trials goes on from each rung, for so many times the steps.
        num_programs: most draws of the settings that need a compilation of their own.
        max_replicas: most trials times seeds that are trained at once, to bound memory; None: all.
        fit: what is not searched. `fit.training.num_steps` is the full length of a trial, to which
            schedules of the learning rate refer also where a trial is stopped before. Patience
            does not apply: a trial's steps are fixed, and its best evaluation counts.
    """

    method: Method = "halving"
    num_trials: int = 27
    num_seeds: int = 1
    min_steps: int = 30
    reduction: int = 3
    num_programs: int = 4
    max_replicas: int | None = None
    fit: FitConfig = FitConfig()

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ValueError(
                f"method: got {self.method!r}, expected one of {list(get_args(Method))}"
            )
        for name in ("num_trials", "num_seeds", "min_steps", "num_programs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected at least 1")
        if self.max_replicas is not None and self.max_replicas < 1:
            raise ValueError(f"max_replicas: got {self.max_replicas}, expected at least 1")
        if self.reduction < 2:
            raise ValueError(f"reduction: got {self.reduction}, expected at least 2")
        num_steps = self.fit.training.num_steps
        if self.min_steps > num_steps:
            raise ValueError(
                f"min_steps: got {self.min_steps}, expected at most the steps of a training, "
                f"{num_steps}"
            )

    def brackets(self) -> tuple[tuple[Rung, ...], ...]:
        """How many trials get to how many steps, for each bracket.

        Example:
            >>> TuneConfig("random", num_trials=8).brackets()
            ((Rung(num_trials=8, num_steps=300),),)
        """
        num_steps = self.fit.training.num_steps
        if self.method == "random":
            return ((Rung(self.num_trials, num_steps),),)
        if self.method == "halving":
            return (halving_rungs(self.num_trials, num_steps, self.min_steps, self.reduction),)
        return hyperband_brackets(num_steps, self.min_steps, self.reduction)


class TuneResult(NamedTuple):
    """The best settings found, and everything that was tried.

    Attributes:
        best_settings: name -> value.
        best_score: the watched validation score, averaged over the seeds.
        best_trial: number of the trial.
        params: parameters of the best seed of these settings, without an axis of replicas.
        network: the network that they belong to.
        config: `FitConfig` with the best settings, to fit again.
        table: for each trial and seed, as plain JSON: "trial", "bracket", "rung" (the last it
            reached, from 0), "settings", "trial_score" (mean over the seeds; None where one of them
            diverged), "seed", "steps", "score" (the best of this seed), "diverged", and "curve"
            with the "steps" and "scores" of its evaluations.
        num_steps: optimiser steps spent, over all trials and seeds.
    """

    best_settings: dict[str, Any]
    best_score: float
    best_trial: int
    params: Any
    network: Network
    config: FitConfig
    table: list[dict[str, Any]]
    num_steps: int


def tune(
    network: Network | Callable[..., Network],
    examples: Examples,
    validation: Examples,
    space: SearchSpace,
    config: TuneConfig = TuneConfig(),
    *,
    key: jax.Array,
    mesh: jax.sharding.Mesh | None = None,
    on_progress: Callable[[int, dict[str, float]], None] | None = None,
) -> TuneResult:
    """Search the settings of a network and its training.

    Trials that differ in numbers for "optimiser.learning_rate", "optimiser.weight_decay",
    "optimiser.max_gradient_norm", "loss.task_weights." of a task or "network.dropout" alone are
    replicas of one compiled program, as are seeds; the other settings are drawn at most
    `num_programs` times together. A program is compiled once for each number of replicas, that is
    at most once for each size of a rung; a trial that goes on keeps its state.

    All trials see the same seeds: seed j is trained by the key `jax.random.split(k, num_seeds)[j]`
    with `_, k = jax.random.split(key)`, from which `fit` makes the same network. How many replicas
    are trained at once changes results by rounding only.

    A trial's score is the best of its evaluations, averaged over the seeds and computed with the
    loss of `config.fit`, whatever loss it is trained by. Of equal trials the first counts. A trial
    whose newest score is not finite has diverged: it comes last, and stays in the table.

    Args:
        network: from `build`; or a function that builds one, called with what the space holds under
            "build." as keywords. For equal arguments it should return equal networks, as `build`
            does, so that a second search finds its compiled programs.
        examples: training items, the same labels for all trials.
        validation: items to choose by: with gold labels as one-hot `leaf_probs`, or held-out soft
            labels.
        space: name of a setting -> `Uniform`, `LogUniform` or `Choice`. Names are places in
            `FitConfig` ("optimiser.learning_rate", "training.batch_size"), with the task's name at
            the end for "loss.task_weights."; in `NetworkConfig` ("network.dropout"); or "build."
            with an argument of the function.
        config: method and budget.
        key: one typed key, consumed.
        mesh: see `fit`.
        on_progress: called after each rung as `(steps spent, {"bracket", "rung", "num_trials",
            "best_score"})`; the best of this rung, NaN if all have diverged.

    Returns:
        The best settings and parameters, and the table of trials.

    Raises:
        ValueError: an empty space, an unknown name, a value that a setting does not take, examples
            that `fit` does not take, or every trial has diverged.

    Example:
        >>> import numpy as np
        >>> from metal_jax.network import Encoder, LogUniform, NetworkConfig, TrainingConfig, build
        >>> from metal_jax.task_tree import TaskTree
        >>> raw = Encoder(lambda key, inputs: {}, lambda params, inputs, key: inputs)
        >>> net = build(TaskTree.single(2), raw, NetworkConfig((4,)))
        >>> x = np.linspace(-1, 1, 8, dtype=np.float32)[:, None]
        >>> examples = Examples(x, np.eye(2)[(x[:, 0] > 0).astype(int)])
        >>> fit = FitConfig(training=TrainingConfig(num_steps=4))
        >>> result = tune(
        ...     net,
        ...     examples,
        ...     examples,
        ...     {"optimiser.learning_rate": LogUniform(1e-3, 1e-1)},
        ...     TuneConfig("random", num_trials=2, min_steps=1, fit=fit),
        ...     key=jax.random.key(0),
        ... )
        >>> [row["steps"] for row in result.table], result.num_steps
        ([4, 4], 8)
    """
    check_space(space)
    check_rank("key", key, 0)
    draw_key, fit_key = jax.random.split(key)
    brackets = config.brackets()
    num_trials = sum(rungs[0].num_trials for rungs in brackets)
    settings = draw_settings(space, num_trials, config.num_programs, draw_key)
    seed_keys = jax.random.split(fit_key, config.num_seeds)
    trials, programs = make_trials(
        network,
        examples,
        validation,
        space,
        settings,
        config.fit,
        seed_keys=seed_keys,
        max_replicas=config.max_replicas,
        mesh=mesh,
    )
    best = _Best()
    waiting = iter(trials)
    for bracket, rungs in enumerate(brackets):
        alive = list(itertools.islice(waiting, rungs[0].num_trials))
        for rung, (_, num_steps) in enumerate(rungs):
            _advance(alive, programs, num_steps)
            for trial in alive:
                trial.bracket, trial.rung = bracket, rung
            num_kept = rungs[rung + 1].num_trials if rung + 1 < len(rungs) else 0
            survivors, finished = select(alive, num_kept)
            if on_progress is not None:
                score = (survivors + finished)[0].score()
                numbers = {
                    "bracket": float(bracket),
                    "rung": float(rung),
                    "num_trials": float(len(alive)),
                    "best_score": math.nan if score is None else score,
                }
                on_progress(sum(trial.num_steps() for trial in trials), numbers)
            for trial in finished:
                best.offer(trial)
                trial.release()
            if not survivors:
                break
            alive = sorted(survivors, key=lambda trial: trial.index)
    if best.trial is None:
        raise ValueError(
            f"all {len(trials)} trials have diverged: none ends with a finite score; expected a "
            "space with smaller learning rates"
        )
    found = best.trial
    built = build_with(network, found.settings)
    return TuneResult(
        dict(found.settings),
        best.score,
        found.index,
        best.params,
        built,
        fit_config_with(config.fit, found.settings, built.tree),
        [row for trial in trials for row in trial.rows()],
        sum(trial.num_steps() for trial in trials),
    )


class _Best:
    """The best of the finished trials, with its parameters."""

    def __init__(self) -> None:
        self.trial: Trial | None = None
        self.score = math.nan
        self.params: Any = None

    def offer(self, trial: Trial) -> None:
        score = trial.score()
        if score is None:
            return
        if self.trial is None or trial.rank() < self.trial.rank():
            self.trial, self.score, self.params = trial, score, trial.best_params()


def _advance(trials: Sequence[Trial], programs: Sequence[Program], num_steps: int) -> None:
    for number, program in enumerate(programs):
        replicas = [r for trial in trials if trial.program == number for r in trial.replicas]
        if replicas:
            program.advance(replicas, num_steps)
