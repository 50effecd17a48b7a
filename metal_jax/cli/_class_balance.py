"""The class balance as `--class-balance` gives it: numbers, or a file of them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metal_jax._core.archives import load_arrays

if TYPE_CHECKING:
    from metal_jax.task_tree import TaskTree


def add_class_balance_option(parser: argparse.ArgumentParser) -> None:
    """The option of every command that fits a label model."""
    parser.add_argument(
        "--class-balance",
        metavar="A,B,C|FILE",
        help="the leaves' prior, kept fixed: numbers, or a file: .npz with class_balance (such as "
        "an earlier output), .npy, .json (list, or name -> number) or text; default: estimated",
    )


def read_class_balance(options: argparse.Namespace, tree: TaskTree) -> np.ndarray | None:
    """The numbers of `--class-balance`, one for each leaf; the fit checks their sum.

    Args:
        options: of `add_class_balance_option`.
        tree: the task tree.

    Returns:
        float[leaves], or None where the option is not given.

    Raises:
        ValueError: not a probability for each leaf; says which.
    """
    from metal_jax.cli import _votes

    text = options.class_balance
    if text is None:
        return None
    leaves = _votes.leaf_names(tree)
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = _read_file(Path(text), leaves)
    array = np.asarray(values)
    if array.shape != (len(leaves),):
        some = ", ".join(leaves[:10]) + (", ..." if len(leaves) > 10 else "")
        raise ValueError(
            f"--class-balance: got {array.size} values, expected {len(leaves)} ({some})"
        )
    bad = ~((array > 0) & (array <= 1))
    if bad.any():
        leaf = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"--class-balance: {leaves[leaf]}: got {array[leaf]:g}, expected a probability: a "
            "number above 0 and at most 1, such as 0.3,0.7"
        )
    return array


def _read_file(path: Path, leaves: list[str]) -> Any:
    if not path.exists():
        raise ValueError(f"--class-balance: {str(path)!r} is neither numbers (0.7,0.3) nor a file")
    try:
        if path.suffix in (".npz", ".npy"):
            name = "class_balance"
            return np.asarray(load_arrays(path, name, alone=name)[name], float)
        content = path.read_text(encoding="utf-8")
        if path.suffix != ".json":
            return [float(part) for part in content.replace(",", " ").split()]
        values = json.loads(content)
        if isinstance(values, Mapping):
            if set(values) != set(leaves):
                raise ValueError(f"expected the names {', '.join(leaves)}")
            values = [values[leaf] for leaf in leaves]
        return np.asarray(values, float)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"--class-balance: {path}: {error}") from error
