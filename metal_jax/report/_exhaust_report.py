"""The report of an exhaust run: recorded runs, predictions and a search."""

from __future__ import annotations

import collections
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from metal_jax.exhaust import (
    Run,
    elapsed_seconds,
    goal,
    is_log_modelled,
    num_epochs,
    num_layers,
    targets,
)
from metal_jax.report._blocks import (
    Block,
    Column,
    Facts,
    Figures,
    PagedTable,
    Report,
    Section,
    Table,
)
from metal_jax.report._exhaust_figures import (
    Forecast,
    Search,
    predicted_figure,
    run_curves_figure,
    search_figure,
    target_figure,
)

_MOST_METRICS = 6
_ROLES = ("validation", "test", "train")


def exhaust_report(
    runs: Sequence[Run],
    *,
    title: str = "Recorded runs",
    target: str | None = None,
    forecasts: Sequence[Forecast] = (),
    search: Search | None = None,
    note: str = "",
) -> Report:
    """The report of recorded runs, of predictions and of a search.

    Args:
        runs: n runs.
        title: of the page.
        target: what runs are compared by, see `exhaust.target`; by default the metric that most
            runs have, of the validation items if there is one.
        forecasts: predictions of runs, one for each target.
        search: a search among candidates.
        note: what to know about the predictions.

    Returns:
        The report, for `write_html`.

    Raises:
        ValueError: no runs, or a target whose direction is unknown.

    Example:
        >>> from metal_jax import datasets
        >>> page = exhaust_report(datasets.load_fashion_runs()[:5])
        >>> [section.title for section in page.sections if section.blocks]
        ['Overview', 'Learning curves', 'Runs']
    """
    if not runs:
        raise ValueError("runs: got none, expected at least one")
    metrics = _metrics(runs)
    name = target or (f"{metrics[0][0]}/{metrics[0][1]}" if metrics else "seconds")
    values = targets(runs, name)
    best = _best(runs, name, values)
    curves = [
        run_curves_figure(runs, role, metric, best) for role, metric in metrics[:_MOST_METRICS]
    ]
    names = dict.fromkeys([name, *(forecast.target for forecast in forecasts), "seconds"])
    known = [(each, targets(runs, each)) for each in names]
    spread = [target_figure(each, x) for each, x in known if np.isfinite(x).any()]
    judged = [forecast for forecast in forecasts if np.isfinite(forecast.true).any()]
    predicted: list[Block] = []
    if judged:
        predicted = [
            Table("Errors of the predictions", note, _ERROR_COLUMNS, [_errors(f) for f in judged]),
            Figures([predicted_figure(forecast) for forecast in judged]),
        ]
    found: list[Block] = []
    if search is not None:
        found = [Figures([search_figure(search)]), _chosen_table(search, forecasts)]
    return Report(
        title,
        f"{len(runs):,} training runs, compared by {name}",
        [
            Section("Overview", [_overview(runs, name, values, best)]),
            Section("Learning curves", [Figures([*curves, *spread])] if curves or spread else []),
            Section("Predicted against true", predicted),
            Section("Search", found),
            Section("Runs", [_run_table(runs, name, values, forecasts)]),
        ],
    )


def _metrics(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Roles and metrics, those of held-out items and of most runs first."""
    count = collections.Counter(
        (role, metric) for run in runs for role, named in run.metrics.items() for metric in named
    )
    return sorted(count, key=lambda key: (_ROLES.index(key[0]), -count[key], key[1]))


def _best(runs: Sequence[Run], name: str, values: np.ndarray) -> str | None:
    """The run with the best value of a metric; of a time there is none."""
    what, _, rest = name.partition("/")
    metric = rest.partition("@")[0]
    if what not in _ROLES or not np.isfinite(values).any():
        return None
    declared = next(
        (run.metrics[what][metric] for run in runs if metric in run.metrics.get(what, {})), None
    )
    sign = 1 if goal(metric, declared) == "max" else -1
    return runs[int(np.nanargmax(sign * np.where(np.isfinite(values), values, np.nan)))].run


def _overview(runs: Sequence[Run], name: str, values: np.ndarray, best: str | None) -> Facts:
    known = values[np.isfinite(values)]
    seconds = targets(runs, "seconds")
    facts: list[tuple[str, Any]] = [
        ("Runs", len(runs)),
        ("With an architecture", sum(run.architecture is not None for run in runs)),
        ("Most epochs", max(map(num_epochs, runs))),
        (f"With {name}", len(known)),
    ]
    status = collections.Counter(run.status for run in runs if run.status)
    facts += [(word.capitalize(), number) for word, number in sorted(status.items())]
    if len(known):
        facts.append((f"Median {name}", float(np.median(known))))
    if best is not None:
        facts.append(("Best run", best))
    if np.isfinite(seconds).any():
        facts.append(("Hours of training", float(np.nansum(seconds)) / 3600))
    return Facts(facts)


_ERROR_COLUMNS = [
    Column("Target"),
    Column("Runs", "count"),
    Column("Mean absolute error", "number", "of the logarithm for seconds"),
    Column("Of the mean", "number", "the error of predicting the runs' mean"),
    Column("Rank correlation", "number", "Spearman's"),
    Column("Within the interval", "number", "share of the true values"),
]


def _errors(forecast: Forecast) -> list[Any]:
    known = np.isfinite(forecast.true) & np.isfinite(forecast.mean)
    log = is_log_modelled(forecast.target)
    if log:
        known &= (forecast.true > 0) & (forecast.mean > 0)
    true, mean = forecast.true[known], forecast.mean[known]
    inside = (forecast.low[known] <= true) & (true <= forecast.high[known])
    if log:
        true, mean = np.log(true), np.log(mean)
    if not len(true):
        return [forecast.target, 0, *[math.nan] * 4]
    plain = float(np.abs(true - true.mean()).mean())
    error = float(np.abs(mean - true).mean())
    return [
        forecast.target,
        len(true),
        error,
        plain,
        _rank_correlation(mean, true),
        float(inside.mean()),
    ]


def _rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    from scipy.stats import rankdata

    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return math.nan
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def _chosen_table(search: Search, forecasts: Sequence[Forecast]) -> Table:
    true = {}
    for forecast in forecasts:
        if forecast.target == search.target:
            true = dict(zip(forecast.names, forecast.true.tolist(), strict=True))
    columns = [
        Column("Run"),
        Column("Place", "count"),
        Column("Predicted", "number"),
        Column("Low", "number"),
        Column("High", "number"),
        Column("Predicted seconds", "number"),
        Column("True", "number", "where it is recorded"),
    ]
    rows = [
        [
            search.names[i],
            place,
            *(float(part[i]) for part in (search.mean, search.low, search.high, search.seconds)),
            true.get(search.names[i], math.nan),
        ]
        for place, i in enumerate(search.chosen, 1)
    ]
    return Table(f"Chosen by {search.target}", "" if rows else "No candidate fits.", columns, rows)


def _run_table(
    runs: Sequence[Run], name: str, values: np.ndarray, forecasts: Sequence[Forecast]
) -> PagedTable:
    columns = [Column("Run"), Column("Layers", "count"), Column("Parameters", "count")]
    columns += [Column("Epochs", "count"), Column(name, "number"), Column("Seconds", "number")]
    predicted = {}
    for forecast in forecasts:
        if forecast.target == name:
            predicted = dict(zip(forecast.names, forecast.mean.tolist(), strict=True))
    columns += [Column("Predicted", "number")] if predicted else []
    columns.append(Column("Status"))
    rows = []
    for run, value in zip(runs, values.tolist(), strict=True):
        layers = None if run.architecture is None else num_layers(run.architecture)
        elapsed = elapsed_seconds(run)
        seconds = float(elapsed[-1]) if len(elapsed) else run.total_seconds
        guess = [predicted.get(run.run)] if predicted else []
        rows.append(
            [run.run, layers, run.num_params, num_epochs(run), value, seconds, *guess, run.status]
        )
    return PagedTable("Runs", "As they were recorded.", columns, rows)
