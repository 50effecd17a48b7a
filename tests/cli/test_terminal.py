"""Progress on a terminal, and Ctrl-C: what is done is kept, and the same command goes on."""

import io
import json
import re

import numpy as np
import pytest
import terminal
from rich.console import Console
from rich.progress import Progress

from metal_jax.cli._apply import errors_text
from metal_jax.cli._progress import Say, rate_text
from metal_jax.datasets import load_fashion_runs
from metal_jax.exhaust import write_runs
from metal_jax.task_tree import TaskTree, write_json

LFS = """
import time
from metal_jax.labeling import keyword_lf, labeling_function

goal = keyword_lf("goal", "topic", "sport", ["goal"])

@labeling_function(task="topic")
def slow(item):
    time.sleep(PAUSE)
    return "trade"
"""
APPLY = ("apply", "lfs.py", "texts.jsonl", "--tree", "tree.json", "--out", "votes.npz")
NUM_ITEMS = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("terminal")
    write_json(TaskTree.single(["sport", "trade"], name="topic"), path / "tree.json")
    lines = [json.dumps({"text": f"item {i} " + "goal" * (i % 2)}) for i in range(NUM_ITEMS)]
    (path / "texts.jsonl").write_text("\n".join(lines) + "\n")
    (path / "lfs.py").write_text(LFS.replace("PAUSE", "0.01"))
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=500)
    votes = np.where(rng.random((500, 6)) < 0.8, truth[:, None], 1 - truth[:, None])
    votes[rng.random(votes.shape) < 0.3] = -1
    np.savez(path / "small.npz", L=votes)
    np.savez(path / "x.npz", x=rng.normal(size=(500, 3)) + truth[:, None])
    return path


@pytest.mark.parametrize(
    ("gained", "seconds", "total", "done", "text"),
    [
        (0, 0.0, 10, 0, ""),
        (50, 1.0, 100, 50, "50 items/s, 0:01 left"),
        (100, 10.0, 1000, 400, "10 items/s, 1:00 left"),
        (1, 100.0, 100, 1, "0.01 items/s, 2:45:00 left"),
        (5000, 1.0, None, 5000, "5,000 items/s"),
    ],
)
def test_rate_and_time_left(gained, seconds, total, done, text):
    assert rate_text(gained, seconds, total, done, "items") == text


def test_apply_shows_its_rate_is_interrupted_and_goes_on(folder):
    shown = terminal.on_terminal(folder, *APPLY, press_when=r"1\d\d/400, \d+ items/s, 0:0\d left")
    assert shown.status == 130
    assert "running the LFs" in shown.screen
    assert terminal.COLOUR.search(shown.raw)
    assert shown.out == ""
    assert "interrupted after" in shown.last_line
    assert "in votes.npz.partial: run the same command again" in shown.last_line
    assert not (folder / "votes.npz").exists()
    kept = sorted((folder / "votes.npz.partial").rglob("*.npz"))
    assert kept
    # In a pipe nothing is drawn; what was kept is not done again; the rest is cleared away.
    again = terminal.in_pipe(folder, *APPLY, "--json")
    assert (again.status, again.raw) == (0, "")
    about = json.loads(again.out)
    assert about["cached_calls"] >= 16 * len(kept) // 2
    assert about["cached_calls"] + about["calls"] == 2 * NUM_ITEMS
    assert not (folder / "votes.npz.partial").exists()
    votes = np.load(folder / "votes.npz")["L"]
    np.testing.assert_array_equal(votes, [[-(i % 2 == 0), 1] for i in range(NUM_ITEMS)])


def test_apply_names_the_lfs_with_errors_on_a_narrow_terminal(folder):
    lines = [f'''
@labeling_function(task="topic")
def {name}(item):
    time.sleep(0.004)
    return "sport" if int(item["text"].split()[1]) % {share} else item["missing"]
''' for name, share in (("a_rather_long_name_of_an_lf", 50), ("another", 3))]  # fmt: skip
    (folder / "failing.py").write_text(LFS.replace("PAUSE", "0") + "".join(lines))
    arguments = ("apply", "failing.py", "texts.jsonl", "--tree", "tree.json", "--out", "f.npz",
                 "--on-error", "abstain")  # fmt: skip
    pattern = r"[23]\d\d/400, \d+ items/s[^\r\n]*\s+errors: another \d\d, a_rather_[^,\r\n]* \d"
    shown = terminal.on_terminal(folder, *arguments, press_when=pattern, COLUMNS="60")
    assert shown.status == 130
    assert "running the LFs 0:00:0" in shown.screen
    # What was kept costs nothing, so the first rate that is shown is that of the items after it.
    again = terminal.on_terminal(folder, *arguments, COLUMNS="80")
    assert again.status == 0
    rates = re.findall(r"([\d,]+) items/s", again.screen)
    assert rates
    assert max(int(rate.replace(",", "")) for rate in rates) < 400


def test_errors_of_many_lfs():
    assert errors_text({}) == ""
    assert errors_text({"goal": 2, "another": 1131}) == "errors: another 1,131, goal 2"
    many = {"a" * 30: 5, "b": 4, "c": 3, "d": 2, "e": 1}
    assert errors_text(many) == f"errors: {'a' * 23}… 5, b 4, c 3, 2 other LFs 3"


def test_no_colour_and_quiet(folder):
    plain = terminal.on_terminal(folder, *APPLY, NO_COLOR="1")
    assert plain.status == 0
    assert "items/s" in plain.screen
    assert not terminal.COLOUR.search(plain.raw)
    quiet = terminal.on_terminal(folder, "label", "small.npz", "--method", "majority",
                                 "--out", "p.npz", "--quiet")  # fmt: skip
    assert (quiet.status, quiet.raw, quiet.out) == (0, "", "")


def test_parts_of_a_whole_have_one_rate(monkeypatch):
    shown = []
    now = iter([10.0, 20.0, 40.0, 50.0])
    monkeypatch.setattr("metal_jax.cli._progress.time.monotonic", lambda: next(now))
    with Progress(console=Console(file=io.StringIO())) as bar:
        say = Say(bar)
        for done, name in enumerate(["words: reading", "words: one", "words: two", "news: one"]):
            say.part(name, done % 3, 6)
            task = bar.tasks[0]
            shown.append(f"{task.description}: {task.fields['rate']}")
    assert shown == [
        "words: 0/6, reading",
        "words: 1/6, 0.1 steps/s, 0:50 left, one",
        "words: 2/6, 0.067 steps/s, 1:00 left, two",
        "news: 0/6, one",
    ]


@pytest.mark.slow
def test_label_leaves_nothing_half_written(folder):
    arguments = ("label", "small.npz", "--method", "mace", "--out", "mace.npz")
    shown = terminal.on_terminal(folder, *arguments, press_when="fitting the label model")
    assert shown.status == 130
    assert shown.last_line == "metal-jax: interrupted; nothing was written"
    assert not list(folder.glob("mace.npz*"))
    assert terminal.in_pipe(folder, *arguments).status == 0


@pytest.mark.parametrize("when", [r"running the LFs", r"\d+ items/s"])
def test_workers_end_without_a_word(folder, when):
    """While they start, and while they work."""
    arguments = [*APPLY[:-1], "two.npz", "--workers", "2"]
    shown = terminal.on_terminal(folder, *arguments, press_when=when)
    assert shown.status == 130
    assert "Traceback" not in shown.raw
    assert "KeyboardInterrupt" not in shown.raw
    assert "interrupted" in shown.last_line
    again = terminal.in_pipe(folder, *arguments, "--json")
    assert (again.status, again.raw) == (0, "")


@pytest.mark.slow
def test_a_stream_of_votes_goes_on(folder):
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=3_000_000)
    others = rng.integers(3, size=(len(truth), 8))
    votes = np.where(rng.random(others.shape) < 0.6, truth[:, None], others).astype(np.int8)
    votes[rng.random(votes.shape) < 0.5] = -1
    np.save(folder / "large.npy", votes)
    arguments = ("label", "large.npy", "--stream", "--num-classes", "3")
    pattern = r"(EM|annotators|pass|labelling)[^\r]*items/s"
    shown = terminal.on_terminal(folder, *arguments, "--out", "stopped", press_when=pattern)
    assert shown.status == 130
    assert "what is done is kept in stopped: run the same command again" in shown.last_line
    assert (folder / "stopped" / "fit.npz").exists()
    for out in ("stopped", "whole"):
        again = terminal.in_pipe(folder, *arguments, "--out", out, "--json")
        assert again.status == 0, again.raw
        about = json.loads(again.out)
        assert about["converged"]
    parts = [sorted((folder / out / "labels").glob("*.npy")) for out in ("stopped", "whole")]
    for one, other in zip(*parts, strict=True):
        assert one.read_bytes() == other.read_bytes()
    balance = np.load(folder / "whole" / "model.npz")["class_balance"]
    np.testing.assert_allclose(balance, 1 / 3, atol=0.02)


@pytest.mark.slow
def test_train_goes_on_to_the_same_model(folder):
    arguments = ("train", "--votes", "small.npz", "--features", "x.npz", "--method", "majority",
                 "--steps", "3000", "--patience", "0", "--widths", "8")  # fmt: skip
    pattern = r"steps/s, 0:\d\d left, held-out loss"
    shown = terminal.on_terminal(folder, *arguments, "--out", "stopped_net", press_when=pattern)
    assert shown.status == 130
    assert "run the same command again, and it goes on from there" in shown.last_line
    again = terminal.in_pipe(folder, *arguments, "--out", "stopped_net", "--json")
    assert (again.status, again.raw) == (0, "")
    about = json.loads(again.out)
    assert 0 < about["resumed_at"] < about["num_steps"] == 3000
    whole = terminal.in_pipe(folder, *arguments, "--out", "whole_net", "--json")
    assert json.loads(whole.out)["held_out_loss"] == about["held_out_loss"]


@pytest.mark.slow
def test_import_goes_on_to_the_same_bytes(folder):
    logs = folder / "logs"
    logs.mkdir()
    rng = np.random.default_rng(0)
    for i in range(1500):
        best = rng.uniform(0.5, 0.9)
        rows = [f"{e},{best * (1 - 0.5 ** (e + 1)):.5f},{1 / (e + 1):.5f}" for e in range(40)]
        (logs / f"run{i}.csv").write_text("\n".join(["epoch,val_accuracy,loss", *rows]) + "\n")
    (logs / "damaged.csv").write_text("epoch,val_accuracy\n0,many\n")
    arguments = ("exhaust", "import", "logs", "--out")
    pattern = r"files/s, 0:\d\d left"
    shown = terminal.on_terminal(folder, *arguments, "stopped.jsonl", press_when=pattern)
    assert shown.status == 130
    assert "files is kept in stopped.jsonl.partial: run the same command" in shown.last_line
    kept = len((folder / "stopped.jsonl.partial").read_bytes().splitlines())
    assert 0 < kept < 1500
    for out in ("stopped.jsonl", "whole.jsonl"):
        again = terminal.in_pipe(folder, *arguments, out, "--json")
        assert (again.status, again.raw) == (0, "")
        assert json.loads(again.out)["problems"] > 0
    for name in ("jsonl", "jsonl.problems.jsonl"):
        assert (folder / f"stopped.{name}").read_bytes() == (folder / f"whole.{name}").read_bytes()
    assert not (folder / "stopped.jsonl.partial").exists()


@pytest.mark.slow
def test_exhaust_fit_goes_on_to_the_same_predictor(folder):
    write_runs(folder / "fashion.jsonl", load_fashion_runs()[:100])
    fit = ("exhaust", "fit", "fashion.jsonl", "--members", "2", "--steps", "600", "--out")
    shown = terminal.on_terminal(folder, *fit, "stopped_fit", press_when=r"steps/s, 0:\d\d left")
    assert shown.status == 130
    assert "the training is kept in stopped_fit.partial.npz" in shown.last_line
    again = terminal.in_pipe(folder, *fit, "stopped_fit", "--json")
    assert json.loads(again.out)["resumed_at"] > 0
    assert terminal.in_pipe(folder, *fit, "whole_fit").status == 0
    for one in (folder / "whole_fit").iterdir():
        if one.is_file():
            assert one.read_bytes() == (folder / "stopped_fit" / one.name).read_bytes(), one.name


@pytest.mark.slow
def test_reproduce_goes_on_to_the_same_numbers(folder):
    arguments = ("reproduce", "metal", "--quick", "--out")
    shown = terminal.on_terminal(
        folder, *arguments, "stopped.json", press_when=r"[2-5]/6, [^\r]*steps/s, "
    )
    assert shown.status == 130
    assert "kept in stopped.json.partial: run the same command again" in shown.last_line
    results = []
    for out in ("stopped.json", "whole.json"):
        again = terminal.in_pipe(folder, *arguments, out, "--json")
        assert (again.status, again.raw) == (0, "")
        results.append(json.loads(again.out)["results"])
    assert results[0] == results[1]
    assert not (folder / "stopped.json.partial").exists()
