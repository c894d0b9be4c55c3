"""What training would say of a folder and of sizes, before it decodes anything: asked of what training itself asks."""

from __future__ import annotations

import os

import numpy as np

from dalipipe.decisions import randomness
from dalipipe.decisions.program import program
from dalipipe.decisions.status import Status, reason_of
from dalipipe.errors import SourceError
from dalipipe.inspection.report import Finding
from dalipipe.recipes import Recipe
from dalipipe.sources import require_classes, require_disjoint, split_sources
from dalipipe.sources.roles import role_of

_DRAWS = 8


def refusal(root: str | os.PathLike[str]) -> str:
    """Return why `dalipipe train` would not begin on a folder as it is by default; "" where it would."""
    try:
        train, val = split_sources(root)
        require_classes(train)
        require_disjoint(train, val)
    except SourceError as error:
        return str(error)
    return ""


class Fit:
    """Whether a recipe, or its twin for validation, can use an image of some size.

    Args:
        recipe: Of the training.
    """

    def __init__(self, recipe: Recipe) -> None:
        twin = recipe.eval_twin()
        train = tuple(recipe.kinds.values())
        self._recipes = {"train": train, "val": (twin,), "test": (twin,)}
        self._both = (*train, twin)
        self._known: dict[tuple[str, int, int], Finding | None] = {}

    def problem(self, part: str, height: int, width: int) -> Finding | None:
        """Return what is the matter with images of a size in px, None where nothing is.

        Args:
            part: The folder of the part; "" where images for both parts are yet to be drawn.
            height: Of the image.
            width: Of the image.
        """
        key = (part, height, width)
        if key not in self._known:
            recipes = self._recipes[role_of(part) or "train"] if part else self._both
            problems = (_problem(recipe, height, width) for recipe in recipes)
            self._known[key] = next((problem for problem in problems if problem is not None), None)
        return self._known[key]


def _problem(recipe: Recipe, height: int, width: int) -> Finding | None:
    steps = program(recipe)
    draws = np.arange(_DRAWS if recipe.is_random else 1)
    uniforms = randomness.uniforms(steps.counts, 0, 0, np.zeros_like(draws), draws)
    found = [steps.resolve(row, height, width)[1] for row in uniforms]
    bad = [status for status in found if status is not Status.OK]
    if not bad:
        return None
    when = "" if len(bad) == len(found) else ", in some epochs"
    return Finding("unsuitable", f"{width} x {height} px: {reason_of(bad[0])} (recipe {recipe.name}{when})")
