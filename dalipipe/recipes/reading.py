"""Recipes as they are written: TOML files by name or path, taken apart into tables; of images and sentences alike."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dalipipe.errors import RecipeError, nearest, shown

Kind = Literal["image", "text"]
"""What a recipe works on."""

TEXT_OPS = frozenset(
    ("Lowercase", "OneOf", "RandomDeletion", "RandomInsertion", "RandomReplacement", "RandomReversal", "RandomSwap")
)
"""The names of the ops of `dalipipe.text`, which lies above this: their place must be known to who reads them here."""

MOST_OPS = 4096
"""Most ops of a recipe, those in others counted: far fewer than there are positions in `decisions.randomness`."""

MOST_VIEWS = 64
"""Most views that a recipe makes of an image."""

_OF_A_VIEW = ("count", "ops")


@dataclass(frozen=True)
class Written:
    """A recipe as it is written, before its ops are made.

    Attributes:
        where: What to call it in an error.
        head: All that is no op: the name at least.
        views: For each view of an image a list with a table for each op, as TOML has it; not checked.
        folder: Where its file lies; None for a text.
    """

    where: str
    head: dict[str, Any]
    views: list[list[Any]]
    folder: Path | None = None

    @property
    def kind(self) -> Kind:
        """What it works on: "text" where one of its ops is one of text."""
        return "text" if any(name in TEXT_OPS for name in self.names) else "image"

    @property
    def title(self) -> str:
        """What to call the recipe as a whole in an error: by name where it comes with dalipipe."""
        return f"recipe {shown(self.head['name'])}" if self.folder == recipes_dir() else self.where

    @property
    def names(self) -> list[str]:
        """The names of the ops, "" for a table without one."""
        tables = (table for view in self.views for table in view)
        found = [table.get("op") if isinstance(table, dict) else None for table in tables]
        return [name if isinstance(name, str) else "" for name in found]

    def only(self, names: Collection[str]) -> bool:
        """Return whether all ops have one of these names."""
        return all(name in names for name in self.names)


def recipes_dir() -> Path:
    """Return the folder with the recipes that come with dalipipe: inside the package, or beside it in a checkout."""
    inside = Path(__file__).parents[1] / "pipelines"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "pipelines"


def list_recipes(kind: Kind | None = None) -> dict[str, Path]:
    """Return the names of the recipes that come with dalipipe and their files, sorted by name.

    Args:
        kind: Only those of images ("image") or of sentences ("text"). Default: all.
    """
    known = {path.stem: path for path in sorted(recipes_dir().glob("*.toml"))}
    return {name: path for name, path in known.items() if kind is None or read_recipe(path).kind == kind}


def read_recipe(recipe: str | Path) -> Written:
    """Return what is written in the recipe of that name, or in that TOML file.

    A file that has the name of a recipe that comes with dalipipe is called as the file is.

    Raises:
        RecipeError: no such recipe or file, a syntax error (with its line and column), or no ops.
    """
    path = _find(recipe)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise RecipeError(f"recipe: can't read {str(path)!r}: {reason}. Give the path of a TOML file.") from error
    written = parse_recipe(text, str(path), path.parent)
    if written.head["name"] in list(list_recipes()):  # a copy to be changed, which is no longer what it is called
        written.head["name"] = path.stem
    return written


def parse_recipe(text: str, where: str, folder: Path | None = None) -> Written:
    """Return what a TOML text has: a `name`, a list of tables `[[ops]]`, each with `op` and its arguments.

    With `views = 2` these ops make so many views of each image; or there is a list of tables `[[views]]` instead, each
    with its own `[[views.ops]]` and how many of these views there are, `count`, by default 1.

    Raises:
        RecipeError: a syntax error (with its line and column), no ops, or too many ops or views.
    """
    try:
        head = tomllib.loads(text)
    except RecursionError:
        raise RecipeError(f"{where}: not valid TOML: nested too deeply. Remove some brackets.") from None
    except ValueError as error:  # TOMLDecodeError, or a number that Python holds too long to read
        raise RecipeError(f"{where}: not valid TOML: {error}. Correct that place.") from error
    views = _views(head, where)
    head.setdefault("name", Path(where).stem)
    return Written(where, head, views, folder)


def _views(head: dict[str, Any], where: str) -> list[list[Any]]:
    """Take the ops of each view out of what is written."""
    tables, views = head.pop("ops", None), head.pop("views", 1)
    if not isinstance(views, list):
        return [_tables(tables, where)] * _count(views, f"{where}: views")
    if tables is not None:
        raise RecipeError(
            f"{where}: a recipe has its ops in [[ops]] or in [[views.ops]], got both. Write them into each [[views]]."
        )
    found: list[list[Any]] = []
    for number, view in enumerate(views, 1):
        place = f"{where}: [[views]] {number}"
        if not isinstance(view, dict):
            raise RecipeError(f"{place}: must be a table with ops, got {shown(view)}. Write [[views.ops]].")
        unknown = next((name for name in view if name not in _OF_A_VIEW), None)
        if unknown is not None:
            raise RecipeError(
                f"{place}: unknown key {shown(unknown)}. {nearest(unknown, _OF_A_VIEW)}There are: count, ops."
            )
        found += [_tables(view.get("ops"), place, "views.ops")] * _count(view.get("count", 1), f"{place}: count")
    _count(len(found), f"{where}: views")
    return found


def _tables(tables: Any, where: str, name: str = "ops") -> list[Any]:
    if not isinstance(tables, list) or not tables:
        raise RecipeError(f"{where}: a recipe needs at least one [[{name}]] table, got none. Add one.")
    check_number(len(tables), where)
    return tables


def _count(value: Any, what: str) -> int:
    if type(value) is not int or not 1 <= value <= MOST_VIEWS:
        raise RecipeError(
            f"{what}: must be a whole number from 1 to {MOST_VIEWS} (or [[views]], tables with ops of their own), got"
            f" {shown(value)}. Correct it."
        )
    return value


def check_number(count: int, where: str) -> None:
    """Refuse more ops than a recipe may have.

    Raises:
        RecipeError: it has more.
    """
    if count > MOST_OPS:
        raise RecipeError(f"{where}: a recipe may have {MOST_OPS:,} ops, got {count:,}. Remove some.")


def check_views(count: int, where: str) -> None:
    """Refuse more views than a recipe may have.

    Raises:
        RecipeError: it has more.
    """
    if count > MOST_VIEWS:
        raise RecipeError(f"{where}: a recipe may have {MOST_VIEWS} views, got {count}. Remove some.")


def is_file(path: Path) -> bool:
    """Return whether there is a file; False too where that can't be found out."""
    try:
        return path.is_file()
    except OSError:  # a name too long, a folder that can't be searched
        return False


def _find(recipe: str | Path) -> Path:
    if not isinstance(recipe, str | os.PathLike):
        raise RecipeError(
            f"recipe: must be a name, the path of a TOML file or a recipe of the kind that is needed here, got "
            f"{shown(recipe)}. Recipes of images are dalipipe.Recipe, those of sentences dalipipe.text.Recipe."
        )
    known = list_recipes()
    if str(recipe) in known:
        return known[str(recipe)]
    path = Path(recipe)
    if path.suffix == ".toml" or is_file(path):
        return path
    if str(recipe) == "auto":
        raise RecipeError(
            "recipe: must be a name or the path of a TOML file, got 'auto', which only training has: it depends on the "
            "weights. Give the recipe.toml in the output of a run."
        )
    raise RecipeError(
        f"recipe: there is no recipe named {str(recipe)!r}. {nearest(str(recipe), known)}"
        f"Known: {', '.join(known)}; a file must end in .toml."
    )
