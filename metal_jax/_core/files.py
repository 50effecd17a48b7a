"""Files and folders that take their place in one step."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_PARTIAL = ".partial"


@contextlib.contextmanager
def replaced(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to write that takes its place in one step, so that it is never half-written.

    A process that is killed leaves its part as `<name>.<process>.partial`, which no reader opens
    (`is_partial`).

    Args:
        path: what it will be called; a file that is there stays until the new one is whole.
        durable: have it on disk before it takes its place, so that a power cut harms it no more
            than a crash does.

    Yields:
        The open file.

    Raises:
        OSError: the disk refused, with the file's name; what was there is as it was.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "a.txt")
        ...     with replaced(path) as file:
        ...         _ = file.write(b"whole")
        ...         path.exists()
        ...     path.read_text()
        False
        'whole'
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}{_PARTIAL}")
    try:
        with partial.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        if error.filename is None and error.errno is not None:  # a full disk names no file
            error.filename = os.fspath(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


def is_partial(path: Path) -> bool:
    """Whether a file is what a killed process left of one: of `replaced`, or a torn record.

    Args:
        path: the file; only its name is looked at.

    Returns:
        Whether readers of folders pass it over.
    """
    return path.suffix in (_PARTIAL, ".torn")


def start_folder(target: Path) -> Path:
    """Where to write a folder that takes its place in one step, by `finish_folder`.

    Args:
        target: what it will be called; what is there stays until then.

    Returns:
        A path beside it, where nothing is.
    """
    fresh = _beside(target, ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    if target.exists():  # otherwise a crash left what is beside it as the only whole one
        shutil.rmtree(_beside(target, ".old"), ignore_errors=True)
    return fresh


def finish_folder(target: Path) -> None:
    """Let the folder that `start_folder` gave take its place.

    Args:
        target: as then.
    """
    old = _beside(target, ".old")
    if target.exists():
        target.rename(old)
    _beside(target, ".new").rename(target)
    shutil.rmtree(old, ignore_errors=True)


def abandon_folder(target: Path) -> None:
    """Remove what was written for `target` and is not whole.

    Args:
        target: as in `start_folder`.
    """
    for left in target.parent.glob(f"{_escaped(target.name)}.new*"):
        shutil.rmtree(left, ignore_errors=True)


def whole_folder(target: Path) -> Path:
    """The folder, or where a crash between the two renames of `finish_folder` left the old one.

    Args:
        target: the folder.

    Returns:
        What to read; it need not be there.
    """
    return target if target.is_dir() else _beside(target, ".old")


def _beside(target: Path, suffix: str) -> Path:
    return target.with_name(target.name + suffix)


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
