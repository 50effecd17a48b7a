import jax
import numpy as np
import pytest

from metal_jax.exhaust import (
    Edge,
    FeatureMap,
    Graph,
    Layer,
    Run,
    build_features,
    features,
    fold_of,
    read_cell_string,
    read_layer_string,
)
from metal_jax.exhaust import curve as make_curve

NETS = ("C(64,3,1) P(2,2) C(32,5,2) SM(10)", "C(16,3,1) SM(10)", "P(2,2) C(128,1,1) FC(64) SM(10)")


def column(runs, name):
    return features(runs, FeatureMap((name,), (0.0,)))[:, 0].tolist()


def runs_of(*architectures, **settings):
    return [Run(str(i), x, **settings) for i, x in enumerate(architectures)]


def test_counts_sizes_and_places_of_layer_strings():
    runs = runs_of(*map(read_layer_string, NETS))
    assert column(runs, "depth") == [4, 2, 4]
    assert column(runs, "conv: count") == [2, 1, 1]
    assert column(runs, "conv: max of outputs") == [6, 4, 7]
    assert column(runs, "conv: min of outputs") == [5, 4, 7]
    assert column(runs, "conv: first of outputs") == [6, 4, 7]
    assert column(runs, "conv: first place") == [1, 1, 2]
    assert column(runs, "log stride") == [2, 0, 1]
    assert column(runs, "pool, then conv") == [1, 0, 1]
    # The second convolution works at 1/4 x 1/4 of the positions: pooling by 2, its own stride 2.
    work = 64 * 9 + 64 * 32 * 25 / 4 / 4
    weights = 64 * 9 + 64 * 32 * 25
    runs = runs_of(read_layer_string("C(64,3,1) P(2,2) C(32,5,2)"))
    got = column(runs, "log weights from the sizes") + column(
        runs, "log work for one input position"
    )
    np.testing.assert_allclose(np.expm1(got), [weights, work])


def test_columns_come_from_the_training_runs_and_tell_them_apart():
    runs = runs_of(*map(read_layer_string, NETS))
    columns = build_features(runs)
    rows = features(runs, columns)
    assert len(set(columns.names)) == len(columns.names) == rows.shape[1]
    assert np.all(np.ptp(rows, axis=0) > 0)
    assert len({column.tobytes() for column in rows.T}) == rows.shape[1]
    strange = runs_of((Layer("Mystery", {"out_channels": 10**300}),), ())
    assert np.isfinite(features(strange, columns)).all()
    assert features(strange, columns).shape == (2, rows.shape[1])
    assert features([], columns).shape == (0, rows.shape[1])
    assert build_features(runs[:1]).names == ()
    assert features(runs, build_features([])).shape == (3, 0)


def test_settings_and_what_is_missing():
    net = read_layer_string(NETS[0])
    runs = [
        Run("a", net, optimiser={"name": "adam", "rate": 0.1}, num_params=100, batch_size=32),
        Run("b", net, optimiser={"name": "sgd", "rate": 0.01}, num_params=10000, batch_size=64),
        Run("c", None, optimiser={"rate": float("nan"), "betas": [1, 2]}),
    ]
    columns = build_features(runs)
    found = dict(zip(columns.names, features(runs, columns).T, strict=True))
    np.testing.assert_allclose(found["log parameters"], np.log([100, 10000, 1000]))
    np.testing.assert_allclose(found["optimiser rate"], [0.1, 0.01, 0.055])
    assert found["optimiser name = adam"].tolist() == [1, 0, 0]
    assert found["optimiser name = sgd"].tolist() == [0, 1, 0]


def test_no_metric_is_read():
    nets = [read_layer_string(net) for net in NETS]
    plain = runs_of(*nets)
    rich = runs_of(
        *nets, metrics={"test": {"accuracy": make_curve([0.1])}}, seconds=(3.0,), total_seconds=9.0
    )
    assert build_features(plain) == build_features(rich)


CELLS = (
    "|conv_3x3~0|+|none~0|skip_connect~1|+|conv_1x1~0|none~1|conv_3x3~2|",
    "|none~0|+|none~0|conv_3x3~1|+|none~0|conv_3x3~1|conv_3x3~2|",
    "|skip_connect~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
)


def test_live_paths_of_cells():
    runs = runs_of(*map(read_cell_string, CELLS))
    assert column(runs, "input reaches output") == [1, 0, 1]
    assert column(runs, "live paths") == [2, 0, 1]
    assert column(runs, "live conv_3x3") == [2, 0, 0]
    assert column(runs, "edge 0-1 is skip_connect") == [0, 0, 1]
    assert column(runs, "longest live path, operations") == [3, 0, 1]
    assert column(runs, "longest live path, weights") == [2, 0, 0]
    assert column(runs, "most conv_3x3 on a live path, operations") == [2, 0, 0]
    assert column(runs, "fewest conv_1x1 on a live path, operations") == [0, 0, 0]
    assert column(runs, "live path skip_connect") == [0, 0, 1]


def test_graphs_with_many_paths_or_great_depth_end():
    def cell(num_nodes, reach):
        nodes = tuple(Layer("node", {}, str(i)) for i in range(num_nodes))
        edges = tuple(
            Edge(i, j, Layer("conv_3x3"))
            for j in range(num_nodes)
            for i in range(max(0, j - reach), j)
        )
        return Graph(nodes, edges, fixed=True)

    runs = runs_of(cell(40, 3), cell(2, 1), cell(1500, 1))
    assert column(runs, "live paths") == [256, 1, 1]
    assert column(runs, "longest path") == [39, 1, 1499]


def test_general_graphs():
    layers = tuple(map(Layer, ("input", "linear", "tanh", "linear")))
    edges = (Edge(0, 1), Edge(1, 2), Edge(1, 3), Edge(2, 3))
    runs = runs_of(Graph(layers, edges), Graph(layers[:2], edges[:1]))
    assert column(runs, "edges") == [4, 1]
    assert column(runs, "longest path") == [3, 1]
    assert column(runs, "linear into linear") == [1, 0]
    assert column(runs, "most edges into a node") == [2, 1]


def test_folds_are_even_and_follow_the_key():
    fold = fold_of(23, 5, jax.random.key(3))
    assert sorted(np.bincount(fold).tolist()) == [4, 4, 5, 5, 5]
    assert (fold == fold_of(23, 5, jax.random.key(3))).all()
    assert (fold != fold_of(23, 5, jax.random.key(4))).any()
    for num_folds in (1, 24):
        with pytest.raises(ValueError, match="expected 2 to 23"):
            fold_of(23, num_folds, jax.random.key(0))
