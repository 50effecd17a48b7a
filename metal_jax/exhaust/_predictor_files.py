"""A fitted predictor on disk: parameters through Orbax, everything else as JSON; no pickle."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from metal_jax import checkpoint
from metal_jax._core.files import (
    abandon_folder,
    finish_folder,
    replaced,
    start_folder,
    whole_folder,
)
from metal_jax._core.json_text import json_checksum, parse_json
from metal_jax.exhaust._curve_expert import CurveExpert
from metal_jax.exhaust._predictor import Predictor
from metal_jax.exhaust._predictor_inputs import InputMap, encode
from metal_jax.exhaust._predictor_judging import Judged
from metal_jax.exhaust._predictor_network import NetworkConfig, network_of
from metal_jax.exhaust._predictor_training import PredictorConfig
from metal_jax.exhaust._records import Run

_SCHEMA = 4
_FILE = "predictor.json"
_FOLDER = "params"


def save_predictor(path: str | os.PathLike[str], predictor: Predictor) -> None:
    """Write a predictor to a folder of its own; readers never see half of it.

    Args:
        path: the folder to make; a predictor that is there is replaced.
        predictor: from `fit_predictor`.

    Raises:
        ValueError: the folder holds something else.
        OSError: the disk refused; what was there is as it was.
    """
    folder = Path(path).absolute()
    if folder.exists() and not (folder / _FILE).exists() and any(folder.iterdir()):
        raise ValueError(f"{folder}: there is something else than a predictor")
    fresh = start_folder(folder)
    record = predictor._asdict() | {
        "schema": _SCHEMA,
        "params": _FOLDER,
        "config": dataclasses.asdict(predictor.config),
        "inputs": predictor.inputs.to_json(),
        "curves": None if predictor.curves is None else predictor.curves.to_json(),
    }
    record = json.loads(json.dumps(record, allow_nan=False))
    try:
        fresh.mkdir(parents=True)
        checkpoint.save(fresh / _FOLDER, predictor.params)
        with replaced(fresh / _FILE) as file:
            file.write(json.dumps(record | {"checksum": json_checksum(record)}).encode())
    except BaseException:
        abandon_folder(folder)
        raise
    finish_folder(folder)


def load_predictor(path: str | os.PathLike[str]) -> Predictor:
    """Read what `save_predictor` wrote.

    Args:
        path: the folder.

    Returns:
        The predictor; on the same kind of device it predicts the same.

    Raises:
        ValueError: there is no predictor, one that is damaged, or of another version or shape.
    """
    folder = whole_folder(Path(path).absolute())
    file = folder / _FILE
    if not file.is_file():
        raise ValueError(f"{Path(path, _FILE)}: no predictor there")
    try:
        record = parse_json(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    if not isinstance(record, dict) or record.get("schema") != _SCHEMA:
        raise ValueError(f"{file}: expected a predictor of schema {_SCHEMA}")
    if record.pop("checksum", None) != json_checksum(record):
        raise ValueError(f"{file}: damaged: it is not what was saved")
    try:
        fields: dict[str, Any] = {name: _tuples(record[name]) for name in Predictor._fields}
        settings: dict[str, Any] = dict(record["config"])
        settings["network"] = NetworkConfig(**settings["network"])
        config = PredictorConfig(**settings)
        inputs = InputMap.from_json(record["inputs"])
        judged = Judged(*fields["judged"])
        curves = record["curves"] and CurveExpert.from_json(record["curves"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file}: {error!r}") from None
    like = jax.eval_shape(lambda: _empty_params(config, inputs, fields["targets"]))
    params = checkpoint.load(folder / _FOLDER, like)
    fields |= {"params": params, "config": config, "inputs": inputs}
    return Predictor(**(fields | {"judged": judged, "curves": curves}))


def _empty_params(config: PredictorConfig, inputs: InputMap, names: Sequence[str]) -> Any:
    network = network_of(config.network, inputs.vocabulary.size, names)
    example = jax.tree.map(jnp.asarray, encode([Run("example")], inputs))
    keys = jax.random.split(jax.random.key(0), config.num_members)
    return jax.vmap(lambda key: network.init(key, example))(keys)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(entry) for entry in value) if isinstance(value, list) else value
