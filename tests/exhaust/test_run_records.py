import gzip
import json
import math

import pytest

from metal_jax.exhaust import (
    Edge,
    Graph,
    Layer,
    RecordError,
    Run,
    curve,
    from_json,
    read_runs,
    to_json,
    write_problems,
    write_runs,
)

FULL = Run(
    "a",
    (Layer("Conv2d", {"out_channels": 8, "kernel_size": [3, 3]}, "features.0"), Layer("ReLU")),
    {
        "train": {"loss": curve([2.0, math.inf])},
        "test": {"reward": curve([1.0, 2.0], [5, 9], "max")},
    },
    {"name": "adam", "learning_rate": 0.1},
    32,
    1000,
    (1.5, 2.5),
    4.0,
    2**40,
    "diverged",
    "somewhere",
    {"mine": {"x": [1]}},
)
GRAPH = Run("g", Graph((Layer("a"), Layer("b")), (Edge(0, 1, Layer("op")), Edge(0, 1)), True))


@pytest.mark.parametrize("run", [FULL, GRAPH, Run("empty")])
def test_round_trip(run):
    text = json.dumps(to_json(run), allow_nan=False)
    assert from_json(json.loads(text)) == run


def test_not_a_number_comes_back_as_such():
    run = Run("a", metrics={"train": {"loss": curve([1.0, math.nan, -math.inf])}})
    back = from_json(json.loads(json.dumps(to_json(run), allow_nan=False)))
    assert math.isnan(back.metrics["train"]["loss"].values[1])
    assert back.metrics["train"]["loss"].values[2] == -math.inf


def bad(**fields):
    return {"schema": 1, "run": "a"} | fields


@pytest.mark.parametrize(
    ("record", "field"),
    [
        ([], ""),
        ({"run": "a"}, "schema"),
        ({"schema": 2, "run": "a"}, "schema"),
        ({"schema": True, "run": "a"}, "schema"),
        (bad(run=""), "run"),
        (bad(run=3), "run"),
        (bad(architecture=[]), "architecture"),
        (bad(architecture={"layers": [{"type": 3}]}), "architecture"),
        (bad(architecture={"nodes": [], "edges": [{"source": 0, "target": 0}]}), "architecture"),
        (bad(metrics=[]), "metrics"),
        (bad(metrics={"dev": {}}), "metrics.dev"),
        (bad(metrics={"train": {"x": [1]}}), "metrics.train.x"),
        (bad(metrics={"train": {"x": {"values": ["1"]}}}), "metrics.train.x.values[0]"),
        (bad(metrics={"train": {"x": {"values": [1, 2], "epochs": [1]}}}), "metrics.train.x"),
        (bad(metrics={"train": {"x": {"values": [1, 2], "epochs": [2, 2]}}}), "metrics.train.x"),
        (bad(metrics={"train": {"x": {"values": [1], "goal": "up"}}}), "metrics.train.x.goal"),
        (bad(status="ok"), "status"),
        (bad(num_params=-1), "num_params"),
        (bad(num_params=True), "num_params"),
        (bad(seconds=[10**400]), "seconds[0]"),
        (bad(optimiser="adam"), "optimiser"),
        (bad(source=1), "source"),
    ],
)
def test_errors_name_file_line_and_field(record, field):
    with pytest.raises(RecordError) as caught:
        from_json(record, file="runs.jsonl", line=7)
    assert caught.value.field.startswith(field)
    assert str(caught.value).startswith(": ".join(filter(None, ["runs.jsonl:7", field])))


def test_extra_fields_are_kept_and_may_not_shadow():
    record = {"schema": 1, "run": "a", "mine": 3}
    assert from_json(record).extra == {"mine": 3}
    assert to_json(from_json(record)) == record
    with pytest.raises(RecordError, match="extra"):
        to_json(Run("a", extra={"metrics": 1}))


def test_files(tmp_path):
    path = tmp_path / "runs.jsonl"
    assert write_runs(path, [FULL]) == 1
    assert write_runs(path, [GRAPH]) == 1
    reading = read_runs(path)
    assert reading.runs == (FULL, GRAPH)
    assert reading.problems == ()
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_runs(packed).runs == (FULL, GRAPH)


def test_nothing_is_lost(tmp_path):
    path = tmp_path / "runs.jsonl"
    write_runs(path, [Run("a"), Run("b")])
    deep = "[" * 100_000
    with path.open("a") as file:
        file.write('{"schema": 1, "run": "a"}\n')
        file.write('{"schema": 1, "run": "b", "batch_size": 3}\n')
        file.write("\n   \n")
        file.write('{"schema": 1, "run": ""}\n')
        file.write(deep + "\n")
        file.write('{"schema": 1, "run": "torn')
    reading = read_runs(path)
    assert [run.run for run in reading.runs] == ["a", "b", "b#2"]
    assert [(p.line, p.field) for p in reading.problems] == [
        (7, "run"),
        (8, ""),
        (9, ""),
        (3, "run"),
        (4, "run"),
    ]
    assert reading.problems[1].text == deep
    assert "nested" in reading.problems[1].reason
    assert reading.problems[2].text.endswith('"torn')
    side = tmp_path / "problems.jsonl"
    write_problems(side, reading.problems)
    assert [json.loads(line)["line"] for line in side.read_text().splitlines()] == [7, 8, 9, 3, 4]
    write_runs(path, [Run("c")])
    assert read_runs(path).runs[-1].run == "c"


def test_cut_and_broken_archives(tmp_path):
    path = tmp_path / "runs.jsonl"
    write_runs(
        path, [Run(str(i), extra={"noise": [i * j % 251 for j in range(99)]}) for i in range(99)]
    )
    cut = tmp_path / "cut.jsonl.gz"
    packed = gzip.compress(path.read_bytes())
    cut.write_bytes(packed[: len(packed) // 2])
    reading = read_runs(cut)
    assert len(reading.problems) == 1
    assert "cut" in reading.problems[0].reason
    for name in ("x.jsonl.gz", "x.tar.gz", "x.zip", "x.tar"):
        junk = tmp_path / name
        junk.write_bytes(b"not an archive")
        reading = read_runs(junk)
        assert reading.runs == ()
        assert len(reading.problems) == 1


def test_no_runs(tmp_path):
    (tmp_path / "empty.jsonl").write_bytes(b"")
    assert read_runs(tmp_path / "empty.jsonl") == ((), ())
    (tmp_path / "folder").mkdir()
    assert read_runs(tmp_path / "folder") == ((), ())
    with pytest.raises(FileNotFoundError):
        read_runs(tmp_path / "absent.jsonl")
