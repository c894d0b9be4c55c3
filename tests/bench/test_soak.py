"""bench/soak.py reads what it says, and notices a file that is lost."""

import pytest

from bench.soak import soak, spoil
from dalipipe import samples


@pytest.fixture
def folder(tmp_path):
    return samples.ensure(tmp_path, train=24, val=4, size=(67, 43))


@pytest.mark.parametrize("backend", ["dali-cpu", "torchvision"])
def test_nothing_is_left_behind(folder, backend):
    bad = spoil(folder, 0.25)
    assert bad == 6
    found = soak(folder, backend, epochs=6, loaders=3, bad=bad)
    assert found["images"] == 6 * 18
    assert (len(found["epochs"]), len(found["closed"])) == (6, 3)
    # The first loader starts the libraries' own threads.
    assert {row["threads"] for row in found["closed"][1:]} == {found["closed"][0]["threads"]}
    assert {row["files"] for row in found["closed"][1:]} == {found["closed"][0]["files"]}


def test_a_lost_file_is_noticed(folder):
    spoil(folder, 0.25)
    with pytest.raises(AssertionError, match="18 of 24 images came, 5 are bad"):
        soak(folder, "torchvision", epochs=1, loaders=1, bad=5)
