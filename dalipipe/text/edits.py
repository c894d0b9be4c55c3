"""What each op does to a sentence, given its uniform random numbers.

An edit says how many numbers a sentence of so many words wants, and acts on the sentence in place. Number 0 decides
whether the op acts at all; `act` gets those that follow. Every number serves one decision, so a sentence's decisions do
not depend on others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from dalipipe.errors import ConfigError
from dalipipe.text import ops
from dalipipe.text.segment import Sentence
from dalipipe.text.vocabulary import Lexicon, Vocabulary

Lexicons = Callable[[str | tuple[str, ...]], Lexicon]
"""From the `vocabulary` of an op to the words that it means."""


class Edit(Protocol):
    """An op bound to its vocabulary."""

    def wants(self, words: int) -> int:
        """Return how many uniform numbers a sentence of so many words wants; 0 where the op leaves it as it is."""

    def act(self, sentence: Sentence, draws: list[float]) -> None:
        """Change the sentence as the numbers decide."""


def _distinct(pool: list[int], draws: list[float]) -> list[int]:
    """Return a random choice of len(draws) different entries of `pool`, in random order; `pool` is shuffled for it."""
    left = len(pool)
    for start, u in enumerate(draws):
        other = start + int(u * (left - start))
        pool[start], pool[other] = pool[other], pool[start]
    return pool[: len(draws)]


class _Insertion:
    def __init__(self, op: ops.RandomInsertion, lexicon: Lexicon) -> None:
        self._times, self._lexicon = op.times, lexicon

    def wants(self, words: int) -> int:
        return 3 * self._times(words) if words else 0

    def act(self, sentence: Sentence, draws: list[float]) -> None:
        words, lexicon = sentence.words, self._lexicon
        inspirations = lexicon.inspirations(words)
        if inspirations is not None and not inspirations:
            return
        for u_inspiration, u_word, u_place in zip(draws[0::3], draws[1::3], draws[2::3], strict=True):
            inspiration = inspirations[int(u_inspiration * len(inspirations))] if inspirations else ""
            word = lexicon.insertion(inspiration, u_word)
            sentence.insert(int(u_place * len(words)), word)
            if inspirations and lexicon.offers(word):
                inspirations.append(word)


class _Deletion:
    def __init__(self, op: ops.RandomDeletion) -> None:
        self._rate, self._count = op.rate, op.count

    def wants(self, words: int) -> int:
        if words < 2:
            return 0
        return words if self._count is None else min(self._count, words - 1)

    def act(self, sentence: Sentence, draws: list[float]) -> None:
        if self._rate is None:
            sentence.delete(sorted(_distinct(list(range(len(sentence.words))), draws)))
            return
        rate = self._rate
        places = [place for place, u in enumerate(draws) if u < rate]
        if len(places) == len(draws):
            places.remove(draws.index(max(draws)))
        if places:
            sentence.delete(places)


class _Replacement:
    def __init__(self, op: ops.RandomReplacement, lexicon: Lexicon) -> None:
        self._times, self._lexicon = op.times, lexicon
        self._keep = {form for word in op.keep for form in (word, word.lower(), word.capitalize(), word.upper())}
        self._always = not self._keep and isinstance(lexicon, Vocabulary) and len(lexicon) > 1

    def wants(self, words: int) -> int:
        return 2 * min(self._times(words), words)

    def act(self, sentence: Sentence, draws: list[float]) -> None:
        words, lexicon, keep = sentence.words, self._lexicon, self._keep
        if self._always:
            pool = list(range(len(words)))
        else:
            pool = [place for place, word in enumerate(words) if word not in keep and lexicon.offers(word)]
        times = min(len(pool), len(draws) // 2)
        for place, u in zip(_distinct(pool, draws[0 : 2 * times : 2]), draws[1 : 2 * times : 2], strict=True):
            words[place] = lexicon.replacement(words[place], u)


class _Swap:
    def __init__(self, op: ops.RandomSwap) -> None:
        self._times = op.times

    def wants(self, words: int) -> int:
        return 2 * self._times(words) if words > 1 else 0

    def act(self, sentence: Sentence, draws: list[float]) -> None:
        words = sentence.words
        length = len(words)
        for u, v in zip(draws[0::2], draws[1::2], strict=True):
            one, other = int(u * length), int(v * (length - 1))
            other += other >= one
            words[one], words[other] = words[other], words[one]


class _Reversal:
    def __init__(self, op: ops.RandomReversal) -> None:
        self._low, self._high = op.length

    def wants(self, words: int) -> int:
        return 2 if words > 1 else 0

    def act(self, sentence: Sentence, draws: list[float]) -> None:
        words = sentence.words
        span = min(self._low + int(draws[0] * (self._high - self._low + 1)), len(words))
        start = int(draws[1] * (len(words) - span + 1))
        words[start : start + span] = words[start : start + span][::-1]


class _Lowercase:
    def __init__(self, op: ops.Lowercase) -> None:
        pass

    def wants(self, words: int) -> int:
        return 1 if words else 0

    def act(self, sentence: Sentence, draws: list[float]) -> None:
        sentence.words = [word.lower() for word in sentence.words]


class _OneOf:
    def __init__(self, choices: list[BoundOp]) -> None:
        self._choices = choices

    def wants(self, words: int) -> int:
        most = max(choice.wants(words) for choice in self._choices)
        return 1 + most if most else 0

    def act(self, sentence: Sentence, draws: list[float]) -> None:
        self._choices[int(draws[0] * len(self._choices))].act(sentence, draws[1:])


_EDITS: dict[type[ops.TextOp], Callable[..., Edit]] = {
    ops.RandomInsertion: _Insertion,
    ops.RandomDeletion: _Deletion,
    ops.RandomReplacement: _Replacement,
    ops.RandomSwap: _Swap,
    ops.RandomReversal: _Reversal,
    ops.Lowercase: _Lowercase,
}


class BoundOp:
    """An op with the vocabulary it draws from, ready to run: an edit that acts with a probability.

    Args:
        op: The op.
        lexicons: Returns what the op's `vocabulary` means.

    Raises:
        ConfigError: an op that has no edit.
    """

    def __init__(self, op: ops.TextOp, lexicons: Lexicons) -> None:
        self._p = op.p
        self._wanted: dict[int, int] = {}
        self._edit: Edit
        if isinstance(op, ops.OneOf):
            self._edit = _OneOf([BoundOp(inner, lexicons) for inner in op.ops])
        elif type(op) in _EDITS:
            self._edit = _EDITS[type(op)](op, *(lexicons(source) for source in op.sources))
        else:
            known = ", ".join(model.__name__ for model in _EDITS)
            raise ConfigError(f"TextAugment: has no edit for {op.op}. It has: {known}, OneOf. Leave that op out.")

    def wants(self, words: int) -> int:
        """Return how many uniform numbers a sentence of so many words wants; 0 where the op leaves it as it is."""
        found = self._wanted.get(words)
        if found is None:
            wanted = self._edit.wants(words)
            found = self._wanted[words] = 1 + wanted if wanted else 0
        return found

    def act(self, sentence: Sentence, draws: list[float]) -> None:
        """Change the sentence as the numbers decide; there may be more of them than it wants."""
        wanted = self.wants(len(sentence.words))
        if wanted and draws[0] < self._p:
            self._edit.act(sentence, draws[1:wanted])
