r"""Which LFs are detectors and which are annotators, from their vote counts alone.

A *detector* (a keyword, a pattern) votes for one label where it fires and is silent elsewhere: its
silence is part of what it does. An *annotator* (a crowd worker, a classifier) chooses among the
labels of a task, and a missing vote says nothing. Each LF has a latent kind with a common
prevalence. Given the kind, the counts :math:`N_{jv}` of its votes over the labels of a task follow
a Polya (Dirichlet-multinomial) law:

.. math:: P_{\text{annotator}} = \text{Polya}(N_j;\ \tfrac k2 s_v + \tfrac12), \qquad
    P_{\text{detector}} = \text{Polya}(N_j;\ 0.05),

with s the votes' shares over all LFs: annotators follow the common shares loosely, detectors pile
up on one label. Each law is mixed with a tenth of the other, so that a worker who always votes the
same, among many who do not, is still taken for a worker. The prevalence has a Beta(1/4, 1/4) prior
and is iterated to its fixed point.

This runs on the host, in double precision: which LFs may be detectors decides the shapes of
everything that follows.

Legend: `m` LFs, `d` used (LF, node) columns, `t` tasks.
"""

from __future__ import annotations

import math

import numpy as np
from jax.typing import ArrayLike

from metal_jax.labeling import Columns
from metal_jax.task_tree import TaskTree

_DETECTOR_CONCENTRATION = 0.05
_LEAK = 0.1
_PREVALENCE_COUNTS = 0.25
_NUM_ITERATIONS = 200


def annotator_probability(counts: ArrayLike, columns: Columns, tree: TaskTree) -> np.ndarray:
    """Probability that each LF is an annotator rather than a detector.

    Args:
        counts: float[d], votes of each used column.
        columns: the used columns.
        tree: the task tree; an LF is compared with others on each task that it votes on.

    Returns:
        float64[m]; 1/2 for an LF without votes.

    Example:
        >>> from metal_jax.labeling import used_columns
        >>> votes = np.array([[0, -1, 0, 1], [1, 1, 1, 0], [0, -1, 0, 0], [1, 1, 1, 1]] * 20)
        >>> columns = used_columns(votes)
        >>> counts = [(votes[:, j] == v).sum() for j, v in zip(columns.lf, columns.symbol)]
        >>> (annotator_probability(counts, columns, TaskTree.single(2)) > 0.5).tolist()
        [True, False, True, True]
    """
    counts = np.asarray(counts, float)
    task = tree.node_task[columns.symbol]
    by_node = np.bincount(columns.symbol, counts, tree.num_nodes)
    by_task = np.bincount(task, counts, tree.num_tasks)
    size = np.array([len(nodes) for nodes in tree.task_nodes])
    share = by_node / np.maximum(by_task, 1)[tree.node_task]
    log_law = np.stack(
        [
            _log_polya(counts, concentration, columns, tree)
            for concentration in (
                size[tree.node_task] * share / 2 + 0.5,
                np.full(tree.num_nodes, _DETECTOR_CONCENTRATION),
            )
        ]
    )
    mixed = np.logaddexp(log_law + math.log(1 - _LEAK), log_law[::-1] + math.log(_LEAK))
    log_odds = mixed[0] - mixed[1]
    votes = np.bincount(columns.lf, counts, columns.num_lfs) > 0
    prevalence = 0.5
    for _ in range(_NUM_ITERATIONS):
        expected = _expit(log_odds + math.log(prevalence) - math.log1p(-prevalence))[votes].sum()
        prevalence = (expected + _PREVALENCE_COUNTS) / (votes.sum() + 2 * _PREVALENCE_COUNTS)
    kind = _expit(log_odds + math.log(prevalence) - math.log1p(-prevalence))
    return np.where(votes, kind, 0.5)


def _log_polya(
    counts: np.ndarray, concentration: np.ndarray, columns: Columns, tree: TaskTree
) -> np.ndarray:
    """Log-probability of an LF's sequence of votes, summed over tasks.

    Args:
        counts: float[d].
        concentration: float[N], of each node.
        columns: the used columns.
        tree: the task tree.

    Returns:
        float[m].
    """
    m, t = columns.num_lfs, tree.num_tasks
    here = concentration[columns.symbol]
    used = np.bincount(columns.lf, _gammaln(here + counts) - _gammaln(here), m)
    cell = columns.lf * t + tree.node_task[columns.symbol]
    votes = np.bincount(cell, counts, m * t).reshape(m, t)
    whole = np.bincount(tree.node_task, concentration, t)
    return used - np.sum(_gammaln(whole + votes) - _gammaln(whole), axis=1)


# Of SciPy these two alone would be needed, and importing it takes a quarter of a second.


def _gammaln(x: np.ndarray) -> np.ndarray:
    return np.fromiter(map(math.lgamma, x.ravel().tolist()), float, x.size).reshape(x.shape)


def _expit(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -x))
