"""`metal-jax apply`: from labelling functions to votes that the other commands read."""

import json

import numpy as np
import pytest

from metal_jax.cli import main
from metal_jax.labeling import read_votes
from metal_jax.task_tree import read_json

LFS = """
from metal_jax.labeling import ABSTAIN, keyword_lf, labeling_function

goal = keyword_lf("goal", "topic", "sport", ["goal"])

@labeling_function(task="topic")
def stars(item):
    return "trade" if item["stars"] > 3 else ABSTAIN

MORE = [goal, keyword_lf("rain", "topic", "trade", ["rain"])]
"""
ITEMS = [
    {"item": "a", "text": "a goal", "stars": 1},
    {"item": "b", "text": "rain", "stars": 5},
    {"item": "c", "text": "sun"},
]


@pytest.fixture
def files(tmp_path):
    (tmp_path / "my_lfs.py").write_text(LFS)
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, ITEMS)) + "\n\n")
    (tmp_path / "tree.json").write_text('{"topic": ["sport", "trade"]}')
    return tmp_path


def run(folder, *options, lfs="my_lfs.py"):
    paths = [str(folder / name) for name in (lfs, "items.jsonl")]
    return main([
        "apply", *paths, "--tree", str(folder / "tree.json"), "--out", str(folder / "v.npz"),
        *options,
    ])  # fmt: skip


def test_votes_that_other_commands_read(files, capsys):
    options = ["--on-error", "abstain", "--cache", str(files / "cache"), "--json"]
    assert run(files, *options) == 0
    about = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in about["lfs"]] == ["goal", "stars", "rain"]
    assert [row["errors"] for row in about["lfs"]] == [0, 1, 0]
    assert (about["items"], about["covered_items"], about["calls"]) == (3, 2, 9)
    read = read_votes(files / "v.npz", read_json(files / "tree.json"))
    assert read.votes.tolist() == [[0, -1, -1], [-1, 1, 1], [-1, -1, -1]]
    assert (read.items, read.lf_names) == (("a", "b", "c"), ("goal", "stars", "rain"))
    assert np.load(files / "v.npz")["k"] == 2

    (files / "my_lfs.py").write_text(LFS.replace("> 3", "> 0"))
    assert run(files, *options) == 0
    about = json.loads(capsys.readouterr().out)
    assert (about["calls"], about["cached_calls"]) == (3, 6)
    assert run(files, "--on-error", "abstain") == 0
    assert "3 items in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("my_lfs.py", "x = 1", "my_lfs.py: there are no labelling functions"),
        ("my_lfs.py", "1 / 0", "my_lfs.py: ZeroDivisionError"),
        ("my_lfs.py", "def", "my_lfs.py: SyntaxError"),
        ("items.jsonl", "", "items.jsonl: there are no items"),
        ("items.jsonl", "[1]", "items.jsonl: line 1: expected an object"),
        ("items.jsonl", "{", "items.jsonl: line 1: not JSON"),
        ("items.jsonl", '{"item": 1}\n{"text": ""}', "line 2: either every line"),
        ("items.jsonl", '{"item": "a"}\n{"item": "a"}', "line 2: item 'a' is in line 1 too"),
        ("items.jsonl", '{"item": 1}\n{"item": null}', "line 2: either every line"),
        ("items.jsonl", '{"item": ["a"]}', "line 1: got \"item\" ['a'], expected a name"),
        ("items.jsonl", b"{}\n\xff\xfe{}", "items.jsonl: line 2: not UTF-8"),
        ("my_lfs.py", "import sys; sys.exit(3)", "my_lfs.py: it ends the program (SystemExit: 3)"),
        ("json.py", LFS, "json.py: Python has a module of that name"),
        ("lfs.txt", LFS, "lfs.txt: expected a Python file"),
    ],
)
def test_bad_input(files, capsys, name, content, message):
    (files / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    lfs = name if name in ("json.py", "lfs.txt") else "my_lfs.py"
    assert run(files, lfs=lfs) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (files / "v.npz").exists()


@pytest.mark.parametrize("many", [False, True])
def test_a_failing_lf_is_named_with_a_way_out(files, capsys, many):
    first = [{"text": f"goal {i}", "stars": 0} for i in range(20)] if many else []
    lines = [json.dumps(item) for item in (*first, {"text": "sun"})]
    (files / "items.jsonl").write_text("\n".join(lines))
    assert run(files) == 1
    error = capsys.readouterr().err
    assert f"LF 'stars' failed on item {20 * many}: KeyError: 'stars'; --on-error abstain" in error
    kept = files / "v.npz.partial"
    assert kept.exists() == many
    assert (f"kept in {kept}" in error) == many


def test_a_null_name_is_none_and_an_lf_may_not_end_the_program(files, capsys):
    (files / "items.jsonl").write_text('{"item": null, "text": "goal"}\n')
    (files / "my_lfs.py").write_text(
        LFS.replace('"trade" if item["stars"] > 3 else ABSTAIN', 'exit(3) if "text" in item else 0')
    )
    assert run(files, "--on-error", "abstain") == 0
    assert np.load(files / "v.npz").get("items") is None
    assert run(files) == 1
    assert "LF 'stars' failed on item 0: SystemExit: 3" in capsys.readouterr().err
