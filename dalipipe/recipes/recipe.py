"""An augmentation recipe: a named list of ops, read from and written to TOML, checked before the first image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, Self

from pydantic import SerializeAsAny, StrictBool, ValidationError, model_validator

from dalipipe.errors import RecipeError
from dalipipe.limits import pixel_limit
from dalipipe.recipes.base import NamedOps
from dalipipe.recipes.ops import (
    Grayscale,
    ImageSpec,
    Normalize,
    Op,
    Python,
    Resize,
    ToDtype,
    leaves,
)
from dalipipe.recipes.ops.base import Channels, Stage, tables_of
from dalipipe.recipes.ops.building import build_op, first_problem
from dalipipe.recipes.reading import TEXT_OPS, Written, check_number, check_views

Triple = tuple[float, float, float]
Levels = tuple[Triple, Triple]
"""Mean and standard deviation of each channel, in levels."""

_STAGES = ("pixels", "range", "tail")


class Recipe(NamedOps):
    """What is done to each image, as data; what is done to sentences is a `dalipipe.text.Recipe`.

    Attributes:
        name: Short name, as in the file name.
        description: One sentence.
        evaluation: Name or path of the recipe for validation images; empty for the one derived by `eval_twin`.
        apply_exif_orientation: Whether photos are turned as their camera noted it (JPEG and PNG) before the first op.
            By default they are taken as they are stored, as torchvision.datasets.ImageFolder takes them.
        input_channels: 3, or 1 for a recipe of grey arrays, (H, W, 1), which it takes as one channel. By default images
            are RGB, and grey ones have three equal channels.
        ops: The steps, in order.
        other_ops: The steps of each further view, for a recipe that makes several views of each image; `of_views` and
            `with_views` make such.
    """

    apply_exif_orientation: StrictBool = False
    input_channels: Channels = 3
    ops: tuple[SerializeAsAny[Op], ...]
    other_ops: tuple[tuple[SerializeAsAny[Op], ...], ...] = ()

    @model_validator(mode="after")
    def _not_too_many(self) -> Recipe:
        check_views(1 + len(self.other_ops), f"recipe {self.name!r}")
        for ops in {self.ops, *self.other_ops}:
            check_number(sum(1 for op in ops for _ in leaves(op)), f"recipe {self.name!r}")
        return self

    @classmethod
    def _of(cls, written: Written) -> Self:
        where = written.where
        if written.only(TEXT_OPS):
            raise RecipeError(
                f"{written.title}: a recipe of image ops is needed here, got one of text ops. Choose another, or give "
                "this one to dalipipe.text.TextAugment; dalipipe.text.Recipe reads it."
            )
        single = len(written.views) == 1
        views: list[tuple[Op, ...]] = []
        for number, tables in enumerate(written.views, 1):
            place = where if single else f"{where}: view {number}"
            again = number > 1 and tables is written.views[number - 2]
            made = (build_op(table, f"{place}: op {position}") for position, table in enumerate(tables, 1))
            views.append(views[-1] if again else tuple(made))
        try:
            recipe = cls(**written.head, ops=views[0], other_ops=tuple(views[1:]))
        except ValidationError as error:
            raise RecipeError(first_problem(where, error, [*cls.model_fields, "views"])) from error
        for numbers, view in recipe.kinds.items():
            try:
                view.shapes()
            except RecipeError as error:
                raise RecipeError(f"{where}: {error}" if single else f"{where}: view {numbers}: {error}") from error
        return recipe._beside(written.folder)

    @classmethod
    def of_views(cls, name: str, views: Sequence[Recipe], description: str = "") -> Recipe:
        """Return the recipe that makes several views of each image, which is read and decoded once.

        Args:
            name: Its name.
            views: What each view is made by; a recipe may come several times, and its views decide anew each time.
            description: One sentence.

        Raises:
            RecipeError: no view or too many, or views that take their images differently.
        """
        singles = [single for view in views for single in view.views]
        if not singles:
            raise RecipeError(f"recipe {name!r}: needs at least one view, got none. Add one.")
        check_views(len(singles), f"recipe {name!r}")
        first, *others = singles
        for at in ("apply_exif_orientation", "input_channels"):
            if len({getattr(view, at) for view in singles}) > 1:
                raise RecipeError(f"recipe {name!r}: {at} must be the same for all views. Make it so.")
        made = {"name": name, "description": description, "other_ops": tuple(other.ops for other in others)}
        return cls(**{**dict(first), **made})

    def with_views(self, count: int) -> Recipe:
        """Return the recipe that makes so many views of each image as this one makes one.

        Args:
            count: How many, 1 to 64.

        Raises:
            RecipeError: too many, or none.
        """
        return Recipe.of_views(self.name, [self] * count, self.description)

    @property
    def views(self) -> tuple[Recipe, ...]:
        """What each view of an image is made by, a recipe of one view."""
        if not self.other_ops:
            return (self,)
        return tuple(self.model_copy(update={"ops": ops, "other_ops": ()}) for ops in (self.ops, *self.other_ops))

    @property
    def kinds(self) -> dict[str, Recipe]:
        """The views that differ, by their numbers from 1: "1 to 2", "3 to 8"; the whole recipe as "1" if it has one.

        Where there are several views, each is named "<recipe>, view 1 to 2".
        """
        if not self.other_ops:
            return {"1": self}
        runs: list[list[int]] = []
        views = self.views
        for at, view in enumerate(views):
            if runs and view == views[runs[-1][0]]:
                runs[-1].append(at)
            else:
                runs.append([at])
        numbers = [f"{run[0] + 1}" + (f" to {run[-1] + 1}" if len(run) > 1 else "") for run in runs]
        names = [f"{self.name}, view {number}" for number in numbers]
        singles = (views[run[0]].model_copy(update={"name": name}) for run, name in zip(runs, names, strict=True))
        return dict(zip(numbers, singles, strict=True))

    def require_one_view(self, what: str) -> Recipe:
        """Return the recipe, which makes one view.

        Args:
            what: What needs it, which begins the message.

        Raises:
            RecipeError: it makes several.
        """
        if self.other_ops:
            raise RecipeError(
                f"{what}: needs a recipe of one view, got {self.name!r}, which makes {1 + len(self.other_ops)} of each"
                " image. Choose another; dalipipe.DataLoader hands out all views, see examples/simclr.py."
            )
        return self

    @classmethod
    def from_torchvision(
        cls,
        transform: object,
        name: str = "from-torchvision",
        size: tuple[int, int] | None = None,
        channels: Channels = 3,
    ) -> Recipe:
        """Return the recipe that does what a torchvision transform does, v1 or v2.

        Args:
            transform: A transform, or a Compose of them, as a data set's `transform=` takes it.
            name: Name of the recipe.
            size: (height, width) of every incoming image in px, where all have the same. Needed only where the
                transform doesn't fix the size of its output.
            channels: 1 where the incoming images are grey arrays, as MNIST's are.

        Raises:
            RecipeError: a transform, or an argument of one, that recipes don't have; an output that is no tensor, or
                whose size is not fixed.

        See `dalipipe.recipes.translation` for how near the result is.
        """
        from dalipipe.recipes.translation import from_torchvision  # which makes recipes, and imports torchvision

        return from_torchvision(transform, name, size, channels)

    def to_toml(self) -> str:
        """Return TOML from which `from_toml` makes an equal recipe."""
        head = {
            "apply_exif_orientation": self.apply_exif_orientation,
            "input_channels": 1 if self.input_channels == 1 else None,
        }
        if len(set(self.other_ops) | {self.ops}) == 1:
            return self._toml(self.ops, **head, views=1 + len(self.other_ops) if self.other_ops else None)
        views = [
            {"count": len(list(group)), "ops": tables_of(ops)} for ops, group in groupby((self.ops, *self.other_ops))
        ]
        return self._toml((), **head, views=views)

    def fingerprint(self) -> str:
        """Return 16 hex digits that change when an op or an argument does, and not with the name or the comments."""
        ops: list[Any] = [op.model_dump(mode="json") for op in self.ops]
        for others in self.other_ops:
            ops.append([op.model_dump(mode="json") for op in others])
        if self.apply_exif_orientation:
            ops.insert(0, "apply_exif_orientation")
        if self.input_channels == 1:
            ops.insert(0, "input_channels = 1")
        return hashlib.sha256(json.dumps(ops, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def calls(self) -> tuple[str, ...]:
        """What the Python steps of all views call, "package.module:name" each."""
        found = (op.call for view in self.views for op in view.ops if isinstance(op, Python))
        return tuple(dict.fromkeys(found))

    @property
    def beginning(self) -> Recipe:
        """The recipe of one view up to its first Python step: what a backend does; itself where there is none."""
        at = next((at for at, op in enumerate(self.ops) if isinstance(op, Python)), None)
        return self if at is None else self.model_copy(update={"ops": self.ops[:at]})

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What each op works on at its place: levels, the range, or what comes out of that ("tail")."""
        stages: list[Stage] = []
        for op in self.ops:
            late = op.anywhere and any(stage != "pixels" for stage in stages)
            stages.append("tail" if late else op.stage)
        return tuple(stages)

    def as_it_leaves(self, position: int, value: tuple[float, float, float]) -> tuple[float, float, float]:
        """Return what the ops of the range after a position make of a float value of each channel."""
        for op in self.ops[position + 1 :]:
            if isinstance(op, Normalize):
                red, green, blue = ((v - m) / s for v, m, s in zip(value, op.mean, op.std, strict=True))
                value = (red, green, blue)
        return value

    def shapes(self, start: ImageSpec | None = None) -> list[ImageSpec]:
        """Return what is known of an image before the first op and after each, len(ops) + 1 entries.

        Args:
            start: What is known of the incoming images; by default neither height nor width.

        Raises:
            RecipeError: an op that can't work at its place, or an output whose size is not fixed.
        """
        specs = [replace(start or ImageSpec(), channels=self.input_channels)]
        stage = 0
        for position, (op, at) in enumerate(zip(self.ops, self.stages, strict=True), 1):
            if _STAGES.index(at) < stage:
                raise RecipeError(
                    f"op {position} ({op.op}): works on uint8 pixels, but {self.ops[position - 2].op} comes before it. "
                    f"Put {op.op} before the ops that rescale or normalise."
                )
            stage = min(_STAGES.index(at), 1)  # the range may go on behind an erasing of floats
            earlier = next((before.op for before in self.ops[: position - 1] if isinstance(before, Python)), None)
            if earlier is not None and op.stage != "range" and not isinstance(op, Python):
                raise RecipeError(
                    f"op {position} ({op.op}): must come before the Python step, behind which only ToDtype, Normalize"
                    " and further Python steps have a place. Move it up."
                )
            try:
                _require_grey(op, specs[-1])
                specs.append(op.check(specs[-1]))
                _check_memory(op, specs[-1])
            except RecipeError as error:
                raise RecipeError(f"op {position}: {error}") from error
        if specs[-1].height is None or specs[-1].width is None:
            raise RecipeError(
                f"the output is {specs[-1]}, so images of different sizes could not be batched. "
                "Add a Resize to (height, width), a CenterCrop or a RandomResizedCrop."
            )
        return specs

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of every image that leaves the recipe."""
        last = self.shapes()[-1]
        assert last.height is not None and last.width is not None
        return (last.channels, last.height, last.width)

    @property
    def channels(self) -> tuple[Channels, ...]:
        """How many channels an image has before each op, and after the last."""
        found: list[Channels] = [self.input_channels]
        for op in self.ops:
            found.append(op.num_output_channels if isinstance(op, Grayscale) else found[-1])
        return tuple(found)

    @property
    def scaling(self) -> tuple[float, Triple, Triple] | None:
        """(unit, mean, std): what leaves the recipe is (level / unit - mean) / std; None for uint8."""
        unit: float | None = None
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        for op in self.ops:
            if isinstance(op, ToDtype):
                unit = 255.0 if op.scale else 1.0
            elif isinstance(op, Normalize):
                unit = 255.0 if unit is None else unit
                mean, std = op.mean, op.std
        return None if unit is None else (unit, mean, std)

    @property
    def levels(self) -> Levels | None:
        """(mean, std) in levels, so that what leaves the recipe is (level - mean) / std; None for uint8."""
        if self.scaling is None:
            return None
        unit, mean, std = self.scaling
        return (mean[0] * unit, mean[1] * unit, mean[2] * unit), (std[0] * unit, std[1] * unit, std[2] * unit)

    @property
    def is_random(self) -> bool:
        """Whether any op draws random numbers."""
        return any(op.is_random for ops in (self.ops, *self.other_ops) for op in ops)

    def eval_twin(self) -> Recipe:
        """Return the recipe for validation images.

        That is the one named by `evaluation` (a recipe's name, or a path beside this recipe's file). Without one:
        resize to 256/224 of the output, crop the centre, and keep this recipe's Grayscale, rescaling and normalisation.
        Where this recipe applies the Exif orientation, so does its twin.

        A recipe that comes with dalipipe is the twin of images of its own size, normalisation, filter and channels
        only: for a changed copy of its training recipe the twin is derived.

        Raises:
            RecipeError: the file that `evaluation` names can't be read, or makes images of another size or
                normalisation.
        """
        from dalipipe.recipes.twins import twin_of  # which makes recipes

        return twin_of(self)


def _check_memory(op: Op, spec: ImageSpec) -> None:
    """Refuse an op of whose images none would be within the limit of pixels."""
    limit = pixel_limit()
    side = op.size if isinstance(op, Resize) and isinstance(op.size, int) else 1  # the shorter one of the two
    height, width = spec.height or side, spec.width or side
    if limit is not None and height * width > limit:
        raise RecipeError(
            f"{op.op}: makes images of at least {height} x {width} px, more than the limit of {limit:,}. Make less of "
            "them, or raise PIL.Image.MAX_IMAGE_PIXELS."
        )


def _require_grey(outer: Op, spec: ImageSpec) -> None:
    """Refuse colours where there is one channel."""
    for op in leaves(outer) if spec.channels == 1 else ():
        for name in ("fill", "value", "mean", "std"):
            value = getattr(op, name, None)
            if isinstance(value, tuple) and len(set(value)) > 1:
                raise RecipeError(
                    f"{op.op}: {name} must be one number where images have one channel, got {value}. "
                    "Give one, or put Grayscale with num_output_channels = 3 before it."
                )
