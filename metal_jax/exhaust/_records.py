"""The run record: one training run, one line of JSON.

The canonical form, schema 1 (fields in brackets may be absent; any other field is kept):

    {"schema": 1,
     "run": "id, unique in the file",
     ["architecture": {"layers": [{"type", ["hyperparameters"], ["name"]}, ...]}
                      or {"nodes": [...], "edges": [{"source", "target", ["layer"]}], "fixed"},]
     ["optimiser": {"name": "adam", "learning_rate": 0.001, ...},]
     ["batch_size": 128,] ["num_params": 991333,] ["memory_bytes": 1073741824,]
     ["metrics": {"train" | "validation" | "test": {"<any name>": {"values": [...],
                  ["epochs": [...], absent for 1, 2, ...] ["goal": "max" | "min"]}}},]
     ["seconds": [of epoch 1, of epoch 2, ...],] ["total_seconds": 3600.0,]
     ["status": "finished" | "diverged" | "killed",] ["source": "where it was read"]}

A value that is missing or not a number is null; infinities are "inf" and "-inf".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from metal_jax._core.run_journal import ROLES, SCHEMA, STATUSES, number_to_json
from metal_jax.exhaust._architecture import (
    Architecture,
    architecture_from_json,
    architecture_to_json,
)

_SPECIAL = {None: math.nan, "nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class Curve(NamedTuple):
    """One metric over the epochs of a run.

    Attributes:
        values: one for each entry of `epochs`; NaN where missing.
        epochs: increasing epoch numbers, the first epoch is 1.
        goal: "max" or "min" where the source declares it; None: judged by the metric's name.
    """

    values: tuple[float, ...]
    epochs: tuple[int, ...]
    goal: str | None = None


class Run(NamedTuple):
    """One training run.

    Attributes:
        run: the id, unique in its file.
        architecture: layers or graph; None where unknown.
        metrics: role ("train", "validation", "test") -> metric name -> curve.
        optimiser: settings of the optimiser, plain JSON values.
        batch_size: items a step.
        num_params: number of trainable parameters.
        seconds: wall time of epoch 1, 2, ...; NaN where missing.
        total_seconds: wall time of the run where the source gives only that.
        memory_bytes: peak memory.
        status: "finished", "diverged", "killed", or None where unknown.
        source: where the run was read.
        extra: every other field, kept as it was.
    """

    run: str
    architecture: Architecture | None = None
    metrics: Mapping[str, Mapping[str, Curve]] = {}
    optimiser: Mapping[str, Any] = {}
    batch_size: int | None = None
    num_params: int | None = None
    seconds: tuple[float, ...] = ()
    total_seconds: float | None = None
    memory_bytes: int | None = None
    status: str | None = None
    source: str = ""
    extra: Mapping[str, Any] = {}


class RecordError(ValueError):
    """A record that does not follow the schema: names file, line and field."""

    def __init__(self, field: str, reason: str, file: str = "", line: int = 0):
        """Put the place before the reason."""
        self.field, self.reason, self.file, self.line = field, reason, file, line
        place = ":".join(part for part in (file, str(line) if line else "") if part)
        super().__init__(": ".join(part for part in (place, field, reason) if part))


def curve(values: Any, epochs: Any = None, goal: str | None = None) -> Curve:
    """A curve of plain floats.

    Args:
        values: float[e].
        epochs: int[e]; by default 1, 2, ..., e.
        goal: "max", "min" or None.

    Returns:
        The curve.

    Example:
        >>> curve([0.5, 0.8], goal="max")
        Curve(values=(0.5, 0.8), epochs=(1, 2), goal='max')
    """
    numbers = tuple(float(value) for value in values)
    if epochs is None:
        epochs = range(1, len(numbers) + 1)
    return Curve(numbers, tuple(int(epoch) for epoch in epochs), goal)


def to_json(run: Run) -> dict[str, Any]:
    """The run in canonical form.

    Args:
        run: the run.

    Returns:
        Plain JSON values; absent where unknown.

    Raises:
        RecordError: an extra field has the name of a canonical one.

    Example:
        >>> to_json(Run("a", metrics={"train": {"loss": curve([2.0, float("nan")])}}))
        {'schema': 1, 'run': 'a', 'metrics': {'train': {'loss': {'values': [2.0, None]}}}}
    """
    record: dict[str, Any] = {"schema": SCHEMA, "run": run.run}
    if run.architecture is not None:
        record["architecture"] = architecture_to_json(run.architecture)
    metrics = {
        role: {name: _curve_to_json(metric) for name, metric in named.items()}
        for role, named in run.metrics.items()
    }
    plain = {
        "metrics": metrics,
        "optimiser": dict(run.optimiser),
        "batch_size": run.batch_size,
        "num_params": run.num_params,
        "seconds": [number_to_json(value) for value in run.seconds],
        "total_seconds": None if run.total_seconds is None else number_to_json(run.total_seconds),
        "memory_bytes": run.memory_bytes,
        "status": run.status,
        "source": run.source,
    }
    record |= {name: value for name, value in plain.items() if value not in (None, "", [], {})}
    for name, value in run.extra.items():
        if name in FIELDS:
            raise RecordError(name, "an extra field has the name of a canonical one")
        record[name] = value
    return record


def from_json(record: Any, *, file: str = "", line: int = 0) -> Run:
    """Check a canonical record.

    Args:
        record: parsed JSON.
        file: named in errors.
        line: named in errors, from 1.

    Returns:
        The run; fields outside the schema are in `extra`.

    Raises:
        RecordError: which field is wrong, what was got and what was expected.

    Example:
        >>> run = Run("a", metrics={"train": {"loss": curve([2.5, 1.5])}})
        >>> from_json(to_json(run)) == run
        True
    """
    try:
        return _from_json(record)
    except RecordError as error:
        raise RecordError(error.field, error.reason, file, line) from None


def _from_json(record: Any) -> Run:
    if not isinstance(record, Mapping):
        raise RecordError("", f"got {type(record).__name__}, expected an object")
    schema = record.get("schema")
    if isinstance(schema, bool) or not isinstance(schema, int) or not 1 <= schema <= SCHEMA:
        raise RecordError("schema", f"got {schema!r:.60}, expected a number from 1 to {SCHEMA}")
    run = record.get("run")
    if not isinstance(run, str) or not run:
        raise RecordError("run", f"got {run!r:.60}, expected a text that is not empty")
    architecture = record.get("architecture")
    if architecture is not None:
        try:
            architecture = architecture_from_json(architecture)
        except ValueError as error:
            raise RecordError("architecture", str(error)) from None
    metrics = {}
    for role, named in _object(record, "metrics").items():
        if role not in ROLES:
            raise RecordError(f"metrics.{role}", f"got role {role!r:.60}, expected one of {ROLES}")
        named = _object({role: named}, role, "metrics.")
        metrics[role] = {
            name: _curve_from_json(value, f"metrics.{role}.{name}") for name, value in named.items()
        }
    status = record.get("status")
    if status is not None and status not in STATUSES:
        raise RecordError("status", f"got {status!r:.60}, expected one of {STATUSES}")
    source = record.get("source", "")
    if not isinstance(source, str):
        raise RecordError("source", f"got {source!r:.60}, expected a text")
    total = record.get("total_seconds")
    return Run(
        run,
        architecture,
        metrics,
        _object(record, "optimiser"),
        _count(record, "batch_size"),
        _count(record, "num_params"),
        _numbers(record.get("seconds", []), "seconds"),
        None if total is None else number_from_json(total, "total_seconds"),
        _count(record, "memory_bytes"),
        status,
        source,
        {name: value for name, value in record.items() if name not in FIELDS},
    )


FIELDS = ("schema", *Run._fields[:-1])


def _curve_to_json(metric: Curve) -> dict[str, Any]:
    record: dict[str, Any] = {"values": [number_to_json(value) for value in metric.values]}
    if metric.epochs != tuple(range(1, len(metric.values) + 1)):
        record["epochs"] = list(metric.epochs)
    if metric.goal is not None:
        record["goal"] = metric.goal
    return record


def _curve_from_json(record: Any, field: str) -> Curve:
    if not isinstance(record, Mapping):
        raise RecordError(field, f"got {record!r:.60}, expected an object with 'values'")
    values = _numbers(record.get("values"), f"{field}.values")
    goal = record.get("goal")
    if goal not in (None, "max", "min"):
        raise RecordError(f"{field}.goal", f"got {goal!r:.60}, expected 'max' or 'min'")
    epochs = record.get("epochs", list(range(1, len(values) + 1)))
    if not isinstance(epochs, list) or len(epochs) != len(values):
        raise RecordError(f"{field}.epochs", f"got {epochs!r:.60}, expected {len(values)} integers")
    previous = 0
    for epoch in epochs:
        if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch <= previous:
            raise RecordError(
                f"{field}.epochs", f"got {epoch!r:.60} after {previous}, expected a later epoch"
            )
        previous = epoch
    return Curve(values, tuple(epochs), goal)


def _object(record: Mapping[str, Any], field: str, prefix: str = "") -> dict[str, Any]:
    value = record.get(field, {})
    if not isinstance(value, Mapping):
        raise RecordError(prefix + field, f"got {value!r:.60}, expected an object")
    return dict(value)


def _count(record: Mapping[str, Any], field: str) -> int | None:
    value = record.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise RecordError(field, f"got {value!r:.60}, expected an integer from 0")
    return value


def _numbers(value: Any, field: str) -> tuple[float, ...]:
    if not isinstance(value, list):
        raise RecordError(field, f"got {value!r:.60}, expected a list of numbers")
    return tuple(number_from_json(entry, f"{field}[{i}]") for i, entry in enumerate(value))


def number_from_json(value: Any, field: str) -> float:
    """A number; null, "inf" and "-inf" are those that JSON lacks. RecordError names `field`."""
    if value is None or isinstance(value, str):
        if value in _SPECIAL:
            return _SPECIAL[value]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            pass
    raise RecordError(field, f"got {value!r:.60}, expected a number, null, 'inf' or '-inf'")
