"""`metal-jax label --stream`: votes larger than memory, whose fit and labels go on where they were.

The folder of the output gets
  fit.npz      what the fit has done so far, after each pass over the votes
  labels/      the soft labels, a file for each part of the items, in their order
  model.npz    leaf_names, lf_accuracy and class_balance
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metal_jax._core.archives import save_arrays
from metal_jax.cli._class_balance import read_class_balance
from metal_jax.cli._common import plain_console, replaced, show
from metal_jax.cli._progress import Say, quiet_progress

if TYPE_CHECKING:
    from metal_jax.labeling import VoteStream
    from metal_jax.task_tree import TaskTree

_OURS = ("fit.npz", "labels", "model.npz")


def label_votes_stream(options: argparse.Namespace) -> int:
    """Fit and label a stream.

    Args:
        options: of `metal-jax label`.

    Returns:
        The exit status.
    """
    _check(options)
    from metal_jax import label_model, labeling
    from metal_jax.cli import _votes

    stream = labeling.VoteStream(options.votes)
    tree = _tree(options)
    leaves = _votes.leaf_names(tree)
    balance = read_class_balance(options, tree)
    options.out.mkdir(exist_ok=True)
    with quiet_progress(options) as say:
        try:
            result = label_model.fit_stream(
                stream,
                tree,
                balance,
                checkpoint=options.out / "fit.npz",
                on_progress=_teller(say, stream),
            )
            paths = label_model.label_stream(
                result, stream, options.out / "labels", on_progress=_teller(say, stream)
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted; what is done is kept in {options.out}: run the same command again, "
                "and it goes on from there"
            ) from None
    arrays = {
        "leaf_names": np.asarray(leaves, str),
        "lf_accuracy": np.asarray(label_model.lf_accuracy(result)),
        "class_balance": np.asarray(result.class_balance),
    }
    with replaced(options.out / "model.npz") as file:
        save_arrays(file, arrays)
    about = {
        "votes": {"file": str(options.votes), "items": stream.num_items, "lfs": stream.num_lfs},
        "method": "default",
        "converged": bool(result.converged),
        "status": result.status,
        "num_passes": int(result.num_steps),
        "class_balance": dict(zip(leaves, arrays["class_balance"].tolist(), strict=True)),
        "lf_accuracy": arrays["lf_accuracy"].tolist(),
        "out": str(options.out),
        "labels": [str(path) for path in paths],
    }
    return show(options, about, _print)


def _check(options: argparse.Namespace) -> None:
    folder: Path = options.out
    if options.votes is None:
        raise ValueError("--stream: give VOTES; it fits and labels the same votes")
    for name in ("gold", "export", "split"):
        if getattr(options, name) is not None:
            raise ValueError(f"--stream: takes no --{name}")
    if options.method != "default":
        raise ValueError(f"--stream: fits the default model, not --method {options.method}")
    if folder.is_dir():
        others = sorted({path.name for path in folder.iterdir()} - set(_OURS))
        if others:
            raise ValueError(f"{folder}: holds something else, {others[0]!r}; give another folder")
        if not os.access(folder, os.W_OK):
            raise ValueError(f"{folder}: is not writable")
    elif folder.exists():
        raise ValueError(f"{folder}: is a file, expected a folder to write")
    elif not folder.parent.is_dir():
        raise ValueError(f"{folder}: there is no folder {folder.parent}")


def _tree(options: argparse.Namespace) -> TaskTree:
    """The tree; of a single task its classes must be told, since nobody has seen all votes."""
    from metal_jax import task_tree

    if options.tree is not None:
        if options.num_classes is not None:
            raise ValueError("--num-classes: the --tree already says which classes there are")
        return task_tree.read_json(options.tree)
    if options.num_classes is None:
        raise ValueError("--stream: say which classes there are, with --tree or --num-classes")
    if options.num_classes < 2:
        raise ValueError(f"--num-classes: got {options.num_classes}, expected at least 2")
    return task_tree.TaskTree.single(options.num_classes)


def _teller(say: Say, stream: VoteStream) -> Callable[[str, int], None]:
    return lambda what, items: say.count(what, items, stream.num_items)


def _print(about: dict[str, Any]) -> None:
    console = plain_console()
    votes = about["votes"]
    console.print(f"{votes['file']}: {votes['items']:,} items, {votes['lfs']:,} LFs")
    console.print(f"label model: {about['num_passes']} passes, {about['status']}")
    if not about["converged"]:
        console.print("warning: the fit did not converge; the labels may be off")
    console.print(f"wrote {about['out']}: labels of {len(about['labels'])} parts, model.npz")
