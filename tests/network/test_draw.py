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

DRAWING = """\
4 tasks on 2 levels, 9 label nodes, 7 leaf states

                         labels  reads                                           kernel   parameters
encoder                          inputs                                                            0
└─ trunk 0                       encoder (5)                                     5 x 8            48
   ├─ b                       2  trunk 0 (8), dropout 0.2, a probabilities (2)   10 x 2           22
   └─ trunk 1                    trunk 0 (8)                                     8 x 4            36
      ├─ a                    2  trunk 1 (4), encoder (5)                        9 x 2            20
      ├─ d                    2  trunk 1 (4), encoder (5), own encoder (3)       12 x 2           26
      │  └─ own encoder          inputs                                                           15
      ├─ c                    3  trunk 1 (4), encoder (5)                        9 x 3            30
      └─ trunk 2                 trunk 1 (4), feeds no head                      4 x 4            20
padding                                                                                           23
total                                                                                            240
"""


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
    assert draw(network, inputs) + "\n" == DRAWING


def test_rows_add_up_to_the_total():
    bag = hashed_ngrams(["some words"], num_features=100)
    network = build(TREE, embedding_bag(100, 7), NetworkConfig((8, 4)))
    rows = [line.split() for line in draw(network, bag).splitlines()[3:]]
    numbers = [int(row[-1].replace(",", "")) for row in rows]
    shapes = jax.eval_shape(network.init, jax.random.key(0), bag)
    assert numbers[-1] == sum(numbers[:-1]) == sum(x.size for x in jax.tree.leaves(shapes))
