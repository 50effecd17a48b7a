"""Figures as values: what is shown, apart from how it is drawn.

`_svg` draws them for a page, `_matplotlib` for a paper; each also has its numbers as a table, which
the page gives to those who cannot see the drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from metal_jax.task_tree import TaskTree

Role = Literal["main", "second", "third", "context"]
"""What is looked at, what it is compared with (twice), and what is only the background."""

Rows = list[list[Any]]


class Series(NamedTuple):
    """One line.

    Attributes:
        name: for the legend; empty for one of many that have no name of their own.
        x: e numbers.
        y: e numbers, NaN where missing.
        role: how it is drawn.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    role: Role = "main"


class Lines(NamedTuple):
    """Curves over a common axis.

    Attributes:
        title: what the figure is of.
        caption: how to read it.
        x_label: of the axis.
        y_label: of the axis.
        series: the curves, those on top last.
        mark: a place on the x axis to point out, and its name.
        summary: header and rows that stand for the numbers where there are too many curves.
    """

    title: str
    caption: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    mark: tuple[float, str] | None = None
    summary: tuple[list[str], Rows] | None = None

    def table(self) -> tuple[list[str], Rows]:
        """Header and rows of the numbers."""
        if self.summary is not None:
            return self.summary
        xs = sorted({x for series in self.series for x in series.x})
        values = [dict(zip(series.x, series.y, strict=True)) for series in self.series]
        header = [self.x_label, *(series.name or self.y_label for series in self.series)]
        return header, [[x, *(of.get(x, float("nan")) for of in values)] for x in xs]


class Points(NamedTuple):
    """A scatter plot, perhaps with intervals.

    Attributes:
        title: what the figure is of.
        caption: how to read it.
        x_label: of the axis.
        y_label: of the axis.
        names: n names.
        x: n numbers.
        y: n numbers.
        low: n lower ends of intervals in y, or None.
        high: n upper ends.
        chosen: n flags of those to point out, or None.
        diagonal: whether x and y share a scale, with the line where they are equal.
        joined: whether a line goes through the points in their order.
        log: whether the axis of x, and with a diagonal that of y, is logarithmic.
        limit: a place on the x axis that is not to be passed.
    """

    title: str
    caption: str
    x_label: str
    y_label: str
    names: Sequence[str]
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    chosen: Sequence[bool] | None = None
    diagonal: bool = False
    joined: bool = False
    log: bool = False
    limit: float | None = None

    def table(self) -> tuple[list[str], Rows]:
        """Header and rows of the numbers."""
        header = ["name", self.x_label, self.y_label]
        columns: list[Sequence[Any]] = [self.names, self.x, self.y]
        for name, column in (("low", self.low), ("high", self.high), ("chosen", self.chosen)):
            if column is not None:
                header.append(name)
                columns.append(["yes" if c else "" for c in column] if name == "chosen" else column)
        return header, [list(row) for row in zip(*columns, strict=True)]


Mark = Literal["dot", "ring", "tick", "diamond"]


class DotSeries(NamedTuple):
    """One number for each row of `Dots`.

    Attributes:
        name: for the legend.
        values: n numbers, NaN where missing.
        mark: its shape.
        role: its colour.
        low: n lower ends of intervals, or None.
        high: n upper ends.
    """

    name: str
    values: Sequence[float]
    mark: Mark = "dot"
    role: Role = "main"
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


class Dots(NamedTuple):
    """Numbers of named rows, several for each row to compare (Cleveland's dot plot).

    Attributes:
        title: what the figure is of.
        caption: how to read it.
        x_label: of the axis.
        rows: n names.
        series: the numbers.
        span: ends of the axis; by default from 0 to the largest number.
    """

    title: str
    caption: str
    x_label: str
    rows: Sequence[str]
    series: tuple[DotSeries, ...]
    span: tuple[float, float] | None = None

    def table(self) -> tuple[list[str], Rows]:
        """Header and rows of the numbers."""
        header: list[str] = [""]
        columns: list[Sequence[Any]] = [self.rows]
        for series in self.series:
            header.append(series.name)
            columns.append(series.values)
            if series.low is not None and series.high is not None:
                header += ["low", "high"]
                columns += [series.low, series.high]
        return header, [list(row) for row in zip(*columns, strict=True)]


class Bars(NamedTuple):
    """A histogram.

    Attributes:
        title: what the figure is of.
        caption: how to read it.
        x_label: of the axis.
        y_label: of the axis.
        edges: b + 1 numbers.
        heights: b numbers.
    """

    title: str
    caption: str
    x_label: str
    y_label: str
    edges: Sequence[float]
    heights: Sequence[float]

    def table(self) -> tuple[list[str], Rows]:
        """Header and rows of the numbers."""
        ends = zip(self.edges[:-1], self.edges[1:], self.heights, strict=True)
        return ["from", "to", self.y_label], [list(row) for row in ends]


class HeatMap(NamedTuple):
    """A matrix as shades.

    Attributes:
        title: what the figure is of.
        caption: how to read it.
        row_label: what the rows are.
        column_label: what the columns are.
        rows: r names.
        columns: c names.
        shades: float[r, c], from 0 to 1.
        values: float[r, c], the numbers themselves.
        counts: whether they are counts rather than shares.
        most: the number of the darkest shade, for a scale of the shades; None without.
    """

    title: str
    caption: str
    row_label: str
    column_label: str
    rows: Sequence[str]
    columns: Sequence[str]
    shades: np.ndarray
    values: np.ndarray
    counts: bool = False
    most: float | None = None

    def table(self) -> tuple[list[str], Rows]:
        """Header and rows of the numbers; 0 is left blank."""
        cells = self.values.tolist()
        rows = [[name, *(v or "" for v in row)] for name, row in zip(self.rows, cells, strict=True)]
        return [f"{self.row_label} \\ {self.column_label}", *self.columns], rows


class TreeDrawing(NamedTuple):
    """A task tree, perhaps with the share of the items that go through each node.

    Attributes:
        title: what the figure is of.
        caption: how to read it.
        tree: the task tree.
        shares: N numbers, or None.
    """

    title: str
    caption: str
    tree: TaskTree
    shares: Sequence[float] | None = None

    def table(self) -> tuple[list[str], Rows]:
        """A row for each label: its task, what is above it, and its share."""
        tree = self.tree
        header = ["task", "label", "under"] + ([] if self.shares is None else ["share"])
        rows = []
        for node, (task, label) in enumerate(tree.node_names):
            above = " / ".join(tree.node_names[up][1] for up in tree.ancestors(node))
            share = [] if self.shares is None else [self.shares[node]]
            rows.append([task, label, above, *share])
        return header, rows


Figure = Lines | Points | Dots | Bars | HeatMap | TreeDrawing
