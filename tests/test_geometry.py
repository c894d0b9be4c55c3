import math
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numba.core.registry import CPUDispatcher as Dispatcher
from scipy import stats
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import _geometry as theirs

from dalipipe.decisions import geometry, randomness
from dalipipe.decisions.program import program
from dalipipe.decisions.status import Status, reason_of
from dalipipe.recipes import Recipe, ops
from dalipipe.recipes.ops import OPS
from dalipipe.recipes.ops.building import build_op
from dalipipe.recipes.ops.sizing import ATTEMPTS
from dalipipe.recipes.primitives import ARGS, DO, IN_H, IN_W, OUT_H, OUT_W, Primitive

ROWS = tomllib.loads((Path(__file__).parent / "ops.toml").read_text())
PIXEL_OPS = [name for name, model in OPS.items() if model.stage == "pixels" and not issubclass(model, ops.Container)]
SIDES = st.integers(1, 5000)
DRAWS = 4000


def records_of(op: ops.Op, height: int, width: int, samples: int = 1, seed: int = 0) -> np.ndarray:
    """(samples, RECORD): what an op decides for the first samples of a data set."""
    steps = program(Recipe(name="test", ops=(op,)))
    drawn = randomness.uniforms(steps.counts, seed, 0, np.arange(samples))
    return np.stack([steps.resolve(row, height, width)[0][0] for row in drawn])


def drawn_by_torchvision(transform: v2.Transform, height: int, width: int, samples: int = DRAWS) -> list[dict]:
    torch.manual_seed(1234)
    image = torch.empty((3, height, width), device="meta")
    return [transform.make_params([image]) for _ in range(samples)]


# Every op has a resolve


@pytest.mark.parametrize(("name", "arguments"), [(name, row) for name in PIXEL_OPS for row in ROWS[name]])
def test_every_pixel_op_is_resolved(name, arguments):
    op = build_op({"op": name, **arguments}, "test")
    records = records_of(op, 47, 41, samples=8)
    assert (records[:, [IN_H, IN_W]] == (47, 41)).all()
    assert np.isfinite(records).all()
    assert {Primitive(int(do)) for do in records[:, DO]} <= set(Primitive)
    spec = op.check(ops.ImageSpec(height=47, width=41))
    assert (records[:, [OUT_H, OUT_W]] == (spec.height, spec.width)).all()


def test_an_op_without_resolve_is_refused():
    class Posterize(ops.Op):
        op: str = "Posterize"

    with pytest.raises(TypeError, match="Posterize: an op on pixels must say by which rule"):
        program(Recipe(name="test", ops=(Posterize(),)))


def test_each_step_gets_its_own_uniforms_and_the_size_left_by_the_last():
    recipe = Recipe(
        name="test",
        ops=(
            ops.RandomResizedCrop(size=(31, 17)),
            ops.RandomHorizontalFlip(p=0.5),
            ops.RandomCrop(size=(13, 11)),
            ops.RandomVerticalFlip(p=0.5),
            ops.Normalize(mean=(0.5,) * 3, std=(0.5,) * 3),
        ),
    )
    steps = program(recipe)
    assert (steps.counts, steps.positions, len(steps)) == ((22, 1, 2, 1, 0), (0, 1, 2, 3), 4)
    uniforms = np.full(26, 0.999)
    uniforms[22] = 0.0
    records, status = steps.resolve(uniforms, 101, 67)
    assert status is Status.OK
    assert records[:, [IN_H, IN_W]].tolist() == [[101, 67], [31, 17], [31, 17], [13, 11]]
    assert records[:, [OUT_H, OUT_W]].tolist() == [[31, 17], [31, 17], [13, 11], [13, 11]]
    assert records[1, [DO, ARGS, ARGS + 1]].tolist() == [Primitive.FLIP, 1, 0]
    assert records[2, [DO, ARGS, ARGS + 1]].tolist() == [Primitive.CROP_PAD, 31 - 13, 17 - 11]
    assert records[3, DO] == Primitive.NOTHING


# Rounding is torchvision's


@given(SIDES, SIDES, SIDES, st.none() | SIDES)
@example(5, 1, 1, 2)
@settings(max_examples=120)
def test_the_resized_size_is_torchvisions(height, width, size, max_size):
    if max_size is not None and max_size <= size:
        max_size = None
    expected = theirs._compute_resized_output_size((height, width), [size], max_size)
    expected = [max(1, side) for side in expected]
    assert list(geometry.resized_size(height, width, size, max_size or 0)) == expected
    assert list(geometry.resized_size.py_func(height, width, size, max_size or 0)) == expected


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=120)
def test_the_central_window_is_torchvisions(height, width, crop_height, crop_width):
    """Each pixel holds its own place, so the result says where it was taken from; -1 stands for padding."""
    places = torch.arange(1, height * width + 1).reshape(1, height, width)
    expected = theirs.center_crop_image(places, [crop_height, crop_width])[0].numpy() - 1
    top, left = geometry.center_crop_corner(height, width, crop_height, crop_width)
    assert geometry.center_crop_corner.py_func(height, width, crop_height, crop_width) == (top, left)
    y, x = np.mgrid[top : top + crop_height, left : left + crop_width]
    found = np.where((y >= 0) & (y < height) & (x >= 0) & (x < width), y * width + x, -1)
    np.testing.assert_array_equal(found, expected)


ANGLES = st.floats(-360, 360)
SHEARS = st.floats(-80, 80)


@given(
    ANGLES,
    st.tuples(*[st.integers(-99, 99)] * 2),
    st.floats(0.05, 9),
    st.tuples(SHEARS, SHEARS),
    st.tuples(SIDES, SIDES),
)
@settings(max_examples=120)
def test_the_matrix_is_torchvisions(angle, translate, scale, shear, center):
    shift = tuple(float(pixels) for pixels in translate)
    middle = tuple(side / 2 for side in center)
    expected = theirs._get_inverse_affine_matrix(list(middle), angle, list(shift), scale, list(shear))
    found = geometry.affine_matrix(angle, shift, scale, shear, middle)
    bound = 1e-9 * max(1.0, *(abs(number) for number in expected))
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)
    np.testing.assert_allclose(geometry.affine_matrix.py_func(angle, shift, scale, shear, middle), found, atol=bound)


def test_a_rotation_is_counter_clockwise_and_an_affine_map_clockwise():
    rotation = records_of(ops.RandomRotation(degrees=(30, 30)), 17, 11)[0]
    affine = records_of(ops.RandomAffine(degrees=(-30, -30)), 17, 11)[0]
    np.testing.assert_array_equal(rotation[ARGS : ARGS + 6], affine[ARGS : ARGS + 6])
    expected = theirs._get_inverse_affine_matrix([5.5, 8.5], -30.0, [0, 0], 1.0, [0, 0])
    np.testing.assert_allclose(rotation[ARGS : ARGS + 6], expected, atol=1e-12)


# Boxes


FRACTIONS = st.floats(0.001, 2)
UNIFORMS = st.integers(0, 2**32 - 1).map(lambda bits: bits / 2**32)
UNIFORM_ROWS = st.lists(UNIFORMS, min_size=22, max_size=22) | UNIFORMS.map(lambda u: [u] * 22)


@given(st.integers(1, 70) | SIDES, st.integers(1, 70) | SIDES, FRACTIONS, FRACTIONS, FRACTIONS, FRACTIONS, UNIFORM_ROWS)
@example(1, 1, 0.5, 1, 5.0, 6.0, [0.999] * 22)
@example(5, 1, 1, 1, 3.0, 4.0, [0.999] * 22)
@example(1, 5, 1, 1, 0.1, 0.2, [0.999] * 22)
@settings(max_examples=120)
def test_a_box_lies_inside_the_image(height, width, scale_a, scale_b, ratio_a, ratio_b, uniforms):
    scale, ratio = tuple(sorted((scale_a, scale_b))), tuple(sorted((ratio_a, ratio_b)))
    top, left, box_height, box_width = geometry.random_resized_crop_box(np.array(uniforms), height, width, scale, ratio)
    assert top >= 0
    assert left >= 0
    assert 1 <= box_height <= height - top
    assert 1 <= box_width <= width - left
    plain = geometry.random_resized_crop_box.py_func(np.array(uniforms), height, width, scale, ratio)
    assert plain == (top, left, box_height, box_width)


def reference_box(uniforms, height, width, scale, ratio):
    """torchvision's make_params, fed with our numbers in place of its own."""
    drawn = iter([(uniforms[attempt], uniforms[ATTEMPTS + attempt]) for attempt in range(ATTEMPTS)])
    area = height * width
    for area_u, ratio_u in drawn:
        target = area * (scale[0] + area_u * (scale[1] - scale[0]))
        aspect = math.exp(math.log(ratio[0]) + ratio_u * (math.log(ratio[1]) - math.log(ratio[0])))
        w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(uniforms[20] * (height - h + 1)), int(uniforms[21] * (width - w + 1)), h, w
    return None


@pytest.mark.parametrize(("height", "width"), [(101, 67), (7, 300), (300, 11)])
def test_ten_attempts_are_made_and_then_torchvisions_fallback(height, width):
    scale, ratio = (0.3, 1.5), (0.75, 4 / 3)
    fallback = v2.RandomResizedCrop(8, scale=(9, 9), ratio=ratio)
    (expected,) = drawn_by_torchvision(fallback, height, width, samples=1)
    expected = (expected["top"], expected["left"], expected["height"], expected["width"])
    fell_back = 0
    for uniforms in randomness.uniforms((22,), 5, 0, np.arange(300)):
        box = geometry.random_resized_crop_box(uniforms, height, width, scale, ratio)
        tried = reference_box(uniforms, height, width, scale, ratio)
        fell_back += tried is None
        assert box == (expected if tried is None else tried)
    assert (fell_back == 300) == (height != 101)


def test_the_tenth_attempt_counts_and_there_is_no_eleventh():
    uniforms = np.full(22, 0.5)
    uniforms[:ATTEMPTS] = 1 - 2.0**-32  # an area of twice the image, which never fits
    whole = geometry.random_resized_crop_box(uniforms, 100, 100, (0.25, 2.0), (1.0, 1.0))
    assert whole == (0, 0, 100, 100)
    uniforms[ATTEMPTS - 1] = 0.0
    assert geometry.random_resized_crop_box(uniforms, 100, 100, (0.25, 2.0), (1.0, 1.0)) == (25, 25, 50, 50)


# Distributions are torchvision's: two samples of several thousand draws each, at fixed seeds


def assert_same_distribution(mine, other):
    mine, other = np.asarray(mine, dtype=float), np.asarray(other, dtype=float)
    values = np.unique(np.concatenate([mine, other]))
    if len(values) > 30:
        pvalue = stats.ks_2samp(mine, other).pvalue
    elif len(values) == 1:
        return
    else:
        table = [[np.count_nonzero(sample == value) for value in values] for sample in (mine, other)]
        pvalue = stats.chi2_contingency(table).pvalue
    assert pvalue > 0.001


@pytest.mark.parametrize(
    ("height", "width", "arguments"),
    [
        (101, 67, {}),
        (375, 500, {}),
        (59, 83, {"scale": (0.5, 0.9), "ratio": (0.3, 2.5)}),
        (31, 67, {"scale": (0.6, 1.2)}),
        (17, 211, {}),
    ],
)
def test_boxes_are_drawn_as_torchvision_draws_them(height, width, arguments):
    records = records_of(ops.RandomResizedCrop(size=8, **arguments), height, width, DRAWS)
    top, left, box_height, box_width = records[:, ARGS : ARGS + 4].T
    other = drawn_by_torchvision(v2.RandomResizedCrop(8, **arguments), height, width)
    their = {key: np.array([params[key] for params in other], dtype=float) for key in other[0]}
    mine = {"top": top, "left": left, "height": box_height, "width": box_width}
    for key, values in mine.items():
        assert_same_distribution(values, their[key])
    for derive in (
        lambda box: box["height"] * box["width"],
        lambda box: box["width"] / box["height"],
        lambda box: box["top"] / np.maximum(1, height - box["height"]),
        lambda box: box["left"] / np.maximum(1, width - box["width"]),
        lambda box: box["top"] + box["height"] / 2,
        lambda box: box["left"] + box["width"] / 2 + box["top"] + box["height"] / 2,
    ):
        assert_same_distribution(derive(mine), derive(their))


@pytest.mark.parametrize(
    "arguments",
    [
        {"degrees": 15},
        {"degrees": (-30, 50), "translate": (0.1, 0.4), "scale": (0.7, 1.4), "shear": (-9, 9, -5, 20)},
        {"degrees": 0, "translate": (0.02, 1.0), "shear": 11.5},
        {"degrees": 0, "shear": (3, 4)},
    ],
)
def test_affine_maps_are_drawn_as_torchvision_draws_them(arguments):
    records = records_of(ops.RandomAffine.model_validate(arguments), 101, 67, DRAWS)
    other = drawn_by_torchvision(v2.RandomAffine(**arguments), 101, 67)
    angle, shift_x, shift_y, scale, shear_x, shear_y = records[:, ARGS + 10 : ARGS + 16].T
    assert_same_distribution(angle, [params["angle"] for params in other])
    assert_same_distribution(shift_x, [params["translate"][0] for params in other])
    assert_same_distribution(shift_y, [params["translate"][1] for params in other])
    assert_same_distribution(scale, [params["scale"] for params in other])
    assert_same_distribution(shear_x, [params["shear"][0] for params in other])
    assert_same_distribution(shear_y, [params["shear"][1] for params in other])
    if len(arguments) > 2:
        assert abs(np.corrcoef(records[:, ARGS + 10 : ARGS + 16].T[1:3])[0, 1]) < 0.06


def test_angles_are_drawn_as_torchvision_draws_them():
    records = records_of(ops.RandomRotation(degrees=(-40, 70)), 17, 11, DRAWS)
    other = drawn_by_torchvision(v2.RandomRotation((-40, 70)), 17, 11)
    assert_same_distribution(-records[:, ARGS + 10], [params["angle"] for params in other])
    assert (records[:, ARGS + 11 : ARGS + 18] == (0, 0, 1, 0, 0, 5.5, 8.5)).all()


@pytest.mark.parametrize(
    ("height", "width", "arguments"),
    [
        (101, 67, {"size": (29, 59)}),
        (32, 32, {"size": 32, "padding": 4}),
        (13, 29, {"size": (29, 13), "padding": (1, 2, 3, 4), "pad_if_needed": True}),
    ],
)
def test_windows_are_drawn_as_torchvision_draws_them(height, width, arguments):
    records = records_of(ops.RandomCrop.model_validate(arguments), height, width, DRAWS)
    torchvisions = {key: list(value) if isinstance(value, tuple) else value for key, value in arguments.items()}
    other = drawn_by_torchvision(v2.RandomCrop(**torchvisions), height, width)
    # torchvision counts from the corner of the padded image.
    assert_same_distribution(records[:, ARGS], [params["top"] - params["padding"][1] for params in other])
    assert_same_distribution(records[:, ARGS + 1], [params["left"] - params["padding"][0] for params in other])


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize(("op", "place"), [(ops.RandomHorizontalFlip, ARGS), (ops.RandomVerticalFlip, ARGS + 1)])
def test_flips_come_as_often_as_they_should(op, place, p):
    records = records_of(op(p=p), 17, 11, DRAWS)
    flipped = records[:, DO] == Primitive.FLIP
    np.testing.assert_array_equal(records[:, place] == 1, flipped)
    assert not records[:, 2 * ARGS + 1 - place].any()
    assert stats.binomtest(int(flipped.sum()), DRAWS, p).pvalue > 0.001
    assert (flipped.mean() == p) or 0 < p < 1


# Windows larger than the image


def test_a_window_that_does_not_fit_is_a_status():
    recipe = Recipe(name="test", ops=(ops.RandomCrop(size=(19, 7), padding=1), ops.RandomHorizontalFlip(p=1)))
    records, status = program(recipe).resolve(np.zeros(3), 16, 11)
    assert status is Status.CROP_EXCEEDS_IMAGE
    assert reason_of(status)
    assert records[1, [IN_H, IN_W]].tolist() == [19, 7]
    assert program(recipe).resolve(np.zeros(3), 17, 11)[1] is Status.OK


@given(*[st.integers(1, 30)] * 4, st.tuples(*[st.integers(0, 9)] * 4), st.booleans(), st.tuples(UNIFORMS, UNIFORMS))
@settings(max_examples=100)
def test_a_window_lies_in_the_padded_image(height, width, crop_height, crop_width, padding, pad_if_needed, uniforms):
    arguments = np.array(uniforms), height, width, (crop_height, crop_width), np.array(padding, float), pad_if_needed
    top, left, fits = geometry.random_crop_corner(*arguments)
    assert geometry.random_crop_corner.py_func(*arguments) == (top, left, fits)
    padded = v2.RandomCrop((crop_height, crop_width), padding=list(padding), pad_if_needed=pad_if_needed)
    image = torch.empty((3, height, width), device="meta")
    if not fits:
        with pytest.raises(ValueError, match="larger than"):
            padded.make_params([image])
        return
    params = padded.make_params([image])
    pad_left, pad_top, pad_right, pad_bottom = params["padding"]
    assert -pad_top <= top <= height + pad_bottom - crop_height
    assert -pad_left <= left <= width + pad_right - crop_width


def as_plain_python(monkeypatch):
    """Let what is compiled run as it is written, whatever calls it."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "dalipipe":
            for key, value in list(vars(module).items()):
                if isinstance(value, Dispatcher):
                    monkeypatch.setattr(module, key, value.py_func)


def test_compiled_and_plain_python_resolve_alike(monkeypatch):
    recipe = Recipe(
        name="test",
        ops=tuple(build_op({"op": name, **row}, "test") for name in PIXEL_OPS for row in ROWS[name]),
    )
    steps = program(recipe)
    cases = [
        (uniforms, *size)
        for size in ((17, 11), (1, 5), (331, 499))
        for uniforms in randomness.uniforms(steps.counts, 1, 0, np.arange(10))
    ]
    compiled = [steps.resolve(*case) for case in cases]
    as_plain_python(monkeypatch)
    for case, (records, status) in zip(cases, compiled, strict=True):
        plain, said = steps.resolve(*case)
        assert said == status
        np.testing.assert_allclose(plain, records, rtol=1e-12, atol=1e-12)
