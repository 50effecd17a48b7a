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
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import betaln
from jax.typing import ArrayLike

from metal_jax.labeling import Columns
from metal_jax.task_tree import TaskTree

_DETECTOR_CONCENTRATION = 0.05
_LEAK = 0.1
_PREVALENCE_COUNTS = 0.25
_NUM_ITERATIONS = 200


def annotator_probability(counts: ArrayLike, columns: Columns, tree: TaskTree) -> jax.Array:
    """Probability that each LF is an annotator rather than a detector.

    Args:
        counts: float[d], votes of each used column.
        columns: the used columns.
        tree: the task tree; an LF is compared with others on each task that it votes on.

    Returns:
        float[m]; 1/2 for an LF without votes.

    Example:
        >>> from metal_jax.labeling import used_columns
        >>> votes = np.array([[0, -1, 0, 1], [1, 1, 1, 0], [0, -1, 0, 0], [1, 1, 1, 1]] * 20)
        >>> columns = used_columns(votes)
        >>> counts = [(votes[:, j] == v).sum() for j, v in zip(columns.lf, columns.symbol)]
        >>> (annotator_probability(counts, columns, TaskTree.single(2)) > 0.5).tolist()
        [True, False, True, True]
    """
    by_node = np.zeros((columns.num_lfs, tree.num_nodes))
    by_node[columns.lf, columns.symbol] = counts
    return _annotator_probability(jnp.asarray(by_node, jnp.result_type(float)), tree)


@functools.partial(jax.jit, static_argnames="tree")
def _annotator_probability(by_node: jax.Array, tree: TaskTree) -> jax.Array:
    # Tasks side by side, padded to the widest: [m, t, W].
    width = max(len(nodes) for nodes in tree.task_nodes)
    nodes = np.full((tree.num_tasks, width), -1)
    for t, own in enumerate(tree.task_nodes):
        nodes[t, : len(own)] = own
    exists = nodes >= 0
    counts = jnp.where(exists, by_node[:, nodes], 0)
    total = jnp.sum(counts, axis=(0, 2))[:, None]
    share = jnp.sum(counts, axis=0) / jnp.maximum(total, 1)
    size = exists.sum(axis=1, keepdims=True)
    concentration = jnp.stack(
        [size * share / 2 + 0.5, jnp.full_like(share, _DETECTOR_CONCENTRATION)]
    )
    log_law = _log_polya(counts, jnp.where(exists, concentration, 0)[:, None])
    other = log_law[::-1]
    mixed = jnp.logaddexp(log_law + math.log(1 - _LEAK), other + math.log(_LEAK))
    log_odds = mixed[0] - mixed[1]
    votes = jnp.sum(by_node, axis=1) > 0

    def kind(prevalence: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(log_odds + jnp.log(prevalence) - jnp.log1p(-prevalence))

    def update(_: int, prevalence: jax.Array) -> jax.Array:
        expected = jnp.sum(jnp.where(votes, kind(prevalence), 0)) + _PREVALENCE_COUNTS
        return expected / (jnp.sum(votes) + 2 * _PREVALENCE_COUNTS)

    start = jnp.asarray(0.5, by_node.dtype)
    prevalence = jax.lax.fori_loop(0, _NUM_ITERATIONS, update, start)
    return jnp.where(votes, kind(prevalence), 0.5)


def _log_polya(counts: jax.Array, concentration: jax.Array) -> jax.Array:
    """Log-probability of an LF's sequence of votes, summed over tasks.

    By stick breaking, each label against those after it: a product of Beta ratios rather than a
    difference of log-gammas, which cancel badly in float32.

    Args:
        counts: float[m, t, W].
        concentration: float[2, 1, t, W] for the two laws, 0 where padded.

    Returns:
        float[2, m].
    """

    def after(x: jax.Array) -> jax.Array:
        return jnp.flip(jnp.cumsum(jnp.flip(x, -1), -1), -1) - x

    here, later = concentration, after(concentration)
    # The last label of a task is no choice: its stick has the ratio 1.
    choice = later > 0.01
    here, later = jnp.where(choice, here, 1), jnp.where(choice, later, 1)
    x, y = jnp.where(choice, counts, 0), jnp.where(choice, after(counts), 0)
    first = jnp.stack([here + x, jnp.broadcast_to(here, x.shape)])
    second = jnp.stack([later + y, jnp.broadcast_to(later, y.shape)])
    log_beta = betaln(first, second)  # one call: it compiles slowly
    return jnp.sum(log_beta[0] - log_beta[1], axis=(-1, -2))
