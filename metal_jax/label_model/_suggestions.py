"""Dependencies that were found, in numbers that a person can judge.

Legend: `n` items, `m` LFs, `s` leaf states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from metal_jax.label_model._discovery import Dependencies, DiscoveryConfig, discover_dependencies
from metal_jax.labeling import validate
from metal_jax.task_tree import TaskTree


class SuggestedDependency(NamedTuple):
    """Two LFs that depend on each other given the truth.

    Attributes:
        lfs: their columns.
        names: their names.
        score: gain in log-likelihood over independence, less its price; in nats.
        together: items on which both vote.
        expected_together: how many that would be if they were independent given the truth.
        agree: items on which both cast the same vote.
        expected_agree: how many that would be.
    """

    lfs: tuple[int, int]
    names: tuple[str, str]
    score: float
    together: int
    expected_together: float
    agree: int
    expected_agree: float

    def message(self) -> str:
        """The finding as a sentence."""
        first, second = self.names
        return (
            f"LFs {first} and {second}: vote together on {self.together:,} items "
            f"({self.expected_together:,.0f} if independent), the same on {self.agree:,} "
            f"({self.expected_agree:,.0f})"
        )


def suggest_dependencies(
    votes: ArrayLike,
    tree: TaskTree,
    *,
    lf_names: Sequence[str] | None = None,
    config: DiscoveryConfig = DiscoveryConfig(),
    dependencies: Dependencies | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> list[SuggestedDependency]:
    """Pairs of LFs that one may want to merge, to rewrite, or to give to `fit_with_dependencies`.

    Args:
        votes: int[n, m] node ids, -1 = abstain, -2 = never asked.
        tree: the task tree.
        lf_names: m names; by default the column numbers.
        config: settings of `discover_dependencies`.
        dependencies: what it returned for these votes, if that is known already.
        on_progress: see `discover_dependencies`.

    Returns:
        The pairs, the strongest first.

    Raises:
        ValueError: as `discover_dependencies`, or a wrong number of names.

    Example:
        >>> import jax
        >>> from metal_jax.labeling import synthetic_votes
        >>> tree = TaskTree.single(2)
        >>> votes = synthetic_votes(jax.random.key(0), 1000, 8, tree).votes
        >>> votes = np.concatenate([votes, votes[:, :1]], axis=1)
        >>> [pair.names for pair in suggest_dependencies(votes, tree)]
        [('0', '8')]
    """
    matrix = validate(votes, tree, lf_names=lf_names)
    names = [str(j) for j in range(matrix.shape[1])] if lf_names is None else list(lf_names)
    found = dependencies
    if found is None:
        found = discover_dependencies(matrix, tree, config, on_progress=on_progress)
    q = np.asarray(found.posterior, float)
    if q.shape != (len(matrix), tree.num_leaves):
        raise ValueError(f"dependencies: got {len(q)} items, the votes have {len(matrix)}")
    suggestions = []
    for (i, j), score in zip(found.edges.tolist(), found.score.tolist(), strict=True):
        first, second = matrix[:, i], matrix[:, j]
        both = (first >= 0) & (second >= 0)
        own = q[:, _leaves_of(tree, first, second)]  # the root that the two vote on
        common = np.intersect1d(first[first >= 0], second[second >= 0])
        suggestions.append(
            SuggestedDependency(
                lfs=(i, j),
                names=(names[i], names[j]),
                score=score,
                together=int(both.sum()),
                expected_together=_expected(own, first >= 0, second >= 0),
                agree=int((both & (first == second)).sum()),
                expected_agree=sum(_expected(own, first == v, second == v) for v in common),
            )
        )
    return suggestions


def _leaves_of(tree: TaskTree, *votes: np.ndarray) -> slice:
    node = max(int(column.max()) for column in votes)
    return tree.root_leaves[tree.node_root[node]]


def _expected(q: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """Items on which two events happen, if they are independent in each leaf state."""
    total = q.sum(axis=0)
    return float(np.sum((q.T @ first) * (q.T @ second) / np.where(total > 0, total, 1)))
