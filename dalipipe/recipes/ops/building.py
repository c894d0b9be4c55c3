"""Ops from tables of arguments, as a TOML file has them."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from dalipipe.errors import RecipeError, nearest, shown
from dalipipe.recipes.ops import OPS, Container, Op
from dalipipe.recipes.ops.refused import REFUSED
from dalipipe.recipes.ops.text import TEXT_OPS

MOST_OPS = 4096
"""Most ops of a recipe, those in others counted: far fewer than there are positions in `decisions.randomness`."""

DEEPEST = 64
"""How deep ops may stand in one another to be looked at at all."""


def check_number(count: int, where: str) -> None:
    """Refuse more ops than a recipe may have.

    Raises:
        RecipeError: it has more.
    """
    if count > MOST_OPS:
        raise RecipeError(f"{where}: a recipe may have {MOST_OPS:,} ops, got {count:,}. Remove some.")


def build_op(entry: Any, where: str, deep: int = 1) -> Op:
    """Return the op that a TOML table describes.

    Args:
        entry: The table.
        where: Begins the message.
        deep: How many ops it stands in, itself included.

    Raises:
        RecipeError: no `op` key, an unknown op, argument or value; the nearest name is suggested.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get("op"), str):
        raise RecipeError(
            f'{where}: must be a table with a text `op`, got {shown(entry)}. Write for example op = "CenterCrop".'
        )
    name = entry["op"]
    model = OPS.get(name) or TEXT_OPS.get(name)
    if name in REFUSED:
        raise RecipeError(f"{where}: {name} {'. '.join(REFUSED[name])}.")
    if model is None:
        hint = nearest(name, [*OPS, *TEXT_OPS])
        known = f"{', '.join(sorted(OPS))}; for text {', '.join(sorted(TEXT_OPS))}"
        raise RecipeError(f"{where}: unknown op {shown(name)}. {hint}There are: {known}.")
    inner = entry.get("ops")
    if issubclass(model, Container) and isinstance(inner, list | tuple):
        check_number(len(inner), where)
        if deep >= DEEPEST:
            raise RecipeError(f"recipe: ops may stand in one another {DEEPEST} deep, got more. Unfold them.")
        built = (
            child if isinstance(child, Op) else build_op(child, f"{where} ({name}): op {position}", deep + 1)
            for position, child in enumerate(inner, 1)
        )
        entry = {**entry, "ops": tuple(built)}
    try:
        return model(**entry)
    except ValidationError as error:
        raise RecipeError(first_problem(f"{where} ({name})", error, model.model_fields)) from error


def first_problem(where: str, error: ValidationError, fields: Any) -> str:
    """Return one line about what pydantic found: a misspelt name rather than the argument that it leaves missing."""
    problem = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    at = ".".join(
        str(part) for part in problem["loc"] if not str(part).startswith(("function-", "tuple[", "constrained"))
    )
    if problem["type"] == "extra_forbidden":
        names = ", ".join(name for name in fields if name != "op")
        return f"{where}: unknown argument {shown(at)}. {nearest(at, fields)}There are: {names}."
    message = problem["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if problem["type"] == "missing":
        return f"{where}: {at} is missing. Add it."
    got = "" if problem["type"] == "value_error" else f", got {shown(problem['input'])}"
    return f"{where}: {at + ': ' if at else ''}{message}{got}. Correct it."
