"""The hand-written labelling functions for TREC, OpenI and CLINC150."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metal_jax.datasets import TextDataset, load_clinc150, load_openi, load_trec
from metal_jax.labeling import LabelingFunction, apply, validate
from metal_jax.reproduce._clinc_lfs import CLINC_LFS
from metal_jax.reproduce._openi_lfs import OPENI_LFS
from metal_jax.reproduce._trec_lfs import TREC_LFS


def votes_of(lfs: Sequence[LabelingFunction], text: str) -> dict[str, Any]:
    """The votes that are not abstentions, by the LF's name."""
    return {lf.name: vote for lf in lfs if (vote := lf({"text": text})) != -1}


@pytest.mark.parametrize("lfs", [TREC_LFS, OPENI_LFS, CLINC_LFS])
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


@pytest.mark.parametrize(
    ("request_text", "domain", "intent"),
    [
        ("please freeze my account", "banking", "freeze_account"),
        ("how do i redeem my points", "credit_cards", "redeem_rewards"),
        ("i need a recipe for goulash", "kitchen_and_dining", "recipe"),
        ("skip this song", "home", "next_song"),
        ("how do i jump start my car", "auto_and_commute", "jump_start"),
        ("has my luggage been found", "travel", "lost_luggage"),
        ("roll the dice", "utility", "roll_dice"),
        ("when is payday", "work", "payday"),
        ("tell me a joke", "small_talk", "tell_joke"),
        ("reset to factory settings", "meta", "reset_settings"),
    ],
)
def test_made_up_requests(request_text: str, domain: str, intent: str) -> None:
    votes = votes_of(CLINC_LFS, request_text)
    tasks = {lf.name: lf.task for lf in CLINC_LFS}
    cast = {(tasks[name], vote) for name, vote in votes.items()}
    assert {("domain", domain), (domain, intent)} <= cast


def test_every_intent_and_domain_has_a_function() -> None:
    names = [lf.name for lf in CLINC_LFS]
    assert 150 <= len(names) <= 300
    assert all(name.startswith("clinc_") for name in names)
    assert len({lf.task for lf in CLINC_LFS}) == 11


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
    ("load", "folder", "lfs", "step", "fewest", "least_coverage"),
    [
        (lambda path: load_trec(path).dataset, "votes/wrench_trec", TREC_LFS, 1, 30, 0.8),
        (lambda path: load_openi(path).dataset, "votes/openi_cxr", OPENI_LFS, 1, 10, 0.6),
        pytest.param(
            *(load_clinc150, "text/clinc150", CLINC_LFS, 4, 200, 0.7), marks=pytest.mark.slow
        ),
    ],
    ids=["trec", "openi", "clinc150"],
)
def test_on_the_real_training_texts(
    data_folder: Path,
    load: Callable[[Path], TextDataset],
    folder: str,
    lfs: Sequence[LabelingFunction],
    step: int,
    fewest: int,
    least_coverage: float,
) -> None:
    path = data_folder / folder
    if not path.is_dir():
        pytest.skip(f"real data not found: {path}")
    dataset = load(path)
    rows = np.concatenate([dataset.splits["small"], dataset.splits["train"][::step]])
    tree = dataset.tree
    applied = apply(lfs, [dataset.items[i] for i in rows], tree)
    votes = validate(applied.votes, tree, lf_names=applied.lf_names)
    deeper = votes >= len(tree.tasks[0].labels)  # votes below the root task
    assert np.sum(deeper.any(0)) >= fewest
    assert (votes >= 0).any(0).all()
    assert deeper[len(dataset.splits["small"]) :].any(1).mean() >= least_coverage

    # Better than a coin on the labelled set, taken together and each where it votes often.
    small, gold = votes[: len(dataset.splits["small"])], dataset.gold[dataset.splits["small"]]
    lies_beneath = (tree.covers[None] <= tree.covers[:, None]).all(-1)  # [vote, gold]
    counts = np.sum(small >= 0, 0)
    hits = np.sum(lies_beneath[small, gold[:, None]] & (small >= 0), 0)
    assert hits.sum() / counts.sum() > 0.8
    often = counts >= 10
    assert np.all(hits[often] >= 0.5 * counts[often])
