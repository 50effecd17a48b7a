"""`metal-jax evaluate`: how right a trained network is on items with gold labels."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metal_jax.cli._common import (
    VOTES_HELP,
    add_gold_option,
    add_output_options,
    plain_console,
    plain_table,
    print_json,
    quiet_progress,
)
from metal_jax.cli._items import ITEMS_HELP, Items, match_items
from metal_jax.cli._predict import add_model_arguments, paths, predict_items

if TYPE_CHECKING:
    from metal_jax import network

_MOST_LFS_SHOWN = 15

_EPILOG = f"""{ITEMS_HELP}
{VOTES_HELP}

A task's accuracy is over the items whose gold label says something of it; its label is the most
probable one given that the task applies. The path's accuracy is that of the most probable path.

Examples:
  metal-jax evaluate model test.jsonl --gold test.csv
  metal-jax evaluate model test.jsonl --gold test.csv --votes test_votes.npz --json
"""


def add_command(commands: Any) -> None:
    """Add the command to the parser's sub-commands."""
    parser = commands.add_parser(
        "evaluate",
        help="accuracy and calibration of a trained network",
        description="Compare a network's predictions with gold labels, task by task.",
        epilog=_EPILOG,
    )
    add_model_arguments(parser)
    add_gold_option(parser, "to compare with")
    parser.add_argument(
        "--votes", type=Path, metavar="VOTES", help="votes on the items: errors by LF and coverage"
    )
    parser.add_argument(
        "--split", default="train", help="split of a WRENCH folder (default: train)"
    )
    add_output_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if options.gold is None:
        raise ValueError("--gold: say what to compare with")
    from metal_jax import labeling

    with quiet_progress(options) as say:
        model, items, predictions = predict_items(options, say)
        gold = labeling.read_gold(
            options.gold, model.tree, items.num_items, items=items.names, split=options.split
        )
        if (gold < 0).all():
            raise ValueError(f"{options.gold}: gold: no item has a label")
        say("comparing")
        gold = gold.reshape(items.num_items, -1).T
        labels = np.max([model.tree.task_labels(nodes) for nodes in gold], axis=0)
        about = _evaluate(options, model, items, predictions, labels)
    if options.json:
        print_json(about)
    elif not options.quiet:
        _print(about)
    return 0


def _evaluate(
    options: argparse.Namespace,
    model: network.Model,
    items: Items,
    predictions: network.Predictions,
    gold: np.ndarray,
) -> dict[str, Any]:
    from metal_jax import metrics

    tree = model.tree
    path = paths(model, predictions)
    conditionals = []
    for nodes in tree.task_nodes:
        mass = predictions.node_probs[:, nodes.start : nodes.stop]
        conditionals.append(mass / np.maximum(mass.sum(axis=1, keepdims=True), 1e-30))
    chosen = np.stack([probs.argmax(axis=1) for probs in conditionals], axis=1)
    right = (chosen == gold) & (gold >= 0)
    tasks = {}
    for t, task in enumerate(tree.tasks):
        numbers = {
            "accuracy": metrics.accuracy(chosen[:, t], gold[:, t]),
            "log_loss": metrics.log_loss(conditionals[t], gold[:, t]),
            "calibration_error": metrics.expected_calibration_error(conditionals[t], gold[:, t]),
        }
        tasks[task.name] = {
            "depth": int(tree.node_depth[tree.task_nodes[t][0]]),
            "items": int((gold[:, t] >= 0).sum()),
            **{name: float(value) for name, value in numbers.items()},
        }
    levels = []
    for level in tree.levels:
        number = int((gold[:, level.tasks] >= 0).sum())
        hits = int(right[:, level.tasks].sum())
        levels.append({"labels": number, "accuracy": hits / number if number else float("nan")})
    known = np.any(gold >= 0, axis=1)
    right_path = np.all((path == gold) | (gold < 0), axis=1)
    about: dict[str, Any] = {
        "model": str(options.model),
        "items": items.num_items,
        "gold_items": int(known.sum()),
        "path_accuracy": float(metrics.path_accuracy(path, gold)),
        "levels": levels,
        "tasks": tasks,
    }
    if options.votes is not None:
        about["votes"] = _error_buckets(options, model, items, right_path, known)
    return about


def _error_buckets(
    options: argparse.Namespace,
    model: network.Model,
    items: Items,
    right: np.ndarray,
    known: np.ndarray,
) -> dict[str, Any]:
    """Path accuracy by the number of votes on an item, and where each LF voted."""
    from metal_jax import labeling
    from metal_jax.cli import _votes

    file = labeling.read_votes(options.votes, model.tree, split=options.split)
    ordered = options.votes.suffix not in (".csv", ".tsv")
    sources = options.items, options.votes
    rows = match_items(items, len(file.votes), file.items, sources, ordered=ordered)
    cast = (file.votes[rows] >= 0) & (rows >= 0)[:, None]
    number = cast.sum(axis=1)
    groups = {"0": number == 0, "1": number == 1, "2": number == 2, "3 or more": number > 2}

    def bucket(chosen: np.ndarray) -> dict[str, Any]:
        chosen = chosen & known
        accuracy = float(right[chosen].mean()) if chosen.any() else float("nan")
        return {"items": int(chosen.sum()), "path_accuracy": accuracy}

    return {
        "by_number_of_votes": {name: bucket(chosen) for name, chosen in groups.items()},
        "by_lf": {name: bucket(c) for name, c in zip(_votes.lf_names(file), cast.T, strict=True)},
    }


def _print(about: dict[str, Any]) -> None:
    console = plain_console()
    console.print(f"{about['gold_items']:,} of {about['items']:,} items have a gold label")
    columns = ["items", "accuracy", "log loss", "calibration error"]
    table = plain_table(["task"], columns)
    for name, row in about["tasks"].items():
        cells = (row[key] for key in ("accuracy", "log_loss", "calibration_error"))
        table.add_row("  " * row["depth"] + name, f"{row['items']:,}", *map(_cell, cells))
    for depth, level in enumerate(about["levels"] if len(about["levels"]) > 1 else ()):
        table.add_row(f"level {depth}", f"{level['labels']:,}", _cell(level["accuracy"]), "", "")
    table.add_row("path", f"{about['gold_items']:,}", _cell(about["path_accuracy"]), "", "")
    console.print(table)
    if "votes" not in about:
        return
    table = plain_table(["votes on the item"], ["items", "path accuracy"])
    for name, row in about["votes"]["by_number_of_votes"].items():
        table.add_row(name, f"{row['items']:,}", _cell(row["path_accuracy"]))
    console.print(table)
    voted = {name: row for name, row in about["votes"]["by_lf"].items() if row["items"]}
    worst = sorted(voted, key=lambda name: voted[name]["path_accuracy"])[:_MOST_LFS_SHOWN]
    table = plain_table(["where this LF votes"], ["items", "path accuracy"])
    for name in worst:
        table.add_row(name, f"{voted[name]['items']:,}", _cell(voted[name]["path_accuracy"]))
    console.print(table)


def _cell(value: float) -> str:
    return f"{value:.4f}" if value == value else "-"
