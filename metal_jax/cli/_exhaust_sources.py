"""Sources of runs as the options name them, read into one list."""

from __future__ import annotations

import argparse
import collections
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console

from metal_jax._core.files import is_partial
from metal_jax.cli._common import plain_console
from metal_jax.cli._exhaust_kinds import READERS, beginning, check_used, reader_of
from metal_jax.cli._exhaust_resume import KeptReadings
from metal_jax.cli._progress import Say

if TYPE_CHECKING:
    from metal_jax.exhaust import Architecture, Columns, Problem, Reading, Run

SOURCES_HELP = """
A source is a file, a .gz, .tar or .zip of such files, or a folder, searched to the bottom:
  run-records   JSON lines of run records, as this library writes them
  keras-log     CSVLogger files and JSON of History objects
  keras-model   model.to_json(): the architecture of the Keras logs in its folder that begin with
                the same name, or of all of them if it is the only model there; else a run of its
                own, without metrics
  tensorboard   event files; roles are guessed from names such as val_loss, or told with --tags
  table         .csv, .tsv, .json, .jsonl or .npz, with --columns
  text-log      anything else that is text, with --patterns
MAP.json of --columns, and FILE of --patterns, are JSON objects with the attributes of
metal_jax.exhaust.Columns and LogPatterns, e.g.
  {"metrics": {"validation/accuracy": "acc_{epoch}"}, "run": "id", "architecture": "net",
   "notation": "layer_string", "optimiser": {"learning_rate": "lr"}}
  {"patterns": ["epoch (?P<epoch>\\\\d+): loss (?P<loss>\\\\S+)"], "fields": {"loss": "train/loss"}}
Hidden files of a folder are passed over."""

_LAYOUTS = ("cs446", "metaqnn_cifar10", "naap440", "naap440_text", "nas_bench_nlp", "nats")
_NAMED_AFTER_FILE = ("keras-log", "table", "text-log")
_ROLES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "eval": "validation",
    "test": "test",
}
_TAG = re.compile(
    rf"(?P<before>{'|'.join(_ROLES)})[_/](epoch_)?(?P<name>.+)"
    rf"|(?P<first>.+)/(?P<after>{'|'.join(_ROLES)})"
)
_NOT_BY_EPOCH = re.compile(r"_vs_iterations$|(^|/)batch_")


class Found(NamedTuple):
    """What the sources hold.

    Attributes:
        runs: ids all different.
        problems: what could not be read, or not as it stands.
        files: reader -> how many files it read; folders of event files count once.
    """

    runs: tuple[Run, ...]
    problems: tuple[Problem, ...]
    files: dict[str, int]


class _File(NamedTuple):
    path: Path
    name: str
    reader: str


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Options that say how to read runs."""
    parser.add_argument(
        "--columns", type=Path, metavar="MAP.json", help="of tables: which column holds what"
    )
    parser.add_argument(
        "--patterns", type=Path, metavar="FILE", help="of text logs: regular expressions"
    )
    parser.add_argument(
        "--tags", type=Path, metavar="MAP.json", help='of event files: {"tag": "role/name"}'
    )
    parser.add_argument(
        "--layout", choices=_LAYOUTS, metavar="NAME", help=f"open logs: {', '.join(_LAYOUTS)}"
    )
    parser.add_argument(
        "--reader", choices=READERS, metavar="NAME", help="take all sources as this kind, see below"
    )
    parser.add_argument(
        "--percent",
        action=argparse.BooleanOptionalAction,
        help="accuracies of tables and logs are percent: divide by 100; --no-percent takes all as "
        "they are (default: as they are, and those above 1 are asked about); run records are "
        "always taken as they are",
    )


def read_sources(
    options: argparse.Namespace,
    paths: Sequence[Path],
    say: Say,
    *,
    leave_out: Sequence[Path] = (),
    kept: KeptReadings | None = None,
) -> Found:
    """Read all runs of all sources.

    Args:
        options: of `add_source_options`.
        paths: the sources.
        say: told about each file.
        leave_out: files that are passed over in folders.
        kept: what an interrupted command has read already.

    Returns:
        The runs, of which there is at least one.

    Raises:
        ValueError: a source of unknown kind, an option for a kind that is not there, units that
            must be told, accuracies above 100 %, or no runs at all.
    """
    from metal_jax.exhaust import Problem
    from metal_jax.exhaust._files import unique_runs
    from metal_jax.exhaust._table import beyond_percent, settle_percent

    problems: list[Problem] = []
    reader = _Reader(options)
    passed_over = [*leave_out, options.columns, options.patterns, options.tags]
    passed_over = {path.resolve() for path in passed_over if path is not None}
    files = list(_files(options, paths, problems, passed_over))
    check_used(options, {file.reader for file in files})
    # Models first: they are the architectures of the logs beside them.
    models = {
        file: model
        for file in files
        if file.reader == "keras-model" and (model := _model(file, problems)) is not None
    }
    found: list[tuple[Problem, Run]] = []
    converted: list[tuple[Problem, Run]] = []
    used: set[_File] = set()
    for number, file in enumerate(files):
        say.count("reading", number, len(files), "files", note=f"{file.name:.40}")
        if file.reader == "keras-model":
            continue
        model = _model_of(file, list(models)) if file.reader == "keras-log" else None
        places = (file.path,) if model is None else (file.path, model.path)
        reading = None if kept is None else kept.take(*places)
        if reading is None:
            reading = reader.read(file, None if model is None else models[model])
        if kept is not None:
            kept.put(reading, *places)
        used |= set() if model is None else {model}
        problems += reading.problems
        for run in reading.runs:
            place = Problem(run.source or str(file.path), 0, "", "", "")
            found.append((place, _renamed(run, file)))
            # Whoever wrote run records, as import does, has settled their units.
            if file.reader != "run-records":
                converted.append(found[-1])
    found += [
        (Problem(str(file.path), 0, "", "", ""), _run_of_model(file, architecture))
        for file, architecture in models.items()
        if file not in used
    ]
    if options.percent:
        for problem in beyond_percent(converted):
            raise ValueError(problem_line(problem))
    elif options.percent is None and options.layout is None:
        asked: list[Problem] = []
        settle_percent(converted, asked, None)
        if asked:
            place, reason = asked[0], asked[0].reason.partition(":")[0]
            raise ValueError(
                f"{place.file}: {place.field}: {reason}; say --percent (divide by 100) or "
                "--no-percent (take as they are), and import sources in other units apart"
            )
    runs, problems_found = unique_runs(found, problems)
    if not runs:
        first = f"; {problem_line(problems_found[0])}" if problems_found else ""
        raise ValueError(f"{', '.join(map(str, paths))}: no runs there{first}")
    return Found(runs, problems_found, dict(collections.Counter(f.reader for f in files)))


def problem_line(problem: Problem) -> str:
    """Place, field and reason."""
    place = f"{problem.file}:{problem.line}" if problem.line else problem.file
    return ": ".join(part for part in (place, problem.field, problem.reason) if part)


def problem_count(about: dict[str, Any]) -> str:
    """How many problems there are, in words."""
    return f"{about['problems']:,} problem{'s' if about['problems'] > 1 else ''}"


def about_sources(found: Found) -> dict[str, Any]:
    """What fit, predict and search say of their sources, for `print_sources`."""
    problems = found.problems
    return {
        "runs": len(found.runs),
        "problems": len(problems),
        "first_problem": problem_line(problems[0]) if problems else None,
    }


def print_sources(about: dict[str, Any], what: str) -> Console:
    """Print it; the console, for more."""
    console = plain_console()
    console.print(f"read {about['runs']:,} {what}")
    if about["problems"]:
        console.print(
            f"warning: {problem_count(about)} (exhaust import keeps them all), the first: "
            f"{about['first_problem']}"
        )
    if about["unknown_layers"]:
        layers = ", ".join(f"{name:.40} ({n:,})" for name, n in about["unknown_layers"].items())
        console.print(f"unknown layer types: {layers:.300}")
    if about.get("without_architecture"):
        console.print(f"{about['without_architecture']:,} {what} have no architecture")
    if about.get("too_short"):
        console.print(
            f"warning: {about['too_short']:,} {what} have fewer than {about['epochs_seen']} epochs"
        )
    return console


class _Reader:
    """Reads one file; maps and patterns are read once, before any file."""

    def __init__(self, options: argparse.Namespace):
        from metal_jax.exhaust import read_log_patterns

        self.options = options
        self.columns = None if options.columns is None else _columns(options.columns)
        self.patterns = None if options.patterns is None else read_log_patterns(options.patterns)
        self.tags = None if options.tags is None else _tags(options.tags)

    def read(self, file: _File, architecture: Architecture | None) -> Reading:
        from metal_jax import exhaust

        # Values above 1 are asked about once, over all sources.
        percent = bool(self.options.percent)
        if file.reader == "run-records":
            return exhaust.read_runs(file.path)
        if file.reader == "keras-log":
            return exhaust.read_keras_logs(file.path, architecture=architecture, percent=percent)
        if file.reader == "tensorboard":
            return self._event_files(file.path, percent)
        if file.reader == "table":
            assert self.columns is not None
            return exhaust.read_table(file.path, self.columns, percent=percent)
        if file.reader == "text-log":
            assert self.patterns is not None
            return exhaust.read_text_logs(file.path, self.patterns, percent=percent)
        logs = exhaust.OPEN_LOGS[file.reader]
        path = file.path / logs.file if file.path.is_dir() else file.path
        percent = logs.percent if self.options.percent is None else percent
        if isinstance(logs.layout, exhaust.LogPatterns):
            return exhaust.read_text_logs(path, logs.layout, percent=percent)
        return exhaust.read_table(path, logs.layout, percent=percent)

    def _event_files(self, path: Path, percent: bool) -> Reading:
        """With the given tags, or the guessed ones; the first step is 0 or 1."""
        from metal_jax.exhaust import read_tensorboard

        scalars = [run.extra.get("scalars", {}) for run in read_tensorboard(path, {}).runs]
        steps = [step for named in scalars for values in named.values() for step in values["steps"]]
        tags = self.tags
        if tags is None:
            tags = _guessed_tags(sorted({tag for named in scalars for tag in named}))
        first_step = min(1, *steps) if steps else 0
        return read_tensorboard(path, tags, first_step=first_step, percent=percent)


def _files(
    options: argparse.Namespace,
    paths: Sequence[Path],
    problems: list[Problem],
    leave_out: set[Path],
) -> Iterator[_File]:
    from metal_jax.exhaust import Problem

    names = collections.Counter(path.name for path in paths)
    for path in paths:
        path.stat()  # complains with the path's name
        label = path.name if names[path.name] == 1 else path.as_posix()
        if options.layout is not None:
            yield _File(path, label, options.layout)
        elif not path.is_dir():
            yield _File(path, label, reader_of(path, options))
        else:
            events = False
            for file in sorted(path.rglob("*")):
                name = file.relative_to(path).as_posix()
                hidden = any(part.startswith(".") for part in name.split("/"))
                passed_over = hidden or is_partial(file) or file.resolve() in leave_out
                if passed_over or not file.is_file():
                    continue
                if "tfevents" in file.name:
                    events = True
                elif options.reader != "tensorboard":
                    try:
                        yield _File(file, name, reader_of(file, options))
                    except ValueError as error:
                        reason = str(error).removeprefix(f"{file}: ")
                        problems.append(Problem(str(file), 0, "", reason, ""))
            if events:
                yield _File(path, label, "tensorboard")


# ---- maps ---------------------------------------------------------------------------------------


def _columns(path: Path) -> Columns:
    from metal_jax.exhaust import Columns

    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError(f"got {record!r:.60}, expected an object")
        columns = Columns(**record)
        for column in columns.named():
            if not isinstance(column, str):
                raise ValueError(f"got column {column!r:.60}, expected a text")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from None
    return columns


def _tags(path: Path) -> dict[str, str]:
    try:
        tags = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(tags, dict) or not all(isinstance(name, str) for name in tags.values()):
        raise ValueError(f'{path}: expected an object such as {{"val_loss": "validation/loss"}}')
    return tags


def _guessed_tags(names: Sequence[str]) -> dict[str, str]:
    """Tag -> "role/name" where the tag tells its role; of two for one metric, the first."""
    tags: dict[str, str] = {}
    for tag in names:
        match = _TAG.fullmatch(tag)
        if match is None or _NOT_BY_EPOCH.search(tag):
            continue
        role = _ROLES[match["before"] or match["after"]]
        metric = f"{role}/{match['name'] or match['first']}"
        if metric not in tags.values():
            tags[tag] = metric
    return tags


# ---- runs ---------------------------------------------------------------------------------------


def _model(file: _File, problems: list[Problem]) -> Architecture | None:
    from metal_jax.exhaust import Problem, read_keras_model

    name, content = beginning(file.path)
    text = content.decode("utf-8-sig", "backslashreplace")
    try:
        return read_keras_model(text)
    except (ValueError, RecursionError) as error:
        problems.append(Problem(name, 0, "architecture", str(error), text))
        return None


def _model_of(log: _File, models: Sequence[_File]) -> _File | None:
    """The model in the log's folder that begins with its name, or the only one there."""
    beside = [model for model in models if model.path.parent == log.path.parent]
    stem = log.path.name.partition(".")[0]
    named = [model for model in beside if model.path.name.partition(".")[0] == stem]
    return (named or beside)[0] if len(named or beside) == 1 else None


def _run_of_model(file: _File, architecture: Architecture) -> Run:
    from metal_jax.exhaust import Run

    return Run(file.name, architecture, source=str(file.path))


def _renamed(run: Run, file: _File) -> Run:
    """Runs that are named after their file get its place below the folder that was given."""
    rest = run.run.removeprefix(file.path.name)
    if file.reader not in _NAMED_AFTER_FILE or rest == run.run:
        return run
    return run._replace(run=file.name + rest)
