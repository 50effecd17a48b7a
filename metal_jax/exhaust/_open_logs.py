"""Maps of five open sets of logs for the general readers: data, no code of their own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from metal_jax.exhaust._columns import Columns
from metal_jax.exhaust._files import Reading
from metal_jax.exhaust._table import read_table
from metal_jax.exhaust._text_log import LogPatterns, read_text_logs


class OpenLogs(NamedTuple):
    """How one set of logs is read.

    Attributes:
        file: in the set's folder.
        layout: columns of a table, or patterns of text logs.
        percent: whether accuracies are percent.
    """

    file: str
    layout: Columns | LogPatterns
    percent: bool = False


#: name -> layout. Accuracies of `nats` are those of CIFAR-10; its seconds are seconds an epoch
#: times epochs. `naap440_text` are the original logs of `naap440`.
OPEN_LOGS: Mapping[str, OpenLogs] = {
    "cs446": OpenLogs(
        "cs446_cifar10_300.npz",
        Columns(
            {
                "train/accuracy": "train_acc",
                "train/loss": "train_loss",
                "validation/accuracy": "val_acc",
                "validation/loss": "val_loss",
            },
            run="id",
            architecture="arch",
            notation="torch_text",
            optimiser={"description": "optimizer"},
            batch_size="batch_size_train",
            num_params="num_params",
        ),
    ),
    "metaqnn_cifar10": OpenLogs(
        "metaqnn_cifar10.csv",
        Columns(
            {"validation/accuracy": "acc_{epoch}"},
            architecture="net",
            notation="layer_string",
            optimiser={"learning_rate": "lr"},
            num_params="num_params",
        ),
    ),
    "naap440": OpenLogs(
        "naap440_curves.npz",
        Columns(
            {
                "train/loss": "loss_mean",
                "train/loss_median": "loss_median",
                "test/accuracy": "test_acc",
            },
            run="model_id",
            architecture="scheme",
            notation_options={"type": "conv"},
            num_params="num_params",
            seconds="epoch_train_seconds",
        ),
    ),
    "naap440_text": OpenLogs(
        "raw_logs.tar.gz",
        LogPatterns(
            [
                r"Network scheme: (?P<architecture>.*)$",
                r"#params: (?P<num_params>\d+), #MACs: (?P<num_macs>\d+)",
                r"^(?P<epoch_start>\d{14}) Epoch (?P<epoch>\d+), LR: (?P<rate>\S+)",
                r"^(?P<epoch_end>\d{14}) Loss mean, median: (?P<mean>[^,]+), (?P<median>\S+)",
                r"Test accuracy: (?P<accuracy>\S+)",
            ],
            {
                "rate": "train/learning_rate",
                "mean": "train/loss",
                "median": "train/loss_median",
                "accuracy": "test/accuracy",
            },
            time_format="%Y%m%d%H%M%S",
            notation_options={"type": "conv"},
        ),
    ),
    "nas_bench_nlp": OpenLogs(
        "nas_bench_nlp_wikitext2.jsonl.gz",
        Columns(
            {
                "train/loss": "train_losses",
                "validation/loss": "val_losses",
                "test/loss": "test_losses",
            },
            run="experiment_id",
            architecture="recepie",
            notation="recurrent_cell",
            optimiser={"learning_rate": "lr", "weight_decay": "wdecay"},
            batch_size="batch_size",
            num_params="num_params",
            seconds="wall_times",
            status="status",
            statuses={"OK": "finished", "loss is nan!": "diverged"},
        ),
    ),
    "nats": OpenLogs(
        "nb201_1000_train_test_time.csv.gz",
        Columns(
            {
                "train/accuracy": "c10_tracc_e{epoch}",
                "train/loss": "c10_trloss_e{epoch}",
                "test/accuracy": "c10_teacc_e{epoch}",
            },
            run="arch_id",
            architecture="cellstr",
            notation="cell_string",
            total_seconds="c10_trtime_e200",
        ),
        percent=True,
    ),
}


def read_open_logs(folder: str | os.PathLike[str], name: str) -> Reading:
    """Read one of `OPEN_LOGS`.

    Args:
        folder: where its file lies.
        name: which set.

    Returns:
        Runs and problems.

    Raises:
        ValueError: the set is unknown.
    """
    if name not in OPEN_LOGS:
        raise ValueError(f"got {name!r:.60}, expected one of {sorted(OPEN_LOGS)}")
    logs = OPEN_LOGS[name]
    path = Path(folder, logs.file)
    if isinstance(logs.layout, LogPatterns):
        return read_text_logs(path, logs.layout, percent=logs.percent)
    return read_table(path, logs.layout, percent=logs.percent)
