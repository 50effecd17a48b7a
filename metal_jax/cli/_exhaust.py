"""`metal-jax exhaust`: predict networks that were never trained from the logs of others."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metal_jax.cli import _exhaust_import, _exhaust_predict
from metal_jax.cli._common import (
    add_out_option,
    add_output_options,
    add_seed_option,
    check_writable,
    positive,
    show,
)
from metal_jax.cli._exhaust_sources import (
    SOURCES_HELP,
    about_sources,
    add_source_options,
    print_sources,
    read_sources,
)
from metal_jax.cli._progress import quiet_progress

if TYPE_CHECKING:
    from metal_jax.exhaust import Run

_DEFAULT_TARGET = "validation/accuracy"
_DEFAULT_HELD_OUT = "validation"

_TARGETS_HELP = """
Targets, <role> one of train, validation, test and <metric> as the runs name it:
  <role>/<metric>           best value over the epochs; <role>/<metric>@<epoch>: at that epoch
  overfitting/<metric>      train - held-out value at the best epoch of the held-out value
  seconds                   training time
  seconds_to_best/<metric>  training time until the best held-out value"""

_FIT_EPILOG = f"""{_TARGETS_HELP}
{SOURCES_HELP}

Examples:
  metal-jax exhaust fit runs.jsonl --target validation/accuracy --target seconds --out predictor
  metal-jax exhaust fit runs.jsonl --epochs-seen 5 --out predictor_after_5
"""


_STEPS_EPILOG = """
Examples:
  metal-jax exhaust import logs/ --out runs.jsonl
  metal-jax exhaust fit runs.jsonl --out predictor
  metal-jax exhaust search predictor candidates.jsonl
"""


def add_command(commands: Any) -> None:
    """Add the command, and its own sub-commands, to the parser's sub-commands."""
    exhaust = commands.add_parser(
        "exhaust",
        help="predict untrained networks from training logs",
        description="Predict the metrics of untrained networks from the logs of trained ones.",
        epilog=_STEPS_EPILOG,
    )
    steps = exhaust.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _exhaust_import.add_command(steps)
    _add_fit(steps)
    _exhaust_predict.add_commands(steps)


def _add_fit(steps: Any) -> None:
    parser = steps.add_parser(
        "fit",
        help="train a predictor on recorded runs",
        description="Train an ensemble of LSTMs that predicts metrics of networks.",
        epilog=_FIT_EPILOG,
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUNS", help="runs to learn from")
    parser.add_argument(
        "--target",
        action="append",
        metavar="NAME",
        help=f"what to predict; may be given again (default: {_DEFAULT_TARGET})",
    )
    parser.add_argument(
        "--epochs-seen",
        type=int,
        default=0,
        metavar="E",
        help="epochs of a run that will be known when it is predicted (default: 0, untrained)",
    )
    parser.add_argument(
        "--held-out",
        choices=("train", "validation", "test"),
        metavar="ROLE",
        help="role that overfitting and seconds_to_best compare with "
        f"(default: {_DEFAULT_HELD_OUT})",
    )
    add_out_option(parser, metavar="DIR")
    add_seed_option(parser)
    parser.add_argument(
        "--members", type=positive, metavar="M", help="networks of the ensemble (default: 8)"
    )
    parser.add_argument(
        "--steps", type=positive, metavar="N", help="most optimiser steps (default: 1200)"
    )
    add_source_options(parser)
    add_output_options(parser)
    parser.set_defaults(run=_fit)


def _fit(options: argparse.Namespace) -> int:
    _check_folder(options.out)
    if options.epochs_seen < 0:
        raise ValueError(f"--epochs-seen: got {options.epochs_seen}, expected at least 0")
    names = list(dict.fromkeys(options.target or [_DEFAULT_TARGET]))
    held_out = _held_out(options, names)
    import jax

    from metal_jax import exhaust

    given = {"num_members": options.members, "num_steps": options.steps}
    config = exhaust.PredictorConfig(**{k: v for k, v in given.items() if v is not None})
    kept = options.out.with_name(f"{options.out.name}.partial.npz")
    start = time.monotonic()
    with quiet_progress(options) as say:
        found = read_sources(options, options.runs, say)
        counts = [_num_known(found.runs, name, options.epochs_seen, held_out) for name in names]
        what = f"training {config.num_members} networks on {len(found.runs):,} runs"
        steps: list[int] = []

        def tell(step: int, total: int) -> None:
            steps.append(step)
            say.count(what, step, total, "steps")

        try:
            predictor = exhaust.fit_predictor(
                found.runs,
                names,
                key=jax.random.key(options.seed),
                epochs_seen=options.epochs_seen,
                held_out=held_out,
                config=config,
                on_progress=tell,
                checkpoint=kept,
            )
        except KeyboardInterrupt:
            if not kept.is_file():
                raise
            raise KeyboardInterrupt(
                f"interrupted after step {steps[-1]}; the training is kept in {kept}: run the same "
                "command again, and it goes on from there"
            ) from None
        say("writing")
        exhaust.save_predictor(options.out, predictor)
        kept.unlink(missing_ok=True)
    about = {
        **about_sources(found),
        "targets": dict(zip(names, counts, strict=True)),
        "epochs_seen": options.epochs_seen,
        "members": config.num_members,
        "steps": config.num_steps,
        "unknown_layers": exhaust.unknown_layers(found.runs),
        "fit_seconds": time.monotonic() - start,
        "out": str(options.out),
    }
    if steps[0]:
        about["resumed_at"] = steps[0]
    return show(options, about, _print)


def _print(about: dict[str, Any]) -> None:
    console = print_sources(about, "runs")
    for name, count in about["targets"].items():
        console.print(f"target {name}: {count:,} runs have it")
    seen = f"first {about['epochs_seen']} epochs" if about["epochs_seen"] else "untrained"
    console.print(
        f"fitted {about['members']} networks for {about['steps']:,} steps ({seen}) in "
        f"{about['fit_seconds']:.0f} s"
    )
    console.print(f"wrote {about['out']}")


def _check_folder(path: Path) -> None:
    """Complain about a folder that holds something else than a predictor."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path}: is a file, expected a folder to write")
    if path.is_dir() and any(path.iterdir()) and not (path / "predictor.json").is_file():
        raise ValueError(f"{path}: holds other files and no predictor; give another folder")
    if not path.exists():
        check_writable(path)


def _held_out(options: argparse.Namespace, names: Sequence[str]) -> str:
    """The role to compare with; complains where one is named and no target compares."""
    if options.held_out is None:
        return _DEFAULT_HELD_OUT
    if not any(name.startswith(("overfitting/", "seconds_to_best/")) for name in names):
        raise ValueError(
            f"--held-out: is for targets overfitting and seconds_to_best, got {', '.join(names)}"
        )
    return options.held_out


def _num_known(runs: Sequence[Run], name: str, epochs_seen: int, held_out: str) -> int:
    """How many runs have a target: some, or it is an error that says what they have."""
    from metal_jax import exhaust

    values = exhaust.targets(runs, name, epochs_seen, held_out=held_out)
    known = int(np.isfinite(values).sum())
    if not known:
        metrics = {
            f"{role}/{metric}"
            for run in runs
            for role in run.metrics
            for metric in run.metrics[role]
        }
        there = ", ".join(sorted(metrics)) or "no metrics"
        later = f" after epoch {epochs_seen}" if epochs_seen else ""
        raise ValueError(f"--target {name}: no run has it{later}; the runs have {there}")
    return known
