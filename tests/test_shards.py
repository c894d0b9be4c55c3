"""Each sample exactly once over all ranks, and the same global batches whatever the world size."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dalipipe
from dalipipe.errors import ConfigError
from dalipipe.sampling import Cut, Shard
from tests.sharded import alone_and_together, batches_and_images
from tests.warm import run_ranks

lengths = st.integers(0, 60)
sizes = st.integers(1, 7)
worlds = st.integers(1, 5)


def shares(length, size, world, drop_last=False, pad=False, skip=0):
    """Return the batches of every rank: [rank][batch] -> (indices, position)."""
    cuts = [Cut(size, drop_last, Shard(rank, world, pad)) for rank in range(world)]
    order = [(7 * i + 3) % length for i in range(length)] if length % 7 else list(range(length))
    return [[(b.indices.tolist(), b.position) for b in cut.batches(order, 0, skip)] for cut in cuts], cuts, order


@given(lengths, sizes, worlds)
def test_evaluation_sees_every_sample_exactly_once(length, size, world):
    parts, cuts, order = shares(length, size, world)
    assert sorted(index for part in parts for indices, _ in part for index in indices) == sorted(order)
    assert [len(part) for part in parts] == [cut.count(length) for cut in cuts]
    assert max(len(part) for part in parts) - min(len(part) for part in parts) <= 1


@given(lengths, sizes, worlds)
def test_training_gives_every_rank_the_same_number_of_batches(length, size, world):
    parts, cuts, order = shares(length, size, world, pad=True)
    assert len({len(part) for part in parts}) == 1 and {cut.count(length) for cut in cuts} == {len(parts[0])}
    seen = [index for part in parts for indices, _ in part for index in indices]
    assert set(seen) == set(order)
    assert len(seen) - length <= max(0, world - 1)  # what is repeated
    assert all(indices for part in parts for indices, _ in part)


@given(lengths, sizes, worlds)
def test_drop_last_drops_less_than_a_global_batch(length, size, world):
    parts, cuts, _ = shares(length, size, world, drop_last=True)
    assert {len(part) for part in parts} == {length // (size * world)} == {cut.count(length) for cut in cuts}
    assert all(len(indices) == size for part in parts for indices, _ in part)


@given(lengths, st.sampled_from([(12, 1), (6, 2), (4, 3), (3, 4), (2, 6)]), st.booleans())
def test_global_batches_do_not_depend_on_the_world_size(length, form, drop_last):
    size, world = form
    parts, _, order = shares(length, size, world, drop_last)
    for number in range(max(len(part) for part in parts)):
        together = [index for part in parts if number < len(part) for index in part[number][0]]
        assert together == order[12 * number : 12 * number + 12]


@given(lengths, sizes, worlds, sizes, worlds, st.data())
def test_a_resumed_epoch_has_exactly_what_was_left(length, size, world, new_size, new_world, data):
    parts, _, order = shares(length, size, world)
    done = data.draw(st.integers(0, max(len(part) for part in parts)))
    position = max([position for part in parts for _, position in part[:done]], default=0)
    before = [index for part in parts for indices, _ in part[:done] for index in indices]
    after, _, _ = shares(length, new_size, new_world, skip=position)
    assert sorted(before + [index for part in after for indices, _ in part for index in indices]) == sorted(order)


def test_a_sample_that_comes_again_is_another_occurrence_on_whatever_rank():
    batches = [next(Cut(2, shard=Shard(rank, 2)).batches([5, 5, 5, 1], 0)) for rank in range(2)]
    assert [(b.indices.tolist(), b.occurrences.tolist()) for b in batches] == [([5, 5], [0, 1]), ([5, 1], [2, 0])]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, "go together"),
        ({"rank": 2, "world_size": 2, "seed": 0}, "rank must be below"),
        ({"rank": 0, "world_size": 0, "seed": 0}, "world_size must be"),
        ({"rank": 0, "world_size": 2}, "need the same seed"),
    ],
)
def test_ranks_that_make_no_sense_are_refused(make_image_folder, arguments, message):
    with pytest.raises(ConfigError, match=message):
        dalipipe.DataLoader(make_image_folder(), 2, recipe="cifar-train", **arguments)


def test_under_torchrun_it_shards_by_itself(make_image_folder):
    folder = make_image_folder("shards", classes=("a", "b"), per_class=8, sizes=((17, 11),), seed=2)
    found = {world: run_ranks(batches_and_images, world, folder) for world in (1, 2, 3)}
    whole = found[1][0]
    for world in (2, 3):
        for name in ("train", "eval"):
            together = [[], [], []]
            images = [[], [], []]
            for rank in range(world):
                for number, indices in enumerate(found[world][rank][name]):
                    together[number] += indices
                    images[number] += found[world][rank][f"{name}-images"][number]
            assert together == whole[name]
            if name == "train":
                assert images == whole["train-images"]
        states = [found[world][rank]["train-state"] for rank in range(world)]
        assert all(state == states[0] for state in states)
    assert torch.tensor(whole["train-images"][0]).isfinite().all()


def test_ranks_share_an_order_without_a_seed_and_never_wait_for_one_another(make_image_folder):
    folder = make_image_folder("shards", classes=("a", "b"), per_class=8, sizes=((17, 11),), seed=2)
    first, second = run_ranks(alone_and_together, 2, folder)
    assert len(first["alone"]) == 16
    assert first["lengths"] == second["lengths"] == [8, 4, 4]
    for one, other in zip(first["epochs"], second["epochs"], strict=True):
        assert sorted(one + other) == list(range(16))
    assert first["listed"] == first["epochs"] and second["listed"] == second["epochs"]
    assert first["epochs"][0] != first["epochs"][1] == first["epochs"][2]
