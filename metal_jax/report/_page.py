"""A report as one HTML file that opens from disk: no network, no fonts, nothing run but our own."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
from importlib import resources
from pathlib import Path
from typing import Any

import metal_jax
from metal_jax._core.files import replaced
from metal_jax.report._blocks import (
    Block,
    Examples,
    Facts,
    Figures,
    Findings,
    PagedTable,
    Paragraph,
    Preformatted,
    Report,
    Table,
)
from metal_jax.report._drawing import NARROW, draw, legend
from metal_jax.report._figures import Figure
from metal_jax.report._marks import marked_text, script_offset
from metal_jax.report._scales import number
from metal_jax.report._svg import escape, mark, tag
from metal_jax.report._table import plain_table, sortable_table

_SCRIPTS = ("theme.js", "sortable.js", "paged.js")
_MOST_DATA_ROWS = 300
# Inside a script element nothing may look like markup, or like the end of a line to a script.
_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def write_html(report: Report, path: str | os.PathLike[str]) -> None:
    """Write a report to a file, which is replaced in one step: nobody ever sees half of it.

    Args:
        report: what to show.
        path: the file.

    Raises:
        OSError: the file cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> from metal_jax.report import Paragraph, Section
        >>> report = Report("Votes", "three LFs", [Section("What", [Paragraph("a < b")])])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "report.html")
        ...     write_html(report, path)
        ...     "a &lt; b" in path.read_text(encoding="utf-8")
        True
    """
    page = to_html(report).encode("utf-8")
    with replaced(Path(path)) as file:
        file.write(page)


def to_html(report: Report) -> str:
    """A report as one page, the same text for the same report.

    Args:
        report: what to show.

    Returns:
        The page. What comes from the data is escaped, and a content security policy lets the
        browser run nothing but the scripts of this package.

    Example:
        >>> from metal_jax.report import Paragraph, Section
        >>> page = to_html(Report("<i>", "", [Section("Note", [Paragraph("a < b")])]))
        >>> "<h1>&lt;i&gt;</h1>" in page, "<p>a &lt; b</p>" in page
        (True, True)
    """
    script = "\n".join(_asset(name) for name in _SCRIPTS)
    sha = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{sha}'"
    page = _Page()
    body = page.body(report)
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f'<meta name="generator" content="metal_jax {metal_jax.__version__}">',
            f"<title>{escape(report.title)}</title>",
            f"<style>\n{_asset('report.css')}</style>",
            "</head>",
            "<body>",
            body,
            *page.data,
            f"<script>{script}</script>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _asset(name: str) -> str:
    return resources.files("metal_jax.report").joinpath(name).read_text(encoding="utf-8")


class _Page:
    """Counts figures and tables while the page is made; `data` holds what scripts read."""

    def __init__(self) -> None:
        self.data: list[str] = []
        self._figures = self._tables = 0

    def body(self, report: Report) -> str:
        sections = [section for section in report.sections if section.blocks]
        links = "".join(
            tag("li", tag("a", escape(section.title), href=f"#s{i}"))
            for i, section in enumerate(sections, 1)
        )
        parts = [
            '<a class="skip" href="#main">Skip to the content</a>',
            '<header class="top">',
            '<div class="bar"><span class="brand">metal_jax report</span>'
            '<button type="button" id="theme" hidden>Dark</button></div>',
            f"<h1>{escape(report.title)}</h1>",
            f'<p class="subtitle">{escape(report.subtitle)}</p>',
            f'<nav aria-label="Sections"><ol>{links}</ol></nav>',
            "</header>",
            '<main id="main" tabindex="-1">',
        ]
        for i, section in enumerate(sections, 1):
            heading = tag("h2", escape(section.title), id=f"s{i}")
            inside = "\n".join(self._block(block) for block in section.blocks)
            parts.append(tag("section", f"{heading}\n{inside}\n", aria_labelledby=f"s{i}"))
        parts.append("</main>")
        parts.append(
            f'<footer class="end"><p>Made by metal_jax {metal_jax.__version__}. One file, no '
            "network: it can be mailed, archived and opened from disk.</p></footer>"
        )
        return "\n".join(parts)

    def _block(self, block: Block) -> str:
        match block:
            case Paragraph():
                return tag("p", escape(block.text))
            case Findings():
                items = "".join(tag("li", escape(sentence)) for sentence in block.sentences)
                return tag("ul", items, class_="findings")
            case Facts():
                pairs = "".join(
                    tag("div", tag("dt", escape(name)) + tag("dd", escape(_fact(value))))
                    for name, value in block.pairs
                )
                return tag("dl", pairs, class_="facts")
            case Preformatted():
                summary = tag("summary", escape(block.title))
                inside = tag("pre", escape(block.text), tabindex="0")
                return tag("details", summary, inside, class_="data")
            case Figures():
                shown = "\n".join(self._figure(figure) for figure in block.figures)
                return tag("div", f"\n{shown}\n", class_="figures")
            case Table():
                self._tables += 1
                return sortable_table(block, f"table{self._tables}", self._tables)
            case PagedTable():
                self._tables += 1
                return self._paged(block, f"table{self._tables}")
            case Examples():
                return _examples(block)

    def _figure(self, figure: Figure) -> str:
        self._figures += 1
        name = f"figure{self._figures}"
        drawing, width = draw(figure, name)
        swatches = "".join(
            tag("li", _swatch(class_), escape(text)) for class_, text in legend(figure)
        )
        keys = tag("ul", swatches, class_="legend", aria_hidden="true") if swatches else ""
        scroll: dict[str, Any] = {}
        if width > NARROW:
            scroll = {"tabindex": "0", "role": "region", "aria_label": f"{figure.title}, scrolls"}
        title = tag("strong", f"Figure {self._figures}. {escape(figure.title)}.")
        caption = f"{title} {escape(figure.caption)}"
        header, rows = figure.table()
        cut = rows[:_MOST_DATA_ROWS]
        rest = f" (the first {len(cut)} of {len(rows):,})" if len(rows) > len(cut) else ""
        numbers = tag("summary", f"Numbers of figure {self._figures}{rest}")
        table = plain_table(f"Numbers of figure {self._figures}", header, cut)
        return tag(
            "figure",
            keys,
            tag("div", drawing, class_="drawing", **scroll),
            tag("figcaption", caption, id=f"{name}-caption"),
            tag("details", numbers, table, class_="data"),
            class_="wide" if width > NARROW else None,
        )

    def _paged(self, table: PagedTable, name: str) -> str:
        content = {
            "columns": [{"name": c.name, "kind": c.kind} for c in table.columns],
            "rows": table.rows,
            "details": [[[d.title, d.bars] for d in details] for details in table.details],
            "words": table.words,
            "signed": table.signed,
            "groups": [
                {"name": group, "rows": rows}
                for group, rows in zip(table.groups, table.members, strict=True)
            ],
            "sort": table.sort,
            "marked": table.marked,
            "marks": [
                [
                    (script_offset(text, mark.start), script_offset(text, mark.stop), mark.label)
                    for mark in marks
                ]
                for text, marks in zip(
                    (row[table.marked] for row in table.rows), table.marks, strict=False
                )
            ],
        }
        self.data.append(
            f'<script type="application/json" id="{name}-data">{_json(content)}</script>'
        )
        title = tag("strong", f"Table {self._tables}. {escape(table.name)}.")
        caption = tag("p", f"{title} {escape(table.note)}", id=f"{name}-caption", class_="caption")
        without = tag("noscript", tag("p", "This table needs JavaScript; the rest does not."))
        return tag("div", caption, without, class_="paged", id=name)


def _examples(block: Examples) -> str:
    shown = []
    for item in block.items:
        text = ""
        if item.text is not None:
            text = tag("p", marked_text(item.text, item.marks), class_="text", dir="auto")
        lines = "".join(
            tag("p", escape(line), class_="line", dir="auto") for line in item.lines if line
        )
        shown.append(tag("li", tag("h4", escape(item.name), dir="auto"), text, lines))
    note = tag("p", escape(block.note), class_="caption")
    return tag("div", tag("h3", escape(block.name)), note, tag("ol", *shown), class_="examples")


def _fact(value: Any) -> str:
    return number(value) if isinstance(value, int | float) else str(value)


def _swatch(class_: str) -> str:
    kind, _, role = class_.partition(" ")
    drawn = kind == "line"
    inside = tag("path", d="M1 6H19", class_=class_) if drawn else mark(kind, 10, 6, role)
    return tag("svg", inside, width=20, height=12, viewBox="0 0 20 12")


def _json(content: Any) -> str:
    text = json.dumps(_finite(content), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for unsafe, safe in _UNSAFE.items():
        text = text.replace(unsafe, safe)
    return text.encode("utf-8", "replace").decode("utf-8")


def _finite(content: Any) -> Any:
    """The content without what JSON lacks: NaN and infinities are null."""
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    return content
