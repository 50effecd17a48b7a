"""What every fit returns, and the questions that every fit answers."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax.label_model._tables import (
    ConditionalTables,
    log_posterior,
    tables_lf_accuracy,
    vote_log_likelihood,
)
from metal_jax.labeling import Columns, validate
from metal_jax.task_tree import TaskTree


class FitResult(NamedTuple):
    """A fitted label model.

    Attributes:
        method: the model family.
        tables: its parameters, as log tables.
        columns: what the rows of the tables stand for.
        tree: the task tree.
        converged: whether a stopping tolerance was met.
        status: why the fit stopped, in words.
        num_steps: optimiser steps or EM iterations taken.
        objective_trace: float[num_steps + 1], the objective before each step and at the end.
    """

    method: str
    tables: ConditionalTables
    columns: Columns
    tree: TaskTree
    converged: bool
    status: str
    num_steps: int
    objective_trace: np.ndarray

    @property
    def class_balance(self) -> np.ndarray:
        """float[s], the model's prior over leaf states."""
        return np.exp(np.asarray(self.tables.log_prior))


def posterior(result: FitResult, votes: ArrayLike) -> jax.Array:
    """Soft labels: the probability of every leaf state of every item.

    Args:
        result: a fit.
        votes: int[n, m] node ids of the same LFs, on the same or on new items.

    Returns:
        float[n, s]; `task_tree.node_sum` turns them into task marginals.

    Raises:
        ValueError: as `labeling.validate`, or another number of LFs.
    """
    matrix = validate(votes, result.tree)
    return jnp.exp(log_posterior(result.tables, matrix, result.columns, result.tree))


def lf_accuracy(result: FitResult) -> jax.Array:
    """For each LF the probability that its vote covers the truth, given that it votes.

    Args:
        result: a fit.

    Returns:
        float[m]; NaN for an LF that never voted.
    """
    return tables_lf_accuracy(result.tables, result.columns, result.tree)


class Explanation(NamedTuple):
    """Where a posterior comes from: `log_softmax(prior + contributions.sum(0))`.

    Attributes:
        prior: float[s], log class balance.
        contributions: float[n, m, s], each LF's log-likelihood of its vote, centred over the
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
    matrix = validate(votes, result.tree)
    pushes = vote_log_likelihood(result.tables, matrix, result.columns)
    centred = jnp.concatenate(
        [
            pushes[..., span] - jnp.mean(pushes[..., span], axis=-1, keepdims=True)
            for span in result.tree.root_leaves
        ],
        axis=-1,
    )
    return Explanation(result.tables.log_prior, centred, posterior(result, matrix))
