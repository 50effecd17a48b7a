"""The papers' tables, on data that anyone can have: protocols, labelling functions, seeds."""

from metal_jax.reproduce._clinc_lfs import CLINC_LFS
from metal_jax.reproduce._exhaust import (
    LSTM,
    PUBLISHED_EXHAUST,
    ExhaustConfig,
    noise_floor,
    run_exhaust,
)
from metal_jax.reproduce._exhaust_pictures import draw_exhaust
from metal_jax.reproduce._exhaust_problems import (
    ExhaustProblem,
    fashion_runs,
    load_exhaust_problems,
    mean_run,
)
from metal_jax.reproduce._metal import PUBLISHED, MetalConfig, run_metal
from metal_jax.reproduce._metal_scores import gold_leaf_probs, score
from metal_jax.reproduce._metal_summary import summarise_metal
from metal_jax.reproduce._openi_lfs import OPENI_LFS
from metal_jax.reproduce._problems import (
    Problem,
    clinc150,
    load_problems,
    openi,
    stdlib_docs,
    trec,
)
from metal_jax.reproduce._stdlib_lfs import STDLIB_LFS
from metal_jax.reproduce._trec_lfs import TREC_LFS

__all__ = [
    "CLINC_LFS",
    "LSTM",
    "OPENI_LFS",
    "PUBLISHED",
    "PUBLISHED_EXHAUST",
    "STDLIB_LFS",
    "TREC_LFS",
    "ExhaustConfig",
    "ExhaustProblem",
    "MetalConfig",
    "Problem",
    "clinc150",
    "draw_exhaust",
    "fashion_runs",
    "gold_leaf_probs",
    "load_exhaust_problems",
    "load_problems",
    "mean_run",
    "noise_floor",
    "openi",
    "run_exhaust",
    "run_metal",
    "score",
    "stdlib_docs",
    "summarise_metal",
    "trec",
]
