"""Plain text logs, read with a list of patterns."""

from __future__ import annotations

import dataclasses
import datetime
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from metal_jax._core.json_text import parse_json
from metal_jax.exhaust._architecture_text import NOTATIONS
from metal_jax.exhaust._columns import Columns
from metal_jax.exhaust._files import (
    Problem,
    Reading,
    numbered_lines,
    open_streams,
    unique_runs,
)
from metal_jax.exhaust._records import ROLES, Run
from metal_jax.exhaust._row_reader import EPOCHS, RUN, RowReader, file_name
from metal_jax.exhaust._rows import Row
from metal_jax.exhaust._table import settle_percent

_FIELDS = ("run", "architecture", "batch_size", "num_params", "total_seconds", "memory_bytes")
_EPOCH_FIELDS = ("epoch", "epoch_start", "epoch_end", "seconds")


@dataclasses.dataclass(frozen=True)
class LogPatterns:
    r"""How to read a text log.

    Each line is searched for each pattern; what is matched by a pattern's named groups is stored
    under the field that `fields` gives the group, or under the group's own name. Fields:

    - "epoch": the epoch that this and the following lines speak of;
    - "train/<name>", "validation/<name>", "test/<name>": a metric of the current epoch;
    - "seconds": seconds of the current epoch; or "epoch_start" and "epoch_end": two times of day,
      the difference is the epoch's seconds;
    - "run": a new run begins; a file without it is one run, named after the file;
    - "architecture", "num_params", "batch_size", "total_seconds", "memory_bytes",
      "optimiser/<name>": of the run;
    - any other name: kept in `Run.extra`.

    Attributes:
        patterns: regular expressions with named groups.
        fields: group name -> field.
        first_epoch: number that the log gives the first epoch.
        time_format: of epoch_start and epoch_end, as in `datetime.strptime`; "" for seconds.
        notation: notation of the architecture, see `read_architecture`.
        notation_options: for the notation's reader.
        goals: "role/name" -> "max" or "min" where the name does not tell.
    """

    patterns: Sequence[str]
    fields: Mapping[str, str] = dataclasses.field(default_factory=dict)
    first_epoch: int = 1
    time_format: str = ""
    notation: str = "layer_list"
    notation_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    goals: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        """Check what can be checked before a file is opened."""
        groups: set[str] = set()
        for pattern in self.patterns:
            try:
                groups |= re.compile(pattern).groupindex.keys()
            except re.error as error:
                raise ValueError(f"pattern {pattern!r}: {error}") from None
        for group in self.fields:
            if group not in groups:
                raise ValueError(f"got a field for group {group!r}, expected one of {groups}")
        if self.notation not in NOTATIONS:
            raise ValueError(f"got notation {self.notation!r}, expected one of {sorted(NOTATIONS)}")


def read_log_patterns(path: str | os.PathLike[str]) -> LogPatterns:
    """Read a pattern file: a JSON object with the attributes of `LogPatterns`.

    Args:
        path: the file.

    Returns:
        The patterns.

    Raises:
        ValueError: the file's name, and what is wrong.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "patterns.json")
        ...     _ = path.write_text(
        ...         '{"patterns": ["epoch (?P<epoch>[0-9]+) (?P<a>.+)"], '
        ...         '"fields": {"a": "train/loss"}}'
        ...     )
        ...     read_log_patterns(path).fields
        {'a': 'train/loss'}
    """
    with open(path, encoding="utf-8") as file:
        try:
            return LogPatterns(**parse_json(file.read()))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from None


def read_text_logs(
    path: str | os.PathLike[str], patterns: LogPatterns, *, percent: bool | None = None
) -> Reading:
    r"""Read plain text logs.

    Args:
        path: a log, or a folder or archive of logs.
        patterns: what to look for.
        percent: as in `read_table`.

    Returns:
        Runs and problems. Lines that match no pattern are chatter and are passed over; a file with
        no match at all, and a metric that misses an epoch, are problems.

    Raises:
        OSError: the path cannot be read.

    Example:
        >>> import pathlib, tempfile
        >>> patterns = LogPatterns([r"epoch (?P<epoch>\d+): loss (?P<loss>\S+)"],
        ...                        {"loss": "train/loss"})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "a.log")
        ...     _ = path.write_text("epoch 1: loss 2.5\nepoch 2: loss 1.5\n")
        ...     read_text_logs(path, patterns).runs[0].metrics["train"]["loss"].values
        (2.5, 1.5)
    """
    problems: list[Problem] = []
    found: list[tuple[Problem, Run]] = []
    compiled = [re.compile(pattern) for pattern in patterns.patterns]
    for name, stream in open_streams(path, problems):
        before = len(found)
        collected = _Collected(name, 1, patterns, problems)
        for number, line in numbered_lines(name, stream, problems):
            place = Problem(name, number, "", "", line)
            for field, text in _matches(line, compiled, patterns.fields):
                if field == "run":
                    found += collected.finished()
                    collected = _Collected(name, number, patterns, problems)
                collected.add(field, text, place)
        found += collected.finished()
        if len(found) == before:
            problems.append(Problem(name, 0, "", "no line matches any pattern", ""))
    return unique_runs(settle_percent(found, problems, percent), problems)


def _matches(
    line: str, compiled: Sequence[re.Pattern[str]], fields: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Field and text of every group on a line, the run and the epoch first."""
    found = []
    for pattern in compiled:
        match = pattern.search(line)
        groups = match.groupdict() if match else {}
        found += [(fields.get(k, k), text) for k, text in groups.items() if text is not None]
    first = {"run": 0, "epoch": 1}
    yield from sorted(found, key=lambda entry: first.get(entry[0], 2))


class _Collected:
    """What the lines of one run have said so far."""

    def __init__(self, file: str, line: int, patterns: LogPatterns, problems: list[Problem]):
        self.place = Problem(file, line, "", "", "")
        self.patterns, self.problems = patterns, problems
        self.epoch = 0
        self.started: float | None = None
        self.values: dict[str, Any] = {}
        self.curves: dict[str, dict[int, Any]] = {}

    def add(self, field: str, text: str, place: Problem) -> None:
        is_metric = field.partition("/")[0] in ROLES and "/" in field
        if is_metric or field in _EPOCH_FIELDS:
            try:
                self.add_to_epoch(field, text, place)
            except (ValueError, OverflowError) as error:
                self.problems.append(place._replace(field=field, reason=str(error)))
        elif field in self.values and self.values[field] != text:
            reason = f"got {text!r:.60} after {self.values[field]!r:.60}, the first is kept"
            self.problems.append(place._replace(field=field, reason=reason))
        else:
            self.values[field] = text

    def add_to_epoch(self, field: str, text: str, place: Problem) -> None:
        if field == "epoch":
            epoch = int(text) + 1 - self.patterns.first_epoch
            if epoch < 1:
                raise ValueError(f"got epoch {text}, expected at least {self.patterns.first_epoch}")
            self.epoch = epoch
            return
        if field in ("epoch_start", "epoch_end"):
            time = self.time(text)
            if field == "epoch_start":
                self.started = time
                return
            if self.started is None:
                raise ValueError("got the end of an epoch, expected its start before")
            value, field, self.started = time - self.started, "seconds", None
        else:
            value = float(text)
        if self.epoch == 0:
            raise ValueError(f"got {text!r:.60} before the first epoch")
        known = self.curves.setdefault(field, {})
        if self.epoch in known:
            raise ValueError(f"got {text!r:.60} again in epoch {self.epoch}, the first is kept")
        known[self.epoch] = value

    def time(self, text: str) -> float:
        if not self.patterns.time_format:
            return float(text)
        moment = datetime.datetime.strptime(text, self.patterns.time_format)
        # A fixed zone: a difference of local times would jump with the clocks.
        return moment.replace(tzinfo=datetime.UTC).timestamp()

    def finished(self) -> list[tuple[Problem, Run]]:
        """The run, unless nothing was matched."""
        if not self.values and not self.curves:
            return []
        values: dict[str, Any] = {
            EPOCHS: sorted({e for known in self.curves.values() for e in known})
        }
        for field, known in self.curves.items():
            missing = [epoch for epoch in values[EPOCHS] if epoch not in known]
            if missing:
                reason = f"missing in {len(missing)} epochs, the first is epoch {missing[0]}"
                self.problems.append(self.place._replace(field=field, reason=reason))
            values[field] = [known.get(epoch) for epoch in values[EPOCHS]]
        values[RUN] = self.values.get("run", file_name(self.place.file))
        named: dict[str, Any] = {
            field: field for field in _FIELDS if field in self.values and field != "run"
        }
        columns = Columns(
            metrics={field: field for field in self.curves if field != "seconds"},
            seconds="seconds" if "seconds" in self.curves else None,
            optimiser={
                field.removeprefix("optimiser/"): field
                for field in self.values
                if field.startswith("optimiser/")
            },
            notation=self.patterns.notation,
            notation_options=self.patterns.notation_options,
            goals=self.patterns.goals,
            **named,
        )
        rest = {key: value for key, value in self.values.items() if key != "run"}
        run = RowReader(Row(self.place, rest | values), columns, self.problems).run()
        return [] if run is None else [(self.place, run)]
