"""What `check` says of a folder is what training then does, file by file and as a whole."""

import io

import numpy as np
import pytest
from PIL import Image

from dalipipe import DataLoader, inspection
from dalipipe.errors import SourceError
from dalipipe.inspection import inspect
from dalipipe.recipes import Recipe
from dalipipe.sources import require_classes, require_disjoint, split_sources

NOISE = np.random.default_rng(0).integers(0, 256, (41, 53, 3), dtype=np.uint8)


def encoded(form="JPEG", pixels=NOISE, mode=None, **options):
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(buffer, form, **options)
    return buffer.getvalue()


JPEG, PNG = encoded(quality=90), encoded("PNG")
MORE = {"save_all": True, "append_images": [Image.fromarray(255 - NOISE)]}
DEEP = bytearray(JPEG)
DEEP[JPEG.index(b"\xff\xc0") + 4] = 12
FILES = {
    "png.jpg": PNG,
    "webp.png": encoded("WEBP"),
    "gif.jpg": encoded("GIF", mode="P"),
    "tiff.jpg": encoded("TIFF"),
    "jp2.jpg": encoded("JPEG2000"),
    "heic.jpg": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200),
    "zero.jpg": b"",
    "text.jpg": b"no image here\n" * 9,
    "zeros.jpg": bytes(900),
    "deep/er/nested.png": encoded("PNG", 255 - NOISE),
    "grey16.png": encoded("PNG", np.arange(35, dtype=np.uint16).reshape(5, 7) * 1800),
    "moves.png": encoded("PNG", **MORE),
    "moves.webp": encoded("WEBP", **MORE),
    "moving_gif.png": encoded("GIF", mode="P", **MORE),
    "alpha.webp": encoded("WEBP", mode="RGBA"),
    "ink.jpg": encoded(mode="CMYK"),
    "deep.jpg": bytes(DEEP),
    "cut.jpg": JPEG[: len(JPEG) // 2],
    "no_end.jpg": JPEG[:-2],
    "cut.png": PNG[:-700],
    "damaged.png": PNG[:900] + bytes([PNG[900] ^ 255]) + PNG[901:],
    "thin.png": encoded("PNG", np.zeros((1, 9000, 3), np.uint8)),
    "high.bmp": encoded("BMP", np.zeros((9000, 1, 3), np.uint8)),
    "slim.png": encoded("PNG", np.zeros((1, 60, 3), np.uint8)),
}


@pytest.fixture
def folder(make_image_folder):
    root = make_image_folder("photos", classes=("ant", "bee"), per_class=2)
    for name, data in FILES.items():
        (root / "bee" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "bee" / name).write_bytes(data)
    return root


@pytest.mark.parametrize("backend", ["torchvision", "dali-cpu", "dali-cpu-stock"])
def test_a_file_fails_in_training_where_check_says_so_and_nowhere_else(folder, backend):
    recipe = Recipe.load("demo-train")
    report = inspect(folder, 2, recipe=recipe)
    failed = set()
    for each in (recipe, recipe.eval_twin()):
        with DataLoader(str(folder), batch_size=8, recipe=each, backend=backend, on_error="skip", seed=0) as loader:
            for _ in loader:
                pass
            failed |= {bad.path for bad in loader.bad_files}
    assert {file.path for file in report.files if file.fails} == failed
    assert {path.rpartition("/")[2] for path in failed} == {
        *("heic.jpg", "zero.jpg", "text.jpg", "zeros.jpg", "deep.jpg", "cut.jpg", "no_end.jpg", "cut.png"),
        *("damaged.png", "thin.png", "high.bmp"),
    }


def test_an_intact_file_is_never_called_damaged_nor_moved_for_its_size(folder):
    report = inspect(folder, 2, recipe=Recipe.load("demo-train"))
    said = {file.name.rpartition("/")[2]: [found.reason for found in file.findings] for file in report.files}
    assert said["heic.jpg"] == ["a HEIC photo, which is not read here: convert it to an ordinary JPEG or PNG"]
    assert "a JPEG of 12 bits a channel" in said["deep.jpg"][0]
    assert "(recipe demo-eval)" in said["thin.png"][0]
    moved = {source.rpartition("/")[2] for source, _ in inspection.fixes(report).moved}
    assert "cut.jpg" in moved
    assert not moved & {"thin.png", "high.bmp", "slim.png", "ink.jpg", "grey16.png", "moves.webp", "gif.jpg"}


def test_only_the_part_that_a_recipe_is_for_is_held_against_it(make_image_folder):
    train = make_image_folder("photos/train", classes=("ant", "bee"), per_class=2)
    val = make_image_folder("photos/val", classes=("ant", "bee"), per_class=2, seed=1)
    for part in (train, val):
        (part / "bee/thin.png").write_bytes(encoded("PNG", np.full((1, 9000, 3), len(part.name), np.uint8)))
    report = inspect(train.parent, 2, recipe=Recipe.load("demo-train"))
    assert [file.name for file in report.files if file.fails] == ["val/bee/thin.png"]  # the twin resizes first


@pytest.mark.parametrize("trouble", ["none", "one class", "one image", "twins"])
def test_a_folder_is_refused_where_training_would_refuse_it(make_image_folder, trouble):
    root = make_image_folder("photos", classes=("ant",) if trouble == "one class" else ("ant", "bee"), per_class=5)
    if trouble == "one image":
        for path in sorted((root / "bee").iterdir())[1:]:
            path.unlink()
    if trouble == "twins":
        for path in (root / "ant").iterdir():
            path.write_bytes(JPEG)
    report = inspect(root, 2)
    if trouble == "none":
        assert report.refused == ""
        return
    with pytest.raises(SourceError) as error:
        train, val = split_sources(root)
        require_classes(train)
        require_disjoint(train, val)
    assert report.refused == str(error.value)
    assert not report.plain()["ok"]
