import errno
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from dalipipe.errors import ConfigError, WeightsError
from dalipipe.training import checkpoint as module
from dalipipe.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, write_atomic

CHECKPOINT = Checkpoint(
    model="resnet18",
    classes=("ants", "bees \udcff"),
    recipe='name = "a"\n',
    eval_recipe='name = "b"\n',
    state_dict={"fc.weight": torch.arange(6.0).reshape(2, 3)},
    epoch=3,
    metrics={"val_acc": 0.5},
)


def test_what_is_saved_is_what_is_loaded(tmp_path):
    save_checkpoint(tmp_path / "best.pt", CHECKPOINT)
    loaded = load_checkpoint(tmp_path / "best.pt")
    assert torch.equal(loaded.state_dict["fc.weight"], CHECKPOINT.state_dict["fc.weight"])
    assert replace(loaded, state_dict={}) == replace(CHECKPOINT, state_dict={})


def test_plain_torch_reads_it_and_runs_no_code_of_it(tmp_path):
    save_checkpoint(tmp_path / "best.pt", CHECKPOINT)
    code = (
        "import sys, torch; c = torch.load('best.pt', weights_only=True); print(c['model'], 'dalipipe' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["resnet18", "False"]


def test_a_save_that_fails_leaves_the_former_file_and_no_other(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, CHECKPOINT)

    def fail(file):
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ConfigError, match=r"last\.pt: must be writable, got No space left on device"):
        write_atomic(path, fail)
    assert load_checkpoint(path).epoch == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.pt"]


def test_a_full_disk_is_named_though_torch_hides_it(tmp_path, monkeypatch):
    class FullDisk:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

        def flush(self):
            self.file.flush()

    save = torch.save
    monkeypatch.setattr(torch, "save", lambda content, file: save(content, FullDisk(file)))
    with pytest.raises(ConfigError, match="No space left on device"):
        save_checkpoint(tmp_path / "last.pt", CHECKPOINT)
    assert list(tmp_path.iterdir()) == []


def test_the_bytes_are_on_the_disk_before_they_have_the_name(tmp_path, monkeypatch):
    happened = []
    fsync = os.fsync
    path = tmp_path / "last.pt"
    monkeypatch.setattr(module.os, "fsync", lambda fd: (happened.append(path.exists()), fsync(fd)))
    write_atomic(path, lambda file: file.write(b"x"))
    assert happened == [False, True]  # the file, then the directory that now names it


@pytest.mark.parametrize("content", [b"", b"hello", b"<html>not found</html>", b"PK\x03\x04" + bytes(99)])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "best.pt"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"best\.pt: must be a file that torch\.save wrote"):
        load_checkpoint(path)


def test_a_cut_file_is_refused(tmp_path):
    path = tmp_path / "best.pt"
    save_checkpoint(path, CHECKPOINT)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="damaged"):
        load_checkpoint(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere\.pt: must be a readable file, got: No such file"):
        load_checkpoint(tmp_path / "nowhere.pt")


def test_a_state_dict_is_no_checkpoint(tmp_path):
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="must be a checkpoint of dalipipe"):
        load_checkpoint(tmp_path / "w.pt")
