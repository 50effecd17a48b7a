"""Arrays and packed files from anybody: nothing unpickled, and nothing that bursts the memory.

A packed file may claim, or really hold, a million times its own size. So that a small file cannot
fill the memory, what is unpacked may be `FREE_BYTES`, or `MOST_EXPANSION` times what is packed; and
an array must be as large as its file says, before any memory is taken for it.
"""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from typing import IO, Any, BinaryIO

import numpy as np

FREE_BYTES = 1 << 28
MOST_EXPANSION = 100
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # all that NumPy writes
_MAGIC = np.lib.format.MAGIC_PREFIX
_ZIP = b"PK"


class ArchiveError(ValueError):
    """A packed file or a file of arrays that is refused, and why."""


def most_bytes(packed: int) -> int:
    """Bytes that may come out of a packed file.

    Args:
        packed: its bytes.

    Returns:
        The limit.
    """
    return max(FREE_BYTES, MOST_EXPANSION * packed)


class BoundedStream(io.BufferedIOBase):
    r"""What is read from a packed file, up to a limit; several streams may share one.

    Args:
        stream: of unpacked bytes.
        left: a list of one number, the bytes that may still be read; counted down.

    Raises:
        ArchiveError: by the read that goes beyond it.

    Example:
        >>> BoundedStream(io.BytesIO(b"a line\n another"), [10]).readline()
        b'a line\n'
    """

    def __init__(self, stream: IO[bytes], left: list[int]):
        """Wrap the stream."""
        self._stream, self._left = stream, left

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Bytes; all of them with -1."""
        return self._counted(self._stream.read(self._most(size)))

    read1 = read

    def readline(self, size: int | None = -1, /) -> bytes:
        """A line, or its first bytes."""
        return self._counted(self._stream.readline(self._most(size)))

    def _most(self, size: int | None) -> int:
        most = max(self._left[0] + 1, 0)
        return most if size is None or size < 0 else min(size, most)

    def _counted(self, found: bytes) -> bytes:
        self._left[0] -= len(found)
        if self._left[0] < 0:
            raise ArchiveError(
                f"it expands to more than {MOST_EXPANSION} times its size and "
                f"{FREE_BYTES >> 20} MiB; unpack it first if it is what it should be"
            )
        return found


def load_arrays(
    file: str | os.PathLike[str] | BinaryIO, wanted: str = ".*", *, alone: str = ""
) -> dict[str, np.ndarray]:
    """The arrays of a `.npz`, or the one of a `.npy`.

    Args:
        file: a path, or a binary file that can seek.
        wanted: a regular expression; only arrays of an `.npz` whose whole name it matches are
            looked at.
        alone: the name that the array of a `.npy` gets.

    Returns:
        Name -> array.

    Raises:
        ValueError: no such file, or one that is damaged, holds Python objects, or expands too far.
        OSError: the file cannot be read.

    Example:
        >>> file = io.BytesIO()
        >>> np.savez(file, L=np.eye(2), other=np.zeros(3))
        >>> load_arrays(file, "L")["L"].shape
        (2, 2)
    """
    with contextlib.ExitStack() as stack:
        if isinstance(file, str | os.PathLike):
            file = stack.enter_context(open(file, "rb"))
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        start = file.read(len(_MAGIC))
        file.seek(0)
        with readable_errors():
            if start == _MAGIC:
                return {alone: _read_array(file, size, alone)}
            if not start.startswith(_ZIP):
                raise ArchiveError("damaged, or no NumPy file")
            return _read_archive(file, wanted)


def save_arrays(file: BinaryIO, arrays: Mapping[str, Any]) -> None:
    """Write arrays as `np.savez` does, under any names, without Python objects.

    To `np.savez` names are keywords: it cannot take `file`, nor before NumPy 2.2 `allow_pickle`.
    Equal arrays give the same bytes.

    Args:
        file: open for writing.
        arrays: name -> array.

    Raises:
        ValueError: an array holds Python objects.

    Example:
        >>> file = io.BytesIO()
        >>> save_arrays(file, {"file": np.eye(2)})
        >>> load_arrays(file)["file"].shape
        (2, 2)
    """
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asarray(array, order="C"), allow_pickle=False)


@contextlib.contextmanager
def readable_errors() -> Iterator[None]:
    """Whatever a damaged array file makes the parsers raise, as ValueError."""
    try:
        yield
    except ArchiveError:
        raise
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # of the disk, not a place that is not there
            raise
        raise ArchiveError(f"damaged, or no NumPy file: {error}") from error
    except MemoryError as error:
        raise ArchiveError("its arrays do not fit into memory") from error
    except Exception as error:
        raise ArchiveError(f"damaged, or no NumPy file: {error or type(error).__name__}") from error


def is_plain_member(entry: zipfile.ZipInfo) -> bool:
    """Whether a member of a zip is stored or deflated: `zipfile` expands others without bound."""
    return entry.compress_type in _METHODS


def check_member(entry: zipfile.ZipInfo) -> None:
    """Refuse a member of an `.npz` that NumPy cannot have written.

    Args:
        entry: of the archive's list.

    Raises:
        ValueError: packed by another method, of which a few bytes may expand without limit.
    """
    if not is_plain_member(entry):
        raise ArchiveError(
            f"array {entry.filename[:-4]!r:.60} is packed in another way than NumPy's"
        )


def read_header(
    file: IO[bytes], size: int | None, name: str
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order (True: by columns) and type of an array, as its header says.

    Args:
        file: at the beginning of a `.npy`; afterwards at its first number.
        size: bytes of all of it; None where they are not to be checked.
        name: of the array, for errors.

    Returns:
        Shape, order, dtype.

    Raises:
        ValueError: a damaged header, an array of Python objects, or one that is larger or smaller
            than its file.
    """
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ArchiveError(f"array {name!r:.60} has the format {version}, expected 1.0 or 2.0")
    shape, by_columns, dtype = readers[version](file)
    if dtype.hasobject:
        raise ArchiveError(
            "holds Python objects, which are never unpickled; save plain arrays of numbers or text"
        )
    if any(axis < 0 for axis in shape):
        raise ArchiveError(f"array {name!r:.60} has a negative axis: {list(shape)}")
    count = math.prod(shape)
    if count and not dtype.itemsize:
        raise ArchiveError(f"array {name!r:.60} is of {dtype}, which takes no space")
    if size is not None and file.tell() + count * dtype.itemsize != size:
        raise ArchiveError(
            f"array {name!r:.60} says {dtype}{list(shape)}, {count * dtype.itemsize} bytes, but "
            f"there are {size - file.tell()}"
        )
    return shape, by_columns, dtype


def _read_archive(file: BinaryIO, wanted: str) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        entries = {
            entry.filename.removesuffix(".npy"): entry
            for entry in archive.infolist()
            if entry.filename.endswith(".npy")
            and re.fullmatch(wanted, entry.filename.removesuffix(".npy"))
        }
        for entry in entries.values():
            check_member(entry)
        unpacked = sum(entry.file_size for entry in entries.values())
        packed = sum(entry.compress_size for entry in entries.values())
        if unpacked > most_bytes(packed):
            raise ArchiveError(
                f"its arrays expand from {packed} to {unpacked} bytes, more than {MOST_EXPANSION} "
                "times; save them without compression if they are what they should be"
            )
        found = {}
        for name, entry in entries.items():
            with archive.open(entry) as member:
                found[name] = _read_array(member, entry.file_size, name)
        return found


def _read_array(file: IO[bytes], size: int, name: str) -> np.ndarray:
    shape, by_columns, dtype = read_header(file, size, name)
    array = np.empty(math.prod(shape), dtype)
    view = array.view(np.uint8).data
    at = 0
    while at < array.nbytes:
        piece = file.read(min(array.nbytes - at, 1 << 24))
        if not piece:
            raise ArchiveError(f"damaged: array {name!r:.60} is cut")
        view[at : at + len(piece)] = piece
        at += len(piece)
    file.read(1)  # the end of a member, where its checksum is compared
    array = array.reshape(shape, order="F" if by_columns else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)  # JAX takes no other order of bytes
