r"""Third-order statistics: how often three LFs vote together, and what only they identify.

Overlaps of pairs leave a rotation of the conditional rates open for three or more leaf states, and
say nothing of the class balance. Overlaps of triples,

.. math:: T_{abc} = \frac 1n \sum_i A_{ia} A_{ib} A_{ic} = \sum_y p_y \mu_{ay} \mu_{by} \mu_{cy}

for columns of three LFs that are independent given Y, settle both wherever the LFs fall into three
groups whose tables (abstains included) have full column rank (Allman, Matias & Rhodes, 2009;
Anandkumar et al., "Tensor Decompositions for Learning Latent Variable Models", JMLR 2014, section
3). All d^3 of them are too many; a sample does.

**Two leaf states, closed form.** With centred indicators :math:`\bar a` and
:math:`d_a = \sqrt{\pi (1 - \pi)} \Delta_a` of the triplet method,

.. math:: E[\bar a \bar b \bar c] = \gamma\, d_a d_b d_c, \qquad
    \gamma = \frac{1 - 2 \pi}{\sqrt{\pi (1 - \pi)}}, \qquad
    \pi = \tfrac 12 \Bigl(1 - \frac{\gamma}{\sqrt{4 + \gamma^2}}\Bigr).

Three LFs that depend on Y suffice, unipolar or not; which state is which rests on LFs being better
than chance on average.

Legend: `n` items, `m` LFs, `d` used (LF, node) columns, `q` triples, `s` leaf states.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.minimise import MinimiseConfig, MinimiseResult, minimise
from metal_jax.label_model._class_balance import checked_class_balance
from metal_jax.label_model._rates import overlap_objective, prior_conditional_rates
from metal_jax.label_model._tables import column_root_mask
from metal_jax.label_model._triplet_moments import triplet_magnitudes
from metal_jax.labeling import Columns, OverlapStatistics, column_ids
from metal_jax.task_tree import TaskTree, log_normalise_roots

_L2 = 1e-3


class TripleStatistics(NamedTuple):
    """Sums over items: parts with the same triples merge by adding `counts` and `num_items`.

    Attributes:
        triples: int32[q, 3], columns of three different LFs.
        counts: int64[q], items on which all three votes were cast.
        num_items: number of items, those without a vote included.
    """

    triples: np.ndarray
    counts: np.ndarray
    num_items: int

    def overlaps(self) -> np.ndarray:
        """float64[q], `T = counts / n`."""
        return self.counts / self.num_items


def sample_triples(key: jax.Array, columns: Columns, num_triples: int) -> np.ndarray:
    """Columns of three different LFs, uniformly, with replacement.

    Args:
        key: a `jax.random.key`, consumed.
        columns: the columns.
        num_triples: how many.

    Returns:
        int32[q, 3]; q is `num_triples`, or 0 when fewer than three LFs vote.
    """
    lf = columns.lf
    drawn = np.zeros((0, 3), np.int32)
    if len(np.unique(lf)) < 3:
        return drawn
    while len(drawn) < num_triples:
        key, now = jax.random.split(key)
        more = np.asarray(jax.random.randint(now, (2 * num_triples, 3), 0, columns.num_columns))
        a, b, c = lf[more].T
        drawn = np.concatenate([drawn, more[(a != b) & (a != c) & (b != c)]])
    return drawn[:num_triples].astype(np.int32)


@functools.partial(jax.jit, static_argnames="block_size")
def triple_counts(
    column_of_vote: jax.Array, lf: jax.Array, triples: jax.Array, *, block_size: int = 1024
) -> jax.Array:
    """The counts of `TripleStatistics` in one blocked pass over the items.

    Args:
        column_of_vote: int[n, m] from `labeling.column_ids`, -1 = no vote.
        lf: int[q, 3], the LFs of the triples' columns.
        triples: int[q, 3], the columns.
        block_size: items at a time (static); memory is O(block_size q).

    Returns:
        int32[q], exact.

    Example:
        >>> codes = jnp.array([[0, 1, 2], [0, 1, -1], [0, 1, 2]])
        >>> triple_counts(codes, jnp.array([[0, 1, 2]]), jnp.array([[0, 1, 2]])).tolist()
        [2]
    """
    n, m = column_of_vote.shape
    block_size = min(block_size, n)
    codes = jnp.pad(column_of_vote, ((0, -n % block_size), (0, 0)), constant_values=-1)

    def add(total: jax.Array, block: jax.Array) -> tuple[jax.Array, None]:
        fires = [block[:, lf[:, i]] == triples[:, i] for i in range(3)]
        return total + jnp.sum(fires[0] & fires[1] & fires[2], axis=0, dtype=jnp.int32), None

    start = jnp.zeros(len(triples), jnp.int32)
    return jax.lax.scan(add, start, codes.reshape(-1, block_size, m))[0]


def triple_statistics(
    key: jax.Array, votes: ArrayLike, columns: Columns, num_triples: int = 10_000
) -> TripleStatistics:
    """Third-order overlap counts on sampled triples of columns.

    Args:
        key: a `jax.random.key`, consumed; the same key and columns give the same triples, so that
            parts merge.
        votes: int[n, m] node ids, negative = no vote.
        columns: the columns to sample from.
        num_triples: q.

    Returns:
        The statistics.

    Example:
        >>> votes = np.array([[0, 0, 0], [0, 1, 1]])
        >>> columns = Columns(np.arange(3), np.zeros(3, int), 3)
        >>> triple_statistics(jax.random.key(0), votes, columns, 2).counts.tolist()
        [1, 1]
    """
    triples = sample_triples(key, columns, num_triples)
    codes = column_ids(votes, columns)
    if not len(codes):
        return TripleStatistics(triples, np.zeros(len(triples), np.int64), 0)
    counts = triple_counts(codes, jnp.asarray(columns.lf[triples]), jnp.asarray(triples))
    return TripleStatistics(triples, np.asarray(counts, np.int64), codes.shape[0])


def third_order_objective(
    conditional_rates: jax.Array,
    triple_overlaps: jax.Array,
    class_balance: jax.Array,
    triples: jax.Array,
) -> jax.Array:
    r"""Mean over the triples of :math:`(T_{abc} - \sum_y p_y \mu_{ay} \mu_{by} \mu_{cy})^2`.

    Args:
        conditional_rates: float[d, s].
        triple_overlaps: float[q], observed `T`.
        class_balance: float[s].
        triples: int[q, 3], columns.

    Returns:
        float[], the loss; 0 without triples.

    Example:
        >>> mu = jnp.array([[0.8, 0.2], [0.6, 0.1], [0.5, 0.4]])
        >>> p = jnp.array([0.5, 0.5])
        >>> T = jnp.sum(p * mu[0] * mu[1] * mu[2])[None]
        >>> float(third_order_objective(mu, T, p, jnp.array([[0, 1, 2]])))
        0.0
    """
    rates = conditional_rates[triples]
    expected = jnp.sum(class_balance * rates[:, 0] * rates[:, 1] * rates[:, 2], axis=-1)
    return jnp.sum((triple_overlaps - expected) ** 2) / max(len(triples), 1)


def balance_from_skewness(skewness: ArrayLike) -> jax.Array:
    r"""The probability of the state whose centred, standardised indicator has that third moment.

    Args:
        skewness: float[...], :math:`\gamma`.

    Returns:
        float[...], :math:`\pi`.

    Example:
        >>> round(float(balance_from_skewness((1 - 2 * 0.8) / (0.8 * 0.2) ** 0.5)), 6)
        0.8
    """
    gamma = jnp.asarray(skewness, jnp.result_type(float))
    return (1 - gamma / jnp.sqrt(4 + gamma**2)) / 2


def binary_skewness(
    overlaps: jax.Array,
    off_block: jax.Array,
    side: jax.Array,
    triples: jax.Array,
    triple_overlaps: jax.Array,
) -> jax.Array:
    r"""Least-squares :math:`\gamma` of :math:`E[\bar a \bar b \bar c] = \gamma d_a d_b d_c`.

    Args:
        overlaps: float[d, d], `O`.
        off_block: bool[d, d], pairs of different LFs.
        side: float[d], +1 for a vote for the state whose balance is sought, -1 for the other.
        triples: int[q, 3], columns.
        triple_overlaps: float[q], `T`.

    Returns:
        float[]; NaN when no column depends on Y.
    """
    rate = jnp.diagonal(overlaps)
    covariance = jnp.where(off_block, overlaps - rate[:, None] * rate, 0)
    apart = off_block.astype(covariance.dtype)
    size = triplet_magnitudes(covariance, apart, covariance, apart, aggregate="weighted")
    agrees = jnp.matmul(covariance, side, precision=jax.lax.Precision.HIGHEST) >= 0
    difference = jnp.where(jnp.isfinite(size), jnp.where(agrees, size, -size), 0)
    a, b, c = triples.T
    third = triple_overlaps - overlaps[a, b] * rate[c] - overlaps[a, c] * rate[b]
    third = third - overlaps[b, c] * rate[a] + 2 * rate[a] * rate[b] * rate[c]
    product = difference[a] * difference[b] * difference[c]
    return jnp.sum(third * product) / jnp.sum(product**2)


def estimate_class_balance(
    statistics: OverlapStatistics,
    triples: TripleStatistics,
    tree: TaskTree,
    prior: ArrayLike | None = None,
    *,
    prior_items: float = 0.0,
    precision: float = 0.7,
) -> np.ndarray:
    r"""The class balance from overlaps of pairs and triples, by the method of moments.

    A tree of two leaf states has the closed form of this module's text. Otherwise rates and balance
    are fitted together: the overlap objective, plus the third-order one times the number of pairs,
    over rates and the logits of the balance.

    Not identified, and then close to the start or driven by noise: fewer than three LFs; LFs whose
    joint tables lack full column rank, as when two leaf states look alike to every LF, or when
    fewer than s - 1 columns in a group of LFs differ over the states. Unipolar LFs do identify it,
    given independence; dependent ones (keywords that share a text) bias it. That each state's own
    votes are likelier under it than elsewhere is assumed throughout.

    Args:
        statistics: overlaps of pairs.
        triples: overlaps of triples of the same columns.
        tree: the task tree.
        prior: float[s], where the fit starts and what `prior_items` are spread as; uniform by
            default.
        prior_items: strength of the prior, in items; approximate, as residuals of overlaps are not
            independent of each other.
        precision: prior probability that a vote is right.

    Returns:
        float64[s], summing to one over the leaves of each root.

    Raises:
        ValueError: a bad prior, no triples, or triples of other columns.

    Example:
        >>> from metal_jax.labeling import overlap_statistics, synthetic_votes
        >>> tree = TaskTree.single(2)
        >>> votes = synthetic_votes(
        ...     jax.random.key(0), 10_000, 8, tree, class_balance=jnp.array([0.8, 0.2])
        ... ).votes
        >>> statistics = overlap_statistics(votes)
        >>> triples = triple_statistics(jax.random.key(1), votes, statistics.columns, 1000)
        >>> bool(abs(estimate_class_balance(statistics, triples, tree)[0] - 0.8) < 0.02)
        True
    """
    start = checked_class_balance(prior, tree)
    columns = statistics.columns
    if not len(triples.triples):
        raise ValueError("triples: there are none; the class balance needs at least three LFs")
    if triples.triples.max() >= columns.num_columns:
        raise ValueError(
            f"triples: got column {triples.triples.max()}, the statistics have "
            f"{columns.num_columns} columns"
        )
    dtype = jnp.result_type(float)
    root = tree.node_root[columns.symbol]
    off_block = (columns.lf[:, None] != columns.lf) & (root[:, None] == root)
    in_root = (root[triples.triples] == root[triples.triples[:, :1]]).all(axis=1)
    overlaps = statistics.overlaps()
    at = jnp.asarray(triples.triples[in_root])
    observed = jnp.asarray(triples.overlaps()[in_root], dtype)
    pairs = jnp.asarray(overlaps, dtype)
    if tree.num_leaves == 2 and len(tree.roots) == 1:
        covers = tree.covers[columns.symbol]
        side = jnp.asarray(covers[:, 0].astype(float) - covers[:, 1], dtype)
        skewness = binary_skewness(pairs, jnp.asarray(off_block), side, at, observed)
        first = float(balance_from_skewness(skewness))
        if not np.isfinite(first):
            return start
        n = statistics.num_items
        return (n * np.array([first, 1 - first]) + prior_items * start) / (n + prior_items)
    rates = prior_conditional_rates(np.diag(overlaps), start, columns, tree, precision)
    # A residual has variance about O / n: what an item's log-density is worth in the loss.
    worth = 2 * float(overlaps[off_block].mean()) / statistics.num_items
    _, logits = _solve(
        (jnp.asarray(rates, dtype), jnp.log(jnp.asarray(start, dtype))),
        (pairs, jnp.asarray(off_block), observed, at),
        jnp.asarray(column_root_mask(columns, tree)),
        jnp.asarray(worth * prior_items * start, dtype),
        tree,
    ).params
    return checked_class_balance(np.exp(np.asarray(log_normalise_roots(tree, logits), float)), tree)


@functools.partial(jax.jit, static_argnames="tree")
def _solve(
    start: tuple[jax.Array, jax.Array],
    observed: tuple[jax.Array, ...],
    own_root: jax.Array,
    prior_weight: jax.Array,
    tree: TaskTree,
) -> MinimiseResult:
    overlaps, off_block, triple_overlaps, triples = observed
    l2 = jnp.full(overlaps.shape[0], _L2, overlaps.dtype)
    num_pairs = jnp.sum(off_block).astype(overlaps.dtype)

    def objective(params: tuple[jax.Array, jax.Array]) -> jax.Array:
        rates = jnp.where(own_root, params[0], 0)
        log_balance = log_normalise_roots(tree, params[1])
        balance = jnp.exp(log_balance)
        second = overlap_objective(rates, overlaps, balance, off_block, start[0], l2)
        third = third_order_objective(rates, triple_overlaps, balance, triples)
        return second + num_pairs * third - jnp.sum(prior_weight * log_balance)

    return minimise(objective, start, MinimiseConfig())
