"""RandomErasing, which may stand before or after the ops that rescale and normalise."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from dalipipe.backends import BACKENDS, Job, Output, compile_recipe
from dalipipe.decisions import randomness
from dalipipe.decisions.program import program
from dalipipe.errors import ConfigError, RecipeError
from dalipipe.recipes import Recipe, ops
from dalipipe.recipes.ops.building import build_op
from dalipipe.recipes.primitives import ARGS, DO, Primitive

NORMALIZE = ops.Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
WINDOW = ops.Resize(size=(31, 43))
FLOATS = ops.RandomErasing(p=0.8, value=(0.25, -1.5, 3.0))
LEVELS = ops.RandomErasing(p=0.8, value=(9, 99, 199))
PLACES = {
    "after Normalize": (WINDOW, NORMALIZE, FLOATS),
    "twice": (WINDOW, NORMALIZE, FLOATS, ops.RandomErasing(p=0.7, scale=(0.1, 0.2))),
    "before Normalize": (WINDOW, ops.ToDtype(scale=True), FLOATS, NORMALIZE),
    "levels": (WINDOW, LEVELS, ops.RandomHorizontalFlip(), ops.CenterCrop(size=(23, 29)), NORMALIZE),
    "then resized": (ops.CenterCrop(size=(31, 43)), LEVELS, ops.RandomVerticalFlip(), ops.Resize(size=(13, 17))),
}


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name not in ("torchvision", "dali-gpu")])
@pytest.mark.parametrize("place", PLACES)
def test_every_backend_erases_what_the_reference_does(images, images_of, backend, place):
    items = [images[kind] for kind in ("odd", "small", "CMYK")]
    found, expected = (images_of(items, PLACES[place], name, repeats=4) for name in (backend, "torchvision"))
    off = (found.double() - expected.double()).abs()
    level = 1 / 255 / 0.22 if found.dtype == torch.float32 else 1
    rounding = 20 if backend == "dali-cpu-stock" else 1  # DALI's own resize
    assert off.max() <= 1.01 * level * rounding
    assert off.mean() <= 0.3 * level


def test_the_reference_erases_as_torchvision_does_in_the_unit_of_each_place(images, images_of):
    for chain in (PLACES["after Normalize"], PLACES["before Normalize"]):
        recipe = Recipe(name="test", ops=chain)
        erasing = next(op for op in chain if isinstance(op, ops.RandomErasing))
        found = images_of([images["odd"]], chain, "torchvision", repeats=6)
        (plain,) = images_of([images["odd"]], (WINDOW, ops.ToDtype(scale=True)), "torchvision")
        steps = program(recipe)
        acted = 0
        for occurrence, image in enumerate(found):
            records, _ = steps.resolve(randomness.uniforms(steps.counts, 3, 0, [0], [occurrence])[0], 101, 67)
            top, left, height, width = (int(side) for side in records[1, ARGS : ARGS + 4])
            transforms = [v2.Normalize(NORMALIZE.mean, NORMALIZE.std)]
            if records[1, DO] == Primitive.ERASE:
                erase = v2.RandomErasing(p=1)
                value = torch.tensor(erasing.value).view(3, 1, 1)
                params = {"i": top, "j": left, "h": height, "w": width, "v": value}
                erase.make_params = lambda _, params=params: params
                transforms.insert(chain.index(erasing) - 1 if chain[1] is NORMALIZE else 0, erase)
                acted += 1
            torch.testing.assert_close(image, v2.Compose(transforms)(plain), rtol=1e-5, atol=1e-5)
        assert 0 < acted < 6


def test_boxes_are_distributed_as_torchvisions():
    op = ops.RandomErasing(p=1, scale=(0.1, 0.9), ratio=(0.3, 3.3))
    steps = program(Recipe(name="test", ops=(op,)))
    ours = [steps.resolve(row, 40, 60)[0][0] for row in randomness.uniforms(steps.counts, 0, 0, np.arange(4000))]
    theirs = v2.RandomErasing(p=1, scale=op.scale, ratio=op.ratio)
    torch.manual_seed(0)
    drawn = [theirs.make_params([torch.empty((3, 40, 60), device="meta")]) for _ in range(4000)]
    boxes = np.array([row[ARGS : ARGS + 4] for row in ours if row[DO]])
    expected = np.array([[row["i"], row["j"], row["h"], row["w"]] for row in drawn if row["v"] is not None])
    assert len(boxes) == pytest.approx(len(expected), abs=130)
    np.testing.assert_allclose(boxes.mean(axis=0), expected.mean(axis=0), atol=0.8)
    np.testing.assert_allclose(boxes.std(axis=0), expected.std(axis=0), atol=0.6)


@pytest.mark.parametrize("backend", ["torchvision", "dali-cpu-stock", "dali-cpu"])
def test_whole_levels_have_no_place_for_an_erasing_behind_normalize(source_of, backend):
    recipe = Recipe(name="test", ops=PLACES["after Normalize"])
    with pytest.raises(ConfigError, match="Put RandomErasing before them"):
        compile_recipe(Job(source_of([]), recipe, output=Output("uint8")), backend)


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_every_form_of_output_is_erased(images, source_of, memory_format):
    from dalipipe.sampling import Batch

    recipe = Recipe(name="test", ops=PLACES["after Normalize"])
    batch = Batch(0, np.zeros(4, np.int64), np.arange(4))
    results = []
    for backend in ("torchvision", "dali-cpu-stock", "dali-cpu"):
        output = Output("float16", memory_format)
        executor = compile_recipe(Job(source_of([images["odd"]]), recipe, 3, 4, output=output), backend)
        (result,) = executor.run([batch])
        executor.close()
        results.append(result.images.double())
    for found in results[1:]:
        assert (found - results[0]).abs().mean() < 0.01
        erased = (results[0] == torch.tensor(FLOATS.value).view(3, 1, 1)).all(dim=1)
        assert erased.any()
        assert torch.equal((found == torch.tensor(FLOATS.value).view(3, 1, 1)).all(dim=1), erased)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"value": "random"}, "would not be the same on every backend"),
        ({"scale": (0.5, 1.1)}, "scale"),
        ({"ratio": (0, 1)}, "ratio"),
        ({"value": (1, 2)}, "value"),
    ],
)
def test_what_cannot_be_erased_is_refused(arguments, message):
    with pytest.raises(RecipeError, match=message):
        build_op({"op": "RandomErasing", **arguments}, "test")


def test_a_value_must_be_a_level_where_pixels_are_levels():
    chain = (WINDOW, ops.RandomErasing(value=0.5), NORMALIZE)
    with pytest.raises(RecipeError, match="op 2: RandomErasing: value must be whole levels"):
        Recipe(name="test", ops=chain).shapes()
    Recipe(name="test", ops=(chain[0], chain[2], chain[1])).shapes()
