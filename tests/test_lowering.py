"""Every public kernel, and what is predicted, lowers for cpu, cuda, rocm and tpu."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metal_jax import metrics
from metal_jax._core.minimise import MinimiseConfig, minimise
from metal_jax._core.optimiser import OptimiserConfig, make_optimiser
from metal_jax._core.recurrent import lstm
from metal_jax._core.training_state import evaluate, start
from metal_jax._core.training_steps import StepOptions, run_steps
from metal_jax.export import PLATFORMS, lower_label_model
from metal_jax.label_model import (
    ConditionalTables,
    MaceConfig,
    dirichlet_prior,
    e_step,
    fit,
    fit_with_dependencies,
    glad_e_step,
    glad_m_step,
    incidence,
    log_posterior,
    m_step,
    mace_m_step,
    mace_tables,
    majority_vote,
    overlap_objective,
    overlap_objective_from_votes,
    third_order_objective,
    triplet_magnitudes,
    vote_data,
)
from metal_jax.label_model._annotators import AnnotatorData, annotator_prior, fit_annotators
from metal_jax.label_model._detectors import DetectorPrior, detector_statistics, fit_detectors
from metal_jax.label_model._discovery import pair_counts
from metal_jax.label_model._glad_em import GladPrior, glad_data
from metal_jax.label_model._mace import mace_prior
from metal_jax.label_model._mace_em import MaceDirichlets
from metal_jax.label_model._rates import column_blocks
from metal_jax.label_model._relations import relation_incidence
from metal_jax.labeling import column_ids, overlap_counts, used_columns
from metal_jax.labeling._overlap_kernels import listed_overlap_counts
from metal_jax.network import (
    BagOfFeatures,
    ConsistencyConfig,
    LossConfig,
    NetworkConfig,
    TaskConfig,
    build,
    embedding_bag,
    evaluate_predictions,
    fit_temperatures,
    leaf_log_probs,
    slice_aware,
    soft_label_loss,
)
from metal_jax.network._training.examples import Batch
from metal_jax.network._training.objective import initial_params, objective
from metal_jax.task_tree import TaskTree, node_logsumexp, node_sum

TREE = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
VOTES = np.random.default_rng(0).integers(-1, TREE.num_nodes, (20, 4), np.int32)
COLUMNS = used_columns(VOTES)
D = COLUMNS.num_columns
TABLES = ConditionalTables(jnp.zeros(3), jnp.zeros((D, 3)), jnp.zeros((4, 3)))
DATA = vote_data(VOTES, COLUMNS)
PRIOR = dirichlet_prior(COLUMNS, TREE, np.zeros(4), accuracy=0.7, votes=1.0, balance_items=1.0)
PRIOR = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), PRIOR)
NET = build(TREE, embedding_bag(64, 8))
INPUTS = BagOfFeatures(jnp.zeros((20, 5), jnp.int32), jnp.ones((20, 5)))
PARAMS = NET.init(jax.random.key(0), INPUTS)


COUNTS = np.array([(VOTES[:, j] == u).sum() for j, u in zip(*COLUMNS[:2], strict=True)])
OVERLAPS = (VOTES[:, COLUMNS.lf] == COLUMNS.symbol).astype(int)
STATS = detector_statistics(
    OVERLAPS.T @ OVERLAPS, 20, COLUMNS, COUNTS, np.ones(D), np.ones(4) / 4, TREE
)
RESULT = fit(VOTES, TREE)
ANNOTATORS = AnnotatorData(
    DATA.votes,
    DATA.lf_of_column,
    jnp.ones((D, 3), bool),
    jnp.ones((D, 3)),
    jnp.ones((D, 1)),
    jnp.zeros((20, 3)),
    jnp.ones((20, 1)),
)
ANNOTATOR_PRIOR = annotator_prior(
    COLUMNS, TREE, accuracy=np.full(4, 0.7), votes=2.0, balance_items=1.0
)
RELATIONS = relation_incidence(VOTES, COLUMNS, TREE)


def annotators(data):
    log_balance = jnp.full(3, -1.1)
    return fit_annotators(
        data, ANNOTATOR_PRIOR, log_balance, 1e-4, tree=TREE, max_steps=9, fixed_balance=False
    )


def default_posterior(params):
    return params.log_posterior(VOTES, RESULT.columns, TREE)


def relation_products(votes):
    operator = dataclasses.replace(RELATIONS, votes=votes)
    return operator.apply(operator.transpose_apply(jnp.ones((20, 3))))


def scores(probs):
    gold = jnp.zeros(20, jnp.int32)
    return (
        metrics.expected_accuracy(probs, gold),
        metrics.expected_calibration_error(probs, gold),
        metrics.log_loss(probs, gold),
        metrics.roc_auc_one_vs_rest(probs, gold),
    )


def overlap(mu):
    balance = jnp.ones(3) / 3
    return overlap_objective(mu, jnp.eye(D), balance, 1 - jnp.eye(D), mu * 0, jnp.zeros(D))


def network_loss(params):
    key = jax.random.key(0)
    return soft_label_loss(NET.apply(params, INPUTS, key), jnp.ones((20, 4)) / 4).sum()


LOSS_CONFIG = LossConfig(
    robust_exponent=0.5, task_balance="gradient_norm", consistency=ConsistencyConfig()
)
LOSS_PARAMS = initial_params(NET, LOSS_CONFIG, jax.random.key(0), INPUTS)


def network_objective(params):
    batch = Batch(INPUTS, jnp.ones((20, 4)) / 4, jnp.ones(20), jnp.ones((20, 2), bool))
    return objective(NET, LOSS_CONFIG)[0](params, batch, jax.random.key(0))


OTHER_NET = build(
    TREE,
    embedding_bag(64, 8),
    NetworkConfig(num_layers=3, tasks={"b": TaskConfig(0, 0.1, False, "probabilities")}),
    task_encoders={"b": embedding_bag(64, 3)},
)


def other_network_loss(params):
    return OTHER_NET.apply(params, INPUTS, jax.random.key(0)).sum()


SLICED = slice_aware(TREE, embedding_bag(64, 8), ["short"])


def network_evaluation(log_conditionals):
    gold = jnp.zeros((20, 1), jnp.int32)
    temperatures = fit_temperatures(TREE, log_conditionals, gold)
    return evaluate_predictions(TREE, log_conditionals, gold), temperatures


BINARY_TREE = TaskTree.single(2)
BINARY = np.random.default_rng(1).integers(-1, 2, (20, 4))
DEPENDENT = fit_with_dependencies(BINARY, BINARY_TREE, [(0, 1)])
GLAD_DATA = glad_data(VOTES, COLUMNS, TREE)
GLAD_PRIOR = GladPrior(*(jnp.ones(()) for _ in range(4)))
MACE_PRIOR = mace_prior(COLUMNS, TREE, MaceConfig())
MACE = MaceDirichlets(jnp.full((4, 2), -0.7), jnp.full(D, -1.0))
SPARSE = incidence(np.asarray(column_ids(VOTES, COLUMNS)), D, dense=False)
BLOCKS = jnp.asarray(column_blocks(COLUMNS))


def glad(ability):
    log_q, _ = glad_e_step(ability, jnp.zeros(20), jnp.zeros(3), GLAD_DATA, TREE)
    return glad_m_step(log_q, ability, jnp.zeros(20), GLAD_DATA, GLAD_PRIOR, TREE)


def mace(log_q):
    tables = mace_tables(MACE, jnp.zeros(3), DATA.lf_of_column, MACE_PRIOR)
    return [mace_m_step(log_q, MACE, tables, DATA, MACE_PRIOR, name) for name in ("em", "vb")]


def overlap_from_votes(mu):
    zeros = jnp.zeros(D)
    balance = jnp.ones(3) / 3
    return overlap_objective_from_votes(mu, SPARSE, zeros, BLOCKS, balance, mu, zeros)


def third_order(mu):
    return third_order_objective(mu, jnp.zeros(1), jnp.ones(3) / 3, jnp.array([[0, 1, 2]]))


def lstm_loss(weights):
    return lstm(jnp.ones((5, 3, 8)), weights, jnp.ones((5, 3), bool)).sum()


def training(inputs):
    def loss(params, batch, key):
        return -leaf_log_probs(NET, params, batch)[:, 0].mean()

    names = {"optimiser": make_optimiser(OptimiserConfig(), 10), "data_axes": None, "mesh": None}
    better = {"lower_is_better": True}
    keys = jax.random.split(jax.random.key(0), 2)
    state = start(keys, inputs, init=NET.init, averaged=True, **better, **names)
    options = StepOptions(8, 2, 0.9)
    steps = jnp.int32(0), jnp.int32(10)
    state, total = run_steps(
        state, inputs, *steps, loss=loss, options=options, streamed=False, **names
    )
    state, scores = evaluate(
        state,
        inputs,
        steps[1],
        score=lambda params, batch: loss(params, batch, None),
        watch="loss",
        ema_decay=0.9,
        validation_axes=None,
        mesh=None,
        **better,
    )
    return state.best_params, total, scores


KERNELS = {
    "training": (training, INPUTS),
    "lstm": (jax.value_and_grad(lstm_loss), jnp.ones((2, 8))),
    "glad": (glad, jnp.ones(4)),
    "mace": (mace, jnp.zeros((20, 3))),
    "triplet_magnitudes": (
        lambda x: [triplet_magnitudes(x, x, x, x, name) for name in ("weighted", "median")],
        jnp.ones((4, 4)),
    ),
    "overlap_objective_from_votes": (jax.value_and_grad(overlap_from_votes), jnp.ones((D, 3))),
    "third_order_objective": (jax.value_and_grad(third_order), jnp.ones((D, 3))),
    "pair_counts": (lambda q: pair_counts(q, jnp.zeros((20, 4), jnp.int32), 3), jnp.ones((20, 2))),
    "clique_posterior": (
        lambda tables: tables.log_posterior(BINARY, DEPENDENT.columns, BINARY_TREE),
        DEPENDENT.params,
    ),
    "fit_annotators": (annotators, ANNOTATORS),
    "fit_detectors": (
        lambda stats: fit_detectors(stats, DetectorPrior(), num_groups=2, config=MinimiseConfig()),
        STATS,
    ),
    "default_posterior": (default_posterior, RESULT.params),
    "relations": (relation_products, RELATIONS.votes),
    "metrics": (scores, jnp.ones((20, 3)) / 3),
    "overlap_counts": (lambda votes: overlap_counts(votes, COLUMNS), jnp.zeros((20, 4), jnp.int8)),
    "listed_overlap_counts": (
        lambda item: listed_overlap_counts(item, item, jnp.int32(3), 9),
        jnp.zeros(20, jnp.int32),
    ),
    "overlap_objective": (jax.value_and_grad(overlap), jnp.ones((D, 3))),
    "minimise": (lambda mu: minimise(overlap, mu, MinimiseConfig()), jnp.ones((D, 3))),
    "e_step": (lambda tables: e_step(tables, DATA, TREE), TABLES),
    "m_step": (lambda log_q: m_step(log_q, DATA, PRIOR, TREE), jnp.zeros((20, 3))),
    "log_posterior": (lambda votes: log_posterior(TABLES, votes, COLUMNS, TREE), VOTES),
    "majority_vote": (lambda votes: majority_vote(votes, TREE), VOTES),
    "node_sum": (lambda x: node_sum(TREE, x), jnp.ones((20, 3))),
    "node_logsumexp": (lambda x: node_logsumexp(TREE, x), jnp.ones((20, 3))),
    "network": (lambda params: leaf_log_probs(NET, params, INPUTS), PARAMS),
    "network_evaluation": (network_evaluation, jnp.zeros((20, 4))),
    "network_of_slices": (
        lambda params: leaf_log_probs(SLICED, params, INPUTS),
        SLICED.init(jax.random.key(0), INPUTS),
    ),
    "network_objective": (jax.value_and_grad(network_objective), LOSS_PARAMS),
    "network_options": (
        jax.value_and_grad(other_network_loss),
        jax.eval_shape(OTHER_NET.init, jax.random.key(0), INPUTS),
    ),
    "network_step": (jax.value_and_grad(network_loss), PARAMS),
}


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_lowers_everywhere(name):
    function, argument = KERNELS[name]
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), argument)
    exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(shapes)
    assert exported.platforms == PLATFORMS


def test_cliques_lower_for_any_number_of_items():
    assert lower_label_model(DEPENDENT).in_avals[0].shape[1:] == BINARY.shape[1:]
