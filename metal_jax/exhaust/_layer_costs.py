"""The distance between two layers, from which every edit distance is made.

The costs are hand-made (the paper does not print its own). They are a metric by construction: a
tree with a branch for each family, on it a branch for each kind, on it a ball of sizes. With the
insertion cost c of a layer, going down the tree from "no layer" costs

    c / 2 to its family,  c / 8 to its kind,  3 c / 8 to the layer itself,

so a layer replaces one of another family at c + c', one of another kind of its family at
(c + c') / 2, and one of its own kind at the weighted sum of log-ratios of their sizes, at most
3 c / 4. All numbers are multiples of 2^-10, so sums are exact in float32 in any order, and
symmetry and the triangle inequality hold to the last bit on every device.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metal_jax.exhaust._architecture import Layer
from metal_jax.exhaust._layer_kinds import SIZES, describe

_QUANTUM = 2.0**-10
_KIND_SHARE = 1 / 2
_SIZE_SHARE = 3 / 8

_FAMILY_COSTS = {
    "convolution": 1.0,
    "dense": 1.0,
    "recurrent": 1.0,
    "attention": 1.0,
    "embedding": 0.75,
    "pooling": 0.75,
    "normalisation": 0.375,
    "dropout": 0.25,
    "activation": 0.25,
    "combine": 0.25,
    "skip": 0.25,
    "edge": 0.25,
    "reshape": 0.125,
    "none": 0.0,
}
_SIZE_COSTS = {
    "inputs": 0.0625,
    "outputs": 0.125,
    "kernel": 0.125,
    "stride": 0.125,
    "dilation": 0.0625,
    "groups": 0.0625,
    "heads": 0.0625,
    "rate": 0.5,
    "residual": 0.25,
}


@dataclasses.dataclass(frozen=True)
class EditCosts:
    """The hand-made costs; what holds the weights costs most, what only reshapes least.

    Attributes:
        families: family -> cost of inserting or deleting one of its layers.
        other: the same for families that are not listed.
        sizes: size -> cost of a doubling (of a difference of 1 for "rate" and "residual"), as a
            share of the layer's insertion cost.
    """

    families: Mapping[str, float] = dataclasses.field(default_factory=_FAMILY_COSTS.copy)
    other: float = 0.5
    sizes: Mapping[str, float] = dataclasses.field(default_factory=_SIZE_COSTS.copy)

    def __post_init__(self):
        """Costs below 0 would be no distance."""
        for name, cost in {**self.families, **self.sizes, "other": self.other}.items():
            if not 0 <= cost <= 100:
                raise ValueError(f"cost of {name!r}: got {cost}, expected 0 to 100")
        for name in self.sizes:
            if name not in SIZES:
                raise ValueError(f"got size {name!r}, expected one of {SIZES}")


class EncodedLayers(NamedTuple):
    """Layers as arrays; -1 and zeros are padding, which is the same as "no layer".

    Attributes:
        kind: int32[..., l].
        family: int32[..., l].
        cost: float32[..., l], of inserting the layer.
        sizes: float32[h, ..., l], weighted: a difference of 1 costs 1. Their axis comes first and
            is unrolled, so that the others vectorise.
    """

    kind: jax.Array | np.ndarray
    family: jax.Array | np.ndarray
    cost: jax.Array | np.ndarray
    sizes: jax.Array | np.ndarray


def encode_layers(
    sets: Sequence[Sequence[Sequence[Layer]]], costs: EditCosts
) -> list[EncodedLayers]:
    """Encode sets of layer sequences with common ids; each set is padded to its own longest.

    Args:
        sets: each of n_i sequences of layers.
        costs: the costs.

    Returns:
        For each set arrays [n_i, l_i], without the sizes that no layer has.
    """
    kinds: dict[str, int] = {}
    families: dict[str, int] = {}
    encoded = []
    for sequences in sets:
        shape = (len(sequences), max((len(sequence) for sequence in sequences), default=0))
        kind = np.full(shape, -1, np.int32)
        family = np.full(shape, -1, np.int32)
        cost = np.zeros(shape, np.float32)
        sizes = np.zeros((len(SIZES), *shape), np.float32)
        weights = np.array([costs.sizes.get(size, 0.0) for size in SIZES])
        for i, sequence in enumerate(sequences):
            for j, layer in enumerate(sequence):
                found = describe(layer)
                group = found.kind if found.family == "unknown" else found.family
                kind[i, j] = kinds.setdefault(found.kind, len(kinds))
                family[i, j] = families.setdefault(group, len(families))
                # Eights of a cost are multiples of 2^-10, so costs are multiples of 2^-7.
                cost[i, j] = _rounded(costs.families.get(found.family, costs.other), 8 * _QUANTUM)
                sizes[:, i, j] = _rounded(cost[i, j] * weights * found.sizes, _QUANTUM)
        encoded.append(EncodedLayers(kind, family, cost, sizes))
    used = [h for h in range(len(SIZES)) if any(np.any(layers.sizes[h]) for layers in encoded)]
    return [layers._replace(sizes=layers.sizes[used]) for layers in encoded]


def layer_distance(a: EncodedLayers, b: EncodedLayers, xp: Any = jnp) -> Any:
    """The distance between layers, elementwise.

    Args:
        a: encoded layers, fields that broadcast against those of `b`.
        b: encoded layers.
        xp: `jax.numpy`, or `numpy` on the host.

    Returns:
        float32[..., l].
    """
    both = a.cost + b.cost
    gap = sum((abs(x - y) for x, y in zip(a.sizes, b.sizes, strict=True)), 0 * both)
    other_kind = xp.where(a.family == b.family, _KIND_SHARE * both, both)
    return xp.where(a.kind == b.kind, xp.minimum(gap, _SIZE_SHARE * both), other_kind)


def layer_lengths(encoded: EncodedLayers) -> np.ndarray:
    """int[...], layers of each sequence on the host, padding not counted."""
    return np.sum(np.asarray(encoded.kind) >= 0, -1)


def pad_layers(encoded: EncodedLayers, *widths: tuple[int, int], xp: Any = np) -> EncodedLayers:
    """Add padding before and after each of the leading axes.

    Args:
        encoded: encoded layers.
        *widths: (before, after) of each axis but the sizes'.
        xp: `numpy`, or `jax.numpy` inside jit.

    Returns:
        The padded layers.
    """
    return EncodedLayers(
        xp.pad(encoded.kind, widths, constant_values=-1),
        xp.pad(encoded.family, widths, constant_values=-1),
        xp.pad(encoded.cost, widths),
        xp.pad(encoded.sizes, ((0, 0), *widths)),
    )


def _rounded(values, quantum: float):
    return np.round(np.asarray(values) / quantum) * quantum
