"""Every fit on the smallest and emptiest votes: defined results, or a clear refusal."""

import functools

import jax
import numpy as np
import pytest

from metal_jax.label_model import (
    MixtureConfig,
    OverlapConfig,
    diagnose,
    fit,
    fit_dawid_skene,
    fit_glad,
    fit_mace,
    fit_overlap,
    fit_overlap_from_votes,
    fit_triplets,
    fit_with_dependencies,
    posterior,
)
from metal_jax.labeling import overlap_statistics
from metal_jax.task_tree import TaskTree


def overlap(votes, tree):
    return fit_overlap(overlap_statistics(votes), tree)


def mace(votes, tree):
    return fit_mace(votes, tree, key=jax.random.key(0))


def dependencies(votes, tree):
    return fit_with_dependencies(votes, tree, [(0, 1)] if votes.shape[1] > 1 else [])


FITS = {
    "default": fit,
    "default, tied": functools.partial(fit, config=MixtureConfig(max_table=0)),
    "Dawid-Skene": fit_dawid_skene,
    "GLAD": fit_glad,
    "MACE": mace,
    "overlap": overlap,
    "without O": functools.partial(
        fit_overlap_from_votes, config=OverlapConfig(form_overlaps=False)
    ),
    "triplets": fit_triplets,
    "dependencies": dependencies,
}
CASES = {
    "one LF": ([[0], [1], [0]], 3),
    "one class": ([[0, -1], [0, 0]], 1),
    "one label voted": ([[1, 1, 1]] * 4, 3),
    "one item": ([[0, 1, 2]], 3),
    "two LFs": ([[0, 1], [1, 1], [-1, 0]], 2),
    "a silent LF and a silent item": ([[0, -1, 1], [1, -1, 1], [-1, -1, -1]], 2),
}
each_fit = pytest.mark.parametrize("name", FITS)


@each_fit
@pytest.mark.parametrize("votes", [np.full((3, 3), -1), np.zeros((0, 3), int)])
def test_nothing_to_fit_is_said(name, votes):
    with pytest.raises(ValueError, match=r"votes: |statistics: "):
        FITS[name](votes, TaskTree.single(2))


def check(name, case):
    votes, k = CASES[case]
    votes = np.array(votes)
    result = FITS[name](votes, TaskTree.single(k))
    probs = np.asarray(posterior(result, votes))
    assert probs.shape == (len(votes), k)
    assert np.isfinite(probs).all()
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-5)
    report = diagnose(result, votes)
    assert 0 <= report.expected_accuracy <= 1 + 1e-6
    assert np.isnan(report.accuracy).tolist() == (~(votes >= 0).any(0)).tolist()
    report.messages()


@pytest.mark.parametrize(
    "case",
    [
        *("one class", "one item"),
        *(
            pytest.param(c, marks=pytest.mark.slow)
            for c in CASES
            if c not in ("one class", "one item")
        ),
    ],
)
def test_the_default_is_defined(case):
    check("default", case)


@pytest.mark.slow  # seven shapes for each of nine fits: all of it is compilation
@each_fit
@pytest.mark.parametrize("wide", [False, True])
def test_every_fit_is_defined(name, wide):
    with jax.enable_x64(wide):
        for case in CASES:
            check(name, case)
