"""Logs of a training, read back by the readers of `exhaust`."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metal_jax._core.event_files import EventFileWriter, masked_crc
from metal_jax._core.run_journal import RunJournal
from metal_jax._core.training import train
from metal_jax._core.training_config import TrainingConfig
from metal_jax._core.training_history import History
from metal_jax._core.training_logs import LogConfig, TrainingLog
from metal_jax.exhaust import read_runs, read_tensorboard, recover_runs

OPTIMISER = optax.sgd(0.1)
CONFIG = TrainingConfig(4, 30, 10, 0)


def init(key, batch):
    return {"w": jnp.zeros(3), "b": jnp.zeros(())}


def loss(params, batch, key):
    return jnp.mean((batch @ params["w"] + params["b"] - 1) ** 2)


def score(params, validation):
    value = loss(params, validation, None)
    return {"loss": value, "fit": 1 / (1 + value)}


def run(log, data=None, num_replicas=1, on_progress=None):
    data = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32) if data is None else data
    keys = jax.random.split(jax.random.key(0), num_replicas)
    return train(
        init, loss, score, OPTIMISER, data, data, CONFIG, keys, log=log, on_progress=on_progress
    )


def test_a_run_is_read_back(tmp_path):
    path = tmp_path / "runs.jsonl"
    result = run(LogConfig(path, tmp_path / "events", "a", {"optimiser": {"name": "sgd"}}))
    (found,), problems = read_runs(path)
    assert problems == ()
    assert (found.run, found.status, found.num_params, found.batch_size) == ("a", "finished", 4, 4)
    assert found.optimiser == {"name": "sgd"}
    assert found.extra == {"steps_per_epoch": 10}
    assert found.metrics["train"]["loss"].values == tuple(result.train_loss[:, 0].tolist())
    assert found.metrics["validation"]["loss"].goal == "min"
    assert found.metrics["validation"]["fit"].values == tuple(result.scores["fit"][:, 0].tolist())
    assert found.seconds == tuple(result.seconds.tolist())
    assert not list((tmp_path / "runs.jsonl.unfinished").iterdir())

    tags = {"train/loss": "train/loss", "validation/fit": "validation/fit"}
    (events,), problems = read_tensorboard(tmp_path / "events", tags)
    assert problems == ()
    assert events.run == "a"
    assert events.metrics["train"]["loss"].values == found.metrics["train"]["loss"].values
    assert events.metrics["validation"]["fit"].epochs == (11, 21, 31)  # the steps, from 0


def test_replicas_are_runs_of_their_own(tmp_path):
    path = tmp_path / "runs.jsonl"
    run(path_log := LogConfig(path), num_replicas=2)
    run(path_log)
    runs, problems = read_runs(path)
    assert problems == ()
    names = [found.run for found in runs]
    assert names[0][:-2] == names[1][:-2] != names[2]
    assert [name[-2:] for name in names[:2]] == ["-0", "-1"]
    assert [len(found.seconds) for found in runs] == [3, 3, 3]


def test_exceptions_and_divergence(tmp_path):
    path = tmp_path / "runs.jsonl"

    def stop(step, scores):
        if step == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(LogConfig(path, run="stopped"), on_progress=stop)
    run(LogConfig(path, run="diverged"), np.full((8, 3), np.inf, np.float32))
    (stopped, diverged), problems = read_runs(path)
    assert problems == ()
    assert (stopped.status, len(stopped.seconds)) == ("killed", 2)
    assert diverged.status == "diverged"
    assert all(math.isnan(value) for value in diverged.metrics["train"]["loss"].values)


def test_a_training_that_goes_on_takes_its_journal_over(tmp_path):
    path = tmp_path / "runs.jsonl"
    config = LogConfig(path, tmp_path / "events", run="a")
    history = History()

    def evaluation(value):
        values = np.array([value])
        history.add(len(history.steps) + 1, values, {"loss": values}, value)

    def log():
        return TrainingLog(config, {}, {}, 1, history, resumable=True)

    def interrupted():
        with log() as writer:
            for value in (1.0, 2.0, 3.0):
                evaluation(value)
                writer.write()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    # The last evaluation came after the checkpoint: it will be another one.
    history = History(
        history.steps[:2], history.train_loss[:2], {"loss": history.scores["loss"][:2]}, [1.0, 2.0]
    )
    with log() as writer:
        (journal,) = (tmp_path / "runs.jsonl.unfinished").iterdir()
        assert len(journal.read_text().splitlines()) == 3
        evaluation(4.0)
        writer.write()
    with log():  # finished already, and taken up once more
        pass
    (found,), problems = read_runs(path)
    assert problems == ()
    assert found.metrics["train"]["loss"].values == found.seconds == (1, 2, 4)
    tags = {"train/loss": "train/loss"}
    (events,), problems = read_tensorboard(tmp_path / "events", tags)
    assert problems == ()
    assert events.metrics["train"]["loss"].values == (1, 2, 4)


def test_a_killed_journal_is_refused_unless_it_is_taken_over(tmp_path):
    path = tmp_path / "runs.jsonl"
    record = {"schema": 1, "run": "a"}
    journal = RunJournal(path, record, [(1, {"train/loss": math.inf}, 2.0)])
    journal.close()
    with pytest.raises(ValueError, match="recover_runs"):
        RunJournal(path, record)
    RunJournal(path, record, [(1, {"train/loss": 3.0}, 2.0)], replace=True).close()
    (found,), problems = recover_runs(path)
    assert problems == []
    assert found.metrics["train"]["loss"].values == (3.0,)
    assert found.status == "killed"


def test_fields_of_the_training_are_refused():
    with pytest.raises(ValueError, match=r"fields: got \['metrics'\]"):
        LogConfig("x", fields={"metrics": {}})


def test_event_files(tmp_path):
    # CRC-32C of "123456789" is e3069283.
    crc = 0xE3069283
    assert masked_crc(b"123456789") == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    writer = EventFileWriter(tmp_path / "events.tfevents.0")
    values = {"plain": 0.1, "é/ü": -2.5, "inf": math.inf, "huge": -1e300, "nan": math.nan}
    for step in (0, 1, 300, 2**40):
        writer.scalars(step, {name: value * (step or 1) for name, value in values.items()})
    writer.close()
    (run,), problems = read_tensorboard(tmp_path, {"plain": "train/plain"})
    assert problems == ()
    found = run.extra["scalars"]
    assert found["é/ü"] == {"steps": [0, 1, 300, 2**40], "values": [-2.5, -2.5, -750, -2.5 * 2**40]}
    assert found["inf"]["values"] == ["inf"] * 4
    assert found["huge"]["values"] == ["-inf"] * 4
    assert found["nan"]["values"] == ["nan"] * 4
    np.testing.assert_allclose(
        run.metrics["train"]["plain"].values, np.float32([0.1, 0.1, 30, 0.1 * 2**40])
    )
    json.dumps(run.extra, allow_nan=False)
