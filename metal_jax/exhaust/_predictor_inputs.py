"""What the LSTM predictor reads of a run: its layers, its settings, its first epochs.

Legend: n runs, s sequences of l tokens, h values a token, c settings, e epochs seen, q curves.
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
from metal_jax.exhaust._records import Run
from metal_jax.exhaust._tokens import Vocabulary, build_vocabulary, tokenise

_PATH = Layer("path")
_MAX_PATHS = 32
_LARGEST = 10.0


class Inputs(NamedTuple):
    """Runs as arrays.

    Attributes:
        ids: int32[n, s, l], layer kinds; 0 is padding.
        values: float32[n, s, l, h], sizes and rates of the layers.
        settings: float32[n, c], standardised.
        curves: float32[n, e, 2 q], standardised values, then which of them are there.
    """

    ids: np.ndarray
    values: np.ndarray
    settings: np.ndarray
    curves: np.ndarray


class InputMap(NamedTuple):
    """How runs become arrays; built from training runs, kept with the predictor.

    Attributes:
        vocabulary: layer kinds.
        num_sequences: s, of the training run with the most.
        settings: c names.
        settings_mean: c numbers.
        settings_std: c numbers, positive.
        epochs_seen: e.
        curves: q names: "role/metric", or "seconds".
        curves_mean: q numbers.
        curves_std: q numbers, positive.
    """

    vocabulary: Vocabulary
    num_sequences: int
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


def serialise(architecture: Architecture | None) -> tuple[Architecture, ...]:
    """The sequences that the LSTM reads, which are pooled apart.

    A list of layers is one sequence, a graph is one in topological order. A cell whose nodes are
    fixed is two: the operation in each slot, each slot with words of its own (what is computed
    costs time), and the live paths from input to output, the shortest first (what the result
    depends on; equal for cells that compute the same). The choice is this library's.

    Args:
        architecture: layers or a graph; None gives an empty sequence.

    Returns:
        One or two arguments for `tokenise`.

    Example:
        >>> from metal_jax.exhaust import read_cell_string
        >>> cell = read_cell_string("|conv~0|+|none~0|skip~1|")
        >>> [[layer.type for layer in sequence] for sequence in serialise(cell)]
        [['conv in slot 0', 'none in slot 1', 'skip in slot 2'], ['path', 'conv', 'skip']]
    """
    if architecture is None:
        return ((),)
    if not isinstance(architecture, Graph) or not architecture.fixed:
        return (architecture,)
    slots = tuple(
        edge.layer._replace(type=f"{edge.layer.type} in slot {i}")
        for i, edge in enumerate(architecture.edges)
        if edge.layer is not None
    )
    paths = [
        [edge.layer for edge in path if edge.layer is not None]
        for path in live_paths(architecture, _MAX_PATHS)
    ]
    paths.sort(key=lambda path: (len(path), [layer.type for layer in path]))
    return slots, tuple(layer for path in paths for layer in (_PATH, *path))


def build_inputs(runs: Sequence[Run], epochs_seen: int = 0) -> InputMap:
    """Find the layer kinds, settings and curves of the training runs, and their scales.

    Args:
        runs: the training runs.
        epochs_seen: e; nothing later is read.

    Returns:
        The map, for `encode`.
    """
    serial = [serialise(run.architecture) for run in runs]
    vocabulary = build_vocabulary(sequence for sequences in serial for sequence in sequences)
    settings = _settings_table(runs)
    names = tuple(sorted(name for name, x in settings.items() if np.nanmax(x) > np.nanmin(x)))
    curves: dict[str, np.ndarray] = {}
    if epochs_seen:
        found = [first_epochs(run, epochs_seen) for run in runs]
        for name in sorted({name for run in found for name in _curve_names(run)}):
            curves[name] = np.stack([_curve(run, name, epochs_seen) for run in found])
    curves = {name: table for name, table in curves.items() if np.isfinite(table).any()}
    return InputMap(
        vocabulary,
        max((len(sequences) for sequences in serial), default=1),
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

    Raises:
        ValueError: a cell, where the training runs were lists of layers.
    """
    parts: list[Architecture] = []
    for run in runs:
        sequences = serialise(run.architecture)
        if len(sequences) > inputs.num_sequences:
            raise ValueError(f"run {run.run!r:.60}: got a cell, expected layers as in training")
        parts += [*sequences, *((),) * (inputs.num_sequences - len(sequences))]
    # Where nothing is known of any architecture there is one token of padding.
    length = max(1, *(len(layers(part)) for part in parts))
    tokens = tokenise(parts, inputs.vocabulary, length)
    ids = tokens.ids.reshape(len(runs), inputs.num_sequences, length)
    sizes = tokens.values.reshape(*ids.shape, tokens.values.shape[-1])
    settings = np.zeros((len(runs), len(inputs.settings)), np.float32)
    table = _settings_table(runs)
    for j, name in enumerate(inputs.settings):
        column = table.get(name, np.full(len(runs), np.nan))
        settings[:, j] = _standard(column, inputs.settings_mean[j], inputs.settings_std[j])
    num_curves = len(inputs.curves)
    curves = np.zeros((len(runs), inputs.epochs_seen, 2 * num_curves), np.float32)
    for i, run in enumerate(runs):
        run = first_epochs(run, inputs.epochs_seen)
        for j, name in enumerate(inputs.curves):
            values = _curve(run, name, inputs.epochs_seen)
            curves[i, :, j] = _standard(values, inputs.curves_mean[j], inputs.curves_std[j])
            curves[i, :, num_curves + j] = np.isfinite(values)
    return Inputs(ids, sizes, settings, curves)


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
