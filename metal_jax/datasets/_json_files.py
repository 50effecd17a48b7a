"""What the readers of folders share: JSON files, and the split with its hand-labelled set."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metal_jax._core.json_text import parse_json


def read_json(path: Path) -> Mapping[str, Any]:
    """Read a JSON object."""
    with path.open(encoding="utf-8") as file:
        try:
            value = parse_json(file.read())
        except ValueError as error:
            raise ValueError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def entry(path: Path, value: Mapping[str, Any], key: str) -> Any:
    """Return ``value[key]``, or say that the file lacks it."""
    if key not in value:
        raise ValueError(f"{path}: no entry {key!r}; got {sorted(value)}")
    return value[key]


def strings(path: Path, value: Mapping[str, Any], key: str) -> list[str]:
    """Return ``value[key]``, or say that it is no list of strings."""
    found = entry(path, value, key)
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise ValueError(f"{path}: {key}: got {found!r:.80}, expected a list of strings")
    return found


def read_lines(path: Path, *fields: str) -> list[tuple[str, ...]]:
    """Read these fields, all strings, of the object on each line of a jsonl file."""
    rows = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                value = parse_json(line)
                row = tuple(value[field] for field in fields)
            except (ValueError, TypeError, KeyError) as error:
                names = " and ".join(f'"{field}"' for field in fields)
                raise ValueError(f"{path}, line {number}: no JSON object with {names}") from error
            if not all(isinstance(string, str) for string in row):
                raise ValueError(f"{path}, line {number}: got {row}, expected strings")
            rows.append(row)
    return rows


def arrange_splits(
    name: str, texts: Mapping[str, Sequence[str]], small_size: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Drop train items that are in test, and choose the small set among the others.

    Args:
        name: of the data set; it decides the order of the small set.
        texts: those of "train", "valid" and "test".
        small_size: number of train items that go to the split "small".

    Returns:
        The train items kept, int64[...], and the splits "train", "small", "valid" and "test" as
        indices into the items: the train items kept, then those of valid, then those of test.

    Raises:
        ValueError: `small_size` is negative or more than the train items kept.
    """
    train, in_test = list(texts["train"]), set(texts["test"])
    kept = np.array([i for i, text in enumerate(train) if text not in in_test], np.int64)
    if not 0 <= small_size <= len(kept):
        raise ValueError(
            f"small_size is {small_size}, expected 0..{len(kept)}, the train items of {name} that "
            "are not in test"
        )
    order = _shuffled(name, [train[i] for i in kept])
    bounds = np.cumsum([len(kept), len(texts["valid"]), len(texts["test"])])
    return kept, {
        "train": np.sort(order[small_size:]),
        "small": order[:small_size],
        "valid": np.arange(bounds[0], bounds[1], dtype=np.int64),
        "test": np.arange(bounds[1], bounds[2], dtype=np.int64),
    }


def _shuffled(seed: str, texts: Sequence[str]) -> np.ndarray:
    """Return a random order int64[n] that no library version can change.

    The labelling functions of ``metal_jax.reproduce`` were written with the small set before their
    authors' eyes, so it must be the same set for ever.
    """
    digests = [
        hashlib.sha256(f"{seed}\n{i}\n{text}".encode()).digest() for i, text in enumerate(texts)
    ]
    return np.array(sorted(range(len(texts)), key=digests.__getitem__), np.int64)
