import numpy as np
import pytest

from metal_jax.exhaust import num_epochs, read_open_logs, read_runs, unknown_layers, write_runs


@pytest.mark.parametrize(
    ("name", "num_runs", "num_problems", "epochs"),
    [
        ("cs446", 300, 0, 50),
        ("metaqnn_cifar10", 1000, 0, 20),
        ("naap440", 440, 1, 90),
        ("nas_bench_nlp", 345, 1, 50),
        ("nats", 1000, 0, 200),
    ],
)
def test_everything_is_read(data_folder, tmp_path, name, num_runs, num_problems, epochs):
    reading = read_open_logs(data_folder / "logs" / name, name)
    assert len(reading.runs) == num_runs
    assert len(reading.problems) == num_problems
    assert max(num_epochs(run) for run in reading.runs) == epochs
    assert unknown_layers(reading.runs) == {}
    # A tenth is enough for the round trip: each record is synced to disk.
    some = reading.runs[::10]
    write_runs(tmp_path / "runs.jsonl", some)
    assert repr(read_runs(tmp_path / "runs.jsonl").runs) == repr(some)


@pytest.mark.slow
def test_text_logs_agree_with_the_curves_of_others(data_folder):
    folder = data_folder / "logs" / "naap440"
    curves = {run.run: run for run in read_open_logs(folder, "naap440").runs}
    texts = read_open_logs(folder, "naap440_text")
    assert texts.problems == ()
    assert len(texts.runs) == 440
    for run in texts.runs:
        other = curves[run.run.removeprefix("scheme_").removesuffix(".txt")]
        assert run.architecture == other.architecture
        assert run.num_params == other.num_params
        assert run.seconds == other.seconds
        for role, name in (("train", "loss"), ("test", "accuracy")):
            np.testing.assert_allclose(
                run.metrics[role][name].values, other.metrics[role][name].values, rtol=1e-6
            )


def test_unknown_names():
    with pytest.raises(ValueError, match="expected one of"):
        read_open_logs(".", "nowhere")
