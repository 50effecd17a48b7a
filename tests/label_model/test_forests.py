"""LFs that vote on several roots of a forest: each fit is that of the roots side by side."""

import jax
import numpy as np
import pytest

from metal_jax.label_model import (
    DawidSkeneConfig,
    DependencyConfig,
    MaceConfig,
    OverlapConfig,
    VoteList,
    add_lfs,
    diagnose,
    discover_dependencies,
    explain,
    fit,
    fit_dawid_skene,
    fit_mace,
    fit_overlap_from_votes,
    fit_triplets,
    fit_with_dependencies,
    lf_accuracy,
    lf_accuracy_by_root,
    posterior,
)
from metal_jax.labeling import summarise_lfs
from metal_jax.task_tree import TaskTree

FIRST = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
SECOND = TaskTree.from_dict({"c": ["p", "q"]})
FOREST = TaskTree.from_dict({**FIRST.to_dict(), **SECOND.to_dict()})
NODES = (
    np.array([FOREST.node(*name) for name in (*FIRST.node_names, ("", ""))[:-1]]),
    np.array([FOREST.node(*name) for name in SECOND.node_names]),
)
N = 300


@pytest.fixture(scope="module")
def votes():
    """Five LFs: two on each root alone, and the first on both, never on the same item.

    Returns:
        The votes on the forest, and on each of its roots as a tree of its own.
    """
    rng = np.random.default_rng(0)
    parts = []
    for tree, seen in ((FIRST, [0, 1, 2]), (SECOND, [0, 3, 4])):
        truth = rng.choice(tree.leaf_nodes, N)
        part = np.full((N, 5), -1)
        for j in seen:
            path = np.array(
                [[*tree.ancestors(leaf), leaf][:: rng.choice([1, -1])][0] for leaf in truth]
            )
            wrong = rng.integers(0, tree.num_nodes, N)
            part[:, j] = np.where(rng.random(N) < 0.85, path, wrong)
            part[rng.random(N) < 0.2, j] = -1
        parts.append(part)
    on_first = rng.random(N) < 0.6
    parts[0][~on_first, 0] = -1
    parts[1][on_first, 0] = -1
    whole = np.full((N, 5), -1)
    for part, nodes in zip(parts, NODES, strict=True):
        whole = np.where(part >= 0, nodes[part], whole)
    return whole, parts


def one_hot(votes, tree):
    return (votes[..., None] == np.arange(tree.num_nodes)).astype(np.float32)


def dawid_skene(votes, tree):
    return fit_dawid_skene(one_hot(votes, tree), tree, config=DawidSkeneConfig(tolerance=1e-6))


def mace(votes, tree):
    config = MaceConfig(num_restarts=3, tolerance=1e-6)
    return fit_mace(votes, tree, config=config, key=jax.random.key(0))


def polished(votes, tree):
    return fit_overlap_from_votes(votes, tree, config=OverlapConfig(polish_steps=30))


def listed(votes, tree):
    item, lf = np.nonzero(votes >= 0)
    votes = VoteList(item, lf, votes[item, lf], *votes.shape)
    config = OverlapConfig(form_overlaps=False, polish_steps=30)
    return fit_overlap_from_votes(votes, tree, config=config)


def dependencies(votes, tree):
    edges = [(i, j) for i, j in ((0, 1), (0, 4)) if tree is FOREST or (votes[:, j] >= 0).any()]
    return fit_with_dependencies(votes, tree, edges, config=DependencyConfig(tolerance=1e-6))


# Largest difference. Roots that are fitted together also stop together, when the last has come to
# rest; the overlap objective is flat.
FITS = {
    dawid_skene: 1e-4,
    mace: 1e-4,
    polished: 5e-3,
    listed: 5e-3,
    fit_triplets: 1e-5,
    dependencies: 1e-4,
}


@pytest.mark.parametrize(
    "fit_one",
    [pytest.param(f, marks=[pytest.mark.slow] * (f is not fit_triplets)) for f in FITS],
)
def test_equals_the_fits_of_the_roots(fit_one, votes):
    whole, parts = votes
    result, atol = fit_one(whole, FOREST), FITS[fit_one]
    alone = [fit_one(part, tree) for part, tree in zip(parts, (FIRST, SECOND), strict=True)]
    assert result.columns.num_lfs == 5
    expected = np.concatenate([posterior(r, p) for r, p in zip(alone, parts, strict=True)], axis=1)
    np.testing.assert_allclose(posterior(result, whole), expected, atol=atol)
    by_root = np.stack([lf_accuracy(r) for r in alone], axis=1)
    np.testing.assert_allclose(lf_accuracy_by_root(result), by_root, atol=atol)
    assert np.isnan(by_root).sum() == 4
    counts = np.stack([(part >= 0).sum(0) for part in parts], axis=1)
    mean = np.nansum(by_root * counts, 1) / counts.sum(1)
    np.testing.assert_allclose(lf_accuracy(result), mean, atol=atol)
    found = explain(result, whole[:9])
    assert found.contributions.shape == (9, 5, FOREST.num_leaves)
    pushes = np.concatenate(
        [explain(r, p[:9]).contributions for r, p in zip(alone, parts, strict=True)], axis=2
    )
    np.testing.assert_allclose(found.contributions, pushes, atol=50 * atol)


def test_the_default_splits_such_an_lf(votes):
    whole, parts = votes
    split = np.concatenate(
        [np.where(p >= 0, nodes[p], -1) for p, nodes in zip(parts, NODES, strict=True)], 1
    )
    used = (split >= 0).any(0)
    expected = fit(split[:, used], FOREST)
    result = fit(whole, FOREST)
    np.testing.assert_allclose(
        posterior(result, whole), posterior(expected, split[:, used]), atol=1e-5
    )
    assert lf_accuracy(result).shape == (5,)
    assert diagnose(result, whole).accuracy.shape == (5,)
    assert [row.coverage > 0 for row in summarise_lfs(whole, FOREST)] == [True] * 5
    soft = one_hot(whole, FOREST)
    np.testing.assert_allclose(
        posterior(fit(soft, FOREST), soft), posterior(result, whole), atol=1e-4
    )


def test_settings_of_each_lf_are_in_the_columns_of_the_votes(votes):
    whole, parts = votes
    config = DawidSkeneConfig(
        prior_votes=5.0, tolerance=1e-6, informative_abstains=(True, False, True, True, False)
    )
    accuracy = np.array([0.9, 0.6, np.nan, 0.8, 0.7])
    weight = np.random.default_rng(1).integers(0, 3, N)
    gold = np.where(np.arange(N) < 30, 0, -1)
    known = {"config": config, "accuracy": accuracy, "item_weights": weight}
    result = fit_dawid_skene(whole, FOREST, gold=gold, **known)
    alone = [
        fit_dawid_skene(parts[0], FIRST, gold=gold, **known),
        fit_dawid_skene(parts[1], SECOND, **known),
    ]
    expected = np.concatenate([posterior(r, p) for r, p in zip(alone, parts, strict=True)], axis=1)
    np.testing.assert_allclose(posterior(result, whole), expected, atol=5e-4)
    rates = OverlapConfig(precision=tuple(np.nan_to_num(accuracy, nan=0.7)), l2=(0.01,) * 5)
    overlap = fit_overlap_from_votes(whole, FOREST, config=rates)
    assert lf_accuracy_by_root(overlap).shape == (5, 2)


def test_what_cannot_take_such_an_lf_says_so(votes):
    whole, _ = votes
    message = r"LF 0 votes on roots \['a', 'c'\]; give it one column for each"
    with pytest.raises(ValueError, match=message):
        discover_dependencies(whole, FOREST)
    with pytest.raises(ValueError, match=message):
        add_lfs(fit_dawid_skene(whole, FOREST), np.concatenate([whole, whole[:, 1:2]], axis=1))
    with pytest.raises(ValueError, match=r"edges: \(1, 3\): the LFs vote on different roots"):
        fit_with_dependencies(whole, FOREST, [(1, 3)])
