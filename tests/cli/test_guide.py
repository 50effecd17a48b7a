"""What `analyze` and `report votes` say to do next; the refits themselves are tested elsewhere."""

import json

import numpy as np
import pytest

from metal_jax import label_model
from metal_jax.cli import _analyze, main
from metal_jax.cli._methods import fit
from metal_jax.task_tree import TaskTree, write_json

LFS = """
from metal_jax.labeling import keyword_lf, labeling_function

goal = keyword_lf("goal", "topic", "sport", ["goal"])
price = keyword_lf("price", "topic", "trade", ["price"])
title = keyword_lf("title", "topic", "trade", ["price"], text=lambda item: item["title"])

@labeling_function(task="topic")
def silent(item):
    return "sport"
"""
TEXTS = ["a goal at what price", "the [bold]goal[/bold]", "nothing here", "nothing here", "price"]
PAIR = label_model.SuggestedDependency((0, 2), ("goal", "title"), 12.0, 9, 3.2, 8, 2.9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("guide")
    write_json(TaskTree.single(["sport", "trade"], name="topic"), path / "tree.json")
    lines = [{"item": f"i{i}", "text": text, "title": "price"} for i, text in enumerate(TEXTS)]
    (path / "texts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (path / "lfs.py").write_text(LFS)
    votes = [[0, 1, 1, 0], [0, -1, -1, 0], [-1] * 4, [-1] * 4, [-1, 1, 1, -1]]
    items = [f"i{i}" for i in range(5)]
    np.savez(
        path / "votes.npz", L=votes, lf_names=["goal", "price", "title", "silent"], items=items
    )
    return path


@pytest.fixture
def asked(folder, monkeypatch):
    """Arguments, and cheap stand-ins for what takes long to compile."""

    def without(votes, tree, class_balance=None, *, gold=None, on_progress):
        assert gold is None
        on_progress(4)
        share = np.array([0.1, 0.0, 0.3, 0.0])
        return label_model.LeaveOneOut(
            share, share, np.array([1, 0, 0, 0]), float("nan"), np.full(4, np.nan)
        )

    monkeypatch.chdir(folder)
    monkeypatch.setattr(
        _analyze, "fit", lambda _, votes, tree, **options: fit("majority", votes, tree)
    )
    monkeypatch.setattr(label_model, "leave_one_out", without)
    monkeypatch.setattr(label_model, "suggest_dependencies", lambda *a, **k: [PAIR])
    return ["analyze", "votes.npz", "--tree", "tree.json", "--texts", "texts.jsonl"]


def test_json(asked, capsys):
    assert main([*asked, "--lfs", "lfs.py", "--num-next", "2", "--json"]) == 0
    about = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert about["leave_one_out"]["accuracy"] is None
    assert [lf["changed"] for lf in about["leave_one_out"]["lfs"]] == [0.1, 0.0, 0.3, 0.0]
    assert about["dependencies"][0]["names"] == ["goal", "title"]
    (first,) = about["next_items"]["contested"]
    assert first["item"] == "i0"
    assert first["votes"] == {
        "goal": "sport",
        "price": "trade",
        "title": "trade",
        "silent": "sport",
    }
    # The third LF reads another text: it has no place in this one.
    words = [(s["lf"], TEXTS[0][s["start"] : s["stop"]]) for s in first["spans"]]
    assert words == [("goal", "goal"), ("price", "price")]
    assert about["next_items"]["uncovered"] == [{"item": "i2", "text": TEXTS[2], "alike": 2}]


def test_printed_and_left_out(asked, capsys):
    assert main([*asked, "--lfs", "lfs.py"]) == 0
    out = capsys.readouterr().out
    assert "goal, title" in out
    assert "left bare" in out
    assert "i2 (stands for 2)" in out
    assert "i0: " in out
    assert TEXTS[0] in out
    assert "on which LFs disagree" in out
    off = ("--no-leave-one-out", "--no-dependencies", "--num-next", "0")
    assert main([*asked, *off, "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert [about[name] for name in ("leave_one_out", "dependencies", "next_items")] == [None] * 3


def test_lfs_of_other_votes(asked, folder, capsys):
    (folder / "others.py").write_text(
        "from metal_jax.labeling import keyword_lf\n"
        'lfs = [keyword_lf("other", "topic", "sport", ["goal"])]\n'
    )
    assert main([*asked, "--lfs", "others.py"]) == 2
    assert "others.py: none of its LFs has a column in votes.npz" in capsys.readouterr().err


@pytest.mark.slow
def test_a_report_with_all_of_it(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=200)
    votes = np.where(rng.random((200, 5)) < 0.8, truth[:, None], 1 - truth[:, None])
    votes[rng.random(votes.shape) < 0.3] = -1
    votes[:3] = -1
    np.savez("many.npz", L=np.column_stack([votes, votes[:, 0]]))
    np.savez("gold.npz", Y=truth)
    assert main(["report", "votes", "many.npz", "--gold", "gold.npz", "--out", "r.html"]) == 0
    text = (folder / "r.html").read_text()
    for title in ("What removing each LF would do", "Suggested dependencies", "Not covered"):
        assert title in text
    assert "Accuracy without" in text
