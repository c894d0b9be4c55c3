"""The page of differences says what is so."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from dalipipe.backends import Job, compile_recipe
from dalipipe.parity.comparing import Items
from dalipipe.parity.page import PAGE, page
from dalipipe.recipes import Recipe, ops
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
    "JPEG": [encoded("jpeg", Image.fromarray(SHADES).convert(mode)) for mode in ("RGB", "L")],
    "JPEG, progressive": [encoded("jpeg", progressive=True)],
    "JPEG in CMYK": [encoded("jpeg", Image.fromarray(SHADES).convert("CMYK"))],
    "PNG": [encoded("png", Image.fromarray(SHADES).convert(mode)) for mode in ("RGB", "P", "RGBA", "1")],
    "PNG of 16 bits": [encoded("png", SIXTEEN)],
    "animated PNG": [encoded("png", **TWO), encoded("png", default_image=True, **TWO)],
    "WebP": [encoded("webp", quality=80), encoded("webp", lossless=True)],
    "WebP in its extended form": [
        encoded("webp", **TWO),
        encoded("webp", Image.fromarray(np.dstack([SHADES, SHADES[..., 0]])), quality=80),
        encoded("webp", exif=turned_exif()),
    ],
    "BMP": [encoded("bmp", Image.fromarray(SHADES).convert(mode)) for mode in ("RGB", "P", "L", "1", "RGBA")],
    "PNM": [
        encoded("ppm"),
        encoded("ppm", Image.fromarray(SHADES).convert("L")),
        encoded("ppm", Image.fromarray(SHADES).convert("1")),
        b"P5\n# words\n30 20\n100\n" + bytes(range(100)) * 6,
    ],
    "TIFF": [
        *(
            encoded("tiff", Image.fromarray(SHADES).convert(mode))
            for mode in ("RGB", "CMYK", "YCbCr", "LAB", "LA", "F")
        ),
        encoded("tiff", SIXTEEN),
        encoded("tiff", tiffinfo={0x112: 3}),
        encoded("tiff", tiffinfo={0x112: 6}),
        encoded("tiff", big_tiff=True),
    ],
    "GIF": [encoded("gif"), encoded("gif", **TWO)],
    "JPEG 2000": [encoded("jpeg2000")],
    "an orientation in Exif": [turned()],
}


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m dalipipe.parity.page"


def read(file, backend, upright):
    """The file's pixels on a backend; it must have some."""
    recipe = Recipe(name="test", ops=(ops.CenterCrop(size=(20, 20)),), apply_exif_orientation=upright)
    executor = compile_recipe(Job(Items([file]), recipe, batch_size=1), backend)
    try:
        (result,) = executor.run([Batch(0, np.array([0]), np.array([0]))])
    finally:
        executor.close()
    assert not result.failures
    return result.images[0].permute(1, 2, 0).numpy()


def by_pillow(file, upright):
    with Image.open(io.BytesIO(file)) as image:
        shown = ImageOps.exif_transpose(image) if upright and image.format in ("JPEG", "PNG") else image
        pixels = np.asarray(shown.convert("RGB"))
    top, left = (pixels.shape[0] - 20) // 2, (pixels.shape[1] - 20) // 2
    return pixels[top : top + 20, left : left + 20]


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("backend", ["torchvision", "dali-cpu", "dali-cpu-stock"])
@pytest.mark.parametrize("kind", EXAMPLES)
def test_files_of_every_kind_are_read_as_pillow_reads_them(kind, backend, upright):
    for file in EXAMPLES[kind]:
        np.testing.assert_array_equal(read(file, backend, upright), by_pillow(file, upright))
