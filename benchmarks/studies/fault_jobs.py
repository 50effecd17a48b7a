"""The work that `faults` breaks: each job writes to a folder, is taken up again, and is read back.

A job's `run` does the work, from where an earlier one was stopped; it calls `say` with what is
safe from then on. `lost` reads what is there, at any moment: it raises if anything is half-written,
and counts the bytes of what was safe and is not there (of a training, its steps). `result` is what
a finished job comes to.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metal_jax import exhaust, labeling, network, report
from metal_jax._core.archives import load_arrays
from metal_jax.cli import main as command
from metal_jax.task_tree import TaskTree

Say = Callable[[str], None]
TREE = TaskTree.single(["no", "yes"])


class Job(NamedTuple):
    """Work that may be broken off; see the module's text.

    Attributes:
        prepare: writes the inputs to a folder.
        run: does the work; inputs, folder to write to, `say`.
        lost: bytes that were safe and are not there; folder, what was said.
        result: a digest of what is in the folder.
        share: of the kills, compared with the others; what starts slowly is killed less often.
    """

    prepare: Callable[[Path], None]
    run: Callable[[Path, Path, Say], Any]
    lost: Callable[[Path, Sequence[str]], int]
    result: Callable[[Path], str]
    share: float = 1.0


def digest(*parts: bytes) -> str:
    """Of bytes, in order."""
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _arrays_digest(tree: Any) -> str:
    import jax

    return digest(*(np.asarray(x).tobytes() for x in jax.tree.leaves(tree)))


def _votes(folder: Path) -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 20_000)
    wrong = rng.random((20_000, 6)) > np.linspace(0.6, 0.9, 6)
    votes = np.where(rng.random((20_000, 6)) < 0.5, label[:, None] ^ wrong, -1)
    np.save(folder / "votes.npy", votes.astype(np.int8))


def _stream(folder: Path) -> labeling.VoteStream:
    return labeling.VoteStream(folder / "votes.npy", batch_items=500)


# ---- label models of streams --------------------------------------------------------------------


def _fit_stream(inputs: Path, folder: Path, say: Say) -> None:
    from metal_jax import label_model

    config = label_model.StreamConfig(sample_items=2000, max_passes=12)
    checkpoint = folder / "fit.npz"
    result = label_model.fit_stream(
        _stream(inputs),
        TREE,
        stream=config,
        checkpoint=checkpoint,
        on_progress=lambda what, items: say(what),
    )
    with (folder / "result").open("w") as file:
        file.write(_arrays_digest(result.params))


def _fit_stream_lost(folder: Path, said: Sequence[str]) -> int:
    if not (folder / "fit.npz").exists():
        # The first write is after the count of overlaps, before the first pass.
        return sum(what.startswith("EM pass") for what in said)
    arrays = load_arrays(folder / "fit.npz")
    passes = {what for what in said if what.startswith("EM pass")}
    whole = max(len(passes) - 1, 0)  # that of the last one may not be written
    return 8 * max(whole - len(arrays.get("trace", ())), 0)


def _label_stream(inputs: Path, folder: Path, say: Say) -> None:
    from metal_jax import label_model

    votes = _stream(inputs)
    result = label_model.fit_dawid_skene(np.load(inputs / "votes.npy")[:500], TREE)
    for kind in ("npy", "npz"):
        done: set[str] = set()

        def progress(what: str, items: int, kind: Any = kind, done: set[str] = done) -> None:
            for path in (folder / kind).glob(f"*.{kind}"):
                if path.name not in done:
                    done.add(path.name)
                    say(f"{kind}/{path.name}")

        label_model.label_stream(
            result, votes, folder / kind, part_items=500, file_format=kind, on_progress=progress
        )


def _label_stream_lost(folder: Path, said: Sequence[str]) -> int:
    lost = 0
    for kind in ("npy", "npz"):
        for path in (folder / kind).glob(f"*.{kind}"):
            (probs,) = load_arrays(path).values()
            if probs.shape != (500, 2) or not np.allclose(probs.sum(axis=1), 1, atol=1e-5):
                raise AssertionError(f"{path} is half-written")
    for name in said:
        lost += 0 if (folder / name).exists() else 500 * 8
    return lost


def _files_digest(folder: Path, pattern: str) -> str:
    paths = sorted(path for path in folder.rglob(pattern) if path.is_file())
    return digest(*(path.name.encode() + path.read_bytes() for path in paths))


# ---- networks -----------------------------------------------------------------------------------


def _examples(folder: Path) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 5)).astype(np.float32)
    probs = np.stack([x[:, 0] > 0, x[:, 0] <= 0], axis=1).astype(np.float32)
    np.savez(folder / "x.npz", x=x)
    np.savez(folder / "probs.npz", probs=probs, leaf_names=np.array(["no", "yes"]))


def _train(inputs: Path, folder: Path, say: Say) -> None:
    options = ["--steps", "150", "--evaluate-every", "5", "--patience", "0", "--widths", "4"]
    arguments = ["train", "--labels", str(inputs / "probs.npz"), "--features"]
    arguments += [str(inputs / "x.npz"), "--out", str(folder / "model"), "--quiet", *options]
    with _saved_steps(folder / "model" / "checkpoints", say):
        _command([*arguments, "--log", str(folder / "runs.jsonl")], say)


@contextlib.contextmanager
def _saved_steps(checkpoints: Path, say: Say) -> Iterator[None]:
    """Say each step that has its checkpoint: what a kill from then on may not cost."""
    ended = threading.Event()

    def watch() -> None:
        said = 0
        while not ended.wait(0.01):
            if (step := _newest_step(checkpoints)) > said:
                said = step
                say(f"saved {step}")

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _newest_step(checkpoints: Path) -> int:
    """0 without any; one that is being written has another name."""
    return max((int(p.name) for p in checkpoints.glob("*") if p.name.isdigit()), default=0)


def _command(arguments: Sequence[str], say: Say) -> None:
    say("start")
    status = command([*arguments, "--debug"])  # errors as they are
    if status:
        raise RuntimeError(f"exit status {status}")


def _train_lost(folder: Path, said: Sequence[str]) -> int:
    model = folder / "model" / "model"
    if model.exists() or model.with_name("model.old").exists():
        network.load_model(model)
    if (folder / "model" / "training.json").exists():
        json.loads((folder / "model" / "training.json").read_text())
    if (folder / "runs.jsonl").exists():
        _read_runs(folder / "runs.jsonl")
    saved = max((int(text.split()[1]) for text in said if text.startswith("saved")), default=0)
    return max(saved - _newest_step(folder / "model" / "checkpoints"), 0)


def _train_result(folder: Path) -> str:
    model = network.load_model(folder / "model" / "model")
    (run,) = _read_runs(folder / "runs.jsonl")
    curves = {role: {n: c.values for n, c in named.items()} for role, named in run.metrics.items()}
    return digest(_arrays_digest(model.params).encode(), repr((curves, run.status)).encode())


def _read_runs(path: Path) -> tuple[exhaust.Run, ...]:
    reading = exhaust.read_runs(path)
    # A last line without its end is a record that never was; the next writer sets it aside.
    torn = not path.read_bytes().endswith(b"\n")
    if len(reading.problems) > torn:
        raise AssertionError(f"{path}: {reading.problems}")
    return reading.runs


# ---- logs ---------------------------------------------------------------------------------------


def _record(inputs: Path, folder: Path, say: Say) -> None:
    """One hundred runs of four epochs; those that are there are not run again."""
    path = folder / "runs.jsonl"
    exhaust.recover_runs(path)
    done = {run.run for run in exhaust.read_runs(path).runs} if path.exists() else set()
    for number in range(100):
        if f"r{number}" in done:
            continue
        with exhaust.RunRecorder(path, exhaust.Run(f"r{number}")) as recorder:
            for epoch in range(4):
                recorder.epoch({"train/loss": number + 1 / (epoch + 1)}, seconds=1.0)
                say(f"r{number} {epoch + 1}")


def _record_lost(folder: Path, said: Sequence[str]) -> int:
    path = folder / "runs.jsonl"
    exhaust.recover_runs(path)  # whoever reads after a crash; what it adds is kept
    runs = {run.run: run for run in (_read_runs(path) if path.exists() else ())}
    lost = 0
    for text in said:
        name, epoch = text.split()
        run = runs.get(name)
        values = run.metrics["train"]["loss"].values if run and run.metrics else ()
        expected = [int(name[1:]) + 1 / (i + 1) for i in range(len(values))]
        if list(values) != expected:
            raise AssertionError(f"{name}: {values}")
        lost += 0 if len(values) >= int(epoch) else 8
    return lost


def _record_result(folder: Path) -> str:
    runs = _read_runs(folder / "runs.jsonl")
    return digest(repr(sorted(run.run for run in runs)).encode())


def _logs(folder: Path) -> None:
    source = folder / "logs"
    source.mkdir()
    for number in range(40):
        rows = "".join(f"{epoch},{number / (epoch + 1)}\n" for epoch in range(300))
        (source / f"{number}.csv").write_text(f"epoch,loss\n{rows}")


def _import(inputs: Path, folder: Path, say: Say) -> None:
    arguments = ["exhaust", "import", str(inputs / "logs"), "--out", str(folder / "runs.jsonl")]
    _command([*arguments, "--reader", "keras-log", "--quiet"], say)
    say("done")


def _import_lost(folder: Path, said: Sequence[str]) -> int:
    if (folder / "runs.jsonl").exists():
        runs = _read_runs(folder / "runs.jsonl")
        if len(runs) != 40 or any(len(r.metrics["train"]["loss"].values) != 300 for r in runs):
            raise AssertionError("a part of the runs")
        return 0
    return 1 if "done" in said else 0


def _curves(folder: Path) -> None:
    rng = np.random.default_rng(2)
    runs = []
    for number in range(12):
        layers = tuple(
            exhaust.Layer("conv", {"filters": int(rng.integers(8, 64))})
            for _ in range(rng.integers(1, 4))
        )
        curve = exhaust.Curve(tuple(rng.random(3).tolist()), (1, 2, 3))
        metrics = {"validation": {"accuracy": curve}}
        runs.append(exhaust.Run(f"r{number}", architecture=layers, metrics=metrics))
    exhaust.write_runs(folder / "runs.jsonl", runs)


def _fit_predictor(inputs: Path, folder: Path, say: Say) -> None:
    arguments = ["exhaust", "fit", str(inputs / "runs.jsonl"), "--out", str(folder / "predictor")]
    _command([*arguments, "--members", "2", "--steps", "20", "--quiet"], say)
    predictor = exhaust.load_predictor(folder / "predictor")
    for _ in range(15):  # the writing alone, over what is there
        say("saved")
        exhaust.save_predictor(folder / "predictor", predictor)


def _fit_predictor_lost(folder: Path, said: Sequence[str]) -> int:
    path = folder / "predictor"
    if path.exists() or path.with_name("predictor.old").exists():
        exhaust.load_predictor(path)
        return 0
    return 1 if "saved" in said else 0


def _fit_predictor_result(folder: Path) -> str:
    predictor = exhaust.load_predictor(folder / "predictor")
    rest = repr(predictor._replace(params=None)).encode()
    return digest(_arrays_digest(predictor.params).encode(), rest)


# ---- labelling functions and reports ------------------------------------------------------------


@labeling.labeling_function("label", name="long")
def _long(item: str) -> Any:
    return "yes" if len(item) > 10 else labeling.ABSTAIN


@labeling.labeling_function("label", name="digit")
def _digit(item: str) -> Any:
    return "no" if "7" in item else labeling.ABSTAIN


def _apply(inputs: Path, folder: Path, say: Say) -> None:
    items = [f"item {number * number}" for number in range(4000)]
    applied = labeling.apply(
        [_long, _digit],
        items,
        TREE,
        cache=folder / "cache",
        block_size=40,
        on_progress=lambda progress: say(str(progress.num_items)),
    )
    with contextlib.suppress(FileNotFoundError):
        (folder / "votes").unlink()
    (folder / "votes").write_bytes(applied.votes.tobytes())


def _apply_lost(folder: Path, said: Sequence[str]) -> int:
    files = list(folder.rglob("*.npz"))
    for path in files:
        if load_arrays(path)["votes"].shape != (40, 1):
            raise AssertionError(f"{path} is half-written")
    blocks = max(map(int, said), default=0) // 40
    return 40 * 4 * max(2 * blocks - 2 - len(files), 0)


def _page(number: int) -> report.Report:
    rows = [[f"<item {i}>", i * number] for i in range(200)]
    table = report.Table("items", "", [report.Column("name"), report.Column("value")], rows)
    return report.Report(f"version {number}", "", [report.Section("Table", [table])])


def _report(inputs: Path, folder: Path, say: Say) -> None:
    for number in range(40):
        report.write_html(_page(number), folder / "report.html")
        say(str(number))


def _report_lost(folder: Path, said: Sequence[str]) -> int:
    path = folder / "report.html"
    if not path.exists():
        return len(said)
    text = path.read_text(encoding="utf-8")
    number = int(text.partition("<h1>version ")[2].partition("<")[0])
    if text != report.to_html(_page(number)):
        raise AssertionError("the report is half-written")
    return max(int(said[-1]) - number, 0) if said else 0


JOBS: dict[str, Job] = {
    "label-model fit (stream)": Job(
        _votes, _fit_stream, _fit_stream_lost, lambda folder: (folder / "result").read_text(), 0.4
    ),
    "streaming write of labels": Job(
        _votes,
        _label_stream,
        _label_stream_lost,
        lambda folder: _files_digest(folder, "*.np[yz]"),
        0.4,
    ),
    "network training": Job(_examples, _train, _train_lost, _train_result, 0.4),
    "recording of runs": Job(lambda folder: None, _record, _record_lost, _record_result),
    "report": Job(
        lambda folder: None, _report, _report_lost, lambda folder: _files_digest(folder, "*.html")
    ),
    "cache of labelling functions": Job(
        lambda folder: None,
        _apply,
        _apply_lost,
        lambda folder: digest((folder / "votes").read_bytes()),
    ),
    "exhaust import": Job(
        _logs, _import, _import_lost, lambda folder: _files_digest(folder, "*.jsonl")
    ),
    "exhaust fit": Job(_curves, _fit_predictor, _fit_predictor_lost, _fit_predictor_result, 0.4),
}
