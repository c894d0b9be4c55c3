import copy
import errno
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from dalipipe.errors import ConfigError, WeightsError
from dalipipe.training.network.checkpoint import Checkpoint, digest, load_checkpoint, save_checkpoint

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
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=240
    )
    assert result.stdout.split() == ["resnet18", "False"]


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


# ------------------------------------------------------------------------------------------------------------- damage


def test_every_flipped_byte_is_noticed_or_does_no_harm(tmp_path):
    path, other = tmp_path / "best.pt", tmp_path / "other.pt"
    save_checkpoint(path, CHECKPOINT)
    data, refused = path.read_bytes(), 0
    for position in range(0, len(data), 7):
        other.write_bytes(data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :])
        try:
            loaded = load_checkpoint(other)
        except WeightsError as error:
            assert str(other) in str(error)
            refused += 1
        else:
            assert torch.equal(loaded.state_dict["fc.weight"], CHECKPOINT.state_dict["fc.weight"])
            assert replace(loaded, state_dict={}) == replace(CHECKPOINT, state_dict={})
    assert refused > 50


def test_a_bit_of_a_tensor_that_torch_would_not_notice(tmp_path):
    path = tmp_path / "best.pt"
    save_checkpoint(path, CHECKPOINT)
    number = torch.tensor(5.0).numpy().tobytes()  # the last of the weights
    data = path.read_bytes()
    assert data.count(number) == 1
    path.write_bytes(data.replace(number, torch.tensor(5.0000005).numpy().tobytes()))
    torch.load(path, weights_only=True)
    with pytest.raises(WeightsError, match=r"best\.pt: must hold what was written, got a damaged file"):
        load_checkpoint(path)


def test_a_file_of_before_there_were_digests_is_read(tmp_path):
    save_checkpoint(tmp_path / "best.pt", CHECKPOINT)
    content = torch.load(tmp_path / "best.pt", weights_only=True)
    del content["digest"]
    torch.save(content, tmp_path / "old.pt")
    assert replace(load_checkpoint(tmp_path / "old.pt"), state_dict={}) == replace(CHECKPOINT, state_dict={})


DIFFERENT = [
    {}, [], (), None, True, False, 0, 1, 1.0, -0.0, 0.0, "", "1", "a", "\udcff", {"a": 1}, {"a": 1, "b": 2}, {"b": 1},
    {1: "a"}, [1], [[1]], [1, 1], (1,), ["1"], [1, [1]], torch.zeros(0), torch.zeros(1), torch.zeros(2),
    torch.zeros(1, 2), torch.zeros(2, 1), torch.zeros(()), torch.zeros(2, dtype=torch.int32), torch.ones(2),
    torch.zeros(2, dtype=torch.bfloat16), torch.tensor([False, False]), torch.tensor([0.0, -0.0]),
]  # fmt: skip


def test_contents_that_differ_have_different_digests():
    assert len({digest(content) for content in DIFFERENT}) == len(DIFFERENT)
    assert [digest(content) for content in DIFFERENT] == [digest(copy.deepcopy(content)) for content in DIFFERENT]
    turned = torch.arange(12.0).reshape(3, 4).T
    assert digest(turned) == digest(turned.contiguous())
    with pytest.raises(TypeError, match="must be tensors and plain values, got set"):
        digest({"a": {1}})
