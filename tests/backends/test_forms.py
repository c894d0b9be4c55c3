"""Output types, memory formats, levels left to the device, and decoded images kept in memory: on every CPU backend."""

import shutil

import pytest
import torch

from dalipipe import DataLoader, Recipe
from dalipipe.backends import BACKENDS
from dalipipe.errors import ConfigError, DecodeError
from dalipipe.sources import FolderSource

CPU = [name for name in BACKENDS if name != "dali-gpu"]
RECIPE = Recipe.from_toml("""
ops = [
    { op = "RandomRotation", degrees = 20, interpolation = "bilinear" },
    { op = "RandomResizedCrop", size = [13, 11] },
    { op = "RandomHorizontalFlip" },
    { op = "Normalize", mean = [0.4, 0.5, 0.6], std = [0.2, 0.3, 0.1] },
]
""")


def images_of(source, backend, **options):
    with DataLoader(source, 4, recipe=RECIPE, backend=backend, num_threads=1, seed=5, **options) as loader:
        return torch.cat([images for images, _ in loader]), loader


@pytest.fixture
def folder(make_image_folder):
    return make_image_folder("forms", classes=("a", "b"), per_class=5, sizes=((17, 11), (31, 23), (40, 19)), seed=1)


@pytest.mark.parametrize("backend", CPU)
def test_every_form_holds_the_same_images(folder, backend):
    plain, _ = images_of(folder, backend)
    assert plain.dtype == torch.float32 and plain.is_contiguous()
    last, _ = images_of(folder, backend, memory_format="channels_last")
    assert last.shape == plain.shape and last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last, plain)
    half, _ = images_of(folder, backend, dtype="float16")
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), plain, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
@pytest.mark.parametrize("backend", CPU)
def test_levels_finished_later_are_the_same_images(folder, backend, memory_format):
    plain, _ = images_of(folder, backend)
    levels, loader = images_of(folder, backend, dtype="uint8", memory_format=memory_format)
    assert levels.dtype == torch.uint8
    if backend == "dali-cpu-stock":
        torch.testing.assert_close(loader.finish(levels), plain, rtol=1e-5, atol=1e-5)
    else:
        assert torch.equal(loader.finish(levels), plain)


@pytest.mark.parametrize("backend", CPU)
def test_a_cached_epoch_needs_no_file(folder, backend):
    plain, _ = images_of(folder, backend)
    with DataLoader(folder, 4, recipe=RECIPE, backend=backend, num_threads=1, seed=5, cache="ram") as loader:
        assert torch.equal(torch.cat([images for images, _ in loader]), plain)
        shutil.rmtree(folder)
        loader.set_epoch(0)
        assert torch.equal(torch.cat([images for images, _ in loader]), plain)


class Encoded:
    """A source of encoded bytes."""

    def __init__(self, root):
        self.folder = FolderSource(root)
        self.classes, self.labels = self.folder.classes, self.folder.labels

    def __len__(self):
        return len(self.folder)

    def item(self, index):
        with open(self.folder.item(index), "rb") as file:  # noqa: PTH123
            return file.read()


@pytest.mark.parametrize("kind", ["path", "bytes"])
@pytest.mark.parametrize("backend", CPU)
def test_auto_keeps_what_fits_and_reads_the_rest(folder, backend, kind):
    plain, _ = images_of(folder, backend)
    source = folder if kind == "path" else Encoded(folder)
    some, loader = images_of(source, backend, cache="auto", cache_gb=5e-6)
    assert loader.job.source.kind == f"mixed {kind}"
    assert torch.equal(some, plain)


def test_too_small_a_budget_is_refused_with_the_need(folder):
    with pytest.raises(
        ConfigError, match=r"need 0\.00 GB, got a budget of 0\.00 GB. Raise cache_gb, or use cache=.auto"
    ):
        DataLoader(folder, 4, recipe=RECIPE, cache="ram", cache_gb=1e-9)
    with pytest.raises(ConfigError, match="cache: must be"):
        DataLoader(folder, 4, recipe=RECIPE, cache="disk")


@pytest.mark.parametrize("cache", [None, "ram", "auto"])
@pytest.mark.parametrize("backend", CPU)
def test_a_bad_file_is_named_with_and_without_a_cache(folder, backend, cache):
    bad = folder / "b" / "truncated.jpg"
    bad.write_bytes(b"\xff\xd8\xff\xe0 no image")
    with pytest.raises(DecodeError, match=r"truncated\.jpg"):
        images_of(folder, backend, cache=cache)
