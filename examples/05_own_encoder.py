"""Your own encoder under the compiled network.

    python examples/05_own_encoder.py

The part of the network that comes from the task tree is trunk and heads. What turns raw inputs into
features is an `Encoder`, a pair of pure functions, and yours is as good as the library's: here one
layer of self-attention over hashed words, in plain JAX, without any module library. A Flax module
becomes an encoder by `network.from_module`.

The items are docstrings of the standard library and the soft labels come from 80 labelling
functions by the label model, so no gold label is used but for the last line.
"""

import jax
import jax.numpy as jnp
import numpy as np

from metal_jax import label_model, network, reproduce

NUM_BUCKETS, NUM_WORDS, WIDTH = 4096, 24, 32


def word_ids(texts):
    """int32[n, words]: the first words of each text as buckets from 1, 0 is padding."""
    bags = network.hashed_ngrams(texts, num_features=NUM_BUCKETS - 1)
    ids = np.where(bags.weights > 0, bags.ids + 1, 0)
    return np.pad(ids, ((0, 0), (0, NUM_WORDS)))[:, :NUM_WORDS].astype(np.int32)


def init(key, ids):
    """Parameters: any pytree of arrays."""
    del ids
    table, query, value = jax.random.split(key, 3)
    return {
        "table": 0.1 * jax.random.normal(table, (NUM_BUCKETS, WIDTH)),
        "query": jax.random.normal(query, (WIDTH, WIDTH)) / WIDTH**0.5,
        "value": jax.random.normal(value, (WIDTH, WIDTH)) / WIDTH**0.5,
    }


def apply(params, ids, key):
    """float[b, features]; the key is for dropout, None when predicting."""
    del key
    words = params["table"][ids]
    here = (ids > 0)[:, None, :]
    scores = jnp.einsum("bqh,hi,bki->bqk", words, params["query"], words) / WIDTH**0.5
    attention = jax.nn.softmax(jnp.where(here, scores, -1e9), axis=-1)
    mixed = words + jax.nn.gelu(attention @ words @ params["value"])
    return jnp.sum(mixed * (ids > 0)[..., None], axis=1) / jnp.sqrt(NUM_WORDS)


ENCODER = network.Encoder(init, apply)


def main():
    """Train on soft labels, judge on gold."""
    problem = reproduce.stdlib_docs()
    dataset, votes = problem.dataset, problem.votes
    train = dataset.splits["train"][(votes[dataset.splits["train"]] >= 0).any(axis=1)]
    soft = label_model.posterior(label_model.fit(votes[train], dataset.tree), votes[train])
    ids = word_ids([item["text"] for item in dataset.items])

    net = network.build(dataset.tree, ENCODER)
    print(network.draw(net, ids[:1]))
    cut = len(train) // 10  # held out, to stop by
    examples, held_out = (
        network.Examples(ids[train[part]], soft[part]) for part in (slice(cut, None), slice(cut))
    )
    fitted = network.fit(net, examples, held_out, key=jax.random.key(0))
    test = dataset.splits["valid"]
    found = network.evaluate(net, fitted.params, ids[test], dataset.gold[test])
    print(f"chapter right: {found.levels.accuracy[0]:.1%}, module: {found.levels.accuracy[1]:.1%}")


if __name__ == "__main__":
    main()
