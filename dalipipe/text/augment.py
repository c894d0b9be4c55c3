"""`TextAugment`: a text recipe that can be called."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from multiprocessing.context import get_spawning_popen
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from typing import Any, overload

from dalipipe.decisions.randomness import streams
from dalipipe.errors import ConfigError
from dalipipe.text.datasets import AugmentedDataset, BatchTransform
from dalipipe.text.edits import BoundOp
from dalipipe.text.recipe import Recipe
from dalipipe.text.segment import Segmenter, SegmenterName
from dalipipe.text.vocabulary import Lexicon, Vocabulary, read_lexicon, require_text

_CHUNK = 1024  # sentences taken apart at a time: enough for arrays to pay, few enough to stay in the cache
_LIMITS = {"seed": 2**64, "epoch": 2**32, "index": 2**32, "occurrence": 2**16}


class TextAugment:
    """Augments sentences as a text recipe says.

    ::

        sentences ─► segment: words and gaps ─► op 1 ─► op 2 ─► ... ─► sentences
                                                 ▲       ▲
                          numbers of (seed, epoch, sample index, occurrence, position of the op)

    A sentence's variant is a pure function of the sentence, the recipe, the vocabulary, the seed, the epoch, the
    sample's index and the occurrence. Batches, workers and order change nothing.

    Args:
        recipe: A text recipe, its name or the path of its TOML file.
        vocabulary: What "dataset" means in the recipe: the sentences of the data set, or a `Vocabulary` made of them.
        seed: 0 to 2**64 - 1.
        segmenter: "jieba" cuts Chinese into words, "characters" into characters, "auto" is jieba where it is installed.

    Raises:
        RecipeError: no such recipe, or one for images.
        ConfigError: a seed out of its range, or a recipe that needs a vocabulary where none is given.
        SourceError: a vocabulary without a word, or with a row that is not a string.
    """

    def __init__(
        self,
        recipe: Recipe | str | Path,
        *,
        vocabulary: Vocabulary | Iterable[str] | None = None,
        seed: int = 0,
        segmenter: SegmenterName = "auto",
    ) -> None:
        self.recipe = Recipe.load(recipe)
        self.seed = _checked("seed", seed)
        self.segmenter = Segmenter(segmenter)
        if vocabulary is not None and not isinstance(vocabulary, Vocabulary):
            vocabulary = Vocabulary.from_sentences(vocabulary, self.segmenter)
        self.vocabulary = vocabulary
        self._ops = [BoundOp(op, self._lexicon) for op in self.recipe.ops]
        # Shared memory: workers that outlive an epoch see the number of the next.
        self._epoch = RawValue("L", 0)

    def _lexicon(self, source: str | tuple[str, ...]) -> Lexicon:
        if source != "dataset":
            return read_lexicon(source)
        if self.vocabulary is None:
            raise ConfigError(
                f"TextAugment: recipe {self.recipe.name!r} draws from the words of the data set, got no vocabulary. "
                "Give vocabulary=, the sentences of the training part."
            )
        return self.vocabulary

    @property
    def epoch(self) -> int:
        """The epoch, 0 to 2**32 - 1; `set_epoch` sets it."""
        return int(self._epoch.value)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, in this process and in the worker processes made from it.

        Raises:
            ConfigError: an epoch out of its range.
        """
        self._epoch.value = _checked("epoch", epoch)

    @overload  # a str is an Iterable[str] too: the first that fits counts
    def __call__(  # type: ignore[overload-overlap]
        self, text: str, index: int | None = None, *, occurrence: int = 0
    ) -> str: ...
    @overload
    def __call__(
        self, text: Iterable[str], index: Sequence[int] | None = None, *, occurrence: int | Sequence[int] = 0
    ) -> list[str]: ...
    def __call__(
        self,
        text: str | Iterable[str],
        index: int | Sequence[int] | None = None,
        *,
        occurrence: int | Sequence[int] = 0,
    ) -> str | list[str]:
        """Return the variant of a sentence, or of each sentence of a batch; one without a word comes back as it is.

        Args:
            text: A sentence, or several.
            index: The sample index of each, 0 to 2**32 - 1. Without it, the CRC-32 of the sentence: the same sentence
                then gets the same variant wherever it stands.
            occurrence: How often the sample came before within the epoch, 0 to 2**16 - 1; one number for all, or one
                each.

        Raises:
            SourceError: a row that is not a string.
            ConfigError: an index or occurrence out of its range, or not one for each sentence.
        """
        if isinstance(text, str):
            number = None if index is None else [_checked("index", index)]
            return self._batch([text], number, [_checked("occurrence", occurrence)])[0]
        texts = _rows(text)
        numbers = None if index is None else _one_each("index", index, len(texts))
        if isinstance(occurrence, int):
            return self._batch(texts, numbers, [_checked("occurrence", occurrence)] * len(texts))
        return self._batch(texts, numbers, _one_each("occurrence", occurrence, len(texts)))

    def variants(self, text: str, count: int, index: int | None = None) -> list[str]:
        """Return `count` variants of one sentence: those of its occurrences 0 to count - 1.

        Raises:
            SourceError: `text` is not a string.
            ConfigError: more than 2**16 variants, or an index out of its range.
        """
        _checked("occurrence", max(count - 1, 0))
        return self._batch([text] * count, None if index is None else [_checked("index", index)] * count, range(count))

    def transform(self, column: str = "text", index_column: str | None = None) -> BatchTransform:
        """Return a transform for `set_transform` or `map(batched=True)` of a Hugging Face data set.

        Args:
            column: The column that holds the sentences.
            index_column: The column that holds the sample indices; without it, CRC-32 as in `__call__`.
        """
        return BatchTransform(self, column, index_column)

    def dataset(self, data: Any, key: str | int | None = None) -> AugmentedDataset:
        """Return a torch data set (map style) whose sentences are augmented; a sample's index is its place in `data`.

        Args:
            data: What has a length and gives item i for an index i: a torch or Hugging Face data set, a list.
            key: Where the sentence is in an item that is a dict or a tuple; None where the item is the sentence.
        """
        return AugmentedDataset(self, data, key)

    def _batch(self, texts: Sequence[object], indices: Sequence[int] | None, occurrences: Sequence[int]) -> list[str]:
        epoch = self.epoch
        done: list[str] = []
        for start in range(0, len(texts), _CHUNK):
            chunk = range(start, min(start + _CHUNK, len(texts)))
            strings = [require_text(texts[row], "TextAugment", row) for row in chunk]
            if indices is None:
                numbers = [zlib.crc32(text.encode("utf-8", "surrogatepass")) for text in strings]
            else:
                numbers = [indices[row] for row in chunk]
            times = [occurrences[row] for row in chunk]
            sentences = [self.segmenter(text) for text in strings]
            for position, op in enumerate(self._ops):
                wants = [op.wants(len(sentence.words)) for sentence in sentences]
                drawn = streams(wants, self.seed, epoch, position, numbers, times)
                for sentence, draws in zip(sentences, drawn, strict=True):
                    if draws:
                        op.act(sentence, draws)
            done.extend(sentence.text() for sentence in sentences)
        return done

    def __getstate__(self) -> dict[str, Any]:
        # Shared memory goes to a worker that is being started, and to nobody else: a copy or a file gets the number.
        state = self.__dict__.copy()
        if get_spawning_popen() is None:
            state["_epoch"] = self.epoch
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(self._epoch, int):
            self._epoch = RawValue("L", self._epoch)

    def __repr__(self) -> str:
        settings = f"seed={self.seed}, epoch={self.epoch}, segmenter={self.segmenter.name!r}"
        return f"TextAugment({self.recipe.name!r}, {settings})"


def _rows(texts: object) -> list[Any]:
    """Return the rows of a batch; what holds no rows is a batch of one, and refused as such."""
    if isinstance(texts, Mapping):
        raise ConfigError(
            f"TextAugment: takes a string or several, got {type(texts).__name__}. "
            "For batches of a Hugging Face data set use transform(column)."
        )
    return list(texts) if isinstance(texts, Iterable) and not isinstance(texts, bytes) else [texts]


def _checked(name: str, value: Any) -> int:
    """Return `value` as an int where it is one within the limits of the generator's counter."""
    try:
        number = value.__index__()
    except AttributeError:
        number = -1
    if not 0 <= number < _LIMITS[name]:
        top = _LIMITS[name].bit_length() - 1
        raise ConfigError(f"TextAugment: {name} must be a whole number from 0 to 2**{top} - 1, got {value!r}.")
    return int(number)


def _one_each(name: str, values: Any, length: int) -> list[int]:
    """Return `values` as a list of `length` numbers within their limits."""
    found = list(values) if isinstance(values, Iterable) else [values]
    if len(found) != length:
        raise ConfigError(
            f"TextAugment: {length} sentences need {length} of {name}, got {len(found)}. Give one for each sentence."
        )
    return [_checked(name, value) for value in found]
