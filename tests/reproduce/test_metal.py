"""The protocol on a small made-up problem, and the command line."""

import dataclasses
import json

import numpy as np
import pytest

from metal_jax import labeling, network
from metal_jax.cli import main
from metal_jax.datasets import TextDataset
from metal_jax.reproduce import (
    MetalConfig,
    Problem,
    gold_leaf_probs,
    run_metal,
    score,
    summarise_metal,
)
from metal_jax.task_tree import TaskTree

TREE = TaskTree.from_dict(
    {"topic": {"sport": {"game": ["ball", "board"]}, "trade": {"good": ["corn", "gold", "tea"]}}}
)
WORDS = {"ball": "goal match", "board": "pawn chess", "corn": "field crop", "gold": "mine ring"}


def toy_problem():
    """Sentences of which half the words tell the leaf; keyword LFs see a part of them."""
    rng = np.random.default_rng(0)
    items, gold = [], []
    for _ in range(240):
        leaf = rng.choice(["ball", "board", "corn", "gold", "tea"])
        telling = WORDS.get(leaf, "cup leaf").split()
        words = [*rng.choice(telling, 2), *rng.choice(["the", "a", "one", "red"], 3)]
        items.append({"text": " ".join(rng.permutation(words))})
        task = "game" if leaf in ("ball", "board") else "good"
        gold.append(TREE.node(task, leaf))
    lfs = [
        labeling.keyword_lf(words.split()[0], "topic", leaf, [words.split()[0]])
        for leaf, words in WORDS.items()
    ]
    order = rng.permutation(240)
    bounds = {"train": (0, 140), "small": (140, 160), "valid": (160, 180), "test": (180, 240)}
    splits = {name: order[a:b] for name, (a, b) in bounds.items()}
    data = TextDataset("toy", TREE, tuple(items), np.asarray(gold, np.int32), splits)
    applied = labeling.apply(lfs, items, TREE)
    return Problem(data, applied.votes, applied.lf_names, "made up")


CONFIG = MetalConfig(
    num_seeds=2,
    sizes=(10, 20),
    fit=network.FitConfig(training=network.TrainingConfig(32, 60, 20, 3)),
)


@pytest.fixture(scope="module")
def record():
    return run_metal(toy_problem(), CONFIG)


def test_every_row_is_judged_on_the_same_items(record):
    rows = record["rows"]
    assert list(rows) == [
        "supervised, 10 labels",
        "supervised, 20 labels",
        "LFs, majority vote",
        "LFs, label model",
        "single-task networks",
        "multi-task network",
        "all gold labels",
        "multi-task network + votes",
        "all gold labels + votes",
    ]
    for name, row in rows.items():
        runs = 1 if name.startswith("LFs") else 2
        for items in ("all", "covered"):
            assert set(row[items]) == {"mean over tasks", "path", "topic", "game", "good"}
            assert all(len(values) == runs for values in row[items].values())
            assert all(0 <= v <= 1 for values in row[items].values() for v in values)
    assert json.loads(json.dumps(record)) == record


def test_the_network_learns_what_the_lfs_do_not_see(record):
    mean = {k: np.mean(v["all"]["mean over tasks"]) for k, v in record["rows"].items()}
    assert mean["multi-task network"] > mean["LFs, majority vote"]
    assert mean["all gold labels"] > mean["LFs, majority vote"]


def test_the_same_seed_gives_the_same_record_and_progress_is_told(record):
    steps = []
    config = dataclasses.replace(CONFIG, sizes=(), comparisons=False)
    again = run_metal(toy_problem(), config, on_progress=steps.append)
    assert again["rows"] == {name: record["rows"][name] for name in again["rows"]}
    assert steps == [
        "toy: features",
        "toy: label model",
        "toy: multi-task network",
        "toy: multi-task network + votes",
    ]


def test_summary_is_arithmetic(record):
    gains = summarise_metal(record)
    mean = {k: 100 * np.mean(v["all"]["mean over tasks"]) for k, v in record["rows"].items()}
    over = mean["multi-task network"] - mean["LFs, majority vote"]
    assert gains["over_lfs"] == pytest.approx(over)
    gap = mean["all gold labels"] - mean["LFs, majority vote"]
    assert gains["gap_recovered"] == pytest.approx(100 * over / gap)
    assert gains["over_supervised_10"] == pytest.approx(
        mean["multi-task network"] - mean["supervised, 10 labels"]
    )


def test_scores_split_ties_and_skip_inactive_tasks():
    data = toy_problem().dataset
    gold = np.array([TREE.node("game", "ball"), TREE.node("good", "tea")], np.int32)
    data = data._replace(gold=gold)
    uniform = np.array([[0.25, 0.25, 1 / 6, 1 / 6, 1 / 6]] * 2, np.float32)
    result = score(data, uniform, np.arange(2))
    assert result["topic"] == 0.5
    assert result["game"] == 0.5
    assert result["good"] == pytest.approx(1 / 3)
    np.testing.assert_allclose(gold_leaf_probs(TREE, np.array([1, 2]))[0], [0, 0, *[1 / 3] * 3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reproduce", "metal", "--seeds", "0"], "--seeds: got 0"),
        (["reproduce", "metal", "--data", "missing"], "missing"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, message, capsys, tmp_path):
    assert main([*arguments, "--quiet", "--out", str(tmp_path / "r.json")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_main_job(tmp_path, capsys):
    out = tmp_path / "results.json"
    assert main(["reproduce", "metal", "--quick", "--out", str(out)]) == 0
    (record,) = json.loads(out.read_text())["results"]
    mean = {k: np.mean(v["all"]["mean over tasks"]) for k, v in record["rows"].items()}
    order = [
        "multi-task network + votes",
        "multi-task network",
        "LFs, label model",
        "LFs, majority vote",
    ]
    assert [mean[row] for row in order] == sorted((mean[row] for row in order), reverse=True)
    assert mean["multi-task network"] > mean["supervised, 100 labels"]
    text = capsys.readouterr().out
    assert "fingerprint" in text
    assert "on other data" in text
