"""Search replayed on recorded runs: what would have been found after how many seconds.

Nothing is trained: a method is charged the recorded seconds of the epochs that it asks for and
sees the recorded values of those epochs only. Legend: n runs, e epochs, a larger score is better.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import jax
import numpy as np
from jax.typing import ArrayLike
from scipy.special import ndtr

from metal_jax._core.checks import check_known, real_array
from metal_jax.exhaust._curve_baselines import first_epochs
from metal_jax.exhaust._records import Run
from metal_jax.exhaust._targets import elapsed_seconds, goal, num_epochs

METHODS = ("random", "halving", "predictor")

CurvePredictor: TypeAlias = Callable[[Sequence[Run], int], tuple[ArrayLike, ArrayLike]]
"""(runs cut to the epochs seen, epochs seen) -> mean float[n] and standard deviation float[n] of
the final best value of each, in the metric's own sign and unit."""


@dataclasses.dataclass(frozen=True)
class SuccessiveConfig:
    """Settings of the replay; a choice of this library.

    Attributes:
        checks: epochs after which a run may be stopped, increasing.
        min_chance: "predictor" stops a run whose chance to beat the best found is below this.
        bracket: how many runs "halving" starts at once.
        reduction: "halving" keeps one of so many at each check.
    """

    checks: tuple[int, ...] = (1, 3, 9)
    min_chance: float = 0.05
    bracket: int = 27
    reduction: int = 3

    def __post_init__(self):
        """Checks that do not increase would train backwards."""
        increasing = all(a < b for a, b in zip((0, *self.checks), self.checks, strict=False))
        if not increasing or not 0 <= self.min_chance <= 1:
            raise ValueError(
                f"got checks={self.checks} and min_chance={self.min_chance}, "
                "expected increasing epochs from 1 and a probability"
            )
        if self.bracket < 1 or self.reduction < 2:
            raise ValueError(
                f"got bracket={self.bracket} and reduction={self.reduction}, "
                "expected 1 or more and 2 or more"
            )


class SearchTrace(NamedTuple):
    """The best found so far, at every time it got better.

    Attributes:
        seconds: float64[m], spent on training by then, increasing.
        best: float64[m], best recorded value among the epochs trained.
        run: int64[m], which run it is of.
        spent: seconds spent altogether.
        num_started: how many runs were started.
    """

    seconds: np.ndarray
    best: np.ndarray
    run: np.ndarray
    spent: float
    num_started: int


def successive_search(
    runs: Sequence[Run],
    role: str,
    metric: str,
    method: str,
    *,
    key: jax.Array,
    predict: CurvePredictor | None = None,
    seconds_limit: float = math.inf,
    config: SuccessiveConfig | None = None,
) -> SearchTrace:
    """Replay a search over recorded runs until the time is spent or no run is left.

    - "random": every run to its end, in random order.
    - "halving": `bracket` runs to the first check, the best of those to the next one, ...
      (successive halving, Jamieson and Talwalkar, 2016), then the next bracket.
    - "predictor": one run after the other; at each check a run is stopped if its predicted chance
      to end above the best found is below `min_chance` (Baker et al., 2018, section 5).

    All three take the runs in one random order, drawn from the key. An epoch that ends after the
    limit is not seen. Runs without a known time of each epoch are left out.

    Args:
        runs: n finished runs.
        role: train, validation or test.
        metric: whose best value over the epochs is searched.
        method: one of `METHODS`.
        key: of the order, consumed.
        predict: for "predictor": fitted on other runs than these.
        seconds_limit: seconds of training altogether.
        config: checks and chances, `SuccessiveConfig()` by default.

    Returns:
        What was found when.

    Raises:
        ValueError: the method is unknown, or "predictor" has no predictor.

    Example:
        >>> from metal_jax.exhaust import curve
        >>> runs = [Run(str(x), metrics={"test": {"accuracy": curve([x / 2, x])}}, seconds=(2, 2))
        ...         for x in (0.5, 0.5)]
        >>> trace = successive_search(runs, "test", "accuracy", "random", key=jax.random.key(0))
        >>> trace.best.tolist(), trace.seconds.tolist(), trace.spent
        ([0.25, 0.5], [2.0, 4.0], 8.0)
    """
    config = SuccessiveConfig() if config is None else config
    if method not in METHODS or (method == "predictor" and predict is None):
        raise ValueError(
            f"got method {method!r:.60}, expected one of {METHODS}, 'predictor' with predict"
        )
    order = np.asarray(jax.random.permutation(key, len(runs)))
    replay = _Replay(runs, role, metric, seconds_limit)
    order = [int(i) for i in order if replay.length[i] > 0]
    if method == "predictor" and predict is not None:
        stops = _stops_of_predictor(replay, order, predict, config)
    elif method == "halving":
        stops = _stops_of_halving(replay, order, config)
    else:
        stops = ((i, int(replay.length[i])) for i in order)
    for i, epoch in stops:
        if not replay.train(i, epoch):
            break
    return replay.trace()


def best_at(trace: SearchTrace, seconds: ArrayLike) -> np.ndarray:
    """The best found by given times, to compare searches at equal training seconds.

    Args:
        trace: of one search.
        seconds: float[q].

    Returns:
        float64[q]; NaN before the first value.

    Raises:
        ValueError: no real numbers, or NaN.

    Example:
        >>> better_at, values, runs = np.array([1.0, 5.0]), np.array([0.6, 0.8]), np.array([3, 7])
        >>> trace = SearchTrace(better_at, values, runs, spent=9.0, num_started=4)
        >>> best_at(trace, [0.5, 2.0, 6.0]).tolist()
        [nan, 0.6, 0.8]
    """
    times = np.asarray(real_array("seconds", seconds), np.float64)
    check_known("seconds", ~np.isnan(times), "a time")
    place = np.searchsorted(trace.seconds, times, side="right")
    return np.concatenate([[np.nan], trace.best])[place]


class _Replay:
    """What has been trained so far; values with the sign that makes more better."""

    def __init__(self, runs: Sequence[Run], role: str, metric: str, seconds_limit: float):
        curves = [run.metrics.get(role, {}).get(metric) for run in runs]
        known = next((curve for curve in curves if curve is not None), None)
        self.sign = 1 if goal(metric, known) == "max" else -1
        self.runs, self.limit = runs, seconds_limit
        size = max((num_epochs(run) for run in runs), default=0)
        self.times = np.full((len(runs), size), np.nan)
        self.value = np.full((len(runs), size), -np.inf)
        for i, (run, curve) in enumerate(zip(runs, curves, strict=True)):
            elapsed = elapsed_seconds(run)
            self.times[i, : len(elapsed)] = np.diff(elapsed, prepend=0.0)
            if curve is not None and curve.epochs:
                values = self.sign * np.array(curve.values)
                self.value[i, np.array(curve.epochs) - 1] = np.where(
                    np.isnan(values), -np.inf, values
                )
        self.length = np.array([self._length(i) for i in range(len(runs))], int)
        self.trained = np.zeros(len(runs), int)
        self.spent, self.best = 0.0, -np.inf
        self.found: list[tuple[float, float, int]] = []

    def _length(self, i: int) -> int:
        """Epochs whose time is known; 0 unless it is known of all of them."""
        size = num_epochs(self.runs[i])
        return size if np.isfinite(self.times[i, :size]).all() else 0

    def train(self, i: int, epoch: int) -> bool:
        """Train run i up to an epoch; False if the time did not suffice."""
        for place in range(self.trained[i], min(epoch, self.length[i])):
            if self.spent + self.times[i, place] > self.limit:
                return False
            self.spent += float(self.times[i, place])
            self.trained[i] = place + 1
            if self.value[i, place] > self.best:
                self.best = float(self.value[i, place])
                self.found.append((self.spent, self.sign * self.best, i))
        return True

    def best_of(self, i: int) -> float:
        """The best value of a run among the epochs trained."""
        return float(np.max(self.value[i, : self.trained[i]], initial=-np.inf))

    def trace(self) -> SearchTrace:
        seconds, best, run = zip(*self.found, strict=True) if self.found else ((), (), ())
        return SearchTrace(
            np.array(seconds, np.float64),
            np.array(best, np.float64),
            np.array(run, np.int64),
            self.spent,
            int(np.sum(self.trained > 0)),
        )


def _stops_of_halving(
    replay: _Replay, order: Sequence[int], config: SuccessiveConfig
) -> Iterator[tuple[int, int]]:
    for start in range(0, len(order), config.bracket):
        alive = list(order[start : start + config.bracket])
        for check in config.checks:
            yield from ((i, check) for i in alive)
            kept = -(-len(alive) // config.reduction)
            alive = sorted(alive, key=replay.best_of, reverse=True)[:kept]
        yield from ((i, int(replay.length[i])) for i in alive)


def _stops_of_predictor(
    replay: _Replay, order: Sequence[int], predict: CurvePredictor, config: SuccessiveConfig
) -> Iterator[tuple[int, int]]:
    # One call for each check: the predictor does not depend on what was found before.
    mean, std = np.zeros((2, len(config.checks), len(replay.runs)))
    for place, check in enumerate(config.checks):
        cut = [first_epochs(run, check) for run in replay.runs]
        mean[place], std[place] = (np.asarray(x, np.float64) for x in predict(cut, check))
    for i in order:
        for place, check in enumerate(config.checks):
            yield i, check
            gap = replay.sign * mean[place, i] - replay.best
            chance = ndtr(gap / max(std[place, i], 1e-12))
            # A prediction that is not a number stops nothing.
            if chance < config.min_chance:
                break
        else:
            yield i, int(replay.length[i])
