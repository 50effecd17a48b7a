"""One training at work: the state of its replicas, where their batches come from, its curves."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from metal_jax._core.batches import BatchStream, stack_batches
from metal_jax._core.checks import leaf_types
from metal_jax._core.sharding import REPLICA_AXIS, axis_size, pad_replicas, place, split_wide
from metal_jax._core.training_config import TrainingConfig
from metal_jax._core.training_history import (
    Checkpoints,
    History,
    tree_from_arrays,
    tree_to_arrays,
)
from metal_jax._core.training_state import Init, Score, TrainState, evaluate, start
from metal_jax._core.training_steps import Loss, StepOptions, run_steps


class PausedReplicas(NamedTuple):
    """Replicas between two runs.

    Attributes:
        state: arrays on the host with a leading axis of r, the keys as their data; without the
            settings.
        num_steps: steps taken.
    """

    state: TrainState
    num_steps: int


class TrainingRun:
    """The replicas of one call of `train`, taken from chunk to chunk.

    Args:
        init: see `Init`.
        loss: see `Loss`.
        score: see `Score`.
        optimiser: an optax transformation.
        data: pytree of arrays, or a `BatchStream`.
        validation: pytree handed to `score`.
        config: settings.
        keys: r typed keys, consumed.
        data_axes: of the replicas in `data` and `validation`.
        mesh: from `training_mesh`.
        settings: name -> float[r, ...], handed to the replicas' losses and optimisers; None where
            they are alike.
        paused: what `pause` of another run returned, to go on from there instead of from the start.

    Attributes:
        num_replicas: r.
        history: of the evaluations.
        log_run: id of the run in the logs, if there are any.
    """

    def __init__(
        self,
        init: Init,
        loss: Loss,
        score: Score,
        optimiser: optax.GradientTransformation,
        data: Any,
        validation: Any,
        config: TrainingConfig,
        keys: jax.Array,
        data_axes: tuple[Any, Any],
        mesh: Mesh | None,
        settings: Mapping[str, Any] | None = None,
        paused: PausedReplicas | None = None,
    ):
        """Move the data to the devices and draw the parameters."""
        self._loss, self._score, self._optimiser = loss, score, optimiser
        self._config, self._mesh = config, mesh
        self._data_axes, self._validation_axes = data_axes
        self.num_replicas = len(keys)
        self._padding = -self.num_replicas % axis_size(mesh, REPLICA_AXIS)
        self._stream = data if isinstance(data, BatchStream) else None
        self._data = None if self._stream else self._place(data, self._data_axes)
        example = self._data
        if self._stream is not None:
            first = self._stream.prepare(self._stream.first())
            if jax.process_count() > 1:  # shapes are all that counts, and all that is the same
                first = jax.tree.map(lambda x: np.zeros(np.shape(x), jnp.result_type(x)), first)
            example = self._place(first, self._data_axes)
        self._validation = self._place(validation, self._validation_axes, items_axis=0)
        self._first_step = 0 if paused is None else paused.num_steps
        if paused is None:
            state = start(
                pad_replicas(keys, 0, self._padding),
                example,
                init=init,
                optimiser=optimiser,
                averaged=config.ema_decay > 0,
                lower_is_better=config.lower_is_better,
                data_axes=self._data_axes,
                mesh=mesh,
            )
        else:
            key_data = jnp.asarray(paused.state.key)
            key = jax.random.wrap_key_data(key_data, impl=jax.random.key_impl(keys))
            state: TrainState = self._place(paused.state._replace(key=key), 0)
        self._state = state._replace(settings=self._place(settings, 0))
        self.history = History()
        self.log_run: str | None = None
        self._ended = False

    def _place(
        self, tree: Any, axes: Any, items_axis: int | None = None, *, own_share: bool = False
    ) -> Any:
        padded = pad_replicas(tree, axes, self._padding)
        return place(padded, axes, self._mesh, items_axis, own_share=own_share)

    @property
    def num_steps(self) -> int:
        """Steps taken, with an evaluation after the last one."""
        return self.history.steps[-1] if self.history.steps else self._first_step

    @property
    def num_params(self) -> int:
        """Parameters of one replica."""
        return sum(x[0].size for x in jax.tree.leaves(self._state.params))

    def done(self) -> bool:
        """Whether all steps are taken, every replica has gone stale, or the batches have ended."""
        patience = self._config.patience
        stale = np.asarray(self._state.stale)[: self.num_replicas]
        stopped = patience > 0 and bool((stale >= patience).all())
        return self._ended or stopped or self.num_steps >= self._config.num_steps

    def chunk(self, last_step: int | None = None) -> bool:
        """Take the steps up to the next evaluation, and evaluate.

        Args:
            last_step: evaluate after this step at the latest; None to follow the settings alone.

        Returns:
            Whether there was a step; a stream may have ended.
        """
        started = time.perf_counter()
        size, ends = self._config.steps_per_chunk, [self._config.num_steps]
        ends.append(size * (self.num_steps // size + 1))
        ends += [] if last_step is None else [last_step]
        wanted = min(ends) - self.num_steps
        total, taken = self._step_to(wanted) if self._stream is None else self._read_to(wanted)
        self._ended = taken < wanted
        if not taken:
            return False
        step = self.num_steps + taken
        self._state, scores = evaluate(
            self._state,
            self._validation,
            np.int32(step),
            score=self._score,
            watch=self._config.watch,
            lower_is_better=self._config.lower_is_better,
            ema_decay=self._config.ema_decay,
            validation_axes=self._validation_axes,
            mesh=self._mesh,
        )
        host = {name: np.asarray(x)[: self.num_replicas] for name, x in scores.items()}
        train_loss = np.asarray(total)[: self.num_replicas] / taken
        self.history.add(step, train_loss, host, time.perf_counter() - started)
        return True

    def _step_to(self, wanted: int) -> tuple[jax.Array, int]:
        """Steps over the data on the device; the sum of their losses and how many they were."""
        return self._run_steps(self._data, 0, wanted), wanted

    def _read_to(self, wanted: int) -> tuple[jax.Array | float, int]:
        """The same over the stream; a block is read while the device works on the one before."""
        assert self._stream is not None
        size = self._config.batches_per_transfer
        total, taken = 0.0, 0
        while taken < wanted:
            batches = self._stream.take(min(size, wanted - taken))
            if not batches:
                break
            block = stack_batches(batches, self._data_axes, size)
            block = self._place(block, self._data_axes, items_axis=1, own_share=True)
            total = total + self._run_steps(block, taken, len(batches))
            taken += len(batches)
        return total, taken

    def _run_steps(self, data: Any, taken: int, num_steps: int) -> jax.Array:
        config = self._config
        self._state, total = run_steps(
            self._state,
            data,
            np.int32(self.num_steps + taken),
            np.int32(num_steps),
            loss=self._loss,
            optimiser=self._optimiser,
            options=StepOptions(config.batch_size, config.micro_batches, config.ema_decay),
            streamed=self._stream is not None,
            data_axes=self._data_axes,
            mesh=self._mesh,
        )
        return total

    def save(self, checkpoints: Checkpoints) -> None:
        """Save everything that the rest of the training depends on."""
        cost = float(np.mean(self.history.scores[self._config.watch][-1]))
        checkpoints.save(
            self.num_steps,
            tree_to_arrays(self._state, self.num_replicas) | self.history.to_arrays(),
            {
                "run": self.log_run,
                "stream": None if self._stream is None else self._stream.state(),
                "ended": self._ended,
            },
            cost if self._config.lower_is_better else -cost,
        )

    def resume(self, checkpoints: Checkpoints, identity: Mapping[str, Any]) -> None:
        """Go on from a checkpoint, if there is one.

        Args:
            checkpoints: where.
            identity: what it must have in common with this training.
        """
        shapes = jax.eval_shape(
            lambda state: jax.tree.map(lambda x: x[: self.num_replicas], state), self._state
        )
        found = checkpoints.restore({**identity, "state": leaf_types(shapes)})
        if found is None:
            return
        arrays, record = found
        saved = pad_replicas(tree_from_arrays(arrays, self._state), 0, self._padding)
        if self._mesh is None:
            self._state = jax.tree.map(
                lambda new, old: jax.device_put(new, old.sharding), saved, self._state
            )
        else:  # the state at the start may be on one device still, which is no reason to stay there
            self._state = split_wide(place(saved, 0, self._mesh), self._mesh)
        self.history = History.from_arrays(arrays)
        self.log_run, self._ended = record["run"], record["ended"]
        if self._stream is not None:
            self._stream.restore(record["stream"])

    def pause(self) -> PausedReplicas:
        """The replicas as they are, on the host, for another run to go on from."""
        state = self._state._replace(key=jax.random.key_data(self._state.key), settings=None)
        arrays = jax.tree.map(lambda x: np.asarray(x)[: self.num_replicas], state)
        return PausedReplicas(arrays, self.num_steps)

    def best(self) -> tuple[Any, np.ndarray]:
        """Parameters of the best watched score, and int[r], the steps they were reached at."""
        params, best_step = self._state.best_params, np.asarray(self._state.best_step)
        if self._padding:
            params = jax.tree.map(lambda x: x[: self.num_replicas], params)
        return params, best_step[: self.num_replicas]
