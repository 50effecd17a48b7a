import json
import time

import pytest

from metal_jax.exhaust import (
    Graph,
    Layer,
    Run,
    live,
    num_layers,
    read_architecture,
    read_cell_string,
    read_keras_model,
    read_layer_list,
    read_layer_string,
    read_recurrent_cell,
    read_torch_text,
    unknown_layers,
)

NESTED = """Net(
  (features): Sequential(
    (0): Conv2d(3, 32, kernel_size=(3, 3), stride=(1, 1), padding=same, bias=False)
    (1): LayerNorm((512,), eps=1e-05, elementwise_affine=True)
  )
  (blocks): ModuleList(
    (0-1): 2 x Block(
      (attention): MultiheadAttention(
        (out_proj): NonDynamicallyQuantizableLinear(in_features=16, out_features=16, bias=True)
      )
      (dropout): Dropout(p=0.1, inplace=False)
    )
  )
  (act): GELU(approximate='none')
  (lstm): LSTM(10, 20, num_layers=2)
)"""


def test_torch_text_of_any_nesting():
    found = read_torch_text(NESTED)
    assert [layer.name for layer in found] == [
        "features.0",
        "features.1",
        *["blocks.0-1.attention.out_proj", "blocks.0-1.dropout"] * 2,
        "act",
        "lstm",
    ]
    assert found[0].hyperparameters == {
        "in_channels": 3,
        "out_channels": 32,
        "kernel_size": [3, 3],
        "stride": [1, 1],
        "padding": "same",
        "bias": False,
    }
    assert found[1].hyperparameters["normalized_shape"] == [512]
    assert found[-1].hyperparameters == {"input_size": 10, "hidden_size": 20, "num_layers": 2}
    assert read_torch_text(" ".join(NESTED.split())) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "character 0, expected a module"),
        ("Sequential(", "ends at character 11"),
        ("Sequential( (0): ReLU()", "ends at"),
        ("Seq( (0): ReLU() ) rest", "expected the end"),
        ("A(x=1, x=2)", "given twice"),
        ("A(=)", "expected a value"),
        ("A(f=<function relu at 0x7f>)", "expected a value"),
        ("A(" + "(0): A(" * 100_000, "nested more than"),
        ("A(x=" + "(" * 100_000, "nested more than"),
        ("999999 x A()", "more than"),
        ("A( (0): 999 x B( (0): 999 x C()))", "more than"),
    ],
)
def test_torch_text_says_what_is_wrong(text, message):
    start = time.monotonic()
    with pytest.raises(ValueError, match=message):
        read_torch_text(text)
    assert time.monotonic() - start < 5


def test_layer_strings():
    found = read_layer_string("[C(64,3,1), D(1,4), ZZ(1,2.5), SM(10)]")
    assert [layer.type for layer in found] == ["conv", "dropout", "ZZ", "softmax"]
    assert found[1].hyperparameters == {"index": 1, "total": 4, "rate": 0.125}
    assert found[2].hyperparameters == {"0": 1, "1": 2.5}
    for bad in ("", "C(64,3)", "C(64,3,1", "C(64,3,1) junk P(2,2)", "C(a,b,c)"):
        with pytest.raises(ValueError, match=r"expected|got"):
            read_layer_string(bad)


def test_cells():
    cell = read_cell_string("|a~0|+|none~0|skip_connect~1|+|a~0|b~1|none~2|")
    assert [(e.source, e.target, e.layer.type) for e in cell.edges if e.layer][:2] == [
        (0, 1, "a"),
        (0, 2, "none"),
    ]
    assert cell.fixed
    assert len(cell.nodes) == 4
    assert num_layers(read_cell_string("|nor_conv_1x1~0|+|none~0|avg_pool_3x3~1|")) == 1
    for bad in ("", "|a~0", "|a~1|", "|a~0|+|a~0|a~0|", "|a|", "a~0"):
        with pytest.raises(ValueError, match="node"):
            read_cell_string(bad)


def test_dead_edges():
    # Node 2 leads nowhere; node 1 is fed only through node 0.
    cell = read_cell_string("|a~0|+|b~0|c~1|+|none~0|d~1|none~2|")
    assert [edge.layer.type for edge in live(cell).edges if edge.layer] == [
        "a",
        "none",
        "none",
        "none",
        "d",
        "none",
    ]
    dead = live(read_cell_string("|none~0|+|b~0|none~1|+|none~0|d~1|none~2|"))
    assert {edge.layer.type for edge in dead.edges if edge.layer} == {"none"}


def test_recurrent_cells():
    text = json.dumps(
        {
            "f": {"op": "linear", "input": ["x", "h_prev_0"]},
            "h_new_0": {"op": "activation_tanh", "input": ["f"]},
        }
    )
    cell = read_recurrent_cell(text)
    assert [node.name for node in cell.nodes] == ["h_prev_0", "x", "f", "h_new_0"]
    assert cell.nodes[3].hyperparameters == {"output": "h_new_0"}
    assert num_layers(cell) == 1
    loop = {"a": {"op": "sum", "input": ["b"]}, "b": {"op": "sum", "input": ["a"]}}
    for bad in (loop, {"a": {"op": "sum", "input": ["nowhere"]}}, {"a": 3}, {}, [1]):
        with pytest.raises(ValueError, match=r"cycle|expected"):
            read_recurrent_cell(json.dumps(bad))


def test_layer_lists():
    assert read_layer_list('[{"width": 3}]', type="conv") == (Layer("conv", {"width": 3}),)
    for bad in ("{}", '[{"width": 3}]', "[3]", "[" * 1000):
        with pytest.raises(ValueError, match=r"expected|nested"):
            read_layer_list(bad)


def keras(layers, kind="Functional"):
    return json.dumps({"class_name": kind, "config": {"name": "m", "layers": layers}})


def keras_layer(name, kind, *sources, version=2, **config):
    if version == 2:
        inbound = [[[source, 0, 0, {}] for source in sources]] if sources else []
    else:
        tensors = [
            {"class_name": "__keras_tensor__", "config": {"keras_history": [source, 0, 0]}}
            for source in sources
        ]
        for tensor in tensors:
            tensor["keras_history"] = tensor["config"]["keras_history"]
        inbound = [{"args": [tensors], "kwargs": {}}] if sources else []
    return {
        "class_name": kind,
        "config": {"name": name, **config},
        "name": name,
        "inbound_nodes": inbound,
    }


@pytest.mark.parametrize("version", [2, 3])
def test_keras_functional(version):
    chain = [
        keras_layer("i", "InputLayer", version=version),
        keras_layer("d", "Dense", "i", version=version, units=3),
    ]
    assert read_keras_model(keras(chain))[1] == Layer("Dense", {"units": 3}, "d")
    branch = [
        *chain,
        keras_layer("e", "Dense", "i", version=version, units=4),
        keras_layer("a", "Add", "d", "e", version=version),
    ]
    graph = read_keras_model(keras(branch))
    assert isinstance(graph, Graph)
    assert sorted((e.source, e.target) for e in graph.edges) == [(0, 1), (0, 2), (1, 3), (2, 3)]


def test_keras_sequential_and_nested():
    inner = {
        "class_name": "Sequential",
        "config": {
            "name": "inner",
            "layers": [{"class_name": "Dense", "config": {"name": "d", "units": 3}}],
        },
    }
    text = keras([inner, {"class_name": "Mystery", "config": {}}], "Sequential")
    found = read_keras_model(text)
    assert [layer.name for layer in found] == ["inner/d", ""]
    assert unknown_layers([Run("a", found), Run("b", found)]) == {"Mystery": 2}
    for bad in ("3", "{}", "[]x", keras([3]), keras([{"config": {}}]), "[" * 10_000):
        with pytest.raises(ValueError, match=r"expected|nested|Extra"):
            read_keras_model(bad)


def test_notations_by_name():
    assert read_architecture("C(8,3,1)", "layer_string")[0].type == "conv"
    with pytest.raises(ValueError, match="notation"):
        read_architecture("C(8,3,1)", "morse")
