"""Real processes on this machine, joined over loopback: the same answers as one process gives."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from metal_jax.exhaust import read_runs
from metal_jax.label_model import StreamConfig, fit_stream
from metal_jax.labeling import VoteStream, overlap_statistics, synthetic_votes
from metal_jax.task_tree import TaskTree

WORKER, ROOT = Path(__file__).with_name("worker.py"), Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "09_many_devices.py"
TREE = TaskTree.single(3)
SECONDS = 600  # how long a run may take on a busy machine


def free_port():
    """A port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start(task, folder, count):
    """The processes of one run, each with its output in a file."""
    port = free_port()
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
    }
    processes = []
    for number in range(count):
        with open(folder / f"{task}-{number}.log", "w") as log:
            command = [sys.executable, WORKER, task, folder, port, count, number]
            if task == "example":
                command = [sys.executable, EXAMPLE, "--coordinator", f"127.0.0.1:{port}"]
                command += ["--processes", count, "--process", number, "--folder", folder]
                command += ["--steps", 50]
            processes.append(
                subprocess.Popen(
                    list(map(str, command)), env=environment, stdout=log, stderr=subprocess.STDOUT
                )
            )
    return processes


def finish(processes):
    """Wait for all of them; their exit statuses."""
    try:
        return [process.wait(SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()


def run(task, folder, count):
    """A run of which all processes succeed; the arrays that each of them wrote."""
    statuses = finish(start(task, folder, count))
    logs = "\n".join((folder / f"{task}-{i}.log").read_text()[-3000:] for i in range(count))
    assert statuses == [0] * count, logs
    found = []
    for number in range(count):
        with np.load(folder / f"{task}-{number}.npz") as file:
            found.append(dict(file))
    for other in found[1:]:
        for name, array in other.items():
            np.testing.assert_array_equal(array, found[0][name])
    return found[0]


def write_votes(folder, count):
    """Files of different lengths, one for each process; the whole matrix."""
    votes = np.asarray(synthetic_votes(jax.random.key(0), 1200, 6, TREE).votes, np.int8)
    for number, part in enumerate(np.split(votes, [700, 800, 1100][: count - 1])):
        np.save(folder / f"votes-{number}.npy", part)
    return votes


def test_statistics_of_two_processes_are_those_of_one(tmp_path):
    votes = write_votes(tmp_path, 2)
    found = run("statistics", tmp_path, 2)
    expected = overlap_statistics(votes)
    np.testing.assert_array_equal(found["counts"], expected.counts)
    assert found["n"] == expected.num_items
    assert found["twice"] == 0.2  # in float64
    assert found["told"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_a_label_model_from_separate_files(tmp_path, count):
    write_votes(tmp_path, count)
    found = run("labels", tmp_path, count)
    paths = [tmp_path / f"votes-{number}.npy" for number in range(count)]
    expected = fit_stream(VoteStream(paths), TREE, stream=StreamConfig(sample_items=256))
    for number, array in enumerate(jax.tree.leaves(expected.params)):
        np.testing.assert_allclose(found[str(number)], array, atol=5e-3)


@pytest.mark.slow
def test_a_network_over_processes(tmp_path):
    folders = {name: tmp_path / name for name in ("one", "two", "four")}
    for folder in folders.values():
        folder.mkdir()
    one = run("network", folders["one"], 1)
    for name, count in (("two", 2), ("four", 4)):
        many = run("network", folders[name], count)
        for key, array in many.items():
            np.testing.assert_allclose(array, one[key], atol=1e-5)
        runs, problems = read_runs(folders[name] / "runs.jsonl")
        assert (len(runs), problems) == (1, ())  # process 0 alone writes


@pytest.mark.slow
def test_streamed_shares_of_batches_are_the_batches(tmp_path):
    (tmp_path / "one").mkdir()
    one = run("streamed", tmp_path / "one", 1)
    two = run("streamed", tmp_path, 2)
    for key, array in two.items():
        np.testing.assert_allclose(array, one[key], atol=1e-5)


@pytest.mark.slow
def test_a_lost_process_ends_the_others_and_a_restart_goes_on(tmp_path):
    (tmp_path / "whole").mkdir()
    whole = run("network", tmp_path / "whole", 2)
    processes = start("killed", tmp_path, 2)
    assert processes[1].wait(SECONDS) == -signal.SIGKILL
    lost = time.monotonic()
    (status, _) = finish(processes)
    assert status not in (0, None)
    assert time.monotonic() - lost < 120  # heartbeat and shutdown: 10 s each
    said = (tmp_path / "killed-0.log").read_text()
    assert "another process was lost" in said or "another task died" in said
    assert (tmp_path / "checkpoints" / "10").is_dir()
    again = run("network", tmp_path, 2)
    for key, array in whole.items():
        np.testing.assert_array_equal(again[key], array)


@pytest.mark.slow
def test_the_example_runs_on_two_processes(tmp_path):
    assert finish(start("example", tmp_path, 2)) == [0, 0]
    for number in range(2):
        said = (tmp_path / f"example-{number}.log").read_text()
        assert f"process {number} of 2, 1 devices: network and label model agree on" in said
