r"""Conditional vote rates: where their fits start, what the fits minimise, what comes out.

:math:`\mu_{cy} = P(\text{vote } c \mid Y = y)`, "mu" in the papers, is `conditional_rates` here.
The overlap objective has two forms of equal value. One takes the matrix :math:`O = A^\top A / n` of
all pairs, O(d^2). The other never forms it:

.. math:: \|(O - \mu P \mu^\top)_\Omega\|_F^2 = \|O_\Omega\|_F^2 - 2 c + g, \qquad
    c = \tfrac 1n \sum_y p_y \|A \mu_y\|^2 - \sum_c O_{cc} \sum_y p_y \mu_{cy}^2, \qquad
    g = \|P^{1/2} \mu^\top \mu P^{1/2}\|_F^2 - \sum_i \|\mu_i P \mu_i^\top\|_F^2,

:math:`\Omega` being the pairs of columns of different LFs and :math:`\mu_i` the rows of LF i.
(Within an LF only the diagonal of O is not 0, since it casts one vote.) `A mu` is a gather of rows,
so that an evaluation costs O(votes s + d s^2) and memory is O((n + d) s).

Legend: `n` items, `d` used (LF, node) columns, `m` LFs, `s` leaf states, `v` votes, `w` the most
columns of one LF.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.numerics import safe_log
from metal_jax.label_model._incidence import SparseIncidence
from metal_jax.label_model._tables import ConditionalTables, column_root_mask
from metal_jax.labeling import Columns
from metal_jax.task_tree import TaskTree

_CHUNK = 2**16  # votes gathered at a time


class VoteList(NamedTuple):
    """Votes one by one, for label matrices too large to be written out.

    Attributes:
        item: int[v].
        lf: int[v].
        node: int[v]; an (item, LF) pair occurs at most once, and not at all for an abstain.
        num_items: n.
        num_lfs: m.
    """

    item: np.ndarray
    lf: np.ndarray
    node: np.ndarray
    num_items: int
    num_lfs: int


def overlap_objective(
    conditional_rates: jax.Array,
    overlaps: jax.Array,
    class_balance: jax.Array,
    off_block: jax.Array,
    prior_rates: jax.Array,
    l2: jax.Array,
) -> jax.Array:
    """The MeTaL loss; pure, jit-able, differentiable.

    Args:
        conditional_rates: float[d, s], `P(vote | Y)`, the unknown.
        overlaps: float[d, d], observed `O`.
        class_balance: float[s].
        off_block: bool or float[d, d], which entries of `O` count: pairs of different,
            conditionally independent LFs.
        prior_rates: float[d, s].
        l2: float[d], weight of the pull to `prior_rates`.

    Returns:
        float[], the loss.

    Example:
        >>> mu = jnp.array([[0.8, 0.2], [0.6, 0.1]])
        >>> p = jnp.array([0.5, 0.5])
        >>> O = mu @ jnp.diag(p) @ mu.T + jnp.diag(mu @ p - jnp.diag(mu @ jnp.diag(p) @ mu.T))
        >>> float(overlap_objective(mu, O, p, 1 - jnp.eye(2), mu, jnp.zeros(2))) < 1e-10
        True
    """
    weighted = conditional_rates * class_balance
    pairs = jnp.matmul(weighted, conditional_rates.T, precision=jax.lax.Precision.HIGHEST)
    residual = jnp.where(off_block, overlaps - pairs, 0)
    rates = jnp.sum(weighted, axis=-1) - jnp.diagonal(overlaps)
    pull = l2[:, None] * (conditional_rates - prior_rates)
    # Sums of squares, not squared norms: the gradient of a norm at 0 is NaN.
    return jnp.sum(residual**2) + jnp.sum(rates**2) + jnp.sum(pull**2)


def overlap_objective_from_votes(
    conditional_rates: jax.Array,
    votes: SparseIncidence,
    vote_rates: jax.Array,
    blocks: jax.Array,
    class_balance: jax.Array,
    prior_rates: jax.Array,
    l2: jax.Array,
) -> jax.Array:
    """`overlap_objective` less its constant `sum(O[off_block] ** 2)`, without forming O.

    In float32 the two terms `-2 c + g` cancel to about 1e-7 of the constant, which bounds how
    closely the minimum is found; where O fits in memory, use it.

    Args:
        conditional_rates: float[d, s], the unknown; 0 on the leaves of other roots.
        votes: the indicator matrix A, [n, d].
        vote_rates: float[d], the diagonal of O.
        blocks: int32[m, w], the columns of each LF, padded with d; see `column_blocks`.
        class_balance: float[s].
        prior_rates: float[d, s].
        l2: float[d], weight of the pull to `prior_rates`.

    Returns:
        float[].

    Example:
        >>> votes = SparseIncidence(jnp.array([0, 0, 1]), jnp.array([0, 1, 0]), 2, 2)
        >>> mu, p = jnp.array([[0.9, 0.4], [0.7, 0.2]]), jnp.array([0.5, 0.5])
        >>> O = jnp.array([[1.0, 0.5], [0.5, 0.5]])
        >>> full = overlap_objective(mu, O, p, 1 - jnp.eye(2), mu, jnp.zeros(2))
        >>> lean = overlap_objective_from_votes(
        ...     mu, votes, jnp.diag(O), jnp.array([[0], [1]]), p, mu, jnp.zeros(2)
        ... )
        >>> bool(abs(full - lean - 2 * 0.5**2) < 1e-6)
        True
    """
    highest = jax.lax.Precision.HIGHEST
    root = jnp.sqrt(class_balance)
    scaled = conditional_rates * root  # mu P^(1/2)
    sums = _apply_in_chunks(votes, scaled)
    agreement = jnp.sum(sums**2) / votes.num_items - jnp.sum(vote_rates[:, None] * scaled**2)
    gram = jnp.matmul(scaled.T, scaled, precision=highest)
    padded = jnp.concatenate([scaled, jnp.zeros_like(scaled[:1])])[blocks]
    within = jnp.einsum("iws,ivs->iwv", padded, padded, precision=highest)
    rates = conditional_rates @ class_balance - vote_rates
    pull = l2[:, None] * (conditional_rates - prior_rates)
    expected = jnp.sum(gram**2) - jnp.sum(within**2)
    return expected - 2 * agreement + jnp.sum(rates**2) + jnp.sum(pull**2)


def _apply_in_chunks(votes: SparseIncidence, table: jax.Array) -> jax.Array:
    """`votes.apply(table)` without gathering one row for each vote at once."""
    size = max(min(votes.item.shape[0], _CHUNK), 1)
    padding = -votes.item.shape[0] % size
    # Out of bounds: gathered anywhere, then dropped.
    item = jnp.pad(votes.item, (0, padding), constant_values=votes.num_items)
    column = jnp.pad(votes.column, (0, padding))

    def add(total: jax.Array, chunk: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        return total.at[chunk[0]].add(table[chunk[1]], mode="drop", indices_are_sorted=True), None

    start = jnp.zeros((votes.num_items, table.shape[1]), table.dtype)
    return jax.lax.scan(add, start, (item.reshape(-1, size), column.reshape(-1, size)))[0]


def column_blocks(columns: Columns) -> np.ndarray:
    """int32[m, w], the columns of each LF, padded with d.

    Args:
        columns: the columns.

    Returns:
        See above.

    Example:
        >>> column_blocks(Columns(np.array([0, 0, 1]), np.array([0, 1, 0]), 2)).tolist()
        [[0, 1], [2, 3]]
    """
    count = np.bincount(columns.lf, minlength=columns.num_lfs)
    first = np.cumsum(count) - count
    offset = np.arange(max(count.max(initial=0), 1))
    blocks = np.where(offset < count[:, None], first[:, None] + offset, columns.num_columns)
    by_lf = np.append(np.argsort(columns.lf, kind="stable"), columns.num_columns)
    return by_lf[blocks].astype(np.int32)


def listed_incidence(votes: VoteList, tree: TaskTree) -> tuple[SparseIncidence, Columns]:
    """The indicator matrix of listed votes, and its columns.

    Args:
        votes: the votes, in any order.
        tree: the task tree.

    Returns:
        The operator A and the used (LF, node) columns.

    Raises:
        ValueError: arrays of different lengths, or an id out of range.
    """
    item, lf, node = (np.asarray(x) for x in votes[:3])
    for name, ids, stop in (
        ("item", item, votes.num_items),
        ("lf", lf, votes.num_lfs),
        ("node", node, tree.num_nodes),
    ):
        if ids.shape != item.shape or (len(ids) and not (ids.min() >= 0 and ids.max() < stop)):
            raise ValueError(f"votes: {name}: expected {len(item)} integers in 0..{stop - 1}")
    used, column = np.unique(lf.astype(np.int64) * tree.num_nodes + node, return_inverse=True)
    columns = Columns(
        (used // tree.num_nodes).astype(np.int32),
        (used % tree.num_nodes).astype(np.int32),
        votes.num_lfs,
    )
    order = np.argsort(item, kind="stable")
    return (
        SparseIncidence(
            jnp.asarray(item[order], jnp.int32),
            jnp.asarray(column[order], jnp.int32),
            votes.num_items,
            columns.num_columns,
        ),
        columns,
    )


def prior_conditional_rates(
    vote_rates: ArrayLike,
    class_balance: ArrayLike,
    columns: Columns,
    tree: TaskTree,
    precision: ArrayLike = 0.7,
) -> np.ndarray:
    """Where the fit starts: each LF votes at its rate and is right with probability `precision`.

    `P(c | y) = rate * precision / P(node)` on the leaves that the node covers (the paper's start)
    and `rate * (1 - precision) / (1 - P(node))` elsewhere, so that the rate is met exactly.

    Args:
        vote_rates: float[d].
        class_balance: float[s].
        columns: the columns.
        tree: the task tree.
        precision: float[] or float[m].

    Returns:
        float[d, s], clipped to [0, 1].

    Example:
        >>> columns, tree = Columns(np.array([0, 0]), np.array([0, 1]), 1), TaskTree.single(2)
        >>> rates = prior_conditional_rates([0.5, 0.5], [0.5, 0.5], columns, tree, 0.8)
        >>> rates.round(2).tolist()
        [[0.8, 0.2], [0.2, 0.8]]
    """
    rates, balance = np.asarray(vote_rates)[:, None], np.asarray(class_balance)
    covered = tree.covers[columns.symbol]
    inside = covered @ balance
    trust = np.broadcast_to(np.asarray(precision, float), (columns.num_lfs,))[columns.lf]
    right = np.divide(trust, inside, out=np.zeros_like(inside), where=inside > 0)
    outside = 1 - inside
    wrong = np.divide(1 - trust, outside, out=np.zeros_like(outside), where=outside > 1e-9)
    mean = np.where(covered, right[:, None], wrong[:, None]) * rates
    return np.clip(mean, 0, 1) * column_root_mask(columns, tree)


def rates_to_tables(
    conditional_rates: ArrayLike,
    class_balance: ArrayLike,
    columns: Columns,
    tree: TaskTree,
    *,
    ignore_abstains: bool,
) -> ConditionalTables:
    """Log tables from fitted rates, which need not be probabilities after least squares.

    Args:
        conditional_rates: float[d, s].
        class_balance: float[s].
        columns: the columns.
        tree: the task tree.
        ignore_abstains: leave `log_abstain` at zero.

    Returns:
        The tables; rates are clipped at a hundredth of the column's mean rate from below (a zero
        from least squares means "small", not "impossible") and scaled where an LF's sum over one.

    Example:
        >>> columns, tree = Columns(np.array([0, 0]), np.array([0, 1]), 1), TaskTree.single(2)
        >>> rates = [[0.8, 0.2], [0.2, 0.8]]
        >>> tables = rates_to_tables(rates, [0.5, 0.5], columns, tree, ignore_abstains=True)
        >>> print(np.asarray(jnp.exp(tables.log_vote)).round(2))
        [[0.8 0.2]
         [0.2 0.8]]
    """
    rates = jnp.asarray(conditional_rates)
    return _rates_to_tables(
        rates,
        jnp.asarray(class_balance, rates.dtype),
        columns.lf,
        column_root_mask(columns, tree),
        num_lfs=columns.num_lfs,
        ignore_abstains=ignore_abstains,
    )


@functools.partial(jax.jit, static_argnames=("num_lfs", "ignore_abstains"))
def _rates_to_tables(
    rates: jax.Array,
    class_balance: jax.Array,
    lf: jax.Array,
    own_root: jax.Array,
    *,
    num_lfs: int,
    ignore_abstains: bool,
) -> ConditionalTables:
    mean = jnp.sum(rates * class_balance, axis=-1, keepdims=True)
    rates = jnp.clip(rates, jnp.maximum(mean, 1e-6) * 0.01, 1.0)
    total = jax.ops.segment_sum(rates, lf, num_lfs)
    rates = rates / jnp.maximum(total, 1.0)[lf]
    total = jax.ops.segment_sum(rates, lf, num_lfs)
    votes_there = jax.ops.segment_max(own_root.astype(jnp.int32), lf, num_lfs) > 0
    log_abstain = jnp.where(votes_there, jnp.log(jnp.maximum(1 - total, 1e-6)), 0)
    return ConditionalTables(
        log_prior=safe_log(class_balance),
        log_vote=jnp.where(own_root, jnp.log(rates), 0),
        log_abstain=jnp.zeros_like(log_abstain) if ignore_abstains else log_abstain,
    )
