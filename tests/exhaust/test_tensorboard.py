import math
import struct

import pytest

from metal_jax._core.event_files import masked_crc
from metal_jax.exhaust import read_tensorboard


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def event(step, tag, value, *, tensor=False):
    if tensor:
        content = field(8, field(1, 1) + field(4, struct.pack("<f", value)))
    else:
        content = varint(2 << 3 | 5) + struct.pack("<f", value)
    summary = field(1, field(1, tag.encode()) + content)
    return varint(1 << 3 | 1) + struct.pack("<d", 1e9) + field(2, step) + field(5, summary)


def record(data):
    head = struct.pack("<Q", len(data))
    return head + struct.pack("<I", masked_crc(head)) + data + struct.pack("<I", masked_crc(data))


def test_known_checksum():
    # CRC-32C of "123456789" is e3069283.
    crc = 0xE3069283
    assert masked_crc(b"123456789") == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@pytest.fixture
def folder(tmp_path):
    for part, base in (("train", 2.0), ("validation", 3.0)):
        path = tmp_path / "run1" / part / "events.out.tfevents.1"
        path.parent.mkdir(parents=True)
        events = [event(i, "epoch_loss", base - i, tensor=i == 1) for i in range(2)]
        path.write_bytes(b"".join(map(record, events)))
    return tmp_path


TAGS = {"train/epoch_loss": "train/loss", "validation/epoch_loss": "validation/loss"}


def test_keras_folders(folder):
    (run,), problems = read_tensorboard(folder, TAGS)
    assert problems == ()
    assert run.run == "run1"
    assert run.metrics["train"]["loss"].values == (2, 1)
    assert run.metrics["validation"]["loss"].values == (3, 2)
    assert run.metrics["validation"]["loss"].epochs == (1, 2)


def test_other_tags_are_kept(folder):
    (run,), _ = read_tensorboard(folder, {"train/epoch_loss": "train/loss"})
    assert run.extra == {
        "scalars": {"validation/epoch_loss": {"steps": [0, 1], "values": [3.0, 2.0]}}
    }
    with pytest.raises(ValueError, match="role/name"):
        read_tensorboard(folder, {"x": "loss"})
    with pytest.raises(FileNotFoundError):
        read_tensorboard(folder / "absent", {})


def test_cut_and_damaged_files(tmp_path):
    path = tmp_path / "x.tfevents.1"
    whole = [record(event(i, "loss", v)) for i, v in enumerate([2.0, math.nan, 1.0])]
    damaged = bytearray(whole[1])
    damaged[20] ^= 1
    not_event = record(b"\xff" * 20)
    path.write_bytes(whole[0] + bytes(damaged) + not_event + whole[2] + whole[2] + whole[1][:-3])
    (run,), problems = read_tensorboard(path, {"loss": "train/loss"})
    assert run.metrics["train"]["loss"].epochs == (1, 3)
    assert [p.line for p in problems] == [2, 3, 5, 6]
    assert bytes.fromhex(problems[-1].text) == whole[1][:-3]
    for junk in (b"x", b"\xff" * 100, struct.pack("<Q", 1 << 60) * 3):
        path.write_bytes(junk)
        assert len(read_tensorboard(path, {}).problems) == 1
