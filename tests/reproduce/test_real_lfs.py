"""The hand-written labelling functions for TREC and OpenI."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metal_jax.datasets import load_openi, load_trec
from metal_jax.labeling import LabelingFunction, apply, validate
from metal_jax.reproduce._openi_lfs import OPENI_LFS
from metal_jax.reproduce._trec_lfs import TREC_LFS


def votes_of(lfs: Sequence[LabelingFunction], text: str) -> dict[str, Any]:
    """The votes that are not abstentions, by the LF's name."""
    return {lf.name: vote for lf in lfs if (vote := lf({"text": text})) != -1}


@pytest.mark.parametrize("lfs", [TREC_LFS, OPENI_LFS])
def test_names_are_unique(lfs: Sequence[LabelingFunction]) -> None:
    assert len({lf.name for lf in lfs}) == len(lfs)


@pytest.mark.parametrize(
    ("question", "task", "label"),
    [
        ("what does xyz stand for ?", "abbr", "exp"),
        ("what is a glumph ?", "desc", "def"),
        ("how do you fold a kite ?", "desc", "manner"),
        ("why are lemons sour ?", "desc", "reason"),
        ("what is the name of the sailor 's dog ?", "enty", "animal"),
        ("name a yellow fruit .", "enty", "food"),
        ("what ship sank first ?", "enty", "veh"),
        ("who painted the barn ?", "hum", "ind"),
        ("who is jo smith ?", "hum", "desc"),
        ("what company sells kites ?", "hum", "gr"),
        ("what country has no rivers ?", "loc", "country"),
        ("where is the barn ?", "loc", "other"),
        ("how many kites are there ?", "num", "count"),
        ("when was the barn built ?", "num", "date"),
    ],
)
def test_made_up_questions(question: str, task: str, label: str) -> None:
    votes = votes_of(TREC_LFS, question)
    tasks = {lf.name: lf.task for lf in TREC_LFS}
    assert {(tasks[name], vote) for name, vote in votes.items()} == {(task, label)}


@pytest.mark.parametrize(
    "question",
    [
        "what dog team won the race ?",  # not an animal: the noun describes another
        "what is a glumph bird of the south ?",  # asks for a definition
    ],
)
def test_nouns_that_are_not_asked_for(question: str) -> None:
    assert "animal" not in votes_of(TREC_LFS, question).values()


def test_denied_findings_do_not_count() -> None:
    report = "FINDINGS: No pneumothorax or effusion. Heart size normal. Lungs are clear."
    assert votes_of(OPENI_LFS, report) == {"openi_normal_no_finding": "normal"}


def test_what_stands_before_a_denial_counts() -> None:
    report = "FINDINGS: Small effusion without pneumothorax."
    assert votes_of(OPENI_LFS, report) == {"openi_urgent_effusion": "urgent"}


def test_the_indication_does_not_count() -> None:
    report = "INDICATION: rib fracture? FINDINGS: Calcified granuloma."
    assert set(votes_of(OPENI_LFS, report).values()) == {"chronic"}


def test_graver_findings_silence_lighter_ones() -> None:
    report = "FINDINGS: Scoliosis. Bibasilar atelectasis. Displaced rib fracture."
    assert set(votes_of(OPENI_LFS, report).values()) == {"emergent"}


@pytest.mark.parametrize(
    ("load", "folder", "lfs", "fewest", "least_coverage"),
    [
        (load_trec, "wrench_trec", TREC_LFS, 30, 0.8),
        (load_openi, "openi_cxr", OPENI_LFS, 10, 0.6),
    ],
)
def test_on_the_real_training_texts(
    data_folder: Path,
    load: Any,
    folder: str,
    lfs: Sequence[LabelingFunction],
    fewest: int,
    least_coverage: float,
) -> None:
    path = data_folder / "votes" / folder
    if not path.is_dir():
        pytest.skip(f"real data not found: {path}")
    dataset = load(path).dataset
    rows = np.concatenate([dataset.splits["small"], dataset.splits["train"]])
    tree = dataset.tree
    applied = apply(lfs, [dataset.items[i] for i in rows], tree)
    votes = validate(applied.votes, tree, lf_names=applied.lf_names)
    deeper = votes >= len(tree.tasks[0].labels)  # votes below the root task
    assert np.sum(deeper.any(0)) >= fewest
    assert (votes >= 0).any(0).all()
    assert deeper[len(dataset.splits["small"]) :].any(1).mean() >= least_coverage

    # Better than a coin on the labelled set, taken together and each where it votes often.
    small = votes[: len(dataset.splits["small"])]
    right = small == dataset.gold[dataset.splits["small"], None]
    counts, hits = np.sum(small >= 0, 0), np.sum(right & (small >= 0), 0)
    assert hits.sum() / counts.sum() > 0.8
    often = counts >= 10
    assert np.all(hits[often] > 0.5 * counts[often])
