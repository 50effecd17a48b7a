"""Runs of files that an interrupted import has read, so that the next one need not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metal_jax._core.files import replaced

if TYPE_CHECKING:
    from metal_jax.exhaust import Reading


class KeptReadings:
    """What was read of each file, in one file of JSON lines beside the output.

    Args:
        out: what the command will write; the file is called `<out>.partial`.
        identity: plain JSON that says how files are read; what was read otherwise is not taken.
    """

    def __init__(self, out: Path, identity: Mapping[str, Any]) -> None:
        """Read the file, if it is there."""
        self.path = out.with_name(f"{out.name}.partial")
        self._identity = json.dumps(identity, sort_keys=True, default=str)
        self._known: dict[str, Any] = {}
        self._read: dict[str, Reading] = {}
        if self.path.is_file():
            self._known = self._load()

    def take(self, *files: Path) -> Reading | None:
        """What was read of the first of the files, if none of them has changed since."""
        from metal_jax.exhaust import Problem, Reading, from_json

        record = self._known.get(self._key(files))
        if record is None:
            return None
        runs = tuple(from_json(run) for run in record["runs"])
        return Reading(runs, tuple(Problem(*problem) for problem in record["problems"]))

    def put(self, reading: Reading, *files: Path) -> None:
        """Remember what was read."""
        key = self._key(files)
        if key not in self._known:
            self._read[key] = reading

    def save(self) -> int:
        """Write what was read down, in one step; of how many files."""
        lines = [json.dumps(record).encode("ascii") + b"\n" for record in self._known.values()]
        lines += [self._line(key, reading) for key, reading in self._read.items()]
        lines = [line for line in lines if line is not None]
        if lines:
            with replaced(self.path) as file:
                file.writelines(lines)
        return len(lines)

    def remove(self) -> None:
        """Throw it away, since all is done."""
        self.path.unlink(missing_ok=True)

    def _key(self, files: tuple[Path, ...]) -> str:
        stamps = [_stamp(file) for file in files]
        return json.dumps([self._identity, stamps])

    def _load(self) -> dict[str, Any]:
        known = {}
        for line in self.path.read_bytes().splitlines():
            try:
                record = json.loads(line)
                known[record["key"]] = record
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{self.path}: was not written by this command; move it away"
                ) from error
        return known

    def _line(self, key: str, reading: Reading) -> bytes | None:
        """None where JSON cannot hold a run: its file is read again."""
        from metal_jax.exhaust import from_json, to_json

        try:
            runs = [to_json(run) for run in reading.runs]
            record = {"key": key, "runs": runs, "problems": [list(p) for p in reading.problems]}
            line = json.dumps(record, allow_nan=False).encode("ascii") + b"\n"
            kept = json.loads(line)["runs"]
            return line if [to_json(from_json(run)) for run in kept] == runs else None
        except (ValueError, TypeError):
            return None


def _stamp(path: Path) -> list[Any]:
    """A file's name, size and time; of a folder those of all its files."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    stats = [(file, file.stat()) for file in files if file.is_file()]
    return [(str(file.absolute()), stat.st_size, stat.st_mtime_ns) for file, stat in stats]
