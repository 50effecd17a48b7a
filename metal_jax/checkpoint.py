"""Saving and loading parameters and trainings; the only file that imports Orbax.

Any pytree of arrays goes in: a label model's `params`, a network's `params`, optimiser states,
typed PRNG keys. What is static (the task tree, the vocabulary, a config) travels beside it as
`metadata`, plain JSON.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from metal_jax._core.files import abandon_folder, finish_folder, start_folder, whole_folder
from metal_jax._core.identity import (
    checksum_of,
    checksums,
    first_difference,
    flat_json,
    kind_of,
    plain_json,
    shapes_of,
)
from metal_jax._core.interrupts import interrupts_deferred
from metal_jax._core.json_text import json_checksum
from metal_jax._core.processes import gather_bytes

Tree = TypeVar("Tree")

_IDENTITY = "training.json"


def save(
    path: str | os.PathLike[str],
    params: Any,
    metadata: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write a pytree of arrays to a folder; readers never see half of it.

    A collective of all processes, of which process 0 writes.

    Args:
        path: the folder to make.
        params: a pytree of arrays, NamedTuples included.
        metadata: plain JSON that `load_metadata` gives back.
        overwrite: replace what is there, once the new checkpoint is complete.

    Raises:
        ValueError: the folder exists and `overwrite` is off, or the metadata is not plain JSON.
        OSError: the disk refused; what was there is as it was.
    """
    target = Path(path).absolute()
    if target.exists() and not overwrite:
        raise ValueError(f"{target} exists; pass overwrite=True to replace it")
    record = plain_json("metadata", dict(metadata or {}))
    first = jax.process_index() == 0
    fresh = start_folder(target) if first else target.with_name(target.name + ".new")
    beside: Any = {
        "metadata": record,
        "checksums": checksums(params),
        "metadata_checksum": json_checksum(record),
    }
    try:
        with _saving(target):  # the others wait here for process 0
            ocp.save(str(fresh), params, custom_metadata=beside)
    except BaseException:
        if first:
            abandon_folder(target)
        raise
    if first:
        finish_folder(target)
    gather_bytes(b"")  # nobody goes on before it is there


def load(path: str | os.PathLike[str], like: Tree) -> Tree:
    """Read the pytree that `save` wrote.

    Args:
        path: the folder.
        like: a pytree of the same structure, shapes and dtypes: arrays, or `jax.eval_shape`'s
            result. Values are not looked at.

    Returns:
        The saved values in the structure of `like`, on the default device.

    Raises:
        ValueError: no checkpoint there, one that is damaged, or of another structure or shape.

    Example:
        >>> import tempfile, jax.numpy as jnp
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(folder + "/params", {"w": jnp.arange(3.0)}, {"classes": ["a", "b"]})
        ...     load_metadata(folder + "/params")
        ...     load(folder + "/params", {"w": jnp.zeros(3)})["w"].tolist()
        {'classes': ['a', 'b']}
        [0.0, 1.0, 2.0]
    """
    source = _existing(path)
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), like
    )
    with _damage_named(source):
        found: Any = ocp.metadata(str(source))
        shapes = shapes_of(found.metadata)
    differs = first_difference(shapes, shapes_of(like))
    if differs:
        raise ValueError(f"{source}: {differs}")
    with _damage_named(source), interrupts_deferred():
        params = ocp.load(str(source), abstract)
        saved, read = _beside(found)["checksums"], checksums(params)
        # What was float64 comes as float32 where JAX knows no other.
        same = [name for name in saved if kind_of(saved[name]) == kind_of(read[name])]
        differs = first_difference({n: saved[n] for n in same}, {n: read[n] for n in same})
    if differs:
        raise ValueError(f"{source}: damaged: {differs}")
    return params


def load_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the metadata that `save` wrote beside the pytree.

    Args:
        path: the folder.

    Returns:
        The metadata; empty where none was given.

    Raises:
        ValueError: no checkpoint there, or one that is damaged.
    """
    source = _existing(path)
    with _damage_named(source):
        metadata = _beside(ocp.metadata(str(source)))["metadata"]
    if not isinstance(metadata, dict):
        raise ValueError(f"{source}: damaged: metadata: got {type(metadata).__name__}")
    return metadata


def difference(params: Any, like: Any) -> str:
    """The first leaf of two pytrees that differs in name, dtype or shape.

    Args:
        params: a pytree of arrays.
        like: what is expected; only names, shapes and dtypes are looked at.

    Returns:
        Its name, what is there and what is expected; empty if there is no difference.

    Example:
        >>> difference({"w": np.zeros(3)}, {"w": np.zeros(2)})
        'w: got float64[3], expected float64[2]'
    """
    return first_difference(shapes_of(params), shapes_of(like), "got")


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """Where and how often a training is saved.

    Attributes:
        folder: made if it is not there; of one training.
        every: evaluations from one checkpoint to the next; there is one at the end too.
        keep_last: the newest checkpoints to keep; 2 or more survive damage to the newest one.
        keep_best: those of the best watched score to keep beside them.
        metadata: plain JSON that travels with the checkpoints, e.g. the vocabulary, and must be
            the same when the training goes on.
    """

    folder: str | os.PathLike[str]
    every: int = 1
    keep_last: int = 2
    keep_best: int = 1
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the settings."""
        for name, least in (("every", 1), ("keep_last", 1), ("keep_best", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected at least {least}")


class TrainingCheckpoints:
    """The checkpoints of one training: saved in the background, the last and the best kept.

    A checkpoint holds a checksum of every array: one that was cut short or damaged is not loaded,
    the one before it is. What tells a training from others is in `training.json` beside them. One
    training at a time. Where it has several processes all make the same calls: process 0 writes,
    all read, from a folder that all of them see.

    Args:
        config: where and how often.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     checkpoints = TrainingCheckpoints(CheckpointConfig(folder))
        ...     print(checkpoints.restore({"seed": 1}))
        ...     checkpoints.save(10, {"w": np.arange(3)}, {"note": "ten"}, cost=0.5)
        ...     checkpoints.close()
        ...     arrays, record = TrainingCheckpoints(CheckpointConfig(folder)).restore({"seed": 1})
        ...     arrays["w"].tolist(), record
        None
        ([0, 1, 2], {'note': 'ten'})
    """

    def __init__(self, config: CheckpointConfig):
        """Look at what is in the folder."""
        self.every = config.every
        self._config = config
        self._folder = Path(config.folder).absolute()
        self._metadata = plain_json("metadata", dict(config.metadata))
        self._folder.mkdir(parents=True, exist_ok=True)
        self._costs: dict[int, float] = {}
        policies: Any = ocp.training.save_decision_policies
        self._checkpointer = ocp.training.Checkpointer(
            str(self._folder),
            save_decision_policy=policies.FixedIntervalPolicy(1),
            preservation_policy=self,
            cleanup_tmp_directories=True,
        )
        for checkpoint in self._checkpointer.checkpoints:
            # A damaged one has no cost, and is not kept for being best.
            with contextlib.suppress(Exception):
                self._costs[checkpoint.step] = self._record_of(checkpoint.step)["cost"]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Which checkpoints to keep; called by Orbax, whose policy this object is."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        best = sorted((step for step in steps if step in self._costs), key=self._costs.__getitem__)
        kept = {*steps[-self._config.keep_last :], *best[: self._config.keep_best]}
        return [step in kept for step in steps]

    def restore(
        self, identity: Mapping[str, Any]
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """The newest checkpoint that is whole.

        Args:
            identity: plain JSON; beside the metadata, what must be as it was.

        Returns:
            Arrays by name, and the record; None if nothing was saved yet.

        Raises:
            ValueError: the checkpoints are of another training (names what differs), or none of
                them can be read.
        """
        file = self._folder / _IDENTITY
        given = plain_json("identity", {**identity, "metadata": self._metadata})
        steps = [checkpoint.step for checkpoint in self._checkpointer.checkpoints]
        if not steps:
            if jax.process_index() != 0:
                return None
            fresh = file.with_suffix(".new")
            fresh.write_text(json.dumps(given))
            fresh.replace(file)
            return None
        try:
            saved = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise ValueError(f"{file}: the checkpoints beside it cannot be used: {error}") from None
        differs = first_difference(flat_json(saved), flat_json(given))
        if differs:
            raise ValueError(
                f"{self._folder}: the checkpoints are of another training: {differs}; choose "
                "another folder, or remove this one to start anew"
            )
        reasons = []
        for step in reversed(steps):
            try:
                with interrupts_deferred():
                    return self._read(step)
            except Exception as error:  # damaged files show as errors of every kind
                reasons.append(f"step {step}: {type(error).__name__}: {error!s:.200}")
        raise ValueError(f"{self._folder}: no checkpoint can be read: {'; '.join(reasons)}")

    def _read(self, step: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        saved = self._record_of(step)
        arrays: Any = self._checkpointer.load(step)
        found = {name: checksum_of(x) for name, x in arrays.items()}
        differs = first_difference(saved["checksums"], found)
        if differs:
            raise ValueError(f"damaged: {differs}")
        return arrays, saved["record"]

    def _record_of(self, step: int) -> dict[str, Any]:
        """What a checkpoint holds beside the arrays."""
        saved: Any = self._checkpointer.metadata(step).custom_metadata
        if not saved:
            raise ValueError("the record is missing")
        if saved.pop("checksum", None) != json_checksum(saved):
            raise ValueError("damaged: the record is not what was saved")
        return saved

    def save(
        self, step: int, arrays: Mapping[str, np.ndarray], record: Mapping[str, Any], cost: float
    ) -> None:
        """Save in the background; waits for the save before this one.

        Args:
            step: steps taken.
            arrays: host arrays by name, which nobody changes.
            record: plain JSON.
            cost: the lower, the better; NaN is the worst.

        Raises:
            ValueError: the record is not plain JSON.
            OSError: the disk refused, now or in the save before.
        """
        self._costs[step] = cost if math.isfinite(cost) else float(np.finfo(np.float64).max)
        beside: Any = {
            "record": plain_json("record", dict(record)),
            "cost": self._costs[step],
            "checksums": {name: checksum_of(x) for name, x in arrays.items()},
        }
        beside["checksum"] = json_checksum(beside)
        # Overwriting, since a damaged checkpoint of this step may be there.
        with _saving(self._folder):
            self._checkpointer.save_async(
                step, dict(arrays), overwrite=True, custom_metadata=beside
            )

    def close(self) -> None:
        """Wait until everything is saved; a second call does nothing.

        Raises:
            OSError: as `save`.
        """
        with _saving(self._folder):
            self._checkpointer.close()


def _existing(path: str | os.PathLike[str]) -> Path:
    target = Path(path).absolute()
    source = whole_folder(target)
    if not source.is_dir():
        raise ValueError(f"{target}: no checkpoint there")
    return source


@contextlib.contextmanager
def _saving(folder: Path) -> Iterator[None]:
    """Uninterrupted, and a full disk is an OSError: Orbax says it in a ValueError of many lines."""
    try:
        with interrupts_deferred():
            yield
    except ValueError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error


@contextlib.contextmanager
def _damage_named(source: Path) -> Iterator[None]:
    """Whatever damaged files make Orbax raise, as ValueError that names the folder."""
    try:
        yield
    except PermissionError:
        raise
    except Exception as error:
        raise ValueError(
            f"{source}: no checkpoint, or damaged: {type(error).__name__}: {error!s:.200}"
        ) from error


def _beside(found: Any) -> dict[str, Any]:
    """What `save` wrote beside the arrays, as it was then."""
    beside = found.custom_metadata
    if json_checksum(beside["metadata"]) != beside["metadata_checksum"]:
        raise ValueError("the metadata are not those that were saved")
    return beside
