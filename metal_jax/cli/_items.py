"""Items that a network reads: texts and vectors from files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from metal_jax._core.archives import load_arrays

ITEMS_HELP = """
ITEMS is one of
  texts.jsonl  a JSON object a line with "text" (it may be empty) and perhaps "item", a name
  x.npz        x: float[items, features], or embeddings: float[items, size]; perhaps items, names
  x.npy        float[items, features]
Nothing is unpickled."""

ItemKind = Literal["texts", "features", "embeddings"]


class Items(NamedTuple):
    """The items of a file.

    Attributes:
        kind: what they are.
        values: n strings, or float[n, d].
        names: n distinct names, or None.
    """

    kind: ItemKind
    values: Any
    names: tuple[str, ...] | None

    @property
    def num_items(self) -> int:
        """How many there are."""
        return len(self.values)


def read_items(path: Path) -> Items:
    """Read texts or vectors.

    Args:
        path: a file of one of the kinds of `ITEMS_HELP`.

    Returns:
        The items, at least one; vectors are finite.

    Raises:
        ValueError: malformed content; names the file and the line or row.
        OSError: the file cannot be read.
    """
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, expected .jsonl, .npz or .npy")
    try:
        if path.suffix == ".jsonl":
            return _read_lines(path)
        if path.suffix in (".npz", ".npy"):
            return _read_arrays(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    raise ValueError(
        f"{path}: unknown kind of file, expected .jsonl (text), .npz (x or embeddings) or .npy"
    )


def read_objects(path: Path) -> tuple[list[dict[str, Any]], tuple[str, ...] | None]:
    """The objects of a file of JSON lines, one for each item, and the items' names.

    Args:
        path: the file.

    Returns:
        The objects, at least one, and n distinct names or None.

    Raises:
        ValueError: malformed content; names the file and the line.
        OSError: the file cannot be read.
    """
    try:
        records = list(_records(path))
        return [record for _, record in records], _names(records)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read_lines(path: Path) -> Items:
    records = list(_records(path))
    for number, record in records:
        if not isinstance(record.get("text"), str):
            raise ValueError(f'line {number}: expected an object with "text", a string')
    return Items("texts", [record["text"] for _, record in records], _names(records))


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of JSON lines, at least one, each with the number of its line."""
    empty = True
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                if not line.strip():
                    continue
                record = json.loads(line)
            except UnicodeDecodeError as error:
                byte = f"0x{error.object[error.start]:02x}"
                raise ValueError(f"line {number}: not UTF-8: {error.reason} ({byte})") from error
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number}: not JSON: {error}") from error
            if not isinstance(record, dict):
                raise ValueError(f"line {number}: expected an object")
            yield number, record
            empty = False
    if empty:
        raise ValueError("there are no items")


def _names(records: list[tuple[int, dict[str, Any]]]) -> tuple[str, ...] | None:
    """The names of the items, if they have any."""
    line_of: dict[str, int] = {}
    named = records[0][1].get("item") is not None
    for number, record in records:
        name = record.get("item")
        if not isinstance(name, str | int | None) or isinstance(name, bool):
            raise ValueError(f'line {number}: got "item" {name!r:.60}, expected a name')
        if (name is not None) != named:
            raise ValueError(f'line {number}: either every line has "item" or none has')
        if named and line_of.setdefault(str(name), number) != number:
            raise ValueError(f"line {number}: item {name!r} is in line {line_of[str(name)]} too")
    return tuple(line_of) if named else None


def _read_arrays(path: Path) -> Items:
    arrays = load_arrays(path, "x|embeddings|items", alone="x")
    kinds: dict[str, ItemKind] = {"x": "features", "embeddings": "embeddings"}
    found = [name for name in kinds if name in arrays]
    if len(found) != 1:
        given = " and ".join(found) or "neither"
        raise ValueError(f"expected an array x (features) or embeddings, got {given}")
    values = arrays[found[0]]
    if values.ndim != 2 or not values.size or values.dtype.kind not in "fiub":
        raise ValueError(
            f"{found[0]}: got {values.dtype} of shape {values.shape}, expected numbers "
            "[items, features]"
        )
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(f"{found[0]}: row {row}, column {column} is not finite")
    names = None
    if "items" in arrays:
        if arrays["items"].shape != (len(values),):
            raise ValueError(
                f"items: got shape {arrays['items'].shape}, {found[0]} has {len(values)} rows"
            )
        names = tuple(map(str, arrays["items"].tolist()))
    return Items(kinds[found[0]], values, _distinct(names))


def _distinct(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if names is not None and len(set(names)) < len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))
        raise ValueError(f"item {twice!r} is there twice")
    return names


def match_items(
    items: Items,
    num_rows: int,
    names: tuple[str, ...] | None,
    sources: tuple[Path, Path],
    *,
    ordered: bool,
) -> np.ndarray:
    """The row of each item in another file, by name where there are names, otherwise by order.

    Args:
        items: n items; without names they go by their row numbers where the other's names do.
        num_rows: rows of the other file.
        names: their names, or None.
        sources: the items' file and the other one, for errors.
        ordered: whether the order of the other file's rows means anything without names.

    Returns:
        int[n], -1 for an item that the other file does not have.

    Raises:
        ValueError: other lengths, names that cannot be matched, or none in common.
    """
    own, other = sources
    ours = items.names
    if ours is None and names is not None and all(name.isdecimal() for name in names):
        ours = tuple(map(str, range(items.num_items)))
    if ours is not None and names is not None:
        row_of = {name: row for row, name in enumerate(names)}
        rows = np.asarray([row_of.get(name, -1) for name in ours])
        if (rows < 0).all():
            raise ValueError(
                f"{own} and {other} have no item in common, e.g. {ours[0]!r} and {names[0]!r}"
            )
        return rows
    if names is not None and not ordered:
        raise ValueError(
            f"{other}: its items have names, such as {names[0]!r}, those of {own} have none: name "
            'them ("item" of a line of JSON, the array items of .npz)'
        )
    if items.num_items != num_rows:
        raise ValueError(
            f"{own} has {items.num_items} items, {other} has {num_rows}; they must be the same "
            "items in the same order, or have names"
        )
    return np.arange(num_rows)
