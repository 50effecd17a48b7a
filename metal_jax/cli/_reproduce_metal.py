"""`metal-jax reproduce metal`: rerun Snorkel MeTaL's table."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from metal_jax.cli._common import (
    add_output_options,
    add_seed_option,
    check_writable,
    show,
    write_json,
)
from metal_jax.cli._kept import KeptSteps
from metal_jax.cli._progress import quiet_progress

_EPILOG = """
What is done of an interrupted run is kept in <out>.partial: the same command goes on from there.

Examples:
  metal-jax reproduce metal --quick
  metal-jax reproduce metal --data data --ablations --out results.json
"""


def add_paper(papers: Any) -> None:
    """Add the paper to the sub-commands of `reproduce`."""
    text = "Snorkel MeTaL: supervised, LFs, label model, single- and multi-task networks"
    metal = papers.add_parser("metal", help=text, description=f"{text}.", epilog=_EPILOG)
    metal.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of real data; adds OpenI, TREC, CLINC150"
    )
    metal.add_argument(
        "--ablations",
        action="store_true",
        help="also train the multi-task network with one part changed at a time; takes about twice "
        "as long",
    )
    add_common_options(metal, "results.json", "2 seeds, 2 sizes, no single tasks, no ceilings")
    metal.set_defaults(run=_run)


def add_common_options(parser: Any, out: str, quick: str) -> None:
    """Options of every paper."""
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(out),
        metavar="FILE",
        help=f"where to write (default: {out})",
    )
    parser.add_argument(
        "--seeds", type=int, default=5, metavar="N", help="repetitions (default: 5)"
    )
    add_seed_option(parser)
    parser.add_argument("--quick", action="store_true", help=quick)
    # Suppressed: what stands before the paper's name must not be forgotten.
    add_output_options(parser, argparse.SUPPRESS)


def _run(options: argparse.Namespace) -> int:
    return show(options, reproduce_metal(options), print_metal)


def reproduce_metal(options: argparse.Namespace) -> dict[str, Any]:
    """Run the protocol on every data set; what was found, which is in `--out` too."""
    from metal_jax import reproduce

    _one_device_a_core()
    if options.seeds < 1:
        raise ValueError(f"--seeds: got {options.seeds}, expected at least 1")
    config = reproduce.MetalConfig(
        num_seeds=options.seeds, seed=options.seed, ablations=options.ablations
    )
    if options.quick:
        config = dataclasses.replace(
            config, num_seeds=min(options.seeds, 2), sizes=(50, 100), comparisons=False
        )
    check_writable(options.out)
    start = time.monotonic()
    records = []
    kept = KeptSteps(options.out, {"config": dataclasses.asdict(config), "data": options.data})
    with quiet_progress(options) as say, kept.told():
        say("reading data and applying labelling functions")
        for problem in reproduce.load_problems(options.data):
            records.append(
                reproduce.run_metal(
                    problem,
                    config,
                    on_progress=say.part,
                    remember=kept,
                )
            )
            # Written after each data set: whoever waits for the others may read it.
            write_json(options.out, {"paper": "Snorkel MeTaL", "results": records})
    return {
        "paper": "Snorkel MeTaL",
        "results": records,
        "seconds": time.monotonic() - start,
        "out": str(options.out),
    }


def print_metal(about: dict[str, Any]) -> None:
    """Print the tables."""
    from metal_jax import reproduce

    console = Console()
    for record in about["results"]:
        _print_metal(console, record, reproduce.PUBLISHED, reproduce.summarise_metal(record))
    console.print(
        f"{about['seconds']:.0f} s in all; every seed's figures are in {about['out']}",
        markup=False,
    )


def _one_device_a_core() -> None:
    """Let the networks of a row train side by side, unless the user has set the devices."""
    import jax

    if jax.config.jax_num_cpu_devices < 1:  # pyright: ignore[reportAttributeAccessIssue]
        with contextlib.suppress(RuntimeError):  # too late: a backend is running
            jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)


def _print_metal(
    console: Console, record: dict, published: dict[str, float], gains: dict[str, float]
) -> None:
    root = record["tasks"][0]
    table = Table(
        title=record["data"],
        padding=(0, 0),
        caption=(
            f"Accuracy in % on {record['items']['test']} test items (* the "
            f"{100 * record['test_coverage']:.1f} % with a vote), mean ± standard deviation over "
            f"{record['seeds']} seeds. {len(record['tasks'])} tasks, {record['num_leaves']} "
            f"leaves, {record['num_lfs']} LFs; networks trained on {record['trained_on']} items. "
            f"Data: {record['note']}."
        ),
    )
    columns = {
        "tasks": ("all", "mean over tasks"),
        root: ("all", root),
        "path": ("all", "path"),
        "tasks*": ("covered", "mean over tasks"),
        "path*": ("covered", "path"),
    }
    table.add_column("", min_width=22)
    for header in columns:
        table.add_column(header, justify="right", no_wrap=True)
    for name, scores in record["rows"].items():
        cells = []
        for items, field in columns.values():
            values = 100 * np.asarray(scores[items][field])
            spread = f"±{values.std(ddof=1):3.1f}" if len(values) > 1 else "    "
            cells.append(f"{values.mean():.1f}{spread}")
        table.add_row(name, *cells)
    console.print(table)
    for sentence in _findings(record, gains):
        console.print(sentence, markup=False, highlight=False)
    console.print(
        f"Published, on other data (radiology, news): +{published['over_lfs']} over the LFs, "
        f"+{published['over_supervised']} over a supervised baseline.\n",
        markup=False,
        highlight=False,
    )


def _findings(record: dict, gains: dict[str, float]) -> Iterator[str]:
    """The summary in words, the share of the gap first."""
    for suffix in ("", " + votes"):
        found = []
        if (share := gains.get(f"gap_recovered{suffix}")) is not None:
            found.append(
                f"{share:.0f} % of the gap between majority vote and all gold labels recovered"
                if share == share
                else "all gold labels do not beat the majority vote"
            )
        found.append(f"{gains[f'over_lfs{suffix}']:+.1f} points over the LFs' majority vote")
        found += [
            f"{value:+.1f} over {name.split('_')[2].split()[0]} hand labels"
            for name, value in gains.items()
            if name.startswith("over_supervised") and name.endswith("votes") == bool(suffix)
        ]
        yield f"multi-task network{suffix}, averaged over tasks: {', '.join(found)}."
    if (catch_up := gains.get("catch_up")) is not None:
        tried = [name.removeprefix("over_supervised_") for name in gains]
        sizes = [int(size) for size in tried if size.isdigit()]
        number = (
            f"more than {max(sizes)}"
            if catch_up == math.inf
            else f"{'at most' if catch_up <= min(sizes) else 'about'} {catch_up:.0f}"
        )
        yield f"On text alone, the supervised network catches up at {number} hand labels."
    if (test := record.get("significance")) is not None:
        mean = test["mean over tasks"]
        bound = "≤" if mean["p_value"] <= 0.001 else "="
        yield (
            f"Multi-task network over single-task networks: {mean['difference']:+.1f} points, 95 % "
            f"interval {mean['low']:+.1f} to {mean['high']:+.1f}, p {bound} {mean['p_value']:.3f} "
            f"({test['method']})."
        )
