"""Baselines by name, one signature for all: what a sceptic would try before a new predictor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike

from metal_jax.exhaust._edit_distance import pairwise
from metal_jax.exhaust._features import build_features, features
from metal_jax.exhaust._layer_kinds import num_layers
from metal_jax.exhaust._neighbours import (
    predict_from_closest_depth,
    predict_from_neighbours,
    predict_mean,
)
from metal_jax.exhaust._records import Run
from metal_jax.exhaust._regressors import REGRESSORS, fit_predict


class _Task(NamedTuple):
    """Fields as the arguments of `predict_baseline`; values are finite, in log where asked."""

    train_runs: Sequence[Run]
    values: np.ndarray
    test_runs: Sequence[Run]
    distances: np.ndarray | None
    seed: int
    num_neighbours: int
    softening: float


def predict_baseline(
    name: str,
    train_runs: Sequence[Run],
    values: ArrayLike,
    test_runs: Sequence[Run],
    *,
    seed: int,
    log: bool = False,
    distances: ArrayLike | None = None,
    num_neighbours: int = 10,
    softening: float = 0.1,
) -> np.ndarray:
    """Predict networks that were never trained by one of `BASELINES`.

    - "mean": of the training runs.
    - "closest_depth": the runs with the closest number of layers, ties averaged;
      "closest_depth_random": one of them at random.
    - "nearest": the smallest edit distance, ties averaged; "neighbours": the mean of the nearest,
      weighted by 1 / (distance + softening).
    - "ridge", "svr", "random_forest", "extra_trees", "gradient_boosting", "gaussian_process": of
      scikit-learn (extra `sklearn`) on `features`; penalty, widths, leaves and loss are chosen by
      cross-validation among the training runs.

    Args:
        name: which baseline.
        train_runs: r runs.
        values: float[r], their targets; those that are not finite are left out.
        test_runs: n runs; only architecture and settings are read.
        seed: of what is drawn at random.
        log: predict the logarithm, and return its exponential: see `is_log_modelled`.
        distances: float[n, r] from test to training runs, in place of `pairwise`.
        num_neighbours: of "neighbours".
        softening: of "neighbours".

    Returns:
        float64[n]; NaN where no training run has a value.

    Raises:
        ValueError: the name is unknown, shapes do not match, or a value is negative and `log` set.
        ImportError: the baseline needs scikit-learn.

    Example:
        >>> from metal_jax.exhaust import read_layer_string
        >>> runs = [Run(str(i), read_layer_string("C(8,3,1) " * i)) for i in range(1, 5)]
        >>> predict_baseline("closest_depth", runs[:3], [0.5, 0.6, 0.9], runs[3:], seed=0).round(3)
        array([0.9])
    """
    if name not in BASELINES:
        raise ValueError(f"got baseline {name!r:.60}, expected one of {sorted(BASELINES)}")
    values = np.asarray(values, np.float64)
    if values.shape != (len(train_runs),):
        raise ValueError(f"got values {values.shape}, expected [{len(train_runs)}]")
    if distances is not None:
        distances = np.asarray(distances)
        if distances.shape != (len(test_runs), len(train_runs)):
            raise ValueError(
                f"got distances {distances.shape}, expected [{len(test_runs)}, {len(train_runs)}]"
            )
    if log and np.any(values < 0):
        raise ValueError("got a negative value, expected none where the logarithm is predicted")
    known = np.isfinite(values) & (values > 0 if log else True)
    if not known.any() or not test_runs:
        return np.full(len(test_runs), np.nan)
    values = values[known]
    task = _Task(
        [run for run, is_known in zip(train_runs, known, strict=True) if is_known],
        np.log(values) if log else values,
        test_runs,
        None if distances is None else distances[:, known],
        seed,
        num_neighbours,
        softening,
    )
    # Small differences of large values, such as losses, are lost to float32: predict those.
    center = task.values.mean()
    found = center + np.asarray(_PREDICTORS[name](task._replace(values=task.values - center)))
    return np.exp(found) if log else found


def _mean(task: _Task) -> ArrayLike:
    return predict_mean(task.values, len(task.test_runs))


def _closest_depth(task: _Task, key: jax.Array | None = None) -> ArrayLike:
    return predict_from_closest_depth(
        _depths(task.test_runs), _depths(task.train_runs), task.values, key=key
    )


def _closest_depth_random(task: _Task) -> ArrayLike:
    return _closest_depth(task, jax.random.key(task.seed))


def _nearest(task: _Task) -> ArrayLike:
    return predict_from_neighbours(_distances(task), task.values)


def _neighbours(task: _Task) -> ArrayLike:
    return predict_from_neighbours(
        _distances(task), task.values, task.num_neighbours, softening=task.softening
    )


def _regressor(name: str) -> Callable[[_Task], ArrayLike]:
    def predict(task: _Task) -> ArrayLike:
        columns = build_features(task.train_runs)
        inputs, others = (features(runs, columns) for runs in (task.train_runs, task.test_runs))
        return fit_predict(name, inputs, task.values, others, task.seed)

    return predict


def _depths(runs: Sequence[Run]) -> np.ndarray:
    return np.array([num_layers(run.architecture or ()) for run in runs], np.int32)


def _distances(task: _Task) -> np.ndarray:
    if task.distances is not None:
        return task.distances
    test, train = ([r.architecture or () for r in x] for x in (task.test_runs, task.train_runs))
    return pairwise(test, train)


_PREDICTORS: Mapping[str, Callable[[_Task], ArrayLike]] = {
    "mean": _mean,
    "closest_depth": _closest_depth,
    "closest_depth_random": _closest_depth_random,
    "nearest": _nearest,
    "neighbours": _neighbours,
    **{name: _regressor(name) for name in REGRESSORS},
}

#: The names that `predict_baseline` knows.
BASELINES = tuple(_PREDICTORS)
