"""Scores, temperatures and error buckets against loops over the items."""

import functools
import json
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics as reference

from metal_jax import metrics
from metal_jax.network import (
    Encoder,
    NetworkConfig,
    build,
    calibrate,
    error_buckets,
    evaluate,
    evaluate_predictions,
    evaluate_slices,
    evaluation_record,
    fit_temperatures,
    format_error_buckets,
    scale_temperatures,
    with_temperatures,
)
from metal_jax.network._evaluation.gold import gold_by_root
from metal_jax.task_tree import TaskTree, log_normalise_tasks, node_sum, path_sum

TREE = TaskTree.from_dict(
    {
        "a": {"x": {"b": ["u", "v"]}, "y": {"c": {"p": {"d": ["i", "j"]}, "q": None, "r": None}}},
        "e": ["k", "l", "m"],
    }
)
NUM_ITEMS = 40
RNG = np.random.default_rng(0)
LOG_P = np.asarray(
    log_normalise_tasks(TREE, RNG.normal(size=(NUM_ITEMS, TREE.num_nodes)).astype(np.float32))
)
NODE_LOG_P = np.asarray(path_sum(TREE, LOG_P))


def draw_gold():
    """A node beneath each root: often a leaf, sometimes coarse, sometimes unknown."""
    gold = np.full((NUM_ITEMS, 2), -1, np.int32)
    for item in range(NUM_ITEMS):
        for root in range(2):
            if RNG.random() < 0.8:
                gold[item, root] = RNG.choice(np.flatnonzero(TREE.node_root == root))
    return gold


GOLD = draw_gold()
judge = jax.jit(functools.partial(evaluate_predictions, TREE, num_bins=4))
ALL = np.ones(NUM_ITEMS, np.float32)
PLAIN = judge(LOG_P, GOLD, weights=ALL)


def path_of(node):
    return [] if node < 0 else [*TREE.ancestors(int(node)), int(node)]


def best_leaf(item, root):
    leaves = TREE.leaf_nodes[TREE.root_leaves[root]]
    return int(leaves[NODE_LOG_P[item, leaves].argmax()])


PREDICTED = np.array([[best_leaf(item, root) for root in range(2)] for item in range(NUM_ITEMS)])


def test_tasks_one_by_one():
    for t, nodes in enumerate(TREE.task_nodes):
        pairs, probs = [], []
        for item in range(NUM_ITEMS):
            on_path = [v for node in GOLD[item] for v in path_of(node) if v in nodes]
            if on_path:
                p = np.exp(LOG_P[item, list(nodes)])
                pairs.append((on_path[0] - nodes.start, p.argmax()))
                probs.append(p)
        gold, predicted = np.array(pairs).T
        labels = list(range(len(nodes)))
        assert PLAIN.tasks.num_items[t] == len(pairs)
        matrix = reference.confusion_matrix(gold, predicted, labels=labels)
        assert PLAIN.confusion[t].tolist() == matrix.tolist()
        np.testing.assert_allclose(PLAIN.tasks.accuracy[t], np.mean(gold == predicted), rtol=1e-6)
        f1 = reference.f1_score(gold, predicted, average="macro")
        np.testing.assert_allclose(PLAIN.tasks.macro_f1[t], f1, rtol=1e-5)
        gold_p = np.array(probs)[np.arange(len(gold)), gold]
        np.testing.assert_allclose(PLAIN.tasks.log_loss[t], -np.log(gold_p).mean(), rtol=1e-5)
        gaps = PLAIN.tasks.confidence[t] - PLAIN.tasks.bin_accuracy[t]
        error = PLAIN.tasks.calibration_error[t]
        np.testing.assert_allclose(np.abs(gaps).mean(), error, rtol=1e-4)
        mean_confidence = np.max(probs, axis=1).mean()
        np.testing.assert_allclose(PLAIN.tasks.confidence[t].mean(), mean_confidence, rtol=1e-5)


def test_levels_paths_and_ancestor_sets():
    by_level = [[] for _ in range(TREE.depth)]
    hits = num_predicted = num_gold = 0
    right = []
    for item in range(NUM_ITEMS):
        known = [root for root in range(2) if GOLD[item, root] >= 0]
        paths = [(path_of(GOLD[item, r]), path_of(PREDICTED[item, r])) for r in known]
        for gold, predicted in paths:
            for level, node in enumerate(gold):
                at_level = predicted[level] if level < len(predicted) else -1
                by_level[level].append((node, at_level))
            hits += len(set(gold) & set(predicted))
            through = gold == predicted[: len(gold)]
            num_predicted += len(gold) if through else len(predicted)
            num_gold += len(gold)
        if known:
            right.append(all(gold == predicted[: len(gold)] for gold, predicted in paths))
    for level, pairs in enumerate(by_level):
        gold, predicted = np.array(pairs).T
        assert PLAIN.levels.num_items[level] == len(pairs)
        accuracy = np.mean(gold == predicted)
        np.testing.assert_allclose(PLAIN.levels.accuracy[level], accuracy, rtol=1e-6)
        labels = sorted({*gold, *predicted} - {-1})
        f1 = reference.f1_score(gold, predicted, labels=labels, average="macro", zero_division=0)
        np.testing.assert_allclose(PLAIN.levels.macro_f1[level], f1, rtol=1e-5)
    assert PLAIN.path.num_items == len(right)
    np.testing.assert_allclose(PLAIN.path.accuracy, np.mean(right), rtol=1e-6)
    precision, recall = hits / num_predicted, hits / num_gold
    f1 = 2 * precision * recall / (precision + recall)
    np.testing.assert_allclose(PLAIN.hierarchical, [precision, recall, f1], rtol=1e-5)


def test_weights_are_repetitions():
    counts = RNG.multinomial(NUM_ITEMS, np.full(NUM_ITEMS, 1 / NUM_ITEMS))
    weighted = judge(LOG_P, GOLD, weights=counts.astype(np.float32))
    rows = np.repeat(np.arange(NUM_ITEMS), counts)
    repeated = judge(LOG_P[rows], GOLD[rows], weights=ALL)
    for found, expected in zip(weighted, repeated, strict=True):
        if hasattr(found, "num_items"):
            assert (found.num_items <= expected.num_items).all()
            found, expected = found[1:], expected[1:]
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=1e-5), found, expected
        )


def test_what_has_no_gold_is_nan_with_no_items():
    nothing = judge(LOG_P, np.full_like(GOLD, -1), weights=ALL)
    outside = judge(LOG_P, GOLD, weights=0 * ALL)
    for found in (nothing, outside):
        for scores in (found.tasks, found.levels, found.path):
            assert not np.any(scores.num_items)
            assert all(np.isnan(x).all() for x in scores[1:])
        assert np.isnan(jnp.stack(found.hierarchical)).all()
        assert not any(np.any(matrix) for matrix in found.confusion)
    # Gold that stops above a task leaves only that task without items.
    coarse = np.full_like(GOLD, -1)
    coarse[:, 0] = TREE.node("a", "x")
    found = judge(LOG_P, coarse, weights=ALL)
    assert found.tasks.num_items.tolist() == [NUM_ITEMS, 0, 0, 0, 0]
    assert np.isnan(found.tasks.accuracy).tolist() == [False, True, True, True, True]


IDENTITY = Encoder(lambda key, inputs: {}, lambda params, inputs, key: inputs)
NETWORK = build(TREE, IDENTITY, NetworkConfig((4,)))
INPUTS = RNG.normal(size=(NUM_ITEMS, 3)).astype(np.float32)
PARAMS = jax.jit(NETWORK.init)(jax.random.key(0), INPUTS)


@pytest.mark.slow
def test_slices_are_evaluations_of_their_items():
    membership = RNG.random((NUM_ITEMS, 3)) < [0.7, 0.3, 0]
    log_p = NETWORK.apply(PARAMS, INPUTS)
    whole = judge(log_p, GOLD, weights=ALL)
    expected = [judge(log_p, GOLD, weights=inside.astype(np.float32)) for inside in membership.T]
    found = evaluate_slices(NETWORK, PARAMS, INPUTS, GOLD, membership, num_bins=4)
    jax.tree.map(
        lambda x, *ys: np.testing.assert_allclose(x, np.stack(ys), rtol=1e-4, atol=1e-5),
        found,
        *expected,
    )
    record = evaluation_record(found, TREE, slice_names=["one", "two", "none"])
    text = json.dumps(record, allow_nan=False)
    assert json.loads(text)["none"]["path"] == {"num_items": 0, "accuracy": None, "macro_f1": None}
    record = json.loads(json.dumps(evaluation_record(whole, TREE), allow_nan=False))
    assert record["tasks"]["c"]["labels"] == ["p", "q", "r"]
    assert np.shape(record["tasks"]["c"]["confusion"]) == (3, 3)
    assert [level["num_items"] for level in record["levels"]] == whole.levels.num_items.tolist()
    with pytest.raises(ValueError, match="slice_names: got 1, expected 3"):
        evaluation_record(found, TREE, slice_names=["one"])
    with pytest.raises(ValueError, match=r"membership: got int64\[40, 3\], expected bool"):
        evaluate_slices(NETWORK, PARAMS, INPUTS, GOLD, membership.astype(int))


@pytest.mark.parametrize(
    ("gold", "message"),
    [
        (GOLD[1:], r"gold: got shape \(39, 2\), expected \[40\]"),
        (GOLD.astype(float), "gold: got dtype float64"),
        (np.where(np.arange(40) == 7, 99, -1), "gold: item 7: got 99, expected a node id in 0..11"),
        (np.tile([0, 1], (40, 1)), r"gold: item 0: got nodes \[0, 1\], expected one for each root"),
    ],
)
def test_bad_gold(gold, message):
    with pytest.raises(ValueError, match=message):
        evaluate(NETWORK, PARAMS, INPUTS, gold)


def test_gold_of_a_forest_may_come_in_any_order():
    flat = np.where(GOLD[:, 0] >= 0, GOLD[:, 0], GOLD[:, 1])
    placed = gold_by_root(flat, TREE, NUM_ITEMS)
    assert placed[:, 0].tolist() == GOLD[:, 0].tolist()
    np.testing.assert_array_equal(gold_by_root(GOLD[:, ::-1], TREE, NUM_ITEMS), GOLD)


def test_temperatures_minimise_the_loss_of_each_task():
    found = np.asarray(jax.jit(functools.partial(fit_temperatures, TREE))(LOG_P, GOLD))
    labels = [TREE.task_labels(GOLD).max(1)[:, t] for t in range(TREE.num_tasks)]
    for t, nodes in enumerate(TREE.task_nodes):
        rows = np.flatnonzero(labels[t] >= 0)

        def loss(temperature, nodes=nodes, rows=rows, gold=labels[t]):
            logits = LOG_P[rows][:, list(nodes)].astype(float) / temperature
            log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
            return -log_p[np.arange(len(rows)), gold[rows]].mean()

        grid = np.exp(np.linspace(-np.log(20), np.log(20), 2001))
        best = grid[np.argmin([loss(x) for x in grid])]
        # Random predictions: the fit often runs to the end of the range, where all is uniform.
        np.testing.assert_allclose(found[t], best, rtol=5e-3)


def test_temperatures_are_recovered_and_keep_the_tree_consistent():
    true = np.array([0.5, 3.0, 1.5, 1.0, 2.0], np.float32)
    rng = np.random.default_rng(1)
    logits = 2 * rng.normal(size=(8000, TREE.num_nodes)).astype(np.float32)
    log_p = log_normalise_tasks(TREE, logits)
    cool = scale_temperatures(TREE, log_p, true)
    leaf = np.exp(path_sum(TREE, cool))[:, TREE.leaf_nodes]
    gold = np.stack(
        [
            TREE.leaf_nodes[span][
                (leaf[:, span].cumsum(1) < rng.random((len(leaf), 1))).sum(1).clip(max=n - 1)
            ]
            for span in TREE.root_leaves
            for n in [span.stop - span.start]
        ],
        axis=1,
    )
    weights = (np.arange(8000) < 7900).astype(np.float32)
    gold[7900:] = gold[7900:, ::-1] * 0  # items of weight 0 say nothing
    found = fit_temperatures(TREE, log_p, gold, weights=weights)
    np.testing.assert_allclose(found, true, rtol=0.12)
    marginals = np.exp(path_sum(TREE, scale_temperatures(TREE, log_p, found)))
    leaves = marginals[:, TREE.leaf_nodes]
    np.testing.assert_allclose(node_sum(TREE, leaves), marginals, rtol=1e-4)
    assert fit_temperatures(TREE, log_p, np.full_like(gold, -1)).tolist() == [1] * 5


def test_calibration_of_a_network():
    temperatures = calibrate(NETWORK, PARAMS, INPUTS, GOLD)
    calibrated = with_temperatures(NETWORK, temperatures)
    assert calibrated is with_temperatures(NETWORK, temperatures)
    before, after = (
        judge(net.apply(PARAMS, INPUTS), GOLD, weights=ALL) for net in (NETWORK, calibrated)
    )
    assert (after.tasks.log_loss <= before.tasks.log_loss + 1e-6).all()
    assert (after.tasks.log_loss < before.tasks.log_loss - 1e-3).any()
    np.testing.assert_array_equal(after.tasks.accuracy, before.tasks.accuracy)
    same = evaluate(NETWORK, PARAMS, INPUTS, GOLD, temperatures=temperatures, num_bins=4)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4), same, after)
    with pytest.raises(ValueError, match="temperatures: got .* expected 5 positive numbers"):
        with_temperatures(NETWORK, [1.0, -1.0])


def test_error_buckets_by_loops():
    votes = RNG.integers(-2, TREE.num_nodes, (NUM_ITEMS, 3))
    names = ["one", "two", "three"]
    known = [item for item in range(NUM_ITEMS) if (GOLD[item] >= 0).any()]
    mistakes = {}
    for item in known:
        for t in range(TREE.num_tasks):
            gold, guess = (TREE.task_labels(x[item]).max(0)[t] for x in (GOLD, PREDICTED))
            if gold >= 0 and gold != guess and item not in mistakes:
                task = TREE.tasks[t]
                mistakes[item] = f"{task.name}: {task.labels[gold]} -> {task.labels[guess]}"
    table = error_buckets(votes, PREDICTED, GOLD, TREE, lf_names=names)
    base_rate = len(mistakes) / len(known)
    expected = {}
    for j, name in enumerate(names):
        for node, label in enumerate(TREE.node_names):
            items = [item for item in known if votes[item, j] == node]
            wrong = [mistakes[item] for item in items if item in mistakes]
            if items:
                expected[name, "=".join(label)] = (items, wrong)
    assert {(bucket.lf, bucket.vote) for bucket in table} == expected.keys()
    for bucket in table:
        items, wrong = expected[bucket.lf, bucket.vote]
        assert (bucket.num_items, bucket.num_errors) == (len(items), len(wrong))
        assert bucket.lift == pytest.approx(len(wrong) / len(items) / base_rate)
        assert bucket.excess == pytest.approx(len(wrong) - len(items) * base_rate)
        if wrong:
            assert Counter(wrong)[bucket.mistake] == max(Counter(wrong).values())
        else:
            assert bucket.mistake is None
    excess = [bucket.excess for bucket in table]
    assert excess == sorted(excess, reverse=True)
    fewer = error_buckets(votes, PREDICTED, GOLD, TREE, lf_names=names, min_items=3)
    assert fewer == [bucket for bucket in table if bucket.num_items >= 3]
    text = format_error_buckets(table, most=5)
    assert len(text.splitlines()) == 6
    assert table[0].mistake in text


def test_error_buckets_at_the_edges():
    tree = TaskTree.single(2)
    right = error_buckets([[0], [1]], [0, 1], [0, 1], tree)
    assert [bucket.num_errors for bucket in right] == [0, 0]
    assert np.isnan([bucket.lift for bucket in right]).all()
    assert error_buckets([[0], [1]], [0, 1], [-1, -1], tree) == []
    with pytest.raises(ValueError, match="predicted: item 1: got 5"):
        error_buckets([[0], [1]], [0, 5], [0, 1], tree)


def test_hierarchical_scores_do_not_punish_what_gold_leaves_open():
    scores = metrics.hierarchical_scores([[0, 2, 5]], [[0, -1, -1]])
    assert [float(x) for x in scores] == [1, 1, 1]
    scores = metrics.hierarchical_scores([[1, 3, -1]], [[0, -1, -1]])
    assert [float(x) for x in scores] == [0, 0, 0]
