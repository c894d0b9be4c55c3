"""Sentences and their variants, in colour: new words, words that moved, words that went."""

from __future__ import annotations

from collections import Counter
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from dalipipe.errors import SourceError, SourceNotFoundError

if TYPE_CHECKING:
    from dalipipe.text import Recipe

SENTENCE_FILES = (".txt",)
NEW, MOVED, GONE = "bold green", "yellow", "red strike"
_COMPARED = 2000  # words: comparing takes time that grows with their square


class TextPreview:
    """The sentences of a file, and what a recipe makes of them.

    Args:
        path: UTF-8 text with a sentence on each line. Its words are the vocabulary of the data set.
        recipe: A text recipe.
        seed: Seed of the random decisions.
        epoch: Epoch of the random decisions. A sentence's index is the number of its line, from 0.

    Raises:
        SourceError: the file can't be read, or holds no word.
    """

    def __init__(self, path: Path, recipe: Recipe, seed: int, epoch: int) -> None:
        from dalipipe.text import TextAugment

        self.recipe = recipe
        self._lines = _read(path)
        self._augment = TextAugment(recipe, vocabulary=self._lines, seed=seed)
        self._augment.set_epoch(epoch)

    def show(self, console: Console, lines: int, variants: int) -> None:
        """Print the first sentences that are not blank, each with its variants below."""
        title = f"{self.recipe.name}: {self.recipe.description}" if self.recipe.description else self.recipe.name
        console.print(Text(_visible(title), style="bold"))
        legend = (("new word", NEW), ("  ", ""), ("moved word", MOVED), ("  ", ""), ("word that went", GONE))
        console.print(Text.assemble(*legend))
        shown = [(number, line) for number, line in enumerate(self._lines) if line.strip()][:lines]
        for number, line in shown:
            console.print()
            console.print(Text.assemble((f"{number + 1:>4}  ", "cyan"), (_visible(line), "bold")))
            for place, variant in enumerate(self._augment.variants(line, variants, index=number), 1):
                console.print(Text.assemble((f"{place:>6}  ", "dim"), self.compare(line, variant)))

    def compare(self, original: str, variant: str) -> Text:
        """Return the variant with its new words, its moved ones and those that went marked."""
        before, after = self._augment.segmenter(original), self._augment.segmenter(variant)
        if max(len(before.words), len(after.words)) > _COMPARED:
            return Text(_visible(variant))
        added = Counter(after.words) - Counter(before.words)
        lost = Counter(before.words) - Counter(after.words)
        text, gone = Text(), False
        matcher = SequenceMatcher(None, before.words, after.words, autojunk=False)
        for action, start, end, first, last in matcher.get_opcodes():
            for word in before.words[start:end] if action in ("delete", "replace") else ():
                if lost[word]:
                    lost[word] -= 1
                    text.append(" " if text and not text.plain.endswith(" ") else "")
                    text.append(_visible(word), GONE)
                    gone = True
            for place in range(first, last):
                word, gap = after.words[place], after.gaps[place]
                text.append(_visible(gap) or (" " if gone else ""))
                gone = False
                if action == "equal":
                    text.append(_visible(word))
                    continue
                text.append(_visible(word), NEW if added[word] else MOVED)
                added[word] -= 1
        return text.append(_visible(after.gaps[-1]))


def _visible(text: str) -> str:
    """Return the text with white space as spaces and what a terminal would obey or can't show escaped."""
    spaced = "".join(" " if char.isspace() else char for char in text)
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in spaced)


def _read(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"{path}: a file with sentences must exist, got none. Correct the path.") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise SourceError(
            f"{path}: must be readable text, got: {reason}. Give a file with a sentence a line."
        ) from error
