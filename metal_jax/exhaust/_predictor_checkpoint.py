"""What the training of a predictor has done so far, in one file."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from metal_jax._core.archives import load_arrays, save_arrays
from metal_jax._core.files import replaced


class PredictorCheckpoint:
    """The state of a training, written after every few steps and taken up from.

    Args:
        path: the file, `.npz`; process 0 writes it.
        identity: arrays and texts that must be the same for the state to be taken up; that of
            another training is passed over.
    """

    def __init__(self, path: str | os.PathLike[str], identity: Any) -> None:
        """Digest the identity; nothing is read yet."""
        self._path = Path(path)
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves(identity):
            array = np.asarray(leaf)
            digest.update(f"{array.dtype} {array.shape} ".encode() + array.tobytes())
        self._identity = digest.hexdigest()

    def read(self, start: Any) -> tuple[Any, int]:
        """The state and the steps that were taken, or the given one and 0."""
        leaves, structure = jax.tree.flatten(start)
        try:
            file = load_arrays(self._path)
            if str(file["identity"]) != self._identity:
                return start, 0
            saved = [file[f"leaf{i}"] for i in range(len(leaves))]
            step = int(file["step"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return start, 0
        placed = [jax.device_put(x, leaf.sharding) for x, leaf in zip(saved, leaves, strict=True)]
        return jax.tree.unflatten(structure, placed), step

    def write(self, state: Any, step: int) -> None:
        """Replace the file in one step."""
        if jax.process_index() == 0:
            leaves = {f"leaf{i}": np.asarray(x) for i, x in enumerate(jax.tree.leaves(state))}
            with replaced(self._path) as file:
                save_arrays(file, {"identity": self._identity, "step": step, **leaves})
