"""Figures of recorded runs, of predictions about them, and of a search."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metal_jax.exhaust import Run, is_log_modelled
from metal_jax.report._figures import Bars, Lines, Points, Series

_MOST_CURVES = 150
_MOST_POINTS = 1500
_BINS = 24
_LOG_FROM = 10  # largest over smallest, where a logarithmic scale begins


class Forecast(NamedTuple):
    """Predictions of one target.

    Attributes:
        target: its name, see `exhaust.target`.
        names: n run ids.
        mean: n numbers.
        low: n lower ends of the intervals.
        high: n upper ends.
        true: n numbers, NaN where unknown.
    """

    target: str
    names: Sequence[str]
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    true: np.ndarray


class Search(NamedTuple):
    """Candidates and which of them were chosen.

    Attributes:
        target: what was chosen by.
        names: n run ids.
        mean: n predictions of it.
        low: n lower ends of the intervals.
        high: n upper ends.
        seconds: n predicted times, NaN where unknown.
        limit: the longest time that fits; infinite without a limit.
        chosen: their numbers, the best first.
    """

    target: str
    names: Sequence[str]
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    seconds: np.ndarray
    limit: float
    chosen: Sequence[int]


def run_curves_figure(runs: Sequence[Run], role: str, metric: str, best: str | None) -> Lines:
    """The curves of one metric of all runs, their median, and the best run's."""
    curves = [
        (run.run, run.metrics[role][metric]) for run in runs if metric in run.metrics.get(role, {})
    ]
    some = np.unique(
        np.linspace(0, len(curves) - 1, min(len(curves), _MOST_CURVES)).round().astype(int)
    )
    series = [
        Series("", curves[i][1].epochs, curves[i][1].values, "context") for i in some.tolist()
    ]
    epochs, quantiles = _quantiles([curve for _, curve in curves])
    if len(curves) > 2:
        series.append(Series("median", epochs, [row[2] for row in quantiles], "main"))
    series += [
        Series("best run", curve.epochs, curve.values, "second")
        for name, curve in curves
        if name == best
    ]
    drawn = "" if len(some) == len(curves) else f", {len(some)} of them drawn"
    summary = [[epoch, *row] for epoch, row in zip(epochs, quantiles, strict=True)]
    return Lines(
        f"{role.capitalize()} {metric}",
        f"{len(curves):,} runs{drawn}, each a thin line.",
        "epoch",
        metric,
        tuple(series),
        summary=(
            ["epoch", "lowest", "lower quartile", "median", "upper quartile", "highest"],
            summary,
        ),
    )


def _quantiles(curves: Sequence) -> tuple[list[int], list[list[float]]]:
    """Epochs, and the five-number summary at each; runs that ended earlier no longer count."""
    by_epoch: dict[int, list[float]] = {}
    for curve in curves:
        for epoch, value in zip(curve.epochs, curve.values, strict=True):
            by_epoch.setdefault(epoch, []).append(value if math.isfinite(value) else math.nan)
    epochs = sorted(by_epoch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an epoch without any known value
        rows = [
            np.nanquantile(by_epoch[epoch], (0, 0.25, 0.5, 0.75, 1)).tolist() for epoch in epochs
        ]
    return epochs, rows


def target_figure(name: str, values: np.ndarray) -> Bars:
    """How a target is distributed over the runs."""
    known = values[np.isfinite(values)]
    positive = known[known > 0]
    log = is_log_modelled(name) and len(positive) > 0
    log = log and positive.max() > _LOG_FROM * positive.min()
    shown = np.log10(positive) if log else known
    heights, edges = (
        np.histogram(shown, bins=_BINS) if len(shown) else (np.zeros(1, int), np.array([0.0, 1.0]))
    )
    return Bars(
        name,
        f"Of {len(known):,} runs" + (", on a logarithmic scale." if log else "."),
        f"{name}, power of ten" if log else name,
        "runs",
        edges.tolist(),
        heights.tolist(),
    )


def predicted_figure(forecast: Forecast) -> Points:
    """Predicted against true values, with intervals."""
    known = np.flatnonzero(np.isfinite(forecast.true) & np.isfinite(forecast.mean))
    log = is_log_modelled(forecast.target)
    if log:
        known = known[(forecast.true[known] > 0) & (forecast.low[known] > 0)]
    shown = known[
        np.unique(np.linspace(0, len(known) - 1, min(len(known), _MOST_POINTS)).round().astype(int))
    ]
    drawn = "" if len(shown) == len(known) else f", {len(shown):,} of {len(known):,}"
    return Points(
        f"Predicted against true, {forecast.target}",
        f"Each dot is a run{drawn}; upright lines are the intervals, the dashed line is where the "
        "prediction is right.",
        f"true {forecast.target}",
        "predicted",
        [forecast.names[int(i)] for i in shown],
        forecast.true[shown].tolist(),
        forecast.mean[shown].tolist(),
        forecast.low[shown].tolist(),
        forecast.high[shown].tolist(),
        diagonal=True,
        log=log,
    )


def search_figure(found: Search) -> Points:
    """Candidates by predicted time and target; the chosen ones stand out."""
    timed = bool(np.isfinite(found.seconds).any())
    x = found.seconds if timed else np.arange(1, len(found.mean) + 1, dtype=float)
    chosen = np.zeros(len(found.mean), bool)
    chosen[list(found.chosen)] = True
    rest = np.flatnonzero(~chosen)
    some = rest[
        np.unique(np.linspace(0, len(rest) - 1, min(len(rest), _MOST_POINTS)).round().astype(int))
    ]
    shown = np.sort(np.concatenate([some, np.flatnonzero(chosen)]))
    limit = (
        f" The dashed line is the limit of {found.limit:g} s." if math.isfinite(found.limit) else ""
    )
    return Points(
        "Search",
        f"{len(found.mean):,} candidates; diamonds are the {len(found.chosen)} chosen.{limit}",
        "predicted seconds" if timed else "candidate",
        f"predicted {found.target}",
        [found.names[int(i)] for i in shown],
        x[shown].tolist(),
        found.mean[shown].tolist(),
        chosen=chosen[shown].tolist(),
        log=timed and bool((x[np.isfinite(x)] > 0).all()),
        limit=found.limit if math.isfinite(found.limit) and timed else None,
    )
