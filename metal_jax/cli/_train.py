"""`metal-jax train`: votes and raw items in, a trained network out."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metal_jax.cli._class_balance import add_class_balance_option
from metal_jax.cli._common import (
    TREE_HELP,
    VOTES_HELP,
    add_gold_option,
    add_out_option,
    add_output_options,
    add_votes_options,
    check_writable,
    plain_console,
    plain_table,
    show,
    write_json,
)
from metal_jax.cli._items import ITEMS_HELP, Items, read_items
from metal_jax.cli._methods import METHODS
from metal_jax.cli._progress import quiet_progress
from metal_jax.cli._train_options import (
    ENCODERS,
    add_network_options,
    add_training_options,
    fit_config,
)

if TYPE_CHECKING:
    from metal_jax import network
    from metal_jax.cli._soft_labels import SoftLabels
    from metal_jax.cli._training_split import Targets

_AUTO = {"texts": "bag", "features": "features", "embeddings": "embeddings"}

_EPILOG = f"""{VOTES_HELP}
{TREE_HELP}
{ITEMS_HELP}
Items and votes are matched by name where both have names, otherwise by order.

DIR gets
  model          what metal-jax predict and evaluate read: tree, encoder, vocabulary, parameters
  checkpoints    the training: a run that was stopped goes on with the same command
  training.json  the summary and the learning curves, for metal-jax report

Encoders:
{chr(10).join(f"  {name:<11} {what}" for name, what in ENCODERS.items())}

Examples:
  metal-jax train --votes votes.npz --features texts.jsonl --tree tree.json --out model
  metal-jax label votes.npz --out probs.npz
  metal-jax train --labels probs.npz --features x.npz --out model --widths 128,64 --log runs.jsonl
"""


def add_command(commands: Any) -> None:
    """Add the command to the parser's sub-commands."""
    parser = commands.add_parser(
        "train",
        help="train the network of a task tree on votes or soft labels",
        description="Train a network on the soft labels of a label model; no gold label is needed.",
        epilog=_EPILOG,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--votes", type=Path, metavar="VOTES", help="votes; labelled on the way")
    source.add_argument(
        "--labels", type=Path, metavar="FILE", help="soft labels, as metal-jax label writes them"
    )
    parser.add_argument(
        "--features", type=Path, required=True, metavar="ITEMS", help="what the network reads"
    )
    add_out_option(parser, metavar="DIR")
    add_votes_options(parser)
    parser.add_argument(
        "--method", choices=METHODS, default="default", help="label model (default: default)"
    )
    add_class_balance_option(parser)
    add_gold_option(parser, "of the items, for early stopping and --calibrate only")
    add_network_options(parser)
    add_training_options(parser)
    parser.add_argument("--verbose", action="store_true", help="also draw the network")
    add_output_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    _check_folder(options.out)
    if options.log is not None:
        check_writable(options.log, options.votes, options.labels, options.features, options.gold)
    if not 0 < options.validation < 1:
        raise ValueError(f"--validation: got {options.validation}, expected a share in (0, 1)")
    if options.class_balance is not None and options.votes is None:
        raise ValueError("--class-balance: is for the label model, so it goes with --votes")
    if options.calibrate and options.gold is None:
        raise ValueError("--calibrate: wants gold labels of some items; give them by --gold")
    from metal_jax.cli import _soft_labels  # loads JAX

    with quiet_progress(options) as say:
        say("reading items")
        items = read_items(options.features)
        encoder = _encoder(options.encoder, items, options.features)
        say("labelling")
        read = _soft_labels.labels_from_file if options.votes is None else None
        labels = (read or _soft_labels.labels_from_votes)(options, items)
        about = _fit(options, items, encoder, labels, say)
    return show(options, about, _print, options.verbose)


def _check_folder(folder: Path) -> None:
    if folder.is_dir():
        ours = any((folder / name).is_dir() for name in ("model", "checkpoints"))
        if not ours and any(folder.iterdir()):
            raise ValueError(f"{folder}: holds something else than a training; give another folder")
        if not os.access(folder, os.W_OK):
            raise ValueError(f"{folder}: is not writable")
    elif folder.exists():
        raise ValueError(f"{folder}: is a file, expected a folder to write")
    elif not folder.absolute().parent.is_dir():
        raise ValueError(f"{folder}: there is no folder {folder.absolute().parent}")


def _encoder(name: str, items: Items, path: Path) -> Any:
    if name == "auto":
        return _AUTO[items.kind]
    reads_texts = ENCODERS[name].startswith("texts")
    if reads_texts != (items.kind == "texts"):
        able = [e for e, what in ENCODERS.items() if what.startswith("texts") != reads_texts]
        raise ValueError(
            f"--encoder {name}: {path} holds {items.kind}; those that read them: {', '.join(able)}"
        )
    return name


def _fit(
    options: argparse.Namespace, items: Items, encoder: Any, labels: SoftLabels, say: Any
) -> dict[str, Any]:
    """Train, save the model, and tell what happened."""
    import jax

    from metal_jax import network
    from metal_jax.cli._training_split import split_items

    training, held_out, numbers = split_items(options, items, labels)
    say("preparing the network's input")
    inputs = network.fit_inputs(encoder, items.values)
    arrays = inputs.encode(items.values)

    def inputs_of(targets: Targets) -> Any:
        return jax.tree.map(lambda x: x[targets.rows], arrays)

    def examples(targets: Targets) -> network.Examples:
        told = (targets.leaf_probs, targets.weights, targets.task_mask)
        return network.Examples(inputs_of(targets), *told)

    net = network.build(
        labels.tree, inputs.encoder, network.NetworkConfig(options.widths, dropout=options.dropout)
    )
    checkpoints = None
    if not options.debug:
        # Orbax warns when a save waits for the one before it, as on a busy machine.
        logging.getLogger("absl").setLevel(logging.ERROR)
    if not options.no_checkpoints:
        # What the training's own identity does not tell apart.
        metadata = {"network": dataclasses.asdict(net.config), "encoder": encoder}
        checkpoints = network.CheckpointConfig(options.out / "checkpoints", metadata=metadata)
    steps: list[int] = []

    def on_progress(step: int, scores: dict[str, np.ndarray]) -> None:
        steps.append(step)
        loss = float(scores["valid_loss"][0])
        say.count("training", step, options.steps, "steps", note=f"held-out loss {loss:.4f}")

    say("training")
    try:
        result = network.fit(
            net,
            examples(training),
            examples(held_out),
            fit_config(options, encoder),
            key=jax.random.key(options.seed),
            on_progress=on_progress,
            log=None if options.log is None else network.LogConfig(options.log),
            checkpoints=checkpoints,
        )
    except KeyboardInterrupt:
        if not steps:
            raise
        kept = "; with --no-checkpoints nothing is kept"
        if checkpoints is not None:
            kept = "; run the same command again, and it goes on from there"
        raise KeyboardInterrupt(f"interrupted after step {steps[-1]}{kept}") from None
    if not np.isfinite(result.valid_loss).any():
        raise RuntimeError("the training diverged: try a smaller --learning-rate")
    temperatures = None
    if options.calibrate:
        say("calibrating")
        gold = np.asarray(held_out.gold)
        found = network.calibrate(net, result.params, inputs_of(held_out), gold)
        temperatures = tuple(found.tolist())
    say("saving")
    untrained = {*labels.unsupervised_tasks, *result.unsupervised_tasks}
    untrained = tuple(task.name for task in labels.tree.tasks if task.name in untrained)
    model = network.Model(labels.tree, inputs, result.params, net.config, temperatures, untrained)
    network.save_model(options.out / "model", model)
    about = {
        "items": {"file": str(options.features), "kind": items.kind, "number": items.num_items},
        "labels": labels.about,
        **numbers,
        "unsupervised_tasks": list(untrained),
        "encoder": encoder,
        "network": network.draw(net, jax.tree.map(lambda x: x[:1], arrays)),
        "num_params": sum(x.size for x in jax.tree.leaves(result.params)),
        "num_steps": result.num_steps,
        "resumed_at": _resumed_at(steps, result.num_steps, options.evaluate_every),
        "best_step": int(result.best_step),
        "train_loss": [float(result.train_loss[0]), float(result.train_loss[-1])],
        "held_out_loss": {
            "first": float(result.valid_loss[0]),
            "best": float(np.nanmin(result.valid_loss)),
            "last": float(result.valid_loss[-1]),
        },
        "temperatures": None
        if temperatures is None
        else dict(zip([task.name for task in labels.tree.tasks], temperatures, strict=True)),
        "seconds": float(result.seconds.sum()),
        "model": str(options.out / "model"),
        "checkpoints": None if checkpoints is None else str(checkpoints.folder),
        "log": None if options.log is None else str(options.log),
    }
    last, every = result.num_steps, options.evaluate_every
    curves = {
        "steps": [min((i + 1) * every, last) for i in range(len(result.train_loss))],
        "train_loss": result.train_loss.tolist(),
        "valid_scores": {name: scores.tolist() for name, scores in result.valid_scores.items()},
    }
    write_json(options.out / "training.json", {**about, "curves": curves})
    return about


def _resumed_at(steps: list[int], num_steps: int, every: int) -> int | None:
    """The step a training was taken up at; None for a new one."""
    if not steps:
        return num_steps
    return steps[0] - every if steps[0] > every else None


def _print(about: dict[str, Any], verbose: bool) -> None:
    from metal_jax.cli import _votes

    console = plain_console()
    source = about["items"]
    console.print(f"{source['file']}: {source['number']:,} items ({source['kind']})")
    labels = about["labels"]
    if "votes" in labels:
        console.print(_votes.size_line(labels))
        console.print(_votes.coverage_line(labels))
        if not labels["converged"]:
            console.print("warning: the label model did not converge; the labels may be off")
    else:
        console.print(f"{labels['file']}: soft labels of {labels['classes']} leaves")
    left_out = {"drop": "not taught", "keep": "taught the prior"}[about["uncovered"]]
    console.print(
        f"{about['covered_items']:,} items have a vote; {about['uncovered_items']:,} have none: "
        f"{left_out}"
    )
    if about["unsupervised_tasks"]:
        console.print(
            f"warning: no labels for {', '.join(about['unsupervised_tasks'])}: left out of the "
            "loss, what the model says of them means nothing"
        )
    by = "their soft labels" if about["gold"] is None else f"gold labels of {about['gold']}"
    console.print(
        f"training on {about['training_items']:,} items; {about['held_out_items']:,} held out for "
        f"early stopping by {by}"
    )
    if verbose:
        console.print(about["network"])
    else:
        console.print(
            f"network: {about['network'].partition(chr(10))[0]}, encoder {about['encoder']}, "
            f"{about['num_params']:,} parameters"
        )
    table = plain_table(["loss"], ["first", "best", "last"])
    held_out, train = about["held_out_loss"], about["train_loss"]
    table.add_row("training", f"{train[0]:.4f}", "", f"{train[1]:.4f}")
    table.add_row("held out", *(f"{held_out[name]:.4f}" for name in ("first", "best", "last")))
    console.print(table)
    resumed = about["resumed_at"]
    console.print(
        f"{about['num_steps']} steps, best after {about['best_step']}, {about['seconds']:.1f} s"
        + ("" if resumed is None else f"; taken up at step {resumed}")
    )
    if about["temperatures"] is not None:
        fitted = ", ".join(f"{name} {value:.2f}" for name, value in about["temperatures"].items())
        console.print(f"temperatures: {fitted}")
    console.print(f"wrote {about['model']}")
