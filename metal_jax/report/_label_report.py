"""The report of a label-model run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jax.typing import ArrayLike

from metal_jax.label_model import (
    Diagnosis,
    FitResult,
    LeaveOneOut,
    SuggestedDependency,
    diagnose,
    majority_vote,
    posterior,
)
from metal_jax.labeling import LFSummary, summarise_lfs, validate
from metal_jax.network._evaluation.gold import gold_by_root
from metal_jax.report._blocks import (
    Block,
    Column,
    Facts,
    Figures,
    Findings,
    Interval,
    Report,
    Section,
    Table,
)
from metal_jax.report._items import LFSpans
from metal_jax.report._label_advice import (
    dependency_blocks,
    leave_one_out_blocks,
    next_item_blocks,
)
from metal_jax.report._label_figures import (
    class_balance_figure,
    confidence_figure,
    convergence_figure,
    level_figures,
    overlap_figures,
    tree_figure,
)
from metal_jax.report._label_items import item_table
from metal_jax.report._names import is_plain, node_mass, node_names
from metal_jax.report._score_figures import judge, judge_ties_shared, log_conditionals, score_blocks
from metal_jax.task_tree import TaskTree


def label_model_report(
    result: FitResult,
    votes: ArrayLike,
    *,
    title: str = "Label model",
    lf_names: Sequence[str] | None = None,
    item_names: Sequence[str] | None = None,
    texts: Sequence[str] | None = None,
    gold: ArrayLike | None = None,
    replicates: ArrayLike | None = None,
    without: LeaveOneOut | None = None,
    dependencies: Sequence[SuggestedDependency] | None = None,
    num_next: int = 0,
    spans: LFSpans | None = None,
    max_items: int = 10_000,
) -> Report:
    """The report of votes and of a label model fitted to them.

    Args:
        result: a fit.
        votes: int[n, m] node ids, the votes that it was fitted to.
        title: of the page.
        lf_names: m names; by default the column numbers.
        item_names: n names; by default the row numbers.
        texts: n texts to show.
        gold: int[n] node ids, -1 = unknown, or int[n, r] for a forest; for judging only.
        replicates: float[r, m] from `label_model.bootstrap_lf_accuracy`, for the intervals of the
            LFs' accuracies.
        without: from `label_model.leave_one_out`, for what removing each LF would do.
        dependencies: from `label_model.suggest_dependencies`.
        num_next: how many items to look at next of each kind: those with the greatest
            disagreement, and those that no LF votes on.
        spans: item -> `(LF number, Span)` for each part of its text that made an LF vote, see
            `labeling.trigger_spans`; they are marked in the text.
        max_items: of more items, evenly spaced ones are shown.

    Returns:
        The report, for `write_html`.

    Raises:
        ValueError: as `labeling.validate`, or names, texts or gold of another length.

    Example:
        >>> from metal_jax import label_model
        >>> votes = np.array([[0, 0, -1], [1, -1, 1], [0, 1, 0], [-1, 1, 1]] * 10)
        >>> fit = label_model.fit(votes, TaskTree.single(2))
        >>> [section.title for section in label_model_report(fit, votes).sections][:2]
        ['Overview', 'Task tree']
    """
    tree = result.tree
    matrix = validate(votes, tree, lf_names=lf_names)
    n, m = matrix.shape
    lfs = _names("lf_names", lf_names, m)
    items = _names("item_names", item_names, n)
    if texts is not None and len(texts) != n:
        raise ValueError(f"texts: got {len(texts)}, expected {n}")
    gold_nodes = None if gold is None else gold_by_root(gold, tree, n)
    probs = np.asarray(posterior(result, matrix), float)
    majority = np.asarray(majority_vote(matrix, tree), float)
    diagnosis = diagnose(result, matrix, replicates=replicates)
    summary = summarise_lfs(matrix, tree, lf_names=lfs, gold=gold_nodes)
    hard, theirs = (_hard(tree, p) for p in (probs, majority))
    shares = node_mass(tree, hard.mean(axis=0))
    sure = np.stack([probs[:, span].max(axis=1) for span in tree.root_leaves]).min(axis=0)
    scores = []
    if gold_nodes is not None:
        mine = judge(tree, log_conditionals(tree, probs), gold_nodes)
        plain = judge_ties_shared(tree, majority, gold_nodes)
        scores = score_blocks(
            tree,
            mine,
            ("Majority vote", plain),
            unknown=_unvoted_tasks(tree, matrix),
            reason="no LF votes there",
        )
    to_look_at: list[Block] = []
    if num_next:
        to_look_at = next_item_blocks(
            matrix,
            probs,
            tree,
            num_next,
            lf_names=lfs,
            item_names=items,
            texts=texts,
            spans=spans or {},
        )
    return Report(
        title,
        f"{n:,} items, {m:,} labelling functions, "
        + (f"{tree.num_leaves} classes" if is_plain(tree) else f"{tree.num_tasks} tasks"),
        [
            Section("Overview", _overview(result, matrix, diagnosis, lfs)),
            Section("Task tree", [Figures([tree_figure(tree, shares, "labels of the model")])]),
            Section("Labelling functions", [_lf_table(summary, diagnosis, tree, replicates)]),
            Section(
                "Overlaps and conflicts",
                [Figures(overlap_figures(matrix, tree, lfs))] if m > 1 else [],
            ),
            Section(
                "What removing each LF would do",
                [] if without is None else leave_one_out_blocks(without, lfs),
            ),
            Section(
                "Suggested dependencies",
                [] if dependencies is None else dependency_blocks(dependencies),
            ),
            Section(
                "Labels",
                [
                    Figures(
                        [
                            class_balance_figure(result, probs, gold_nodes),
                            *level_figures(
                                tree, [("label model", hard), ("majority vote", theirs)], gold_nodes
                            ),
                            confidence_figure(sure),
                            *(
                                [convergence_figure(result)]
                                if len(result.objective_trace) > 1
                                else []
                            ),
                        ]
                    )
                ],
            ),
            Section("Against gold", scores),
            Section("Items to look at next", to_look_at),
            Section(
                "Items",
                [
                    item_table(
                        result,
                        matrix,
                        probs,
                        lf_names=lfs,
                        item_names=items,
                        texts=texts,
                        gold_nodes=gold_nodes,
                        spans=spans or {},
                        max_items=max_items,
                    )
                ],
            ),
        ],
    )


def _names(what: str, given: Sequence[str] | None, count: int) -> list[str]:
    if given is None:
        return [str(i) for i in range(count)]
    if len(given) != count:
        raise ValueError(f"{what}: got {len(given)}, expected {count}")
    return [str(name) for name in given]


def _hard(tree: TaskTree, probs: np.ndarray) -> np.ndarray:
    """float[n, s], the likeliest leaf of each root, ties split."""
    parts = []
    for span in tree.root_leaves:
        best = probs[:, span] >= probs[:, span].max(axis=1, keepdims=True) * (1 - 1e-6)
        parts.append(best / best.sum(axis=1, keepdims=True))
    return np.concatenate(parts, axis=1)


def _unvoted_tasks(tree: TaskTree, votes: np.ndarray) -> set[str]:
    """Names of the tasks for none of whose labels, or what is beneath them, an LF votes."""
    nodes = np.unique(votes[votes >= 0]).tolist()
    heard = {int(tree.node_task[u]) for node in nodes for u in (*tree.ancestors(node), node)}
    return {task.name for t, task in enumerate(tree.tasks) if t not in heard}


def _overview(
    result: FitResult, votes: np.ndarray, diagnosis: Diagnosis, lf_names: list[str]
) -> list[Facts | Findings]:
    count = (votes >= 0).sum(axis=1)
    steps = f"{result.num_steps} step{'' if result.num_steps == 1 else 's'}"
    facts = Facts(
        [
            ("Items", len(votes)),
            ("Labelling functions", votes.shape[1]),
            ("Items with a vote", f"{100 * (count > 0).mean():.1f} %"),
            ("Votes per item", f"{count.mean():.2f}"),
            ("Label model", result.method),
            (
                "Fit",
                f"{steps}, {'converged' if result.converged else 'not converged'}",
            ),
            ("Expected accuracy", f"{100 * diagnosis.expected_accuracy:.1f} %"),
            ("Majority vote, expected", f"{100 * diagnosis.expected_majority_accuracy:.1f} %"),
        ]
    )
    found = _findings(result.tree, diagnosis, lf_names)
    return [facts, Findings(found)] if found else [facts]


_MOST_NAMED = 8


def _findings(tree: TaskTree, diagnosis: Diagnosis, lf_names: list[str]) -> list[str]:
    """What stands out, one sentence for each kind."""
    found = []
    if not diagnosis.converged:
        found.append(f"The fit did not converge: {diagnosis.status}.")
    missed = diagnosis.num_restarts - diagnosis.restarts_agreeing
    if missed:
        found.append(f"{missed} of {diagnosis.num_restarts} restarts came to other labels.")
    silent = np.isnan(diagnosis.accuracy)
    for flags, text in (
        (diagnosis.adversarial, "worse than chance"),
        (diagnosis.useless & ~silent, "not told from chance"),
        (silent, "never voting"),
    ):
        if flags.any():
            found.append(f"LFs {text}: {_listed([lf_names[j] for j in np.flatnonzero(flags)])}.")
    if diagnosis.unvoted.any():
        names = node_names(tree)
        found.append(
            f"No LF votes for: {_listed([names[u] for u in np.flatnonzero(diagnosis.unvoted)])}."
        )
    if diagnosis.majority_would_do:
        found.append("Majority vote would do: the model does not expect to be better.")
    return found


def _listed(names: list[str]) -> str:
    rest = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + rest


def _lf_table(
    summary: list[LFSummary], diagnosis: Diagnosis, tree: TaskTree, replicates: ArrayLike | None
) -> Table:
    """A row for each LF."""
    judged = summary[0].accuracy is not None
    how = "of the bootstrap" if replicates is not None else "as if the labels were known"
    gold = "; orange tick: accuracy by gold" if judged else ""
    columns = [
        Column("LF"),
        Column("Votes for"),
        Column("Coverage", "bounds", "share of the items with its vote"),
        Column("Overlaps", "bounds", "with another LF's vote too"),
        Column("Conflicts", "bounds", "with a vote that contradicts it"),
        Column(
            "Accuracy",
            "interval",
            f"estimated without gold, with its 95 % interval {how}; dashed: chance{gold}",
        ),
    ]
    if judged:
        columns += [Column("By gold", "bounds"), Column("Judged", "count", "votes with gold")]
    columns.append(Column("Note"))
    whole = ("=".join(pair) for pair in tree.node_names)
    short_names = dict(zip(whole, node_names(tree), strict=True))
    rows = []
    for j, row in enumerate(summary):
        labels = [short_names[name] for name in row.polarity]
        truth = row.accuracy if row.accuracy is not None else float("nan")
        low, high = diagnosis.interval[j].tolist()
        accuracy = Interval(
            float(diagnosis.accuracy[j]), low, high, float(diagnosis.chance[j]), truth
        )
        note = ""
        if np.isnan(diagnosis.accuracy[j]):
            note = "never votes"
        elif diagnosis.adversarial[j]:
            note = "worse than chance"
        elif diagnosis.useless[j]:
            note = "not told from chance"
        shares = [
            Interval(row.coverage, *row.coverage_interval),
            Interval(row.overlaps, *row.overlaps_interval),
            Interval(row.conflicts, *row.conflicts_interval),
        ]
        by_gold = []
        if row.accuracy_interval is not None:
            number = (row.num_correct or 0) + (row.num_incorrect or 0)
            by_gold = [Interval(truth, *row.accuracy_interval), number]
        cells = [*shares, accuracy, *by_gold, note]
        rows.append([row.name, ", ".join(labels) or "\u2013", *cells])
    about = "Under a share its 95 % interval, of items drawn like these (Wilson's)."
    return Table("Labelling functions", about, columns, rows, filterable=True)
