"""Which column of a table holds what."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from metal_jax.exhaust._architecture_text import NOTATIONS
from metal_jax.exhaust._records import ROLES, STATUSES


@dataclasses.dataclass(frozen=True)
class Columns:
    """Which column of a table holds what. Columns that are not named go to `Run.extra`.

    A column name with `{epoch}` stands for one column an epoch ("acc_{epoch}" for acc_1, acc_2,
    ...); in JSON and NumPy tables a column may also hold a whole curve as a list.

    Attributes:
        metrics: "role/name" -> column, e.g. {"validation/accuracy": "acc_{epoch}"}.
        run: column of the id; without it runs are named by file and line, or by the file alone
            when rows are epochs.
        epoch: column of the epoch number, when each row is one epoch of a run.
        first_epoch: number that the source gives the first epoch.
        architecture: column of the architecture.
        notation: notation of that column, see `read_architecture`.
        notation_options: for the notation's reader.
        optimiser: setting -> column.
        batch_size: column.
        num_params: column.
        seconds: column of the seconds of each epoch.
        total_seconds: column of the seconds of the whole run.
        memory_bytes: column.
        status: column.
        statuses: value of that column -> "finished", "diverged" or "killed".
        goals: "role/name" -> "max" or "min" where the name does not tell.
    """

    metrics: Mapping[str, str]
    run: str | None = None
    epoch: str | None = None
    first_epoch: int = 1
    architecture: str | None = None
    notation: str = "layer_list"
    notation_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    optimiser: Mapping[str, str] = dataclasses.field(default_factory=dict)
    batch_size: str | None = None
    num_params: str | None = None
    seconds: str | None = None
    total_seconds: str | None = None
    memory_bytes: str | None = None
    status: str | None = None
    statuses: Mapping[str, str] = dataclasses.field(default_factory=dict)
    goals: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        """Check what can be checked before a file is opened."""
        for name in (*self.metrics, *self.goals):
            role, _, measure = name.partition("/")
            if role not in ROLES or not measure:
                raise ValueError(f"got metric {name!r}, expected 'role/name', role in {ROLES}")
        if self.notation not in NOTATIONS:
            raise ValueError(f"got notation {self.notation!r}, expected one of {sorted(NOTATIONS)}")
        for status in self.statuses.values():
            if status not in STATUSES:
                raise ValueError(f"got status {status!r}, expected one of {STATUSES}")

    def named(self) -> list[str]:
        """Every column, or pattern of columns, that the map names, but the epoch's."""
        single = (
            self.run,
            self.architecture,
            self.batch_size,
            self.num_params,
            self.seconds,
            self.total_seconds,
            self.memory_bytes,
            self.status,
        )
        named = [*self.metrics.values(), *self.optimiser.values(), *single]
        return [column for column in named if column is not None]
