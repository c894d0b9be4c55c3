"""What becomes of an epoch in which files can't be used: skipped, replaced or refused, and nothing else changed."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dalipipe import DataLoader
from dalipipe.backends import BACKENDS
from dalipipe.errors import ConfigError, DecodeError, StateError
from dalipipe.recipes import Recipe, ops
from dalipipe.sources import FolderSource

CPU_BACKENDS = [name for name in BACKENDS if name != "dali-gpu"]
RECIPE = Recipe(
    name="random", ops=(ops.RandomResizedCrop(size=(11, 13)), ops.RandomHorizontalFlip(), ops.ToDtype(scale=True))
)
PER_CLASS = 8
COUNT = 3 * PER_CLASS


@pytest.fixture
def folder(make_image_folder):
    return make_image_folder(per_class=PER_CLASS)


def spoil(folder, bad):
    """Overwrite some files, by position, and return their paths."""
    paths = [path for path, _ in FolderSource(folder).samples]
    for index in bad:
        Path(paths[index]).write_text("<html>")
    return [paths[index] for index in bad]


def make(folder, on_error="skip", **options):
    given = {"batch_size": 5, "shuffle": True, "recipe": RECIPE, "seed": 3, "num_threads": 2, "backend": "torchvision"}
    return DataLoader(folder, **{**given, "on_error": on_error, **options})


def epoch_of(loader):
    """One epoch as (indices, images, labels) of each batch."""
    return [(loader.last_indices.tolist(), images.clone(), labels.tolist()) for images, labels in loader]


def equal(one, other):
    return len(one) == len(other) and all(
        a[0] == b[0] and torch.equal(a[1], b[1]) and a[2] == b[2] for a, b in zip(one, other, strict=True)
    )


def without(epoch, bad):
    """What an epoch is when the bad samples are taken out of it."""
    kept = []
    for indices, images, labels in epoch:
        at = [place for place, index in enumerate(indices) if index not in bad]
        if at:
            kept.append(([indices[i] for i in at], images[at], [labels[i] for i in at]))
    return kept


BAD_SETS = [[0], [7, 8], [0, 5, 11, 23], list(range(1, 8)), list(range(0, COUNT, 2))]


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("prefetch", [1, 3])
@pytest.mark.parametrize("bad", BAD_SETS, ids=len)
def test_skipping_takes_out_the_bad_and_changes_nothing_else(folder, backend, prefetch, bad):
    with make(folder, "raise", backend=backend) as loader:
        clean = [epoch_of(loader) for _ in range(2)]
    paths = spoil(folder, bad)
    with make(folder, backend=backend, prefetch=prefetch) as loader:
        for epoch in clean:  # the second one with the bad ones known
            assert equal(epoch_of(loader), without(epoch, bad))
        assert sorted(file.path for file in loader.bad_files) == sorted(paths)
        assert {file.epoch for file in loader.bad_files} == {0}


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("bad", BAD_SETS, ids=len)
def test_a_substitute_of_the_same_class_stands_in_the_place_of_a_bad_one(folder, backend, bad):
    with make(folder, "raise", backend=backend) as loader:
        clean = [epoch_of(loader) for _ in range(2)]
    spoil(folder, bad)
    with make(folder, "substitute", backend=backend) as loader:
        found = [epoch_of(loader) for _ in range(2)]
    for epoch, whole in zip(found, clean, strict=True):
        assert [labels for _, _, labels in epoch] == [labels for _, _, labels in whole]
        for (indices, images, _), (wanted, pixels, _) in zip(epoch, whole, strict=True):
            good = [index not in bad for index in wanted]
            assert [i for i, ok in zip(indices, good, strict=True) if ok] == [
                i for i, ok in zip(wanted, good, strict=True) if ok
            ]
            assert torch.equal(images[good], pixels[good])
            assert not set(indices) & set(bad)
            for index, image, ok in zip(indices, images, good, strict=True):
                own = next(p[w.index(index)] for w, p, _ in whole_of(clean, epoch is found[1]) if index in w)
                assert ok or not torch.equal(image, own), "a substitute looks as in its own place"


def whole_of(clean, second):
    return clean[1] if second else clean[0]


@pytest.mark.parametrize("on_error", ["skip", "substitute"])
def test_what_is_known_does_not_matter(folder, on_error):
    """Nor when the bad files were found, nor by whom, nor how many come ahead, nor the backend's threads."""
    spoil(folder, [2, 3, 4, 5, 6, 15])
    with make(folder, on_error) as loader:
        first = epoch_of(loader)
        loader.set_epoch(0)
        assert equal(epoch_of(loader), first)
        second = epoch_of(loader)
    with make(folder, on_error, prefetch=5, num_threads=1) as loader:
        loader.set_epoch(1)
        assert equal(epoch_of(loader), second)


def test_a_bad_file_is_opened_once(folder):
    (path,) = spoil(folder, [4])
    with make(folder) as loader:
        assert len([index for indices, _, _ in epoch_of(loader) for index in indices]) == COUNT - 1
        Path(path).unlink()
        os.mkfifo(path)  # whoever opens it waits for ever
        assert len([index for indices, _, _ in epoch_of(loader) for index in indices]) == COUNT - 1


@pytest.mark.parametrize("on_error", ["skip", "substitute"])
def test_a_cache_changes_nothing(folder, on_error):
    spoil(folder, [0, 9, 23])
    with make(folder, on_error) as plain, make(folder, on_error, cache="ram") as kept:
        for _ in range(2):
            assert equal(epoch_of(plain), epoch_of(kept))


@pytest.mark.parametrize("on_error", ["skip", "substitute"])
@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_ranks_share_what_one_process_has(folder, on_error, backend):
    spoil(folder, [0, 9, 10, 23])
    with make(folder, on_error, batch_size=6, backend=backend) as alone:
        wanted = epoch_of(alone)
    parts = []
    for rank in range(2):
        with make(folder, on_error, batch_size=3, rank=rank, world_size=2, backend=backend) as loader:
            parts.append({place: batch for place, batch in zip(places(loader), epoch_of(loader), strict=False)})
            if on_error == "substitute":
                assert [len(indices) for indices, _, _ in parts[-1].values()] == [3, 3, 3, 3]
    assert sorted(i for part in parts for indices, _, _ in part.values() for i in indices) == sorted(
        i for indices, _, _ in wanted for i in indices
    )
    images = {i: image for indices, pixels, _ in wanted for i, image in zip(indices, pixels, strict=True)}
    if on_error == "skip":
        for part in parts:
            for indices, pixels, _ in part.values():
                assert all(torch.equal(images[i], image) for i, image in zip(indices, pixels, strict=True))


def places(loader):
    return [batch.position for batch in loader.batches(0)]


@settings(max_examples=12)
@given(
    at=st.integers(0, 5), on_error=st.sampled_from(["skip", "substitute"]), bad=st.sets(st.integers(0, 7), max_size=7)
)
def test_a_resumed_epoch_goes_on_as_if_nothing_had_happened(at, on_error, bad):
    source = Images(COUNT, bad | {12})
    with make(source, on_error) as first:
        iterator = iter(first)
        for _ in range(at):
            next(iterator, None)
        state = json.loads(json.dumps(first.state_dict()))
        rest = [(first.last_indices.tolist(), images.clone(), labels.tolist()) for images, labels in iterator]
        after = epoch_of(first)
    with make(source, on_error) as second:
        second.load_state_dict(state)
        assert [file.index for file in second.bad_files] == [index for index, _, _ in state["bad"]]
        if state["epoch"] == 0:
            assert equal(epoch_of(second), rest)
        assert equal(epoch_of(second), after)


class Images:
    """A source of tiny images in three classes, some of which are no images."""

    classes = ("a", "b", "c")

    def __init__(self, count, bad):
        self.items = []
        for number in range(count):
            buffer = io.BytesIO()
            Image.fromarray(np.full((9, 7, 3), number, np.uint8)).save(buffer, "PNG")
            self.items.append(b"no image" if number in bad else buffer.getvalue())
        self.labels = np.arange(count, dtype=np.int64) // -(-count // 3)

    def __len__(self):
        return len(self.items)

    def item(self, index):
        return self.items[index]


def test_single_samples_are_skipped_too_and_resumed():
    source = Images(COUNT, {1, 2, 13})
    with make(source, batch_size=None) as loader:
        iterator = iter(loader)
        before = [label for _, (_, label) in zip(range(9), iterator, strict=False)]
        state = loader.state_dict()
        rest = [label for _, label in iterator]
    with make(source, batch_size=None) as loader:
        loader.load_state_dict(state)
        assert [label for _, label in loader] == rest
    assert len(before + rest) == COUNT - 3


def test_a_batch_of_which_nothing_is_left_does_not_come():
    with make(Images(12, {4, 5, 6, 7}), batch_size=4, shuffle=False) as loader:
        for _ in range(2):
            assert [indices for indices, _, _ in epoch_of(loader)] == [[0, 1, 2, 3], [8, 9, 10, 11]]


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_channels_last_stays_channels_last(folder, backend):
    spoil(folder, [0, 9])
    for on_error in ("skip", "substitute"):
        with make(folder, on_error, backend=backend, memory_format="channels_last") as loader:
            assert all(images.is_contiguous(memory_format=torch.channels_last) for images, _ in loader)


# How many may be bad


@pytest.mark.parametrize("on_error", ["skip", "substitute"])
@pytest.mark.parametrize(("max_bad", "enough"), [(2, False), (3, True), (0.1, False), (0.125, True), (None, True)])
def test_too_many_bad_files_end_the_epoch(folder, on_error, max_bad, enough):
    paths = spoil(folder, [1, 9, 17])
    with make(folder, on_error, max_bad=max_bad) as loader:
        if enough:
            assert len(list(loader)) == 5
            return
        with pytest.raises(
            DecodeError, match=rf"at most 2 of 24 files may be bad \(max_bad = {max_bad}\), got 3"
        ) as got:
            list(loader)
        assert all(repr(path) in str(got.value) for path in paths)


def test_where_all_are_bad_nothing_goes_on(folder):
    spoil(folder, range(COUNT))
    with make(folder) as loader, pytest.raises(DecodeError, match="at most 23 of 24 files may be bad"):
        list(loader)


def test_a_class_without_a_good_file_has_no_substitute(folder):
    spoil(folder, range(PER_CLASS))
    with make(folder, "substitute") as loader, pytest.raises(DecodeError, match="class 'ant': must have a file"):
        list(loader)


def test_without_a_choice_the_error_names_every_bad_file_of_the_batch(folder):
    paths = spoil(folder, [1, 3])
    with (
        make(folder, "raise", shuffle=False) as loader,
        pytest.raises(DecodeError, match="2 files can't be used") as got,
    ):
        list(loader)
    assert all(repr(path) in str(got.value) for path in paths)
    assert 'on_error="skip"' in str(got.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_error": "ignore"}, "on_error must be"),
        ({"on_error": "skip", "max_bad": -1}, "max_bad must be a whole number"),
        ({"on_error": "skip", "max_bad": 1.5}, "max_bad must be a whole number"),
        ({"on_error": "skip", "max_bad": float("nan")}, "max_bad must be a whole number"),
        ({"on_error": "skip", "max_bad": True}, "max_bad must be a whole number"),
        ({"on_error": "raise", "max_bad": 3}, "max_bad needs on_error"),
    ],
)
def test_what_makes_no_sense_is_refused(folder, options, message):
    with pytest.raises(ConfigError, match=message):
        make(folder, **options)


# What is told


def test_bad_files_are_listed_and_told_of_once(folder, tmp_path, caplog):
    paths = spoil(folder, [1, 9])
    listed = tmp_path / "quarantine.jsonl"
    listed.write_text("of another loader\n")
    with make(folder, quarantine=listed) as loader:
        list(loader)
        assert [record.message for record in caplog.records if "can't be used" in record.message] != []
        caplog.clear()
        list(loader)
        assert not [record for record in caplog.records if "can't be used" in record.message]
    rows = [json.loads(line) for line in listed.read_text().splitlines()]
    assert sorted(row["path"] for row in rows) == sorted(paths)
    assert all(row["epoch"] == 0 and row["reason"] for row in rows)


def test_the_list_goes_on_from_a_state(folder, tmp_path):
    spoil(folder, [1, 9, 20])
    with make(folder, quarantine=tmp_path / "one.jsonl") as loader:
        iterator = iter(loader)
        next(iterator)
        state = loader.state_dict()
        list(iterator)
    with make(folder, quarantine=tmp_path / "two.jsonl") as loader:
        loader.load_state_dict(state)
        list(loader)
    assert (tmp_path / "one.jsonl").read_text() == (tmp_path / "two.jsonl").read_text()


def test_each_rank_lists_its_own(folder, tmp_path):
    spoil(folder, [1, 9, 20, 22])
    names = []
    for rank in range(2):
        with make(folder, rank=rank, world_size=2, quarantine=tmp_path / "q.jsonl") as loader:
            list(loader)
        path = tmp_path / ("q.rank1.jsonl" if rank else "q.jsonl")
        names += [json.loads(line)["path"] for line in path.read_text().splitlines()] if path.exists() else []
    assert len(names) == len(set(names)) == 4


def test_a_list_that_can_not_be_written_is_told(folder, tmp_path):
    spoil(folder, [1])
    with (
        make(folder, quarantine=tmp_path / "no" / "q.jsonl") as loader,
        pytest.raises(ConfigError, match="must be writable"),
    ):
        list(loader)


@pytest.mark.parametrize(
    "bad", [None, 3, [3], [["1", "r", 0]], [[1, "r"]], [[99, "r", 0]], [[-1, "r", 0]], [[True, "r", 0]]]
)
def test_a_malformed_list_in_a_state_is_refused(folder, bad):
    with make(folder) as loader, pytest.raises(StateError, match="bad must be a list"):
        loader.load_state_dict({**loader.state_dict(), "bad": bad})
