"""Drawings with a name for each row: dot plots and heat maps as SVG."""

from __future__ import annotations

import math

import numpy as np

from metal_jax.report._figures import Dots, HeatMap
from metal_jax.report._scales import Scale, number, scale_of, tick_labels
from metal_jax.report._svg import escape, line, mark, short, tag, text, width_of

_WIDTH = 340
_ROW = 18
_LEFT_MOST = 140
_CHARACTERS = 19
_NAME_SIZE = 11  # pixels, as in report.css
_TEXT_CELL = 26  # a cell that holds a number
_LEAST_CELL, _MOST_CELL = 9, 34
_MAP_WIDTH = 485
_KEY_CELLS = 8
_KEY_WIDTH = 18 + 12 * _KEY_CELLS + 40


def draw_dots(figure: Dots) -> tuple[str, int, int]:
    """The inside of the drawing, its width and its height."""
    names = [_fitting(str(row), _LEFT_MOST - 14, _NAME_SIZE) for row in figure.rows]
    left = max(map(_small(_NAME_SIZE), names), default=0) + 14
    height = 12 + _ROW * len(names) + 38
    bottom = height - 38
    values = [v for s in figure.series for part in (s.values, s.low, s.high) if part for v in part]
    xs = scale_of(values, left, _WIDTH - 14, zero=True)
    if figure.span is not None:
        xs = Scale(*figure.span, left, _WIDTH - 14)
    parts = []
    for x, name in zip(xs.ticks(4), tick_labels(xs.ticks(4)), strict=True):
        parts.append(line(xs(x), 8, xs(x), bottom, "grid"))
        parts.append(text(xs(x), bottom + 14, name, "tick", text_anchor="middle"))
    parts.append(
        text((left + _WIDTH - 14) / 2, height - 5, figure.x_label, "label", text_anchor="middle")
    )
    for i, (name, full) in enumerate(zip(names, figure.rows, strict=True)):
        y = 12 + _ROW * (i + 0.5)
        parts.append(
            tag(
                "text",
                tag("title", escape(full)),
                escape(name),
                x=left - 8,
                y=y + 4,
                class_="tick name",
                text_anchor="end",
            )
        )
        parts.append(line(left, y, _WIDTH - 14, y, "row"))
        for series in figure.series:
            value = float(series.values[i])
            if not math.isfinite(value):
                continue
            note = f"{full}, {series.name}: {number(value)}"
            if series.low is not None and series.high is not None and math.isfinite(series.low[i]):
                parts.append(
                    line(xs(series.low[i]), y, xs(series.high[i]), y, f"interval {series.role}")
                )
                note += f" ({number(float(series.low[i]))} to {number(float(series.high[i]))})"
            parts.append(mark(series.mark, xs(value), y, series.role, note))
    return "".join(parts), _WIDTH, height


def draw_heat_map(figure: HeatMap) -> tuple[str, int, int]:
    """The inside of the drawing, its width and its height."""
    num_rows, num_columns = figure.shades.shape
    rows = [short(str(name), _CHARACTERS) for name in figure.rows]
    cell = _cell_of(rows, num_columns)
    size = min(11, cell - 1)
    columns = [short(str(name), 14) for name in figure.columns]
    left = math.ceil(max(map(_small(size), rows), default=0)) + 26
    reach = max(map(_small(size), columns), default=0)
    # Names of columns stand up where they would run into each other lying down.
    upright = any(_small(size)(name) > cell - 2 for name in columns)
    top = 22 + math.ceil(reach if upright else size + 4)
    style = f"font-size:{size}px"
    parts = [
        text(left + cell * num_columns / 2, 12, figure.column_label, "label", text_anchor="middle"),
        text(
            0, 0, figure.row_label, "label", text_anchor="middle",
            transform=f"translate(11 {top + cell * num_rows / 2:g}) rotate(-90)",
        ),
    ]  # fmt: skip
    for j, name in enumerate(columns):
        x = left + cell * (j + 0.5)
        turn = (
            f"translate({x + size / 3:g} {top - 4}) rotate(-90)"
            if upright
            else f"translate({x:g} {top - 5})"
        )
        parts.append(
            text(
                0,
                0,
                name,
                "tick name",
                transform=turn,
                style=style,
                text_anchor=None if upright else "middle",
            )
        )
    for i, name in enumerate(rows):
        y = top + cell * (i + 0.5) + size / 3
        parts.append(text(left - 5, y, name, "tick name", text_anchor="end", style=style))
    frame = {"width": cell * num_columns, "height": cell * num_rows}
    parts.append(tag("rect", x=left, y=top, class_="field", **frame))
    for i, j in np.argwhere(figure.values != 0).tolist():
        value, shade = figure.values[i, j].item(), float(figure.shades[i, j])
        shown = number(int(value) if figure.counts else value)
        note = tag("title", escape(f"{figure.rows[i]}, {figure.columns[j]}: {shown}"))
        x, y = left + cell * j, top + cell * i
        opacity = f"{_opacity(shade):.2f}"
        parts.append(
            tag(
                "rect",
                note,
                x=x,
                y=y,
                width=cell - 1,
                height=cell - 1,
                class_="cell",
                fill_opacity=opacity,
            )
        )
        if cell >= _TEXT_CELL:
            role = "cell-text strong" if _opacity(shade) > 0.6 else "cell-text"
            size_ = "font-size:9px" if len(shown) > 4 else None
            parts.append(
                text(
                    x + cell / 2 - 0.5,
                    y + cell / 2 + 4,
                    shown,
                    role,
                    text_anchor="middle",
                    style=size_,
                )
            )
    width, bottom = left + cell * num_columns + 8, top + cell * num_rows
    if figure.most is not None:
        width = max(width, left + _KEY_WIDTH)
        parts.append(_key(left, bottom + 10, figure.most))
        bottom += 24
    return "".join(parts), width, bottom + 6


def _key(x: float, y: float, most: float) -> str:
    """The scale of shades."""
    parts = [text(x, y + 9, "0", "tick")]
    for i in range(_KEY_CELLS):
        opacity = f"{_opacity((i + 0.5) / _KEY_CELLS):.2f}"
        place = {"x": x + 12 + 12 * i, "y": y, "width": 12, "height": 10}
        parts.append(tag("rect", **place, class_="cell", fill_opacity=opacity))
    return "".join(parts) + text(x + 18 + 12 * _KEY_CELLS, y + 9, number(most), "tick")


def _opacity(shade: float) -> float:
    """Small numbers are to be seen too."""
    return 0.04 + 0.96 * math.sqrt(min(max(shade, 0.0), 1.0))


def _cell_of(rows: list[str], num_columns: int) -> int:
    """Side of a cell such that names and columns fit half a page, as long as it can be seen."""
    for cell in range(_MOST_CELL, _LEAST_CELL, -1):
        names = max(map(_small(min(11, cell - 1)), rows), default=0)
        if names + max(num_columns, len(rows)) * cell <= _MAP_WIDTH:
            return cell
    return _LEAST_CELL


def _fitting(name: str, width: float, size: float) -> str:
    """A name cut to a number of characters, and to a width."""
    cut = (short(name, most) for most in range(_CHARACTERS, 1, -1))
    return next((name for name in cut if width_of(name, size) <= width), "\u2026")


def _small(size: float):
    return lambda name: width_of(name, size)
