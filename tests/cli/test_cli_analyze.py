"""`metal-jax analyze`: what it finds in votes that were made to have it."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from metal_jax.cli import _analyze, main
from metal_jax.cli._methods import fit
from metal_jax.task_tree import TaskTree, write_json

NO_REFITS = ("--no-leave-one-out", "--no-dependencies")  # they take long to compile


def made_votes():
    """Four honest LFs, a copy of the first, a silent one and an adversary; class 3 is unused."""
    rng = np.random.default_rng(1)
    truth = rng.integers(3, size=300)
    wrong = rng.random((300, 4)) < 0.2
    honest = np.where(wrong, (truth[:, None] + 1) % 3, truth[:, None])
    honest[rng.random(honest.shape) < 0.2] = -1
    adversary = (truth + 1 + rng.integers(2, size=300)) % 3
    silent = np.full(300, -1)
    return np.column_stack([honest, honest[:, 0], silent, adversary]), truth


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("analyze")
    votes, truth = made_votes()
    names = ["first", "b", "c", "d", "[bold]copy", "silent", "adversary"]
    np.savez(path / "votes.npz", L=votes, k=4, lf_names=names)
    np.savez(path / "gold.npz", Y=truth)
    return path


def test_json(folder, capsys):
    arguments = ["analyze", str(folder / "votes.npz"), "--gold", str(folder / "gold.npz"), "--json"]
    assert main([*arguments, *NO_REFITS]) == 0
    out = capsys.readouterr().out
    about = json.loads(out, parse_constant=pytest.fail)
    votes, truth = made_votes()
    assert about["votes"]["votes"] == int((votes >= 0).sum())
    assert about["never_voting_lfs"] == ["silent"]
    assert about["identical_lfs"] == [["first", "[bold]copy"]]
    assert about["classes_without_votes"] == ["3"]
    below = [row["name"] for row in about["lfs"] if row["below_chance"]]
    assert below == ["adversary"]
    first = about["lfs"][0]
    cast = votes[:, 0] >= 0
    assert first["coverage"] == pytest.approx(cast.mean())
    assert first["accuracy"] == pytest.approx((votes[cast, 0] == truth[cast]).mean())
    assert first["estimated_accuracy"] == pytest.approx(first["accuracy"], abs=0.12)
    (task,) = about["tasks"]
    assert task["gold_labels"] == task["items"] == 300
    assert task["model_accuracy"] >= task["majority_accuracy"] - 0.02
    assert about["majority_vote_would_do"] is False
    for share in ("majority_share", "model_share", "gold_share", "class_balance"):
        assert sum(row[share] for row in about["classes"]) == pytest.approx(1, abs=1e-4)
    assert about["model"]["converged"] in (True, False)


def test_tables(folder, capsys):
    arguments = ["analyze", str(folder / "votes.npz"), "--num-lfs", "2", *NO_REFITS]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "300 items, 7 LFs" in out
    assert "LFs that never vote: silent" in out
    assert "LFs with identical votes: first = [bold]copy" in out
    assert "LFs estimated below chance: adversary" in out
    assert "classes that nobody votes for: 3" in out
    assert "... and 5 LFs with fewer votes" in out
    assert "label model: " in out
    assert "gold" not in out.replace("without gold", "")
    assert main([*arguments, "--quiet"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("width", [80, 100])
def test_the_table_of_lfs_has_intervals_and_fits(width):
    interval = {"coverage_interval": (0.379, 0.462), "accuracy_interval": (0.9, 1.0)}
    names = ["a_keyword_lf", "price", "a_rather_long_name_of_an_lf"]
    rows = [
        {"name": name, "polarity": ["sport", "trade"][:j], "coverage": 0.42, "overlaps": 0.3,
         "conflicts": 0.1, "estimated_accuracy": 0.8, "accuracy": 0.95, "num_votes": 9, **interval}
        for j, name in enumerate(names)
    ]  # fmt: skip
    rows[0] |= {"accuracy": float("nan"), "coverage": 0.004, "coverage_interval": (0.001, 0.0149)}
    console = Console(width=width, file=io.StringIO())
    console.print(_analyze._lf_table(rows, 0, width))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert sum(".42 (.38-.46)" in line and ".95 (.90-1.00)" in line for line in lines) == 2
    assert sum(".004 (.001-.015)" in line and line.rstrip().endswith("-") for line in lines) == 1
    assert ("overlaps" in lines[1]) == (width == 100)
    assert any(line.startswith(" a_keyword_lf " if width == 100 else " a_ke") for line in lines)
    assert "…" not in "".join(lines)


def test_tree(tmp_path, capsys, monkeypatch):
    # What is counted per task does not depend on the model, which takes long to compile.
    def cheap(_, votes, tree, **options):
        del options
        return fit("majority", votes, tree)

    monkeypatch.setattr(_analyze, "fit", cheap)
    tree = TaskTree.from_dict({"a": {"no": None, "yes": {"b": ["low", "high"]}}})
    write_json(tree, tmp_path / "tree.json")
    np.savez(tmp_path / "v.npz", L=[[0, 0, -1], [1, 1, 3], [1, 0, 1], [3, 1, 1]] * 10)
    np.save(tmp_path / "gold.npy", [0, 3, -1, 1] * 10)
    arguments = ["analyze", str(tmp_path / "v.npz"), "--tree", str(tmp_path / "tree.json")]
    arguments += NO_REFITS
    assert main([*arguments, "--gold", str(tmp_path / "gold.npy"), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    above, beneath = about["tasks"]
    assert (above["task"], above["items"], above["gold_labels"]) == ("a", 40, 30)
    assert (beneath["task"], beneath["items"], beneath["gold_labels"]) == ("b", 20, 10)
    assert above["majority_accuracy"] == beneath["majority_accuracy"] == 1
    assert about["classes_without_votes"] == ["low"]
    assert [task["agreement"] for task in about["tasks"]] == [1, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.npz"], "nothing.npz: No such file"),
        (["votes.npz", "--num-lfs", "-1"], "--num-lfs: got -1"),
        (["votes.npz", "--num-next", "-1"], "--num-next: got -1"),
        (["votes.npz", "--lfs", "lfs.py"], "--lfs: marks what made LFs vote"),
        (["votes.npz", "--gold", "votes.npz"], "votes.npz: no array Y of gold labels"),
        ([], "the following arguments are required: VOTES"),
    ],
)
def test_bad_input(folder, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(folder)
    assert main(["analyze", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
