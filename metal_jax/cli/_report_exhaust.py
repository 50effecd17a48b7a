"""`metal-jax report exhaust`: recorded runs, predictions about them, and a search."""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metal_jax.cli._exhaust_predict import add_search_options, goal_of, top_of
from metal_jax.cli._exhaust_sources import (
    SOURCES_HELP,
    about_sources,
    add_source_options,
    read_sources,
)
from metal_jax.cli._progress import quiet_progress
from metal_jax.cli._report_files import add_report_options, check_report_paths, write_report

if TYPE_CHECKING:
    from metal_jax.exhaust import Predictor, Run
    from metal_jax.report import Forecast, Search

_NOTE = "Runs that the predictor was fitted on look better than new ones would: judge it on others."

_EPILOG = f"""{SOURCES_HELP}

Examples:
  metal-jax report exhaust runs.jsonl --out report.html
  metal-jax report exhaust new.jsonl --predictor predictor --max-seconds 600 --out report.html
  metal-jax report exhaust runs.jsonl --predictions preds.csv --out report.html
"""


def add_command(kinds: Any) -> None:
    """Add the command to the sub-commands of `report`."""
    parser = kinds.add_parser(
        "exhaust",
        help="recorded runs, predictions about them, a search among them",
        description="Show recorded runs and, given a predictor, predictions and a search.",
        epilog=_EPILOG,
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUNS", help="recorded runs")
    parser.add_argument(
        "--target",
        metavar="NAME",
        help="what runs are compared and chosen by (default: the predictor's first, or the metric "
        "that most runs have)",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--predictor", type=Path, metavar="DIR", help="what exhaust fit wrote; applied to the runs"
    )
    source.add_argument(
        "--predictions", type=Path, metavar="FILE", help="what exhaust predict wrote about the runs"
    )
    add_search_options(parser)
    add_source_options(parser)
    add_report_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    check_report_paths(options, *options.runs, options.predictions)
    top = top_of(options)
    if options.max_seconds is not None and not options.max_seconds > 0:
        raise ValueError(f"--max-seconds: got {options.max_seconds:g}, expected a positive number")
    if options.predictor is None and options.predictions is None:
        for name in ("max_seconds", "top", "goal"):
            if getattr(options, name) is not None:
                option = name.replace("_", "-")
                raise ValueError(f"--{option}: a search takes --predictor or --predictions")
    from metal_jax import exhaust, report

    with quiet_progress(options) as say:
        predictor = None if options.predictor is None else exhaust.load_predictor(options.predictor)
        found = read_sources(options, options.runs, say)
        forecasts: list[Forecast] = []
        if predictor is not None:
            say("predicting")
            forecasts = _predicted(predictor, found.runs)
        elif options.predictions is not None:
            forecasts = _read(options.predictions, found.runs)
        search = None
        if forecasts:
            held_out = "validation" if predictor is None else predictor.held_out
            search = _search(options, top, forecasts, found.runs, held_out)
        say("looking")
        page = report.exhaust_report(
            found.runs,
            title=options.title or ", ".join(path.name for path in options.runs),
            target=options.target or (forecasts[0].target if forecasts else None),
            forecasts=forecasts,
            search=search,
            note=_NOTE,
        )
        say("writing")
        return write_report(options, page, about_sources(found))


def _predicted(predictor: Predictor, runs: Sequence[Run]) -> list[Forecast]:
    from metal_jax import exhaust, report

    prediction = exhaust.predict(predictor, runs)
    names = [run.run for run in runs]
    seen, held_out = predictor.inputs.epochs_seen, predictor.held_out
    return [
        report.Forecast(
            target,
            names,
            prediction.mean[:, t],
            prediction.low[:, t],
            prediction.high[:, t],
            exhaust.targets(runs, target, seen, held_out=held_out),
        )
        for t, target in enumerate(predictor.targets[: predictor.num_targets])
    ]


def _read(path: Path, runs: Sequence[Run]) -> list[Forecast]:
    """The predictions of a table; of a single target without a name they are of `--target`."""
    from metal_jax import exhaust, report

    place = {run.run: i for i, run in enumerate(runs)}
    values: dict[str, np.ndarray] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            if any(row.get(name) is None for name in ("run", *_NUMBERS)):
                raise ValueError(
                    f"{path}: line {number}: expected run, mean, low and high, as exhaust predict "
                    "writes them"
                )
            cells = [_number(f"{path}: line {number}: {name}", row[name]) for name in _NUMBERS]
            at, target = place.get(row["run"]), row.get("target") or _DEFAULT_TARGET
            if at is not None:
                values.setdefault(target, np.full((len(runs), 3), np.nan))[at] = cells
    if not values:
        raise ValueError(f"{path}: no prediction of any of the runs")
    names = list(place)
    return [
        report.Forecast(target, names, x[:, 0], x[:, 1], x[:, 2], exhaust.targets(runs, target))
        for target, x in values.items()
    ]


_DEFAULT_TARGET = "validation/accuracy"
_NUMBERS = ("mean", "low", "high")


def _number(place: str, cell: str) -> float:
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{place}: got {cell!r:.60}, expected a finite number")
    return number


def _search(
    options: argparse.Namespace,
    top: int,
    forecasts: Sequence[Forecast],
    runs: Sequence[Run],
    held_out: str,
) -> Search:
    from metal_jax import exhaust, report

    by_target = {forecast.target: forecast for forecast in forecasts}
    there = f"the predictions are of {', '.join(by_target)}"
    name = options.target or forecasts[0].target
    if name not in by_target:
        raise ValueError(f"--target {name}: {there}")
    if options.max_seconds is not None and "seconds" not in by_target:
        raise ValueError(f"--max-seconds: {there}; fit with --target seconds too")
    chosen = by_target[name]
    limit = math.inf if options.max_seconds is None else options.max_seconds
    sign = 1 if goal_of(name, held_out, runs, options.goal) == "max" else -1
    seconds = by_target["seconds"].mean if "seconds" in by_target else None
    choice = exhaust.search(
        sign * chosen.mean,
        np.zeros(len(chosen.mean)),
        top,
        seconds=seconds,
        seconds_limit=limit,
    )
    times = np.full(len(runs), np.nan) if seconds is None else seconds
    return report.Search(
        name,
        chosen.names,
        chosen.mean,
        chosen.low,
        chosen.high,
        times,
        limit,
        choice.chosen.tolist(),
    )
