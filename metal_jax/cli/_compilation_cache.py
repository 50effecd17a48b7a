"""Compiled programs on disk, so that a command compiles only what no command before it has."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from pathlib import Path

_SETTINGS = {
    # Of the small programs of one command none takes the second that JAX asks for by default.
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
}


def use_compilation_cache() -> None:
    """Let JAX keep compiled programs in the user's cache folder.

    The folder is `$XDG_CACHE_HOME/metal_jax`, by default `~/.cache/metal_jax`. What the user has
    set of JAX's own variables stays: `JAX_COMPILATION_CACHE_DIR` names another folder and
    `JAX_ENABLE_COMPILATION_CACHE=false` switches the cache off. Nothing happens where JAX is
    loaded already, since then the process is not the command's own.
    """
    if "jax" in sys.modules:
        return
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        with contextlib.suppress(OSError, RuntimeError):  # no home, or one that is read-only
            folder = _cache_home() / "metal_jax"
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    # A program that a killed process left half-written is compiled again, without a word each.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")


def _cache_home() -> Path:
    named = os.environ.get("XDG_CACHE_HOME", "")
    # The specification of XDG: a relative path is to be ignored.
    return Path(named) if os.path.isabs(named) else Path.home() / ".cache"
