"""`metal-jax label`: what it writes, and what it says about bad input."""

import json
import subprocess
import sys

import numpy as np
import pytest

from metal_jax import label_model
from metal_jax.cli import _methods, main
from metal_jax.labeling import to_metal
from metal_jax.task_tree import TaskTree, write_json

RNG = np.random.default_rng(0)
TREE = TaskTree.from_dict({"triage": {"normal": None, "abnormal": {"urgency": ["low", "high"]}}})
CSV = "item,worker,label\nb,w1,spam\na,w2,ham\nb,w2,spam\nc,w1,ham\n"


def noisy_votes(num_items, num_lfs, k):
    truth = RNG.integers(k, size=num_items)
    votes = np.where(RNG.random((num_items, num_lfs)) < 0.75, truth[:, None], truth[:, None] - 1)
    votes = votes % k
    votes[RNG.random(votes.shape) < 0.3] = -1
    return votes


VOTES = noisy_votes(40, 5, 3)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with votes in several forms."""
    monkeypatch.chdir(tmp_path)
    np.savez("votes.npz", L=VOTES)
    np.savez("gold.npz", Y=np.append(np.zeros(39, int), -1))
    nodes = np.where(VOTES == 2, 3, VOTES)
    np.savez("tree_votes.npz", L=nodes)
    np.savez("metal.npz", **{f"L_{t}": m for t, m in enumerate(to_metal(nodes, TREE))})
    write_json(TREE, "tree.json")
    (tmp_path / "votes.csv").write_text(CSV)
    return tmp_path


def run(capsys, *arguments):
    """Exit status, stdout and stderr."""
    status = main(["label", *arguments, "--out", "probs.npz"])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def written():
    with np.load("probs.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def shapes(arrays):
    return {name: array.shape for name, array in arrays.items()}


# ---- what is written ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", _methods.METHODS)
def test_single_task_by_every_method(folder, capsys, method):
    status, out, err = run(capsys, "votes.npz", "--method", method)
    assert (status, err) == (0, "")
    assert "40 items, 5 LFs" in out
    assert "3 classes (the highest vote + 1)" in out
    arrays = written()
    assert shapes(arrays) == {
        "probs": (40, 3),
        "leaf_names": (3,),
        "lf_accuracy": (5,),
        "class_balance": (3,),
        "num_votes": (40,),
    }
    np.testing.assert_allclose(arrays["probs"].sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(arrays["class_balance"].sum(), 1, atol=1e-5)
    first = (folder / "probs.npz").read_bytes()
    run(capsys, "votes.npz", "--method", method)
    assert (folder / "probs.npz").read_bytes() == first
    assert sorted(p.name for p in folder.glob("probs*")) == ["probs.npz"]


@pytest.mark.parametrize("votes", ["tree_votes.npz", "metal.npz"])
def test_tree(folder, capsys, votes):
    status, _, err = run(capsys, votes, "--tree", "tree.json", "--method", "majority")
    assert (status, err) == (0, "")
    arrays = written()
    assert shapes(arrays) == {
        "triage": (40, 2),
        "urgency": (40, 2),
        "leaf_probs": (40, 3),
        "leaf_names": (3,),
        "lf_accuracy": (5,),
        "class_balance": (3,),
        "num_votes": (40,),
    }
    assert arrays["leaf_names"].tolist() == ["normal", "low", "high"]
    np.testing.assert_allclose(arrays["leaf_probs"].sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(arrays["urgency"].sum(1), arrays["triage"][:, 1], atol=1e-6)


def test_lines(folder, capsys):
    status, out, _ = run(capsys, "votes.csv", "--method", "majority")
    assert status == 0
    assert "2 classes (the label names)" in out
    arrays = written()
    assert shapes(arrays)["probs"] == (3, 2)
    assert arrays["leaf_names"].tolist() == ["ham", "spam"]
    assert arrays["items"].tolist() == ["b", "a", "c"]
    assert arrays["workers"].tolist() == ["w1", "w2"]
    assert arrays["probs"].tolist() == [[0, 1], [1, 0], [1, 0]]
    assert arrays["lf_accuracy"].tolist() == [1, 1]


def test_fit_and_predict(folder, capsys):
    np.savez("new.npz", L=VOTES[:7])
    given = ("--fit", "votes.npz", "--predict", "new.npz", "--method", "majority")
    status, out, _ = run(capsys, *given)
    assert status == 0
    assert "labelled: new.npz: 7 items" in out
    assert shapes(written())["probs"] == (7, 3)


def test_predict_finds_its_workers_by_name(folder, capsys):
    (folder / "new.csv").write_text("item,worker,label\nq,w2,ham\nr,w9,spam\nq,w1,ham\n")
    given = ("--fit", "votes.csv", "--predict", "new.csv", "--method", "majority")
    status, out, _ = run(capsys, *given, "--json")
    assert status == 0
    assert json.loads(out)["ignored_lfs"] == 1
    arrays = written()
    assert arrays["items"].tolist() == ["q", "r"]
    assert arrays["workers"].tolist() == ["w1", "w2"]
    assert arrays["probs"].tolist() == [[1, 0], [0.5, 0.5]]


def test_json_and_quiet(folder, capsys):
    np.savez("votes.npz", L=np.c_[VOTES, np.full(40, -1)])
    status, out, err = run(capsys, "votes.npz", "--method", "majority", "--json")
    about = json.loads(out, parse_constant=pytest.fail)  # NaN is not JSON
    assert (status, err) == (0, "")
    assert about["lf_accuracy"]["5"] is None
    assert about["arrays"]["probs"] == [40, 3]
    assert about["votes"]["items"] == 40
    assert run(capsys, "votes.npz", "--method", "majority", "--quiet") == (0, "", "")


def test_task_names_that_savez_cannot_take(folder, capsys):
    tree = TaskTree.from_dict({"file": {"no": None, "yes": {"a/b": ["no", "yes"]}}})
    write_json(tree, "tree.json")
    assert run(capsys, "tree_votes.npz", "--tree", "tree.json", "--method", "majority")[0] == 0
    arrays = written()
    assert {"file", "a/b"} < set(arrays)
    assert arrays["leaf_names"].tolist() == ["file=no", "a/b=no", "a/b=yes"]


# ---- options ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["numbers", "json", "names", "npy", "npz", "text"])
def test_class_balance_forms(folder, capsys, form):
    balance = np.array([0.5, 0.3, 0.2])
    names = {"0": 0.5, "2": 0.2, "1": 0.3}
    given = {"numbers": "0.5,0.3,0.2", "names": "balance.json"}.get(form, f"balance.{form}")
    (folder / "balance.json").write_text(json.dumps(names if form == "names" else balance.tolist()))
    (folder / "balance.text").write_text("0.5 0.3\n0.2\n")
    np.save("balance.npy", balance)
    np.savez("balance.npz", class_balance=balance)
    method = ("--method", "dawid_skene", "--class-balance", given)
    assert run(capsys, "votes.npz", *method)[::2] == (0, "")
    np.testing.assert_allclose(written()["class_balance"], balance, atol=1e-6)


def test_gold_and_seed_reach_methods_that_take_them(folder, capsys, monkeypatch):
    seen = {}

    def fit_stub(votes, tree, class_balance=None, *, gold=None, key):
        seen.update(gold=gold, key=key)
        return label_model.fit_dawid_skene(votes, tree, class_balance)

    monkeypatch.setattr(label_model, "fit_stub", fit_stub, raising=False)
    monkeypatch.setitem(_methods.METHODS, "stub", _methods.Method("fit_stub", "for this test"))
    given = ("votes.npz", "--gold", "gold.npz", "--seed", "7", "--method", "stub", "--json")
    status, out, _ = run(capsys, *given)
    assert status == 0
    assert json.loads(out)["gold_labels"] == 39
    assert seen["gold"].tolist() == [0] * 39 + [-1]
    assert seen["key"] is not None
    np.testing.assert_array_equal(written()["probs"][:39].argmax(1), 0)
    status, _, err = run(capsys, *given[:-2], "majority")
    assert status == 2
    assert "--gold: method 'majority' takes none; those that do: " in err
    assert "stub" in err


def test_a_failed_fit_leaves_the_old_output(folder, capsys, monkeypatch):
    def fit_stub(votes, tree):
        raise RuntimeError("out\nof luck")

    monkeypatch.setattr(label_model, "fit_stub", fit_stub, raising=False)
    monkeypatch.setitem(_methods.METHODS, "stub", _methods.Method("fit_stub", "for this test"))
    (folder / "probs.npz").write_text("old")
    status, out, err = run(capsys, "votes.npz", "--method", "stub")
    assert (status, out) == (1, "")
    assert err == "metal-jax: failed: RuntimeError: out of luck (--debug shows where)\n"
    assert (folder / "probs.npz").read_text() == "old"
    with pytest.raises(RuntimeError):
        run(capsys, "votes.npz", "--method", "stub", "--debug")


def test_an_unknown_kind_of_output_is_refused(folder, capsys):
    assert main(["label", "votes.npz", "--out", "probs.txt"]) == 2
    assert "probs.txt: unknown kind of file, expected .npz" in capsys.readouterr().err
    assert not (folder / "probs.txt").exists()


@pytest.mark.parametrize("name", _methods.METHODS)
def test_methods_are_public_functions(name):
    assert _methods.METHODS[name].function in label_model.__all__


# ---- bad input ----------------------------------------------------------------------------------

BAD = {
    "no_votes": ([], "give either VOTES or --fit FILE --predict FILE"),
    "fit_alone": (["--fit", "votes.npz"], "--fit and --predict go together"),
    "both": (["votes.npz", "--fit", "votes.npz", "--predict", "votes.npz"], "give either"),
    "missing": (["nothing.npz"], "nothing.npz: No such file"),
    "truncated": (["truncated.npz"], "truncated.npz: damaged, or no NumPy file"),
    "objects": (["objects.npz"], "objects.npz: holds Python objects, which are never unpickled"),
    "outside_k": (["votes.npz", "--num-classes", "2"], "expected a node id in 0..1"),
    "outside_tree": (["high.npz", "--tree", "tree.json"], "row 0, LF 0: got 4"),
    "floats": (["floats.npz"], "got dtype float64, expected integers"),
    "nan": (["nan.npz"], "LF 0: got nan"),
    "empty": (["empty.npz"], "there are no items"),
    "abstains": (["abstains.npz"], "abstains.npz: votes: every LF abstains"),
    "abstains_k": (["abstains.npz", "--num-classes", "2"], "there is nothing to fit"),
    "columns": (["columns.csv"], "columns.csv: line 1: expected the columns item, worker, label"),
    "blank": (["blank.csv"], "blank.csv: line 2: the label is blank"),
    "twice": (["twice.csv"], "twice.csv: line 3: worker 'x' has a vote on item 'a' in line 2"),
    "balance_length": (["votes.npz", "--class-balance", "0.5,0.5"], "got 2 values, expected 3"),
    "balance_zero": (["votes.npz", "--class-balance", "0.5,0.5,0"], "2: got 0, expected a prob"),
    "split": (["votes.npz", "--split", "test"], "--split: got 'test', expected a split of a WR"),
    "balance_high": (["votes.npz", "--class-balance", "3,7,1"], "0: got 3, expected a prob"),
    "balance_sum": (["votes.npz", "--class-balance", "0.5,0.5,0.5"], "sums to 1.5, expected 1"),
    "balance_file": (["votes.npz", "--class-balance", "no.txt"], "neither numbers (0.7,0.3) nor"),
    "balance_other": (["votes.npz", "--class-balance", "tree.json"], "expected the names 0, 1, 2"),
    "balance_ignored": (
        ["votes.npz", "--class-balance", "0.2,0.3,0.5", "--method", "majority"],
        "--class-balance: method 'majority' takes none; those that do: default, dawid_skene",
    ),
    "gold_length": (["votes.npz", "--gold", "short.npz"], "the votes have 40 items"),
    "gold_empty": (["votes.npz", "--gold", "unknown.npz"], "no item has a label"),
    "method": (["votes.npz", "--method", "magic"], "choose from 'default', 'majority', 'dawid"),
    "option": (["votes.npz", "--clas", "2"], "unrecognized arguments: --clas"),
    "seed": (["votes.npz", "--seed", "x"], "--seed: got 'x', expected a whole"),
    "num_classes": (["votes.npz", "--num-classes", "1"], "--num-classes: got 1, expected at least"),
    "tree_and_k": (["votes.npz", "--tree", "tree.json", "--num-classes", "3"], "--num-classes: "),
    "metal_without_tree": (["metal.npz"], "needs a task tree"),
    "bad_tree": (["votes.npz", "--tree", "blank.csv"], "blank.csv: not a task tree"),
    "reserved": (["tree_votes.npz", "--tree", "reserved.json"], "task 'items' has the name of an"),
    "other_lfs": (["--fit", "votes.npz", "--predict", "new.npz"], "new.npz: 4 LFs, the fitted"),
    "other_names": (
        ["--fit", "votes.csv", "--predict", "strangers.csv"],
        "strangers.csv: none of its LFs or workers was fitted, e.g. 'q' and 'w1'",
    ),
    "other_classes": (["--fit", "votes.csv", "--predict", "other.csv"], "unknown label 'yes'"),
    "folder": (["folder.npz"], "folder.npz: no split of WRENCH here"),
}


@pytest.fixture
def bad_files(folder):
    (folder / "truncated.npz").write_bytes((folder / "votes.npz").read_bytes()[:200])
    np.savez("objects.npz", L=VOTES.astype(object))
    np.savez("high.npz", L=np.full((3, 3), 4))
    np.savez("floats.npz", L=VOTES * 1.0)
    np.savez("nan.npz", L=np.full((3, 3), np.nan))
    np.savez("empty.npz", L=VOTES[:0])
    np.savez("abstains.npz", L=np.full((3, 3), -1))
    np.savez("short.npz", Y=[0, 1])
    np.savez("unknown.npz", Y=np.full(40, -1))
    np.savez("new.npz", L=VOTES[:, :4])
    (folder / "columns.csv").write_text("item,label\na,yes\n")
    (folder / "blank.csv").write_text("item,worker,label\na,x,\n")
    (folder / "twice.csv").write_text("item,worker,label\na,x,yes\na,x,no\nb,x,no\n")
    (folder / "other.csv").write_text("item,worker,label\na,w1,yes\n")
    (folder / "strangers.csv").write_text("item,worker,label\na,q,ham\n")
    (folder / "reserved.json").write_text('{"items": {"a": null, "b": {"c": ["d", "e"]}}}')
    (folder / "folder.npz").mkdir()


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_status_2(bad_files, capsys, case):
    arguments, message = BAD[case]
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("metal-jax: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert message in err


@pytest.mark.parametrize("out", ["missing/probs.npz", ".", "votes.npz"])
def test_bad_output_is_found_before_the_work(folder, capsys, out):
    before = (folder / "votes.npz").read_bytes()
    assert main(["label", "votes.npz", "--out", out]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"metal-jax: {out}: ")
    assert err.count("\n") == 1
    assert (folder / "votes.npz").read_bytes() == before


def test_debug_shows_where(folder):
    with pytest.raises(FileNotFoundError):
        main(["label", "nothing.npz", "--out", "probs.npz", "--debug"])


@pytest.mark.parametrize("command", [[], ["label"], ["analyze"], ["reproduce", "metal"]])
def test_help(capsys, command):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    assert "usage: metal-jax" in capsys.readouterr().out


def test_as_a_program(folder):
    command = [sys.executable, "-m", "metal_jax", "label", "votes.csv", "--method", "majority"]
    done = subprocess.run([*command, "--out", "probs.npz"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "wrote probs.npz" in done.stdout
    done = subprocess.run([*command, "--out", "no/probs.npz"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "metal-jax: no/probs.npz: there is no folder no (see metal-jax label --help)\n"
    )
