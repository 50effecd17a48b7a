import gzip
import io
import json
import math
import tarfile

import numpy as np
import pytest

from metal_jax.exhaust import (
    Columns,
    LogPatterns,
    read_keras_logs,
    read_log_patterns,
    read_table,
    read_text_logs,
)

WIDE = Columns(
    {"validation/accuracy": "acc_{epoch}"},
    run="id",
    architecture="net",
    notation="layer_string",
    num_params="params",
)


def written(path, text):
    path.write_text(text)
    return path


def test_wide_csv_keeps_what_it_can_and_reports_the_rest(tmp_path):
    path = written(
        tmp_path / "table.csv",
        "id,net,params,acc_1,acc_2,note\n"
        'a,"C(8,3,1), SM(10)",10,0.1,0.5,hello\n'
        'b,"C(8,3,1)",10,0.2,,\n'  # stopped after one epoch
        "id,net,params,acc_1,acc_2,note\n"
        'c,"C(8,3",10,0.2,0.3,\n'
        'd,"C(8,3,1)",x,nan,inf,\n'
        'e,"C(8,3,1),10,0.2,0.3,\n'  # the quote never closes
        'f,"C(8,3,1)",10,0.2,0.3,\n'
        'a,"C(8,3,1), SM(10)",10,0.1,0.5,hello\n'
        'g,"C(8,3,1)",10,0.2',
    )
    reading = read_table(path, WIDE)
    assert [run.run for run in reading.runs] == ["a", "b", "d", "f"]
    assert reading.runs[0].extra == {"note": "hello"}
    assert reading.runs[0].num_params == 10
    assert reading.runs[1].metrics["validation"]["accuracy"].values == (0.2,)
    diverged = reading.runs[2].metrics["validation"]["accuracy"].values
    assert math.isnan(diverged[0])
    assert diverged[1] == math.inf
    assert [(p.line, p.field) for p in reading.problems] == [
        (4, ""),
        (5, "net"),
        (6, "params"),
        (7, ""),
        (10, ""),
        (9, "run"),
    ]
    assert reading.problems[4].text == 'g,"C(8,3,1)",10,0.2'


def test_percent_is_asked(tmp_path):
    path = written(tmp_path / "t.csv", "id,net,params,acc_1\na,SM(1),1,93.5\nb,SM(1),1,0.5\n")
    asked = read_table(path, WIDE)
    assert "percent" in asked.problems[0].reason
    assert asked.runs[0].metrics["validation"]["accuracy"].values == (93.5,)
    divided = read_table(path, WIDE, percent=True)
    assert divided.problems == ()
    assert divided.runs[0].metrics["validation"]["accuracy"].values == (0.935,)
    assert read_table(path, WIDE, percent=False) == (asked.runs, ())


def test_more_than_100_percent_is_reported_with_its_row(tmp_path):
    path = written(
        tmp_path / "t.csv", "id,net,params,acc_1\na,SM(1),1,100\nb,SM(1),1,101\nc,SM(1),1,inf\n"
    )
    reading = read_table(path, WIDE, percent=True)
    curves = [run.metrics["validation"]["accuracy"].values for run in reading.runs]
    assert curves == [(1.0,), (1.01,), (math.inf,)]
    (problem,) = reading.problems
    assert (problem.line, problem.field) == (3, "metrics.validation.accuracy")
    assert problem.reason == "run 'b': got 101 %, expected at most 100 %"


def test_a_missing_column_is_reported(tmp_path):
    path = written(tmp_path / "t.csv", "id,net,acc_1\na,SM(1),0.5\n")
    reading = read_table(path, WIDE)
    assert len(reading.runs) == 1
    assert [p.field for p in reading.problems] == ["params"]


def test_rows_that_are_epochs(tmp_path):
    path = written(
        tmp_path / "t.csv",
        "id,epoch,loss,host,beat\n"
        "a,0,3,x,1\nb,0,5,y,1\na,1,2,x,2\na,1,9,x,2\nb,1,oops,y,2\na,seven,1,x,3\nb,2,4,y,3\n",
    )
    columns = Columns({"train/loss": "loss"}, run="id", epoch="epoch", first_epoch=0)
    a, b = read_table(path, columns).runs
    assert a.metrics["train"]["loss"].values == (3, 2)
    assert a.extra == {"host": "x", "beat": ["1", "2"]}
    assert b.metrics["train"]["loss"].epochs == (1, 2, 3)
    assert math.isnan(b.metrics["train"]["loss"].values[1])
    problems = read_table(path, columns).problems
    assert [(p.line, p.field) for p in problems] == [(5, "epoch"), (6, "loss"), (7, "epoch")]


def test_json_tables_and_arrays(tmp_path):
    rows = [{"id": i, "net": "SM(10)", "loss": [2.0, 1.0][: i + 1], "t": 3} for i in range(2)]
    columns = Columns(
        {"train/loss": "loss"}, "id", architecture="net", notation="layer_string", total_seconds="t"
    )
    whole = written(tmp_path / "t.json", json.dumps([*rows, 3]))
    reading = read_table(whole, columns)
    assert [len(run.metrics["train"]["loss"].values) for run in reading.runs] == [1, 2]
    assert reading.problems[0].field == "[2]"
    lines = tmp_path / "t.jsonl.gz"
    lines.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    assert [run.run for run in read_table(lines, columns).runs] == ["0", "1"]
    arrays = tmp_path / "t.npz"
    np.savez(
        arrays,
        id=np.arange(2),
        net=np.array(["SM(10)"] * 2),
        loss=np.ones((2, 3), np.float32),
        t=np.ones(2),
        schedule=np.ones(5),
    )
    reading = read_table(arrays, columns)
    assert reading.runs[1].metrics["train"]["loss"].values == (1, 1, 1)
    assert reading.runs[1].total_seconds == 1
    assert [p.field for p in reading.problems] == ["schedule"]


def test_pickles_are_refused(tmp_path):
    path = tmp_path / "t.npz"
    np.savez(path, id=np.array([{"a": 1}], object), allow_pickle=True)
    reading = read_table(path, Columns({}))
    assert reading.runs == ()
    assert len(reading.problems) == 1


@pytest.mark.parametrize("name", ["t.csv", "t.json", "t.jsonl", "t.npz", "t.tsv", "t.csv.gz"])
@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"\x00\xff\xfe" * 99, b'"' * 999, b"[" * 99_999, b"a,a\n1,2\n", b'{"a":', b"3"],
)
def test_junk_is_no_run_and_no_crash(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    reading = read_table(path, Columns({"train/loss": "loss"}, run="id"))
    assert reading.runs == ()
    assert reading.problems or not content.strip() or b"\x00" in content


@pytest.mark.slow
def test_a_line_of_50_megabytes(tmp_path):
    path = tmp_path / "t.csv"
    huge = "x" * 50_000_000
    path.write_text(f"id,net,params,acc_1\n{huge}\na,SM(1),1,0.5\nb,{huge},1,0.5\n")
    reading = read_table(path, WIDE)
    assert [run.run for run in reading.runs] == ["a"]
    assert [(p.line, len(p.text)) for p in reading.problems] == [(2, 50_000_000), (4, 50_000_008)]


def test_columns_are_checked_at_once():
    for bad in ({"accuracy": "a"}, {"dev/accuracy": "a"}, {"train/": "a"}):
        with pytest.raises(ValueError, match="role/name"):
            Columns(bad)
    with pytest.raises(ValueError, match="notation"):
        Columns({}, notation="morse")
    with pytest.raises(ValueError, match="status"):
        Columns({}, statuses={"OK": "fine"})


def test_status(tmp_path):
    path = written(tmp_path / "t.csv", "id,s\na,OK\nb,eh\n")
    columns = Columns({}, "id", status="s", statuses={"OK": "finished"})
    reading = read_table(path, columns)
    assert [run.status for run in reading.runs] == ["finished", None]
    assert reading.runs[1].extra == {"s": "eh"}
    assert reading.problems[0].line == 3


def test_keras_csv_logger(tmp_path):
    path = written(
        tmp_path / "fit.csv",
        "epoch,accuracy,loss,val_accuracy,val_loss\n0,0.1,2,0.2,2.1\n1,0.3,1,0.2,nan\n"
        "epoch,accuracy,loss,val_accuracy,val_loss\n0,0.1,3,0.2,2.2\n1,0.3,1",
    )
    reading = read_keras_logs(path)
    assert [run.run for run in reading.runs] == ["fit.csv", "fit.csv#2"]
    first = reading.runs[0].metrics
    assert first["train"]["loss"].values == (2, 1)
    assert first["validation"]["accuracy"].values == (0.2, 0.2)
    assert [p.line for p in reading.problems] == [4, 6, 5]


def test_keras_history(tmp_path):
    written(tmp_path / "a.json", json.dumps({"loss": [2, 1], "val_loss": [3, 2]}))
    written(tmp_path / "b.json", json.dumps({"history": {"loss": [2]}, "params": {"epochs": 1}}))
    written(tmp_path / "c.json", '{"loss": [2, NaN]}')
    written(tmp_path / "d.json", '{"loss": [2, ')
    reading = read_keras_logs(tmp_path)
    assert [run.run for run in reading.runs] == ["a.json", "b.json", "c.json"]
    assert reading.runs[0].metrics["validation"]["loss"].values == (3, 2)
    assert math.isnan(reading.runs[2].metrics["train"]["loss"].values[1])
    assert len(reading.problems) == 1


LOG = """starting up
net C(8,3,1) SM(10)
10:00:00 epoch 0
10:00:07 loss 2.5 acc 0.25
10:00:08 epoch 1
chatter
10:00:18 loss oops acc 0.5
10:00:19 epoch 2
10:00:30 loss 1.5
"""
PATTERNS = {
    "patterns": [
        r"^net (?P<architecture>.*)",
        r"^(?P<epoch_start>\S+) epoch (?P<epoch>\d+)",
        r"^(?P<epoch_end>\S+) loss (?P<loss>\S+)",
        r"acc (?P<acc>\S+)",
    ],
    "fields": {"loss": "train/loss", "acc": "test/accuracy"},
    "first_epoch": 0,
    "time_format": "%H:%M:%S",
    "notation": "layer_string",
}


def test_text_logs(tmp_path):
    patterns = read_log_patterns(written(tmp_path / "patterns.json", json.dumps(PATTERNS)))
    reading = read_text_logs(written(tmp_path / "a.log", LOG), patterns)
    (run,) = reading.runs
    assert run.run == "a.log"
    assert run.architecture is not None
    assert run.seconds == (7, 10, 11)
    assert run.metrics["train"]["loss"].epochs == (1, 3)
    assert run.metrics["test"]["accuracy"].values == (0.25, 0.5)
    assert [(p.line, p.field) for p in reading.problems] == [
        (7, "train/loss"),
        (1, "train/loss"),
        (1, "test/accuracy"),
    ]


@pytest.mark.parametrize("epoch", ["1000001", "1" * 400])
def test_an_epoch_far_too_late_is_a_problem(tmp_path, epoch):
    patterns = read_log_patterns(written(tmp_path / "patterns.json", json.dumps(PATTERNS)))
    path = written(tmp_path / "a.log", LOG.replace("epoch 2", f"epoch {epoch}"))
    reading = read_text_logs(path, patterns)
    assert [run.run for run in reading.runs] == ["a.log"]
    (seconds,) = [p for p in reading.problems if p.field == "seconds"]
    assert "expected at most 1,000,000" in seconds.reason


def test_text_logs_with_many_runs_and_archives(tmp_path):
    patterns = LogPatterns(
        [r"run (?P<run>\w+)", r"epoch (?P<epoch>\d+) loss (?P<loss>\S+)"], {"loss": "train/loss"}
    )
    log = b"run a\nepoch 1 loss 2\nrun b\nepoch 1 loss 3\nepoch 2 loss 1\nepoch 2 loss 7\n"
    path = tmp_path / "logs.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, data in (("../../x.log", log), ("y.log", b"nothing here\n")):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    reading = read_text_logs(path, patterns)
    assert [(r.run, r.metrics["train"]["loss"].values) for r in reading.runs] == [
        ("a", (2,)),
        ("b", (3, 1)),
    ]
    assert [p.line for p in reading.problems] == [6, 0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["logs.tar.gz"]


def test_pattern_files_are_checked(tmp_path):
    for bad in (
        {"patterns": ["("]},
        {"patterns": [], "fields": {"x": "train/loss"}},
        {"patterns": [], "colour": 1},
        {"patterns": [], "notation": "morse"},
    ):
        path = written(tmp_path / "p.json", json.dumps(bad))
        with pytest.raises(ValueError, match=r"p\.json"):
            read_log_patterns(path)
