"""Options of `metal-jax train` that say what the network is and how it is trained."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metal_jax.cli._common import add_seed_option, positive

if TYPE_CHECKING:
    from metal_jax import network

ENCODERS = {
    "bag": "texts: n-grams of a vocabulary, a linear layer over them",
    "lstm": "texts: bidirectional LSTM with attention over the tokens",
    "features": "vectors: standardised, a multilayer perceptron",
    "embeddings": "vectors: as they are",
}
_WEIGHT_DECAY = {"bag": 0.6}  # most n-grams are rare, and each has an embedding
_OTHER_WEIGHT_DECAY = 0.01


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Options of the network."""
    group = parser.add_argument_group("network")
    group.add_argument(
        "--encoder", choices=("auto", *ENCODERS), default="auto", help="see below (default: auto)"
    )
    group.add_argument(
        "--widths",
        type=_widths,
        default=(64,),
        metavar="A,B,...",
        help="units of the trunk's layers, the last repeated (default: 64)",
    )
    group.add_argument(
        "--dropout",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="share of the units left out after each layer of the trunk (default: 0.5)",
    )


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Options of the training."""
    group = parser.add_argument_group("training")
    group.add_argument(
        "--uncovered",
        choices=("drop", "keep"),
        default="drop",
        help="items without a vote: leave them out, or learn the label model's prior from them "
        "(default: drop)",
    )
    group.add_argument(
        "--validation",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="share of the labelled items held out for early stopping; with --gold, of those with "
        "a gold label (default: 0.1)",
    )
    group.add_argument(
        "--calibrate",
        action="store_true",
        help="fit a temperature for each task to the gold labels of the held-out items; wants some "
        "hundred of them",
    )
    numbers: list[tuple[str, Any, Any, str]] = [
        ("--steps", positive, 300, "most optimiser steps"),
        ("--evaluate-every", positive, 50, "steps between evaluations"),
        ("--patience", int, 5, "evaluations without a better one until it stops; 0: never"),
        ("--batch-size", positive, 128, "items of a step"),
        ("--learning-rate", float, 0.03, "peak of the schedule"),
        ("--robust-exponent", float, 0.0, "0: cross-entropy, 1: absolute error, more robust"),
        ("--confidence", float, 0.0, "least top probability of a label that counts"),
        ("--smoothing", float, 0.0, "how far uncertain labels are softened, 0 to 1"),
        ("--consistency", float, 0.0, "weight of what it teaches itself on unlabelled items"),
    ]
    for name, kind, default, text in numbers:
        metavar = "X" if kind is float else "N"
        group.add_argument(
            name, type=kind, default=default, metavar=metavar, help=f"{text} (default: {default:g})"
        )
    group.add_argument(
        "--weight-decay",
        type=float,
        metavar="X",
        help=f"decoupled (default: {_WEIGHT_DECAY['bag']} for bag, else {_OTHER_WEIGHT_DECAY})",
    )
    add_seed_option(group)
    group.add_argument(
        "--no-checkpoints", action="store_true", help="do not save the training on the way"
    )
    group.add_argument(
        "--log", type=Path, metavar="FILE", help="append a run record (JSON lines) to this file"
    )


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected numbers (128,64)") from None


def fit_config(options: argparse.Namespace, encoder: str) -> network.FitConfig:
    """The settings that the options say."""
    from metal_jax import network

    decay = options.weight_decay
    if decay is None:
        decay = _WEIGHT_DECAY.get(encoder, _OTHER_WEIGHT_DECAY)
    consistency = None
    if options.consistency > 0:
        consistency = network.ConsistencyConfig(options.consistency)
    return network.FitConfig(
        optimiser=network.OptimiserConfig(options.learning_rate, weight_decay=decay),
        loss=network.LossConfig(
            robust_exponent=options.robust_exponent,
            confidence_threshold=options.confidence,
            smoothing=options.smoothing,
            consistency=consistency,
        ),
        training=network.TrainingConfig(
            batch_size=options.batch_size,
            num_steps=options.steps,
            steps_per_chunk=options.evaluate_every,
            patience=options.patience,
        ),
    )
