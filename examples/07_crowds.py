"""Crowds: many workers, each of whom saw a few items.

    python examples/07_crowds.py

A worker is a labelling function that was never asked about most items, which is not the same as
abstaining. Crowd platforms export lines of (item, worker, label); `from_triples` makes a label
matrix of them in which "never asked" is -2. The classical models are all here under one interface:
Dawid-Skene has a confusion matrix for each worker, GLAD an ability for each worker and a difficulty
for each item, MACE a probability that a worker guesses.

The answers are simulated: 40 workers, of whom ten are spammers who always give the same answer, 600
items, 5 answers each.
"""

import jax
import numpy as np

from metal_jax import label_model, labeling
from metal_jax.task_tree import TaskTree

LABELS = ["cat", "dog", "fox"]


def answers(seed=0):
    """Triples (item, worker, label), and the truth by item."""
    random = np.random.default_rng(seed)
    truth = random.integers(3, size=600)
    skill = random.uniform(0.5, 0.9, size=40)
    triples = []
    for item, true in enumerate(truth):
        for worker in random.choice(40, size=5, replace=False):
            if worker < 10:
                label = worker % 3  # a spammer
            elif random.random() < skill[worker]:
                label = true
            else:
                label = random.integers(3)
            triples.append((f"photo {item}", f"worker {worker}", LABELS[label]))
    return triples, {f"photo {item}": int(true) for item, true in enumerate(truth)}


def main():
    """Read the triples, compare the models."""
    triples, truth = answers()
    tree = TaskTree.single(LABELS)
    named = labeling.from_triples(triples, tree)
    votes = named.votes
    gold = np.array([truth[item] for item in named.items])
    asked = (votes != labeling.NOT_ASKED).sum(axis=0)
    print(f"{votes.shape[0]} items, {votes.shape[1]} workers, {asked.mean():.0f} answers each")

    results = {
        "default": label_model.fit(votes, tree),
        "Dawid-Skene": label_model.fit_dawid_skene(votes, tree),
        "GLAD": label_model.fit_glad(votes, tree),
        "MACE": label_model.fit_mace(votes, tree, key=jax.random.key(0)),
    }
    majority = np.asarray(label_model.majority_vote(votes, tree)).argmax(axis=1)
    print(f"{'majority vote':<14} {np.mean(majority == gold):.3f}")
    for name, result in results.items():
        labels = np.asarray(label_model.posterior(result, votes)).argmax(axis=1)
        print(f"{name:<14} {np.mean(labels == gold):.3f}")

    trust = np.asarray(label_model.lf_accuracy(results["default"]))
    worst = [named.workers[j] for j in np.argsort(trust)[:10]]
    print("least trusted:", ", ".join(sorted(worst, key=lambda name: int(name.split()[1]))))


if __name__ == "__main__":
    main()
