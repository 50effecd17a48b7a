"""The papers' tables, on data that anyone can have: protocols, labelling functions, seeds."""

from metal_jax.reproduce._openi_lfs import OPENI_LFS
from metal_jax.reproduce._stdlib_lfs import STDLIB_LFS
from metal_jax.reproduce._trec_lfs import TREC_LFS

__all__ = ["OPENI_LFS", "STDLIB_LFS", "TREC_LFS"]
