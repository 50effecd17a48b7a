"""Votes and labels as Snorkel, WRENCH and cleanlab take them.

`labeling` reads Snorkel's and MeTaL's matrices, sparse ones and WRENCH folders.

Legend: `n` items, `m` LFs, `k` classes, `s` leaf states.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from metal_jax._core.checks import host_array
from metal_jax._core.files import replaced
from metal_jax.interop._json_lines import json_line
from metal_jax.labeling import ABSTAIN, validate
from metal_jax.task_tree import TaskTree


def to_snorkel(votes: ArrayLike, tree: TaskTree) -> np.ndarray:
    """A label matrix as Snorkel's label models take it; `labeling.from_snorkel` is its inverse.

    Args:
        votes: int[n, m] class ids of a single task; -2 becomes -1.
        tree: the task tree.

    Returns:
        int64[n, m], -1 = abstain.

    Raises:
        ValueError: several tasks, or as `labeling.validate`.

    Example:
        >>> to_snorkel([[0, -2]], TaskTree.single(2)).tolist()
        [[0, -1]]
    """
    if tree.num_tasks != 1:
        raise ValueError(f"a Snorkel matrix has one task, the tree has {tree.num_tasks}")
    return np.maximum(validate(votes, tree), ABSTAIN).astype(np.int64)


def write_wrench(
    folder: str | os.PathLike[str],
    split: str,
    votes: ArrayLike,
    tree: TaskTree,
    *,
    items: Iterable[Any],
    gold: ArrayLike | None = None,
) -> None:
    """Write a split in the WRENCH benchmark's format; `labeling.read_wrench` reads it.

    Each file takes its place in one step; `label.json` is written along.

    Args:
        folder: made if it is not there.
        split: "train", "valid" or "test".
        votes: int[n, m] class ids of a single task; -2 becomes -1.
        tree: the task tree, whose label names go to `label.json`.
        items: n items: mappings, written as they are but for NumPy's scalars, or texts.
        gold: int[n] class ids, -1 = unknown; all unknown by default.

    Raises:
        ValueError: several tasks, another number of items or gold labels, gold that are no class
            ids, a split that is no file name, or items that are not JSON; names the item.
        OSError: the folder cannot be written.

    Example:
        >>> import tempfile
        >>> from metal_jax.labeling import read_wrench
        >>> tree = TaskTree.from_dict({"mail": ["ham", "spam"]})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_wrench(folder, "train", np.array([[-1, 1]]), tree, items=["win!"])
        ...     read_wrench(folder, "train")[1].votes.tolist()
        [[-1, 1]]
    """
    matrix = to_snorkel(votes, tree)
    records = [item if isinstance(item, Mapping) else {"text": item} for item in items]
    labels = np.full(len(matrix), -1) if gold is None else host_array("gold", gold)
    if len(records) != len(matrix) or labels.shape != (len(matrix),):
        raise ValueError(
            f"got {len(matrix)} rows of votes, {len(records)} items and gold of shape "
            f"{labels.shape}"
        )
    if labels.dtype.kind not in "iuf":
        raise ValueError(f"gold: got dtype {labels.dtype}, expected integers")
    bad = ~np.isin(labels, np.arange(-1, tree.num_nodes))
    if bad.any():
        item = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"gold: item {item}: got {labels[item]}, expected a class id in "
            f"-1..{tree.num_nodes - 1}"
        )
    if not split or Path(split).name != split:
        raise ValueError(f"split: got {split!r}, expected a name such as 'train'")
    entries = []
    for row, (label, weak, record) in enumerate(zip(labels, matrix, records, strict=True)):
        entry = {
            "label": None if label < 0 else int(label),
            "weak_labels": weak.tolist(),
            "data": dict(record),
        }
        entries.append(f'"{row}": {json_line(entry, f"items: item {row}")}')
    names = {str(number): label for number, label in enumerate(tree.tasks[0].labels)}
    contents = {
        "label.json": json.dumps(names, indent=1) + "\n",
        f"{split}.json": "{\n" + ",\n".join(entries) + "\n}\n",
    }
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        with replaced(path / name) as file:
            file.write(content.encode())


class CleanlabInputs(NamedTuple):
    """What cleanlab's functions take; items of which something is missing are left out.

    Attributes:
        labels: int64[a], given labels, classes 0 .. k-1; `find_label_issues(labels, pred_probs)`.
        pred_probs: float64[a, k], rows sum to one.
        items: int64[a], which item each row is.
    """

    labels: np.ndarray
    pred_probs: np.ndarray
    items: np.ndarray


def to_cleanlab(labels: ArrayLike, probabilities: ArrayLike, tree: TaskTree) -> CleanlabInputs:
    """Labels that are to be checked and a model's probabilities, as cleanlab takes them.

    Classes are the leaves of the tree. cleanlab wants probabilities of a model that has not seen
    the label; those of a label model fitted without it are.

    Args:
        labels: int[n], the labels to check as node ids; items with -1, or a label that is no leaf,
            are left out.
        probabilities: float[n, s], such as `label_model.posterior`.
        tree: a tree with one root.

    Returns:
        The inputs.

    Raises:
        ValueError: several roots, wrong shapes, labels that are no node ids, or a row of
            probabilities that are negative or do not sum to one.

    Example:
        >>> inputs = to_cleanlab([1, -1], [[0.2, 0.8], [0.5, 0.5]], TaskTree.single(2))
        >>> inputs.labels.tolist(), inputs.pred_probs.tolist(), inputs.items.tolist()
        ([1], [[0.2, 0.8]], [0])
    """
    if len(tree.roots) != 1:
        raise ValueError(f"cleanlab has one label an item, the tree has {len(tree.roots)} roots")
    nodes, q = np.asarray(labels), np.asarray(probabilities, float)
    if nodes.ndim != 1 or q.shape != (len(nodes), tree.num_leaves):
        raise ValueError(
            f"got labels of shape {nodes.shape} and probabilities of shape {q.shape}, expected "
            f"[n] and [n, {tree.num_leaves}]"
        )
    # An empty list has the dtype of floats.
    nodes = nodes if nodes.size else nodes.astype(np.int64)
    whole = np.issubdtype(nodes.dtype, np.integer)
    if not whole or ((nodes < -1) | (nodes >= tree.num_nodes)).any():
        raise ValueError(f"labels: expected node ids in -1..{tree.num_nodes - 1}")
    total = q.sum(axis=1)
    bad = ~((q >= 0).all(axis=1) & (np.abs(total - 1) < 1e-3))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"probabilities: row {row}: got {q[row].tolist()!r:.80}, expected numbers from 0 that "
            "sum to 1"
        )
    leaf = np.where(nodes < 0, -1, tree.node_leaf[np.maximum(nodes, 0)])
    items = np.flatnonzero(leaf >= 0)
    return CleanlabInputs(
        leaf[items].astype(np.int64), q[items] / total[items, None], items.astype(np.int64)
    )


def to_cleanlab_annotators(votes: ArrayLike, tree: TaskTree) -> tuple[np.ndarray, np.ndarray]:
    """Votes as cleanlab's `labels_multiannotator`.

    Args:
        votes: int[n, m] class ids of a single task.
        tree: the task tree.

    Returns:
        float64[a, b] class ids, NaN where there is no vote, without the items and annotators that
        have none (cleanlab takes neither); and int64[a], which item each row is.

    Raises:
        ValueError: several tasks, or as `labeling.validate`.

    Example:
        >>> to_cleanlab_annotators([[0, -1], [-1, -1]], TaskTree.single(2))[0].tolist()
        [[0.0]]
    """
    matrix = to_snorkel(votes, tree)
    voted = matrix >= 0
    items = np.flatnonzero(voted.any(axis=1))
    kept = np.where(voted, matrix, np.nan)[items][:, voted.any(axis=0)]
    return kept, items.astype(np.int64)
