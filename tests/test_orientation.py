"""Photos that lie on their side: turned where the recipe asks for it, by every backend alike."""

import io
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from dalipipe import DataLoader
from dalipipe.backends import BACKENDS, Job, compile_recipe, dali
from dalipipe.decisions.orientation import orientation_of, upright
from dalipipe.errors import RecipeError
from dalipipe.recipes import Recipe, ops
from dalipipe.sampling import batched

CPU_BACKENDS = [name for name in BACKENDS if name != "dali-gpu"]
NOTES = range(9)  # 0 is no orientation


def encode(pixels, form, orientation, order="<"):
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F] = "a camera"
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, exif=exif.tobytes(), **({"quality": 95} if form == "JPEG" else {}))
    return buffer.getvalue()


def number(data):
    return orientation_of(np.frombuffer(data, np.uint8))


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("note", NOTES)
def test_pillow_turns_it_the_same_way(make_image, form, order, note):
    data = encode(make_image(17, 11), form, note, order)
    with Image.open(io.BytesIO(data)) as image:
        stored, shown = np.asarray(image), np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(upright(stored, data), shown)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_note_of_four_bytes_counts(make_image, form, order):
    data = encode(make_image(17, 11), form, 6, order)
    short, long = struct.pack(order + "HHIHH", 0x0112, 3, 1, 6, 0), struct.pack(order + "HHII", 0x0112, 4, 1, 6)
    assert short in data
    assert number(data) == number(data.replace(short, long)) == 6


@given(st.binary(max_size=80), st.integers(0, 3))
def test_whatever_the_bytes_are_there_is_an_answer(data, kind):
    for begin in (b"", b"\xff\xd8\xff\xe1", b"\xff\xd8\xff\xe1\x00\x40Exif\x00\x00MM\x00*", b"\x89PNG\r\n\x1a\n"):
        assert 1 <= number(begin + data) <= 8
    photo = encode(np.zeros((3, 5, 3), np.uint8), "JPEG", 6)
    at = photo.index(b"Exif") + kind * 7
    assert 1 <= number(photo[:at] + data + photo[at + len(data) :]) <= 8
    assert 1 <= number(photo[: len(data)]) <= 8


class Files:
    classes = ("a",)

    def __init__(self, items):
        self.items, self.labels = items, np.arange(len(items), dtype=np.int64)

    def __len__(self):
        return len(self.items)

    def item(self, index):
        return self.items[index]


RECIPES = {
    "whole": (ops.Resize(size=(13, 19)),),
    "window": (ops.RandomResizedCrop(size=(13, 11)), ops.RandomHorizontalFlip()),
    "turned again": (ops.RandomRotation(degrees=9), ops.CenterCrop(size=(9, 7))),
}


def images_of(items, recipe, backend, **options):
    with DataLoader(Files(items), 4, recipe=recipe, backend=backend, seed=1, num_threads=2, **options) as loader:
        return torch.cat([images for images, _ in loader]).float()


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("cache", [None, "ram", "auto"])
def test_every_backend_gives_what_upright_files_give(make_image, backend, name, cache):
    turned = Recipe(name="test", ops=RECIPES[name], apply_exif_orientation=True)
    pixels = [make_image(17 + note, 31 - note, seed=note) for note in NOTES]
    lying = [encode(image, "PNG", note) for image, note in zip(pixels, NOTES, strict=True)]
    standing = [encode(upright(image, data), "PNG", 1) for image, data in zip(pixels, lying, strict=True)]
    wanted = images_of(standing, Recipe(name="test", ops=RECIPES[name]), backend)
    options = {} if cache is None else {"cache": cache}
    if cache == "auto":
        options["cache_gb"] = 5e-6  # three of them or so
    assert torch.equal(images_of(lying, turned, backend, **options), wanted)
    assert not torch.equal(images_of(lying, Recipe(name="test", ops=RECIPES[name]), backend), wanted)


def test_a_bad_file_costs_only_itself_there_too(make_image):
    files = [encode(make_image(11, 7), "JPEG", 6), b"no image", encode(make_image(11, 7), "JPEG", 6)[:200]]
    recipe = Recipe(name="test", ops=RECIPES["whole"], apply_exif_orientation=True)
    for backend in CPU_BACKENDS:
        executor = compile_recipe(Job(Files(files), recipe, batch_size=3), backend)
        (result,) = executor.run(batched(range(3), 3, epoch=0, drop_last=False))
        executor.close()
        assert sorted(result.failures) == [1, 2]
        assert len(result.images) == 1


def test_pixels_in_memory_have_no_orientation(make_image):
    recipe = Recipe(name="test", ops=RECIPES["whole"], apply_exif_orientation=True)
    arrays = [make_image(17, 11), make_image(5, 9)]
    plain = recipe.model_copy(update={"apply_exif_orientation": False})
    for backend in CPU_BACKENDS:
        assert torch.equal(images_of(arrays, recipe, backend), images_of(arrays, plain, backend))


def test_the_graph_of_the_gpu_turns_there():
    recipe = Recipe(name="test", ops=RECIPES["window"], apply_exif_orientation=True)
    pipeline = dali.build(Job(Files([]), recipe, batch_size=2, device_id=None), "path", "gpu", lambda: ())
    pipeline._build_graph()
    placed = {op._op.schema_name: op._op.device for op in pipeline._ops if hasattr(op._op, "schema_name")}
    assert (placed["Flip"], placed["Transpose"]) == ("gpu", "gpu")


TOML = 'name = "mine"\napply_exif_orientation = true\n[[ops]]\nop = "RandomResizedCrop"\nsize = 8\n'


def test_a_recipe_says_so_and_its_twin_does_it_too():
    recipe = Recipe.from_toml(TOML)
    assert recipe.apply_exif_orientation
    assert Recipe.from_toml(recipe.to_toml()) == recipe
    assert recipe.eval_twin().apply_exif_orientation
    plain = recipe.model_copy(update={"apply_exif_orientation": False})
    assert not plain.eval_twin().apply_exif_orientation
    assert plain.fingerprint() != recipe.fingerprint()
    assert recipe.model_copy(update={"evaluation": "small-data-eval"}).eval_twin().apply_exif_orientation


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TOML.replace("true", "1"), "apply_exif_orientation: input should be a valid boolean, got 1"),
        (
            'name = "x"\napply_exif_orientation = true\n[[ops]]\nop = "Lowercase"\n',
            "a recipe of image ops is needed here, got one of text ops",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(text, message):
    with pytest.raises(RecipeError, match=message):
        Recipe.from_toml(text)
