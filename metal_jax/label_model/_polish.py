"""EM steps that polish tables fitted to overlaps."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from metal_jax.label_model._dawid_skene_prior import DirichletPrior
from metal_jax.label_model._dawid_skene_steps import VoteData, e_step, m_step
from metal_jax.label_model._tables import ConditionalTables
from metal_jax.task_tree import TaskTree


@functools.partial(jax.jit, static_argnames=("tree", "num_steps"))
def polish_tables(
    tables: ConditionalTables, data: VoteData, tree: TaskTree, num_steps: int
) -> ConditionalTables:
    """A few EM steps of Dawid-Skene from given tables, the class balance kept.

    The likelihood of the votes has no rotations; the start picks the right one of its maxima. Each
    LF's start counts as one vote for each leaf state. Where abstains are ignored
    (`log_abstain` 0 throughout an LF) they stay so, and its table becomes one given that it votes.

    Args:
        tables: the start.
        data: the votes.
        tree: the task tree (static).
        num_steps: static.

    Returns:
        The tables.

    Example:
        >>> import numpy as np
        >>> from metal_jax.label_model import vote_data
        >>> from metal_jax.labeling import used_columns
        >>> votes, tree = np.array([[0, 0], [1, 1], [0, 0]]), TaskTree.single(2)
        >>> log_vote = jnp.log(jnp.array([[0.6, 0.4], [0.4, 0.6]] * 2))
        >>> tables = ConditionalTables(jnp.log(jnp.full(2, 0.5)), log_vote, jnp.zeros((2, 2)))
        >>> found = polish_tables(tables, vote_data(votes, used_columns(votes)), tree, 3)
        >>> bool(found.log_vote[0, 0] > tables.log_vote[0, 0])
        True
    """
    prior = DirichletPrior(
        vote=jnp.where(tables.log_vote < 0, jnp.exp(tables.log_vote), 0),
        abstain=jnp.where(tables.log_abstain < 0, jnp.exp(tables.log_abstain), 0),
        balance=jnp.ones_like(tables.log_prior),
    )

    def step(_: jax.Array, now: ConditionalTables) -> ConditionalTables:
        log_q, _ = e_step(now, data, tree)
        return m_step(log_q, data, prior, tree)._replace(log_prior=tables.log_prior)

    return jax.lax.fori_loop(0, num_steps, step, tables)
