"""What a fit to a stream has done so far, in one file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from metal_jax._core.archives import load_arrays, save_arrays
from metal_jax._core.files import replaced
from metal_jax._core.processes import send_to_all


class StreamCheckpoint:
    """What a fit has done so far, in one file; process 0 reads and writes it."""

    def __init__(self, path: str | os.PathLike[str] | None, identity: dict[str, Any]):
        self._path = None if path is None else Path(path)
        self._identity = json.dumps(identity, sort_keys=True)
        self.arrays: dict[str, np.ndarray] = {}
        found: dict[str, np.ndarray] = {}
        if self._path is not None and jax.process_index() == 0 and self._path.exists():
            try:
                found = load_arrays(self._path)
            except ValueError as error:
                raise ValueError(
                    f"{self._path}: no checkpoint of a fit, or damaged: {error}; remove it to "
                    "start anew"
                ) from error
        if self._path is not None:
            self.arrays = send_to_all(found)
        if self.arrays and str(self.arrays["identity"]) != self._identity:
            saved, given = json.loads(str(self.arrays["identity"])), json.loads(self._identity)
            names = [name for name in given if saved.get(name) != given[name]]
            raise ValueError(f"{self._path}: the checkpoint of another fit: {names} differ")

    def check(self, name: str, value: str) -> None:
        """Raise ValueError unless a text that was written is the same."""
        if str(self.arrays.get(name)) != value:
            raise ValueError(f"{self._path}: the checkpoint of another fit: [{name!r}] differ")

    def write(self, arrays: dict[str, np.ndarray]) -> None:
        """Add arrays, or replace them, in one step."""
        if self._path is None:
            return
        self.arrays = {**self.arrays, **arrays, "identity": np.asarray(self._identity)}
        if jax.process_index() == 0:
            with replaced(self._path) as file:
                save_arrays(file, self.arrays)
