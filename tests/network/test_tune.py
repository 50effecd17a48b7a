"""Tuning: trials against separate fits, halving, Hyperband, divergence, programs, pictures."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metal_jax._core.optimiser import make_traced_optimiser
from metal_jax._core.training_steps import run_steps
from metal_jax.network import (
    Choice,
    Encoder,
    Examples,
    FitConfig,
    LogUniform,
    LossConfig,
    NetworkConfig,
    OptimiserConfig,
    TrainingConfig,
    TuneConfig,
    Uniform,
    build,
    fit,
    plot_tuning,
    soft_label_loss,
    tune,
)
from metal_jax.network._training.objective import loss_optimiser
from metal_jax.network._tuning.brackets import halving_rungs, hyperband_brackets, select
from metal_jax.network._tuning.search_space import draw_settings
from metal_jax.network._tuning.trials import Replica, Trial
from metal_jax.task_tree import TaskTree, node_sum

TREE = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
IDENTITY = Encoder(lambda key, inputs: {}, lambda params, inputs, key: inputs)
NETWORK = build(TREE, IDENTITY, NetworkConfig((8,), dropout=0.1))
KEY = jax.random.key(7)


def separable(n, seed):
    """Items in two dimensions whose leaf is read off the signs; nearly hard labels."""
    x = np.random.default_rng(seed).normal(size=(n, 2)).astype(np.float32)
    leaf = np.where(x[:, 0] < 0, 2, np.where(x[:, 1] < 0, 0, 1))
    return Examples(x, np.eye(3)[leaf] * 0.94 + 0.02)


EXAMPLES, VALIDATION = separable(97, 0), separable(31, 1)
TRAINING = TrainingConfig(32, 27, 9, 1)
FIT = FitConfig(OptimiserConfig(warmup_steps=2), training=TRAINING)
RATES = {"optimiser.learning_rate": LogUniform(1e-3, 1e-1)}


def search(space=RATES, method="halving", key=KEY, *, network=NETWORK, **settings):
    settings = {"num_trials": 3, "min_steps": 9, "fit": FIT} | settings
    config = TuneConfig(method, **settings)
    return tune(network, EXAMPLES, VALIDATION, space, config, key=key)


@pytest.fixture(scope="module")
def halving():
    return search()


@pytest.fixture(scope="module")
def in_full():
    return search(method="random")


def assert_same_curves(one, other, rtol=1e-4):
    for row, expected in zip(one, other, strict=True):
        assert row["settings"] == expected["settings"]
        assert row["curve"]["steps"] == expected["curve"]["steps"]
        np.testing.assert_allclose(row["curve"]["scores"], expected["curve"]["scores"], rtol=rtol)


def num_programs():
    return run_steps._cache_size()  # pyright: ignore[reportFunctionMemberAccess]


@pytest.mark.slow
def test_trials_of_one_program_equal_separate_fits():
    space = {
        "optimiser.learning_rate": LogUniform(1e-2, 1e-1),
        "optimiser.weight_decay": Uniform(0.0, 0.9),
        "optimiser.max_gradient_norm": Choice((0.1, 1.0)),
        "loss.task_weights.b": LogUniform(0.1, 10.0),
        "network.dropout": Uniform(0.0, 0.9),
    }
    training = TrainingConfig(32, 12, 12, 0)
    settings = FitConfig(OptimiserConfig(warmup_steps=2), training=training)
    key = jax.random.key(9)  # the second trial is the best
    before = num_programs()
    result = search(space, "random", key, num_trials=2, num_seeds=2, fit=settings)
    other = {name: Choice((0.3, 0.4)) for name in reversed(space)}
    search(other, "random", num_trials=4, max_replicas=4, fit=settings)
    assert num_programs() == before + 1
    rows = result.table[2:]
    own = rows[0]["settings"]
    optimiser = OptimiserConfig(
        own["optimiser.learning_rate"],
        warmup_steps=2,
        weight_decay=own["optimiser.weight_decay"],
        max_gradient_norm=own["optimiser.max_gradient_norm"],
    )
    loss = LossConfig(task_weights=(1.0, own["loss.task_weights.b"]))
    config = FitConfig(optimiser, loss, training=training)
    assert result.config == config
    seed_keys = jax.random.split(jax.random.split(key)[1], 2)
    assert result.network.config == NetworkConfig((8,), dropout=own["network.dropout"])
    alone = fit(result.network, EXAMPLES, VALIDATION, config, key=seed_keys)
    nodes = node_sum(TREE, VALIDATION.leaf_probs)

    @jax.jit
    def score(params):
        """Alike for all trials, whatever the weights of the tasks in training."""
        return soft_label_loss(NETWORK.apply(params, VALIDATION.inputs), nodes).mean()

    params = [jax.tree.map(lambda x, i=i: x[i], alone.params) for i in range(2)]
    scores = [score(x) for x in params]
    np.testing.assert_allclose([row["score"] for row in rows], scores, rtol=1e-4)
    assert {row["trial_score"] for row in rows} == {np.mean([row["score"] for row in rows])}
    best = params[np.argmin(scores)]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4), result.params, best)
    assert result.best_score == rows[0]["trial_score"] < result.table[0]["trial_score"]
    assert result.num_steps == 2 * 2 * 12


def test_survivors_go_on_as_if_never_compared(halving, in_full):
    steps = [row["steps"] for row in halving.table]
    assert sorted(steps) == [9, 9, 27]
    assert halving.num_steps == 45
    assert in_full.num_steps == 81
    at_first = [row["curve"]["scores"][0] for row in in_full.table]
    assert np.argmax(steps) == np.argmin(at_first) == halving.best_trial
    full_rows = [
        row | {"curve": {name: values[: steps[i] // 9] for name, values in row["curve"].items()}}
        for i, row in enumerate(in_full.table)
    ]
    assert_same_curves(halving.table, full_rows)
    assert [row["rung"] for row in halving.table] == [int(s == 27) for s in steps]


def test_settings_reach_the_optimiser_beside_a_state_of_the_loss():
    config = LossConfig(task_balance="uncertainty")
    traced = make_traced_optimiser(OptimiserConfig(warmup_steps=0), 5, ("learning_rate",))
    optimiser = loss_optimiser(traced, config)
    params = {"tower": jnp.ones(2), "loss": {"log_variances": jnp.ones(2)}}

    @jax.jit
    @jax.vmap
    def step(rate):
        settings = {"learning_rate": rate}
        return optimiser.update(params, optimiser.init(params), params, settings=settings)[0]

    updates = step(jnp.array([0.1, 0.2]))
    np.testing.assert_allclose(2 * updates["tower"][0], updates["tower"][1], rtol=1e-5)
    balance = updates["loss"]["log_variances"]
    np.testing.assert_array_equal(balance[0], balance[1])


def test_the_key_decides(halving):
    again, other = search(), search(key=jax.random.key(8))
    assert again.table == halving.table
    jax.tree.map(np.testing.assert_array_equal, again.params, halving.params)
    assert other.best_settings != halving.best_settings


@pytest.mark.slow
def test_how_many_are_trained_at_once_changes_nothing(halving):
    other = search(max_replicas=2)
    assert_same_curves(other.table, halving.table)
    assert other.num_steps == halving.num_steps


@pytest.mark.slow
def test_settings_of_the_program_are_searched():
    space = {"build.width": Choice((4, 6)), "training.batch_size": Choice((16,))}
    before = num_programs()
    built = []

    def builder(width):
        built.append(width)
        return build(TREE, IDENTITY, NetworkConfig((width,), dropout=0.1))

    training = TrainingConfig(64, 6, 6)
    settings = {"num_trials": 4, "min_steps": 6, "fit": FitConfig(training=training)}
    result = search(space, "random", network=builder, num_programs=4, **settings)
    assert num_programs() == before + 2
    widths = [row["settings"]["build.width"] for row in result.table]
    assert widths == [4, 6] * 2  # every combination in turn, since there are no more
    assert {4, 6} == set(built)
    kernel = result.params["tower"]["trunk_0"]["kernel"]
    assert kernel.shape == (2, result.best_settings["build.width"])
    assert result.config.training.batch_size == 16
    assert result.network.apply(result.params, VALIDATION.inputs).shape == (31, 4)
    # Of equal trials the first counts.
    assert result.best_trial < 2


def test_a_trial_that_diverges_is_last():
    space = {"optimiser.learning_rate": Choice((1e30, 0.01))}
    result = search(space, key=jax.random.key(9))
    diverged = [row["settings"]["optimiser.learning_rate"] == 1e30 for row in result.table]
    assert diverged == [True, False, True]
    assert [row["diverged"] for row in result.table] == diverged
    assert [row["trial_score"] is None for row in result.table] == diverged
    assert [row["steps"] for row in result.table] == [9, 27, 9]
    assert result.best_trial == 1
    assert json.loads(json.dumps(result.table, allow_nan=False))[0]["seed"] == 0
    with pytest.raises(ValueError, match="all 3 trials have diverged"):
        search({"optimiser.learning_rate": Choice((1e30,))})


def trial(index, *curves, lower_is_better=True):
    replicas = [
        Replica(seed, {}, steps=[1, 2, 3][: len(curve)], scores=list(curve))
        for seed, curve in enumerate(curves)
    ]
    return Trial(index, {}, 0, replicas, lower_is_better)


def test_scores_of_trials():
    assert trial(0, [3.0, 1.0, 2.0], [5.0, 4.0, 3.0]).score() == 2.0
    assert trial(0, [3.0, 1.0, 2.0], lower_is_better=False).cost() == -3.0
    for last in (math.nan, math.inf, -math.inf):
        late = trial(0, [1.0, 2.0], [1.0, last])
        assert late.score() is None
        assert late.cost() == math.inf


def test_selection():
    costs = [0.5, 0.1, math.nan, 0.5, 0.3, math.nan]
    trials = [trial(i, [cost]) for i, cost in enumerate(costs)]
    for order in (trials, trials[::-1]):
        kept, finished = select(order, 3)
        assert [t.index for t in kept] == [1, 4, 0]
        assert [t.index for t in finished] == [3, 2, 5]
    kept, finished = select(trials, 5)
    assert [t.index for t in kept] == [1, 4, 0, 3]
    assert [t.index for t in finished] == [2, 5]


def test_brackets_of_hyperband_are_those_of_the_paper():
    # Li et al. (JMLR 2018), table 1: R = 81, eta = 3.
    assert hyperband_brackets(81, 1, 3) == (
        ((81, 1), (27, 3), (9, 9), (3, 27), (1, 81)),
        ((27, 3), (9, 9), (3, 27), (1, 81)),
        ((9, 9), (3, 27), (1, 81)),
        ((6, 27), (2, 81)),
        ((5, 81),),
    )
    for num_steps, min_steps, eta in ((300, 30, 3), (1000, 7, 2), (10, 10, 4)):
        brackets = hyperband_brackets(num_steps, min_steps, eta)
        # Each costs at most what algorithm 1 allows, B = (s_max + 1) R.
        for rungs in brackets:
            assert rungs[-1].num_steps == num_steps
            assert rungs[0].num_steps >= min_steps
            assert sum(r.num_trials * r.num_steps for r in rungs) <= len(brackets) * num_steps


def test_rungs_of_halving():
    assert halving_rungs(27, 300, 30, 3) == ((27, 33), (9, 100), (3, 300))
    assert halving_rungs(2, 300, 30, 3) == ((2, 300),)
    assert halving_rungs(16, 64, 1, 2) == ((16, 4), (8, 8), (4, 16), (2, 32), (1, 64))


def test_hyperband():
    result = search(method="hyperband")
    assert TuneConfig("hyperband", min_steps=9, fit=FIT).brackets() == (
        ((3, 9), (1, 27)),
        ((2, 27),),
    )
    assert [row["bracket"] for row in result.table] == [0, 0, 0, 1, 1]
    assert sorted(row["steps"] for row in result.table) == [9, 9, 27, 27, 27]
    assert result.best_score == min(row["score"] for row in result.table)


def test_progress():
    told = []
    config = TuneConfig(num_trials=3, min_steps=9, fit=FIT)
    result = tune(
        NETWORK,
        EXAMPLES,
        VALIDATION,
        RATES,
        config,
        key=KEY,
        on_progress=lambda steps, numbers: told.append((steps, numbers["num_trials"])),
    )
    assert told == [(27, 3), (45, 1)]
    assert result.num_steps == 45


def test_draws():
    space = {"a": Uniform(-1.0, 2.0), "b": LogUniform(1e-4, 1.0), "c": Choice("xyz")}
    drawn = draw_settings(space, 300, 300, KEY)
    assert drawn == draw_settings(dict(reversed(space.items())), 300, 300, KEY)
    a, b = (np.array([row[name] for row in drawn]) for name in "ab")
    assert -1 <= a.min() < -0.9
    assert 1.9 < a.max() <= 2
    quartiles = np.quantile(np.log10(b), [0.25, 0.5, 0.75])
    np.testing.assert_allclose(quartiles, [-3, -2, -1], atol=0.4)
    assert {row["c"] for row in drawn} == set("xyz")
    assert list(drawn[0]) == ["a", "b", "c"]
    few = draw_settings(space, 7, 2, KEY)
    assert [row["a"] for row in few] == [few[i % 2]["a"] for i in range(7)]
    assert len({row["a"] for row in few}) == 2


def test_pictures(halving):
    ax = plot_tuning(halving)
    assert sorted(len(line.get_xdata()) for line in ax.lines) == [1, 1, 3]
    assert len(ax.lines[-1].get_xdata()) == 3  # the best lies on top
    assert ax.get_ylabel() == "validation loss"
    drawn = plot_tuning(halving, ax.figure.add_subplot(), setting="optimiser.learning_rate")
    best = halving.best_settings["optimiser.learning_rate"], halving.best_score
    assert drawn.lines[-1].get_xydata().tolist() == [list(best)]
    ax.figure.canvas.draw()
    with pytest.raises(ValueError, match="setting: got 'dropout', expected one of"):
        plot_tuning(halving, setting="dropout")


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "space: got no settings"),
        ({"optimiser.learning_rate": (0, 1)}, "expected Uniform, LogUniform or Choice"),
        ({"optimiser.rate": Uniform(0, 1)}, r"'optimiser.rate': got 'rate', expected one of \['le"),
        ({"rate": Uniform(0, 1)}, r"'rate': got 'rate', expected one of \['optimiser'"),
        ({"optimiser.schedule.x": Uniform(0, 1)}, "'schedule' has no settings of its own"),
        ({"optimiser": Choice(["adam"])}, "'optimiser' is a group of settings"),
        ({"training.batch_size": Uniform(1, 9)}, "'training.batch_size': got .*, expected integ"),
        ({"optimiser.weight_decay": Choice(["a"])}, "'optimiser.weight_decay': '>=' not supp"),
        ({"optimiser.schedule": Choice(["step"])}, "'optimiser.schedule': schedule: got 'step'"),
        ({"optimiser.learning_rate": Uniform(-2, -1)}, "learning_rate: got -1"),
        ({"training.num_steps": Choice([1])}, "'training.num_steps' cannot be searched"),
        ({"loss.task_weights.c": Uniform(0, 1)}, r"got task 'c', expected one of \['a', 'b'\]"),
        ({"build.widths": Choice([(8,)])}, "'build.widths': the network is built already"),
        ({"network.depth": Choice([1])}, r"'network.depth': got 'depth', expected one of \['wid"),
        ({"network.dropout": Uniform(1, 2)}, "'network.dropout': dropout: got 1"),
    ],
)
def test_bad_spaces(space, message):
    with pytest.raises(ValueError, match=message):
        search(space)


def test_a_builder_of_other_arguments():
    with pytest.raises(ValueError, match=r"cannot be called with \['depth'\]: .*widths"):
        search({"build.depth": Choice([1])}, network=lambda widths: NETWORK)
    trees = [TREE, TaskTree.single(3)]
    with pytest.raises(ValueError, match=r"network: got another task tree with \{'build.tree'"):
        search({"build.tree": Choice([0, 1])}, network=lambda tree: build(trees[tree], IDENTITY))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Uniform(1, 1), "got low=1, high=1, expected finite and low < high"),
        (lambda: Uniform(0, math.inf), "expected finite"),
        (lambda: LogUniform(0, 1), "got low=0, high=1, expected positive"),
        (lambda: LogUniform(math.nan, 1), "expected positive"),
        (lambda: Choice(()), "values: got none"),
        (lambda: Choice((object(),)), "expected numbers, strings, None"),
        (lambda: Choice(([1],)), "expected numbers, strings, None"),
        (lambda: TuneConfig("grid"), "method: got 'grid'"),
        (lambda: TuneConfig(num_trials=0), "num_trials: got 0"),
        (lambda: TuneConfig(max_replicas=0), "max_replicas: got 0"),
        (lambda: TuneConfig(reduction=1), "reduction: got 1"),
        (lambda: TuneConfig(min_steps=301), "min_steps: got 301, .* 300"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_labels_by_replica_are_refused():
    both = EXAMPLES._replace(leaf_probs=np.stack([EXAMPLES.leaf_probs] * 2))
    with pytest.raises(ValueError, match="examples: got labels or weights by replica"):
        tune(NETWORK, both, VALIDATION, RATES, key=KEY)
