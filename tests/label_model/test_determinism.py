"""The same votes give the same bytes, in any process; LFs in another order the same to 1e-6."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from metal_jax import label_model
from metal_jax.label_model import posterior
from metal_jax.labeling import overlap_statistics
from metal_jax.task_tree import TaskTree

TREE = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})


def draw_votes():
    """Eight LFs of different quality that vote at either depth of the tree."""
    rng = np.random.default_rng(3)
    leaf = rng.integers(0, TREE.num_leaves, 600)
    paths = np.array([[1, 1], [0, 2], [0, 3]])  # a vote at the first or the second depth
    assert TREE.covers[paths[1, 1]].sum() == 1
    right = rng.random((600, 8)) < np.linspace(0.6, 0.95, 8)
    said = np.where(right, leaf[:, None], rng.integers(0, 3, (600, 8)))
    votes = paths[said, np.arange(8) % 2]
    return np.where(rng.random((600, 8)) < 0.7, votes, -1)


VOTES = draw_votes()


# Its restarts begin elsewhere when the LFs are in another order: they meet at the end.
TO_THE_END = label_model.MaceConfig(tolerance=1e-10, max_steps=5000)


def of_statistics(fit):
    return lambda votes: fit(overlap_statistics(votes), TREE)


FAMILIES = {
    "majority": lambda votes: label_model.majority_vote(votes, TREE),
    "triplets": of_statistics(label_model.fit_triplets),
    "default": lambda votes: label_model.fit(votes, TREE),
    "dawid_skene": lambda votes: label_model.fit_dawid_skene(votes, TREE),
    "overlap": of_statistics(label_model.fit_overlap),
    "overlap_from_votes": lambda votes: label_model.fit_overlap_from_votes(votes, TREE),
    "glad": lambda votes: label_model.fit_glad(votes, TREE),
    "mace": lambda votes: label_model.fit_mace(
        votes, TREE, config=TO_THE_END, key=jax.random.key(0)
    ),
    "stream": lambda votes: label_model.fit_stream([votes[:300], votes[300:]], TREE),
}
QUICK = ("majority", "triplets")


def probs_of(family, votes):
    found = FAMILIES[family](votes)
    return np.asarray(found if family == "majority" else posterior(found, votes))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "family",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES],
)
def test_the_order_of_lfs_does_not_matter(family):
    order = np.array([5, 0, 7, 2, 6, 1, 4, 3])
    probs = probs_of(family, VOTES)
    np.testing.assert_allclose(probs_of(family, VOTES[:, order]), probs, atol=1e-6)
    assert np.ptp(probs, axis=0).min() > 0.5


def digest(families):
    parts = [probs_of(family, VOTES).tobytes() for family in families]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def test_the_same_bytes_again():
    assert digest(QUICK) == digest(QUICK)


@pytest.mark.slow
def test_the_same_bytes_in_another_process():
    """Whatever the order of sets is there, and on however many threads XLA computes."""
    root = Path(__file__).parents[2]
    code = f"import test_determinism as t; print(t.digest({list(FAMILIES)!r}))"
    one_core = "import os; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])\n"
    found = set()
    for seed, before in (("1", ""), ("2", one_core if hasattr(os, "sched_setaffinity") else "")):
        environment = os.environ | {
            "PYTHONPATH": f"{root}{os.pathsep}{Path(__file__).parent}",
            "PYTHONHASHSEED": seed,
            "JAX_PLATFORMS": "cpu",
        }
        command = [sys.executable, "-W", "ignore", "-c", before + code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found.add(done.stdout.strip())
    assert len(found) == 1
