"""Files that take their place in one step."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes its place in one step, so that it is never half-written.

    Args:
        path: what it will be called; a file that is there stays until the new one is whole.

    Yields:
        The open file.

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
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
