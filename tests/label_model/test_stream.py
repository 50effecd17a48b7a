"""The default model from streamed votes: as `fit` for any batches, devices and interruptions."""

import contextlib
import weakref

import jax
import numpy as np
import pytest

from metal_jax.distributed import data_mesh
from metal_jax.label_model import (
    MixtureConfig,
    StreamConfig,
    fit,
    fit_stream,
    label_stream,
    lf_accuracy,
    posterior,
    read_stream_labels,
)
from metal_jax.label_model._stream_counts import count_stream
from metal_jax.label_model._stream_steps import NO_HISTORY, next_counts
from metal_jax.labeling import VoteStream, synthetic_votes
from metal_jax.task_tree import TaskTree

TREE = TaskTree.single(3)
SMALL = StreamConfig(sample_items=256)


@pytest.fixture(scope="module")
def votes():
    """Annotators, and two LFs that speak for one class only."""
    data = synthetic_votes(jax.random.key(0), 1500, 7, TREE)
    votes = np.array(data.votes)
    votes[:, 5] = np.where(votes[:, 5] == 1, 1, -1)
    votes[:, 6] = np.where(votes[:, 6] == 2, 2, -1)
    return votes.astype(np.int8)


@pytest.fixture(scope="module")
def batches(votes):
    return np.split(votes, [400, 800, 1100])


@pytest.fixture(scope="module")
def streamed(batches):
    return fit_stream(batches, TREE, stream=SMALL)


def test_it_is_the_fit_in_memory(votes, streamed):
    expected = fit(votes, TREE)
    assert streamed.converged
    assert streamed.num_steps > 1  # the sample alone was not enough
    assert streamed.columns.symbol.tolist() == expected.columns.symbol.tolist()
    np.testing.assert_allclose(streamed.class_balance, expected.class_balance, atol=2e-3)
    np.testing.assert_allclose(lf_accuracy(streamed), lf_accuracy(expected), atol=2e-3)
    np.testing.assert_allclose(posterior(streamed, votes), posterior(expected, votes), atol=4e-3)
    np.testing.assert_allclose(streamed.params.correlation, expected.params.correlation, atol=2e-3)


def test_the_likelihood_rises_from_pass_to_pass(streamed):
    rise = np.diff(streamed.objective_trace)
    assert rise[0] > 0
    # The priors take a little of it back in the end.
    assert rise.min() > -1e-2 * rise[0]


@pytest.mark.slow
def test_passes_are_few_where_em_is_slow():
    """Wrong votes all name the first class."""
    tree, draw = TaskTree.single(4), np.random.default_rng(3)
    label = draw.integers(4, size=20_000)[:, None]
    right = draw.random((20_000, 6)) < draw.uniform(0.55, 0.9, 6)
    votes = np.where(draw.random(right.shape) < 0.5, np.where(right, label, 0), -1).astype(np.int8)
    in_memory = fit(votes, tree)
    result = fit_stream(np.split(votes, 2), tree, stream=StreamConfig(sample_items=2000))
    assert result.converged
    assert result.num_steps < in_memory.num_steps / 2
    np.testing.assert_allclose(posterior(result, votes), posterior(in_memory, votes), atol=5e-3)


def test_acceleration_solves_linear_maps_and_takes_one_plain_step_first():
    draw = np.random.default_rng(0)
    matrix = draw.normal(size=(3, 3))
    matrix *= 0.99 / np.abs(np.linalg.eigvals(matrix)).max()
    rest, given, history = draw.uniform(5, 6, 3), np.full(3, 5.0), NO_HISTORY
    for step in range(8):
        found = rest + matrix @ (given - rest)
        history = history.then(given, found)
        given = next_counts(history)
        if step == 0:
            np.testing.assert_array_equal(given, found)
    np.testing.assert_allclose(given, rest, atol=1e-4)  # three differences span the space
    assert len(history.given) == 4


def test_devices_and_batches_change_nothing(votes, streamed):
    many = fit_stream(np.split(votes, [700]), TREE, stream=SMALL, mesh=data_mesh(4))
    assert many.num_steps == streamed.num_steps
    for one, other in zip(
        jax.tree.leaves(streamed.params), jax.tree.leaves(many.params), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_fit_goes_on_from_its_checkpoint(batches, streamed, tmp_path):
    path = tmp_path / "fit.npz"

    class Stop(Exception):
        pass

    def stop(what, items):
        if what == "EM pass 2":
            raise Stop

    with pytest.raises(Stop):
        fit_stream(batches, TREE, stream=SMALL, checkpoint=path, on_progress=stop)
    done = []
    result = fit_stream(
        batches, TREE, stream=SMALL, checkpoint=path, on_progress=lambda *x: done.append(x)
    )
    assert done[3:5] == [("comparing votes", 1500), ("EM pass 2", 400)]
    assert result.num_steps == streamed.num_steps
    for one, other in zip(
        jax.tree.leaves(streamed.params), jax.tree.leaves(result.params), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match=r"another fit: \['config', 'stream'\]"):
        fit_stream(batches, TREE, config=MixtureConfig(prior_votes=3.0), checkpoint=path)


@pytest.mark.parametrize("stopped", ["EM pass 1", "EM pass 2", None])
def test_a_fit_does_not_go_on_with_other_votes(batches, votes, tmp_path, stopped):
    path = tmp_path / "fit.npz"

    class Stop(Exception):
        pass

    def stop(what, items):
        if what == stopped:
            raise Stop

    with pytest.raises(Stop) if stopped else contextlib.nullcontext():
        fit_stream(batches, TREE, stream=SMALL, checkpoint=path, on_progress=stop)
    kept = path.read_bytes()
    other = votes.copy()
    other[700, 2] = (other[700, 2] + 1) % 3
    for changed in (other, votes[:-1], votes[::-1]):
        with pytest.raises(ValueError, match=r"the checkpoint of another fit: \['votes'\]"):
            fit_stream([changed], TREE, stream=SMALL, checkpoint=path)
    assert path.read_bytes() == kept
    # The same votes, however they are held.
    fit_stream(np.split(votes.astype(np.int64), 3), TREE, stream=SMALL, checkpoint=path)


def test_labels_of_other_votes_are_not_taken(votes, streamed, tmp_path):
    np.save(tmp_path / "a.npy", votes)
    paths = label_stream(streamed, VoteStream(tmp_path / "a.npy"), tmp_path / "out", part_items=800)
    before = read_stream_labels(paths)
    other = votes.copy()
    other[-1, 0] = (other[-1, 0] + 1) % 3
    for changed in (other, votes[:1400]):
        np.save(tmp_path / "a.npy", changed)
        with pytest.raises(ValueError, match=r"a-\d*00800.npy: holds labels of other votes"):
            label_stream(streamed, VoteStream(tmp_path / "a.npy"), tmp_path / "out", part_items=800)
    np.testing.assert_array_equal(read_stream_labels(paths), before)
    # A run that was killed after a part and before its checksum makes it again.
    np.save(tmp_path / "a.npy", other)
    paths[1].with_suffix(".json").unlink()
    label_stream(streamed, VoteStream(tmp_path / "a.npy"), tmp_path / "out", part_items=800)
    np.testing.assert_allclose(read_stream_labels(paths), posterior(streamed, other), atol=1e-6)
    paths[1].with_suffix(".json").write_text("{}")
    with pytest.raises(ValueError, match=r"a-\d*00800.json: damaged"):
        label_stream(streamed, VoteStream(tmp_path / "a.npy"), tmp_path / "out", part_items=800)


def test_labels_are_written_part_by_part_and_taken_up_again(votes, streamed, tmp_path):
    np.save(tmp_path / "a.npy", votes[:1000])
    np.savez(tmp_path / "b.npz", L=votes[1000:])
    stream = VoteStream([tmp_path / "a.npy", tmp_path / "b.npz"], batch_items=300)
    paths = label_stream(streamed, stream, tmp_path / "out", part_items=400)
    assert [len(np.load(path)) for path in paths] == [400, 400, 200, 400, 100]
    expected = posterior(streamed, votes)
    np.testing.assert_allclose(read_stream_labels(paths), expected, atol=1e-6)
    kept = paths[0].stat().st_mtime_ns
    paths[1].unlink()
    said = []
    label_stream(
        streamed,
        stream,
        tmp_path / "out",
        part_items=400,
        mesh=data_mesh(4),
        on_progress=lambda *what: said.append(what),
    )
    made = [("labelling", 700), ("labelling", 800)]  # the missing part alone
    assert said == [("comparing votes", 400), *made,
                    *(("comparing votes", n) for n in (1000, 1400, 1500))]  # fmt: skip
    assert paths[0].stat().st_mtime_ns == kept
    np.testing.assert_allclose(read_stream_labels(paths), expected, atol=1e-6)
    assert not list((tmp_path / "out").glob("*.partial"))
    other = streamed._replace(method="other")
    with pytest.raises(ValueError, match="labels of another run: model"):
        label_stream(other, stream, tmp_path / "out", part_items=400)


@pytest.mark.parametrize("file_format", ["npz", "parquet"])
def test_labels_in_other_formats(votes, streamed, tmp_path, file_format):
    if file_format == "parquet":
        pytest.importorskip("pyarrow")
    np.save(tmp_path / "a.npy", votes)
    stream = VoteStream(tmp_path / "a.npy", batch_items=500)
    paths = label_stream(streamed, stream, tmp_path / "out", file_format=file_format)
    np.testing.assert_allclose(read_stream_labels(paths), posterior(streamed, votes), atol=1e-6)


@pytest.mark.slow
def test_a_forest_whose_lfs_vote_on_both_roots():
    tree = TaskTree.from_dict({"a": ["x", "y"], "b": ["u", "v"]})
    votes = np.random.default_rng(1).integers(-1, 4, (300, 4))
    result = fit_stream([votes[:100], votes[100:]], tree)
    np.testing.assert_allclose(
        posterior(result, votes), posterior(fit(votes, tree), votes), atol=1e-2
    )


def test_errors(votes):
    with pytest.raises(ValueError, match="expected an iterable that can be read again"):
        fit_stream(iter([votes]), TREE)
    bad = votes.copy()
    bad[3, 1] = 9
    with pytest.raises(ValueError, match="begins with item 1500: votes: row 3, LF 1: got 9"):
        fit_stream([votes, bad], TREE)
    with pytest.raises(ValueError, match="no batches"):
        fit_stream([], TREE)
    with pytest.raises(ValueError, match="expected at most max_table"):
        fit_stream([votes], TREE, config=MixtureConfig(max_table=5))


def test_the_sample_does_not_keep_the_batches():
    made, alive = [], []

    class Batches:
        def __iter__(self):
            for _ in range(50):
                batch = np.zeros((1000, 3), np.int8)
                made.append(weakref.ref(batch))
                yield batch

    def count(what, items):
        alive.append(sum(batch() is not None for batch in made))

    _, sample, _ = count_stream(Batches(), TREE, 100, None, count)
    assert 100 <= len(sample.votes) < 200
    assert sample.weights.sum() == pytest.approx(50_000)
    assert max(alive) <= 3
