"""Exported functions: one file, called without this library, for every platform."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metal_jax import export
from metal_jax.cli import main
from metal_jax.label_model import (
    GladParams,
    fit,
    fit_dawid_skene,
    posterior,
    posterior_function,
)
from metal_jax.network import BagOfFeatures, Model, build, fit_inputs, predict, save_model
from metal_jax.task_tree import TaskTree

pytest.importorskip("flatbuffers")

TREE = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
FOREST = TaskTree.from_dict({"a": ["x", "y"], "b": ["u", "v", "w"]})
BINARY = TaskTree.single(2)


def votes_on(tree, seed=0, n=60, m=5):
    return np.random.default_rng(seed).integers(-1, tree.num_nodes, (n, m)).astype(np.int32)


def network_model(kind):
    items = {
        "bag": ["red fox runs", "red hen", "the fox"],
        "features": np.random.default_rng(0).normal(3, 2, (5, 3)).astype(np.float32),
    }[kind]
    inputs = fit_inputs(kind, items)
    net = build(TREE, inputs.encoder)
    params = net.init(jax.random.key(0), inputs.encode(items))
    return Model(TREE, inputs, params, temperatures=(1.5, 0.7)), items


CALLER = """
import importlib.abc, json, sys, pathlib
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("metal_jax", "flax", "optax", "orbax"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
import jax, numpy as np
jax.config.update("jax_platforms", "cpu")
folder = pathlib.Path(sys.argv[1])
for file in sorted(folder.glob("*.bin")):
    model = jax.export.deserialize(bytearray(file.read_bytes()))
    given = dict(np.load(file.with_suffix(".npz")))
    found = model.call(given.get("votes", given))
    np.savez(file.with_suffix(".out.npz"), **(found if isinstance(found, dict) else {"p": found}))
assert "metal_jax" not in sys.modules
"""


def test_a_saved_function_gives_the_same_without_this_library(tmp_path):
    votes = votes_on(TREE)
    result = fit(votes, TREE)
    size = export.save(tmp_path / "labels.bin", export.lower_label_model(result))
    assert size == (tmp_path / "labels.bin").stat().st_size
    np.savez(tmp_path / "labels.npz", votes=votes[:7])
    model, items = network_model("bag")
    exported = export.lower_network(model)
    about = export.describe(exported, TREE)
    export.save(tmp_path / "network.bin", exported, about)
    inputs = model.inputs.encode(items)
    np.savez(tmp_path / "network.npz", **inputs._asdict())

    subprocess.run([sys.executable, "-c", CALLER, str(tmp_path)], check=True, cwd=tmp_path)
    found = np.load(tmp_path / "labels.out.npz")["p"]
    np.testing.assert_allclose(found, posterior(result, votes[:7]), atol=1e-6)
    found = np.load(tmp_path / "network.out.npz")
    expected = predict(model, items)
    np.testing.assert_allclose(found["leaf_probs"], expected.leaf_probs, atol=1e-6)
    np.testing.assert_allclose(found["node_probs"], expected.node_probs, atol=1e-6)

    assert json.loads((tmp_path / "network.bin.json").read_text()) == about
    assert about["leaf_names"] == ["b=u", "b=v", "a=y"]
    assert about["platforms"] == ["cpu", "cuda", "rocm", "tpu"]
    assert about["arguments"][0]["ids"].startswith("int32[n, ")
    assert about["results"]["leaf_probs"] == "float32[n, 3]"
    again = export.load(tmp_path / "labels.bin")
    np.testing.assert_array_equal(again.call(votes[:7]), np.load(tmp_path / "labels.out.npz")["p"])


@pytest.mark.parametrize(
    ("tree", "fitted"),
    [
        (FOREST, fit),  # its LFs vote on both roots
        (TaskTree.single(20), fit),  # look-ups instead of masks
    ],
)
def test_label_models_lower_everywhere_for_any_number_of_items(tree, fitted):
    votes = votes_on(tree)
    result = fitted(votes, tree)
    exported = export.lower_label_model(result)
    assert exported.platforms == export.PLATFORMS
    assert str(exported.in_avals[0].shape[0]) == "n"
    expected = posterior(result, votes[:13])
    np.testing.assert_allclose(exported.call(votes[:13]), expected, atol=1e-6)


def test_networks_that_read_vectors_take_raw_numbers():
    model, items = network_model("features")
    exported = export.lower_network(model)
    assert exported.platforms == export.PLATFORMS
    found = exported.call(items[:4])["node_probs"]
    np.testing.assert_allclose(found, predict(model, items[:4]).node_probs, atol=1e-5)


def test_named_tuples_become_dicts_and_fixed_arguments_stay():
    def scores(bag, table):
        return BagOfFeatures(bag.ids + 1, bag.weights @ table)

    bag = BagOfFeatures(jnp.zeros((1, 3), jnp.int32), jnp.ones((1, 3)))
    exported = export.lower(scores, bag, jnp.ones((3, 2)), items=[True, False])
    found = exported.call(
        bag._replace(ids=jnp.zeros((4, 3), jnp.int32), weights=jnp.ones((4, 3)))._asdict(),
        jnp.ones((3, 2)),
    )
    assert found["weights"].tolist() == [[3, 3]] * 4


def test_cost_counts_the_work():
    exported = export.lower(lambda x: x @ x.T, jnp.ones((1, 8)), platforms=["cpu"])
    small, large = (export.cost(exported, n) for n in (10, 100))
    assert large.flops / small.flops == pytest.approx(100, rel=0.05)
    assert (large.num_items, large.argument_bytes, large.output_bytes) == (100, 3200, 40000)
    assert large.platform == "cpu"


def test_errors(tmp_path):
    with pytest.raises(ValueError, match=r"platforms: got \['abacus'\]"):
        export.lower(jnp.sin, jnp.ones(3), platforms=["abacus"])
    with pytest.raises(ValueError, match="items: got 2 values, expected 1"):
        export.lower(jnp.sin, jnp.ones(3), items=[True, False])
    (tmp_path / "text").write_text("no function")
    with pytest.raises(ValueError, match="no exported function"):
        export.load(tmp_path / "text")
    result = fit_dawid_skene(votes_on(FOREST), FOREST)
    with pytest.raises(ValueError, match="GLAD"):
        posterior_function(result._replace(params=GladParams(*[None] * 4)))
    with pytest.raises(ValueError, match="votes: got shape"):
        posterior_function(result)(jnp.zeros((3, 2), jnp.int32))


def test_the_command_line_exports_both_models(tmp_path, capsys):
    votes = votes_on(BINARY)
    np.savez(tmp_path / "votes.npz", L=votes)
    model, items = network_model("features")
    save_model(tmp_path / "model", model)
    label = [str(tmp_path / "votes.npz"), "--out", str(tmp_path / "probs.npz"), "--method"]
    label += ["majority", "--export", str(tmp_path / "labels.bin"), "--json"]
    assert main(["label", *label]) == 0
    assert json.loads(capsys.readouterr().out)["export"]["cost"]["num_items"] == 60
    found = export.load(tmp_path / "labels.bin").call(votes)
    np.testing.assert_allclose(found, np.load(tmp_path / "probs.npz")["probs"], atol=1e-6)
    out = tmp_path / "network.bin"
    assert main(["export", str(tmp_path / "model"), "--out", str(out), "--platforms", "tpu"]) == 0
    assert "bytes for tpu" in capsys.readouterr().out
    assert export.load(out).platforms == ("tpu",)
    assert main(["export", str(tmp_path / "model"), "--out", str(out), "--platforms", "x"]) == 2
