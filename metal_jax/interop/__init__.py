"""Other libraries' forms of votes, items and labels, without importing those libraries.

- `frame_columns`, `frame_items`: pandas, Polars, Hugging Face `datasets`, Arrow tables, and what
  speaks the data frame interchange protocol.
- `votes_from_frame`, `votes_to_frame`: a column for each LF. `from_crowdkit`, `to_crowdkit`: a row
  for each annotation. `to_snorkel`, `write_wrench`, `to_cleanlab`, `to_cleanlab_annotators`.
- `task_probabilities`, `write_soft_labels`, `read_soft_labels`: soft labels for an end model.
- `LabelModelEstimator`: the scikit-learn form; the only name that needs another library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from metal_jax.interop._formats import (
    CleanlabInputs,
    to_cleanlab,
    to_cleanlab_annotators,
    to_snorkel,
    write_wrench,
)
from metal_jax.interop._frames import frame_columns, frame_items
from metal_jax.interop._soft_labels import (
    read_soft_labels,
    soft_labels_from_frame,
    task_probabilities,
    write_soft_labels,
)
from metal_jax.interop._vote_frames import (
    from_crowdkit,
    gold_from_labels,
    to_crowdkit,
    votes_from_frame,
    votes_to_frame,
)

if TYPE_CHECKING:
    from metal_jax.interop._sklearn import LabelModelEstimator

__all__ = [
    "CleanlabInputs",
    "LabelModelEstimator",
    "frame_columns",
    "frame_items",
    "from_crowdkit",
    "gold_from_labels",
    "read_soft_labels",
    "soft_labels_from_frame",
    "task_probabilities",
    "to_cleanlab",
    "to_cleanlab_annotators",
    "to_crowdkit",
    "to_snorkel",
    "votes_from_frame",
    "votes_to_frame",
    "write_soft_labels",
    "write_wrench",
]


def __getattr__(name: str) -> Any:
    if name == "LabelModelEstimator":
        from metal_jax.interop._sklearn import LabelModelEstimator

        return LabelModelEstimator
    raise AttributeError(f"module 'metal_jax.interop' has no attribute {name!r}")
