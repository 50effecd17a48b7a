"""Developer exhaust, reproduced: errors, rankings and searches of every predictor, same folds."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from scipy.stats import kendalltau

from metal_jax._core.steps import OnProgress, Remember, make_again, no_progress
from metal_jax.exhaust import (
    BASELINES,
    CURVE_BASELINES,
    PredictorConfig,
    Run,
    fit_predictor,
    fold_of,
    goal,
    is_log_modelled,
    pairwise,
    predict,
    predict_baseline,
    predict_from_curve,
    regret,
    targets,
    top_k_overlap,
)
from metal_jax.reproduce._exhaust_problems import ExhaustProblem

#: What the paper's abstract prints, on its own data.
PUBLISHED_EXHAUST = {
    "mean error, points": 1.37,
    "mean error of closest depth, points": 4.13,
    "top-3 overlap under a time limit": 0.82,
    "top-3 overlap of closest depth": 0.54,
}
LSTM = "lstm_ensemble"
NUM_FOLDS = 5
_TOP = 3
_LIMITS = (None, 25, 50, 75)


@dataclasses.dataclass(frozen=True)
class ExhaustConfig:
    """Settings of `run_exhaust`.

    Attributes:
        num_seeds: repetitions, each with folds and networks of its own.
        seed: of the random numbers.
        baselines: names out of `BASELINES`.
        curves: whether to predict from the first quarter of the curves as well.
        predictor: settings of the LSTM ensemble.
    """

    num_seeds: int = 5
    seed: int = 0
    baselines: tuple[str, ...] = BASELINES
    curves: bool = True
    predictor: PredictorConfig = PredictorConfig()


def run_exhaust(
    problem: ExhaustProblem,
    config: ExhaustConfig,
    *,
    on_progress: OnProgress = no_progress,
    remember: Remember = make_again,
    on_record: Callable[[dict[str, Any]], None] = lambda record: None,
) -> dict[str, Any]:
    """Predict every network from the others, by every method.

    Args:
        problem: the runs.
        config: settings.
        on_progress: told what comes next.
        remember: may keep the predictions of each fold, so that a run that is interrupted need not
            make them again.
        on_record: called with the record so far after each seed's untrained networks, and again
            after its partial curves.

    Returns:
        Plain JSON values: `untrained` and `quarter`, method -> target -> figure -> one number a
        seed; `search`, method -> limit -> figure -> one number a seed; `noise`, the same figures
        of one seed as the predictor of the other.
    """
    record: dict[str, Any] = {
        "data": problem.name,
        "note": problem.note,
        "networks": len(problem.runs),
        "targets": list(problem.targets),
        "epochs_seen": problem.epochs_seen,
        "seeds": config.num_seeds,
        "untrained": {},
        "quarter": {},
        "search": {},
        "noise": noise_floor(problem),
    }
    parts = ("untrained", "quarter")[: 2 if config.curves and problem.epochs_seen else 1]
    num_folds = 1 if problem.fixed_test else NUM_FOLDS
    num_steps, done = 1 + config.num_seeds * len(parts) * num_folds, 0

    def say(step: str) -> None:
        nonlocal done
        on_progress(f"{problem.name}: {step}", done, num_steps)
        done += 1

    say("edit distances")
    distances = None
    architectures = [run.architecture for run in problem.runs]
    if all(architecture is not None for architecture in architectures):
        known = [architecture for architecture in architectures if architecture is not None]
        distances = np.asarray(pairwise(known, known))
    for seed in range(config.num_seeds):
        key = jax.random.fold_in(jax.random.key(config.seed), seed)
        fold_key, lstm_key = jax.random.split(key)
        folds = _folds(problem, fold_key)
        for part in parts:
            epochs = 0 if part == "untrained" else problem.epochs_seen
            found = _predict_all(
                problem, config, folds, distances, epochs, seed, lstm_key, say, remember
            )
            for method, predictions in found.items():
                into = record[part].setdefault(method, {})
                for name, values in _judge(problem, folds, predictions, epochs).items():
                    for figure, value in values.items():
                        into.setdefault(name, {}).setdefault(figure, []).append(value)
            if part == "untrained":
                for method, predictions in found.items():
                    _append_search(record["search"], method, problem, folds, predictions)
            on_record(record)
    return record


def noise_floor(problem: ExhaustProblem) -> dict[str, Any]:
    """How well one seed of the same networks predicts the other.

    Args:
        problem: with two or more repeats, of which the first two are used.

    Returns:
        Target -> mean absolute error and Kendall's tau, and the search's figures; empty without
        repeats.

    Example:
        >>> from metal_jax.reproduce import fashion_runs
        >>> noise_floor(fashion_runs()._replace(repeats=()))  # nothing was trained twice
        {}
    """
    if len(problem.repeats) < 2:
        return {}
    first, second = problem.repeats[:2]
    folds = _folds(problem, jax.random.key(0))
    found: dict[str, Any] = {}
    values = {name: _values(first, name, problem, 0) for name in problem.targets}
    for name in problem.targets:
        true = _values(second, name, problem, 0)
        error = np.abs(_modelled(values[name], name) - _modelled(true, name))
        found[name] = {"error": float(np.nanmean(error)), "tau": _tau(values[name], true, folds)}
    search: dict[str, Any] = {}
    predictions = {name: {"mean": mean} for name, mean in values.items()}
    _append_search(search, "one seed", problem._replace(runs=second), folds, predictions)
    return found | {"search": search["one seed"]}


def _folds(problem: ExhaustProblem, key: jax.Array) -> np.ndarray:
    """int[n]: the fold that judges each network; -1 where none does."""
    if not problem.fixed_test:
        return fold_of(len(problem.runs), NUM_FOLDS, key)
    fold = np.full(len(problem.runs), -1)
    fold[list(problem.fixed_test)] = 0
    return fold


def _values(runs: Sequence[Run], name: str, problem: ExhaustProblem, epochs_seen: int):
    return targets(runs, name, epochs_seen, held_out=problem.held_out)


def _modelled(values: np.ndarray, name: str) -> np.ndarray:
    """In log where the target is modelled so."""
    return np.log(values) if is_log_modelled(name) else values


def _predict_all(
    problem: ExhaustProblem,
    config: ExhaustConfig,
    folds: np.ndarray,
    distances: np.ndarray | None,
    epochs_seen: int,
    seed: int,
    key: jax.Array,
    say: Callable[[str], None],
    remember: Remember,
) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """Method -> target -> "mean" (and "low", "high") of every network by the other folds."""
    runs, num = problem.runs, len(problem.runs)
    found: dict[str, dict[str, dict[str, np.ndarray]]] = {}

    def predict_fold(fold: int) -> dict[str, np.ndarray]:
        """Predictions of a fold's networks, by "method|field|target"."""
        parts: dict[str, np.ndarray] = {}
        test, train = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        train_runs, test_runs = [runs[i] for i in train], [runs[i] for i in test]
        for name in problem.targets:
            values = _values(train_runs, name, problem, epochs_seen)
            if epochs_seen == 0:
                for method in config.baselines:
                    predicted = predict_baseline(
                        method,
                        train_runs,
                        values,
                        test_runs,
                        seed=seed,
                        log=is_log_modelled(name),
                        distances=None if distances is None else distances[np.ix_(test, train)],
                    )
                    parts[f"{method}|mean|{name}"] = predicted
            elif not is_log_modelled(name):
                for method in CURVE_BASELINES:
                    predicted = predict_from_curve(
                        method,
                        train_runs,
                        values,
                        test_runs,
                        target_name=name,
                        epochs_seen=epochs_seen,
                        seed=seed,
                        held_out=problem.held_out,
                    )
                    parts[f"{method}|mean|{name}"] = predicted
        predictor = fit_predictor(
            train_runs,
            problem.targets,
            key=jax.random.fold_in(key, fold),
            epochs_seen=epochs_seen,
            held_out=problem.held_out,
            config=config.predictor,
        )
        prediction = predict(predictor, test_runs)
        for j, name in enumerate(problem.targets):
            parts[f"{LSTM}|mean|{name}"] = prediction.mean[:, j]
            parts[f"{LSTM}|low|{name}"] = prediction.low[:, j]
            parts[f"{LSTM}|high|{name}"] = prediction.high[:, j]
        return parts

    for fold in range(folds.max() + 1):
        step = f"seed {seed}, fold {fold}, {epochs_seen} epochs seen"
        say(step)
        parts = remember(f"{problem.name}: {step}", functools.partial(predict_fold, fold))
        for place, values in parts.items():
            method, field, name = place.split("|", 2)
            columns = found.setdefault(method, {}).setdefault(name, {})
            columns.setdefault(field, np.full(num, np.nan))[folds == fold] = values
    return found


def _judge(
    problem: ExhaustProblem,
    folds: np.ndarray,
    predictions: Mapping[str, Mapping[str, np.ndarray]],
    epochs_seen: int,
) -> dict[str, dict[str, float]]:
    """Target -> mean absolute error (of the logarithm of times), Kendall's tau, coverage."""
    found = {}
    for name, columns in predictions.items():
        true = _values(problem.runs, name, problem, epochs_seen)
        error = np.abs(_modelled(columns["mean"], name) - _modelled(true, name))
        found[name] = {
            "error": float(np.nanmean(error)),
            "tau": _tau(columns["mean"], true, folds),
        }
        if "low" in columns:
            known = np.isfinite(true) & (folds >= 0)
            inside = (columns["low"] <= true) & (true <= columns["high"])
            found[name]["coverage"] = float(np.mean(inside[known]))
    return found


def _tau(predicted: np.ndarray, true: np.ndarray, folds: np.ndarray) -> float:
    """Kendall's tau within each fold, averaged: models of different folds are not compared.

    Where the predictions are all equal tau is not defined; it counts as 0, as for a random order.
    """
    found = []
    for fold in range(folds.max() + 1):
        rows = (folds == fold) & np.isfinite(true) & np.isfinite(predicted)
        is_constant = len(np.unique(predicted[rows])) < 2
        found.append(
            0.0 if is_constant else float(np.asarray(kendalltau(predicted[rows], true[rows]))[0])
        )
    return float(np.mean(found))


def _append_search(
    into: dict[str, Any],
    method: str,
    problem: ExhaustProblem,
    folds: np.ndarray,
    predictions: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """Top-3 overlap and regret among the networks of a fold, without and with time limits.

    Limits are percentiles of the true times of the fold.
    """
    name = problem.targets[0]
    sign = _sign(problem, name)
    predicted = sign * predictions[name]["mean"]
    true = sign * _values(problem.runs, name, problem, 0)
    timed = "seconds" in predictions
    seconds = _values(problem.runs, "seconds", problem, 0) if timed else None
    for limit in _LIMITS if timed else (None,):
        overlaps, regrets = [], []
        for fold in range(folds.max() + 1):
            rows = folds == fold
            times: dict[str, Any] = {}
            if limit is not None and seconds is not None:
                times = {
                    "predicted_seconds": predictions["seconds"]["mean"][rows],
                    "seconds": seconds[rows],
                    "seconds_limit": float(np.nanpercentile(seconds[rows], limit)),
                }
            overlaps.append(top_k_overlap(predicted[rows], true[rows], _TOP, **times))
            regrets.append(regret(predicted[rows], true[rows], _TOP, **times))
        place = into.setdefault(method, {}).setdefault(
            "no limit" if limit is None else f"{limit} %", {"overlap": [], "regret": []}
        )
        place["overlap"].append(float(np.nanmean(overlaps)))
        place["regret"].append(float(np.nanmean(regrets)))


def _sign(problem: ExhaustProblem, name: str) -> int:
    """+1 where more is better."""
    role, _, metric = name.partition("@")[0].partition("/")
    curve = next((run.metrics[role][metric] for run in problem.runs if role in run.metrics), None)
    return 1 if goal(metric, curve) == "max" else -1
