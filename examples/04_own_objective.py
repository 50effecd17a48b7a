"""Your own objective, in your own Optax loop, with gradients through the label model.

    python examples/04_own_objective.py

Everything in this library is a pure function of arrays, so a label model is not a black box with a
`fit` method but a term of a loss. Here MeTaL's overlap objective is minimised together with a term
of our own: forty items have gold labels, and their likelihood under the model's posterior counts
too. Nothing had to be subclassed. The gradient runs through the posterior.

The votes are simulated: three classes, and LFs that share the habit of taking the third class for
the second. Overlaps alone cannot tell such a habit from the truth (for three or more classes the
objective has a whole family of minima); a few gold labels can.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metal_jax import label_model, labeling
from metal_jax.task_tree import TaskTree

TREE = TaskTree.single(3)
NUM_ITEMS, NUM_LFS, NUM_GOLD = 5_000, 12, 40
HABIT = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.05, 0.5, 0.45]])  # P(vote | class), by rows


def simulate(seed=0):
    """Votes int[n, m] with abstains, and the truth int[n]."""
    random = np.random.default_rng(seed)
    truth = random.integers(3, size=NUM_ITEMS)
    votes = (random.random((NUM_ITEMS, NUM_LFS, 1)) > HABIT.cumsum(1)[truth][:, None]).sum(-1)
    return np.where(random.random(votes.shape) < 0.6, votes, -1), truth


def main():
    """Fit twice, without and with the gold term."""
    votes, truth = simulate()
    statistics = labeling.overlap_statistics(votes)
    columns = statistics.columns
    balance = jnp.full(3, 1 / 3)
    overlaps = jnp.asarray(statistics.counts / statistics.num_items, jnp.float32)
    prior = label_model.prior_conditional_rates(overlaps.diagonal(), balance, columns, TREE)
    other_lf = jnp.asarray(columns.lf[:, None] != columns.lf, jnp.float32)
    pull = jnp.full(len(prior), 1e-3)

    def posterior(rates, votes):
        tables = label_model.rates_to_tables(rates, balance, columns, TREE, ignore_abstains=True)
        return label_model.log_posterior(tables, votes, columns, TREE)

    def loss(rates, gold_weight):
        overlap = label_model.overlap_objective(rates, overlaps, balance, other_lf, prior, pull)
        gold = posterior(rates, votes[:NUM_GOLD])[jnp.arange(NUM_GOLD), truth[:NUM_GOLD]]
        return overlap - gold_weight * gold.mean()

    optimiser = optax.adam(3e-3)

    @jax.jit
    def fit(gold_weight):
        def step(state, _):
            rates, opt_state = state
            value, gradient = jax.value_and_grad(loss)(rates, gold_weight)
            updates, opt_state = optimiser.update(gradient, opt_state)
            return (optax.apply_updates(rates, updates), opt_state), value

        start = jnp.asarray(prior, jnp.float32)
        (rates, _), values = jax.lax.scan(step, (start, optimiser.init(start)), length=2_000)
        return rates, values

    for gold_weight in (0.0, 0.3):
        rates, values = fit(gold_weight)
        right = posterior(rates, votes[NUM_GOLD:]).argmax(1) == truth[NUM_GOLD:]
        print(f"gold weight {gold_weight}: loss {values[-1]:.4f}, accuracy {right.mean():.3f}")


if __name__ == "__main__":
    main()
