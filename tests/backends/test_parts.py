"""A batch whose images would take too much memory at once goes through in parts, and comes out as it would whole."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from dalipipe import DataLoader
from dalipipe.backends import Job, Output, base, compile_recipe, with_cache
from dalipipe.loading import dali_iterator
from dalipipe.recipes import Recipe, ops
from dalipipe.sampling import batched
from tests.faults.cases import encode

BACKENDS = ["dali-cpu", "dali-cpu-stock"]
PX_BYTES = 41 * 53 * 3  # what one of the images takes
RECIPE = Recipe(
    name="test", ops=(ops.RandomResizedCrop(size=(11, 13)), ops.RandomHorizontalFlip(), ops.ToDtype(scale=True))
)
TURNED = RECIPE.model_copy(update={"apply_exif_orientation": True})
TOO_LARGE = Recipe(name="test", ops=(ops.RandomCrop(size=37), ops.ToDtype(scale=True)))
BAD = (2, 5, 9)


def items() -> list[bytes]:
    """DALI's files and Pillow's, of which three are bad: two that neither can read and one that only begins well."""
    good = [encode("JPEG"), encode("PNG"), encode("TIFF"), encode("WEBP", quality=80), encode("JPEG", mode="CMYK")]
    files = [good[number % len(good)] for number in range(13)]
    files[BAD[0]], files[BAD[1]], files[BAD[2]] = b"<html>", b"", encode("PNG")[:-300]
    return files


def source_for(kind, source_of, folder):
    if kind == "bytes":
        return source_of(items())
    if kind == "mixed":
        return with_cache(source_of(items()), RECIPE, "auto", 3.5 * PX_BYTES / 1e9, 1)
    for number, item in enumerate(items()):
        (folder / str(number)).write_bytes(item)
    return source_of([str(folder / str(number)) for number in range(len(items()))])


def run(job: Job, backend: str, epochs: int = 2) -> list:
    executor = compile_recipe(job, backend)
    order = np.random.default_rng(4).permutation(len(job.source))
    try:
        return [
            result
            for epoch in range(epochs)
            for result in executor.run(batched(order, job.batch_size, epoch=epoch, drop_last=False))
        ]
    finally:
        executor.close()


def require_equal(found, wanted):
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.batch is not None and np.array_equal(one.batch.indices, other.batch.indices)
        assert list(one.failures.items()) == list(other.failures.items())
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
        assert one.images.stride() == other.images.stride()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["path", "bytes", "mixed"])
@pytest.mark.parametrize("recipe", [RECIPE, TURNED, TOO_LARGE], ids=["window", "turned", "crop"])
def test_nothing_tells_a_batch_in_parts_from_a_whole_one(backend, kind, recipe, source_of, tmp_path):
    job = Job(source_for(kind, source_of, tmp_path), recipe, 3, 8, 2, decoded_bytes=math.inf)
    wanted = run(job, backend)
    assert {int(r.batch.indices[at]) for r in wanted for at in r.failures} == set(BAD)
    for budget in (0, 2.5 * PX_BYTES):  # one at a time; two
        require_equal(run(replace(job, decoded_bytes=budget), backend), wanted)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_form_of_the_images_stays(backend, source_of):
    job = Job(source_of(items()), RECIPE, 3, 8, 2, output=Output("uint8", "channels_last"), decoded_bytes=math.inf)
    require_equal(run(replace(job, decoded_bytes=0), backend), run(job, backend))


def epoch_of(loader):
    return [(loader.last_indices.tolist(), images.clone(), labels.tolist()) for images, labels in loader]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("on_error", ["skip", "substitute"])
def test_an_epoch_with_bad_files_is_the_same(backend, on_error, source_of, monkeypatch):
    def source():
        one = source_of(items())
        one.classes, one.labels = ("a",), np.zeros(len(one), np.int64)
        return one

    options = {"batch_size": 6, "shuffle": True, "recipe": RECIPE, "seed": 3, "num_threads": 2, "on_error": on_error}
    found = []
    for budget in (10**9, 0):
        monkeypatch.setattr(base, "decode_budget", lambda _size, budget=budget: budget)
        with DataLoader(source(), backend=backend, **options) as loader:
            found.append([(epoch_of(loader), sorted(file.index for file in loader.bad_files)) for _ in range(2)])
    for (whole, bad), (parts, known) in zip(*found, strict=True):
        assert bad == known == list(BAD)
        for one, other in zip(whole, parts, strict=True):
            assert one[0] == other[0] and torch.equal(one[1], other[1]) and one[2] == other[2]


def test_dalis_own_iterator_lacks_nothing(source_of, monkeypatch):
    """Nobody would run again what is put off."""
    monkeypatch.setattr(base, "decode_budget", lambda _size: 0)
    options = {"batch_size": 4, "recipe": RECIPE, "num_threads": 1, "backend": "dali-cpu"}
    with DataLoader(source_of([encode("PNG")] * 4), **options) as loader:
        (batch,) = next(iter(dali_iterator(loader)))
        assert batch["status"].flatten().tolist() == [0] * 4
