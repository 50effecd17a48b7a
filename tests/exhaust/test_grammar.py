"""The grammar's networks: within the limits, all different, and neighbours that differ."""

import math

import jax
import numpy as np
import pytest

from metal_jax.exhaust import (
    Layer,
    LayerGrammar,
    mutate_architecture,
    num_multiplications,
    output_shapes,
    sample_architectures,
)

MAIN = ("Conv2d", "MaxPool2d", "AvgPool2d", "Linear")
GRAMMAR = LayerGrammar()
NETWORKS = sample_architectures(jax.random.key(0), 300)


def depth(network):
    return sum(layer.type in MAIN for layer in network)


def check(network, grammar):
    """Every rule of the grammar, from the text of its module."""
    low, high = grammar.num_layers
    shapes = output_shapes(network, grammar.input_shape)
    types = [layer.type for layer in network]
    assert low <= depth(network) <= high
    assert sum(map(math.prod, shapes)) <= grammar.max_outputs
    assert num_multiplications(network, grammar.input_shape) <= grammar.max_multiplications
    assert all(size >= 1 for shape in shapes for size in shape)
    assert network[-1] == Layer("Linear", {"out_features": grammar.num_classes})
    joints = [i for i, t in enumerate(types) if t in ("Flatten", "GlobalAveragePooling2d")]
    assert len(joints) == 1
    assert types[0] == "Conv2d" or joints == [0]
    assert len({t for t in types if t in grammar.activations}) <= 1
    assert len({t for t in types if t in ("BatchNorm2d", "LayerNorm")}) <= 1
    for i, layer in enumerate(network[:-1]):
        settings = layer.hyperparameters
        if layer.type == "Conv2d":
            assert settings["out_channels"] in grammar.channels
            assert settings["kernel_size"] in grammar.kernels
            assert settings["stride"] in (1, 2)
        elif layer.type == "Linear":
            assert settings["out_features"] in grammar.units
        elif layer.type == "Dropout":
            assert settings["p"] in grammar.dropout_rates
        if layer.type in ("Conv2d", "Linear"):
            after = types[i + 1 : i + 3]
            normalised = after[0] in grammar.normalisations
            assert after[normalised] in grammar.activations


def test_samples_follow_the_grammar():
    for network in NETWORKS:
        check(network, GRAMMAR)
        assert network[0].type in ("Conv2d", "Flatten")


def test_samples_are_different_and_follow_from_the_key():
    assert len(set(map(repr, NETWORKS))) == len(NETWORKS)
    assert sample_architectures(jax.random.key(0), 300) == NETWORKS
    assert sample_architectures(jax.random.key(0), 20) == NETWORKS[:20]
    assert sample_architectures(jax.random.key(1), 20) != NETWORKS[:20]
    assert sample_architectures(jax.random.key(0), 0) == []


def test_the_limits_do_not_thin_out_deep_networks():
    low, high = GRAMMAR.num_layers
    counts = np.bincount([depth(network) for network in NETWORKS], minlength=high + 1)[low:]
    expected = len(NETWORKS) / len(counts)
    # Four standard deviations of a uniform draw; dense networks of few layers are the rarest kinds.
    spread = 4 * math.sqrt(expected)
    assert np.all(np.abs(counts - expected) < spread), counts
    dense = np.mean([network[0].type == "Flatten" for network in NETWORKS])
    assert abs(dense - GRAMMAR.dense_share) < 0.1


def test_mutants_follow_the_grammar_and_differ():
    mutants = [mutate_architecture(jax.random.key(i), net) for i, net in enumerate(NETWORKS[:150])]
    steps = [depth(after) - depth(net) for net, after in zip(NETWORKS[:150], mutants, strict=True)]
    for network, mutant in zip(NETWORKS[:150], mutants, strict=True):
        check(mutant, GRAMMAR)
        assert mutant != network
    assert set(steps) == {-1, 0, 1}
    assert 30 < np.count_nonzero(steps) < 120
    assert mutate_architecture(jax.random.key(149), NETWORKS[149]) == mutants[149]


def test_mutants_without_convolutions_begin_with_flatten():
    shallow = [network for network in NETWORKS if depth(network) <= 3]
    for i, network in enumerate(shallow):
        for seed in range(4):
            mutant = mutate_architecture(jax.random.key(4 * i + seed), network)
            assert mutant[0].type in ("Conv2d", "Flatten")


def test_a_walk_of_mutants_stays_inside():
    network = NETWORKS[0]
    for i in range(200):
        network = mutate_architecture(jax.random.key(i), network)
        check(network, GRAMMAR)


def test_another_grammar():
    grammar = LayerGrammar(
        input_shape=(8, 6, 3),
        num_classes=3,
        num_layers=(2, 4),
        channels=(2,),
        kernels=(2,),
        units=(5,),
        activations=("ReLU",),
        normalisations=("LayerNorm",),
        dropout_rates=(0.5,),
        dense_share=0.5,
    )
    networks = sample_architectures(jax.random.key(0), 20, grammar)
    for i, network in enumerate(networks):
        check(network, grammar)
        check(mutate_architecture(jax.random.key(i), network, grammar), grammar)


def test_shapes_and_multiplications():
    network = [
        Layer("Conv2d", {"out_channels": 4, "kernel_size": 3, "stride": 2}),
        Layer("ReLU"),
        Layer("MaxPool2d", {"kernel_size": 2, "stride": 2}),
        Layer("Flatten"),
        Layer("Linear", {"out_features": 10}),
    ]
    assert output_shapes(network, (7, 5, 2)) == [(4, 3, 4), (4, 3, 4), (2, 2, 4), (16,), (10,)]
    assert num_multiplications(network, (7, 5, 2)) == 4 * 3 * 4 * 2 * 9 + 16 * 10
    pooled = [*network[:3], Layer("GlobalAveragePooling2d")]
    assert output_shapes(pooled, (7, 5, 2))[-1] == (4,)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([Layer("Linear", {"out_features": 3})], "layer 0, Linear: got (4, 4, 1), expected a vect"),
        (
            [Layer("Flatten"), Layer("MaxPool2d", {"kernel_size": 2, "stride": 2})],
            "layer 1, MaxPool2d: got (16,), expected an image",
        ),
        ([Layer("Odd")], "layer 0: got 'Odd', expected a layer of the grammar"),
    ],
)
def test_layers_that_do_not_fit(layers, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        output_shapes(layers, (4, 4, 1))
    assert message in str(error.value)


@pytest.mark.parametrize("num_layers", [(1, 3), (4, 3)])
def test_bad_depths(num_layers):
    with pytest.raises(ValueError, match="num_layers: got"):
        LayerGrammar(num_layers=num_layers)


def test_a_grammar_that_is_too_small_says_so(monkeypatch):
    monkeypatch.setattr("metal_jax.exhaust._grammar._TRIES", 30)
    few = LayerGrammar(
        num_layers=(2, 2),
        units=(16,),
        activations=("ReLU",),
        normalisations=(None,),
        dropout_rates=(0.5,),
        dense_share=1,
    )
    assert len(sample_architectures(jax.random.key(0), 2, few)) == 2
    with pytest.raises(ValueError, match="got 2 different networks within the limits, expected 3"):
        sample_architectures(jax.random.key(0), 3, few)
    none = LayerGrammar(max_multiplications=1)
    with pytest.raises(ValueError, match="got 0 different networks"):
        sample_architectures(jax.random.key(0), 1, none)
    alone = sample_architectures(jax.random.key(0), 1, few)[0]
    with pytest.raises(ValueError, match="found no neighbour"):
        mutate_architecture(jax.random.key(0), alone, none)
