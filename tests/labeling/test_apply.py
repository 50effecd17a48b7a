"""`apply` in parallel, with duplicates, with a cache: the same votes every time."""

import concurrent.futures
import dataclasses
import datetime
import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import lf_module
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import metal_jax
from metal_jax.labeling import (
    ABSTAIN,
    LabelingFunction,
    LabelingFunctionError,
    apply,
    apply_dask,
    item_digest,
    keyword_lf,
    labeling_function,
    lf_digest,
    preprocessor,
)
from metal_jax.labeling._apply_workers import _interrupts_held
from metal_jax.task_tree import TaskTree

TREE = TaskTree.from_dict({"topic": ["sport", "trade"], "tone": ["glad", "sad"]})


def one_by_one(lfs, items):
    """The votes of each item applied on its own."""
    return np.concatenate([apply(lfs, [item], TREE, on_error="abstain").votes for item in items])


def assert_same(first, second):
    np.testing.assert_array_equal(first.votes, second.votes)
    assert first.votes.dtype == second.votes.dtype
    assert first.lf_names == second.lf_names
    assert first.num_errors.tolist() == second.num_errors.tolist()


class Counting:
    """A labelling function that counts its calls."""

    def __init__(self, label="sport", word="goal"):
        self.calls = 0
        self.label, self.word = label, word

    def __call__(self, item):
        self.calls += 1
        return self.label if self.word in str(item) else ABSTAIN


@pytest.mark.parametrize(
    ("lfs", "message"),
    [
        (lf_module.LFS[0], "lfs: got a LabelingFunction, expected a list of LFs"),
        ([lf_module.LFS[0], len], "lfs: number 1 is a builtin_function_or_method, expected a Lab"),
    ],
)
def test_what_is_no_list_of_lfs_is_said(lfs, message):
    with pytest.raises(TypeError, match=message):
        apply(lfs, ["a"], TREE)


class Frame:
    """As much of a data frame as `apply` looks at."""

    columns = ("text",)


@pytest.mark.parametrize("items", ["one text", b"bytes", {"text": ["a"]}, Frame()])
def test_what_is_no_sequence_of_items_is_said(items):
    lf = keyword_lf("a", "topic", "sport", ["a"])
    with pytest.raises(ValueError, match=f"items: got {type(items).__name__}, expected items one"):
        apply([lf], items, TREE)


# ---- duplicates ---------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(lf_module.TEXTS), min_size=1, max_size=30), st.integers(1, 7))
def test_duplicates_are_computed_once_and_change_nothing(texts, block_size):
    items = [{"text": text} for text in texts]
    function = Counting()
    lfs = [*lf_module.LFS, lf_module.fails_on_rain, LabelingFunction("n", "topic", function)]
    applied = apply(lfs, iter(items), TREE, on_error="abstain", block_size=block_size)
    np.testing.assert_array_equal(applied.votes, one_by_one(lfs[:-1] + lfs[-1:], items))
    assert applied.num_errors[applied.lf_names.index("fails_on_rain")] == texts.count("rain")
    assert function.calls - len(texts) == len(set(texts))  # one_by_one called it once an item


def test_items_that_cannot_be_hashed_are_all_computed():
    function = Counting()
    item = object()
    lf = LabelingFunction("n", "topic", function)
    assert apply([lf], [item, item], TREE).votes.tolist() == [[-1], [-1]]
    assert function.calls == 2


@pytest.mark.parametrize(
    "group",
    [
        ["a", "b", "", "aa", b"a"],
        [1, 1.0, True, "1", None, [1], (1,), {1: 1}, {"1": 1}, [[1]]],
        [["a", "b"], ["ab"], ["a", ["b"]], ["a", "b", ""], "ab"],
        [{"a": 1, "b": 2}, {"a": 2, "b": 1}, {"a": 1}, {"ab": 12}],
        [np.zeros(2), np.zeros((2, 1)), np.zeros(2, np.float32), np.ones(2), np.zeros((1, 2))],
        [-0.0, 0.0, 0, False, ""],
        [datetime.date(2026, 1, 2), datetime.datetime(2026, 1, 2), "datetime.date(2026, 1, 2)"],
        ["\ud800", "\ufffd", "é", "e\u0301"],
    ],
)
def test_different_items_have_different_digests(group):
    digests = [item_digest(item) for item in group]
    assert None not in digests
    assert len(set(digests)) == len(group)
    assert [item_digest(item) for item in group] == digests


def test_what_has_no_digest():
    nested = []
    nested.append(nested)
    for item in (object(), {"a": object()}, nested, np.array([object()]), {1, 2}):
        assert item_digest(item) is None


# ---- progress -----------------------------------------------------------------------------------


def test_progress_tells_rate_and_errors():
    seen = []
    items = [{"text": text} for text in ("rain", "goal", "rain", "market", "goal")]
    lfs = [lf_module.names_a_goal, lf_module.fails_on_rain]
    apply(lfs, items, TREE, on_error="abstain", on_progress=seen.append, block_size=2)
    assert [p.num_items for p in seen] == [1, 2, 4, 5]
    assert [p.num_calls for p in seen] == [2, 4, 6, 6]
    assert [p.num_errors for p in seen] == [{"fails_on_rain": 1}] * 3 + [{"fails_on_rain": 2}]
    assert all(p.items_per_second > 0 for p in seen)


def test_bad_settings():
    for options, message in (({"workers": 0}, "workers: got 0"), ({"block_size": 0}, "block_size")):
        with pytest.raises(ValueError, match=message):
            apply(lf_module.LFS, ["x"], TREE, **options)


# ---- workers ------------------------------------------------------------------------------------


def test_workers_give_identical_votes():
    lfs = [*lf_module.LFS, lf_module.fails_on_rain]
    alone = apply(lfs, lf_module.ITEMS, TREE, on_error="abstain")
    seen = []
    spread = apply(
        lfs, lf_module.ITEMS, TREE, on_error="abstain", workers=2, block_size=16,
        on_progress=seen.append,
    )  # fmt: skip
    assert_same(alone, spread)
    assert alone.num_errors.sum() > 0
    assert seen[-1].num_items == len(lf_module.ITEMS)
    assert seen[-1].num_errors == {"fails_on_rain": alone.num_errors.sum()}


@pytest.mark.parametrize(
    "lf",
    [
        LabelingFunction("bad", "topic", lambda item: ABSTAIN),
        labeling_function(task="topic", name="bad")(lambda item: ABSTAIN),
        keyword_lf("bad", "topic", "sport", ["x"], text=lambda item: item),
        keyword_lf("bad", "topic", "sport", ["x"], text=preprocessor()(lambda item: item)),
    ],
)
def test_lambdas_and_closures_are_refused(lf):
    with pytest.raises(ValueError, match="LF 'bad' cannot be sent .* top level of a module"):
        apply([lf_module.names_a_goal, lf], ["x"], TREE, workers=2)


@pytest.mark.slow
def test_workers_tell_the_first_failure():
    items = [{"text": "goal" + "!" * i} for i in range(40)]
    items[23] = items[31] = {"text": "rain"}
    lfs = [lf_module.names_a_goal, lf_module.fails_on_rain]
    messages = []
    for workers in (1, 2):
        with pytest.raises(LabelingFunctionError) as caught:
            apply(lfs, items, TREE, workers=workers, block_size=4)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert messages[0] == "LF 'fails_on_rain' failed on item 23: NoPicture: no umbrella 3"
    assert "fails_on_rain" in "".join(caught.value.__notes__)  # where in the worker


@pytest.mark.slow
def test_a_worker_that_ends_is_told():
    with pytest.raises(RuntimeError, match="worker process ended while items 0 to 1 were"):
        apply([lf_module.ends_the_process], ["x", "y"], TREE, workers=2)


@pytest.mark.slow
def test_items_that_cannot_be_sent():
    with pytest.raises(RuntimeError, match="items 0 to 0 could not be labelled in a worker"):
        apply([lf_module.names_a_goal], [lambda: 0], TREE, workers=2)


@pytest.mark.slow
def test_lfs_of_a_script(tmp_path):
    """LFs of the main module are found by workers; those of an interactive session refused."""
    script = textwrap.dedent("""
        from metal_jax.labeling import apply, labeling_function, ABSTAIN
        from metal_jax.task_tree import TaskTree

        @labeling_function(task="topic")
        def goal(item):
            return "sport" if "goal" in item else ABSTAIN

        if __name__ == "__main__":
            tree = TaskTree.single(["sport", "trade"], name="topic")
            print(apply([goal], ["a goal", "rain"], tree, workers=2).votes.tolist())
    """)
    path = tmp_path / "script.py"
    path.write_text(script)
    env = {**os.environ, "PYTHONPATH": str(Path(metal_jax.__file__).parents[1])}
    for command, words in (
        ([sys.executable, str(path)], "[[0], [-1]]"),
        ([sys.executable, "-c", script], "LF 'goal' cannot be sent"),
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        assert words in done.stdout + done.stderr.replace("\n", " ")


# ---- cache --------------------------------------------------------------------------------------


def counting_lfs():
    functions = {"goal": Counting(), "rain": Counting("trade", "rain")}
    return functions, [
        LabelingFunction(name, "topic", function, "1") for name, function in functions.items()
    ]


def test_editing_one_lf_runs_one_column(tmp_path):
    items = [{"text": f"goal {i}" if i % 3 else f"rain {i}"} for i in range(10)] * 2
    functions, lfs = counting_lfs()
    plain = apply(lfs, items, TREE)
    calls = {name: function.calls for name, function in functions.items()}
    assert calls == {"goal": 10, "rain": 10}
    seen = []

    def again(**options):
        applied = apply(
            lfs, items, TREE, cache=tmp_path, block_size=4, on_progress=seen.append, **options
        )
        return applied, {name: function.calls for name, function in functions.items()}

    applied, calls = again()
    assert_same(applied, plain)
    assert calls == {"goal": 20, "rain": 20}
    applied, calls = again()
    assert_same(applied, plain)
    assert calls == {"goal": 20, "rain": 20}
    assert (seen[-1].num_calls, seen[-1].num_cached) == (0, 20)

    functions["rain"].word = "rain 0"
    lfs[1] = dataclasses.replace(lfs[1], version="2")
    applied, calls = again()
    assert calls == {"goal": 20, "rain": 30}
    assert applied.votes[:, 1].tolist() == [1, *[-1] * 9] * 2

    items.append({"text": "more rain 0"})  # the first two blocks are as they were
    applied, calls = again()
    assert calls == {"goal": 23, "rain": 33}
    assert applied.votes[-1].tolist() == [-1, 1]


def test_a_full_cache_needs_no_worker(tmp_path, monkeypatch):
    items = [{"text": text} for text in lf_module.TEXTS]
    plain = apply(lf_module.LFS, items, TREE, cache=tmp_path, block_size=2)

    def refuse(*arguments, **settings):
        raise AssertionError("a worker was started")

    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor.submit", refuse)
    assert_same(apply(lf_module.LFS, items, TREE, cache=tmp_path, block_size=2, workers=2), plain)


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="there are no signal masks here")
def test_processes_are_deaf_to_interrupts_while_they_start():
    """Each would print a traceback, or hang, where Ctrl-C comes while it imports."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        with _interrupts_held():
            answer = pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, [])
        assert signal.SIGINT in answer.result()
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_damaged_files_are_computed_anew(tmp_path):
    functions, lfs = counting_lfs()
    items = ["goal", "rain"]
    plain = apply(lfs, items, TREE, cache=tmp_path)
    files = sorted(tmp_path.rglob("*.npz"))
    assert len(files) == 2
    damages = [
        b"", files[0].read_bytes()[:-3], b"nothing", _npz(np.zeros((2, 1))),
        _npz(np.full((2, 1), 99, np.int32)), _npz(np.zeros((3, 1), np.int32)),
        _npz(np.full((2, 1), -2, np.int32)), _one_vote_changed(files[0].read_bytes()),
    ]  # fmt: skip
    for damage in damages:
        files[0].write_bytes(damage)
        assert_same(apply(lfs, items, TREE, cache=tmp_path), plain)
        assert files[0].read_bytes() != damage
    assert not list(tmp_path.rglob("*.partial"))


def _npz(array):
    buffer = io.BytesIO()
    np.savez(buffer, votes=array)
    return buffer.getvalue()


def _one_vote_changed(content):
    """A vote that another one has taken the place of, which only the checksum tells."""
    votes = np.load(io.BytesIO(content))["votes"].tobytes()
    changed = np.full(2, 0, np.int32).tobytes()
    assert changed != votes
    assert content.count(votes) == 1
    return content.replace(votes, changed)


def test_cached_failures_are_counted_or_raised_again(tmp_path):
    items = [{"text": "rain"}, {"text": "goal"}, {"text": "rain"}]
    lfs = [lf_module.fails_on_rain]
    for _ in range(2):
        applied = apply(lfs, items, TREE, cache=tmp_path, on_error="abstain")
        assert applied.num_errors.tolist() == [2]
    with pytest.raises(LabelingFunctionError, match="failed on item 0: NoPicture"):
        apply(lfs, items, TREE, cache=tmp_path)


@pytest.mark.parametrize("share", [0.05, 0.5])
@pytest.mark.parametrize("workers", [1, 2])
def test_failures_are_tried_again(tmp_path, share, workers):
    """Where the network was down; votes that are known are not made again."""
    items = [f"goal {number}" for number in range(40)]
    down = items[: int(share * 40)]
    switch = tmp_path / "down.json"

    def run():
        lfs = [lf_module.down_where(str(switch)), *lf_module.LFS[:1]]
        cache = tmp_path / "cache"
        return apply(lfs, [{"text": text} for text in items], TREE, cache=cache,
                     on_error="abstain", block_size=20, workers=workers)  # fmt: skip

    switch.write_text(json.dumps(down))
    assert run().num_errors.tolist() == [len(down), 0]
    switch.write_text(json.dumps(down[1:]))
    assert run().num_errors.tolist() == [len(down) - 1, 0]
    switch.write_text("[]")
    told = run()
    assert told.num_errors.tolist() == [0, 0]
    assert (told.votes[:, 0] == 0).all()
    switch.unlink()  # now every call would fail
    assert_same(run(), told)


def test_an_item_that_is_filled_anew_is_refused():
    def items():
        item = {}
        for text in ("goal", "market"):
            item["text"] = text
            yield item

    with pytest.raises(ValueError, match="item 1: the same dict as item 0, with other content"):
        apply(lf_module.LFS[:1], items(), TREE)
    again = [{"text": "goal"}] * 2
    assert apply(lf_module.LFS[:1], again, TREE).votes.tolist() == [[0], [0]]


def test_abstains_of_numpy():
    lf = labeling_function(task="topic", name="f")(lambda item: np.int64(-1))
    assert apply([lf], ["a"], TREE).votes.tolist() == [[-1]]


def test_columns_of_one_name_are_refused():
    forest = TaskTree.from_dict({"topic": ["sport", "trade"], "tone": ["glad", "other"]})
    both = labeling_function(task=("topic", "tone"), name="a")(lambda item: -1)
    one = labeling_function(task="topic", name="a[topic]")(lambda item: -1)
    for lfs in ([both, one], [one, both]):
        with pytest.raises(ValueError, match=r"'a\[topic\]'"):
            apply(lfs, ["x"], forest)


def test_interrupted_work_is_kept(tmp_path):
    functions, lfs = counting_lfs()
    items = [f"goal {i}" for i in range(10)]

    def stop(progress):
        if progress.num_items == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply(lfs, items, TREE, cache=tmp_path, block_size=4, on_progress=stop)
    assert functions["goal"].calls == 8
    apply(lfs, items, TREE, cache=tmp_path, block_size=4)
    assert functions["goal"].calls == 10


def test_another_tree_is_another_cache(tmp_path):
    functions, lfs = counting_lfs()
    apply(lfs, ["rain"], TREE, cache=tmp_path)
    turned = TaskTree.from_dict({"topic": ["trade", "sport"]})
    assert apply(lfs, ["rain"], turned, cache=tmp_path).votes.tolist() == [[-1, 0]]


def test_what_cannot_be_cached(tmp_path):
    with pytest.raises(ValueError, match="item 1: a object that is not plain data"):
        apply(lf_module.LFS[:1], [{"text": ""}, object()], TREE, cache=tmp_path)
    model = object()
    lf = labeling_function(task="topic", name="net")(lambda item: str(model))
    with pytest.raises(ValueError, match="LF 'net': cannot tell .*'model'.* is a object; give"):
        apply([lf], [{"text": ""}], TREE, cache=tmp_path)
    assert len(lf_digest(dataclasses.replace(lf, version="1"))) == 32


def test_without_dask_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask.base", None)
    with pytest.raises(ImportError, match=r"pip install 'metal-jax\[distributed\]'"):
        apply_dask(lf_module.LFS, lf_module.ITEMS, TREE)
