"""The reference: decodes with Pillow and applies torchvision's functional kernels to tensors, as the records say."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from dalipipe.backends import forks, pillow
from dalipipe.backends.base import UNREADABLE, Job, uniforms_of
from dalipipe.backends.requests import kind_of, with_items
from dalipipe.backends.results import Result
from dalipipe.backends.table import Entry
from dalipipe.decisions.status import Status, reason_of
from dalipipe.recipes import Recipe
from dalipipe.recipes.ops import Normalize, ToDtype
from dalipipe.recipes.primitives import (
    ARGS,
    BICUBIC,
    BILINEAR,
    DO,
    NEAREST,
    NEAREST_EXACT,
    OUT_H,
    OUT_W,
    PERMUTATIONS,
    Primitive,
    places_of,
)
from dalipipe.sampling import Batch
from dalipipe.sources import Item

Record = NDArray[np.float64]

tv: Any = functional  # torchvision has no type annotations that mypy could read

_BOX, _WINDOW, _FLIP = (places_of(one) for one in (Primitive.CROP_RESIZE, Primitive.CROP_PAD, Primitive.FLIP))
_AFFINE, _ERASE, _MAP = (places_of(one) for one in (Primitive.AFFINE, Primitive.ERASE, Primitive.PERSPECTIVE))
_BLUR = places_of(Primitive.BLUR)


def decode(item: Item, recipe: Recipe | None = None) -> torch.Tensor:
    """Return the pixels of an item, (3, H, W) uint8 RGB, turned as it says itself where the recipe asks for that.

    Raises:
        OSError: the file can't be opened, or is not an image that Pillow can read.
        ResourceError: it can't be opened, and that is not its fault.
        Exception: the image is broken; see `UNREADABLE`.
    """
    pixels = pillow.decode(item, recipe is not None and recipe.apply_exif_orientation)
    return torch.from_numpy(np.array(pixels.transpose(2, 0, 1), order="C"))


def decoded(item: Item, recipe: Recipe | None = None) -> torch.Tensor | str:
    """Return the pixels of an item as `decode` does, or why there are none.

    Raises:
        ResourceError, BackendError: that is not the item's fault.
    """
    try:
        return decode(item, recipe)
    except UNREADABLE as error:
        return pillow.why_not("torchvision", item, error)


def with_channels(image: torch.Tensor, channels: int) -> torch.Tensor:
    """Return an image with so many channels: the first, or as many equal ones."""
    return image[:channels] if channels < len(image) else image.expand(channels, -1, -1)


def _colour(image: torch.Tensor, levels: Record) -> list[float]:
    """Return a level for each channel of an image."""
    return [float(level) for level in levels[: len(image)]]


def _crop_resize(image: torch.Tensor, record: Record) -> torch.Tensor:
    top, left, height, width = (int(record[at]) for at in (_BOX.top, _BOX.left, _BOX.height, _BOX.width))
    size, method = [int(record[OUT_H]), int(record[OUT_W])], _method(record[_BOX.interpolation])
    smooth = bool(record[_BOX.antialias])
    return tv.resized_crop(image, top, left, height, width, size, interpolation=method, antialias=smooth)


def _crop_pad(image: torch.Tensor, record: Record) -> torch.Tensor:
    top, left = int(record[_WINDOW.top]), int(record[_WINDOW.left])
    bottom, right = top + int(record[OUT_H]), left + int(record[OUT_W])
    height, width = image.shape[-2:]
    around = [max(0, -left), max(0, -top), max(0, right - width), max(0, bottom - height)]
    if any(around):
        image = tv.pad(image, around, fill=_colour(image, record[_WINDOW.fill : _WINDOW.fill + 3]))
    return tv.crop(image, top + around[1], left + around[0], bottom - top, right - left)


def _flip(image: torch.Tensor, record: Record) -> torch.Tensor:
    image = tv.horizontal_flip(image) if record[_FLIP.across] else image
    return tv.vertical_flip(image) if record[_FLIP.down] else image


def _affine(image: torch.Tensor, record: Record) -> torch.Tensor:
    return tv.affine(
        image,
        angle=float(record[_AFFINE.angle]),
        translate=[int(record[_AFFINE.shift]), int(record[_AFFINE.shift + 1])],
        scale=float(record[_AFFINE.scale]),
        shear=record[_AFFINE.shear : _AFFINE.shear + 2].tolist(),
        interpolation=_method(record[_AFFINE.interpolation]),
        fill=_colour(image, record[_AFFINE.fill : _AFFINE.fill + 3]),
        center=record[_AFFINE.center : _AFFINE.center + 2].tolist(),
    )


def _erase(image: torch.Tensor, record: Record) -> torch.Tensor:
    top, left, height, width = (int(record[at]) for at in (_ERASE.top, _ERASE.left, _ERASE.height, _ERASE.width))
    value = torch.tensor(_colour(image, record[_ERASE.value : _ERASE.value + 3]), dtype=torch.float32).view(-1, 1, 1)
    return tv.erase(image, top, left, height, width, value)


def _perspective(image: torch.Tensor, record: Record) -> torch.Tensor:
    return tv.perspective(
        image,
        startpoints=None,
        endpoints=None,
        interpolation=_method(record[_MAP.interpolation]),
        fill=_colour(image, record[_MAP.fill : _MAP.fill + 3]),
        coefficients=record[_MAP.coefficients : _MAP.coefficients + 8].tolist(),
    )


def _blur(image: torch.Tensor, record: Record) -> torch.Tensor:
    sigma = float(record[_BLUR.sigma])
    return tv.gaussian_blur(image, [int(record[_BLUR.across]), int(record[_BLUR.down])], [sigma, sigma])


def _method(number: float) -> InterpolationMode:
    return _METHODS[int(number)]


_METHODS = {
    NEAREST: InterpolationMode.NEAREST,
    BILINEAR: InterpolationMode.BILINEAR,
    BICUBIC: InterpolationMode.BICUBIC,
    NEAREST_EXACT: InterpolationMode.NEAREST_EXACT,
}


def _plain(function: Callable[..., Any]) -> Callable[[torch.Tensor, Record], torch.Tensor]:
    return lambda image, record: function(image)


def _with(function: Callable[..., Any], kind: Callable[[float], Any] = float) -> Callable[..., torch.Tensor]:
    return lambda image, record: function(image, kind(record[ARGS]))


TABLE: dict[Primitive, Entry] = {
    Primitive.CROP_RESIZE: Entry(_crop_resize, lambda op: "resize" if op.op == "Resize" else "resized_crop"),
    Primitive.CROP_PAD: Entry(_crop_pad, "pad + crop"),
    Primitive.FLIP: Entry(_flip, lambda op: "vertical_flip" if "Vertical" in op.op else "horizontal_flip"),
    Primitive.AFFINE: Entry(_affine, "affine"),
    Primitive.ERASE: Entry(_erase, "erase"),
    Primitive.PERSPECTIVE: Entry(_perspective, "perspective"),
    Primitive.BRIGHTNESS: Entry(_with(tv.adjust_brightness), "adjust_brightness"),
    Primitive.CONTRAST: Entry(_with(tv.adjust_contrast), "adjust_contrast"),
    Primitive.CONTRAST_GREY: Entry(_with(tv.adjust_contrast), "adjust_contrast"),
    Primitive.SATURATION: Entry(_with(tv.adjust_saturation), "adjust_saturation"),
    Primitive.HUE: Entry(_with(tv.adjust_hue), "adjust_hue"),
    Primitive.SHARPNESS: Entry(_with(tv.adjust_sharpness), "adjust_sharpness"),
    Primitive.SOLARIZE: Entry(_with(tv.solarize), "solarize"),
    Primitive.POSTERIZE: Entry(_with(tv.posterize, int), "posterize"),
    Primitive.GRAYSCALE: Entry(
        _plain(lambda image: tv.rgb_to_grayscale(image, num_output_channels=3)), "rgb_to_grayscale"
    ),
    Primitive.INVERT: Entry(_plain(tv.invert), "invert"),
    Primitive.AUTOCONTRAST: Entry(_plain(tv.autocontrast), "autocontrast"),
    Primitive.EQUALIZE: Entry(_plain(tv.equalize), "equalize"),
    Primitive.CHANNELS: Entry(_with(tv.permute_channels, lambda number: PERMUTATIONS[int(number)]), "permute_channels"),
    Primitive.BLUR: Entry(_blur, "gaussian_blur"),
}


def apply(image: torch.Tensor, record: Record) -> torch.Tensor:
    """Return what a record makes of an image, (C, H, W) uint8 -> (C, h, w) uint8."""
    primitive = Primitive(int(record[DO]))
    done: torch.Tensor = image if primitive is Primitive.NOTHING else TABLE[primitive].function(image, record)
    return done


def finish(image: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Return an image as it leaves the recipe, (C, H, W) uint8 -> float32, or uint8 where nothing rescales it."""
    for op in recipe.ops:
        if isinstance(op, ToDtype | Normalize):
            image = tv.to_dtype(image, torch.float32, scale=isinstance(op, Normalize) or op.scale)  # at most once
        if isinstance(op, Normalize):
            image = tv.normalize(image, list(op.mean[: len(image)]), list(op.std[: len(image)]))
    return image


def views_of(job: Job, item: Item, uniforms: Sequence[NDArray[np.float64]]) -> list[torch.Tensor] | str:
    """Return the finished views of an item, (C, H, W) each, or why there are none.

    Args:
        job: What is run.
        item: The image as it is.
        uniforms: The numbers that decide, of one sample, for each view: see `randomness.uniforms`.

    Raises:
        ResourceError, BackendError: it is not the item's fault.
    """
    image = decoded(item, job.recipe)
    if isinstance(image, str):
        return image
    made = []
    for view, numbers in zip(job.views, uniforms, strict=True):
        done = _view(view, image, numbers)
        if isinstance(done, str):
            return done
        made.append(done)
    return made


def _view(job: Job, image: torch.Tensor, uniforms: NDArray[np.float64]) -> torch.Tensor | str:
    """Return what a recipe makes of a decoded image, or why it can't."""
    records, status = job.program.resolve(uniforms, image.shape[-2], image.shape[-1])
    if status is not Status.OK:
        return reason_of(status)
    levels, channels = len(records) - job.program.tail, job.program.channels
    for record, count in zip(records[:levels], channels[:levels], strict=True):
        image = apply(with_channels(image, count), record)
    image = with_channels(image, channels[-1])
    image = image if job.levels is None else finish(image, job.recipe)
    for record in records[levels:]:
        image = apply(image, record)
    return image.to(job.dtype)


class TorchvisionExecutor:
    """A thread pool that takes each sample through the reference, a few batches ahead.

    Args:
        job: What to run.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.device = torch.device("cpu")
        self._start_threads()
        forks.register(self)

    def after_fork(self) -> None:
        """Leave the threads to the parent, and start others. See `forks`."""
        self._start_threads()

    def _start_threads(self) -> None:
        self._pool = ThreadPoolExecutor(self.job.num_threads, thread_name_prefix="dalipipe")

    @cached_property
    def _kind(self) -> str:
        """What the items are; see `kind_of`."""
        try:
            return kind_of(self.job.source)
        except Exception:  # whoever needs the first sample is told
            return "unknown"

    def _submit(self, batch: Batch, items: list[Item]) -> list[Future[list[torch.Tensor] | str]]:
        numbers = zip(*uniforms_of(self.job, batch), strict=True)
        return [self._pool.submit(views_of, self.job, item, row) for item, row in zip(items, numbers, strict=True)]

    def _collect(self, batch: Batch, futures: list[Future[list[torch.Tensor] | str]]) -> Result:
        done = [future.result() for future in futures]
        failures = {position: reason for position, reason in enumerate(done) if isinstance(reason, str)}
        good = [views for views in done if not isinstance(views, str)]
        if not good:
            return self.job.nothing(batch, self.device, failures)
        labels = torch.from_numpy(self.job.source.labels[batch.indices])
        if failures:
            labels = labels[[position not in failures for position in range(len(batch))]]
        form = torch.channels_last if self.job.channels_last else torch.contiguous_format
        images, *others = (torch.stack(view).contiguous(memory_format=form) for view in zip(*good, strict=True))
        return Result(batch, images, labels, failures, tuple(others))

    def run(self, batches: Iterable[Batch]) -> Iterator[Result]:
        """Yield one result for each batch, in order. See `Executor`."""
        ahead: deque[tuple[Batch, list[Future[Any]]]] = deque()
        pool = self._pool
        asked = with_items(self.job, self._kind, batches)
        failure: Exception | None = None
        try:
            while True:
                try:
                    batch, items = next(asked)
                except StopIteration:
                    break
                except Exception as error:  # comes up in the place of its batch
                    failure = error
                    break
                ahead.append((batch, self._submit(batch, items)))
                if len(ahead) > self.job.prefetch:
                    yield self._collect(*ahead.popleft())
            while ahead:
                yield self._collect(*ahead.popleft())
            if failure is not None:
                raise failure
        finally:
            asked.close()
            for _, futures in ahead if pool is self._pool else ():
                for future in futures:
                    future.cancel()

    def none(self, batch: Batch) -> Result:
        """Return what becomes of a batch without samples."""
        return self.job.nothing(batch, self.device)

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)
