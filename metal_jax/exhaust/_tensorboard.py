"""Scalars of TensorBoard event files, read without TensorFlow or protocol buffers.

A file is a sequence of records (length, its checksum, data, its checksum); a record is an `Event`
message, of which only `step` and the scalars of `summary` are looked at.
"""

from __future__ import annotations

import itertools
import math
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from metal_jax._core.event_files import masked_crc
from metal_jax._core.run_journal import check_metric
from metal_jax.exhaust._files import Problem, Reading, unique_runs
from metal_jax.exhaust._records import Curve, Run
from metal_jax.exhaust._table import settle_percent

_MAX_RECORD = 1 << 28
_MAX_CHECKED = 1 << 16
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_PARTS = ("train", "validation", "val", "eval", "test")


def read_tensorboard(
    path: str | os.PathLike[str],
    tags: Mapping[str, str],
    *,
    first_step: int = 0,
    percent: bool | None = None,
) -> Reading:
    """Read the scalars of TensorBoard event files.

    A folder with event files is a run; sub-folders called train, validation, val, eval or test
    belong to the run of the folder above them, as Keras writes them.

    Args:
        path: an event file, or a folder searched to the bottom for files named `*tfevents*`.
        tags: tag, or "folder/tag", -> "role/name", e.g. {"validation/epoch_loss":
            "validation/loss"}. Scalars of other tags are kept in `Run.extra["scalars"]`.
        first_step: the step that is epoch 1; steps are taken as epochs whatever they count.
        percent: as in `read_table`.

    Returns:
        Runs and problems: what is cut or damaged, and a step that comes twice (the last is kept).

    Raises:
        ValueError: a metric of `tags` has no role.
    """
    for metric in tags.values():
        check_metric(metric)
    root = Path(path)
    if not root.exists():
        raise FileNotFoundError(root)
    files = sorted(root.rglob("*tfevents*")) if root.is_dir() else [root]
    problems: list[Problem] = []
    found = []
    for folder, group in itertools.groupby(filter(Path.is_file, files), _run_folder):
        scalars: dict[str, dict[int, float]] = {}
        for file in group:
            _read_file(file, scalars, tags, problems)
        name = folder.relative_to(root).as_posix() if folder.is_relative_to(root) else "."
        name = root.name if name == "." else name
        run = _run(name, str(folder), scalars, tags, first_step, problems)
        found.append((Problem(str(folder), 0, "", "", ""), run))
    return unique_runs(settle_percent(found, problems, percent), problems)


def _run_folder(file: Path) -> Path:
    return file.parent.parent if file.parent.name in _PARTS else file.parent


def _read_file(
    file: Path,
    scalars: dict[str, dict[int, float]],
    tags: Mapping[str, str],
    problems: list[Problem],
) -> None:
    with file.open("rb") as stream:
        for number, data in _records(str(file), stream, problems):
            try:
                found = list(_scalars(data))
            except (ValueError, IndexError, struct.error, OverflowError) as error:
                problems.append(
                    Problem(str(file), number, "", f"not an event: {error}", data.hex())
                )
                continue
            for step, tag, value in found:
                in_folder = f"{file.parent.name}/{tag}"
                is_part = file.parent.name in _PARTS or in_folder in tags
                known = scalars.setdefault(in_folder if is_part and tag not in tags else tag, {})
                if step in known:
                    reason = f"got step {step} again, {known[step]:g} is replaced by {value:g}"
                    problems.append(Problem(str(file), number, tag, reason, data.hex()))
                known[step] = value


def _run(
    name: str,
    source: str,
    scalars: Mapping[str, Mapping[int, float]],
    tags: Mapping[str, str],
    first_step: int,
    problems: list[Problem],
) -> Run:
    metrics: dict[str, dict[str, Curve]] = {}
    rest = {}
    for tag, values in scalars.items():
        steps = sorted(values)
        if tag not in tags:
            numbers = [values[step] for step in steps]
            kept = [value if math.isfinite(value) else str(value) for value in numbers]
            rest[tag] = {"steps": steps, "values": kept}
            continue
        role, _, metric = tags[tag].partition("/")
        early = [step for step in steps if step < first_step]
        if early:
            text = str({step: values[step] for step in early})
            reason = f"{len(early)} steps before the first, {first_step}"
            problems.append(Problem(source, 0, tag, reason, text))
        steps = steps[len(early) :]
        metrics.setdefault(role, {})[metric] = Curve(
            tuple(values[step] for step in steps), tuple(step + 1 - first_step for step in steps)
        )
    return Run(name, metrics=metrics, source=source, extra={"scalars": rest} if rest else {})


def _records(name: str, stream: IO[bytes], problems: list[Problem]) -> Iterator[tuple[int, bytes]]:
    """The records of a file; the first that is cut or has a damaged length ends it."""
    for number in itertools.count(1):
        head = stream.read(12)
        if not head:
            return
        reason = ""
        data = tail = b""
        if len(head) == 12:
            length, check = struct.unpack("<QI", head)
            if check != masked_crc(head[:8]) or length > _MAX_RECORD:
                reason = "the record's length is damaged, the rest is not read"
            else:
                data, tail = stream.read(length), stream.read(4)
        if not reason and len(tail) < 4:
            reason = "the file is cut here"
        if reason:
            problems.append(Problem(name, number, "", reason, (head + data + tail).hex()))
            return
        # The checksum is slow here; records beyond this size are pictures, not scalars.
        if len(data) <= _MAX_CHECKED and struct.unpack("<I", tail)[0] != masked_crc(data):
            problems.append(Problem(name, number, "", "the record is damaged", data.hex()))
            continue
        yield number, data


def _scalars(event: bytes) -> Iterator[tuple[int, str, float]]:
    """Step, tag and value of an event's scalars."""
    step, summaries = 0, []
    for field, kind, value in _fields(event):
        if (field, kind) == (2, _VARINT) and isinstance(value, int):
            step = value
        elif (field, kind) == (5, _BYTES) and isinstance(value, bytes):
            summaries.append(value)
    for summary in summaries:
        for field, kind, entry in _fields(summary):
            if (field, kind) != (1, _BYTES) or not isinstance(entry, bytes):
                continue
            parts = {number: value for number, _, value in _fields(entry)}
            tag, simple, tensor = parts.get(1), parts.get(2), parts.get(8)
            value = None
            if isinstance(simple, bytes):
                value = struct.unpack("<f", simple)[0]
            elif isinstance(tensor, bytes):
                value = _tensor_scalar(tensor)
            if isinstance(tag, bytes) and value is not None:
                yield step, tag.decode("utf-8", "backslashreplace"), value


def _tensor_scalar(tensor: bytes) -> float | None:
    """The number of a tensor of one float or double, else None."""
    parts = {number: value for number, _, value in _fields(tensor)}
    kind = parts.get(1)
    form = {1: "<f", 2: "<d"}.get(kind) if isinstance(kind, int) else None
    content = parts.get(4) or parts.get(5 if form == "<f" else 6)
    if form is None or not isinstance(content, bytes) or len(content) != struct.calcsize(form):
        return None
    return struct.unpack(form, content)[0]


def _fields(message: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """Field number, wire type and value of a protocol buffer message."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, kind, value
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind} at byte {at}")
        if at + size > len(message):
            raise ValueError(f"field {number} ends beyond the message")
        yield number, kind, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError(f"a number of more than 10 bytes at byte {at}")
