import math
import pickle
import string
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dalipipe.decisions import randomness
from dalipipe.errors import ConfigError, SourceError
from dalipipe.text import Recipe, TextAugment
from dalipipe.text.edits import BoundOp
from dalipipe.text.ops import (
    Lowercase,
    OneOf,
    RandomDeletion,
    RandomInsertion,
    RandomReplacement,
    RandomReversal,
    RandomSwap,
)
from dalipipe.text.segment import Segmenter
from dalipipe.text.vocabulary import read_lexicon

CHARACTERS = Segmenter("characters")
NEW = ("new", "words", "中")
ANY_TEXT = st.text(
    st.one_of(st.characters(), st.sampled_from("ab Z3.,'’-_\n\t!?(中文のไทยéकि\u0301\u200d🙂")), max_size=40
)
RATES = st.floats(0, 1, allow_nan=False)
AMOUNTS = st.one_of(st.builds(dict, rate=RATES), st.builds(dict, count=st.integers(1, 12)))
SENTENCE = "The quick brown fox, it seems, jumps over the lazy dog again."


def drawing(model):
    return AMOUNTS.map(lambda amount: model(**amount, vocabulary=NEW))


SIMPLE = st.one_of(
    drawing(RandomInsertion),
    drawing(RandomReplacement),
    AMOUNTS.map(lambda amount: RandomDeletion(**amount)),
    AMOUNTS.map(lambda amount: RandomSwap(**amount)),
    st.tuples(st.integers(2, 9), st.integers(0, 5)).map(lambda it: RandomReversal(length=(it[0], sum(it)), p=0.8)),
    st.just(Lowercase()),
)
OPS = st.one_of(SIMPLE, st.lists(SIMPLE, min_size=1, max_size=3).map(lambda ops: OneOf(ops=ops, p=0.9)))


def augment_with(*ops, **settings):
    return TextAugment(Recipe(name="it", ops=ops), **{"segmenter": "characters", **settings})


def words_after(op, text, index=0):
    """Return the words before and after one op, without the detour over text."""
    sentence = CHARACTERS(text)
    before = list(sentence.words)
    bound = BoundOp(op, read_lexicon)
    (draws,) = randomness.streams([bound.wants(len(before))], 0, 0, 0, [index], [0])
    if draws:
        bound.act(sentence, draws)
    assert len(sentence.gaps) == len(sentence.words) + 1
    return before, sentence.words


@given(ANY_TEXT, st.lists(OPS, min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_any_text_survives_any_recipe(text, ops, index):
    augment = augment_with(*ops, seed=7)
    variant = augment(text, index)
    words = CHARACTERS(text).words
    assert variant.strip() or not words, "never empty"
    assert words or variant == text, "nothing to do without a word"
    assert augment(text, index) == variant, "deterministic"


@given(ANY_TEXT, OPS, st.integers(0, 1000))
def test_words_come_from_the_sentence_and_the_vocabulary_only(text, op, index):
    before, after = words_after(op, text, index)
    assert set(after) <= set(before) | set(NEW) | {word.lower() for word in before}


@given(ANY_TEXT, st.lists(SIMPLE, min_size=1, max_size=3), st.integers(0, 1000))
def test_punctuation_survives(text, ops, index):
    def marks(some):
        return [char for char in some if unicodedata.category(char)[0] in "PS" and char not in "'’-_.,"]

    assert marks(augment_with(*ops)(text, index)) == marks(text)


@given(ANY_TEXT, st.integers(1, 12), st.integers(0, 1000))
def test_counts_are_as_declared(text, count, index):
    before, after = words_after(RandomInsertion(count=count, vocabulary=NEW), text, index)
    assert len(after) == (len(before) + count if before else 0)
    before, after = words_after(RandomDeletion(count=count), text, index)
    assert len(after) == max(len(before) - count, min(len(before), 1))
    before, after = words_after(RandomReplacement(count=count, vocabulary=NEW), text, index)
    assert sum(a != b for a, b in zip(before, after, strict=True)) == min(count, len(before))
    before, after = words_after(RandomSwap(count=1), text, index)
    assert sorted(before) == sorted(after)
    assert sum(a != b for a, b in zip(before, after, strict=True)) in (0, 2)


@given(st.lists(st.text(string.ascii_letters, min_size=1), min_size=2, max_size=30, unique=True), st.integers(0, 999))
def test_swaps_and_reversals_move_what_they_say(words, index):
    before, after = words_after(RandomSwap(count=1), " ".join(words), index)
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 2, "the two places differ"
    before, after = words_after(RandomReversal(length=3, p=1.0), " ".join(words), index)
    span = min(3, len(before))
    starts = [
        start
        for start in range(len(before) - span + 1)
        if before[start : start + span][::-1] == after[start : start + span]
    ]
    assert any(before[:start] + after[start : start + span] + before[start + span :] == after for start in starts)


def test_gaps_stay_where_words_move():
    swapped = augment_with(RandomSwap(count=3))(SENTENCE, 5)
    assert swapped != SENTENCE
    assert [char for char in swapped if not char.isalpha()] == [char for char in SENTENCE if not char.isalpha()]
    assert augment_with(Lowercase())("Ein  GROSSES\tWort,\nÇa!") == "ein  grosses\twort,\nça!"


def test_a_rate_means_the_number_of_edas_definition():
    words = " ".join(f"w{place}" for place in range(47))
    before, after = words_after(RandomInsertion(rate=0.1, vocabulary=NEW), words)
    assert len(after) - len(before) == 4
    before, after = words_after(RandomReplacement(rate=0.1, vocabulary=NEW), "two words")
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1, "at least one"
    before, after = words_after(RandomSwap(rate=0.0), words)
    assert before == after


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.9])
def test_words_are_deleted_at_the_declared_rate(rate):
    length, rows = 23, 3000
    text = " ".join(f"w{place}" for place in range(length))
    variants = augment_with(RandomDeletion(rate=rate), seed=11)([text] * rows, range(rows))
    kept = np.array([[f"w{place}" in words for place in range(length)] for words in (set(v.split()) for v in variants)])
    bound = 4.5 * math.sqrt(rate * (1 - rate) / rows)  # 4.5 standard deviations: one place in 100,000 exceeds it
    # One word is kept where all would go: 0.9**23 is 9 % of the sentences, and a 23rd of that each place's.
    slack = rate**length / length
    assert np.all(np.abs((1 - kept).mean(axis=0) - rate) < bound + slack)


@pytest.mark.parametrize("p", [0.0, 0.2, 1.0])
def test_an_op_acts_with_its_probability(p):
    rows = 4000
    variants = augment_with(RandomReversal(length=2, p=p), seed=3)(["one two"] * rows, range(rows))
    acted = sum(variant == "two one" for variant in variants) / rows
    assert abs(acted - p) <= 4.5 * math.sqrt(p * (1 - p) / rows)


def test_one_of_chooses_evenly_and_does_one_only():
    rows = 6000
    inner = [RandomInsertion(count=1, vocabulary=("x",)), RandomReplacement(count=1, vocabulary=("y",)), Lowercase()]
    variants = augment_with(OneOf(ops=inner), seed=3)(["A B C"] * rows, range(rows))
    kinds = ["x" in v if "x" in v else ("y" in v) * 2 if "y" in v else 3 * (v == "a b c") for v in variants]
    for kind in (True, 2, 3):
        assert abs(kinds.count(kind) / rows - 1 / 3) < 4.5 * math.sqrt(2 / 9 / rows)
    assert all(len(variant.split()) == (4 if "x" in variant else 3) for variant in variants)


def test_places_are_even():
    rows, words = 6000, "a b c d"
    inserted = augment_with(RandomInsertion(count=1, vocabulary=("x",)))([words] * rows, range(rows))
    replaced = augment_with(RandomReplacement(count=1, vocabulary=("x",)))([words] * rows, range(rows))
    deleted = augment_with(RandomDeletion(count=3))([words] * rows, range(rows))
    for variants, wanted in ((inserted, "x"), (replaced, "x")):
        places = np.bincount([variant.split().index(wanted) for variant in variants])
        assert len(places) == 4
        assert np.all(np.abs(places / rows - 0.25) < 4.5 * math.sqrt(3 / 16 / rows))
    survivors = [deleted.count(word) / rows for word in "abcd"]
    assert np.all(np.abs(np.array(survivors) - 0.25) < 4.5 * math.sqrt(3 / 16 / rows))


def test_kept_words_are_never_replaced():
    augment = augment_with(RandomReplacement(rate=1.0, vocabulary=("x",), keep=("the", "dog")))
    assert augment("The cat and THE dog. The end") == "The x x THE dog. The x"


def test_synonyms_replace_their_word_and_are_inserted_for_it(tmp_path):
    table = tmp_path / "table.tsv"
    table.write_text("quick\tfast\trapid\nlazy\tidle\n", encoding="utf-8")
    replaced = augment_with(RandomReplacement(rate=1.0, vocabulary=str(table)))
    assert replaced("The Quick, lazy dog") in ("The fast, idle dog", "The rapid, idle dog")
    assert replaced("no such word") == "no such word"
    inserted = augment_with(RandomInsertion(count=2, vocabulary=str(table)))
    added = set(inserted("a lazy dog").split()) - {"a", "lazy", "dog"}
    assert added == {"idle"}
    assert inserted("no such word") == "no such word"


@settings(max_examples=30)
@given(st.lists(ANY_TEXT, min_size=1, max_size=40), st.randoms(use_true_random=False), st.integers(1, 7))
def test_batches_and_order_change_nothing(texts, random, size):
    augment = augment_with(
        OneOf(ops=[RandomDeletion(rate=0.3), RandomInsertion(rate=0.3)]),
        RandomSwap(rate=0.3, p=0.5),
        vocabulary=[SENTENCE],
    )
    augment.set_epoch(3)
    order = list(range(len(texts)))
    whole = augment(texts, order)
    random.shuffle(order)
    for start in range(0, len(order), size):
        part = order[start : start + size]
        assert augment([texts[place] for place in part], part) == [whole[place] for place in part]
    assert [augment(text, place) for place, text in enumerate(texts)] == whole


def test_seed_epoch_index_occurrence_and_position_each_matter():
    texts = [SENTENCE] * 40
    base = augment_with(RandomSwap(count=2), vocabulary=[SENTENCE])
    other_seed = augment_with(RandomSwap(count=2), seed=1)
    first = base(texts, range(40))
    assert first == base(texts, range(40))
    assert len(set(first)) > 30
    assert first != other_seed(texts, range(40))
    assert first != base(texts, range(40, 80))
    assert first != base(texts, range(40), occurrence=1)
    base.set_epoch(1)
    assert first != base(texts, range(40))
    base.set_epoch(0)
    assert first == base(texts, range(40))
    twice = augment_with(RandomSwap(count=2), RandomSwap(count=2))(texts, range(40))
    undone = [words_after(RandomSwap(count=2), text, index)[1] for index, text in enumerate(first)]
    assert [CHARACTERS(text).words for text in twice] != undone, "the second op has numbers of its own"


def test_without_an_index_a_sentence_has_its_own_numbers_wherever_it_stands():
    augment = augment_with(RandomSwap(rate=0.5))
    texts = [f"{SENTENCE} {number}" for number in range(20)]
    assert augment(texts[::-1]) == [augment(text) for text in texts][::-1]
    assert augment(texts[0]) == augment(texts[0])


def test_variants_are_the_occurrences():
    augment = augment_with(RandomSwap(rate=0.5))
    variants = augment.variants(SENTENCE, 5, index=9)
    assert variants == [augment(SENTENCE, 9, occurrence=number) for number in range(5)]
    assert len(set(variants)) == 5
    assert augment.variants(SENTENCE, 0) == []


def test_the_numbers_are_the_plans():
    few, many = [5, 0, 9, 130], [4000, 0, 33, 1]
    for lengths in (few, many, [0], []):
        indices = [17 * place for place in range(len(lengths))]
        drawn = randomness.streams(lengths, 99, 4, 2, indices, [1] * len(lengths))
        for length, index, numbers in zip(lengths, indices, drawn, strict=True):
            assert numbers == randomness.uniforms((0, 0, length), 99, 4, [index], [1])[0].tolist()


def test_numbers_beyond_the_first_counter_word_do_not_repeat():
    few = 2**18
    (drawn,) = randomness.streams([few + 4096], 5, 0, 0, [3], [2])
    assert drawn[:8] == randomness.uniforms((8,), 5, 0, [3], [2])[0].tolist()
    assert drawn[few : few + 4096] != drawn[:4096]
    assert abs(np.mean(drawn[few:]) - 0.5) < 4.5 / math.sqrt(12 * 4096)
    assert drawn[few:] != randomness.streams([4096], 5, 0, 0, [3], [3])[0]


def test_a_blank_sentence_and_one_of_one_word():
    every = [
        RandomInsertion(count=1, vocabulary=("x",)),
        RandomDeletion(rate=1.0),
        RandomReplacement(count=3, vocabulary=("y",)),
        RandomSwap(count=2),
        RandomReversal(length=5, p=1.0),
    ]
    for blank in ("", "  \n", "!?", "🙂"):
        assert augment_with(*every)(blank) == blank
    assert augment_with(every[0])("one.") == "x one."
    assert augment_with(every[1])("one.") == "one."
    assert augment_with(every[2])("one.") == "y."
    assert augment_with(every[3])("one.") == "one."
    assert augment_with(every[4])("one.") == "one."


def test_a_hundred_thousand_words():
    text = " ".join(f"w{place % 977}" for place in range(100_000))
    inserted = augment_with(RandomInsertion(rate=0.02, vocabulary=("x",)))(text)
    assert inserted.count("x") == 2000
    replaced = augment_with(RandomReplacement(rate=1.0, vocabulary=("x", "y")))(text)
    assert set(replaced.split()) == {"x", "y"}, "200,001 numbers for one op"
    deleted = augment_with(RandomDeletion(rate=0.25))(text)
    assert abs(len(deleted.split()) - 75_000) < 4.5 * math.sqrt(100_000 * 0.25 * 0.75)
    swapped = augment_with(RandomSwap(rate=1.0), RandomReversal(length=100_000, p=1.0))(text)
    assert sorted(swapped.split()) == sorted(text.split())


@pytest.mark.parametrize("bad", [None, 3, float("nan"), b"bytes", ["nested"]])
def test_a_row_that_is_not_a_string_is_named(bad):
    augment = augment_with(Lowercase())
    with pytest.raises(SourceError, match=r"row 2 must be a string, got .*Drop that row or give it a text"):
        augment(["fine", "", bad])
    with pytest.raises(SourceError, match="row 0 must be a string"):
        augment(bad if not isinstance(bad, list) else [bad])


def test_arguments_out_of_range_are_refused():
    augment = augment_with(Lowercase())
    with pytest.raises(ConfigError, match=r"seed must be a whole number from 0 to 2\*\*64 - 1, got -1"):
        augment_with(Lowercase(), seed=-1)
    with pytest.raises(ConfigError, match="epoch must be"):
        augment.set_epoch(2**32)
    with pytest.raises(ConfigError, match=r"index must be .*got 1\.5"):
        augment("a", 1.5)
    with pytest.raises(ConfigError, match=r"index must be .*got 4294967296"):
        augment(["a"], [2**32])
    with pytest.raises(ConfigError, match="2 sentences need 2 of index, got 1"):
        augment(["a", "b"], [1])
    with pytest.raises(ConfigError, match=r"index must be a whole number .*got \[1\]"):
        augment("a", [1])
    with pytest.raises(ConfigError, match="occurrence must be"):
        augment.variants("a", 2**16 + 1)
    with pytest.raises(ConfigError, match=r"got dict.*transform\(column\)"):
        augment({"text": ["a"]})


def test_a_recipe_that_draws_from_the_data_set_wants_its_sentences():
    with pytest.raises(ConfigError, match=r"'text-eda' draws from the words of the data set, got no vocabulary"):
        TextAugment("text-eda")
    with pytest.raises(SourceError, match="got none in 0 sentences"):
        TextAugment("text-eda", vocabulary=[])
    augment = TextAugment("text-eda", vocabulary=[SENTENCE])
    assert len(set(augment.variants(SENTENCE, 20))) > 10


def test_numpy_numbers_and_iterators_will_do():
    augment = augment_with(RandomSwap(count=1))
    wanted = augment([SENTENCE, "a b"], [0, 1])
    assert augment(iter([SENTENCE, "a b"]), np.arange(2)) == wanted
    assert augment(np.array([SENTENCE, "a b"]), np.arange(2)) == wanted
    assert augment(SENTENCE, np.int64(0)) == wanted[0]


def test_a_copy_decides_the_same_and_keeps_the_epoch():
    augment = augment_with(RandomInsertion(rate=0.3), vocabulary=[SENTENCE], seed=5)
    augment.set_epoch(7)
    copy = pickle.loads(pickle.dumps(augment))
    assert copy.epoch == 7
    assert copy(SENTENCE, 3) == augment(SENTENCE, 3)
    assert "epoch=7" in repr(copy)


def test_lone_surrogates_pass_through():
    assert augment_with(Lowercase())("A \ud800 B") == "a \ud800 b"
