"""`metal-jax evaluate`: how right a trained network is on items with gold labels."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metal_jax.cli._common import (
    MODEL_VOTES_HELP,
    add_gold_option,
    add_output_options,
    add_split_option,
    plain_console,
    plain_table,
    show,
    split_of,
)
from metal_jax.cli._items import ITEMS_HELP, Items, match_items
from metal_jax.cli._predict import add_model_arguments, best_nodes, paths, predict_items
from metal_jax.cli._progress import quiet_progress

if TYPE_CHECKING:
    from metal_jax import network
    from metal_jax.task_tree import TaskTree

_MOST_BUCKETS_SHOWN = 15

_EPILOG = f"""{ITEMS_HELP}
{MODEL_VOTES_HELP}

A task's accuracy is over the items whose gold label says something of it; its label is the most
probable one given that the task applies. The path's accuracy is that of the most probable path.
With --votes: the votes that go with mistakes, those with most errors beyond their share first.

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
    add_gold_option(parser, "to compare with", required=True)
    parser.add_argument(
        "--votes",
        type=Path,
        metavar="VOTES",
        help="votes on the items: errors by vote",
    )
    add_split_option(parser)
    add_output_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from metal_jax import labeling, network

    with quiet_progress(options) as say:
        model, items, predictions = predict_items(options, say)
        gold = labeling.read_gold(
            options.gold, model.tree, items.num_items, items=items.names, split=split_of(options)
        )
        if (gold < 0).all():
            raise ValueError(f"{options.gold}: gold: no item has a label")
        say("comparing")
        evaluation = network.evaluate_model(model, predictions, gold)
        about: dict[str, Any] = {
            "model": str(options.model),
            "items": items.num_items,
            **network.evaluation_record(evaluation, model.tree),
        }
        if options.votes is not None:
            about["votes"] = _error_buckets(options, model, items, predictions, gold)
    return show(options, about, _print, model.tree)


def votes_on_items(
    options: argparse.Namespace, tree: TaskTree, items: Items
) -> tuple[np.ndarray, list[str]]:
    """The votes of `--votes` on the items, -1 on those it does not have, and the LFs' names."""
    from metal_jax import labeling
    from metal_jax.cli import _votes

    file = labeling.read_votes(options.votes, tree, split=split_of(options))
    ordered = options.votes.suffix not in (".csv", ".tsv")
    sources = options.items, options.votes
    rows = match_items(items, len(file.votes), file.items, sources, ordered=ordered)
    votes = np.where((rows >= 0)[:, None], file.votes[rows], labeling.ABSTAIN)
    return votes, _votes.lf_names(file)


def _error_buckets(
    options: argparse.Namespace,
    model: network.Model,
    items: Items,
    predictions: network.Predictions,
    gold: np.ndarray,
) -> dict[str, Any]:
    """Path accuracy by the number of votes on an item, and the votes that go with mistakes."""
    from metal_jax import network

    votes, names = votes_on_items(options, model.tree, items)
    labels = _path_labels(model.tree, gold)
    known = (labels >= 0).any(axis=1)
    right = np.all((paths(model, predictions) == labels) | (labels < 0), axis=1)
    number = (votes >= 0).sum(axis=1)
    groups = {"0": number == 0, "1": number == 1, "2": number == 2, "3 or more": number > 2}
    by_number = {}
    for name, chosen in groups.items():
        chosen = chosen & known
        accuracy = float(right[chosen].mean()) if chosen.any() else None
        by_number[name] = {"items": int(chosen.sum()), "path_accuracy": accuracy}
    best = best_nodes(model.tree, predictions.leaf_probs)
    buckets = network.error_buckets(votes, best, gold, model.tree, lf_names=names)
    return {"by_number_of_votes": by_number, "buckets": [b._asdict() for b in buckets]}


def _path_labels(tree: TaskTree, nodes: np.ndarray) -> np.ndarray:
    """int[n, t], each task's label on the paths to the nodes of an item, -1 off them."""
    columns = nodes.reshape(len(nodes), -1).T
    return np.max([tree.task_labels(column) for column in columns], axis=0)


def _print(about: dict[str, Any], tree: TaskTree) -> None:
    from metal_jax import network

    console = plain_console()
    path, hierarchical = about["path"], about["hierarchical"]
    console.print(f"{path['num_items']:,} of {about['items']:,} items have a gold label")
    columns = ["items", "accuracy", "macro F1", "log loss", "calibration error"]
    fields = ("accuracy", "macro_f1", "log_loss", "calibration_error")
    table = plain_table(["task"], columns)
    for task, nodes in zip(tree.tasks, tree.task_nodes, strict=True):
        row, indent = about["tasks"][task.name], "  " * int(tree.node_depth[nodes.start])
        cells = (_cell(row[field]) for field in fields)
        table.add_row(indent + task.name, f"{row['num_items']:,}", *cells)
    levels = about["levels"] if tree.depth > 1 else []
    rows = [*((f"level {depth}", level) for depth, level in enumerate(levels)), ("path", path)]
    for name, row in rows:
        cells = (_cell(row[field]) for field in fields[:2])
        table.add_row(name, f"{row['num_items']:,}", *cells, "", "")
    console.print(table)
    if tree.depth > 1:
        parts = [f"{name} {_cell(value)}" for name, value in hierarchical.items()]
        console.print(f"hierarchical {', '.join(parts)}")
    if "votes" not in about:
        return
    table = plain_table(["votes on the item"], ["items", "path accuracy"])
    for name, row in about["votes"]["by_number_of_votes"].items():
        table.add_row(name, f"{row['items']:,}", _cell(row["path_accuracy"]))
    console.print(table)
    buckets = [network.ErrorBucket(**bucket) for bucket in about["votes"]["buckets"]]
    console.print(network.format_error_buckets(buckets, most=_MOST_BUCKETS_SHOWN), markup=False)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
