"""The same answers on any number of devices: counts exactly, parameters to tolerance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from metal_jax._core.sharding import data_mesh, split_wide, training_mesh
from metal_jax.label_model import fit, fit_dawid_skene, posterior
from metal_jax.labeling import overlap_statistics, synthetic_votes
from metal_jax.network import Encoder, Examples, FitConfig, NetworkConfig, TrainingConfig, build
from metal_jax.network import fit as fit_network
from metal_jax.task_tree import TaskTree

TREE = TaskTree.single(3)
IDENTITY = Encoder(lambda key, x: {}, lambda params, x, key: x)


@pytest.fixture(scope="module")
def votes():
    data = synthetic_votes(jax.random.key(0), 501, 6, TREE)
    votes = np.array(data.votes, np.int8)
    votes[:, 5] = np.where(votes[:, 5] == 1, 1, -1)
    votes[7, 2] = -2  # never asked
    return votes


def mesh(**sizes):
    shape = tuple(sizes.values())
    devices = jax.devices()[: np.prod(shape)]
    return jax.make_mesh(
        shape, tuple(sizes), axis_types=(AxisType.Auto,) * len(shape), devices=devices
    )


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_counts_are_equal_on_any_number_of_devices(votes, size):
    expected = overlap_statistics(votes)
    found = overlap_statistics(votes, mesh=data_mesh(size))
    np.testing.assert_array_equal(found.counts, expected.counts)


@pytest.mark.parametrize(
    ("family", "size"),
    [
        (fit_dawid_skene, 4),
        pytest.param(fit_dawid_skene, 2, marks=pytest.mark.slow),
        pytest.param(fit_dawid_skene, 8, marks=pytest.mark.slow),
        pytest.param(fit, 2, marks=pytest.mark.slow),
        pytest.param(fit, 4, marks=pytest.mark.slow),
        pytest.param(fit, 8, marks=pytest.mark.slow),
    ],
)
def test_fits_are_equal_on_any_number_of_devices(votes, family, size):
    gold = np.where(np.arange(501) < 9, np.arange(501) % 3, -1)
    one, many = (family(votes, TREE, gold=gold, mesh=m) for m in (None, data_mesh(size)))
    assert abs(many.num_steps - one.num_steps) <= 1  # rounding may tip the last step
    for x, y in zip(jax.tree.leaves(one.params), jax.tree.leaves(many.params), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=2e-4)
    spread = posterior(many, votes, mesh=data_mesh(size))
    np.testing.assert_allclose(spread, posterior(one, votes), atol=3e-4)


def wide_network(mesh):
    tree = TaskTree.single(512)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 8)).astype(np.float32)
    soft = rng.dirichlet(np.ones(512), 64).astype(np.float32)
    training = TrainingConfig(batch_size=32, num_steps=6, steps_per_chunk=3)
    config = FitConfig(training=training)
    net = build(tree, IDENTITY, NetworkConfig(widths=(16,)))
    data = Examples(x, soft)
    return fit_network(net, data, data, config, key=jax.random.key(0), mesh=mesh)


@pytest.mark.slow
def test_wide_heads_are_spread_over_the_model_axis():
    one, many = wide_network(None), wide_network(mesh(data=2, model=2))
    for x, y in zip(jax.tree.leaves(one.params), jax.tree.leaves(many.params), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5)
    np.testing.assert_allclose(one.valid_loss, many.valid_loss, rtol=1e-5)
    kernel = many.params["tower"]["heads_0"]["kernel"]
    assert kernel.shape == (1, 16, 512)
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(1, 16, 256)}


def test_only_wide_arrays_are_split():
    state = {
        "wide": jnp.ones((1, 4, 512)),
        "narrow": jnp.ones((1, 4, 64)),
        "odd": jnp.ones((1, 4, 513)),
    }
    split = split_wide(state, training_mesh(mesh(model=2)))
    shapes = {name: x.addressable_shards[0].data.shape for name, x in split.items()}
    assert shapes == {"wide": (1, 4, 256), "narrow": (1, 4, 64), "odd": (1, 4, 513)}
    with pytest.raises(ValueError, match="got axis 'pipeline', expected some of"):
        training_mesh(mesh(pipeline=2))
