"""Pairs of LFs, intervals, and which items to look at next."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metal_jax._core.intervals import wilson_interval
from metal_jax.labeling import (
    compatible,
    contested_items,
    lf_pairs,
    merge_statistics,
    overlap_statistics,
    posterior_entropy,
    representative_items,
    summarise_lfs,
    uncovered_items,
    vote_conflict,
)
from metal_jax.task_tree import TaskTree

TREE = TaskTree.from_dict({"top": {"a": None, "b": {"below": ["x", "y", "z"]}}})
FOREST = TaskTree.from_dict({"top": {"a": None, "b": {"below": ["x", "y"]}}, "other": ["u", "v"]})


# ---- intervals ----------------------------------------------------------------------------------


def test_wilson_interval_solves_its_equation():
    """Its ends are the p with (share - p)^2 = z^2 p (1 - p) / n."""
    z = 1.959963984540054
    for share, count in ((0.3, 17), (0.0, 5), (1.0, 8), (0.999, 100000)):
        ends = wilson_interval(share, count)
        np.testing.assert_allclose(
            (share - ends) ** 2, z**2 * ends * (1 - ends) / count, atol=1e-12
        )
        assert 0 <= ends[0] <= share <= ends[1] <= 1
    for count in range(1, 300):
        assert wilson_interval(0, count)[0] == 0
        assert wilson_interval(1, count)[1] == 1
    assert np.isnan(wilson_interval([0, 0.5, 1], 0)).all()


def test_the_summary_has_intervals():
    votes = np.array([[0, -1], [0, 1], [1, -1], [-1, -1]])
    first, second = summarise_lfs(votes, TaskTree.single(2), gold=[0, 1, 1, 0])
    assert first.coverage_interval == pytest.approx(wilson_interval(0.75, 4))
    assert first.accuracy_interval == pytest.approx(wilson_interval(2 / 3, 3))
    assert second.conflicts_interval == pytest.approx(wilson_interval(0.25, 4))
    assert summarise_lfs(votes, TaskTree.single(2))[0].accuracy_interval is None


# ---- pairs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tree", [TREE, FOREST])
def test_pairs_against_counting(tree):
    rng = np.random.default_rng(0)
    votes = rng.integers(-2, tree.num_nodes, (50, 4))
    votes = np.concatenate([votes, np.full((50, 1), -1)], axis=1)  # an LF that never votes
    pairs = lf_pairs(overlap_statistics(votes), tree)
    on_path = compatible(tree)
    for j in range(5):
        for other in range(5):
            both = (votes[:, j] >= 0) & (votes[:, other] >= 0)
            first, second = votes[both, j], votes[both, other]
            same = tree.node_root[first] == tree.node_root[second]
            clash = ~on_path[first, second]
            assert pairs.overlaps[j, other] == same.sum()
            assert pairs.conflicts[j, other] == (0 if j == other else clash.sum())
    assert pairs.num_items == 50
    rates = pairs.conflict_rates()
    assert np.isnan(rates[4]).all()
    assert np.nanmax(rates) <= 1
    parts = merge_statistics(overlap_statistics(votes[:20]), overlap_statistics(votes[20:]))
    np.testing.assert_array_equal(lf_pairs(parts, tree).conflicts, pairs.conflicts)
    with pytest.raises(ValueError, match="statistics: got votes for node"):
        lf_pairs(overlap_statistics(votes), TaskTree.single(2))


# ---- items to look at ---------------------------------------------------------------------------


def coverage(alike, weights, chosen):
    return float(weights @ alike[:, list(chosen)].max(axis=1)) if len(chosen) else 0.0


def test_the_greedy_choice_is_near_the_best():
    rng = np.random.default_rng(3)
    for _ in range(5):
        x = rng.normal(size=(9, 3))
        weights = rng.uniform(0.1, 1, 9)
        chosen = representative_items(x, 3, weights=weights).items
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        alike = np.clip(unit @ unit.T, 0, 1)
        best = max(coverage(alike, weights, c) for c in combinations(range(9), 3))
        assert coverage(alike, weights, chosen) >= (1 - 1 / math.e) * best
        singles = [coverage(alike, weights, [j]) for j in range(9)]
        assert chosen[0] == int(np.argmax(singles))


def test_clusters_have_one_representative_each():
    rng = np.random.default_rng(0)
    centres = np.eye(4)
    labels = np.repeat(np.arange(4), [40, 20, 10, 5])
    x = centres[labels] + rng.normal(0, 0.05, (75, 4))
    found = representative_items(x, 4)
    assert labels[found.items].tolist() == [0, 1, 2, 3]
    assert found.num_alike.tolist() == [40, 20, 10, 5]


def test_copies_are_not_chosen_twice():
    texts = ["a goal", "A goal!", "goal a", "the market"]
    found = representative_items(texts, 10)
    assert found.items.tolist() == [0, 3]
    assert found.num_alike.tolist() == [3, 1]
    assert representative_items(["", "", "x"], 5).items.tolist() == [0, 1, 2]  # nothing is like ""
    assert representative_items([], 5).items.tolist() == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(max_size=12), max_size=12),
    st.integers(0, 5),
    st.integers(0, 2**32 - 1),
)
def test_any_texts_can_be_chosen_from(texts, num_items, seed):
    weights = np.random.default_rng(seed).integers(0, 3, len(texts)).astype(float)
    found = representative_items(texts, num_items, weights=weights)
    assert len(found.items) <= min(num_items, (weights > 0).sum())
    assert len(set(found.items.tolist())) == len(found.items)
    assert (weights[found.items] > 0).all()
    assert found.num_alike.sum() <= (weights > 0).sum()
    assert (found.num_alike >= 1).all()


def test_many_items_are_sampled():
    x = np.random.default_rng(0).normal(size=(9000, 2)).astype(np.float32)
    found = representative_items(x, 3)
    assert len(found.items) == 3
    assert found.num_alike.sum() == 4000
    weights = np.where(np.arange(9000) >= 5000, 2.0, 1.0)
    assert representative_items(x, 3, weights=weights).items.min() >= 5000


def test_uncovered_items():
    votes = np.array([[0], [-1], [-2], [-1]])
    found = uncovered_items(votes, ["goal", "rain", "much rain", "sun"], 2)
    assert set(found.items.tolist()) == {1, 3} or set(found.items.tolist()) == {2, 3}
    assert uncovered_items(np.zeros((2, 1), int), ["a", "b"]).items.tolist() == []


def test_conflict_counts_votes_off_the_best_path():
    votes = [[1, 2, 2], [1, 2, 3], [0, 2, 3], [-1, -2, -1], [0, 0, 1]]
    expected = [0, 1 / 3, 2 / 3, 0, 1 / 3]
    np.testing.assert_allclose(vote_conflict(votes, TREE), expected, atol=1e-6)
    assert contested_items(votes, TREE, 2).tolist() == [2, 1]
    assert contested_items(votes, TREE).tolist() == [2, 1, 4]
    two_roots = np.array([[0, 2], [4, 5]])
    np.testing.assert_allclose(vote_conflict(two_roots, FOREST), [0, 0.5])


def test_entropy_orders_the_items_on_which_votes_conflict():
    q = np.array([[0.5, 0.5, 0, 0], [0.25] * 4, [0.9, 0.1, 0, 0], [1, 0, 0, 0]])
    np.testing.assert_allclose(
        posterior_entropy(q, TREE), [math.log(2), math.log(4), 0.325083, 0], atol=1e-6
    )
    votes = np.array([[2, 3], [0, 0], [2, 3], [2, 3]])
    assert contested_items(votes, TREE, probabilities=q[[2, 1, 0, 3]]).tolist() == [2, 0]
    alike = ["same", "none", "same", "other"]
    assert contested_items(votes, TREE, probabilities=q, features=alike).tolist() == [0]


def test_items_on_which_votes_agree_are_not_contested():
    votes = np.array([[1, -1, -1], [1, 1, 1], [1, 2, 1], [2, 3, 1], [-1, -1, -1]])
    unsure = np.full((5, 4), 0.25)
    for options in ({}, {"probabilities": unsure}, {"features": list("abcde")}):
        assert contested_items(votes, TREE, **options).tolist() == [3]
    assert contested_items(votes[:3], TREE, probabilities=unsure[:3]).tolist() == []


def test_only_the_roots_in_conflict_count():
    votes = np.array([[4, 5, -1], [1, 2, 3]])  # x or y; u or v
    q = np.array([[0, 0.9, 0.1, 0.5, 0.5], [0, 1, 0, 0.7, 0.3]])
    assert contested_items(votes, FOREST, probabilities=q).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: representative_items("text", 1), "got one string"),
        (lambda: representative_items([1.0, 2.0], 1), r"features: got shape \(2,\)"),
        (lambda: representative_items([[1.0], [np.nan]], 1), "row 1 is not finite"),
        (lambda: representative_items([[1.0]], 1, weights=[-1]), "weights"),
        (lambda: representative_items([[1.0]], 1, weights=[1, 1]), "weights"),
        (lambda: representative_items([[1.0]], -1), "num_items"),
        (lambda: uncovered_items([0], ["a"]), "votes: got shape"),
        (lambda: uncovered_items([[0], [0]], ["a"]), "weights: got shape"),
        (lambda: posterior_entropy([[1.0]], TREE), r"expected \[n, 4\]"),
        (lambda: contested_items([[0]], TREE, probabilities=np.ones((2, 4))), "got 2 items"),
    ],
)
def test_bad_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()
