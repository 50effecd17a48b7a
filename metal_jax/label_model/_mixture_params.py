"""Settings and parameters of the default model, and its posterior; `_mixture` has the mathematics.

Legend: `n` items, `m` LFs, `d` used (LF, node) columns, `e` columns of possible detectors, `h`
levels of the tree, `s` leaf states, `R` relations of tied tables.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.checks import check_shape
from metal_jax._core.minimise import MinimiseConfig
from metal_jax.label_model._detectors import DetectorPrior
from metal_jax.label_model._relations import RelationIncidence, relation_incidence, relations
from metal_jax.label_model._vote_sums import indicators, leaf_scores, vote_sums
from metal_jax.label_model._votes import (
    checked_votes,
    fired_matrix,
    to_device,
    vote_incidence,
    votes_by_lf,
)
from metal_jax.labeling import Columns
from metal_jax.task_tree import TaskTree, log_normalise_roots


@dataclasses.dataclass(frozen=True)
class MixtureConfig:
    """Settings of the default model; one set for all data.

    Attributes:
        prior_accuracy: centre of the prior on annotators' tables.
        prior_votes: its strength, in votes for each leaf.
        balance_items: strength of the prior on the class balance, in items of each label for each
            other leaf of its root.
        max_table: most entries of the annotators' full tables, (LF, node) pairs x leaves; beyond
            it, in large trees, they are tied (`_relations`).
        pooled_votes: in tied tables, how strongly an LF's entries at one leaf are drawn to those
            at all leaves together, in votes.
        correlation_scale: multiplier of the residual correlation; 0 leaves posteriors as sharp as
            the model makes them.
        num_restarts: restarts, if `fit` is given a key.
        max_steps: most EM iterations.
        tolerance: stop EM when an iteration moves no item's posterior by more than this.
        detectors: constants of the detectors' pair model.
        annotator: fixes the probability that an LF is an annotator, where you know what your LFs
            are: 1 for a crowd; None infers it for each LF.
        minimise: solver of the detectors' pair model.
    """

    prior_accuracy: float = 0.7
    prior_votes: float = 2.0
    balance_items: float = 5.0
    max_table: int = 2**22
    pooled_votes: float = 10.0
    correlation_scale: float = 9.0
    num_restarts: int = 5
    max_steps: int = 500
    tolerance: float = 1e-4
    detectors: DetectorPrior = DetectorPrior()
    annotator: float | None = None
    minimise: MinimiseConfig = MinimiseConfig(max_steps=150)


class MixtureParams(NamedTuple):
    """Parameters of the default model.

    Attributes:
        log_prior: float[s], log class balance.
        annotator: float[m], probability that the LF is an annotator.
        log_vote: float[d, s], annotators' log tables, not yet weighted by `annotator`; tied,
            float[m, R, s] over relations.
        detector_columns: int32[e], columns with a detector score.
        log_lift: float[h, e, s], `log P(leaf | vote) / P(leaf)`, not yet weighted, by the levels of
            the tree at which the vote speaks.
        copies: float[h, e, e], how far one column repeats another at each level.
        correlation: float[], intra-item correlation of annotators' errors.
        precision: float[d], `P(truth lies under the node | vote)`.
        rate: float[d], share of items with this vote.
    """

    log_prior: jax.Array
    annotator: jax.Array
    log_vote: jax.Array
    detector_columns: jax.Array
    log_lift: jax.Array
    copies: jax.Array
    correlation: jax.Array
    precision: jax.Array
    rate: jax.Array

    def log_posterior(self, votes: ArrayLike, columns: Columns, tree: TaskTree) -> jax.Array:
        """float[n, s] log-posterior over leaf states; of traced votes too."""
        votes = jnp.asarray(votes)
        check_shape("votes", votes, (*votes.shape[:1], columns.num_lfs, *votes.shape[2:]))
        lf, symbol = jnp.asarray(columns.lf), jnp.asarray(columns.symbol)
        return log_posterior_of_votes(self, votes, lf, symbol, tree)

    def contributions(
        self, votes: ArrayLike, columns: Columns, tree: TaskTree
    ) -> tuple[jax.Array, jax.Array]:
        """The prior's and each LF's share in the log-posterior: float[n, s], float[n, m, s]."""
        votes = checked_votes(votes, tree)
        chosen = np.asarray(self.detector_columns)
        operator = vote_incidence(votes, columns)
        fired = to_device(fired_matrix(votes, columns, chosen))
        lf = jnp.asarray(columns.lf)
        weight = self.annotator[lf][:, None]
        if self.log_vote.ndim == 3:
            relation = relation_incidence(votes, columns, tree)
            pushes = self.annotator[:, None] * relation.by_lf(self.log_vote)
        else:
            pushes = votes_by_lf(votes, columns, weight * self.log_vote)
        detected = sum(
            _counted(fired, copies)[..., None] * (1 - weight[chosen]) * lift  # [n, e, s]
            for copies, lift in zip(self.copies, self.log_lift, strict=True)
        )
        pushes = pushes.at[:, columns.lf[chosen]].add(detected)
        temperature = _temperature(self, operator.apply(weight))
        return self.log_prior / temperature, pushes / temperature[..., None]

    def lf_accuracy(self, columns: Columns, tree: TaskTree) -> jax.Array:
        """float[m], probability that an LF's vote covers the truth; NaN without votes."""
        lf, m = jnp.asarray(columns.lf), columns.num_lfs
        right = jax.ops.segment_sum(self.precision * self.rate, lf, m)
        return right / jax.ops.segment_sum(self.rate, lf, m)


@functools.partial(jax.jit, static_argnames="tree")
def log_posterior_of_votes(
    params: MixtureParams, votes: jax.Array, lf: jax.Array, symbol: jax.Array, tree: TaskTree
) -> jax.Array:
    """The posterior of the module's text.

    Args:
        params: the parameters.
        votes: int[n, m] or float[n, m, N].
        lf: int32[d], the LFs of the columns.
        symbol: int32[d], their nodes.
        tree: the task tree (static).

    Returns:
        float[n, s].
    """
    weight = params.annotator[lf][:, None]
    if params.log_vote.ndim == 2:
        table = jnp.concatenate([weight * params.log_vote, weight], axis=1)
        sums = leaf_scores(votes, lf, symbol, table, tree)
        score, depth = sums[:, :-1], sums[:, -1:]
    else:
        table = params.annotator[:, None, None] * params.log_vote
        known = jnp.zeros((votes.shape[1], tree.num_nodes + 1), bool).at[lf, symbol].set(True)
        told = jnp.where(votes < 0, tree.num_nodes, votes.astype(jnp.int32))
        told = jnp.where(known[jnp.arange(votes.shape[1]), told], votes, -1)
        operator = RelationIncidence(told, jnp.asarray(relations(tree)), tree.depth + 1)
        score = operator.apply(table.reshape(-1, table.shape[2]))
        depth = vote_sums(votes, lf, symbol, weight, tree.num_nodes)
    score = score + params.log_prior
    if params.detector_columns.shape[0]:
        chosen = params.detector_columns
        fired = indicators(votes, lf[chosen], symbol[chosen], score.dtype)
        score += detector_score(fired, params.copies, (1 - weight[chosen]) * params.log_lift)
    return log_normalise_roots(tree, score / _temperature(params, depth))


def _temperature(params: MixtureParams, depth: jax.Array) -> jax.Array:
    return 1 + params.correlation * jnp.maximum(depth - 1, 0)


def detector_score(fired: jax.Array, copies: jax.Array, lift: jax.Array) -> jax.Array:
    """Detectors' part of the score, copies discounted.

    Args:
        fired: float[n, e], their votes.
        copies: float[h, e, e].
        lift: float[h, e, s], weighted.

    Returns:
        float[n, s].
    """
    precision = jax.lax.Precision.HIGHEST
    levels = [
        jnp.matmul(_counted(fired, at_level), said, precision=precision)
        for at_level, said in zip(copies, lift, strict=True)
    ]
    return functools.reduce(jnp.add, levels)


def _counted(fired: jax.Array, copies: jax.Array) -> jax.Array:
    """float[n, e], votes discounted by the copies of them that fired."""
    return fired / (1 + jnp.matmul(fired, copies, precision=jax.lax.Precision.HIGHEST))
