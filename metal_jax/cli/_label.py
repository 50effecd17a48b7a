"""`metal-jax label`: votes in, soft labels out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metal_jax._core.archives import save_arrays
from metal_jax.cli._class_balance import add_class_balance_option, read_class_balance
from metal_jax.cli._common import (
    TREE_HELP,
    VOTES_HELP,
    add_gold_option,
    add_out_option,
    add_output_options,
    add_seed_option,
    add_votes_options,
    check_suffix,
    check_writable,
    plain_console,
    plain_table,
    replaced,
    show,
    split_of,
)
from metal_jax.cli._export import summary, write_exported
from metal_jax.cli._label_stream import label_votes_stream
from metal_jax.cli._methods import METHODS, Fitted, check_options, fit
from metal_jax.cli._progress import Say, quiet_progress

if TYPE_CHECKING:
    from metal_jax.labeling import VoteFile
    from metal_jax.task_tree import TaskTree

_MOST_CLASSES_SHOWN = 30
_PART = 2**18
_RESERVED = (
    "probs", "leaf_probs", "leaf_names", "lf_accuracy", "class_balance", "num_votes", "items",
    "workers",
)  # fmt: skip

_EPILOG = f"""{VOTES_HELP}
{TREE_HELP}

The output is an .npz, written in one step, of
  probs          float[items, k] of a single task, in the order of leaf_names
  <task>         of several tasks instead: float[items, labels of the task]; a row sums to the
                 probability that the task applies to the item
  leaf_probs     then also: float[items, leaves]
  leaf_names     the classes, or leaves; task=label if several tasks have the label
  lf_accuracy    float[LFs], the chance that a vote is right; NaN for an LF without votes
  class_balance  float[leaves], the prior that the model ended up with
  num_votes      int[items], votes on each item; the labels of one with 0 are only the prior
  items, workers the names in the order of rows and columns, where the votes have names

With --stream VOTES is .npy, .npz with L, or .parquet, and --out a folder, which gets
  labels/        the soft labels, float32[items, leaves] in files of some million items each
  model.npz      leaf_names, lf_accuracy, class_balance
  fit.npz        the fit, by which the same command goes on where it was stopped

Methods:
{chr(10).join(f"  {name:<17} {method.summary}" for name, method in METHODS.items())}

Examples:
  metal-jax label votes.npz --out probs.npz
  metal-jax label crowd.csv --method dawid_skene --class-balance 0.7,0.3 --out probs.npz
  metal-jax label --fit train.npz --predict test.npz --tree tree.json --out test_probs.npz
  metal-jax label large.npy --num-classes 5 --stream --out labels
"""


def add_command(commands: Any) -> None:
    """Add the command to the parser's sub-commands."""
    parser = commands.add_parser(
        "label",
        help="soft labels from votes: fit a label model and write its posterior",
        description="Fit a label model to votes and write the soft labels of every item.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "votes", type=Path, nargs="?", metavar="VOTES", help="votes to fit and label"
    )
    parser.add_argument(
        "--fit", type=Path, metavar="FILE", help="votes to fit, if others are labelled"
    )
    parser.add_argument("--predict", type=Path, metavar="FILE", help="votes to label after --fit")
    add_out_option(parser, "probs.npz")
    add_votes_options(parser)
    parser.add_argument(
        "--method", choices=METHODS, default="default", help="see below (default: default)"
    )
    parser.add_argument(
        "--stream",
        action="store_true",
        help="votes larger than memory: never all of them in it; --out is a folder then, and a run "
        "that was stopped goes on with the same command",
    )
    add_class_balance_option(parser)
    add_gold_option(
        parser, "of items to fit, for methods that use them; the output agrees with them"
    )
    add_seed_option(parser)
    parser.add_argument(
        "--export",
        type=Path,
        metavar="FILE",
        help="also write the fitted model as a function of votes that needs JAX alone; see "
        "metal-jax export",
    )
    add_output_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if options.stream:
        return label_votes_stream(options)
    path, predict = _inputs(options)
    inputs = (path, predict, options.gold, options.tree)
    check_suffix(options.out, ".npz")
    check_writable(options.out, *inputs)
    if options.export is not None:
        check_writable(options.export, *inputs)
    from metal_jax.cli import _votes  # loads JAX

    with quiet_progress(options) as say:
        say("reading votes")
        file = _votes.read_votes(options, path)
        reserved = [task.name for task in file.tree.tasks if task.name in _RESERVED]
        if file.tree.num_tasks > 1 and reserved:
            raise ValueError(
                f"{options.tree}: task {reserved[0]!r} has the name of an array of the output; "
                "rename it"
            )
        gold = _votes.read_gold(options, file)
        balance = read_class_balance(options, file.tree)
        check_options(options.method, class_balance=balance, gold=gold)
        new, num_ignored = (file, 0) if predict is None else _new_votes(predict, file, options)
        say(f"fitting the label model ({options.method})")
        fitted = fit(
            options.method,
            file.votes,
            file.tree,
            class_balance=balance,
            gold=gold,
            seed=options.seed,
        )
        say("labelling")
        known = {"gold": gold} if gold is not None and predict is None else {}
        probs = _posterior(options.method, fitted, new.votes, known, say)
        if not np.isfinite(probs).all():
            raise RuntimeError(f"method {options.method!r} gave labels that are not finite")
        arrays = _arrays(probs, fitted, new, file)
        with replaced(options.out) as out:
            save_arrays(out, arrays)
        exported = None if options.export is None else _export(options.export, fitted, file)

    voted = (new.votes >= 0).any(1)
    shares = probs[voted].mean(0) if voted.any() else probs.mean(0)
    leaves = _votes.leaf_names(file.tree)
    about = {
        "votes": _votes.describe_votes(file, path),
        "predict": None if predict is None else _votes.describe_votes(new, predict),
        "ignored_lfs": num_ignored,
        "method": options.method,
        "gold_labels": None if gold is None else int((gold >= 0).sum()),
        "converged": fitted.converged,
        "status": fitted.status,
        "num_steps": fitted.num_steps,
        "class_balance": dict(zip(leaves, map(float, fitted.class_balance), strict=True)),
        "label_shares": dict(zip(leaves, map(float, shares), strict=True)),
        "unlabelled_items": int((~voted).sum()),
        "lf_accuracy": dict(
            zip(_votes.lf_names(file), map(float, fitted.lf_accuracy), strict=True)
        ),
        "out": str(options.out),
        "arrays": {name: list(array.shape) for name, array in arrays.items()},
        "export": exported,
    }
    return show(options, about, _print, balance is not None)


def _posterior(
    method: str, fitted: Fitted, votes: np.ndarray, known: dict[str, Any], say: Say
) -> np.ndarray:
    """The soft labels, of many items in parts so that one sees how far it is."""
    if len(votes) <= _PART or method == "glad":  # which estimates a difficulty of each item
        return fitted.posterior(votes, **known)
    parts = []
    for start in range(0, len(votes), _PART):
        say.count("labelling", start, len(votes))
        part = slice(start, start + _PART)
        parts.append(fitted.posterior(votes[part], **{k: v[part] for k, v in known.items()}))
    return np.concatenate(parts)


def _inputs(options: argparse.Namespace) -> tuple[Path, Path | None]:
    """The votes to fit, and those to label if they are others."""
    if (options.fit is None) != (options.predict is None):
        raise ValueError("--fit and --predict go together")
    if (options.votes is None) == (options.fit is None):
        raise ValueError("give either VOTES or --fit FILE --predict FILE (see metal-jax label -h)")
    return options.votes or options.fit, options.predict


def _new_votes(path: Path, fitted: VoteFile, options: argparse.Namespace) -> tuple[VoteFile, int]:
    """Votes on new items in the columns of the fitted ones; LFs that were not fitted are left out.

    Returns:
        The votes, and the number of LFs left out.
    """
    from metal_jax import labeling

    new = labeling.read_votes(path, fitted.tree, split=split_of(options))
    if new.lf_names is None or fitted.lf_names is None:
        counts = new.votes.shape[1], fitted.votes.shape[1]
        if counts[0] != counts[1]:
            raise ValueError(f"{path}: {counts[0]} LFs, the fitted votes have {counts[1]}")
        return new, 0
    place = {name: column for column, name in enumerate(fitted.lf_names)}
    known = [column for column, name in enumerate(new.lf_names) if name in place]
    if not known:
        raise ValueError(
            f"{path}: none of its LFs or workers was fitted, e.g. {new.lf_names[0]!r} and "
            f"{fitted.lf_names[0]!r}"
        )
    votes = np.full((len(new.votes), len(place)), labeling.NOT_ASKED, np.int64)
    votes[:, [place[new.lf_names[column]] for column in known]] = new.votes[:, known]
    num_ignored = len(new.lf_names) - len(known)
    votes = labeling.validate(votes, fitted.tree)
    return new._replace(votes=votes, lf_names=fitted.lf_names), num_ignored


def _arrays(
    probs: np.ndarray, fitted: Fitted, new: VoteFile, file: VoteFile
) -> dict[str, np.ndarray]:
    """The arrays of the output, by name."""
    from metal_jax import task_tree
    from metal_jax.cli import _votes

    tree: TaskTree = file.tree
    arrays: dict[str, np.ndarray] = {}
    if tree.num_tasks == 1:
        arrays["probs"] = probs
    else:
        marginals = np.asarray(task_tree.node_sum(tree, probs))
        for task, nodes in zip(tree.tasks, tree.task_nodes, strict=True):
            arrays[task.name] = marginals[:, nodes.start : nodes.stop]
        arrays["leaf_probs"] = probs
    arrays["leaf_names"] = np.asarray(_votes.leaf_names(tree), str)
    arrays["lf_accuracy"] = fitted.lf_accuracy
    arrays["class_balance"] = fitted.class_balance
    arrays["num_votes"] = (new.votes >= 0).sum(axis=1)
    if new.items is not None:
        arrays["items"] = np.asarray(new.items, str)
    if file.lf_names is not None:
        arrays["workers"] = np.asarray(file.lf_names, str)
    return arrays


def _export(path: Path, fitted: Fitted, file: VoteFile) -> dict[str, Any]:
    """Write the posterior as a function of votes; what is said about it."""
    import jax

    from metal_jax import export

    assert fitted.function is not None
    example = jax.ShapeDtypeStruct((1, file.votes.shape[1]), np.int32)
    lowered = export.lower(fitted.function(), example)
    return write_exported(path, lowered, file.tree, len(file.votes))


def _print(about: dict[str, Any], fixed: bool) -> None:
    from metal_jax.cli import _votes

    console = plain_console()
    console.print(_votes.size_line(about["votes"]))
    console.print(_votes.coverage_line(about["votes"]))
    if about["predict"]:
        console.print("labelled: " + _votes.size_line(about["predict"]))
        console.print(_votes.coverage_line(about["predict"]))
    if about["ignored_lfs"]:
        console.print(f"{about['ignored_lfs']} of its LFs or workers were not fitted: left out")
    gold = f", {about['gold_labels']} gold labels" if about["gold_labels"] is not None else ""
    console.print(
        f"label model: {about['method']}{gold}; {about['num_steps']} steps, {about['status']}"
    )
    if not about["converged"]:
        console.print("warning: the fit did not converge; the labels may be off")
    accuracy = {name: a for name, a in about["lf_accuracy"].items() if a == a}
    low, high = min(accuracy, key=accuracy.__getitem__), max(accuracy, key=accuracy.__getitem__)
    console.print(
        f"estimated LF accuracy: median {np.median(list(accuracy.values())):.3f}, lowest "
        f"{accuracy[low]:.3f} (LF {low}), highest {accuracy[high]:.3f} (LF {high})"
    )
    balance = "balance" + (" (given)" if fixed else "")
    table = plain_table(["class"], [balance, "share of labels"])
    shown = sorted(about["label_shares"], key=lambda leaf: -about["label_shares"][leaf])
    shown = set(shown[:_MOST_CLASSES_SHOWN])
    for leaf, share in about["label_shares"].items():
        if leaf in shown:
            table.add_row(leaf, f"{about['class_balance'][leaf]:.3f}", f"{share:.3f}")
    if len(about["label_shares"]) > len(shown):
        table.add_row(f"... {len(about['label_shares']) - len(shown)} smaller ones", "", "")
    console.print(table)
    if about["unlabelled_items"]:
        console.print(
            f"{about['unlabelled_items']:,} items have no vote: their labels are only the prior"
        )
    arrays = ", ".join(f"{name} {shape}" for name, shape in about["arrays"].items())
    console.print(f"wrote {about['out']}: {arrays}")
    if about["export"]:
        console.print("\n".join(summary(about["export"])))
