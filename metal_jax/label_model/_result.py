"""What every fit returns, and the questions that every fit answers."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.checks import check_shape
from metal_jax.label_model._gold import gold_mask
from metal_jax.label_model._votes import checked_votes
from metal_jax.labeling import Columns
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
        columns: the (LF, node) pairs that the parameters speak of.
        tree: the task tree.
        converged: whether a stopping tolerance was met.
        status: why the fit stopped, in words.
        num_steps: optimiser steps or EM iterations taken.
        objective_trace: float[num_steps + 1], the objective before each step and at the end.
        num_restarts: fits started elsewhere as a check, 0 if none were asked for.
        restarts_agreeing: how many of them label 99 % of the items the same way.
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

    @property
    def class_balance(self) -> np.ndarray:
        """float[s], the model's prior over leaf states."""
        return np.exp(np.asarray(self.params.log_prior))


def posterior(result: FitResult, votes: ArrayLike, *, gold: ArrayLike | None = None) -> jax.Array:
    """Soft labels: the probability of every leaf state of every item.

    Args:
        result: a fit.
        votes: int[n, m] node ids of the same LFs, on the same or on new items; or soft votes
            float[n, m, N], see `checked_votes`.
        gold: int[n] node ids, -1 = unknown; known labels are imposed on the posterior.

    Returns:
        float[n, s]; `task_tree.node_sum` turns them into task marginals.

    Raises:
        ValueError: as `labeling.validate`, or another number of LFs.
    """
    matrix = checked_votes(votes, result.tree)
    log_q = result.params.log_posterior(matrix, result.columns, result.tree)
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
        float[m]; NaN for an LF that never voted.
    """
    return result.params.lf_accuracy(result.columns, result.tree)


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
    """
    matrix = checked_votes(votes, result.tree)
    prior, pushes = result.params.contributions(matrix, result.columns, result.tree)
    centred = jnp.concatenate(
        [
            pushes[..., span] - jnp.mean(pushes[..., span], axis=-1, keepdims=True)
            for span in result.tree.root_leaves
        ],
        axis=-1,
    )
    return Explanation(prior, centred, posterior(result, matrix))
