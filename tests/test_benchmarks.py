"""The benchmark harness at its smallest size, and the report of its files."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import peers, report
from benchmarks.__main__ import main
from benchmarks.contest import Contest, run
from benchmarks.harness import Case, measure
from benchmarks.kernels import KERNELS
from benchmarks.machine import Ceilings

LIMITS = Ceilings(1e9, 2e9, 1e9)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmarks") / "rows.jsonl"
    kernels = ["overlap_statistics", "overlap_counts", "lstm_step"]
    main([*kernels, "--sizes", "ci", "--out", str(out)])
    return report.read([out])


def test_rows_say_what_ran_where(rows):
    assert [row["kernel"] for row in rows] == ["overlap_statistics", "overlap_counts", "lstm_step"]
    for row in rows:
        assert row["platform"] == "cpu"
        assert {"device_kind", "jax", "commit", "dirty", "ceilings", "cores"} <= set(row)
        assert 0 < row["wall"]["min"] <= row["wall"]["median"] <= row["wall"]["max"]
        assert row["operations"] > 0
        assert row["peak_resident_bytes"] > 2**20
    compiled = rows[1]
    assert compiled["shapes"] == [[2000, 6]]
    assert compiled["dtypes"] == ["int8"]
    assert compiled["compile_seconds"] > 0
    assert compiled["operations"] == 2000 * 12 * 13
    assert compiled["bytes"] == 2000 * 6 + 4 * 12 * 12


def test_the_tighter_ceiling_is_the_bound():
    x = jnp.ones(1000)
    by_memory = measure("copy", Case("n", lambda x: x + 1, (x,), 10.0), LIMITS, seconds=0.0)
    assert by_memory["bound"] == "copy"
    assert by_memory["bound_seconds"] == pytest.approx(8000 / LIMITS.copy)
    fraction = by_memory["bound_seconds"] / by_memory["wall"]["median"]
    assert by_memory["fraction_of_bound"] == pytest.approx(fraction)
    counted = Case("n", lambda x: x + 1, (x,), 1e6, 100.0, "int8")
    by_arithmetic = measure("product", counted, LIMITS, seconds=0.0)
    assert by_arithmetic["bound"] == "int8"
    assert by_arithmetic["bound_seconds"] == pytest.approx(1e6 / LIMITS.int8)


def test_the_table_has_a_column_for_each_platform(rows):
    other = [row | {"platform": "gpu", "wall": dict.fromkeys(row["wall"], 2.0)} for row in rows[:1]]
    table = report.kernel_table([*rows, *other]).splitlines()
    assert len(table) == 2 + 3
    first = table[2].split("|")
    assert "2 s (2 s – 2 s)" in first[5]
    assert first[6].strip() == "not measured"
    assert table[3].split("|")[5].strip() == "not measured"


def test_seconds_have_a_unit():
    values = [3e-9, 4.5e-5, 0.0123, 12.0]
    assert [report.seconds(x) for x in values] == ["3 ns", "45 µs", "12.3 ms", "12 s"]


def test_a_contest_compares_times_and_results():
    contest = Contest(
        "sum",
        "numpy",
        lambda: jnp.arange(4).sum(),
        lambda: lambda: np.arange(4).sum(),
        lambda ours, theirs: {"difference": abs(int(ours) - int(theirs))},
        rounds=3,
    )
    row = run(contest)
    assert row["agreement"] == {"difference": 0.0}
    assert row["rounds"] == 3
    assert row["ratio_wall"]["min"] > 0
    line = report.contest_table([row | {"platform": "cpu"}]).splitlines()[-1]
    assert line.startswith("| sum | numpy | cpu |")


def test_a_missing_peer_is_skipped_with_its_reason():
    def missing():
        raise peers.PeerMissing("snorkel: No module named 'snorkel'")

    contest = Contest("fit", "Snorkel", missing, missing, missing)
    row = run(contest)
    assert row["skipped"] == "snorkel: No module named 'snorkel'"
    table = report.contest_table([row | {"platform": "cpu"}])
    assert "skipped: snorkel: No module named 'snorkel'" in table


def test_unknown_kernels_are_refused(capsys):
    with pytest.raises(SystemExit):
        main(["no_such_kernel"])
    assert "there are overlap_statistics" in capsys.readouterr().err


@pytest.mark.slow
def test_every_kernel_and_contest_at_the_smallest_size(tmp_path):
    out, picture = tmp_path / "rows.jsonl", tmp_path / "roofline.png"
    main(["--sizes", "ci", "--peers", "--out", str(out)])
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {row["kernel"] for row in rows if row["kind"] == "kernel"} == set(KERNELS)
    fits = [row for row in rows if row["kind"] == "contest"]
    assert any(row["peer"] == "numpy, ready one-hot" for row in fits)
    assert all("skipped" in row or row["rounds"] for row in fits)
    report.roofline(rows, picture)
    assert picture.stat().st_size > 10_000
