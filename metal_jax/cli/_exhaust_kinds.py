"""Which reader a file is for, by its name and how it begins."""

from __future__ import annotations

import argparse
import contextlib
import re
import tarfile
import zipfile
import zlib
from collections.abc import Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metal_jax.exhaust import Problem

READERS = ("run-records", "keras-log", "keras-model", "tensorboard", "table", "text-log")

_OPTIONS = {"columns": "table", "patterns": "text-log", "tags": "tensorboard"}
_CUT = (EOFError, OSError, zlib.error, tarfile.TarError, zipfile.BadZipFile)
_HEAD = 1 << 20
_MOST_JSON = 1 << 26
_MOST_LINES = 20  # that may be broken before the first run record
_RECORD = re.compile(r'\s*\{\s*"schema"\s*:\s*\d')


def reader_of(path: Path, options: argparse.Namespace) -> str:
    """The kind of a file, by its name and how it begins.

    Args:
        path: a file, packed or not, or an archive.
        options: of the sources; a kind that needs one that is missing is an error.

    Returns:
        One of `READERS`.

    Raises:
        ValueError: the kind is unknown, or an option is missing.
    """
    reader, hint = (options.reader, "") if options.reader else _recognised(path, options)
    if reader == "table" and options.columns is None:
        raise ValueError(
            f"{path}: a table; say what its columns hold with --columns MAP.json{hint}"
        )
    if reader == "text-log" and options.patterns is None:
        raise ValueError(f"{path}: a text log; say what to look for with --patterns FILE{hint}")
    return reader


def check_used(options: argparse.Namespace, readers: Set[str]) -> None:
    """Complain about an option that no source would be read with.

    Args:
        options: of the sources.
        readers: the kinds, or the layout, of the files; none: nothing is said.

    Raises:
        ValueError: names the option.
    """
    if options.layout is not None:
        for name in ("reader", *_OPTIONS):
            if getattr(options, name) is not None:
                raise ValueError(f"--{name}: --layout {options.layout} says how the logs are read")
    for name, reader in _OPTIONS.items():
        if readers and getattr(options, name) is not None and reader not in readers:
            found = ", ".join(sorted(readers))
            raise ValueError(f"--{name}: is for {reader}, but the sources are {found}")
    if options.percent and readers and readers <= {"run-records", "keras-model"}:
        raise ValueError("--percent: run records are taken as they are; say it to exhaust import")


def _recognised(path: Path, options: argparse.Namespace) -> tuple[str, str]:
    """Reader, and what to say where an option is missing."""
    name, head = beginning(path)
    name = name.rpartition("/")[2].lower().removesuffix(".gz")
    kind = name.rpartition(".")[2]
    if "tfevents" in name:
        return "tensorboard", ""
    if kind == "npz":
        return "table", ""
    text = head.decode("utf-8-sig", "replace")
    lines = [line for line in text.splitlines() if line.strip()][:_MOST_LINES]
    if any(map(_is_record, lines)):
        return "run-records", ""
    if kind == "json":
        value = _json(text)
        if value is None and options.columns is None:
            raise ValueError(f"{path}: not JSON, or cut, or nested too deep")
        if _is_model(value):
            return "keras-model", ""
        entries = value if isinstance(value, list) else [value]
        is_history = bool(entries) and all(map(_is_history, entries))
        return "keras-log" if is_history and options.columns is None else "table", ""
    if kind in ("jsonl", "ndjson"):
        return "run-records" if options.columns is None else "table", ""
    if kind in ("csv", "tsv"):
        header = re.split(r"\t" if kind == "tsv" else ",", lines[0]) if lines else []
        columns = [column.strip().strip('"') for column in header]
        if options.columns is None and "epoch" in columns:
            return "keras-log", ""
        if options.columns is None and options.patterns is not None:
            return "text-log", ""
        return "table", f" (it has {', '.join(columns):.100})"
    if b"\0" in head:
        raise ValueError(
            f"{path}: its kind is not recognised (see metal-jax exhaust import --help)"
        )
    return "text-log", ""


def beginning(path: Path) -> tuple[str, bytes]:
    """Name and first bytes of a file, or of the first file of an archive; JSON is read whole."""
    from metal_jax.exhaust._files import open_streams

    unread: list[Problem] = []
    for name, stream in open_streams(path, unread):
        is_json = name.lower().removesuffix(".gz").endswith(".json")
        most = _MOST_JSON if is_json else _HEAD
        head = bytearray()
        with contextlib.suppress(*_CUT):  # its reader will say where it is cut
            while line := stream.readline(most - len(head)):
                head += line
        return name, bytes(head)
    if unread:
        raise ValueError(f"{path}: {unread[0].reason}")
    return path.name, b""


def _is_record(line: str) -> bool:
    if _RECORD.match(line):
        return True
    value = _json(line) if line.lstrip().startswith("{") and len(line) < _HEAD else None
    return isinstance(value, Mapping) and "schema" in value and "run" in value


def _is_model(value: Any) -> bool:
    config = value.get("config", value) if isinstance(value, Mapping) else None
    layers = config.get("layers") if isinstance(config, Mapping) else config
    first = layers[0] if isinstance(layers, list) and layers else None
    return isinstance(first, Mapping) and "class_name" in first


def _is_history(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    history = value.get("history", value)
    return (
        isinstance(history, Mapping)
        and bool(history)
        and all(isinstance(curve, list) for curve in history.values())
    )


def _json(text: str) -> Any:
    from metal_jax._core.json_text import parse_json

    try:
        return parse_json(text)
    except (ValueError, RecursionError):
        return None
