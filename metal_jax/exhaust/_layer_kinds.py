"""What the library knows of layer types: family, and which hyperparameters are sizes.

Sources name one thing in many ways (`Conv2d`, `Conv2D`, `nor_conv_3x3`); names are compared
without case and underscores. A type that is not in the table is a kind of its own, of the family
"unknown": nothing is dropped, and `unknown_layers` counts them.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from metal_jax.exhaust._architecture import Architecture, Graph, Layer, layers
from metal_jax.exhaust._records import Run

#: Numbers that describe a layer, in the order of the value axis of tokens. The first seven are
#: counts, taken as log2; the last two are taken as they are.
SIZES = (
    "inputs",
    "outputs",
    "kernel",
    "stride",
    "dilation",
    "groups",
    "heads",
    "rate",
    "residual",
)
NUM_LOG_SIZES = 7

_SIZE_NAMES = {
    "inputs": "in_channels in_features input_size num_embeddings input_dim",
    "outputs": "out_channels out_features filters units width hidden_size num_features "
    "num_channels embedding_dim output_dim d_model normalized_shape num_filters",
    "kernel": "kernel_size pool_size kernel",
    "stride": "stride strides",
    "dilation": "dilation dilation_rate",
    "groups": "groups num_groups",
    "heads": "num_heads nhead",
    "rate": "p rate negative_slope alpha dropout",
    "residual": "residual",
}
_SIZE_OF = {name: size for size, names in _SIZE_NAMES.items() for name in names.split()}

#: kind -> (family, the other names of the kind).
_KINDS = {
    "conv": ("convolution", "conv1d conv2d conv3d convolution2d norconv"),
    "transposed_conv": (
        "convolution",
        "convtranspose1d convtranspose2d conv1dtranspose conv2dtranspose",
    ),
    "depthwise_conv": ("convolution", "depthwiseconv2d"),
    "separable_conv": ("convolution", "separableconv1d separableconv2d"),
    "linear": ("dense", "dense fullyconnected"),
    "bilinear": ("dense", ""),
    "embedding": ("embedding", "embeddingbag"),
    "attention": ("attention", "multiheadattention"),
    "transformer": ("attention", "transformerencoderlayer transformerdecoderlayer"),
    "lstm": ("recurrent", "convlstm2d"),
    "gru": ("recurrent", ""),
    "rnn": ("recurrent", "simplernn"),
    "max_pool": (
        "pooling",
        "maxpool1d maxpool2d maxpool3d maxpooling1d maxpooling2d adaptivemaxpool2d "
        "globalmaxpooling1d globalmaxpooling2d",
    ),
    "average_pool": ("pooling", "avgpool avgpool1d avgpool2d averagepooling1d averagepooling2d"),
    "pool": ("pooling", ""),
    "global_average_pool": (
        "pooling",
        "globalaveragepooling1d globalaveragepooling2d adaptiveavgpool2d adaptiveavgpool1d",
    ),
    "batch_norm": ("normalisation", "batchnorm1d batchnorm2d batchnorm3d batchnormalization"),
    "layer_norm": ("normalisation", "layernormalization rmsnorm"),
    "group_norm": ("normalisation", "groupnormalization instancenorm2d"),
    "dropout": ("dropout", "alphadropout gaussiandropout"),
    "spatial_dropout": ("dropout", "dropout1d dropout2d spatialdropout1d spatialdropout2d"),
    "relu": ("activation", "relu6"),
    "leaky_relu": ("activation", "activationleakyrelu prelu"),
    "elu": ("activation", "celu"),
    "selu": ("activation", ""),
    "gelu": ("activation", ""),
    "silu": ("activation", "swish hardswish"),
    "tanh": ("activation", "activationtanh hardtanh"),
    "sigmoid": ("activation", "activationsigm activationsigmoid hardsigmoid"),
    "softmax": ("activation", "logsoftmax"),
    "activation": ("activation", "softplus"),
    "flatten": ("reshape", ""),
    "reshape": ("reshape", "unflatten permute view"),
    "padding": ("reshape", "zeropad2d zeropadding2d reflectionpad2d cropping2d"),
    "upsample": ("reshape", "upsampling1d upsampling2d pixelshuffle"),
    "elementwise_sum": ("combine", "add average"),
    "elementwise_prod": ("combine", "multiply"),
    "blend": ("combine", ""),
    "concatenate": ("combine", "concat"),
    "skip": ("skip", "skipconnect identity"),
    "none": ("none", "zero zeroize"),
    "node": ("node", ""),
    "edge": ("edge", ""),
    "input": ("input", "inputlayer"),
}

WITH_WEIGHTS = ("convolution", "dense", "recurrent", "attention", "embedding")


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


_KIND_OF = {
    _plain(name): (kind, family)
    for kind, (family, others) in _KINDS.items()
    for name in (kind, *others.split())
}
_SUFFIX = re.compile(r"(?P<kind>.+?)_(?P<size>\d+)x(?P=size)")
_NUMBERED_INPUT = re.compile(r"input_(?P<name>\w+)")


class Described(NamedTuple):
    """A layer in the library's words.

    Attributes:
        kind: canonical type, e.g. "conv"; the source's own word for an unknown one.
        family: group of kinds that may stand for each other, or "unknown".
        sizes: one number for each of `SIZES`, log2 where it is a count, 0 where there is none.
    """

    kind: str
    family: str
    sizes: tuple[float, ...]


def describe(layer: Layer) -> Described:
    """Find a layer in the table.

    Args:
        layer: from any source.

    Returns:
        Kind, family and sizes.

    Example:
        >>> describe(Layer("Conv2D", {"filters": 64, "kernel_size": [3, 3]})).kind
        'conv'
    """
    sizes: dict[str, float] = dict.fromkeys(SIZES, 0.0)
    name, hyperparameters = layer.type, layer.hyperparameters
    match = _SUFFIX.fullmatch(name)
    if match:
        name, sizes["kernel"] = match["kind"], _size("kernel", int(match["size"]))
    kind, family = _KIND_OF.get(_plain(name), (name, "unknown"))
    if kind == "activation" and isinstance(hyperparameters.get("activation"), str):
        kind, family = _KIND_OF.get(_plain(hyperparameters["activation"]), (kind, family))
    if family == "unknown" and _NUMBERED_INPUT.fullmatch(name):
        family = "input"
    for key, value in hyperparameters.items():
        if key in _SIZE_OF:
            sizes[_SIZE_OF[key]] = _size(_SIZE_OF[key], value)
    return Described(kind, family, tuple(sizes.values()))


def num_layers(architecture: Architecture) -> int:
    """Number of layers, for "closest number of layers".

    In a list every layer but the input counts, in a graph the operations that hold weights: of a
    cell, most of the others only say how it is wired.

    Args:
        architecture: layers or graph.

    Returns:
        The count.

    Example:
        >>> num_layers((Layer("Conv2d"), Layer("ReLU")))
        2
    """
    families = [describe(layer).family for layer in layers(architecture)]
    if not isinstance(architecture, Graph):
        return len(families) - families.count("input")
    return sum(family in WITH_WEIGHTS for family in families)


def unknown_layers(runs: Iterable[Run]) -> dict[str, int]:
    """Layer types that the table does not hold.

    Args:
        runs: the runs.

    Returns:
        Type -> number of layers, the most frequent first.

    Example:
        >>> unknown_layers([Run("a", architecture=(Layer("Mystery"), Layer("ReLU")))])
        {'Mystery': 1}
    """
    counts = Counter(
        layer.type
        for run in runs
        if run.architecture is not None
        for layer in layers(run.architecture)
        if describe(layer).family == "unknown"
    )
    return dict(counts.most_common())


def _size(size: str, value: Any) -> float:
    """One number of a hyperparameter: geometric mean of a list, log2 of a count."""
    if isinstance(value, list | tuple):
        found = [_size(size, entry) for entry in value]
        return sum(found) / len(found) if found else 0.0
    if not isinstance(value, bool | int | float) or not math.isfinite(value):
        return 0.0
    if SIZES.index(size) >= NUM_LOG_SIZES:
        return min(max(float(value), -1.0), 1.0)
    return math.log2(value) if value > 1 else 0.0
