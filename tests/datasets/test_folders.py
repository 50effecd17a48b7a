"""Readers of folders of real data: on made-up folders, and on the real ones where they are."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metal_jax.datasets import VotedDataset, load_openi, load_trec
from metal_jax.labeling import validate

OPENI_TEXTS = {
    "train": ["clear", "scar", "copy of a test report", "large heart", "clear again"],
    "valid": ["chronic scar"],
    "test": ["copy of a test report", "collapse"],
}
TREC_TEXTS = {
    "train": [*(f"question {i}" for i in range(4965)), "example 0", "example 1"],
    "valid": ["who ?"],
    "test": ["question 3", "question at test"],
}


def write_splits(
    folder: Path, texts: Mapping[str, list[str]], arrays: Mapping[str, dict[str, Any]]
) -> None:
    for split, rows in texts.items():
        lines = [json.dumps({"id": str(i), "text": text}) for i, text in enumerate(rows)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
        np.savez(folder / f"{split}.npz", **arrays[split])


@pytest.fixture
def openi_folder(tmp_path: Path) -> Path:
    (tmp_path / "labels.json").write_text(json.dumps({"lf_names": ["short", "long"]}))
    arrays = {
        "train": {
            "L": [[0, -1], [1, 1], [-1, -1], [-1, 0], [0, 0]],
            "Y": [0, 1, 1, 1, -1],
            "Y_urgency": [0, 1, 4, -1, -1],
        },
        "valid": {"L": [[1, -1]], "Y": [1], "Y_urgency": [2]},
        "test": {"L": [[-1, -1], [1, 0]], "Y": [1, 1], "Y_urgency": [3, 4]},
    }
    write_splits(tmp_path, OPENI_TEXTS, arrays)
    return tmp_path


@pytest.fixture
def trec_folder(tmp_path: Path) -> Path:
    (tmp_path / "label.json").write_text(json.dumps({"1": "HUM", "0": "LOC"}))
    fine = {"fine": ["HUM:other", "LOC:city", "LOC:other"], "parent": [1, 0, 0]}
    (tmp_path / "fine_labels.json").write_text(json.dumps(fine))
    arrays = {
        split: {
            "L": np.full((len(rows), 3), -1, np.int8),
            "Y": np.ones(len(rows), int),
            "Y_fine": np.zeros(len(rows), int),
        }
        for split, rows in TREC_TEXTS.items()
    }
    arrays["train"]["L"][4, 2] = 1
    arrays["valid"] = {"L": [[0, -1, 1]], "Y": [0], "Y_fine": [2]}
    arrays["test"]["Y"][1], arrays["test"]["Y_fine"][1] = 0, -1
    write_splits(tmp_path, TREC_TEXTS, arrays)
    return tmp_path


def texts_of(voted: VotedDataset, split: str) -> list[str]:
    return [voted.dataset.items[i]["text"] for i in voted.dataset.splits[split]]


def change_arrays(path: Path, **changes: Any) -> None:
    with np.load(path) as archive:
        np.savez(path, **{**archive, **changes})


def test_openi_gold_is_the_deepest_known_node(openi_folder: Path) -> None:
    dataset, votes, names = load_openi(openi_folder, small_size=2)
    tree = dataset.tree
    assert tree.to_dict() == {
        "triage": {
            "normal": None,
            "abnormal": {"urgency": ["chronic", "non_urgent", "urgent", "emergent"]},
        }
    }
    gold = {
        item["text"]: tree.node_names[g] if g >= 0 else None
        for item, g in zip(dataset.items, dataset.gold, strict=True)
    }
    assert gold == {
        "clear": ("triage", "normal"),
        "scar": ("urgency", "chronic"),
        "large heart": ("triage", "abnormal"),
        "clear again": None,
        "chronic scar": ("urgency", "non_urgent"),
        "copy of a test report": ("urgency", "urgent"),
        "collapse": ("urgency", "emergent"),
    }
    assert names == ("short", "long")
    assert votes.tolist() == [[0, -1], [1, 1], [-1, 0], [0, 0], [1, -1], [-1, -1], [1, 0]]
    np.testing.assert_array_equal(validate(votes, tree, lf_names=names), votes)


def test_train_items_that_are_in_test_are_dropped(openi_folder: Path) -> None:
    voted = load_openi(openi_folder, small_size=2)
    assert sorted(texts_of(voted, "small") + texts_of(voted, "train")) == sorted(
        ["clear", "scar", "large heart", "clear again"]
    )
    assert texts_of(voted, "valid") == OPENI_TEXTS["valid"]
    assert texts_of(voted, "test") == OPENI_TEXTS["test"]
    assert len(voted.dataset.items) == len(voted.votes) == 7


def test_smaller_small_sets_are_the_beginning_of_larger_ones(openi_folder: Path) -> None:
    small = [texts_of(load_openi(openi_folder, small_size=size), "small") for size in range(5)]
    assert [len(texts) for texts in small] == [0, 1, 2, 3, 4]
    assert all(texts == small[4][: len(texts)] for texts in small)


def test_trec_tree_and_votes(trec_folder: Path) -> None:
    dataset, votes, names = load_trec(trec_folder, small_size=10)
    # HUM has one fine class, so it is a leaf; ids are read as numbers, not in the file's order.
    assert dataset.tree.to_dict() == {"question": {"loc": {"loc": ["city", "other"]}, "hum": None}}
    assert names == ("trec_lf_00", "trec_lf_01", "trec_lf_02")
    rows = {item["text"]: i for i, item in enumerate(dataset.items)}
    assert votes[rows["question 4"]].tolist() == [-1, -1, dataset.tree.node("question", "hum")]
    assert dataset.gold[rows["question 0"]] == dataset.tree.node("question", "hum")
    assert dataset.gold[rows["who ?"]] == dataset.tree.node("loc", "other")
    assert dataset.gold[rows["question at test"]] == dataset.tree.node("question", "loc")


def test_trec_rule_examples_are_dropped(trec_folder: Path) -> None:
    voted = load_trec(trec_folder, small_size=400)
    train = set(texts_of(voted, "train")) | set(texts_of(voted, "small"))
    assert train == {f"question {i}" for i in range(4965) if i != 3}
    assert len(voted.dataset.splits["small"]) == 400
    assert texts_of(voted, "test") == TREC_TEXTS["test"]


@pytest.mark.parametrize("name", ["labels.json", "train.jsonl", "valid.npz", "test.npz"])
def test_missing_file_is_named(openi_folder: Path, name: str) -> None:
    (openi_folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        load_openi(openi_folder, small_size=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Y_urgency": [1, 1]}, r"valid\.npz: Y_urgency has shape \(2,\), expected \[1\]"),
        ({"L": [1]}, r"valid\.npz: L has shape \(1,\), expected \[1, m\]"),
        ({"L": [[0]]}, r"valid\.npz: L has 1 columns, expected 2"),
        ({"L": [[2, 0]]}, r"valid\.npz: L holds values other than integers -1\.\.1"),
        ({"Y": [0.5]}, r"valid\.npz: Y holds values other than integers"),
        ({"Y": np.array(["a"], object)}, r"valid\.npz: not an npz archive of plain arrays"),
    ],
)
def test_malformed_arrays_are_named(
    openi_folder: Path, changes: dict[str, Any], message: str
) -> None:
    change_arrays(openi_folder / "valid.npz", **changes)
    with pytest.raises(ValueError, match=message):
        load_openi(openi_folder, small_size=2)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("labels.json", "{", r"labels\.json: not valid JSON"),
        ("labels.json", "[]", r"labels\.json: expected a JSON object, got list"),
        ("labels.json", "{}", r"labels\.json: no entry 'lf_names'"),
        ("labels.json", '{"lf_names": 2}', r"lf_names: got 2, expected a list of strings"),
        ("labels.json", '{"lf_names": ["a", {}]}', r"lf_names: got .*, expected a list of strings"),
        ("test.jsonl", '{"text": "a"}\n{"id": "1"}\n', r"test\.jsonl, line 2: no JSON object"),
        ("test.npz", "", r"test\.npz: not an npz archive"),
    ],
)
def test_malformed_files_are_named(
    openi_folder: Path, name: str, content: str, message: str
) -> None:
    (openi_folder / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_openi(openi_folder, small_size=2)


def test_missing_array_is_named(trec_folder: Path) -> None:
    np.savez(trec_folder / "valid.npz", L=[[0, 0, 0]], Y=[0])
    with pytest.raises(ValueError, match=r"valid\.npz: no entry 'Y_fine'"):
        load_trec(trec_folder)


@pytest.mark.parametrize("parents", [[1, 2], [1], [1, 0.5], [1, [0]], [1, True], 1, None])
def test_parents_must_fit_the_fine_labels(trec_folder: Path, parents: Any) -> None:
    fine = {"fine": ["HUM:other", "LOC:city"], "parent": parents}
    (trec_folder / "fine_labels.json").write_text(json.dumps(fine))
    with pytest.raises(ValueError, match=r"fine_labels\.json: expected a parent below 2"):
        load_trec(trec_folder)


def test_names_of_labels_must_be_strings(trec_folder: Path) -> None:
    for name, content in (
        ("fine_labels.json", {"fine": ["HUM:other", {}], "parent": [1, 0]}),
        ("label.json", {"0": {"name": "LOC"}, "1": "HUM"}),
    ):
        (trec_folder / name).write_text(json.dumps(content))
        with pytest.raises(ValueError, match=rf"{name}: .* got .*, expected a list of strings"):
            load_trec(trec_folder)


def test_small_size_beyond_train_is_rejected(openi_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"small_size is 5, expected 0\.\.4"):
        load_openi(openi_folder, small_size=5)


@pytest.mark.parametrize(
    ("load", "folder", "num_votes", "nodes", "num_leaves", "num_items"),
    [
        (load_openi, "openi_cxr", 18, (2, 4), 5, {"valid": 376, "test": 378, "train": 2195}),
        (
            load_trec,
            "wrench_trec",
            68,
            (6, 4, 22, 4, 2, 5, 13),
            50,
            {"valid": 500, "test": 500, "train": 4565},
        ),
    ],
)
def test_real_folders(
    data_folder: Path,
    load: Any,
    folder: str,
    num_votes: int,
    nodes: tuple[int, ...],
    num_leaves: int,
    num_items: dict[str, int],
) -> None:
    path = data_folder / "votes" / folder
    if not path.is_dir():
        pytest.skip(f"real data not found: {path}")
    voted = load(path)
    dataset = voted.dataset
    assert {split: len(rows) for split, rows in dataset.splits.items()} == num_items | {
        "small": 400
    }
    assert sorted(np.concatenate(list(dataset.splits.values()))) == list(range(len(dataset.items)))
    task_sizes = tuple(len(task.labels) for task in dataset.tree.tasks)
    assert sorted(task_sizes) == sorted(nodes)
    assert dataset.tree.num_leaves == num_leaves
    assert voted.votes.shape == (len(dataset.items), num_votes)
    validate(voted.votes, dataset.tree, lf_names=voted.names)
    root_labels = len(dataset.tree.tasks[0].labels)
    assert voted.votes.max() < root_labels
    assert dataset.gold.min() >= 0
    assert dataset.gold.max() < dataset.tree.num_nodes
    train = {*texts_of(voted, "train"), *texts_of(voted, "small")}
    assert not train & set(texts_of(voted, "test"))
