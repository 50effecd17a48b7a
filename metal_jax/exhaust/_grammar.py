"""A grammar of convolutional and dense networks: where candidates for a search come from.

A network is a list of 2 to 12 layers that hold weights or pool, the last of them the classifier:

    network   = features classifier | dense* classifier
    features  = convolution (convolution | pooling)* (flatten | global pooling) dense*
    block     = layer [normalisation] activation [dropout]     (pooling stands alone)

Normalisation and activation are one choice for the whole network, as people do; everything else is
a choice of each layer. Networks that cost more than the grammar's limits are drawn again. The
grammar is this library's choice; the paper does not print its own.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import jax
import numpy as np

from metal_jax.exhaust._architecture import Layer

_MAIN = ("Conv2d", "MaxPool2d", "AvgPool2d", "Linear")
_JOINTS = ("Flatten", "GlobalAveragePooling2d")
_FOLLOWING = ("BatchNorm2d", "LayerNorm", "Dropout", "ReLU", "GELU", "ELU", "Tanh")
_TRIES = 1000
_FAILURES = 20


@dataclasses.dataclass(frozen=True)
class LayerGrammar:
    """What may be drawn.

    Attributes:
        input_shape: height, width and channels of an image.
        num_classes: outputs of the classifier.
        num_layers: fewest and most layers that hold weights or pool, the classifier among them.
        channels: of a convolution.
        kernels: of a convolution.
        units: of a dense layer.
        activations: layer types.
        normalisations: layer types, None for no normalisation.
        dropout_rates: of a dropout layer.
        dense_share: share of networks without convolutions.
        max_multiplications: most multiplications by weights for one image.
        max_outputs: most numbers that all layers put out for one image.
    """

    input_shape: tuple[int, int, int] = (14, 14, 1)
    num_classes: int = 10
    num_layers: tuple[int, int] = (2, 12)
    channels: tuple[int, ...] = (4, 8, 16, 32)
    kernels: tuple[int, ...] = (1, 3, 5)
    units: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    activations: tuple[str, ...] = ("ReLU", "GELU", "ELU", "Tanh")
    normalisations: tuple[str | None, ...] = (None, "BatchNorm2d", "LayerNorm")
    dropout_rates: tuple[float, ...] = (0.1, 0.25, 0.5)
    dense_share: float = 0.25
    max_multiplications: int = 150_000
    max_outputs: int = 2_500

    def __post_init__(self) -> None:
        low, high = self.num_layers
        if not 2 <= low <= high:
            raise ValueError(f"num_layers: got {self.num_layers}, expected 2 <= fewest <= most")


def output_shapes(
    architecture: Sequence[Layer], input_shape: Sequence[int]
) -> list[tuple[int, ...]]:
    """The shape of one item after each layer.

    Args:
        architecture: layers of the grammar.
        input_shape: height, width and channels.

    Returns:
        A shape for each layer; "same" padding, so a stride of s divides sizes by s, rounded up.

    Raises:
        ValueError: a layer does not fit what comes before it, or is none of the grammar's.

    Example:
        >>> output_shapes([Layer("Conv2d", {"out_channels": 8, "kernel_size": 3, "stride": 2})],
        ...               (14, 14, 1))
        [(7, 7, 8)]
    """
    shapes: list[tuple[int, ...]] = []
    shape = tuple(input_shape)
    for i, layer in enumerate(architecture):
        settings = layer.hyperparameters
        if layer.type in ("Conv2d", "MaxPool2d", "AvgPool2d"):
            if len(shape) != 3:
                raise ValueError(f"layer {i}, {layer.type}: got {shape}, expected an image")
            stride = settings["stride"]
            channels = settings.get("out_channels", shape[2])
            shape = (-(-shape[0] // stride), -(-shape[1] // stride), channels)
        elif layer.type == "Flatten":
            shape = (math.prod(shape),)
        elif layer.type == "GlobalAveragePooling2d":
            shape = shape[-1:]
        elif layer.type == "Linear":
            if len(shape) != 1:
                raise ValueError(f"layer {i}, Linear: got {shape}, expected a vector")
            shape = (settings["out_features"],)
        elif layer.type not in _FOLLOWING:
            raise ValueError(f"layer {i}: got {layer.type!r:.60}, expected a layer of the grammar")
        shapes.append(shape)
    return shapes


def num_multiplications(architecture: Sequence[Layer], input_shape: Sequence[int]) -> int:
    """Multiplications by weights for one item.

    Args:
        architecture: layers of the grammar.
        input_shape: height, width and channels.

    Returns:
        The count.

    Raises:
        ValueError: as `output_shapes`.

    Example:
        >>> num_multiplications([Layer("Flatten"), Layer("Linear", {"out_features": 3})], (2, 2, 1))
        12
    """
    total = 0
    before = tuple(input_shape)
    for layer, after in zip(architecture, output_shapes(architecture, input_shape), strict=True):
        if layer.type == "Conv2d":
            total += math.prod(after) * before[2] * layer.hyperparameters["kernel_size"] ** 2
        elif layer.type == "Linear":
            total += before[0] * after[0]
        before = after
    return total


def sample_architectures(
    key: jax.Array, num: int, grammar: LayerGrammar | None = None
) -> list[tuple[Layer, ...]]:
    """Different networks of the grammar, drawn independently.

    Args:
        key: consumed.
        num: how many.
        grammar: what may be drawn; by default `LayerGrammar()`.

    Returns:
        `num` different architectures.

    Raises:
        ValueError: the grammar does not hold that many within its limit.

    Example:
        >>> [net] = sample_architectures(jax.random.key(0), 1)
        >>> net[-1].type
        'Linear'
    """
    grammar = grammar or LayerGrammar()
    rng = _generator(key)
    found: dict[str, tuple[Layer, ...]] = {}
    failures = 0
    while len(found) < num and failures < _FAILURES:
        failures += 1
        # Depth and kind are drawn once, so that the limits do not thin out the deep networks.
        num_layers = int(rng.integers(grammar.num_layers[0], grammar.num_layers[1] + 1))
        dense = rng.random() < grammar.dense_share
        for _ in range(_TRIES):
            network = _draw(rng, grammar, num_layers, dense)
            if _fits(network, grammar) and repr(network) not in found:
                found[repr(network)] = network
                failures = 0
                break
    if len(found) < num:
        raise ValueError(f"got {len(found)} different networks within the limits, expected {num}")
    return list(found.values())


def mutate_architecture(
    key: jax.Array, architecture: Sequence[Layer], grammar: LayerGrammar | None = None
) -> tuple[Layer, ...]:
    """A neighbour of a network: one setting drawn again, or one block more, or one less.

    Args:
        key: consumed.
        architecture: a network of the grammar.
        grammar: what may be drawn; by default `LayerGrammar()`.

    Returns:
        Another network of the grammar.

    Raises:
        ValueError: no neighbour is within the limit.

    Example:
        >>> (network,) = sample_architectures(jax.random.key(0), 1)
        >>> mutate_architecture(jax.random.key(1), network) != network
        True
    """
    grammar = grammar or LayerGrammar()
    rng = _generator(key)
    original = tuple(architecture)
    for _ in range(_TRIES):
        change = (_change_setting, _insert_block, _delete_block, _change_style)[rng.integers(4)]
        network = change(rng, original, grammar)
        if network != original and _fits(network, grammar):
            return network
    raise ValueError(f"found no neighbour of the network in {_TRIES} tries")


def _generator(key: jax.Array) -> np.random.Generator:
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())


def _pick(rng: np.random.Generator, values: Sequence):
    return values[int(rng.integers(len(values)))]


def _fits(network: Sequence[Layer], grammar: LayerGrammar) -> bool:
    low, high = grammar.num_layers
    outputs = sum(math.prod(shape) for shape in output_shapes(network, grammar.input_shape))
    return (
        low <= sum(layer.type in _MAIN for layer in network) <= high
        and outputs <= grammar.max_outputs
        and num_multiplications(network, grammar.input_shape) <= grammar.max_multiplications
    )


def _draw(
    rng: np.random.Generator, grammar: LayerGrammar, num_layers: int, dense: bool
) -> tuple[Layer, ...]:
    style = _pick(rng, grammar.normalisations), _pick(rng, grammar.activations)
    num_hidden = num_layers - 1
    network: list[Layer] = []
    if dense:
        num_dense = num_hidden
        network.append(Layer("Flatten"))
    else:
        num_dense = min(int(rng.integers(3)), num_hidden - 1)
        size = min(grammar.input_shape[:2])
        for i in range(num_hidden - num_dense):
            pools = i > 0 and size >= 4 and rng.random() < 0.25
            block = [_pooling(rng)] if pools else _block(rng, "Conv2d", style, grammar)
            if size < 4 and block[0].type == "Conv2d":
                block[0] = Layer("Conv2d", {**block[0].hyperparameters, "stride": 1})
            size = -(-size // block[0].hyperparameters["stride"])
            network += block
        network.append(Layer(_pick(rng, _JOINTS)))
    for _ in range(num_dense):
        network += _block(rng, "Linear", style, grammar)
    return (*network, Layer("Linear", {"out_features": grammar.num_classes}))


def _pooling(rng: np.random.Generator) -> Layer:
    return Layer(_pick(rng, ("MaxPool2d", "AvgPool2d")), {"kernel_size": 2, "stride": 2})


def _block(
    rng: np.random.Generator,
    kind: str,
    style: tuple[str | None, str],
    grammar: LayerGrammar,
) -> list[Layer]:
    """A convolution or dense layer with what follows it."""
    if kind == "Conv2d":
        settings = {
            "out_channels": _pick(rng, grammar.channels),
            "kernel_size": _pick(rng, grammar.kernels),
            "stride": 2 if rng.random() < 0.25 else 1,
        }
    else:
        settings = {"out_features": _pick(rng, grammar.units)}
    normalisation, activation = style
    block = [Layer(kind, settings)]
    if normalisation is not None:
        block.append(Layer(normalisation))
    block.append(Layer(activation))
    if rng.random() < 0.25:
        block.append(Layer("Dropout", {"p": _pick(rng, grammar.dropout_rates)}))
    return block


def _starts(network: Sequence[Layer]) -> list[int]:
    """Where blocks begin, without the classifier."""
    return [i for i, layer in enumerate(network[:-1]) if layer.type in _MAIN]


def _style(network: Sequence[Layer], grammar: LayerGrammar) -> tuple[str | None, str]:
    types = {layer.type for layer in network}
    normalisation = next((t for t in grammar.normalisations if t in types), None)
    return normalisation, next(
        (t for t in grammar.activations if t in types), grammar.activations[0]
    )


def _change_setting(
    rng: np.random.Generator, network: tuple[Layer, ...], grammar: LayerGrammar
) -> tuple[Layer, ...]:
    choices = {
        "out_channels": grammar.channels,
        "kernel_size": grammar.kernels,
        "stride": (1, 2),
        "out_features": grammar.units,
        "p": grammar.dropout_rates,
    }
    where = [
        (i, name)
        for i, layer in enumerate(network[:-1])
        for name in layer.hyperparameters
        if layer.type not in ("MaxPool2d", "AvgPool2d")
    ]
    if not where:
        return network
    i, name = _pick(rng, where)
    settings = {**network[i].hyperparameters, name: _pick(rng, choices[name])}
    return (*network[:i], Layer(network[i].type, settings), *network[i + 1 :])


def _insert_block(
    rng: np.random.Generator, network: tuple[Layer, ...], grammar: LayerGrammar
) -> tuple[Layer, ...]:
    joint = next(i for i, layer in enumerate(network) if layer.type in _JOINTS)
    starts = _starts(network)
    i = _pick(rng, [*(s for s in starts if s > 0), len(network) - 1, joint])
    style = _style(network, grammar)
    if i > joint:
        block = _block(rng, "Linear", style, grammar)
    elif not any(start < joint for start in starts):
        return network
    else:
        block = [_pooling(rng)] if rng.random() < 0.25 else _block(rng, "Conv2d", style, grammar)
    return (*network[:i], *block, *network[i:])


def _delete_block(
    rng: np.random.Generator, network: tuple[Layer, ...], grammar: LayerGrammar
) -> tuple[Layer, ...]:
    del grammar
    starts = _starts(network)
    if len(starts) < 2:
        return network
    start = _pick(rng, starts)
    end = start + 1
    while network[end].type in _FOLLOWING:
        end += 1
    # A network of images begins with a convolution; without any it begins with the pixels.
    rest = (*network[:start], *network[end:])
    return rest if rest[0].type in ("Conv2d", "Flatten") else network


def _change_style(
    rng: np.random.Generator, network: tuple[Layer, ...], grammar: LayerGrammar
) -> tuple[Layer, ...]:
    activation = _pick(rng, grammar.activations)
    return tuple(
        Layer(activation) if layer.type in grammar.activations else layer for layer in network
    )
