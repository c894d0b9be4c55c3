"""What recipes of images and of sentences have in common: a name, how they are found and read, and their TOML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field

from dalipipe.recipes.ops.base import Arguments, tables_of
from dalipipe.recipes.reading import Written, is_file, parse_recipe, read_recipe


class NamedOps(BaseModel):
    """A named list of ops, as data.

    Attributes:
        name: Short name, as in the file name.
        description: One sentence.
        evaluation: Name or path of the recipe for evaluation; empty for the one derived by `eval_twin`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    description: str = ""
    evaluation: str = ""

    @classmethod
    def load(cls, recipe: Self | str | Path) -> Self:
        """Return the recipe of that name, or the one in that TOML file; a Recipe is returned as it is.

        Args:
            recipe: A name, a path or a Recipe. A file that the recipe names may lie beside its own.

        Raises:
            RecipeError: no such recipe or file, a syntax error (with its line and column), ops that can't work, or a
                recipe of the other kind.
        """
        return recipe if isinstance(recipe, cls) else cls._of(read_recipe(recipe))  # type: ignore[arg-type]

    @classmethod
    def from_toml(cls, text: str, where: str = "recipe") -> Self:
        """Return the recipe that `text` describes.

        Args:
            text: TOML with `name` and a list of tables `[[ops]]`, each with `op` and its arguments.
            where: What to call the text in an error.

        Raises:
            RecipeError: syntax error (line and column), unknown key or op (nearest name suggested), bad value, ops that
                don't fit one another, or a recipe of the other kind.
        """
        return cls._of(parse_recipe(text, where))

    @classmethod
    def _of(cls, written: Written) -> Self:
        raise NotImplementedError

    def _beside(self, folder: Path | None) -> Self:
        """Return the recipe with the path of its twin for evaluation, where that is a file in `folder`."""
        twin = None if folder is None else folder / self.evaluation
        return self if twin is None or not is_file(twin) else self.model_copy(update={"evaluation": str(twin)})

    def _toml(self, ops: Sequence[Arguments], **more: Any) -> str:
        head = {"name": self.name, "description": self.description, "evaluation": self.evaluation, **more}
        head |= {"ops": tables_of(ops)}
        return tomli_w.dumps({key: value for key, value in head.items() if value})
