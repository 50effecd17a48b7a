"""What every fit returns, and the questions that every fit answers."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from metal_jax._core.checks import check_shape
from metal_jax._core.sharding import map_over_data
from metal_jax.label_model._gold import gold_mask
from metal_jax.label_model._lf_roots import LFRoots, lf_roots_of_columns
from metal_jax.label_model._votes import checked_votes
from metal_jax.labeling import ABSTAIN, Columns
from metal_jax.task_tree import TaskTree, log_normalise_roots


class VoteModel(Protocol):
    """What the parameters of every model family can do; a NamedTuple of arrays."""

    @property
    def log_prior(self) -> jax.Array:
        """float[s], log class balance."""
        ...

    def log_posterior(self, votes: ArrayLike, columns: Columns, tree: TaskTree) -> jax.Array:
        """float[n, s] log-posterior over leaf states."""
        ...

    def contributions(
        self, votes: ArrayLike, columns: Columns, tree: TaskTree
    ) -> tuple[jax.Array, jax.Array]:
        """The prior's and each LF's share in the log-posterior: float[n, s], float[n, m, s]."""
        ...

    def lf_accuracy(self, columns: Columns, tree: TaskTree) -> jax.Array:
        """float[m], probability that an LF's vote covers the truth."""
        ...


class FitResult(NamedTuple):
    """A fitted label model.

    Attributes:
        method: the model family.
        params: its parameters, a NamedTuple of arrays.
        columns: the (LF, node) columns that the parameters speak of.
        tree: the task tree.
        converged: whether a stopping tolerance was met.
        status: why the fit stopped, in words.
        num_steps: optimiser steps or EM iterations taken.
        objective_trace: float[num_steps + 1], the objective before each step and at the end.
        num_restarts: fits started elsewhere as a check, 0 if none were asked for.
        restarts_agreeing: how many of them label 99 % of the items the same way.
        lf_roots: where an LF votes on several roots of a forest, the (LF, root) pairs that are the
            LFs of `params`; else None.
    """

    method: str
    params: VoteModel
    columns: Columns
    tree: TaskTree
    converged: bool
    status: str
    num_steps: int
    objective_trace: np.ndarray
    num_restarts: int = 0
    restarts_agreeing: int = 0
    lf_roots: LFRoots | None = None

    @property
    def class_balance(self) -> np.ndarray:
        """float[s], the model's prior over leaf states."""
        return np.exp(np.asarray(self.params.log_prior))


class EMRun(Protocol):
    """Where an EM loop ended; each family's own NamedTuple."""

    @property
    def change(self) -> jax.Array:
        """float[], how far the last iteration moved an item's posterior."""
        ...

    @property
    def num_steps(self) -> jax.Array:
        """int32[], iterations taken."""
        ...

    @property
    def trace(self) -> jax.Array:
        """float[max_steps], the objective after each of them."""
        ...


def em_result(
    method: str, params: VoteModel, columns: Columns, tree: TaskTree, run: EMRun, tolerance: float
) -> FitResult:
    """The result of a fit by EM that stops when no item's posterior moves by over `tolerance`."""
    num_steps = int(run.num_steps)
    converged = bool(run.change <= tolerance)
    return FitResult(
        method=method,
        params=params,
        columns=columns,
        tree=tree,
        converged=converged,
        status="converged: the posterior stopped moving"
        if converged
        else "stopped at max_steps before converging",
        num_steps=num_steps,
        objective_trace=np.asarray(run.trace[:num_steps]),
    )


def posterior(
    result: FitResult,
    votes: ArrayLike,
    *,
    gold: ArrayLike | None = None,
    mesh: Mesh | None = None,
) -> jax.Array:
    """Soft labels: the probability of every leaf state of every item.

    Args:
        result: a fit.
        votes: int[n, m] node ids of the same LFs, on the same or on new items; or soft votes
            float[n, m, N], see `checked_votes`.
        gold: int[n] node ids, -1 = unknown; known labels are imposed on the posterior.
        mesh: devices along an axis "data", over which the items are spread; not of a GLAD fit.

    Returns:
        float[n, s]; `task_tree.node_sum` turns them into task marginals.

    Raises:
        ValueError: as `labeling.validate`, or another number of LFs.

    Example:
        >>> from metal_jax.label_model import fit_dawid_skene
        >>> votes = np.array([[0, 0, 0], [1, 1, 1], [1, 1, 0], [0, 0, -1]] * 5)
        >>> result = fit_dawid_skene(votes, TaskTree.single(2))
        >>> posterior(result, votes[:3]).argmax(axis=1).tolist()
        [0, 1, 1]
    """
    matrix = checked_votes(votes, result.tree)
    given, columns = _split(result, matrix)

    def function(votes: ArrayLike) -> jax.Array:
        return result.params.log_posterior(votes, columns, result.tree)

    log_q = (
        function(given)
        if mesh is None
        else map_over_data(function, jnp.asarray(given), mesh, fill=ABSTAIN)
    )
    if gold is not None:
        known = gold_mask(gold, result.tree)
        check_shape("gold", known, log_q.shape)
        log_q = log_normalise_roots(result.tree, jnp.where(known, log_q, -jnp.inf))
    return jnp.exp(log_q)


def lf_accuracy(result: FitResult) -> jax.Array:
    """For each LF the probability that its vote covers the truth, given that it votes.

    Args:
        result: a fit.

    Returns:
        float[m]; NaN for an LF that never voted. Of one that votes on several roots the mean over
        its votes; see `lf_accuracy_by_root`.

    Example:
        >>> from metal_jax.label_model import fit_dawid_skene
        >>> votes = np.array([[0, 0, 0], [1, 1, 1], [1, 1, 0], [0, 0, -1]] * 5)
        >>> result = fit_dawid_skene(votes, TaskTree.single(2))
        >>> (lf_accuracy(result) > 0.5).tolist()
        [True, True, True]
    """
    pairs, accuracy = result.lf_roots, _pair_accuracy(result)
    if pairs is None:
        return accuracy
    weight = jnp.where(jnp.isnan(accuracy), 0, jnp.asarray(pairs.num_votes, accuracy.dtype))
    both = jnp.stack([jnp.where(weight > 0, weight * accuracy, 0), weight], axis=-1)
    right, votes = jax.ops.segment_sum(both, jnp.asarray(pairs.lf), pairs.num_lfs).T
    return right / votes


def lf_accuracy_by_root(result: FitResult) -> jax.Array:
    """`lf_accuracy` on each root of a forest.

    Args:
        result: a fit.

    Returns:
        float[m, r], in the order of `tree.roots`; NaN where an LF does not vote on a root.

    Example:
        >>> from metal_jax.label_model import fit_dawid_skene
        >>> votes = np.array([[0, 0, 0], [1, 1, 1], [1, 1, 0], [0, 0, -1]] * 5)
        >>> result = fit_dawid_skene(votes, TaskTree.single(2))
        >>> lf_accuracy_by_root(result).shape
        (3, 1)
    """
    tree, columns, accuracy = result.tree, result.columns, _pair_accuracy(result)
    pairs = result.lf_roots
    if pairs is None:
        pairs = lf_roots_of_columns(columns, np.ones(columns.num_columns), tree)
    table = jnp.full((columns.num_lfs, len(tree.roots)), jnp.nan, accuracy.dtype)
    return table.at[pairs.lf, pairs.root].set(accuracy)


def _pair_accuracy(result: FitResult) -> jax.Array:
    """float[m], or float[p] for the (LF, root) pairs."""
    columns, pairs = result.columns, result.lf_roots
    if pairs is not None:
        columns = pairs.split_columns(columns, result.tree)
    return result.params.lf_accuracy(columns, result.tree)


def _split(result: FitResult, votes: np.ndarray) -> tuple[np.ndarray, Columns]:
    """Votes and columns of the LFs of `result.params`."""
    pairs = result.lf_roots
    if pairs is None:
        return votes, result.columns
    return (
        pairs.split_votes(votes, result.tree),
        pairs.split_columns(result.columns, result.tree),
    )


def join_lfs(result: FitResult, pairs: LFRoots) -> FitResult:
    """The fit of (LF, root) pairs as one of LFs."""
    if not pairs.several:
        return result
    return result._replace(columns=pairs.join_columns(result.columns), lf_roots=pairs)


class Explanation(NamedTuple):
    """Where a posterior comes from: `softmax(prior + contributions.sum(1))` over each root.

    Attributes:
        prior: float[n, s], log class balance, as it counts for the item.
        contributions: float[n, m, s], each LF's share in the log-posterior, centred over the
            leaves of each root so that an uninformative vote contributes zeros.
        posterior: float[n, s].
    """

    prior: jax.Array
    contributions: jax.Array
    posterior: jax.Array


def explain(result: FitResult, votes: ArrayLike) -> Explanation:
    """Which LF pushed an item where.

    Args:
        result: a fit.
        votes: int[n, m] node ids; memory is O(n m s), so pass the items of interest.

    Returns:
        Log-odds contributions that add up to the posterior exactly.

    Raises:
        ValueError: as `posterior`.

    Example:
        >>> from metal_jax.label_model import fit_dawid_skene
        >>> votes = np.array([[0, 0, 0], [1, 1, 1], [1, 1, 0], [0, 0, -1]] * 5)
        >>> result = fit_dawid_skene(votes, TaskTree.single(2))
        >>> explanation = explain(result, votes[:1])
        >>> explanation.contributions.shape
        (1, 3, 2)
    """
    matrix = checked_votes(votes, result.tree)
    prior, pushes = result.params.contributions(*_split(result, matrix), result.tree)
    if (pairs := result.lf_roots) is not None:
        total = jnp.zeros((len(pushes), pairs.num_lfs, pushes.shape[-1]), pushes.dtype)
        pushes = total.at[:, pairs.lf].add(pushes)
    centred = jnp.concatenate(
        [
            pushes[..., span] - jnp.mean(pushes[..., span], axis=-1, keepdims=True)
            for span in result.tree.root_leaves
        ],
        axis=-1,
    )
    return Explanation(prior, centred, posterior(result, matrix))
