"""Readers on files of any content: a sound result, ValueError or OSError, never another error."""

import contextlib
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.studies.fuzz_targets import seeds
from metal_jax import datasets, exhaust, export, interop, label_model, labeling, network, task_tree
from metal_jax._core.json_text import json_checksum
from metal_jax.task_tree import TaskTree

TREE = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
COLUMNS = exhaust.Columns({"train/loss": "loss"}, run="id", epoch="epoch")
PATTERNS = exhaust.LogPatterns(
    [r"epoch (?P<epoch>\S+): loss (?P<loss>\S+)"], {"loss": "train/loss"}
)
NOTATIONS = {
    "read_cell_string": exhaust.read_cell_string,
    "read_keras_model": exhaust.read_keras_model,
    "read_layer_list": exhaust.read_layer_list,
    "read_layer_string": exhaust.read_layer_string,
    "read_recurrent_cell": exhaust.read_recurrent_cell,
    "read_torch_text": exhaust.read_torch_text,
}


def text_of(data):
    return data.decode("utf-8", "backslashreplace")


def signed(path):
    """The record of a predictor with the checksum that is right for it."""
    record = json.loads(path.read_bytes())
    if isinstance(record, dict):
        record = {**record, "schema": 4}
        record.pop("checksum", None)
        path.write_text(json.dumps(record | {"checksum": json_checksum(record)}))
    return path


def signed_model(path):
    """The record of a model with the checksum that is right for it."""
    record = json.loads(path.read_bytes())
    if isinstance(record, dict) and isinstance(record.get("custom_metadata"), dict):
        beside = record["custom_metadata"]
        beside["metadata_checksum"] = json_checksum(beside.get("metadata"))
        path.write_text(json.dumps(record))
    return path


# Name -> the file that is given anything, what reads it, and sound contents of it.
READERS = {
    "read_architecture": (
        "x", lambda p: exhaust.read_architecture(text_of(p.read_bytes()), "layer_string"),
        ["layer_string"]),
    **{name: ("x", lambda p, read=read: read(text_of(p.read_bytes())),
              [{"read_keras_model": "keras_json"}.get(name, name.removeprefix("read_"))])
       for name, read in NOTATIONS.items()},
    "read_keras_logs": ("x.json", exhaust.read_keras_logs, ["keras_json"]),
    "read_log_patterns": ("x.json", exhaust.read_log_patterns, ["patterns"]),
    "read_open_logs": (
        "metaqnn_cifar10.csv", lambda p: exhaust.read_open_logs(p.parent, "metaqnn_cifar10"),
        ["table_csv"]),
    "read_runs": ("x.jsonl", exhaust.read_runs, ["run_records"]),
    "recover_runs": ("x.jsonl", exhaust.recover_runs, ["run_records"]),
    "read_table": ("x.csv", lambda p: exhaust.read_table(p, COLUMNS), ["table_csv"]),
    "read_table tar": (
        "x.tar", lambda p: exhaust.read_table(p, COLUMNS), ["tar", "packed"]),
    "read_table zip": ("x.zip", lambda p: exhaust.read_table(p, COLUMNS), ["archive"]),
    "read_tensorboard": (
        "x.tfevents", lambda p: exhaust.read_tensorboard(p, {"loss": "train/loss"}),
        ["tensorboard"]),
    "read_text_logs": ("x.log", lambda p: exhaust.read_text_logs(p, PATTERNS), ["text_log"]),
    "load_predictor": (
        "predictor.json", lambda p: exhaust.load_predictor(p.parent), ["predictor"]),
    "load_predictor record": ("predictor.json", lambda p: exhaust.load_predictor(signed(p).parent),
                              ["predictor"]),
    "read_json": ("x.json", task_tree.read_json, ["tree"]),
    "read_votes": ("x.csv", labeling.read_votes, ["votes_csv"]),
    "read_votes npz": ("x.npz", lambda p: labeling.read_votes(p, TREE), ["votes_npz"]),
    "read_gold": ("x.csv", lambda p: labeling.read_gold(p, TREE, 3), ["gold_csv"]),
    "read_gold npz": ("x.npz", lambda p: labeling.read_gold(p, TREE, 3), ["gold_npz"]),
    "read_wrench": ("train.json", lambda p: labeling.read_wrench(p.parent, "train"),
                    ["votes_wrench"]),
    "read_wrench labels": ("label.json", lambda p: labeling.read_wrench(p.parent, "train"),
                           ["tree"]),
    "read_stream_labels": (
        "x.npy", lambda p: label_model.read_stream_labels([p]), ["votes_npy"]),
    "read_stream_labels npz": (
        "x.npz", lambda p: label_model.read_stream_labels([p]), ["votes_npz"]),
    "read_soft_labels": ("x.jsonl", lambda p: interop.read_soft_labels(p, TREE), ["votes_wrench"]),
    "load_trec": ("fine_labels.json", lambda p: datasets.load_trec(p.parent, small_size=0),
                  ["fine"]),
    "load_trec rows": ("train.jsonl", lambda p: datasets.load_trec(p.parent, small_size=0),
                       ["texts"]),
    "load_trec arrays": ("train.npz", lambda p: datasets.load_trec(p.parent, small_size=0),
                         ["votes_npz", "gold_npz"]),
    "load_openi": ("labels.json", lambda p: datasets.load_openi(p.parent, small_size=0),
                   ["names"]),
    "load_openi arrays": ("train.npz", lambda p: datasets.load_openi(p.parent, small_size=0),
                          ["votes_npz", "gold_npz"]),
    "load_clinc150": ("domains.json", lambda p: datasets.load_clinc150(p.parent, small_size=0),
                      ["domains"]),
    "load_clinc150 rows": ("train.jsonl",
                           lambda p: datasets.load_clinc150(p.parent, small_size=0), ["texts"]),
    "load_model": (
        "model/_CHECKPOINT_METADATA", lambda p: network.load_model(p.parent), ["model"]),
    "load_model arrays": (
        "model/state/_METADATA", lambda p: network.load_model(p.parents[1]), ["model"]),
    "load_model record": (
        "model/_CHECKPOINT_METADATA", lambda p: network.load_model(signed_model(p).parent),
        ["model"]),
    "load": ("x.bin", export.load, ["exported"]),
}  # fmt: skip
OWN = {
    "predictor": [
        json.dumps(
            {
                "params": "params",
                "config": dataclasses.asdict(exhaust.PredictorConfig()),
                "inputs": {},
                "curves": None,
                "targets": ["a"],
                "judged": [],
            }
        )
    ],
    "patterns": ['{"patterns": ["loss (?P<loss>.*)"], "fields": {"loss": "train/loss"}}'],
    "fine": ['{"fine": ["A:b", "A:c"], "parent": [0, 0]}'],
    "names": ['{"lf_names": ["a", "b"]}'],
    "texts": ['{"text": "a", "intent": "carry_on", "domain": "travel"}\n'],
    "domains": ['{"domains": {"travel": ["book_flight", "carry_on"]}}'],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which each reader finds what it needs beside the file under test."""
    folder = tmp_path_factory.mktemp("any")
    (folder / "label.json").write_text('{"0": "a", "1": "b"}')
    (folder / "train.json").write_text('{"0": {"label": 1, "weak_labels": [0, 1]}}')
    (folder / "fine_labels.json").write_text(OWN["fine"][0])
    (folder / "labels.json").write_text(OWN["names"][0])
    (folder / "domains.json").write_text(OWN["domains"][0])
    for split in ("train", "valid", "val", "test"):
        (folder / f"{split}.jsonl").write_text(OWN["texts"][0])
        np.savez(folder / f"{split}.npz", L=np.array([[0, -1]]), Y=[0], Y_fine=[0], Y_urgency=[0])
    inputs = network.fit_inputs("features", [[0.0], [1.0]])
    params = network.build(TREE, inputs.encoder).init(jax.random.key(0), inputs.encode([[0.0]]))
    network.save_model(folder / "model", network.Model(TREE, inputs, params))
    export.save(folder / "sound.bin", export.lower(jnp.sin, jnp.ones(1), platforms=["cpu"]))
    return folder


def sound(kind, name, folder):
    """Contents to start from."""
    if kind == "model":
        return [(folder / name).read_bytes()] if (folder / name).is_file() else [b"{}"]
    if kind == "exported":
        return [(folder / "sound.bin").read_bytes()]
    if kind in OWN:
        return [text.encode() for text in OWN[kind]]
    return seeds(kind, folder)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
PIECES = [b"", b"\x00", b"\xff", b'"', b"{", b"[" * 200, b"-1", b"9" * 30, b"1e999", b"NaN",
          b"null", b"\n", b",", b"\\ud800", "٣".encode()]  # fmt: skip


@st.composite
def changed(draw, contents):
    """Anything at all, JSON, a sound content with a value replaced, or with bytes replaced."""
    kind = draw(st.integers(0, 4))
    if kind == 0:
        return draw(st.binary(max_size=40) | st.text(max_size=40).map(lambda x: x.encode("utf-8")))
    if kind == 1:
        return json.dumps(draw(values)).encode()
    data = draw(st.sampled_from(contents))
    if kind == 2:
        with contextlib.suppress(ValueError):
            return json.dumps(draw(replaced_values(json.loads(data)))).encode()
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        end = draw(st.sampled_from([at, at + 1, at + 8, len(data)]))
        data = data[:at] + draw(st.sampled_from(PIECES)) + data[end:]
    return data


@st.composite
def replaced_values(draw, value):
    """JSON in which one entry, at any depth, is something else."""
    if isinstance(value, dict | list) and value and draw(st.integers(0, 3)):
        keys = sorted(value) if isinstance(value, dict) else range(len(value))
        key = draw(st.sampled_from(keys))
        again = dict(value) if isinstance(value, dict) else list(value)
        again[key] = draw(replaced_values(value[key]))
        return again
    return draw(values)


def try_reader(name, folder, data):
    """Run one reader on anything, in its place in the folder."""
    file, read, kinds = READERS[name]
    path = folder / file
    before = path.read_bytes() if path.is_file() else None
    contents = [content for kind in kinds for content in sound(kind, file, folder)]
    content = data.draw(changed(contents))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    try:
        with contextlib.suppress(ValueError, OSError):
            read(path)
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READERS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_content(folder, name, data):
    try_reader(name, folder, data)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READERS)
@settings(max_examples=500, deadline=None, derandomize=False)
@given(data=st.data())
def test_any_content_for_long(folder, name, data):
    try_reader(name, folder, data)


@pytest.mark.parametrize("name", READERS)
def test_sound_content_is_read(folder, name):
    """The readers that are given changed contents take the unchanged ones."""
    file, read, kinds = READERS[name]
    if kinds[0] in OWN.keys() - {"predictor"} or kinds[0] in ("model", "exported"):
        path = folder / file
        before = path.read_bytes() if path.is_file() else None
        path.write_bytes(sound(kinds[0], file, folder)[0])
        read(path)
        if before is not None:
            path.write_bytes(before)
