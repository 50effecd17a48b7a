"""Input maps and model folders: a loaded model reads raw items and predicts as the saved one."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metal_jax import checkpoint
from metal_jax.network import (
    Model,
    NetworkConfig,
    TaskConfig,
    build,
    evaluate,
    evaluate_model,
    fit_inputs,
    load_model,
    predict,
    save_model,
)
from metal_jax.network import _model_files as model_files
from metal_jax.task_tree import TaskTree, log_normalise_tasks, node_sum, path_sum

TREE = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
TEXTS = ["red fox runs", "red hen", "the fox", "", "hen and fox run, naïve"]
VECTORS = np.random.default_rng(0).normal(3, 2, size=(5, 3))
ITEMS = {"bag": TEXTS, "lstm": TEXTS, "features": VECTORS, "embeddings": VECTORS}
SMALL = {
    "bag": {"width": 4},
    "lstm": {"width": 3},
    "features": {"widths": (4, 3)},
    "embeddings": {"width": 4},
}


def make_model(kind):
    inputs = fit_inputs(kind, ITEMS[kind], **SMALL[kind])
    config = NetworkConfig((4, 3), attach="top", tasks={"b": TaskConfig(layer=0, dropout=0.25)})
    network = build(TREE, inputs.encoder, config)
    params = network.init(jax.random.key(1), inputs.encode(ITEMS[kind]))
    return Model(TREE, inputs, params, config, (0.5, 2.0), ("b",))


@pytest.fixture(scope="module")
def vectors():
    return make_model("features")


@pytest.mark.parametrize(
    "kind",
    ["bag", "features", *(pytest.param(k, marks=pytest.mark.slow) for k in ("lstm", "embeddings"))],
)
def test_a_loaded_model_predicts_bit_for_bit(kind, tmp_path):
    model = make_model(kind)
    save_model(tmp_path / "model", model)
    loaded = load_model(tmp_path / "model", TREE)
    assert (loaded.tree, loaded.config) == (model.tree, model.config)
    assert (loaded.temperatures, loaded.untrained_tasks) == ((0.5, 2.0), ("b",))
    assert json.dumps(loaded.inputs.to_json()) == json.dumps(model.inputs.to_json())
    found, expected = (predict(m, ITEMS[kind], batch_size=8) for m in (loaded, model))
    np.testing.assert_array_equal(found.node_probs, expected.node_probs)
    np.testing.assert_array_equal(found.leaf_probs, expected.node_probs[:, TREE.leaf_nodes])
    np.testing.assert_allclose(found.leaf_probs.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(node_sum(TREE, found.leaf_probs), found.node_probs, rtol=1e-5)
    assert not np.allclose(found.node_probs[0], found.node_probs[1])


@pytest.mark.parametrize("kind", ["bag", "lstm"])
def test_a_text_is_encoded_alike_in_any_company(kind):
    inputs = fit_inputs(kind, TEXTS)
    alone = [inputs.encode([text]) for text in TEXTS]
    together = inputs.encode(TEXTS)
    jax.tree.map(
        np.testing.assert_array_equal, jax.tree.map(lambda *x: np.vstack(x), *alone), together
    )
    longer = inputs.encode(["fox " * 500])
    assert jax.tree.map(np.shape, longer) == jax.tree.map(np.shape, alone[0])


def test_batches_and_padding_change_nothing(vectors):
    whole = predict(vectors, VECTORS, batch_size=8)
    parts = predict(vectors, VECTORS, batch_size=2)
    np.testing.assert_allclose(whole.node_probs, parts.node_probs, rtol=1e-6)
    assert predict(vectors, VECTORS[:0], batch_size=8).leaf_probs.shape == (0, 3)


def test_temperatures_divide_the_logits_of_their_task(vectors):
    logits = vectors.network.apply(vectors.params, jnp.asarray(vectors.inputs.encode(VECTORS)))
    scaled = logits / jnp.asarray([0.5, 0.5, 2.0, 2.0])
    expected = jnp.exp(path_sum(TREE, log_normalise_tasks(TREE, scaled)))
    np.testing.assert_allclose(predict(vectors, VECTORS).node_probs, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="temperatures: got .* expected 2 positive numbers"):
        save_model("unused", vectors._replace(temperatures=(1.0,)))


def test_settings_are_kept_and_the_state_of_the_loss_is_not(vectors, tmp_path):
    params = {**vectors.params, "loss": {"step": jnp.float32(3)}}
    save_model(tmp_path / "m", vectors._replace(params=params))
    assert sorted(load_model(tmp_path / "m").params) == ["encoder", "tower"]
    record = checkpoint.load_metadata(tmp_path / "m")
    assert record["inputs"]["widths"] == [4, 3]
    assert record["task_tree"] == TREE.to_dict()


def test_replaced_in_one_step(vectors, tmp_path):
    folder = tmp_path / "m"
    save_model(folder, vectors)
    save_model(folder, vectors._replace(temperatures=None))
    assert load_model(folder).temperatures is None
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    folder.rename(tmp_path / "m.old")  # as a crash between the two renames leaves it
    assert load_model(folder).temperatures is None


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"a": {"x": {"b": ["u", "w"]}, "y": None}}, r"'b': saved labels \['u', 'v'\] under a=x"),
        ({"a": ["x", "y"]}, "'b': saved .*, expected nothing"),
        ({"a": {"x": None, "y": {"b": ["u", "v"]}}}, "'b': .* under a=x, .* under a=y"),
    ],
)
def test_another_tree_is_named(vectors, tmp_path, tree, message):
    save_model(tmp_path / "m", vectors)
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path / "m", TaskTree.from_dict(tree))


def test_what_is_no_model_is_refused(vectors, tmp_path, monkeypatch):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ValueError, match="something else than a model"):
        save_model(tmp_path, vectors)
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ValueError, match="no model of a network there"):
            load_model(folder)
    checkpoint.save(tmp_path / "params", {"w": jnp.zeros(2)})
    with pytest.raises(ValueError, match="not a model of a network"):
        load_model(tmp_path / "params")
    monkeypatch.setattr(model_files, "_SCHEMA", 99)
    save_model(tmp_path / "new", vectors)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="got schema 99, expected 1"):
        load_model(tmp_path / "new")


def test_parameters_must_fit(vectors, tmp_path):
    with pytest.raises(
        ValueError, match=r"params: tower\.heads_1\.kernel: got .*\[1, 4, 2\], exp.*\[1, 3, 2\]"
    ):
        save_model(tmp_path / "m", vectors._replace(config=NetworkConfig((5, 3), attach="top")))
    save_model(tmp_path / "m", vectors)
    record = checkpoint.load_metadata(tmp_path / "m")
    record["network"]["widths"] = [5]
    checkpoint.save(tmp_path / "m", vectors.params, record, overwrite=True)
    with pytest.raises(
        ValueError, match=r"heads_0.kernel: saved float32\[1, 3, 2\], expected .*\[1, 5, 2\]"
    ):
        load_model(tmp_path / "m")
    del record["inputs"]["standardisation"]
    checkpoint.save(tmp_path / "m", vectors.params, record, overwrite=True)
    with pytest.raises(ValueError, match="the model's record is damaged: .*standardisation"):
        load_model(tmp_path / "m")


@pytest.mark.parametrize(
    ("kind", "items", "message"),
    [
        ("features", [[1.0, 2.0, 3.0], [1.0, np.nan, 3.0]], "row 1, feature 1 is not finite"),
        ("features", [[1.0, 2.0]], "got 2 features, expected 3"),
        ("embeddings", np.zeros((2, 4)), "got 4 features, expected 3"),
        ("embeddings", ["text"], "expected numbers"),
        ("bag", ["red", None], "item 1 is NoneType, expected a string"),
        ("lstm", "red", "got one string"),
    ],
)
def test_bad_items_are_named(kind, items, message):
    with pytest.raises(ValueError, match=message):
        fit_inputs(kind, ITEMS[kind]).encode(items)


def test_unknown_kind():
    with pytest.raises(ValueError, match="kind: got 'cnn', expected one of"):
        fit_inputs("cnn", TEXTS)


def test_predictions_are_judged_as_the_network_is(vectors):
    gold = [TREE.node("b", "u"), TREE.node("a", "y"), -1, TREE.node("a", "x"), TREE.node("b", "v")]
    predictions = predict(vectors, VECTORS, batch_size=2)
    found = evaluate_model(vectors, predictions, gold)
    inputs = vectors.inputs.encode(VECTORS)
    network, temperatures = vectors.network, np.array(vectors.temperatures)
    expected = evaluate(network, vectors.params, inputs, gold, temperatures=temperatures)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), found, expected)


def test_no_items_are_judged_by_nothing(vectors):
    found = evaluate_model(vectors, predict(vectors, VECTORS[:0]), np.zeros(0, int))
    assert found.path.num_items == 0
    assert np.isnan(found.path.accuracy)
