"""`metal-jax reproduce exhaust`: rerun developer exhaust's table."""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from metal_jax.cli._common import check_writable, show, write_json
from metal_jax.cli._kept import KeptSteps
from metal_jax.cli._progress import quiet_progress
from metal_jax.cli._reproduce_metal import add_common_options

_SLOW = ("svr", "gradient_boosting", "gaussian_process")


_EPILOG = """
What is done of an interrupted run is kept in <out>.partial: the same command goes on from there.

Examples:
  metal-jax reproduce exhaust --seeds 1
  metal-jax reproduce exhaust --data data --only nats --png pictures
"""


def add_paper(papers: Any) -> None:
    """Add the paper to the sub-commands of `reproduce`."""
    text = "developer exhaust: baselines, edit distance and LSTM predict networks never trained"
    exhaust = papers.add_parser(
        "exhaust", help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=_EPILOG
    )
    exhaust.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of real data; adds five open logs"
    )
    exhaust.add_argument(
        "--only", action="append", metavar="NAME", help="only this set of runs; may be repeated"
    )
    exhaust.add_argument(
        "--png", type=Path, metavar="DIR", help="also write each figure as PNG (needs matplotlib)"
    )
    add_common_options(
        exhaust,
        "exhaust.json",
        "1 seed, untrained networks only, a small LSTM, no slow baselines",
    )
    exhaust.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    return show(options, reproduce_exhaust(options), print_exhaust)


def reproduce_exhaust(options: argparse.Namespace) -> dict[str, Any]:
    """Run the protocol on every set of runs; what was found, which is in `--out` too."""
    from metal_jax import exhaust, reproduce

    if options.seeds < 1:
        raise ValueError(f"--seeds: got {options.seeds}, expected at least 1")
    config = reproduce.ExhaustConfig(num_seeds=options.seeds, seed=options.seed)
    if options.quick:
        config = dataclasses.replace(
            config,
            num_seeds=1,
            curves=False,
            baselines=tuple(name for name in config.baselines if name not in _SLOW),
            predictor=exhaust.PredictorConfig(num_members=2, num_steps=300),
        )
    problems = reproduce.load_exhaust_problems(options.data)
    names = [problem.name for problem in problems]
    for name in options.only or ():
        if name not in names:
            raise ValueError(f"--only: got {name!r}, expected one of {names}")
    check_writable(options.out)
    start = time.monotonic()
    records = []
    kept = KeptSteps(options.out, {"config": dataclasses.asdict(config), "data": options.data})
    with quiet_progress(options) as say, kept.told():
        for problem in problems:
            if options.only and problem.name not in options.only:
                continue

            def keep(record: dict) -> None:
                # Written as it grows: an interrupted run keeps what it has.
                found = [*records, record]
                write_json(options.out, {"paper": "developer exhaust", "results": found})

            records.append(
                reproduce.run_exhaust(
                    problem,
                    config,
                    on_progress=say.part,
                    remember=kept,
                    on_record=keep,
                )
            )
            if options.png is not None:
                say(f"{problem.name}: pictures")
                reproduce.draw_exhaust(problem, config, options.png)
    return {
        "paper": "developer exhaust",
        "results": records,
        "seconds": time.monotonic() - start,
        "out": str(options.out),
    }


def print_exhaust(about: dict[str, Any]) -> None:
    """Print the tables."""
    from metal_jax import reproduce

    console = Console()
    for record in about["results"]:
        _print_record(console, record)
    published = ", ".join(f"{k} {v}" for k, v in reproduce.PUBLISHED_EXHAUST.items())
    console.print(f"Published, on other data: {published}.", markup=False, highlight=False)
    console.print(
        f"{about['seconds']:.0f} s in all; every seed's figures are in {about['out']}",
        markup=False,
    )


def _print_record(console: Console, record: dict) -> None:
    for part, title in (
        ("untrained", "networks never trained"),
        ("quarter", f"after {record['epochs_seen']} epochs"),
    ):
        if not record[part]:
            continue
        table = Table(
            title=f"{record['data']}: {title}",
            padding=(0, 0),
            caption=(
                "Mean absolute error (points; of the logarithm for seconds) and Kendall's tau, "
                f"mean ± standard deviation over {record['seeds']} seeds; "
                f"{record['networks']} networks. {record['note']}."
            ),
        )
        table.add_column("", min_width=20)
        names = [
            name for name in record["targets"] if any(name in r for r in record[part].values())
        ]
        for name in names:
            table.add_column(name, justify="right", no_wrap=True)
        for method, found in record[part].items():
            table.add_row(method, *(_figures(found.get(name), name) for name in names))
        if part == "untrained" and record["noise"]:
            table.add_row("(one seed)", *(_figures(record["noise"][name], name) for name in names))
        console.print(table)
        covered = record[part].get("lstm_ensemble", {})
        if covered:
            shares = ", ".join(
                f"{100 * np.mean(found['coverage']):.1f} % of {name}"
                for name, found in covered.items()
            )
            console.print(
                f"The LSTM's 90 % intervals hold {shares}.", markup=False, highlight=False
            )
    table = Table(
        title=f"{record['data']}: the best 3 by {record['targets'][0]}",
        padding=(0, 0),
        caption="Top-3 overlap / regret (points), by limit of training time (percentile).",
    )
    table.add_column("", min_width=20)
    search = dict(record["search"])
    if record["noise"]:
        search["(one seed)"] = record["noise"]["search"]
    limits = list(next(iter(search.values())))
    for limit in limits:
        table.add_column(limit, justify="right", no_wrap=True)
    scale = _scale(record["targets"][0])
    for method, found in search.items():
        cells = []
        for limit in limits:
            overlap, lost = np.mean(found[limit]["overlap"]), np.mean(found[limit]["regret"])
            cells.append(f"{overlap:.2f} / {scale * lost:.2f}")
        table.add_row(method, *cells)
    console.print(table)


def _scale(name: str) -> float:
    """Accuracies are shown in points."""
    return 100.0 if "accuracy" in name else 1.0


def _figures(found: dict | None, name: str) -> str:
    if found is None:
        return ""
    error = _scale(name) * np.atleast_1d(found["error"])
    digits = 2 if _scale(name) > 1 else 4
    spread = f"±{error.std(ddof=1):.{digits}f}" if len(error) > 1 else ""
    return f"{error.mean():.{digits}f}{spread} ({np.mean(found['tau']):.2f})"
