"""Every backend that runs here, against the reference and against itself."""

import tomllib
from pathlib import Path

import pytest
import torch

from dalipipe import backends
from dalipipe.backends import BACKENDS, Job, compile_recipe, describe_step, resolve_backend
from dalipipe.errors import BackendError, ConfigError
from dalipipe.parity import MEASURED, TOLERANCES, Tolerance
from dalipipe.parity.tolerances import EXACT, loosest_family
from dalipipe.recipes import Recipe, list_recipes, ops
from dalipipe.recipes.ops import OPS
from dalipipe.recipes.ops.building import build_op

ROWS = tomllib.loads((Path(__file__).parents[1] / "ops.toml").read_text())
PIXEL_CASES = [(name, row) for name, model in OPS.items() if model.stage == "pixels" for row in ROWS[name]]
CPU_BACKENDS = [name for name in BACKENDS if name != "dali-gpu"]
BACKEND_PARAMS = [pytest.param(name, marks=pytest.mark.gpu) if name == "dali-gpu" else name for name in MEASURED]

# Larger than most test images, so that what lies outside them is compared as well; the crop itself is exact.
FRAME = ops.CenterCrop(size=(71, 61))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def assert_within(found: torch.Tensor, expected: torch.Tensor, tolerance: Tolerance) -> None:
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    off = (found.double() - expected.double()).abs()
    assert off.max() <= tolerance.max_abs, tolerance.because
    assert off.mean() <= tolerance.mean_abs, tolerance.because
    assert (off > 0).double().mean() <= tolerance.share, tolerance.because


def test_the_check_can_fail():
    levels = torch.zeros((2, 3, 5, 7))
    worse = levels.clone()
    worse[0, 0, 0, 0] = 1
    assert_within(levels, levels, EXACT)
    for found in (worse, levels.double(), levels[:1]):
        with pytest.raises(AssertionError):
            assert_within(found, levels, EXACT)
    for tolerance in (Tolerance(0.5, 1, 1, ""), Tolerance(1, 1e-4, 1, ""), Tolerance(1, 1, 1e-4, "")):
        with pytest.raises(AssertionError):
            assert_within(worse, levels, tolerance)


def test_every_backend_has_its_tolerances():
    assert all(set(row) == set(MEASURED) for row in TOLERANCES.values())
    assert all(tolerance.because for row in TOLERANCES.values() for tolerance in row.values())


# Each op, on images of every kind


@pytest.mark.parametrize("backend", BACKEND_PARAMS)
@pytest.mark.parametrize(("name", "arguments"), PIXEL_CASES)
def test_every_op_is_the_references(images, images_of, backend, name, arguments):
    op = build_op({"op": name, **arguments}, "test")
    recipe = (op,) if op.check(ops.ImageSpec()).height else (op, FRAME)
    items = list(images.values())
    if isinstance(op, ops.GaussianBlur):
        items = [item for item in items if min(size_of(item)) > max(op.kernel_size) // 2]
    found = images_of(items, recipe, backend, repeats=2)
    expected = images_of(items, recipe, "torchvision", repeats=2)
    assert_within(found, expected, TOLERANCES[loosest_family(op)][backend])


def size_of(image: bytes) -> tuple[int, int]:
    from dalipipe.backends.torchvision import decode

    _, height, width = decode(image).shape
    return height, width


RECIPES = [name for name in list_recipes() if name.endswith(("-train", "shear-zoom", "small-data", "imagenet-eval"))]


@pytest.mark.parametrize("backend", BACKEND_PARAMS)
@pytest.mark.parametrize("name", RECIPES)
def test_every_shipped_recipe_is_the_references(images, images_of, backend, name):
    recipe = Recipe.load(name)
    items = [images[kind] for kind in ("odd", "large", "grey", "progressive")]
    found, expected = (images_of(items, recipe.ops, which, repeats=2) for which in (backend, "torchvision"))
    assert found.dtype == torch.float32
    assert found.shape == (8, *recipe.output_shape)
    assert recipe.levels is not None
    unit = torch.tensor(recipe.levels[1])[:, None, None]
    off = ((found - expected) * unit).abs()
    assert off.mean() < 0.6
    assert (off > 4).double().mean() < 0.01


# The range


@pytest.mark.parametrize("backend", BACKEND_PARAMS)
@pytest.mark.parametrize(
    "tail",
    [(), (ops.ToDtype(),), (ops.ToDtype(scale=True),), (ops.Normalize(mean=MEAN, std=STD),)],
    ids=["none", "levels", "fractions", "normalised"],
)
def test_the_range_is_the_references(make_image, images_of, backend, tail):
    """On pixels, so that no decoder stands between the two."""
    items = [make_image(17, 11), make_image(9, 8)]
    recipe = (ops.CenterCrop(size=(7, 5)), *tail)
    found, expected = (images_of(items, recipe, which) for which in (backend, "torchvision"))
    assert found.dtype == expected.dtype == (torch.float32 if tail else torch.uint8)
    assert found.is_contiguous()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


# A sample is the same in every run


EVERYTHING = (
    ops.RandomRotation(degrees=40, interpolation="bilinear"),
    ops.RandomHorizontalFlip(),
    ops.RandomResizedCrop(size=(29, 37)),
    ops.RandomAffine(degrees=10, translate=(0.2, 0.2), scale=(0.7, 1.4), shear=9),
    ops.RandomVerticalFlip(),
    ops.RandomCrop(size=(23, 31), padding=3),
    ops.Normalize(mean=MEAN, std=STD),
)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_an_image_does_not_depend_on_batches_or_threads(images, images_of, backend):
    items = list(images.values())
    whole = images_of(items, EVERYTHING, backend, repeats=2, threads=1)
    sizes = [1, 5, 2, 9, 2 * len(items) - 17]
    torch.testing.assert_close(
        images_of(items, EVERYTHING, backend, repeats=2, batch_sizes=sizes), whole, rtol=0, atol=0
    )
    other = images_of(items, EVERYTHING, backend, repeats=2, seed=4)
    assert (other != whole).double().mean() > 0.3
    assert not torch.equal(whole[: len(items)], whole[len(items) :])


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_paths_bytes_and_pixels_give_the_same_images(images, images_of, backend, tmp_path):
    from dalipipe.backends.torchvision import decode

    paths = []
    for number, (kind, image) in enumerate(images.items()):
        paths.append(tmp_path / f"{number} {kind}\n\udcff")
        paths[-1].write_bytes(image)
    pixels = [decode(image).permute(1, 2, 0).numpy() for image in images.values()]
    for recipe in (EVERYTHING, EVERYTHING[2:]):
        expected = images_of(list(images.values()), recipe, backend)
        for items in ([str(path) for path in paths], pixels):
            torch.testing.assert_close(images_of(items, recipe, backend), expected, rtol=0, atol=0)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_labels_go_with_their_images(images, run, backend):
    results = run(list(images.values()), (FRAME,), backend, batch_sizes=[7, len(images) - 7])
    labels = torch.cat([result.labels for result in results])
    assert labels.dtype == torch.int64
    assert labels.tolist() == list(range(len(images)))
    assert [len(result.batch) for result in results] == [7, len(images) - 7]


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_an_executor_runs_again_and_may_be_left_early(images, source_of, backend):
    from dalipipe.sampling import batched

    job = Job(source_of(list(images.values())), Recipe(name="test", ops=EVERYTHING), 0, 3, 2)
    executor = compile_recipe(job, backend)

    def images_from(order, take=None):
        results = executor.run(batched(order, 3, epoch=0, drop_last=False))
        taken = [next(results).images for _ in range(take)] if take is not None else [item.images for item in results]
        results.close()
        return torch.cat(taken) if taken else torch.empty(0)

    try:
        whole = images_from(range(16))
        assert torch.equal(images_from(range(16), take=2), whole[:6])
        assert len(images_from(range(16), take=0)) == 0
        assert torch.equal(images_from(reversed(range(16))), whole.flip(0))
        assert len(images_from([])) == 0
        assert torch.equal(images_from(range(5)), whole[:5])
    finally:
        executor.close()


# Which backend


def test_a_backend_that_is_not_there_gets_the_nearest_name():
    with pytest.raises(ConfigError, match=r"backend: unknown name 'dali-cpu-stok'. Did you mean 'dali-cpu-stock'\?"):
        resolve_backend("dali-cpu-stok")
    with pytest.raises(ConfigError, match=r"There are: auto, dali-gpu, .*torchvision\.$"):
        resolve_backend("")


def test_dali_gpu_without_a_gpu_names_what_works(monkeypatch):
    monkeypatch.setattr(backends, "cuda_works", lambda: False)
    with pytest.raises(BackendError, match="dali-gpu: needs a CUDA device, and none works here") as caught:
        resolve_backend("dali-gpu")
    assert '"dali-cpu-stock"' in str(caught.value)


def test_auto_takes_the_gpu_where_there_is_one_and_says_so_once(monkeypatch, caplog):
    backends._say_once.cache_clear()
    caplog.set_level("INFO", "dalipipe")
    monkeypatch.setattr(backends, "cuda_works", lambda: True)
    assert [resolve_backend("auto") for _ in range(3)] == ["dali-gpu"] * 3
    assert len(caplog.messages) == 1
    assert "backend auto: dali-gpu" in caplog.messages[0]
    monkeypatch.setattr(backends, "cuda_works", lambda: False)
    assert resolve_backend("auto") in CPU_BACKENDS
    assert resolve_backend("auto") != "torchvision"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", list(list_recipes("image")))
def test_every_step_of_a_recipe_can_be_described(name, backend):
    recipe = Recipe.load(name)
    steps = describe_step(recipe, backend)
    assert len(steps) == len(recipe.ops)
    assert all(steps)


def test_a_recipe_that_can_not_work_is_refused_before_it_is_compiled(source_of):
    recipe = Recipe(name="test", ops=(ops.Resize(size=9),))
    for backend in CPU_BACKENDS:
        with pytest.raises(ValueError, match="could not be batched"):
            compile_recipe(Job(source_of([]), recipe), backend)
