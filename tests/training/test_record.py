import json
from pathlib import Path

import pytest
import torch

from dalipipe.errors import ConfigError
from dalipipe.training.measures.metrics import EpochMetrics
from dalipipe.training.network.checkpoint import Checkpoint, load_checkpoint
from dalipipe.training.resume.record import RunRecord


def epoch(number, val_acc):
    return EpochMetrics(number, 1.0, 0.5, 1.0, val_acc, 1.0, 0.5, 0.1, 0.01, 10.0, 0.1)


def checkpoint(number):
    return Checkpoint("resnet18", ("a", "b"), "", "", {"fc.bias": torch.zeros(2)}, number, {})


def test_best_is_the_best_epoch_and_last_the_last(tmp_path):
    record = RunRecord(tmp_path / "deep/er")
    history = []
    for number, val_acc in enumerate((0.5, 0.8, 0.6), 1):
        history.append(epoch(number, val_acc))
        record.add(history, checkpoint(number), best=number < 3)
    assert load_checkpoint(tmp_path / "deep/er/best.pt").epoch == 2
    assert load_checkpoint(tmp_path / "deep/er/last.pt").epoch == 3
    rows, times = (
        [json.loads(line) for line in (tmp_path / "deep/er" / name).read_text().splitlines()]
        for name in ("metrics.jsonl", "timing.jsonl")
    )
    assert [row["val_acc"] for row in rows] == [0.5, 0.8, 0.6]
    assert not {"img_per_s", "data_wait_fraction"} & set(rows[0])
    assert times == [{"epoch": number, "img_per_s": 10.0, "data_wait_fraction": 0.1} for number in (1, 2, 3)]


def test_making_a_record_writes_nothing_yet(tmp_path):
    RunRecord(tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []
    RunRecord(tmp_path / "run")  # so an attempt that got nowhere does not block the next


@pytest.mark.parametrize("name", ["metrics.jsonl", "best.pt", "last.pt", "summary.json"])
def test_a_directory_with_a_run_is_refused(tmp_path, name):
    (tmp_path / name).write_text("x")
    with pytest.raises(ConfigError, match=f"must not hold another run, got .* with {name}"):
        RunRecord(tmp_path)


def test_a_directory_with_checkpoints_of_a_run_is_refused_with_how_to_go_on(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    RunRecord(tmp_path)
    (tmp_path / "checkpoints/epoch-00001-batch-0000000.pt").write_text("x")
    with pytest.raises(ConfigError, match=r"got .* with checkpoints\. Choose .* or go on with its run: --resume\."):
        RunRecord(tmp_path)
    RunRecord(tmp_path, resumed=True)


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path):
    (tmp_path / "run").write_text("x")
    for path in (tmp_path / "run", tmp_path / "run/deeper"):
        with pytest.raises(ConfigError, match="--output: must be a directory that can be written to"):
            RunRecord(path)


def test_a_place_where_nothing_can_be_written_is_refused():
    with pytest.raises(ConfigError, match="--output: must be a directory that can be written to, got '/proc/run'"):
        RunRecord(Path("/proc/run"))
