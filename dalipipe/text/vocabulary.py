"""Where inserted and replacing words come from: the data set's own words, a list, a table of synonyms, WordNet."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Protocol

from dalipipe.errors import ConfigError, SourceError, SourceNotFoundError
from dalipipe.text.ops import SYNONYM_TABLE
from dalipipe.text.segment import Segmenter

_CACHED_WORDS = 65_536


class Lexicon(Protocol):
    """What the ops ask of a vocabulary. `u` is a uniform random number in [0, 1)."""

    def offers(self, word: str) -> bool:
        """Return whether there is a word that can replace `word`."""

    def replacement(self, word: str, u: float) -> str:
        """Return a word other than `word` that replaces it; only for a word that `offers` accepts."""

    def inspirations(self, words: list[str]) -> list[str] | None:
        """Return those words of a sentence that call for a word to insert; None where it comes of itself."""

    def insertion(self, inspiration: str, u: float) -> str:
        """Return a word to insert."""


class Vocabulary:
    """Words with weights: a word is drawn as often as its weight says.

    Args:
        weights: Each word's weight, > 0. Their order is part of the decisions: the same mapping, the same draws.

    Raises:
        SourceError: no word at all, a blank word, or a weight that is not > 0.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        if not weights:
            raise SourceError("vocabulary: must hold at least one word, got none. Give sentences with words in them.")
        for row, (word, weight) in enumerate(weights.items()):
            if not isinstance(word, str) or not word.strip():
                raise SourceError(f"vocabulary: word {row} must be a text that is not blank, got {word!r}. Remove it.")
            if not 0 < weight < float("inf"):
                raise SourceError(f"vocabulary: the weight of {word!r} must be > 0, got {weight!r}. Correct it.")
        self._words = list(weights)
        self._ends = list(accumulate(float(weight) for weight in weights.values()))
        self._places = {word: place for place, word in enumerate(self._words)}

    @classmethod
    def from_sentences(cls, sentences: Iterable[str], segmenter: Segmenter | None = None) -> Vocabulary:
        """Return the words of a data set, weighted by how often they occur, as they are written there.

        Raises:
            SourceError: a row that is not a string, or no word in any of them.
        """
        segmenter = segmenter or Segmenter()
        counts: Counter[str] = Counter()
        rows = 0
        for row, sentence in enumerate([sentences] if isinstance(sentences, str) else sentences):
            counts.update(segmenter(require_text(sentence, "vocabulary", row)).words)
            rows = row + 1
        if not counts:
            raise SourceError(
                f"vocabulary: must hold at least one word, got none in {rows} sentences. Give some with words in them."
            )
        return cls(dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))))

    def __len__(self) -> int:
        return len(self._words)

    def __contains__(self, word: object) -> bool:
        return word in self._places

    @property
    def words(self) -> tuple[str, ...]:
        """The words, in their order."""
        return tuple(self._words)

    def draw(self, u: float) -> str:
        """Return the word at the fraction `u` of the weights."""
        return self._words[bisect_right(self._ends, u * self._ends[-1], hi=len(self._words) - 1)]

    def offers(self, word: str) -> bool:
        """Return whether there is another word."""
        return len(self._words) > 1 or word not in self._places

    def replacement(self, word: str, u: float) -> str:
        """Return another word, drawn by weight."""
        place = self._places.get(word)
        if place is None:
            return self.draw(u)
        before = self._ends[place - 1] if place else 0.0
        weight = self._ends[place] - before
        at = u * (self._ends[-1] - weight)
        if at < before:
            return self._words[bisect_right(self._ends, at, hi=place - 1)]
        return self._words[bisect_right(self._ends, at + weight, lo=place + 1, hi=len(self._words) - 1)]

    def inspirations(self, words: list[str]) -> list[str] | None:
        """Return None: the words come by their weight, whatever the sentence."""
        return None

    def insertion(self, inspiration: str, u: float) -> str:
        """Return a word drawn by weight."""
        return self.draw(u)


class Synonyms:
    """Words that can stand for others. A word is looked up as it is written, then in lower case.

    Args:
        table: The synonyms of each word.

    Raises:
        SourceError: a table without a synonym.
    """

    def __init__(self, table: Mapping[str, Iterable[str]]) -> None:
        self._table = {word: tuple(dict.fromkeys(others)) for word, others in table.items()}
        self._cache: dict[str, tuple[str, ...]] = {}
        if not any(self._table.values()):
            raise SourceError("synonyms: must hold at least one word with a synonym, got none. Add a row.")

    def _find(self, word: str) -> tuple[str, ...]:
        return self._table.get(word, ())

    def of(self, word: str) -> tuple[str, ...]:
        """Return the synonyms of a word, itself not among them."""
        found = self._cache.get(word)
        if found is None:
            if len(self._cache) >= _CACHED_WORDS:
                self._cache.clear()
            others = self._find(word) or self._find(word.lower())
            found = tuple(other for other in others if other.lower() != word.lower())
            self._cache[word] = found
        return found

    def offers(self, word: str) -> bool:
        """Return whether the word has a synonym."""
        return bool(self.of(word))

    def replacement(self, word: str, u: float) -> str:
        """Return one of the word's synonyms, each as likely as the others."""
        others = self.of(word)
        return others[int(u * len(others))]

    def inspirations(self, words: list[str]) -> list[str] | None:
        """Return the words that have a synonym."""
        return [word for word in words if self.of(word)]

    def insertion(self, inspiration: str, u: float) -> str:
        """Return one of the synonyms of a word that has some, each as likely as the others."""
        return self.replacement(inspiration, u)


class WordNet(Synonyms):
    """WordNet's synonyms, through nltk: the lemmas of all synsets of a word, as in EDA.

    Raises:
        ConfigError: nltk or WordNet's data is not there.
    """

    def __init__(self) -> None:
        advice = "or give the path of a .tsv file with synonyms as vocabulary."
        try:
            from nltk.corpus import wordnet
        except ImportError as error:
            raise ConfigError(
                f'vocabulary "wordnet": needs the package nltk, got none. Install it (pip install nltk), {advice}'
            ) from error
        try:
            wordnet.ensure_loaded()
        except LookupError as error:
            raise ConfigError(
                'vocabulary "wordnet": needs the WordNet data of nltk, got none on this machine. '
                f"Fetch it (python -m nltk.downloader wordnet), {advice}"
            ) from error
        self._cache = {}

    def _find(self, word: str) -> tuple[str, ...]:
        from nltk.corpus import wordnet

        found = {name.replace("_", " ") for synset in wordnet.synsets(word) for name in synset.lemma_names()}
        return tuple(sorted(found))


def require_text(value: object, where: str, row: int) -> str:
    """Return `value` where it is a string.

    Raises:
        SourceError: it is something else; the message gives the row.
    """
    if isinstance(value, str):
        return value
    shown = repr(value)
    shown = shown if len(shown) <= 40 else shown[:37] + "..."
    raise SourceError(
        f"{where}: row {row} must be a string, got {shown} ({type(value).__name__}). Drop that row or give it a text."
    )


def read_lexicon(source: str | tuple[str, ...]) -> Lexicon:
    """Return what the `vocabulary` of an op names, other than "dataset".

    Args:
        source: Words, "wordnet", or the path of a .txt or .tsv file. UTF-8; blank lines and lines that begin with # are
            skipped.

    Raises:
        SourceError: the file can't be read, holds no word, or has a row without a synonym; the message gives the line.
        ConfigError: WordNet is not there.
    """
    if isinstance(source, tuple):
        return Vocabulary(Counter(source))
    if source == "wordnet":
        return WordNet()
    path = Path(source)
    rows = _rows(path)
    if path.suffix != SYNONYM_TABLE:
        if not rows:
            raise SourceError(f"{path}: must hold at least one word, got none. Write a word a line.")
        return Vocabulary(Counter(line for _, line in rows))
    table: dict[str, list[str]] = {}
    for number, line in rows:
        word, *others = [cell.strip() for cell in line.split("\t")]
        others = [other for other in others if other]
        if not word or not others:
            raise SourceError(f"{path}: line {number} must hold a word and a synonym with a tab between, got {line!r}.")
        table.setdefault(word, []).extend(others)
    if not table:
        raise SourceError(f"{path}: must hold at least one word with a synonym, got none. Write word, tab, synonym.")
    return Synonyms(table)


def _rows(path: Path) -> list[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"{path}: a vocabulary file must exist, got none. Correct the path.") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise SourceError(f"{path}: a vocabulary must be readable, got: {reason}. Save it as UTF-8 text.") from error
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]
