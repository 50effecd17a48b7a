"""Recording one's own runs, epoch by epoch, so that a crash loses at most the current epoch."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from metal_jax._core.json_text import parse_json
from metal_jax._core.run_journal import (
    STATUSES,
    RunJournal,
    check_metric,
    journal_folder,
)
from metal_jax.exhaust._files import Problem, numbered_lines, read_runs, write_runs
from metal_jax.exhaust._records import Curve, Run, from_json, number_from_json, to_json


class RunRecorder:
    """Records one run: each epoch at once to a journal, the whole run at its end to one line.

    As a context manager it writes the run's line on leaving: "finished" (or "diverged", if the
    last train loss is not a finite number), or "killed" after an exception. The journal of a
    process that was killed outright stays in the folder `<path>.unfinished`; `recover_runs` makes
    records of it.

    Args:
        path: JSON-lines file of run records, appended to.
        run: what is known before training: at least the id; metrics and seconds are added.

    Raises:
        ValueError: a journal of the same id is there, of a run that goes on or was killed.

    Example:
        >>> import tempfile
        >>> from metal_jax.exhaust import read_runs
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with RunRecorder(folder + "/runs.jsonl", Run("a", batch_size=32)) as recorder:
        ...         for loss in (2.0, 1.0):
        ...             recorder.epoch({"train/loss": loss}, seconds=1.0)
        ...     run = read_runs(folder + "/runs.jsonl").runs[0]
        >>> run.metrics["train"]["loss"].values, run.seconds, run.status
        ((2.0, 1.0), (1.0, 1.0), 'finished')
    """

    def __init__(self, path: str | os.PathLike[str], run: Run):
        """Open the journal; the clock of the first epoch starts."""
        self.path = os.fspath(path)
        self.run = run
        self.num_epochs = max([len(run.seconds), *_last_epochs(run)])
        self._journal: RunJournal | None = RunJournal(path, to_json(run))
        self._started = time.perf_counter()

    def epoch(self, metrics: Mapping[str, Any], seconds: float | None = None) -> None:
        """Record the next epoch.

        Args:
            metrics: "role/name" -> value, e.g. {"train/loss": 0.3}; anything that `float` takes.
            seconds: of this epoch; by default since the last epoch, or the beginning.

        Raises:
            ValueError: the run is over, or a name has no role.
        """
        if self._journal is None:
            raise ValueError(f"run {self.run.run!r:.60} is over")
        now = time.perf_counter()
        seconds = now - self._started if seconds is None else float(seconds)
        self._started = now
        values = {name: float(value) for name, value in metrics.items()}
        run = _with_epoch(self.run, self.num_epochs + 1, values, seconds)
        self._journal.epoch(self.num_epochs + 1, values, seconds)
        self.run, self.num_epochs = run, self.num_epochs + 1

    def finish(self, status: str | None = None) -> Run:
        """Write the run's line and remove the journal; a second call does nothing.

        Args:
            status: "finished", "diverged" or "killed"; by default judged by the last train loss.

        Returns:
            The run.
        """
        if self._journal is None:
            return self.run
        if status is None:
            losses = self.run.metrics.get("train", {}).get("loss")
            diverged = losses is not None and not math.isfinite(losses.values[-1])
            status = "diverged" if diverged else "finished"
        if status not in STATUSES:
            raise ValueError(f"got status {status!r:.60}, expected one of {STATUSES}")
        self.run = self.run._replace(status=status)
        self._journal.finish(to_json(self.run))
        self._journal = None
        return self.run

    def __enter__(self) -> RunRecorder:
        """The recorder itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write the run's line."""
        self.finish(None if kind is None else "killed")


def recover_runs(path: str | os.PathLike[str]) -> tuple[list[Run], list[Problem]]:
    """Record the runs whose process was killed, as "killed", and remove their journals.

    Call it when no recorder of this file is at work.

    Args:
        path: the file of run records.

    Returns:
        The runs that were added, and lines of journals that could not be read (a torn last line
        is an epoch that did not end); a journal without a readable first line is left alone.

    Raises:
        OSError: a file cannot be read or written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     recover_runs(f"{folder}/runs.jsonl")  # nothing was killed
        ([], [])
    """
    runs: list[Run] = []
    problems: list[Problem] = []
    folder = journal_folder(path)
    # A process may also be killed between writing the run's line and removing its journal.
    known = read_runs(path).runs if os.path.exists(path) else ()
    written = {repr((run.run, run.metrics, run.seconds)) for run in known}
    for journal in sorted(folder.glob("*.jsonl")) if folder.is_dir() else []:
        run: Run | None = None
        with journal.open("rb") as stream:
            for number, text in numbered_lines(str(journal), stream, problems):
                try:
                    record = parse_json(text)
                    if run is None:
                        run = from_json(record, file=str(journal), line=number)
                    else:
                        run = _with_record(run, record)
                except (ValueError, KeyError, TypeError, RecursionError) as error:
                    problems.append(Problem(str(journal), number, "", f"{error!r}", text))
        if run is not None:
            if repr((run.run, run.metrics, run.seconds)) not in written:
                runs.append(run._replace(status="killed"))
                write_runs(path, runs[-1:])
            journal.unlink()
    return runs, problems


def _with_record(run: Run, record: Mapping[str, Any]) -> Run:
    values = {name: number_from_json(v, name) for name, v in record["metrics"].items()}
    seconds = number_from_json(record["seconds"], "seconds")
    return _with_epoch(run, int(record["epoch"]), values, seconds)


def _with_epoch(run: Run, epoch: int, values: Mapping[str, float], seconds: float) -> Run:
    metrics = {role: dict(named) for role, named in run.metrics.items()}
    for name, value in values.items():
        role, metric = check_metric(name)
        before = metrics.setdefault(role, {}).get(metric, Curve((), ()))
        metrics[role][metric] = before._replace(
            values=(*before.values, value), epochs=(*before.epochs, epoch)
        )
    return run._replace(metrics=metrics, seconds=(*run.seconds, seconds))


def _last_epochs(run: Run) -> list[int]:
    return [c.epochs[-1] for named in run.metrics.values() for c in named.values() if c.epochs]
