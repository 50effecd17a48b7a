"""Logs of Keras: `CSVLogger` files and saved `History` objects."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import IO

from metal_jax.exhaust._architecture import Architecture
from metal_jax.exhaust._columns import Columns
from metal_jax.exhaust._files import Problem, Reading, open_streams, unique_runs
from metal_jax.exhaust._row_reader import RUN, file_name
from metal_jax.exhaust._rows import Row, rows
from metal_jax.exhaust._table import read_rows, settle_percent

_NOT_METRICS = ("epoch", RUN)


def read_keras_logs(
    path: str | os.PathLike[str],
    *,
    architecture: Architecture | None = None,
    percent: bool | None = None,
) -> Reading:
    r"""Read `CSVLogger` files (epochs from 0) and JSON of `history.history`.

    Names that begin with `val_` are validation metrics, all others train metrics. The header
    again, from a file that was appended to, is reported; an epoch that starts again at 0 begins a
    new run, `name#2`.

    Args:
        path: `.csv` or `.json`, or a folder or archive of them; a run a file.
        architecture: of all these runs, e.g. from `read_keras_model`.
        percent: as in `read_table`.

    Returns:
        Runs and problems.

    Raises:
        OSError: the path cannot be read.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "a.csv")
        ...     _ = path.write_text("epoch,loss,val_loss\n0,2.5,2.0\n1,1.5,1.0\n")
        ...     read_keras_logs(path).runs[0].metrics["validation"]["loss"].values
        (2.0, 1.0)
    """
    problems: list[Problem] = []
    found = []
    for name, stream in open_streams(path, problems):
        found += _read_file(name, stream, problems)
    found = [(place, run._replace(architecture=architecture)) for place, run in found]
    return unique_runs(settle_percent(found, problems, percent), problems)


def _read_file(name: str, stream: IO[bytes], problems: list[Problem]):
    table = list(rows(name, stream, problems))
    is_json = name.lower().removesuffix(".gz").endswith(".json")
    if is_json:
        table = list(_histories(table))
    if not table:
        return []
    names = dict.fromkeys(key for row in table for key in row.values if key not in _NOT_METRICS)
    metrics = {}
    for key in names:
        role = "validation" if key.startswith("val_") else "train"
        metrics[f"{role}/{key.removeprefix('val_')}"] = key
    columns = Columns(metrics)
    if not is_json:
        if "epoch" not in table[0].values:
            problems.append(Problem(name, 1, "epoch", "got no such column", ""))
            return []
        columns = dataclasses.replace(columns, epoch="epoch", first_epoch=0)
    return read_rows(table, columns, problems)


def _histories(table: Iterable[Row]) -> Iterator[Row]:
    """`history.history`, alone or beside the `params` and `epoch` of the History object."""
    for i, row in enumerate(table):
        history = row.values.get("history", row.values)
        history = history if isinstance(history, Mapping) else row.values
        name = file_name(row.place.file) + (f"#{i + 1}" if i else "")
        yield row._replace(values={**history, RUN: name})
