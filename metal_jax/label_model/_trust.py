"""How far to trust a fit: bootstrap intervals, suspicious LFs, classes without evidence.

Legend: `n` items, `m` LFs, `N` label nodes, `r` bootstrap replicates.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.checks import check_shape, real_array
from metal_jax._core.intervals import wilson_interval
from metal_jax._core.steps import Remember, make_again
from metal_jax.label_model._class_balance import node_masses
from metal_jax.label_model._majority import majority_vote
from metal_jax.label_model._result import FitResult, lf_accuracy, posterior
from metal_jax.label_model._votes import checked_votes
from metal_jax.task_tree import TaskTree

_LEVEL = 0.95


class WeightedFit(Protocol):
    """A fit that takes item weights, such as `fit` or `fit_dawid_skene`."""

    def __call__(self, votes: ArrayLike, tree: TaskTree, *, item_weights: ArrayLike) -> FitResult:
        """The fit of weighted votes."""
        ...


def bootstrap_lf_accuracy(
    fit: WeightedFit,
    votes: ArrayLike,
    tree: TaskTree,
    *,
    key: jax.Array,
    num_replicates: int = 50,
    on_progress: Callable[[int], None] | None = None,
    remember: Remember = make_again,
) -> np.ndarray:
    """LF accuracies of refits on resampled items: quantiles over replicates are intervals.

    Items are resampled by weights from the flat Dirichlet law (Rubin, "The Bayesian Bootstrap",
    Annals of Statistics, 1981), so that no column falls away and every refit reuses the compiled
    program of the first.

    Args:
        fit: which model, with its settings bound, e.g. by `functools.partial`.
        votes: int[n, m] node ids, or soft votes.
        tree: the task tree.
        key: consumed.
        num_replicates: r.
        on_progress: called before each refit, with the number of those that are done.
        remember: may keep the accuracies of each refit, so that whoever is interrupted need not
            make them again: called with a name and what makes its arrays, it gives them, made now
            or earlier.

    Returns:
        float[r, m].

    Raises:
        ValueError: as `checked_votes` and `fit`.

    Example:
        >>> from metal_jax.label_model import fit
        >>> votes = np.array([[0, 0, -1], [1, -1, 1], [0, 1, 0], [-1, 1, 1]] * 10)
        >>> tree = TaskTree.single(2)
        >>> bootstrap_lf_accuracy(fit, votes, tree, key=jax.random.key(0), num_replicates=3).shape
        (3, 3)
    """
    n = len(checked_votes(votes, tree))
    weights = n * np.asarray(jax.random.dirichlet(key, jnp.ones(n), (num_replicates,)))

    def refit(replicate: int) -> dict[str, np.ndarray]:
        result = fit(votes, tree, item_weights=weights[replicate])
        return {"lf_accuracy": np.asarray(lf_accuracy(result))}

    rows = []
    for replicate in range(num_replicates):
        if on_progress is not None:
            on_progress(replicate)
        made = remember(f"replicate {replicate}", functools.partial(refit, replicate))
        rows.append(made["lf_accuracy"])
    return np.stack(rows)


class Diagnosis(NamedTuple):
    """What a fit says of itself and of the LFs; plain numpy, nothing is judged by gold.

    Attributes:
        converged: as the fit says.
        status: why it stopped.
        accuracy: float[m], estimated accuracy of each LF; NaN where it never votes.
        interval: float[m, 2], its 95 % interval.
        chance: float[m], the accuracy of the same votes cast at random: the mean class balance of
            the nodes voted for.
        adversarial: bool[m], the whole interval lies under chance.
        useless: bool[m], the interval includes chance, or the LF never votes.
        unvoted: bool[N], classes without evidence of their own: no LF votes for the node or for
            one beneath it.
        expected_accuracy: share of items with a vote that the model expects to label rightly.
        expected_majority_accuracy: what it expects of majority vote on the same items.
        agreement: share of items with a vote on which the two agree, ties split.
        majority_would_do: the expected gain over majority vote is under its standard error.
        num_restarts: fits started elsewhere, 0 if none were asked for.
        restarts_agreeing: how many of them came to the same labels, on 99 % of the items.
    """

    converged: bool
    status: str
    accuracy: np.ndarray
    interval: np.ndarray
    chance: np.ndarray
    adversarial: np.ndarray
    useless: np.ndarray
    unvoted: np.ndarray
    expected_accuracy: float
    expected_majority_accuracy: float
    agreement: float
    majority_would_do: bool
    num_restarts: int
    restarts_agreeing: int

    def messages(self, lf_names: list[str] | None = None) -> list[str]:
        """The findings in plain sentences, worst first; empty if there is nothing to say."""
        names = lf_names or [str(j) for j in range(len(self.accuracy))]
        found = []
        if not self.converged:
            found.append(f"the fit did not converge: {self.status}")
        if self.restarts_agreeing < self.num_restarts:
            found.append(
                f"{self.num_restarts - self.restarts_agreeing} of {self.num_restarts} restarts "
                "came to other labels"
            )
        for flags, text in (
            (self.adversarial, "worse than chance"),
            (self.useless, "not told from chance"),
        ):
            found += [
                f"LF {name}: {text} (accuracy {a:.2f} in [{low:.2f}, {high:.2f}], chance {c:.2f})"
                if np.isfinite(a)
                else f"LF {name}: never votes"
                for name, a, (low, high), c, flag in zip(
                    names, self.accuracy, self.interval, self.chance, flags, strict=True
                )
                if flag
            ]
        if self.unvoted.any():
            found.append(f"no LF votes for nodes {np.flatnonzero(self.unvoted).tolist()}")
        if self.majority_would_do:
            found.append(
                f"majority vote would do: expected accuracy {self.expected_majority_accuracy:.3f} "
                f"against {self.expected_accuracy:.3f}"
            )
        return found


def diagnose(
    result: FitResult, votes: ArrayLike, *, replicates: ArrayLike | None = None
) -> Diagnosis:
    """Say what is doubtful about a fit.

    Args:
        result: the fit.
        votes: the votes that it was fitted to, int[n, m] or soft.
        replicates: float[r, m] from `bootstrap_lf_accuracy`. Without them intervals are those of a
            share of the LF's votes (Wilson, 1927), which leave out that the truth is estimated too.

    Returns:
        The diagnosis.

    Raises:
        ValueError: as `checked_votes`, another number of LFs, or no vote at all.

    Example:
        >>> from metal_jax.label_model import fit
        >>> votes = np.array([[0, 0, -1], [1, -1, 1], [0, 1, 0], [-1, 1, 1]] * 10)
        >>> diagnose(fit(votes, TaskTree.single(2)), votes).unvoted.tolist()
        [False, False]
    """
    tree, columns = result.tree, result.columns
    m = columns.num_lfs
    matrix = checked_votes(votes, tree, m)
    accuracy = np.asarray(lf_accuracy(result), float)
    mass = node_masses(result.class_balance, tree)
    by_node = np.zeros((m, tree.num_nodes))  # votes of each LF
    if matrix.ndim == 3:
        by_node += matrix.sum(axis=0)
    else:
        item, lf = np.nonzero(matrix >= 0)
        np.add.at(by_node, (lf, matrix[item, lf]), 1)
    total = by_node.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        chance = by_node @ mass / total
    interval = (
        wilson_interval(accuracy, total, level=_LEVEL)
        if replicates is None
        else _quantiles(replicates, m)
    )

    covered = (matrix >= 0).any(axis=1) if matrix.ndim == 2 else matrix.any(axis=(1, 2))
    if not covered.any():
        raise ValueError("votes: no LF votes on any item")
    probs = np.asarray(posterior(result, matrix))[covered]
    majority = np.asarray(majority_vote(matrix, tree))[covered]
    ours, theirs, agreement = (
        _right(*pair, tree)
        for pair in ((probs, probs), (probs, majority), (_labels(probs, tree), majority))
    )
    gain = ours - theirs
    voted = by_node.sum(axis=0)
    for node in range(tree.num_nodes - 1, -1, -1):  # breadth first: children come later
        if tree.node_parent[node] >= 0:
            voted[tree.node_parent[node]] += voted[node]
    return Diagnosis(
        converged=result.converged,
        status=result.status,
        accuracy=accuracy,
        interval=interval,
        chance=chance,
        adversarial=interval[:, 1] < chance,
        useless=~(interval[:, 1] < chance) & ~(interval[:, 0] > chance),
        unvoted=voted == 0,
        expected_accuracy=float(ours.mean()),
        expected_majority_accuracy=float(theirs.mean()),
        agreement=float(agreement.mean()),
        majority_would_do=bool(gain.mean() <= gain.std() / len(gain) ** 0.5),
        num_restarts=result.num_restarts,
        restarts_agreeing=result.restarts_agreeing,
    )


def _labels(probs: np.ndarray, tree: TaskTree) -> np.ndarray:
    """float[n, s], the likeliest leaf of each root as an indicator, ties split."""
    parts = []
    for span in tree.root_leaves:
        best = probs[:, span] >= probs[:, span].max(axis=1, keepdims=True)
        parts.append(best / best.sum(axis=1, keepdims=True))
    return np.concatenate(parts, axis=1)


def _right(probs: np.ndarray, choice: np.ndarray, tree: TaskTree) -> np.ndarray:
    """float[n], probability that the labels chosen by `choice` are right, mean over roots."""
    return np.sum(probs * _labels(choice, tree), axis=1) / len(tree.roots)


def _quantiles(replicates: ArrayLike, num_lfs: int) -> np.ndarray:
    tail, values = (1 - _LEVEL) / 2, np.asarray(real_array("replicates", replicates), float)
    check_shape("replicates", values, (*values.shape[:1], num_lfs))
    if not len(values):
        raise ValueError("replicates: got none, expected at least one")
    return np.quantile(values, [tail, 1 - tail], axis=0).T
