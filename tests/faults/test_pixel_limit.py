"""An image that claims more px than Pillow's limit is refused before it is decoded, and so before it takes memory."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dalipipe.backends import BACKENDS, Job, compile_recipe, with_cache
from dalipipe.limits import pixel_limit
from dalipipe.recipes import Recipe, ops
from dalipipe.sampling import batched
from tests.faults.headers import CLAIMS, NEAR_CLAIMS
from tests.faults.memory import LARGE_COUNT, LARGE_PX, Items, measure
from tests.warm import run_apart

CPU_BACKENDS = [name for name in BACKENDS if name != "dali-gpu"]
ROOT = Path(__file__).parents[2]
ALL_CLAIMS = CLAIMS | NEAR_CLAIMS
BOUND_MB = 200  # what a decoder of one of these files would exceed many times over
RECIPE = Recipe(name="test", ops=(ops.RandomResizedCrop(size=7), ops.ToDtype(scale=True)))


@pytest.fixture(scope="module")
def measured():
    return run_apart(measure)


@pytest.mark.parametrize("kind", [*CPU_BACKENDS, "dali-cpu with a cache"])
def test_a_claim_costs_no_memory_and_no_other_image(measured, kind):
    found = measured[kind]
    assert set(found["reasons"]) == set(ALL_CLAIMS)
    for name, reason in found["reasons"].items():
        width, height = ALL_CLAIMS[name][1]
        sizes = (f"it claims {width} x {height} px", f"it claims {width * height} px")
        assert reason in {f"{size}, more than the limit of 178956970" for size in sizes}
    assert found["delivered"] == 2 * len(ALL_CLAIMS)
    assert found["grown_mb"] < BOUND_MB


def test_the_measure_sees_what_a_decoder_takes(measured):
    assert measured["within the limit"]["grown_mb"] > BOUND_MB


LARGE_MB = 3 * LARGE_PX**2 * LARGE_COUNT / 1e6


@pytest.mark.parametrize("backend", ["dali-cpu", "dali-cpu-stock"])
def test_a_batch_of_large_images_takes_the_memory_of_few(measured, backend):
    parts, at_once = measured[f"{backend} in parts"], measured["at once"]
    assert parts["delivered"] == at_once["delivered"] == LARGE_COUNT
    assert parts["grown_mb"] < 0.55 * LARGE_MB < at_once["grown_mb"]


def png(height: int, width: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 99, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


SIZES = [(19, 10), (20, 10), (21, 10), (10, 20), (201, 1), (1, 201), (200, 1), (15, 13)]


KINDS = [(name, kind) for name in CPU_BACKENDS for kind in ("path", "bytes", "mixed")]


@pytest.mark.parametrize(("backend", "kind"), KINDS)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_limit_is_exact_and_pillows(backend, kind, monkeypatch, tmp_path):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert pixel_limit() == 200
    items = [png(*size) for size in SIZES]
    if kind == "path":
        for number, item in enumerate(items):
            (tmp_path / f"{number}.png").write_bytes(item)
        items = [str(tmp_path / f"{number}.png") for number in range(len(items))]
    source = with_cache(Items(items), RECIPE, "auto" if kind == "mixed" else None, None, 1)
    executor = compile_recipe(Job(source, RECIPE, 0, 3, 2), backend)
    failures = {}
    for result in executor.run(batched(range(len(SIZES)), 3, epoch=0, drop_last=False)):
        failures.update({int(result.batch.indices[at]): reason for at, reason in result.failures.items()})
    executor.close()
    assert failures == {
        number: f"it claims {width} x {height} px, more than the limit of 200"
        for number, (height, width) in enumerate(SIZES)
        if height * width > 200
    }


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_none_lifts_it(backend, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert pixel_limit() is None
    executor = compile_recipe(Job(Items([png(*size) for size in SIZES]), RECIPE, 0, len(SIZES), 2), backend)
    (result,) = executor.run(batched(range(len(SIZES)), len(SIZES), epoch=0, drop_last=False))
    executor.close()
    assert len(result.images) == len(SIZES)


GROWING = {
    "the shorter side": ((ops.Resize(size=10), ops.CenterCrop(size=7)), [(1, 30), (30, 1), (2, 100)]),
    "between the passes": ((ops.Resize(size=(7, 7)),), [(1, 150), (150, 1)]),
    "a border": ((ops.Pad(padding=5), ops.CenterCrop(size=7)), [(1, 30), (30, 1), (10, 10)]),
    "in a container": ((ops.RandomApply(p=1.0, ops=(ops.Resize(size=10),)), ops.CenterCrop(size=7)), [(1, 30)]),
    "and steps behind it": (
        (ops.Resize(size=10), ops.GaussianBlur(kernel_size=3), ops.RandomCrop(size=7), ops.RandomRotation(degrees=9)),
        [(1, 30), (30, 1)],
    ),
}


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("name", GROWING)
def test_an_image_that_a_recipe_would_blow_up_is_bad_and_costs_no_other(backend, name, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    steps, beyond = GROWING[name]
    recipe = Recipe(name="test", ops=(*steps, ops.ToDtype(scale=True)))
    sizes = [*beyond, (3, 4)]
    items = [np.full((*size, 3), 99, np.uint8) for size in sizes]
    executor = compile_recipe(Job(Items(items), recipe, 0, len(sizes), 2), backend)
    (result,) = executor.run(batched(range(len(sizes)), len(sizes), epoch=0, drop_last=False))
    executor.close()
    reason = "resized or padded as the recipe asks, it would have more px than the limit of 200"
    assert dict(result.failures) == dict.fromkeys(range(len(beyond)), reason)
    assert result.images.shape == (1, 3, 7, 7)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_without_a_limit_a_recipe_may_make_as_much_as_it_asks(backend, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    recipe = Recipe(name="test", ops=(*GROWING["the shorter side"][0], ops.ToDtype(scale=True)))
    executor = compile_recipe(Job(Items([png(1, 30)]), recipe), backend)
    (result,) = executor.run(batched(range(1), 1, epoch=0, drop_last=False))
    executor.close()
    assert not result.failures
