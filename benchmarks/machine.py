"""The machine: what it is, and the ceilings that its own arithmetic and memory set."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


class Ceilings(NamedTuple):
    """Rates that a kernel could reach, measured in this run.

    Attributes:
        float32: operations a second of a large float32 matrix product, full precision.
        int8: of bytes summed in int32.
        copy: bytes a second of a large copy, read and written.
    """

    float32: float
    int8: float
    copy: float


def ceilings(size: str) -> Ceilings:
    """The best of some repetitions of a matrix product and of a copy."""
    side, length = {"ci": (128, 2**16)}.get(size, (2048, 2**26))

    def product(x: jax.Array) -> jax.Array:
        wanted = jnp.int32 if x.dtype == jnp.int8 else x.dtype
        dimensions = (((1,), (1,)), ((), ()))
        precision = jax.lax.Precision.HIGHEST
        return jax.lax.dot_general(
            x, x, dimensions, precision=precision, preferred_element_type=wanted
        )

    operations = 2 * side**3
    rates = [
        operations / _best(jax.jit(product), jnp.ones((side, side), dtype))
        for dtype in (jnp.float32, jnp.int8)
    ]
    long = jnp.ones(length, jnp.float32)
    seconds = _best(jax.jit(lambda x: x + 1), long)  # a plain copy is left out by the compiler
    return Ceilings(rates[0], rates[1], 2 * long.nbytes / seconds)


def _best(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> float:
    jax.block_until_ready(function(x))
    seconds = []
    for _ in range(7):
        start = time.perf_counter()
        jax.block_until_ready(function(x))
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def description() -> dict[str, Any]:
    """Device, versions and commit: what a figure must not travel without."""
    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "device_kind": _processor() if device.platform == "cpu" else device.device_kind,
        "num_devices": jax.device_count(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _PACKAGES},
        **_commit(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return statistics.mode(names) if names else platform.processor()


def _commit() -> dict[str, Any]:
    def git(*words: str) -> str:
        folder = Path(__file__).parent
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
