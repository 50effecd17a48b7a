"""`metal-jax analyze`: what votes say about their LFs before anybody trusts a label."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from metal_jax._core.intervals import share_text
from metal_jax.cli._analyze_guide import guide_records, print_guide
from metal_jax.cli._class_balance import add_class_balance_option, read_class_balance
from metal_jax.cli._common import (
    TREE_HELP,
    VOTES_HELP,
    add_gold_option,
    add_output_options,
    add_seed_option,
    add_votes_options,
    plain_console,
    plain_table,
    show,
)
from metal_jax.cli._guide import (
    TEXTS_HELP,
    add_guide_options,
    check_guide_options,
    find_guide,
    read_texts,
)
from metal_jax.cli._methods import Fitted, fit
from metal_jax.cli._progress import quiet_progress

if TYPE_CHECKING:
    from metal_jax.labeling import VoteFile
    from metal_jax.task_tree import TaskTree

_NEARLY_ALL = 0.99  # of the items: majority vote would do
_WIDE = 96  # columns: on fewer the names need the room of the overlaps
_MOST_POLARITY = 36  # characters of class names that are shown for an LF

_EPILOG = f"""{VOTES_HELP}
{TREE_HELP}
{TEXTS_HELP}

Examples:
  metal-jax analyze votes.npz
  metal-jax analyze votes.npz --gold votes.npz --num-lfs 0
  metal-jax analyze votes.npz --texts texts.jsonl --lfs lfs.py --num-next 10
  metal-jax analyze crowd.csv --tree tree.json --gold labels.csv --json
"""


def add_command(commands: Any) -> None:
    """Add the command to the parser's sub-commands."""
    parser = commands.add_parser(
        "analyze",
        help="what the LFs do: coverage, conflicts, estimated accuracies, useless LFs",
        description="Summarise votes: LFs, classes, and whether majority vote would do.",
        epilog=_EPILOG,
    )
    parser.add_argument("votes", type=Path, metavar="VOTES", help="votes to look at")
    add_votes_options(parser)
    add_class_balance_option(parser)
    add_gold_option(parser, "for judging only")
    add_guide_options(parser)
    parser.add_argument(
        "--num-lfs",
        type=int,
        default=40,
        metavar="N",
        help="rows of the table of LFs, those with most votes; 0: all (default: 40)",
    )
    add_seed_option(parser)
    add_output_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from metal_jax.cli import _votes

    if options.num_lfs < 0:
        raise ValueError(f"--num-lfs: got {options.num_lfs}, expected at least 0")
    check_guide_options(options)
    with quiet_progress(options) as say:
        say("reading votes")
        file = _votes.read_votes(options, options.votes)
        gold = _votes.read_gold(options, file)
        texts = read_texts(options, file)
        balance = read_class_balance(options, file.tree)
        say("fitting the default label model")
        model = fit(
            "default",
            file.votes,
            file.tree,
            class_balance=balance,
            seed=options.seed,
            restarts=True,
        )
        majority = fit("majority", file.votes, file.tree)
        say("comparing")
        probs = model.posterior(file.votes)
        about = {
            "votes": _votes.describe_votes(file, options.votes),
            "model": {
                "method": "default",
                "converged": model.converged,
                "status": model.status,
                "num_steps": model.num_steps,
                "num_restarts": model.num_restarts,
                "restarts_agreeing": model.restarts_agreeing,
            },
            "lfs": _lfs(file, gold, model),
            **_oddities(file),
            **_labels(file, gold, probs, model.class_balance, majority),
        }
        about["majority_vote_would_do"] = all(
            (1 - task["ties"]) * task["agreement"] >= _NEARLY_ALL for task in about["tasks"]
        )
        guide = find_guide(options, file, gold, texts, balance, say)
        about |= guide_records(guide, file, probs, options.num_next)
    return show(options, about, _print, options.num_lfs)


def _lfs(file: VoteFile, gold: np.ndarray | None, model: Fitted) -> list[dict[str, Any]]:
    """One record for each LF: `labeling.summarise_lfs` and what the model thinks of it."""
    from metal_jax import labeling, task_tree
    from metal_jax.cli import _votes

    mass = np.asarray(task_tree.node_sum(file.tree, model.class_balance))
    nodes = _votes.node_names(file.tree)
    records = []
    summary = labeling.summarise_lfs(
        file.votes, file.tree, lf_names=_votes.lf_names(file), gold=gold
    )
    for row, votes, accuracy in zip(summary, file.votes.T, model.lf_accuracy, strict=True):
        cast = votes[votes >= 0]
        record = {**row._asdict(), "num_votes": len(cast), "estimated_accuracy": float(accuracy)}
        record["polarity"] = [nodes[node] for node in np.unique(cast)]
        # A guess with the same votes, drawn without looking at the item, is right so often.
        chance = float(mass[cast].mean()) if len(cast) else float("nan")
        record["below_chance"] = bool(accuracy < chance)
        records.append(record)
    return records


def _oddities(file: VoteFile) -> dict[str, Any]:
    """LFs that never vote, LFs with identical votes, and classes that nobody votes for."""
    from metal_jax.cli import _votes

    names, tree = _votes.lf_names(file), file.tree
    groups: dict[bytes, list[str]] = {}
    never = []
    for name, votes in zip(names, np.maximum(file.votes, -1).T, strict=True):
        if (votes < 0).all():
            never.append(name)
        else:
            groups.setdefault(votes.tobytes(), []).append(name)
    beneath = tree.covers @ _node_votes(file)[tree.leaf_nodes] + _node_votes(file)
    return {
        "never_voting_lfs": never,
        "identical_lfs": [group for group in groups.values() if len(group) > 1],
        "classes_without_votes": [
            node for node, votes in zip(_votes.node_names(tree), beneath, strict=True) if not votes
        ],
    }


def _node_votes(file: VoteFile) -> np.ndarray:
    return np.bincount(file.votes[file.votes >= 0], minlength=file.tree.num_nodes)


def _labels(
    file: VoteFile,
    gold: np.ndarray | None,
    probs: np.ndarray,
    class_balance: np.ndarray,
    majority: Fitted,
) -> dict[str, Any]:
    """The labels of the model beside the majority vote's: per class and per task."""
    from metal_jax import task_tree
    from metal_jax.cli import _votes

    tree, voted, votes = file.tree, file.votes >= 0, _node_votes(file)
    names = _votes.node_names(tree)
    marginals = {
        name: np.asarray(task_tree.node_sum(tree, of_leaves), float)
        for name, of_leaves in (("model", probs), ("majority", majority.posterior(file.votes)))
    }
    balance = np.asarray(task_tree.node_sum(tree, class_balance))
    truth = None if gold is None else _task_gold(tree, gold)
    classes, tasks = [], []
    for t, (task, nodes) in enumerate(zip(tree.tasks, tree.task_nodes, strict=True)):
        at_task = (tree.node_task_labels >= 0)[:, t][np.maximum(file.votes, 0)] & voted
        rows = at_task.any(1)
        top = {name: _top(p[rows][:, nodes.start : nodes.stop]) for name, p in marginals.items()}
        label = top["model"].argmax(1)
        tied = top["majority"].sum(1) > 1
        same = np.take_along_axis(top["majority"], label[:, None], axis=1)[:, 0]
        clear = same[~tied]
        record: dict[str, Any] = {
            "task": task.name,
            "items": int(rows.sum()),
            "agreement": float(clear.mean()) if len(clear) else 1.0,
            "ties": float(tied.mean()) if len(tied) else 0.0,
        }
        if truth is not None:
            known = truth[rows, t] >= 0
            record["gold_labels"] = int(known.sum())
            for name, best in top.items():
                right = np.take_along_axis(best, np.maximum(truth[rows, t], 0)[:, None], axis=1)
                share = right[:, 0] / best.sum(1)  # a tie is right as often as a draw
                record[f"{name}_accuracy"] = float(share[known].mean()) if known.any() else None
        tasks.append(record)
        for number, (node, label) in enumerate(zip(nodes, task.labels, strict=True)):
            record = {
                "name": names[node],
                "task": task.name,
                "label": label,
                "votes": int(votes[node]),
                "majority_share": _mean(marginals["majority"][rows, node]),
                "model_share": _mean(marginals["model"][rows, node]),
                "class_balance": float(balance[node]),
            }
            if truth is not None:
                known = truth[rows, t] >= 0
                record["gold_share"] = _mean((truth[rows, t] == number)[known])
            classes.append(record)
    return {"classes": classes, "tasks": tasks}


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _top(probs: np.ndarray) -> np.ndarray:
    """bool[n, k], the likeliest labels of each row, all of a tie."""
    return probs >= probs.max(1, keepdims=True) * (1 - 1e-6)


def _task_gold(tree: TaskTree, gold: np.ndarray) -> np.ndarray:
    """int[n, t], the gold label of each task, -1 where unknown or not on the path."""
    columns = gold[:, None] if gold.ndim == 1 else gold
    return np.max([tree.task_labels(column) for column in columns.T], axis=0)


# ---- print --------------------------------------------------------------------------------------


def _print(about: dict[str, Any], num_lfs: int) -> None:
    from metal_jax.cli import _votes

    console = plain_console()
    console.print(_votes.size_line(about["votes"]))
    console.print(_votes.coverage_line(about["votes"]))
    console.print(_lf_table(about["lfs"], num_lfs, console.width))
    hidden = len(about["lfs"]) - num_lfs
    if num_lfs and hidden > 0:
        console.print(f"... and {hidden} LFs with fewer votes (--num-lfs 0 shows all)")
    below = [row["name"] for row in about["lfs"] if row["below_chance"]]
    for title, names in (
        ("LFs that never vote", about["never_voting_lfs"]),
        ("LFs estimated below chance", below),
        ("LFs with identical votes", [" = ".join(g) for g in about["identical_lfs"]]),
        ("classes that nobody votes for", about["classes_without_votes"]),
    ):
        console.print(f"{title}: {_shortened(names, 12) if names else 'none'}")
    console.print(_class_table(about))
    model = about["model"]
    console.print(
        f"label model: {model['num_steps']} steps, {model['status']}; "
        f"{model['restarts_agreeing']} of {model['num_restarts']} restarts agree"
    )
    if not model["converged"]:
        console.print("warning: the fit did not converge; its estimates may be off")
    for task in about["tasks"]:
        _print_task(console, task, len(about["tasks"]) > 1)
    if about["majority_vote_would_do"]:
        console.print("majority vote would do: the label model says the same nearly everywhere")
    else:
        console.print("majority vote would not do: see the ties and changes above")
    print_guide(console, about)


def _print_task(console: Console, task: dict[str, Any], several: bool) -> None:
    lead = f"{task['task']}: " if several else ""
    if not task["items"]:
        console.print(f"{lead}no votes")
        return
    console.print(
        f"{lead}{task['items']:,} items with a vote: majority vote is tied on "
        f"{100 * task['ties']:.1f} %; of its other labels the label model changes "
        f"{100 * (1 - task['agreement']):.1f} %"
    )
    if task.get("gold_labels"):
        console.print(
            f"{lead}accuracy on the {task['gold_labels']:,} of them with gold: majority vote "
            f"{task['majority_accuracy']:.3f}, label model {task['model_accuracy']:.3f}"
        )


def _shortened(names: list[str], count: int) -> str:
    rest = f", ... ({len(names)} in all)" if len(names) > count else ""
    return ", ".join(names[:count]) + rest


def _lf_table(lfs: list[dict[str, Any]], num_lfs: int, width: int) -> Table:
    judged = lfs[0]["accuracy"] is not None
    headers = {
        "coverage": "coverage",
        "overlaps": "overlaps",
        "conflicts": "conflicts",
        "estimated_accuracy": "estimated",
        "accuracy": "accuracy",
    }
    if not judged:
        del headers["accuracy"]
    elif width < _WIDE:
        del headers["overlaps"]
    table = plain_table(["LF", "votes for"], list(headers.values()))
    for column in table.columns[2:]:
        column.no_wrap = True
    table.caption = "estimated: accuracy by the default label model, without gold; in (): 95 %"
    shown = sorted(range(len(lfs)), key=lambda j: -lfs[j]["num_votes"])[: num_lfs or None]
    for j in sorted(shown):
        row = lfs[j]
        polarity = ", ".join(row["polarity"])
        if len(polarity) > _MOST_POLARITY:
            polarity = f"{len(row['polarity'])} classes"
        cells = [
            share_text(row[name], row[f"{name}_interval"])
            if name in ("coverage", "accuracy")
            else _number(row[name])
            for name in headers
        ]
        table.add_row(row["name"], polarity or "-", *cells)
    return table


def _class_table(about: dict[str, Any]) -> Table:
    headers = {
        "votes": "votes",
        "majority_share": "majority vote",
        "model_share": "label model",
        "class_balance": "balance",
    }
    if "gold_share" in about["classes"][0]:
        headers["gold_share"] = "gold"
    table = plain_table(["class"], list(headers.values()))
    table.caption = "shares of the items with a vote; balance: the label model's prior"
    for row in about["classes"]:
        table.add_row(row["name"], *(_number(row[key]) for key in headers))
    return table


def _number(value: float | int) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if value == value else "-"
