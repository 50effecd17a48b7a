"""What a fit says of itself, and LFs that are added to it."""

import functools

import jax
import numpy as np
import pytest

from metal_jax.label_model import (
    DawidSkeneConfig,
    DetectorPrior,
    MixtureConfig,
    add_lfs,
    bootstrap_lf_accuracy,
    diagnose,
    explain,
    fit,
    fit_dawid_skene,
    fit_overlap,
    lf_accuracy,
    posterior,
)
from metal_jax.labeling import overlap_statistics
from metal_jax.task_tree import TaskTree

TREE = TaskTree.single(3)
CROWD_FIT = functools.partial(
    fit_dawid_skene, config=DawidSkeneConfig(informative_abstains=False, prior_votes=2.0)
)


def crowd(n=1200, m=12, seed=0):
    """Ten workers, one who guesses and one who is wrong on purpose; the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, n)
    accuracy = np.append(np.linspace(0.6, 0.9, m - 2), [1 / 3, 0.1])
    right = rng.random((n, m)) < accuracy
    wrong = (truth[:, None] + rng.integers(1, 3, (n, m))) % 3
    votes = np.where(right, truth[:, None], wrong)
    return np.where(rng.random((n, m)) < 0.5, votes, -1), truth, accuracy


VOTES, TRUTH, ACCURACY = crowd()


@pytest.fixture(scope="module")
def result():
    return fit(VOTES, TREE, key=jax.random.key(0))


def test_adversaries_and_guessers_are_named(result):
    report = diagnose(result, VOTES)
    assert report.adversarial.tolist() == [False] * 11 + [True]
    assert report.useless.tolist() == [False] * 10 + [True, False]
    assert not report.unvoted.any()
    assert report.num_restarts == 5
    assert report.restarts_agreeing == 5
    text = "\n".join(report.messages())
    assert "LF 11: worse than chance" in text
    assert "LF 10: not told from chance" in text
    # The model's own expectation, against the truth that it has not seen.
    covered = (VOTES >= 0).any(1)
    right = (np.asarray(posterior(result, VOTES)).argmax(1) == TRUTH)[covered].mean()
    assert report.expected_accuracy == pytest.approx(right, abs=0.03)
    assert report.expected_accuracy > report.expected_majority_accuracy
    assert not report.majority_would_do


def test_bootstrap_intervals_hold_the_truth():
    replicates = bootstrap_lf_accuracy(
        CROWD_FIT, VOTES, TREE, key=jax.random.key(0), num_replicates=40
    )
    fitted = CROWD_FIT(VOTES, TREE)
    report = diagnose(fitted, VOTES, replicates=replicates)
    assert replicates.shape == (40, 12)
    inside = (report.interval[:, 0] <= ACCURACY) & (report.interval[:, 1] >= ACCURACY)
    assert inside.sum() >= 9
    # As wide as the spread of a share of 600 votes, or a little wider: the truth is estimated.
    width = np.diff(report.interval, axis=1)[:, 0] / (2 * 1.96)
    share = np.sqrt(ACCURACY * (1 - ACCURACY) / 600)
    assert 0.7 < np.median(width / share) < 2


def test_bootstrap_tells_and_takes_what_is_remembered():
    told, made = [], {}

    def remember(name, make):
        return made.setdefault(name, {"lf_accuracy": np.full(12, 0.5)} if made else make())

    replicates = bootstrap_lf_accuracy(
        CROWD_FIT, VOTES, TREE, key=jax.random.key(0), num_replicates=3, on_progress=told.append,
        remember=remember,
    )  # fmt: skip
    assert told == [0, 1, 2]
    assert len(made) == 3
    whole = bootstrap_lf_accuracy(CROWD_FIT, VOTES, TREE, key=jax.random.key(0), num_replicates=3)
    np.testing.assert_array_equal(replicates[0], whole[0])
    np.testing.assert_array_equal(replicates[1:], 0.5)


def test_silent_lfs_unvoted_classes_and_needless_models_are_said():
    votes = np.array([[0, 0, -1], [1, 1, -1], [0, -1, -1], [1, 0, -1]] * 30)
    report = diagnose(fit(votes, TREE), votes)
    assert report.unvoted.tolist() == [False, False, True]
    assert report.useless[2]
    text = "\n".join(report.messages(["a", "b", "quiet"]))
    assert "LF quiet: never votes" in text
    assert "no LF votes for nodes [2]" in text
    same = np.repeat(np.arange(3), 40)[:, None] * np.ones((1, 3), int)
    assert diagnose(fit(same, TREE), same).majority_would_do


@pytest.mark.slow
def test_an_added_worker_is_found_out_without_a_refit(result):
    for whole, fitter in ((result, fit), (CROWD_FIT(VOTES, TREE), CROWD_FIT)):
        for lf in (11, 9):  # the adversary, and the best
            order = [j for j in range(12) if j != lf] + [lf]
            extended = add_lfs(fitter(VOTES[:, order[:-1]], TREE), VOTES[:, order])
            found = float(lf_accuracy(extended)[-1])
            assert found == pytest.approx(float(lf_accuracy(whole)[lf]), abs=0.03)
            labels = np.asarray(posterior(extended, VOTES[:, order])).argmax(1)
            same = labels == np.asarray(posterior(whole, VOTES)).argmax(1)
            assert same.mean() > 0.97
            why = explain(extended, VOTES[:20][:, order])
            total = jax.nn.softmax(why.prior + why.contributions.sum(1))
            np.testing.assert_allclose(total, why.posterior, atol=1e-5)


@pytest.mark.slow
def test_an_added_keyword_lf_and_a_copy():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 3000)
    columns = []
    for label in range(3):
        for precision in (0.7, 0.8, 0.9):
            rate = np.where(truth == label, 0.4 * precision, 0.2 * (1 - precision))
            columns.append(np.where(rng.random(3000) < rate, label, -1))
    votes = np.stack(columns, axis=1)
    known = fit(votes, TREE)
    copy = votes[:, :1]
    extended = add_lfs(known, np.concatenate([votes, copy], axis=1))
    # What the copy repeats is counted about once.
    fired = votes[:, 0] == 0
    before = np.asarray(posterior(known, votes))[fired, 0]
    after = np.asarray(posterior(extended, np.concatenate([votes, copy], axis=1)))[fired, 0]
    assert np.abs(after - before).mean() < 0.05
    # Unless the user's settings say that copies are not to be discounted.
    config = MixtureConfig(detectors=DetectorPrior(copy_shrinkage=1e9))
    undiscounted = add_lfs(known, np.concatenate([votes, copy], axis=1), config=config)
    assert np.asarray(extended.params.copies)[-1, :, -1].max() > 0.5
    assert np.asarray(undiscounted.params.copies)[-1, :, -1].max() < 1e-3


def test_what_cannot_be_extended():
    fitted = fit(VOTES, TREE)
    with pytest.raises(ValueError, match="got 12 LFs, expected more than the 12"):
        add_lfs(fitted, VOTES)
    silent = np.concatenate([VOTES, np.full((len(VOTES), 1), -1)], axis=1)
    with pytest.raises(ValueError, match="none of the new LFs"):
        add_lfs(fitted, silent)
    overlap = fit_overlap(overlap_statistics(VOTES[:, :11]), TREE)
    assert add_lfs(overlap, VOTES).columns.num_lfs == 12
