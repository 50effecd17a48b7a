"""`metal-jax report`: one HTML file to look at, for votes, a network or recorded runs."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metal_jax.cli import _report_exhaust
from metal_jax.cli._class_balance import add_class_balance_option, read_class_balance
from metal_jax.cli._common import (
    MODEL_VOTES_HELP,
    TREE_HELP,
    VOTES_HELP,
    add_gold_option,
    add_seed_option,
    add_split_option,
    add_votes_options,
    positive,
    split_of,
)
from metal_jax.cli._guide import (
    TEXTS_HELP,
    add_guide_options,
    check_guide_options,
    find_guide,
    read_texts,
)
from metal_jax.cli._items import ITEMS_HELP
from metal_jax.cli._kept import KeptSteps
from metal_jax.cli._methods import METHODS, check_options, fit, takes
from metal_jax.cli._progress import Say, quiet_progress
from metal_jax.cli._report_files import add_report_options, check_report_paths, write_report

if TYPE_CHECKING:
    from metal_jax.label_model import FitResult
    from metal_jax.labeling import VoteFile
    from metal_jax.report import Training
    from metal_jax.task_tree import TaskTree

_EPILOG = """
Examples:
  metal-jax report votes votes.csv --out report.html
  metal-jax report network model --out report.html
  metal-jax report exhaust runs.jsonl --out report.html
"""

_VOTES_EPILOG = f"""{VOTES_HELP}
{TREE_HELP}
{TEXTS_HELP}

Examples:
  metal-jax report votes votes.csv --out report.html
  metal-jax report votes votes.npz --texts texts.jsonl --lfs lfs.py --out report.html
"""

_NETWORK_EPILOG = f"""{ITEMS_HELP}
{MODEL_VOTES_HELP}

Examples:
  metal-jax report network model --out report.html
  metal-jax report network model test.jsonl --gold test.csv --votes votes.npz --out report.html
"""


def add_command(commands: Any) -> None:
    """Add the command, and its own sub-commands, to the parser's sub-commands."""
    report = commands.add_parser(
        "report",
        help="one HTML file to look at: votes, a network, or recorded runs",
        description="Write a report as one HTML file that opens from disk.",
        epilog=_EPILOG,
    )
    kinds = report.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_votes(kinds)
    _add_network(kinds)
    _report_exhaust.add_command(kinds)


def _add_votes(kinds: Any) -> None:
    parser = kinds.add_parser(
        "votes",
        help="votes and the label model fitted to them",
        description="Fit a label model to votes, and show both.",
        epilog=_VOTES_EPILOG,
    )
    parser.add_argument("votes", type=Path, metavar="VOTES", help="votes to look at")
    add_votes_options(parser)
    methods = [name for name in METHODS if name != "majority"]
    parser.add_argument(
        "--method", choices=methods, default="default", help="label model (default: default)"
    )
    add_class_balance_option(parser)
    add_gold_option(parser, "for judging only")
    add_guide_options(parser)
    parser.add_argument(
        "--bootstrap",
        type=int,
        default=0,
        metavar="R",
        help="refits on resampled items for the LFs' intervals; 0: as if the labels were known "
        "(default: 0)",
    )
    add_seed_option(parser)
    add_report_options(parser)
    parser.set_defaults(run=_votes)


def _add_network(kinds: Any) -> None:
    parser = kinds.add_parser(
        "network",
        help="a trained network, and what it says of items",
        description="Show a network, its training and, given items, its labels and mistakes.",
        epilog=_NETWORK_EPILOG,
    )
    parser.add_argument("model", type=Path, metavar="DIR", help="what train wrote")
    parser.add_argument(
        "items", type=Path, nargs="?", metavar="ITEMS", help="items to label, as for train"
    )
    add_gold_option(parser, "of the items, to compare with")
    parser.add_argument(
        "--votes", type=Path, metavar="VOTES", help="votes on the items: which go with mistakes"
    )
    add_split_option(parser)
    parser.add_argument(
        "--batch-size", type=positive, default=512, metavar="N", help="items at once (default: 512)"
    )
    add_report_options(parser)
    parser.set_defaults(run=_network)


def _votes(options: argparse.Namespace) -> int:
    check_report_paths(options, options.votes, options.gold, options.texts, options.lfs)
    check_guide_options(options)
    if options.bootstrap < 0 or options.bootstrap == 1:
        raise ValueError(f"--bootstrap: got {options.bootstrap}, expected 0, or at least 2")
    if options.bootstrap and not takes(options.method, "item_weights"):
        raise ValueError(f"--bootstrap: method {options.method!r} takes no weights of items")
    from metal_jax import report
    from metal_jax.cli import _votes

    with quiet_progress(options) as say:
        say("reading votes")
        file = _votes.read_votes(options, options.votes)
        gold = _votes.read_gold(options, file)
        texts = read_texts(options, file)
        balance = read_class_balance(options, file.tree)
        check_options(options.method, class_balance=balance)
        kept = None
        if options.bootstrap:
            kept = KeptSteps(options.out, _identity(options, file, balance))
        say(f"fitting the label model ({options.method})")
        fitted = fit(
            options.method,
            file.votes,
            file.tree,
            class_balance=balance,
            seed=options.seed,
            restarts=True,
        )
        assert fitted.result is not None
        with contextlib.nullcontext() if kept is None else kept.told():
            replicates = None if kept is None else _bootstrap(options, file, balance, say, kept)
            guide = find_guide(options, file, gold, texts, balance, say)
            say("making the page")
            page = report.label_model_report(
                fitted.result,
                file.votes,
                title=options.title or options.votes.name,
                lf_names=_votes.lf_names(file),
                item_names=file.items,
                texts=guide.texts,
                gold=gold,
                replicates=replicates,
                without=guide.without,
                dependencies=guide.dependencies,
                num_next=options.num_next,
                spans=guide.spans,
                max_items=options.max_items,
            )
            say("writing")
            return write_report(options, page, _votes.describe_votes(file, options.votes))


def _identity(
    options: argparse.Namespace, file: VoteFile, balance: np.ndarray | None
) -> dict[str, Any]:
    """What refits depend on, plain and short."""
    return {
        "command": "report votes",
        **{name: getattr(options, name) for name in ("method", "seed", "bootstrap")},
        "class_balance": None if balance is None else balance.tolist(),
        "votes": [file.votes.shape, hashlib.sha256(file.votes.tobytes()).hexdigest()],
        "tree": repr(file.tree),
    }


def _bootstrap(
    options: argparse.Namespace,
    file: VoteFile,
    balance: np.ndarray | None,
    say: Say,
    kept: KeptSteps,
) -> Any:
    import jax

    from metal_jax import label_model

    def refit(votes: Any, tree: TaskTree, *, item_weights: Any) -> FitResult:
        result = fit(
            options.method, votes, tree, class_balance=balance, item_weights=item_weights
        ).result
        assert result is not None
        return result

    key = jax.random.key(options.seed)

    def tell(done: int) -> None:
        say.count("fitting to resampled items", done, options.bootstrap, "fits")

    return label_model.bootstrap_lf_accuracy(
        refit,
        file.votes,
        file.tree,
        key=key,
        num_replicates=options.bootstrap,
        on_progress=tell,
        remember=kept,
    )


def _network(options: argparse.Namespace) -> int:
    check_report_paths(options, options.items, options.gold, options.votes)
    if options.items is None and (options.gold is not None or options.votes is not None):
        raise ValueError("--gold and --votes: say of which items (ITEMS)")
    if options.gold is None and options.votes is not None:
        raise ValueError("--votes: which votes go with mistakes takes --gold")
    from metal_jax import labeling, report
    from metal_jax.cli._evaluate import votes_on_items
    from metal_jax.cli._predict import load_model, predict_items

    with quiet_progress(options) as say:
        predictions = items = gold = votes = names = None
        if options.items is None:
            say("loading the model")
            model = load_model(options.model)
        else:
            model, items, predictions = predict_items(options, say)
            if options.gold is not None:
                gold = labeling.read_gold(
                    options.gold,
                    model.tree,
                    items.num_items,
                    items=items.names,
                    split=split_of(options),
                )
            if options.votes is not None:
                votes, names = votes_on_items(options, model.tree, items)
        say("making the page")
        page = report.network_report(
            model,
            title=options.title or options.model.name,
            training=_training(options.model),
            predictions=predictions,
            item_names=None if items is None else items.names,
            texts=items.values if items is not None and items.kind == "texts" else None,
            gold=gold,
            votes=votes,
            lf_names=names,
            max_items=options.max_items,
        )
        say("writing")
        number = None if items is None else items.num_items
        return write_report(options, page, {"model": str(options.model), "items": number})


_FACTS = (
    ("Encoder", "encoder"),
    ("Parameters", "num_params"),
    ("Steps", "num_steps"),
    ("Trained on", "training_items"),
    ("Held out", "held_out_items"),
    ("Seconds", "seconds"),
)


def _training(folder: Path) -> Training | None:
    """What `metal-jax train` wrote about the training, if it is there."""
    from metal_jax import report

    path = folder / "training.json"
    if not path.is_file():
        return None
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        curves = about["curves"]
        return report.Training(
            curves["steps"],
            _numbers(curves["train_loss"]),
            {name: _numbers(values) for name, values in curves["valid_scores"].items()},
            int(about["best_step"]),
            [(name, _fact(about[key])) for name, key in _FACTS if about.get(key) is not None],
            re.sub(r"[^\S\n]+\n", "\n", about.get("network", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: no summary of a training: {error!r}") from error


def _fact(value: Any) -> Any:
    return f"{value:.1f}" if isinstance(value, float) else value


def _numbers(values: list[float | None]) -> list[float]:
    return [float("nan") if value is None else float(value) for value in values]
