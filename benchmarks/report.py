"""One table from any set of result files: `python -m benchmarks.report FILE … [--roofline PNG]`.

A column for each platform; what was not measured there says so. Of several rows for one case the
last counts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

PLATFORMS = ("cpu", "gpu", "tpu")
_UNITS = ((1e-6, 1e9, "ns"), (1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (float("inf"), 1.0, "s"))


def read(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """The rows of some files of JSON lines."""
    return [json.loads(line) for path in paths for line in path.read_text().splitlines() if line]


def seconds(value: float) -> str:
    """Three digits with a unit."""
    scale, unit = next((s, u) for limit, s, u in _UNITS if value < limit)
    return f"{value * scale:.3g} {unit}"


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "not measured"
    wall = row["wall"]
    text = (
        f"{seconds(wall['median'])} ({seconds(wall['quartile_1'])} – {seconds(wall['quartile_3'])})"
    )
    if row.get("fraction_of_bound") is None:
        return text
    return f"{text}, {row['fraction_of_bound']:.0%} of {row['bound']}"


def kernel_table(rows: Sequence[dict[str, Any]]) -> str:
    """Median, quartiles and the share of the binding ceiling, a column for each platform."""
    found = {
        (row["kernel"], row["case"], row["platform"]): row
        for row in rows
        if row["kind"] == "kernel"
    }
    lines = ["| kernel | case | compile | CPU | GPU | TPU |", "|---|---|---|---|---|---|"]
    for kernel, case in dict.fromkeys(key[:2] for key in found):
        cells = [found.get((kernel, case, platform)) for platform in PLATFORMS]
        first = next(row for row in cells if row is not None)
        compiling = seconds(first["compile_seconds"])
        lines.append(f"| {kernel} | {case} | {compiling} | {' | '.join(map(_cell, cells))} |")
    return "\n".join(lines)


def contest_table(rows: Sequence[dict[str, Any]]) -> str:
    """Times of both and their ratio, by the clock and by processor time."""
    lines = [
        "| work | peer | device | ours | theirs | ratio (quartiles) | CPU time ratio | agreement |",
        "|---|---|---|---|---|---|---|---|",
    ]
    found = {
        (row["contest"], row["peer"], row["platform"]): row
        for row in rows
        if row["kind"] == "contest"
    }
    for (contest, peer, platform), row in found.items():
        if "skipped" in row:
            lines.append(f"| {contest} | {peer} | {platform} | skipped: {row['skipped']} | | | | |")
            continue
        ratio, cpu = row["ratio_wall"], row["ratio_cpu"]
        agreement = ", ".join(f"{key} {value:.5g}" for key, value in row["agreement"].items())
        lines.append(
            f"| {contest} | {peer} | {platform} | {seconds(row['ours_wall']['median'])} "
            f"| {seconds(row['theirs_wall']['median'])} "
            f"| {ratio['median']:.3g} ({ratio['quartile_1']:.3g} – {ratio['quartile_3']:.3g}) "
            f"| {cpu['median']:.3g} ({cpu['quartile_1']:.3g} – {cpu['quartile_3']:.3g}) "
            f"| {agreement} |"
        )
    return "\n".join(lines)


def machines(rows: Sequence[dict[str, Any]]) -> str:
    """What ran on what."""
    keys = ("platform", "device_kind", "num_devices", "cores", "jax", "commit", "dirty")
    lines = {
        ", ".join(f"{key} {row[key]}" for key in keys)
        + "; ceilings "
        + ", ".join(f"{name} {rate / 1e9:.0f} G/s" for name, rate in row["ceilings"].items())
        for row in rows
    }
    return "\n".join(f"- {line}" for line in sorted(lines))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The whole report."""
    return "\n\n".join((machines(rows), kernel_table(rows), contest_table(rows)))


def roofline(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Achieved rate against operations per byte, under the machine's own roof."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    points = [row for row in rows if row.get("operations_per_second") and row.get("bytes")]
    figure, axes = pyplot.subplots(figsize=(9, 6))
    for platform in dict.fromkeys(row["platform"] for row in points):
        here = [row for row in points if row["platform"] == platform]
        limits = here[-1]["ceilings"]
        for name, style in (("float32", "-"), ("int8", "--")):
            ridge = limits[name] / limits["copy"]  # the roof bends here
            roof = [0.01 * limits["copy"], limits[name], limits[name]]
            axes.plot([0.01, ridge, 1e4], roof, style, color="0.5", label=f"{platform}: {name}")
        for i, kernel in enumerate(dict.fromkeys(row["kernel"] for row in here)):
            mine = [row for row in here if row["kernel"] == kernel]
            axes.scatter(
                [row["operations"] / row["bytes"] for row in mine],
                [row["operations_per_second"] for row in mine],
                label=kernel,
                color=f"C{i % 10}",
                marker="os^D"[i // 10 % 4],
                s=24,
            )
    axes.set(xscale="log", yscale="log", xlabel="operations per byte", ylabel="operations / s")
    axes.legend(fontsize=7, loc="lower right", ncols=2)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def main() -> None:
    """Print the table, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--roofline", type=Path)
    options = parser.parse_args()
    rows = read(options.files)
    print(table(rows))
    if options.roofline:
        roofline(rows, options.roofline)


if __name__ == "__main__":
    main()
