"""What to do about the LFs of a label-model run: leave one out, merge two, look at some items.

Legend: `n` items, `m` LFs, `s` leaf states.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metal_jax.label_model import LeaveOneOut, SuggestedDependency
from metal_jax.labeling import contested_items, uncovered_items
from metal_jax.report._blocks import (
    Block,
    Column,
    Example,
    Examples,
    Findings,
    Paragraph,
    Table,
)
from metal_jax.report._items import LONGEST_TEXT, LFSpans
from metal_jax.report._marks import flat_marks
from metal_jax.report._names import node_names, path_names
from metal_jax.task_tree import TaskTree

_MOST_NAMED = 8
_MOST_VOTES = 12


def leave_one_out_blocks(found: LeaveOneOut, lf_names: Sequence[str]) -> list[Block]:
    """What the labels would be without each LF, the most changed first.

    Args:
        found: of `label_model.leave_one_out`.
        lf_names: m names.

    Returns:
        A table, and before it what stands out.
    """
    judged = not np.isnan(found.accuracy)
    columns = [
        Column("LF"),
        Column("Labels changed", "number", "share of the items with a vote"),
        Column("Moved", "number", "how far their probabilities move, total variation"),
        Column("Left bare", "count", "items that no other LF votes on"),
    ]
    if judged:
        columns += [
            Column("Accuracy without", "number", f"by gold; with all LFs {found.accuracy:.3f}"),
            Column("Gain", "number", "of leaving it out, by gold"),
        ]
    gain = found.accuracy_without - found.accuracy
    rows = []
    for j in np.argsort(-found.moved, kind="stable").tolist():
        cells = [float(found.changed[j]), float(found.moved[j]), int(found.uncovered[j])]
        by_gold = [float(found.accuracy_without[j]), float(gain[j])] if judged else []
        rows.append([lf_names[j], *cells, *by_gold])
    note = "The default label model, fitted again without each LF in turn."
    table = Table("Without each labelling function", note, columns, rows, filterable=len(rows) > 12)
    sentences = []
    idle = (found.changed == 0) & (found.uncovered == 0) & (found.moved < 1e-3)
    if idle.any():
        names = [lf_names[j] for j in np.flatnonzero(idle).tolist()]
        sentences.append(f"Nothing would change without: {_listed(names)}.")
    alone = np.flatnonzero(found.uncovered > 0)
    if len(alone):
        alone = alone[np.argsort(-found.uncovered[alone], kind="stable")]
        names = [f"{lf_names[j]} ({found.uncovered[j]:,})" for j in alone.tolist()]
        sentences.append(f"The only vote on some items: {_listed(names)}.")
    return [Findings(sentences), table] if sentences else [table]


def dependency_blocks(suggestions: Sequence[SuggestedDependency]) -> list[Block]:
    """Pairs of LFs that depend on each other given the label, the strongest first."""
    if not suggestions:
        return [Paragraph("No two labelling functions depend on each other beyond their labels.")]
    columns = [
        Column("One LF"),
        Column("Another"),
        Column("Together", "count", "items on which both vote"),
        Column("Expected", "count", "how many that would be if they were independent"),
        Column("Agree", "count", "items on which both cast the same vote"),
        Column("Agree, expected", "count", "how many that would be"),
        Column("Gain", "number", "in log-likelihood over independence, nats"),
    ]
    rows = [
        [
            *pair.names,
            pair.together,
            round(pair.expected_together),
            pair.agree,
            round(pair.expected_agree),
            round(pair.score, 1),
        ]
        for pair in suggestions
    ]
    note = "To merge, to rewrite, or to give to label_model.fit_with_dependencies."
    return [Table("Suggested dependencies", note, columns, rows, filterable=len(rows) > 12)]


def next_item_blocks(
    votes: np.ndarray,
    probs: np.ndarray,
    tree: TaskTree,
    num_items: int,
    *,
    lf_names: Sequence[str],
    item_names: Sequence[str],
    texts: Sequence[str] | None,
    spans: LFSpans,
) -> list[Block]:
    """Items to look at next: those that LFs disagree on, and those that none votes on.

    Args:
        votes: int[n, m] node ids.
        probs: float[n, s], the posterior.
        tree: the task tree.
        num_items: of each kind.
        lf_names: m names.
        item_names: n names.
        texts: n texts, by which items that are alike are shown once; or None.
        spans: see `LFSpans`.

    Returns:
        The items, none of a kind that there is not.
    """
    nodes, paths = node_names(tree), path_names(tree)

    def example(item: int, lines: list[str]) -> Example:
        text = None if texts is None else texts[item][:LONGEST_TEXT]
        parts = [(lf_names[lf], span.start, span.stop) for lf, span in spans.get(item, ())]
        return Example(item_names[item], text, flat_marks(parts, len(text or "")), lines)

    blocks: list[Block] = []
    contested = []
    for item in contested_items(votes, tree, num_items, probabilities=probs, features=texts):
        cast = np.flatnonzero(votes[item] >= 0)
        shown = [f"{lf_names[j]}: {nodes[votes[item, j]]}" for j in cast[:_MOST_VOTES]]
        rest = len(cast) - len(shown)
        shown += [f"and {rest} more"] if rest else []
        top = []
        for span in tree.root_leaves:
            order = np.argsort(-probs[item, span], kind="stable")[:2] + span.start
            top += [f"{paths[tree.leaf_nodes[leaf]]} {probs[item, leaf]:.2f}" for leaf in order]
        lines = [f"Model: {', '.join(top)}", f"Votes: {'; '.join(shown)}"]
        contested.append(example(int(item), lines))
    if contested:
        marked = " What made an LF vote is marked, where it can tell." if spans else ""
        note = (
            "LFs contradict each other on these, and the label model is least sure of the first; "
            f"gold would teach most here.{marked}"
        )
        blocks.append(Examples("Disagreement", note, contested))
    bare = bare_items(votes, texts, num_items)
    if bare:
        note = "No LF votes on these; the next LF could."
        uncovered = [
            example(item, [f"Stands for {alike:,} items like it" if alike > 1 else ""])
            for item, alike in bare
        ]
        blocks.append(Examples("Not covered", note, uncovered))
    return blocks


def bare_items(
    votes: np.ndarray, texts: Sequence[str] | None, num_items: int
) -> list[tuple[int, int]]:
    """Items without a vote and how many are like each; without texts evenly spaced ones, and 1.

    Args:
        votes: int[n, m], negative = no vote.
        texts: n texts, by which items are alike; None for none.
        num_items: how many items at most.

    Example:
        >>> bare_items(np.array([[0, 1], [-1, -1], [-1, 0], [-1, -1]]), None, 5)
        [(1, 1), (3, 1)]
    """
    if texts is not None:
        found = uncovered_items(votes, texts, num_items)
        return list(zip(found.items.tolist(), found.num_alike.tolist(), strict=True))
    rows = np.flatnonzero((votes < 0).all(axis=1))
    if len(rows) > num_items:
        rows = rows[np.linspace(0, len(rows) - 1, num_items).astype(int)] if num_items else rows[:0]
    return [(row, 1) for row in rows.tolist()]


def _listed(names: list[str]) -> str:
    rest = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + rest
