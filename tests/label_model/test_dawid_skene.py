"""Dawid-Skene: an independent flat implementation, recovery, symmetries, edge cases."""

import jax
import numpy as np
import pytest
from reference import flat_dawid_skene

from metal_jax.label_model import (
    ConditionalTables,
    DawidSkeneConfig,
    fit_dawid_skene,
    log_posterior,
    posterior,
)
from metal_jax.labeling import synthetic_votes
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


@pytest.mark.parametrize("config", [{"prior_votes": 0}, {"prior_accuracy": 1}, {"max_steps": 0}])
def test_bad_settings(config):
    with pytest.raises(ValueError, match="expected"):
        DawidSkeneConfig(**config)
