"""The hand-written labelling functions of the standard library's docstrings."""

import sys

import numpy as np
import pytest

from metal_jax.datasets import load_stdlib_docs
from metal_jax.datasets._stdlib_texts import MODULE_MASK
from metal_jax.labeling import apply, summarise_lfs, validate
from metal_jax.reproduce._stdlib_lfs import STDLIB_LFS


@pytest.fixture(scope="module")
def dataset():
    return load_stdlib_docs()


@pytest.fixture(scope="module")
def votes(dataset):
    """The votes on the unlabelled and the small hand-labelled texts; no others are looked at."""

    def of(split):
        items = [dataset.items[row] for row in dataset.splits[split]]
        return np.asarray(apply(STDLIB_LFS, items, dataset.tree).votes)

    return {split: of(split) for split in ("train", "small")}


def test_number_and_names():
    names = [lf.name for lf in STDLIB_LFS]
    assert 40 <= len(names) <= 80
    assert len(set(names)) == len(names)
    assert all(name.startswith("docs_") for name in names)


def test_votes_are_nodes_of_each_functions_task(dataset, votes):
    validate(votes["train"], dataset.tree, lf_names=[lf.name for lf in STDLIB_LFS])
    for lf, column in zip(STDLIB_LFS, votes["train"].T, strict=True):
        voted = np.unique(column[column >= 0])
        assert len(voted), lf.name
        own = dataset.tree.node_task[voted] == dataset.tree.task_index(lf.task)
        assert own.all() or lf.task == "chapter", lf.name


def test_every_chapter_and_module_is_voted_for(dataset, votes):
    assert set(range(dataset.tree.num_nodes)) <= set(np.unique(votes["train"]))


def test_most_texts_are_covered_about_twice(votes):
    number = (votes["train"] >= 0).sum(axis=1)
    assert (number > 0).mean() >= 0.75
    assert number[number > 0].mean() >= 2.0


def test_better_than_chance_where_it_can_be_judged(dataset, votes):
    tree, gold = dataset.tree, dataset.gold[dataset.splits["small"]]
    leaves = gold[:, None] == tree.leaf_nodes  # gold nodes are leaves
    share = tree.covers @ leaves.mean(axis=0)
    table = summarise_lfs(votes["small"], tree, gold=gold)
    judged = [j for j, row in enumerate(table) if row.num_correct + row.num_incorrect >= 10]
    # They were written on the texts of Python 3.11; other versions have other texts.
    on_own_texts = sys.version_info[:2] == (3, 11)
    for j in judged:
        column = votes["small"][:, j]
        least = 0.4 if on_own_texts else 1.5 * share[column[column >= 0]].mean()
        assert table[j].accuracy >= least, table[j].name
    assert (0.7 if on_own_texts else 0.6) <= np.median([table[j].accuracy for j in judged]) <= 0.95


def test_masked_name_is_not_looked_at(dataset):
    items = [dataset.items[row] for row in dataset.splits["small"][:200]]
    bare = [{**item, "doc": item["doc"].replace(MODULE_MASK, "")} for item in items]
    np.testing.assert_array_equal(
        apply(STDLIB_LFS, items, dataset.tree).votes, apply(STDLIB_LFS, bare, dataset.tree).votes
    )
