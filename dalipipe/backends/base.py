"""What every backend is: something that turns batches of indices into batches of pixels, in order, losing none."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from dalipipe.backends.results import Result
from dalipipe.decisions import randomness
from dalipipe.decisions.program import Program, program
from dalipipe.errors import ResourceError, SourceError
from dalipipe.limits import decode_budget, pixel_limit
from dalipipe.recipes import Levels, Recipe
from dalipipe.sampling import Batch
from dalipipe.sources import Item, Source, describe, name_of
from dalipipe.sources.base import encoded_bytes
from dalipipe.sources.stores import Absent, absent, from_store

Dtype = Literal["float32", "float16", "uint8"]
MemoryFormat = Literal["contiguous", "channels_last"]
CacheMode = Literal["ram", "auto"]

ONE_PIXEL = Path(__file__).with_name("pixel.ppm")
"""The file of an image of one px, which stands for one that need not be had."""

VIEW_SHIFT = 16
"""Where a view's number stands in the occurrence that its random decisions are made for. So 65,536 occurrences of a
sample within an epoch have decisions of their own, in each of 32,768 views."""

UNREADABLE = (Exception,)
"""What Pillow may raise where a file can't be opened or is no image that it can read: over a broken one its readers
stumble with TypeError or KeyError as well as with OSError."""


@dataclass(frozen=True)
class Output:
    """The form in which images leave a backend.

    Attributes:
        dtype: "float32" or "float16": what the recipe makes; "uint8": whole levels, neither rescaled nor normalised, so
            that a quarter of the bytes moves and the device does the rest (`Finish`); None: the recipe's own, float32,
            or uint8 where it neither rescales nor normalises.
        memory_format: Order of the pixels in memory, as torch names it; the shape is NCHW either way.
    """

    dtype: Dtype | None = None
    memory_format: MemoryFormat = "contiguous"


@dataclass(frozen=True)
class Job:
    """What a backend is to run, as one value.

    Attributes:
        source: Where the images come from.
        recipe: What is done to them. Where it has several views, each image is decoded once, and view k decides as an
            occurrence of the sample whose number has k at `VIEW_SHIFT`.
        seed: Of every random decision in batches that bring none of their own.
        batch_size: Largest batch.
        num_threads: Threads that decode and augment.
        prefetch: Batches prepared ahead.
        device_id: CUDA device; only dali-gpu looks at it.
        output: Form of the images.
        decoded_bytes: Most bytes that the decoded images of a batch may take at once where DALI decodes them: further
            ones go through in smaller batches. None: as `decode_budget` says; infinity: any number.
    """

    source: Source
    recipe: Recipe
    seed: int = 0
    batch_size: int = 1
    num_threads: int = 1
    prefetch: int = 2
    device_id: int = 0
    output: Output = Output()
    decoded_bytes: float | None = None

    @cached_property
    def views(self) -> tuple[Job, ...]:
        """What is to be run for each view, as jobs of one."""
        return tuple(replace(self, recipe=view) for view in self.recipe.views)

    @property
    def budget(self) -> float:
        """Most bytes that the decoded images of a batch may take at once; one image may take any number."""
        if self.batch_size == 1:
            return math.inf
        return decode_budget(self.batch_size) if self.decoded_bytes is None else self.decoded_bytes

    @property
    def levels(self) -> Levels | None:
        """What the backend has to subtract and divide by, in levels; None where whole levels leave it."""
        return None if self.output.dtype == "uint8" else self.recipe.levels

    @property
    def dtype(self) -> torch.dtype:
        """Type of the images."""
        if self.levels is None:
            return torch.uint8
        return torch.float16 if self.output.dtype == "float16" else torch.float32

    @property
    def channels_last(self) -> bool:
        """Whether the channels of a pixel lie side by side in memory."""
        return self.output.memory_format == "channels_last"

    def seed_of(self, batch: Batch) -> int:
        """Return the seed of a batch's random decisions: its own, or else the job's."""
        return self.seed if batch.seed is None else batch.seed

    def no_images(self, device: torch.device) -> torch.Tensor:
        """Return a batch of no images."""
        return torch.empty((0, *self.recipe.output_shape), dtype=self.dtype, device=device)

    def nothing(self, batch: Batch, device: torch.device, failures: Mapping[int, str] | None = None) -> Result:
        """Return what becomes of a batch of which there are no images."""
        labels = torch.empty(0, dtype=torch.int64, device=device)
        images, *others = (view.no_images(device) for view in self.views)
        return Result(batch, images, labels, failures or {}, tuple(others))

    @property
    def program(self) -> Program:
        """The recipe's pixel ops as numbers."""
        return program(self.recipe)


class Finish(torch.nn.Module):
    """Rescales and normalises whole levels as a recipe asks: the last step of a loader that hands out uint8.

        model = torch.nn.Sequential(loader.finish, model).to("cuda")

    Args:
        recipe: Whose Normalize or ToDtype is applied.

    Shapes: (N, C, H, W) uint8 -> (N, C, H, W) float32, on the same device, in the same memory format.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.unit, mean, std = recipe.scaling or (1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        self.mean: torch.Tensor
        self.std: torch.Tensor
        channels = recipe.channels[-1]
        self.register_buffer("mean", torch.tensor(mean[:channels]).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std[:channels]).view(-1, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return (level / unit - mean) / std, in the order and the rounding of torchvision's to_dtype and normalize."""
        return (images.to(self.mean.dtype) * (1.0 / self.unit) - self.mean) / self.std


def uniforms_of(job: Job, batch: Batch) -> list[NDArray[np.float64]]:
    """Return the numbers that decide about a batch, for each view (n, total): see `randomness.uniforms`."""
    return [
        randomness.uniforms(
            view.program.counts,
            job.seed_of(batch),
            batch.epoch,
            batch.indices,
            of_view(batch.occurrences, number),
        )
        for number, view in enumerate(job.views)
    ]


def of_view(occurrences: NDArray[np.int64], numbers: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the occurrences that stand for those of views so many further on."""
    return (occurrences + (np.asarray(numbers) << VIEW_SHIFT)) & (2**32 - 1)


def checked(source: Source, index: int, channels: int = 3) -> Item:
    """Return an item of a source; pixels are contiguous, (H, W, 3), as kernels read them: grey ones three times.

    Args:
        source: Where the item comes from.
        index: Of the item.
        channels: `input_channels` of the recipe; 1 asks for grey pixels.

    Raises:
        SourceError: the item is neither a path, nor bytes, nor a uint8 array (H, W, 3) or (H, W, 1), or has colours
            where the recipe is for grey arrays.
        ResourceError: the store behind the source fails; see `from_store`.
    """
    try:
        item = from_store(source, f"item {index}", lambda: source.item(index))
    except FileNotFoundError as error:
        item = absent(error)
    return _required(source, index, item, channels)


def _required(source: Source, index: int, item: object, channels: int) -> Item:
    array = isinstance(item, np.ndarray) and item.dtype == np.uint8 and item.ndim == 3 and item.size > 0
    if channels == 1 and not (array and isinstance(item, np.ndarray) and item.shape[2] == 1):
        got = f"{item.dtype} {item.shape}" if isinstance(item, np.ndarray) else type(item).__name__
        raise SourceError(
            f"sample {name_of(source, index)!r}: must be a uint8 array (H, W, 1) for a recipe with input_channels = 1,"
            f" got {got}. Leave input_channels out and put Grayscale with num_output_channels = 1 first."
        )
    if isinstance(item, str | bytes):
        return item
    if array and isinstance(item, np.ndarray) and item.shape[2] in (1, 3):
        return np.ascontiguousarray(item) if item.shape[2] == 3 else np.repeat(item, 3, axis=2)
    got = f"{item.dtype} {item.shape}" if isinstance(item, np.ndarray) else type(item).__name__
    raise SourceError(
        f"sample {name_of(source, index)!r}: must be a path, bytes or a uint8 array (H, W, 3) or (H, W, 1), got {got}."
        " Convert it."
    )


def items_of(job: Job, batch: Batch) -> list[Item]:
    """Return the images of a batch: those that it brings, or else what the source says, one after the other.

    Raises:
        SourceError: one is no item; see `checked`.
    """
    channels = job.recipe.input_channels
    if batch.items is None:
        return [checked(job.source, index, channels) for index in batch.indices.tolist()]
    pairs = zip(batch.indices.tolist(), batch.items, strict=True)
    return [_required(job.source, index, item, channels) for index, item in pairs]


def checked_batch(source: Source, indices: list[int], channels: int = 3) -> list[Item]:
    """Return several items of a source that answers batches; pixels are contiguous.

    Raises:
        SourceError: there are not as many as were asked for, or one is no item; see `checked`.
        ResourceError: the store behind the source fails; see `from_store`.
    """
    try:
        items = from_store(source, "items", lambda: list(source.items(indices)))  # type: ignore[attr-defined]
    except FileNotFoundError:  # for lack of one of them
        return [checked(source, index, channels) for index in indices]
    if len(items) != len(indices):
        raise SourceError(
            f"{describe(source)}: items(indices) must return one item for each index, got {len(items)} for "
            f"{len(indices)}. Return them in the order asked for."
        )
    return [_required(source, index, item, channels) for index, item in zip(indices, items, strict=True)]


def obvious_reason(item: Item) -> str | None:
    """Return in a few words why an item can't be used, as far as that shows without decoding it; None where it doesn't.

    That is what the system says where a file can't be read, that it is empty, or that it claims more px than
    `pixel_limit` allows.

    Raises:
        ResourceError: the file can't be read, and that is not its fault.
    """
    if isinstance(item, np.ndarray):
        return None
    if isinstance(item, Absent):
        return item.reason
    try:
        data = encoded_bytes(item)
    except ResourceError:
        raise
    except (OSError, ValueError) as error:
        return str(getattr(error, "strerror", None) or error).lower()
    return _oversize_reason(io.BytesIO(data)) if data else "the file is empty"


def _oversize_reason(file: BinaryIO) -> str | None:
    try:
        Image.open(file)
    except Image.DecompressionBombError as error:
        claim = _claimed_size(file) or _first_number(str(error))
        return f"it claims {claim} px, more than the limit of {pixel_limit()}"
    except UNREADABLE:
        return None
    return None


def _claimed_size(file: BinaryIO) -> str:
    """Return "width x height" of an image that Image.open refuses for its size; nothing where its format won't tell."""
    file.seek(0)
    prefix = file.read(16)
    for reader, accepts in Image.OPEN.values():
        accepted = True if accepts is None else accepts(prefix)
        if not accepted or isinstance(accepted, str):  # text says why not
            continue
        file.seek(0)
        try:
            width, height = reader(file, "").size
        except UNREADABLE:
            continue
        return f"{width} x {height}"
    return ""


def _first_number(text: str) -> str:
    found = re.search(r"\d+", text)
    return found.group() if found else "too many"
