"""`metal-jax exhaust predict` and `search`: what a fitted predictor says of candidates."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metal_jax.cli._common import (
    add_out_option,
    add_output_options,
    check_writable,
    plain_table,
    show,
    write_csv,
)
from metal_jax.cli._exhaust_sources import (
    SOURCES_HELP,
    Found,
    about_sources,
    add_source_options,
    print_sources,
    read_sources,
)
from metal_jax.cli._progress import quiet_progress

if TYPE_CHECKING:
    from metal_jax.exhaust import Prediction, Predictor, Run

_DEFAULT_TOP = 3
_HEADER = ("run", "mean", "low", "high")

_PREDICT_EPILOG = f"""
The output has the columns run, mean, low and high, a candidate a row in the order of the records;
the true value lies between low and high for 90 % of networks like those fitted. A predictor of
several targets writes them below each other, with a column target before the others.
{SOURCES_HELP}

Example:
  metal-jax exhaust predict predictor candidates.jsonl --out preds.csv
"""

_SEARCH_EPILOG = f"""{SOURCES_HELP}

Example:
  metal-jax exhaust search predictor candidates.jsonl --max-seconds 600 --top 3
"""


def add_commands(steps: Any) -> None:
    """Add both commands to the sub-commands of `exhaust`."""
    _add_predict(steps)
    _add_search(steps)


def _add_predictor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("predictor", type=Path, metavar="DIR", help="what fit wrote")
    parser.add_argument(
        "candidates",
        type=Path,
        nargs="+",
        metavar="CANDIDATES",
        help="run records, or other sources; metrics may be absent",
    )
    parser.add_argument(
        "--epochs-seen",
        type=int,
        metavar="E",
        help="epochs of the candidates that are read: those the predictor was fitted for",
    )


def _add_predict(steps: Any) -> None:
    parser = steps.add_parser(
        "predict",
        help="predict the targets of candidates",
        description="Predict the targets of candidates, with intervals.",
        epilog=_PREDICT_EPILOG,
    )
    _add_predictor_arguments(parser)
    add_out_option(parser, "preds.csv")
    add_source_options(parser)
    add_output_options(parser)
    parser.set_defaults(run=_predict)


def _add_search(steps: Any) -> None:
    parser = steps.add_parser(
        "search",
        help="the predicted best candidates within a training time",
        description="Say which candidates to train next.",
        epilog=_SEARCH_EPILOG,
    )
    _add_predictor_arguments(parser)
    parser.add_argument(
        "--target", metavar="NAME", help="what to choose by (default: the first that was fitted)"
    )
    add_search_options(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the table as CSV")
    add_source_options(parser)
    add_output_options(parser)
    parser.set_defaults(run=_search)


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """Options of a search among predictions."""
    parser.add_argument(
        "--max-seconds",
        type=float,
        metavar="S",
        help="of the search: longest predicted training time; needs the target seconds",
    )
    parser.add_argument(
        "--top",
        type=int,
        metavar="K",
        help=f"of the search: how many (default: {_DEFAULT_TOP})",
    )
    parser.add_argument(
        "--goal", choices=("max", "min"), help="which is better, where the name does not tell"
    )


def top_of(options: argparse.Namespace) -> int:
    """How many the search chooses; None in the options tells that nobody asked for a number."""
    top = _DEFAULT_TOP if options.top is None else options.top
    if top < 1:
        raise ValueError(f"--top: got {top}, expected at least 1")
    return top


def _predict(options: argparse.Namespace) -> int:
    check_writable(options.out, *options.candidates)
    predictor = _load(options)
    names = predictor.targets[: predictor.num_targets]
    found, prediction, about = _predictions(options, predictor)
    header = _HEADER if len(names) == 1 else ("target", *_HEADER)
    rows = [
        (name, run.run, *_interval(prediction, i, t))[-len(header) :]
        for t, name in enumerate(names)
        for i, run in enumerate(found.runs)
    ]
    write_csv(options.out, header, rows)
    about["targets"] = {
        name: {
            "low": float(prediction.mean[:, t].min()),
            "high": float(prediction.mean[:, t].max()),
            "mean_interval": float((prediction.high - prediction.low)[:, t].mean()),
        }
        for t, name in enumerate(names)
    }
    about["out"] = str(options.out)
    return show(options, about, _print_prediction)


def _search(options: argparse.Namespace) -> int:
    if options.out is not None:
        check_writable(options.out, *options.candidates)
    top = top_of(options)
    limit = math.inf if options.max_seconds is None else options.max_seconds
    if not limit > 0:
        raise ValueError(f"--max-seconds: got {limit:g}, expected a positive number")
    predictor = _load(options)
    names = predictor.targets[: predictor.num_targets]
    fitted = f"{options.predictor}: it was fitted for {', '.join(names)}"
    name = options.target or names[0]
    if name not in names:
        raise ValueError(f"--target {name}: {fitted}")
    if limit < math.inf and "seconds" not in names:
        raise ValueError(f"--max-seconds: {fitted}; fit it with --target seconds too")
    found, prediction, about = _predictions(options, predictor)
    from metal_jax import exhaust

    t = names.index(name)
    goal = goal_of(name, predictor.held_out, found.runs, options.goal)
    sign = 1 if goal == "max" else -1
    seconds = prediction.mean[:, names.index("seconds")] if "seconds" in names else None
    choice = exhaust.search(
        sign * prediction.mean[:, t],
        prediction.std[:, t],
        top,
        seconds=seconds,
        seconds_limit=limit,
    )
    rows = [
        (found.runs[i].run, *_interval(prediction, i, t), float(time))
        for i, time in zip(choice.chosen.tolist(), choice.seconds, strict=True)
    ]
    header = (*_HEADER, "seconds")
    if options.out is not None:
        write_csv(options.out, header, rows)
    about |= {
        "target": name,
        "goal": goal,
        "max_seconds": options.max_seconds,
        "in_time": len(found.runs) if seconds is None else int((seconds <= limit).sum()),
        "chosen": [dict(zip(header, row, strict=True)) for row in rows],
        "out": None if options.out is None else str(options.out),
    }
    return show(options, about, _print_choice)


# ---- common -------------------------------------------------------------------------------------


def _load(options: argparse.Namespace) -> Predictor:
    from metal_jax import exhaust

    predictor = exhaust.load_predictor(options.predictor)
    epochs = predictor.inputs.epochs_seen
    if options.epochs_seen not in (None, epochs):
        raise ValueError(
            f"--epochs-seen: got {options.epochs_seen}, but {options.predictor} was fitted for "
            f"{epochs}"
        )
    return predictor


def _predictions(
    options: argparse.Namespace, predictor: Predictor
) -> tuple[Found, Prediction, dict[str, Any]]:
    from metal_jax import exhaust

    epochs = predictor.inputs.epochs_seen
    with quiet_progress(options) as say:
        found = read_sources(options, options.candidates, say)
        say("predicting")
        prediction = exhaust.predict(predictor, found.runs)
    about = {
        **about_sources(found),
        "epochs_seen": epochs,
        "too_short": sum(exhaust.num_epochs(run) < epochs for run in found.runs),
        "without_architecture": sum(run.architecture is None for run in found.runs),
        "unknown_layers": exhaust.unknown_layers(found.runs),
    }
    return found, prediction, about


def _interval(prediction: Prediction, i: int, t: int) -> tuple[float, float, float]:
    mean, low, high = prediction.mean, prediction.low, prediction.high
    return float(mean[i, t]), float(low[i, t]), float(high[i, t])


def goal_of(name: str, held_out: str, runs: Iterable[Run], given: str | None) -> str:
    """Whether more or less of a target is better."""
    from metal_jax import exhaust

    what, _, metric = name.partition("@")[0].partition("/")
    if given is not None:
        return given
    if what.startswith("seconds"):
        return "min"
    role = held_out if what == "overfitting" else what
    curves = (run.metrics.get(role, {}).get(metric) for run in runs)
    declared = next((curve for curve in curves if curve is not None and curve.goal), None)
    try:
        goal = exhaust.goal(metric, declared)
    except ValueError:
        raise ValueError(
            f"--target {name}: its name does not tell what is better: say --goal"
        ) from None
    if what == "overfitting":
        # Train - held out: little of an accuracy, much of a loss, whose difference is negative.
        return "min" if goal == "max" else "max"
    return goal


def _print_prediction(about: dict[str, Any]) -> None:
    console = print_sources(about, "candidates")
    for name, row in about["targets"].items():
        console.print(
            f"{name}: predicted from {row['low']:.4g} to {row['high']:.4g}, intervals "
            f"{row['mean_interval']:.4g} wide on average"
        )
    console.print(f"wrote {about['out']}")


def _print_choice(about: dict[str, Any]) -> None:
    console = print_sources(about, "candidates")
    most = "most" if about["goal"] == "max" else "least"
    limit = about["max_seconds"]
    time = "" if limit is None else f"; {about['in_time']:,} are predicted to fit {limit:g} s"
    console.print(f"chosen by {most} {about['target']}{time}")
    remaining = "seconds left" if about["epochs_seen"] else "seconds"
    table = plain_table(["run"], ["mean", "low", "high", remaining])
    for row in about["chosen"]:
        seconds = row["seconds"]
        cells = [f"{row[name]:.4f}" for name in _HEADER[1:]]
        table.add_row(row["run"], *cells, f"{seconds:.1f}" if seconds == seconds else "-")
    if about["chosen"]:
        console.print(table)
    else:
        console.print("no candidate fits")
    if about["out"] is not None:
        console.print(f"wrote {about['out']}")
