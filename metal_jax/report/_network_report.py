"""The report of a trained network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike

from metal_jax.network import (
    Model,
    Predictions,
    error_buckets,
)
from metal_jax.network._evaluation.gold import gold_by_root
from metal_jax.report._blocks import (
    Block,
    Column,
    Detail,
    Facts,
    Figures,
    Findings,
    PagedTable,
    Preformatted,
    Report,
    Section,
    Table,
)
from metal_jax.report._figures import Lines, Series
from metal_jax.report._items import LONGEST_TEXT, Words, shown_rows
from metal_jax.report._label_figures import confidence_figure, level_figures, tree_figure
from metal_jax.report._names import node_names, path_names
from metal_jax.report._score_figures import judge, score_blocks
from metal_jax.task_tree import TaskTree

_MOST_BUCKETS = 200
_LEAST_BUCKET = 5  # items with gold; an error rate of fewer says nothing


class Training(NamedTuple):
    """What a training left behind.

    Attributes:
        steps: e step numbers, of the evaluations.
        train_loss: e numbers, mean loss over the steps before each.
        valid_scores: name -> e numbers; "loss" is the held-out loss.
        best_step: the step whose parameters were kept.
        facts: names and values to show beside the curves.
        network: a drawing of the network as text; empty without.
    """

    steps: Sequence[int]
    train_loss: Sequence[float]
    valid_scores: dict[str, Sequence[float]]
    best_step: int
    facts: Sequence[tuple[str, Any]] = ()
    network: str = ""


def network_report(
    model: Model,
    *,
    title: str = "Network",
    training: Training | None = None,
    predictions: Predictions | None = None,
    item_names: Sequence[str] | None = None,
    texts: Sequence[str] | None = None,
    gold: ArrayLike | None = None,
    votes: ArrayLike | None = None,
    lf_names: Sequence[str] | None = None,
    max_items: int = 10_000,
) -> Report:
    """The report of a network, of its training and of what it says of items.

    Args:
        model: trained.
        title: of the page.
        training: its curves; without them there are none.
        predictions: from `network.predict`, of n items.
        item_names: n names; by default the row numbers.
        texts: n texts to show.
        gold: int[n] node ids, -1 = unknown, or int[n, r] for a forest.
        votes: int[n, m] node ids of LFs on the items: which votes go with mistakes. Needs gold.
        lf_names: m names; by default the column numbers.
        max_items: of more items, evenly spaced ones are shown.

    Returns:
        The report, for `write_html`.

    Raises:
        ValueError: gold without predictions, votes without gold, or something of another length.

    Example:
        >>> import jax
        >>> from metal_jax.network import build, fit_inputs
        >>> from metal_jax.task_tree import TaskTree
        >>> inputs = fit_inputs("features", [[0.0], [1.0]])
        >>> tree = TaskTree.single(["cat", "dog"])
        >>> params = build(tree, inputs.encoder).init(jax.random.key(0), inputs.encode([[0.0]]))
        >>> model = Model(tree, inputs, params)
        >>> network_report(model, title="Pets").title
        'Pets'
    """
    tree = model.tree
    if predictions is None and (gold is not None or votes is not None):
        raise ValueError("predictions: gold labels and votes are compared with predictions")
    if gold is None and votes is not None:
        raise ValueError("gold: which votes go with mistakes takes gold labels")
    sections = [Section("Overview", _overview(model, training))]
    if training is not None:
        sections.append(Section("Training", [Figures(learning_curves(training))]))
    if predictions is None:
        tree_block: Block = Figures([tree_figure(tree, None, "")])
        return Report(title, _subtitle(tree), [*sections, Section("Task tree", [tree_block])])

    probs = np.asarray(predictions.leaf_probs, float)
    n = len(probs)
    gold_nodes = None if gold is None else gold_by_root(gold, tree, n)
    labels = _labels(tree, probs)
    hard = np.zeros_like(probs)
    for column in labels.T:
        hard[np.arange(n), tree.node_leaf[column]] = 1
    shares = np.asarray(predictions.node_probs, float).mean(axis=0)
    sure = np.stack([probs[:, span].max(axis=1) for span in tree.root_leaves]).min(axis=0)
    sections += [
        Section("Task tree", [Figures([tree_figure(tree, shares, "by mean probability")])]),
        Section(
            "Labels",
            [
                Figures(
                    [
                        *level_figures(tree, [("network", hard)], gold_nodes),
                        confidence_figure(sure),
                    ]
                )
            ],
        ),
    ]
    if gold_nodes is not None:
        log_conditionals = np.asarray(predictions.log_conditionals)
        sections.append(
            Section(
                "Against gold",
                score_blocks(
                    tree,
                    judge(tree, log_conditionals, gold_nodes),
                    unknown=model.untrained_tasks,
                    reason="there were no labels to learn them from",
                ),
            )
        )
    if gold_nodes is not None and votes is not None:
        buckets = error_buckets(
            votes, labels, gold_nodes, tree, lf_names=lf_names, min_items=_LEAST_BUCKET
        )
        sections.append(Section("Mistakes by vote", [_bucket_table(buckets)] if buckets else []))
    names = [str(i) for i in range(n)] if item_names is None else list(map(str, item_names))
    for what, given in (("item_names", names), ("texts", texts)):
        if given is not None and len(given) != n:
            raise ValueError(f"{what}: got {len(given)}, expected {n}")
    table = _item_table(tree, predictions, labels, sure, names, texts, gold_nodes, max_items)
    sections.append(Section("Items", [table]))
    return Report(title, f"{n:,} items, {_subtitle(tree)}", sections)


def _subtitle(tree: TaskTree) -> str:
    tasks = "a single task" if tree.num_tasks == 1 else f"{tree.num_tasks} tasks"
    return f"{tasks} with {tree.num_leaves} classes"


def _overview(model: Model, training: Training | None) -> list[Block]:
    facts: list[tuple[str, Any]] = [
        ("Tasks", model.tree.num_tasks),
        ("Classes", model.tree.num_leaves),
        ("Reads", model.inputs.reads),
        ("Trunk", ", ".join(map(str, model.config.widths))),
    ]
    blocks: list[Block] = [Facts([*facts, *(training.facts if training else ())])]
    if model.untrained_tasks:
        names = ", ".join(model.untrained_tasks)
        blocks.append(
            Findings(
                [f"No labels to learn from: {names}. What the model says of them means nothing."]
            )
        )
    if training is not None and training.network:
        blocks.append(Preformatted("The network, layer by layer", training.network))
    return blocks


def learning_curves(training: Training) -> list[Lines]:
    """Loss while training and held out, and a figure for each other score."""
    steps = list(training.steps)
    mark = (float(training.best_step), "kept")
    loss = Lines(
        "Loss",
        "Mean over the steps before each evaluation, and on the items held out; the upright "
        "line is where the kept parameters come from.",
        "step",
        "loss",
        (
            Series("held out", steps, training.valid_scores["loss"], "main"),
            Series("training", steps, training.train_loss, "second"),
        ),
        mark,
    )
    rest = [
        Lines(name, "On the items held out.", "step", name, (Series("", steps, values),), mark)
        for name, values in sorted(training.valid_scores.items())
        if name != "loss"
    ]
    return [loss, *rest]


def _labels(tree: TaskTree, probs: np.ndarray) -> np.ndarray:
    """int[n, r], the most probable leaf node of each root."""
    return np.stack(
        [tree.leaf_nodes[span.start + probs[:, span].argmax(axis=1)] for span in tree.root_leaves],
        axis=1,
    )


def _bucket_table(buckets: Sequence[Any]) -> Table:
    columns = [
        Column("LF"),
        Column("Vote"),
        Column("Items", "count"),
        Column("Mistakes", "count"),
        Column("Rate", "number"),
        Column("Lift", "number", "rate over that of all items"),
        Column("Excess", "number", "mistakes more than if the vote said nothing"),
        Column("Most frequent mistake"),
    ]
    rows = [
        [
            b.lf,
            b.vote.replace("=", ": ", 1),
            b.num_items,
            b.num_errors,
            b.error_rate,
            b.lift,
            b.excess,
        ]
        + [(b.mistake or "\u2013").replace(" -> ", " \u2192 ")]
        for b in buckets[:_MOST_BUCKETS]
    ]
    note = "Where the network is wrong more often than elsewhere: LFs to write or to mend."
    return Table("Mistakes by vote", note, columns, rows, filterable=True)


def _item_table(
    tree: TaskTree,
    predictions: Predictions,
    labels: np.ndarray,
    sure: np.ndarray,
    names: Sequence[str],
    texts: Sequence[str] | None,
    gold_nodes: np.ndarray | None,
    max_items: int,
) -> PagedTable:
    """For each item its label, and under it the probabilities of each task on its path."""
    n = len(labels)
    rows = shown_rows(n, max_items, sure)
    words, nodes, paths = Words(), node_names(tree), path_names(tree)
    node_words, blank = [words(name) for name in nodes], words("")
    task_words = [words(task.name) for task in tree.tasks]
    columns = [Column("Item"), *([] if texts is None else [Column("Text")])]
    columns += [Column("Label"), Column("Probability", "number")]
    columns += [] if gold_nodes is None else [Column("Gold")]
    cells: list[list[Any]] = []
    details: list[list[Detail]] = []
    for row in rows.tolist():
        text = [] if texts is None else [texts[row][:LONGEST_TEXT]]
        gold = []
        if gold_nodes is not None:
            gold = [", ".join(paths[node] for node in gold_nodes[row] if node >= 0) or None]
        label = ", ".join(paths[node] for node in labels[row])
        cells.append([names[row], *text, label, round(float(sure[row]), 4), *gold])
        details.append([])
        active = {
            int(tree.node_task[u]) for node in labels[row] for u in (*tree.ancestors(node), node)
        }
        for task in sorted(active):
            probs = predictions.node_probs[row, tree.task_nodes[task]].astype(float)
            order = np.argsort(-probs, kind="stable")[:_MOST_LABELS]
            bars = [
                (node_words[tree.task_nodes[task][label]], blank, round(float(probs[label]), 3))
                for label in order.tolist()
            ]
            details[-1].append(Detail(task_words[task], bars))
    groups: list[tuple[str, np.ndarray]] = []
    uncertain = np.zeros(len(rows), bool)
    uncertain[: round(0.1 * len(rows))] = True
    groups.append(("Least certain tenth", uncertain))
    if gold_nodes is not None:
        mine = tree.task_labels(labels[rows]).max(axis=1)
        truth = tree.task_labels(gold_nodes[rows]).max(axis=1)
        groups.insert(0, ("Wrong by gold", ((truth >= 0) & (mine != truth)).any(axis=1)))
    groups = [(name, chosen) for name, chosen in groups if chosen.any()]
    some = "" if len(rows) == n else f"{len(rows):,} of {n:,} items, evenly spaced. "
    return PagedTable(
        "Items",
        some + "The least certain first. Under each item: the probabilities of each task's labels.",
        columns,
        cells,
        details,
        words.texts,
        False,
        [name for name, _ in groups],
        [np.flatnonzero(chosen).tolist() for _, chosen in groups],
    )


_MOST_LABELS = 6  # of a task that are shown under an item
