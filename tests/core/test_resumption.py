"""A training that is killed and taken up again ends bit for bit where the others do."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from trained_until_killed import run

from metal_jax.exhaust import read_runs, recover_runs

SCRIPT = Path(__file__).with_name("trained_until_killed.py")
ROOT = Path(__file__).parents[2]


def train_until_killed(*arguments):
    """Run the script; whether it was killed before it came to its end."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], env=environment)
    assert done.returncode in (0, -signal.SIGKILL)
    return done.returncode != 0


def assert_same_result(one, other):
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
    np.testing.assert_array_equal(one.train_loss, other.train_loss)
    np.testing.assert_array_equal(one.scores["loss"], other.scores["loss"])
    assert one.best_step.tolist() == other.best_step.tolist()


@pytest.mark.filterwarnings("ignore:the iterator of batches has no get_state")
@pytest.mark.parametrize(
    ("num_kills", "num_steps", "streamed"),
    [
        (2, 100, True),
        pytest.param(20, 600, False, marks=pytest.mark.slow),
        pytest.param(20, 600, True, marks=pytest.mark.slow),
    ],
)
def test_a_killed_training_ends_where_it_would_have(tmp_path, num_kills, num_steps, streamed):
    folder, log = tmp_path / "checkpoints", tmp_path / "runs.jsonl"
    expected = run(None, None, num_steps, streamed)
    kills = [train_until_killed(folder, log, num_steps, streamed) for _ in range(num_kills)]
    assert kills[0]
    assert sum(kills) > num_kills / 2
    result = run(folder, log, num_steps, streamed)
    assert_same_result(result, expected)
    assert_same_result(run(folder, log, num_steps, streamed), expected)  # nothing is left to do
    # A process killed before its first checkpoint leaves a run of its own; none is told twice.
    runs, problems = read_runs(log)
    assert problems == ()
    assert [(r.run, r.status) for r in runs] == [(f"a-{i}", "finished") for i in range(3)]
    for replica, found in enumerate(runs):
        assert found.metrics["train"]["loss"].values == tuple(result.train_loss[:, replica])
        assert found.seconds == tuple(result.seconds)
    assert recover_runs(log) == ([], [])


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    expected = run(tmp_path, None, 40)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["30", "40", "training.json"]
    for path in (tmp_path / "40").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    steps = []
    resumed = run(tmp_path, None, 40, on_progress=lambda step, scores: steps.append(step))
    assert steps == [40]
    assert_same_result(resumed, expected)
    assert_same_result(run(tmp_path, None, 40), expected)


def test_another_training_is_refused(tmp_path):
    run(tmp_path, None, 20)
    with pytest.raises(ValueError, match="another training: training.num_steps: saved 20, exp"):
        run(tmp_path, None, 30)
    with pytest.raises(ValueError, match=r"data.x: saved float32\[60, 20\] crc32 \w+, expected no"):
        run(tmp_path, None, 20, streamed=True)
