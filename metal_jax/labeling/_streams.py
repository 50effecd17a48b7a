"""Label matrices on disk that are larger than memory, read a batch of items at a time.

Legend: `n` items, `m` LFs, `b` items of a batch.
"""

from __future__ import annotations

import contextlib
import os
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from metal_jax._core.archives import (
    ArchiveError,
    check_member,
    most_bytes,
    read_header,
    readable_errors,
)
from metal_jax.labeling._functions import ABSTAIN


class VoteReader(Protocol):
    """One file of votes.

    Attributes:
        num_items: items in it.
        num_lfs: m.
    """

    num_items: int
    num_lfs: int

    def batches(self, start: int, stop: int, size: int) -> Iterator[np.ndarray]:
        """The items from `start` up to `stop`, `size` of them at a time: int[b, m]."""
        ...


class VotePart(NamedTuple):
    """Some items of one file.

    Attributes:
        path: the file.
        start: the first of them.
        stop: the one after the last.
    """

    path: Path
    start: int
    stop: int


class VoteStream:
    """A label matrix in files, as an iterable of batches int[b, m] that can be read again.

    Args:
        paths: a file or several, whose items follow one another: `.npy` int[n, m], memory-mapped;
            `.npz` with such an array, compressed or not; `.parquet` with a column of integers for
            each LF, null = abstain (needs pyarrow).
        batch_items: b; memory is O(b m), whatever n is.
        array: name of the array in an `.npz`.

    Attributes:
        num_items: n.
        num_lfs: m.
        batch_items: b, what a batch has at most.
        paths: the files.
        seconds: time spent reading so far.

    Raises:
        ValueError: no files, another kind of file, no integers of two axes, or files with
            different numbers of LFs; names the file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(folder + "/a.npy", np.array([[0, -1], [1, 1], [0, 0]], np.int8))
        ...     np.savez(folder + "/b.npz", L=np.array([[1, 0]]))
        ...     stream = VoteStream([folder + "/a.npy", folder + "/b.npz"], batch_items=2)
        ...     stream.num_items, [batch.tolist() for batch in stream]
        (4, [[[0, -1], [1, 1]], [[0, 0]], [[1, 0]]])
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        batch_items: int = 2**16,
        array: str = "L",
    ):
        """Open the files and read their sizes."""
        given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        if not given:
            raise ValueError("paths: got none, expected at least one file of votes")
        if batch_items < 1:
            raise ValueError(f"batch_items: got {batch_items}, expected at least 1")
        self.paths = [Path(path) for path in given]
        self.batch_items = batch_items
        self.seconds = 0.0
        self._readers = {path: _open(path, array) for path in self.paths}
        self.num_items = sum(self._readers[path].num_items for path in self.paths)
        self.num_lfs = self._readers[self.paths[0]].num_lfs
        for path, reader in self._readers.items():
            if reader.num_lfs != self.num_lfs:
                raise ValueError(
                    f"{path}: {reader.num_lfs} LFs, expected {self.num_lfs} as in {self.paths[0]}"
                )

    def __iter__(self) -> Iterator[np.ndarray]:
        """The batches of all files."""
        for part in self.parts():
            yield from self.read(part)

    def parts(self, items: int | None = None) -> list[VotePart]:
        """The files, cut into parts of a number of items each, so that work can be taken up again.

        Args:
            items: of a part at most; None for whole files.

        Returns:
            The parts in order.
        """
        found = []
        for path in self.paths:
            n = self._readers[path].num_items
            step = n if items is None else items
            found += [VotePart(path, i, min(i + step, n)) for i in range(0, n, max(step, 1))]
        return found

    def read(self, part: VotePart) -> Iterator[np.ndarray]:
        """The batches of one part."""
        batches = self._readers[part.path].batches(part.start, part.stop, self.batch_items)
        while True:
            started = time.perf_counter()
            with _named(part.path):
                batch = next(batches, None)
            self.seconds += time.perf_counter() - started
            if batch is None:
                return
            yield batch


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let every complaint about a file's content name the file."""
    try:
        with readable_errors():
            yield
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(str(path)) else f"{path}: {text}") from error


def _open(path: Path, array: str) -> VoteReader:
    kinds = {".npy": _NpyFile, ".npz": _NpzFile, ".parquet": _ParquetFile}
    if path.suffix not in kinds:
        raise ValueError(f"{path}: expected one of {', '.join(kinds)}")
    with _named(path):
        return kinds[path.suffix](path, array)


def _check_array(path: Path, shape: tuple[int, ...], dtype: Any) -> None:
    if len(shape) != 2 or not shape[1] or not np.issubdtype(dtype, np.signedinteger):
        raise ArchiveError(
            f"{path}: got {dtype}{list(shape)}, expected signed integers [n items, m LFs]"
        )


class _NpyFile:
    """An array file. It is mapped anew for each batch: pages that were read do not stay."""

    def __init__(self, path: Path, array: str):
        self._path = path
        with path.open("rb") as file:
            shape, _, dtype = read_header(file, path.stat().st_size, array)
        _check_array(path, shape, dtype)
        self.num_items, self.num_lfs = shape

    def _map(self) -> np.ndarray:
        return np.load(self._path, mmap_mode="r", allow_pickle=False)

    def batches(self, start: int, stop: int, size: int) -> Iterator[np.ndarray]:
        for first in range(start, stop, size):
            yield np.array(self._map()[first : min(first + size, stop)], order="C")


class _NpzFile:
    """An array of an archive, read from front to back without unpacking it whole."""

    def __init__(self, path: Path, array: str):
        self._path, self._member = path, f"{array}.npy"
        with zipfile.ZipFile(path) as archive:
            if self._member not in archive.namelist():
                raise ArchiveError(f"{path}: there is no array {array!r}")
            entry = archive.getinfo(self._member)
            check_member(entry)
            with archive.open(entry) as file:
                shape, columns_first, self._dtype = read_header(file, entry.file_size, array)
        _check_array(path, shape, self._dtype)
        if columns_first and shape[1] > 1:
            raise ArchiveError(f"{path}: {array} is stored by columns; save it in C order")
        self.num_items, self.num_lfs = shape
        row, most = self.num_lfs * self._dtype.itemsize, most_bytes(entry.compress_size)
        if row > most:
            raise ArchiveError(
                f"{path}: one item has {self.num_lfs} votes, {row} bytes, expected at most {most} "
                "in a packed file; save it without compression if it is what it should be"
            )
        self._most_items = most // row

    def batches(self, start: int, stop: int, size: int) -> Iterator[np.ndarray]:
        row, size = self.num_lfs * self._dtype.itemsize, min(size, self._most_items)
        with zipfile.ZipFile(self._path) as archive, archive.open(self._member) as file:
            read_header(file, None, self._member)
            skipped = 0
            while skipped < start:
                skip = min(size, start - skipped)
                file.read(skip * row)
                skipped += skip
            for first in range(start, stop, size):
                num = min(size, stop - first)
                content = bytearray(file.read(num * row))  # `read` of an archive gives all of it
                yield np.frombuffer(content, self._dtype).reshape(num, self.num_lfs)


class _ParquetFile:
    """A column for each LF."""

    def __init__(self, path: Path, array: str):
        try:
            import pyarrow.parquet  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise ArchiveError(
                f"{path}: reading Parquet needs pyarrow: pip install 'metal-jax[parquet]'"
            ) from None
        self._path, self._open = path, pyarrow.parquet.ParquetFile
        with self._open(path) as file:
            schema = file.schema_arrow
            for field in schema:
                if not pyarrow.types.is_signed_integer(field.type):
                    raise ArchiveError(
                        f"{path}: column {field.name!r} holds {field.type}, expected signed "
                        "integers; there is a column for each LF and none for anything else"
                    )
            self._dtype = np.result_type(*(field.type.to_pandas_dtype() for field in schema))
            groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            self.num_items, self.num_lfs = file.metadata.num_rows, len(schema)
        self._ends = np.cumsum(groups, dtype=np.int64)

    def batches(self, start: int, stop: int, size: int) -> Iterator[np.ndarray]:
        begin = int(np.searchsorted(self._ends, start, side="right"))
        end = int(np.searchsorted(self._ends, stop, side="left")) + 1
        position = int(self._ends[begin - 1]) if begin else 0
        with self._open(self._path) as file:
            groups = range(begin, min(end, len(self._ends)))
            for batch in file.iter_batches(batch_size=size, row_groups=list(groups)):
                first, position = position, position + batch.num_rows
                rows = slice(max(start - first, 0), max(min(stop, position) - first, 0))
                if rows.start >= rows.stop:
                    continue
                columns = [
                    column.fill_null(ABSTAIN).to_numpy(zero_copy_only=False)[rows]
                    for column in batch.columns
                ]
                yield np.stack(columns, axis=1).astype(self._dtype)
