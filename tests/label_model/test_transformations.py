"""The EM kernels under sharding and vmap."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from metal_jax._core.sharding import data_mesh
from metal_jax.label_model import ConditionalTables, dirichlet_prior, e_step, m_step, vote_data
from metal_jax.label_model._incidence import spread_incidence
from metal_jax.labeling import used_columns
from metal_jax.task_tree import TaskTree

TREE = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
VOTES = np.random.default_rng(0).integers(-1, TREE.num_nodes, (160, 6))
COLUMNS = used_columns(VOTES)
DATA = vote_data(VOTES, COLUMNS)
PRIOR = jax.tree.map(
    lambda x: jnp.asarray(x, jnp.float32),
    dirichlet_prior(COLUMNS, TREE, np.full(6, 0.2), accuracy=0.7, votes=2.0, balance_items=1.0),
)
LOG_Q = jax.nn.log_softmax(jax.random.normal(jax.random.key(0), (160, TREE.num_leaves)))


@jax.jit
def iterate(log_q, data):
    """Three EM iterations."""
    for _ in range(3):
        tables = m_step(log_q, data, PRIOR, TREE)
        log_q, evidence = e_step(tables, data, TREE)
    return log_q, tables, evidence


def assert_close(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one, other)


def test_items_spread_over_eight_devices_give_the_same_tables():
    mesh = data_mesh(8)
    spread = NamedSharding(mesh, PartitionSpec("data"))
    data = DATA._replace(votes=spread_incidence(DATA.votes, DATA.votes.num_items, mesh))
    log_q, tables, evidence = iterate(jax.device_put(LOG_Q, spread), data)
    assert len(log_q.sharding.device_set) == 8
    assert_close((log_q, tables, evidence), iterate(LOG_Q, DATA))


def test_vmap_over_item_weights_is_a_loop():
    weights = jax.random.exponential(jax.random.key(1), (3, 160))

    def fit(weight):
        return iterate(LOG_Q, DATA._replace(weight=weight))[1]

    together = jax.vmap(fit)(weights)
    assert isinstance(together, ConditionalTables)
    for i, weight in enumerate(weights):
        assert_close(jax.tree.map(lambda x, i=i: x[i], together), fit(weight))


def test_gradients_pass_through_a_posterior():
    def confidence(log_vote):
        tables = m_step(LOG_Q, DATA, PRIOR, TREE)._replace(log_vote=log_vote)
        return jnp.sum(jnp.exp(e_step(tables, DATA, TREE)[0]) ** 2)

    log_vote = m_step(LOG_Q, DATA, PRIOR, TREE).log_vote
    step = 1e-2
    direction = jax.random.normal(jax.random.key(2), log_vote.shape)
    slope = jnp.vdot(jax.grad(confidence)(log_vote), direction)
    change = confidence(log_vote + step * direction) - confidence(log_vote - step * direction)
    np.testing.assert_allclose(change / (2 * step), slope, rtol=0.02)
