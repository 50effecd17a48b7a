"""Data sets: texts embedded in every Python, recorded runs, readers for folders of real data."""

from metal_jax.datasets._clinc150 import load_clinc150
from metal_jax.datasets._dataset import TextDataset, fingerprint, summarise
from metal_jax.datasets._fashion_runs import load_fashion_runs
from metal_jax.datasets._folders import VotedDataset, load_openi, load_trec
from metal_jax.datasets._stdlib_docs import load_stdlib_docs

__all__ = [
    "TextDataset",
    "VotedDataset",
    "fingerprint",
    "load_clinc150",
    "load_fashion_runs",
    "load_openi",
    "load_stdlib_docs",
    "load_trec",
    "summarise",
]
