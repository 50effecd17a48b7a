"""MACE: a loop implementation, recovery, its objective and gradient, symmetries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import all_vote_patterns, enumerate_posterior
from scipy.special import digamma

from metal_jax.label_model import e_step, explain, lf_accuracy, posterior, vote_data
from metal_jax.label_model._choices import choice_columns
from metal_jax.label_model._mace import MaceConfig, fit_mace, mace_prior
from metal_jax.label_model._mace_em import (
    MaceDirichlets,
    mace_log_prior,
    mace_m_step,
    mace_tables,
)
from metal_jax.labeling import used_columns
from metal_jax.task_tree import TaskTree

TREE = TaskTree.from_dict({"a": {"x": {"b": ["u", "v", "w"]}, "y": None}})
KEY = jax.random.key(0)


def draw(seed, *, n=4000, m=8, k=3, asked=0.8):
    """Votes drawn from the model, the truth, competences and strategies."""
    rng = np.random.default_rng(seed)
    truth, competence = rng.integers(0, k, n), rng.uniform(0.1, 0.9, m)
    strategy = rng.dirichlet(np.ones(k), m)
    spam = np.stack([rng.choice(k, n, p=p) for p in strategy], axis=1)
    votes = np.where(rng.random((n, m)) < competence, truth[:, None], spam)
    return np.where(rng.random((n, m)) < asked, votes, -1), truth, competence, strategy


@pytest.fixture(scope="module")
def recovered():
    votes, truth, competence, strategy = draw(0)
    return fit_mace(votes, TaskTree.single(3), key=KEY), votes, truth, competence, strategy


def test_recovers_the_generator(recovered):
    result, votes, truth, competence, strategy = recovered
    assert result.status == "converged: the posterior stopped moving; 10 of 10 restarts agree"
    np.testing.assert_allclose(result.params.competence, competence, atol=0.05)
    np.testing.assert_allclose(result.params.strategy.reshape(8, 3), strategy, atol=0.06)
    table = [
        [np.ones(3)] + [c * (np.arange(3) == v) + (1 - c) * p[v] for v in range(3)]
        for c, p in zip(competence, strategy, strict=True)
    ]
    best = np.argmax(enumerate_posterior(np.ones(3) / 3, table, votes), 1) == truth
    ours = np.argmax(posterior(result, votes), 1) == truth
    assert ours.mean() > best.mean() - 0.005
    hits = (votes == truth[:, None]).sum(0) / (votes >= 0).sum(0)
    np.testing.assert_allclose(lf_accuracy(result), hits, atol=0.03)
    found = explain(result, votes[:20])
    total = jax.nn.softmax(found.prior + found.contributions.sum(1), axis=-1)
    np.testing.assert_allclose(total, found.posterior, atol=1e-5)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("method", ["em", "vb"])
def test_one_iteration_equals_loops(method):
    votes, k = all_vote_patterns(3, 2)[1:], 2
    tree = TaskTree.single(k)
    columns = choice_columns(used_columns(votes), tree)
    config = MaceConfig(method=method, competence_prior=(0.5, 0.7), strategy_prior=2.0)
    prior, data = mace_prior(columns, tree, config), vote_data(votes, columns)
    rng = np.random.default_rng(0)
    competence, strategy = rng.uniform(0.2, 0.8, 3), rng.dirichlet(np.ones(k), 3)
    balance = np.array([0.3, 0.7])
    table = np.array(
        [
            [np.ones(k)] + [c * (np.arange(k) == v) + (1 - c) * p[v] for v in range(k)]
            for c, p in zip(competence, strategy, strict=True)
        ]
    )
    params = MaceDirichlets(
        jnp.log(np.stack([competence, 1 - competence], 1)), jnp.log(strategy.ravel())
    )
    tables = mace_tables(params, jnp.log(balance), data.lf_of_column, prior)
    log_q, _ = e_step(tables, data, tree)
    q = enumerate_posterior(balance, table, votes)
    np.testing.assert_allclose(np.exp(log_q), q)
    pseudo = ([0.5, 0.7], 2.0) if method == "vb" else ([0.005, 0.005], 0.005)
    counts = np.tile(np.array(pseudo[0]), (3, 1))
    spam = np.full((3, k), pseudo[1])
    for i, row in enumerate(votes):
        for j, vote in enumerate(row):
            for y in range(k) if vote >= 0 else ():
                known = competence[j] * (vote == y) / table[j, vote + 1, y]
                counts[j] += q[i, y] * np.array([known, 1 - known])
                spam[j, vote] += q[i, y] * (1 - known)
    log_mean = digamma if method == "vb" else np.log
    new, expected = mace_m_step(log_q, params, tables, data, prior, method)
    np.testing.assert_allclose(expected.competence, counts)
    np.testing.assert_allclose(expected.strategy, spam.ravel())
    np.testing.assert_allclose(
        new.competence, log_mean(counts) - log_mean(counts.sum(1, keepdims=True))
    )
    np.testing.assert_allclose(
        new.strategy.reshape(3, k), log_mean(spam) - log_mean(spam.sum(1, keepdims=True))
    )


@pytest.mark.usefixtures("x64")
def test_the_variational_bound_never_falls_on_a_tree():
    votes = np.random.default_rng(0).integers(-2, TREE.num_nodes, (200, 5))
    config = MaceConfig(num_restarts=2, tolerance=0.0, max_steps=60)
    trace = fit_mace(votes, TREE, config=config, key=KEY).objective_trace
    assert (np.diff(trace) > -1e-10 * np.abs(trace[0])).all()


@pytest.mark.usefixtures("x64")
def test_em_climbs_to_where_the_gradient_is_zero():
    votes, *_ = draw(1, n=300, m=5)
    tree = TaskTree.single(3)
    config = MaceConfig(method="em", num_restarts=1, smoothing=3.0, tolerance=1e-12, max_steps=3000)
    result = fit_mace(votes, tree, config=config, key=KEY)
    columns, trace = result.columns, result.objective_trace
    assert (np.diff(trace) > -1e-10 * np.abs(trace[0])).all()
    prior, data = mace_prior(columns, tree, config), vote_data(np.maximum(votes, -1), columns)
    log_balance = jnp.log(jnp.full(3, 1 / 3))

    @jax.jit
    @jax.value_and_grad
    def log_posterior(logits):
        competence = jnp.stack([jax.nn.log_sigmoid(logits[0]), jax.nn.log_sigmoid(-logits[0])], 1)
        strategy = jax.nn.log_softmax(logits[1].reshape(5, 3)).ravel()
        params = MaceDirichlets(competence, strategy)
        tables = mace_tables(params, log_balance, data.lf_of_column, prior)
        _, evidence = e_step(tables, data, tree)
        penalty = mace_log_prior(params, params, data.lf_of_column, prior, "em")
        return evidence + penalty

    odds = jnp.log(result.params.competence / (1 - result.params.competence))
    value, gradient = log_posterior((odds, jnp.log(result.params.strategy)))
    np.testing.assert_allclose(value, trace[-1])
    assert max(float(jnp.max(jnp.abs(g))) for g in gradient) < 1e-5


def test_lf_order_and_class_names_do_not_matter(recovered):
    result, votes, *_ = recovered
    probs = np.asarray(posterior(result, votes))
    order = np.random.default_rng(0).permutation(votes.shape[1])
    relabel = np.array([2, 0, 1, -1])  # the last entry keeps abstains
    moved = relabel[votes[:, order]]
    again = fit_mace(moved, TaskTree.single(3), key=jax.random.key(7))
    np.testing.assert_allclose(posterior(again, moved)[:, relabel[:3]], probs, atol=2e-3)


def test_tables_are_distributions_on_a_tree():
    votes = np.random.default_rng(0).integers(-1, TREE.num_nodes, (30, 3))
    votes[:, 2] = np.where(votes[:, 2] < 2, -1, votes[:, 2])  # knows the lower task only
    columns = choice_columns(used_columns(votes), TREE)
    prior = mace_prior(columns, TREE, MaceConfig(method="em"))
    labels = np.bincount(columns.lf)
    params = MaceDirichlets(jnp.log(jnp.full((3, 2), 0.5)), jnp.log(1 / labels[columns.lf]))
    tables = mace_tables(params, jnp.zeros(4), jnp.asarray(columns.lf), prior)
    total = jax.ops.segment_sum(jnp.exp(tables.log_vote), jnp.asarray(columns.lf), 3)
    # An LF that knows is silent where its task is not active.
    np.testing.assert_allclose(total, [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0.5]], rtol=1e-6)


def test_edge_cases_have_defined_results():
    tree = TaskTree.single(2)
    votes = np.array([[0, 1, -1], [0, -2, -1], [-1, -1, -1]])
    config = MaceConfig(num_restarts=2)
    result = fit_mace(votes, tree, config=config, key=KEY)
    np.testing.assert_allclose(posterior(result, votes)[2], 0.5)
    assert np.isfinite(result.objective_trace).all()
    assert np.isnan(np.asarray(lf_accuracy(result))).tolist() == [False, False, True]
    with pytest.raises(ValueError, match="every LF abstains on every item"):
        fit_mace(votes[2:], tree, key=KEY)
    bad_settings = ({"method": "mcmc"}, {"smoothing": 0}, {"num_restarts": 0})
    for bad in bad_settings:
        with pytest.raises(ValueError, match="expected"):
            MaceConfig(**bad)
