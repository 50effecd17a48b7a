"""The readers that `fuzz` tries: groups of targets, and a sound input or several of each."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Target = Callable[[bytes], Any]
"""Reads bytes; may raise ValueError, nothing else."""


def architectures(folder: Path) -> dict[str, Target]:
    """Architectures as strings: torch, Keras JSON, NAS cells, MetaQNN, recurrent cells, lists."""
    from metal_jax import exhaust

    def reader(notation: str) -> Target:
        def read(data: bytes) -> None:
            found = exhaust.read_architecture(data.decode("utf-8", "backslashreplace"), notation)
            run = exhaust.Run("a", architecture=found)
            exhaust.num_layers(found)
            exhaust.to_json(run)

        return read

    names = ("cell_string", "keras_json", "layer_list", "layer_string", "recurrent_cell")
    return {name: reader(name) for name in (*names, "torch_text")}


def logs(folder: Path) -> dict[str, Target]:
    """Files of logs: text, tables, Keras, TensorBoard, run records."""
    from metal_jax import exhaust

    patterns = exhaust.LogPatterns(
        [
            r"epoch (?P<epoch>\S+): loss (?P<loss>\S+)",
            r"accuracy (?P<accuracy>\S+) in (?P<seconds>\S+) s",
            r"net (?P<architecture>.*)",
            r"run (?P<run>\S+)",
        ],
        {"loss": "train/loss", "accuracy": "validation/accuracy"},
        notation="layer_string",
    )
    columns = exhaust.Columns(
        {"train/loss": "loss", "validation/accuracy": "acc_{epoch}"},
        run="id",
        architecture="net",
        notation="layer_string",
        num_params="params",
        seconds="seconds",
        status="status",
    )
    long = exhaust.Columns({"train/loss": "loss"}, run="id", epoch="epoch")

    def reader(suffix: str, read: Callable[[Path], Any]) -> Target:
        path = folder / f"input{suffix}"
        again = folder / "again.jsonl"

        def target(data: bytes) -> None:
            path.write_bytes(data)
            reading = read(path)
            again.write_bytes(b"")
            if not reading.runs:
                return
            with again.open("w") as file:
                for run in reading.runs:
                    try:
                        file.write(json.dumps(exhaust.to_json(run), allow_nan=False) + "\n")
                    except ValueError:
                        return
            back = exhaust.read_runs(again)
            if repr(back.runs) != repr(reading.runs):
                raise AssertionError(f"{back} is read back of {reading.runs}"[:500])

        return target

    return {
        "text_log": reader(".log", lambda p: exhaust.read_text_logs(p, patterns)),
        "table_csv": reader(".csv", lambda p: exhaust.read_table(p, columns)),
        "table_tsv": reader(".tsv", lambda p: exhaust.read_table(p, long)),
        "table_json": reader(".json", lambda p: exhaust.read_table(p, columns)),
        "table_jsonl": reader(".jsonl", lambda p: exhaust.read_table(p, long)),
        "table_npz": reader(".npz", lambda p: exhaust.read_table(p, columns)),
        "packed": reader(".csv.gz", lambda p: exhaust.read_table(p, columns)),
        "archive": reader(".zip", lambda p: exhaust.read_table(p, columns)),
        "tar": reader(".tar", lambda p: exhaust.read_table(p, columns)),
        "keras_csv": reader(".csv", exhaust.read_keras_logs),
        "keras_json": reader(".json", exhaust.read_keras_logs),
        "tensorboard": reader(
            ".tfevents", lambda p: exhaust.read_tensorboard(p, {"loss": "train/loss"})
        ),
        "run_records": reader(".jsonl", exhaust.read_runs),
    }


def tree(folder: Path) -> dict[str, Target]:
    """Task trees."""
    from metal_jax import task_tree

    path, again = folder / "tree.json", folder / "again.json"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        found = task_tree.read_json(path)
        if len(found.tasks) < 200:
            task_tree.draw(found)
        task_tree.write_json(found, again)
        if task_tree.read_json(again) != found:
            raise AssertionError("another tree is read back")

    return {"tree": read}


def votes(folder: Path) -> dict[str, Target]:
    """Label matrices and gold labels."""
    from metal_jax import labeling, task_tree

    nested = task_tree.TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
    (folder / "wrench").mkdir(exist_ok=True)
    (folder / "wrench" / "label.json").write_text('{"0": "no", "1": "yes"}')

    def reader(name: str, read: Callable[[Path], Any]) -> Target:
        path = folder / name

        def target(data: bytes) -> None:
            path.write_bytes(data)
            read(path)

        return target

    def stream(path: Path) -> None:
        for _ in labeling.VoteStream(path, batch_items=64):
            pass

    return {
        "votes_csv": reader("v.csv", labeling.read_votes),
        "votes_tree": reader("t.csv", lambda p: labeling.read_votes(p, nested)),
        "votes_npz": reader("v.npz", labeling.read_votes),
        "votes_npy": reader("v.npy", labeling.read_votes),
        "votes_wrench": reader("wrench/train.json", labeling.read_votes),
        "gold_csv": reader("g.csv", lambda p: labeling.read_gold(p, nested, 3)),
        "gold_npz": reader("g.npz", lambda p: labeling.read_gold(p, nested, 3)),
        "stream_npz": reader("s.npz", stream),
        "stream_npy": reader("s.npy", stream),
    }


GROUPS = {"architectures": architectures, "logs": logs, "tree": tree, "votes": votes}


def seeds(name: str, folder: Path) -> list[bytes]:
    """Sound inputs of a target, to start from."""
    from metal_jax import exhaust
    from metal_jax._core.event_files import EventFileWriter

    layer_list = '[{"type": "conv", "width": 16, "stride": [1, 2]}, {"type": "pool", "x": null}]'
    keras_layers = (
        '{"class_name": "Functional", "config": {"name": "m", "layers": [{"class_name": '
        '"InputLayer", "name": "i", "config": {"batch_shape": [null, 8]}, "inbound_nodes": []}, '
        '{"class_name": "Dense", "name": "d", "config": {"units": 3, "activation": "relu"}, '
        '"inbound_nodes": [[["i", 0, 0, {}]]]}]}}'
    )
    csv = (
        'id,net,params,seconds,status,acc_1,acc_2\na,C(8,3,1) SM(10),99,3,ok,0.1,0.4\nb,"x",,,,,\n'
    )
    long = "id\tepoch\tloss\na\t1\t3\na\t2\t2\nb\t1\tnan\n"
    rows = '[{"id": "a", "net": "SM(10)", "loss": [2.0, 1.0], "seconds": "3"}]'
    keras = '{"history": {"loss": [2, 1.5], "val_accuracy": [0.1, 0.2]}, "params": {"epochs": 2}}'
    run = exhaust.Run("a", architecture=(exhaust.Layer("conv", {"width": 3}),), seconds=(1.0, 2.0))
    events = folder / "seed.tfevents"
    writer = EventFileWriter(events)
    for step in range(3):
        writer.scalars(step, {"loss": 0.5, "other": float("nan")})
    writer.close()

    def saved(save: Callable[..., Any], **arrays: Any) -> bytes:
        file = io.BytesIO()
        save(file, **arrays) if save is not np.save else np.save(file, arrays["L"])
        return file.getvalue()

    def zipped() -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/t.csv", csv)
        return file.getvalue()

    def tarred() -> bytes:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as archive:
            entry = tarfile.TarInfo("t.csv")
            entry.size = len(csv)
            archive.addfile(entry, io.BytesIO(csv.encode()))
        return file.getvalue()

    torch_text = (
        "Net(\n  (features): Sequential(\n    (0): Conv2d(3, 16, kernel_size=(3, 3), bias=False)\n"
        "    (1-2): 2 x Block(\n      (a): ReLU(inplace=True)\n    )\n  )\n  (fc): "
        "Linear(in_features=16, out_features=10)\n)"
    )
    columns = {"id": np.arange(2), "loss": np.ones((2, 3)), "net": np.array(["SM(10)"] * 2)}
    matrix = np.array([[0, -1], [1, 1], [0, 0]])
    given: dict[str, list[str | bytes]] = {
        "cell_string": ["|conv~0|+|skip~0|pool~1|+|a~0|b~1|c~2|"],
        "keras_json": [keras_layers, keras, rows],
        "layer_list": [layer_list],
        "layer_string": ["[C(64,3,1), P(2,2), D(1,2), FC(128), SM(10)]", "GAP(10) XY(1.5)"],
        "recurrent_cell": ['{"a": {"op": "tanh", "input": ["x", "h_prev_0"]}, "h_new_0": {"op": '
                           '"blend", "input": ["a", "h_prev_0"]}}'],
        "torch_text": [torch_text],
        "text_log": ["run a\nnet C(8,3,1) SM(10)\nepoch 1: loss 2.5\naccuracy 0.5 in 3 s\nepoch 2: "
                     "loss nan\n", "epoch 1: loss 1e999\n"],
        "table_csv": [csv], "keras_csv": ["epoch,loss,val_loss\n0,2,1\n1,1,1\n"],
        "table_tsv": [long], "table_json": [rows, "[[1], 3, {}]"],
        "table_jsonl": ['{"id": "a", "epoch": 1, "loss": 2}\n{"id": "a", "epoch": 2, "loss": 1}'],
        "table_npz": [saved(np.savez, **columns), saved(np.savez_compressed, **columns)],
        "packed": [gzip.compress(csv.encode())], "archive": [zipped()], "tar": [tarred()],
        "tensorboard": [events.read_bytes()],
        "run_records": [json.dumps(exhaust.to_json(run)) + "\n"],
        "tree": ['{"a": {"x": {"b": ["u", "v"]}, "y": null}, "c": ["p", "q"]}', '{"t": ["x"]}',
                 '{"t": {"l": {"t2": {"l": null, "m": {}}}}}'],
        "votes_csv": ["item,worker,label\na,w,x\nb,w,y\na,v,y\n", 'item,lf,vote\n"a",1,0\nb,1,1\n'],
        "votes_tree": ["item,worker,label\na,w,u\nb,w,a=x\na,v,y\n"],
        "votes_npz": [saved(np.savez, L=matrix, k=2, items=np.array(["a", "b", "c"])),
                      saved(np.savez_compressed, L=matrix.astype(np.int8))],
        "votes_npy": [saved(np.save, L=matrix)],
        "votes_wrench": ['{"0": {"label": 1, "weak_labels": [-1, 0], "data": {"text": "a"}}}'],
        "gold_csv": ["item,label\n0,u\n1,y\n"],
        "gold_npz": [saved(np.savez, Y=np.array([0, 1, -1]))],
        "stream_npz": [saved(np.savez, L=matrix), saved(np.savez_compressed, L=matrix)],
        "stream_npy": [saved(np.save, L=matrix)],
    }  # fmt: skip
    return [text.encode() if isinstance(text, str) else text for text in given[name]]
