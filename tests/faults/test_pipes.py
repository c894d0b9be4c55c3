"""A file that becomes a pipe while an epoch goes on is a bad file: nobody waits for it."""

import os
import threading

import pytest

import dalipipe
from dalipipe.sources import FolderSource, require_disjoint
from dalipipe.training.report.tiles import thumbnail

RECIPE = dalipipe.Recipe.from_toml('[[ops]]\nop = "Resize"\nsize = [32, 32]\n')


@pytest.fixture
def photos(make_image_folder):
    return make_image_folder("photos", classes=("ant", "bee"))


def spoilt(photos):
    """The file that is no more."""
    return sorted((photos / "bee").iterdir())[1]


def become_pipe(path):
    """Replace a file, and let whoever waits for the pipe all the same go on after a while, to fail and not to hang."""
    path.unlink()
    os.mkfifo(path)

    def abandon():
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # nobody waits, or it is gone
            return
        waited.append(path)

    waited: list[object] = []
    timer = threading.Timer(20, abandon)
    timer.daemon = True
    timer.start()
    return timer, waited


@pytest.mark.parametrize("backend", ["torchvision", "dali-cpu", "dali-cpu-stock"])
def test_a_pipe_is_a_bad_file(photos, backend):
    with dalipipe.DataLoader(photos, 4, recipe=RECIPE, backend=backend, on_error="skip", seed=0) as loader:
        assert sum(len(labels) for _, labels in loader) == 8
        timer, waited = become_pipe(spoilt(photos))
        assert sum(len(labels) for _, labels in loader) == 7
        timer.cancel()
        (bad,) = loader.bad_files
        assert (bad.path, bad.reason) == (str(spoilt(photos)), "not an ordinary file")
        assert not waited


def test_a_cache_does_not_wait_for_a_pipe(photos):
    source = FolderSource(photos)
    timer, waited = become_pipe(spoilt(photos))
    with dalipipe.DataLoader(source, 4, recipe=RECIPE, backend="dali-cpu", on_error="skip", cache="auto") as loader:
        assert sum(len(labels) for _, labels in loader) == 7
    timer.cancel()
    assert not waited


def test_whoever_looks_at_files_waits_for_none(photos):
    source, other = FolderSource(photos), FolderSource(photos)
    index = next(index for index in range(len(source)) if source.name(index) == str(spoilt(photos)))
    timer, waited = become_pipe(spoilt(photos))
    assert thumbnail(source, index, 8).shape == (8, 8, 3)
    with pytest.raises(dalipipe.errors.SourceError, match="must not share an image, got 7"):
        require_disjoint(source, other)
    timer.cancel()
    assert not waited
