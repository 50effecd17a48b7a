"""Posteriors, majority vote, accuracies and explanations against enumeration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from reference import all_vote_patterns, enumerate_posterior, flat_majority

from metal_jax.label_model import (
    CodedIncidence,
    ConditionalTables,
    FitResult,
    diagnose,
    explain,
    fit_dawid_skene,
    incidence,
    lf_accuracy,
    log_posterior,
    majority_vote,
    posterior,
    tables_lf_accuracy,
)
from metal_jax.label_model._vote_sums import vote_sums, vote_tallies
from metal_jax.label_model._votes import vote_counts, vote_incidence
from metal_jax.labeling import Columns, column_ids, used_columns
from metal_jax.task_tree import TaskTree, from_metal_hierarchy, node_sum

TREE = from_metal_hierarchy([2, 3, 3], [(0, 1), (0, 2)])
FOREST = TaskTree.from_dict({"a": ["x", "y"], "b": {"u": {"c": ["p", "q"]}, "v": None}})


def random_model(num_lfs, k, seed=0):
    rng = np.random.default_rng(seed)
    prior = rng.dirichlet(np.ones(k))
    table = rng.dirichlet(np.ones(k + 1), (num_lfs, k)).transpose(0, 2, 1)  # [m, vote + 1, y]
    columns = Columns(
        np.repeat(np.arange(num_lfs), k).astype(np.int32),
        np.tile(np.arange(k), num_lfs).astype(np.int32),
        num_lfs,
    )
    log_vote = np.log(table[:, 1:]).reshape(num_lfs * k, k)
    tables = ConditionalTables(
        jnp.log(jnp.asarray(prior)), jnp.asarray(log_vote), jnp.log(jnp.asarray(table[:, 0]))
    )
    return prior, table, tables, columns


def test_posterior_equals_enumeration():
    prior, table, tables, columns = random_model(4, 3)
    votes = all_vote_patterns(4, 3)
    ours = np.exp(log_posterior(tables, votes, columns, TaskTree.single(3)))
    np.testing.assert_allclose(ours, enumerate_posterior(prior, table, votes), atol=1e-5)


def test_never_asked_says_nothing():
    _, _, tables, columns = random_model(3, 2)
    tree = TaskTree.single(2)
    silent = log_posterior(tables, np.array([[0, -2, -2]]), columns, tree)
    alone = tables._replace(log_abstain=jnp.zeros_like(tables.log_abstain))
    np.testing.assert_allclose(silent, log_posterior(alone, [[0, -1, -1]], columns, tree))


def test_two_thousand_lfs_do_not_underflow():
    _, _, tables, columns = random_model(2000, 3)
    votes = np.random.default_rng(0).integers(-1, 3, (5, 2000))
    log_q = log_posterior(tables, votes, columns, TaskTree.single(3))
    assert np.isfinite(log_q).all()
    np.testing.assert_allclose(np.exp(log_q).sum(1), 1, atol=1e-5)


def test_majority_of_one_task():
    votes = np.random.default_rng(0).integers(-1, 3, (200, 5))
    ours = majority_vote(votes, TaskTree.single(3))
    np.testing.assert_allclose(ours, flat_majority(votes, 3), atol=1e-6)


def test_majority_down_a_tree():
    coarse, left = 1, TREE.node("task1", "2")
    votes = np.array([[coarse, -1, -1], [coarse, left, -1], [left, left, coarse], [-1, -1, -1]])
    probs = np.asarray(majority_vote(votes, TREE))
    third, half, sixth = 1 / 3, 1 / 2, 1 / 6
    expected = [
        [0, 0, 0, third, third, third],
        [0, half, 0, sixth, sixth, sixth],  # the root is tied, whatever the number of leaves
        [0, 1, 0, 0, 0, 0],
        [sixth] * 6,
    ]
    np.testing.assert_allclose(probs, expected, atol=1e-6)


def test_majority_in_a_forest_is_each_roots_own():
    votes = np.array([[0, 0, FOREST.node("c", "q")], [-1, 1, -1]])
    probs = majority_vote(votes, FOREST)
    np.testing.assert_allclose(probs, [[1, 0, 0, 1, 0], [0, 1, 0.25, 0.25, 0.5]], atol=1e-6)


def test_majority_vote_refuses_what_are_no_votes():
    for votes, message in (
        (np.zeros(2, int), r"got shape \(2,\), expected \[n items, m LFs\]"),
        (np.zeros((2, 2)), "got dtype float.., expected integers"),
        (np.zeros((2, 2, 2)), r"got shape \(2, 2, 2\), expected \[n items, m LFs, 3 nodes\]"),
    ):
        with pytest.raises(ValueError, match=f"votes: {message}"):
            majority_vote(votes, TaskTree.single(3))


def test_explanations_add_up():
    votes = np.random.default_rng(0).integers(-1, TREE.num_nodes, (300, 6))
    result = fit_dawid_skene(votes, TREE)
    why = explain(result, votes[:20])
    total = jax.nn.log_softmax(why.prior + why.contributions.sum(1))
    np.testing.assert_allclose(jnp.exp(total), why.posterior, atol=1e-5)
    np.testing.assert_allclose(why.contributions.sum(-1), 0, atol=1e-4)


def test_accuracy_is_the_share_of_covering_votes():
    prior, table, tables, columns = random_model(5, 3)
    expected = [
        sum(prior[y] * table[j, y + 1, y] for y in range(3)) / (prior @ table[j, 1:].sum(0))
        for j in range(5)
    ]
    ours = tables_lf_accuracy(tables, columns, TaskTree.single(3))
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_task_marginals_agree_with_the_tree():
    votes = np.random.default_rng(0).integers(-1, TREE.num_nodes, (300, 6))
    leaves = posterior(fit_dawid_skene(votes, TREE), votes)
    nodes = np.asarray(node_sum(TREE, leaves))
    for task in (1, 2):
        span = TREE.task_nodes[task]
        child = nodes[:, span.start : span.stop].sum(1)
        np.testing.assert_allclose(child, nodes[:, TREE.task_parent[task]], atol=1e-6)


def test_an_lf_without_votes_has_no_accuracy():
    votes = np.array([[0, -1, 1], [1, -1, 1], [0, -1, 0]])
    accuracy = np.asarray(lf_accuracy(fit_dawid_skene(votes, TaskTree.single(2))))
    assert np.isnan(accuracy).tolist() == [False, True, False]


@pytest.mark.parametrize("rows", [1, 50, 2100])  # 2100: two blocks, and a rest
def test_the_forms_of_the_operator_agree(rows):
    votes = np.random.default_rng(0).integers(-2, 4, (rows, 6)).astype(np.int8)
    columns = used_columns(votes)
    codes = np.asarray(column_ids(votes, columns))
    width = columns.num_columns + 3  # the last three are nobody's
    dense, sparse = (incidence(codes, width, dense=d) for d in (True, False))
    coded = vote_incidence(votes, columns, width)
    assert isinstance(coded, CodedIncidence)
    assert coded.num_items == rows
    table = jax.random.normal(jax.random.key(0), (width, 3))
    values = jax.random.normal(jax.random.key(1), (rows, 3))
    for other in (sparse, coded):
        np.testing.assert_allclose(dense.apply(table), other.apply(table), atol=1e-5)
        np.testing.assert_allclose(
            dense.transpose_apply(values), other.transpose_apply(values), atol=1e-4
        )
    inner = jnp.vdot(dense.apply(table), values)
    np.testing.assert_allclose(inner, jnp.vdot(table, dense.transpose_apply(values)), rtol=1e-4)


@pytest.mark.parametrize("rows", [0, 5, 2100])
def test_tallies_are_counts(rows):
    votes = np.random.default_rng(1).integers(-2, 3, (rows, 7)).astype(np.int8)
    expected = np.stack([(votes == node).sum(1) for node in range(3)], 1)
    np.testing.assert_array_equal(vote_tallies(jnp.asarray(votes), 3), expected)


@pytest.mark.parametrize("num_nodes", [2, 20])  # by products, by looking up
@pytest.mark.parametrize("num_items", [0, 1, 2100])  # more than two blocks, and a rest
def test_sums_of_rows_by_loops_and_their_derivatives(x64, num_nodes, num_items):
    random = np.random.default_rng(0)
    votes = random.integers(-2, num_nodes, size=(num_items, 3)).astype(np.int8)
    pairs = [(j, node) for j in range(3) for node in range(num_nodes) if (j, node) != (1, 1)]
    lf, symbol = np.array(pairs, np.int32).T
    table, silence = (jnp.asarray(random.normal(size=(k, 2))) for k in (len(lf), 3))
    weights = random.normal(size=(num_items, 2))

    def sums(table, silence):
        return vote_sums(jnp.asarray(votes), lf, symbol, table, num_nodes, silence)

    def total(table, silence):
        return jnp.sum(weights * jnp.tanh(sums(table, silence)))

    row = {pair: np.asarray(table[i]) for i, pair in enumerate(pairs)}
    row |= {(j, -1): np.asarray(silence[j]) for j in range(3)}
    expected = np.zeros((num_items, 2))
    for i, item in enumerate(votes.tolist()):
        for pair in enumerate(item):
            expected[i] += row.get(pair, 0)  # -2, never asked, and a node without a row: nothing
    np.testing.assert_allclose(sums(table, silence), expected, atol=1e-12)
    check_grads(total, (table, silence), order=1, modes=["fwd", "rev"])


@pytest.mark.parametrize("num_nodes", [3, 20])  # node by node, by the columns' numbers
def test_weighted_counts_by_loops(num_nodes):
    random = np.random.default_rng(3)
    votes = random.integers(-2, num_nodes, (90, 4)).astype(np.int8)
    columns = used_columns(votes)
    columns = Columns(columns.lf[1:], columns.symbol[1:], columns.num_lfs)  # one does not count
    weights = random.random(90)
    expected = [
        sum(weights[i] for i in range(90) if votes[i, lf] == node)
        for lf, node in zip(columns.lf, columns.symbol, strict=True)
    ]
    np.testing.assert_allclose(vote_counts(votes, columns, weights), expected, rtol=1e-12)


@pytest.mark.parametrize("function", [posterior, explain, diagnose])
@pytest.mark.parametrize("other", [1, 4, 6])
def test_votes_of_another_number_of_lfs_are_refused(function, other):
    tree, votes = TaskTree.single(2), np.random.default_rng(0).integers(-1, 2, (30, 6))
    columns = used_columns(votes[:, :5])
    share = np.full((len(columns.lf), 2), np.log(0.4))
    tables = ConditionalTables(np.log([0.5, 0.5]), share, np.full((5, 2), np.log(0.2)))
    result = FitResult("made", tables, columns, tree, True, "", 1, np.zeros(1))
    for given in (votes[:, :other], np.eye(2)[np.maximum(votes[:, :other], 0)]):
        with pytest.raises(ValueError, match=f"votes: got {other} LFs, expected the 5 of the fit"):
            function(result, given)
