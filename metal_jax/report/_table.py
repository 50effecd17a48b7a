"""Tables that are on the page as a whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from metal_jax.report._blocks import Column, Interval, Table
from metal_jax.report._scales import Scale, number
from metal_jax.report._svg import escape, line, mark, tag

_WIDTH, _HEIGHT = 100, 16
_MOST_TEXT = 60  # characters of a cell that are shown at once


def sortable_table(table: Table, name: str, place: int) -> str:
    """A table with headers that sort it and, where asked for, a box that filters it.

    Args:
        table: what to show.
        name: id on the page.
        place: its number on the page.

    Returns:
        The markup. Without scripts it is a plain table.
    """
    title = tag("strong", f"Table {place}. {escape(table.name)}.")
    helps = "; ".join(f"{c.name.lower()}: {c.help}" for c in table.columns if c.help)
    note = " ".join(
        part for part in (table.note, helps[:1].upper() + helps[1:] + "." if helps else "") if part
    )
    caption = tag("p", f"{title} {escape(note)}", id=f"{name}-caption", class_="caption")
    tools = ""
    if table.filterable:
        label = tag(
            "label", "Filter ", f'<input type="search" id="{name}-filter" autocomplete="off">'
        )
        count = tag("span", role="status", class_="count")
        tools = tag("div", label, count, class_="tools", hidden="")
    head = "".join(
        tag("th", escape(c.name), scope="col", class_=None if c.kind == "text" else "num")
        for c in table.columns
    )
    body = "".join(_row(table.columns, row) for row in table.rows)
    inside = f"{tag('thead', tag('tr', head))}<tbody>{body}</tbody>"
    shown = tag("table", inside, class_="sortable", aria_labelledby=f"{name}-caption")
    frame = tag(
        "div", shown, class_="frame", tabindex="0", role="region", aria_labelledby=f"{name}-caption"
    )
    return tag("div", caption, tools, frame, class_="table", id=name)


def plain_table(caption: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A small table of numbers.

    Args:
        caption: what they are.
        header: of the columns.
        rows: the first cell of each is its header.

    Returns:
        The markup.
    """
    head = "".join(tag("th", escape(name), scope="col") for name in header)
    body = "".join(
        tag(
            "tr",
            tag("th", escape(number(row[0])), scope="row"),
            *(tag("td", escape(number(cell))) for cell in row[1:]),
        )
        for row in rows
    )
    inside = (
        f"<caption>{escape(caption)}</caption>{tag('thead', tag('tr', head))}<tbody>{body}</tbody>"
    )
    return tag(
        "div", tag("table", inside), class_="frame", tabindex="0", role="region", aria_label=caption
    )


def _row(columns: Sequence[Column], row: Sequence[Any]) -> str:
    cells = []
    for i, (column, cell) in enumerate(zip(columns, row, strict=True)):
        if i == 0:
            cells.append(tag("th", _breakable(cell), scope="row", dir="auto"))
        elif column.kind in ("bounds", "interval"):
            cells.append(_interval(cell, drawn=column.kind == "interval"))
        elif column.kind == "text":
            full = str(cell)
            shown = _breakable(full)
            if len(full) > _MOST_TEXT:
                shown = tag("span", shown, class_="clamp", title=full)
            cells.append(tag("td", shown, dir="auto"))
        else:
            shown = number(cell)
            key = None if not isinstance(cell, int | float) or math.isnan(cell) else repr(cell)
            cells.append(tag("td", escape(shown), class_="num", data_sort=key or ""))
    return tag("tr", *cells)


def _breakable(cell: Any) -> str:
    """Text that may be broken after underscores, where long names are best broken."""
    return escape(cell).replace("_", "_<wbr>")


def _interval(cell: Interval, *, drawn: bool) -> str:
    """The number over its interval; perhaps with a drawing of it."""
    if math.isnan(cell.value):
        return tag("td", "\u2013", class_="num", data_sort="")
    ends = ""
    if math.isfinite(cell.low):
        ends = tag("small", escape(f"{number(cell.low)}\u2013{number(cell.high)}"))
    shown = tag("span", escape(number(cell.value)), ends)
    drawing = _drawn_interval(cell) if drawn else ""
    return tag("td", shown, drawing, class_="num interval", data_sort=repr(float(cell.value)))


def _drawn_interval(cell: Interval) -> str:
    """The interval on a scale from 0 to 1."""
    xs, y = Scale(0, 1, 4, _WIDTH - 4), _HEIGHT / 2
    parts = [line(4, y, _WIDTH - 4, y, "row")]
    words = f"{number(cell.value)}, from {number(cell.low)} to {number(cell.high)}"
    if math.isfinite(cell.chance):
        parts.append(line(xs(cell.chance), 2, xs(cell.chance), _HEIGHT - 2, "reference"))
        words += f"; chance {number(cell.chance)}"
    if math.isfinite(cell.low):
        parts.append(line(xs(cell.low), y, xs(cell.high), y, "interval main"))
    if math.isfinite(cell.truth):
        parts.append(mark("tick", xs(cell.truth), y, "second"))
        words += f"; by gold {number(cell.truth)}"
    parts.append(mark("dot", xs(cell.value), y, "main"))
    return tag(
        "svg", tag("title", escape(words)), *parts, role="img", width=_WIDTH, height=_HEIGHT,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}", class_="inline",
    )  # fmt: skip
