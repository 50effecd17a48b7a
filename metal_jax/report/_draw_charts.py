"""Charts with two axes as SVG: lines, points and bars."""

from __future__ import annotations

import math

from metal_jax.report._figures import Bars, Lines, Points
from metal_jax.report._scales import Scale, number, scale_of, tick_labels
from metal_jax.report._svg import line, mark, path, tag, text, width_of

WIDTH, HEIGHT = 340, 230
_TOP, _RIGHT, _BOTTOM = 26, 12, 38
_LEAST_LEFT = 46


def draw_lines(figure: Lines) -> str:
    """The inside of the drawing."""
    values = [y for s in figure.series for y in s.y]
    ys = scale_of(values, HEIGHT - _BOTTOM, _TOP)
    xs = scale_of((x for s in figure.series for x in s.x), _left(ys), WIDTH - _RIGHT)
    whole = all(x == int(x) for s in figure.series for x in s.x)
    parts = _frame(xs, ys, figure.x_label, figure.y_label, whole)
    if figure.mark is not None:
        x, name = figure.mark
        parts.append(line(xs(x), _TOP, xs(x), HEIGHT - _BOTTOM, "pointer"))
        after = xs(x) < WIDTH / 2
        anchor = "start" if after else "end"
        parts.append(text(xs(x) + (4 if after else -4), _TOP + 9, name, "note", text_anchor=anchor))
    for series in figure.series:
        piece: list[tuple[float, float]] = []
        pieces = [piece]
        for x, y in zip(series.x, series.y, strict=True):
            if math.isfinite(y):
                piece.append((xs(x), ys(y)))
            elif piece:
                piece = []
                pieces.append(piece)
        parts += [path(points, f"line {series.role}") for points in pieces]
        known = [points for points in pieces if points]
        if len(series.x) <= 12 and series.role != "context":
            parts += [
                mark("dot", x, y, f"small {series.role}") for points in known for x, y in points
            ]
    return "".join(parts)


def draw_points(figure: Points) -> str:
    """The inside of the drawing."""
    ends = [v for part in (figure.low, figure.high) if part is not None for v in part]
    if figure.diagonal:
        both = [*figure.x, *figure.y, *ends]
        ys = scale_of(both, HEIGHT - _BOTTOM, _TOP, log=figure.log)
        xs = ys._replace(start=_left(ys), stop=WIDTH - _RIGHT)
    else:
        seen = [*figure.x] + ([] if figure.limit is None else [figure.limit])
        ys = scale_of([*figure.y, *ends], HEIGHT - _BOTTOM, _TOP)
        xs = scale_of(seen, _left(ys), WIDTH - _RIGHT, log=figure.log)
    parts = _frame(xs, ys, figure.x_label, figure.y_label)
    if figure.diagonal:
        parts.append(line(xs(xs.low), ys(xs.low), xs(xs.high), ys(xs.high), "reference"))
    if figure.limit is not None:
        parts.append(line(xs(figure.limit), _TOP, xs(figure.limit), HEIGHT - _BOTTOM, "pointer"))
        parts.append(text(xs(figure.limit) - 4, _TOP + 9, "limit", "note", text_anchor="end"))
    known = [i for i, (x, y) in enumerate(zip(figure.x, figure.y, strict=True)) if _shown(x, y)]
    crowded = len(known) > 150
    for low, high in (
        [] if figure.low is None or figure.high is None else [(figure.low, figure.high)]
    ):
        class_ = "interval faint" if crowded else "interval"
        parts += [
            line(xs(figure.x[i]), ys(low[i]), xs(figure.x[i]), ys(high[i]), class_) for i in known
        ]
    if figure.joined:
        parts.append(path([(xs(figure.x[i]), ys(figure.y[i])) for i in known], "line main"))
    chosen = figure.chosen
    order = known if chosen is None else sorted(known, key=lambda i: bool(chosen[i]))
    for i in order:
        picked = chosen is not None and chosen[i]
        role = "second" if picked else "main small" if crowded or chosen is not None else "main"
        note = f"{figure.names[i]}: {number(float(figure.x[i]))}, {number(float(figure.y[i]))}"
        parts.append(
            mark("diamond" if picked else "dot", xs(figure.x[i]), ys(figure.y[i]), role, note)
        )
    return "".join(parts)


def draw_bars(figure: Bars) -> str:
    """The inside of the drawing."""
    low, high = figure.edges[0], figure.edges[-1]
    ys = scale_of(figure.heights, HEIGHT - _BOTTOM, _TOP, zero=True)
    xs = Scale(low, high, _left(ys), WIDTH - _RIGHT)
    parts = _frame(xs, ys, figure.x_label, figure.y_label)
    for start, stop, height in zip(
        figure.edges[:-1], figure.edges[1:], figure.heights, strict=True
    ):
        note = f"{number(float(start))} to {number(float(stop))}: {number(height)}"
        place = {"x": xs(start) + 0.5, "width": max(xs(stop) - xs(start) - 1, 0.5)}
        size = {"y": ys(height), "height": ys(0) - ys(height)}
        parts.append(tag("rect", tag("title", note), **place, **size, class_="bar"))
    return "".join(parts)


def _left(ys: Scale) -> float:
    """Room for the labels of the ticks of y."""
    return max(_LEAST_LEFT, *(width_of(name, 11) + 12 for name in tick_labels(ys.ticks())), 0)


def _shown(x: float, y: float) -> bool:
    return math.isfinite(x) and math.isfinite(y)


def _frame(xs: Scale, ys: Scale, x_label: str, y_label: str, whole: bool = False) -> list[str]:
    """Grid, ticks and labels; the label of y lies flat above the axis, where it is read."""
    bottom = HEIGHT - _BOTTOM
    parts = [text(2, 13, y_label, "label")]
    for y, name in zip(ys.ticks(), tick_labels(ys.ticks()), strict=True):
        parts.append(line(xs.start, ys(y), WIDTH - _RIGHT, ys(y), "grid"))
        parts.append(text(xs.start - 6, ys(y) + 3.5, name, "tick", text_anchor="end"))
    last = -1e9
    places = [x for x in xs.ticks() if not whole or x == int(x)]
    for x, name in zip(places, tick_labels(places), strict=True):
        if xs(x) - last > 8 + 6 * len(name):
            parts.append(line(xs(x), bottom, xs(x), bottom + 4, "axis"))
            parts.append(text(xs(x), bottom + 16, name, "tick", text_anchor="middle"))
            last = xs(x)
    parts.append(line(xs.start, bottom, WIDTH - _RIGHT, bottom, "axis"))
    middle = (xs.start + WIDTH - _RIGHT) / 2
    parts.append(text(middle, HEIGHT - 4, x_label, "label", text_anchor="middle"))
    return parts
