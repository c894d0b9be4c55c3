"""The page of differences says what is so."""

import io

import numpy as np
import pytest
from PIL import Image

from dalipipe import ops
from dalipipe.backends import Job, compile_recipe
from dalipipe.parity.measure import Items
from dalipipe.parity.page import FILES, PAGE, page
from dalipipe.recipe import Recipe
from dalipipe.sampling import Batch

SHADES = np.stack([np.add.outer(np.arange(20) * 6, np.arange(30) * 4)] * 3, 2).astype(np.uint8)


def encoded(form, image=None, **options):
    image = Image.fromarray(SHADES) if image is None else image
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def turned_exif():
    exif = Image.Exif()
    exif[0x112] = 6
    return exif


def turned():
    return encoded("jpeg", exif=turned_exif())


SIXTEEN = Image.fromarray(SHADES[..., 0].astype(np.uint16) * 257)
TWO = {"save_all": True, "append_images": [Image.fromarray(255 - SHADES)]}
EXAMPLES = {
    "JPEG, progressive, grey, CMYK": [
        encoded("jpeg", progressive=True),
        encoded("jpeg", Image.fromarray(SHADES).convert("L")),
        encoded("jpeg", Image.fromarray(SHADES).convert("CMYK")),
    ],
    "PNG, palette, alpha, one bit": [
        encoded("png", Image.fromarray(SHADES).convert(mode)) for mode in ("RGB", "P", "RGBA", "1")
    ],
    "BMP, TIFF, PNM, JPEG 2000, WebP": [
        *(encoded(form) for form in ("bmp", "tiff", "ppm", "jpeg2000")),
        encoded("webp", lossless=True),
    ],
    "animated PNG": [encoded("png", **TWO)],
    "EXIF orientation": [turned()],
    "EXIF orientation, `apply_exif_orientation = true` in the recipe": [turned()],
    "16-bit PNG and TIFF": [encoded("png", SIXTEEN), encoded("tiff", SIXTEEN)],
    "GIF, animated or not": [encoded("gif"), encoded("gif", **TWO)],
    "animated WebP": [encoded("webp", **TWO)],
    "WebP in its extended form: lossy with alpha, or with Exif": [
        encoded("webp", Image.fromarray(np.dstack([SHADES, SHADES[..., 0]])), quality=80),
        encoded("webp", exif=turned_exif()),
    ],
    "TIFF with an orientation other than upright": [encoded("tiff", tiffinfo={0x112: 6})],
}


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m dalipipe.parity.page"


def read(file, backend, upright):
    """The file's pixels on a backend, or why there are none."""
    recipe = Recipe(name="test", ops=(ops.CenterCrop(size=(20, 20)),), apply_exif_orientation=upright)
    executor = compile_recipe(Job(Items([file]), recipe, batch_size=1), backend)
    try:
        (result,) = executor.run([Batch(0, np.array([0]), np.array([0]))])
    finally:
        executor.close()
    return result.failures.get(0) or result.images.float()


@pytest.mark.parametrize("backend", ["dali-cpu", "dali-cpu-stock"])
@pytest.mark.parametrize("kind", FILES)
def test_files_are_read_as_the_page_says(kind, backend):
    for file in EXAMPLES[kind]:
        found, expected = (read(file, name, "apply_exif" in kind) for name in (backend, "torchvision"))
        if FILES[kind][0] == "refused":
            assert isinstance(found, str)
            continue
        difference = (found - expected).abs().max()
        assert (difference <= 1) == (FILES[kind][0] == "as the reference")
