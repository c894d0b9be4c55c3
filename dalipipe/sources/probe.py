"""Asking a data set for a few samples: does its own `__getitem__` do what reading its files or arrays would?

A copy of the data set is asked, with a stand-in in the place of its transform, which shows what would reach the
transform and whether anything is done behind it:

    dataset[i] ─► (what the stand-in gave out, label)      the image that the stand-in got, is it the source's?
                                                           the label, is it the source's?
"""

from __future__ import annotations

import copy
import io
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dalipipe.sources import Source

_LABELS = 8  # classes of which one sample is asked for
_TURNED = 0x0112  # Exif's orientation
_UNREADABLE = (Exception,)  # what Pillow and a class of the user's may raise


class _StandIn:
    """Stands in for a transform; remembers what it got."""

    def __init__(self) -> None:
        self.got: list[object] = []

    def __call__(self, *arguments: object, **named: object) -> object:
        """Remember the only argument, and return a thing that nothing can be done with."""
        self.got.append(arguments[0] if len(arguments) == 1 and not named else (arguments, named))
        return _Token()


class _Token:
    """What comes out of a stand-in: whatever works on it raises."""


def difference(dataset: Any, source: Source, *, with_transform: bool) -> str | None:
    """Return in a few words what a data set does that its source does not; None where they are the same.

    Args:
        dataset: Has a `__getitem__` of its own, which is asked; it stays as it is, and so do the generators of random
            numbers.
        source: What its files or arrays say.
        with_transform: Whether its transform is used.
    """
    asked = 0
    for index in _chosen(source.labels):
        try:
            expected = _pixels(source, index)
        except _UNREADABLE:
            continue  # a bad file, which says nothing of the others
        for _ in range(2):
            found = _ask(dataset, index, expected, int(source.labels[index]), with_transform)
            if found is not None:
                return found
        asked += 1
    if len(source) and not asked:
        return "gave nothing to compare: none of the samples that it was asked for can be decoded"
    return _turns(dataset, source) if len(source) else None


def _chosen(labels: NDArray[np.int64]) -> list[int]:
    """Return the first, a middle and the last index, and one of each of the first classes."""
    if not len(labels):
        return []
    firsts = np.unique(labels, return_index=True)[1]
    return sorted({0, len(labels) // 2, len(labels) - 1, *firsts[:_LABELS].tolist(), int(firsts[-1])})


def _pixels(source: Source, index: int) -> NDArray[np.uint8]:
    """Return the pixels of a sample as every backend has them, (H, W, 3), or (H, W) where it has one channel."""
    item = source.item(index)
    if isinstance(item, np.ndarray):
        return item[..., 0] if item.shape[2] == 1 else item
    with Image.open(io.BytesIO(item) if isinstance(item, bytes) else item) as image:
        return np.array(image.convert("RGB"))


def _ask(dataset: Any, index: int, expected: NDArray[np.uint8], label: int, with_transform: bool) -> str | None:
    """Return what is different in one sample, None if nothing is."""
    try:
        asked, stand_in = _copy(dataset)
    except _UNREADABLE as error:
        return f"can't be copied to be asked ({_words(error)})"
    for _ in range(3):  # another thread may draw as well, but hardly each time
        with _untouched() as moved:
            try:
                sample = asked[index]
            except _UNREADABLE as error:
                return f"does more to sample {index} than give its image to the transform ({_words(error)})"
        if not moved():
            break
    else:
        return "draws random numbers beside its transform"
    if type(sample) not in (tuple, list) or len(sample) != 2:
        return f"gives {_shape(sample)}, not (image, label)"
    image, found = sample
    if not _is_label(found, label):
        return f"gives {_shape(found)} as the label of sample {index}, where {label} is listed"
    if isinstance(image, _Token):
        if len(stand_in.got) != 1:
            return f"calls its transform {len(stand_in.got)} times for a sample"
        image = stand_in.got[0]
    elif with_transform and getattr(dataset, "transform", None) is not None:
        return f"gives {_shape(image)} for sample {index}, which didn't come from its transform"
    return _not_the_same(image, expected, index)


def _copy(dataset: Any) -> tuple[Any, _StandIn]:
    """Return a shallow copy of a data set whose transform, if it has one, is a stand-in."""
    asked, stand_in = copy.copy(dataset), _StandIn()
    if hasattr(asked, "transform"):
        asked.transform = stand_in
    joint = getattr(asked, "transforms", None)
    if type(joint).__name__ == "StandardTransform":
        asked.transforms = type(joint)(stand_in, getattr(asked, "target_transform", None))  # type: ignore[misc]
    return asked, stand_in


@contextmanager
def _untouched() -> Iterator[Callable[[], bool]]:
    """Leave the global generators as they were; yield what says afterwards whether one had been used."""
    torch = sys.modules.get("torch")

    def state() -> tuple[Any, ...]:
        kind, keys, at, has_gauss, cached = np.random.get_state(legacy=True)
        drawn = torch.get_rng_state().numpy().tobytes() if torch is not None else b""
        return random.getstate(), (kind, np.asarray(keys).tobytes(), at, has_gauss, cached), drawn

    before, own, legacy = state(), random.getstate(), np.random.get_state()
    drawn = torch.get_rng_state() if torch is not None else None
    used = [False]
    try:
        yield lambda: used[0]
    finally:
        used[0] = state() != before
        if used[0]:
            random.setstate(own)
            np.random.set_state(legacy)
            if torch is not None and drawn is not None:
                torch.set_rng_state(drawn)


def _is_label(found: object, label: int) -> bool:
    """Return whether torch's loader would make the source's int64 of a label."""
    if type(found) is int or isinstance(found, np.int64):
        return int(found) == label
    whole = type(found).__name__ == "Tensor" and str(getattr(found, "dtype", "")) == "torch.int64"
    return whole and getattr(found, "ndim", 1) == 0 and int(found) == label  # type: ignore[call-overload]


def _not_the_same(image: object, expected: NDArray[np.uint8], index: int) -> str | None:
    """Return what is different in an image, None if it is the source's."""
    if not isinstance(image, Image.Image):
        return f"makes {_shape(image)} of sample {index}, not a PIL image"
    mode = "RGB" if expected.ndim == 3 else "L"
    if image.mode != mode:
        return f"makes an image of mode {image.mode!r} of sample {index}, which is read as {mode!r}"
    pixels = np.asarray(image)
    if pixels.shape != expected.shape:
        return f"changes the size of sample {index}"
    if not np.array_equal(pixels, expected):
        return f"changes the pixels of sample {index}"
    return None


def _turns(dataset: Any, source: Source) -> str | None:
    """Return what a data set does to a photo that is to be turned, which may be none of those that it was asked for."""
    samples = getattr(dataset, "samples", None)
    if not isinstance(samples, list | tuple) or len(samples) != len(source) or not isinstance(source.item(0), str):
        return None
    pixels = np.random.default_rng(0).integers(0, 256, (7, 11, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[_TURNED] = 6
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "turned.png")
        Image.fromarray(pixels).save(path, exif=exif)
        asked, stand_in = _copy(dataset)
        turned = [(str(path), samples[0][1]), *samples[1:]]
        for name in [name for name, value in vars(asked).items() if value is samples]:
            setattr(asked, name, turned)
        with _untouched():
            try:
                image = asked[0][0]
            except _UNREADABLE:
                return None  # it reads from elsewhere
    image = stand_in.got[0] if stand_in.got else image
    if isinstance(image, Image.Image) and image.size == (7, 11):
        return "turns photos by their Exif orientation"
    return None


def _shape(value: object) -> str:
    """Return what a thing is, for an error message."""
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int | float | str | np.generic):
        text = repr(value)
        return text if len(text) <= 40 else f"{text[:40]}..."
    return f"a {type(value).__name__}"


def _words(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:80]}".rstrip(": ").replace("_Token", "the transform's output")
