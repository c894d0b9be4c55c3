"""torchvision's transforms, v1 and v2, become a recipe.

The order of a `Compose` counts, for torchvision works on a PIL image until it meets ToTensor, PILToTensor or ToImage,
and on floats once it has met ToTensor or ToDtype. A recipe works on whole levels (uint8) and rescales at its end:

    transforms  Resize ─ ToTensor ─ RandomCrop ─ Normalize
    recipe      Resize ─ RandomCrop ─ Normalize

What comes after the rescaling is moved before it. That is exact for flips, crops and nearest-neighbour sampling.
Ops that interpolate (Resize, RandomResizedCrop, a bilinear rotation or affine map) then round to whole levels where
torchvision keeps fractions: half a level for a rotation, less than one for a resize, whose uint8 kernel also rounds its
weights. `fill` is turned back into a level, rounded as well.

PIL images are resized with antialiasing whatever `antialias` says, so before ToTensor the recipe has antialias = true.
Pillow's own kernels differ from the recipe's, which are those for tensors: by one level where they resize; a
nearest-neighbour rotation takes a neighbouring pixel about once in a thousand, and a bilinear one differs by a level
inside and more along the border of the image, where the recipe's mixes `fill` in. Of colours, too, the recipe has what
torchvision does to tensors: where Pillow rounds otherwise, a level apart, which a strong factor may stretch.
Steps of a script's own that do what an op does are found out by calling them (`recipes.recognised`).
One channel stays one: where images come as grey arrays, and behind a Grayscale to one channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dalipipe.errors import RecipeError
from dalipipe.recipes.ops import CenterCrop, ImageSpec, Op
from dalipipe.recipes.ops.base import Channels
from dalipipe.recipes.placing import Form, State
from dalipipe.recipes.reading import check_number
from dalipipe.recipes.recipe import Recipe
from dalipipe.recipes.translators import flatten, parts_of, translator

__all__ = ["Beginning", "Form", "beginning", "flatten", "from_torchvision", "notes_of", "ops_of", "why_not_translated"]


_ABOUT = "Translated from torchvision's transforms."


def from_torchvision(
    transform: object,
    name: str = "from-torchvision",
    size: tuple[int, int] | None = None,
    channels: Channels = 3,
) -> Recipe:
    """Return the recipe of a torchvision transform. See `Recipe.from_torchvision`.

    Where only `size` fixes the size of the output, the recipe ends its pixel ops with a CenterCrop to that size, which
    changes nothing.
    """
    return _recipe_of(_translated(transform, channels), name, size, channels)


def _recipe_of(state: State, name: str, size: tuple[int, int] | None, channels: Channels) -> Recipe:
    """Return the recipe of what has been translated, with a fixed size of its output.

    Raises:
        RecipeError: it can't work, or the size of its output is not fixed.
    """
    about = " ".join([_ABOUT, *(f"{note}." for note in dict.fromkeys(state.notes))])
    recipe = Recipe(name=name, description=about, input_channels=channels, ops=state.ops())
    try:
        if size is None:
            recipe.shapes()
            return recipe
        height, width = (int(side) for side in size)
        last = recipe.shapes(ImageSpec(height, width))[-1]
    except RecipeError as error:
        raise RecipeError(f"from_torchvision: {error}") from error
    if _fixes_size(recipe):
        return recipe
    assert last.height is not None and last.width is not None
    pixels = tuple(op for op in recipe.ops if op.stage == "pixels")
    window = CenterCrop(size=(last.height, last.width))
    return recipe.model_copy(update={"ops": (*pixels, window, *recipe.ops[len(pixels) :])})


def notes_of(recipe: Recipe) -> str:
    """Return what a reader of a translated recipe should know; nothing for other recipes."""
    return recipe.description.removeprefix(_ABOUT).strip() if recipe.description.startswith(_ABOUT) else ""


def ops_of(transform: object, channels: Channels = 3) -> tuple[Op, ...]:
    """Return the ops of a torchvision transform, the size of whose output need not be fixed.

    Raises:
        RecipeError: a transform, or an argument of one, that recipes don't have, or an output that is no tensor.
    """
    return _translated(transform, channels).ops()


def _translated(transform: object, channels: Channels) -> State:
    state = State(channels)
    steps = list(flatten(transform, "transforms" if parts_of(transform) is not None else "transform"))
    check_number(len(steps), "from_torchvision")
    for where, step in steps:
        translator(step, where)(state, step, where)
    if state.form == "pil":
        raise RecipeError(
            f"from_torchvision: the transforms must end in a tensor, got a PIL image after {_listing(steps)}."
            " Add ToTensor() at the end."
        )
    return state


@dataclass(frozen=True)
class Beginning:
    """The first steps of a chain of transforms, as far as a recipe does what they do.

    Attributes:
        count: How many of the steps these are; 0 where no recipe can stand for any.
        recipe: What does the same; None for none.
        form: What the last of them hands on: a PIL image, or a tensor of levels or floats; where there is no recipe,
            what the last that is understood hands on.
        understood: How many steps recipes have, whether or not they fix the size of the output.
        stopped: Why the next step is not among them; empty where there is none.
    """

    count: int
    recipe: Recipe | None
    form: Form
    understood: int = 0
    stopped: str = ""


def beginning(
    steps: Sequence[object], form: Form = "pil", channels: Channels = 3, size: tuple[int, int] | None = None
) -> Beginning:
    """Return how far a recipe can do what some single transforms do, one after the other.

    Args:
        steps: The transforms; none holds others in its place, see `flatten`.
        form: What the first of them gets: a PIL image ("pil"), or a tensor of levels ("uint8").
        channels: Of the image that it gets.
        size: (height, width) in px of every image, where they are known; else the steps have to fix the size.
    """
    state, stopped, found, understood = State(channels, form), "", Beginning(0, None, form), 0
    for count, step in enumerate(steps, 1):
        try:
            check_number(count, "from_torchvision")
            translator(step, f"transforms[{count - 1}]")(state, step, f"transforms[{count - 1}]")
        except RecipeError as error:
            stopped = _short(error)
            break
        understood = count
        try:
            recipe = _recipe_of(state, "from-torchvision", size, channels)
        except RecipeError as error:
            stopped = _short(error)
            continue  # a later step may fix the size
        found, stopped = Beginning(count, recipe, state.form), ""
    if found.recipe is None:
        found = replace(found, form=state.form)
    return replace(found, understood=understood, stopped=stopped)


def why_not_translated(step: object) -> str:
    """Return why recipes have nothing for a single transform, wherever it stands; nothing where they have."""
    try:
        translator(step, type(step).__name__)
    except RecipeError as error:
        return _short(error).removeprefix(f"{type(step).__name__}: ")
    return ""


def _short(error: RecipeError) -> str:
    """Return what an error says of a step, without the list of all that there is."""
    return str(error).removeprefix("from_torchvision: ").partition(" There are: ")[0].rstrip(".")


def _fixes_size(recipe: Recipe) -> bool:
    try:
        recipe.shapes()
    except RecipeError:
        return False
    return True


def _listing(steps: list[tuple[str, object]]) -> str:
    return ", ".join(type(step).__name__ for _, step in steps) or "no transform at all"
