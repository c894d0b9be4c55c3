"""From a sentence to words and the gaps around them, and back without a loss.

A word is a run of letters, digits and marks (accents, vowel signs), with single apostrophes, hyphens and, between
digits, points and commas inside it. All else is a gap: white space, punctuation, emoji. In scripts that are written
without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) a word is one character with its marks; runs of Chinese
characters are cut into words by jieba where that is asked for or installed.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import sys
import unicodedata
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from dalipipe.errors import ConfigError

SegmenterName = Literal["auto", "jieba", "characters"]

_FIRST_SPACELESS = "\u0e00"
_HAN = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd"
_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u19e0-\u19ff"  # Thai and Lao, Burmese, Khmer and its symbols
    "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u31f0-\u31ff\uff66-\uff9d"  # kana, bopomofo
    + _HAN
)
_OPENING = "([{<\u00ab\u2018\u201c\"'"
_JOIN = r"(?:['\u2019-]|(?<=\d)[.,](?=\d))"

_ASCII_WORDS = re.compile(rf"(\w+(?:{_JOIN}\w+)*)", re.ASCII)
_ASCII_RUNS = re.compile(r"(\w+)", re.ASCII)
_JOINERS = frozenset("'-.,")
_IS_SPACELESS = re.compile(f"[{_SPACELESS}]")


@dataclass(slots=True)
class Sentence:
    """A sentence taken apart: `gaps[0] + words[0] + gaps[1] + ... + words[-1] + gaps[-1]` is its text."""

    words: list[str]
    gaps: list[str]

    def text(self) -> str:
        """Return the sentence, with a space where two words of a script with spaces would run together."""
        words, gaps = self.words, self.gaps
        if "" in gaps[1:-1]:
            gaps = [gaps[0], *map(_unglued, gaps[1:-1], words, words[1:]), gaps[-1]] if len(words) > 1 else gaps
        pieces = [""] * (2 * len(words) + 1)
        pieces[0::2] = gaps
        pieces[1::2] = words
        return "".join(pieces)

    def insert(self, place: int, word: str) -> None:
        """Put a word before the one at `place`, behind the gap that is there."""
        self.gaps.insert(place + 1, joiner(word, self.words[place]))
        self.words.insert(place, word)

    def delete(self, places: list[int]) -> None:
        """Take the words at `places`, in ascending order, away, and with each the white space on one of its sides."""
        words, gaps = self.words, self.gaps
        kept: list[str] = []
        between, begin, last = [gaps[0]], 0, len(words) - 1
        for place in places:
            kept += words[begin:place]
            between += gaps[begin + 1 : place + 1]
            between[-1] = _merged(between[-1], gaps[place + 1], at_start=not kept, at_end=place == last)
            begin = place + 1
        self.words = kept + words[begin:]
        self.gaps = between + gaps[begin + 1 :]


def _is_spaceless(char: str) -> bool:
    return char >= _FIRST_SPACELESS and _IS_SPACELESS.match(char) is not None


def joiner(left: str, right: str) -> str:
    """Return what stands between two words that meet: nothing beside a script without spaces, otherwise a space."""
    return "" if _is_spaceless(left[-1]) or _is_spaceless(right[0]) else " "


def _unglued(gap: str, left: str, right: str) -> str:
    return gap or joiner(left, right)


def _merged(left: str, right: str, at_start: bool, at_end: bool) -> str:
    """Return the gap that is left when the word between two gaps goes: all punctuation, one of the two white spaces."""
    if left == right == " ":
        return left
    before, after = left.rstrip(), right.lstrip()
    white_before, white_after = left[len(before) :], right[: len(right) - len(after)]
    if white_before and white_after:
        lines_more = white_after.count("\n") > white_before.count("\n")
        return before + (white_after if lines_more else white_before) + after
    if white_before and (after or at_end) and not (at_start and not before):
        return before + after  # "a big." becomes "a."
    if white_after and (left[-1] in _OPENING if left else at_start):
        return left + after  # "A big" becomes "big", "(a big)" becomes "(big)"
    return left + right


@lru_cache(maxsize=1)
def _marks() -> str:
    """Return the combining marks and the joiners of scripts as the inside of a character class."""
    ranges: list[list[int]] = []
    for code in (*range(0x300, 0x1F000), *range(0xE0100, 0xE01F0)):
        if unicodedata.category(chr(code))[0] == "M" or code in (0x200C, 0x200D):
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


@lru_cache(maxsize=2)
def _pattern(han_runs: bool) -> re.Pattern[str]:
    """Return the pattern of a word in any script; with `han_runs` Chinese characters in a row are one word."""
    marks = _marks()
    letter = rf"[^\W{_SPACELESS}][{marks}]*"
    spaceless = rf"[{_SPACELESS}][{marks}]*"
    if han_runs:
        spaceless = f"[{_HAN}]+|{spaceless}"
    return re.compile(f"({spaceless}|(?:{letter})+(?:{_JOIN}(?:{letter})+)*)")


class Segmenter:
    """Takes sentences apart. The same sentence gives the same words, whatever else was taken apart before.

    Args:
        name: "jieba" cuts Chinese into words, "characters" into characters, "auto" is jieba where it is installed.

    Attributes:
        name: "jieba" or "characters".

    Raises:
        ConfigError: jieba is asked for and not installed, or an unknown name.
    """

    def __init__(self, name: SegmenterName = "auto") -> None:
        if name not in ("auto", "jieba", "characters"):
            raise ConfigError(
                f"segmenter: must be 'auto', 'jieba' or 'characters', got {name!r}. Choose one of the three."
            )
        installed = "jieba" in sys.modules or importlib.util.find_spec("jieba") is not None
        if name == "jieba" and not installed:
            raise ConfigError(
                "segmenter: 'jieba' needs the package jieba, got none installed. "
                "Install it (pip install jieba), or take 'characters'."
            )
        self.name: Literal["jieba", "characters"] = "jieba" if installed and name != "characters" else "characters"

    def __call__(self, text: str) -> Sentence:
        """Return the sentence in pieces."""
        if text.isascii():
            pieces = _ASCII_RUNS.split(text)  # faster, and the same where nothing joins two runs
            if not _JOINERS.isdisjoint(pieces[2:-1:2]):
                pieces = _ASCII_WORDS.split(text)
            return Sentence(pieces[1::2], pieces[0::2])
        pieces = _pattern(self.name == "jieba").split(text)
        sentence = Sentence(pieces[1::2], pieces[0::2])
        return self._cut_chinese(sentence) if self.name == "jieba" else sentence

    def _cut_chinese(self, sentence: Sentence) -> Sentence:
        words, gaps = [], [sentence.gaps[0]]
        for word, gap in zip(sentence.words, sentence.gaps[1:], strict=True):
            parts = _jieba()(word) if len(word) > 1 and _is_spaceless(word[0]) else [word]
            words.extend(parts)
            gaps.extend([""] * (len(parts) - 1) + [gap])
        return Sentence(words, gaps)


@lru_cache(maxsize=1)
def _jieba() -> Callable[[str], list[str]]:
    """Return jieba's cut, its dictionary loaded without its messages."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its modules use what newer Pythons and setuptools warn of
        import jieba
    tokenizer = jieba.Tokenizer()
    logger = logging.getLogger("jieba")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        tokenizer.initialize()
    finally:
        logger.setLevel(level)

    def cut(text: str) -> list[str]:
        return [str(word) for word in tokenizer.cut(text)]

    return cut
