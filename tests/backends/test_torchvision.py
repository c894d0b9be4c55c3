"""The reference against torchvision's own transforms, which take the decisions of our records."""

import io
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from dalipipe.backends import Finish
from dalipipe.backends.torchvision import apply, decode, finish
from dalipipe.decisions import randomness
from dalipipe.decisions.program import program
from dalipipe.decisions.status import Status
from dalipipe.recipes import Recipe, ops
from dalipipe.recipes.ops import OPS
from dalipipe.recipes.ops.building import build_op
from dalipipe.recipes.primitives import ARGS, DO, PERMUTATIONS, Primitive

ROWS = tomllib.loads((Path(__file__).parents[1] / "ops.toml").read_text())
LEAVES = [name for name, model in OPS.items() if model.stage == "pixels" and not issubclass(model, ops.Container)]
LEAVES = [name for name in LEAVES if not issubclass(OPS[name], ops.Policy)]
PIXEL_CASES = [(name, row) for name in LEAVES for row in ROWS[name]]
POLICIES = [name for name, model in OPS.items() if issubclass(model, ops.Policy)]
JITTERS = [Primitive.BRIGHTNESS, Primitive.CONTRAST, Primitive.SATURATION, Primitive.HUE]


def params_of(op, records):
    """What make_params of torchvision's transform would have returned for these records."""
    record = records[0]
    numbers = record[ARGS:].tolist()
    match op:
        case ops.ColorJitter():
            done = [JITTERS.index(Primitive(int(step[DO]))) for step in records]
            factors = {place: float(step[ARGS]) for place, step in zip(done, records, strict=True)}
            names = ("brightness_factor", "contrast_factor", "saturation_factor", "hue_factor")
            rest = [place for place in range(4) if place not in done]
            return {"fn_idx": torch.tensor(done + rest)} | {n: factors.get(at) for at, n in enumerate(names)}
        case ops.GaussianBlur():
            return {"sigma": [numbers[2], numbers[2]]}
        case ops.RandomChannelPermutation():
            return {"permutation": list(PERMUTATIONS[int(numbers[0])])}
        case ops.RandomPerspective():
            return {"coefficients": numbers[:8]}
        case ops.RandomResizedCrop():
            return dict(zip(("top", "left", "height", "width"), map(int, numbers[:4]), strict=True))
        case ops.RandomRotation():
            return {"angle": -numbers[10]}
        case ops.RandomAffine():
            angle, x, y, scale, shear_x, shear_y = numbers[10:16]
            return {"angle": angle, "translate": (int(x), int(y)), "scale": scale, "shear": (shear_x, shear_y)}
        case ops.RandomErasing():
            top, left, height, width = map(int, numbers[:4])
            return {"i": top, "j": left, "h": height, "w": width, "v": torch.tensor(op.value).view(3, 1, 1)}
    return {}


def torchvisions(op, records, height, width):
    """torchvision's own transform for an op, deciding what the records say."""
    record = records[0]
    arguments = {name: getattr(op, name) for name in type(op).model_fields if name != "op"}
    arguments = {name: list(value) if isinstance(value, tuple) else value for name, value in arguments.items()}
    if "interpolation" in arguments:
        arguments["interpolation"] = InterpolationMode(arguments["interpolation"])
    if "p" in arguments:
        arguments["p"] = float(record[DO] != Primitive.NOTHING)
    transform = getattr(v2, op.op)(**arguments)
    if isinstance(op, ops.RandomCrop):
        # Of the random window only the corner is ours: the rest, padding included, is as torchvision has it.
        params = transform.make_params([torch.empty((3, height, width), device="meta")])
        top, left = record[ARGS] + params["padding"][1], record[ARGS + 1] + params["padding"][0]
        params |= {"top": int(top), "left": int(left), "needs_crop": True, "needs_vert_crop": True}
        transform.make_params = lambda _: params
    elif params := params_of(op, records):
        transform.make_params = lambda _: params
    return transform


@pytest.mark.parametrize(("name", "arguments"), PIXEL_CASES)
@pytest.mark.parametrize("kind", ["odd", "small", "5 x 1", "CMYK"])
def test_every_op_is_torchvisions(images, name, arguments, kind):
    op = build_op({"op": name, **arguments}, "test")
    image = decode(images[kind])
    height, width = image.shape[-2:]
    steps = program(Recipe(name="test", ops=(op,)))
    for uniforms in randomness.uniforms(steps.counts, 1, 0, np.arange(4)):
        records, status = steps.resolve(uniforms, height, width)
        if status is Status.BLUR_EXCEEDS_IMAGE:
            with pytest.raises((ValueError, RuntimeError), match="Padding size"):
                v2.GaussianBlur(list(op.kernel_size))(image)
            continue
        assert status == 0
        found = image
        for record in records:
            found = apply(found, record)
        torch.testing.assert_close(found, torchvisions(op, records, height, width)(image), rtol=0, atol=0)


def replayed(op, uniforms, image, monkeypatch):
    """torchvision's own policy, drawing our uniforms."""
    options = {"interpolation": InterpolationMode(op.interpolation), "fill": list(op.fill)}
    if isinstance(op, ops.AutoAugment):
        transform = v2.AutoAugment(**options)
        pair = transform._policies[int(uniforms[0] * len(transform._policies))]
        for step, (name, p, at) in enumerate(pair):
            transform._policies = [[(name, 1.0 if uniforms[1 + 2 * step] < p else -1.0, at)]]
            monkeypatch.setattr(torch, "rand", lambda _, u=uniforms[2 + 2 * step]: torch.tensor(u))
            image = transform(image)
        return image
    draws = uniforms.reshape(-1, 3)
    if isinstance(op, ops.RandAugment):
        transform = v2.RandAugment(op.num_ops, op.magnitude, op.num_magnitude_bins, **options)
        drawn = []

        def randint(high, _):
            drawn.append(draws[len(drawn)])
            return torch.tensor(int(drawn[-1][0] * high))

        monkeypatch.setattr(torch, "randint", randint)
        monkeypatch.setattr(torch, "rand", lambda _: torch.tensor(drawn[-1][2]))
        return transform(image)
    transform = v2.TrivialAugmentWide(op.num_magnitude_bins, **options)
    integers = iter(draws[0, :2].tolist())
    monkeypatch.setattr(torch, "randint", lambda high, _: torch.tensor(int(next(integers) * high)))
    monkeypatch.setattr(torch, "rand", lambda _: torch.tensor(draws[0, 2]))
    return transform(image)


@pytest.mark.parametrize(("name", "arguments"), [(name, row) for name in POLICIES for row in ROWS[name]])
@pytest.mark.parametrize("kind", ["odd", "small"])
def test_every_policy_is_torchvisions(images, name, arguments, kind, monkeypatch):
    op = build_op({"op": name, **arguments}, "test")
    image = decode(images[kind])
    steps = program(Recipe(name="test", ops=(op,)))
    for uniforms in randomness.uniforms(steps.counts, 1, 0, np.arange(60)):
        records, status = steps.resolve(uniforms, *image.shape[-2:])
        assert status == 0
        found = image
        for record in records:
            found = apply(found, record)
        with monkeypatch.context() as patch:
            expected = replayed(op, uniforms, image, patch)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["odd", "grey", "CMYK", "progressive", "palette", "RGBA", "one bit", "WebP", "TIFF"])
def test_an_image_is_read_as_imagefolder_reads_it(images, tmp_path, kind):
    expected = np.array(Image.open(io.BytesIO(images[kind])).convert("RGB"))
    path = tmp_path / "image"
    path.write_bytes(images[kind])
    for item in (images[kind], str(path), expected):
        image = decode(item)
        assert image.dtype == torch.uint8
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), expected)


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("tail", "transform"),
    [
        ((ops.ToDtype(),), v2.ToDtype(torch.float32)),
        ((ops.ToDtype(scale=True),), v2.ToDtype(torch.float32, scale=True)),
        ((ops.Normalize(mean=MEAN, std=STD),), v2.Compose([v2.ToDtype(torch.float32, True), v2.Normalize(MEAN, STD)])),
        (
            (ops.ToDtype(), ops.Normalize(mean=MEAN, std=STD)),
            v2.Compose([v2.ToDtype(torch.float32), v2.Normalize(MEAN, STD)]),
        ),
    ],
    ids=["levels", "fractions", "normalised", "normalised levels"],
)
def test_the_range_is_torchvisions(images, tail, transform):
    image = decode(images["odd"])
    recipe = Recipe(name="test", ops=(ops.CenterCrop(size=9), *tail))
    found, expected = finish(image, recipe), transform(image)
    assert found.dtype == expected.dtype == torch.float32
    assert torch.equal(found, expected)
    assert torch.equal(Finish(recipe)(image[None])[0], expected)


def test_without_a_range_the_levels_stay(images):
    image = decode(images["odd"])
    assert finish(image, Recipe(name="test", ops=(ops.CenterCrop(size=9),))) is image


@pytest.mark.parametrize("angle", [90, 180, -90])
def test_a_quarter_turn_moves_whole_pixels(make_image, angle):
    """torchvision turns square images by rot90 here, which no interpolation can blur."""
    image = torch.from_numpy(make_image(17, 17)).permute(2, 0, 1)
    for interpolation in ("nearest", "bilinear"):
        op = ops.RandomRotation(degrees=(angle, angle), interpolation=interpolation)
        steps = program(Recipe(name="test", ops=(op,)))
        (record,), _ = steps.resolve(np.zeros(1), 17, 17)
        expected = v2.RandomRotation((angle, angle), interpolation=InterpolationMode(interpolation))(image)
        assert (apply(image, record).int() - expected.int()).abs().max() <= 1
