"""Reading gold labels from files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from metal_jax.labeling._convert import read_wrench
from metal_jax.labeling._files import file_of, label_names, matching_arrays, named_in_errors
from metal_jax.labeling._lines import LabelNodes, read_lines
from metal_jax.task_tree import TaskTree


def read_gold(
    path: str | os.PathLike[str],
    tree: TaskTree,
    num_items: int,
    *,
    items: Sequence[str] | None = None,
    split: str = "train",
) -> np.ndarray:
    r"""Read gold labels.

    Args:
        path: `.npz` with `Y`, `.npy`, a WRENCH file or folder, or a `.csv` with the columns
            `item` and `label`, whose items may be in any order and fewer or more than the votes'.
        tree: the task tree.
        num_items: n.
        items: the n names that a `.csv` speaks of; by default the row numbers.
        split: of a WRENCH folder.

    Returns:
        int32[n] node ids, or int32[n, r] for a forest with r roots; -1 = unknown.

    Raises:
        ValueError: malformed content, another length, or a label outside the tree (names the file
            and the row or line); no items, or item names of another number or that repeat.
        OSError: the file cannot be read.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "gold.csv")
        ...     _ = path.write_text("item,label\nb,dog\n")
        ...     tree = TaskTree.from_dict({"pet": ["cat", "dog"]})
        ...     read_gold(path, tree, 2, items=["a", "b"]).tolist()
        [-1, 1]
    """
    if num_items < 1:
        raise ValueError(f"num_items: got {num_items}, expected at least 1")
    path = file_of(Path(path), split)
    with named_in_errors(path):
        if path.suffix == ".json":
            label_names(path.parent)
            gold = read_wrench(path.parent, path.stem)[1].gold
        elif path.suffix in (".csv", ".tsv"):
            names = [str(i) for i in range(num_items)] if items is None else items
            if len(names) != num_items or len(set(names)) < num_items:
                raise ValueError(
                    f"items: got {len(names)} names, {len(set(names))} of them distinct, for "
                    f"{num_items} items"
                )
            return _read_gold_lines(path, tree, names)
        elif path.suffix in (".npz", ".npy"):
            arrays = matching_arrays(path, "Y")
            if "Y" not in arrays:
                raise ValueError("no array Y of gold labels")
            gold = arrays["Y"]
        else:
            raise ValueError("gold labels are read from .npz (Y), .npy, .csv, .tsv or .json")
        if not np.issubdtype(gold.dtype, np.integer):
            raise ValueError(f"gold: got dtype {gold.dtype}, expected integers (node ids)")
        if gold.shape not in ((num_items,), (num_items, len(tree.roots))):
            raise ValueError(f"gold: got shape {gold.shape}, the votes have {num_items} items")
        bad = np.argwhere((gold < -1) | (gold >= tree.num_nodes))
        if len(bad):
            raise ValueError(
                f"gold: row {bad[0][0]}: got {gold[tuple(bad[0])]}, expected a node id in "
                f"0..{tree.num_nodes - 1}, or -1 (unknown)"
            )
        return gold.astype(np.int32)


def _read_gold_lines(path: Path, tree: TaskTree, items: Sequence[str]) -> np.ndarray:
    """int32[n] or int32[n, r] node ids of a `.csv` of items and labels."""
    rows = {item: row for row, item in enumerate(items)}
    nodes = LabelNodes(tree)
    gold = np.full((len(rows), len(tree.roots)), -1, np.int32)
    lines = read_lines(path, ("item", "label"))
    for number, (item, label) in lines:
        node = nodes(number, label)
        if item not in rows:
            continue
        cell = rows[item], int(tree.node_root[node])
        if gold[cell] not in (-1, node):
            raise ValueError(f"line {number}: item {item!r} had another label before")
        gold[cell] = node
    if (gold < 0).all():
        raise ValueError(
            f"gold: none of its items is one of the votes', e.g. {lines[0][1][0]!r} and "
            f"{items[0]!r}"
        )
    return gold if len(tree.roots) > 1 else gold[:, 0]
