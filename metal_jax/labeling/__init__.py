"""Labelling functions, label matrices, overlap statistics, LF analysis and synthetic votes."""

from metal_jax.labeling._apply import AppliedVotes, ApplyProgress, apply
from metal_jax.labeling._apply_blocks import LabelingFunctionError
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
from metal_jax.labeling._dask import apply_dask
from metal_jax.labeling._digests import item_digest
from metal_jax.labeling._files import VoteFile, read_votes
from metal_jax.labeling._functions import (
    ABSTAIN,
    NOT_ASKED,
    LabelingFunction,
    labeling_function,
)
from metal_jax.labeling._gold_files import read_gold
from metal_jax.labeling._lf_digests import lf_digest
from metal_jax.labeling._matrix import compatible, narrowest_integers, validate
from metal_jax.labeling._overlap_kernels import overlap_counts
from metal_jax.labeling._overlaps import (
    OverlapStatistics,
    merge_statistics,
    overlap_statistics,
    overlap_statistics_of_batches,
)
from metal_jax.labeling._pairs import LFPairs, lf_pairs
from metal_jax.labeling._preprocess import Preprocessor, preprocessor
from metal_jax.labeling._review import (
    Representatives,
    contested_items,
    posterior_entropy,
    representative_items,
    uncovered_items,
    vote_conflict,
)
from metal_jax.labeling._score_lfs import classifier_lf, score_lf, votes_of_probabilities
from metal_jax.labeling._slices import (
    AppliedSlices,
    SlicingFunction,
    SlicingFunctionError,
    apply_slices,
    slicing_function,
)
from metal_jax.labeling._streams import VotePart, VoteReader, VoteStream
from metal_jax.labeling._summary import LFSummary, format_summary, summarise_lfs
from metal_jax.labeling._synthetic import SyntheticVotes, synthetic_votes
from metal_jax.labeling._text_lfs import (
    Span,
    gazetteer_lf,
    item_text,
    keyword_lf,
    length_lf,
    regex_lf,
    trigger_spans,
)

__all__ = [
    "ABSTAIN",
    "NOT_ASKED",
    "AppliedSlices",
    "AppliedVotes",
    "ApplyProgress",
    "Columns",
    "LFPairs",
    "LFSummary",
    "LabelingFunction",
    "LabelingFunctionError",
    "NamedVotes",
    "OverlapStatistics",
    "Preprocessor",
    "Representatives",
    "SlicingFunction",
    "SlicingFunctionError",
    "Span",
    "SyntheticVotes",
    "VoteFile",
    "VotePart",
    "VoteReader",
    "VoteStream",
    "WrenchSplit",
    "apply",
    "apply_dask",
    "apply_slices",
    "classifier_lf",
    "column_ids",
    "compatible",
    "contested_items",
    "format_summary",
    "from_metal",
    "from_snorkel",
    "from_sparse",
    "from_triples",
    "gazetteer_lf",
    "item_digest",
    "item_text",
    "keyword_lf",
    "labeling_function",
    "length_lf",
    "lf_digest",
    "lf_pairs",
    "merge_statistics",
    "narrowest_integers",
    "overlap_counts",
    "overlap_statistics",
    "overlap_statistics_of_batches",
    "posterior_entropy",
    "preprocessor",
    "read_gold",
    "read_votes",
    "read_wrench",
    "regex_lf",
    "representative_items",
    "score_lf",
    "slicing_function",
    "summarise_lfs",
    "synthetic_votes",
    "to_metal",
    "trigger_spans",
    "uncovered_items",
    "union_columns",
    "used_columns",
    "validate",
    "vote_conflict",
    "votes_of_probabilities",
]
