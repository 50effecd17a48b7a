"""Labelling functions, label matrices, overlap statistics, LF analysis and synthetic votes."""

from metal_jax.labeling._apply import AppliedVotes, LabelingFunctionError, apply
from metal_jax.labeling._columns import Columns, column_ids, union_columns, used_columns
from metal_jax.labeling._convert import (
    NamedVotes,
    WrenchSplit,
    from_metal,
    from_snorkel,
    from_sparse,
    from_triples,
    read_wrench,
    to_metal,
)
from metal_jax.labeling._files import VoteFile, read_gold, read_votes
from metal_jax.labeling._functions import (
    ABSTAIN,
    NOT_ASKED,
    LabelingFunction,
    item_text,
    keyword_lf,
    labeling_function,
    regex_lf,
)
from metal_jax.labeling._matrix import compatible, narrowest_integers, validate
from metal_jax.labeling._overlap_kernels import overlap_counts
from metal_jax.labeling._overlaps import (
    OverlapStatistics,
    merge_statistics,
    overlap_statistics,
    overlap_statistics_of_batches,
)
from metal_jax.labeling._slices import (
    AppliedSlices,
    SlicingFunction,
    SlicingFunctionError,
    apply_slices,
    slicing_function,
)
from metal_jax.labeling._summary import LFSummary, format_summary, summarise_lfs
from metal_jax.labeling._synthetic import SyntheticVotes, synthetic_votes

__all__ = [
    "ABSTAIN",
    "NOT_ASKED",
    "AppliedSlices",
    "AppliedVotes",
    "Columns",
    "LFSummary",
    "LabelingFunction",
    "LabelingFunctionError",
    "NamedVotes",
    "OverlapStatistics",
    "SlicingFunction",
    "SlicingFunctionError",
    "SyntheticVotes",
    "VoteFile",
    "WrenchSplit",
    "apply",
    "apply_slices",
    "column_ids",
    "compatible",
    "format_summary",
    "from_metal",
    "from_snorkel",
    "from_sparse",
    "from_triples",
    "item_text",
    "keyword_lf",
    "labeling_function",
    "merge_statistics",
    "narrowest_integers",
    "overlap_counts",
    "overlap_statistics",
    "overlap_statistics_of_batches",
    "read_gold",
    "read_votes",
    "read_wrench",
    "regex_lf",
    "slicing_function",
    "summarise_lfs",
    "synthetic_votes",
    "to_metal",
    "union_columns",
    "used_columns",
    "validate",
]
