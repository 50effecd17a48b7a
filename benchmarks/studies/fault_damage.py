"""What `faults` damages: folders that the library writes, and how each is read."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.studies import fault_jobs
from benchmarks.studies.fault_jobs import TREE


def _silent(text: str) -> None:
    pass


def _write_model(folder: Path) -> None:
    fault_jobs._examples(folder)
    fault_jobs._train(folder, folder / "out", _silent)


def _write_network(folder: Path) -> None:
    import jax

    from metal_jax import network

    inputs = network.fit_inputs("bag", ["red fox", "blue sky and sea", "red sea"])
    net = network.build(TREE, inputs.encoder)
    params = net.init(jax.random.key(0), inputs.encode(["red"]))
    network.save_model(folder / "model", network.Model(TREE, inputs, params))


def _read_network(folder: Path) -> str:
    from metal_jax import network

    model = network.load_model(folder / "model")
    rest = repr((model.inputs, model._replace(params=None, inputs=model.tree)))
    return fault_jobs.digest(fault_jobs._arrays_digest(model.params).encode(), rest.encode())


def _write_predictor(folder: Path) -> None:
    fault_jobs._curves(folder)
    fault_jobs._fit_predictor(folder, folder, _silent)
    (folder / "runs.jsonl").unlink()


def _write_params(folder: Path) -> None:
    from metal_jax import checkpoint

    params = {"w": np.arange(3000, dtype=np.float32), "b": np.arange(3)}
    checkpoint.save(folder / "params", params, {"classes": ["a", "b"], "rate": 0.125})


def _read_params(folder: Path) -> str:
    from metal_jax import checkpoint

    like = {"w": np.zeros(3000, np.float32), "b": np.zeros(3, int)}
    found = checkpoint.load(folder / "params", like)
    metadata = checkpoint.load_metadata(folder / "params")
    return fault_jobs.digest(fault_jobs._arrays_digest(found).encode(), repr(metadata).encode())


def _write_training(folder: Path) -> None:
    from metal_jax.checkpoint import CheckpointConfig, TrainingCheckpoints

    store = TrainingCheckpoints(CheckpointConfig(folder / "training"))
    store.restore({"seed": 1})
    for step in (10, 20):
        # The same in both: whichever is whole gives it.
        store.save(step, {"w": np.arange(3000.0)}, {"note": "a"}, cost=0.5)
    store.close()


def _read_training(folder: Path) -> str:
    from metal_jax.checkpoint import CheckpointConfig, TrainingCheckpoints

    store = TrainingCheckpoints(CheckpointConfig(folder / "training"))
    found = store.restore({"seed": 1})
    if found is None:
        raise ValueError("nothing there")  # the training begins anew
    return fault_jobs.digest(fault_jobs._arrays_digest(found[0]).encode(), repr(found[1]).encode())


def _write_fit(folder: Path) -> None:
    fault_jobs._votes(folder)
    fault_jobs._fit_stream(folder, folder, _silent)


def _read_fit(folder: Path) -> str:
    """The votes are inputs; the fit's checkpoint is what is taken up."""
    (folder / "result").unlink(missing_ok=True)
    fault_jobs._fit_stream(folder, folder, _silent)
    return (folder / "result").read_text()


def _write_cache(folder: Path) -> None:
    fault_jobs._apply(folder, folder, _silent)
    (folder / "votes").unlink()


def _read_cache(folder: Path) -> str:
    fault_jobs._apply(folder, folder, _silent)
    return fault_jobs.digest((folder / "votes").read_bytes())


def _write_export(folder: Path) -> None:
    from metal_jax import export, label_model

    votes = np.tile([[0, 0, -1], [1, -1, 1], [0, 1, 0], [-1, 1, 1]], (10, 1))
    result = label_model.fit_dawid_skene(votes, TREE)
    export.save(folder / "model.bin", export.lower_label_model(result))


def _read_export(folder: Path) -> str:
    from metal_jax import export

    votes = np.tile([[0, 0, -1], [1, -1, 1]], (3, 1)).astype(np.int32)
    return fault_jobs._arrays_digest(export.load(folder / "model.bin").call(votes))


Write = Callable[[Path], None]
Read = Callable[[Path], Any]

DAMAGED: dict[str, tuple[Write, Read]] = {
    "label-model parameters": (_write_params, _read_params),
    "network model": (_write_network, _read_network),
    "training checkpoints": (_write_training, _read_training),
    "predictor": (_write_predictor, fault_jobs._fit_predictor_result),
    "checkpoint of a stream fit": (_write_fit, _read_fit),
    "cache of labelling functions": (_write_cache, _read_cache),
    "exported function": (_write_export, _read_export),
}

_INPUTS = ("votes.npy",)


def damages(
    whole: Path, beside: Path, per_file: int, rng: random.Random, most_files: int = 12
) -> Iterator[tuple[Path, str]]:
    """Copies of a folder with one file damaged.

    Args:
        whole: the folder.
        beside: where the copies go.
        per_file: copies with a changed bit for each file, beside those that are cut.
        rng: chooses.
        most_files: of a folder with more, some are chosen.

    Yields:
        The copy, and what was done to it.
    """
    files = [p for p in sorted(whole.rglob("*")) if p.is_file() and p.name not in _INPUTS]
    number = 0
    for path in rng.sample(files, min(len(files), most_files)):
        content = path.read_bytes()
        name = path.relative_to(whole)
        changes: list[tuple[str, bytes | None]] = [("removed", None), ("emptied", b"")]
        changes += [(f"cut to {share:.0%}", content[: int(len(content) * share)])
                    for share in (0.5, 0.95)]  # fmt: skip
        for _ in range(per_file if content else 0):
            at, bit = rng.randrange(len(content)), rng.randrange(8)
            changed = bytearray(content)
            changed[at] ^= 1 << bit
            changes.append((f"bit {bit} of byte {at}", bytes(changed)))
        for what, new in changes:
            number += 1
            copy = beside / f"copy-{number}"
            shutil.copytree(whole, copy)
            (copy / name).unlink()
            if new is not None:
                (copy / name).write_bytes(new)
            yield copy, f"{name}: {what}"
