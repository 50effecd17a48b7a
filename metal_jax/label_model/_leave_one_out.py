"""What the default label model would say without each LF: all refits in one compiled program.

An LF is taken out by a mask: its columns lose their weight, their pairs in the detectors' model and
their place in the annotators' tables, and the kinds of the other LFs are told anew. So the arrays
of all m + 1 fits have one shape; `vmap` fits a batch of masks at once and a scan goes through the
batches, in one call unless somebody is told of them.

Legend: `n` items, `m` LFs, `p` (LF, root) pairs, `e` columns of possible detectors, `s` leaf
states, `r` roots, `b` masks of a batch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.minimise import MinimiseConfig
from metal_jax.label_model._annotators import AnnotatorData, AnnotatorPrior
from metal_jax.label_model._class_balance import checked_class_balance
from metal_jax.label_model._gold import gold_mask
from metal_jax.label_model._kinds import annotator_probability
from metal_jax.label_model._lf_roots import lf_roots
from metal_jax.label_model._mixture_params import MixtureConfig
from metal_jax.label_model._mixture_program import Constants, DetectorData, fit_mixture
from metal_jax.label_model._mixture_steps import (
    ANNOTATOR,
    Evidence,
    annotator_problem,
    decided_leaves,
    detector_data,
    gather_evidence,
)
from metal_jax.label_model._votes import checked_votes, pad_to, to_device
from metal_jax.task_tree import TaskTree, log_normalise_roots


class LeaveOneOut(NamedTuple):
    """What changes when an LF is left out; plain numpy.

    Attributes:
        changed: float[m], share of the items with a vote whose likeliest leaf becomes another, mean
            over roots.
        moved: float[m], how far the posterior of such an item moves: total variation distance, mean
            over items and roots.
        uncovered: int64[m], items that no other LF votes on.
        accuracy: accuracy of the whole fit on the items with gold and a vote; NaN without any.
        accuracy_without: float[m], the same of the fits without each LF, on the same items.
    """

    changed: np.ndarray
    moved: np.ndarray
    uncovered: np.ndarray
    accuracy: float
    accuracy_without: np.ndarray


def leave_one_out(
    votes: ArrayLike,
    tree: TaskTree,
    class_balance: ArrayLike | None = None,
    config: MixtureConfig = MixtureConfig(),
    *,
    gold: ArrayLike | None = None,
    batch_size: int = 8,
    on_progress: Callable[[int], None] | None = None,
) -> LeaveOneOut:
    """Refit the default model without each LF in turn, and compare.

    Args:
        votes: int[n, m] node ids, or soft votes; see `fit`.
        tree: the task tree.
        class_balance: float[s], kept fixed if given; see `fit`.
        config: settings.
        gold: int[n] node ids, -1 = unknown; for judging only, no fit sees it.
        batch_size: masks that are fitted at once; memory is O(batch_size * n * s).
        on_progress: called after each batch, with the number of LFs that were left out so far;
            each batch is then a call of its own.

    Returns:
        The effect of each LF.

    Raises:
        ValueError: as `fit`, or `batch_size` less than 1.

    Example:
        >>> votes = np.array([[0, 0, -1], [1, -1, 1], [0, 1, 0], [-1, 1, 1], [-1, -1, 1]] * 10)
        >>> crowd = MixtureConfig(annotator=1.0)
        >>> leave_one_out(votes, TaskTree.single(2), config=crowd).uncovered.tolist()
        [0, 0, 10]
    """
    if batch_size < 1:
        raise ValueError(f"batch_size: got {batch_size}, expected at least 1")
    matrix = checked_votes(votes, tree)
    n, m = matrix.shape[:2]
    voted = np.asarray((matrix >= 0) if matrix.ndim == 2 else matrix.any(axis=2))
    covered = np.asarray(voted.any(axis=1))
    known = np.ones((n, tree.num_leaves), bool) if gold is None else gold_mask(gold, tree)
    known = np.asarray(known)
    balance = checked_class_balance(class_balance, tree)
    pairs = lf_roots(matrix, tree)
    matrix = pairs.split_votes(matrix, tree)
    no_trust = np.full(len(pairs.lf), np.nan)
    evidence = gather_evidence(matrix, np.ones(n), None, no_trust, tree, config)

    num_masks = -(-(m + 1) // batch_size) * batch_size
    keep = np.ones((num_masks, len(pairs.lf)), bool)  # of the first, the whole fit, and of padding
    keep[1 : m + 1] = pairs.lf != np.arange(m)[:, None]
    kinds = np.stack([_kinds(evidence, row, tree, config) for row in keep[: m + 1]])
    kinds = np.concatenate([kinds, np.repeat(kinds[:1], num_masks - m - 1, axis=0)])
    anyone = np.flatnonzero((kinds[:, evidence.columns.lf] < ANNOTATOR).any(axis=0))
    # Of kind 0 all: the masks bring the kinds in.
    detectors = detector_data(
        evidence._replace(chosen=anyone, annotator=np.zeros(len(pairs.lf))), balance, tree
    )
    annotators, prior, log_spread = annotator_problem(evidence, tree, config)
    width = 0 if detectors is None else detectors.weight.shape[0]
    share = (matrix >= 0) if matrix.ndim == 2 else matrix.sum(axis=2)
    decided = decided_leaves(known, tree)[:, [span.start for span in tree.root_leaves]]
    compare = functools.partial(
        _compare_masks,
        detectors,
        annotators,
        prior,
        None if log_spread is None else to_device(log_spread),
        to_device(np.log(balance)),
        Constants(config.detectors, config.correlation_scale, config.tolerance),
        to_device(pad_to(evidence.columns.lf[anyone], width), np.int32),
        to_device(share),
        to_device(known, bool),
        to_device(decided & covered[:, None], bool),
        to_device(covered, bool),
        tree=tree,
        max_steps=config.max_steps,
        fixed_balance=class_balance is not None,
        minimise=config.minimise,
    )
    batches = num_masks // batch_size
    at_once = batches if on_progress is None else 1
    masks = (
        to_device(keep.reshape(batches, batch_size, -1), bool),
        to_device(kinds.reshape(batches, batch_size, -1)),
    )
    whole, found = to_device(np.zeros((n, tree.num_leaves))), []
    for start in range(0, batches, at_once):
        some = (x[start : start + at_once] for x in masks)
        whole, compared = compare(whole, to_device(start == 0, bool), *some)
        found.append(compared)
        if on_progress is not None:
            jax.block_until_ready(compared)
            on_progress(min((start + 1) * batch_size - 1, m))
    changed, moved, right = (
        np.concatenate(parts).astype(float).ravel()[: m + 1] for parts in zip(*found, strict=True)
    )
    alone = voted & (voted.sum(axis=1, keepdims=True) == 1)
    return LeaveOneOut(
        changed[1:], moved[1:], alone.sum(axis=0, dtype=np.int64), float(right[0]), right[1:]
    )


def _kinds(
    evidence: Evidence, keep: np.ndarray, tree: TaskTree, config: MixtureConfig
) -> np.ndarray:
    """float[p], annotator probabilities when only some LFs vote; 1, no detector, for the others."""
    if config.annotator is not None:
        return evidence.annotator
    counts = np.where(keep[evidence.columns.lf], evidence.counts, 0)
    return np.where(keep, annotator_probability(counts, evidence.columns, tree), 1)


@functools.partial(jax.jit, static_argnames=("tree", "max_steps", "fixed_balance", "minimise"))
def _compare_masks(
    detectors: DetectorData | None,
    annotators: AnnotatorData,
    prior: AnnotatorPrior,
    log_spread: jax.Array | None,
    log_balance: jax.Array,
    constants: Constants,
    detector_lf: jax.Array,
    share: jax.Array,
    known: jax.Array,
    decided: jax.Array,
    covered: jax.Array,
    whole: jax.Array,
    is_first: jax.Array,
    keep: jax.Array,
    kinds: jax.Array,
    *,
    tree: TaskTree,
    max_steps: int,
    fixed_balance: bool,
    minimise: MinimiseConfig,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    """Fit every mask and compare it with the whole fit.

    Args:
        detectors: of all LFs, weighed as if all were detectors; None when none can be.
        annotators: of all LFs.
        prior: see `fit_mixture`, and so the next three.
        log_spread: of tied tables.
        log_balance: float[s].
        constants: see `Constants`.
        detector_lf: int32[e], the pair of each detector column.
        share: float[n, p], how much of a vote the pair casts.
        known: bool[n, s], leaves that gold leaves open.
        decided: bool[n, r], where gold says something and there is a vote.
        covered: bool[n], items with a vote.
        whole: float[n, s], the posterior of the whole fit; anything in the first batch.
        is_first: whether the first of these masks is that of the whole fit.
        keep: bool[batches, b, p], the masks.
        kinds: float[batches, b, p], annotator probabilities under each.
        tree: the task tree (static).
        max_steps: see `fit_mixture` (static), and so the next two.
        fixed_balance: (static).
        minimise: (static).

    Returns:
        The posterior of the whole fit; `changed`, `moved` and the accuracy of every mask, each
        float[batches, b].
    """
    dtype = log_balance.dtype
    num_roots = len(tree.roots)

    def posterior(keep: jax.Array, kind: jax.Array) -> jax.Array:
        kept = keep.astype(dtype)
        fitted = fit_mixture(
            None if detectors is None else _masked(detectors, kept, kind, detector_lf),
            annotators._replace(
                own_root=annotators.own_root & keep[annotators.lf][:, None],
                weight=(kept * kind)[annotators.lf][:, None],
            ),
            prior,
            log_spread,
            log_balance,
            constants,
            None,
            tree=tree,
            max_steps=max_steps,
            fixed_balance=fixed_balance,
            num_restarts=0,
            minimise=minimise,
        )
        depth = jnp.matmul(share, kept * kind, precision=jax.lax.Precision.HIGHEST)
        temperature = 1 + fitted.correlation * jnp.maximum(depth - 1, 0)
        return jnp.exp(log_normalise_roots(tree, fitted.state.log_q / temperature[:, None]))

    def labels(q: jax.Array) -> jax.Array:
        best = [span.start + jnp.argmax(q[:, span], axis=1) for span in tree.root_leaves]
        return jnp.stack(best, axis=1)

    num_covered = jnp.sum(covered, dtype=dtype)
    num_decided = jnp.sum(decided, dtype=dtype)

    def compare(q: jax.Array, whole: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        label = labels(q)
        other = (label != labels(whole)) & covered[:, None]
        distance = jnp.where(covered[:, None], jnp.abs(q - whole), 0) / 2
        right = jnp.take_along_axis(known, label, axis=1) & decided
        return (
            jnp.sum(other, dtype=dtype) / (num_covered * num_roots),
            jnp.sum(distance) / (num_covered * num_roots),
            jnp.sum(right, dtype=dtype) / num_decided,
        )

    def batch(
        state: tuple[jax.Array, jax.Array], masks: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array, jax.Array]]:
        whole, is_first = state
        q = jax.vmap(posterior)(*masks)
        whole = jnp.where(is_first, q[0], whole)
        return (whole, jnp.asarray(False)), jax.vmap(compare, (0, None))(q, whole)

    (whole, _), compared = jax.lax.scan(batch, (whole, is_first), (keep, kinds))
    return whole, compared


def _masked(data: DetectorData, kept: jax.Array, kind: jax.Array, lf: jax.Array) -> DetectorData:
    """The detectors' input with columns made like padding where their LF is left out.

    Or where it is no detector under this mask, though it is one under another.
    """
    here = kept[lf] * (kind[lf] < ANNOTATOR)
    weight = data.weight * (1 - kind[lf]) * here

    def masked(stats: jax.Array, fill: float = 0) -> jax.Array:
        both = here[:, None] * here if stats.ndim == 2 else here
        return jnp.where(both > 0, stats, fill)

    stats = tuple(
        level._replace(
            overlaps=masked(level.overlaps),
            rate=masked(level.rate, 1),
            lf_rate=masked(level.lf_rate, 1),
            mass=masked(level.mass, 0.5),
            shared_mass=masked(level.shared_mass),
            weight=level.weight * weight[:, None] * weight,
        )
        for level in data.stats
    )
    return data._replace(stats=stats, weight=weight)
