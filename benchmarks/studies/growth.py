"""How cost grows: `python -m benchmarks.studies.growth [--out FILE] [--plot PNG]`.

Time of each piece of work along one axis, all else fixed: items, LFs, classes, leaves, tasks,
layers, epochs of a log. Compiled kernels are timed on arrays that are on the device, whole calls
from arrays on the host; medians. The exponent is the slope of log time on log size by least
squares, over the larger half of the sizes (three at least), where fixed costs count least, with its
standard error. Then, on paper, what other devices would take (`device_estimates`).

An axis ends where the next size would take longer than `--limit` seconds a run. `--quick` takes the
first three sizes of each.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import measure
from benchmarks.machine import ceilings, description
from benchmarks.report import seconds as in_units
from benchmarks.studies.device_estimates import estimates
from benchmarks.studies.growth_cases import Growth, growths


class Exponent(NamedTuple):
    """Slope of log time on log size, its standard error, and how many sizes are in it."""

    slope: float
    error: float
    num_sizes: int


def exponent(sizes: Sequence[float], times: Sequence[float]) -> Exponent:
    """Fit a power of the size to the times of the larger half of the sizes.

    Args:
        sizes: from small to large, two at least.
        times: seconds.

    Returns:
        The exponent; its error is NaN for two sizes.
    """
    kept = min(len(sizes), max(3, (len(sizes) + 1) // 2))
    x, y = (np.log(np.asarray(values, float)[-kept:]) for values in (sizes, times))
    slope = float(np.cov(x, y, bias=True)[0, 1] / x.var())
    residual = y - y.mean() - slope * (x - x.mean())
    freedom = kept - 2
    variance = (residual**2).sum() / freedom / (kept * x.var()) if freedom else np.nan
    return Exponent(slope, float(np.sqrt(variance)), kept)


def run(growth: Growth, limits: Any, *, quick: bool, seconds: float, limit: float) -> list[dict]:
    """A row for each size."""
    rows: list[dict] = []
    for size in growth.sizes[:3] if quick else growth.sizes:
        if len(rows) > 1:
            sizes, times = _points(rows)
            steepness = np.clip(exponent(sizes[-2:], times[-2:]).slope, 1.0, 3.0)
            if times[-1] * (size / sizes[-1]) ** steepness > limit:
                break
        slow = bool(rows) and rows[-1]["wall"]["median"] > seconds
        row = measure(
            growth.work, growth.case(size), limits, seconds=seconds, least=1 + 2 * (not slow)
        )
        row |= {"kind": "growth", "axis": growth.axis, "work": growth.work, "size": size}
        rows.append(row | {"fixed": growth.fixed})
    return rows


def _points(rows: Sequence[dict]) -> tuple[list[float], list[float]]:
    return [row["size"] for row in rows], [row["wall"]["median"] for row in rows]


def table(rows: Sequence[dict]) -> str:
    """A line for each piece of work."""
    lines = [
        "| grows | work | fixed | from | to | time there | exponent | sizes fitted |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (axis, work), mine in _by_work(rows).items():
        sizes, times = _points(mine)
        found = exponent(sizes, times)
        error = "" if np.isnan(found.error) else f" ± {found.error:.2f}"
        lines.append(
            f"| {axis} | {work} | {mine[0]['fixed']} | {sizes[0]:,} | {sizes[-1]:,} "
            f"| {in_units(times[-1])} | {found.slope:.2f}{error} | {found.num_sizes} |"
        )
    return "\n".join(lines)


def _by_work(rows: Sequence[dict]) -> dict[tuple[str, str], list[dict]]:
    keys = dict.fromkeys((row["axis"], row["work"]) for row in rows)
    return {key: [row for row in rows if (row["axis"], row["work"]) == key] for key in keys}


def plot(rows: Sequence[dict], path: Path) -> None:
    """A panel for each axis, time against size."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    axes_names = list(dict.fromkeys(row["axis"] for row in rows))
    colours = {name: f"C{i}" for i, name in enumerate(dict.fromkeys(row["work"] for row in rows))}
    figure, panels = pyplot.subplots(2, 4, figsize=(15, 7.5), layout="constrained")
    for panel, name in zip(panels.flat, axes_names, strict=False):
        for (axis, work), mine in _by_work(rows).items():
            if axis != name:
                continue
            sizes, times = _points(mine)
            label = f"{work}, {exponent(sizes, times).slope:.2f}"
            panel.plot(sizes, times, marker="o", ms=4, color=colours[work], label=label)
        panel.set(xscale="log", yscale="log", xlabel=name)
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8, title="work, exponent", title_fontsize=8)
    for panel in panels[:, 0]:
        panel.set_ylabel("seconds")
    for panel in panels.flat[len(axes_names) :]:
        panel.set_axis_off()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def shares(rows: Sequence[dict]) -> dict[str, float]:
    """The share of the bound that each work reached at the most items."""
    most = {row["work"]: row for row in rows if row["axis"] == "items" and "bound" in row}
    return {work: min(1.0, row["fraction_of_bound"]) for work, row in most.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--axis", nargs="+", help="these alone")
    parser.add_argument("--quick", action="store_true", help="the first three sizes of each")
    parser.add_argument("--seconds", type=float, default=1.0, help="to repeat each size for")
    parser.add_argument("--limit", type=float, default=30.0, help="seconds of the longest run")
    parser.add_argument("--out", type=Path, metavar="FILE", help="append JSON lines to this")
    parser.add_argument("--plot", type=Path, metavar="PNG")
    options = parser.parse_args(arguments)
    limits = ceilings("ci" if options.quick else "full")
    common = description() | {"ceilings": limits._asdict(), "quick": options.quick}
    rows: list[dict] = []
    for growth in growths():
        if options.axis and growth.axis not in options.axis:
            continue
        settings = {"seconds": options.seconds, "limit": options.limit}
        found = run(growth, limits, quick=options.quick, **settings)
        rows += [row | common for row in found]
        print(f"{growth.axis}, {growth.work}: {in_units(found[-1]['wall']['median'])}", flush=True)
        if options.out:
            with options.out.open("a") as file:
                file.writelines(json.dumps(row | common) + "\n" for row in found)
    print("\n" + table(rows))
    print("\n" + estimates(shares(rows)))
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
