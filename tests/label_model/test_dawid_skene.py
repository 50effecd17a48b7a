"""Dawid-Skene: an independent flat implementation, recovery, symmetries, edge cases."""

import jax
import numpy as np
import pytest
from reference import flat_dawid_skene, flat_majority

from metal_jax.label_model import (
    ConditionalTables,
    DawidSkeneConfig,
    e_step,
    fit_dawid_skene,
    lf_accuracy,
    log_posterior,
    posterior,
    vote_data,
)
from metal_jax.label_model._gold import gold_mask
from metal_jax.labeling import synthetic_votes, validate
from metal_jax.task_tree import TaskTree, from_metal_hierarchy

TREE = from_metal_hierarchy([2, 3, 3], [(0, 1), (0, 2)])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("k", [2, 3])
def test_one_task_equals_a_flat_implementation(k):
    votes = synthetic_votes(jax.random.key(k), 300, 6, TaskTree.single(k)).votes
    votes[:, 0] = np.where(votes[:, 0] == 1, 1, -1)  # a keyword LF
    votes[:, 1] = np.where(votes[:, 1] == -1, 0, votes[:, 1])  # one that never abstains
    config = DawidSkeneConfig(max_steps=20, tolerance=-1.0)
    result = fit_dawid_skene(votes, TaskTree.single(k), config=config)
    expected = flat_dawid_skene(votes, k, steps=20, accuracy=0.7, strength=1.0, balance_items=1.0)
    assert result.num_steps == 20
    assert not result.converged
    np.testing.assert_allclose(posterior(result, votes), expected, atol=1e-6)


@pytest.mark.parametrize("tree", [TaskTree.single(2), TREE], ids=["k=2", "tree"])
@pytest.mark.parametrize("seed", [0, 1])
def test_recovers_the_generator(tree, seed):
    """Snorkel-metal's acceptance case: error < 0.025, accuracy within a point of Bayes."""
    data = synthetic_votes(jax.random.key(seed), 10_000, 10, tree)
    result = fit_dawid_skene(data.votes, tree)
    columns = result.columns
    truth = data.conditionals[columns.lf, tree.node_leaf[columns.symbol]]
    bayes = ConditionalTables(
        np.log(data.class_balance), np.log(truth), np.log(data.conditionals[:, -1])
    )
    error = np.abs(np.exp(result.params.log_vote) - truth).mean()
    assert error < 0.01  # measured: at most 0.0073 over four seeds
    best = np.argmax(log_posterior(bayes, data.votes, columns, tree), 1) == data.leaves
    ours = np.argmax(posterior(result, data.votes), 1) == data.leaves
    assert ours.mean() > best.mean() - 0.01
    assert result.converged


@pytest.mark.usefixtures("x64")
def test_the_objective_never_falls():
    votes = np.random.default_rng(0).integers(-2, TREE.num_nodes, (500, 8))
    for informative in (True, False):
        config = DawidSkeneConfig(informative_abstains=informative, tolerance=0.0)
        trace = fit_dawid_skene(votes, TREE, config=config).objective_trace
        assert (np.diff(trace) > -1e-8 * np.abs(trace[0])).all()


@pytest.mark.usefixtures("x64")
def test_lf_order_and_class_names_do_not_matter():
    tree = TaskTree.single(3)
    votes = synthetic_votes(jax.random.key(0), 2000, 7, tree).votes
    probs = np.asarray(posterior(fit_dawid_skene(votes, tree), votes))
    order = np.random.default_rng(0).permutation(7)
    moved = votes[:, order]
    np.testing.assert_allclose(posterior(fit_dawid_skene(moved, tree), moved), probs, atol=1e-6)
    relabel = np.array([2, 0, 1, -1])  # the last entry keeps abstains
    renamed = relabel[votes]
    np.testing.assert_allclose(
        posterior(fit_dawid_skene(renamed, tree), renamed)[:, relabel[:3]], probs, atol=1e-6
    )


def test_a_forest_is_its_roots_side_by_side():
    one, two = TaskTree.single(2, name="a"), TaskTree.single(3, name="b")
    forest = TaskTree.from_dict({**one.to_dict(), **two.to_dict()})
    first = synthetic_votes(jax.random.key(0), 800, 5, one).votes
    second = synthetic_votes(jax.random.key(1), 800, 6, two).votes
    joined = np.concatenate([first, np.where(second < 0, second, second + 2)], axis=1)
    config = DawidSkeneConfig(max_steps=15, tolerance=-1.0)
    probs = posterior(fit_dawid_skene(joined, forest, config=config), joined)
    for votes, tree, span in ((first, one, slice(0, 2)), (second, two, slice(2, 5))):
        alone = posterior(fit_dawid_skene(votes, tree, config=config), votes)
        np.testing.assert_allclose(probs[:, span], alone, atol=1e-5)


def test_ignored_abstains_equal_never_asked():
    votes = synthetic_votes(jax.random.key(3), 1000, 6, TaskTree.single(2)).votes
    config = DawidSkeneConfig(informative_abstains=False)
    ignored = fit_dawid_skene(votes, TaskTree.single(2), config=config)
    never = np.where(votes < 0, -2, votes)
    asked = fit_dawid_skene(never, TaskTree.single(2))
    np.testing.assert_allclose(posterior(ignored, votes), posterior(asked, never), atol=1e-5)


def test_class_balance_given_or_estimated():
    tree = TaskTree.single(2)
    balance = np.array([0.8, 0.2])
    data = synthetic_votes(jax.random.key(0), 20_000, 10, tree, class_balance=balance)
    estimated = fit_dawid_skene(data.votes, tree)
    np.testing.assert_allclose(estimated.class_balance, balance, atol=0.02)
    given = fit_dawid_skene(data.votes, tree, balance)
    np.testing.assert_allclose(given.class_balance, balance, atol=1e-6)


@pytest.mark.parametrize(
    ("balance", "message"),
    [
        ([0.5, 0.3, 0.2], r"class_balance: got shape \(3,\), expected \(2,\)"),
        ([1.0, 0.0], "leaf .'label', '1'.: got 0.0"),
        ([0.5, np.nan], "leaf .'label', '1'.: got nan"),
        ([0.5, 0.4], "root 'label' sums to 0.9"),
    ],
)
def test_bad_class_balances(balance, message):
    with pytest.raises(ValueError, match=message):
        fit_dawid_skene([[0, 1], [1, 1]], TaskTree.single(2), balance)


@pytest.mark.slow
def test_edge_cases_have_defined_results():
    tree = TaskTree.single(3)
    with pytest.raises(ValueError, match="every LF abstains on every item"):
        fit_dawid_skene(np.full((4, 3), -1), tree)
    with pytest.raises(ValueError, match="expected a node id"):
        fit_dawid_skene([[0, 7]], tree)
    for votes in ([[0]], [[0, 0]], [[0, 1], [-1, -1]], [[0, -1], [0, -1]]):
        probs = np.asarray(posterior(fit_dawid_skene(votes, tree), votes))
        assert np.isfinite(probs).all()
        np.testing.assert_allclose(probs.sum(1), 1, atol=1e-6)
    only = TaskTree.single(1)
    assert posterior(fit_dawid_skene([[0], [-1]], only), [[0], [-1]]).tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize(
    "config", [{"prior_votes": 0}, {"prior_accuracy": 1}, {"max_steps": 0}, {"tying": "coin"}]
)
def test_bad_settings(config):
    with pytest.raises(ValueError, match="expected"):
        DawidSkeneConfig(**config)


def flat_coins(votes, k, tying, *, steps):
    """Single-task EM with one accuracy for each LF (and class), abstains ignored."""
    voted, n = votes >= 0, len(votes)
    right = votes[:, :, None] == np.arange(k)  # [n, m, y]
    q = 0.99 * flat_majority(votes, k) + 0.01 / k
    for _ in range(steps):
        balance = (q.sum(0) + 1) / (n + k)
        hits = np.einsum("imy,iy->my", right, q) + 0.7
        asked = np.einsum("im,iy->my", voted, q) + 1
        if tying == "one_coin":
            hits, asked = (np.broadcast_to(x.sum(1, keepdims=True), x.shape) for x in (hits, asked))
        coin = hits / asked
        score = np.log(np.where(right, coin, (1 - coin) / (k - 1))) * voted[:, :, None]
        q = np.log(balance) + score.sum(1)
        q = np.exp(q - np.logaddexp.reduce(q, axis=1, keepdims=True))
    return q


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("tying", ["class", "one_coin"])
def test_tied_tables_equal_a_flat_implementation(tying):
    votes = synthetic_votes(jax.random.key(3), 300, 6, TaskTree.single(3)).votes
    votes[:, 0] = np.where(votes[:, 0] == 1, 1, -1)  # never used two of its labels
    config = DawidSkeneConfig(
        tying=tying, all_labels=True, informative_abstains=False, max_steps=20, tolerance=-1.0
    )
    result = fit_dawid_skene(votes, TaskTree.single(3), config=config)
    expected = flat_coins(votes, 3, tying, steps=20)
    np.testing.assert_allclose(posterior(result, votes), expected, atol=1e-9)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("tying", ["class", "one_coin"])
def test_tied_tables_on_a_tree(tying):
    votes = np.random.default_rng(0).integers(-2, TREE.num_nodes, (500, 8))
    votes[:, 7] = np.where(votes[:, 7] == 3, 3, -1)  # right or wrong, nothing between
    config = DawidSkeneConfig(tying=tying, tolerance=0.0, max_steps=50)
    result = fit_dawid_skene(votes, TREE, config=config)
    trace = result.objective_trace
    assert (np.diff(trace) > -1e-8 * np.abs(trace[0])).all()
    lf, covered = result.columns.lf, TREE.covers[result.columns.symbol]
    tables = np.exp(np.asarray(result.params.log_vote))
    for j in range(7):
        silent = np.exp(np.asarray(result.params.log_abstain[j]))
        np.testing.assert_allclose(tables[lf == j].sum(0) + silent, 1)
        given_vote = tables[lf == j] / (1 - silent)
        coin = (given_vote * covered[lf == j]).sum(0)
        spread = np.ptp(coin)
        assert spread < 1e-9 if tying == "one_coin" else spread > 1e-3
        for y in range(TREE.num_leaves):  # right and wrong columns share evenly
            assert np.ptp(given_vote[covered[lf == j][:, y], y]) < 1e-9
            assert np.ptp(given_vote[~covered[lf == j][:, y], y]) < 1e-9
    np.testing.assert_allclose(tables[lf == 7] + np.exp(result.params.log_abstain[7]), 1)


def test_gold_masks():
    forest = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}, "c": ["p", "q"]})
    x, u, y, q = (forest.node(*p) for p in (("a", "x"), ("b", "u"), ("a", "y"), ("c", "q")))
    mask = gold_mask([[x, -1], [u, q], [x, u], [-1, -1]], forest).astype(int)
    expected = [[1, 1, 0, 1, 1], [1, 0, 0, 0, 1], [1, 0, 0, 1, 1], [1, 1, 1, 1, 1]]
    np.testing.assert_array_equal(mask, expected)
    with pytest.raises(ValueError, match="item 1: .*contradict each other.*root 'a'"):
        gold_mask([[x, q], [u, y]], forest)
    with pytest.raises(ValueError, match="item 2: got 9, expected a node id in 0..5"):
        gold_mask([0, -1, 9], forest)
    with pytest.raises(ValueError, match="expected integers"):
        gold_mask([0.0], forest)


@pytest.mark.usefixtures("x64")
def test_gold_of_every_item_gives_counted_tables():
    tree = TaskTree.single(2)
    votes = np.array([[0, 1], [0, 0], [1, 1], [1, 0], [0, -1], [1, 1]])
    gold = np.array([0, 0, 0, 1, 1, 1])
    config = DawidSkeneConfig(informative_abstains=False)
    result = fit_dawid_skene(votes, tree, config=config, gold=gold)
    tables = np.exp(result.params.log_vote)  # rows: LF 0 votes 0, 1; LF 1 votes 0, 1
    expected = [[2.7 / 4, 1.3 / 4], [1.3 / 4, 2.7 / 4], [1.7 / 4, 1.3 / 3], [2.3 / 4, 1.7 / 3]]
    np.testing.assert_allclose(tables, expected)
    # The likelihood is that of the votes and the gold labels.
    prior = np.exp(result.params.log_prior)
    joint = [
        prior[y] * tables[v[0], y] * (tables[2 + v[1], y] if v[1] >= 0 else 1)
        for v, y in zip(votes, gold, strict=True)
    ]
    columns = result.columns
    data = vote_data(validate(votes, tree), columns, possible=gold_mask(gold, tree))
    log_q, evidence = e_step(result.params, data, tree)
    np.testing.assert_allclose(evidence, np.log(joint).sum())
    np.testing.assert_allclose(np.exp(log_q), np.eye(2)[gold])


@pytest.mark.slow
def test_coarse_gold_labels_help():
    data = synthetic_votes(jax.random.key(0), 3000, 6, TREE, theta_range=(0.0, 0.6))
    coarse = TREE.node_parent[TREE.leaf_nodes[data.leaves]]
    gold = np.where(np.arange(3000) < 1500, coarse, -1)
    plain = fit_dawid_skene(data.votes, TREE)
    with_gold = fit_dawid_skene(data.votes, TREE, gold=gold)

    def error(result):
        truth = data.conditionals[result.columns.lf, TREE.node_leaf[result.columns.symbol]]
        return np.abs(np.exp(result.params.log_vote) - truth).mean()

    assert error(with_gold) < 0.8 * error(plain)  # measured: 0.042 against 0.059


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_weights_are_copies():
    data = synthetic_votes(jax.random.key(0), 200, 5, TREE)
    weight = np.random.default_rng(0).integers(0, 4, 200)
    gold = np.where(np.arange(200) % 9 == 0, TREE.leaf_nodes[data.leaves], -1)
    config = DawidSkeneConfig(tolerance=-1.0, max_steps=25)
    weighted = fit_dawid_skene(data.votes, TREE, config=config, gold=gold, item_weights=weight)
    repeated = fit_dawid_skene(
        np.repeat(data.votes, weight, axis=0), TREE, config=config, gold=np.repeat(gold, weight)
    )
    np.testing.assert_allclose(weighted.objective_trace, repeated.objective_trace, rtol=1e-12)
    for ours, theirs in zip(weighted.params, repeated.params, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_prior_accuracies_and_abstains_of_each_lf():
    tree = TaskTree.single(2)
    votes = synthetic_votes(jax.random.key(0), 50, 3, tree).votes
    accuracy = np.array([0.9, 0.3, 0.6])
    strong = DawidSkeneConfig(prior_votes=1e6, informative_abstains=(True, False, False))
    result = fit_dawid_skene(votes, tree, config=strong, accuracy=accuracy)
    np.testing.assert_allclose(lf_accuracy(result), accuracy, atol=1e-3)
    silent = np.asarray(result.params.log_abstain)
    assert (silent[0] < -0.1).all()
    assert (silent[1:] == 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gold": [0, 1]}, r"gold: got shape \(2, 2\), expected \(3, 2\)"),
        ({"item_weights": [1, 1, -1]}, "item_weights: item 2: got -1.0"),
        ({"item_weights": [0, 0, 0]}, "every weight is 0"),
        ({"accuracy": [0.5, 1.0]}, "accuracy: LF 1: got 1.0"),
        ({"config": DawidSkeneConfig(informative_abstains=(True,))}, "informative_abstains: got 1"),
    ],
)
def test_bad_supervision(settings, message):
    with pytest.raises(ValueError, match=message):
        fit_dawid_skene([[0, 1], [1, 1], [0, 0]], TaskTree.single(2), **settings)
