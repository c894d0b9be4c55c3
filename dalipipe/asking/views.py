"""Images that a transform is still to make: where they stand in a sample, a backend's rows come to stand.

    image ─► transform ─► View ─┬─► in the sample that the data set gives: a row of the backend's batch
                                ├─► another transform: a View of both
                                └─► anything else that looks at it: made at once, by the reference

Until then a tensor or a PIL image stands in for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors

from dalipipe.asking.images import DeferredImage, Mark
from dalipipe.asking.plans import Plan, state_of
from dalipipe.asking.structure import Row, mapped
from dalipipe.recipes.ops.base import Channels
from dalipipe.recipes.translation import Form
from dalipipe.sources import Item

if TYPE_CHECKING:
    from dalipipe.asking.sample import Asked

_NOTHING = object()


@dataclass(frozen=True)
class Incoming:
    """An image as a transform gets it.

    Attributes:
        item: As a backend takes it: path, bytes or pixels.
        form: What the transform takes it for.
        channels: Of it.
        itself: Returns it as the transform would get it.
        mark: What its file is known by, where it is one.
    """

    item: Item
    form: Form
    channels: Channels
    itself: Callable[[], Any]
    mark: Mark | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) in px where it is known without opening a file, else None."""
        return self.item.shape[:2] if isinstance(self.item, np.ndarray) else None

    def is_the(self, other: Incoming) -> bool:
        """Return whether another is the same image, known without looking at pixels."""
        return self.item is other.item and self.form == other.form


class View:
    """One image of a sample, and the transforms that it is to go through.

    Args:
        sample: Whose it is.
        number: Which of the sample's views it is, for the random decisions.
        image: As it comes.
        plan: What becomes of the transforms.

    Attributes:
        sample: See above; so are the others of that name.
        extended: Whether another view goes on where this one ends.
    """

    __slots__ = ("__weakref__", "_value", "extended", "image", "number", "plan", "sample")

    def __init__(self, sample: Asked, number: int, image: Incoming, plan: Plan) -> None:
        self.sample, self.number, self.image, self.plan = sample, number, image, plan
        self.extended = False
        self._value: Any = _NOTHING

    @property
    def made(self) -> bool:
        """Whether it is there."""
        return self._value is not _NOTHING

    def fill(self, row: Row) -> None:
        """Take what a backend has made of it."""
        self._value = row

    def value(self) -> Any:
        """Return the image: what a backend has made, or else what the reference makes of it now.

        Raises:
            OSError: it can't be decoded.
        """
        found = self.outcome()
        return found.tensor if isinstance(found, Row) else found

    def outcome(self) -> Any:
        """Return the image as `value` does, but the row itself where a backend has made all of it.

        Raises:
            LookupError: it was left for too long: a transform was changed, or gives something else than before.
        """
        left = not self.made or isinstance(self._value, Row)
        if left and (self.plan.rest or self.plan.unsized) and not self.sample.asking and self.plan.changed:
            raise LookupError("a transform was changed")
        if not self.made:
            self._value = self.sample.make(self)
        if isinstance(self._value, Row) and (self.plan.rest or self.plan.form == "pil"):
            self._value = self.finish(self._value.tensor)
            if not isinstance(self._value, torch.Tensor | Image.Image):  # what stands in for it is one of these
                self.plan.gives = "other"
                raise LookupError("a transform gives something else than before")
        return self._value

    def finish(self, row: torch.Tensor) -> Any:
        """Return what the steps behind the recipe make of a row: (C, H, W), as the recipe leaves it."""
        value: Any = as_image(row) if self.plan.form == "pil" else row
        if not self.plan.rest:
            return value
        if isinstance(value, torch.Tensor):  # as torchvision's would be
            value = tv_tensors.Image(value.cpu()) if self.plan.wrapped else value.cpu()
        return self.taken(value, self.plan.rest)

    def taken(self, value: Any, steps: tuple[Any, ...]) -> Any:
        """Return what some of the transforms make of a value; the caller lends the generators that they draw from."""
        self.sample.seed_for(self.number)
        asker = self.sample.asker
        for step in steps:
            before, began = state_of(step), time.perf_counter()
            value = step(value)
            asker.account.step(step, time.perf_counter() - began)
            if state_of(step) != before:
                asker.plans.note(step)
        return value


def as_image(levels: torch.Tensor) -> Image.Image:
    """Return levels (C, H, W) uint8 as a PIL image, RGB or L."""
    return image_of(levels.cpu().permute(1, 2, 0).contiguous().numpy())


def image_of(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> Image.Image:
    """Return pixels (H, W, 3) or (H, W, 1) as a PIL image, RGB or L."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


_VIEW = "_dalipipe_view"  # no name that a tensor has


class TensorView(torch.Tensor):
    """A tensor that a transform is still to make; whatever is done to it makes it at once."""

    @staticmethod
    def of(view: View) -> TensorView:
        """Return the tensor of a view."""
        tensor: TensorView = torch.Tensor._make_subclass(TensorView, _EMPTY)
        tensor.__dict__[_VIEW] = view
        return tensor

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch's on the tensors themselves."""
        return func(*mapped(args, _real), **mapped(kwargs or {}, _real))


_EMPTY = torch.empty(0, device="meta")  # so that what doesn't ask for the tensor itself fails, and gets no numbers


class ViewOrigin:
    """What a deferred image is made of that a transform is still to make.

    Args:
        view: The transform's.

    Attributes:
        view: See above.
    """

    def __init__(self, view: View) -> None:
        self.view = view

    def real(self) -> Image.Image:
        """See `Origin`."""
        value: Image.Image = self.view.value()
        return value.copy()

    def header(self) -> Image.Image:
        """See `Origin`."""
        return self.real()

    def converted(self) -> None:
        """See `Origin`."""
        return


def _real(value: Any) -> Any:
    """Return the tensor itself in the place of one that is still to be made."""
    return value.__dict__[_VIEW].value() if type(value) is TensorView else value


def stand_in(view: View) -> Any:
    """Return what stands for a view in the data set's own code: a tensor or a PIL image."""
    if view.plan.gives == "tensor":
        return TensorView.of(view)
    return DeferredImage(ViewOrigin(view), view.sample)


def view_of(value: Any) -> View | None:
    """Return the view that a value stands for; None where it stands for none any more."""
    if type(value) is TensorView:
        return value.__dict__[_VIEW]  # type: ignore[no-any-return]
    if type(value) is DeferredImage:
        origin = object.__getattribute__(value, "__dict__")["_origin"]
        return origin.view if isinstance(origin, ViewOrigin) else None
    return None


def pixels_of(image: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
    """Return the pixels of a PIL image, (H, W, 3) or (H, W, 1); None of one that is neither RGB nor grey."""
    if image.mode not in ("RGB", "L"):
        return None
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]
