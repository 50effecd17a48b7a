"""What the LSTM predictor reads of a run: its layers, its settings, its first epochs.

Legend: n runs, l tokens, p paths of q tokens, h values a token, c settings, e epochs seen,
u curves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from metal_jax.exhaust._architecture import (
    Architecture,
    Graph,
    Layer,
    layers,
    live_paths,
)
from metal_jax.exhaust._curve_baselines import first_epochs
from metal_jax.exhaust._features import setting_names, setting_numbers
from metal_jax.exhaust._layer_kinds import describe
from metal_jax.exhaust._records import Run
from metal_jax.exhaust._tokens import Vocabulary, build_vocabulary, tokenise

_PATH = Layer("path")
_IDENTITY = "skip"
_MAX_PATHS = 32
_LARGEST = 10.0


class Inputs(NamedTuple):
    """Runs as arrays.

    Attributes:
        ids: int32[n, l], layer kinds; 0 is padding.
        values: float32[n, l, h], sizes and rates of the layers.
        path_ids: int32[n, p, q], layer kinds on the live paths of a cell; p = 0 without cells.
        path_values: float32[n, p, q, h].
        settings: float32[n, c], standardised.
        curves: float32[n, e, 2 u], standardised values, then which of them are there.
    """

    ids: np.ndarray
    values: np.ndarray
    path_ids: np.ndarray
    path_values: np.ndarray
    settings: np.ndarray
    curves: np.ndarray


class InputMap(NamedTuple):
    """How runs become arrays; built from training runs, kept with the predictor.

    Attributes:
        vocabulary: layer kinds.
        has_cells: whether a training run is a cell, so that paths are read.
        settings: c names.
        settings_mean: c numbers.
        settings_std: c numbers, positive.
        epochs_seen: e.
        curves: u names: "role/metric", or "seconds".
        curves_mean: u numbers.
        curves_std: u numbers, positive.
    """

    vocabulary: Vocabulary
    has_cells: bool
    settings: tuple[str, ...]
    settings_mean: tuple[float, ...]
    settings_std: tuple[float, ...]
    epochs_seen: int
    curves: tuple[str, ...]
    curves_mean: tuple[float, ...]
    curves_std: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return self._asdict() | {"vocabulary": self.vocabulary.to_json()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> InputMap:
        """The reverse of `to_json`; KeyError where a field is missing."""
        fields: dict[str, Any] = {
            name: tuple(record[name]) if isinstance(record[name], list) else record[name]
            for name in cls._fields
        }
        fields["vocabulary"] = Vocabulary.from_json(record["vocabulary"])
        return cls(**fields)


class Serialised(NamedTuple):
    """An architecture as the LSTM reads it.

    Attributes:
        sequence: layers, or a graph that is read in topological order.
        paths: the live paths of a cell, each begun by a layer "path".
    """

    sequence: Architecture
    paths: tuple[tuple[Layer, ...], ...] = ()


def serialise(architecture: Architecture | None) -> Serialised:
    """The sequences that the LSTM reads.

    A list of layers is one sequence, a graph is one in topological order. A cell whose nodes are
    fixed is the operation in each slot, each slot with words of its own (what is computed costs
    time), and the set of its live paths from input to output without identities (what the result
    depends on; equal for cells that compute the same). The choice is this library's.

    Args:
        architecture: layers or a graph; None gives an empty sequence.

    Returns:
        Arguments for `tokenise`.

    Example:
        >>> from metal_jax.exhaust import read_cell_string
        >>> cell = serialise(read_cell_string("|conv~0|+|none~0|skip~1|"))
        >>> [layer.type for layer in cell.sequence]
        ['conv in slot 0', 'none in slot 1', 'skip in slot 2']
        >>> [[layer.type for layer in path] for path in cell.paths]
        [['path', 'conv']]
    """
    if architecture is None:
        return Serialised(())
    if not isinstance(architecture, Graph) or not architecture.fixed:
        return Serialised(architecture)
    slots = tuple(
        edge.layer._replace(type=f"{edge.layer.type} in slot {i}")
        for i, edge in enumerate(architecture.edges)
        if edge.layer is not None
    )
    paths = tuple(
        (_PATH, *(edge.layer for edge in path if edge.layer is not None and _computes(edge.layer)))
        for path in live_paths(architecture, _MAX_PATHS)
    )
    return Serialised(slots, paths)


def _computes(layer: Layer) -> bool:
    return describe(layer).family != _IDENTITY


def build_inputs(runs: Sequence[Run], epochs_seen: int = 0) -> InputMap:
    """Find the layer kinds, settings and curves of the training runs, and their scales.

    Args:
        runs: the training runs.
        epochs_seen: e; nothing later is read.

    Returns:
        The map, for `encode`.
    """
    serial = [serialise(run.architecture) for run in runs]
    vocabulary = build_vocabulary(part for each in serial for part in (each.sequence, *each.paths))
    settings = _settings_table(runs)
    names = tuple(sorted(name for name, x in settings.items() if np.nanmax(x) > np.nanmin(x)))
    curves: dict[str, np.ndarray] = {}
    if epochs_seen:
        found = [first_epochs(run, epochs_seen) for run in runs]
        for name in sorted({name for run in found for name in _curve_names(run)}):
            curves[name] = curve_table(found, name, epochs_seen)
    curves = {name: table for name, table in curves.items() if np.isfinite(table).any()}
    return InputMap(
        vocabulary,
        any(each.paths for each in serial),
        names,
        tuple(float(np.nanmean(settings[name])) for name in names),
        tuple(float(np.nanstd(settings[name])) for name in names),
        epochs_seen,
        tuple(curves),
        tuple(float(np.nanmean(table)) for table in curves.values()),
        tuple(float(np.nanstd(table)) or 1.0 for table in curves.values()),
    )


def encode(runs: Sequence[Run], inputs: InputMap) -> Inputs:
    """Runs as arrays.

    Args:
        runs: n runs.
        inputs: the map of the training runs.

    Returns:
        The arrays; settings and values that are missing are 0, the training runs' mean.
    """
    serial = [serialise(run.architecture) for run in runs]
    ids, values = _tokens([(each.sequence,) for each in serial], inputs.vocabulary)
    # Paths say nothing to a predictor that has learnt from layers alone.
    paths = [each.paths if inputs.has_cells else () for each in serial]
    path_ids, path_values = _tokens(paths, inputs.vocabulary, int(inputs.has_cells))
    settings = np.zeros((len(runs), len(inputs.settings)), np.float32)
    table = _settings_table(runs)
    for j, name in enumerate(inputs.settings):
        column = table.get(name, np.full(len(runs), np.nan))
        settings[:, j] = _standard(column, inputs.settings_mean[j], inputs.settings_std[j])
    num_curves = len(inputs.curves)
    curves = np.zeros((len(runs), inputs.epochs_seen, 2 * num_curves), np.float32)
    for j, name in enumerate(inputs.curves):
        found = curve_table(runs, name, inputs.epochs_seen)
        curves[..., j] = _standard(found, inputs.curves_mean[j], inputs.curves_std[j])
        curves[..., num_curves + j] = np.isfinite(found)
    return Inputs(ids[:, 0], values[:, 0], path_ids, path_values, settings, curves)


def _tokens(
    sets: Sequence[Sequence[Architecture]], vocabulary: Vocabulary, min_width: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Ids [n, p, q] and values [n, p, q, h] of the p sequences of n runs, padded in both axes."""
    width = max(min_width, *(len(each) for each in sets))
    padded = [part for each in sets for part in (*each, *((),) * (width - len(each)))]
    # Where there is nothing to read there is one token of padding.
    length = max((len(layers(part)) for part in padded), default=0) or 1
    tokens = tokenise(padded, vocabulary, length)
    return (
        tokens.ids.reshape(len(sets), width, length),
        tokens.values.reshape(len(sets), width, length, tokens.values.shape[-1]),
    )


def _standard(values: np.ndarray, mean: float, std: float) -> np.ndarray:
    """Standardised, bounded, 0 where missing."""
    return np.nan_to_num(np.clip((values - mean) / std, -_LARGEST, _LARGEST))


def _settings_table(runs: Sequence[Run]) -> dict[str, np.ndarray]:
    """Name -> float64[n]: numbers, NaN where missing; names, 1 or 0."""
    found: dict[str, np.ndarray] = {}
    for i, run in enumerate(runs):
        for name, value in setting_numbers(run).items():
            found.setdefault(name, np.full(len(runs), np.nan))[i] = value
        for name in setting_names(run):
            found.setdefault(name, np.zeros(len(runs)))[i] = 1.0
    return found


def _curve_names(run: Run) -> list[str]:
    names = [f"{role}/{name}" for role, named in run.metrics.items() for name in named]
    return [*names, "seconds"] if run.seconds else names


def curve_table(runs: Sequence[Run], name: str, epochs_seen: int) -> np.ndarray:
    """float64[n, e], NaN where missing or infinite; seconds in log. Nothing later is read."""
    return np.stack([_curve(run, name, epochs_seen) for run in runs])


def _curve(run: Run, name: str, epochs_seen: int) -> np.ndarray:
    """float64[e], NaN where missing or infinite; seconds in log."""
    found = np.full(epochs_seen, np.nan)
    if name == "seconds":
        seconds = np.asarray(run.seconds[:epochs_seen], float)
        found[: len(seconds)] = np.log(np.where(seconds > 0, seconds, np.nan))
    else:
        role, _, metric = name.partition("/")
        curve = run.metrics.get(role, {}).get(metric)
        for epoch, value in zip(curve.epochs, curve.values, strict=True) if curve else ():
            if epoch <= epochs_seen:
                found[epoch - 1] = value
    return np.where(np.isfinite(found), found, np.nan)
