"""The evaluation twins of recipes: what validation images go through."""

from __future__ import annotations

from dalipipe.errors import RecipeError
from dalipipe.recipes.ops import CenterCrop, Grayscale, Op, RandomResizedCrop, Resize, leaves
from dalipipe.recipes.ops.sizing import Filter
from dalipipe.recipes.reading import list_recipes
from dalipipe.recipes.recipe import Recipe


def twin_of(recipe: Recipe) -> Recipe:
    """Return the recipe for validation images; see `Recipe.eval_twin`.

    Raises:
        RecipeError: the file that `evaluation` names can't be read, or makes images of another size or normalisation.
    """
    twin = _named(recipe) if recipe.evaluation else _derived(recipe)
    if not recipe.apply_exif_orientation or twin.apply_exif_orientation:
        return twin
    return twin.model_copy(update={"apply_exif_orientation": True})


def _named(recipe: Recipe) -> Recipe:
    twin = Recipe.load(recipe.evaluation)
    (_, height, width), (_, twin_height, twin_width) = recipe.output_shape, twin.output_shape
    if recipe.evaluation in list_recipes():
        if _alike(recipe, twin):
            return twin
        return _derived(recipe).model_copy(update={"name": f"{recipe.name}-eval (derived: {height} x {width} px)"})
    if twin.levels != recipe.levels:
        raise RecipeError(
            f"recipe {recipe.name!r}: images for evaluation must be normalised as those for training, got another"
            f" mean or standard deviation in {recipe.evaluation!r}. Use those of the training recipe there."
        )
    if (height, width) != (twin_height, twin_width):
        raise RecipeError(
            f"recipe {recipe.name!r}: images for evaluation must be as large as those for training, {height} x"
            f" {width} px, got {twin_height} x {twin_width} px from {recipe.evaluation!r}. Write that size there, or"
            " leave out evaluation: a twin is derived then."
        )
    return twin


def _derived(recipe: Recipe) -> Recipe:
    if not any(op.is_random for op in recipe.ops):
        return recipe.views[0]
    _, height, width = recipe.output_shape
    shorter = round(min(height, width) * 256 / 224)
    interpolation, antialias = _filter_of(recipe) or ("bilinear", True)
    size = shorter if height == width else (height, width)
    first: Op = Resize(size=size, interpolation=interpolation, antialias=antialias)
    grey = [op for op in recipe.ops if isinstance(op, Grayscale)][-1:]
    kept = (*grey, *(op for op in recipe.ops if op.stage == "range"))
    ops = (first, CenterCrop(size=(height, width)), *kept) if height == width else (first, *kept)
    return Recipe(
        name=f"{recipe.name}-eval",
        description=f"Evaluation twin derived from {recipe.name}.",
        input_channels=recipe.input_channels,
        ops=ops,
    )


def _filter_of(recipe: Recipe) -> tuple[Filter, bool] | None:
    """Return the interpolation of the last op that resizes, and its antialias; None where none does."""
    found = [op for outer in recipe.ops for op in leaves(outer) if isinstance(op, Resize | RandomResizedCrop)]
    return (found[-1].interpolation, found[-1].antialias) if found else None


def _alike(recipe: Recipe, twin: Recipe) -> bool:
    """Return whether a twin makes images of the size, range, colours and filter that a training recipe makes."""
    filters = {_filter_of(each) for each in (recipe, twin)} - {None}
    greys = {any(isinstance(op, Grayscale) for op in each.ops) for each in (recipe, twin)}
    shapes, levels = {recipe.output_shape, twin.output_shape}, {recipe.levels, twin.levels}
    return len(filters) < 2 and all(len(found) == 1 for found in (greys, shapes, levels))
