"""Drawings of networks."""

import jax
import jax.numpy as jnp

from metal_jax.network import (
    Encoder,
    NetworkConfig,
    TaskConfig,
    build,
    draw,
    embedding_bag,
    hashed_ngrams,
)
from metal_jax.task_tree import TaskTree

IDENTITY = Encoder(lambda key, inputs: {}, lambda params, inputs, key: inputs)
LINEAR = Encoder(
    lambda key, inputs: {"w": jnp.zeros((inputs.shape[1], 3))},
    lambda params, inputs, key: inputs @ params["w"],
)
TREE = TaskTree.from_dict(
    {"a": {"x": {"b": ["u", "v"]}, "y": {"c": ["i", "j", "k"]}}, "d": ["m", "n"]}
)


def test_what_is_drawn():
    config = NetworkConfig(
        (8, 4),
        num_layers=3,
        tasks={
            "b": TaskConfig(layer=0, wide=False, dropout=0.2, pass_parent="probabilities"),
            "c": TaskConfig(layer=1, pass_parent="none"),
        },
    )
    network = build(TREE, IDENTITY, config, task_encoders={"d": LINEAR})
    inputs = jax.ShapeDtypeStruct((2, 5), jnp.float32)
    lines = [line.rstrip() for line in draw(network, inputs).splitlines()]
    assert lines == [
        "4 tasks on 2 levels, 9 label nodes, 7 leaf states",
        "",
        "                       labels  reads"
        "                                             kernel   parameters",
    ], "\n".join(lines)


def test_rows_add_up_to_the_total():
    bag = hashed_ngrams(["some words"], num_features=100)
    network = build(TREE, embedding_bag(100, 7), NetworkConfig((8, 4)))
    rows = [line.split() for line in draw(network, bag).splitlines()[3:]]
    numbers = [int(row[-1].replace(",", "")) for row in rows]
    shapes = jax.eval_shape(network.init, jax.random.key(0), bag)
    assert numbers[-1] == sum(numbers[:-1]) == sum(x.size for x in jax.tree.leaves(shapes))
