"""The protocol on a small made-up problem, and the command line."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from metal_jax import labeling, network, reproduce
from metal_jax.cli import main
from metal_jax.cli._reproduce_metal import _findings
from metal_jax.datasets import TextDataset
from metal_jax.reproduce import (
    MetalConfig,
    Problem,
    gold_leaf_probs,
    run_metal,
    score,
    summarise_metal,
)
from metal_jax.reproduce._metal import _ablations
from metal_jax.reproduce._metal_networks import _conditionals
from metal_jax.reproduce._metal_scores import compare_hits, item_hits
from metal_jax.task_tree import Task, TaskTree, node_sum

TREE = TaskTree.from_dict(
    {"topic": {"sport": {"game": ["ball", "board"]}, "trade": {"good": ["corn", "gold", "tea"]}}}
)
WORDS = {"ball": "goal match", "board": "pawn chess", "corn": "field crop", "gold": "mine ring"}


def toy_problem(num_test=60):
    """Sentences of which half the words tell the leaf; keyword LFs see a part of them."""
    rng = np.random.default_rng(0)
    items, gold = [], []
    num = 180 + num_test
    for _ in range(num):
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
    order = rng.permutation(num)
    bounds = {"train": (0, 140), "small": (140, 160), "valid": (160, 180), "test": (180, num)}
    splits = {name: order[a:b] for name, (a, b) in bounds.items()}
    data = TextDataset("toy", TREE, tuple(items), np.asarray(gold, np.int32), splits)
    applied = labeling.apply(lfs, items, TREE)
    return Problem(data, applied.votes, applied.lf_names, "made up")


CONFIG = MetalConfig(
    num_seeds=2,
    sizes=(10, 20, 40),  # there are 20
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
    again = run_metal(toy_problem(), config, on_progress=lambda step, *_: steps.append(step))
    assert again["rows"] == {name: record["rows"][name] for name in again["rows"]}
    assert "significance" not in again
    assert "gap_recovered" not in summarise_metal(again)
    assert steps == [
        "toy: features",
        "toy: label model",
        "toy: multi-task network",
        "toy: multi-task network + votes",
    ]


def test_ablations_change_one_part_each():
    class Asked:
        train = np.array([0, 2])

        def multi_task(self, rows, leaf_probs, **options):
            return rows.tolist(), np.asarray(leaf_probs).tolist(), options

    soft = np.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]])
    ablations = _ablations(Asked(), soft, np.arange(3), lambda rows: rows[:, None])
    top, logits, apart = (
        network.NetworkConfig(**changed)
        for changed in ({"attach": "top"}, {"pass_parent": "logits"}, {"pass_parent": "none"})
    )
    assert {name: train() for name, train in ablations.items()} == {
        "all heads at the top": ([0, 2], soft.tolist(), {"shape": top}),
        "parent's logits passed": ([0, 2], soft.tolist(), {"shape": logits}),
        "no parent passing": ([0, 2], soft.tolist(), {"shape": apart}),
        "hard labels": ([0, 2], [[0, 1, 0], [0.5, 0, 0.5]], {}),
        "no activity weights": ([0, 2], soft.tolist(), {"activity_weights": False}),
        "uncovered items kept": ([0, 1, 2], [[0], [1], [2]], {}),
    }
    assert "uncovered items kept" not in _ablations(Asked(), soft, np.array([0, 2]), None)


@pytest.mark.slow
def test_ablations_are_rows_like_the_others(record):
    config = dataclasses.replace(CONFIG, sizes=(), ablations=True)
    again = run_metal(toy_problem(), config)
    assert again["rows"]["multi-task network"] == record["rows"]["multi-task network"]
    # On 60 items two networks may err alike.
    again = run_metal(toy_problem(num_test=2000), config)
    ours = again["rows"]["multi-task network"]
    changed = [row for name, row in again["rows"].items() if "network, " in name]
    assert len(changed) == 6
    assert all(row != ours and row["all"].keys() == ours["all"].keys() for row in changed)
    assert all(np.mean(row["all"]["topic"]) > 0.6 for row in changed)


def test_summary_is_arithmetic(record):
    gains = summarise_metal(record)
    mean = {k: 100 * np.mean(v["all"]["mean over tasks"]) for k, v in record["rows"].items()}
    over = mean["multi-task network"] - mean["LFs, majority vote"]
    assert gains["over_lfs"] == pytest.approx(over)
    gap = mean["all gold labels"] - mean["LFs, majority vote"]
    assert gains["gap_recovered"] == pytest.approx(100 * over / gap)
    assert next(iter(gains)) == "gap_recovered"
    assert gains["over_supervised_10"] == pytest.approx(
        mean["multi-task network"] - mean["supervised, 10 labels"]
    )


def made_up_record(curve, ours):
    accuracies = {f"supervised, {size} labels": value for size, value in curve.items()}
    accuracies |= {"multi-task network": ours, "multi-task network + votes": ours}
    accuracies |= {"supervised, 100 + votes": 0.9, "LFs, majority vote": 0.5}
    rows = {name: {"all": {"mean over tasks": [a]}} for name, a in accuracies.items()}
    return {"rows": rows}


@pytest.mark.parametrize(
    ("ours", "expected", "words"),
    [
        (0.60, 25, "at most 25"),
        (0.65, 25 * 2**0.5, "about 35"),
        (0.70, 50, "about 50"),
        (0.72, 100 * 4 ** (1 / 3), "about 159"),  # the dip at 100 does not count
        (0.90, np.inf, "more than 400"),
    ],
)
def test_the_worth_in_hand_labels_is_read_off_the_curve(ours, expected, words):
    record = made_up_record({25: 0.6, 50: 0.7, 100: 0.7, 400: 0.76}, ours)
    gains = summarise_metal(record)
    assert gains["catch_up"] == pytest.approx(expected)
    assert any(f"{words} hand labels" in sentence for sentence in _findings(record, gains))


def test_findings_begin_with_the_share_of_the_gap(record):
    first, second, worth, test = _findings(record, summarise_metal(record))
    for suffix, sentence in (("", first), (" + votes", second)):
        assert sentence.startswith(f"multi-task network{suffix}, averaged over tasks: ")
        assert "of the gap between majority vote and all gold" in sentence.split(",")[1]
    assert "hand labels" in worth
    assert "95 % interval" in test
    assert "paired bootstrap over test items and seeds" in test


def test_significance_is_that_of_the_difference_of_the_rows(record):
    rows = record["rows"]
    for field in ("mean over tasks", "path"):
        ours, theirs = (
            100 * np.mean(rows[row]["all"][field])
            for row in ("multi-task network", "single-task networks")
        )
        test = record["significance"][field]
        assert test["difference"] == pytest.approx(ours - theirs, abs=1e-4)
        assert test["low"] <= test["difference"] <= test["high"]
        assert 0 < test["p_value"] <= 1


def test_bootstrap_agrees_with_theory_and_is_antisymmetric():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 1, 2, 900)) < np.array([0.7, 0.6])[:, None, None, None]
    first, second = first.astype(float), second.astype(float)
    found = compare_hits(first, second, 0)["path"]
    gain = 100 * (first - second)[0, 1]
    assert found["difference"] == pytest.approx(gain.mean())
    half = 1.96 * gain.std() / 30
    assert found["low"] == pytest.approx(gain.mean() - half, abs=0.15 * half)
    assert found["high"] == pytest.approx(gain.mean() + half, abs=0.15 * half)
    assert found["p_value"] < 0.01
    back = compare_hits(second, first, 0)["path"]
    assert back["low"] == pytest.approx(-found["high"])
    assert back["p_value"] == found["p_value"]
    assert compare_hits(first, first, 0)["mean over tasks"]["p_value"] == 1


def test_bootstrap_counts_a_task_on_its_own_items_and_draws_seeds():
    hits = np.array([[1.0, 1, 0, 0], [1, 0, np.nan, np.nan], [1, 0, 0, 0]])
    none = np.where(np.isnan(hits), np.nan, 0.0)
    found = compare_hits(hits[None], none[None], 0)
    assert found["mean over tasks"]["difference"] == pytest.approx(50)
    assert found["path"]["difference"] == pytest.approx(25)
    everywhere = np.ones((2, 2, 50))
    seeds = np.stack([everywhere[0], 0 * everywhere[1]])
    found = compare_hits(seeds, 0 * seeds, 0)["path"]
    assert (found["low"], found["high"]) == (0, 100)  # one seed of the two, drawn twice


def test_item_hits_against_a_loop():
    data = toy_problem().dataset
    rng = np.random.default_rng(1)
    gold = rng.integers(-1, TREE.num_nodes, 30).astype(np.int32)
    data = data._replace(gold=gold)
    probs = rng.dirichlet(np.ones(5), 30).astype(np.float32)
    found = item_hits(data, probs, np.arange(30))
    labels = TREE.task_labels(gold)
    for i in range(30):
        for t, nodes in enumerate(TREE.task_nodes):
            guess = np.argmax([probs[i, TREE.covers[node]].sum() for node in nodes])
            expected = guess == labels[i, t] if labels[i, t] >= 0 else np.nan
            np.testing.assert_equal(found[t, i], expected)
        leaf = TREE.node_leaf[gold[i]] if gold[i] >= 0 else -1
        np.testing.assert_equal(found[3, i], probs[i].argmax() == leaf if leaf >= 0 else np.nan)


def test_conditionals_are_targets_of_a_forest_of_the_tasks():
    probs = np.array([[0.1, 0.3, 0.2, 0.4, 0], [0, 0, 0.5, 0.25, 0.25]], np.float32)
    conditionals, active = _conditionals(TREE, probs)
    np.testing.assert_allclose(
        conditionals,
        [[0.4, 0.6, 0.25, 0.75, 1 / 3, 2 / 3, 0], [0, 1, 0.5, 0.5, 0.5, 0.25, 0.25]],
        rtol=1e-6,
    )
    np.testing.assert_allclose(active, [[1, 0.4, 0.6], [1, 0, 1]], rtol=1e-6)
    # So the loss of a forest counts every task once, whatever the probability that it is active.
    forest = TaskTree.from_tasks([Task(task.name, task.labels) for task in TREE.tasks])
    np.testing.assert_array_equal(node_sum(forest, jnp.asarray(conditionals)), conditionals)
    assert forest.task_nodes == TREE.task_nodes


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


def test_flags_reach_the_protocol(monkeypatch, record, tmp_path, capsys):
    asked = []

    def run(problem, config, *, on_progress, remember):
        asked.append(config)
        return record

    monkeypatch.setattr(reproduce, "load_problems", lambda folder: [toy_problem()])
    monkeypatch.setattr(reproduce, "run_metal", run)
    out = tmp_path / "r.json"
    for flags in ([], ["--ablations", "--seeds", "3"], ["--quick"]):
        assert main(["reproduce", "metal", "--out", str(out), *flags]) == 0
    assert [(c.num_seeds, c.ablations, c.comparisons) for c in asked] == [
        (5, False, True),
        (3, True, True),
        (2, False, False),
    ]
    assert json.loads(out.read_text())["results"] == [record]
    assert "points, 95 % interval" in " ".join(capsys.readouterr().out.split())


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
