"""Votes kept on disk: a folder for each version of an LF, in it a file for each block of items.

A file has its name in one step, so that none is ever half-written; one that is damaged all the same
is as if it were not there. Nothing is unpickled. Folders of LFs that are no more may be deleted at
any time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from metal_jax._core.archives import load_arrays, save_arrays
from metal_jax._core.files import replaced
from metal_jax.labeling._apply_blocks import FAILED, Block
from metal_jax.labeling._digests import digest_of
from metal_jax.labeling._functions import LabelingFunction
from metal_jax.labeling._lf_digests import lf_digest
from metal_jax.task_tree import TaskTree


class VoteCache:
    """Reads and writes the votes of LFs on blocks.

    Args:
        folder: made if it is not there.
        lfs: the labelling functions.
        tree: the task tree; node ids are numbers of this tree.

    Raises:
        ValueError: it cannot be told when an LF changes; names it.
        OSError: the folder cannot be made or written.
    """

    def __init__(
        self, folder: str | os.PathLike[str], lfs: Sequence[LabelingFunction], tree: TaskTree
    ) -> None:
        """Make the folders."""
        self._num_nodes = tree.num_nodes
        self._lfs = list(lfs)
        nodes = json.dumps(tree.to_dict())
        self._folders = []
        for lf in lfs:
            key = digest_of([lf_digest(lf).encode(), nodes.encode()]).hex()
            path = Path(folder) / key
            path.mkdir(parents=True, exist_ok=True)
            about = json.dumps({"lf": lf.name, "tasks": list(lf.tasks), "version": lf.version})
            with replaced(path / "lf.json") as file:
                file.write((about + "\n").encode())
            self._folders.append(path)

    def load(self, block: Block) -> dict[int, np.ndarray]:
        """The votes that are known, int32[b, tasks of the LF], by number of the LF."""
        name = _name(block)
        return {
            number: votes
            for number, lf in enumerate(self._lfs)
            if (votes := self._read(number, name, (len(block.items), len(lf.tasks)))) is not None
        }

    def _read(self, number: int, name: str, shape: tuple[int, int]) -> np.ndarray | None:
        try:
            votes = load_arrays(self._folders[number] / name)["votes"]
        except (OSError, ValueError, KeyError):
            return None
        if votes.dtype != np.int32 or votes.shape != shape:
            return None
        sound = (votes >= FAILED) & (votes < self._num_nodes) & (votes != -2)
        return votes if sound.all() else None

    def save(self, number: int, block: Block, votes: np.ndarray) -> None:
        """Keep an LF's votes on a block."""
        with replaced(self._folders[number] / _name(block), durable=False) as file:
            save_arrays(file, {"votes": votes})  # an archive, for its checksum


def _name(block: Block) -> str:
    return f"{digest_of([digest or b'' for digest in block.digests]).hex()}.npz"
