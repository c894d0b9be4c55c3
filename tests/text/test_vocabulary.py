import pickle
import sys
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dalipipe.errors import ConfigError, SourceError, SourceNotFoundError
from dalipipe.text.vocabulary import Synonyms, Vocabulary, WordNet, read_lexicon

UNIFORMS = st.integers(0, 2**32 - 1).map(lambda word: word * 2.0**-32)


def test_words_of_a_data_set_come_by_frequency():
    vocabulary = Vocabulary.from_sentences(["The cat, the dog.", "the end"])
    assert vocabulary.words == ("the", "The", "cat", "dog", "end")
    drawn = [vocabulary.draw((step + 0.5) / 6) for step in range(6)]
    assert drawn == ["the", "the", "The", "cat", "dog", "end"]
    assert "cat" in vocabulary
    assert "Cat" not in vocabulary
    assert len(vocabulary) == 5


@given(UNIFORMS, st.sampled_from(["a", "b", "c", "d"]))
def test_a_replacement_is_another_word(u, word):
    vocabulary = Vocabulary({"a": 5, "b": 1, "c": 3})
    other = vocabulary.replacement(word, u)
    assert other != word
    assert other in vocabulary


def test_a_replacement_keeps_the_others_proportions():
    vocabulary = Vocabulary({"a": 5, "b": 1, "c": 3})
    drawn = [vocabulary.replacement("b", (step + 0.5) / 800) for step in range(800)]
    assert (drawn.count("a"), drawn.count("c")) == (500, 300)
    drawn = [vocabulary.replacement("a", (step + 0.5) / 400) for step in range(400)]
    assert (drawn.count("b"), drawn.count("c")) == (100, 300)


def test_the_only_word_replaces_others_and_not_itself():
    vocabulary = Vocabulary({"a": 1})
    assert not vocabulary.offers("a")
    assert vocabulary.offers("b")
    assert vocabulary.replacement("b", 0.99) == "a"


@pytest.mark.parametrize("weights", [{}, {" ": 1}, {"a": 0}, {"a": -1}, {"a": float("nan")}, {"a": float("inf")}])
def test_a_vocabulary_that_cannot_be_drawn_from_is_refused(weights):
    with pytest.raises(SourceError, match="vocabulary"):
        Vocabulary(weights)


def test_a_data_set_without_a_word_is_refused_and_one_with_a_bad_row_names_it():
    with pytest.raises(SourceError, match="got none in 2 sentences"):
        Vocabulary.from_sentences(["", "!!!"])
    with pytest.raises(SourceError, match=r"row 1 must be a string, got None \(NoneType\)"):
        Vocabulary.from_sentences(["fine", None])


def test_synonyms_from_a_file(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_text("# word, synonyms\nbig\tlarge\thuge\tbig\n\nbig\tgreat\ncat\tkitty\n", encoding="utf-8")
    synonyms = read_lexicon(str(path))
    assert isinstance(synonyms, Synonyms)
    assert synonyms.of("big") == synonyms.of("Big") == ("large", "huge", "great")
    assert synonyms.offers("cat")
    assert not synonyms.offers("kitty")
    assert [synonyms.replacement("big", u) for u in (0.0, 0.5, 0.999)] == ["large", "huge", "great"]
    assert synonyms.inspirations(["The", "big", "cat"]) == ["big", "cat"]
    assert pickle.loads(pickle.dumps(synonyms)).of("cat") == ("kitty",)


def test_words_from_a_file_and_a_list(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("one\n# no word\none\nNew York\n", encoding="utf-8")
    words = read_lexicon(str(path))
    assert isinstance(words, Vocabulary)
    assert words.words == ("one", "New York")
    assert [words.draw(u) for u in (0.0, 0.6, 0.7)] == ["one", "one", "New York"]
    listed = read_lexicon(("x", "y"))
    assert isinstance(listed, Vocabulary)
    assert listed.words == ("x", "y")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", b"big\tlarge\nlonely\n", "line 2 must hold a word and a synonym"),
        ("a.tsv", b"\n", "must hold at least one word with a synonym"),
        ("a.tsv", b"big\tBIG\n", None),
        ("a.txt", b"# nothing\n", "must hold at least one word"),
        ("a.txt", b"caf\xe9\n", "it is not UTF-8 text"),
    ],
)
def test_vocabulary_files_that_do_not_work(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    if message is None:
        assert not read_lexicon(str(path)).offers("big")
        return
    with pytest.raises(SourceError, match=message) as caught:
        read_lexicon(str(path))
    assert str(path) in str(caught.value)


def test_a_vocabulary_file_that_is_not_there(tmp_path):
    with pytest.raises(SourceNotFoundError, match=r"none\.txt"):
        read_lexicon(str(tmp_path / "none.txt"))


class FakeSynset:
    def lemma_names(self):
        return ["big", "Large", "turn_up"]


def fake_nltk(monkeypatch, missing_data):
    def ensure_loaded():
        if missing_data:
            raise LookupError("Resource wordnet not found.")

    wordnet = types.SimpleNamespace(
        ensure_loaded=ensure_loaded, synsets=lambda word: [FakeSynset()] if word == "big" else []
    )
    corpus = types.ModuleType("nltk.corpus")
    corpus.wordnet = wordnet
    monkeypatch.setitem(sys.modules, "nltk", types.ModuleType("nltk"))
    monkeypatch.setitem(sys.modules, "nltk.corpus", corpus)


def test_wordnet_gives_the_lemmas_of_all_synsets(monkeypatch):
    fake_nltk(monkeypatch, missing_data=False)
    synonyms = read_lexicon("wordnet")
    assert isinstance(synonyms, WordNet)
    assert synonyms.of("Big") == ("Large", "turn up")
    assert synonyms.of("small") == ()


def test_wordnet_without_its_data_says_how_to_get_it(monkeypatch):
    fake_nltk(monkeypatch, missing_data=True)
    with pytest.raises(ConfigError, match=r"python -m nltk\.downloader wordnet"):
        WordNet()


def test_wordnet_without_nltk_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "nltk", None)
    monkeypatch.setitem(sys.modules, "nltk.corpus", None)
    with pytest.raises(ConfigError, match=r"pip install nltk"):
        WordNet()
