"""Lines of votes and labels: delimited text with a header, and label texts as node ids."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from metal_jax.task_tree import TaskTree

_COLUMNS = {
    "item": ("item", "task"),
    "worker": ("worker", "annotator", "lf"),
    "label": ("label", "vote"),
}


def read_lines(path: Path, columns: tuple[str, ...]) -> list[tuple[int, tuple[str, ...]]]:
    """Line number and the wanted cells, stripped and not blank."""
    rows = _rows(path)
    header = [name.strip().lower() for name in next(rows, (1, []))[1]]
    places = []
    for column in columns:
        found = [i for i, name in enumerate(header) if name in _COLUMNS[column]]
        if len(found) != 1:
            raise ValueError(
                f"line 1: expected the columns {', '.join(columns)}, got {', '.join(header)}"
            )
        places += found
    lines = []
    for number, cells in rows:
        if not cells:  # a blank line
            continue
        if len(cells) != len(header):
            raise ValueError(f"line {number}: {len(cells)} cells, the header has {len(header)}")
        chosen = tuple(cells[place].strip() for place in places)
        for column, cell in zip(columns, chosen, strict=True):
            if not cell or (column == "label" and cell.lower() == "nan"):
                raise ValueError(
                    f"line {number}: the {column} is {cell or 'blank'}; leave out lines without a "
                    "label"
                )
        lines.append((number, chosen))
    if not lines:
        raise ValueError("no lines beneath the header")
    return lines


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The cells of each row, and the number of its last line."""
    # strict: an unclosed quote is an error rather than one cell with the rest of the file.
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
        start = 1
        try:
            for cells in reader:
                yield reader.line_num, cells
                start = reader.line_num + 1
        except UnicodeDecodeError:
            raise ValueError(_not_utf8(path)) from None
        except csv.Error as error:
            raise ValueError(f"line {start}: {error}; is a quote not closed?") from error


def _not_utf8(path: Path) -> str:
    """Where a file begins not to be UTF-8; readers decode more than a line at once."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return f"line {number}: not UTF-8: {error.reason} (0x{line[error.start]:02x})"
    return "not UTF-8"


class LabelNodes:
    """Node ids of label texts: a name that is unique in the tree, "task=label", or a node id.

    Node ids are read only where no label is called a whole number.
    """

    def __init__(self, tree: TaskTree) -> None:
        self.num_nodes = tree.num_nodes
        self.by_text: dict[str, list[int]] = {}
        for node, (task, label) in enumerate(tree.node_names):
            for text in (label, f"{task}={label}"):
                self.by_text.setdefault(text, []).append(node)
        self.has_numbers = any(re.fullmatch(r"\d+", label) for _, label in tree.node_names)

    def __call__(self, line: int, text: str) -> int:
        nodes = self.by_text.get(text, [])
        if len(nodes) > 1:
            raise ValueError(
                f"line {line}: label {text!r} occurs in several tasks; write task=label"
            )
        if nodes:
            return nodes[0]
        number = re.fullmatch(r"\d{1,9}", text) and int(text) < self.num_nodes
        if number and not self.has_numbers:
            return int(text)
        some = [label for label in self.by_text if "=" not in label][:10]
        hint = "leave out lines without a label" if text == "-1" else f"known: {', '.join(some)}"
        why = " (a number is no node id where labels are called numbers)" if number else ""
        raise ValueError(f"line {line}: unknown label {text!r}{why}; {hint}")
