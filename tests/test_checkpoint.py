"""Checkpoints: what goes in comes out; what does not fit is named."""

import chex
import jax
import jax.numpy as jnp
import pytest

from metal_jax import checkpoint, label_model
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
