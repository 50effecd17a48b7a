"""How a kernel is timed: lowered, compiled and run apart, against the machine's own ceilings.

A case is a pure function with arguments that are on the device, or a whole call of the library from
arrays on the host. Of a pure function the compiled object is called, so that neither tracing nor
look-ups are in its time. Of a call "compile" is what the first one took beyond the others.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.machine import Ceilings


class Case(NamedTuple):
    """One kernel at one size.

    Attributes:
        name: the size, as the tables print it.
        function: arrays -> arrays, or without arguments for a whole call.
        arguments: on the device; empty for a whole call.
        operations: of one run, by formula; None where the compiler's own count is right.
        num_bytes: read and written at least once, by formula; None for arguments and results.
        arithmetic: which ceiling its operations have, "float32" or "int8".
        note: what the formula counts.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    operations: float | None = None
    num_bytes: float | None = None
    arithmetic: str = "float32"
    note: str = ""


class Times(NamedTuple):
    """Seconds of each repetition, by the clock and of processor time."""

    wall: list[float]
    cpu: list[float]


def clock(run: Callable[[], Any], *, seconds: float, most: int = 101, least: int = 5) -> Times:
    """Repeat for about `seconds`."""
    times = Times([], [])
    begun = time.perf_counter()
    while len(times.wall) < least or (
        len(times.wall) < most and time.perf_counter() - begun < seconds
    ):
        starts = time.perf_counter(), time.process_time()
        jax.block_until_ready(run())
        times.wall.append(time.perf_counter() - starts[0])
        times.cpu.append(time.process_time() - starts[1])
    return times


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least, most and the quartiles."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return {
        "median": float(middle),
        "min": float(min(values)),
        "max": float(max(values)),
        "quartile_1": float(low),
        "quartile_3": float(high),
    }


def measure(
    kernel: str, case: Case, limits: Ceilings, *, seconds: float, least: int = 5
) -> dict[str, Any]:
    """Time a case.

    Args:
        kernel: its kernel's name.
        case: the case.
        limits: of this machine in this run.
        seconds: how long to repeat it.
        least: repetitions, however long they take.

    Returns:
        A row: times, operations, bytes, memory, and the time that the binding ceiling allows.
    """
    row: dict[str, Any] = {"kind": "kernel", "kernel": kernel, "case": case.name}
    if case.arguments:
        row |= _compiled(case, seconds, least)
    else:
        row |= _called(case, seconds, least)
    operations = row.pop("counted_operations") if case.operations is None else case.operations
    num_bytes = row.pop("counted_bytes") if case.num_bytes is None else case.num_bytes
    row.pop("counted_operations", None)
    row.pop("counted_bytes", None)
    row |= {"operations": operations, "bytes": num_bytes, "arithmetic": case.arithmetic}
    row |= {"note": case.note, "peak_resident_bytes": _peak_resident()}
    row |= {"load_average": os.getloadavg()[0]}
    if operations is not None and num_bytes is not None:
        least = {
            case.arithmetic: operations / getattr(limits, case.arithmetic),
            "copy": num_bytes / limits.copy,
        }
        bound = max(least, key=lambda name: least[name])
        median = row["wall"]["median"]
        row |= {
            "bound": bound,
            "bound_seconds": least[bound],
            "fraction_of_bound": least[bound] / median,
            "operations_per_second": operations / median,
            "bytes_per_second": num_bytes / median,
        }
    return row


def _compiled(case: Case, seconds: float, least: int) -> dict[str, Any]:
    start = time.perf_counter()
    lowered = jax.jit(case.function).lower(*case.arguments)
    lower_seconds = time.perf_counter() - start
    start = time.perf_counter()
    compiled = lowered.compile()
    compile_seconds = time.perf_counter() - start
    result = jax.block_until_ready(compiled(*case.arguments))
    times = clock(lambda: compiled(*case.arguments), seconds=seconds, least=least)
    arrays = jax.tree.leaves(case.arguments)
    cost = compiled.cost_analysis() or {}
    memory = compiled.memory_analysis()
    sizes = ("argument_size_in_bytes", "output_size_in_bytes", "temp_size_in_bytes")
    return {
        "lower_seconds": lower_seconds,
        "compile_seconds": compile_seconds,
        "wall": spread(times.wall),
        "cpu": spread(times.cpu),
        "repetitions": len(times.wall),
        "shapes": [list(np.shape(x)) for x in arrays],
        "dtypes": sorted({str(x.dtype) for x in arrays}),
        "compiler_operations": cost.get("flops"),
        "counted_operations": cost.get("flops"),
        "counted_bytes": _num_bytes((case.arguments, result)),
        "memory": {} if memory is None else {x: int(getattr(memory, x)) for x in sizes},
    }


def _called(case: Case, seconds: float, least: int) -> dict[str, Any]:
    start = time.perf_counter()
    jax.block_until_ready(case.function())
    first = time.perf_counter() - start
    times = clock(case.function, seconds=seconds, least=least)
    wall = spread(times.wall)
    return {
        "lower_seconds": None,
        "compile_seconds": max(first - wall["median"], 0.0),
        "wall": wall,
        "cpu": spread(times.cpu),
        "repetitions": len(times.wall),
        "counted_operations": None,
        "counted_bytes": None,
    }


def _num_bytes(tree: Any) -> int:
    return sum(x.nbytes for x in jax.tree.leaves(tree) if hasattr(x, "nbytes"))


def _peak_resident() -> int:
    """Most bytes that the process ever had in memory (Linux counts in kilobytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
