"""Soft labels of streamed votes, written part by part: memory is bounded and work is not lost.

Each part has a name of its own in the folder and appears there when it is complete, and beside it a
checksum of its votes, so that a run that was stopped goes on with the first part that is missing,
and labels of other votes are not taken for its own. Several processes, each with files of
its own, can write to one folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh

from metal_jax._core.archives import load_arrays
from metal_jax._core.files import replaced
from metal_jax._core.json_text import parse_json
from metal_jax.label_model._predict import posterior_program
from metal_jax.label_model._result import FitResult
from metal_jax.label_model._stream_counts import OnProgress, VotesSum, vote_dtype
from metal_jax.label_model._stream_passes import of_one_shape
from metal_jax.labeling import VotePart, VoteStream, validate
from metal_jax.task_tree import TaskTree

_ABOUT = "labels.json"

Write = Callable[[np.ndarray], Any]


def label_stream(
    result: FitResult,
    votes: VoteStream,
    folder: str | os.PathLike[str],
    *,
    part_items: int = 2**22,
    file_format: Literal["npy", "npz", "parquet"] = "npy",
    mesh: Mesh | None = None,
    on_progress: OnProgress | None = None,
) -> list[Path]:
    """Write the posterior of every item of a stream.

    Args:
        result: a fit of any family but GLAD.
        votes: the votes; with several processes, of this one.
        folder: where to write; made if it is not there. A part that is there already, with the
            checksum of its votes in a `.json` of its name, is kept.
        part_items: items of a part at most; a part never spans two files of votes.
        file_format: "npy" float32[items, s]; "npz" with that as "probs"; "parquet" with a column
            for each leaf.
        mesh: devices of this process along an axis "data", over which each batch is spread.
        on_progress: called after each batch, with the items labelled so far.

    Returns:
        The files of this stream's parts, in the order of its items.

    Raises:
        ValueError: votes of another number of LFs or that `labeling.validate` rejects, or a folder
            with labels of another model or of other votes.

    Example:
        >>> import tempfile
        >>> from metal_jax.label_model import fit
        >>> from metal_jax.task_tree import TaskTree
        >>> votes = np.array([[0, 0, -1], [1, -1, 1], [0, 1, 0], [-1, 1, 1]] * 10)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(folder + "/votes.npy", votes)
        ...     stream = VoteStream(folder + "/votes.npy")
        ...     paths = label_stream(fit(votes, TaskTree.single(2)), stream, folder + "/labels")
        ...     paths[0].name, read_stream_labels(paths).shape
        ('votes-000000000000.npy', (40, 2))
    """
    if file_format not in ("npy", "npz", "parquet"):
        raise ValueError(f"file_format: got {file_format!r}, expected 'npy', 'npz' or 'parquet'")
    if votes.num_lfs != result.columns.num_lfs:
        raise ValueError(f"votes: got {votes.num_lfs} LFs, expected {result.columns.num_lfs}")
    target, tree = Path(folder), result.tree
    target.mkdir(parents=True, exist_ok=True)
    names = ["=".join(tree.node_names[node]) for node in tree.leaf_nodes]
    _check_folder(target, {"leaf_names": names, "part_items": part_items, "model": _sum(result)})
    function, size = posterior_program(result, mesh), min(votes.batch_items, part_items)
    dtype, done, paths = vote_dtype(tree), 0, []
    for part in votes.parts(part_items):
        path = target / f"{part.path.stem}-{part.start:012d}.{file_format}"
        if path in paths:
            raise ValueError(f"{part.path}: another file of the stream has the same name")
        paths.append(path)
        about = path.with_suffix(".json")
        if path.exists() and about.exists():
            _check_votes(path, about, votes, part, tree)
            done += part.stop - part.start
            if on_progress is not None:
                on_progress("comparing votes", done)
            continue
        checksum = VotesSum(tree)
        with replaced(path) as file, _writer(file, part, names, file_format) as write:
            for batch in votes.read(part):
                batch = validate(batch, tree)
                checksum.add(batch)
                (filled,) = of_one_shape([batch], size, dtype)
                write(np.asarray(function(filled), np.float32)[: len(batch)])
                done += len(batch)
                if on_progress is not None:
                    on_progress("labelling", done)
        # After the part: one without it, which a killed run may leave, is made again.
        with replaced(about) as file:
            file.write((json.dumps({"votes": str(checksum)}) + "\n").encode())
    return paths


def read_stream_labels(paths: list[Path]) -> np.ndarray:
    """All of the labels that `label_stream` wrote, in memory.

    Args:
        paths: its files.

    Returns:
        float32[n, s].

    Raises:
        ValueError: no files, or one that holds something else (names the file).

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     paths = [Path(folder, f"{i}.npy") for i in range(2)]
        ...     for path in paths:
        ...         np.save(path, np.full((2, 2), 0.5, np.float32))
        ...     read_stream_labels(paths).shape
        (4, 2)
    """
    parts = [_read(Path(path)) for path in paths]
    if not parts:
        raise ValueError("paths: got none, expected at least one file of labels")
    for path, part in zip(paths, parts, strict=True):
        if part.ndim != 2 or part.shape[1] != parts[0].shape[-1] or part.dtype.kind != "f":
            raise ValueError(
                f"{path}: got {part.dtype}{list(part.shape)}, expected the labels of items, "
                f"float[n, s], with as many leaves as in {paths[0]}"
            )
    return np.concatenate(parts)


def _read(path: Path) -> np.ndarray:
    if path.suffix == ".parquet":
        import pyarrow.parquet  # pyright: ignore[reportMissingImports]

        columns = pyarrow.parquet.read_table(path).columns
        return np.stack([column.to_numpy() for column in columns], axis=1)
    try:
        arrays = load_arrays(path, "probs", alone="probs")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if "probs" not in arrays:
        raise ValueError(f"{path}: there is no array 'probs'")
    return arrays["probs"]


@contextlib.contextmanager
def _writer(file: Any, part: VotePart, names: list[str], file_format: str) -> Iterator[Write]:
    """A function that appends rows to a file of the format."""
    if file_format == "parquet":
        try:
            import pyarrow  # pyright: ignore[reportMissingImports]
            import pyarrow.parquet  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise ValueError(
                "writing Parquet needs pyarrow: pip install 'metal-jax[parquet]'"
            ) from None
        schema = pyarrow.schema([(name, pyarrow.float32()) for name in names])
        with pyarrow.parquet.ParquetWriter(file, schema) as writer:
            yield lambda rows: writer.write_batch(
                pyarrow.record_batch(list(np.ascontiguousarray(rows.T)), schema)
            )
        return
    shape = (part.stop - part.start, len(names))
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with contextlib.ExitStack() as stack:
        if file_format == "npz":
            archive = stack.enter_context(zipfile.ZipFile(file, "w"))
            file = stack.enter_context(archive.open("probs.npy", "w", force_zip64=True))
        np.lib.format.write_array_header_1_0(file, header)
        yield lambda rows: file.write(rows.astype("<f4").tobytes())


def _check_votes(
    path: Path, about: Path, votes: VoteStream, part: VotePart, tree: TaskTree
) -> None:
    """Raise ValueError unless the labels are those of the part's votes."""
    checksum = VotesSum(tree)
    for batch in votes.read(part):
        checksum.add(batch)
    try:
        saved = parse_json(about.read_text(encoding="utf-8"))["votes"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{about}: damaged ({error!r}); remove it and {path.name}") from error
    if saved != str(checksum):
        raise ValueError(
            f"{path}: holds labels of other votes: got {saved!s:.80}, expected {checksum}; choose "
            "another folder"
        )


def _check_folder(folder: Path, about: dict[str, Any]) -> None:
    path = folder / _ABOUT
    if path.exists():
        saved = json.loads(path.read_text(encoding="utf-8"))
        for name, value in about.items():
            if saved.get(name) != value:
                raise ValueError(
                    f"{folder}: holds labels of another run: {name}: got {saved.get(name)!r:.80}, "
                    f"expected {value!r:.80}; choose another folder"
                )
        return
    with replaced(path) as file:
        file.write((json.dumps(about, indent=1) + "\n").encode())


def _sum(result: FitResult) -> str:
    """What tells a model from another."""
    arrays = [*jax.tree.leaves(result.params), result.columns.lf, result.columns.symbol]
    content = b"".join(np.asarray(x).tobytes() for x in arrays)
    return f"{result.method} crc32 {zlib.crc32(content):08x}"
