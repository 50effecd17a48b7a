"""Votes as data frames: a column for each LF, or a row for each annotation as in crowd-kit.

Legend: `n` items, `m` LFs or workers.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from metal_jax.interop._frames import frame_columns, plain_value
from metal_jax.labeling import ABSTAIN, NamedVotes, from_triples, validate
from metal_jax.task_tree import TaskTree


def votes_from_frame(
    frame: Any, tree: TaskTree, *, lfs: Sequence[str] | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """A label matrix from a data frame with a column for each LF.

    Args:
        frame: as in `frame_columns`; cells are label names, `task=label` where several tasks have
            the name, node ids, -1 or missing for an abstain, or -2 for "never asked". A number is
            the label of that name; only in a tree none of whose labels is called a number is it a
            node id.
        tree: the task tree.
        lfs: which columns are LFs; all by default.

    Returns:
        int[n, m] node ids, and the m column names.

    Raises:
        ValueError: as `frame_columns` and `labeling.validate`, no columns, or one chosen twice; an
            unknown or ambiguous label, or -1 or -2 where a label is called so (names the row and
            the LF).

    Example:
        >>> tree = TaskTree.single(["sport", "trade"], name="topic")
        >>> votes_from_frame({"a": ["sport", None], "b": [1, -1]}, tree)[0].tolist()
        [[0, 1], [-1, -1]]
    """
    if lfs is not None and len(set(lfs)) < max(len(lfs), 1):
        raise ValueError(f"lfs: got {list(lfs)}, expected names of different columns")
    columns = frame_columns(frame, lfs)
    if not columns:
        raise ValueError("frame: there are no columns")
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
        tree: the task tree; by default a single task of the labels that occur, in the order of
            numbers if each is a number, otherwise of names.
        item: name of the column of items.
        worker: name of the column of workers.
        label: name of the column of labels, as in `votes_from_frame`, but none may be missing.

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
        labels = sorted({_name(value) for value in columns[label]})
        if len(labels) < 2:
            raise ValueError(f"frame: the only label is {labels}; give a tree with all labels")
        if all(_is_number(name) for name in labels):
            labels.sort(key=float)
        tree = TaskTree.single(labels)
    node = _Nodes(tree, abstains=False)
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

    Raises:
        ValueError: as `labeling.validate`.

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
        labels: item -> label name, node id or missing, as in `votes_from_frame`; a mapping, or a
            pandas Series indexed by item, as crowd-kit's ground truth and results are.
        items: n item names.
        tree: the task tree.

    Returns:
        int32[n], -1 where an item has no label.

    Raises:
        ValueError: an unknown or ambiguous label, or an item with two different ones (names the
            item), or labels that are not by item, such as a data frame.

    Example:
        >>> gold_from_labels({"x": "trade"}, ["w", "x"], TaskTree.single(["sport", "trade"]))
        array([-1,  1], dtype=int32)
    """
    # A data frame has `items` too: its columns.
    if hasattr(labels, "columns") or not callable(getattr(labels, "items", None)):
        raise ValueError(f"labels: got {type(labels).__name__}, expected a mapping or a Series")
    known: dict[Hashable, Any] = {}
    for item, label in labels.items():
        value = plain_value(label)
        if item in known and known[item] != value:
            raise ValueError(f"labels: item {item!r} has both {known[item]!r} and {value!r}")
        known[item] = value
    node = _Nodes(tree)
    return np.asarray([node(known.get(name), f"item {name!r}") for name in items], np.int32)


class _Nodes:
    """Node ids of labels as they stand in frames.

    Args:
        tree: the task tree.
        abstains: whether -1 and -2 mean that there is no vote, whatever labels are called.
    """

    def __init__(self, tree: TaskTree, *, abstains: bool = True) -> None:
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
        self._has_numbers = any(map(_is_number, labels))
        self._abstains = abstains

    def __call__(self, value: Any, where: str) -> int:
        if value is None:
            return ABSTAIN
        # Whole and in range: columns with gaps come as floats.
        number = type(value) in (int, float) and value in range(-2, self._num_nodes)
        name = next((text for text in (_name(value), str(value)) if text in self._of), None)
        if name is not None:
            if self._abstains and number and value < 0:
                raise ValueError(
                    f"{where}: got {value!r}, which means no vote and is a label here; write "
                    f"{name!r} for the label and None for no vote"
                )
            return self._of[name]
        if number and (value < 0 or not self._has_numbers):
            return int(value)
        hint = " (a number is no node id where labels are called numbers)" if number else ""
        raise ValueError(
            f"{where}: unknown label {value!r}{hint}; known: {', '.join(self.names[:10])}"
        )


def _name(value: Any) -> str:
    """What a label is called: 1 and 1.0 are "1"."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _is_number(name: str) -> bool:
    try:
        return math.isfinite(float(name))
    except ValueError:
        return False
