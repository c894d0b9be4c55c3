import io
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from PIL import Image

from dalipipe.backends import Job, Result, compile_recipe
from dalipipe.recipes import Recipe
from dalipipe.recipes.ops import Op
from dalipipe.sampling import Batch


class Items:
    """A source over paths, encoded bytes or pixels, each its own class."""

    def __init__(self, items: Sequence[str | bytes | np.ndarray]) -> None:
        self.items = list(items)
        self.classes = [str(number) for number in range(len(items))]
        self.labels = np.arange(len(items), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.items)

    def item(self, index: int) -> str | bytes | np.ndarray:
        return self.items[index]


def encode(pixels: np.ndarray, form: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def images() -> dict[str, bytes]:
    """Encoded images by what is odd about them."""
    rng = np.random.default_rng(5)

    def pixels(height: int, width: int) -> np.ndarray:
        y, x = np.mgrid[:height, :width]
        waves = np.stack([np.sin(y / 5 + x / 9), np.cos(x / 7), np.sin((x - y) / 11)], axis=-1)
        return np.clip(128 + 90 * waves + rng.normal(0, 12, waves.shape), 0, 255).astype(np.uint8)

    return {
        "odd": encode(pixels(101, 67), "JPEG", quality=90),
        "wide": encode(pixels(59, 83), "JPEG", quality=90, subsampling=0),
        "small": encode(pixels(17, 11), "JPEG", quality=90),
        "1 x 5": encode(pixels(1, 5), "PNG"),
        "5 x 1": encode(pixels(5, 1), "JPEG"),
        "1 x 1": encode(pixels(1, 1), "PNG"),
        "large": encode(pixels(331, 499), "JPEG", quality=90),
        "grey": encode(pixels(43, 71), "JPEG", "L"),
        "grey PNG": encode(pixels(43, 37), "PNG", "L"),
        "CMYK": encode(pixels(43, 71), "JPEG", "CMYK"),
        "progressive": encode(pixels(71, 43), "JPEG", progressive=True),
        "palette": encode(pixels(37, 29), "PNG", "P"),
        "RGBA": encode(pixels(37, 29), "PNG", "RGBA"),
        "one bit": encode(pixels(23, 31), "PNG", "1"),
        "WebP": encode(pixels(53, 31), "WEBP", quality=80),
        "BMP": encode(pixels(19, 13), "BMP"),
        "TIFF": encode(pixels(31, 47), "TIFF"),
    }


@pytest.fixture(scope="session")
def source_of() -> Callable[..., Items]:
    """source_of(items) -> a source over paths, bytes or pixels."""
    return Items


def run_ops(
    items: Sequence[str | bytes | np.ndarray],
    ops: Sequence[Op],
    backend: str,
    *,
    repeats: int = 1,
    batch_sizes: Sequence[int] | None = None,
    threads: int = 2,
    seed: int = 3,
) -> list[Result]:
    """Take each item through the ops `repeats` times (occurrences 0, 1, ...), in batches of the given sizes."""
    indices = np.tile(np.arange(len(items)), repeats)
    occurrences = np.repeat(np.arange(repeats), len(items))
    sizes = batch_sizes or [len(indices)]
    cuts = np.cumsum(sizes)[:-1]
    batches = [Batch(0, *both) for both in zip(np.split(indices, cuts), np.split(occurrences, cuts), strict=True)]
    recipe = Recipe(name="test", ops=tuple(ops))
    executor = compile_recipe(Job(Items(items), recipe, seed, max(sizes), threads), backend)
    try:
        return list(executor.run(batches))
    finally:
        executor.close()


@pytest.fixture(scope="session")
def run() -> Callable[..., list[Result]]:
    """run(items, ops, backend, repeats=, batch_sizes=, threads=, seed=) -> one result for each batch."""
    return run_ops


@pytest.fixture(scope="session")
def images_of() -> Callable[..., torch.Tensor]:
    """images_of(items, ops, backend, ...) -> the images of `run`, none of which may fail."""

    def images_of(*arguments: object, **options: object) -> torch.Tensor:
        results = run_ops(*arguments, **options)
        assert not any(result.failures for result in results)
        return torch.cat([result.images for result in results]).cpu()

    return images_of
