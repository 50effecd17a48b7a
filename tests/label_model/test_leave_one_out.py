"""Leaving LFs out by masks against refits without their columns; suggestions against counting."""

import functools

import jax
import numpy as np
import pytest

from metal_jax.label_model import (
    Dependencies,
    MixtureConfig,
    fit,
    leave_one_out,
    posterior,
    suggest_dependencies,
)
from metal_jax.label_model import _leave_one_out as module
from metal_jax.task_tree import TaskTree

FLAT = TaskTree.single(3)
TREE = TaskTree.from_dict({"top": {"a": None, "b": {"below": ["x", "y", "z"]}}})
FOREST = TaskTree.from_dict({"top": {"a": None, "b": {"below": ["x", "y"]}}, "other": ["u", "v"]})


def votes_on(tree, n=300, seed=0):
    """Truth, and votes of five detectors and three annotators, some for inner nodes."""
    rng = np.random.default_rng(seed)
    root = rng.integers(0, len(tree.roots), 8)
    truth = np.stack([rng.choice(tree.leaf_nodes[span], n) for span in tree.root_leaves], axis=1)
    columns = []
    for j in range(8):
        own = truth[:, root[j]]
        other = rng.choice(tree.leaf_nodes[tree.root_leaves[root[j]]], n)
        vote = np.where(rng.random(n) < 0.75, own, other)
        if j < 5:
            target = tree.leaf_nodes[tree.root_leaves[root[j]]][j % 3 % len(np.unique(own))]
            fires = (vote == target) & (rng.random(n) < 0.5)
            parent = tree.node_parent[target]
            columns.append(np.where(fires, parent if j == 2 and parent >= 0 else target, -1))
        else:
            columns.append(np.where(rng.random(n) < 0.7, vote, -1))
    return truth, np.stack(columns, axis=1)


def assert_equals_refits(votes, tree, lfs, gold=None, **options):
    found = leave_one_out(votes, tree, gold=gold, **options)
    fit_one = functools.partial(fit, **options)
    soft = np.ndim(votes) == 3
    voted = votes.any(axis=2) if soft else votes >= 0
    covered = voted.any(axis=1)
    whole = np.asarray(posterior(fit_one(votes, tree), votes))
    for j in lfs:
        rest = votes.copy()
        rest[:, j] = 0 if soft else -1
        without = np.asarray(posterior(fit_one(rest, tree), rest))
        spans = tree.root_leaves
        changed = np.mean(
            [(without[:, s].argmax(1) != whole[:, s].argmax(1))[covered].mean() for s in spans]
        )
        moved = np.abs(without - whole)[covered].sum(axis=1).mean() / 2 / len(spans)
        assert found.changed[j] == pytest.approx(changed, abs=0.008), j
        assert found.moved[j] == pytest.approx(moved, abs=0.004), j
        assert found.uncovered[j] == (covered & ~np.delete(voted, j, axis=1).any(axis=1)).sum()
        if gold is not None:
            leaf = tree.node_leaf[gold]
            right = (without.argmax(axis=1) == leaf)[covered].mean()
            assert found.accuracy_without[j] == pytest.approx(right, abs=0.008)
            assert found.accuracy == pytest.approx((whole.argmax(1) == leaf)[covered].mean())
    return found


def test_equals_refits():
    truth, votes = votes_on(FLAT)
    crowd = MixtureConfig(annotator=1.0)  # compiles the least
    found = assert_equals_refits(votes, FLAT, [6], gold=truth[:, 0], config=crowd)
    assert found.changed.max() > 0.02
    assert len(set(found.moved.round(6))) == 8


def test_an_lf_may_be_a_detector_under_some_masks_alone():
    """Its columns are there in all fits, and must say nothing in those in which it is none."""
    tree = TaskTree.from_dict({"t": {"a": {"g": ["x", "y"]}, "b": None}, "u": ["m", "n"]})
    rng = np.random.default_rng(3)
    leaves = [tree.leaf_nodes[span] for span in tree.root_leaves]
    truth, other = (
        np.stack([rng.choice(some, 300) for some in leaves], axis=1)[:, [0] * 4 + [1] * 3]
        for _ in range(2)
    )
    votes = np.where(rng.random(truth.shape) < 0.8, truth, other)
    votes[rng.random(votes.shape) < 0.3] = -1
    rest = np.delete(votes, 0, axis=1)
    all_votes, without = fit(votes, tree), fit(rest, tree)
    detectors = [result.params.annotator[-3:] < module.ANNOTATOR for result in (all_votes, without)]
    assert not detectors[0].any()
    assert detectors[1].all()
    found = leave_one_out(votes, tree)
    change = np.asarray(posterior(without, rest)) - np.asarray(posterior(all_votes, votes))
    covered = (votes >= 0).any(axis=1)
    moved = np.abs(change)[covered].sum(axis=1).mean() / 4
    assert found.moved[0] == pytest.approx(moved, abs=3e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tree", "options"),
    [
        (TREE, {}),
        (FOREST, {}),
        (TREE, {"config": MixtureConfig(max_table=1)}),
        (TREE, {"class_balance": [0.4, 0.3, 0.2, 0.1]}),
        (FLAT, {}),
    ],
    ids=["tree", "forest", "tied", "balance", "flat"],
)
def test_equals_refits_of_every_kind(tree, options):
    _, votes = votes_on(tree, seed=1)
    assert_equals_refits(votes, tree, range(8), **options)


@pytest.mark.slow
def test_an_lf_on_several_roots_goes_out_whole():
    _, votes = votes_on(FOREST, seed=2)
    votes[::2, 7] = np.where(votes[::2, 7] >= 0, FOREST.node("other", "u"), -1)
    votes[1::2, 7] = np.where(votes[1::2, 7] >= 0, FOREST.node("top", "a"), -1)
    assert_equals_refits(votes, FOREST, [3, 7])


@pytest.mark.slow
def test_soft_votes():
    _, votes = votes_on(FLAT, seed=3)
    soft = np.where(votes[..., None] == np.arange(3), 0.8, 0.1) * (votes >= 0)[..., None]
    assert_equals_refits(soft.astype(np.float32), FLAT, [0, 6])


@pytest.mark.slow
def test_batches_do_not_matter():
    _, votes = votes_on(FLAT)
    told = []
    first = leave_one_out(votes, FLAT, batch_size=8)
    second = leave_one_out(votes, FLAT, batch_size=3, on_progress=told.append)
    assert told == [2, 5, 8]
    np.testing.assert_allclose(first.moved, second.moved, atol=1e-4)
    assert np.isnan(first.accuracy)


@pytest.mark.slow
def test_one_program_that_lowers_everywhere(monkeypatch):
    caught = {}
    program = module._compare_masks

    def catch(*arguments, **settings):
        caught["call"] = arguments, settings
        return program(*arguments, **settings)

    monkeypatch.setattr(module, "_compare_masks", catch)
    _, votes = votes_on(FLAT)
    leave_one_out(votes, FLAT)
    arguments, settings = caught["call"]
    exported = jax.export.export(
        jax.jit(functools.partial(program, **settings)), platforms=["cpu", "cuda", "tpu"]
    )(*arguments)
    assert exported.platforms == ("cpu", "cuda", "tpu")


def test_bad_calls():
    with pytest.raises(ValueError, match="batch_size: got 0"):
        leave_one_out([[0]], FLAT, batch_size=0)
    with pytest.raises(ValueError, match="votes: every LF abstains"):
        leave_one_out([[-1]], FLAT)


# ---- suggestions --------------------------------------------------------------------------------


def test_suggestions_count_what_independence_expects():
    rng = np.random.default_rng(0)
    votes = rng.integers(-1, 2, (40, 3))
    votes[:, 2] = np.where(votes[:, 0] >= 0, votes[:, 0], votes[:, 2])
    q = rng.dirichlet(np.ones(2), 40)
    tree = TaskTree.single(2)
    found = Dependencies(np.array([[0, 2]]), np.array([3.5]), np.zeros((3, 3)), q, True, 1)
    (pair,) = suggest_dependencies(votes, tree, lf_names=["a", "b", "c"], dependencies=found)

    def expected(first, second):
        total = 0.0
        for y in range(2):
            mass = sum(q[i, y] for i in range(40))
            total += sum(q[i, y] for i in range(40) if first[i]) * sum(
                q[i, y] for i in range(40) if second[i]
            ) / mass  # fmt: skip
        return total

    a, c = votes[:, 0], votes[:, 2]
    assert pair.names == ("a", "c")
    assert pair.score == 3.5
    assert pair.together == ((a >= 0) & (c >= 0)).sum()
    assert pair.agree == ((a >= 0) & (a == c)).sum()
    assert pair.expected_together == pytest.approx(expected(a >= 0, c >= 0))
    assert pair.expected_agree == pytest.approx(sum(expected(a == v, c == v) for v in (0, 1)))
    assert pair.message().startswith("LFs a and c: vote together on 28 items")
    with pytest.raises(ValueError, match="lf_names: got 1 names"):
        suggest_dependencies(votes, tree, lf_names=["a"], dependencies=found)
    with pytest.raises(ValueError, match="dependencies: got 39 items"):
        suggest_dependencies(votes, tree, dependencies=found._replace(posterior=q[:39]))


@pytest.mark.slow
def test_suggestions_come_from_discovery():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, (5000, 1))
    votes = np.where(rng.random((5000, 9)) < 0.7, truth, 1 - truth)
    votes[:, 4] = np.where(rng.random(5000) < 0.8, votes[:, 0], votes[:, 4])
    pairs = suggest_dependencies(votes, TaskTree.single(2))
    assert [pair.lfs for pair in pairs] == [(0, 4)]
    assert pairs[0].agree > pairs[0].expected_agree + 500
