"""The members of a tar file from anybody, front to back and within bounds."""

from __future__ import annotations

import contextlib
import gzip
import io
import tarfile
from collections.abc import Iterator
from typing import IO, cast

from metal_jax._core.archives import ArchiveError, BoundedStream, most_bytes

_MOST_HEADER = 1 << 20
_PIECE = 1 << 20
_GZIP = b"\x1f\x8b"
_OTHERS = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x5d\0\0": "lzma", b"\x28\xb5\x2f\xfd": "zstd"}


def tar_members(file: IO[bytes], size: int) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and stream of each file in a tar, plain or gzip; each is read before the next comes.

    Args:
        file: the tar, open at its beginning.
        size: its bytes.

    Yields:
        Name and stream; not bounded by itself, since a file with holes may be larger than its tar.

    Raises:
        ArchiveError: packed in another way, a member's header of more than 1 MiB, or more bytes
            than `most_bytes` allows.
        tarfile.TarError, EOFError, OSError, zlib.error: damaged.
    """
    start = file.read(8)
    file.seek(0)
    for magic, method in _OTHERS.items():
        if start.startswith(magic):
            raise ArchiveError(
                f"it is packed by {method}, expected a tar that is plain or packed by gzip; "
                "unpack it first"
            )
    unpacked: IO[bytes] = file
    if start.startswith(_GZIP):
        unpacked = cast("IO[bytes]", io.BufferedReader(gzip.GzipFile(fileobj=file)))
    source = _TarSource(unpacked, most_bytes(size))
    with contextlib.ExitStack() as stack:
        with _readable_errors():
            opened = tarfile.open(fileobj=cast("IO[bytes]", source), mode="r:")  # noqa: SIM115
        archive = stack.enter_context(opened)
        while True:
            source.header_left = _MOST_HEADER
            with _readable_errors():
                entry = archive.next()
            source.header_left = None
            if entry is None:
                return
            # What tarfile keeps of the members that were read would grow with their number.
            archive.members = []  # pyright: ignore[reportAttributeAccessIssue]
            archive.pax_headers = {}
            stream = archive.extractfile(entry) if entry.isfile() else None
            if stream is not None:
                yield entry.name, stream


@contextlib.contextmanager
def _readable_errors() -> Iterator[None]:
    """What numbers that make no sense in a header raise in `tarfile`, as ArchiveError."""
    try:
        yield
    except ArchiveError:
        raise
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        raise ArchiveError(f"a header of it is damaged: {error}") from error


class _TarSource(io.RawIOBase):
    """What `tarfile` reads from: forward only, so that every byte is counted, skipped ones too.

    Attributes:
        header_left: bytes of headers that may still be read; None while a member is read.
    """

    def __init__(self, stream: IO[bytes], most: int):
        super().__init__()
        self._stream = BoundedStream(stream, [most])
        self._position = 0
        self.header_left: int | None = _MOST_HEADER

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence != io.SEEK_SET or offset < self._position:
            raise ArchiveError("a header of it leads backwards")
        while self._position < offset:
            if not self._take(min(offset - self._position, _PIECE)):
                break
        return self._position

    def read(self, size: int = -1, /) -> bytes:
        if self.header_left is not None:
            self.header_left -= size
            if size < 0 or self.header_left < 0:
                raise ArchiveError(f"a header of it has more than {_MOST_HEADER >> 20} MiB")
        return self._take(size)

    def _take(self, size: int) -> bytes:
        found = self._stream.read(size)
        self._position += len(found)
        return found
