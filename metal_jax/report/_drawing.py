"""Any figure as one SVG element."""

from __future__ import annotations

from metal_jax.report._draw_charts import HEIGHT, WIDTH, draw_bars, draw_lines, draw_points
from metal_jax.report._draw_rows import draw_dots, draw_heat_map
from metal_jax.report._draw_tree import draw_tree
from metal_jax.report._figures import Bars, Dots, Figure, HeatMap, Lines, Points, TreeDrawing
from metal_jax.report._svg import escape, tag

NARROW = WIDTH
"""Drawings up to this width fit a telephone; wider ones scroll in their frame."""


def draw(figure: Figure, name: str) -> tuple[str, int]:
    """A figure as SVG, and its width.

    Args:
        figure: what to draw.
        name: id of the figure on the page.

    Returns:
        The element, whose title and caption are its text for screen readers.
    """
    width, height = WIDTH, HEIGHT
    match figure:
        case Lines():
            inside = draw_lines(figure)
        case Points():
            inside = draw_points(figure)
        case Bars():
            inside = draw_bars(figure)
        case Dots():
            inside, width, height = draw_dots(figure)
        case HeatMap():
            inside, width, height = draw_heat_map(figure)
        case TreeDrawing():
            inside, width, height = draw_tree(figure)
    label = tag("title", escape(figure.title), id=f"{name}-title")
    drawing = tag(
        "svg",
        label,
        inside,
        role="img",
        aria_labelledby=f"{name}-title",
        aria_describedby=f"{name}-caption",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
    )
    return drawing, width


def legend(figure: Figure) -> list[tuple[str, str]]:
    """Class of the swatch and name of each series, where there are several."""
    match figure:
        case Lines():
            named = [(f"line {s.role}", s.name) for s in figure.series if s.name]
        case Dots():
            named = [(f"{s.mark} {s.role}", s.name) for s in figure.series]
        case _:
            named = []
    distinct = list(dict.fromkeys(named))
    return distinct if len(distinct) > 1 else []
