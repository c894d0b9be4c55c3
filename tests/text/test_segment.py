import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dalipipe.errors import ConfigError
from dalipipe.text.segment import Segmenter, Sentence

CHARACTERS = Segmenter("characters")
# Every code point, lone surrogates too, and letters, marks and scripts that meet often enough to be tried together.
ANY_TEXT = st.text(
    st.one_of(st.characters(), st.sampled_from("ab Z3.,'’-_\n\t!?(中文のไทยéकि\u0301\u200d🙂")), max_size=60
)


@given(ANY_TEXT)
def test_the_pieces_make_up_the_text(text):
    sentence = CHARACTERS(text)
    assert sentence.text() == text
    assert len(sentence.gaps) == len(sentence.words) + 1
    assert all(word and not any(char.isspace() for char in word) for word in sentence.words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The well-known fox doesn't jump.", ["The", "well-known", "fox", "doesn't", "jump"]),
        ("It’s 3.14, or 1,000!", ["It’s", "3.14", "or", "1,000"]),
        ("end.Next - no -dash-", ["end", "Next", "no", "dash"]),
        ("snake_case @user #tag", ["snake_case", "user", "tag"]),
        ("naïve cafe\u0301", ["naïve", "cafe\u0301"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("مرحبا بالعالم", ["مرحبا", "بالعالم"]),
        ("Привет, мир", ["Привет", "мир"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("我爱Python3编程", ["我", "爱", "Python3", "编", "程"]),
        ("日本語のテスト", ["日", "本", "語", "の", "テ", "ス", "ト"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("🙂 !!! …", []),
        ("", []),
    ],
)
def test_words_of_several_scripts(text, words):
    assert CHARACTERS(text).words == words


def test_chinese_is_cut_into_words_by_jieba_where_it_is_installed():
    pytest.importorskip("jieba")
    sentence = Segmenter("jieba")("我们今天去公园, ok?")
    assert sentence.words == ["我们", "今天", "去", "公园", "ok"]
    assert sentence.text() == "我们今天去公园, ok?"
    assert Segmenter("auto").name == "jieba"


def test_without_jieba_the_automatic_choice_is_characters_and_the_explicit_one_an_error(monkeypatch):
    monkeypatch.delitem(sys.modules, "jieba", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert Segmenter("auto").name == "characters"
    with pytest.raises(ConfigError, match=r"needs the package jieba.*pip install jieba"):
        Segmenter("jieba")
    with pytest.raises(ConfigError, match="got 'words'"):
        Segmenter("words")


@pytest.mark.parametrize(
    ("text", "places", "left"),
    [
        ("Hello, big world!", [1], "Hello, world!"),
        ("Hello, big world!", [0], ", big world!"),
        ("a big dog.", [2], "a big."),
        ("A big dog", [0], "big dog"),
        ("A big dog", [1, 2], "A"),
        ("(a big) dog", [0], "(big) dog"),
        ("say “very big” words", [1], "say “big” words"),
        ("one\n\ntwo three", [1], "one\n\nthree"),
        ("one two\n\nthree", [1], "one\n\nthree"),
        ("  one two ", [0], "  two "),
        ("  one two ", [1], "  one "),
        ("foo中bar", [1], "foo bar"),
        ("我爱你", [1], "我你"),
    ],
)
def test_a_word_goes_with_the_white_space_on_one_side(text, places, left):
    sentence = CHARACTERS(text)
    sentence.delete(places)
    assert sentence.text() == left


@pytest.mark.parametrize(
    ("text", "place", "word", "longer"),
    [
        ("Hello, world!", 1, "big", "Hello, big world!"),
        ("(one) two", 0, "big", "(big one) two"),
        ("我你", 1, "爱", "我爱你"),
        ("foo中", 1, "bar", "foo bar中"),
    ],
)
def test_a_word_comes_behind_the_gap(text, place, word, longer):
    sentence = CHARACTERS(text)
    sentence.insert(place, word)
    assert sentence.text() == longer


def test_words_of_scripts_with_spaces_never_run_together():
    assert Sentence(["中", "foo", "bar"], ["", "", "", ""]).text() == "中foo bar"


def test_importing_the_text_part_loads_neither_torch_nor_dali_and_images_do_not_load_it():
    code = """
import sys
import dalipipe.text
heavy = {"torch", "torchvision", "nvidia.dali", "numba", "transformers", "jieba"} & set(sys.modules)
assert not heavy, heavy
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=240).returncode == 0


def test_white_space_only_where_words_go_is_the_only_loss():
    sentence = CHARACTERS("One, two; three: four.")
    sentence.delete([1, 2])
    assert re.sub(r"\s", "", sentence.text()) == "One,;:four."
