"""The ops of text recipes, as data: arguments and checks. `edits` carries them out.

A sentence is words with gaps between, before and after them (white space and punctuation). The ops move, take or add
words and leave the gaps as they are, but for the white space around a word that is taken or added. A sentence without a
word is returned as it is, and no op takes the last word away.

Where an operation is one of EDA, that is its definition: Wei and Zou, "EDA: Easy Data Augmentation Techniques for
Boosting Performance on Text Classification Tasks" (EMNLP-IJCNLP 2019), and the code published with it.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, field_validator, model_validator

from dalipipe.errors import RecipeError
from dalipipe.recipes.ops import OPS
from dalipipe.recipes.ops.base import Arguments, Probability
from dalipipe.recipes.ops.building import Registry

MAX_COUNT = 100_000
MAX_SPAN = 100_000
WORD_LIST, SYNONYM_TABLE = ".txt", ".tsv"

Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
Span = Annotated[int, Field(ge=2, le=MAX_SPAN)]


def _span(value: Any) -> Any:
    """Turn a single length into (length, length)."""
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


def _words_or_file(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    if isinstance(value, tuple):
        if not value or not all(word.strip() for word in value):
            raise ValueError(f"a list of words must hold at least one, and none that is blank, got {list(value)}")
    elif value not in ("dataset", "wordnet") and Path(value).suffix not in (WORD_LIST, SYNONYM_TABLE):
        raise ValueError(
            f'must be "dataset", "wordnet", a list of words, a {WORD_LIST} file (a word a line) or a '
            f"{SYNONYM_TABLE} file (a word and its synonyms a line, tabs between), got {value!r}"
        )
    return value


class TextOp(Arguments):
    """An op on a sentence.

    Args:
        p: Probability that the op acts on a sentence at all.
    """

    p: Probability = 1.0

    @property
    def is_random(self) -> bool:
        """Whether the op draws random numbers; how many depends on the sentence."""
        return True

    @property
    def sources(self) -> tuple[str | tuple[str, ...], ...]:
        """The vocabularies that the op draws from."""
        return ()

    @property
    def number(self) -> int:
        """How many ops it is: 1, and those that it holds."""
        return 1

    def located(self, folder: Path) -> TextOp:
        """Return the op with the files that lie in `folder` given by their paths."""
        return self


class _Amount(TextOp):
    """An op that is done to a part of the words, or a number of times."""

    rate: Probability | None = None
    count: Count | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> _Amount:
        if (self.rate is None) == (self.count is None):
            raise ValueError(f"give either rate or count, got {'neither' if self.rate is None else 'both'}")
        return self

    def times(self, words: int) -> int:
        """Return how often the op is done to a sentence of so many words.

        That is `count`, or EDA's n = max(1, int(rate * words)), 0 for a rate of 0.
        """
        if self.count is not None:
            return self.count
        return max(1, int(self.rate * words)) if self.rate else 0


class _Drawing(_Amount):
    """An op that takes words from a vocabulary."""

    vocabulary: str | tuple[str, ...] = "dataset"

    @field_validator("vocabulary")
    @classmethod
    def _vocabulary(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        return _words_or_file(value)

    @property
    def sources(self) -> tuple[str | tuple[str, ...], ...]:
        """The vocabulary."""
        return (self.vocabulary,)

    def located(self, folder: Path) -> TextOp:
        """Return the op with the path of its vocabulary, where that file lies in `folder`."""
        if isinstance(self.vocabulary, str):
            with suppress(OSError):  # a name too long, a folder that can't be searched
                if (folder / self.vocabulary).is_file():
                    return self.model_copy(update={"vocabulary": str(folder / self.vocabulary)})
        return self


class RandomInsertion(_Drawing):
    """Insert words before random words of the sentence, one after the other.

    Args:
        rate: Insertions per word of the sentence: max(1, int(rate * words)) of them.
        count: Number of insertions, instead of a rate.
        vocabulary: Where the words come from. "dataset": the words of the data set, as often as they occur there. A
            list, or the path of a .txt file with a word a line: each as often as it is listed. The path of a .tsv file
            (a word and its synonyms a line, tabs between) or "wordnet": a synonym of a random word of the sentence that
            has one.
        p: Probability that the op acts on a sentence at all.

    Source: EDA's random insertion; there the words are WordNet synonyms.
    """

    op: Literal["RandomInsertion"] = "RandomInsertion"


class RandomDeletion(_Amount):
    """Take words away; one always stays.

    Args:
        rate: Probability of each word to be taken, independent of the others.
        count: Number of words taken from random places, at most all but one; instead of a rate.
        p: Probability that the op acts on a sentence at all.

    Source: EDA's random deletion (with `rate`); where every word would go, a random one stays.
    """

    op: Literal["RandomDeletion"] = "RandomDeletion"


class RandomReplacement(_Drawing):
    """Replace random words, each at another place, by other words.

    Args:
        rate: Replacements per word of the sentence: max(1, int(rate * words)) of them, at most one for each word that
            can be.
        count: Number of replacements, instead of a rate.
        vocabulary: Where the words come from, as for RandomInsertion. Synonyms are those of the replaced word.
        keep: Words that are never replaced, in lower case; capitalised and upper-case forms are kept with them.
        p: Probability that the op acts on a sentence at all.

    Source: EDA's synonym replacement, `keep` being its stop words. EDA picks words and replaces each wherever it occurs
        in the sentence; here a place is picked.
    """

    op: Literal["RandomReplacement"] = "RandomReplacement"
    keep: tuple[str, ...] = ()


class RandomSwap(_Amount):
    """Exchange two random words, one pair after the other. A sentence of one word stays as it is.

    Args:
        rate: Swaps per word of the sentence: max(1, int(rate * words)) of them.
        count: Number of swaps, instead of a rate.
        p: Probability that the op acts on a sentence at all.

    Source: EDA's random swap. EDA's code draws a pair again up to three times where both are the same place; here they
        differ.
    """

    op: Literal["RandomSwap"] = "RandomSwap"


class RandomReversal(TextOp):
    """Reverse the order of the words in a random span.

    Args:
        length: Words in the span, 2 or more: one number, or (low, high) for a random one. A shorter sentence is
            reversed whole.
        p: Probability that the op acts on a sentence at all.
    """

    op: Literal["RandomReversal"] = "RandomReversal"
    length: Annotated[tuple[Span, Span], BeforeValidator(_span)]
    p: Probability = 0.5

    @field_validator("length")
    @classmethod
    def _ordered(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] > value[1]:
            raise ValueError(f"must be (low, high) with low <= high, got {value}")
        return value


class Lowercase(TextOp):
    """Turn every word into lower case.

    Args:
        p: Probability that the op acts on a sentence at all.

    Source: str.lower.
    """

    op: Literal["Lowercase"] = "Lowercase"

    @property
    def is_random(self) -> bool:
        """Whether the op draws random numbers."""
        return 0.0 < self.p < 1.0


class OneOf(TextOp):
    """Do one of several ops, each as likely as the others.

    Args:
        ops: The ops to choose from.
        p: Probability that one of them is done at all.

    Source: EDA makes each augmented sentence by one of its four operations.
    """

    op: Literal["OneOf"] = "OneOf"
    ops: tuple[SerializeAsAny[TextOp], ...] = Field(min_length=1)

    @field_validator("ops", mode="before")
    @classmethod
    def _build(cls, value: Any) -> Any:
        """Make ops of tables, which Python may give too."""
        if not isinstance(value, list | tuple):
            return value
        try:
            return tuple(
                entry if isinstance(entry, TextOp) else REGISTRY.build(entry, f"op {position}")
                for position, entry in enumerate(value, 1)
            )
        except RecipeError as error:
            raise ValueError(str(error)) from error

    @property
    def number(self) -> int:
        """How many ops it is: itself, and those that it holds."""
        return 1 + sum(op.number for op in self.ops)

    @property
    def sources(self) -> tuple[str | tuple[str, ...], ...]:
        """The vocabularies of the inner ops."""
        return tuple(source for op in self.ops for source in op.sources)

    def located(self, folder: Path) -> TextOp:
        """Return the op with the paths of its inner ops' vocabularies."""
        return self.model_copy(update={"ops": tuple(op.located(folder) for op in self.ops)})

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that differ from their defaults, ready for TOML."""
        inner = [{"op": op.op, **op.arguments()} for op in self.ops]
        return {**super().arguments(), "ops": inner}


TEXT_OPS: dict[str, type[TextOp]] = {
    model.__name__: model
    for model in (RandomInsertion, RandomDeletion, RandomReplacement, RandomSwap, RandomReversal, Lowercase, OneOf)
}
"""Name of an op -> its class. `recipes.reading.TEXT_OPS` has the names, for those who may not import this."""

REGISTRY: Registry[TextOp] = Registry(
    ops=TEXT_OPS,
    base=TextOp,
    containers=(OneOf,),
    noun="sentences",
    others=OPS,
    other="images",
    home="dalipipe.Recipe",
    example='op = "RandomSwap"',
)
