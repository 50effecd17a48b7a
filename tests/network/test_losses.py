"""Losses against loops over items, tasks and labels; masks, balances, what is left untrained."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from metal_jax.network import (
    ConsistencyConfig,
    Encoder,
    Examples,
    FitConfig,
    LossConfig,
    NetworkConfig,
    OptimiserConfig,
    TrainingConfig,
    build,
    conditional_balance,
    confident_tasks,
    consistency_loss,
    fit,
    gradient_norm_loss,
    learned_task_weights,
    smooth_labels,
    soft_label_loss,
    task_gradient_norms,
    task_losses,
    uncertainty_weighted_loss,
)
from metal_jax.network._training.examples import check_examples
from metal_jax.network._training.objective import initial_params, loss_optimiser, objective
from metal_jax.task_tree import TaskTree, log_normalise_tasks, node_sum

TREE = TaskTree.from_dict(
    {
        "a": {"x": {"b": ["u", "v"]}, "y": {"c": {"p": {"d": ["i"]}, "q": None, "r": None}}},
        "e": ["k", "l", "m"],
    }
)
NUM_ITEMS = 8
RNG = np.random.default_rng(0)
LEAF_PROBS = np.hstack(
    [RNG.dirichlet(np.full(span.stop - span.start, 0.5), NUM_ITEMS) for span in TREE.root_leaves]
)
NODE_PROBS = np.asarray(node_sum(TREE, LEAF_PROBS.astype(np.float32)))
LOG_P = np.asarray(log_normalise_tasks(TREE, RNG.normal(size=NODE_PROBS.shape).astype(np.float32)))
WEIGHTS = RNG.random(TREE.num_nodes).astype(np.float32)

IDENTITY = Encoder(lambda key, inputs: {}, lambda params, inputs, key: inputs)
NETWORK = build(TREE, IDENTITY, NetworkConfig((4,), dropout=0.2))
INPUTS = RNG.normal(size=(NUM_ITEMS, 3)).astype(np.float32)
EXAMPLES = Examples(INPUTS, LEAF_PROBS)


def batch_of(examples, config=LossConfig()):  # noqa: B008
    return check_examples("examples", examples, TREE, config).batch


def start(config, seed=0):
    """Parameters away from the zeros that biases and task weights start at."""
    params = initial_params(NETWORK, config, jax.random.key(seed), INPUTS[:1])
    return jax.tree.map(lambda x: x + 0.1 if x.ndim else x, params)


def tasks_of(item):
    """The mass of each task of an item, and its labels' shares of it, by loops."""
    for nodes in TREE.task_nodes:
        mass = sum(NODE_PROBS[item, v] for v in nodes)
        yield nodes, mass, [NODE_PROBS[item, v] / mass for v in nodes]


@pytest.mark.parametrize("exponent", [0.0, 0.3, 1.0])
def test_losses_are_sums_over_labels(exponent):
    expected = np.zeros((NUM_ITEMS, TREE.num_tasks))
    for item in range(NUM_ITEMS):
        for task, nodes in enumerate(TREE.task_nodes):
            for v in nodes:
                p = np.exp(LOG_P[item, v])
                term = (1 - p**exponent) / exponent if exponent else -np.log(p)
                expected[item, task] += WEIGHTS[v] * NODE_PROBS[item, v] * term
    options = {"robust_exponent": exponent}
    found = task_losses(TREE, jnp.asarray(LOG_P), jnp.asarray(NODE_PROBS), WEIGHTS, **options)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    found = soft_label_loss(jnp.asarray(LOG_P), jnp.asarray(NODE_PROBS), WEIGHTS, **options)
    np.testing.assert_allclose(found, expected.sum(1), atol=1e-5)


@pytest.mark.usefixtures("x64")
def test_limits_of_the_generalised_cross_entropy():
    log_p, node_probs = jnp.asarray(LOG_P, jnp.float64), jnp.asarray(NODE_PROBS, jnp.float64)
    small = soft_label_loss(log_p, node_probs, robust_exponent=1e-9)
    np.testing.assert_allclose(small, soft_label_loss(log_p, node_probs), rtol=1e-7)
    # The mean absolute error of a certain label is twice the loss at r = 1.
    hard = jnp.eye(3)[jnp.array([0, 2])]
    p = jnp.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    found = soft_label_loss(jnp.log(p), hard, robust_exponent=1.0)
    np.testing.assert_allclose(2 * found, jnp.abs(hard - p).sum(1), rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_a_soft_label_is_sharpened_as_stated():
    q = jnp.array([[0.5, 0.3, 0.2]])

    def loss(logits):
        return soft_label_loss(jax.nn.log_softmax(logits), q, robust_exponent=0.5).sum()

    optimum = 2 * jnp.log(q)  # q^(1 / (1 - 1/2))
    np.testing.assert_allclose(jax.grad(loss)(optimum), 0, atol=1e-12)
    assert loss(optimum) < loss(jnp.log(q))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("exponent", [0.0, 0.5])
def test_gradients(exponent):
    node_probs = jnp.asarray(NODE_PROBS, jnp.float64)

    def loss(logits):
        log_p = log_normalise_tasks(TREE, logits)
        return soft_label_loss(log_p, node_probs, WEIGHTS, robust_exponent=exponent).sum()

    check_grads(jax.jit(loss), (jnp.asarray(LOG_P, jnp.float64),), order=1, modes=["rev"])


def test_impossible_labels():
    """A label of probability zero: no NaN, and none costs a robust loss more than 1 / r."""
    log_p = jnp.array([[0.0, -jnp.inf]])
    for q in ([1.0, 0.0], [0.0, 1.0]):
        value, gradient = jax.value_and_grad(
            lambda x, q=q: soft_label_loss(x, jnp.array([q]), robust_exponent=0.5).sum()
        )(log_p)
        assert value == 2 * q[1]
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("threshold", [0.0, 0.6, 1.0])
def test_confident_tasks(threshold):
    expected = [
        [max(shares) >= threshold for _, _, shares in tasks_of(item)] for item in range(NUM_ITEMS)
    ]
    found = np.array(confident_tasks(TREE, jnp.asarray(NODE_PROBS), threshold))
    single = [len(nodes) == 1 for nodes in TREE.task_nodes]
    assert found[:, single].all() or threshold == 1  # a lone label is certain, up to rounding
    found[:, single] = np.asarray(expected)[:, single]
    assert found.tolist() == expected
    assert not confident_tasks(TREE, jnp.zeros(TREE.num_nodes), threshold).any()


def test_smoothing_mixes_with_the_class_balance_by_entropy():
    weights = RNG.random(NUM_ITEMS).astype(np.float32)
    balance = np.zeros(TREE.num_nodes)
    for nodes in TREE.task_nodes:
        totals = [sum(weights[i] * NODE_PROBS[i, v] for i in range(NUM_ITEMS)) for v in nodes]
        balance[list(nodes)] = np.asarray(totals) / sum(totals)
    found = conditional_balance(TREE, jnp.asarray(NODE_PROBS), jnp.asarray(weights))
    np.testing.assert_allclose(found, balance, rtol=1e-5)
    expected = np.zeros_like(NODE_PROBS)
    for item in range(NUM_ITEMS):
        for nodes, mass, shares in tasks_of(item):
            entropy = -sum(q * np.log(q) for q in shares if q > 0)
            mixing = 0.7 * entropy / np.log(len(nodes)) if len(nodes) > 1 else 0
            for v, q in zip(nodes, shares, strict=True):
                expected[item, v] = mass * ((1 - mixing) * q + mixing * balance[v])
    found = smooth_labels(TREE, jnp.asarray(NODE_PROBS), jnp.asarray(balance, jnp.float32), 0.7)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_consistency_by_loops():
    teacher = np.asarray(log_normalise_tasks(TREE, 2 * RNG.normal(size=LOG_P.shape)), np.float32)
    unlabelled = RNG.random((NUM_ITEMS, TREE.num_tasks)) < 0.7
    task_weights = RNG.random(TREE.num_tasks).astype(np.float32)
    expected = np.zeros(NUM_ITEMS)
    for item in range(NUM_ITEMS):
        for task, nodes in enumerate(TREE.task_nodes):
            p = np.exp(teacher[item, list(nodes)])
            if not unlabelled[item, task] or p.max() < 0.6:
                continue
            above = TREE.task_parent[task]
            path = [] if above < 0 else [*TREE.ancestors(above), above]
            sharp = p**2 / np.sum(p**2)
            loss = -np.sum(sharp * LOG_P[item, list(nodes)])
            expected[item] += task_weights[task] * np.exp(teacher[item, path].sum()) * loss
    found = consistency_loss(
        TREE,
        jnp.asarray(LOG_P),
        jnp.asarray(teacher),
        jnp.asarray(unlabelled),
        task_weights,
        threshold=0.6,
        temperature=0.5,
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
    gradient = jax.grad(lambda x: consistency_loss(TREE, x, x, jnp.asarray(unlabelled)).sum())
    alone = jax.grad(
        lambda x: consistency_loss(TREE, x, jnp.asarray(LOG_P), jnp.asarray(unlabelled)).sum()
    )
    np.testing.assert_array_equal(gradient(jnp.asarray(LOG_P)), alone(jnp.asarray(LOG_P)))


def test_uncertainty_weights_have_their_optimum_where_stated():
    losses, masses = jnp.array([2.0, 0.1, 0.0]), jnp.array([1.0, 0.5, 0.0])
    gradient = jax.grad(lambda s: uncertainty_weighted_loss(losses, masses, s))
    optimum = jnp.log(2 * losses[:2] / masses[:2])
    found = gradient(jnp.append(optimum, 0.3))
    np.testing.assert_allclose(found, 0, atol=1e-6)  # also for the task without labels


def test_gradient_norm_loss_by_loops():
    weights, norms = np.array([0.5, 1.5, 1.0, 1.0]), np.array([3.0, 1.0, 2.0, 9.0])
    losses, uniform = np.array([0.5, 1.0, 0.2, 0.0]), np.array([1.0, 1.0, 0.5, 0.0])
    ratios = losses[:3] / uniform[:3]
    rates = ratios / ratios.mean()
    mean = (weights * norms)[:3].mean()
    expected = sum(abs(weights[t] * norms[t] - mean * rates[t] ** 1.5) for t in range(3))
    arrays = [jnp.asarray(x, jnp.float32) for x in (weights, norms, losses, uniform)]
    found, gradient = jax.value_and_grad(gradient_norm_loss)(*arrays, restoring_force=1.5)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    signs = [np.sign(weights[t] * norms[t] - mean * rates[t] ** 1.5) for t in range(3)]
    np.testing.assert_allclose(gradient, [*np.multiply(signs, norms[:3]), 0], rtol=1e-5)


def test_task_gradient_norms():
    shared = {"kernel": jnp.array([[1.0, 2.0]]), "bias": jnp.array([3.0])}
    found = task_gradient_norms(
        lambda p: jnp.stack([jnp.sum(p["kernel"] ** 2), 4 * p["bias"][0]]), shared
    )
    np.testing.assert_allclose(found, [2 * np.sqrt(5), 4], rtol=1e-6)


VARIANTS = {
    "default": LossConfig(),
    "robust": LossConfig(
        robust_exponent=0.7,
        task_weights=tuple(1.0 + i for i in range(TREE.num_tasks)),
        class_weights=tuple(WEIGHTS.tolist()),
    ),
    "trusted": LossConfig(confidence_threshold=0.6, smoothing=1.0),
    "uncertainty": LossConfig(task_balance="uncertainty"),
    "gradient_norm": LossConfig(task_balance="gradient_norm"),
    "consistency": LossConfig(
        confidence_threshold=0.6, consistency=ConsistencyConfig(threshold=0.3, ramp_up_steps=1)
    ),
}
MASKED = [TREE.task_index("c"), TREE.task_index("d")]
MASK = np.ones((NUM_ITEMS, TREE.num_tasks), bool)
MASK[:, MASKED] = False


@functools.cache
def step_of(name):
    """One compiled optimiser step of a variant, its loss traced under strict promotion."""
    config = VARIANTS[name]
    loss, _ = objective(NETWORK, config)
    optimiser = loss_optimiser(optax.adam(0.01), config)

    @jax.jit
    def step(params, opt_state, batch, key):
        with jax.numpy_dtype_promotion("strict"):
            value, gradient = jax.value_and_grad(loss)(params, batch, key)
        updates, opt_state = optimiser.update(gradient, opt_state, params)
        return value, gradient, optax.apply_updates(params, updates), opt_state

    return step, optimiser


def gradient_of(name, examples, params=None):
    config = VARIANTS[name]
    run, optimiser = step_of(name)
    params = start(config) if params is None else params
    batch = batch_of(examples, config)
    return run(params, optimiser.init(params), batch, jax.random.key(1))[:2]


@pytest.mark.parametrize(
    "name",
    [
        *("default", "consistency"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in VARIANTS
            if name not in ("default", "consistency")
        ),
    ],
)
def test_masked_tasks_have_no_gradient_and_their_labels_are_not_read(name):
    # The labels of the tasks under "y" change; the mass of "y" itself does not.
    under = TREE.covers[TREE.node("a", "y")]
    other = LEAF_PROBS.copy()
    other[:, under] = np.roll(other[:, under], 1, axis=1)
    assert np.abs(other - LEAF_PROBS).max() > 0.1
    value, gradient = gradient_of(name, Examples(INPUTS, LEAF_PROBS, None, MASK))
    value_2, gradient_2 = gradient_of(name, Examples(INPUTS, other, None, MASK))
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6),
        (value, gradient),
        (value_2, gradient_2),
    )
    for task in range(TREE.num_tasks):
        depth = TREE.node_depth[TREE.task_nodes[task].start]
        row = TREE.levels[depth].tasks.tolist().index(task)
        largest = np.abs(gradient["tower"][f"heads_{depth}"]["kernel"][row]).max()
        lone = len(TREE.task_nodes[task]) == 1
        assert (largest == 0) == (task in MASKED or lone), TREE.tasks[task].name
    weights = [np.asarray(x) for x in gradient.get("loss", {}).values() if x.ndim]
    assert all((x[MASKED] == 0).all() for x in weights)
    assert all(np.abs(x).max() > 0 for x in weights)


@pytest.mark.parametrize("name", VARIANTS)
def test_degenerate_labels_train_without_nan(name):
    certain = np.zeros_like(LEAF_PROBS)
    certain[:, [0, -1]] = 1  # no label but the first under "a", one certain label of "e"
    certain[3] = 0
    weights = np.ones(NUM_ITEMS)
    weights[0] = 0
    run, optimiser = step_of(name)
    params = start(VARIANTS[name])
    opt_state = optimiser.init(params)
    batch = batch_of(Examples(INPUTS, certain, weights), VARIANTS[name])
    first = None
    for i in range(20):
        value, _, params, opt_state = run(params, opt_state, batch, jax.random.key(i))
        first = value if first is None else first
    assert np.isfinite(value)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(params))
    assert value < first or name == "consistency"  # a term of that grows with the steps
    # A batch of nothing but unlabelled items, as a sampler may draw.
    empty = batch._replace(
        node_probs=jnp.zeros_like(batch.node_probs), weights=jnp.zeros_like(batch.weights)
    )
    value, gradient, _, _ = run(params, opt_state, empty, jax.random.key(0))
    assert np.isfinite(value)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))


def test_default_is_the_plain_formula_to_the_bit():
    batch = batch_of(Examples(INPUTS, LEAF_PROBS, RNG.random(NUM_ITEMS)))
    ones = jnp.ones(TREE.num_nodes)

    def plain(params, batch, key):
        log_p = NETWORK.apply(params, batch.inputs, key)
        terms = jnp.where(batch.node_probs > 0, batch.node_probs * log_p, 0)
        losses = -jnp.sum(terms * ones, axis=-1)
        return jnp.sum(losses * batch.weights) / jnp.maximum(jnp.sum(batch.weights), 1e-6)

    loss, _ = objective(NETWORK, LossConfig())
    found, expected = (
        jax.jit(jax.value_and_grad(f))(start(LossConfig()), batch, jax.random.key(1))
        for f in (loss, plain)
    )
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_order_of_items_makes_no_difference():
    config = VARIANTS["trusted"]
    weights = RNG.random(NUM_ITEMS)
    _, score = objective(NETWORK, config)
    params = start(config)
    scores = [
        score(params, batch_of(Examples(INPUTS[rows], LEAF_PROBS[rows], weights[rows]), config))
        for rows in (np.arange(NUM_ITEMS), np.random.default_rng(2).permutation(NUM_ITEMS))
    ]
    np.testing.assert_allclose(*scores, rtol=1e-5)


def test_order_of_tasks_makes_no_difference():
    spec = TREE.to_dict()
    other = TaskTree.from_dict({"e": spec["e"], "a": spec["a"]})
    nodes = np.array([TREE.node(*name) for name in other.node_names])
    tasks = np.array([TREE.task_index(task.name) for task in other.tasks])
    log_p, node_probs = jnp.asarray(LOG_P), jnp.asarray(NODE_PROBS)
    unlabelled = jnp.ones((NUM_ITEMS, TREE.num_tasks), bool)
    balance = conditional_balance(TREE, node_probs)
    for found, expected in [
        (
            task_losses(other, log_p[:, nodes], node_probs[:, nodes]),
            task_losses(TREE, log_p, node_probs)[:, tasks],
        ),
        (
            smooth_labels(other, node_probs[:, nodes], balance[nodes], 0.5),
            smooth_labels(TREE, node_probs, balance, 0.5)[:, nodes],
        ),
        (
            consistency_loss(other, log_p[:, nodes], log_p[:, nodes], unlabelled),
            consistency_loss(TREE, log_p, log_p, unlabelled),
        ),
    ]:
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_what_counts_as_unlabelled():
    probs = np.array([[0.9, 0.05, 0.05], [0.2, 0.2, 0.6], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    tree = TaskTree.from_dict({"a": {"x": None, "y": {"b": ["u", "v"]}}})
    config = LossConfig(confidence_threshold=0.7, consistency=ConsistencyConfig())
    examples = Examples(np.zeros((5, 1)), np.vstack([probs, probs[:1]]), [1, 1, 1, 1, 0])

    def unlabelled(**changes):
        return check_examples("", examples._replace(**changes), tree, config).batch.unlabelled

    # "b" is certain on item 1 only; on the fourth it is not active, which is no lack of a label.
    assert unlabelled().tolist() == [[0, 1], [0, 0], [1, 1], [0, 0], [1, 1]]
    mask = np.array([[True, False]] * 5)
    # Nobody labels "b" now, so it has no teacher, and the mask excludes it in any case.
    assert unlabelled(task_mask=mask).tolist() == [[0, 0], [0, 0], [1, 0], [0, 0], [1, 0]]


SMALL_TREE = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
SMALL = build(SMALL_TREE, IDENTITY, NetworkConfig((4,), dropout=0.2))
SMALL_EXAMPLES = Examples(INPUTS, RNG.dirichlet(np.ones(3), NUM_ITEMS))


@pytest.mark.slow
def test_state_is_kept_and_a_task_without_labels_is_named_and_left_alone():
    consistency = ConsistencyConfig(threshold=0.0, ramp_up_steps=5)
    config = FitConfig(
        OptimiserConfig(weight_decay=0.0),
        LossConfig(task_balance="uncertainty", consistency=consistency),
        training=TrainingConfig(4, 20, 10, 0),
    )
    keys = jax.random.split(jax.random.key(0), 2)
    examples = SMALL_EXAMPLES._replace(
        weights=np.repeat([1.0, 0.0], [6, 2]), task_mask=np.array([[True, False]] * NUM_ITEMS)
    )
    result = fit(SMALL, examples, SMALL_EXAMPLES, config, key=keys)
    assert result.unsupervised_tasks == ("b",)
    assert result.params["loss"]["step"].tolist() == result.best_step.tolist()
    learned = learned_task_weights(result.params)
    assert np.abs(learned[:, 0] - 1).min() > 1e-3
    np.testing.assert_array_equal(learned[:, 1], 1)
    assert learned_task_weights({"tower": {}}) is None
    init = jax.vmap(lambda key: SMALL.init(jax.random.split(key)[0], INPUTS[:1]))
    first, found = jax.jit(init)(keys)["tower"], result.params["tower"]
    np.testing.assert_array_equal(found["heads_1"]["kernel"], first["heads_1"]["kernel"])
    assert np.abs(found["heads_0"]["kernel"] - first["heads_0"]["kernel"]).max() > 1e-3


def test_weight_decay_spares_the_task_weights():
    params = {
        "tower": jnp.ones(2),
        "loss": {"log_variances": jnp.ones(2), "step": jnp.float32(3)},
    }
    optimiser = loss_optimiser(optax.adamw(0.1, weight_decay=1.0), VARIANTS["uncertainty"])
    updates, _ = optimiser.update(
        jax.tree.map(jnp.zeros_like, params), optimiser.init(params), params
    )
    np.testing.assert_allclose(updates["tower"], -0.1)
    np.testing.assert_array_equal(updates["loss"]["log_variances"], 0)
    assert updates["loss"]["step"] == 1


def with_row(row, values):
    probs = LEAF_PROBS.copy()
    probs[row] = values
    return probs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task_mask": MASK[1:]}, r"examples: task_mask: got shape \(7, 5\), expected \(8, 5\)"),
        ({"task_mask": MASK.astype(int)}, "task_mask: got dtype int64, expected bool"),
        ({"task_mask": ~(MASK | True)}, "examples: no item has a label to learn from"),
        ({"leaf_probs": 0 * LEAF_PROBS}, "no item has a label to learn from"),
        (
            {"leaf_probs": with_row(5, 0.5)},
            r"leaf_probs of item 5 sum to 2.5 over task 'a', expected at most 1",
        ),
        ({"leaf_probs": with_row(2, np.nan)}, r"leaf_probs at \(2, 0\) is negative or not finite"),
        ({"weights": 1.0}, r"weights of shape \(\), expected \[8\]"),
    ],
)
def test_bad_examples(changes, message):
    with pytest.raises(ValueError, match=message):
        batch_of(EXAMPLES._replace(**changes))


def test_a_threshold_that_leaves_nothing():
    uniform = Examples(np.zeros((2, 1)), np.full((2, 3), 1 / 3))
    config = LossConfig(confidence_threshold=0.9)
    with pytest.raises(ValueError, match=r"confidence_threshold=0.9 leave nothing"):
        check_examples("examples", uniform, TaskTree.single(3), config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"robust_exponent": 1.5}, "robust_exponent: got 1.5"),
        ({"smoothing": -0.1}, "smoothing: got -0.1"),
        ({"class_weights": (-1.0,)}, "class_weights"),
        ({"task_balance": "none"}, "task_balance: got 'none'"),
        ({"balance_learning_rate": 0.0}, "balance_learning_rate"),
    ],
)
def test_bad_configs(settings, message):
    with pytest.raises(ValueError, match=message):
        LossConfig(**settings)
    for values in ({"threshold": 2}, {"temperature": 0}, {"ramp_up_steps": 0}, {"weight": -1}):
        with pytest.raises(ValueError, match=next(iter(values))):
            ConsistencyConfig(**values)


def test_settings_that_do_not_fit_the_network():
    with pytest.raises(ValueError, match=r"class_weights: got shape \(1,\), expected"):
        objective(NETWORK, LossConfig(class_weights=(1.0,)))
    config = LossConfig(task_balance="gradient_norm", shared_layer=("tower", "stem"))
    with pytest.raises(ValueError, match=r"shared_layer: no 'stem' .* got \['heads_0'"):
        start(config)
