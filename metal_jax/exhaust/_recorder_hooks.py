"""Recorders in the shape that training loops expect; no framework is imported."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

from metal_jax.exhaust._architecture import Architecture
from metal_jax.exhaust._keras_model import read_keras_model
from metal_jax.exhaust._recorder import RunRecorder
from metal_jax.exhaust._records import Run
from metal_jax.exhaust._torch_text import read_torch_text


class KerasRecorder:
    """A callback for `model.fit(..., callbacks=[KerasRecorder(recorder)])`.

    Logs that begin with `val_` are validation metrics, all others train metrics. The run's line is
    written when training ends; wrap `fit` in the recorder's `with` to record exceptions too.

    Args:
        recorder: of this run; fill in the model with `run_of_keras`.

    Example:
        >>> import tempfile
        >>> from metal_jax.exhaust import read_runs
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     callback = KerasRecorder(RunRecorder(f"{folder}/runs.jsonl", Run("a")))
        ...     callback.on_epoch_end(0, {"val_loss": 2.5})
        ...     callback.on_train_end()
        ...     run = read_runs(f"{folder}/runs.jsonl").runs[0]
        >>> run.metrics["validation"]["loss"].values
        (2.5,)
    """

    def __init__(self, recorder: RunRecorder):
        """Keep the recorder."""
        self.recorder = recorder

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Record the epoch."""
        self.recorder.epoch(
            {
                f"validation/{name[4:]}" if name.startswith("val_") else f"train/{name}": value
                for name, value in (logs or {}).items()
            }
        )

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Write the run's line."""
        self.recorder.finish()

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Every other hook of Keras does nothing."""
        if name.startswith(("on_", "set_", "_implements_")):
            return lambda *arguments, **named: None
        raise AttributeError(name)


def run_of_keras(run: str, model: Any, **fields: Any) -> Run:
    """What a Keras model tells of a run.

    Args:
        run: the id.
        model: has `to_json()`, `count_params()` and, once compiled, `optimizer.get_config()`.
        **fields: of `Run`, e.g. `batch_size`.

    Returns:
        The run, for a recorder.

    Raises:
        ValueError: as `read_keras_model`.

    Example:
        >>> class Model:
        ...     def to_json(self):
        ...         return '{"class_name": "Sequential", "config": {"layers": []}}'
        ...     def count_params(self):
        ...         return 7
        >>> run_of_keras("a", Model(), batch_size=32).num_params
        7
    """
    optimiser = getattr(model, "optimizer", None)
    settings = {} if optimiser is None else _plain(optimiser.get_config())
    given = {
        "architecture": read_keras_model(model.to_json()),
        "num_params": int(model.count_params()),
        "optimiser": settings,
    }
    return Run(run, **(given | fields))


def run_of_torch(run: str, model: Any, optimiser: Any = None, **fields: Any) -> Run:
    r"""What a PyTorch module and optimiser tell of a run.

    Args:
        run: the id.
        model: printed by `str`; has `parameters()`.
        optimiser: has `param_groups`; the settings of the first group are taken.
        **fields: of `Run`, e.g. `batch_size`.

    Returns:
        The run, for a recorder; a module whose print cannot be read has no architecture, and its
        print is kept in `extra["printed_model"]`.

    Example:
        >>> class Module:
        ...     def __str__(self):
        ...         return "Sequential(\n  (0): Linear(in_features=4, out_features=2, bias=True)\n)"
        ...     def parameters(self):
        ...         return []
        >>> run_of_torch("a", Module()).architecture[0].type
        'Linear'
    """
    text = str(model)
    architecture: Architecture | None = None
    extra: dict[str, Any] = {}
    try:
        architecture = read_torch_text(text)
    except ValueError:
        extra["printed_model"] = text
    settings: dict[str, Any] = {}
    if optimiser is not None:
        group = {k: v for k, v in optimiser.param_groups[0].items() if k != "params"}
        settings = {"name": type(optimiser).__name__, **_plain(group)}
    given = {
        "architecture": architecture,
        "num_params": sum(int(p.numel()) for p in model.parameters() if p.requires_grad),
        "optimiser": settings,
        "extra": extra,
    }
    return Run(run, **(given | fields))


def run_of_jax(run: str, params: Any, architecture: Architecture | None = None, **fields) -> Run:
    """What a pytree of parameters tells of a run.

    Args:
        run: the id.
        params: a pytree of arrays.
        architecture: JAX functions do not tell theirs.
        **fields: of `Run`, e.g. `optimiser`.

    Returns:
        The run, for a recorder.

    Example:
        >>> import numpy as np
        >>> run_of_jax("a", {"w": np.zeros((3, 4)), "b": np.zeros(4)}).num_params
        16
    """
    sizes: Iterable[int] = (leaf.size for leaf in jax.tree.leaves(params))
    given = {"architecture": architecture, "num_params": int(sum(sizes))}
    return Run(run, **(given | fields))


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON values; numbers of other kinds as floats, what is left as text."""
    found = {}
    for name, value in settings.items():
        with contextlib.suppress(TypeError, ValueError):
            value = value if isinstance(value, int | str | None) else float(value)
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            value = repr(value)
        found[name] = value
    return found
