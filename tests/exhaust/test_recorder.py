import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from metal_jax.exhaust import (
    KerasRecorder,
    Layer,
    Run,
    RunRecorder,
    read_runs,
    recover_runs,
    run_of_keras,
    run_of_torch,
)


def test_status_is_judged(tmp_path):
    path = tmp_path / "runs.jsonl"
    with RunRecorder(path, Run("good")) as recorder:
        recorder.epoch({"train/loss": 1, "validation/accuracy": 0.5}, seconds=2)
        recorder.epoch({"train/loss": 0.5}, seconds=3)
    with RunRecorder(path, Run("bad")) as recorder:
        recorder.epoch({"train/loss": math.nan})
    with pytest.raises(KeyboardInterrupt), RunRecorder(path, Run("stopped")):
        raise KeyboardInterrupt
    good, bad, stopped = read_runs(path).runs
    assert [run.status for run in (good, bad, stopped)] == ["finished", "diverged", "killed"]
    assert good.metrics["validation"]["accuracy"].epochs == (1,)
    assert good.seconds == (2, 3)
    assert bad.seconds[0] >= 0
    assert not list((tmp_path / "runs.jsonl.unfinished").iterdir())


def test_a_killed_process_is_recovered(tmp_path):
    path = tmp_path / "runs.jsonl"
    code = f"""
import os
from metal_jax.exhaust import Run, RunRecorder
recorder = RunRecorder({str(path)!r}, Run("odd/../id é", num_params=7))
for i in range(3):
    recorder.epoch({{"train/loss": float("inf") if i == 1 else i}}, seconds=i)
os._exit(9)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env={**os.environ, "JAX_PLATFORMS": "cpu"}
    )
    assert done.returncode == 9
    assert not path.exists()
    (journal,) = (tmp_path / "runs.jsonl.unfinished").iterdir()
    with journal.open("a") as file:
        file.write('{"epoch": 4, "met')
    with pytest.raises(ValueError, match="recover_runs"):
        RunRecorder(path, Run("odd/../id é"))
    runs, problems = recover_runs(path)
    assert [p.line for p in problems] == [5]
    assert runs[0].metrics["train"]["loss"].values == (0, math.inf, 2)
    assert read_runs(path).runs == (runs[0],)
    assert (runs[0].status, runs[0].num_params) == ("killed", 7)
    assert recover_runs(path) == ([], [])


def test_a_run_killed_after_its_line_is_not_recorded_twice(tmp_path, monkeypatch):
    path = tmp_path / "runs.jsonl"
    recorder = RunRecorder(path, Run("a"))
    recorder.epoch({"train/loss": math.nan})

    def killed(self):
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(OSError, match="killed"):
            recorder.finish()
    assert recover_runs(path) == ([], [])
    assert [run.status for run in read_runs(path).runs] == ["diverged"]
    assert not list((tmp_path / "runs.jsonl.unfinished").iterdir())


def test_mistakes_leave_the_run_as_it_was(tmp_path):
    path = tmp_path / "runs.jsonl"
    recorder = RunRecorder(path, Run("a"))
    with pytest.raises(ValueError, match="role/name"):
        recorder.epoch({"loss": 1})
    with pytest.raises(ValueError, match="status"):
        recorder.finish("fine")
    recorder.epoch({"train/loss": 1})
    assert recorder.finish() == recorder.finish()
    with pytest.raises(ValueError, match="over"):
        recorder.epoch({"train/loss": 1})
    assert len(read_runs(path).runs) == 1


class Optimiser:
    param_groups = [{"params": [1], "lr": 0.1, "betas": (0.9, 0.99), "foreach": None, "odd": {1}}]

    def get_config(self):
        return {"name": "sgd", "learning_rate": 0.5}


class Model:
    optimizer = Optimiser()

    def __init__(self, text="Net( (0): ReLU() )"):
        self.text = text

    def __str__(self):
        return self.text

    def parameters(self):
        parameter = type("P", (), {"numel": lambda self: 12, "requires_grad": True})
        return [parameter(), parameter()]

    def count_params(self):
        return 24

    def to_json(self):
        layers = [{"class_name": "Dense", "config": {"units": 3}}]
        return json.dumps({"class_name": "Sequential", "config": {"layers": layers}})


def test_hooks_of_frameworks(tmp_path):
    path = tmp_path / "runs.jsonl"
    run = run_of_keras("k", Model(), batch_size=8)
    assert run.architecture == (Layer("Dense", {"units": 3}),)
    assert run.optimiser == {"name": "sgd", "learning_rate": 0.5}
    callback = KerasRecorder(RunRecorder(path, run))
    callback.set_model(None)
    callback.on_train_batch_begin(0, logs={})
    callback.on_epoch_end(0, {"loss": 1.0, "val_loss": 2.0})
    callback.on_train_end()
    (read,) = read_runs(path).runs
    assert read.metrics["validation"]["loss"].values == (2,)
    assert read.batch_size == 8
    torch = run_of_torch("t", Model(), Optimiser())
    assert torch.num_params == 24
    assert torch.optimiser["lr"] == 0.1
    assert torch.optimiser["odd"] == "{1}"
    assert torch.architecture == (Layer("ReLU", {}, "0"),)
    odd = run_of_torch("t", Model("<object>"))
    assert odd.architecture is None
    assert odd.extra == {"printed_model": "<object>"}
