"""A multi-task network on the embeddings of a pretrained sentence model.

    pip install 'metal-jax[text]'
    python examples/sentence_embeddings.py

The problem is the library's embedded one: docstrings of Python's standard library, to be sorted
into chapters and, within a chapter, into modules: a tree of twelve tasks. No gold label is used for
training. Eighty labelling functions vote, the label model turns their votes into soft labels, and a
network compiled from the tree learns from those, once on a bag of words and once on the 384 numbers
that a sentence model gives for each text. The sentence model has read a large part of the web: it
knows that "archive" and "tarball" are related, which 500 docstrings do not tell.

A sentence model is slow on a processor, so each text is embedded once, cut to its first 200
characters, before training. What trains afterwards is small: the embeddings pass through dropout
into the shared trunk and the heads. The last line is the accuracy on the validation items, averaged
over the tasks.
"""

import time

import jax
import numpy as np

from metal_jax import label_model, network, reproduce

NUM_TRAIN = 500
NUM_CHARACTERS = 200


def take(inputs, rows):
    """The rows of every array."""
    return jax.tree.map(lambda x: x[rows], inputs)


def accuracy(name, problem, inputs, encoder, config, probs, train, valid):
    """Train on soft labels of `train` items, print the accuracy on `valid` ones."""
    start = time.perf_counter()
    net = network.build(problem.dataset.tree, encoder)
    cut = len(train) // 5  # held out, to stop by: soft labels serve
    examples, held_out = (
        network.Examples(take(inputs, train[part]), probs[part])
        for part in (slice(cut, None), slice(cut))
    )
    params = network.fit(net, examples, held_out, config, key=jax.random.key(0)).params
    leaf_probs = np.exp(network.leaf_log_probs(net, params, take(inputs, valid)))
    scores = reproduce.score(problem.dataset, leaf_probs, valid)
    seconds = time.perf_counter() - start
    print(f"{name}: {scores['mean over tasks']:.3f} mean over tasks, {seconds:.0f} s")


def main():
    """Embed, train and compare."""
    problem = reproduce.stdlib_docs()
    dataset = problem.dataset
    covered = (problem.votes[dataset.splits["train"]] >= 0).any(axis=1)
    train = dataset.splits["train"][covered][:NUM_TRAIN]
    valid = dataset.splits["valid"]
    votes = problem.votes[train]
    probs = np.asarray(label_model.posterior(label_model.fit(votes, dataset.tree), votes))

    texts = [item["text"][:NUM_CHARACTERS] for item in dataset.items]
    used = np.concatenate([train, valid])
    start = time.perf_counter()
    embedded = np.zeros((len(texts), 384), np.float32)
    embedded[used] = network.sentence_embeddings([texts[i] for i in used])
    print(f"embedded {len(used)} texts in {time.perf_counter() - start:.0f} s")

    bag = network.hashed_ngrams(texts)
    vocabulary = network.fit_vocabulary(take(bag, train))
    words = network.select_features(bag, vocabulary)
    encoder = network.embedding_bag(len(vocabulary.ids))
    arguments = probs, train, valid
    accuracy("bag of words", problem, words, encoder, network.FitConfig(), *arguments)
    config = network.FitConfig(network.OptimiserConfig(learning_rate=1e-2, weight_decay=1e-2))
    encoder = network.precomputed(dropout=0.2)
    accuracy("sentence embeddings", problem, embedded, encoder, config, *arguments)


if __name__ == "__main__":
    main()
