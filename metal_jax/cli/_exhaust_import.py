"""`metal-jax exhaust import`: logs of any kind to run records."""

from __future__ import annotations

import argparse
import collections
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from metal_jax.cli._common import (
    add_out_option,
    add_output_options,
    check_writable,
    plain_console,
    plain_table,
    replaced,
    show,
)
from metal_jax.cli._exhaust_resume import KeptReadings
from metal_jax.cli._exhaust_sources import (
    SOURCES_HELP,
    Found,
    add_source_options,
    problem_count,
    problem_line,
    read_sources,
)
from metal_jax.cli._progress import quiet_progress

if TYPE_CHECKING:
    from metal_jax.exhaust import Problem, Run

_MOST_REASONS = 8
_MOST_NAMES = 12

_EPILOG = f"""{SOURCES_HELP}

The output is JSON lines, one run record a line (see metal_jax.exhaust.to_json), and takes its
place in one step. What could not be read, or not as it stands, goes to
<out>.problems.jsonl with file, line, reason and the raw text. An import that was interrupted goes
on with the same command; what it had read is in <out>.partial until then.

Examples:
  metal-jax exhaust import logs/ --out runs.jsonl
  metal-jax exhaust import results.csv --columns map.json --percent --out runs.jsonl
  metal-jax exhaust import train-*.log --patterns patterns.json --out runs.jsonl
  metal-jax exhaust import data/nats --layout nats --out runs.jsonl
"""


def add_command(commands: Any) -> None:
    """Add the command to the sub-commands of `exhaust`."""
    parser = commands.add_parser(
        "import",
        help="read logs of any kind into run records",
        description="Read training logs into run records.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "sources", type=Path, nargs="+", metavar="SOURCE", help="files, archives or folders"
    )
    add_out_option(parser, "runs.jsonl")
    add_source_options(parser)
    add_output_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    side = options.out.with_name(f"{options.out.name}.problems.jsonl")
    maps = (options.columns, options.patterns, options.tags)
    for path in (options.out, side):
        check_writable(path, *options.sources, *maps)
    how = {name: getattr(options, name) for name in ("layout", "reader", "percent")}
    how["maps"] = [None if path is None else path.read_text(errors="replace") for path in maps]
    kept = KeptReadings(options.out, how)
    with quiet_progress(options) as say:
        try:
            apart = (options.out, side, kept.path)
            found = read_sources(options, options.sources, say, leave_out=apart, kept=kept)
        except KeyboardInterrupt:
            number = kept.save()
            if not number:
                raise
            raise KeyboardInterrupt(
                f"interrupted; what was read of {number:,} files is kept in {kept.path}: run "
                "the same command again, and it goes on after them"
            ) from None
        say("writing")
        runs, unwritable = _write(options.out, found.runs)
        problems = [*found.problems, *unwritable]
        side.unlink(missing_ok=True)
        if problems:
            with replaced(side) as file:
                for problem in problems:
                    _write_line(file, problem._asdict())
        kept.remove()
        about = _describe(found._replace(runs=tuple(runs)), problems)
    about["out"] = str(options.out)
    about["problems_file"] = str(side) if problems else None
    return show(options, about, _print)


def _write(path: Path, runs: Sequence[Run]) -> tuple[list[Run], list[Problem]]:
    """Replace the file of records; a run that JSON cannot hold becomes a problem."""
    from metal_jax.exhaust import Problem, to_json

    written, problems = [], []
    with replaced(path) as file:
        for run in runs:
            try:
                _write_line(file, to_json(run))
                written.append(run)
            except (ValueError, TypeError) as error:
                reason = f"run {run.run!r:.60}: {error}"
                problems.append(Problem(run.source, 0, "", reason, f"{run}"))
    return written, problems


def _write_line(file: BinaryIO, record: Mapping[str, Any]) -> None:
    file.write(json.dumps(record, allow_nan=False).encode("ascii") + b"\n")


def _describe(found: Found, problems: Sequence[Problem]) -> dict[str, Any]:
    from metal_jax.exhaust import unknown_layers

    runs = found.runs
    names = sorted(
        {f"{role}/{name}" for run in runs for role in run.metrics for name in run.metrics[role]}
    )
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        # Alike but for what is quoted or counted.
        alike = re.sub(r"'[^']*'|\"[^\"]*\"|\d+(\.\d+)?", "*", f"{problem.field}: {problem.reason}")
        groups.setdefault(alike, []).append(problem)
    reasons = sorted(groups.values(), key=len, reverse=True)
    return {
        "files": found.files,
        "runs": len(runs),
        "statuses": dict(collections.Counter(run.status or "unknown" for run in runs)),
        "without_architecture": sum(run.architecture is None for run in runs),
        "unknown_layers": unknown_layers(runs),
        "metrics": [_describe_metric(runs, *name.split("/", 1)) for name in names],
        "seconds": sum(bool(run.seconds) or run.total_seconds is not None for run in runs),
        "other_fields": dict(collections.Counter(field for run in runs for field in run.extra)),
        "problems": len(problems),
        "reasons": [{"count": len(group), "first": problem_line(group[0])} for group in reasons],
    }


def _describe_metric(runs: Sequence[Run], role: str, name: str) -> dict[str, Any]:
    curves = [run.metrics[role][name] for run in runs if name in run.metrics.get(role, {})]
    values = [value for curve in curves for value in curve.values]
    finite = [value for value in values if math.isfinite(value)]
    epochs = [curve.epochs[-1] for curve in curves if curve.epochs]
    return {
        "name": f"{role}/{name}",
        "runs": len(curves),
        "missing": len(runs) - len(curves),
        "low": min(finite, default=math.nan),
        "high": max(finite, default=math.nan),
        "not_finite": len(values) - len(finite),
        "epochs": [min(epochs, default=0), max(epochs, default=0)],
    }


def _print(about: dict[str, Any]) -> None:
    console = plain_console()
    files = ", ".join(f"{count:,} {reader}" for reader, count in about["files"].items())
    statuses = ", ".join(f"{count:,} {status}" for status, count in about["statuses"].items())
    console.print(f"read {about['runs']:,} runs from: {files}")
    console.print(f"status: {statuses}")
    console.print(
        f"{about['without_architecture']:,} runs without an architecture; {about['seconds']:,} "
        "runs with training time"
    )
    table = plain_table(
        ["metric"], ["runs", "runs without it", "lowest", "highest", "NaN or inf", "epochs"]
    )
    for row in about["metrics"]:
        first, last = row["epochs"]
        table.add_row(
            row["name"],
            f"{row['runs']:,}",
            f"{row['missing']:,}",
            *(f"{row[end]:.6g}" if row[end] == row[end] else "-" for end in ("low", "high")),
            f"{row['not_finite']:,}",
            f"{first:,}" if first == last else f"{first:,} to {last:,}",
        )
    if about["metrics"]:
        console.print(table)
    else:
        console.print("no metrics")
    if about["unknown_layers"]:
        console.print(f"unknown layer types, kept as they are: {_counted(about['unknown_layers'])}")
    if about["other_fields"]:
        console.print(f"other fields, kept with the runs: {_counted(about['other_fields'])}")
    if about["problems"]:
        console.print(f"{problem_count(about)}, set aside in {about['problems_file']}:")
        for reason in about["reasons"][:_MOST_REASONS]:
            console.print(f"  {reason['count']:,} x, the first: {reason['first']:.300}")
        rest = about["reasons"][_MOST_REASONS:]
        if rest:
            console.print(f"  and {sum(reason['count'] for reason in rest):,} of other kinds")
    console.print(f"wrote {about['out']}")


def _counted(counts: dict[str, int]) -> str:
    shown = [f"{name:.40} ({count:,})" for name, count in list(counts.items())[:_MOST_NAMES]]
    rest = f", ... ({len(counts)} in all)" if len(counts) > _MOST_NAMES else ""
    return ", ".join(shown) + rest
