"""Logs of a training: run records that `metal_jax.exhaust` reads, and TensorBoard's event files."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from metal_jax._core.event_files import EventFileWriter
from metal_jax._core.run_journal import (
    SCHEMA,
    Epoch,
    RunJournal,
    file_name,
    number_to_json,
)
from metal_jax._core.training_history import History

_OWN_FIELDS = ("schema", "run", "metrics", "seconds", "status")


@dataclasses.dataclass(frozen=True)
class LogConfig:
    """Where a training is recorded.

    An evaluation is an epoch of the run. Of several replicas each is a run of its own, "<run>-0"
    and so on.

    Attributes:
        records: JSON-lines file of run records, appended to; `exhaust.read_runs` reads it. A run
            that was killed outright is in the folder beside it; see `exhaust.recover_runs`.
        tensorboard: folder, in which the run gets a folder with an event file.
        run: id of the run; by default the time and a random number.
        fields: further fields of the run record, e.g. {"architecture": ...}.
    """

    records: str | os.PathLike[str] | None = None
    tensorboard: str | os.PathLike[str] | None = None
    run: str | None = None
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        own = sorted(set(self.fields) & set(_OWN_FIELDS))
        if own:
            raise ValueError(f"fields: got {own}, which the training writes itself")


class TrainingLog:
    """Writes the evaluations of r replicas; a context manager around the training.

    On leaving, the runs' lines are written: "finished", "diverged" where the last train loss is not
    a finite number, or "killed" after an exception. An interrupted training that can be resumed
    leaves its journals, and takes them over when it goes on.

    Args:
        config: where to.
        fields: of the run record; those of `config` come before them.
        goals: name of a score -> "max" or "min", where its direction is known.
        num_replicas: r.
        history: of the training so far; `write` appends what is added to it.
        resumable: whether an interrupted training can be resumed.
    """

    def __init__(
        self,
        config: LogConfig,
        fields: Mapping[str, Any],
        goals: Mapping[str, str],
        num_replicas: int,
        history: History,
        *,
        resumable: bool,
    ):
        """Choose the runs' ids."""
        name = config.run or f"{time.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:8]}"
        self.run = name
        self._config, self._goals, self._history = config, goals, history
        self._resumable = resumable
        self._num_known = len(history.steps)
        many = num_replicas > 1
        runs = [f"{name}-{i}" if many else name for i in range(num_replicas)]
        self._heads = [{"schema": SCHEMA, "run": run, **fields, **config.fields} for run in runs]
        self._journals: list[RunJournal] = []
        self._event_files: list[EventFileWriter] = []

    def __enter__(self) -> TrainingLog:
        """Open the files, with what is known already."""
        known = range(self._num_known)
        for replica, head in enumerate(self._heads):
            if self._config.records is not None:
                epochs = [self._epoch(replica, at) for at in known]
                self._journals.append(
                    RunJournal(self._config.records, head, epochs, replace=self._resumable)
                )
            if self._config.tensorboard is not None:
                folder = Path(self._config.tensorboard, file_name(head["run"]))
                folder.mkdir(parents=True, exist_ok=True)
                # Made anew when a training goes on: later events of a killed process are undone.
                self._event_files.append(EventFileWriter(folder / "events.out.tfevents.0"))
                for at in known:
                    self._event(replica, at)
        return self

    def write(self) -> None:
        """Write the newest evaluation of the history."""
        at = len(self._history.steps) - 1
        for replica, journal in enumerate(self._journals):
            journal.epoch(*self._epoch(replica, at))
        for replica in range(len(self._event_files)):
            self._event(replica, at)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write the runs' lines and close the files."""
        with contextlib.ExitStack() as stack:
            for closing in (*self._journals, *self._event_files):
                stack.callback(closing.close)
            if kind is not None and self._resumable:
                return
            for replica, journal in enumerate(self._journals):
                status = "killed" if kind is not None else self._status(replica)
                once = self._num_known == len(self._history.steps)
                journal.finish(self._record(replica, status), once=once)

    def _status(self, replica: int) -> str:
        losses = self._history.train_loss
        return "finished" if not losses or math.isfinite(losses[-1][replica]) else "diverged"

    def _epoch(self, replica: int, at: int) -> Epoch:
        history = self._history
        metrics = {"train/loss": float(history.train_loss[at][replica])} | {
            f"validation/{name}": float(values[at][replica])
            for name, values in history.scores.items()
        }
        return at + 1, metrics, history.seconds[at]

    def _event(self, replica: int, at: int) -> None:
        _, metrics, _ = self._epoch(replica, at)
        self._event_files[replica].scalars(self._history.steps[at], metrics)

    def _record(self, replica: int, status: str) -> dict[str, Any]:
        history = self._history

        def curve(values: Any) -> dict[str, Any]:
            return {"values": [number_to_json(float(value[replica])) for value in values]}

        metrics = {}
        if history.steps:
            metrics["train"] = {"loss": curve(history.train_loss)}
            metrics["validation"] = {
                name: curve(values) | ({"goal": self._goals[name]} if name in self._goals else {})
                for name, values in history.scores.items()
            }
        return self._heads[replica] | {
            "metrics": metrics,
            "seconds": [number_to_json(value) for value in history.seconds],
            "status": status,
        }
