"""Labelling functions on a Dask cluster of several processes."""

import os
import signal
import threading
import time

import lf_module
import numpy as np
import pytest

from metal_jax.labeling import (
    ABSTAIN,
    LabelingFunctionError,
    apply,
    apply_dask,
    keyword_lf,
    labeling_function,
)
from metal_jax.task_tree import TaskTree

pytest.importorskip("dask", reason="needs the extra `distributed`")
distributed = pytest.importorskip("distributed", reason="needs the extra `distributed`")

TREE = TaskTree.from_dict({"topic": ["sport", "trade"], "tone": ["glad", "sad"]})
LFS = [*lf_module.LFS, lf_module.fails_on_rain]


def assert_same(first, second):
    np.testing.assert_array_equal(first.votes, second.votes)
    assert first.votes.dtype == second.votes.dtype
    assert first.lf_names == second.lf_names
    assert first.num_errors.tolist() == second.num_errors.tolist()


@pytest.fixture(scope="module")
def client():
    paths = os.environ.get("PYTHONPATH", "")
    root = os.path.dirname(os.path.dirname(os.path.abspath(lf_module.__file__)))
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [os.path.dirname(root), os.path.dirname(lf_module.__file__), paths])
    )
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    )
    with cluster, distributed.Client(cluster) as client:
        yield client
    os.environ["PYTHONPATH"] = paths


def test_bags_of_any_partitioning(client):
    import dask.bag

    alone = apply(LFS, lf_module.ITEMS, TREE, on_error="abstain")
    for number in (1, 7):
        bag = dask.bag.from_sequence(lf_module.ITEMS, npartitions=number)
        assert_same(apply_dask(LFS, bag, TREE, on_error="abstain"), alone)
    empty = bag.filter(lambda item: item["text"].startswith("rain"))  # some partitions are empty
    rain = [item for item in lf_module.ITEMS if item["text"].startswith("rain")]
    assert_same(
        apply_dask(LFS, empty, TREE, on_error="abstain"), apply(LFS, rain, TREE, on_error="abstain")
    )


def test_data_frames(client):
    pandas = pytest.importorskip("pandas", reason="data frames need pandas")
    import dask.dataframe

    frame = dask.dataframe.from_pandas(pandas.DataFrame(lf_module.ITEMS), npartitions=5)
    assert_same(
        apply_dask(LFS, frame, TREE, on_error="abstain"),
        apply(LFS, lf_module.ITEMS, TREE, on_error="abstain"),
    )


def test_closures_and_lambdas_are_sent(client):
    import dask.bag

    word = "goal"
    lfs = [
        labeling_function(task="topic", name="closure")(
            lambda item: "sport" if word in item["text"] else ABSTAIN
        ),
        keyword_lf("late", "topic", "sport", ["late"], text=lambda item: item["text"]),
    ]
    bag = dask.bag.from_sequence(lf_module.ITEMS, npartitions=3)
    assert_same(apply_dask(lfs, bag, TREE), apply(lfs, lf_module.ITEMS, TREE))


def test_errors_name_lf_and_item(client):
    import dask.bag

    bag = dask.bag.from_sequence(lf_module.ITEMS, npartitions=4)
    with pytest.raises(LabelingFunctionError) as here:
        apply(LFS, lf_module.ITEMS, TREE)
    with pytest.raises(LabelingFunctionError) as there:
        apply_dask(LFS, bag, TREE)
    assert str(there.value) == str(here.value)
    with pytest.raises(ValueError, match="no items were given"):
        apply_dask(LFS, bag.filter(lambda item: False), TREE)
    with pytest.raises(ValueError, match="items: got list, expected a Dask bag"):
        apply_dask(LFS, lf_module.ITEMS, TREE)


def test_a_worker_killed_in_the_middle_loses_nothing(client):
    import dask.bag

    lfs = [lf_module.slow, *LFS]
    bag = dask.bag.from_sequence(lf_module.ITEMS, npartitions=30)
    times = {}

    def kill(pid):
        time.sleep(1.5)
        os.kill(pid, signal.SIGKILL)
        times["killed"] = time.monotonic()

    pid = next(iter(client.run(os.getpid).values()))
    thread = threading.Thread(target=kill, args=(pid,))
    thread.start()
    applied = apply_dask(lfs, bag, TREE, on_error="abstain")
    times["done"] = time.monotonic()
    thread.join()
    assert times["killed"] < times["done"]
    assert pid not in client.run(os.getpid).values()  # another took its place
    expected = apply(LFS, lf_module.ITEMS, TREE, on_error="abstain")
    np.testing.assert_array_equal(applied.votes[:, 1:], expected.votes)
    lengths = [len(item["text"]) % 2 for item in lf_module.ITEMS]
    assert applied.votes[:, 0].tolist() == [1 - odd for odd in lengths]
