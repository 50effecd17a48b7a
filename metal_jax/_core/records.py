"""An append-only JSON-lines file that survives a crash: one record a line, on disk when it returns.

One writer a file. Readers may read at any time; they see whole lines and at most one torn tail.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any

_CHUNK = 1 << 20


class RecordWriter:
    r"""Appends records to a JSON-lines file; each is flushed and synced before `write` returns.

    Opening repairs the end of the file. A last line without its newline is a record that a crash
    cut: if it is complete it gets its newline, otherwise its bytes move to `<path>.torn` (nothing
    is thrown away) and the file ends after the last whole record.

    Args:
        path: the file; it is made if there is none.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with RecordWriter(folder + "/runs.jsonl") as writer:
        ...         writer.write({"run": "a"})
        ...     pathlib.Path(folder, "runs.jsonl").read_text()
        '{"run": "a"}\n'
    """

    def __init__(self, path: str | os.PathLike[str]):
        """Open `path` and repair its end."""
        self.path = os.fspath(path)
        is_new = not os.path.exists(self.path)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._file: int | None = os.open(self.path, flags, 0o644)
        try:
            _repair(self._file, self.path)
            if is_new:
                _sync_folder(self.path)
        except BaseException:
            self.close()
            raise

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record.

        Args:
            record: plain JSON values; floats must be finite, JSON has no others.

        Raises:
            ValueError: the writer is closed, or the record is not plain JSON.
            OSError: the disk refused; the file is as it was before.
        """
        if self._file is None:
            raise ValueError(f"{self.path}: the writer is closed")
        try:
            line = json.dumps(dict(record), allow_nan=False).encode("ascii") + b"\n"
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{self.path}: the record is not plain JSON: {error}") from error
        size = os.fstat(self._file).st_size
        try:
            _write_all(self._file, line)
            os.fsync(self._file)
        except BaseException:
            os.ftruncate(self._file, size)
            raise

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> RecordWriter:
        """The writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()


def _repair(file: int, path: str) -> None:
    """Complete or set aside a last line without newline."""
    tail = _tail(file)
    if not tail:
        return
    try:
        complete = isinstance(json.loads(tail), dict)
    except (ValueError, RecursionError):
        complete = False
    if complete:
        _write_all(file, b"\n")
    else:
        aside = os.open(f"{path}.torn", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            _write_all(aside, tail + b"\n")
            os.fsync(aside)
        finally:
            os.close(aside)
        os.ftruncate(file, os.fstat(file).st_size - len(tail))
    os.fsync(file)


def _tail(file: int) -> bytes:
    """The bytes after the last newline."""
    end = start = os.fstat(file).st_size
    pieces = []
    while start > 0:
        size = min(_CHUNK, start)
        start -= size
        os.lseek(file, start, os.SEEK_SET)
        piece = b""
        while len(piece) < size:
            piece += os.read(file, size - len(piece))
        newline = piece.rfind(b"\n")
        pieces.append(piece[newline + 1 :])
        if newline >= 0:
            break
    os.lseek(file, end, os.SEEK_SET)
    return b"".join(reversed(pieces))


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _sync_folder(path: str) -> None:
    """Make the new file's name durable, where the system lets folders be opened."""
    if os.name != "posix":
        return
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
