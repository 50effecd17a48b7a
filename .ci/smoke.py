"""The installed package at work, in a folder that is not the checkout.

Leaves behind votes.csv, for the command line, and a line of versions.
"""

import platform
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np

import metal_jax
from metal_jax import datasets, label_model, labeling, network, task_tree

assert "site-packages" in metal_jax.__file__, f"not the installed package: {metal_jax.__file__}"
names = ("metal-jax", "jax", "flax", "optax", "orbax-checkpoint", "numpy")
versions = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in names)]
Path("versions").write_text(", ".join(versions))

tree = task_tree.TaskTree.from_dict(
    {"topic": {"sport": {"game": ["ball", "board"]}, "trade": None}}
)
data = labeling.synthetic_votes(jax.random.key(0), 500, 8, tree)
result = label_model.fit(data.votes, tree)
probs = np.asarray(label_model.posterior(result, data.votes))
assert (probs.argmax(1) == data.leaves).mean() > 0.6
assert len(datasets.load_fashion_runs()) == 800

features = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
net = network.build(tree, network.mlp((8,)))
examples = network.Examples(features, probs)
config = network.FitConfig(training=network.TrainingConfig(num_steps=2))
network.fit(net, examples, examples, config=config, key=jax.random.key(0))

rows = [f"{i},lf {j},{tree.node_names[v][1]}" for (i, j), v in np.ndenumerate(data.votes) if v >= 0]
Path("votes.csv").write_text("\n".join(["item,worker,label", *rows]) + "\n")
