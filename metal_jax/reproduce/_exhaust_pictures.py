"""Pictures of developer exhaust: predictions, and errors as more is known. Needs matplotlib."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from metal_jax.exhaust import (
    Prediction,
    fit_predictor,
    fold_of,
    is_log_modelled,
    predict,
    predict_baseline,
    predict_from_curve,
    targets,
)
from metal_jax.reproduce._exhaust import NUM_FOLDS, ExhaustConfig
from metal_jax.reproduce._exhaust_problems import ExhaustProblem

_SIZES = (25, 50, 100, 200, 400, 800)
_BASELINES = ("closest_depth", "neighbours", "extra_trees")
_CURVES = ("last_value", "power_law", "svr")


def draw_exhaust(
    problem: ExhaustProblem, config: ExhaustConfig, folder: str | os.PathLike[str]
) -> list[Path]:
    """Draw predicted against true values, and errors by training runs and by epochs seen.

    One fold of five is judged, by networks of the others.

    Args:
        problem: the runs.
        config: settings; the first seed's folds.
        folder: where to write, made if there is none.

    Returns:
        The files: `<name>_predicted.png`, `<name>_by_runs.png`, and where there are curves
        `<name>_by_epochs.png`.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    key = jax.random.key(config.seed)
    folds = fold_of(len(problem.runs), NUM_FOLDS, key)
    train = [run for run, fold in zip(problem.runs, folds, strict=True) if fold]
    test = [run for run, fold in zip(problem.runs, folds, strict=True) if not fold]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{problem.name}_{what}.png" for what in ("predicted", "by_runs")]

    def fit(runs: Sequence, epochs_seen: int = 0) -> Prediction:
        predictor = fit_predictor(
            runs,
            problem.targets,
            key=key,
            epochs_seen=epochs_seen,
            held_out=problem.held_out,
            config=config.predictor,
        )
        return predict(predictor, test)

    num = len(problem.targets)
    figure = Figure((4 * num, 4), layout="constrained")
    found = fit(train)
    for j, axes in enumerate(np.atleast_1d(figure.subplots(1, num))):
        name = problem.targets[j]
        true = targets(test, name, held_out=problem.held_out)
        reach = [found.mean[:, j] - found.low[:, j], found.high[:, j] - found.mean[:, j]]
        axes.errorbar(
            true, found.mean[:, j], yerr=np.maximum(reach, 0), fmt="o", ms=3, lw=0.6, alpha=0.7
        )
        ends = [np.nanmin(true), np.nanmax(true)]
        axes.plot(ends, ends, color="black", lw=0.8)
        if is_log_modelled(name):
            axes.set(xscale="log", yscale="log")
        axes.set(xlabel=f"true {name}", ylabel="predicted, 90 % interval")
    figure.suptitle(f"{problem.name}: networks never trained, LSTM ensemble")
    figure.savefig(paths[0], dpi=120)

    name = problem.targets[0]
    true = targets(test, name, held_out=problem.held_out)

    def error(values: np.ndarray) -> float:
        return float(np.nanmean(np.abs(values - true)))

    def goes_on(runs: Sequence, epochs: int) -> bool:
        """Whether there is anything to predict once so many epochs are seen."""
        left = targets(runs, name, epochs, held_out=problem.held_out)
        return bool(np.isfinite(left).any())

    sizes = [size for size in _SIZES if size < len(train)] + [len(train)]
    errors: dict[str, list[float]] = {}
    for size in sizes:
        some = train[:size]
        known = targets(some, name, held_out=problem.held_out)
        for method in _BASELINES:
            values = predict_baseline(method, some, known, test, seed=config.seed)
            errors.setdefault(method, []).append(error(values))
        errors.setdefault("lstm_ensemble", []).append(error(fit(some).mean[:, 0]))
    _draw_lines(Figure, paths[1], errors, sizes, "training runs", name, problem.name)

    if problem.epochs_seen:
        longest = 2 * problem.epochs_seen
        seen = sorted({max(1, longest // 8), max(1, longest // 4), longest // 2, longest})
        seen = [epochs for epochs in seen if goes_on(train, epochs) and goes_on(test, epochs)]
        errors = {}
        known = targets(train, name, held_out=problem.held_out)
        for epochs in seen:
            for method in _CURVES:
                values = predict_from_curve(
                    method,
                    train,
                    known,
                    test,
                    target_name=name,
                    epochs_seen=epochs,
                    seed=config.seed,
                    held_out=problem.held_out,
                )
                errors.setdefault(method, []).append(error(values))
            errors.setdefault("lstm_ensemble", []).append(error(fit(train, epochs).mean[:, 0]))
        paths.append(folder / f"{problem.name}_by_epochs.png")
        _draw_lines(Figure, paths[2], errors, seen, "epochs seen", name, problem.name)
    return paths


def _draw_lines(figure_type, path: Path, errors, x: Sequence[int], label: str, name: str, title):
    figure = figure_type((5, 4), layout="constrained")
    axes = figure.subplots()
    for method, values in errors.items():
        axes.plot(x, values, marker="o", label=method)
    axes.set(xscale="log", xlabel=label, ylabel=f"mean absolute error of {name}", title=title)
    axes.set_xticks(x, [str(value) for value in x])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(path, dpi=120)
