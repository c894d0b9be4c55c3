"""Files that say they are checkpoints and aren't: one line with the file's name, soon, whoever reads them."""

import os
import pickle
import zipfile

import pytest
import torch

import dalipipe
from dalipipe.errors import WeightsError
from dalipipe.training.network.models import create_model
from dalipipe.training.network.weights import load_weights


@pytest.fixture
def good(checkpoint):
    """What a good checkpoint holds, without the digest, that would tell first."""
    content = torch.load(checkpoint, weights_only=True)
    del content["digest"]
    return content


def refused(path):
    """The message of whoever loads a file."""
    messages = []
    for use in (dalipipe.load_model, as_weights):
        with pytest.raises(WeightsError) as got:
            use(path)
        messages.append(str(got.value))
        assert path.name in messages[-1] and "\n" not in messages[-1] and len(messages[-1]) < 600
    return messages[0]


def as_weights(path):
    load_weights(create_model("squeezenet1_1", 2), "squeezenet1_1", ("a", "b"), str(path))


def test_a_good_one_is_read(good, tmp_path):
    torch.save(good, tmp_path / "w.pt")
    assert dalipipe.load_model(tmp_path / "w.pt").classes == ("ant", "bee", "cat")


@pytest.mark.parametrize("part", ["model", "classes", "recipe", "eval_recipe", "state_dict", "epoch", "metrics"])
def test_what_is_missing_is_named(good, tmp_path, part):
    del good[part]
    torch.save(good, tmp_path / "w.pt")
    assert f"{part} of the checkpoint must be" in refused(tmp_path / "w.pt")


def test_one_that_holds_its_format_only(tmp_path):
    torch.save({"format": "dalipipe-checkpoint-1"}, tmp_path / "bare.pt")
    refused(tmp_path / "bare.pt")


WRONG = {
    "model": [5, None, ["resnet18"]],
    "classes": [None, "ab", [], [1, 2, 3], ["a", "a", "b"], {"a": 1}, 3],
    "recipe": [3, None],
    "eval_recipe": [None, b"x"],
    "state_dict": [None, [1], {"a": 3}, {3: torch.zeros(3)}, torch.zeros(3)],
    "epoch": ["x", None],
    "metrics": [3, None],
    "config": [3, [1], {"head": 3}, {"dropout": "x"}, {"data": 5}],
}


@pytest.mark.parametrize(("part", "value"), [(part, value) for part, values in WRONG.items() for value in values])
def test_what_is_of_another_type_is_named(good, tmp_path, part, value):
    torch.save({**good, part: value}, tmp_path / "w.pt")
    assert part in refused(tmp_path / "w.pt")


@pytest.mark.parametrize(
    "change",
    [
        {"classes": [str(number) for number in range(1_000_000)]},
        {"model": "no-such-network"},
        {"config": {"head": "nothing"}},
        {"config": {"dropout": 7.0, "head": "gap"}},
        {"eval_recipe": "no TOML"},
        {"eval_recipe": '[[ops]]\nop = "RandomSwap"\n'},
        {"state_dict": {"fc.weight": torch.zeros(3, 1).expand(3, 1 << 34), "fc.bias": torch.zeros(3)}},
        {"state_dict": {"fc.weight": torch.zeros(3, 5, device="meta"), "fc.bias": torch.zeros(3)}},
        {"state_dict": {"fc.bias": torch.zeros(3)}},
    ],
    ids=lambda change: "-".join(change),
)
def test_what_can_not_be_a_network_is_refused_before_it_is_built(good, tmp_path, change):
    torch.save({**good, **change}, tmp_path / "w.pt")
    with pytest.raises(dalipipe.DalipipeError, match=r"w\.pt: "):
        dalipipe.load_model(tmp_path / "w.pt")


def test_a_digest_over_what_no_checkpoint_holds_is_refused(good, tmp_path):
    nested = []
    for _ in range(400):
        nested = [nested]
    for odd in ({1, 2}, bytearray(9), nested, torch.zeros(1).expand(1 << 40)):
        torch.save({**good, "metrics": {"a": odd}, "digest": "x"}, tmp_path / "w.pt")
        assert "damaged" in refused(tmp_path / "w.pt")


def packed(source, target, part, size):
    """Write an archive anew, packed, with so many zeros behind one of its parts."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            with new.open(name, "w") as file:
                file.write(old.read(name))
                if name.endswith(part):
                    file.write(bytes(size))


@pytest.mark.parametrize("part", ["data.pkl", "data/0"])
def test_what_would_unpack_to_far_more_than_it_is_is_not_unpacked(good, tmp_path, part):
    torch.save({**good, "state_dict": {"fc.bias": torch.zeros(3)}}, tmp_path / "small.pt")
    packed(tmp_path / "small.pt", tmp_path / "bomb.pt", part, 100_000_000)
    assert (tmp_path / "bomb.pt").stat().st_size < 200_000
    assert "compressed parts" in refused(tmp_path / "bomb.pt")


def test_parts_that_overlap_are_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("w/data.pkl", bytes(100_000))
        first = archive.infolist()[0]
        for number in range(50):
            copy = zipfile.ZipInfo(f"w/data/{number}")
            # An entry that lies where the first one does.
            copy.file_size = copy.compress_size = first.file_size
            copy.CRC, copy.header_offset = first.CRC, first.header_offset
            archive.filelist.append(copy)
    refused(tmp_path / "w.pt")


def test_pickles_are_called_what_they_are(tmp_path):
    torch.save(create_model("squeezenet1_1", 2), tmp_path / "whole.pt")
    assert "a pickle of torchvision.models.squeezenet.SqueezeNet" in refused(tmp_path / "whole.pt")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps({"a": [1, 2]}))
    assert "a pickle of something else" in refused(tmp_path / "plain.pkl")
    (tmp_path / "text.pt").write_text("hello")
    assert "damaged or different" in refused(tmp_path / "text.pt")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.pt")
    assert "an ordinary file" in refused(tmp_path / "pipe.pt")
    with pytest.raises(WeightsError, match="ordinary file"):
        load_weights(create_model("squeezenet1_1", 2), "squeezenet1_1", ("a", "b"), "/dev/zero")
