"""Asking a data set for samples, with stand-ins for the images that nobody has to look at.

While a thread asks, `PIL.Image.open` gives it images that decode themselves when somebody looks at them, and a
transform of torchvision's gives it views. All other threads, and this one at any other time, get what they always do.
"""

from __future__ import annotations

import errno
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from dalipipe.asking.images import DeferredImage, FileOrigin, Origin, become, item_in, name_of, origin_of
from dalipipe.asking.structure import mapped
from dalipipe.asking.views import Incoming, TensorView, View, image_of, pixels_of, stand_in, view_of
from dalipipe.backends import of_view, reference_sample, why_not
from dalipipe.decisions import randomness
from dalipipe.decisions.generators import lent, seed_all
from dalipipe.recipes import Recipe
from dalipipe.recipes.ops.base import Channels
from dalipipe.sampling import Batch

if TYPE_CHECKING:
    from dalipipe.asking.asker import Asker

_current: ContextVar[Asked | None] = ContextVar("dalipipe_asked", default=None)


def current() -> Asked | None:
    """Return the sample that this thread is asking for; None where it asks for none."""
    return _current.get()


class Asked:
    """One sample, as its data set gives it.

    Attributes:
        index: Of the sample.
        occurrence: How often it came before within the epoch.
        structure: What the data set gave, with stand-ins for its views.
        reason: Why it can't be used; empty where it can.
        path: Of the file that can't be used, where it is one.
        met: Whether the data set itself met that, and had no answer.
        deferred: Whether anything in it was left for later.
        reseeded: Whether the data set has seeded a global generator itself, so that transforms have to draw from it.
    """

    def __init__(self, asker: Asker, batch: Batch, at: int, *, real: bool = False) -> None:
        self.asker, self.epoch, self.seed = asker, batch.epoch, batch.seed or 0
        self.index, self.occurrence = int(batch.indices[at]), int(batch.occurrences[at])
        self.real = real
        self.reseeded = False
        self.deferred = False
        self.structure: Any = None
        self.reason, self.path, self.met = "", "", False
        self._views: list[weakref.ref[View]] = []
        self._count = 0
        self._failure: tuple[Exception, Origin | None] | None = None

    def adopt(self, structure: Any, whole: Asked) -> None:
        """Take what came for this sample with others, and the views in it."""
        self.structure = structure

        def note(leaf: Any) -> Any:
            view = view_of(leaf)
            if view is not None:
                self._views.append(weakref.ref(view))
            return leaf

        mapped(structure, note)

    def ask(self, words: Sequence[int] | None, ask: Callable[[], Any]) -> None:
        """Ask for the sample.

        Args:
            words: What the global generators are seeded with; the caller lends them. None where they are left alone.
            ask: Returns what the data set gives.

        Raises:
            Exception: what the data set raises, unless a file is to blame.
        """
        try:
            self._have(words, ask)
        except Exception as error:
            if not self.to_blame(error):
                raise
            self.met = self.real

    def take(self, samples: Iterator[Any], words: Sequence[int]) -> bool:
        """Take the next of the samples that the data set yields; return whether there was one.

        Args:
            samples: What the data set yields.
            words: What the global generators are seeded with; the caller lends them.

        Raises:
            Exception: what the data set raises, which ends it.
        """
        nothing = object()
        self._have(words, lambda: next(samples, nothing))
        self.met = True  # it can't be asked for again
        return self.structure is not nothing

    def _have(self, words: Sequence[int] | None, ask: Callable[[], Any]) -> None:
        if words is not None:
            seed_all(words)
        token = _current.set(self)
        try:
            structure = ask()
            self.structure = structure if self.asker.recipe is None else mapped(structure, self.replaced)
        finally:
            _current.reset(token)

    def to_blame(self, error: Exception) -> bool:
        """Return whether what was raised comes of a file that can't be read, and note that as the reason."""
        if self._failure is None and (_is_pillows(error) or _is_of_a_file(error)):
            self._failure = error, None
        if self._failure is None:
            return False
        found, origin = self._failure
        chain: BaseException | None = error
        while chain is not None and chain is not found:
            chain = chain.__cause__ or chain.__context__
        if chain is None:
            return False
        item = getattr(origin, "item", None)
        self.path = name_of(item) or str(getattr(found, "filename", None) or "")
        self.reason = why_not(item, found)
        return True

    @property
    def asking(self) -> bool:
        """Whether this thread is asking for it."""
        return current() is self

    def looked(self, what: str, seconds: float) -> None:
        """Take in that an image was decoded, for whom, and how long that took."""
        if self.asking:  # the data set did, and not what makes a view
            self.asker.account.look(what, seconds)

    def failed(self, origin: Origin | None, error: Exception) -> None:
        """Take in what was raised over an image."""
        self._failure = (error, origin)

    @property
    def views(self) -> list[View]:
        """The views that are still to be made and that somebody holds."""
        found = [view for ref in self._views if (view := ref()) is not None]
        return [view for view in found if not view.made and not view.extended]

    def open(self, file: Any, original: Callable[[], Image.Image]) -> Image.Image:
        """Return what `PIL.Image.open` gives."""
        origin = None
        try:
            item = item_in(file)
            origin = None if item is None else FileOrigin(item)
            if origin is None:
                return original()
            self.deferred = True
            return origin.real() if self.real else DeferredImage(origin, self)
        except Exception as error:
            self.failed(origin, error)
            raise

    def transformed(self, transform: Any, value: Any, original: Callable[[Any], Any]) -> Any:
        """Return what a transform gives.

        Args:
            transform: A transform of torchvision's, or a Compose of some.
            value: What it gets.
            original: Calls it.
        """
        if self.reseeded or (getattr(transform, "inplace", False) and self.asker.recipe is None):
            return original(value)  # so the data set sees what it expects
        view = view_of(value)
        if self.asker.recipe is not None:
            incoming = None if view is not None else self._incoming(value)
            return value if view is not None else original(value) if incoming is None else self._own(incoming)
        steps = self.asker.plans.steps_of(transform)
        if view is not None and not view.extended and not view.made:
            found = self._view(view.image, (*view.plan.steps, *steps), view.number)
            view.extended = found is not None
        else:
            image = self._incoming(value)
            if isinstance(value, np.ndarray) and type(steps[0]).__name__ not in _TAKE_ARRAYS:
                image = None
            found = None if image is None else self._view(image, steps)
        return original(value) if found is None else self._given(found)

    def decoded(self, data: bytes, args: Any, kwargs: Any, original: Callable[[], torch.Tensor]) -> Any:
        """Return what `torchvision.io.decode_image` gives for the bytes of an image.

        Args:
            data: The bytes.
            args: Its further arguments.
            kwargs: Those given by name.
            original: Calls it.
        """
        origin = FileOrigin(data)
        mode = str(getattr(args[0] if args else kwargs.get("mode", "UNCHANGED"), "name", kwargs.get("mode", "")))
        turned = len(args) > 1 or kwargs.get("apply_exif_orientation")
        try:
            if (
                turned
                or self.reseeded
                or not (mode.upper() == "RGB" or (mode.upper() == "UNCHANGED" and _is_rgb(origin)))
            ):
                return original()
        except Exception as error:
            self.failed(origin, error)
            raise
        view = self._view(Incoming(data, "uint8", 3, original), ())
        assert view is not None
        return self._given(view)

    def replaced(self, value: Any) -> Any:
        """Return what stands for an image by the loader's own recipe; any other value as it is."""
        recipe, image, view = self.asker.recipe, None, view_of(value)
        if recipe is None:
            return value
        if view is not None and not view.plan.steps:
            image = view.image
        elif isinstance(value, Image.Image):
            image = self._incoming(value.convert("RGB") if recipe.input_channels == 3 else value.convert("L"))
        return value if image is None else self._own(image)

    def _own(self, image: Incoming) -> Any:
        """Return what stands for an image that goes through the loader's recipe: a list where it has several views."""
        views = [self._given(View(self, self._next_number(), image, plan)) for plan in self.asker.own_plans]
        return views[0] if len(views) == 1 else views

    def _view(self, image: Incoming, steps: tuple[Any, ...], number: int | None = None) -> View | None:
        """Return the view of an image that goes through some steps; None where they have to be taken now."""
        plan = self.asker.plans.of(steps, image.form, image.channels, image.size)
        if plan.recipe is None and not plan.unsized:
            return None
        return View(self, self._next_number() if number is None else number, image, plan)

    def _next_number(self) -> int:
        self._count += 1
        return self._count - 1

    def _given(self, view: View) -> Any:
        """Return what stands for a view; the image itself where nothing can."""
        plan = view.plan
        if plan.gives is None:  # so it is made, to see what it is
            value = view.value()
            tensor = isinstance(value, torch.Tensor)
            if plan.gives is None:
                plan.gives = "tensor" if tensor else "image" if isinstance(value, Image.Image) else "other"
            return value
        if plan.gives == "other" or self.real:
            return view.value()
        self._views.append(weakref.ref(view))
        self.deferred = True
        return stand_in(view)

    def _incoming(self, value: Any) -> Incoming | None:
        """Return an image that a transform gets; None where it is none that a backend takes."""
        if isinstance(value, Image.Image):
            origin = origin_of(value)
            if isinstance(origin, FileOrigin) and (origin.rgb or value.mode == "RGB"):
                return Incoming(origin.item, "pil", 3, origin.real, origin.mark)
            become(value, f"a transform of an image of mode {value.mode}")
            pixels = pixels_of(value)
            return None if pixels is None else Incoming(pixels, "pil", _channels(pixels), partial(image_of, pixels))
        if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim in (2, 3) and value.size:
            own = value.copy()  # the data set may go on with its array
            pixels = own if own.ndim == 3 else own[..., None]
            return (
                Incoming(pixels, "pil", _channels(pixels), partial(_same, own)) if pixels.shape[2] in (1, 3) else None
            )
        if not isinstance(value, torch.Tensor) or value.dtype != torch.uint8 or value.ndim != 3 or not value.numel():
            return None
        if type(value) is TensorView:
            value = view_of(value).value()  # type: ignore[union-attr]
        if type(value) is not torch.Tensor or value.shape[0] not in (1, 3) or value.device.type != "cpu":
            return None
        value = value.clone()
        pixels = value.permute(1, 2, 0).contiguous().numpy()
        return Incoming(pixels, "uint8", _channels(pixels), partial(_same, value))

    def make(self, view: View) -> Any:
        """Return a view's image, made by the reference with the decisions that a backend would get.

        Where there is nothing to decide, and where no recipe can do it, its transforms make it themselves.

        Raises:
            OSError: it can't be decoded.
        """
        wanted = self.asking and view.plan.gives is not None and not self.real
        token, began = _current.set(None), time.perf_counter()
        try:
            itself = wanted or view.plan.gives is None  # while the transforms are what they are
            if view.plan.recipe is None or (itself and self.asker.recipe is None and not self._draws(view.plan.recipe)):
                self.asker.draws = True  # or may have: threads would seed the generators for one another
                with lent():
                    return view.taken(view.image.itself(), view.plan.steps)
            row = reference_sample(self.asker.job_of(view.plan.recipe), self._alone(view))
            if isinstance(row, str):
                item = view.image.item
                error = OSError(f"{name_of(item) or f'sample {self.index}'}: {row}")
                self.failed(FileOrigin(item) if isinstance(item, str | bytes) else None, error)
                raise error
            if not view.plan.rest:
                return view.finish(row)
            self.asker.draws = True
            with lent():
                return view.finish(row)
        finally:
            _current.reset(token)
            if wanted:
                self.asker.account.at_once.add(time.perf_counter() - began)

    def _draws(self, recipe: Recipe) -> bool:
        """Return whether a recipe decides anything."""
        return any(self.asker.job_of(recipe).program.counts)

    def _alone(self, view: View) -> Batch:
        """Return a batch of a view's image only, which decides as the view does."""
        occurrences = of_view(np.array([self.occurrence]), view.number)
        return Batch(self.epoch, np.array([self.index]), occurrences, seed=self.seed, items=(view.image.item,))

    def seed_for(self, number: int) -> None:
        """Seed the global generators for the steps behind a view."""
        (words,) = randomness.words(
            self.seed, self.epoch, [self.index], [self.occurrence], randomness.ASK_POSITION, number + 1
        )
        seed_all(words)


def _is_pillows(error: Exception) -> bool:
    """Return whether an error was raised by what opens and decodes files in Pillow."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", ""))
    decodes = where in ("PIL.Image", "PIL.ImageFile") or where.endswith("ImagePlugin")
    return isinstance(error, OSError | SyntaxError) and decodes


def _is_of_a_file(error: Exception) -> bool:
    """Return whether an error says of a file that it can't be opened."""
    return isinstance(error, OSError) and error.filename is not None and error.errno in _OF_A_FILE


_OF_A_FILE = frozenset({errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG})


def _is_rgb(origin: FileOrigin) -> bool:
    try:
        return origin.mode == "RGB"
    except Exception:  # who opens it otherwise finds out
        return False


_TAKE_ARRAYS = frozenset({"ToImage", "ToPILImage", "ToTensor"})
"""What takes an array for an image; other transforms of torchvision's leave it alone or refuse it."""


def _same(value: Any) -> Any:
    return value


def _channels(pixels: NDArray[np.uint8]) -> Channels:
    return 1 if pixels.shape[2] == 1 else 3
