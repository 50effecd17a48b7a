"""Which votes go with the network's mistakes: where to write or mend labelling functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from metal_jax.labeling import validate
from metal_jax.network._evaluation.gold import gold_by_root
from metal_jax.task_tree import TaskTree


class ErrorBucket(NamedTuple):
    """The items on which one LF casts one vote.

    Attributes:
        lf: the LF's name.
        vote: the node it votes for, as "task=label".
        num_items: items with this vote and gold.
        num_errors: those whose predicted path is wrong.
        error_rate: `num_errors / num_items`.
        lift: the error rate over that of all items with gold; NaN where there is no error at all.
        excess: errors more than if the vote said nothing, `num_errors` minus `num_items` times the
            error rate of all.
        mistake: the most frequent mistake among them, as "task: gold -> predicted" at the first
            task where the paths part; None without errors.
    """

    lf: str
    vote: str
    num_items: int
    num_errors: int
    error_rate: float
    lift: float
    excess: float
    mistake: str | None


def error_buckets(
    votes: ArrayLike,
    predicted: ArrayLike,
    gold: ArrayLike,
    tree: TaskTree,
    *,
    lf_names: Sequence[str] | None = None,
    min_items: int = 1,
) -> list[ErrorBucket]:
    """Error rate of the predictions among the items on which each LF casts each of its votes.

    Args:
        votes: int[n, m] node ids, negative = no vote.
        predicted: int[n] predicted nodes, or int[n, r] for a forest: of leaf probabilities,
            `tree.leaf_nodes[leaf_probs.argmax(1)]`.
        gold: int[n] or int[n, r] node ids, the deepest known node, -1 unknown. A prediction beneath
            a coarse gold node is right.
        tree: the task tree.
        lf_names: m names; by default the column numbers.
        min_items: fewest items with gold of a bucket that is listed.

    Returns:
        Buckets with items, the largest excess of errors first.

    Raises:
        ValueError: as `labeling.validate`; predictions or gold of another length, or no node of
            the tree (names the item).

    Example:
        >>> tree = TaskTree.single(["ball", "board"], name="game")
        >>> table = error_buckets([[0], [0], [1], [-1]], [1, 0, 1, 1], [0, 0, 1, 1], tree)
        >>> table[0].vote, table[0].error_rate, table[0].lift, table[0].mistake
        ('game=ball', 0.5, 2.0, 'game: ball -> board')
    """
    matrix = validate(votes, tree, lf_names=lf_names)
    n, m = matrix.shape
    names = [str(j) for j in range(m)] if lf_names is None else list(lf_names)
    truth = gold_by_root(gold, tree, n)
    guess = gold_by_root(predicted, tree, n, "predicted")
    true_labels = tree.task_labels(truth).max(axis=1)  # [n, t], -1 off the path
    guessed_labels = tree.task_labels(guess).max(axis=1)
    differs = (true_labels >= 0) & (true_labels != guessed_labels)
    known, wrong = (truth >= 0).any(axis=1), differs.any(axis=1)
    base_rate = wrong.sum() / max(known.sum(), 1)
    task = differs.argmax(axis=1)  # tasks come breadth first: of a path the uppermost
    mistake = np.stack(
        [task, true_labels[np.arange(n), task], guessed_labels[np.arange(n), task]], axis=1
    )

    def name(task: int, true: int, guessed: int) -> str:
        labels = tree.tasks[task].labels
        return f"{tree.tasks[task].name}: {labels[true]} -> " + (
            labels[guessed] if guessed >= 0 else "nothing"
        )

    table = []
    for j in range(m):
        for node in np.unique(matrix[known & (matrix[:, j] >= 0), j]):
            rows = known & (matrix[:, j] == node)
            num_items, num_errors = int(rows.sum()), int((rows & wrong).sum())
            if num_items < min_items:
                continue
            kinds = Counter(map(tuple, mistake[rows & wrong].tolist()))
            rate = num_errors / num_items
            table.append(
                ErrorBucket(
                    names[j],
                    "=".join(tree.node_names[node]),
                    num_items,
                    num_errors,
                    rate,
                    float(rate / base_rate) if base_rate else float("nan"),
                    float(num_errors - num_items * base_rate),
                    name(*kinds.most_common(1)[0][0]) if kinds else None,
                )
            )
    return sorted(table, key=lambda bucket: -bucket.excess)


def format_error_buckets(table: Sequence[ErrorBucket], *, most: int = 20) -> str:
    """The first buckets as a plain-text table.

    Args:
        table: from `error_buckets`.
        most: rows printed.

    Returns:
        One line for the header and one for each bucket.

    Example:
        >>> bucket = ErrorBucket("short", "topic=sport", 40, 10, 0.25, 2.5, 6.0, None)
        >>> len(format_error_buckets([bucket]).splitlines())
        2
    """
    rows = [["LF", "vote", "items", "errors", "rate", "lift", "most frequent mistake"]]
    for bucket in table[:most]:
        rows.append(
            [
                bucket.lf,
                bucket.vote,
                str(bucket.num_items),
                str(bucket.num_errors),
                f"{bucket.error_rate:.3f}",
                f"{bucket.lift:.2f}",
                bucket.mistake or "-",
            ]
        )
    widths = [max(len(cells[i]) for cells in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if 2 <= i <= 5 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in rows
    )
