"""The training engine: minibatch steps in compiled chunks, replicas, early stopping, resumption.

A chunk of steps runs as one compiled program, then the replicas are evaluated; between chunks the
host writes logs and checkpoints, calls back, and decides whether to go on. The batch of a step
depends on the key and the step's number alone.

Replicas (seeds, or tasks, or both) are a leading axis of the state and, where they differ between
replicas, of the data; `jax.vmap` trains all of them in one program. A mesh with an axis "replica"
spreads them over devices; one with an axis "data" spreads the items of each batch, and XLA sums
the gradients. Both axes may be there.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from metal_jax._core.batches import BatchStream
from metal_jax._core.processes import lost_process
from metal_jax._core.sharding import training_mesh
from metal_jax._core.training_config import TrainingConfig
from metal_jax._core.training_history import Checkpoints, fingerprints
from metal_jax._core.training_logs import LogConfig, TrainingLog
from metal_jax._core.training_run import TrainingRun
from metal_jax._core.training_state import Init, Score
from metal_jax._core.training_steps import Loss

OnProgress = Callable[[int, dict[str, np.ndarray]], None]
"""`on_progress(step, {"train_loss": float[r], "valid_<name of score>": float[r], ...})`."""


class TrainResult(NamedTuple):
    """Result of `train`: e evaluations of r replicas.

    Attributes:
        params: the parameters of the best watched score, with a leading axis of r.
        best_step: int[r], the step they were reached at.
        num_steps: steps taken by the last replica to stop.
        train_loss: float[e, r], mean loss since the last evaluation.
        scores: name -> float[e, r].
        seconds: float[e], wall time of each chunk and its evaluation.
    """

    params: Any
    best_step: np.ndarray
    num_steps: int
    train_loss: np.ndarray
    scores: dict[str, np.ndarray]
    seconds: np.ndarray


def train(
    init: Init,
    loss: Loss,
    score: Score,
    optimiser: optax.GradientTransformation,
    data: Any,
    validation: Any,
    config: TrainingConfig,
    keys: jax.Array,
    *,
    data_axes: tuple[Any, Any] = (None, None),
    mesh: Mesh | None = None,
    on_progress: OnProgress | None = None,
    log: LogConfig | None = None,
    checkpoints: Checkpoints | None = None,
    identity: Mapping[str, Any] | None = None,
) -> TrainResult:
    """Train r replicas at once and keep each one's best parameters.

    Args:
        init: see `Init`; keep the function object to keep the compiled program.
        loss: see `Loss`; likewise.
        score: see `Score`; likewise.
        optimiser: an optax transformation; likewise.
        data: pytree of arrays with a leading axis of n items (after the replicas' axis, if any),
            copied to each device; or a `BatchStream`.
        validation: pytree of arrays handed to `score`; their leading axis is split over the data
            axis of the mesh where it divides.
        config: settings.
        keys: r typed keys, consumed.
        data_axes: `vmap` axes of `data` and `validation`, as pytrees of hashable containers: None
            where shared by the replicas, 0 where the first axis is the replica's.
        mesh: axes "replica", to spread the replicas; "data", to spread the items of each
            (micro-)batch, which must be a multiple of it; "model", to spread the outputs of wide
            layers and heads (`split_wide`); or several of them. It may span the devices of
            several processes, which then all make this call: with the same data, or each with a
            stream of its own shares of the batches. Process 0 writes logs and checkpoints.
        on_progress: called after each evaluation.
        log: where the run is recorded.
        checkpoints: where the state is saved and, if it is there already, taken up from. The result
            is bit for bit that of a training without interruption, on the same devices, as far as
            XLA's programs are deterministic there (on GPUs scatter-adds are only with
            `--xla_gpu_deterministic_ops`).
        identity: plain JSON that must be the same when a checkpoint is taken up, beside the
            config, the keys and the data: what `init`, `loss` and `optimiser` are made from.

    Returns:
        The best parameters and the curves.

    Raises:
        ValueError: no items, sizes that do not divide, a score that is not there, or checkpoints of
            another training.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.arange(8.0)
        >>> result = train(
        ...     lambda key, x: jnp.zeros(()),
        ...     lambda slope, x, key: jnp.mean((slope * x - 2 * x) ** 2),
        ...     lambda slope, x: jnp.mean((slope * x - 2 * x) ** 2),
        ...     optax.sgd(0.01),
        ...     x,
        ...     x,
        ...     TrainingConfig(batch_size=4, num_steps=100),
        ...     jax.random.split(jax.random.key(0), 1),
        ... )
        >>> result.params.round(3).tolist()
        [2.0]
    """
    mesh = training_mesh(mesh)
    run = TrainingRun(init, loss, score, optimiser, data, validation, config, keys, data_axes, mesh)
    if checkpoints is not None:
        run.resume(
            checkpoints,
            {
                **(identity or {}),
                "training": dataclasses.asdict(config),
                "keys": np.asarray(jax.random.key_data(keys)).tolist(),
                "data": None if isinstance(data, BatchStream) else fingerprints(data),
                "validation": fingerprints(validation),
            },
        )
    with contextlib.ExitStack() as stack:
        if checkpoints is not None:
            stack.callback(checkpoints.close)
        stack.enter_context(lost_process("training"))
        writer = None
        if log is not None and jax.process_index() == 0:
            resumable = checkpoints is not None
            writer = stack.enter_context(_open_log(log, run, config, resumable=resumable))
            run.log_run = writer.run
        saved_at = run.num_steps
        while not run.done():
            evaluated = run.chunk()
            if evaluated and writer is not None:
                writer.write()
            if checkpoints is not None and run.num_steps > saved_at:
                due = len(run.history.steps) % checkpoints.every == 0
                if due or run.done():
                    run.save(checkpoints)
                    saved_at = run.num_steps
            if evaluated and on_progress is not None:
                on_progress(run.num_steps, run.history.newest())
        if checkpoints is not None:
            # Before the log says "finished": a run that says so must not be taken up again.
            checkpoints.close()
    params, best_step = run.best()
    train_loss, scores = run.history.curves()
    seconds = np.asarray(run.history.seconds)
    return TrainResult(params, best_step, run.num_steps, train_loss, scores, seconds)


def _open_log(
    log: LogConfig, run: TrainingRun, config: TrainingConfig, *, resumable: bool
) -> TrainingLog:
    fields = {
        "num_params": run.num_params,
        "batch_size": config.batch_size,
        "steps_per_epoch": config.steps_per_chunk,
        "source": "metal_jax",
    }
    return TrainingLog(
        dataclasses.replace(log, run=run.log_run or log.run),
        fields,
        {config.watch: "min" if config.lower_is_better else "max"},
        run.num_replicas,
        run.history,
        resumable=resumable,
    )
