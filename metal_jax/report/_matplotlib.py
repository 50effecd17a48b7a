"""Figures through matplotlib; the only module that imports it, and only when it draws."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metal_jax.report._blocks import Figures, Report
from metal_jax.report._draw_tree import rows_of_tree
from metal_jax.report._figures import Bars, Dots, Figure, HeatMap, Lines, Points, TreeDrawing
from metal_jax.report._scales import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {"main": "#0b66a8", "second": "#c2500a", "third": "#0f7d5c", "context": "#8d9096"}
_STYLES = {"main": "-", "second": "--", "third": ":", "context": "-"}
_MARKS = {"dot": "o", "ring": "o", "tick": "|", "diamond": "D"}
_TEXT_CELLS = 12  # a matrix so large at most has its numbers written in
_DPI = 160


def draw_axes(figure: Figure, ax: Axes | None = None) -> Axes:
    """Draw a figure.

    Args:
        figure: what to draw.
        ax: where; by default the axes of a new figure, which is `ax.figure`.

    Returns:
        The axes.

    Raises:
        ImportError: matplotlib is not installed.

    Example:
        >>> from metal_jax.report import TreeDrawing
        >>> from metal_jax.task_tree import TaskTree
        >>> axes = draw_axes(TreeDrawing("Pets", "", TaskTree.from_dict({"pet": ["cat", "dog"]})))
        >>> axes.get_title(loc="left") or axes.get_title()
        'Pets'
    """
    if ax is None:
        from matplotlib.figure import Figure as Canvas

        ax = Canvas(_size(figure), layout="constrained").subplots()
    ax.set_title(figure.title, loc="left", fontsize="medium")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    match figure:
        case Lines():
            _lines(figure, ax)
        case Points():
            _points(figure, ax)
        case Bars():
            widths = np.diff(figure.edges)
            ax.bar(figure.edges[:-1], figure.heights, widths, align="edge", color=_COLOURS["main"])
            ax.set(xlabel=figure.x_label, ylabel=figure.y_label)
        case Dots():
            _dots(figure, ax)
        case HeatMap():
            _heat_map(figure, ax)
        case TreeDrawing():
            _tree(figure, ax)
    return ax


def write_png(report: Report, folder: str | os.PathLike[str]) -> list[Path]:
    """Write every figure of a report as PNG.

    Args:
        report: the report.
        folder: where to, made if there is none.

    Returns:
        The files, `figure01_task_tree.png` and so on, numbered as on the page.

    Raises:
        ImportError: matplotlib is not installed.

    Example:
        >>> import tempfile
        >>> from metal_jax.report import Figures, Section, TreeDrawing
        >>> from metal_jax.task_tree import TaskTree
        >>> drawing = TreeDrawing("Task tree", "", TaskTree.from_dict({"pet": ["cat", "dog"]}))
        >>> report = Report("Pets", "", [Section("Tasks", [Figures([drawing])])])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [path.name for path in write_png(report, folder)]
        ['figure01_task_tree.png']
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    blocks = [block for section in report.sections for block in section.blocks]
    figures = [f for block in blocks if isinstance(block, Figures) for f in block.figures]
    paths = []
    for i, figure in enumerate(figures, 1):
        name = re.sub(r"[^a-z0-9]+", "_", figure.title.lower()).strip("_")[:60]
        paths.append(folder / f"figure{i:02d}_{name}.png")
        canvas: Any = draw_axes(figure).figure
        canvas.savefig(paths[-1], dpi=_DPI, metadata={"Software": None})
    return paths


def _size(figure: Figure) -> tuple[float, float]:
    match figure:
        case Dots():
            return 5, 1.2 + 0.24 * len(figure.rows)
        case HeatMap():
            side = min(max(0.32 * max(figure.shades.shape), 2.6), 10)
            return side + 1.4, side + 0.8
        case TreeDrawing():
            _, _, height = rows_of_tree(figure.tree)
            return 2.4 * figure.tree.depth + 1, 0.6 + height / 72
        case _:
            return 5, 3.6


def _lines(figure: Lines, ax: Axes) -> None:
    for series in figure.series:
        thin = series.role == "context"
        style: dict[str, Any] = {"lw": 0.5, "alpha": 0.4} if thin else {"lw": 1.6}
        marker = "." if len(series.x) <= 12 and not thin else None
        colour, dash = _COLOURS[series.role], _STYLES[series.role]
        label = series.name or None
        ax.plot(series.x, series.y, dash, color=colour, marker=marker, label=label, **style)
    if figure.mark is not None:
        ax.axvline(figure.mark[0], color=_COLOURS["second"], lw=0.8, ls=":", label=figure.mark[1])
    ax.set(xlabel=figure.x_label, ylabel=figure.y_label)
    if len({series.name for series in figure.series if series.name}) > 1:
        ax.legend(frameon=False, fontsize="small")


def _points(figure: Points, ax: Axes) -> None:
    x, y = np.asarray(figure.x, float), np.asarray(figure.y, float)
    if figure.low is not None and figure.high is not None:
        ax.vlines(x, figure.low, figure.high, color=_COLOURS["main"], lw=0.7, alpha=0.4)
    if figure.diagonal and np.isfinite(x).any():
        ends = [np.nanmin([x, y]), np.nanmax([x, y])]
        ax.plot(ends, ends, color=_COLOURS["context"], lw=0.8, ls="--")
    chosen = np.zeros(len(x), bool) if figure.chosen is None else np.asarray(figure.chosen, bool)
    style = "o-" if figure.joined else "o"
    ax.plot(x[~chosen], y[~chosen], style, ms=4, color=_COLOURS["main"])
    ax.plot(x[chosen], y[chosen], "D", ms=6, color=_COLOURS["second"])
    if figure.limit is not None:
        ax.axvline(figure.limit, color=_COLOURS["second"], lw=0.8, ls=":")
    if figure.log:
        ax.set_xscale("log")
        if figure.diagonal:
            ax.set_yscale("log")
    ax.set(xlabel=figure.x_label, ylabel=figure.y_label)


def _dots(figure: Dots, ax: Axes) -> None:
    places = np.arange(len(figure.rows))
    for series in figure.series:
        colour = _COLOURS[series.role]
        if series.low is not None and series.high is not None:
            ax.hlines(places, series.low, series.high, color=colour, lw=1)
        face = "none" if series.mark == "ring" else colour
        ax.plot(
            series.values,
            places,
            _MARKS[series.mark],
            color=colour,
            mfc=face,
            ms=9 if series.mark == "tick" else 5,
            mew=1.6,
            label=series.name,
        )
    ax.set_yticks(places, list(figure.rows))
    ax.set_ylim(len(figure.rows) - 0.5, -0.5)
    ax.set_xlim(*(figure.span or (0, None)))
    ax.set_xlabel(figure.x_label)
    ax.grid(axis="y", ls=":", lw=0.6)
    if len(figure.series) > 1:
        ax.legend(frameon=False, fontsize="small")


def _heat_map(figure: HeatMap, ax: Axes) -> None:
    # As on the page: shades grow with the root, so that small numbers are seen.
    ax.imshow(np.sqrt(np.clip(figure.shades, 0, 1)), cmap="Blues", vmin=0, vmax=1.15)
    num_rows, num_columns = figure.shades.shape
    small = max(4.0, min(9.0, 300 / max(num_rows, num_columns)))
    ax.set_xticks(range(num_columns), list(figure.columns), rotation=90, fontsize=small)
    ax.set_yticks(range(num_rows), list(figure.rows), fontsize=small)
    ax.set(xlabel=figure.column_label, ylabel=figure.row_label)
    if max(num_rows, num_columns) > _TEXT_CELLS:
        return
    for i, j in np.argwhere(figure.values != 0).tolist():
        value = figure.values[i, j].item()
        colour = "white" if figure.shades[i, j] > 0.4 else "black"
        shown = number(int(value) if figure.counts else value)
        ax.text(j, i, shown, ha="center", va="center", color=colour, fontsize=8)


def _tree(figure: TreeDrawing, ax: Axes) -> None:
    tree = figure.tree
    places, titles, height = rows_of_tree(tree)
    for task, y in titles:
        depth = tree.node_depth[tree.task_nodes[task][0]]
        ax.text(
            depth, y, _plain(tree.tasks[task].name), style="italic", color="#5d6168", fontsize=8
        )
    for node, (_, label) in enumerate(tree.node_names):
        depth, y = int(tree.node_depth[node]), places[node]
        share = "" if figure.shares is None else f"  {100 * figure.shares[node]:.1f} %"
        ax.text(depth, y, _plain(label) + share, fontsize=9)
        if (parent := int(tree.node_parent[node])) >= 0:
            bend = [depth - 0.25, depth - 0.15, depth - 0.05]
            heights = [places[parent] - 3, y - 3, y - 3]
            ax.plot(bend, heights, color=_COLOURS["context"], lw=0.7)
    ax.set(xlim=(-0.1, tree.depth), ylim=(height, 0))
    ax.set_axis_off()


def _plain(text: str) -> str:
    """Text in which matplotlib sees no mathematics."""
    return text.replace("$", r"\$")
