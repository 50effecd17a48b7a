"""Lines and JSON of files that may be large, cut, compressed or hostile."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple, cast

from metal_jax._core.archives import (
    ArchiveError,
    BoundedStream,
    is_plain_member,
    most_bytes,
)
from metal_jax._core.files import is_partial
from metal_jax._core.json_text import parse_json
from metal_jax._core.records import RecordWriter
from metal_jax.exhaust._records import RecordError, Run, from_json, to_json
from metal_jax.exhaust._tar_members import tar_members

MAX_LINE = 1 << 26
# What the standard library raises for archives that are cut, damaged or of another kind.
_CUT = (
    EOFError,
    OSError,
    NotImplementedError,  # of zipfile, for a compression that it does not know
    RuntimeError,  # of zipfile, for an entry that is encrypted
    zlib.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    ArchiveError,
)
_OTHER_METHOD = "it is packed in another way than deflate, as by bzip2 or LZMA; pack it anew"


class Problem(NamedTuple):
    """A record, or a part of one, that could not be read as it stands.

    Attributes:
        file: the file, or `archive:member`.
        line: from 1; 0 for the whole file.
        field: what in the record is wrong, "" for all of it.
        reason: what was got and what was expected.
        text: the raw text, whole (a line beyond `MAX_LINE` bytes: its beginning).
    """

    file: str
    line: int
    field: str
    reason: str
    text: str


class Reading(NamedTuple):
    """What a reader returns.

    Attributes:
        runs: the runs, ids all different.
        problems: what was not read, in the order of the files.
    """

    runs: tuple[Run, ...]
    problems: tuple[Problem, ...]


def open_streams(
    path: str | os.PathLike[str], problems: list[Problem]
) -> Iterator[tuple[str, IO[bytes]]]:
    """The files of a path: one file, a folder's in order of name, or an archive's members.

    What a killed process left of a file (`is_partial`) is passed over in folders.

    Gzip, tar and zip are read as streams; nothing is written to disk, and what comes out of one is
    bounded (`most_bytes`). A stream is read before the next is asked for, and the one that goes
    beyond the bound is the last. A zip's members must be stored or deflated, since other methods
    expand a few bytes without limit.

    Args:
        path: file, folder, `.gz`, `.tar`, `.tar.gz`, `.tgz` or `.zip`.
        problems: an archive that cannot be read to its end is added here.

    Yields:
        Name and binary stream.
    """
    path = Path(path)
    name = str(path)
    lower = path.name.lower()
    try:
        left = [0 if path.is_dir() else most_bytes(path.stat().st_size)]
        if path.is_dir():
            for member in sorted(path.iterdir()):
                if member.is_file() and not is_partial(member):
                    yield from open_streams(member, problems)
        elif lower.endswith((".tar", ".tar.gz", ".tgz")):
            with path.open("rb") as file:
                for entry, stream in tar_members(file, path.stat().st_size):
                    yield f"{name}:{entry}", _bounded(stream, left)
                    if left[0] < 0:
                        return
        elif lower.endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                for entry in sorted(archive.namelist()):
                    if entry.endswith("/"):
                        continue
                    if not is_plain_member(archive.getinfo(entry)):
                        problems.append(Problem(f"{name}:{entry}", 0, "", _OTHER_METHOD, ""))
                        continue
                    with archive.open(entry) as stream:
                        yield f"{name}:{entry}", _bounded(stream, left)
                    if left[0] < 0:
                        return
        else:
            with path.open("rb") as file:
                if lower.endswith(".gz"):
                    unpacked = io.BufferedReader(gzip.GzipFile(fileobj=file))
                    yield name, _bounded(unpacked, left)
                else:
                    yield name, file
    except FileNotFoundError:
        raise
    except _CUT as error:
        problems.append(Problem(name, 0, "", f"cannot be read to its end: {error}", ""))


def _bounded(stream: IO[bytes], left: list[int]) -> IO[bytes]:
    return cast("IO[bytes]", BoundedStream(stream, left))


def numbered_lines(
    name: str, stream: IO[bytes], problems: list[Problem]
) -> Iterator[tuple[int, str]]:
    """The lines of a stream; bytes that are not UTF-8 come as backslash escapes.

    Args:
        name: named in problems.
        stream: binary.
        problems: a line beyond `MAX_LINE` and a cut compressed stream are added here.

    Yields:
        Line number from 1 and text without its end of line.
    """
    number = 0
    while True:
        number += 1
        try:
            line = stream.readline(MAX_LINE + 1)
            size = len(line)
            while len(line) > MAX_LINE and not line.endswith(b"\n"):
                rest = stream.readline(MAX_LINE)
                size += len(rest)
                if not rest or rest.endswith(b"\n"):
                    break
        except _CUT as error:
            problems.append(Problem(name, number, "", f"the file is cut here: {error}", ""))
            return
        if not line:
            return
        if size > MAX_LINE:
            reason = f"line of {size} bytes, expected at most {MAX_LINE}"
            head = line[:65536].decode("utf-8", "backslashreplace")
            problems.append(Problem(name, number, "", reason, head))
        else:
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            yield number, line.decode("utf-8", "backslashreplace").rstrip("\r\n")


def read_runs(path: str | os.PathLike[str]) -> Reading:
    """Read canonical run records.

    Args:
        path: a JSON-lines file, plain or gzip; or a folder or archive of them.

    Returns:
        The runs and what could not be read. A second record of one id is reported: it is left out
        when its content is the same, and named `id#2` when it is not.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = write_runs(f"{folder}/runs.jsonl", [Run("a"), Run("b")])
        ...     [run.run for run in read_runs(f"{folder}/runs.jsonl").runs]
        ['a', 'b']
    """
    problems: list[Problem] = []
    found = []
    for name, stream in open_streams(path, problems):
        for number, text in numbered_lines(name, stream, problems):
            if not text.strip():
                continue
            try:
                run = from_json(parse_json(text), file=name, line=number)
                found.append((Problem(name, number, "", "", text), run))
            except RecordError as error:
                problems.append(Problem(name, number, error.field, error.reason, text))
            except (ValueError, RecursionError) as error:
                problems.append(Problem(name, number, "", f"not JSON: {error}", text))
    return unique_runs(found, problems)


def unique_runs(found: Iterable[tuple[Problem, Run]], problems: list[Problem]) -> Reading:
    """Make the ids unique.

    A second run of the same id is left out when its content is the same, and named `id#2` when it
    is not; both are reported.

    Args:
        found: the place of each run (reason left empty) and the run.
        problems: those found before.

    Returns:
        Runs and problems.
    """
    runs: dict[str, Run] = {}
    for place, run in found:
        name = run.run
        number = 1
        while name in runs and repr(runs[name]) != repr(run._replace(run=name)):
            number += 1
            name = f"{run.run}#{number}"
        if name in runs:
            reason = f"run {run.run!r:.60} is there twice with the same content, read once"
            problems.append(place._replace(field="run", reason=reason))
            continue
        if number > 1:
            reason = f"run {run.run!r:.60} was read before with other content: named {name!r:.60}"
            problems.append(place._replace(field="run", reason=reason))
        runs[name] = run._replace(run=name)
    return Reading(tuple(runs.values()), tuple(problems))


def write_runs(path: str | os.PathLike[str], runs: Iterable[Run]) -> int:
    """Append canonical run records to a file, each on disk before the next.

    Args:
        path: the JSON-lines file, made if there is none.
        runs: the runs.

    Returns:
        How many were written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_runs(folder + "/runs.jsonl", [Run("a"), Run("b")])
        ...     [run.run for run in read_runs(folder + "/runs.jsonl").runs]
        2
        ['a', 'b']
    """
    count = 0
    with RecordWriter(path) as writer:
        for run in runs:
            writer.write(to_json(run))
            count += 1
    return count


def write_problems(path: str | os.PathLike[str], problems: Sequence[Problem]) -> None:
    """Append problems to a side file, one JSON object a line.

    Args:
        path: the JSON-lines file, made if there is none.
        problems: from a reader.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "problems.jsonl")
        ...     write_problems(path, [Problem("a.csv", 3, "loss", "no number", "3,?")])
        ...     len(path.read_text().splitlines())
        1
    """
    with RecordWriter(path) as writer:
        for problem in problems:
            writer.write(problem._asdict())


def read_bytes(name: str, stream: IO[bytes], problems: list[Problem]) -> bytes:
    """All of a stream; nothing, and a problem, if it is compressed and cut.

    Args:
        name: named in problems.
        stream: binary.
        problems: added to.

    Returns:
        The bytes.
    """
    try:
        return stream.read()
    except _CUT as error:
        problems.append(Problem(name, 0, "", f"cannot be read to its end: {error}", ""))
        return b""
