"""The transform of Hugging Face data sets and the data set for torch: the callable's variants, epochs that differ."""

import multiprocessing

import datasets
import pytest
import torch
from torch.utils.data import DataLoader

from dalipipe.errors import ConfigError, SourceError
from dalipipe.text import Recipe, TextAugment
from dalipipe.text.ops import RandomDeletion, RandomSwap

SENTENCES = [f"Sentence number {number} holds some words, ten or so in all." for number in range(23)]
RECIPE = Recipe(name="it", ops=(RandomSwap(count=2), RandomDeletion(rate=0.1)))


@pytest.fixture
def augment():
    return TextAugment(RECIPE, seed=4, segmenter="characters")


@pytest.fixture
def table():
    return datasets.Dataset.from_dict({"text": SENTENCES, "label": list(range(23)), "row": list(range(100, 123))})


def test_set_transform_gives_each_epoch_its_variants(augment, table):
    table.set_transform(augment.transform("text"))
    first = table[:]["text"]
    assert first == augment(SENTENCES)
    assert [table[row]["text"] for row in range(23)] == first
    assert table[3]["label"] == 3
    augment.set_epoch(1)
    second = table[:]["text"]
    assert sum(a != b for a, b in zip(first, second, strict=True)) > 15
    augment.set_epoch(0)
    assert table[:]["text"] == first


def test_set_transform_with_an_index_column(augment, table):
    table.set_transform(augment.transform("text", index_column="row"))
    shuffled = table.shuffle(seed=1)
    wanted = dict(zip(range(100, 123), augment(SENTENCES, range(100, 123)), strict=True))
    for item in (shuffled[row] for row in range(23)):
        assert item["text"] == wanted[item["row"]]


def test_map_in_batches(augment, table):
    mapped = table.map(augment.transform("text"), batched=True, batch_size=5)
    assert list(mapped["text"]) == augment(SENTENCES)
    with pytest.raises(ConfigError, match="batched=True"):
        table.map(augment.transform("text"))


def test_a_batch_without_the_column(augment):
    with pytest.raises(ConfigError, match=r"must have the column 'text', got 'sentence'"):
        augment.transform("text")({"sentence": ["a"]})
    with pytest.raises(ConfigError, match=r"must have the column 'row'"):
        augment.transform("text", "row")({"text": ["a"]})


def test_a_bad_row_of_a_batch_is_named(augment):
    with pytest.raises(SourceError, match="row 1 must be a string, got None"):
        augment.transform("text")({"text": ["a", None]})


def test_a_torch_data_set_of_sentences_tuples_or_dicts(augment):
    wanted = augment(SENTENCES, range(23))
    plain = augment.dataset(SENTENCES)
    assert len(plain) == 23
    assert [plain[place] for place in range(23)] == wanted
    assert plain[-1] == wanted[-1]
    pairs = augment.dataset([(number, text) for number, text in enumerate(SENTENCES)], key=1)
    assert pairs[5] == (5, wanted[5])
    lists = augment.dataset([[text] for text in SENTENCES], key=0)
    assert lists[5] == [wanted[5]]
    dicts = augment.dataset([{"text": text, "label": 1} for text in SENTENCES], key="text")
    assert dicts[5] == {"text": wanted[5], "label": 1}


def test_a_hugging_face_data_set_as_a_torch_one(augment, table):
    assert [item["text"] for item in augment.dataset(table, key="text")] == augment(SENTENCES, range(23))


def test_items_that_are_not_there_or_not_text(augment):
    with pytest.raises(IndexError, match="below the length 23, got 23"):
        augment.dataset(SENTENCES)[23]
    with pytest.raises(SourceError, match="row 1 must be a string, got int"):
        augment.dataset(["a", 3])[1]
    with pytest.raises(SourceError, match="row 0 must have a sentence at key 'text'"):
        augment.dataset([{"sentence": "a"}], key="text")[0]
    with pytest.raises(SourceError, match="row 0 must have a sentence at key 2"):
        augment.dataset([("a", 1)], key=2)[0]


# From 3.12 on Python warns of a fork beside threads, which torch has; a spawned worker is tested too.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(("method", "workers"), [("fork", 2), ("spawn", 1)])
def test_workers_decide_the_same_and_see_the_next_epoch(augment, method, workers):
    loader = DataLoader(
        augment.dataset(SENTENCES),
        batch_size=4,
        num_workers=workers,
        persistent_workers=True,
        multiprocessing_context=multiprocessing.get_context(method),
    )
    epochs = []
    for epoch in range(2):
        augment.set_epoch(epoch)
        epochs.append([text for batch in loader for text in batch])
        assert epochs[-1] == augment(SENTENCES, range(23))
    assert epochs[0] != epochs[1]
    del loader


def test_the_dataset_sets_the_epoch(augment):
    data = augment.dataset(SENTENCES)
    data.set_epoch(6)
    assert augment.epoch == 6
    sampler = torch.utils.data.SequentialSampler(data)
    batch = next(iter(DataLoader(data, batch_size=23, sampler=sampler)))
    assert batch == augment(SENTENCES, range(23))
