"""`metal-jax train`, `predict` and `evaluate`: from votes to predictions, and bad input."""

import argparse
import csv
import json
import shutil

import jax
import numpy as np
import pytest

from metal_jax import network
from metal_jax.cli import main
from metal_jax.cli._items import read_items
from metal_jax.cli._soft_labels import labels_from_votes
from metal_jax.cli._training_split import split_items
from metal_jax.exhaust import read_runs
from metal_jax.network import load_model
from metal_jax.task_tree import TaskTree, write_json

TREE = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": {"c": ["p", "q"]}}})
N = 60
WORDS = (("dog", "cat"), ("red", "blue"))
FAST = ("--steps", "20", "--evaluate-every", "10", "--batch-size", "16", "--widths", "8")
TRAIN = ("train", "--tree", "tree.json", "--method", "majority", *FAST)
VECTORS = (*TRAIN, "--votes", "votes.npz", "--features", "x.npz")
TEXTS = (*TRAIN, "--votes", "votes.npz", "--features", "texts.jsonl")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with items, votes on all but five of them, and gold labels."""
    folder = tmp_path_factory.mktemp("train")
    random = np.random.default_rng(0)
    signs = random.integers(2, size=(N, 2))
    x = (2 * signs - 1) * random.uniform(0.5, 1.5, size=(N, 2))
    gold = TREE.leaf_nodes[2 * signs[:, 0] + signs[:, 1]]
    votes = np.where(random.random((N, 4)) < 0.9, gold[:, None], TREE.leaf_nodes[0])
    votes[random.random(votes.shape) < 0.3] = -1
    votes[0], votes[5:10] = gold[0], -1
    write_json(TREE, folder / "tree.json")
    np.savez(folder / "votes.npz", L=votes)
    np.savez(folder / "x.npz", x=x)
    np.savez(folder / "embeddings.npz", embeddings=x.astype(np.float32))
    np.savez(folder / "gold.npz", Y=gold)
    texts = [f"the {WORDS[0][i]} is {WORDS[1][j]}" for i, j in signs.tolist()]
    lines = [json.dumps({"item": f"i{n}", "text": text}) for n, text in enumerate(texts)]
    (folder / "texts.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def folder(data, monkeypatch):
    monkeypatch.chdir(data)
    return data


def run(capsys, *arguments):
    """Exit status, stdout and stderr."""
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def run_json(capsys, *arguments):
    status, out, err = run(capsys, *arguments, "--json")
    assert (status, err) == (0, "")
    return json.loads(out)


@pytest.fixture(scope="module")
def trained(data):
    """A network of the vectors, trained without interruption."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(data)
        assert main([*VECTORS, "--out", "model", "--log", "runs.jsonl", "--quiet"]) == 0
    return data / "model"


def params_of(folder):
    return load_model(folder / "model").params


def assert_same_params(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


# ---- training -----------------------------------------------------------------------------------


def test_summary_model_and_log(folder, trained, capsys):
    names = ["checkpoints", "model", "training.json"]
    assert sorted(path.name for path in trained.iterdir()) == names
    assert load_model(trained / "model", TREE).untrained_tasks == ()
    (logged,) = read_runs("runs.jsonl").runs
    assert (logged.status, len(logged.metrics["validation"]["loss"].values)) == ("finished", 2)
    about = run_json(capsys, *VECTORS, "--out", "model")  # the training is complete already
    assert about["resumed_at"] == about["num_steps"] == 20
    assert (about["covered_items"], about["uncovered_items"]) == (55, 5)
    assert about["training_items"] + about["held_out_items"] == 55
    assert about["held_out_loss"]["best"] == min(about["held_out_loss"].values())
    assert about["unsupervised_tasks"] == []
    status, out, _ = run(capsys, *VECTORS, "--out", "model", "--verbose")
    assert status == 0
    assert "└─ trunk 0" in out
    assert "5 have none: not taught" in out


def test_training_summary_and_its_report(folder, trained, capsys):
    summary = json.loads((trained / "training.json").read_text())
    curves = summary["curves"]
    assert curves["steps"] == [10, 20]
    assert curves["valid_scores"]["loss"][-1] == summary["held_out_loss"]["last"]
    assert len(curves["train_loss"]) == 2
    about = run_json(capsys, "report", "network", "model", "--out", "report.html")
    assert about["sections"] == ["Overview", "Training", "Task tree"]
    assert "Held out" in (folder / "report.html").read_text()
    damaged = folder / "damaged"
    shutil.copytree(trained, damaged)
    (damaged / "training.json").write_text("{}")
    status, _, err = run(capsys, "report", "network", "damaged", "--out", "bad.html")
    assert status == 2
    assert "training.json: no summary of a training" in err
    assert not (folder / "bad.html").exists()


def test_an_interrupted_training_goes_on_to_the_same_model(folder, trained, capsys, monkeypatch):
    fit = network.fit

    def interrupting(*arguments, on_progress, **options):
        def stop(step, scores):
            on_progress(step, scores)
            raise KeyboardInterrupt

        return fit(*arguments, on_progress=stop, **options)

    monkeypatch.setattr(network, "fit", interrupting)
    status, _, err = run(capsys, *VECTORS, "--out", "stopped")
    assert status == 130
    assert "interrupted after step 10; run the same command again, and it goes on" in err
    assert not (folder / "stopped" / "model").exists()
    monkeypatch.setattr(network, "fit", fit)
    assert run_json(capsys, *VECTORS, "--out", "stopped")["resumed_at"] == 10
    assert_same_params(params_of(folder / "stopped"), params_of(trained))


def test_soft_labels_of_label_train_the_same(folder, trained, capsys):
    label = ("label", "votes.npz", "--tree", "tree.json", "--method", "majority")
    assert run(capsys, *label, "--out", "probs.npz", "--quiet")[0] == 0
    options = [o for o in VECTORS if o not in ("--votes", "votes.npz")]
    about = run_json(capsys, *options, "--labels", "probs.npz", "--out", "by_labels")
    assert about["covered_items"] == 55
    assert_same_params(params_of(folder / "by_labels"), params_of(trained))


def test_a_task_without_votes_is_named_and_left_out(folder, capsys):
    votes = np.load("votes.npz")["L"]
    below_y = np.isin(votes, [TREE.node("c", "p"), TREE.node("c", "q")])
    np.savez("coarse.npz", L=np.where(below_y, TREE.node("a", "y"), votes))
    given = [*TRAIN, "--votes", "coarse.npz", "--features", "x.npz", "--out", "coarse"]
    status, out, _ = run(capsys, *given)
    assert status == 0
    assert "warning: no labels for c: left out of the loss" in out
    assert load_model("coarse/model").untrained_tasks == ("c",)
    status, out, _ = run(capsys, "predict", "coarse", "x.npz", "--out", "coarse.csv")
    assert "warning: c had no labels to learn from" in out
    # From soft labels alone: those of c are the same for every item.
    label = ("label", "coarse.npz", "--tree", "tree.json", "--method", "majority")
    assert run(capsys, *label, "--out", "coarse_probs.npz", "--quiet")[0] == 0
    options = [o for o in VECTORS if o not in ("--votes", "votes.npz")]
    about = run_json(capsys, *options, "--labels", "coarse_probs.npz", "--out", "coarse2")
    assert about["unsupervised_tasks"] == ["c"]


def split(folder, **options):
    """What `split_items` makes of the votes."""
    given = {"votes": folder / "votes.npz", "features": folder / "x.npz", "method": "majority"}
    given |= {"tree": folder / "tree.json", "num_classes": None, "split": None, "seed": 0}
    given["class_balance"] = None
    given |= {"gold": None, "validation": 0.2, "uncovered": "drop", "consistency": 0.0}
    options = argparse.Namespace(**given | options)
    items = read_items(options.features)
    return split_items(options, items, labels_from_votes(options, items))


def test_split(folder):
    training, held_out, numbers = split(folder)
    rows = np.concatenate([training.rows, held_out.rows])
    assert (len(set(rows.tolist())), len(held_out.rows)) == (55, 11)
    assert not np.isin(rows, np.arange(5, 10)).any()
    assert training.task_mask.all()
    assert (numbers["covered_items"], numbers["uncovered_items"]) == (55, 5)


def test_uncovered_items_are_kept_or_teach_themselves(folder):
    kept, held_out, _ = split(folder, uncovered="keep")
    assert len(kept.rows) + len(held_out.rows) == N
    assert kept.weights.all()
    unlabelled, _, numbers = split(folder, consistency=0.3)
    assert unlabelled.rows[unlabelled.weights == 0].tolist() == [5, 6, 7, 8, 9]
    assert numbers["training_items"] == np.count_nonzero(unlabelled.weights)


def test_gold_labels_are_for_held_out_items_only(folder):
    gold = np.load("gold.npz")["Y"]
    gold = np.where(np.arange(N) < 20, gold, -1)
    gold[3] = TREE.node("a", "x")  # an inner node: its task below is unknown
    np.savez("some.npz", Y=gold)
    training, held_out, numbers = split(folder, gold=folder / "some.npz", validation=1 - 1e-9)
    assert held_out.rows.tolist() == list(range(20))
    assert numbers["held_out_items"] == 20
    assert held_out.task_mask[3].tolist() == [True, False, False]
    assert held_out.leaf_probs[3].tolist() == [0.5, 0.5, 0, 0]
    assert (TREE.leaf_nodes[held_out.leaf_probs.argmax(axis=1)] == gold[:20])[
        np.arange(20) != 3
    ].all()
    plain, _, _ = split(folder)
    both = np.intersect1d(plain.rows, training.rows)
    np.testing.assert_array_equal(
        plain.leaf_probs[np.isin(plain.rows, both)],
        training.leaf_probs[np.isin(training.rows, both)],
    )


# ---- predictions --------------------------------------------------------------------------------


def test_predictions_in_every_form(folder, trained, capsys):
    about = run_json(capsys, "predict", "model", "x.npz", "--out", "p.npz")
    assert sum(about["tasks"]["a"].values()) == N
    with np.load("p.npz", allow_pickle=False) as file:
        arrays = dict(file)
    np.testing.assert_allclose(arrays["leaf_probs"].sum(axis=1), 1, atol=1e-5)
    assert arrays["leaf_names"].tolist() == ["u", "v", "p", "q"]
    assert arrays["node_probs"].shape == (N, 6)
    assert run(capsys, "predict", "model", "x.npz", "--out", "p.csv", "--quiet")[:2] == (0, "")
    with open("p.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "item",
        "a",
        "a probability",
        "b",
        "b probability",
        "c",
        "c probability",
    ]
    best = arrays["leaf_names"][arrays["leaf_probs"].argmax(axis=1)]
    assert [row["b"] or row["c"] for row in rows] == best.tolist()
    assert all((row["a"] == "x") == (row["c"] == "") for row in rows)
    assert run(capsys, "predict", "model", "x.npz", "--out", "p.jsonl", "--quiet")[:2] == (0, "")
    with open("p.jsonl") as file:
        first = json.loads(file.readline())
    assert first["item"] == 0
    assert first["tasks"]["a"]["probs"]["x"] == pytest.approx(arrays["node_probs"][0, 0])


def test_texts_named_items_and_unknown_words(folder, capsys):
    lines = ["item,worker,label"]
    votes = np.load("votes.npz")["L"]
    for i in reversed(range(N)):
        lines += [f"i{i},w{j},{votes[i, j]}" for j in range(4) if votes[i, j] >= 0]
    (folder / "votes.csv").write_text("\n".join(lines))
    about = run_json(capsys, *TEXTS, "--out", "texts")
    options = ["votes.csv" if option == "votes.npz" else option for option in TEXTS]
    by_name = run_json(capsys, *options, "--out", "by_name")
    assert (about["encoder"], about["covered_items"]) == ("bag", by_name["covered_items"])
    assert_same_params(params_of(folder / "texts"), params_of(folder / "by_name"))
    new = [
        {"item": "e", "text": ""},
        {"item": "o", "text": "zyx wvu"},
        {"item": "k", "text": "dog"},
    ]
    (folder / "new.jsonl").write_text("\n".join(map(json.dumps, new)))
    assert run(capsys, "predict", "texts", "new.jsonl", "--out", "n.npz", "--quiet")[0] == 0
    with np.load("n.npz", allow_pickle=False) as file:
        probs = file["leaf_probs"]
        assert file["items"].tolist() == ["e", "o", "k"]
    np.testing.assert_array_equal(probs[0], probs[1])
    assert not np.allclose(probs[0], probs[2])
    status, _, err = run(capsys, "predict", "texts", "x.npz", "--out", "n.npz")
    assert status == 2
    assert "holds features, but texts was trained on texts" in err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("items", "encoder"), [("texts.jsonl", "lstm"), ("embeddings.npz", "embeddings")]
)
def test_other_encoders(folder, capsys, items, encoder):
    given = (*TRAIN, "--votes", "votes.npz", "--features", items, "--encoder", encoder)
    given = (*given, "--no-checkpoints", "--consistency", "0.3", "--out", f"by_{encoder}")
    about = run_json(capsys, *given)
    assert (about["encoder"], about["checkpoints"]) == (encoder, None)
    assert np.isfinite(about["held_out_loss"]["best"])
    assert sorted(params_of(folder / f"by_{encoder}")) == ["encoder", "tower"]


def test_evaluation(folder, trained, capsys):
    given = ("evaluate", "model", "x.npz", "--gold", "gold.npz", "--votes", "votes.npz")
    about = run_json(capsys, *given)
    run(capsys, "predict", "model", "x.npz", "--out", "p.npz", "--quiet")
    gold = np.load("gold.npz")["Y"]
    with np.load("p.npz", allow_pickle=False) as file:
        leaf = TREE.leaf_nodes[file["leaf_probs"].argmax(axis=1)]
        root = file["node_probs"][:, :2].argmax(axis=1)
    assert about["path"]["accuracy"] == pytest.approx((leaf == gold).mean())
    top = np.where(gold < 2, gold, TREE.node_parent[gold])
    assert about["tasks"]["a"]["accuracy"] == pytest.approx((root == top).mean())
    assert about["levels"][1]["num_items"] == N
    assert np.sum(about["tasks"]["a"]["confusion"]) == N
    buckets = about["votes"]["by_number_of_votes"]
    assert buckets["0"]["items"] == 5
    assert sum(bucket["items"] for bucket in buckets.values()) == N
    votes = np.load("votes.npz")["L"]
    wrong = leaf != gold
    for bucket in about["votes"]["buckets"]:
        cast = votes[:, int(bucket["lf"].removeprefix("lf_"))] == TREE.node(
            *bucket["vote"].split("=")
        )
        assert (bucket["num_items"], bucket["num_errors"]) == (cast.sum(), (cast & wrong).sum())
    status, out, _ = run(capsys, *given)
    assert status == 0
    assert "most frequent mistake" in out


@pytest.mark.slow
def test_calibration_on_held_out_gold(folder, trained, capsys):
    given = (*VECTORS, "--gold", "gold.npz", "--validation", "0.5", "--no-checkpoints")
    about = run_json(capsys, *given, "--out", "calibrated", "--calibrate")
    assert about["temperatures"].keys() == {"a", "b", "c"}
    assert load_model("calibrated/model").temperatures == tuple(about["temperatures"].values())
    model, items, gold = (
        load_model("calibrated/model"),
        np.load("x.npz")["x"],
        np.load("gold.npz")["Y"],
    )
    losses = [
        network.evaluate_model(each, network.predict(each, items), gold).tasks.log_loss[0]
        for each in (model, model._replace(temperatures=None))
    ]
    assert losses[0] < losses[1]
    status, _, err = run(capsys, *VECTORS, "--out", "bad", "--calibrate")
    assert (status, "--calibrate: wants gold labels" in err) == (2, True)


# ---- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((7, 2))}, "bad.npz has 7 items, votes.npz has 60"),
        ({"x": np.full((N, 2), np.nan)}, "x: row 0, column 0 is not finite"),
        ({"y": np.zeros((N, 2))}, "an array x (features) or embeddings, got neither"),
        ({"x": np.zeros(N)}, "expected numbers [items, features]"),
        ({"x": np.zeros((2, 1)), "items": ["a", "a"]}, "item 'a' is there twice"),
        ({"x": np.array([[None]])}, "bad.npz: "),
    ],
)
def test_bad_vectors(folder, capsys, arrays, message):
    np.savez("bad.npz", **arrays)
    given = ("--votes", "votes.npz", "--features", "bad.npz", "--out", "bad")
    status, out, err = run(capsys, *TRAIN, *given)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not (folder / "bad").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ('{"words": 1}', 'line 2: expected an object with "text"'),
        ('{"text": "a", "item": "i"}', 'line 2: either every line has "item" or none has'),
    ],
)
def test_bad_lines(folder, capsys, line, message):
    (folder / "bad.jsonl").write_text('{"text": ""}\n' + line + "\n")
    given = ("--votes", "votes.npz", "--features", "bad.jsonl", "--out", "bad")
    status, _, err = run(capsys, *TRAIN, *given)
    assert status == 2
    assert message in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--encoder", "lstm"), "--encoder lstm: x.npz holds features; those that read them: f"),
        (("--validation", "1.5"), "--validation: got 1.5"),
        (("--widths", "a"), "--widths: got 'a'"),
        (("--steps", "0"), "--steps: got '0', expected a whole number of at least 1"),
        (("--out", "x.npz"), "x.npz: is a file, expected a folder"),
        (("--out", "."), "something else than a "),
        (("--out", "no/where"), "there is no folder"),
        (("--dropout", "0.25", "--out", "model"), "network.dropout: saved 0.5, expected 0.25"),
        (("--tree", "other.json", "--out", "model"), "another training: "),
    ],
)
def test_bad_options(folder, trained, capsys, options, message):
    other = {"a": {"x": {"b": ["u", "w"]}, "y": {"c": ["p", "q"]}}}
    (folder / "other.json").write_text(json.dumps(other))
    status, _, err = run(capsys, *VECTORS, "--out", "bad", *options)
    assert status == 2
    assert message in err


def test_nothing_to_learn_from(folder, capsys):
    np.savez("none.npz", L=np.full((N, 3), -1))
    given = ("--features", "x.npz", "--out", "bad")
    status, _, err = run(capsys, *TRAIN, "--votes", "none.npz", *given)
    assert status == 2
    assert "every LF abstains on every item" in err
    probs = np.full((N, 4), 0.25)
    np.savez("flat.npz", leaf_probs=probs, num_votes=np.ones(N, int))
    status, _, err = run(capsys, *TRAIN, "--labels", "flat.npz", *given)
    assert status == 2
    assert "every item has the same soft label" in err
    np.savez("flat.npz", leaf_probs=probs, num_votes=np.zeros(N, int))
    assert "no item has a vote" in run(capsys, *TRAIN, "--labels", "flat.npz", *given)[2]
    np.savez("flat.npz", leaf_probs=np.where(np.arange(N)[:, None] == 3, np.nan, probs))
    assert "row 3: expected prob" in run(capsys, *TRAIN, "--labels", "flat.npz", *given)[2]


def test_bad_predictions(folder, trained, capsys):
    np.savez("wide.npz", x=np.zeros((2, 3)))
    for arguments, message in (
        (("model", "wide.npz", "--out", "p.csv"), "wide.npz: items: got 3 features, expected 2"),
        (("model", "x.npz", "--out", "p.txt"), "expected .npz, .jsonl, .csv"),
        (("model", "x.npz", "--out", "x.npz"), "is also an input"),
        (("tree.json", "x.npz", "--out", "p.csv"), "no model of a network there"),
        (("model", "texts.jsonl", "--out", "p.csv"), "expected .npz with x or embeddings"),
    ):
        status, out, err = run(capsys, "predict", *arguments)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert message in err
    status, _, err = run(capsys, "evaluate", "model", "x.npz")
    assert (status, "required: --gold" in err) == (2, True)
