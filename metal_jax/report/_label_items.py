"""The items of a label-model run, each with what every LF contributed to its label.

Legend: `n` items, `m` LFs, `s` leaf states, `r` roots.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from metal_jax.label_model import FitResult, explain, majority_vote, posterior
from metal_jax.labeling import compatible
from metal_jax.report._blocks import Column, Detail, Mark, PagedTable
from metal_jax.report._figures import Dots, DotSeries
from metal_jax.report._items import LONGEST_TEXT, LFSpans, Words, shown_rows
from metal_jax.report._marks import flat_marks
from metal_jax.report._names import node_names, path_names

_BATCH = 512
_LEAST_CERTAIN = 0.1


def item_table(
    result: FitResult,
    votes: np.ndarray,
    leaf_probs: np.ndarray,
    *,
    lf_names: Sequence[str],
    item_names: Sequence[str],
    texts: Sequence[str] | None,
    gold_nodes: np.ndarray | None,
    spans: LFSpans,
    max_items: int,
) -> PagedTable:
    """The table: for each item its labels, and which LF pushed it where.

    Args:
        result: a fit.
        votes: int[n, m] node ids.
        leaf_probs: float[n, s], the posterior.
        lf_names: m names.
        item_names: n names.
        texts: n texts, or None.
        gold_nodes: int[n, r], or None.
        spans: parts of texts that made LFs vote.
        max_items: of more items evenly spaced ones are shown.

    Returns:
        The table, the least certain items first, those without a vote last.
    """
    tree = result.tree
    n = len(votes)
    top = np.stack([leaf_probs[:, span].max(axis=1) for span in tree.root_leaves]).min(axis=0)
    # No probability is above 1, so that items without a vote come last.
    rows = shown_rows(n, max_items, np.where((votes >= 0).any(axis=1), top, 2))
    votes, probs, sure = votes[rows], leaf_probs[rows], top[rows]
    leaves = path_names(tree)
    first = [span.start + probs[:, span].argmax(axis=1) for span in tree.root_leaves]
    labels = np.stack([tree.leaf_nodes[leaf] for leaf in first], axis=1)  # [n, r]
    words = Words()
    details = _details(result, votes, probs, lf_names, words)

    columns = [Column("Item")]
    columns += [] if texts is None else [Column("Text")]
    columns += [Column("Label"), Column("Probability", "number"), Column("Votes", "count")]
    columns += [] if gold_nodes is None else [Column("Gold")]
    cells: list[list[Any]] = []
    marks: list[list[Mark]] = []
    for place, row in enumerate(rows.tolist()):
        text = [] if texts is None else [texts[row][:LONGEST_TEXT]]
        parts = [(lf_names[lf], span.start, span.stop) for lf, span in spans.get(row, ())]
        marks.append(flat_marks(parts, len(text[0]) if text else 0))
        label = ", ".join(leaves[node] for node in labels[place])
        gold = []
        if gold_nodes is not None:
            known = [leaves[node] for node in gold_nodes[row] if node >= 0]
            gold = [", ".join(known) or None]
        number = int((votes[place] >= 0).sum())
        name = item_names[row]
        cells.append([name, *text, label, round(float(sure[place]), 4), number, *gold])
    groups = _groups(result, votes, labels, sure, None if gold_nodes is None else gold_nodes[rows])
    some = "" if len(rows) == n else f"{len(rows):,} of {n:,} items, evenly spaced. "
    return PagedTable(
        "Items",
        some
        + "The least certain first, those without a vote last. Under each item: the log-odds of "
        "its label against the runner-up, which add up over the prior and the LFs.",
        columns,
        cells,
        details,
        words.texts,
        True,
        [name for name, _ in groups],
        [np.flatnonzero(chosen).tolist() for _, chosen in groups],
        marked=-1 if texts is None else 1,
        marks=[] if texts is None or not spans else marks,
    )


def _details(
    result: FitResult, votes: np.ndarray, probs: np.ndarray, lf_names: Sequence[str], words: Words
) -> list[list[Detail]]:
    """For each item and root the evidence for its label against the runner-up."""
    tree = result.tree
    nodes, leaves = node_names(tree), path_names(tree)
    lf_words = [words(str(name)) for name in lf_names]
    node_words = [words(f"votes {name}") for name in nodes]
    prior_word, silent_word, blank = words("prior"), words("LFs that do not vote"), words("")
    details: list[list[Detail]] = []
    for start in range(0, len(votes), _BATCH):
        batch = votes[start : start + _BATCH]
        padded = np.pad(batch, ((0, _BATCH - len(batch)), (0, 0)), constant_values=-1)
        found = explain(result, padded)
        prior, pushes = np.asarray(found.prior), np.asarray(found.contributions)
        for row, item_votes in enumerate(batch):
            parts = []
            for span in tree.root_leaves:
                order = np.argsort(-probs[start + row, span], kind="stable") + span.start
                a, b = int(order[0]), int(order[1])
                gain = pushes[row, :, a] - pushes[row, :, b]
                cast = np.flatnonzero(item_votes >= 0)
                bars = [
                    (lf_words[j], node_words[item_votes[j]], _round(gain[j]))
                    for j in sorted(cast.tolist(), key=lambda j, gain=gain: -abs(gain[j]))
                ]
                bars.append((prior_word, blank, _round(prior[row, a] - prior[row, b])))
                silent = float(gain[item_votes < 0].sum())
                if abs(silent) >= 5e-4:
                    bars.append((silent_word, blank, _round(silent)))
                up, down = (leaves[tree.leaf_nodes[leaf]] for leaf in (a, b))
                parts.append(Detail(words(f"Evidence for {up} against {down}"), bars))
            details.append(parts)
    return details


def evidence_figure(result: FitResult, votes: np.ndarray, lf_names: Sequence[str]) -> Dots:
    """The evidence for the label of the one item of `votes` int[1, m], of a tree with one root."""
    words = Words()
    probs = np.asarray(posterior(result, votes), float)
    ((detail,),) = _details(result, votes, probs, lf_names, words)
    rows = [f"{words.texts[name]} {words.texts[note]}".strip() for name, note, _ in detail.bars]
    values = [value for _, _, value in detail.bars]
    return Dots(
        words.texts[detail.title],
        "Log-odds that add up to those of the label against the runner-up.",
        "log-odds",
        rows,
        (DotSeries("contribution", values),),
    )


def _round(value: float) -> float:
    return round(float(value), 3)


def _groups(
    result: FitResult,
    votes: np.ndarray,
    labels: np.ndarray,
    sure: np.ndarray,
    gold_nodes: np.ndarray | None,
) -> list[tuple[str, np.ndarray]]:
    """Names of groups of items to look at, and bool[n] who is in them."""
    tree = result.tree
    cast = np.zeros((len(votes), tree.num_nodes), np.float32)
    item, lf = np.nonzero(votes >= 0)
    cast[item, votes[item, lf]] = 1
    clash = ((cast @ (~compatible(tree)).astype(np.float32)) * cast).any(axis=1)
    covered = cast.any(axis=1)
    majority = np.asarray(majority_vote(votes, tree))
    other = np.zeros(len(votes), bool)
    for root, span in enumerate(tree.root_leaves):
        top = majority[:, span].max(axis=1)
        mine = np.take_along_axis(majority, tree.node_leaf[labels[:, root]][:, None], axis=1)[:, 0]
        other |= mine < top * (1 - 1e-6)
    uncertain = np.zeros(len(votes), bool)
    uncertain[np.argsort(sure, kind="stable")[: round(_LEAST_CERTAIN * len(sure))]] = True
    groups = [
        ("Least certain tenth", uncertain),
        ("Votes in conflict", clash),
        ("Not what most votes say", other & covered),
        ("No vote", ~covered),
    ]
    if gold_nodes is not None:
        mine, truth = tree.task_labels(labels).max(axis=1), tree.task_labels(gold_nodes).max(axis=1)
        groups.insert(0, ("Wrong by gold", ((truth >= 0) & (mine != truth)).any(axis=1)))
    return [(name, chosen) for name, chosen in groups if chosen.any()]
