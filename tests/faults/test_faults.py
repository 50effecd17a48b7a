"""The faults of `benchmarks.studies.faults`: a few of the cheap ones, and all of them (slow)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the study forks")


def study(*arguments, out):
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.studies.faults", *arguments]
    done = subprocess.run(
        [*command, "--out", str(out)], cwd=ROOT, capture_output=True, text=True, timeout=3600
    )
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert done.returncode == 0, done.stderr
    return rows


def assert_survived(rows):
    for row in rows:
        assert row["survived"] == row["trials"], row
        assert row["bytes_lost"] == 0, row


def test_what_is_written_survives(tmp_path):
    settings = ["--kills", "24", "--full-disks", "1", "--only", "recording of runs", " report"]
    rows = study(*settings, out=tmp_path / "rows.jsonl")
    assert_survived(rows)
    assert {row["fault"] for row in rows} == {"kill -9", "full disk", "no permission"}
    assert sum(row["trials"] for row in rows if row["fault"] == "kill -9") >= 10
    refused = [note for row in rows if row["fault"] == "no permission" for note in row["notes"]]
    assert all("Permission denied" in note or "Read-only" in note for note in refused), refused


@pytest.mark.slow
def test_two_hundred_kills_and_all_other_faults(tmp_path):
    rows = study("--kills", "200", out=tmp_path / "rows.jsonl")
    assert_survived(rows)
    assert sum(row["trials"] for row in rows if row["fault"] == "kill -9") >= 200
    said = [note for row in rows if row["fault"] == "full disk" for note in row["notes"]]
    assert all("OSError" in note or "it fitted" in note for note in said), said
