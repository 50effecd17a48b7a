import json
import os

import pytest

from metal_jax._core import records
from metal_jax._core.records import RecordWriter


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_appends_across_openings(tmp_path):
    path = tmp_path / "runs.jsonl"
    for i in range(3):
        with RecordWriter(path) as writer:
            writer.write({"run": i, "text": "two\nlines \u2028 \ud800"})
    assert [r["run"] for r in lines(path)] == [0, 1, 2]
    assert path.read_bytes().count(b"\n") == 3


def test_every_cut_keeps_whole_records_and_the_next_one(tmp_path):
    path = tmp_path / "runs.jsonl"
    with RecordWriter(path) as writer:
        writer.write({"run": 0})
        whole = path.stat().st_size
        writer.write({"run": 1, "text": "é"})
    data = path.read_bytes()
    for cut in range(whole, len(data) + 1):
        torn = tmp_path / f"cut{cut}.jsonl"
        torn.write_bytes(data[:cut])
        with RecordWriter(torn) as writer:
            writer.write({"run": 2})
        runs = [r["run"] for r in lines(torn)]
        complete = cut >= len(data) - 1
        assert runs == ([0, 1, 2] if complete else [0, 2])
        aside = tmp_path / f"cut{cut}.jsonl.torn"
        if complete or cut == whole:
            assert not aside.exists()
        else:
            assert aside.read_bytes() == data[whole:cut] + b"\n"


def test_torn_tail_longer_than_a_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "_CHUNK", 7)
    path = tmp_path / "runs.jsonl"
    path.write_bytes(b'{"run": 0}\n{"run": "' + b"x" * 100)
    with RecordWriter(path) as writer:
        writer.write({"run": 1})
    assert [r["run"] for r in lines(path)] == [0, 1]


@pytest.mark.parametrize("tail", [b"\x00" * 50, b"[" * 200_000, b"3"])
def test_a_tail_that_is_no_record_is_set_aside(tmp_path, tail):
    path = tmp_path / "runs.jsonl"
    path.write_bytes(tail)
    with RecordWriter(path) as writer:
        writer.write({"run": 1})
    assert lines(path) == [{"run": 1}]


@pytest.mark.parametrize("record", [{"x": float("nan")}, {"x": object()}, {"x": {1, 2}}])
def test_what_is_not_json_is_refused_and_leaves_no_trace(tmp_path, record):
    path = tmp_path / "runs.jsonl"
    with RecordWriter(path) as writer, pytest.raises(ValueError, match="not plain JSON"):
        writer.write(record)
    assert path.read_bytes() == b""


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "runs.jsonl"
    real = os.write
    with RecordWriter(path) as writer:
        writer.write({"run": 0})

        def half(file, data):
            if len(data) <= 4:
                raise OSError("no space left")
            return real(file, bytes(data)[:4])

        monkeypatch.setattr(os, "write", half)
        with pytest.raises(OSError, match="no space"):
            writer.write({"run": 1})
        monkeypatch.undo()
        writer.write({"run": 2})
    assert [r["run"] for r in lines(path)] == [0, 2]


def test_a_closed_writer_says_so(tmp_path):
    writer = RecordWriter(tmp_path / "runs.jsonl")
    writer.close()
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.write({})


def test_synced_before_write_returns(tmp_path, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda f: (synced.append(f), real(f)))
    with RecordWriter(tmp_path / "runs.jsonl") as writer:
        before = len(synced)
        writer.write({"run": 0})
        assert len(synced) == before + 1
