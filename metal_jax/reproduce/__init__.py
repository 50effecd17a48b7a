"""The papers' tables, on data that anyone can have: protocols, labelling functions, seeds."""

from metal_jax.reproduce._metal import (
    PUBLISHED,
    MetalConfig,
    gold_leaf_probs,
    run_metal,
    score,
    summarise_metal,
)
from metal_jax.reproduce._openi_lfs import OPENI_LFS
from metal_jax.reproduce._problems import Problem, load_problems, openi, stdlib_docs, trec
from metal_jax.reproduce._stdlib_lfs import STDLIB_LFS
from metal_jax.reproduce._trec_lfs import TREC_LFS

__all__ = [
    "OPENI_LFS",
    "PUBLISHED",
    "STDLIB_LFS",
    "TREC_LFS",
    "MetalConfig",
    "Problem",
    "gold_leaf_probs",
    "load_problems",
    "openi",
    "run_metal",
    "score",
    "stdlib_docs",
    "summarise_metal",
    "trec",
]
