"""`metal-jax exhaust` on synthetic runs: accuracy and time follow from depth and width."""

import csv
import gzip
import json
import math
import struct

import numpy as np
import pytest

from metal_jax._core.event_files import masked_crc
from metal_jax.cli import main
from metal_jax.cli._exhaust_sources import _LAYOUTS, _guessed_tags
from metal_jax.exhaust import (
    OPEN_LOGS,
    Layer,
    Run,
    curve,
    load_predictor,
    read_runs,
    save_predictor,
    write_runs,
)

RECORD = '{"schema": 1, "run": "a"}\n'
TINY = ["--members", "2", "--steps", "20", "--quiet"]


def synthetic_run(i, *, metrics=True):
    depth, width = 1 + i % 4, 2 ** (3 + i % 3)
    hidden = [Layer("Linear", {"out_features": width}), Layer("ReLU")] * depth
    net = (*hidden, Layer("Linear", {"out_features": 10}))
    if not metrics:
        return Run(f"candidate {i}", net)
    rise = 1 - np.exp(-np.arange(1, 5))
    best = 0.6 + 0.05 * depth + 0.01 * np.log2(width)
    curves = {
        "train": {"accuracy": curve(rise * (best + 0.1)), "loss": curve(2 - rise)},
        "validation": {"accuracy": curve(rise * best), "loss": curve(2.5 - rise * best)},
    }
    return Run(f"run {i}", net, curves, seconds=(float(depth * width),) * 4, status="finished")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs, candidates, and a predictor of accuracy, seconds and loss."""
    path = tmp_path_factory.mktemp("exhaust")
    write_runs(path / "runs.jsonl", [synthetic_run(i) for i in range(16)])
    write_runs(path / "candidates.jsonl", [synthetic_run(i, metrics=False) for i in range(5)])
    names = ["validation/accuracy", "seconds", "validation/loss"]
    targets = [part for name in names for part in ("--target", name)]
    arguments = ["exhaust", "fit", str(path / "runs.jsonl"), *targets, *TINY]
    assert main([*arguments, "--out", str(path / "predictor")]) == 0
    return path


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


# ---- import -------------------------------------------------------------------------------------


def keras_folder(path):
    """Two runs of a folder each with a model beside the log, and a header that comes again."""
    for name, units in (("first", 4), ("second", 8)):
        (path / name).mkdir(parents=True)
        layers = [{"class_name": "Dense", "config": {"name": "d", "units": units}}]
        model = {"class_name": "Sequential", "config": {"layers": layers}}
        (path / name / "model.json").write_text(json.dumps(model))
        header = "epoch,accuracy,loss,val_accuracy,val_loss\n"
        again = header if name == "second" else ""
        rows = "0,0.5,1.0,0.4,1.2\n" + again + "1,0.75,0.5,nan,inf\n"
        (path / name / "log.csv").write_text(header + rows)


def test_import_keeps_everything_and_says_what_it_set_aside(tmp_path, capsys):
    logs = tmp_path / "logs"
    keras_folder(logs)
    good = json.dumps({"schema": 1, "run": "a", "architecture": {"layers": [{"type": "Odd"}]}})
    broken = '{"schema": 1, "run": "cut'
    (logs / "records.jsonl").write_text(f"{broken}\n{good}\n")
    (logs / "weights.bin").write_bytes(b"\0\1\2")
    (logs / ".hidden").write_text("?")
    out = logs / "runs.jsonl"  # in the folder: not a source of itself
    assert main(["exhaust", "import", str(logs), "--out", str(out), "--quiet"]) == 0
    assert main(["exhaust", "import", str(logs), "--out", str(out), "--json"]) == 0
    about = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert about["files"] == {"keras-log": 2, "keras-model": 2, "run-records": 1}
    assert (about["runs"], about["problems"]) == (3, 3)
    runs = {run.run: run for run in read_runs(out).runs}
    assert list(runs) == ["first/log.csv", "a", "second/log.csv"]
    assert runs["second/log.csv"].architecture == (Layer("Dense", {"units": 8}, "d"),)
    values = runs["first/log.csv"].metrics["validation"]
    assert math.isnan(values["accuracy"].values[1])
    assert values["loss"].values == (1.2, math.inf)
    accuracy = next(row for row in about["metrics"] if row["name"] == "validation/accuracy")
    assert (accuracy["runs"], accuracy["missing"], accuracy["not_finite"]) == (2, 1, 2)
    assert (accuracy["low"], accuracy["high"]) == (0.4, 0.4)
    assert about["unknown_layers"] == {"Odd": 1}
    assert about["without_architecture"] == 0
    side = map(json.loads, (logs / "runs.jsonl.problems.jsonl").read_text().splitlines())
    assert about["problems_file"] == str(logs / "runs.jsonl.problems.jsonl")
    places = {(entry["file"].rpartition("/")[2], entry["line"]): entry for entry in side}
    assert set(places) == {("records.jsonl", 1), ("weights.bin", 0), ("log.csv", 3)}
    assert places["records.jsonl", 1]["text"] == broken
    assert main(["exhaust", "import", str(logs), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "read 3 runs from: 2 keras-log" in text
    assert "3 problems, set aside in" in text
    assert "unknown layer types, kept as they are: Odd (1)" in text


def test_import_tables_text_and_models(tmp_path):
    columns = {"metrics": {"test/accuracy": "acc_{epoch}"}, "run": "id"}
    (tmp_path / "columns.json").write_text(json.dumps(columns))
    patterns = {
        "patterns": [r"epoch (?P<epoch>\d+) (?P<loss>\S+)"],
        "fields": {"loss": "train/loss"},
    }
    (tmp_path / "patterns.json").write_text(json.dumps(patterns))
    (tmp_path / "table.csv.gz").write_bytes(gzip.compress(b"id,acc_1,acc_2\na,50,60\nb,70,\n"))
    np.savez(tmp_path / "table.npz", id=["c"], acc_1=[80.0], acc_2=[90.0])
    (tmp_path / "x.log").write_text("hello\nepoch 1 0.5\n")
    layers = [{"class_name": "Dense", "config": {"units": 4}}]
    (tmp_path / "candidate.json").write_text(json.dumps({"config": {"layers": layers}}))
    sources = ["table.csv.gz", "table.npz", "x.log", "candidate.json"]
    arguments = ["exhaust", "import", *(str(tmp_path / name) for name in sources), "--quiet"]
    arguments += ["--columns", str(tmp_path / "columns.json"), "--percent"]
    arguments += ["--patterns", str(tmp_path / "patterns.json")]
    assert main([*arguments, "--out", str(tmp_path / "out.jsonl")]) == 0
    runs = {run.run: run for run in read_runs(tmp_path / "out.jsonl").runs}
    assert list(runs) == ["a", "b", "c", "x.log", "candidate.json"]
    assert runs["a"].metrics["test"]["accuracy"].values == (0.5, 0.6)
    assert runs["c"].metrics["test"]["accuracy"].values == (0.8, 0.9)
    assert runs["x.log"].metrics["train"]["loss"].values == (0.5,)
    assert runs["candidate.json"].architecture == (Layer("Dense", {"units": 4}),)
    assert not (tmp_path / "out.jsonl.problems.jsonl").exists()


def event(step, tag, value):
    """A TensorBoard record: an event of one scalar, all lengths below 128."""
    scalar = bytes([0x0A, len(tag)]) + tag.encode() + b"\x15" + struct.pack("<f", value)
    summary = bytes([0x0A, len(scalar)]) + scalar
    data = bytes([0x10, step, 0x2A, len(summary)]) + summary
    head = struct.pack("<Q", len(data))
    return head + struct.pack("<I", masked_crc(head)) + data + struct.pack("<I", masked_crc(data))


def test_import_event_files(tmp_path, capsys):
    for name in ("one", "two"):
        (tmp_path / "logs" / name).mkdir(parents=True)
        scalars = {"val_acc": 0.5, "Loss/train": 2.0, "lr": 0.1}
        events = [event(step, tag, x) for tag, x in scalars.items() for step in (1, 2)]
        (tmp_path / "logs" / name / "events.out.tfevents.1").write_bytes(b"".join(events))
    out = tmp_path / "out.jsonl"
    assert main(["exhaust", "import", str(tmp_path / "logs"), "--out", str(out)]) == 0
    assert "other fields, kept with the runs: scalars (2)" in capsys.readouterr().out
    one, two = read_runs(out).runs
    assert (one.run, two.run) == ("one", "two")
    assert one.metrics["validation"]["acc"] == curve([0.5, 0.5])
    (tmp_path / "tags.json").write_text('{"lr": "train/lr"}')
    told = ["--tags", str(tmp_path / "tags.json"), "--out", str(out), "--quiet"]
    assert main(["exhaust", "import", str(tmp_path / "logs" / "one"), *told]) == 0
    (one,) = read_runs(out).runs
    assert list(one.metrics) == ["train"]
    assert list(one.metrics["train"]) == ["lr"]


def test_layouts_and_tags():
    assert set(_LAYOUTS) == set(OPEN_LOGS)
    tags = ["train/epoch_loss", "val_acc", "Loss/test", "lr", "validation/x_vs_iterations"]
    assert _guessed_tags(tags) == {
        "train/epoch_loss": "train/loss",
        "val_acc": "validation/acc",
        "Loss/test": "test/Loss",
    }


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        (
            "t.csv",
            "id,acc_1\na,1\n",
            [],
            "t.csv: a table; say what its columns hold with",
        ),
        ("t.csv", "epoch,accuracy\n0,0.5\n1,93.5\n", [], "93.5 look like percent; say --percent"),
        ("t.log", "hello", [], "t.log: a text log; say what to look for with --patterns FILE"),
        ("t.pt", "\0\1", [], "t.pt: its kind is not recognised"),
        ("t.jsonl", "", [], "t.jsonl: no runs there"),
        ("t.jsonl", '{"run": 1}\n', [], "t.jsonl:1: schema: got None"),
        ("t.jsonl.gz", "no gzip", [], "Not a gzipped file"),
        ("t.json", '{"loss": [1.0, 0.', [], "t.json: not JSON"),
        ("t.json", "[" * 5000, [], "t.json: not JSON, or cut, or nested too deep"),
        ("t.csv", "id\na\n", ["--columns", "t.csv"], "t.csv: Expecting value"),
        ("t.csv", "id\na\n", ["--columns", "no.json"], "no.json: No such file"),
        ("t.csv", "id\na\n", ["--reader", "keras-log"], "t.csv: no runs there; "),
        ("t.csv", "id\na\n", ["--out", "t.csv"], "t.csv: is also an input"),
        ("t.csv", "id\na\n", ["--layout", "unknown"], "invalid choice: 'unknown'"),
        (
            "t.csv",
            "epoch,accuracy\n0,91.5\n1,101\n",
            ["--percent"],
            "t.csv: metrics.train.accuracy: run 't.csv': got 101 %, expected at most 100 %",
        ),
        ("t.jsonl", RECORD, ["--percent"], "--percent: run records are taken as they are"),
        ("t.jsonl", RECORD, ["--columns", "map.json"], "--columns: is for table, but the sources"),
        ("t.jsonl", RECORD, ["--patterns", "patterns.json"], "--patterns: is for text-log"),
        ("t.jsonl", RECORD, ["--tags", "tags.json"], "--tags: is for tensorboard, but the sources"),
        ("t.csv", "", ["--layout", "nats", "--columns", "map.json"], "--columns: --layout nats"),
        ("t.csv", "", ["--layout", "nats", "--reader", "table"], "--reader: --layout nats says"),
    ],
)
def test_bad_sources(tmp_path, monkeypatch, capsys, name, content, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "map.json").write_text('{"metrics": {"test/accuracy": "acc"}}')
    (tmp_path / "patterns.json").write_text(
        '{"patterns": ["(?P<x>a)"], "fields": {"x": "train/x"}}'
    )
    (tmp_path / "tags.json").write_text('{"lr": "train/lr"}')
    (tmp_path / name).write_text(content)
    assert main(["exhaust", "import", name, "--out", "out.jsonl", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.jsonl").exists()


def test_the_units_told_at_import_hold(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "map.json").write_text('{"metrics": {"validation/accuracy": "acc"}, "run": "run"}')
    (tmp_path / "tab.csv").write_text("run,acc\na,91.5\nb,88\nd,101\n")
    arguments = ["exhaust", "import", "tab.csv", "--columns", "map.json", "--out", "tab.jsonl"]
    assert main([*arguments, "--percent"]) == 2
    assert "run 'd': got 101 %" in capsys.readouterr().err
    assert main(arguments) == 2
    assert "say --percent" in capsys.readouterr().err
    assert main([*arguments, "--no-percent"]) == 0
    for given in ([], ["--no-percent"]):
        assert main(["report", "exhaust", "tab.jsonl", "--out", "r.html", *given]) == 0
    capsys.readouterr()
    # Tables beside the records are still asked about.
    both = ["tab.jsonl", "tab.csv", "--columns", "map.json"]
    assert main(["report", "exhaust", *both, "--out", "r.html"]) == 2
    assert "tab.csv: metrics.validation.accuracy: values up to 101" in capsys.readouterr().err
    assert main(["exhaust", "fit", "tab.jsonl", "--out", "predictor", *TINY]) == 2
    assert "expected at least 4 for 2" in capsys.readouterr().err


# ---- fit, predict, search -----------------------------------------------------------------------


def test_predict(folder, capsys):
    out = folder / "preds.csv"
    arguments = ["exhaust", "predict", str(folder / "predictor"), str(folder / "candidates.jsonl")]
    assert main([*arguments, "--epochs-seen", "0", "--out", str(out), "--json"]) == 0
    about = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    header, *rows = rows_of(out)
    assert header == ["target", "run", "mean", "low", "high"]
    assert [row[:2] for row in rows[4:6]] == [
        ["validation/accuracy", "candidate 4"],
        ["seconds", "candidate 0"],
    ]
    assert len(rows) == 15
    for _, _, mean, low, high in rows:
        assert float(low) < float(mean) < float(high)
    assert about["targets"]["seconds"]["low"] > 0
    again = folder / "again.csv"
    assert main([*arguments, "--out", str(again), "--quiet"]) == 0
    assert again.read_bytes() == out.read_bytes()


def test_search(folder, capsys):
    arguments = ["exhaust", "search", str(folder / "predictor"), str(folder / "candidates.jsonl")]
    out = folder / "choice.csv"
    assert main([*arguments, "--top", "2", "--out", str(out), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert (about["target"], about["goal"], about["in_time"]) == ("validation/accuracy", "max", 5)
    chosen = about["chosen"]
    assert chosen[0]["mean"] >= chosen[1]["mean"]
    assert rows_of(out)[0] == ["run", "mean", "low", "high", "seconds"]
    assert [row[0] for row in rows_of(out)[1:]] == [row["run"] for row in chosen]
    # With all candidates on the list, the limit leaves out those that take longer.
    assert main([*arguments, "--top", "5", "--json"]) == 0
    times = sorted(row["seconds"] for row in json.loads(capsys.readouterr().out)["chosen"])
    limit = (times[1] + times[2]) / 2
    arguments += ["--max-seconds", str(limit)]
    assert main([*arguments, "--target", "validation/loss", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert (about["goal"], about["in_time"]) == ("min", 2)
    assert [row["mean"] for row in about["chosen"]] == sorted(
        row["mean"] for row in about["chosen"]
    )
    assert all(row["seconds"] <= limit for row in about["chosen"])
    assert main([*arguments[:-1], "1e-9"]) == 0
    assert "no candidate fits" in capsys.readouterr().out


def test_one_target(folder, capsys):
    predictor = load_predictor(folder / "predictor")
    one = folder / "one"
    judged = type(predictor.judged)(*(x[:1] for x in predictor.judged))
    save_predictor(one, predictor._replace(num_targets=1, judged=judged))
    write_runs(folder / "broken.jsonl", [synthetic_run(i, metrics=False) for i in range(5)])
    with (folder / "broken.jsonl").open("a") as file:
        file.write("{\n")
    out = folder / "one.csv"
    assert (
        main(["exhaust", "predict", str(one), str(folder / "broken.jsonl"), "--out", str(out)]) == 0
    )
    header, *rows = rows_of(out)
    assert header == ["run", "mean", "low", "high"]
    assert [row[0] for row in rows] == [f"candidate {i}" for i in range(5)]
    assert "broken.jsonl:6: not JSON" in capsys.readouterr().out
    candidates = str(folder / "candidates.jsonl")
    assert main(["exhaust", "search", str(one), candidates, "--max-seconds", "9"]) == 2
    assert "fit it with --target seconds too" in capsys.readouterr().err


@pytest.mark.slow
def test_first_epochs(folder, capsys):
    arguments = ["exhaust", "fit", str(folder / "runs.jsonl"), "--epochs-seen", "2", "--seed", "1"]
    after = folder / "after_2"
    assert main([*arguments, "--out", str(after), *TINY[:-1]]) == 0
    text = capsys.readouterr().out
    assert "target validation/accuracy: 16 runs have it" in text
    assert "fitted 2 networks for 20 steps (first 2 epochs)" in text
    arguments = ["exhaust", "predict", str(after), "--out", str(folder / "after.csv")]
    sources = [str(folder / "runs.jsonl"), str(folder / "candidates.jsonl")]
    assert main([*arguments, *sources]) == 0
    assert len(rows_of(folder / "after.csv")) == 22
    assert "5 candidates have fewer than 2 epochs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "runs.jsonl", "--target", "test/f1", "--out", "new"], "the runs have train/accur"),
        (["fit", "runs.jsonl", "--target", "best", "--out", "new"], "got target 'best'"),
        (["fit", "runs.jsonl", "--members", "9", "--out", "new"], "expected at least 18 for 9"),
        (["fit", "runs.jsonl", "--members", "1", "--out", "new"], "got 1 members"),
        (["fit", "runs.jsonl", "--epochs-seen", "-1", "--out", "new"], "--epochs-seen: got -1"),
        (["fit", "candidates.jsonl", "--out", "new"], "the runs have no metrics"),
        (["fit", "runs.jsonl", "--held-out", "test", "--out", "new"], "--held-out: is for targets"),
        (
            ["fit", "runs.jsonl", "--held-out=test", "--target=overfitting/loss", "--out", "new"],
            "--target overfitting/loss: no run has it",
        ),
        (["fit", "runs.jsonl", "--out", "."], "holds other files and no predictor"),
        (["fit", "runs.jsonl", "--out", "runs.jsonl"], "is a file, expected a folder"),
        (["predict", "none", "runs.jsonl", "--out", "p.csv"], "none/predictor.json: no predictor"),
        (["predict", "predictor", "none", "--out", "p.csv"], "none: No such file"),
        (["predict", "predictor", "x", "--out", "p.csv", "--epochs-seen", "3"], "fitted for 0"),
        (["predict", "predictor", "runs.jsonl", "--out", "runs.jsonl"], "is also an input"),
        (["search", "predictor", "runs.jsonl", "--max-seconds", "nan"], "--max-seconds: got nan"),
        (["search", "predictor", "runs.jsonl", "--top", "0"], "--top: got 0"),
        (["search", "predictor", "runs.jsonl", "--target", "x/y"], "it was fitted for validation"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_bad_input(folder, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(folder)
    assert main(["exhaust", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
