"""Every case at once, through a loader that goes on without it: cached, sharded and resumed loaders do alike."""

import os

import numpy as np
import pytest
import torch

import dalipipe
from dalipipe.backends import BACKENDS
from dalipipe.recipes import Recipe, ops
from tests.faults.cases import cases, encode

CPU_BACKENDS = [name for name in BACKENDS if name != "dali-gpu"]
RECIPE = Recipe(name="whole", ops=(ops.RandomRotation(degrees=9), ops.Resize(size=(13, 11)), ops.ToDtype(scale=True)))
EVERY_FIFTH = 5


class Mixed:
    """Good images and every case among them, in two classes."""

    classes = ("even", "odd")

    def __init__(self, folder):
        folder.mkdir()
        self.paths, self.cases = [], {}
        for number, case in enumerate(cases()):
            for seed in range(number * EVERY_FIFTH, number * EVERY_FIFTH + EVERY_FIFTH - 1):
                self.paths.append(folder / f"{seed}.jpg")
                self.paths[-1].write_bytes(encode(seed=seed))
            self.cases[len(self.paths)] = case
            self.paths.append(folder / f"case {number}.jpg")
            case.make(self.paths[-1])
        self.labels = np.arange(len(self.paths), dtype=np.int64) % 2

    def __len__(self):
        return len(self.paths)

    def item(self, index):
        return str(self.paths[index])

    def bad(self, backend):
        """The samples that a backend can't use."""
        is_root = os.geteuid() == 0  # who may read anything
        return {
            index
            for index, case in self.cases.items()
            if backend not in case.delivered and not (is_root and case.as_other_user)
        }


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    return Mixed(tmp_path_factory.mktemp("policies") / "files")


@pytest.fixture(scope="module", params=CPU_BACKENDS)
def clean(request, mixed):
    """A backend, and what it makes of the good images, by sample."""
    good = [index for index in range(len(mixed)) if index not in mixed.cases]
    options = {"recipe": RECIPE, "backend": request.param, "seed": 5, "num_threads": 2}
    batches = [good[at : at + 16] for at in range(0, len(good), 16)]
    found = {}
    with dalipipe.DataLoader(mixed, batch_sampler=batches, **options) as loader:
        for images, _ in loader:
            found.update(zip(loader.last_indices.tolist(), images.clone(), strict=True))
    return request.param, found


def make(mixed, backend, on_error, **options):
    given = {"batch_size": 6, "shuffle": True, "recipe": RECIPE, "seed": 5, "num_threads": 2, **options}
    return dalipipe.DataLoader(mixed, backend=backend, on_error=on_error, **given)


def epoch_of(loader):
    return [(loader.last_indices.tolist(), images.clone(), labels.tolist()) for images, labels in loader]


FORMS = {"as it is": {}, "cached": {"cache": "ram", "prefetch": 1}}


@pytest.mark.parametrize("on_error", ["skip", "substitute"])
def test_every_good_sample_comes_unchanged_whatever_lies_beside_it(mixed, clean, on_error):
    backend, wanted = clean
    bad = mixed.bad(backend)
    epochs = {}
    for name, options in FORMS.items():
        with make(mixed, backend, on_error, **options) as loader:
            epochs[name] = [epoch_of(loader), epoch_of(loader)]
            assert {file.index for file in loader.bad_files} == bad
    for both in epochs.values():
        for one, other in zip(both, epochs["as it is"], strict=True):
            assert [batch[0] for batch in one] == [batch[0] for batch in other]
            assert all(torch.equal(a[1], b[1]) for a, b in zip(one, other, strict=True))
    seen = [index for indices, _, _ in epochs["as it is"][0] for index in indices]
    assert not set(seen) & bad
    extra = len(seen) - (len(mixed) - len(bad))
    assert extra == (len(bad) if on_error == "substitute" else 0)
    if on_error == "skip":
        assert len(seen) == len(set(seen))
        for indices, images, _ in epochs["as it is"][0]:
            for index, image in zip(indices, images, strict=True):
                assert index not in wanted or torch.equal(image, wanted[index])


@pytest.mark.parametrize("on_error", ["skip", "substitute"])
def test_ranks_and_a_resumed_loader_do_the_same(mixed, clean, on_error):
    backend, _ = clean
    with make(mixed, backend, on_error) as loader:
        whole = epoch_of(loader)
    with make(mixed, backend, on_error) as loader:
        iterator = iter(loader)
        for _ in range(len(whole) // 2):
            next(iterator)
        state = loader.state_dict()
        iterator.close()
    with make(mixed, backend, on_error) as loader:
        loader.load_state_dict(state)
        rest = epoch_of(loader)
    assert [batch[0] for batch in whole[len(whole) // 2 :]] == [batch[0] for batch in rest]
    assert all(torch.equal(a[1], b[1]) for a, b in zip(whole[len(whole) // 2 :], rest, strict=True))
    seen = []
    for rank in range(2):
        with make(mixed, backend, on_error, batch_size=3, rank=rank, world_size=2) as loader:
            seen += [index for indices, _, _ in epoch_of(loader) for index in indices]
    assert sorted(seen) == sorted(index for indices, _, _ in whole for index in indices)
