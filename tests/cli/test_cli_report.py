"""`metal-jax report`: what it writes, and what it says about bad input."""

import json

import numpy as np
import pytest

from metal_jax.cli import _report, main
from metal_jax.datasets import load_fashion_runs
from metal_jax.exhaust import write_runs
from metal_jax.task_tree import TaskTree, write_json

TREE = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
N = 40
VOTES = ("report", "votes", "votes.npz", "--tree", "tree.json", "--method", "dawid_skene")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Votes, texts, gold labels, and recorded runs with predictions."""
    folder = tmp_path_factory.mktemp("report")
    random = np.random.default_rng(0)
    gold = random.choice(TREE.leaf_nodes, N)
    votes = np.where(random.random((N, 4)) < 0.8, gold[:, None], TREE.leaf_nodes[0])
    votes[random.random(votes.shape) < 0.3] = -1
    write_json(TREE, folder / "tree.json")
    np.savez(folder / "votes.npz", L=votes, lf_names=[f"lf {j}" for j in range(4)])
    np.savez(folder / "gold.npz", Y=gold)
    np.savez(folder / "x.npz", x=random.normal(size=(N, 2)) + gold[:, None])
    lines = [json.dumps({"text": f"text {i} of <b>"}) for i in range(N)]
    (folder / "texts.jsonl").write_text("\n".join(lines) + "\n")
    triples = [
        f"i{i},lf {j},{v}" for i, row in enumerate(votes) for j, v in enumerate(row) if v > 0
    ]
    (folder / "votes.csv").write_text("item,worker,label\n" + "\n".join(triples) + "\n")
    runs = load_fashion_runs()[:12]
    write_runs(folder / "runs.jsonl", runs)
    rows = [f"{run.run},{0.5 + 0.01 * i},0.4,0.9" for i, run in enumerate(runs)]
    (folder / "preds.csv").write_text("run,mean,low,high\n" + "\n".join(rows) + "\n")
    return folder


@pytest.fixture
def folder(data, monkeypatch):
    monkeypatch.chdir(data)
    return data


def run_json(capsys, *arguments):
    status = main([*arguments, "--out", "report.html", "--json"])
    captured = capsys.readouterr()
    assert (status, captured.err) == (0, "")
    return json.loads(captured.out)


def test_votes_with_everything(folder, capsys):
    with_all = (*VOTES, "--gold", "gold.npz", "--texts", "texts.jsonl", "--title", "<Mine>")
    with_all = (*with_all, "--no-leave-one-out", "--no-dependencies", "--num-next", "2")
    about = run_json(capsys, *with_all, "--max-items", "10")
    assert about["sections"][-3:] == ["Against gold", "Items to look at next", "Items"]
    text = (folder / "report.html").read_text()
    assert about["bytes"] == len(text.encode())
    assert "<h1>&lt;Mine&gt;</h1>" in text
    assert "of \\u003cb\\u003e" in text
    assert "lf 3" in text
    assert "10 of 40 items, evenly spaced" in text
    assert main([*with_all, "--max-items", "10", "--out", "again.html"]) == 0
    assert "open it in a browser" in capsys.readouterr().out
    assert (folder / "again.html").read_text() == text


def test_replicates_are_kept_until_the_report_is_written(folder, capsys, monkeypatch):
    whole = _report.fit
    fits = []

    def counted(*arguments, **options):
        fits.append("item_weights" in options)
        if sum(fits) == 3:
            raise KeyboardInterrupt
        return whole(*arguments, **options)

    monkeypatch.setattr(_report, "fit", counted)
    arguments = (*VOTES, "--bootstrap", "3", "--no-leave-one-out", "--no-dependencies")
    assert main([*arguments, "--out", "kept.html"]) == 130
    assert "kept in kept.html.partial: run the same command again" in capsys.readouterr().err
    assert len(list((folder / "kept.html.partial").glob("*.npz"))) == 2
    monkeypatch.setattr(_report, "fit", whole)
    assert main([*arguments, "--out", "kept.html"]) == 0
    assert not (folder / "kept.html.partial").exists()
    assert main([*arguments, "--out", "at_once.html"]) == 0
    assert (folder / "kept.html").read_bytes() == (folder / "at_once.html").read_bytes()


@pytest.mark.slow
def test_votes_of_a_newcomer(folder, capsys):
    about = run_json(
        capsys, "report", "votes", "votes.csv", "--method", "one_coin", "--bootstrap", "3"
    )
    assert (about["items"], about["lfs"]) == (N, 4)
    text = (folder / "report.html").read_text()
    assert "interval of the bootstrap" in text
    assert "<h1>votes.csv</h1>" in text


@pytest.mark.slow
def test_a_network(folder, capsys):
    train = ("--features", "x.npz", "--tree", "tree.json", "--method", "majority", "--widths", "4")
    steps = ("--steps", "20", "--evaluate-every", "8", "--batch-size", "8", "--quiet")
    assert main(["train", "--votes", "votes.npz", *train, *steps, "--out", "model"]) == 0
    judged = ("x.npz", "--gold", "gold.npz", "--votes", "votes.npz")
    about = run_json(capsys, "report", "network", "model", *judged)
    assert {"Against gold", "Mistakes by vote", "Items"} < set(about["sections"])


def test_runs_with_predictions(folder, capsys):
    about = run_json(capsys, "report", "exhaust", "runs.jsonl")
    assert about["sections"] == ["Overview", "Learning curves", "Runs"]
    about = run_json(capsys, "report", "exhaust", "runs.jsonl", "--predictions", "preds.csv")
    assert about["sections"] == [
        "Overview",
        "Learning curves",
        "Predicted against true",
        "Search",
        "Runs",
    ]


def test_pictures(folder, capsys):
    pytest.importorskip("matplotlib")
    about = run_json(capsys, "report", "exhaust", "runs.jsonl", "--png", "pictures")
    assert about["png"] == sorted(str(p.relative_to(folder)) for p in folder.glob("pictures/*"))
    assert len(about["png"]) == 6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*VOTES, "--bootstrap", "1"), "--bootstrap: got 1"),
        ((*VOTES[:-1], "overlap", "--bootstrap", "5"), "method 'overlap' takes no weights"),
        ((*VOTES, "--max-items", "0"), "--max-items: got 0"),
        ((*VOTES, "--texts", "x.npz"), "x.npz: holds features, expected lines of JSON"),
        ((*VOTES, "--png", "votes.npz"), "votes.npz: is a file, expected a folder"),
        (("report", "votes", "none.npz"), "none.npz: No such file"),
        (("report", "network", "no", "--gold", "gold.npz"), "--gold and --votes: say of which"),
        (("report", "network", "no", "x.npz", "--votes", "votes.npz"), "takes --gold"),
        (("report", "exhaust", "runs.jsonl", "--max-seconds", "3"), "a search takes --predictor"),
        (("report", "exhaust", "runs.jsonl", "--top", "3"), "--top: a search takes --predictor"),
        (("report", "exhaust", "runs.jsonl", "--goal", "min"), "--goal: a search takes --pred"),
        (("report", "exhaust", "runs.jsonl", "--top", "0"), "--top: got 0"),
        (
            ("report", "exhaust", "runs.jsonl", "--predictions", "preds.csv", "--max-seconds", "3"),
            "fit with --target seconds too",
        ),
        (
            ("report", "exhaust", "runs.jsonl", "--predictions", "votes.csv"),
            "votes.csv: line 2: expected run, mean, low and high",
        ),
        (("report",), "required: COMMAND"),
    ],
)
def test_bad_input_is_one_line(folder, capsys, arguments, said):
    assert main([*arguments, *(["--out", "bad.html"] if len(arguments) > 1 else [])]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert not (folder / "bad.html").exists()


@pytest.mark.parametrize("column", ["mean", "low", "high"])
@pytest.mark.parametrize("cell", ["nan", "inf", "", "much"])
def test_a_prediction_that_is_no_number_is_named(folder, capsys, column, cell):
    header, first, *rest = (line.split(",") for line in (folder / "preds.csv").read_text().split())
    first[header.index(column)] = cell
    (folder / "odd.csv").write_text("\n".join(map(",".join, [header, *rest, first])) + "\n")
    arguments = ["report", "exhaust", "runs.jsonl", "--predictions", "odd.csv"]
    assert main([*arguments, "--out", "bad.html"]) == 2
    said = f"odd.csv: line 13: {column}: got {cell!r}, expected a finite number"
    assert said in capsys.readouterr().err
    assert not (folder / "bad.html").exists()


@pytest.mark.parametrize("command", [("report", "network"), ("report", "votes"), ("evaluate",)])
def test_help_on_votes_names_only_options_that_are_there(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"])
    text = capsys.readouterr().out
    assert "MeTaL's list of a matrix for each task" in text
    assert ("needs --tree" in text) == ("--tree FILE" in text)


def test_the_output_is_no_input(folder, capsys):
    assert main([*VOTES, "--out", "votes.npz"]) == 2
    assert "votes.npz: is also an input" in capsys.readouterr().err
