"""Ops from tables of arguments, as a TOML file has them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from dalipipe.errors import RecipeError, nearest, shown
from dalipipe.recipes.ops import OPS, Container, Op, Python
from dalipipe.recipes.ops.refused import REFUSED
from dalipipe.recipes.reading import TEXT_OPS, check_number

DEEPEST = 64
"""How deep ops may stand in one another to be looked at at all."""

AnyOp = TypeVar("AnyOp", bound=BaseModel)


@dataclass(frozen=True)
class Registry(Generic[AnyOp]):
    """The ops that a recipe of one kind may have.

    Attributes:
        ops: Name -> class.
        base: What all of them are.
        containers: Those that hold other ops, in `ops`.
        noun: What they work on.
        others: The names of the ops that work on something else.
        other: What that is.
        home: The class of the recipes that hold `others`.
        example: How an op is written.
        refused: Name -> why it can't be an op, and what to do instead.
    """

    ops: Mapping[str, type[AnyOp]]
    base: type[AnyOp]
    containers: tuple[type[AnyOp], ...]
    noun: str
    others: Collection[str]
    other: str
    home: str
    example: str
    refused: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def build(self, entry: Any, where: str, deep: int = 1) -> AnyOp:
        """Return the op that a TOML table describes.

        Args:
            entry: The table.
            where: Begins the message.
            deep: How many ops it stands in, itself included.

        Raises:
            RecipeError: no `op` key, an unknown op, argument or value (the nearest name is suggested), or an op of the
                other kind.
        """
        if not isinstance(entry, dict) or not isinstance(entry.get("op"), str):
            raise RecipeError(
                f"{where}: must be a table with a text `op`, got {shown(entry)}. Write for example {self.example}."
            )
        model = self._find(entry["op"], where)
        inner = entry.get("ops")
        if issubclass(model, self.containers) and isinstance(inner, list | tuple):
            check_number(len(inner), where)
            if deep >= DEEPEST:
                raise RecipeError(f"recipe: ops may stand in one another {DEEPEST} deep, got more. Unfold them.")
            built = (
                child
                if isinstance(child, self.base)
                else self.build(child, f"{where} ({entry['op']}): op {position}", deep + 1)
                for position, child in enumerate(inner, 1)
            )
            entry = {**entry, "ops": tuple(built)}
        try:
            return model(**entry)
        except ValidationError as error:
            raise RecipeError(first_problem(f"{where} ({entry['op']})", error, model.model_fields)) from error

    def _find(self, name: str, where: str) -> type[AnyOp]:
        if name in self.refused:
            raise RecipeError(f"{where}: {name} {'. '.join(self.refused[name])}.")
        if name in self.others:
            raise RecipeError(
                f"{where}: {name} is an op for {self.other}, and this is a recipe for {self.noun}. "
                f"Put it into a recipe of its own, a {self.home}."
            )
        if name not in self.ops:
            hint = nearest(name, [*self.ops, *self.others])
            known = f"{', '.join(sorted(self.ops))}; for {self.other} {', '.join(sorted(self.others))}"
            raise RecipeError(f"{where}: unknown op {shown(name)}. {hint}There are: {known}.")
        return self.ops[name]


IMAGE_OPS: Registry[Op] = Registry(
    ops={**OPS, "Python": Python},
    base=Op,
    containers=(Container,),
    noun="images",
    others=TEXT_OPS,
    other="sentences",
    home="dalipipe.text.Recipe",
    example='op = "CenterCrop"',
    refused=REFUSED,
)


def build_op(entry: Any, where: str) -> Op:
    """Return the op on images that a TOML table describes, as `Registry.build` does."""
    return IMAGE_OPS.build(entry, where)


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
