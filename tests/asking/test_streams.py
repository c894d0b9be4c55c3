"""Data sets that can only be gone through: their order is their own, and a loader's place is a count."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import IterableDataset

import dalipipe
from tests.asking.own import BACKENDS, COUNT, RANDOM, damage, ours


class Stream(IterableDataset):
    def __init__(self, files, *, length=None):
        self.files = files
        if length is not None:
            self.__class__ = type("Counted", (Stream,), {"__len__": lambda self: length})

    def __iter__(self):
        for number, path in enumerate(self.files):
            yield {"image": RANDOM(Image.open(path).convert("RGB")), "number": number, "drawn": float(np.random.rand())}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_stream_comes_in_order_and_its_state_is_the_count(files, backend):
    loader = ours(Stream(files), 5, backend=backend)
    every = list(loader)
    assert [batch["number"].tolist() for batch in every] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]
    assert every[0]["image"].shape == (5, 3, 16, 16)
    with pytest.raises(TypeError):
        len(loader)
    again = ours(Stream(files, length=COUNT), 5, backend=backend)
    assert len(again) == 3
    next(iter(again))
    state = json.loads(json.dumps(again.state_dict()))
    assert state["position"] == 5
    other = ours(Stream(files, length=COUNT), 4, backend=backend)
    other.load_state_dict(state)
    rest = list(other)
    assert [batch["number"].tolist() for batch in rest] == [[5, 6, 7, 8], [9, 10, 11]]
    for name in ("image", "drawn"):
        joined = torch.cat([batch[name] for batch in rest])
        expected = torch.cat([batch[name] for batch in every])[5:]
        assert torch.equal(joined, expected)
    assert [batch["number"].tolist() for batch in ours(Stream(files), 5, drop_last=True)] == [
        [0, 1, 2, 3, 4], [5, 6, 7, 8, 9]
    ]  # fmt: skip


def test_a_stream_leaves_out_what_cant_be_used_and_refuses_what_it_cant_do(files):
    damage([*files[:7], files[11]])  # what is missing ends a generator
    loader = ours(Stream(files[:11]), 5, on_error="skip")
    assert sum(len(batch["number"]) for batch in loader) == 9
    assert [file.path for file in loader.bad_files] == [files[1], files[4]]
    for arguments in ({"shuffle": True}, {"sampler": [0]}, {"on_error": "substitute"}):
        with pytest.raises(dalipipe.ConfigError, match="IterableDataset"):
            ours(Stream(files), 5, **arguments)
    Path(files[2]).unlink()
    with pytest.raises(FileNotFoundError):
        list(ours(Stream(files), 5, on_error="skip"))
