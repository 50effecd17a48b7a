r"""The default model fitted to votes that are larger than memory, or lie with several processes.

It is the model of `_mixture` and its exact EM; only the order of the work differs:

1. One pass counts how often LFs vote together (`labeling.overlap_statistics`; sums, exact). Kinds
   of LFs and the detectors' precisions follow from these counts alone.
2. EM runs on a sample of the items in memory, until it rests. That costs no pass, and ends within
   the sampling error of the solution.
3. Passes over all items, each an exact EM step from streamed sums and accelerated by those before
   (`_stream_steps`), until a step moves no posterior of the sample by more than the tolerance.
4. A last pass measures the correlation of annotators' errors within items.

Memory is O(b m + sample + d^2), whatever the number of items. (EM over distinct rows of votes
instead of items would need memory for nearly as many rows as items once there are some 20 LFs. The
overlap family needs step 1 alone: `fit_overlap` of `overlap_statistics_of_batches`.)

Each process reads votes of its own and sums are added over processes, so that all of them take the
same steps; a mesh spreads each batch over the devices of a process.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from metal_jax.label_model._annotators import annotator_prior
from metal_jax.label_model._class_balance import checked_class_balance
from metal_jax.label_model._gold import checked_accuracy
from metal_jax.label_model._lf_roots import lf_roots_of_columns
from metal_jax.label_model._mixture_params import MixtureConfig
from metal_jax.label_model._mixture_program import Constants, MixtureFit, fit_mixture
from metal_jax.label_model._mixture_steps import (
    Evidence,
    annotator_problem,
    convergence,
    detector_data,
    evidence_of_counts,
    mixture_params,
)
from metal_jax.label_model._result import FitResult, join_lfs
from metal_jax.label_model._stream_checkpoint import StreamCheckpoint
from metal_jax.label_model._stream_counts import (
    OnProgress,
    batch_size,
    count_stream,
    statistics_from_arrays,
    statistics_to_arrays,
    sum_stream,
    vote_dtype,
)
from metal_jax.label_model._stream_passes import (
    StreamModel,
    batch_posterior,
    of_one_shape,
    pass_sums,
)
from metal_jax.label_model._stream_steps import (
    NO_HISTORY,
    History,
    maximise,
    next_counts,
    to_log_counts,
)
from metal_jax.label_model._tables import column_root_mask
from metal_jax.label_model._votes import to_device
from metal_jax.labeling import OverlapStatistics, VoteStream
from metal_jax.task_tree import TaskTree


@dataclasses.dataclass(frozen=True)
class StreamConfig:
    """How a stream is gone through.

    Attributes:
        sample_items: items of the sample at least, of all processes together; twice as many at
            most.
        max_passes: most EM passes over all items.
    """

    sample_items: int = 2**17
    max_passes: int = 50

    def __post_init__(self) -> None:
        for name in ("sample_items", "max_passes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected at least 1")


def fit_stream(
    votes: VoteStream | Iterable[ArrayLike],
    tree: TaskTree,
    class_balance: ArrayLike | None = None,
    config: MixtureConfig = MixtureConfig(),
    *,
    accuracy: ArrayLike | None = None,
    stream: StreamConfig = StreamConfig(),
    mesh: Mesh | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    on_progress: OnProgress | None = None,
) -> FitResult:
    """Fit the default label model to a stream of votes: `fit` in bounded memory.

    Args:
        votes: a `labeling.VoteStream`, or any iterable of batches int[b, m] that can be read again
            and again; with several processes, of each its own items.
        tree: the task tree.
        class_balance: as in `fit`.
        config: as in `fit`; restarts are not made.
        accuracy: as in `fit`.
        stream: how the stream is gone through.
        mesh: devices of this process along an axis "data", over which each batch is spread.
        checkpoint: a file `.npz` that is written after each pass (by process 0), and from which
            the fit goes on if it is there, after the votes were read once to see that they are the
            same.
        on_progress: called after each batch.

    Returns:
        The fit, the same on all processes; `num_steps` counts passes, and `objective_trace` is the
        log-likelihood of the annotators' votes in each.

    Raises:
        ValueError: no items, votes that `labeling.validate` rejects (names the item), an iterable
            that ends after one pass, tables larger than `config.max_table`, or the checkpoint of
            another fit (names what differs).

    Example:
        >>> from metal_jax.label_model import posterior
        >>> votes = np.array([[0, 0, -1], [1, -1, 1], [0, 1, 0], [-1, 1, 1]] * 10)
        >>> result = fit_stream([votes[:30], votes[30:]], TaskTree.single(2))
        >>> posterior(result, votes[:4]).argmax(1).tolist()
        [0, 1, 0, 1]
    """
    if iter(votes) is votes:
        raise ValueError("votes: got an iterator, expected an iterable that can be read again")
    say = (lambda what, items: None) if on_progress is None else on_progress
    identity = {
        "tree": tree.to_dict(),
        "config": dataclasses.asdict(config),
        "stream": dataclasses.asdict(stream),
        "class_balance": None if class_balance is None else np.asarray(class_balance).tolist(),
        "accuracy": None if accuracy is None else np.asarray(accuracy, float).tolist(),
    }
    saved = StreamCheckpoint(checkpoint, identity)
    if saved.arrays:
        saved.check("votes", sum_stream(votes, tree, say))
        statistics, sample = statistics_from_arrays(saved.arrays)
    else:
        statistics, sample, checksum = count_stream(votes, tree, stream.sample_items, mesh, say)
        saved.write({**statistics_to_arrays(statistics, sample), "votes": np.asarray(checksum)})
    balance = checked_class_balance(class_balance, tree)
    pairs = lf_roots_of_columns(statistics.columns, np.diag(statistics.counts), tree)
    columns = pairs.split_columns(statistics.columns, tree)
    if columns.num_columns * tree.num_leaves > config.max_table:
        raise ValueError(
            f"votes: {columns.num_columns} (LF, node) pairs x {tree.num_leaves} leaves, expected "
            f"at most max_table, {config.max_table}: tied tables cannot be streamed"
        )
    evidence = evidence_of_counts(
        pairs.split_votes(sample.votes, tree),
        sample.weights,
        columns,
        np.diag(statistics.counts).astype(float),
        None,
        checked_accuracy(accuracy, statistics.columns.num_lfs)[pairs.lf],
        tree,
        config,
    )
    fixed = class_balance is not None
    fitted = _fit_sample(evidence, statistics, balance, tree, config, fixed)

    def batches(what: str) -> Iterator[np.ndarray]:
        size = batch_size(votes)
        split = (pairs.split_votes(np.asarray(b), tree) for b in _announced(votes, what, say))
        return of_one_shape(split, size, vote_dtype(tree))

    fitted, trace, change = _passes(
        batches, evidence, fitted, tree, config, stream, mesh, saved, fixed
    )
    converged, status = convergence(fitted, change, config.tolerance, "max_passes")
    result = FitResult(
        method="mixture",
        params=mixture_params(fitted, evidence, None, tree),
        columns=columns,
        tree=tree,
        converged=converged,
        status=status,
        num_steps=len(trace),
        objective_trace=np.asarray(trace),
    )
    return join_lfs(result, pairs)


def _fit_sample(
    evidence: Evidence,
    statistics: OverlapStatistics,
    balance: np.ndarray,
    tree: TaskTree,
    config: MixtureConfig,
    fixed_balance: bool,
) -> MixtureFit:
    """Detectors from the statistics of all items, annotators from the sample."""
    data, prior, _ = annotator_problem(evidence, tree, config)
    return fit_mixture(
        detector_data(evidence, balance, tree, statistics.counts.astype(float)),
        data,
        prior,
        None,
        to_device(np.log(balance)),
        Constants(config.detectors, config.correlation_scale, config.tolerance),
        None,
        tree=tree,
        max_steps=config.max_steps,
        fixed_balance=fixed_balance,
        num_restarts=0,
        minimise=config.minimise,
    )


def _passes(
    batches: Callable[[str], Iterator[np.ndarray]],
    evidence: Evidence,
    fitted: MixtureFit,
    tree: TaskTree,
    config: MixtureConfig,
    stream: StreamConfig,
    mesh: Mesh | None,
    saved: StreamCheckpoint,
    fixed_balance: bool,
) -> tuple[MixtureFit, list[float], float]:
    """EM over all items from the sample's solution."""
    columns = evidence.columns
    accuracy = np.where(np.isnan(evidence.trust), config.prior_accuracy, evidence.trust)
    prior = annotator_prior(
        columns,
        tree,
        accuracy=accuracy,
        votes=config.prior_votes,
        balance_items=config.balance_items,
    )
    model = _stream_model(fitted, evidence, tree)
    sample = evidence.votes.astype(vote_dtype(tree))
    trace, changes, given, history = [], [], None, NO_HISTORY
    if saved.arrays and "given" in saved.arrays:
        trace, changes = saved.arrays["trace"].tolist(), saved.arrays["changes"].tolist()
        given = saved.arrays["given"]
        history = History(saved.arrays["history_given"], saved.arrays["history_found"])
        model = maximise(model, given, prior, tree, fixed_balance)
    while len(trace) < stream.max_passes and not (changes and changes[-1] <= config.tolerance):
        sums: Any = pass_sums(model, batches(f"EM pass {len(trace) + 1}"), "em", tree, mesh)
        found = to_log_counts(sums)
        after = maximise(model, found, prior, tree, fixed_balance)
        moved = batch_posterior(after, sample, tree) - batch_posterior(model, sample, tree)
        trace.append(float(sums.evidence))
        changes.append(float(jnp.max(jnp.abs(moved))))
        # The sample's solution was not made of counts of all items, so the first step is plain.
        # Where a step has led astray, EM goes on plainly from there.
        if len(changes) > 1 and changes[-1] > 2 * changes[-2]:
            history = NO_HISTORY
        elif given is not None:
            history = history.then(given, found)
        at_rest = changes[-1] <= config.tolerance or not len(history.given)
        given = found if at_rest else next_counts(history)
        model = maximise(model, given, prior, tree, fixed_balance)
        saved.write(
            {
                "trace": np.asarray(trace),
                "changes": np.asarray(changes),
                "given": given,
                "history_given": history.given,
                "history_found": history.found,
            }
        )
    pairs: Any = pass_sums(model, batches("measuring correlation"), "residual", tree, mesh)
    correlation = pairs.residual / max(pairs.spread, 1e-9)
    joint = jnp.exp(model.log_vote + model.log_prior) * model.own_root
    total = jnp.sum(joint, axis=1)
    right = jnp.sum(joint * model.covered, axis=1)
    return (
        fitted._replace(
            state=fitted.state._replace(log_vote=model.log_vote, log_prior=model.log_prior),
            precision=right / jnp.where(total > 0, total, 1),
            correlation=to_device(np.clip(config.correlation_scale * correlation, 0, 1)),
        ),
        trace,
        changes[-1],
    )


def _stream_model(fitted: MixtureFit, evidence: Evidence, tree: TaskTree) -> StreamModel:
    columns, chosen = evidence.columns, evidence.chosen
    annotator, e = evidence.annotator[columns.lf], len(chosen)
    copies, lift = np.zeros((tree.depth, 0, 0)), np.zeros((tree.depth, 0, tree.num_leaves))
    if fitted.detectors is not None:
        copies = np.asarray(fitted.detectors.copies)[:, :e, :e]
        lift = np.asarray(fitted.detectors.log_lift)[:, :e] * (1 - annotator[chosen])[:, None]
    return StreamModel(
        lf=to_device(columns.lf, np.int32),
        symbol=to_device(columns.symbol, np.int32),
        weight=to_device(annotator[:, None]),
        own_root=to_device(column_root_mask(columns, tree), bool),
        covered=to_device(tree.covers[columns.symbol]),
        log_vote=fitted.state.log_vote[: columns.num_columns],
        log_prior=fitted.state.log_prior,
        detector_columns=to_device(chosen, np.int32),
        copies=to_device(copies),
        lift=to_device(lift),
    )


def _announced(votes: Iterable[Any], what: str, say: OnProgress) -> Iterator[Any]:
    seen = 0
    for batch in votes:
        yield batch
        seen += len(batch)
        say(what, seen)
