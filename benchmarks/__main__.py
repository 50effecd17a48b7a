"""Time kernels, and peers beside them, on whatever device there is.

Figures go to standard output as a table and, with `--out`, to a file as JSON lines; the same
command on another device makes another file, and `python -m benchmarks.report` joins them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from benchmarks import report
from benchmarks.contest import run
from benchmarks.contests import contests
from benchmarks.harness import measure
from benchmarks.kernels import KERNELS
from benchmarks.machine import ceilings, description

_SECONDS = {"ci": 0.02, "small": 0.5, "full": 3.0}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("kernels", nargs="*", metavar="kernel", help="all by default")
    parser.add_argument("--sizes", choices=tuple(_SECONDS), default="small")
    parser.add_argument("--peers", action="store_true", help="contests with peers too")
    parser.add_argument("--contest", help="only contests whose name contains this")
    parser.add_argument("--data", type=Path, help="folder of real votes, for contests on them")
    parser.add_argument("--profile", type=Path, metavar="DIR", help="write a profile of the runs")
    parser.add_argument("--out", type=Path, metavar="FILE", help="append JSON lines to this")
    options = parser.parse_args(arguments)
    if unknown := set(options.kernels) - set(KERNELS):
        parser.error(f"no kernel {sorted(unknown)}; there are {', '.join(KERNELS)}")
    limits = ceilings(options.sizes)
    common = description() | {"sizes": options.sizes, "ceilings": limits._asdict()}
    rows: list[dict[str, Any]] = []

    def keep(row: dict[str, Any]) -> None:
        rows.append(row | common)
        if options.out:
            with options.out.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")

    tracing = jax.profiler.trace(str(options.profile)) if options.profile else None
    with tracing or contextlib.nullcontext():
        for name in options.kernels or ([] if options.contest else KERNELS):
            for case in KERNELS[name](options.sizes):
                keep(measure(name, case, limits, seconds=_SECONDS[options.sizes]))
        if options.peers or options.contest:
            for contest in contests(options.sizes, options.data):
                if (options.contest or "") in contest.name:
                    keep(run(contest))
    print(report.table(rows))


if __name__ == "__main__":
    main()
