"""Annotators' tables by MAP-EM, beside whatever detectors say; see `_mixture` for the model.

Legend: `n` items, `m` LFs, `d` used (LF, node) columns, `s` leaf states, `N` label nodes.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metal_jax.label_model._choices import choices
from metal_jax.label_model._class_balance import label_pseudo_items, log_balance_of
from metal_jax.label_model._incidence import Incidence
from metal_jax.label_model._relations import RelationIncidence
from metal_jax.label_model._tables import column_root_mask
from metal_jax.label_model._votes import pad_to, to_device
from metal_jax.labeling import Columns
from metal_jax.task_tree import TaskTree, log_normalise_roots


class AnnotatorPrior(NamedTuple):
    """Dirichlet pseudo-counts.

    Attributes:
        vote: float[d, s], for the used columns; 0 on the leaves of other roots.
        other: float[m, s], for labels of the same tasks that the LF never used.
        balance: float[N], in items of each label.
        pooled: float[], for tied tables the strength, in votes for each leaf, with which an LF's
            entries at one leaf are drawn to its entries at all leaves together; None for none.
    """

    vote: jax.Array
    other: jax.Array
    balance: jax.Array
    pooled: jax.Array | None = None


class AnnotatorData(NamedTuple):
    """What the fit sees; with tied tables a column is an (LF, relation) pair, see `_relations`.

    Attributes:
        votes: the indicator matrix [n, d].
        lf: int32[d], the LF of each column.
        own_root: bool[d, s], leaves of the root that the column votes on; tied, leaves to which
            the LF uses nodes in this relation.
        covered: float[d, s], leaves beneath the column's node.
        weight: float[d, 1], probability that the column's LF is an annotator.
        offset: float[n, s], the detectors' score; -inf on leaves that gold rules out.
        item_weights: float[n, 1], how often each item counts.
        known: bool[n, s], leaves of the roots on which the item has gold; None without any.
    """

    votes: Incidence | RelationIncidence
    lf: jax.Array
    own_root: jax.Array
    covered: jax.Array
    weight: jax.Array
    offset: jax.Array
    item_weights: jax.Array
    known: jax.Array | None = None


def annotator_prior(
    columns: Columns,
    tree: TaskTree,
    *,
    accuracy: np.ndarray,
    votes: float,
    balance_items: float,
    width: int | None = None,
) -> AnnotatorPrior:
    """One-coin pseudo-counts over all labels of the tasks that an LF votes on.

    Args:
        columns: the used columns.
        tree: the task tree.
        accuracy: float[m], probability of a vote for a node above or at the truth.
        votes: pseudo-votes of each LF for each leaf.
        balance_items: see `label_pseudo_items`.
        width: number of columns to make it for, those beyond d empty; d by default.

    Returns:
        The pseudo-counts, in the default float dtype.
    """
    m, s = columns.num_lfs, tree.num_leaves
    num_right, num_wrong, _ = choices(columns, tree)
    accuracy = accuracy[:, None]
    right = np.where(num_wrong > 0, accuracy, 1.0) / np.maximum(num_right, 1)
    wrong = np.where(num_right > 0, 1 - accuracy, 1.0) / np.maximum(num_wrong, 1)
    covered = tree.covers[columns.symbol]
    mean = np.where(covered, right[columns.lf], wrong[columns.lf])
    mean = mean * column_root_mask(columns, tree)
    used = np.zeros((m, s))
    np.add.at(used, columns.lf, mean)
    in_root = num_right + num_wrong > 0
    return _on_device(
        votes * pad_to(mean, columns.num_columns if width is None else width),
        votes * np.maximum(in_root - used, 0),
        label_pseudo_items(balance_items, tree),
    )


def relation_prior(
    mass: np.ndarray,
    tree: TaskTree,
    *,
    accuracy: np.ndarray,
    votes: float,
    pooled: float,
    balance_items: float,
) -> AnnotatorPrior:
    """As `annotator_prior`, for tied tables: errors part from the true path at any depth alike.

    Args:
        mass: float[m, R, s] from `relation_mass`.
        tree: the task tree.
        accuracy: float[m].
        votes: pseudo-votes of each LF, here for all leaves together.
        pooled: strength of the pull to the LF's pooled table, in votes for each leaf.
        balance_items: see `label_pseudo_items`.

    Returns:
        The pseudo-counts, in the default float dtype.
    """
    m, num_relations, s = mass.shape
    wrong = (mass[:, :-1] > 0).any(axis=2)
    wrong = wrong * ((1 - accuracy) / np.maximum(wrong.sum(axis=1), 1))[:, None]
    mean = np.concatenate([wrong, accuracy[:, None]], axis=1).reshape(-1, 1)
    return _on_device(
        votes * np.broadcast_to(mean, (m * num_relations, s)),
        np.zeros((m, s)),
        label_pseudo_items(balance_items, tree),
        np.asarray(pooled),
    )


def _on_device(*fields: np.ndarray) -> AnnotatorPrior:
    return AnnotatorPrior(*(to_device(field) for field in fields))


class AnnotatorState(NamedTuple):
    """State of EM, and its result.

    Attributes:
        log_q: float[n, s], posterior over leaf states.
        log_vote: float[d, s], log tables.
        log_prior: float[s], log class balance.
        change: float[], how far the last iteration moved any item's posterior.
        num_steps: int32[], iterations done.
        trace: float[max_steps], log-likelihood after each; NaN after the stop.
    """

    log_q: jax.Array
    log_vote: jax.Array
    log_prior: jax.Array
    change: jax.Array
    num_steps: jax.Array
    trace: jax.Array


@functools.partial(jax.jit, static_argnames=("tree", "max_steps", "fixed_balance"))
def fit_annotators(
    data: AnnotatorData,
    prior: AnnotatorPrior,
    log_balance: jax.Array,
    tolerance: float,
    start: AnnotatorPrior | None = None,
    *,
    tree: TaskTree,
    max_steps: int,
    fixed_balance: bool,
) -> tuple[AnnotatorState, jax.Array]:
    """MAP-EM from the prior's tables, or those of `start`. One compiled program.

    Args:
        data: votes and offsets.
        prior: pseudo-counts.
        log_balance: float[s], where the class balance starts.
        tolerance: stop when no item's posterior moves by more.
        start: pseudo-counts that the first tables are read off, the prior's by default.
        tree: the task tree (static).
        max_steps: most iterations (static).
        fixed_balance: keep the class balance (static).

    Returns:
        The last state, and float[] the residual correlation of votes within items.
    """
    m = prior.other.shape[0]
    dtype = data.offset.dtype
    leaf_root = tree.node_root[tree.leaf_nodes]
    roots = np.asarray([span.start for span in tree.root_leaves])
    exists = data.own_root.astype(dtype)
    num_votes = data.votes.apply(exists)[:, roots]
    annotated = data.votes.apply(data.weight * exists)[:, roots] / jnp.maximum(num_votes, 1)
    balance_weight = (annotated**3)[:, leaf_root]
    if data.known is not None:
        balance_weight = jnp.where(data.known, 1, balance_weight)
    balance_weight = balance_weight * data.item_weights

    def expect(log_vote: jax.Array, log_prior: jax.Array) -> tuple[jax.Array, jax.Array]:
        score = data.votes.apply(data.weight * log_vote) + data.offset + log_prior
        log_q = log_normalise_roots(tree, score)
        # The normaliser, read off the likeliest leaf of each root: others may be ruled out.
        best = [span.start + jnp.argmax(log_q[:, span], axis=1) for span in tree.root_leaves]
        at = jnp.stack(best, axis=1)
        evidence = jnp.take_along_axis(score, at, 1) - jnp.take_along_axis(log_q, at, 1)
        return log_q, jnp.sum(evidence * data.item_weights)

    def body(state: AnnotatorState) -> AnnotatorState:
        q = jnp.exp(state.log_q)
        counts = data.votes.transpose_apply(q * data.item_weights)
        log_vote = annotator_tables(counts, data.lf, data.own_root, prior)
        log_prior = log_balance
        if not fixed_balance:
            log_prior = log_balance_of(jnp.sum(balance_weight * q, axis=0), prior.balance, tree)
        log_q, evidence = expect(log_vote, log_prior)
        change = jnp.max(jnp.abs(jnp.exp(log_q) - q) * (data.item_weights > 0))
        trace = state.trace.at[state.num_steps].set(evidence)
        return AnnotatorState(log_q, log_vote, log_prior, change, state.num_steps + 1, trace)

    first = prior if start is None else start
    total = jax.ops.segment_sum(first.vote * data.own_root, data.lf, m) + first.other
    share = first.vote / jnp.where(data.own_root, total[data.lf], 1)
    table = jnp.log(jnp.where(data.own_root, share, 1))
    log_q, _ = expect(table, log_balance)
    trace = jnp.full(max_steps, jnp.nan, dtype)
    infinity = jnp.asarray(jnp.inf, dtype)
    state = AnnotatorState(log_q, table, log_balance, infinity, jnp.int32(0), trace)
    state = jax.lax.while_loop(
        lambda s: (s.num_steps < max_steps) & ~(s.change <= tolerance), body, state
    )
    return state, _residual_correlation(data, state, m)


def annotator_tables(
    counts: jax.Array, lf: jax.Array, own_root: jax.Array, prior: AnnotatorPrior
) -> jax.Array:
    """The M-step: log tables from expected counts.

    Args:
        counts: float[d, s], expected votes of each column at each leaf.
        lf: int32[d].
        own_root: bool[d, s], as in `AnnotatorData`.
        prior: pseudo-counts.

    Returns:
        float[d, s].
    """
    m = prior.other.shape[0]
    counts, vote = counts * own_root, prior.vote
    if prior.pooled is not None:
        everywhere = jnp.sum(counts + vote / counts.shape[1], axis=1, keepdims=True)
        centre = everywhere * own_root
        total = jax.ops.segment_sum(centre, lf, m)[lf]
        vote = prior.pooled * centre / jnp.where(total > 0, total, 1)
    counts = counts + vote
    total = jax.ops.segment_sum(counts, lf, m) + prior.other
    share = counts / jnp.where(own_root, total[lf], 1)
    return jnp.log(jnp.where(own_root, share, 1))


def draw_from_prior(key: jax.Array, prior: AnnotatorPrior) -> AnnotatorPrior:
    """Pseudo-counts whose tables are a draw from the prior: somewhere else to start EM.

    Args:
        key: consumed.
        prior: Dirichlet pseudo-counts.

    Returns:
        Gamma draws in place of `vote` and `other`.
    """
    vote_key, other_key = jax.random.split(key)
    tiny = jnp.finfo(prior.vote.dtype).tiny
    return prior._replace(
        vote=jnp.maximum(jax.random.gamma(vote_key, jnp.maximum(prior.vote, tiny)), 1e-6),
        other=jax.random.gamma(other_key, jnp.maximum(prior.other, tiny)),
    )


def residual_tables(
    log_vote: jax.Array, lf: jax.Array, covered: jax.Array, weight: jax.Array, m: int
) -> tuple[jax.Array, jax.Array]:
    """What a vote is beyond expectation, and its spread: float[d, s] twice; as `AnnotatorData`."""
    right = jax.ops.segment_sum(jnp.exp(log_vote) * covered, lf, m)[lf]
    return weight * (covered - right), weight * jnp.sqrt(jnp.clip(right * (1 - right), 0))


def _residual_correlation(data: AnnotatorData, state: AnnotatorState, m: int) -> jax.Array:
    """Correlation within items of "this vote is right" beyond what the tables say; float[]."""
    q = jnp.exp(state.log_q) * data.item_weights
    residual, spread = residual_tables(state.log_vote, data.lf, data.covered, data.weight, m)

    def pairs(table: jax.Array) -> jax.Array:
        return jnp.sum(q * (data.votes.apply(table) ** 2 - data.votes.apply(table**2)))

    return pairs(residual) / jnp.maximum(pairs(spread), 1e-9)
