"""The reader of CLINC150: on a made-up folder, and on the real one where it is."""

import json
from pathlib import Path

import numpy as np
import pytest

from metal_jax.datasets import TextDataset, load_clinc150

DOMAINS = {"bank": ["pay", "save"], "home": ["lamp", "clock"]}
ROWS = {
    "train": [
        ("pay the rent", "bank", "pay"),
        ("put by ten", "bank", "save"),
        ("light please", "home", "lamp"),
        ("what hour is it", "home", "clock"),
        ("dim it", "home", "lamp"),
    ],
    "val": [("keep my coins", "bank", "save")],
    "test": [("light please", "home", "lamp"), ("settle the bill", "bank", "pay")],
}


def write_rows(path: Path, rows: list[tuple[str, str, str]]) -> None:
    lines = [json.dumps({"text": t, "intent": i, "domain": d}) for t, d, i in rows]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "domains.json").write_text(json.dumps({"domains": DOMAINS}))
    for name, rows in ROWS.items():
        write_rows(tmp_path / f"{name}.jsonl", rows)
    return tmp_path


def texts_of(dataset: TextDataset, split: str) -> list[str]:
    return [dataset.items[i]["text"] for i in dataset.splits[split]]


def test_tree_and_gold(folder: Path) -> None:
    dataset = load_clinc150(folder, small_size=2)
    tree = dataset.tree
    assert tree.to_dict() == {
        "domain": {domain: {domain: intents} for domain, intents in DOMAINS.items()}
    }
    gold = {
        item["text"]: tree.node_names[node]
        for item, node in zip(dataset.items, dataset.gold, strict=True)
    }
    assert gold == {
        text: (domain, intent) for rows in ROWS.values() for text, domain, intent in rows
    }


def test_train_items_that_are_in_test_are_dropped(folder: Path) -> None:
    dataset = load_clinc150(folder, small_size=2)
    assert len(dataset.items) == 7
    train = ["pay the rent", "put by ten", "what hour is it", "dim it"]
    assert sorted(texts_of(dataset, "train") + texts_of(dataset, "small")) == sorted(train)
    assert texts_of(dataset, "valid") == ["keep my coins"]
    assert texts_of(dataset, "test") == ["light please", "settle the bill"]


def test_smaller_small_sets_are_the_beginning_of_larger_ones(folder: Path) -> None:
    small = [texts_of(load_clinc150(folder, small_size=size), "small") for size in range(5)]
    assert [len(texts) for texts in small] == [0, 1, 2, 3, 4]
    assert all(texts == small[4][: len(texts)] for texts in small)
    with pytest.raises(ValueError, match=r"small_size is 5, expected 0\.\.4"):
        load_clinc150(folder, small_size=5)


@pytest.mark.parametrize("name", ["domains.json", "train.jsonl", "val.jsonl", "test.jsonl"])
def test_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        load_clinc150(folder, small_size=2)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("domains.json", "{}", r"domains\.json: no entry 'domains'"),
        ("domains.json", '{"domains": ["a"]}', r'domains\.json: "domains" is a list'),
        ("domains.json", '{"domains": {"a": []}}', r"domains\.json: .*'a'"),
        ("val.jsonl", '{"text": "a", "domain": "bank"}\n', r'val\.jsonl, line 1: .*"intent"'),
        (
            "val.jsonl",
            '{"text": 3, "domain": "bank", "intent": "pay"}\n',
            r"val\.jsonl, line 1: got .*, expected strings",
        ),
    ],
)
def test_malformed_files_are_named(folder: Path, name: str, content: str, message: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_clinc150(folder, small_size=2)


@pytest.mark.parametrize("row", [("a", "bank", "lamp"), ("a", "domain", "bank")])
def test_intent_of_another_domain_is_named(folder: Path, row: tuple[str, str, str]) -> None:
    write_rows(folder / "test.jsonl", [*ROWS["test"], row])
    with pytest.raises(ValueError, match=r"test\.jsonl, line 3: .*no intent"):
        load_clinc150(folder, small_size=2)


def test_real_folder(data_folder: Path) -> None:
    path = data_folder / "text" / "clinc150"
    if not path.is_dir():
        pytest.skip(f"real data not found: {path}")
    dataset = load_clinc150(path)
    sizes = {split: len(rows) for split, rows in dataset.splits.items()}
    assert sizes == {"train": 14198, "small": 800, "valid": 3000, "test": 4500}
    assert sorted(np.concatenate(list(dataset.splits.values()))) == list(range(len(dataset.items)))
    tree = dataset.tree
    assert (tree.num_tasks, tree.num_leaves, tree.num_nodes) == (11, 150, 160)
    assert {len(task.labels) for task in tree.tasks} == {10, 15}
    assert set(dataset.gold) == set(tree.leaf_nodes)  # every item's intent is known
    assert np.unique(np.bincount(dataset.gold[dataset.splits["test"]])[10:]) == [30]
    train = {*texts_of(dataset, "train"), *texts_of(dataset, "small")}
    assert not train & set(texts_of(dataset, "test"))
