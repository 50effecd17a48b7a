"""`metal-jax predict`: what a trained network says of raw items."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metal_jax._core.archives import save_arrays
from metal_jax.cli._common import (
    add_out_option,
    add_output_options,
    check_suffix,
    check_writable,
    json_text,
    plain_console,
    plain_table,
    positive,
    replaced,
    show,
    write_csv,
)
from metal_jax.cli._export import model_folder
from metal_jax.cli._items import ITEMS_HELP, Items, read_items
from metal_jax.cli._progress import quiet_progress

if TYPE_CHECKING:
    from jax.typing import ArrayLike

    from metal_jax import network
    from metal_jax.task_tree import TaskTree

_SUFFIXES = (".npz", ".jsonl", ".csv")
_MOST_LABELS_SHOWN = 40

_EPILOG = f"""{ITEMS_HELP}

FILE is one of
  .npz    leaf_probs float[items, leaves] and node_probs float[items, nodes], the probability that
          an item's path goes through a node, with leaf_names, node_names and items
  .csv    a row an item: item, then for each task its label on the most probable path, blank where
          the task does not apply, and that label's probability
  .jsonl  an object an item: item, and for each task label, probability and those of all labels
Items without names go by their row numbers.

Example:
  metal-jax predict model texts.jsonl --out predictions.csv
"""


def add_command(commands: Any) -> None:
    """Add the command to the parser's sub-commands."""
    parser = commands.add_parser(
        "predict",
        help="labels and probabilities of new items",
        description="Predict items with a network that metal-jax train wrote.",
        epilog=_EPILOG,
    )
    add_model_arguments(parser)
    add_out_option(parser, "labels.csv")
    add_output_options(parser)
    parser.set_defaults(run=_run)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """A model's folder, items, and how many are read at once."""
    parser.add_argument("model", type=Path, metavar="DIR", help="what train wrote")
    parser.add_argument("items", type=Path, metavar="ITEMS", help="items, as for train")
    parser.add_argument(
        "--batch-size", type=positive, default=512, metavar="N", help="items at once (default: 512)"
    )


def predict_items(
    options: argparse.Namespace, say: Any
) -> tuple[network.Model, Items, network.Predictions]:
    """Load the model, read the items, predict them."""
    from metal_jax import network

    say("loading the model")
    model = load_model(options.model)
    say("reading items")
    items = read_items(options.items)
    if (model.inputs.reads == "texts") != (items.kind == "texts"):
        expected = {"texts": 'lines of JSON with "text"', "vectors": ".npz with x or embeddings"}
        raise ValueError(
            f"{options.items}: holds {items.kind}, but {options.model} was trained on "
            f"{model.inputs.reads}; expected {expected[model.inputs.reads]}"
        )
    say("predicting")
    try:
        predictions = network.predict(model, items.values, batch_size=options.batch_size)
    except ValueError as error:
        raise ValueError(f"{options.items}: {error}") from error
    return model, items, predictions


def load_model(folder: Path) -> network.Model:
    """The model of a folder that `train` wrote, or of the model's own."""
    from metal_jax import network

    return network.load_model(model_folder(folder))


def paths(model: network.Model, predictions: network.Predictions) -> np.ndarray:
    """int[n, t], each task's label on the most probable path, -1 off it."""
    nodes = best_nodes(model.tree, predictions.leaf_probs)
    return np.max([model.tree.task_labels(column) for column in nodes.T], axis=0)


def best_nodes(tree: TaskTree, leaf_probs: ArrayLike) -> np.ndarray:
    """int[n, r], the most probable leaf's node beneath each root."""
    probs = np.asarray(leaf_probs)
    columns = [tree.leaf_nodes[span][probs[:, span].argmax(axis=1)] for span in tree.root_leaves]
    return np.stack(columns, axis=1)


def _run(options: argparse.Namespace) -> int:
    check_suffix(options.out, *_SUFFIXES)
    check_writable(options.out, options.items)
    with quiet_progress(options) as say:
        model, items, predictions = predict_items(options, say)
        labels = paths(model, predictions)
        rows = _records(model, items, predictions, labels)
        if options.out.suffix == ".csv":
            write_csv(options.out, *_csv(model, rows))
        else:
            with replaced(options.out) as file:
                if options.out.suffix == ".npz":
                    save_arrays(file, _arrays(model, items, predictions))
                else:
                    file.writelines(f"{json_text(row)}\n".encode() for row in rows)
    about = {
        "model": str(options.model),
        "items": items.num_items,
        "untrained_tasks": list(model.untrained_tasks),
        "tasks": {
            task.name: {
                label: int((labels[:, t] == i).sum()) for i, label in enumerate(task.labels)
            }
            for t, task in enumerate(model.tree.tasks)
        },
        "out": str(options.out),
    }
    return show(options, about, _print)


def _arrays(
    model: network.Model, items: Items, predictions: network.Predictions
) -> dict[str, np.ndarray]:
    from metal_jax.cli import _votes

    arrays = {
        "leaf_probs": predictions.leaf_probs,
        "node_probs": predictions.node_probs,
        "leaf_names": np.asarray(_votes.leaf_names(model.tree), str),
        "node_names": np.asarray(_votes.node_names(model.tree), str),
    }
    if items.names is not None:
        arrays["items"] = np.asarray(items.names, str)
    return arrays


def _records(
    model: network.Model, items: Items, predictions: network.Predictions, labels: np.ndarray
) -> Iterator[dict[str, Any]]:
    """A record for each item, with "item" and the tasks by name."""
    tree = model.tree
    names = items.names or range(items.num_items)
    rows = zip(names, predictions.node_probs.astype(float), labels.tolist(), strict=True)
    for name, probs, chosen in rows:
        tasks = {}
        for task, nodes, label in zip(tree.tasks, tree.task_nodes, chosen, strict=True):
            of_labels = dict(zip(task.labels, probs[nodes.start : nodes.stop], strict=True))
            picked = None if label < 0 else task.labels[label]
            tasks[task.name] = {
                "label": picked,
                "probability": None if picked is None else float(of_labels[picked]),
                "probs": {label: float(p) for label, p in of_labels.items()},
            }
        yield {"item": name, "tasks": tasks}


def _csv(
    model: network.Model, rows: Iterator[dict[str, Any]]
) -> tuple[list[str], Iterator[list[Any]]]:
    """Header and lines of the .csv."""
    tasks = [task.name for task in model.tree.tasks]
    columns = [column for task in tasks for column in (task, f"{task} probability")]

    def line(row: dict[str, Any]) -> list[Any]:
        cells: list[Any] = [row["item"]]
        for task in tasks:
            found = row["tasks"][task]
            blank = found["label"] is None
            cells += ["", ""] if blank else [found["label"], f"{found['probability']:.6f}"]
        return cells

    return ["item", *columns], map(line, rows)


def _print(about: dict[str, Any]) -> None:
    console = plain_console()
    console.print(f"{about['items']:,} items, labels on their most probable paths")
    table = plain_table(["task", "label"], ["items", "share"])
    rows = [(t, label, n) for t, labels in about["tasks"].items() for label, n in labels.items()]
    for task, label, number in rows[:_MOST_LABELS_SHOWN]:
        table.add_row(task, label, f"{number:,}", f"{number / about['items']:.3f}")
    if len(rows) > _MOST_LABELS_SHOWN:
        table.add_row(f"... {len(rows) - _MOST_LABELS_SHOWN} more", "", "", "")
    console.print(table)
    if about["untrained_tasks"]:
        console.print(
            f"warning: {', '.join(about['untrained_tasks'])} had no labels to learn from; what the "
            "model says of them means nothing"
        )
    console.print(f"wrote {about['out']}")
