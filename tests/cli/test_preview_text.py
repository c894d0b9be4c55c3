"""`dalipipe preview FILE.txt`: the file's sentences, their variants, and what changed in colour."""

import io
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from dalipipe.cli import preview
from dalipipe.cli.preview_text import GONE, MOVED, NEW, TextPreview
from dalipipe.errors import ConfigError, DalipipeError, RecipeError, SourceError, SourceNotFoundError
from dalipipe.text import Recipe, TextAugment

SENTENCES = ["The quick brown fox jumps over the lazy dog.", "", "Eight words are in this short second line."]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sentences.txt"
    path.write_text("\n".join(SENTENCES), encoding="utf-8")
    return path


def run(*arguments: object) -> str:
    app = typer.Typer()
    app.callback()(lambda: None)
    preview.register(app)
    result = CliRunner().invoke(app, ["preview", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def spans(text):
    return {(text.plain[span.start : span.end], str(span.style)) for span in text.spans if span.style}


def test_originals_and_their_variants_are_printed(file):
    shown = run(file, "--recipe", "text-light", "--variants", 3, "--seed", 5, "--epoch", 2)
    augment = TextAugment("text-light", vocabulary=SENTENCES, seed=5)
    augment.set_epoch(2)
    lines = shown.splitlines()
    assert lines[0].startswith("text-light: ")
    assert f"   1  {SENTENCES[0]}" in lines
    assert f"   3  {SENTENCES[2]}" in lines
    for index in (0, 2):
        start = lines.index(f"{index + 1:>4}  {SENTENCES[index]}") + 1
        for row, variant in zip(
            lines[start : start + 3], augment.variants(SENTENCES[index], 3, index=index), strict=True
        ):
            words = row.split()[1:]
            assert [word for word in variant.split() if word not in words] == []
    assert run(file, "--recipe", "text-light", "--lines", 1).count("Eight") == 0


def test_text_eda_takes_the_words_of_the_file(file):
    shown = run(file, "--recipe", "text-eda", "--variants", 50, "--lines", 1)
    assert any(word in shown for word in ("Eight", "short", "second"))


def test_colours_mark_new_moved_and_gone_words(file):
    compare = TextPreview(file, Recipe.load("text-light"), 0, 0).compare
    inserted = compare("a b, c", "a x b, c")
    assert (inserted.plain, spans(inserted)) == ("a x b, c", {("x", NEW)})
    replaced = compare("a b, c", "a x, c")
    assert (replaced.plain, spans(replaced)) == ("a b x, c", {("b", GONE), ("x", NEW)})
    deleted = compare("a b, c", "a, c")
    assert spans(deleted) == {("b", GONE)}
    assert compare("a b, c", "b, c").plain == "a b, c"
    swapped = compare("a b c", "c b a")
    assert swapped.plain == "c b a"
    assert {style for _, style in spans(swapped)} == {MOVED}
    same = compare("a b, c", "a b, c")
    assert (same.plain, spans(same)) == ("a b, c", set())


def test_a_terminal_gets_colour(file):
    out = io.StringIO()
    TextPreview(file, Recipe.load("text-eda"), 0, 0).show(Console(file=out, force_terminal=True, width=200), 2, 20)
    assert "\x1b[1;32m" in out.getvalue()


def test_control_characters_of_a_file_reach_no_terminal(tmp_path):
    path = tmp_path / "odd.txt"
    path.write_text("one \x1b[31mtwo\x07 three\tfour", encoding="utf-8")
    shown = run(path, "--recipe", "text-light")
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert r"one \x1b[31mtwo\x07 three four" in shown


@pytest.mark.parametrize(
    ("name", "content", "recipe", "kind", "message"),
    [
        ("none.txt", None, "text-eda", SourceNotFoundError, r"none\.txt"),
        ("latin.txt", b"caf\xe9", "text-eda", SourceError, "not UTF-8"),
        ("empty.txt", b"", "text-eda", SourceError, "got none in 0 sentences"),
        ("fine.txt", b"one two", "imagenet-train", RecipeError, "a recipe of text ops is needed here"),
        ("fine.txt", b"one two", "text-ed", RecipeError, "Did you mean 'text-eda'"),
        ("photo.jpg", b"", "imagenet-train", ConfigError, "--output: must name a file"),
    ],
)
def test_mistakes_are_one_line(tmp_path, name, content, recipe, kind, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(kind, match=message) as caught:
        run(tmp_path / name, "--recipe", recipe)
    assert isinstance(caught.value, DalipipeError)
    assert "\n" not in str(caught.value)
