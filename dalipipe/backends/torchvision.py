"""The reference: decodes with Pillow and applies torchvision's functional kernels to tensors, as the records say."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from dalipipe.backends import forks, pillow
from dalipipe.backends.base import UNREADABLE, Job, Result
from dalipipe.backends.requests import kind_of, with_items
from dalipipe.decisions import randomness
from dalipipe.decisions.records import ARGS, BILINEAR, DO, OUT_H, OUT_W, Do, Status, reason_of
from dalipipe.recipes import Levels, Recipe
from dalipipe.sampling import Batch
from dalipipe.sources import Item

Record = NDArray[np.float64]

tv: Any = functional  # torchvision has no type annotations that mypy could read


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
    top, left, height, width, antialias = (int(number) for number in record[ARGS : ARGS + 5])
    size = [int(record[OUT_H]), int(record[OUT_W])]
    return tv.resized_crop(image, top, left, height, width, size, antialias=bool(antialias))


def _crop_pad(image: torch.Tensor, record: Record) -> torch.Tensor:
    top, left = (int(number) for number in record[ARGS : ARGS + 2])
    bottom, right = top + int(record[OUT_H]), left + int(record[OUT_W])
    height, width = image.shape[-2:]
    around = [max(0, -left), max(0, -top), max(0, right - width), max(0, bottom - height)]
    if any(around):
        image = tv.pad(image, around, fill=_colour(image, record[ARGS + 2 : ARGS + 5]))
    return tv.crop(image, top + around[1], left + around[0], bottom - top, right - left)


def _flip(image: torch.Tensor, record: Record) -> torch.Tensor:
    image = tv.horizontal_flip(image) if record[ARGS] else image
    return tv.vertical_flip(image) if record[ARGS + 1] else image


def _affine(image: torch.Tensor, record: Record) -> torch.Tensor:
    method, fill = float(record[ARGS + 6]), _colour(image, record[ARGS + 7 : ARGS + 10])
    angle, shift_x, shift_y, scale, shear_x, shear_y, center_x, center_y = record[ARGS + 10 : ARGS + 18].tolist()
    return tv.affine(
        image,
        angle=angle,
        translate=[int(shift_x), int(shift_y)],
        scale=scale,
        shear=[shear_x, shear_y],
        interpolation=_method(method),
        fill=fill,
        center=[center_x, center_y],
    )


def _erase(image: torch.Tensor, record: Record) -> torch.Tensor:
    top, left, height, width = (int(number) for number in record[ARGS : ARGS + 4])
    value = torch.tensor(_colour(image, record[ARGS + 4 : ARGS + 7]), dtype=torch.float32).view(-1, 1, 1)
    return tv.erase(image, top, left, height, width, value)


def _perspective(image: torch.Tensor, record: Record) -> torch.Tensor:
    coefficients, method, fill = record[ARGS : ARGS + 8], record[ARGS + 8], record[ARGS + 9 : ARGS + 12]
    return tv.perspective(
        image,
        startpoints=None,
        endpoints=None,
        interpolation=_method(method),
        fill=_colour(image, fill),
        coefficients=coefficients.tolist(),
    )


def _blur(image: torch.Tensor, record: Record) -> torch.Tensor:
    across, down, sigma = record[ARGS : ARGS + 3].tolist()
    return tv.gaussian_blur(image, [int(across), int(down)], [sigma, sigma])


def _method(number: float) -> InterpolationMode:
    return InterpolationMode.BILINEAR if number == BILINEAR else InterpolationMode.NEAREST


def _plain(function: Callable[..., Any]) -> Callable[[torch.Tensor, Record], torch.Tensor]:
    return lambda image, record: function(image)


def _with(function: Callable[..., Any], kind: Callable[[float], float] = float) -> Callable[..., torch.Tensor]:
    return lambda image, record: function(image, kind(record[ARGS]))


PRIMITIVES: dict[Do, Callable[[torch.Tensor, Record], torch.Tensor]] = {
    Do.CROP_RESIZE: _crop_resize,
    Do.CROP_PAD: _crop_pad,
    Do.FLIP: _flip,
    Do.AFFINE: _affine,
    Do.ERASE: _erase,
    Do.PERSPECTIVE: _perspective,
    Do.BRIGHTNESS: _with(tv.adjust_brightness),
    Do.CONTRAST: _with(tv.adjust_contrast),
    Do.CONTRAST_GREY: _with(tv.adjust_contrast),
    Do.SATURATION: _with(tv.adjust_saturation),
    Do.HUE: _with(tv.adjust_hue),
    Do.SHARPNESS: _with(tv.adjust_sharpness),
    Do.SOLARIZE: _with(tv.solarize),
    Do.POSTERIZE: _with(tv.posterize, int),
    Do.GRAYSCALE: _plain(lambda image: tv.rgb_to_grayscale(image, num_output_channels=3)),
    Do.INVERT: _plain(tv.invert),
    Do.AUTOCONTRAST: _plain(tv.autocontrast),
    Do.EQUALIZE: _plain(tv.equalize),
    Do.BLUR: _blur,
}


def apply(image: torch.Tensor, record: Record) -> torch.Tensor:
    """Return what a record makes of an image, (C, H, W) uint8 -> (C, h, w) uint8."""
    do = Do(int(record[DO]))
    return image if do is Do.NOTHING else PRIMITIVES[do](image, record)


def finish(image: torch.Tensor, levels: Levels | None) -> torch.Tensor:
    """Return the image as it leaves the recipe: (level - mean) / std in float32, or uint8 where levels is None."""
    if levels is None:
        return image
    mean, std = levels
    return tv.normalize(image.to(torch.float32), list(mean[: len(image)]), list(std[: len(image)]))


class TorchvisionExecutor:
    """A thread pool that takes each sample through the reference, a few batches ahead.

    Args:
        job: What to run.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.device = torch.device("cpu")
        self.let_go()
        forks.register(self)

    def let_go(self) -> None:
        """Start with threads of this process's own. See `forks`."""
        self._pool = ThreadPoolExecutor(self.job.num_threads, thread_name_prefix="dalipipe")

    def _sample(self, item: Item, uniforms: NDArray[np.float64]) -> torch.Tensor | str:
        """Return the finished image of an item, or why there is none."""
        image = decoded(item, self.job.recipe)
        if isinstance(image, str):
            return image
        records, status = self.job.program.resolve(uniforms, image.shape[-2], image.shape[-1])
        if status is not Status.OK:
            return reason_of(status)
        levels, channels = len(records) - self.job.program.tail, self.job.program.channels
        for record, count in zip(records[:levels], channels[:levels], strict=True):
            image = apply(with_channels(image, count), record)
        image = finish(with_channels(image, channels[-1]), self.job.levels)
        for record in records[levels:]:
            image = apply(image, record)
        return image.to(self.job.dtype)

    @cached_property
    def _kind(self) -> str:
        """What the items are; see `kind_of`."""
        try:
            return kind_of(self.job.source)
        except Exception:  # whoever needs the first sample is told
            return "unknown"

    def _submit(self, batch: Batch, items: list[Item]) -> list[Future[torch.Tensor | str]]:
        uniforms = randomness.uniforms(
            self.job.program.counts, self.job.seed_of(batch), batch.epoch, batch.indices, batch.occurrences
        )
        return [self._pool.submit(self._sample, item, row) for item, row in zip(items, uniforms, strict=True)]

    def _collect(self, batch: Batch, futures: list[Future[torch.Tensor | str]]) -> Result:
        done = [future.result() for future in futures]
        failures = {position: reason for position, reason in enumerate(done) if isinstance(reason, str)}
        images = [image for image in done if isinstance(image, torch.Tensor)]
        labels = torch.from_numpy(self.job.source.labels[batch.indices])
        if failures:
            labels = labels[[position not in failures for position in range(len(batch))]]
        stacked = torch.stack(images) if images else self.job.no_images(self.device)
        if self.job.channels_last:
            stacked = stacked.contiguous(memory_format=torch.channels_last)
        return Result(batch, stacked, labels, failures)

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

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)
