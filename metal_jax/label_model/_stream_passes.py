"""One pass over streamed votes: the sums over items that an EM step of the default model needs.

Sums of batches add up, over devices and over processes too, so that a step is exact however the
items are spread. Legend: as in `_mixture`, `b` items of a batch.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from metal_jax._core.processes import sum_over_processes
from metal_jax._core.sharding import sum_over_data
from metal_jax.label_model._annotators import residual_tables
from metal_jax.label_model._mixture_params import detector_score
from metal_jax.label_model._vote_sums import indicators, vote_sums
from metal_jax.labeling import ABSTAIN
from metal_jax.task_tree import TaskTree, log_normalise_roots


class StreamModel(NamedTuple):
    """The model in the middle of a fit.

    Attributes:
        lf: int32[d], LFs of the columns.
        symbol: int32[d], their nodes.
        weight: float[d, 1], probability that the column's LF is an annotator.
        own_root: bool[d, s].
        covered: float[d, s].
        log_vote: float[d, s].
        log_prior: float[s].
        detector_columns: int32[e].
        copies: float[h, e, e].
        lift: float[h, e, s], weighted.
    """

    lf: jax.Array
    symbol: jax.Array
    weight: jax.Array
    own_root: jax.Array
    covered: jax.Array
    log_vote: jax.Array
    log_prior: jax.Array
    detector_columns: jax.Array
    copies: jax.Array
    lift: jax.Array


class PassSums(NamedTuple):
    """Sums over items.

    Attributes:
        counts: float[d, s], expected votes of each column at each leaf.
        balance: float[s], posteriors weighted by how far the item's LFs are annotators.
        evidence: float[], log-likelihood of the annotators' votes.
    """

    counts: jax.Array
    balance: jax.Array
    evidence: jax.Array


class ResidualSums(NamedTuple):
    """Numerator and denominator of the residual correlation within items; float[] each."""

    residual: jax.Array
    spread: jax.Array


def _log_score(model: StreamModel, votes: jax.Array, sums: jax.Array) -> jax.Array:
    score = sums + model.log_prior
    if model.detector_columns.shape[0]:
        chosen = model.detector_columns
        fired = indicators(votes, model.lf[chosen], model.symbol[chosen], score.dtype)
        score += detector_score(fired, model.copies, model.lift)
    return score


@functools.partial(jax.jit, static_argnames="tree")
def batch_posterior(model: StreamModel, votes: jax.Array, tree: TaskTree) -> jax.Array:
    """Posterior over leaf states that EM sees, without the temperature: float[b, s]."""
    table = model.weight * model.log_vote
    sums = vote_sums(votes, model.lf, model.symbol, table, tree.num_nodes)
    return jnp.exp(log_normalise_roots(tree, _log_score(model, votes, sums)))


def em_sums(model: StreamModel, votes: jax.Array, tree: TaskTree) -> PassSums:
    """The E-step of a batch, and what the M-step needs of it.

    Args:
        model: the model.
        votes: int[b, m]; a row without votes adds nothing.
        tree: the task tree (static).

    Returns:
        The sums.
    """
    s = tree.num_leaves
    roots = np.asarray([span.start for span in tree.root_leaves])
    at_root = model.own_root[:, roots].astype(model.log_vote.dtype)
    table = [model.weight * model.log_vote, at_root, model.weight * at_root]

    def add_up(table: jax.Array) -> jax.Array:
        return vote_sums(votes, model.lf, model.symbol, table, tree.num_nodes)

    sums = add_up(jnp.concatenate(table, axis=1))
    num_votes, annotated = jnp.split(sums[:, s:], 2, axis=1)
    share = annotated / jnp.maximum(num_votes, 1)
    balance_weight = (share**3)[:, tree.node_root[tree.leaf_nodes]]
    score = _log_score(model, votes, sums[:, :s])
    evidence = [jax.nn.logsumexp(score[:, span], axis=1) for span in tree.root_leaves]
    q = jnp.exp(log_normalise_roots(tree, score))
    # Sums over items are the transpose of sums over votes.
    (counts,) = jax.vjp(add_up, jnp.zeros_like(model.log_vote))[1](q)
    voted = (votes >= 0).any(axis=1)
    evidence = jnp.sum(jnp.where(voted[:, None], jnp.stack(evidence, axis=1), 0))
    return PassSums(counts, jnp.sum(balance_weight * q, axis=0), evidence)


def residual_sums(model: StreamModel, votes: jax.Array, tree: TaskTree) -> ResidualSums:
    """What the correlation within items is made from; arguments as in `em_sums`."""
    m = votes.shape[1]
    tables = residual_tables(model.log_vote, model.lf, model.covered, model.weight, m)
    log_table = model.weight * model.log_vote
    every = jnp.concatenate([log_table, *tables, *(table**2 for table in tables)], axis=1)
    sums = vote_sums(votes, model.lf, model.symbol, every, tree.num_nodes)
    score, *single = jnp.split(sums, 5, axis=1)
    q = jnp.exp(log_normalise_roots(tree, _log_score(model, votes, score)))
    return ResidualSums(
        *(jnp.sum(q * (single[i] ** 2 - single[i + 2]), dtype=q.dtype) for i in range(2))
    )


_KERNELS = {"em": em_sums, "residual": residual_sums}


@functools.partial(jax.jit, static_argnames=("kind", "tree", "mesh"))
def _batch_sums(
    model: StreamModel, votes: jax.Array, *, kind: str, tree: TaskTree, mesh: Mesh | None
) -> PassSums | ResidualSums:
    def of(votes: jax.Array) -> PassSums | ResidualSums:
        return _KERNELS[kind](model, votes, tree)

    return of(votes) if mesh is None else sum_over_data(of, votes, mesh, fill=ABSTAIN)


def pass_sums(
    model: StreamModel, batches: Iterable[np.ndarray], kind: str, tree: TaskTree, mesh: Mesh | None
) -> PassSums | ResidualSums:
    """The sums of all batches of all processes, in float64 on the host.

    Args:
        model: the model.
        batches: int[b, m], all of the same shape.
        kind: "em" or "residual".
        tree: the task tree.
        mesh: devices of this process along an axis "data"; None for one device.

    Returns:
        The sums, the same on all processes.
    """
    total, computing = None, None
    for votes in batches:
        # The device works on this batch while the last one's sums are added and the next is read.
        done = computing
        computing = _batch_sums(model, votes, kind=kind, tree=tree, mesh=mesh)
        total = _added(total, done)
    return sum_over_processes(_added(total, computing))


def _added(total: PassSums | ResidualSums | None, sums: PassSums | ResidualSums | None):
    if sums is None:
        return total
    sums = jax.tree.map(lambda x: np.asarray(x, np.float64), sums)
    return sums if total is None else jax.tree.map(np.add, total, sums)


def of_one_shape(batches: Iterable[np.ndarray], size: int, dtype: type) -> Iterator[np.ndarray]:
    """Batches filled up with rows without votes, so that one program serves all.

    Args:
        batches: int[b, m], b at most `size`.
        size: of the results.
        dtype: of the results.

    Yields:
        dtype[size, m].
    """
    for batch in batches:
        filled = np.full((size, batch.shape[1]), ABSTAIN, dtype)
        filled[: len(batch)] = batch
        yield filled
