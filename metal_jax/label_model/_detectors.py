r"""Precisions of detectors from pairwise overlaps.

Given that detector c fires, the truth lies under its node u with probability :math:`\pi_c` (its
precision), spread there and elsewhere as the class balance p is. Two detectors that fire
independently given the truth fire together at

.. math:: \mu_{cc'} = n\, r_c r_{c'} \sum_y \frac{P(y \mid c) P(y \mid c')}{p_y},

r being their rates: more often than by chance when they vote for the same label and are precise,
less often when they disagree. What identifies precision is thus co-firing *relative to
independence*; agreement given a vote says nothing about LFs that never vote otherwise. Real
patterns also overlap because they share words, so the observed count is negative-binomial about
:math:`\mu` with an unknown dispersion of that pair (an equal mixture of sizes 100, 10, 1, 1/10):
a few wildly dependent pairs cannot outvote the rest. A shift :math:`\delta` for each pair of root
labels takes up what a wrong class balance does to all their pairs alike.

Precision is bounded: a detector that fires on a share r of the items and is right wherever its
class occurs at most 0.8 of the time has :math:`\pi \le 0.8\, p_u / r`. This is why frequent
keyword LFs are weak evidence when there are many classes. Priors:

.. math:: \operatorname{logit}\frac{\pi - p_u}{\pi_{max} - p_u} \sim
    N\Bigl(\log \frac{10\, p_u}{(1 - p_u) \sqrt{r_j}},\ 1\Bigr), \qquad \delta \sim N(0, 0.1^2),

so that rarer patterns are more precise to begin with. MAP by L-BFGS; O(e p) an iteration for e
columns of which p are partners, whatever the number of items and leaves: all e up to 512, beyond it
each column is compared with the 512 columns that fire most, taken evenly from the nodes. They are
chosen by rate, as choosing by overlap would make every column look precise. Gold labels add a
binomial term :math:`g^+_c \log \pi_c + g^-_c \log(1 - \pi_c)`; a prior accuracy given by the user
takes the place of the centre above.

Legend: `e` columns of detectors, `p` partners, `s` leaf states.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import betaln

from metal_jax._core.minimise import MinimiseConfig, MinimiseResult, minimise
from metal_jax.label_model._votes import pad_to, to_device
from metal_jax.labeling import Columns
from metal_jax.task_tree import TaskTree

_MIN_LIFT = 1.05  # precision is at least allowed to be this multiple of the node's mass
_SIZES = (100.0, 10.0, 1.0, 0.1)
_MAX_PARTNERS = 512  # the largest open set has 164 columns


class DetectorPrior(NamedTuple):
    """Constants of the pair model; numbers, so that another choice compiles nothing.

    Attributes:
        sensitivity: most of the items of its class that a detector may find.
        max_precision: and the most it may be right.
        odds: prior odds of a detector that fires on all items, times those of its node.
        shift_sd: standard deviation of the log shift of each pair of root labels.
        copy_shrinkage: pseudo-count in the correlation that tells copies.
    """

    sensitivity: float = 0.8
    max_precision: float = 0.98
    odds: float = 10.0
    shift_sd: float = 0.1
    copy_shrinkage: float = 20.0


class DetectorStatistics(NamedTuple):
    """What the pair model sees.

    Attributes:
        overlaps: float[e, e], items on which both fire.
        rate: float[e], share of items on which the column fires.
        lf_rate: float[e], share of items on which its LF votes at all.
        mass: float[e], class balance of the column's node.
        shared_mass: float[e, e], class balance of what two columns' nodes have in common.
        weight: float[e, e], weight of each pair: 0 within an LF and between roots.
        group: int32[e], the root label above the column's node.
        num_items: float[], n, or the items' total weight.
        right_wrong: float[2, e], items with gold on which the column was right, and wrong.
        trust: float[e], precision where the user's prior puts it; NaN where it is left to ours.
        partner: int32[p], the columns that every column is compared with.
    """

    overlaps: jax.Array
    rate: jax.Array
    lf_rate: jax.Array
    mass: jax.Array
    shared_mass: jax.Array
    weight: jax.Array
    group: jax.Array
    num_items: jax.Array
    right_wrong: jax.Array
    trust: jax.Array
    partner: jax.Array


class Detectors(NamedTuple):
    """The fitted pair model.

    Attributes:
        precision: float[e], `P(truth lies under the node | the column fires)`.
        copies: float[e, e], how far column c' repeats column c of the same node, in [0, 1]:
            their co-firing beyond what the model explains, as a correlation.
        solution: the minimiser's report.
    """

    precision: jax.Array
    copies: jax.Array
    solution: MinimiseResult


def detector_statistics(
    overlaps: np.ndarray,
    num_items: float,
    columns: Columns,
    lf_counts: np.ndarray,
    detector: np.ndarray,
    node_mass: np.ndarray,
    tree: TaskTree,
    *,
    right_wrong: np.ndarray | None = None,
    trust: np.ndarray | None = None,
    width: int | None = None,
) -> DetectorStatistics:
    """Gather the pair model's input on the host.

    Args:
        overlaps: float[e, e], co-firing counts of the columns.
        num_items: n, or the items' total weight.
        columns: the e columns.
        lf_counts: float[e], number of votes of each column's LF.
        detector: float[e], probability that the column's LF is a detector.
        node_mass: float[N], class balance summed over the leaves beneath each node.
        tree: the task tree.
        right_wrong: float[2, e], gold counts; zeros by default.
        trust: float[e], the user's prior precisions, NaN = none; none by default.
        width: number of columns to make it for, those beyond e without any weight; e by default.

    Returns:
        The statistics, in the default float dtype.
    """
    e = columns.num_columns
    width = e if width is None else width
    mass = node_mass[columns.symbol]
    spans = tree.node_leaves[columns.symbol]
    inside = (spans[:, None, 0] <= spans[:, 0]) & (spans[:, 1] <= spans[:, None, 1])
    # Nodes are nested or disjoint: what two have in common is the inner one, or nothing.
    shared = np.where(inside, mass, np.where(inside.T, mass[:, None], 0))
    root = tree.node_root[columns.symbol]
    other_lf = columns.lf[:, None] != columns.lf
    same_root = root[:, None] == root
    top = np.array([(*tree.ancestors(u), u)[0] for u in range(tree.num_nodes)], np.int32)

    def padded(array: np.ndarray, fill: float = 0) -> jax.Array:
        for axis in range(array.ndim):
            array = pad_to(array, width, axis, fill)
        return to_device(array)

    rate = np.diag(overlaps) / num_items
    right_wrong = np.zeros((2, e)) if right_wrong is None else right_wrong
    return DetectorStatistics(
        overlaps=padded(overlaps),
        rate=padded(rate, 1),
        lf_rate=padded(lf_counts / num_items, 1),
        mass=padded(mass, 0.5),
        shared_mass=padded(shared),
        weight=padded(np.outer(detector, detector) * other_lf * same_root),
        group=to_device(pad_to(top[columns.symbol], width), np.int32),
        num_items=to_device(num_items),
        right_wrong=to_device(pad_to(right_wrong, width, axis=1)),
        trust=padded(np.full(e, np.nan) if trust is None else trust, np.nan),
        partner=to_device(_partners(rate, columns, width), np.int32),
    )


def _partners(rate: np.ndarray, columns: Columns, width: int) -> np.ndarray:
    """int32[p], all columns or the most frequent ones of each node in turn, in order."""
    if columns.num_columns <= _MAX_PARTNERS:
        return np.arange(width, dtype=np.int32)
    order = np.lexsort((-rate, columns.symbol))
    symbol = columns.symbol[order]
    rank = np.empty(len(order), int)
    rank[order] = np.arange(len(order)) - np.searchsorted(symbol, symbol)
    return np.sort(np.lexsort((-rate, rank))[:_MAX_PARTNERS]).astype(np.int32)


def expected_overlaps(
    precision: jax.Array, stats: DetectorStatistics, partner: jax.Array | slice = slice(None)
) -> jax.Array:
    """Co-firing counts under independence given the truth.

    Args:
        precision: float[e].
        stats: see `DetectorStatistics`.
        partner: int[p], with which columns; all by default.

    Returns:
        float[e, p], `mu`.
    """
    mass, shared = stats.mass, stats.shared_mass[:, partner]
    inside = precision / mass
    outside = jnp.where(mass < 1, (1 - precision) / jnp.where(mass < 1, 1 - mass, 1), 0)
    first_only, second_only = mass[:, None] - shared, mass[partner] - shared
    neither = 1 - mass[:, None] - second_only
    lift = (
        shared * inside[:, None] * inside[partner]
        + first_only * inside[:, None] * outside[partner]
        + second_only * outside[:, None] * inside[partner]
        + neither * outside[:, None] * outside[partner]
    )
    return stats.num_items * stats.rate[:, None] * stats.rate[partner] * lift


def _log_pair_likelihood(
    observed: jax.Array, mean: jax.Array, log_coefficients: jax.Array
) -> jax.Array:
    """Negative-binomial mixture over dispersions, in a form that does not cancel in float32."""
    terms = [
        coefficient - observed * jnp.log1p(size / mean) - size * jnp.log1p(mean / size)
        for coefficient, size in zip(log_coefficients, _SIZES, strict=True)
    ]
    # Unstacked, so that it is one pass over the pairs.
    most = jax.lax.stop_gradient(functools.reduce(jnp.maximum, terms))
    return most + jnp.log(sum(jnp.exp(term - most) for term in terms))


def _log_coefficients(observed: jax.Array) -> jax.Array:
    """float[sizes, e, p], log of the negative-binomial coefficients, by log-Beta functions."""
    sizes = jnp.asarray(_SIZES, observed.dtype)[:, None, None]
    return -betaln(sizes, observed + 1) - jnp.log(observed + sizes)


@functools.partial(jax.jit, static_argnames=("num_groups", "config"))
def fit_detectors(
    stats: DetectorStatistics, prior: DetectorPrior, *, num_groups: int, config: MinimiseConfig
) -> Detectors:
    """MAP precisions and copy weights of detectors.

    Args:
        stats: see `DetectorStatistics`.
        prior: constants.
        num_groups: number of root labels (static).
        config: solver (static).

    Returns:
        The fit. One compiled program.
    """
    low = stats.mass
    high = jnp.minimum(prior.max_precision, prior.sensitivity * stats.mass / stats.rate)
    high = jnp.minimum(jnp.maximum(high, _MIN_LIFT * stats.mass), 1)
    odds = prior.odds * stats.mass / jnp.where(stats.mass < 1, 1 - stats.mass, 1)
    centre = jnp.log(odds) - jnp.log(stats.lf_rate) / 2
    trusted = jnp.clip((stats.trust - low) / (high - low), 0.01, 0.99)
    centre = jnp.where(jnp.isnan(trusted), centre, jax.scipy.special.logit(trusted))
    partner = stats.partner
    first, second = stats.group[:, None], stats.group[partner]
    pair = (jnp.minimum(first, second), jnp.maximum(first, second))
    # A pair of partners stands twice.
    once = jnp.ones_like(stats.rate).at[partner].set(0.5)[:, None]
    overlaps, weight = stats.overlaps[:, partner], once * stats.weight[:, partner]
    log_coefficients = _log_coefficients(overlaps)

    def precision_of(deviation: jax.Array) -> jax.Array:
        return low + (high - low) * jax.nn.sigmoid(centre + deviation)

    def objective(params: tuple[jax.Array, jax.Array]) -> jax.Array:
        deviation, shift = params
        mean = expected_overlaps(precision_of(deviation), stats, partner)
        mean = jnp.maximum(mean * jnp.exp(prior.shift_sd * shift[pair]), 1e-12)
        fit = jnp.sum(weight * _log_pair_likelihood(overlaps, mean, log_coefficients))
        right, wrong = stats.right_wrong
        precision = jnp.clip(precision_of(deviation), 1e-6, 1 - 1e-6)
        fit += jnp.sum(right * jnp.log(precision) + wrong * jnp.log1p(-precision))
        return -fit + jnp.sum(deviation**2) / 2 + jnp.sum(shift**2) / 2

    dtype = stats.rate.dtype
    start = (jnp.zeros_like(stats.rate), jnp.zeros((num_groups, num_groups), dtype))
    solution = minimise(objective, start, config)
    precision = precision_of(solution.params[0])
    return Detectors(precision, copy_weights(precision, stats, prior.copy_shrinkage), solution)


def copy_weights(precision: jax.Array, stats: DetectorStatistics, shrinkage: float) -> jax.Array:
    """How far each column repeats each other one of the same node.

    Args:
        precision: float[e].
        stats: see `DetectorStatistics`.
        shrinkage: pseudo-count.

    Returns:
        float[e, e] in [0, 1], their co-firing beyond what the precisions explain, as a correlation.
    """
    mean = expected_overlaps(precision, stats)
    count = stats.rate * stats.num_items
    # A pattern's count varies less than Poisson where the truth explains it; never under a tenth.
    spread = jnp.sqrt(jnp.maximum(count - jnp.diagonal(mean), 0.1 * count))
    excess = (stats.overlaps - mean) / (spread[:, None] * spread + shrinkage)
    same_node = (stats.shared_mass == stats.mass) & (stats.shared_mass == stats.mass[:, None])
    comparable = same_node & (stats.weight > 0)
    return jnp.where(comparable, jnp.clip(excess, 0, 1), 0)
