"""Hand-made features of runs, as one would make them for tree ensembles.

Counts, sizes and positions of the layers of each kind and family, sums along the network, the
settings of the training; for graphs degrees and depth, for cells whose nodes are fixed also the
operation on each edge and what lies on the live paths. No metric of a run is read.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from metal_jax.exhaust._architecture import Architecture, Graph, layers
from metal_jax.exhaust._graph_features import cell_features, graph_features
from metal_jax.exhaust._layer_kinds import SIZES, WITH_WEIGHTS, Described, describe, num_layers
from metal_jax.exhaust._records import Run

_STATISTICS = {
    "sum": sum,
    "mean": lambda values: sum(values) / len(values),
    "min": min,
    "max": max,
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
}
_MAX_STAGE = 5


class FeatureMap(NamedTuple):
    """The columns that the training runs have and that tell them apart.

    Attributes:
        names: f names.
        fill: f values for runs that lack the feature: 0 for what an architecture does not have,
            the training runs' mean for a number that is not recorded.
    """

    names: tuple[str, ...]
    fill: tuple[float, ...]


def build_features(runs: Sequence[Run]) -> FeatureMap:
    """Find the columns; without constant ones, and of copies only the shortest name.

    Args:
        runs: the training runs.

    Returns:
        The columns, for `features`.

    Example:
        >>> from metal_jax.exhaust import Layer
        >>> runs = [Run(str(width), (Layer("conv", {"width": width}),)) for width in (16, 32)]
        >>> len(build_features(runs).names) > 0
        True
    """
    rows = [
        (_of_architecture(run.architecture) | setting_names(run), setting_numbers(run))
        for run in runs
    ]
    fill = {name: 0.0 for present, _ in rows for name in present}
    recorded = defaultdict(list)
    for _, numbers in rows:
        for name, value in numbers.items():
            recorded[name].append(value)
    fill |= {name: sum(values) / len(values) for name, values in recorded.items()}
    kept, seen = [], set()
    for name in sorted(fill, key=lambda name: (len(name), name)):
        column = tuple(
            present.get(name, numbers.get(name, fill[name])) for present, numbers in rows
        )
        if len(set(column)) > 1 and column not in seen:
            kept.append(name)
            seen.add(column)
    return FeatureMap(tuple(kept), tuple(fill[name] for name in kept))


def features(runs: Iterable[Run], feature_map: FeatureMap) -> np.ndarray:
    """The columns of `feature_map`, of any runs.

    Args:
        runs: n runs.
        feature_map: of the training runs.

    Returns:
        float64[n, f].

    Example:
        >>> from metal_jax.exhaust import read_layer_string
        >>> runs = [Run(net, read_layer_string(net)) for net in ("C(8,3,1)", "C(8,3,1) C(8,3,1)")]
        >>> columns = build_features(runs)
        >>> features(runs, columns)[:, columns.names.index("depth")].tolist()
        [1.0, 2.0]
    """
    rows = [
        _of_architecture(run.architecture) | setting_names(run) | setting_numbers(run)
        for run in runs
    ]
    columns = list(zip(feature_map.names, feature_map.fill, strict=True))
    return np.array(
        [[row.get(name, fill) for name, fill in columns] for row in rows], np.float64
    ).reshape(len(rows), len(columns))


def _of_architecture(architecture: Architecture | None) -> dict[str, float]:
    if architecture is None:
        return {}
    described = [describe(layer) for layer in layers(architecture)]
    found = _of_sequence(described)
    found["depth"] = float(num_layers(architecture))
    if isinstance(architecture, Graph):
        found |= graph_features(architecture)
        if architecture.fixed:
            found |= cell_features(architecture)
    return found


def _of_sequence(described: Sequence[Described]) -> dict[str, float]:
    found: dict[str, float] = {}
    groups: dict[str, list[int]] = defaultdict(list)
    for i, layer in enumerate(described):
        groups[layer.kind].append(i)
        groups[f"any {layer.family}"].append(i)
        if layer.family in WITH_WEIGHTS:
            groups["any with weights"].append(i)
    last = max(len(described) - 1, 1)
    for group, places in groups.items():
        found[f"{group}: count"] = len(places)
        found[f"{group}: share"] = len(places) / len(described)
        # From 1, so that 0 stays free for "there is none".
        found[f"{group}: first place"] = places[0] + 1
        found[f"{group}: last place"] = places[-1] + 1
        found[f"{group}: layers after"] = len(described) - places[-1]
        found[f"{group}: mean depth"] = 1 + sum(places) / len(places) / last
        for axis, size in enumerate(SIZES):
            values = [described[i].sizes[axis] for i in places]
            if any(values):
                for name, statistic in _STATISTICS.items():
                    found[f"{group}: {name} of {size}"] = statistic(values)
    kinds = ["start", *(layer.kind for layer in described), "end"]
    pairs = Counter(zip(kinds[:-1], kinds[1:], strict=True))
    found |= {f"{a}, then {b}": float(count) for (a, b), count in pairs.items()}
    return found | _along(described)


def _along(described: Sequence[Described]) -> dict[str, float]:
    """What adds up along the network: strides, layers at each resolution, work."""
    found: dict[str, float] = defaultdict(float)
    stride, width, work, weights = 0.0, 0.0, 0.0, 0.0
    outputs, kernel, inputs = (SIZES.index(size) for size in ("outputs", "kernel", "inputs"))
    for layer in described:
        sizes = layer.sizes
        if layer.family in ("convolution", "pooling"):
            found["reductions"] += sizes[SIZES.index("stride")] > 0
            stride += sizes[SIZES.index("stride")]
        if layer.family in WITH_WEIGHTS:
            stage = min(round(stride), _MAX_STAGE)
            found[f"with weights at stride 2^{stage}"] += 1
            found[f"widest at stride 2^{stage}"] = max(
                found[f"widest at stride 2^{stage}"], sizes[outputs]
            )
            # Logarithms are kept below the range of a float, whatever the sizes recorded.
            size = (sizes[inputs] or width) + sizes[outputs] + 2 * sizes[kernel]
            weights += 2.0 ** min(size, 500.0)
            work += 2.0 ** max(min(size - 2 * stride, 500.0), -500.0)
            width = sizes[outputs]
    found["log stride"] = stride
    found["log weights from the sizes"] = math.log1p(weights)
    found["log work for one input position"] = math.log1p(work)
    return dict(found)


def setting_names(run: Run) -> dict[str, float]:
    """Settings of the optimiser that are texts: `optimiser <name> = <value>` -> 1."""
    return {
        f"optimiser {name} = {value}": 1.0
        for name, value in run.optimiser.items()
        if isinstance(value, str)
    }


def setting_numbers(run: Run) -> dict[str, float]:
    """Parameters, batch size and the optimiser's numbers, and the logarithms of positive ones."""
    found = {}
    for name, value in (("parameters", run.num_params), ("batch size", run.batch_size)):
        if value is not None and value > 0:
            found[f"log {name}"] = math.log(value)
    for name, value in run.optimiser.items():
        if isinstance(value, bool | int | float) and math.isfinite(value):
            found[f"optimiser {name}"] = float(value)
            if value > 0:
                found[f"log of optimiser {name}"] = math.log(value)
    return found
