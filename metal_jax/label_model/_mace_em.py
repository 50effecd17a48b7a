"""Kernels of MACE; see `_mace` for the model.

Legend: `n` items, `m` LFs, `d` (LF, node) columns, `s` leaf states.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln

from metal_jax.label_model._dawid_skene_steps import VoteData
from metal_jax.label_model._tables import ConditionalTables

Method = Literal["em", "vb"]


class MacePrior(NamedTuple):
    """Pseudo-counts, and what a known vote looks like.

    Attributes:
        competence: float[m, 2], for known and spammed votes.
        strategy: float[d].
        known: float[d, s], `P(vote | y)` of an LF that knows: `[covers] / R`.
        own_root: bool[d, s], leaves of the root that the column votes on.
    """

    competence: jax.Array
    strategy: jax.Array
    known: jax.Array
    own_root: jax.Array


class MaceDirichlets(NamedTuple):
    """One number for each entry of an LF's two Dirichlet distributions: counts, or log-parameters.

    Attributes:
        competence: float[m, 2], known and spammed votes: `log theta`, `log (1 - theta)`.
        strategy: float[d], spammed votes by label: `log xi`.
    """

    competence: jax.Array
    strategy: jax.Array


def mace_tables(
    params: MaceDirichlets, log_balance: jax.Array, lf: jax.Array, prior: MacePrior
) -> ConditionalTables:
    """The conditional tables of competences and strategies.

    Args:
        params: log-parameters.
        log_balance: float[s], log class balance.
        lf: int32[d], the LF of each column.
        prior: for what a known vote looks like.

    Returns:
        The tables; abstains are ignored.

    Example:
        >>> import numpy as np
        >>> from metal_jax.label_model import MaceConfig
        >>> from metal_jax.label_model._mace import mace_prior
        >>> from metal_jax.labeling import Columns
        >>> from metal_jax.task_tree import TaskTree
        >>> columns = Columns(np.array([0, 0]), np.array([0, 1]), 1)
        >>> prior = mace_prior(columns, TaskTree.single(2), MaceConfig())
        >>> params = MaceDirichlets(jnp.log(jnp.array([[0.4, 0.6]])), jnp.log(jnp.full(2, 0.5)))
        >>> log_balance = jnp.log(jnp.full(2, 0.5))
        >>> mace_tables(params, log_balance, columns.lf, prior).log_vote.shape
        (2, 2)
    """
    knows, spams = jnp.exp(params.competence)[lf].T
    vote = (knows[:, None] * prior.known) + (spams * jnp.exp(params.strategy))[:, None]
    return ConditionalTables(
        log_prior=log_balance,
        log_vote=jnp.log(jnp.where(prior.own_root, vote, 1)),
        log_abstain=jnp.zeros((len(prior.competence), len(log_balance)), log_balance.dtype),
    )


def mace_m_step(
    log_q: jax.Array,
    params: MaceDirichlets,
    tables: ConditionalTables,
    data: VoteData,
    prior: MacePrior,
    method: Method,
) -> tuple[MaceDirichlets, MaceDirichlets]:
    """New parameters from expected counts of known and spammed votes.

    Args:
        log_q: float[n, s], posterior over leaf states.
        params: the current log-parameters.
        tables: their tables, from `mace_tables`.
        data: the votes.
        prior: pseudo-counts.
        method: "em" or "vb" (static).

    Returns:
        The log-parameters and the counts behind them.

    Example:
        >>> import numpy as np
        >>> from metal_jax.label_model import MaceConfig, vote_data
        >>> from metal_jax.label_model._mace import mace_prior
        >>> from metal_jax.labeling import used_columns
        >>> from metal_jax.task_tree import TaskTree
        >>> votes = np.array([[0], [1]])
        >>> columns = used_columns(votes)
        >>> prior = mace_prior(columns, TaskTree.single(2), MaceConfig())
        >>> params = MaceDirichlets(jnp.log(jnp.full((1, 2), 0.5)), jnp.log(jnp.full(2, 0.5)))
        >>> tables = mace_tables(params, jnp.log(jnp.full(2, 0.5)), columns.lf, prior)
        >>> log_q = jnp.log(jnp.array([[0.9, 0.1], [0.1, 0.9]]))
        >>> _, counts = mace_m_step(log_q, params, tables, vote_data(votes, columns), prior, "em")
        >>> counts.competence.shape
        (1, 2)
    """
    m, lf = len(prior.competence), data.lf_of_column
    q = jnp.exp(log_q)
    if data.weight is not None:
        q = q * data.weight[:, None]
    votes = jnp.where(prior.own_root, data.votes.transpose_apply(q), 0)
    spam = jnp.exp(params.competence[lf, 1] + params.strategy)[:, None]
    spammed = jnp.sum(votes * (spam / jnp.exp(tables.log_vote)), axis=1)
    known = jnp.maximum(jnp.sum(votes, axis=1) - spammed, 0)
    by_lf = jax.ops.segment_sum(jnp.stack([known, spammed], axis=1), lf, m)
    counts = MaceDirichlets(by_lf + prior.competence, spammed + prior.strategy)
    entries, totals, group = _entries_and_totals(counts, lf)
    both = jnp.concatenate([entries, totals])
    both = digamma(both) if method == "vb" else jnp.log(both)  # one call: it compiles slowly
    logs = both[: len(entries)] - both[len(entries) :][group]
    return MaceDirichlets(logs[: 2 * m].reshape(m, 2), logs[2 * m :]), counts


def mace_log_prior(
    params: MaceDirichlets,
    counts: MaceDirichlets,
    lf: jax.Array,
    prior: MacePrior,
    method: Method,
) -> jax.Array:
    """What the prior adds to the log-likelihood in the objective, up to a constant.

    Args:
        params: log-parameters.
        counts: the counts that they were made from.
        lf: int32[d], the LF of each column.
        prior: pseudo-counts.
        method: "em" or "vb" (static).

    Returns:
        float[]: the log-density under "em"; minus the KL divergence of the Dirichlet posteriors
        from the priors under "vb".
    """
    pseudo, _, _ = _entries_and_totals(MaceDirichlets(prior.competence, prior.strategy), lf)
    logs = jnp.concatenate([params.competence.ravel(), params.strategy])
    if method == "em":
        return jnp.sum(pseudo * logs)
    entries, totals, _ = _entries_and_totals(counts, lf)
    sign = jnp.concatenate([jnp.ones_like(entries), -jnp.ones_like(totals)])
    log_gamma = jnp.sum(sign * gammaln(jnp.concatenate([entries, totals])))
    return log_gamma - jnp.sum((entries - pseudo) * logs)


def _entries_and_totals(
    counts: MaceDirichlets, lf: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """All entries float[2m + d], the sum of each Dirichlet float[2m], and which is whose."""
    m = len(counts.competence)
    group = jnp.concatenate([jnp.repeat(jnp.arange(m, dtype=lf.dtype), 2), m + lf])
    entries = jnp.concatenate([counts.competence.ravel(), counts.strategy])
    totals = jax.ops.segment_sum(entries, group, 2 * m)
    return entries, jnp.where(totals > 0, totals, 1), group  # an LF that never votes: no labels
