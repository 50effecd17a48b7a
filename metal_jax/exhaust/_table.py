"""Tables of runs, read with a map of their columns."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

from metal_jax.exhaust._columns import Columns
from metal_jax.exhaust._files import Problem, Reading, open_streams, unique_runs
from metal_jax.exhaust._records import Run
from metal_jax.exhaust._row_reader import EPOCHS, RUN, RowReader, file_name, is_absent
from metal_jax.exhaust._rows import Row, rows

_FRACTION = re.compile(r"(^|_|\b)(acc|accuracy|precision|recall|f1|auc)(_|\b|$)")


def read_table(
    path: str | os.PathLike[str], columns: Columns, *, percent: bool | None = None
) -> Reading:
    r"""Read a table of runs.

    Args:
        path: `.csv`, `.tsv`, `.json`, `.jsonl` or `.npz`, plain or gzip; a folder or archive.
        columns: which column holds what.
        percent: True: accuracies are percent and are divided by 100, those above 100 are reported;
            False: they are taken as they are; None: values above 1 are taken as they are and
            reported.

    Returns:
        Runs and problems. A cell that cannot be read is a problem and the rest of its row is kept;
        a row without a readable id or architecture is a problem as a whole.

    Raises:
        OSError: the path cannot be read.

    Example:
        >>> import pathlib, tempfile
        >>> columns = Columns({"test/accuracy": "acc_{epoch}"}, "id", architecture="net",
        ...                   notation="layer_string")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "table.tsv")
        ...     _ = path.write_text("id\tnet\tacc_1\tacc_2\na\tC(8,3,1) SM(10)\t0.1\t0.4\n")
        ...     read_table(path, columns).runs[0].metrics["test"]["accuracy"].values
        (0.1, 0.4)
    """
    problems: list[Problem] = []
    found = []
    for name, stream in open_streams(path, problems):
        table = rows(name, stream, problems)
        found += read_rows(table, columns, problems)
    return unique_runs(settle_percent(found, problems, percent), problems)


def read_rows(
    table: Iterable[Row], columns: Columns, problems: list[Problem]
) -> list[tuple[Problem, Run]]:
    """Runs of one file's rows, with the place of each."""
    if columns.epoch is not None:
        table = _joined_epochs(table, columns, problems)
    found = []
    seen: set[str] = set()
    file = ""
    for row in table:
        reader = RowReader(row, columns, problems)
        run = reader.run()
        file = row.place.file
        seen |= reader.found
        if run is not None:
            found.append((row.place, run))
    for column in columns.named() if file else ():
        if column not in seen:
            problems.append(Problem(file, 0, column, "got no such column", ""))
    return found


def settle_percent(
    found: list[tuple[Problem, Run]], problems: list[Problem], percent: bool | None
) -> list[tuple[Problem, Run]]:
    """Divide accuracies by 100, or report those that look as if they should be."""
    if percent:
        found = [(place, _divide(run)) for place, run in found]
        problems += beyond_percent(found)
    elif percent is None:
        peaks: dict[str, tuple[float, str]] = {}
        for place, run in found:
            for field, value in _beyond_one(run):
                peak = (value, place.file)
                peaks[field] = max(peaks.get(field, peak), peak)
        for field, (peak, file) in peaks.items():
            reason = f"values up to {peak:g} look like percent: say percent=True or False"
            problems.append(Problem(file, 0, field, reason, ""))
    return found


def beyond_percent(found: Iterable[tuple[Problem, Run]]) -> list[Problem]:
    """Accuracies that were divided by 100 and were above it, each metric of a run once."""
    return [
        place._replace(
            field=field,
            reason=f"run {run.run!r:.60}: got {100 * peak:.8g} %, expected at most 100 %",
        )
        for place, run in found
        for field, peak in _beyond_one(run)
    ]


def _beyond_one(run: Run) -> Iterator[tuple[str, float]]:
    """Metrics that should be fractions and have values above 1, with the highest."""
    for role, named in run.metrics.items():
        for measure, metric in named.items():
            if is_fraction(measure):
                peak = max((x for x in metric.values if math.isfinite(x)), default=0.0)
                if peak > 1 + 1e-6:
                    yield f"metrics.{role}.{measure}", peak


def is_fraction(measure: str) -> bool:
    """Whether a metric's name is that of a number from 0 to 1."""
    return _FRACTION.search(measure.lower()) is not None


def _divide(run: Run) -> Run:
    metrics = {
        role: {
            name: metric._replace(values=tuple(value / 100 for value in metric.values))
            if is_fraction(name)
            else metric
            for name, metric in named.items()
        }
        for role, named in run.metrics.items()
    }
    return run._replace(metrics=metrics)


def _joined_epochs(
    table: Iterable[Row], columns: Columns, problems: list[Problem]
) -> Iterator[Row]:
    """Join rows that are epochs into one row a run: curves as lists, constants as they are."""
    assert columns.epoch is not None
    curves = {*columns.metrics.values(), *([columns.seconds] if columns.seconds else [])}
    joined: dict[tuple[str, int], tuple[Problem, dict[str, list[Any]]]] = {}
    current: dict[str, int] = {}
    for place, values in table:
        try:
            epoch = int(float(values.get(columns.epoch, ""))) + 1 - columns.first_epoch
        except (ValueError, TypeError, OverflowError):
            reason = f"got {values.get(columns.epoch)!r:.60}, expected a number"
            problems.append(place._replace(field=columns.epoch, reason=reason))
            continue
        given = str(values.get(columns.run)) if columns.run else place.file
        part = current.setdefault(given, 1)
        previous = joined[given, part][1][EPOCHS][-1] if (given, part) in joined else 0
        if epoch <= previous:
            restart = columns.run is None and epoch == 1 < previous
            current[given] = part = part + restart
            reason = f"epoch {epoch} after epoch {previous}" + (
                f": read as run {part} of the file" if restart else ""
            )
            problems.append(place._replace(field=columns.epoch, reason=reason))
            if not restart:
                continue
        cells = joined.setdefault((given, part), (place, {EPOCHS: []}))[1]
        for column in curves & values.keys():
            if not _is_number(values[column]):
                reason = f"got {values[column]!r:.60}, expected a number"
                problems.append(place._replace(field=column, reason=reason))
                values = {**values, column: math.nan}
        for column in {**cells, **values}:
            if column != EPOCHS:
                missing = [None] * (len(cells[EPOCHS]) - len(cells.setdefault(column, [])))
                cells[column] += [*missing, values.get(column)]
        cells[EPOCHS].append(epoch)
    for (given, part), (place, cells) in joined.items():
        merged: dict[str, Any] = {
            column: entries[0]
            if column not in curves and entries.count(entries[0]) == len(entries)
            else entries
            for column, entries in cells.items()
            if column != columns.epoch
        }
        merged[EPOCHS] = cells[EPOCHS]
        if columns.run is None:
            merged[RUN] = file_name(given) if part == 1 else f"{file_name(given)}#{part}"
        yield Row(place, merged)


def _is_number(value: Any) -> bool:
    try:
        float(0 if is_absent(value) else value)
    except (ValueError, TypeError, OverflowError):
        return False
    return True
