r"""Steps of EM over streamed votes, where a pass is dear: Anderson acceleration.

EM maps expected counts S to expected counts G(S). Its steps shrink by a constant factor, which is
close to one when labels are hard to tell apart. Type-II Anderson acceleration (Walker and Ni, SIAM
J. Numer. Anal. 2011) takes, of the combinations of the last few counts, the one whose step would be
least if G were linear, and takes that step. It works on :math:`\log(1 + S)`, so that counts stay
positive, and tables, which are made of them, distributions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from metal_jax.label_model._annotators import AnnotatorPrior, annotator_tables
from metal_jax.label_model._class_balance import log_balance_of
from metal_jax.label_model._stream_passes import PassSums, StreamModel
from metal_jax.label_model._votes import to_device
from metal_jax.task_tree import TaskTree

_MEMORY = 4  # pairs of counts: three differences; eight bring no more
_RIDGE = 1e-10  # of the trace of the normal equations


class History(NamedTuple):
    """Where EM has been lately.

    Attributes:
        given: float64[t, c], log(1 + counts) that models were made of, oldest first.
        found: float64[t, c], log(1 + counts) that passes with these models found.
    """

    given: np.ndarray
    found: np.ndarray

    def then(self, given: np.ndarray, found: np.ndarray) -> History:
        """With another pair; the oldest is forgotten."""
        if not len(self.given):
            return History(given[None], found[None])
        return History(
            np.concatenate([self.given, given[None]])[-_MEMORY:],
            np.concatenate([self.found, found[None]])[-_MEMORY:],
        )


NO_HISTORY = History(np.zeros((0, 0)), np.zeros((0, 0)))


def next_counts(history: History) -> np.ndarray:
    """Where Anderson acceleration goes on: float64[c], from one pair at least."""
    residual = history.found - history.given
    steps, moves = np.diff(residual, axis=0), np.diff(history.found, axis=0)
    normal = steps @ steps.T
    normal += _RIDGE * np.trace(normal) * np.eye(len(normal))
    weights = np.linalg.lstsq(normal, steps @ residual[-1], rcond=None)[0]
    return history.found[-1] - weights @ moves


def to_log_counts(sums: PassSums) -> np.ndarray:
    """float64[c], log(1 + counts) of a pass, votes before class balance."""
    return np.log1p(np.concatenate([np.ravel(sums.counts), np.ravel(sums.balance)]))


def maximise(
    model: StreamModel,
    log_counts: np.ndarray,
    prior: AnnotatorPrior,
    tree: TaskTree,
    fixed_balance: bool,
) -> StreamModel:
    """The M-step.

    Args:
        model: any model of these columns.
        log_counts: float64[c], as `to_log_counts` makes it.
        prior: pseudo-counts.
        tree: the task tree.
        fixed_balance: keep the class balance.

    Returns:
        The model with new tables and class balance.
    """
    counts, balance = np.split(np.expm1(np.maximum(log_counts, 0)), [model.log_vote.size])
    table = to_device(counts.reshape(model.log_vote.shape))
    log_vote = annotator_tables(table, model.lf, model.own_root, prior)
    log_prior = model.log_prior
    if not fixed_balance:
        log_prior = log_balance_of(to_device(balance), prior.balance, tree)
    return model._replace(log_vote=log_vote, log_prior=log_prior)
