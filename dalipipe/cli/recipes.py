"""`dalipipe recipes` and `dalipipe show`: which recipes there are, and what one does step by step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dalipipe.cli.console import printable, results
from dalipipe.errors import BackendError, RecipeError
from dalipipe.recipes import Recipe, list_recipes
from dalipipe.recipes.ops import Container, Op, Resize
from dalipipe.recipes.reading import read_recipe

if TYPE_CHECKING:
    from dalipipe.text import Recipe as TextRecipe
    from dalipipe.text.ops import TextOp

_WIDTH = 120  # where there is no terminal


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command("recipes")(recipes)
    app.command("show")(show)


def recipes() -> None:
    """List the recipes that come with dalipipe."""
    console = results()
    known = list_recipes()
    width = max(len(name) for name in known)
    for name in known:
        line = Text(f"{name:{width}}  {read_recipe(name).head.get('description', '')}")
        line.stylize("bold", 0, len(name))
        console.print(line)
    console.print()
    console.print("dalipipe show RECIPE says what one does. Your own is a TOML file: give its path as RECIPE.")
    console.print("dalipipe show RECIPE --toml prints one to start from.")


def show(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name or a TOML file.")],
    backend: Annotated[
        str | None,
        typer.Option("--backend", help="Only this backend's operators. Default: all.", metavar="NAME"),
    ] = None,
    toml: Annotated[bool, typer.Option("--toml", help="Print the recipe's TOML and nothing else.")] = False,
) -> None:
    """Show a recipe step by step: shapes, and what each backend runs."""
    if read_recipe(recipe).kind == "text":
        from dalipipe.text import Recipe as TextRecipe

        loaded_text = TextRecipe.load(recipe)
        if toml:
            typer.echo(_source_text(recipe), nl=False)
        else:
            _describe_text(loaded_text, results())
        return
    loaded = Recipe.load(recipe)
    if toml:
        typer.echo(_source_text(recipe), nl=False)
        return
    from dalipipe.backends import BACKENDS, resolve_backend  # imports torch, which takes seconds

    # The operators of dali-gpu can be told without a GPU; another name that is not there is an error.
    names = list(BACKENDS) if backend is None else [backend if backend in BACKENDS else resolve_backend(backend)]
    console = results()
    if not console.is_terminal:
        console.width = _WIDTH
    _describe(loaded, console)
    for title, operators in _operators(loaded, names).items():
        console.print()
        console.print(Text(f"on {title}", style="bold"))
        if isinstance(operators, BackendError):
            console.print(f"  {printable(operators)}", markup=False)
            continue
        left = iter(operators)
        for numbers, view in loaded.kinds.items():
            if loaded.other_ops:
                console.print(f"  view {numbers}", markup=False)
            console.print(_pairs([(op.op, next(left)) for op in view.ops]))


def _source_text(recipe: str) -> str:
    """Return the file as it is, with its comments."""
    path = list_recipes().get(recipe, Path(recipe))
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"recipe: can't read {str(path)!r}: {error.strerror}. Give another.") from error


def _describe(recipe: Recipe, console: Console) -> None:
    console.print(Text(recipe.name, style="bold"))
    if recipe.description:
        console.print(printable(recipe.description), markup=False)
    console.print()
    gives = []
    for numbers, view in recipe.kinds.items():
        start, *after = view.shapes()
        decoded = "the image as decoded" + (", turned as Exif says" if recipe.apply_exif_orientation else "")
        rows = [(decoded, str(start))]
        rows += [(_call(op), str(spec)) for op, spec in zip(view.ops, after, strict=True)]
        if recipe.other_ops:
            console.print(Text(f"view {numbers}", style="bold"))
        console.print(_pairs(rows, headings=("step", "height x width x channels after it")))
        console.print()
        channels, height, width = view.output_shape
        of_view = f" (view {numbers})" if recipe.other_ops else ""
        gives.append(f"(n, {channels}, {height}, {width}) {after[-1].dtype}{of_view}")
    twin = recipe.eval_twin()
    facts = {
        "gives": f"batches of {', '.join(gives)}",
        "random": "yes: decided by seed, epoch and image" if recipe.is_random else "no",
        "evaluation": "itself" if twin == recipe else twin.name + ("" if recipe.evaluation else " (derived from it)"),
        "fingerprint": recipe.fingerprint(),
    }
    for name, fact in facts.items():
        console.print(f"{name:12} {printable(fact)}", markup=False)


def _describe_text(recipe: TextRecipe, console: Console) -> None:
    console.print(Text(recipe.name, style="bold"))
    if recipe.description:
        console.print(printable(recipe.description), markup=False)
    console.print()
    for op in recipe.ops:
        console.print("\n".join(_text_lines(op)), markup=False)
    console.print()
    random = "yes: decided by seed, epoch and sentence" if recipe.is_random else "no"
    for name, fact in {"gives": "sentences", "random": random, "fingerprint": recipe.fingerprint()}.items():
        console.print(f"{name:12} {fact}", markup=False)


def _text_lines(op: TextOp) -> list[str]:
    """Return the op as it would be written in Python, long lists cut short; the ops within it below, indented."""
    arguments = []
    inner: tuple[TextOp, ...] = getattr(op, "ops", ())
    for name, value in op.arguments().items():
        if name == "ops":
            continue
        cut = (
            f"({', '.join(map(repr, value[:3]))}, ... {len(value)} in all)" if isinstance(value, list) else repr(value)
        )
        arguments.append(f"{name}={cut if not isinstance(value, list) or len(value) > 3 else tuple(value)}")
    return [printable(f"{op.op}({', '.join(arguments)})"), *(f"  {line}" for one in inner for line in _text_lines(one))]


def _call(op: Op) -> str:
    """Return the op as it would be written in Python, arguments that differ from their defaults only."""
    inner = [_call(child) for child in op.ops] if isinstance(op, Container) else []
    arguments = [f"[{', '.join(inner)}]"] if inner else []
    for name, value in op.arguments().items():
        if inner and name == "ops":
            continue
        parts = [_short(one) for one in value] if isinstance(value, list) else [_short(value)]
        one_for_all = name in ("mean", "std", "fill", "padding", "value") or (
            name == "size" and not isinstance(op, Resize)
        )
        single = len(parts) == 1 or (one_for_all and len(set(parts)) == 1)
        arguments.append(f"{name}={parts[0] if single else '(' + ', '.join(parts) + ')'}")
    return f"{op.op}({', '.join(arguments)})"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _operators(recipe: Recipe, backends: list[str]) -> dict[str, list[str] | BackendError]:
    """Return the operators of each backend; backends that run the same share a title."""
    from dalipipe.backends import describe_step

    titles: dict[tuple[str, ...], list[str]] = {}
    failed: dict[str, list[str] | BackendError] = {}
    for name in backends:
        try:
            steps = (step for view in recipe.kinds.values() for step in describe_step(view, name))
            titles.setdefault(tuple(steps), []).append(name)
        except BackendError as error:
            failed[name] = error
    return {", ".join(names): list(operators) for operators, names in titles.items()} | failed


def _pairs(rows: list[tuple[str, str]], headings: tuple[str, str] | None = None) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2), show_header=headings is not None)
    for heading in headings or ("", ""):
        table.add_column(heading, overflow="fold")
    for left, right in rows:
        table.add_row(Text(left), Text(right))
    return table
