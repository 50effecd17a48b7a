"""Run records as they grow: a journal of one run's epochs, and its line in a file of runs.

`metal_jax.exhaust` reads both; its `_records` documents the schema.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from metal_jax._core.records import RecordWriter

SCHEMA = 1
ROLES = ("train", "validation", "test")
STATUSES = ("finished", "diverged", "killed")

Epoch = tuple[int, Mapping[str, float], float]
"""Number from 1, "role/name" -> value, seconds."""


class RunJournal:
    """The journal of one run: each epoch is on disk when `epoch` returns.

    It lies in the folder `<path>.unfinished` until the run's line is in the file.

    Args:
        path: JSON-lines file of run records.
        record: what is known of the run, in canonical form; at least "run", its id.
        epochs: those that are known already.
        replace: take over a journal of the same id instead of refusing.

    Raises:
        ValueError: a journal of the same id is there, of a run that goes on or was killed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     record = {"schema": 1, "run": "a"}
        ...     journal = RunJournal(folder + "/runs.jsonl", record)
        ...     journal.epoch(1, {"train/loss": 2.0}, seconds=1.0)
        ...     journal.finish(record | {"metrics": {"train": {"loss": {"values": [2.0]}}}})
        ...     Path(folder, "runs.jsonl").read_text().strip()
        '{"schema": 1, "run": "a", "metrics": {"train": {"loss": {"values": [2.0]}}}}'
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        record: Mapping[str, Any],
        epochs: Iterable[Epoch] = (),
        *,
        replace: bool = False,
    ):
        """Open the journal."""
        self._path = os.fspath(path)
        folder = journal_folder(path)
        folder.mkdir(exist_ok=True)
        self._journal = folder / f"{file_name(record['run'])}.jsonl"
        if self._journal.exists() and not replace:
            raise ValueError(
                f"{self._journal} is there: run {record['run']!r:.60} goes on elsewhere, or was "
                "killed; see exhaust.recover_runs"
            )
        # Whole before it has its name: a crash here loses no epoch that was there.
        fresh = self._journal.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        with RecordWriter(fresh) as writer:
            writer.write(record)
            for number, metrics, seconds in epochs:
                writer.write(_epoch_to_json(number, metrics, seconds))
        os.replace(fresh, self._journal)
        self._writer = RecordWriter(self._journal)

    def epoch(self, number: int, metrics: Mapping[str, float], seconds: float) -> None:
        """Write an epoch.

        Args:
            number: from 1, increasing.
            metrics: "role/name" -> value.
            seconds: wall time.
        """
        self._writer.write(_epoch_to_json(number, metrics, seconds))

    def finish(self, record: Mapping[str, Any], *, once: bool = False) -> None:
        """Write the run's line and remove the journal.

        Args:
            record: the whole run, in canonical form.
            once: do not write a line that is in the file already.
        """
        if not (once and _contains(self._path, record)):
            with RecordWriter(self._path) as writer:
                writer.write(record)
        self.close()
        self._journal.unlink()

    def close(self) -> None:
        """Leave the journal where it is, for `exhaust.recover_runs` or another try."""
        self._writer.close()


def journal_folder(path: str | os.PathLike[str]) -> Path:
    """Where the journals of a file of runs lie."""
    return Path(os.fspath(path) + ".unfinished")


def check_metric(name: str) -> tuple[str, str]:
    """Role and name of a metric called "role/name"; ValueError for any other."""
    role, _, metric = name.partition("/")
    if role not in ROLES or not metric:
        raise ValueError(f"got metric {name!r:.60}, expected 'role/name', role in {ROLES}")
    return role, metric


def number_to_json(value: float) -> float | str | None:
    """A number as JSON, which has neither NaN (null here) nor infinities ("inf", "-inf")."""
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)


def file_name(run: str) -> str:
    """A name that every file system takes, different for different ids."""
    safe = "".join(c if c.isalnum() and c.isascii() else f"_{ord(c):x}_" for c in run)
    if len(safe) > 150:
        raise ValueError(f"got a run id of {len(run)} characters, expected a shorter one")
    return safe


def _epoch_to_json(number: int, metrics: Mapping[str, float], seconds: float) -> dict[str, Any]:
    return {
        "epoch": number,
        "metrics": {name: number_to_json(value) for name, value in metrics.items()},
        "seconds": number_to_json(seconds),
    }


def _contains(path: str, record: Mapping[str, Any]) -> bool:
    line = json.dumps(dict(record)).encode("ascii")
    if not os.path.exists(path):
        return False
    with open(path, "rb") as file:
        return any(found.rstrip(b"\n") == line for found in file)
