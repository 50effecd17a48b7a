"""Rows of tables: CSV, JSON, JSON lines and NumPy archives, with the place each came from."""

from __future__ import annotations

import csv
import io
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from typing import IO, Any, NamedTuple

from metal_jax._core.archives import load_arrays
from metal_jax._core.json_text import parse_json
from metal_jax.exhaust._files import Problem, numbered_lines, read_bytes

_MAX_QUOTED_LINES = 100


class Row(NamedTuple):
    """One row.

    Attributes:
        place: file, line and raw text; field and reason are empty.
        values: column -> text (CSV), JSON value, or array.
    """

    place: Problem
    values: Mapping[str, Any]


def rows(name: str, stream: IO[bytes], problems: list[Problem]) -> Iterator[Row]:
    """The rows of one file; the ending of its name tells the kind.

    `.npz`: arrays of one length, row by row. `.jsonl`, `.ndjson`: an object a line. `.json`: a list
    of objects, or one object. Anything else: CSV with a header (`.tsv`: tabs).

    Args:
        name: the file's name; a last `.gz` does not count.
        stream: binary.
        problems: what is not a row is added here.

    Yields:
        Rows in order.
    """
    kind = name.lower().removesuffix(".gz").rpartition(".")[2]
    if kind == "npz":
        yield from _array_rows(name, stream, problems)
    elif kind in ("jsonl", "ndjson"):
        for number, text in numbered_lines(name, stream, problems):
            if text.strip():
                yield from _json_rows(Problem(name, number, "", "", text), problems, False)
    elif kind == "json":
        text = read_bytes(name, stream, problems).decode("utf-8-sig", "backslashreplace")
        if text.strip():
            yield from _json_rows(Problem(name, 1, "", "", text), problems, True)
    else:
        delimiter = "\t" if kind == "tsv" else ","
        yield from _csv_rows(name, numbered_lines(name, stream, problems), delimiter, problems)


def _json_rows(place: Problem, problems: list[Problem], many: bool) -> Iterator[Row]:
    try:
        value = parse_json(place.text)
    except (ValueError, RecursionError) as error:
        problems.append(place._replace(reason=f"not JSON: {error}"))
        return
    for i, entry in enumerate(value if many and isinstance(value, list) else [value]):
        if isinstance(entry, Mapping):
            yield Row(place, entry)
        else:
            field = f"[{i}]" if many else ""
            reason = f"got {type(entry).__name__}, expected an object"
            problems.append(place._replace(field=field, reason=reason, text=f"{entry!r}"))


def _csv_rows(
    name: str, lines: Iterator[tuple[int, str]], delimiter: str, problems: list[Problem]
) -> Iterator[Row]:
    header: list[str] | None = None
    waiting: deque[tuple[int, str]] = deque()
    header_place, is_empty = None, True
    while True:
        record = _csv_record(waiting, lines, delimiter)
        if record is None:
            if header_place is not None and is_empty:
                problems.append(header_place._replace(reason="no row follows the header"))
            return
        place, fields = record
        place = place._replace(file=name)
        if isinstance(fields, str):
            problems.append(place._replace(reason=fields))
        elif header is None:
            header, header_place = [field.strip() for field in fields], place
            twice = [field for field, count in Counter(header).items() if count > 1]
            if twice:
                reason = f"columns {twice} are there twice, the file is not read"
                problems.append(place._replace(reason=reason))
                return
        elif [field.strip() for field in fields] == header:
            problems.append(place._replace(reason="the header again"))
        elif len(fields) != len(header):
            reason = f"got {len(fields)} fields, expected {len(header)}"
            problems.append(place._replace(reason=reason))
        else:
            is_empty = False
            yield Row(place, dict(zip(header, fields, strict=True)))


def _csv_record(
    waiting: deque[tuple[int, str]], lines: Iterator[tuple[int, str]], delimiter: str
) -> tuple[Problem, list[str] | str] | None:
    """The next record, or why its first line is not one; a quoted field may hold line ends.

    When a quote never closes, only its first line is lost: the lines after it are read again.
    """
    taken: list[tuple[int, str]] = []
    reason = ""
    while len(taken) < _MAX_QUOTED_LINES:
        line = waiting.popleft() if waiting else next(lines, None)
        if line is None:
            break
        if not taken and not line[1].strip():
            continue
        taken.append(line)
        text = "\n".join(text for _, text in taken)
        # A quoted field is open until its quotes are even in number.
        if text.count('"') % 2:
            reason = "a quote is not closed"
            continue
        try:
            fields = list(csv.reader(io.StringIO(text), delimiter=delimiter, strict=True))
        except csv.Error as error:
            reason = str(error)
            break
        else:
            return Problem("", taken[0][0], "", "", text), fields[0]
    if not taken:
        return None
    waiting.extendleft(reversed(taken[1:]))
    return Problem("", taken[0][0], "", "", taken[0][1]), f"not CSV: {reason}"


def _array_rows(name: str, stream: IO[bytes], problems: list[Problem]) -> Iterator[Row]:
    try:
        arrays = load_arrays(io.BytesIO(read_bytes(name, stream, problems)))
    except ValueError as error:
        problems.append(Problem(name, 0, "", f"not a NumPy archive: {error!r}", ""))
        return
    lengths = Counter(len(array) for array in arrays.values() if array.ndim)
    length = max(lengths, key=lambda size: lengths[size], default=0)
    for key in [key for key, array in arrays.items() if not array.ndim or len(array) != length]:
        reason = f"got shape {arrays[key].shape}, expected [{length}, ...] as most arrays"
        problems.append(Problem(name, 0, key, reason, f"{arrays.pop(key).tolist()!r}"))
    for i in range(length):
        values = {key: array[i].tolist() for key, array in arrays.items()}
        yield Row(Problem(name, i + 1, "", "", f"{values!r}"), values)
