"""One row of a table to one run."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from metal_jax._core.json_text import parse_json
from metal_jax.exhaust._architecture_text import read_architecture
from metal_jax.exhaust._columns import Columns
from metal_jax.exhaust._files import Problem
from metal_jax.exhaust._records import FIELDS, Curve, Run
from metal_jax.exhaust._rows import Row

#: Keys, which no header can hold, of what joining epochs finds out.
RUN, EPOCHS = "\0run", "\0epochs"

MAX_EPOCH = 1_000_000  # a slip of the pen must not become a list of a billion entries

_MISSING = ("", "none", "null", "na", "n/a", "-")


class RowReader:
    """Reads one row; problems go to the common list."""

    def __init__(self, row: Row, columns: Columns, problems: list[Problem]):
        self.place, self.values = row
        self.columns, self.problems = columns, problems
        self.used: set[str] = set()
        self.found: set[str] = set()

    def run(self) -> Run | None:
        columns = self.columns
        name = self.take(columns.run)
        if columns.run is None:
            name = self.values.get(RUN, f"{file_name(self.place.file)}:{self.place.line}")
        if isinstance(name, float) and name.is_integer():
            name = int(name)
        if name is None or not str(name):
            return self.problem(columns.run or "run", f"got {name!r}, expected an id")
        architecture = self.take(columns.architecture)
        if architecture is not None:
            try:
                text = architecture if isinstance(architecture, str) else json.dumps(architecture)
                architecture = read_architecture(text, columns.notation, **columns.notation_options)
            except (ValueError, RecursionError) as error:
                return self.problem(columns.architecture or "", str(error))
        metrics: dict[str, dict[str, Curve]] = {}
        for key, column in columns.metrics.items():
            role, _, measure = key.partition("/")
            found = self.curve(column)
            if found is not None:
                goal = columns.goals.get(key)
                metrics.setdefault(role, {})[measure] = found._replace(goal=goal)
        optimiser = {key: self.scalar(column) for key, column in columns.optimiser.items()}
        seconds = self.curve(columns.seconds)
        status = self.take(columns.status)
        if status is not None and str(status) not in columns.statuses:
            self.problem(columns.status or "", f"got status {status!r:.60}, not in `statuses`")
            self.used.discard(columns.status or "")
        counts = [
            self.count(c) for c in (columns.batch_size, columns.num_params, columns.memory_bytes)
        ]
        total = self.number(columns.total_seconds)
        extra = {
            f"{key}_" if key in FIELDS else key: _plain(value)
            for key, value in self.values.items()
            if key not in self.used and key not in (RUN, EPOCHS)
        }
        return Run(
            str(name),
            architecture,
            metrics,
            {key: value for key, value in optimiser.items() if value is not None},
            counts[0],
            counts[1],
            () if seconds is None else by_epoch(seconds),
            total,
            counts[2],
            None if status is None else columns.statuses.get(str(status)),
            self.place.file,
            extra,
        )

    def problem(self, field: str, reason: str) -> None:
        self.problems.append(self.place._replace(field=field, reason=reason))

    def take(self, column: str | None) -> Any:
        if column is None:
            return None
        self.used.add(column)
        if column in self.values:
            self.found.add(column)
        value = self.values.get(column)
        return None if is_absent(value) else value

    def number(self, column: str | None) -> float | None:
        value = self.take(column)
        return None if value is None or column is None else self.to_float(value, column)

    def count(self, column: str | None) -> int | None:
        value = self.number(column)
        if value is None or math.isnan(value):
            return None
        if not value.is_integer() or value < 0:
            return self.problem(column or "", f"got {value!r}, expected an integer from 0")
        return int(value)

    def scalar(self, column: str) -> Any:
        """A number where it reads as one, else the value itself."""
        value = self.take(column)
        if isinstance(value, str):
            try:
                return _plain(parse_json(value))
            except (ValueError, RecursionError):
                return value
        return _plain(value)

    def curve(self, column: str | None) -> Curve | None:
        if column is None:
            return None
        shift = 1 - self.columns.first_epoch
        if "{epoch}" not in column:
            value = self.take(column)
            if isinstance(value, str) and value.lstrip().startswith("["):
                try:
                    value = parse_json(value)
                except (ValueError, RecursionError) as error:
                    return self.problem(column, str(error))
            if value is None:
                return None
            entries = list(enumerate(value, 1)) if isinstance(value, list) else [(1, value)]
            if EPOCHS in self.values:
                numbers = self.values[EPOCHS]
                entries = [(e, v) for e, (_, v) in zip(numbers, entries, strict=True)]
        else:
            before, _, after = column.partition("{epoch}")
            pattern = re.compile(rf"{re.escape(before)}(\d{{1,9}}){re.escape(after)}")
            matches = [(key, pattern.fullmatch(key)) for key in self.values]
            entries = sorted(
                (int(match[1]) + shift, self.take(key)) for key, match in matches if match
            )
            self.found |= {column} if entries else set()
        if any(epoch < 1 for epoch, _ in entries):
            return self.problem(column, f"got an epoch before {self.columns.first_epoch}")
        last = max((epoch for epoch, _ in entries), default=0)
        if last > MAX_EPOCH:
            return self.problem(column, f"got epoch {last!r:.20}, expected at most {MAX_EPOCH:,}")
        kept = [(e, self.to_float(v, column)) for e, v in entries if not is_absent(v)]
        if any(a >= b for (a, _), (b, _) in itertools.pairwise(kept)):
            return self.problem(column, "got an epoch twice")
        return Curve(tuple(v for _, v in kept), tuple(e for e, _ in kept)) if kept else None

    def to_float(self, value: Any, column: str) -> float:
        try:
            if isinstance(value, list | Mapping | bool):
                raise ValueError
            return float(value)
        except (ValueError, TypeError, OverflowError):
            self.problem(column, f"got {value!r:.60}, expected a number")
            return math.nan


def by_epoch(curve: Curve) -> tuple[float, ...]:
    """Values of epoch 1, 2, ...; NaN where missing."""
    found = dict(zip(curve.epochs, curve.values, strict=True))
    return tuple(found.get(epoch, math.nan) for epoch in range(1, max(found) + 1))


def is_absent(value: Any) -> bool:
    """Whether a cell says that there is nothing."""
    return value is None or (isinstance(value, str) and value.strip().lower() in _MISSING)


def _plain(value: Any) -> Any:
    """JSON values as they are; NaN and infinities, which JSON lacks, as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    return value


def file_name(file: str) -> str:
    """The last part of a path or of `archive:member`."""
    return PurePosixPath(file.replace("\\", "/").rpartition(":")[2]).name
