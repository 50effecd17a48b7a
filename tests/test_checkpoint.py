"""Checkpoints: what goes in comes out; what does not fit is named."""

import json
import math
import shutil

import chex
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from metal_jax import checkpoint, label_model
from metal_jax.checkpoint import CheckpointConfig, TrainingCheckpoints
from metal_jax.task_tree import TaskTree

VOTES = [[0, 0, -1], [1, -1, 1], [0, 1, 0], [-1, 1, 1]] * 5


def test_a_label_model_comes_back(tmp_path):
    result = label_model.fit(VOTES, TaskTree.single(2))
    checkpoint.save(tmp_path / "model", result.params)
    blank = jax.tree.map(jnp.zeros_like, result.params)
    params = checkpoint.load(tmp_path / "model", blank)
    chex.assert_trees_all_equal(params, result.params)
    again = result._replace(params=params)
    chex.assert_trees_all_equal(
        label_model.posterior(again, VOTES), label_model.posterior(result, VOTES)
    )


def test_overwriting_is_asked_for(tmp_path):
    checkpoint.save(tmp_path / "x", {"w": jnp.zeros(2)})
    with pytest.raises(ValueError, match="exists; pass overwrite"):
        checkpoint.save(tmp_path / "x", {"w": jnp.ones(2)})
    checkpoint.save(tmp_path / "x", {"w": jnp.ones(2)}, overwrite=True)
    assert checkpoint.load(tmp_path / "x", {"w": jnp.zeros(2)})["w"].tolist() == [1, 1]
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"w": jnp.zeros(3)}, r"w: saved float32\[2\], expected float32\[3\]"),
        ({"w": jnp.zeros(2, jnp.int32)}, r"w: saved float32\[2\], expected int32\[2\]"),
        ({"v": jnp.zeros(2)}, r"v: saved nothing, expected float32\[2\]"),
    ],
)
def test_another_structure_is_named(tmp_path, like, message):
    checkpoint.save(tmp_path / "x", {"w": jnp.zeros(2)})
    with pytest.raises(ValueError, match=message):
        checkpoint.load(tmp_path / "x", like)
    with pytest.raises(ValueError, match="no checkpoint there"):
        checkpoint.load(tmp_path / "missing", like)


def test_metadata_travels_with_the_parameters(tmp_path):
    metadata = {"vocabulary": {"ids": [1, 2], "idf": [0.1, 1 / 3]}, "classes": ("a", "é")}
    checkpoint.save(tmp_path / "x", {"w": jnp.zeros(2)}, metadata)
    found = checkpoint.load_metadata(tmp_path / "x")
    assert found == metadata | {"classes": ["a", "é"]}
    checkpoint.save(tmp_path / "x", {"w": jnp.zeros(2)}, overwrite=True)
    assert checkpoint.load_metadata(tmp_path / "x") == {}
    for bad in (object(), float("nan"), {1, 2}):
        with pytest.raises(ValueError, match="metadata: expected plain JSON"):
            checkpoint.save(tmp_path / "y", {"w": jnp.zeros(2)}, {"bad": bad})


@pytest.mark.parametrize("before", ["moved aside", "complete"])
def test_a_crash_while_overwriting_leaves_a_whole_one(tmp_path, before, monkeypatch):
    checkpoint.save(tmp_path / "x", {"w": jnp.zeros(2)})
    real = type(tmp_path).rename
    calls = []

    def crash(self, target):
        calls.append(self.name)
        if len(calls) == (2 if before == "moved aside" else 1):
            raise KeyboardInterrupt
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(type(tmp_path), "rename", crash)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(tmp_path / "x", {"w": jnp.ones(2)}, overwrite=True)
    assert checkpoint.load(tmp_path / "x", {"w": jnp.zeros(2)})["w"].tolist() == [0, 0]
    checkpoint.save(tmp_path / "x", {"w": jnp.full(2, 2.0)}, overwrite=True)
    assert checkpoint.load(tmp_path / "x", {"w": jnp.zeros(2)})["w"].tolist() == [2, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


IDENTITY = {"config": {"rate": 0.1, "widths": (3, 4)}, "tree": ["a", "b"]}
ARRAYS = {
    "plain": np.arange(6, dtype=np.float32).reshape(2, 3),
    "odd/name é.x['y']": np.arange(3, dtype=np.uint32),
    "double": np.array([1 / 3, np.nan, -0.0]),
    "half": np.array([1.5, 3], ml_dtypes.bfloat16),
    "large": np.random.default_rng(0).normal(size=3000),
}


def store(folder, **settings):
    return TrainingCheckpoints(CheckpointConfig(folder, **settings))


def save(folder, costs, **settings):
    checkpoints = store(folder, **settings)
    checkpoints.restore(IDENTITY)
    for step, cost in costs.items():
        arrays = ARRAYS | {"step": np.array([step])}
        checkpoints.save(step, arrays, {"step": step, "none": None}, cost)
    checkpoints.close()
    checkpoints.close()


def steps(folder):
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def test_a_training_comes_back_bit_for_bit(tmp_path):
    save(tmp_path / "deep" / "er", {10: 1.0})
    arrays, record = store(tmp_path / "deep" / "er").restore(IDENTITY)
    assert record == {"step": 10, "none": None}
    assert arrays.keys() == ARRAYS.keys() | {"step"}
    for name, values in ARRAYS.items():
        assert arrays[name].dtype == values.dtype
        assert arrays[name].shape == values.shape
        assert arrays[name].tobytes() == values.tobytes()


def test_the_last_and_the_best_are_kept(tmp_path):
    costs = {10: 3.0, 20: 1.0, 30: math.nan, 40: 2.0, 50: 4.0, 60: math.inf}
    save(tmp_path / "default", costs)
    assert steps(tmp_path / "default") == [20, 50, 60]
    save(tmp_path / "many", costs, keep_last=1, keep_best=3)
    assert steps(tmp_path / "many") == [10, 20, 40, 60]
    save(tmp_path / "last", costs, keep_last=2, keep_best=0)
    assert steps(tmp_path / "last") == [50, 60]
    # What was kept is counted in when the training goes on.
    save(tmp_path / "default", {70: 0.5, 80: 5.0, 90: 5.0})
    assert steps(tmp_path / "default") == [70, 80, 90]


def test_what_is_half_written_is_never_loaded(tmp_path):
    save(tmp_path / "whole", {10: 1.0, 20: 2.0})
    newest = tmp_path / "whole" / "20"
    names = sorted(path.relative_to(newest) for path in newest.rglob("*") if path.is_file())
    passed_over = 0
    for name in names:
        for damage in ("removed", "cut", "changed"):
            folder = tmp_path / "damaged"
            shutil.copytree(tmp_path / "whole", folder)
            path = folder / "20" / name
            content = path.read_bytes()
            path.unlink()
            if damage == "cut":
                path.write_bytes(content[: len(content) // 2])
            elif damage == "changed" and content:
                at = len(content) // 2
                path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            arrays, record = store(folder).restore(IDENTITY)
            assert arrays["step"].tolist() == [record["step"]]
            for key, values in ARRAYS.items():
                assert arrays[key].tobytes() == values.tobytes(), (name, damage, key)
            passed_over += record["step"] == 10
            shutil.rmtree(folder)
    assert passed_over > len(names)


def test_nothing_that_can_be_read(tmp_path):
    save(tmp_path, {10: 1.0, 20: 2.0})
    for path in tmp_path.glob("*/default/d/*"):
        path.unlink()
    for path in tmp_path.glob("*/*/d/*"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"no checkpoint can be read: step 20: .*; step 10: "):
        store(tmp_path).restore(IDENTITY)
    (tmp_path / "training.json").write_text("{")
    with pytest.raises(ValueError, match="training.json: the checkpoints beside it cannot be used"):
        store(tmp_path).restore(IDENTITY)


@pytest.mark.parametrize(
    ("identity", "metadata", "message"),
    [
        ({"config": {"rate": 0.2, "widths": [3, 4]}}, {}, r"config.rate: saved 0.1, expected 0.2"),
        ({"config": {"rate": 0.1, "widths": [3]}}, {}, r"config.widths.1: saved 4, expected not"),
        ({"tree": ["a", "c"]}, {}, r"tree.1: saved b, expected c"),
        ({}, {"classes": ["u"]}, r"metadata.classes.0: saved nothing, expected u"),
    ],
)
def test_another_training_is_named(tmp_path, identity, metadata, message):
    save(tmp_path, {10: 1.0})
    with pytest.raises(ValueError, match=f"of another training: {message}"):
        store(tmp_path, metadata=metadata).restore(IDENTITY | identity)


def test_a_folder_without_checkpoints_takes_any_training(tmp_path):
    assert store(tmp_path).restore({"seed": 1}) is None
    assert store(tmp_path).restore(IDENTITY) is None
    assert json.loads((tmp_path / "training.json").read_text())["tree"] == ["a", "b"]


def test_bad_settings(tmp_path):
    for setting, value in (("every", 0), ("keep_last", 0), ("keep_best", -1)):
        with pytest.raises(ValueError, match=f"{setting}: got {value}"):
            CheckpointConfig(tmp_path, **{setting: value})
    with pytest.raises(ValueError, match="metadata: expected plain JSON"):
        store(tmp_path, metadata={"x": object()})
