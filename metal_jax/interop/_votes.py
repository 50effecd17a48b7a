"""Votes from and to the forms of crowd-kit, Snorkel, WRENCH, cleanlab and data frames.

`labeling` reads more: MeTaL's lists, sparse matrices, `.npz` and `.csv` files, WRENCH folders.

Legend: `n` items, `m` LFs or workers, `k` classes, `s` leaf states.
"""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from metal_jax._core.files import replaced
from metal_jax.interop._frames import frame_columns
from metal_jax.labeling import ABSTAIN, NamedVotes, from_triples, validate
from metal_jax.task_tree import TaskTree


def votes_from_frame(
    frame: Any, tree: TaskTree, *, lfs: Sequence[str] | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """A label matrix from a data frame with a column for each LF.

    Args:
        frame: as in `frame_columns`; cells are label names, `task=label` where several tasks have
            the name, node ids, -1 or missing for an abstain, or -2 for "never asked".
        tree: the task tree.
        lfs: which columns are LFs; all by default.

    Returns:
        int[n, m] node ids, and the m column names.

    Raises:
        ValueError: as `frame_columns` and `labeling.validate`, or an unknown or ambiguous label;
            names the row and the LF.

    Example:
        >>> tree = TaskTree.single(["sport", "trade"], name="topic")
        >>> votes_from_frame({"a": ["sport", None], "b": [1, -1]}, tree)[0].tolist()
        [[0, 1], [-1, -1]]
    """
    columns = frame_columns(frame, lfs)
    node = _Nodes(tree)
    votes = [
        [node(value, f"row {row}, LF {name!r}") for row, value in enumerate(values)]
        for name, values in columns.items()
    ]
    matrix = np.asarray(votes, np.int64).reshape(len(columns), -1).T
    return validate(matrix, tree, lf_names=list(columns)), tuple(columns)


def votes_to_frame(
    votes: ArrayLike, tree: TaskTree, lf_names: Sequence[str]
) -> dict[str, list[str | None]]:
    """A label matrix as a column of label names for each LF; what data frames are made of.

    Args:
        votes: int[n, m] node ids.
        tree: the task tree.
        lf_names: m names.

    Returns:
        LF name -> n label names (`task=label` where several tasks have the name), None where there
        is no vote; for `pandas.DataFrame`, `polars.DataFrame` or `datasets.Dataset.from_dict`.

    Raises:
        ValueError: as `labeling.validate`, or two LFs of one name.

    Example:
        >>> votes_to_frame([[0, 1], [-1, -1]], TaskTree.single(["sport", "trade"]), ["a", "b"])
        {'a': ['sport', None], 'b': ['trade', None]}
    """
    matrix = validate(votes, tree, lf_names=lf_names)
    if len(set(lf_names)) < len(lf_names):
        raise ValueError(f"lf_names: got a name twice in {list(lf_names)}")
    names = [*_Nodes(tree).names, None, None]  # -1 and -2 pick the last two
    return {
        name: [names[node] for node in column.tolist()]
        for name, column in zip(lf_names, matrix.T, strict=True)
    }


def from_crowdkit(
    frame: Any,
    tree: TaskTree | None = None,
    *,
    item: str = "task",
    worker: str = "worker",
    label: str = "label",
) -> tuple[TaskTree, NamedVotes]:
    """Votes from a data frame of one annotation a row, as crowd-kit has them.

    Args:
        frame: as in `frame_columns`.
        tree: the task tree; by default a single task of the labels that occur, sorted by name.
        item: name of the column of items.
        worker: name of the column of workers.
        label: name of the column of labels; with a tree, labels may also be node ids.

    Returns:
        The tree, and the votes with items and workers in order of appearance; what nobody was
        asked is -2.

    Raises:
        ValueError: as `frame_columns`, a missing cell, an unknown label, fewer than two labels, or
            two labels of a worker for one item; names the row.

    Example:
        >>> frame = {"task": [1, 1, 2], "worker": ["u", "v", "v"], "label": ["no", "yes", "no"]}
        >>> tree, named = from_crowdkit(frame)
        >>> tree.tasks[0].labels, named.votes.tolist()
        (('no', 'yes'), [[0, 1], [-2, 0]])
    """
    columns = frame_columns(frame, [item, worker, label])
    for name, values in columns.items():
        if None in values:
            raise ValueError(f"frame: row {values.index(None)} has no {name!r}")
    if tree is None:
        labels = sorted({str(value) for value in columns[label]})
        if len(labels) < 2:
            raise ValueError(f"frame: the only label is {labels}; give a tree with all labels")
        tree = TaskTree.single(labels)
        columns[label] = [str(value) for value in columns[label]]
    node = _Nodes(tree)
    nodes = [node(value, f"frame: row {row}") for row, value in enumerate(columns[label])]
    if nodes and min(nodes) < 0:
        raise ValueError(f"frame: row {nodes.index(min(nodes))} has no label")
    return tree, from_triples(zip(columns[item], columns[worker], nodes, strict=True), tree)


def to_crowdkit(named: NamedVotes, tree: TaskTree) -> dict[str, list[Any]]:
    """Votes as columns of one annotation a row; `pandas.DataFrame` makes crowd-kit's frame of them.

    Args:
        named: votes with names, such as from `from_crowdkit`.
        tree: the task tree.

    Returns:
        "task", "worker" and "label" -> values, item by item.

    Example:
        >>> to_crowdkit(NamedVotes(np.array([[0, -1]]), ("x",), ("u", "v")), TaskTree.single(2))
        {'task': ['x'], 'worker': ['u'], 'label': ['0']}
    """
    votes = validate(named.votes, tree)
    names = _Nodes(tree).names
    rows, columns = (found.tolist() for found in np.nonzero(votes >= 0))
    return {
        "task": [named.items[row] for row in rows],
        "worker": [named.workers[column] for column in columns],
        "label": [names[votes[cell]] for cell in zip(rows, columns, strict=True)],
    }


def gold_from_labels(
    labels: Mapping[Hashable, Any] | Any, items: Sequence[Hashable], tree: TaskTree
) -> np.ndarray:
    """Gold node ids in the order of the items, from labels by item.

    Args:
        labels: item -> label name or node id; a mapping, or a pandas Series indexed by item, as
            crowd-kit's ground truth and results are.
        items: n item names.
        tree: the task tree.

    Returns:
        int32[n], -1 where an item has no label.

    Raises:
        ValueError: an unknown label; names the item.

    Example:
        >>> gold_from_labels({"x": "trade"}, ["w", "x"], TaskTree.single(["sport", "trade"]))
        array([-1,  1], dtype=int32)
    """
    known = labels if isinstance(labels, Mapping) else labels.to_dict()
    node = _Nodes(tree)
    return np.asarray([node(known.get(name), f"item {name!r}") for name in items], np.int32)


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
        items: n items: mappings, written as they are, or texts.
        gold: int[n] class ids, -1 = unknown; all unknown by default.

    Raises:
        ValueError: several tasks, another number of items or gold labels, gold out of range, a
            split that is no file name, or items that are not JSON.
        OSError: the folder cannot be written.
    """
    matrix = to_snorkel(votes, tree)
    records = [item if isinstance(item, Mapping) else {"text": item} for item in items]
    labels = np.full(len(matrix), -1) if gold is None else np.asarray(gold)
    if len(records) != len(matrix) or labels.shape != (len(matrix),):
        raise ValueError(
            f"got {len(matrix)} rows of votes, {len(records)} items and gold of shape "
            f"{labels.shape}"
        )
    if ((labels < -1) | (labels >= tree.num_nodes)).any():
        raise ValueError(
            f"gold: got {labels.min()}..{labels.max()}, expected -1..{tree.num_nodes - 1}"
        )
    if not split or Path(split).name != split:
        raise ValueError(f"split: got {split!r}, expected a name such as 'train'")
    content = {
        str(row): {
            "label": None if label < 0 else int(label),
            "weak_labels": weak.tolist(),
            "data": dict(record),
        }
        for row, (label, weak, record) in enumerate(zip(labels, matrix, records, strict=True))
    }
    names = {str(number): label for number, label in enumerate(tree.tasks[0].labels)}
    try:
        encoded = [(json.dumps(part, indent=1) + "\n").encode() for part in (names, content)]
    except TypeError as error:
        raise ValueError(f"items: {error}") from error
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    for name, part in zip(("label.json", f"{split}.json"), encoded, strict=True):
        with replaced(path / name) as file:
            file.write(part)


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
        ValueError: several roots, wrong shapes, or probabilities that do not sum to one.

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
    whole = np.issubdtype(nodes.dtype, np.integer)
    if not whole or ((nodes < -1) | (nodes >= tree.num_nodes)).any():
        raise ValueError(f"labels: expected node ids in -1..{tree.num_nodes - 1}")
    total = q.sum(axis=1)
    bad = ~(np.abs(total - 1) < 1e-3)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(f"probabilities: row {row} sums to {total[row]:.4g}, expected 1")
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


class _Nodes:
    """Node ids of labels as they stand in frames."""

    def __init__(self, tree: TaskTree) -> None:
        labels = [label for _, label in tree.node_names]
        self.names = [
            label if labels.count(label) == 1 else f"{task}={label}"
            for task, label in tree.node_names
        ]
        self._of: dict[str, int] = {}
        for node, (task, label) in enumerate(tree.node_names):
            self._of[f"{task}={label}"] = node
        self._of.update({name: node for node, name in enumerate(self.names)})
        self._num_nodes = tree.num_nodes

    def __call__(self, value: Any, where: str) -> int:
        if value is None:
            return ABSTAIN
        if isinstance(value, str) and value in self._of:
            return self._of[value]
        # A number, whole and in range: columns with gaps come as floats.
        if type(value) in (int, float) and value in range(-2, self._num_nodes):
            return int(value)
        raise ValueError(f"{where}: unknown label {value!r}; known: {', '.join(self.names[:10])}")
