"""Soft votes, gold labels and item weights mean the same in every family."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_glad import draw, joint

from metal_jax.label_model import (
    ConditionalTables,
    GladConfig,
    MaceConfig,
    checked_votes,
    explain,
    fit_dawid_skene,
    fit_glad,
    fit_mace,
    fit_overlap,
    fit_triplets,
    gold_mask,
    lf_accuracy,
    posterior,
)
from metal_jax.label_model._choices import choice_columns
from metal_jax.label_model._glad_em import glad_data, glad_e_step, glad_log_prior_density
from metal_jax.labeling import merge_statistics, overlap_statistics, used_columns
from metal_jax.task_tree import TaskTree

TREE = TaskTree.from_dict({"a": {"x": {"b": ["u", "v", "w"]}, "y": None}})
KEY = jax.random.key(0)
MACE = MaceConfig(num_restarts=2)


def mace(votes, tree, **known):
    return fit_mace(votes, tree, config=MACE, key=KEY, **known)


def one_hot(votes, tree):
    return (votes[..., None] == np.arange(tree.num_nodes)).astype(np.float32)


def hard_votes():
    return np.random.default_rng(0).integers(-1, TREE.num_nodes, (60, 4))


@pytest.mark.usefixtures("x64")  # the two are summed in different orders
@pytest.mark.parametrize("fit", [fit_dawid_skene, pytest.param(mace, marks=pytest.mark.slow)])
def test_one_hot_soft_votes_are_hard_votes(fit):
    votes = hard_votes()
    soft = one_hot(votes, TREE)
    ours, hard = fit(soft, TREE), fit(votes, TREE)
    assert ours.columns.symbol.tolist() == hard.columns.symbol.tolist()
    np.testing.assert_allclose(posterior(ours, soft), posterior(hard, votes), atol=1e-5)
    np.testing.assert_allclose(lf_accuracy(ours), lf_accuracy(hard), atol=1e-5)
    for a, b in zip(explain(ours, soft[:9]), explain(hard, votes[:9]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.usefixtures("x64")
def test_soft_votes_by_loops():
    rng = np.random.default_rng(1)
    soft = rng.dirichlet(np.ones(TREE.num_nodes + 1), (30, 3))[..., 1:]
    soft = checked_votes(soft, TREE).astype(float)
    result = fit_dawid_skene(soft, TREE)
    tables = result.params
    assert isinstance(tables, ConditionalTables)
    table = np.asarray(tables.log_vote).reshape(3, TREE.num_nodes, TREE.num_leaves)
    score = np.tile(tables.log_prior, (30, 1))
    for i in range(30):
        for j in range(3):
            score[i] += (1 - soft[i, j].sum()) * tables.log_abstain[j]
            for v in range(TREE.num_nodes):
                score[i] += soft[i, j, v] * table[j, v]
    probs = np.exp(score) / np.exp(score).sum(1, keepdims=True)
    np.testing.assert_allclose(posterior(result, soft), probs, atol=1e-12)
    found = explain(result, soft)
    np.testing.assert_allclose(jax.nn.softmax(found.prior + found.contributions.sum(1)), probs)
    # EM rests where the tables are the expected counts of votes that are drawn from the shares.
    trace = result.objective_trace
    assert (np.diff(trace) > -1e-9 * abs(trace[0])).all()
    abstain = 1 - soft.sum(axis=(0, 2)) / 30
    for j in range(3):
        counts = np.stack([(probs * soft[:, j, v, None]).sum(0) for v in range(TREE.num_nodes)])
        silent = (probs * (1 - soft[:, j].sum(1))[:, None]).sum(0) + abstain[j]
        right = TREE.covers / TREE.covers.sum(0)
        wrong = ~TREE.covers / (~TREE.covers).sum(0)
        counts += (1 - abstain[j]) * (0.7 * right + 0.3 * wrong)
        expected = counts / (counts.sum(0) + silent)
        np.testing.assert_allclose(np.exp(table[j]), expected, atol=2e-4)


def test_overlaps_of_soft_votes_are_expected_overlaps():
    votes = hard_votes()
    hard, same = overlap_statistics(votes), overlap_statistics(one_hot(votes, TREE))
    np.testing.assert_array_equal(same.counts, hard.counts)
    assert same.num_items == 60
    np.testing.assert_array_equal(same.columns.symbol, hard.columns.symbol)
    rng = np.random.default_rng(2)
    soft = rng.dirichlet(np.ones(3), (5, 2))[..., 1:]
    found = overlap_statistics(soft)
    assert found.columns.lf.tolist() == [0, 0, 1, 1]
    pairs = sum(np.outer(row[0], row[1]) for row in soft)
    np.testing.assert_allclose(found.counts[:2, 2:], pairs)
    np.testing.assert_allclose(found.counts[:2, :2], np.diag(soft[:, 0].sum(0)))
    parts = [overlap_statistics(soft[:2]), overlap_statistics(soft[2:])]
    np.testing.assert_allclose(merge_statistics(*parts).counts, found.counts)


def test_moment_fits_take_soft_votes():
    """Votes drawn from soft ones give the same fit up to noise."""
    rng = np.random.default_rng(3)
    n, m, tree = 20_000, 5, TaskTree.single(2)
    truth = rng.integers(0, 2, n)
    belief = rng.beta(4, 2, (n, m))  # in the truth
    soft = np.where(
        (truth[:, None, None] == np.arange(2)), belief[..., None], 1 - belief[..., None]
    )
    votes = (rng.random((n, m)) > soft[..., 0]).astype(int)
    for soft_fit, hard_fit in (
        (fit_triplets(soft, tree), fit_triplets(votes, tree)),
        (fit_overlap(overlap_statistics(soft), tree), fit_overlap(overlap_statistics(votes), tree)),
    ):
        accuracy = lf_accuracy(soft_fit)
        np.testing.assert_allclose(accuracy, 2 / 3, atol=0.02)
        np.testing.assert_allclose(accuracy, lf_accuracy(hard_fit), atol=0.03)
    assert posterior(fit_triplets(soft, tree), soft[:7]).shape == (7, 2)


@pytest.mark.parametrize("fit", [fit_dawid_skene, fit_glad, mace])
def test_weights_are_copies(fit):
    votes, *_ = draw(4, n=60, m=5)
    votes[:6] = 2  # the only items of weight 0
    votes[:, 4] = np.where(np.arange(60) < 6, 2, -1)  # an LF that votes there alone
    weight = np.random.default_rng(0).integers(1, 4, 60)
    weight[:6] = 0
    tree = TaskTree.single(3)
    weighted, copied = fit(votes, tree, item_weights=weight), fit(np.repeat(votes, weight, 0), tree)
    np.testing.assert_allclose(posterior(weighted, votes), posterior(copied, votes), atol=1e-4)
    np.testing.assert_allclose(lf_accuracy(weighted), lf_accuracy(copied), atol=1e-4)
    assert np.isnan(lf_accuracy(weighted)[4])
    np.testing.assert_allclose(weighted.objective_trace[-1], copied.objective_trace[-1], rtol=1e-5)


@pytest.mark.parametrize("fit", [fit_dawid_skene, fit_glad])
def test_gold_turns_adversaries_round(fit):
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 2, 500)
    right = rng.random((500, 5)) < np.array([0.75, 0.75, 0.25, 0.25, 0.25])
    votes = np.where(right, truth[:, None], 1 - truth[:, None])
    gold = np.where(np.arange(500) < 300, truth, -1)
    tree = TaskTree.single(2)
    accuracy = [
        (np.argmax(posterior(result, votes[300:]), 1) == truth[300:]).mean()
        for result in (fit(votes, tree), fit(votes, tree, gold=gold))
    ]
    assert accuracy[0] < 0.3  # without gold the majority counts as right
    assert accuracy[1] > 0.8


@pytest.mark.usefixtures("x64")
def test_gold_and_weights_of_glad_by_brute_force():
    rng = np.random.default_rng(1)
    votes = rng.integers(-1, TREE.num_nodes, (12, 4))
    gold = rng.integers(-1, TREE.num_nodes, 12)
    weight = rng.uniform(0.5, 2, 12)
    result = fit_glad(
        votes, TREE, config=GladConfig(tolerance=1e-10), gold=gold, item_weights=weight
    )
    columns = choice_columns(used_columns(votes), TREE)
    log_prior, ability, ease, prior = result.params
    scores = np.exp(log_prior) * joint(votes, columns, TREE, ability, ease)
    scores = np.where(gold_mask(gold, TREE), scores, 0)
    data = glad_data(votes, columns, TREE, possible=gold_mask(gold, TREE), weight=weight)
    log_q, evidence = glad_e_step(ability, ease, log_prior, data, TREE)
    np.testing.assert_allclose(np.exp(log_q), scores / scores.sum(1, keepdims=True), atol=1e-12)
    np.testing.assert_allclose(evidence, weight @ np.log(scores.sum(1)))
    density = -(((ability - 1) ** 2).sum() + (weight * (ease - 1) ** 2).sum()) / 2
    np.testing.assert_allclose(glad_log_prior_density(ability, ease, data, prior), density)
    np.testing.assert_allclose(result.objective_trace[-1], evidence + density)

    @jax.jit
    @jax.grad
    def gradient(params):
        evidence = glad_e_step(*params, log_prior, data, TREE)[1]
        return evidence + glad_log_prior_density(*params, data, prior)

    assert max(float(jnp.max(jnp.abs(g))) for g in gradient((ability, ease))) < 1e-5


def test_gold_of_every_item_counts_known_votes():
    """MACE with all labels known: one LF always right, one that always says the same."""
    truth = np.arange(200) % 2
    votes = np.stack([truth, np.zeros(200, int)], axis=1)
    result = mace(votes, TaskTree.single(2), gold=truth)
    np.testing.assert_allclose(result.params.competence, [1, 0], atol=0.1)
    alone = mace(votes[:, 1:], TaskTree.single(2), gold=truth)
    assert float(lf_accuracy(alone)[0]) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("fit", [fit_dawid_skene, fit_glad, mace])
def test_bad_supervision(fit):
    for known, message in (
        ({"gold": [0, 2]}, "gold: item 1: got 2"),
        ({"gold": [0]}, "gold: got shape"),
        ({"item_weights": [1, -1]}, "item_weights: item 1: got -1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            fit([[0, 1], [1, 1]], TaskTree.single(2), **known)
