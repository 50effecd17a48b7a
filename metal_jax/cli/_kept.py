"""Steps that are done, kept on disk until all are: an interrupted command goes on after them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import metal_jax
from metal_jax._core.archives import load_arrays, save_arrays
from metal_jax._core.files import replaced

_IDENTITY = "kept.json"


class KeptSteps:
    """Arrays of finished steps, by name, in a folder beside the output.

    Args:
        out: what the command will write; the folder is called `<out>.partial`.
        identity: plain JSON that must be the same for the steps to be taken up; else they are
            thrown away.
    """

    def __init__(self, out: Path, identity: Mapping[str, Any]) -> None:
        """Look for the folder; nothing is written yet."""
        self.folder = out.with_name(f"{out.name}.partial")
        told = {"version": metal_jax.__version__, **identity}
        self._identity = json.dumps(told, sort_keys=True, default=str)
        self.num_taken = 0
        marker = self.folder / _IDENTITY
        if self.folder.exists() and not marker.is_file():
            raise ValueError(f"{self.folder}: was not written by this command; move it away")
        if marker.is_file() and marker.read_text(encoding="utf-8") != self._identity:
            shutil.rmtree(self.folder)

    def __call__(
        self, name: str, make: Callable[[], Mapping[str, np.ndarray]]
    ) -> Mapping[str, np.ndarray]:
        """The arrays of a step, as they were kept or made now."""
        path = self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.npz"
        try:
            found = load_arrays(path)
            self.num_taken += 1
            return found
        except (OSError, ValueError):
            made = make()
        if not self.folder.is_dir():
            self.folder.mkdir()
            with replaced(self.folder / _IDENTITY) as file:
                file.write(self._identity.encode())
        with replaced(path) as file:
            save_arrays(file, made)
        return made

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Within it an interruption says what is kept; at its end, all being done, nothing is."""
        try:
            yield
        except KeyboardInterrupt:
            if not self.folder.is_dir():
                raise
            raise KeyboardInterrupt(
                f"interrupted; the steps that are done are kept in {self.folder}: run the same "
                "command again, and it goes on after them"
            ) from None
        if self.folder.is_dir():
            shutil.rmtree(self.folder)
