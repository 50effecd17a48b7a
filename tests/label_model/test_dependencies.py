"""Dependent LFs: junction trees by their properties, posteriors by enumeration, fits by truth."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metal_jax._core.minimise import MinimiseConfig
from metal_jax.label_model import explain, fit_dawid_skene, lf_accuracy, posterior
from metal_jax.label_model._cliques import CliqueTables
from metal_jax.label_model._dependencies import DependencyConfig, fit_with_dependencies
from metal_jax.label_model._graph import components, factor_layout, junction_tree
from metal_jax.label_model._inverse_form import inverse_form_rates
from metal_jax.labeling import Columns, OverlapStatistics, synthetic_votes
from metal_jax.task_tree import TaskTree

# L-BFGS takes seconds to compile; where only EM matters a few plain steps will do.
QUICK = DependencyConfig(minimise=MinimiseConfig(method="sgd", max_steps=5))
GRAPHS = {
    "none": (3, []),
    "chain": (4, [(0, 1), (1, 2), (2, 3)]),
    "cycle of 4": (4, [(0, 1), (1, 2), (2, 3), (0, 3)]),
    "cycle of 6": (6, [(i, (i + 1) % 6) for i in range(6)]),
    "star": (5, [(0, i) for i in range(1, 5)]),
    "disconnected": (7, [(0, 1), (0, 2), (1, 2), (4, 5)]),
    "two triangles": (4, [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3)]),
    "random": (9, [(0, 3), (1, 4), (1, 6), (2, 3), (2, 8), (3, 7), (4, 6), (5, 8), (0, 8), (4, 7)]),
}


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS.keys())
def test_junction_tree(graph):
    m, edges = graph
    tree = junction_tree(edges, m)
    sets = [set(c) for c in tree.cliques]
    assert all(any({i, j} <= c for c in sets) for i, j in edges)
    assert set().union(*sets) == set(range(m))
    assert not any(a < b for a, b in itertools.permutations(sets, 2))
    pairs = {tuple(sorted(e)) for e in edges} | set(tree.fill)
    for clique in tree.cliques:  # cliques of the filled graph, nothing more
        assert set(itertools.combinations(clique, 2)) <= pairs
    # Running intersection: the cliques of each LF are linked among themselves.
    for lf in range(m):
        own = {c for c, members in enumerate(sets) if lf in members}
        assert sum(a in own and b in own for a, b in tree.links) == len(own) - 1
    for (a, b), separator in zip(tree.links, tree.separators, strict=True):
        assert set(separator) == sets[a] & sets[b]
    assert len(set(components(np.array(edges).reshape(-1, 2), m))) == len(sets) - len(tree.links)


def test_only_graphs_that_are_not_chordal_are_filled():
    assert {name: len(junction_tree(e, m).fill) for name, (m, e) in GRAPHS.items()} == {
        "none": 0,
        "chain": 0,
        "cycle of 4": 1,
        "cycle of 6": 3,
        "star": 0,
        "disconnected": 0,
        "two triangles": 0,
        "random": 1,
    }


def dependent_law(m, edges, k, rng):
    """float[(k + 1)^m, k], P(votes | y) of a pairwise Markov field; the last vote is abstain."""
    votes = np.array(list(itertools.product(range(k + 1), repeat=m)))
    own = rng.normal(size=(m, k + 1, k))
    score = sum(own[j, votes[:, j]] for j in range(m))
    for i, j in edges:
        score = score + rng.normal(size=(k + 1, k + 1, k))[votes[:, i], votes[:, j]]
    law = np.exp(score)
    return np.where(votes == k, -1, votes), law / law.sum(0)


def exact_tables(m, edges, k, votes, law, prior):
    """The clique tables of a law by enumeration, and the columns."""
    size = np.full(m, k + 1, np.int32)
    layout = factor_layout(junction_tree(edges, m), size, 10_000)
    cells = np.where(votes < 0, k, votes)
    table = np.zeros((len(layout.row_factor), k))
    for f, start in enumerate(layout.start):
        members, strides = layout.members[f], layout.strides[f]
        used = strides > 0
        for unknown in itertools.product((False, True), repeat=int(used.sum())):
            own = np.where(unknown, k + 1, cells[:, members[used]])
            np.add.at(table, start + own @ strides[used], law)
    columns = Columns(np.repeat(np.arange(m), k), np.tile(np.arange(k), m), m)
    arrays = (layout.members, layout.strides, layout.start, layout.sign, size, np.full(m, k))
    tables = CliqueTables(jnp.log(prior), jnp.log(table), *map(jnp.asarray, arrays))
    return tables, columns


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("name", "k"), [("chain", 2), ("cycle of 4", 3), ("two triangles", 2)])
def test_posterior_equals_enumeration(name, k):
    m, edges = GRAPHS[name]
    rng = np.random.default_rng(0)
    prior = rng.dirichlet(np.ones(k))
    votes, law = dependent_law(m, edges, k, rng)
    tables, columns = exact_tables(m, edges, k, votes, law, prior)
    joint = law * prior
    expected = joint / joint.sum(1, keepdims=True)
    tree = TaskTree.single(k)
    ours = np.exp(tables.log_posterior(votes, columns, tree))
    np.testing.assert_allclose(ours, expected, atol=1e-9)

    log_prior, pushes = tables.contributions(votes, columns, tree)
    np.testing.assert_allclose(
        jax.nn.softmax(log_prior + pushes.sum(1), axis=-1), expected, atol=1e-9
    )
    right = [sum(joint[votes[:, j] == y, y].sum() for y in range(k)) for j in range(m)]
    cast = [joint[votes[:, j] >= 0].sum() for j in range(m)]
    np.testing.assert_allclose(tables.lf_accuracy(columns, tree), np.divide(right, cast), atol=1e-9)


@pytest.mark.usefixtures("x64")
def test_never_asked_is_summed_out():
    """Exact where the LF is in one clique: the ends of a chain."""
    m, edges = GRAPHS["chain"]
    prior = np.array([0.3, 0.7])
    votes, law = dependent_law(m, edges, 2, np.random.default_rng(1))
    tables, columns = exact_tables(m, edges, 2, votes, law, prior)
    item = np.array([[-2, 0, -1, -2]])
    same = (votes[:, 1] == 0) & (votes[:, 2] == -1)
    joint = law[same].sum(0) * prior
    ours = np.exp(tables.log_posterior(item, columns, TaskTree.single(2)))
    np.testing.assert_allclose(ours[0], joint / joint.sum(), atol=1e-9)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("k", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_inverse_form_is_exact_on_exact_overlaps(k):
    """Overlaps of a law, not of a sample; the third LF pair copies, one LF never abstains."""
    rng = np.random.default_rng(k)
    law = rng.dirichlet(np.ones(k + 1), (5, k)).transpose(0, 2, 1)  # [lf, vote, y]
    law = 0.5 * law + 0.5 * np.eye(k + 1, k)
    law[4, k] = 0
    law /= law.sum(1, keepdims=True)
    prior = np.full(k, 1 / k)
    columns = Columns(np.repeat(np.arange(6), k), np.tile(np.arange(k), 6), 6)
    rates = np.concatenate([*law[:, :k], law[0, :k]])  # LF 5 copies LF 0
    overlaps = (rates * prior) @ rates.T
    same = columns.lf[:, None] == columns.lf
    copies = np.isin(columns.lf[:, None], [0, 5]) & np.isin(columns.lf, [0, 5])
    agree = columns.symbol[:, None] == columns.symbol
    overlaps = np.where(same | copies, np.where(agree, (rates @ prior)[:, None], 0), overlaps)
    stats = OverlapStatistics(columns, overlaps * 1e9, int(1e9))
    config = DependencyConfig(l2=1e-6)
    ours = inverse_form_rates(
        stats,
        TaskTree.single(k),
        components(np.array([[0, 5]]), 6),
        ridge=config.ridge,
        l2=config.l2,
        solver=config.minimise,
    )
    # For k = 3 the rates are known up to a rotation only; this product is what is identified.
    np.testing.assert_allclose((ours * prior) @ ours.T, (rates * prior) @ rates.T, atol=2e-3)
    if k == 2:
        np.testing.assert_allclose(ours, rates, atol=5e-3)


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.slow)])
def copies(request):
    """Twelve weak LFs, most of them copying an earlier one; both fits."""
    tree = TaskTree.single(request.param)
    data = synthetic_votes(
        jax.random.key(1),
        20_000,
        12,
        tree,
        edge_prob=0.8,
        theta_range=(0.0, 0.7),
        edge_range=(0.5, 1.0),
    )
    edges = [(p, j) for j, p in enumerate(data.parents) if p >= 0]
    return tree, data, edges, fit_with_dependencies(data.votes, tree, edges)


def test_knowing_the_copies_wins(copies):
    """Measured (k = 2, 3): table error .004, .005 against .080, .047; accuracy .85 and .82 against
    .73 and .66."""
    tree, data, _, result = copies
    independent = fit_dawid_skene(data.votes, tree)
    columns = result.columns
    truth = data.conditionals[columns.lf, tree.node_leaf[columns.symbol]]
    tables = result.params.marginal_tables(columns)
    assert np.abs(np.exp(tables.log_vote) - truth).mean() < 0.01
    assert np.abs(np.exp(independent.params.log_vote) - truth).mean() > 0.04
    ours, theirs = (
        np.asarray(posterior(r, data.votes)).argmax(1) == data.leaves for r in (result, independent)
    )
    assert ours.mean() > theirs.mean() + 0.1
    assert result.converged


def test_explanations_of_dependent_lfs_add_up(copies):
    _, data, _, result = copies
    why = explain(result, data.votes[:50])
    total = jax.nn.softmax(why.prior + why.contributions.sum(1))
    np.testing.assert_allclose(total, why.posterior, atol=1e-5)
    assert np.isfinite(lf_accuracy(result)).all()


def test_fitted_tables_are_consistent(copies):
    _, _, _, result = copies
    p = result.params
    table = np.exp(np.asarray(p.log_table))
    start = [*np.asarray(p.start), len(table)]
    unknown = [last - 1 for last in start[1:]]  # every member unknown: a marginal of nothing
    np.testing.assert_allclose(table[unknown], 1, atol=1e-4)


@pytest.mark.usefixtures("x64")
def test_without_edges_it_is_dawid_skene_and_the_objective_never_falls():
    tree = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 400)
    votes = np.where(rng.random((400, 6)) < 0.7, tree.leaf_nodes[truth][:, None], -1)
    votes = np.where(rng.random((400, 6)) < 0.2, rng.integers(-2, 4, (400, 6)), votes)
    config = dataclasses.replace(QUICK, tolerance=1e-10, max_steps=2000)
    alone = fit_with_dependencies(votes, tree, [], config=config)
    flat = fit_dawid_skene(votes, tree)
    np.testing.assert_allclose(posterior(alone, votes), posterior(flat, votes), atol=5e-3)
    votes = np.maximum(votes, -1)
    trace = fit_with_dependencies(
        votes, tree, [(0, 1), (1, 2), (3, 4)], config=QUICK
    ).objective_trace
    assert (np.diff(trace) > -1e-8 * np.abs(trace[0])).all()


def test_lfs_that_never_vote_never_abstain_or_were_never_asked():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 300)
    votes = np.where(rng.random((300, 6)) < 0.8, truth[:, None], -1)
    votes[:, 0] = truth
    votes[:, 1] = -1
    votes[::3, 2] = -2
    edges = [(0, 1), (2, 3), (0, 2)]
    result = fit_with_dependencies(votes, TaskTree.single(2), edges, config=QUICK)
    probs = np.asarray(posterior(result, votes))
    assert np.isfinite(probs).all()
    assert (probs.argmax(1) == truth).mean() > 0.95
    assert np.isnan(lf_accuracy(result)).tolist() == [False, True, False, False, False, False]


FOREST = TaskTree.from_dict({"a": ["x", "y"], "b": ["u", "v"]})


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([(0, 3)], r"\(0, 3\): expected LF numbers in 0..2"),
        ([(-1, 1)], r"\(-1, 1\): expected LF numbers"),
        ([(1, 1)], r"\(1, 1\): an LF cannot depend on itself"),
        ([(0, 1), (1, 0)], r"\(0, 1\) is given twice"),
        ([(0, 1, 2)], r"got shape \(1, 3\)"),
        ([(0.5, 1.0)], "got dtype float64"),
        ([(0, 2)], "different roots"),
    ],
)
def test_bad_edges(edges, message):
    votes = np.array([[0, 1, 2], [1, 0, 3], [0, 0, 2]])
    with pytest.raises(ValueError, match=message):
        fit_with_dependencies(votes, FOREST, edges)


def test_a_clique_with_too_many_cells_is_named():
    votes = np.random.default_rng(0).integers(-1, 3, (100, 4))
    config = DependencyConfig(max_cells=100)
    with pytest.raises(ValueError, match="clique of LFs 0, 1, 2: 125 cells"):
        fit_with_dependencies(votes, TaskTree.single(3), [(0, 1), (0, 2), (1, 2)], config=config)


@pytest.mark.parametrize("bad", [{"prior_accuracy": 1.0}, {"ridge": 0.0}, {"max_steps": 0}])
def test_bad_settings(bad):
    with pytest.raises(ValueError, match="expected"):
        DependencyConfig(**bad)
