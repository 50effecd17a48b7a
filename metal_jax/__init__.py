"""Weak supervision over task trees, and performance prediction from training logs, in JAX.

Sub-packages are loaded when first used, so that `import metal_jax` costs nothing and starts no
backend.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from metal_jax import (
        checkpoint,
        datasets,
        label_model,
        labeling,
        metrics,
        network,
        report,
        reproduce,
        task_tree,
    )

__all__ = [
    "checkpoint",
    "datasets",
    "label_model",
    "labeling",
    "metrics",
    "network",
    "report",
    "reproduce",
    "task_tree",
]


def __getattr__(name: str):
    if name in __all__:
        return importlib.import_module(f"metal_jax.{name}")
    raise AttributeError(f"module 'metal_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
