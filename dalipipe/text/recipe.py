"""A text recipe: a named list of ops on sentences, read from and written to TOML."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Self

from pydantic import SerializeAsAny, ValidationError, model_validator

from dalipipe.errors import RecipeError
from dalipipe.recipes.base import NamedOps
from dalipipe.recipes.ops import OPS
from dalipipe.recipes.ops.building import first_problem
from dalipipe.recipes.reading import Written, check_number
from dalipipe.text.ops import REGISTRY, TextOp

_OF_IMAGES = ("apply_exif_orientation", "input_channels")


class Recipe(NamedOps):
    """What is done to each sentence, as data.

    Attributes:
        name: Short name, as in the file name.
        description: One sentence.
        evaluation: Name or path of the recipe for sentences of evaluation; empty for the one derived by `eval_twin`.
        ops: The ops, in order.
    """

    ops: tuple[SerializeAsAny[TextOp], ...]

    @model_validator(mode="before")
    @classmethod
    def _nothing_of_images(cls, data: Any) -> Any:
        for name in _OF_IMAGES if isinstance(data, dict) else ():
            if name in data:
                raise ValueError(f"{name} is for images, got a recipe of text ops. Leave it out")
        return data

    @model_validator(mode="after")
    def _not_too_many(self) -> Recipe:
        check_number(sum(op.number for op in self.ops), f"recipe {self.name!r}")
        return self

    @classmethod
    def _of(cls, written: Written) -> Self:
        where, folder = written.where, written.folder
        if written.only(OPS):
            raise RecipeError(
                f"{written.title}: a recipe of text ops is needed here, got one of image ops. Choose another, or give "
                "this one to dalipipe.DataLoader; dalipipe.Recipe reads it."
            )
        if len(written.views) > 1:
            raise RecipeError(f"{where}: a recipe of text ops has one view, got {len(written.views)}. Leave views out.")
        tables = enumerate(written.views[0], 1)
        ops = [REGISTRY.build(table, f"{where}: op {position}") for position, table in tables]
        try:
            recipe = cls(**written.head, ops=tuple(ops if folder is None else (op.located(folder) for op in ops)))
        except ValidationError as error:
            raise RecipeError(first_problem(where, error, cls.model_fields)) from error
        return recipe._beside(folder)

    def to_toml(self) -> str:
        """Return TOML from which `from_toml` makes an equal recipe."""
        return self._toml(self.ops)

    def fingerprint(self) -> str:
        """Return 16 hex digits that change when an op or an argument does, and not with the name or the comments."""
        ops = [op.model_dump(mode="json") for op in self.ops]
        return hashlib.sha256(json.dumps(ops, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def is_random(self) -> bool:
        """Whether any op draws random numbers."""
        return any(op.is_random for op in self.ops)

    def eval_twin(self) -> Recipe:
        """Return the recipe for sentences of evaluation: the one that `evaluation` names, or else the ops not random.

        Raises:
            RecipeError: the file that `evaluation` names can't be read, or all ops are random.
        """
        if self.evaluation:
            return Recipe.load(self.evaluation)
        kept = tuple(op for op in self.ops if not op.is_random)
        if not kept:
            raise RecipeError(
                f"recipe {self.name!r}: every op is random, so nothing is left to do to sentences for evaluation. "
                "Evaluate on the sentences as they are."
            )
        if len(kept) == len(self.ops):
            return self
        return Recipe(name=f"{self.name}-eval", description=f"Evaluation twin derived from {self.name}.", ops=kept)
