"""The LSTM predictor: what it reads, what it leaves out, what it finds again."""

import dataclasses
import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from scipy.stats import kendalltau

from metal_jax._core.json_text import json_checksum
from metal_jax.exhaust import (
    Layer,
    NetworkConfig,
    PredictorConfig,
    Run,
    curve,
    fit_predictor,
    load_predictor,
    predict,
    read_cell_string,
    read_layer_string,
    save_predictor,
    targets,
)
from metal_jax.exhaust._predictor import _auxiliary_targets
from metal_jax.exhaust._predictor_inputs import build_inputs, encode, serialise
from metal_jax.exhaust._predictor_judging import (
    conformal_quantile,
    join_members,
    judge_members,
    member_weights,
)
from metal_jax.exhaust._predictor_network import apply_network, network_of
from metal_jax.exhaust._predictor_training import (
    _apply_all,
    _hide_kinds,
    _ranking_loss,
    leave_out,
    train_members,
    trained_on,
)

NUM, NUM_EPOCHS, SEEN = 60, 5, 2
NAMES = ("validation/accuracy", "seconds")
CONFIG = PredictorConfig(
    NetworkConfig(hidden_size=8, embedding_size=8, head_size=16),
    num_members=3,
    num_steps=300,
    batch_size=32,
    learning_rate=1e-2,
    dropout=(0.0, 0.1),
)
FEW_STEPS = dataclasses.replace(CONFIG, num_steps=10)


def make_runs(seed, num=NUM):
    """Synthetic: widths and depth determine the accuracy and the seconds, but for little noise."""
    random, noise = np.random.default_rng(seed), np.random.default_rng(seed + 100)
    runs = []
    for i in range(num):
        widths = 2 ** random.integers(3, 8, 4 if i == 0 else random.integers(1, 5))
        best = 0.4 + 0.08 * np.log2(widths).mean() - 0.04 * len(widths)
        rise = 1 - 0.5 / np.arange(1, NUM_EPOCHS + 1)
        accuracy = best * rise + random.normal(0, 0.003, NUM_EPOCHS)
        metrics = {
            "train": {"accuracy": curve(accuracy + noise.uniform(0, 0.1, NUM_EPOCHS))},
            "validation": {"accuracy": curve(accuracy), "loss": curve(2 - accuracy)},
        }
        net = " ".join(f"C({width},3,1)" for width in widths) + " SM(10)"
        optimiser = {"name": "adam", "learning_rate": random.choice([0.01, 0.1])}
        seconds = (float(widths.sum()) / 50,) * NUM_EPOCHS
        runs.append(Run(f"{seed}/{i}", read_layer_string(net), metrics, optimiser, seconds=seconds))
    return runs


RUNS, OTHERS = make_runs(0), make_runs(1)


@pytest.fixture(scope="module")
def predictor():
    return fit_predictor(RUNS, NAMES, key=jax.random.key(0), config=CONFIG)


def fit_of_curves(key):
    names = ("validation/accuracy", "validation/loss@5", "overfitting/accuracy", "seconds")
    return fit_predictor(RUNS, names, key=key, epochs_seen=SEEN, config=FEW_STEPS)


@pytest.fixture(scope="module")
def predictor_of_curves():
    return fit_of_curves(jax.random.key(0))


def assert_same(found, expected, rtol=0.0):
    for a, b in zip(found, expected, strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a, b, rtol)


def train(predictor, values, part, weights, train=train_members):
    """The members' parameters; in the shapes of the fixture, so that nothing is compiled again."""
    inputs, config = predictor.inputs, predictor.config
    rows = np.stack([trained_on(part, i) for i in range(config.num_members)])
    return train(
        jax.random.split(jax.random.key(3), config.num_members),
        jax.tree.map(jnp.asarray, encode(RUNS, inputs)),
        jnp.asarray(values, jnp.float32),
        jnp.asarray(rows),
        jnp.asarray(weights, jnp.float32),
        network=network_of(config.network, inputs.vocabulary.size, predictor.targets),
        config=config,
    )


def relative_error(predictor, name):
    """Mean absolute error of runs not seen, over that of predicting the training runs' mean."""
    known, values = (targets(runs, name) for runs in (RUNS, OTHERS))
    found = predict(predictor, OTHERS).mean[:, predictor.targets.index(name)]
    if name == "seconds":
        known, values, found = (np.log(x) for x in (known, values, found))
    return np.abs(found - values).mean() / np.abs(known.mean() - values).mean()


def test_a_known_function_is_found_again(predictor):
    # Measured over four seeds: at most 0.11 and 0.24.
    assert relative_error(predictor, NAMES[0]) < 0.25
    assert relative_error(predictor, NAMES[1]) < 0.4


def test_intervals_hold_about_their_share_and_tell_something(predictor):
    values = np.stack([targets(OTHERS, name) for name in NAMES], 1)
    found = predict(predictor, OTHERS, 0.9)
    covered = np.mean((found.low <= values) & (values <= found.high), 0)
    # Measured over eight fits: between 0.85 and 1.0.
    assert (covered >= 0.8).all()
    least, most = np.quantile(values[:, 0], (0.05, 0.95))
    assert np.mean(found.high - found.low, 0)[0] < most - least


def test_predictions_are_ordered_and_positive_where_in_log(predictor):
    found = predict(predictor, OTHERS)
    assert found.mean.shape == (NUM, len(NAMES))
    assert (found.low <= found.mean).all()
    assert (found.mean <= found.high).all()
    assert (found.std > 0).all()
    assert (found.low[:, 1] > 0).all()
    previous = found._replace(low=found.mean, high=found.mean)
    for coverage in (0.01, 0.5, 0.8, 0.9, 0.999):
        wider = predict(predictor, OTHERS, coverage)
        assert (wider.low <= previous.low).all()
        assert (wider.high >= previous.high).all()
        np.testing.assert_array_equal(wider.mean, found.mean)
        previous = wider
    assert (previous.high > found.mean).all()
    assert predict(predictor, []).mean.shape == (0, len(NAMES))


def test_other_runs_and_padding_do_not_matter_but_the_order_of_layers_does(predictor):
    found = predict(predictor, OTHERS)
    order = np.random.default_rng(0).permutation(NUM)
    assert_same(predict(predictor, [OTHERS[i] for i in order]), [x[order] for x in found], 1e-5)
    short = [i for i, run in enumerate(OTHERS) if len(run.architecture) <= 3][:5]
    assert_same(predict(predictor, [OTHERS[i] for i in short]), [x[short] for x in found], 1e-5)
    turned = [run._replace(architecture=run.architecture[::-1]) for run in OTHERS]
    turned = predict(predictor, turned)
    assert np.mean(np.abs(turned.mean - found.mean) > 1e-3 * found.mean) > 0.9


def test_metrics_are_not_read_of_an_untrained_network(predictor):
    untrained = [Run("a", run.architecture, optimiser=run.optimiser) for run in OTHERS]
    assert_same(predict(predictor, untrained), predict(predictor, OTHERS))


def test_what_training_runs_did_not_have_is_handled(predictor):
    strange = (Layer("Mystery", {"size": "big", "filters": math.inf}), Layer("C"), Layer(""))
    settings = {"learning_rate": math.nan, "name": None, "schedule": [1, 2], "momentum": 0.9}
    runs = [
        Run("a"),
        Run("b", ()),
        Run("c", strange),
        Run("d", optimiser=settings, batch_size=0),
        Run("e", optimiser={"name": "sgd", "learning_rate": 1e30}, num_params=10**30),
        *OTHERS[5:],
    ]
    found = predict(predictor, [*runs[5:0:-1], runs[0], *runs[6:]])
    assert all(np.isfinite(x).all() for x in found)
    assert_same([x[5] for x in found], [x[0] for x in predict(predictor, runs)], 1e-5)


def test_same_key_same_members_and_members_differ(predictor_of_curves):
    again, other = (fit_of_curves(jax.random.key(seed)) for seed in (0, 1))
    jax.tree.map(np.testing.assert_array_equal, again.params, predictor_of_curves.params)
    assert again.judged == predictor_of_curves.judged
    for x, y in zip(jax.tree.leaves(again.params), jax.tree.leaves(other.params), strict=True):
        assert x.shape[0] == CONFIG.num_members
        assert not np.array_equal(x, y)
        assert not np.array_equal(x[0], x[1])


@pytest.mark.parametrize(("num", "num_members"), [(62, 3), (17, 8)])
def test_parts_are_even_and_left_out(num, num_members):
    part = leave_out(num, num_members, jax.random.key(0))
    counts = np.bincount(part, minlength=num_members)
    assert counts.sum() == num
    assert counts.max() - counts.min() <= 1
    rows = [trained_on(part, member) for member in range(num_members)]
    assert len({len(which) for which in rows}) == 1
    for member, which in enumerate(rows):
        assert not (part[which] == member).any()
        assert len(set(which)) == len(which) >= num - counts.max()


def test_a_member_does_not_see_its_part_nor_missing_targets(predictor_of_curves):
    num_outputs = len(predictor_of_curves.targets)
    values = np.random.default_rng(0).normal(size=(NUM, num_outputs))
    part = leave_out(NUM, CONFIG.num_members, jax.random.key(0))
    weights = np.ones(num_outputs)
    expected = train(predictor_of_curves, values, part, weights)

    changed = np.where((part == 1)[:, None], values + 5, values)
    found = train(predictor_of_curves, changed, part, weights)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(x[1], y[1])
        assert not np.array_equal(x[0], y[0])

    # A target that no run has teaches what one without weight does: nothing.
    missing = values.copy()
    missing[:, 1] = np.nan
    found = train(predictor_of_curves, missing, part, weights)
    weights[1] = 0
    unweighted = train(predictor_of_curves, values, part, weights)
    jax.tree.map(np.testing.assert_array_equal, found, unweighted)


def test_runs_without_a_target_still_teach_the_others(predictor):
    ways = [None, (math.nan,) * NUM_EPOCHS, (math.inf,) * NUM_EPOCHS, ()]
    runs = [run if i % 4 == 0 else run._replace(seconds=ways[i % 4]) for i, run in enumerate(RUNS)]
    found = fit_predictor(runs, NAMES, key=jax.random.key(0), config=CONFIG)
    assert [len(scores) for scores in found.judged.scores] == [NUM, NUM // 4]
    known = np.log(targets(runs[::4], "seconds"))
    np.testing.assert_allclose((found.mean[1], found.std[1]), (known.mean(), known.std()))
    assert (found.mean[0], found.std[0]) == (predictor.mean[0], predictor.std[0])
    assert relative_error(found, NAMES[0]) < 0.4


def poisoned(run, way):
    """The run with something else after the epochs seen."""

    def change(old):
        if way == "absent":
            return old._replace(values=old.values[:SEEN], epochs=old.epochs[:SEEN])
        return old._replace(values=old.values[:SEEN] + (way,) * (NUM_EPOCHS - SEEN))

    metrics = {
        role: {name: change(old) for name, old in named.items()}
        for role, named in run.metrics.items()
    }
    if way == "absent":
        return run._replace(metrics=metrics, seconds=run.seconds[:SEEN])
    metrics["test"] = {"accuracy": curve([way], [NUM_EPOCHS])}
    seconds = run.seconds[:SEEN] + (way,) * (NUM_EPOCHS - SEEN)
    return run._replace(
        metrics=metrics,
        seconds=seconds,
        total_seconds=way,
        status="diverged",
        extra={"best": way},
    )


@pytest.mark.parametrize("way", [math.nan, math.inf, 1e9, "absent"])
def test_only_the_epochs_seen_are_read(predictor_of_curves, way):
    runs = [poisoned(run, way) for run in OTHERS]
    assert_same(predict(predictor_of_curves, runs), predict(predictor_of_curves, OTHERS))
    runs = [poisoned(run, way) for run in RUNS]
    assert build_inputs(runs, SEEN) == predictor_of_curves.inputs


def test_the_epochs_seen_are_read_where_they_are_there(predictor_of_curves):
    found = predict(predictor_of_curves, OTHERS)
    gone = [run._replace(metrics={}, seconds=()) for run in OTHERS]
    without = predict(predictor_of_curves, gone)
    partly = predict(
        predictor_of_curves,
        [run._replace(metrics={"train": run.metrics["train"]}) for run in OTHERS],
    )
    for other in (without, partly):
        assert all(np.isfinite(x).all() for x in other)
        # All but the seconds, which follow from the layers.
        assert (other.mean != found.mean)[:, :3].mean() > 0.9
    assert (without.mean != partly.mean)[:, 2].mean() > 0.9  # overfitting reads both roles


def test_a_loaded_predictor_predicts_the_same(predictor, predictor_of_curves, tmp_path):
    folder = tmp_path / "new" / "predictor"
    save_predictor(folder, predictor_of_curves)
    loaded = load_predictor(folder)
    assert_same(predict(loaded, OTHERS), predict(predictor_of_curves, OTHERS))
    save_predictor(folder, predictor)
    loaded = load_predictor(folder)
    assert loaded._replace(params=None) == predictor._replace(params=None)
    assert_same(predict(loaded, OTHERS, 0.7), predict(predictor, OTHERS, 0.7))

    file = folder / "predictor.json"
    record = json.loads(file.read_text())
    del record["checksum"]

    def broken(text, match):
        file.write_text(text)
        with pytest.raises(ValueError, match=match):
            load_predictor(folder)

    broken("{", "predictor.json: ")

    def sound(record):
        return json.dumps(record | {"checksum": json_checksum(record)})

    broken("[]", "schema 4")
    broken(sound(record | {"schema": 1}), "schema 4")
    broken(sound({"schema": 4}), "predictor.json: KeyError")
    broken(sound(record | {"config": {"depth": 3}}), "predictor.json: ")
    broken(json.dumps(record | {"targets": record["targets"][:1]}), "damaged")
    broken(sound(record | {"targets": record["targets"][:1]}), "saved float32")
    vocabulary = record["inputs"]["vocabulary"] | {"sizes": ["width"]}
    broken(sound(record | {"inputs": record["inputs"] | {"vocabulary": vocabulary}}), "expected")
    file.write_text(sound(record))
    (folder / "params").rename(folder / "elsewhere")
    with pytest.raises(ValueError, match="no checkpoint there"):
        load_predictor(folder)
    with pytest.raises(ValueError, match="no predictor there"):
        load_predictor(tmp_path / "nowhere")


def test_what_is_wrong_is_said(predictor):
    def fit(runs, *names, **options):
        fit_predictor(runs, names, key=jax.random.key(0), config=CONFIG, **options)

    with pytest.raises(ValueError, match="at least one"):
        fit(RUNS)
    with pytest.raises(ValueError, match="validation/accuracy: got 5 runs .* at least 6"):
        fit(RUNS[:5], *NAMES)
    with pytest.raises(ValueError, match="test/accuracy: got 0 runs"):
        fit(RUNS, *NAMES, "test/accuracy")
    with pytest.raises(ValueError, match="seconds: got 0 runs"):
        fit(RUNS, "seconds", epochs_seen=NUM_EPOCHS)
    with pytest.raises(ValueError, match="got target 'speed'"):
        fit(RUNS, "speed")
    for coverage in (0, 1, math.nan):
        with pytest.raises(ValueError, match="got coverage="):
            predict(predictor, OTHERS, coverage)
    for wrong in ({"num_members": 1}, {"num_steps": 0}, {"batch_size": 1}):
        with pytest.raises(ValueError, match="expected at least 2, 1 and 2"):
            PredictorConfig(**wrong)


def test_auxiliary_targets_are_later_points_of_common_curves():
    rare = curve([0.1] * 100)
    runs = [
        run._replace(metrics=run.metrics | {"test": {"accuracy": rare}} if i < 20 else run.metrics)
        for i, run in enumerate(RUNS)
    ]
    found = _auxiliary_targets(runs, SEEN, {"train/accuracy@4"})
    expected = {f"validation/{name}@{t}" for name in ("accuracy", "loss") for t in (3, 4, 5)}
    assert set(found) == expected | {"train/accuracy@3", "train/accuracy@5"}
    long = [Run(str(i), metrics={"test": {"accuracy": rare}}) for i in range(2)]
    points = [int(name.rpartition("@")[2]) for name in _auxiliary_targets(long, 0, set())]
    assert (len(points), points[0], points[-1]) == (5, 1, 100)


@pytest.mark.usefixtures("x64")
def test_parameters_stay_float32_in_x64(predictor_of_curves):
    num_outputs = len(predictor_of_curves.targets)
    part = leave_out(NUM, CONFIG.num_members, jax.random.key(0))
    shapes = train(
        predictor_of_curves,
        np.zeros((NUM, num_outputs)),
        part,
        np.ones(num_outputs),
        lambda *arrays, **how: jax.eval_shape(functools.partial(train_members, **how), *arrays),
    )
    assert {x.dtype for x in jax.tree.leaves(shapes)} == {np.dtype(np.float32)}


@pytest.mark.usefixtures("x64")
def test_the_network_needs_no_implicit_promotion(predictor_of_curves):
    # Training does: optax's schedules divide an integer count.
    inputs = predictor_of_curves.inputs
    network = network_of(CONFIG.network, inputs.vocabulary.size, NAMES)
    arrays = jax.tree.map(jnp.asarray, encode(RUNS[:3], inputs))
    with jax.numpy_dtype_promotion("strict"):
        params = jax.eval_shape(lambda key: network.init(key, arrays), jax.random.key(0))
        found = jax.eval_shape(lambda params: network.apply(params, arrays), params)
    assert {x.dtype for x in jax.tree.leaves((params, found))} == {np.dtype(np.float32)}


def test_metrics_with_an_at_sign_in_their_names_do_no_harm():
    runs = [Run("a", metrics={"validation": {"acc@1": curve([0.1, 0.2])}})]
    for name in _auxiliary_targets(runs, 0, set()):
        targets(runs, name)


def test_constant_settings_are_not_read():
    runs = [run._replace(optimiser={"learning_rate": 0.1}) for run in RUNS[:6]]
    assert build_inputs(runs).settings == ()


def test_ranking_loss_is_that_of_its_pairs():
    random = np.random.default_rng(0)
    location, values = random.normal(size=(2, 7, 3))
    known = random.random(values.shape) < 0.7
    known[1:, 2] = False
    weights = np.array([1.0, 0.5, 2.0])
    expected = 0.0
    for j, weight in enumerate(weights):
        pairs = [
            np.log1p(np.exp(location[low, j] - location[high, j]))
            for high in range(7)
            for low in range(7)
            if known[high, j] and known[low, j] and values[high, j] > values[low, j]
        ]
        expected += weight * np.mean(pairs) if pairs else 0
    found = _ranking_loss(*(jnp.asarray(x) for x in (location, values, known, weights)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow
def test_ranking_weight_keeps_the_order():
    config = dataclasses.replace(CONFIG, ranking_weight=1.0)
    values = targets(OTHERS, NAMES[0])
    for seed in range(2):
        taus = []
        for each in (CONFIG, config):
            fitted = fit_predictor(RUNS, NAMES, key=jax.random.key(seed), config=each)
            found = predict(fitted, OTHERS)
            assert all(np.isfinite(x).all() for x in found)
            taus.append(kendalltau(found.mean[:, 0], values).statistic)
        # The difference, measured over eight pairs of fits: between -0.011 and +0.015.
        assert taus[1] > taus[0] - 0.03


CELL = "|conv~0|+|none~0|skip~1|+|conv~0|none~1|none~2|"


def types(layers):
    return [layer.type for layer in layers]


def test_cells_are_slots_and_live_paths():
    cell = serialise(read_cell_string(CELL))
    assert [types(path) for path in cell.paths] == [["path", "conv"]]
    dead = serialise(read_cell_string("|pool~0|+|conv~0|none~1|+|conv~0|none~1|none~2|"))
    assert dead.paths == cell.paths
    assert dead.sequence != cell.sequence
    live = serialise(read_cell_string("|pool~0|+|none~0|skip~1|+|conv~0|pool~1|none~2|"))
    assert [types(path) for path in live.paths] == [["path", "conv"], ["path", "pool", "pool"]]
    assert len(set(types(live.sequence))) == len(live.sequence) == 6
    unfed = serialise(read_cell_string("|conv~0|+|none~0|skip~1|+|none~0|none~1|none~2|"))
    assert unfed.paths == ()
    identity = serialise(
        read_cell_string("|skip~0|+|skip~0|none~1|+|skip_connect~0|none~1|none~2|")
    )
    assert [types(path) for path in identity.paths] == [["path"]]


def test_only_times_depend_on_dead_operations_and_the_order_of_paths_on_nothing():
    """Other targets of a cell are a function of the set of its live paths."""
    cells = [
        "|conv~0|+|none~0|pool~1|+|conv~0|none~1|pool~2|",
        "|pool~0|+|none~0|conv~1|+|conv~0|none~1|none~2|",
        "|conv~0|+|none~0|pool~1|+|conv~0|none~1|none~2|",
    ]
    runs = [Run(cell, read_cell_string(cell)) for cell in cells]
    inputs = build_inputs(runs)
    network = network_of(CONFIG.network, inputs.vocabulary.size, ["test/accuracy", "seconds"])
    arrays = jax.tree.map(jnp.asarray, encode(runs, inputs))
    params = network.init(jax.random.key(0), arrays)
    found = np.asarray(apply_network(network, params, arrays)[0])
    turned = arrays._replace(
        path_ids=arrays.path_ids[:, ::-1], path_values=arrays.path_values[:, ::-1]
    )
    np.testing.assert_allclose(apply_network(network, params, turned)[0], found, atol=1e-6)
    np.testing.assert_array_equal(found[1, 0], found[2, 0])
    assert abs(found[1, 1] - found[2, 1]) > 1e-3
    assert abs(found[0, 0] - found[2, 0]) > 1e-3


def test_unknown_kinds_are_met_in_training():
    """What is hidden of a batch: the share asked for, never padding, never the sizes."""
    inputs = build_inputs(RUNS)
    batch = jax.tree.map(jnp.asarray, encode(RUNS, inputs))
    found = _hide_kinds(batch, 0.3, jax.random.key(0))
    there = np.asarray(batch.ids) != 0
    hidden = np.asarray(found.ids) == 1
    assert not hidden[~there].any()
    assert 0.2 < hidden[there].mean() < 0.4
    np.testing.assert_array_equal(found.values, batch.values)
    np.testing.assert_array_equal(
        np.where(hidden, 0, found.ids), np.where(hidden, 0, np.asarray(batch.ids))
    )


@pytest.mark.parametrize("architecture", [None, RUNS[0].architecture], ids=["none", "list"])
def test_a_predictor_of_cells_reads_other_runs(architecture):
    inputs = build_inputs([Run("a", read_cell_string(CELL))])
    network = network_of(CONFIG.network, inputs.vocabulary.size, ["test/accuracy"])
    cells, others = (
        jax.tree.map(jnp.asarray, encode([Run("a", each)], inputs))
        for each in (read_cell_string(CELL), architecture)
    )
    params = jax.eval_shape(
        lambda: jax.vmap(lambda key: network.init(key, cells))(jax.random.split(jax.random.key(0)))
    )
    shapes = jax.eval_shape(lambda p: _apply_all(p, others, network=network), params)
    assert [x.shape for x in shapes] == [(2, 1, 1)] * 2


@pytest.mark.slow
def test_a_predictor_of_cells_is_loaded(tmp_path):
    kinds = ("conv", "pool", "skip", "none")
    runs = [
        Run(
            str(i),
            read_cell_string("|{}~0|+|{}~0|{}~1|".format(*np.array(kinds)[[i % 4, i // 4 % 4, 0]])),
            {"test": {"accuracy": curve([0.1 * (i % 4)])}},
        )
        for i in range(16)
    ]
    config = dataclasses.replace(CONFIG, num_steps=1)
    fitted = fit_predictor(runs, ["test/accuracy"], key=jax.random.key(0), config=config)
    save_predictor(tmp_path, fitted)
    assert_same(predict(load_predictor(tmp_path), runs), predict(fitted, runs))


def test_members_of_the_better_rate_count_more():
    """Rates are judged target by target on the runs that their members left out."""
    part = np.array([0, 1, 2, 3] * 5)
    error = np.where(part % 2 == 0, 1.0, 2.0)
    member_rate = np.array([0, 1, 0, 1])
    weights = member_weights(error, part, member_rate)
    np.testing.assert_allclose(weights.sum(), 1)
    np.testing.assert_allclose(weights[0] / weights[1], 2.0**8)
    assert weights[0] == weights[2]
    # Nothing known of the second rate: all count the same.
    np.testing.assert_allclose(member_weights(np.ones(5), np.zeros(5, int), member_rate), 0.25)
    assert member_weights(np.zeros(20), part, member_rate).tolist() == [0.25] * 4


def test_scales_are_judged_rate_by_rate_and_the_better_expert_counts_more():
    """Members 0 and 2 believe themselves ten times as good as they are, 1 and 3 know."""
    rng = np.random.default_rng(0)
    part = np.arange(4000) % 4
    values = rng.laplace(size=(4000, 1))
    config = dataclasses.replace(CONFIG, num_members=4, dropout=(0.0, 0.3))
    location = np.zeros((4, 4000, 1))
    scale = np.broadcast_to(np.array([0.1, 1.0, 0.1, 1.0])[:, None, None], location.shape)
    judged = judge_members(location, scale, values, None, part, config)
    np.testing.assert_allclose(judged.member_scales[0], [10, 1, 10, 1], rtol=0.1)
    assert judged.curve_share == (0.0,)
    joint = join_members(judged, location, scale, None, 0.9)
    share = np.mean(np.abs(values - joint.location) <= joint.quantiles * joint.width)
    assert 0.88 < share < 0.92

    noise = rng.laplace(size=values.shape)
    for size, least, most in ((0.1, 0.9, 1.0), (10.0, 0.0, 0.1)):
        expected = values + size * noise
        judged = judge_members(location, scale, values, expected, part, config)
        assert least <= judged.curve_share[0] <= most
        joint = join_members(judged, location, scale, expected, 0.9)
        share = np.mean(np.abs(values - joint.location) <= joint.quantiles * joint.width)
        assert 0.88 < share < 0.92


@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.99])
def test_equal_weights_give_the_quantile_of_split_conformal_prediction(coverage):
    scores = np.sort(np.random.default_rng(0).exponential(size=37))
    place = min(int(np.ceil(coverage * 38)), 37) - 1
    assert conformal_quantile(scores, np.full(37, 0.3), coverage) == scores[place]
    # What has no weight does not count.
    doubled, weights = np.repeat(scores, 2), np.tile([1.0, 0.0], 37)
    found = conformal_quantile(doubled, weights, coverage)
    assert scores[max(place - 1, 0)] <= found <= scores[place]


@pytest.mark.slow
def test_members_and_batches_spread_over_devices():
    config = dataclasses.replace(FEW_STEPS, num_members=4)
    devices = {"replica": jax.devices()[:2], "data": jax.devices()[:4]}
    one = fit_predictor(RUNS, NAMES, key=jax.random.key(0), config=config)
    for axis, some in devices.items():
        mesh = jax.make_mesh((len(some),), (axis,), axis_types=(AxisType.Auto,), devices=some)
        many = fit_predictor(RUNS, NAMES, key=jax.random.key(0), config=config, mesh=mesh)
        for x, y in zip(jax.tree.leaves(one.params), jax.tree.leaves(many.params), strict=True):
            np.testing.assert_allclose(
                x,
                y,
                atol=1e-3,  # Adam's first steps amplify rounding of gradients near zero
            )
    mesh = jax.make_mesh((3,), ("replica",), axis_types=(AxisType.Auto,), devices=jax.devices()[:3])
    with pytest.raises(ValueError, match="expected a divisor of the 4 members"):
        fit_predictor(RUNS, NAMES, key=jax.random.key(0), config=config, mesh=mesh)
