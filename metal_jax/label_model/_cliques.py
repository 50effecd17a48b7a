r"""Tables of joint votes: what a model with dependent LFs knows of its cliques.

With the cliques C and separators S of a junction tree (`_graph`)

.. math:: \log P(y \mid \lambda) = \log p_y + \sum_C \log P(\lambda_C \mid y)
    - \sum_S \log P(\lambda_S \mid y) - \log Z.

Legend: `n` items, `m` LFs, `d` used (LF, node) columns, `s` leaf states, `f` factors (cliques and
separators), `w` most members of a factor, `r` rows (cells of all factors).
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax.label_model._tables import ConditionalTables, tables_lf_accuracy
from metal_jax.labeling import NOT_ASKED, Columns, column_ids
from metal_jax.task_tree import TaskTree, log_normalise_roots


class CliqueTables(NamedTuple):
    """Log-probabilities of the joint votes of cliques and separators given leaf states.

    Attributes:
        log_prior: float[s], log class balance.
        log_table: float[r, s]; rows with unknown members are the marginals of the others.
        members: int32[f, w], LFs of each factor, padded with 0; cliques, then separators.
        strides: int32[f, w], what a member's vote adds to the row, 0 where padded.
        start: int32[f], first row of each factor.
        sign: int32[f], 1 for a clique, minus its multiplicity for a separator.
        num_symbols: int32[m], different votes of each LF; this number itself means "unknown".
        abstain_symbol: int32[m], what an abstain counts as.
    """

    log_prior: jax.Array
    log_table: jax.Array
    members: jax.Array
    strides: jax.Array
    start: jax.Array
    sign: jax.Array
    num_symbols: jax.Array
    abstain_symbol: jax.Array

    def log_posterior(self, votes: ArrayLike, columns: Columns, tree: TaskTree) -> jax.Array:
        """float[n, s] log-posterior over leaf states: cliques minus separators."""
        symbols = vote_symbols(votes, columns, self.num_symbols, self.abstain_symbol)
        return _log_posterior(self, symbols, tree)

    def contributions(
        self, votes: ArrayLike, columns: Columns, tree: TaskTree
    ) -> tuple[jax.Array, jax.Array]:
        r"""The prior's and each LF's share in the log-posterior: float[n, s], float[n, m, s].

        An LF contributes its own :math:`\log P(\lambda_j \mid y)` and an equal share of what each
        of its cliques says beyond its members, :math:`\frac1{|C|} [\log P(\lambda_C \mid y) -
        \sum_{j \in C} \log P(\lambda_j \mid y)]`, minus the same for separators. (For a pair this
        is the Shapley value.) The shares add up exactly; two copies share one vote.
        """
        symbols = vote_symbols(votes, columns, self.num_symbols, self.abstain_symbol)
        base, stride = self._marginalclique_rows()
        own = self.log_table[base + stride * symbols]
        pushes = own
        members, strides = np.asarray(self.members), np.asarray(self.strides)
        for f, row in enumerate(clique_rows(self, symbols).T):
            lfs = members[f][strides[f] > 0]
            beyond = self.log_table[row] - jnp.sum(own[:, lfs], axis=1)
            share = self.sign[f] * beyond / len(lfs)
            pushes = pushes.at[:, lfs].add(share[:, None])
        return jnp.broadcast_to(self.log_prior, (len(pushes), tree.num_leaves)), pushes

    def lf_accuracy(self, columns: Columns, tree: TaskTree) -> jax.Array:
        """float[m], probability that an LF's vote covers the truth; NaN without votes."""
        return tables_lf_accuracy(self.marginal_tables(columns), columns, tree)

    def marginal_tables(self, columns: Columns) -> ConditionalTables:
        """Each LF's own table, the others summed out; zeros where abstains are ignored."""
        base, stride = self._marginalclique_rows()
        first = np.searchsorted(columns.lf, np.arange(columns.num_lfs))
        symbol = np.arange(columns.num_columns) - first[columns.lf]
        vote = self.log_table[base[columns.lf] + stride[columns.lf] * symbol]
        return ConditionalTables(
            self.log_prior, vote, self.log_table[base + stride * self.abstain_symbol]
        )

    def _marginalclique_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """int[m] twice: LF j's vote v alone has row `base[j] + stride[j] * v`."""
        members, strides, start, unknown = map(
            np.asarray, (self.members, self.strides, self.start, self.num_symbols)
        )
        silent = start + (strides * unknown[members]).sum(1)
        base, stride = np.zeros((2, len(unknown)), np.int32)
        for f, i in np.argwhere(strides > 0)[::-1]:  # the first factor of each LF stays
            j = members[f, i]
            base[j], stride[j] = silent[f] - strides[f, i] * unknown[j], strides[f, i]
        return base, stride


def vote_symbols(
    votes: ArrayLike, columns: Columns, num_symbols: ArrayLike, abstain_symbol: ArrayLike
) -> jax.Array:
    """Votes renumbered within each LF: its columns in order, then abstaining, then unknown.

    Args:
        votes: int[n, m] node ids, -1 = abstain, -2 = never asked.
        columns: the used columns.
        num_symbols: int[m]; stands for never asked, and for votes without a column.
        abstain_symbol: int[m].

    Returns:
        int32[n, m].
    """
    votes, codes = jnp.asarray(votes), column_ids(votes, columns)
    first = np.searchsorted(columns.lf, np.arange(columns.num_lfs)).astype(np.int32)
    abstains = (votes < 0) & (votes != NOT_ASKED)
    silent = jnp.where(abstains, jnp.asarray(abstain_symbol), jnp.asarray(num_symbols))
    return jnp.where(codes >= 0, codes - first, silent).astype(jnp.int32)


def count_symbols(
    votes: np.ndarray, columns: Columns, informative_abstains: bool
) -> tuple[np.ndarray, np.ndarray]:
    """How many different votes each LF casts, and what an abstain counts as.

    Args:
        votes: int[n, m] node ids.
        columns: the used columns.
        informative_abstains: whether abstaining is a vote; LFs that never vote have no other.

    Returns:
        `num_symbols` int32[m], at least 1, and `abstain_symbol` int32[m].
    """
    num_votes = np.bincount(columns.lf, minlength=columns.num_lfs)
    abstains = (votes == -1).any(axis=0) & informative_abstains
    num_symbols = num_votes + (abstains | (num_votes == 0))
    # An abstain that is no vote stands after the last one: unknown.
    return num_symbols.astype(np.int32), num_votes.astype(np.int32)


def clique_rows(tables: CliqueTables, symbols: jax.Array) -> jax.Array:
    """int32[n, f], the row of each factor that an item's votes (int32[n, m] symbols) select."""
    return tables.start + jnp.sum(symbols[:, tables.members] * tables.strides, axis=-1)


@functools.partial(jax.jit, static_argnames="tree")
def _log_posterior(tables: CliqueTables, symbols: jax.Array, tree: TaskTree) -> jax.Array:
    def add(total: jax.Array, factor: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        members, strides, start, sign = factor
        row = start + jnp.sum(symbols[:, members] * strides, axis=-1)
        return total + sign.astype(total.dtype) * tables.log_table[row], None

    score = jnp.broadcast_to(tables.log_prior, (symbols.shape[0], tree.num_leaves))
    factors = (tables.members, tables.strides, tables.start, tables.sign)
    # One factor at a time: memory stays O(n s).
    return log_normalise_roots(tree, jax.lax.scan(add, score, factors)[0])
