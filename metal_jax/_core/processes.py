"""Several processes as one computation; `metal_jax.distributed` is the public side of it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np


def initialize(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    heartbeat_seconds: int = 30,
    start_seconds: int = 300,
    shutdown_seconds: int = 30,
) -> None:
    """Join the other processes; call it before anything else of JAX.

    `jax.distributed.initialize` with shorter timeouts. On TPU pods, and under Slurm or Open MPI,
    the first three arguments are found out.

    Args:
        coordinator_address: "host:port" of process 0.
        num_processes: how many there are.
        process_id: number of this one, from 0.
        heartbeat_seconds: a process that is silent for so long counts as lost, and all others end.
        start_seconds: how long to wait for all processes at the start.
        shutdown_seconds: how long to wait for them at the end.
    """
    jax.distributed.initialize(
        coordinator_address,
        num_processes,
        process_id,
        initialization_timeout=start_seconds,
        heartbeat_timeout_seconds=heartbeat_seconds,
        shutdown_timeout_seconds=shutdown_seconds,
    )


@contextlib.contextmanager
def lost_process(doing: str) -> Iterator[None]:
    """Say in a RuntimeError what was lost, where a collective fails.

    Args:
        doing: what all processes do together.

    Returns:
        A context manager.

    Raises:
        RuntimeError: a collective failed inside, with several processes.

    Example:
        >>> with lost_process("counting"):
        ...     2 + 2
        4
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        raise RuntimeError(
            f"process {jax.process_index()} of {jax.process_count()}, {doing}: another process "
            "was lost. Start all of them again: they go on from the last checkpoint, if there is "
            f"one. ({str(error).strip().splitlines()[0]:.200})"
        ) from error


def gather_bytes(content: bytes) -> list[bytes]:
    """The bytes of every process, in order; a collective.

    Args:
        content: of this process.

    Returns:
        One entry for each process, the same on all.

    Raises:
        RuntimeError: another process was lost.

    Example:
        >>> gather_bytes(b"of one process")
        [b'of one process']
    """
    if jax.process_count() == 1:
        return [content]
    from jax.experimental import multihost_utils

    with lost_process("gathering results"):
        own = np.array([len(content)], np.int32)
        sizes = np.asarray(multihost_utils.process_allgather(own)).ravel()
        padded = np.zeros(int(sizes.max()), np.uint8)
        padded[: len(content)] = np.frombuffer(content, np.uint8)
        rows = np.asarray(multihost_utils.process_allgather(padded)).reshape(len(sizes), -1)
    return [row[:size].tobytes() for row, size in zip(rows, sizes, strict=True)]


def sum_over_processes(tree: Any) -> Any:
    """Sums of host arrays over processes, in their own types and the same bit for bit on all.

    Args:
        tree: pytree of numpy arrays or numbers, of the same shapes on all processes.

    Returns:
        The tree of sums.

    Example:
        >>> sum_over_processes({"items": np.int64(3)})
        {'items': np.int64(3)}
    """
    if jax.process_count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    parts = [_from_bytes(content) for content in gather_bytes(_to_bytes(leaves))]
    return structure.unflatten([sum(part[1:], part[0]) for part in zip(*parts, strict=True)])


def send_to_all(arrays: dict[str, np.ndarray] | None) -> dict[str, np.ndarray]:
    """What process 0 holds, on every process; a collective.

    Args:
        arrays: by name; only process 0's are looked at.

    Returns:
        The arrays.

    Example:
        >>> send_to_all({"x": np.arange(2)})
        {'x': array([0, 1])}
    """
    if jax.process_count() == 1:
        return dict(arrays or {})
    return gather_arrays((arrays or {}) if jax.process_index() == 0 else {})[0]


def gather_arrays(arrays: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """The arrays of every process, in order; a collective.

    Args:
        arrays: of this process, by name.

    Returns:
        One entry for each process, the same on all.

    Example:
        >>> [part["x"].tolist() for part in gather_arrays({"x": np.arange(2)})]  # of one process
        [[0, 1]]
    """
    if jax.process_count() == 1:
        return [arrays]
    found = []
    for content in gather_bytes(_to_bytes([np.array(list(arrays), str), *arrays.values()])):
        names, *values = _from_bytes(content)
        found.append(dict(zip(names.tolist(), values, strict=True)))
    return found


def _to_bytes(arrays: list[Any]) -> bytes:
    file = io.BytesIO()
    for array in arrays:
        np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
    return file.getvalue()


def _from_bytes(content: bytes) -> list[np.ndarray]:
    file, arrays = io.BytesIO(content), []
    while file.tell() < len(content):
        arrays.append(np.lib.format.read_array(file, allow_pickle=False))
    return arrays
