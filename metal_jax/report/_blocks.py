"""What a page is made of: sections of paragraphs, facts, figures and tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from metal_jax.report._figures import Figure


class Paragraph(NamedTuple):
    """A paragraph."""

    text: str


class Findings(NamedTuple):
    """Sentences about what stands out, worst first."""

    sentences: Sequence[str]


class Facts(NamedTuple):
    """Names and values, a line each."""

    pairs: Sequence[tuple[str, Any]]


class Preformatted(NamedTuple):
    """Text whose line breaks and columns count."""

    title: str
    text: str


class Figures(NamedTuple):
    """Figures beside each other where there is room."""

    figures: Sequence[Figure]


Kind = Literal["text", "number", "count", "bounds", "interval"]
"""Of a column; cells of the last two are an `Interval`: in figures, and drawn as well."""


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        name: its header.
        kind: how its cells are shown and sorted.
        help: what it means, for the note under the table.
    """

    name: str
    kind: Kind = "text"
    help: str = ""


class Interval(NamedTuple):
    """A share with its interval.

    Attributes:
        value: the share, NaN where unknown.
        low: lower end, NaN where unknown.
        high: upper end, NaN where unknown.
        chance: what guessing reaches, for a drawn one.
        truth: the share by gold labels, for a drawn one; NaN where unknown.
    """

    value: float
    low: float
    high: float
    chance: float = math.nan
    truth: float = math.nan


class Table(NamedTuple):
    """A table that is on the page as a whole; it can be sorted and filtered.

    Attributes:
        name: its caption.
        note: what to know when reading it.
        columns: of the table.
        rows: a cell for each column.
        filterable: whether it has a box to filter it by.
    """

    name: str
    note: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    filterable: bool = False


class Mark(NamedTuple):
    """A part of a text that stands out, `text[start:stop]`, and what it is."""

    start: int
    stop: int
    label: str


class Example(NamedTuple):
    """An item in full.

    Attributes:
        name: its name.
        text: its text, or None.
        marks: parts of the text, in order, that do not overlap.
        lines: what to know of it, a line each; empty ones are left out.
    """

    name: str
    text: str | None
    marks: Sequence[Mark]
    lines: Sequence[str]


class Examples(NamedTuple):
    """Some items, one below the other.

    Attributes:
        name: caption.
        note: what to know when reading them.
        items: the items.
    """

    name: str
    note: str
    items: Sequence[Example]


class Detail(NamedTuple):
    """What opens under a row of a paged table.

    Attributes:
        title: what the numbers are.
        bars: name, note and number of each; names and notes are numbers of `PagedTable.words`.
    """

    title: int
    bars: Sequence[tuple[int, int, float]]


class PagedTable(NamedTuple):
    """A table of many rows, of which the page shows some at a time.

    Attributes:
        name: its caption.
        note: what to know when reading it.
        columns: of the table; the first names the row.
        rows: a cell for each column: text, a number or None.
        details: for each row what opens under it; empty without.
        words: texts that details use again and again.
        signed: whether the numbers of details have a sign, or are shares.
        groups: names of groups of rows that can be picked.
        members: for each group the rows in it.
        sort: number of the column to sort by at first, and whether downward; None as they are.
        marked: number of the column whose texts have marks.
        marks: for each row the marks of that text; empty without.
    """

    name: str
    note: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    details: Sequence[Sequence[Detail]] = ()
    words: Sequence[str] = ()
    signed: bool = True
    groups: Sequence[str] = ()
    members: Sequence[Sequence[int]] = ()
    sort: tuple[int, bool] | None = None
    marked: int = -1
    marks: Sequence[Sequence[Mark]] = ()


Block = Paragraph | Findings | Facts | Preformatted | Figures | Table | PagedTable | Examples


class Section(NamedTuple):
    """A part of a page under its own heading."""

    title: str
    blocks: Sequence[Block]


class Report(NamedTuple):
    """A page.

    Attributes:
        title: of the page.
        subtitle: what was looked at, in a sentence.
        sections: the parts; those without blocks are left out.
    """

    title: str
    subtitle: str
    sections: Sequence[Section]
