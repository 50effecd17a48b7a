"""TensorBoard event files of scalars, written without TensorFlow or protocol buffers.

A file is a sequence of records: the length of the data (uint64), its checksum, the data, its
checksum, all little-endian. The data of a record is a message of the type `Event`: field 1, wall
time (double); 2, step (varint); 3, version (text, in the first event); 5, `Summary`, whose field 1
is repeated: a tag (1) and a value (2, float).
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Mapping
from typing import IO

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class EventFileWriter:
    """Writes scalars to an event file; each call's are in the file when it returns.

    Args:
        path: the file, replaced; TensorBoard reads those with "tfevents" in their name.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     writer = EventFileWriter(folder + "/events.out.tfevents.1")
        ...     writer.scalars(10, {"train/loss": 0.5})
        ...     writer.close()
        ...     os.path.getsize(folder + "/events.out.tfevents.1")
        88
    """

    def __init__(self, path: str | os.PathLike[str]):
        """Write the header."""
        self._file: IO[bytes] = open(path, "wb", buffering=0)  # noqa: SIM115
        self._event(_field(3, b"brain.Event:2"))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write one event.

        Args:
            step: its step.
            values: tag -> number.
        """
        summary = b"".join(
            _field(1, _field(1, tag.encode()) + _key(2, _FIXED32) + _float32(value))
            for tag, value in values.items()
        )
        self._event(_key(2, _VARINT) + _varint(step) + _field(5, summary))

    def _event(self, content: bytes) -> None:
        data = _key(1, _FIXED64) + struct.pack("<d", time.time()) + content
        head = struct.pack("<Q", len(data))
        checks = (struct.pack("<I", masked_crc(part)) for part in (head, data))
        self._file.write(head + next(checks) + data + next(checks))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _float32(value: float) -> bytes:
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<f", float("inf") if value > 0 else float("-inf"))


def _key(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _field(number: int, value: bytes) -> bytes:
    return _key(number, _BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _crc_table() -> tuple[int, ...]:
    """CRC-32C (Castagnoli), a byte at a time."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC_TABLE = _crc_table()


def masked_crc(data: bytes) -> int:
    """CRC-32C of the data, rotated and shifted as the record format wants it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
