"""Soft labels for any end model: arrays of each task, and lines of JSON.

Legend: `n` items, `k` labels of a task, `s` leaf states, `N` label nodes.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from metal_jax._core.files import replaced
from metal_jax._core.json_text import parse_json
from metal_jax.interop._frames import columns_by_text
from metal_jax.interop._json_lines import json_line
from metal_jax.task_tree import TaskTree

_TOLERANCE = 1e-3
_MALFORMED = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


def task_probabilities(probabilities: ArrayLike, tree: TaskTree) -> dict[str, np.ndarray]:
    """Soft labels of each task, from those of leaves.

    Args:
        probabilities: float[n, s], such as `label_model.posterior`.
        tree: the task tree.

    Returns:
        Task name -> float64[n, k]; a row sums to the probability that the task applies to the item,
        1 for a root.

    Raises:
        ValueError: a wrong shape, or a row that is no distribution over the leaves of each root;
            names the row.

    Example:
        >>> tree = TaskTree.from_dict({"kind": {"a": None, "b": {"b_kind": ["x", "y"]}}})
        >>> task_probabilities([[0.5, 0.25, 0.25]], tree)["b_kind"].tolist()
        [[0.25, 0.25]]
    """
    mass = _checked(probabilities, tree) @ tree.covers.T
    return {
        task.name: mass[:, nodes.start : nodes.stop]
        for task, nodes in zip(tree.tasks, tree.task_nodes, strict=True)
    }


def write_soft_labels(
    path: str | os.PathLike[str],
    probabilities: ArrayLike,
    tree: TaskTree,
    *,
    items: Iterable[Any] | None = None,
) -> None:
    """Write soft labels as lines of JSON, one an item; the file takes its place in one step.

    A line is `{"item": ..., "labels": {task: {label: probability, ...}, ...}}`, with numbers as in
    `task_probabilities`. What is in an item that is a mapping stands in the line as it is, so that
    texts and soft labels go to an end model together.

    Args:
        path: where to write.
        probabilities: float[n, s].
        tree: the task tree.
        items: n names, or mappings without "labels"; the row numbers by default. NumPy's scalars
            are written as their values.

    Raises:
        ValueError: as `task_probabilities`, another number of items, or an item that is no JSON or
            has "labels" of its own.
        OSError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "soft.jsonl")
        ...     tree = TaskTree.single(["sport", "trade"], name="topic")
        ...     write_soft_labels(path, [[0.75, 0.25]], tree, items=[{"text": "a goal"}])
        ...     path.read_text().strip()
        '{"text": "a goal", "labels": {"topic": {"sport": 0.75, "trade": 0.25}}}'
    """
    by_task = task_probabilities(probabilities, tree)
    n = len(next(iter(by_task.values())))
    names = list(range(n)) if items is None else list(items)
    if len(names) != n:
        raise ValueError(f"items: got {len(names)}, the probabilities have {n}")
    with replaced(Path(path)) as file:
        for row, item in enumerate(names):
            record: dict[str, Any] = dict(item) if isinstance(item, Mapping) else {"item": item}
            if "labels" in record:
                raise ValueError(f'item {row}: has "labels" of its own')
            record["labels"] = {
                task.name: dict(zip(task.labels, by_task[task.name][row].tolist(), strict=True))
                for task in tree.tasks
            }
            file.write(f"{json_line(record, f'item {row}')}\n".encode())


def read_soft_labels(
    path: str | os.PathLike[str], tree: TaskTree
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Read what `write_soft_labels` wrote.

    Args:
        path: the file.
        tree: the task tree.

    Returns:
        n records without their labels, and float64[n, s].

    Raises:
        ValueError: malformed content, or labels that are not those of the tree; names the line.
        OSError: the file cannot be read.

    Example:
        >>> import tempfile
        >>> tree = TaskTree.single(["sport", "trade"], name="topic")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "soft.jsonl")
        ...     write_soft_labels(path, [[0.75, 0.25]], tree, items=[{"text": "a goal"}])
        ...     records, probs = read_soft_labels(path, tree)
        >>> records, probs.tolist()
        ([{'text': 'a goal'}], [[0.75, 0.25]])
    """
    records, rows = [], []
    names = [tree.node_names[node] for node in tree.leaf_nodes]
    with Path(path).open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                # Spreadsheets and editors on Windows put a mark in front of the first line.
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                if not line.strip():
                    continue
                record = parse_json(line)
                labels = record.pop("labels")
                _check_labels(labels, tree)
                rows.append([float(labels[task][label]) for task, label in names])
            except _MALFORMED as error:
                raise ValueError(
                    f"{path}: line {number}: expected an object with the labels of every task: "
                    f"{type(error).__name__}: {error}"
                ) from error
            records.append(record)
    if not rows:
        raise ValueError(f"{path}: there are no lines")
    try:
        return records, _checked(rows, tree)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def soft_labels_from_frame(frame: Any, items: Sequence[Hashable], tree: TaskTree) -> np.ndarray:
    """Soft labels from a frame indexed by item with a column for each label, as crowd-kit gives.

    Args:
        frame: a pandas data frame, such as from `DawidSkene().fit_predict_proba(...)`.
        items: n item names.
        tree: a single task whose label names are the columns.

    Returns:
        float64[n, k], in the tree's order of labels; a label without a column has probability 0.

    Raises:
        ValueError: several tasks, a column that is no label, an item that is not in the frame, a
            column or an item that is there twice, or rows that are no distributions.
    """
    if tree.num_tasks != 1:
        raise ValueError(f"the frame is of one task, the tree has {tree.num_tasks}")
    place = {label: column for column, label in enumerate(tree.tasks[0].labels)}
    names = list(columns_by_text(frame.columns))
    for name in names:
        if name not in place:
            raise ValueError(f"frame: column {name!r} is no label of {list(place)}")
    rows: dict[Hashable, int] = {}
    for row, item in enumerate(frame.index.tolist()):
        if rows.setdefault(item, row) != row:
            raise ValueError(f"frame: item {item!r} has several rows")
    for item in items:
        if item not in rows:
            raise ValueError(f"frame: there is no item {item!r}")
    values = np.zeros((len(items), tree.num_leaves))
    values[:, [place[name] for name in names]] = np.asarray(frame.to_numpy(), float)[
        [rows[item] for item in items]
    ]
    return _checked(values, tree)


def _check_labels(labels: Any, tree: TaskTree) -> None:
    """Raise unless what a line says of each task are numbers for labels of the tree."""
    for name, shares in labels.items():
        known = tree.tasks[tree.task_index(name)].labels
        for label, share in shares.items():
            if label not in known:
                raise ValueError(f"task {name!r} has no label {label!r}")
            if type(share) not in (int, float):
                raise ValueError(f"task {name!r}, label {label!r}: got {share!r:.80}, no number")


def _checked(probabilities: ArrayLike, tree: TaskTree) -> np.ndarray:
    """float64[n, s]; ValueError unless each root has a distribution in every row."""
    q = np.asarray(probabilities, float)
    if q.ndim != 2 or q.shape[1] != tree.num_leaves:
        raise ValueError(f"probabilities: got shape {q.shape}, expected [n, {tree.num_leaves}]")
    for root, span in zip(tree.roots, tree.root_leaves, strict=True):
        part = q[:, span]
        bad = ~((part >= -_TOLERANCE).all(axis=1) & (np.abs(part.sum(axis=1) - 1) < _TOLERANCE))
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise ValueError(
                f"probabilities: row {row}: got {part[row].tolist()!r:.80} for task "
                f"{tree.tasks[root].name!r}, expected numbers from 0 that sum to 1"
            )
    return q
