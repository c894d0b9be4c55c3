"""What holds of every loader holds where the data set is asked: decisions, resuming, shards, bad files, threads."""

import copy
import gc
import json
import pickle
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image, ImageFilter
from torchvision import transforms as v1

import dalipipe
from tests.asking.own import BACKENDS, COUNT, OTHER, RANDOM, Own, Patient, close, damage, ours, whole


@pytest.mark.parametrize("backend", BACKENDS)
def test_views_decide_for_themselves_and_depend_on_nothing_but_the_sample(files, backend):
    dataset = Own(files, RANDOM, RANDOM, OTHER, RANDOM)
    views, order = whole(ours(dataset, 4, shuffle=True, backend=backend))
    assert sorted(order) == list(range(COUNT)) and order != list(range(COUNT))
    for one, other in ((0, 1), (0, 3), (1, 3)):
        same = [torch.equal(views[one][at], views[other][at]) for at in range(COUNT)]
        assert sum(same) <= 1
    again, other_order = whole(ours(dataset, 5, shuffle=True, backend=backend, num_threads=2))
    assert other_order == order
    assert all(torch.equal(one, other) for one, other in zip(views, again, strict=True))
    if backend == "dali-cpu":
        reference, _ = whole(ours(dataset, 5, shuffle=True))
        assert all(close(one, other) for one, other in zip(views, reference, strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_first_view_is_what_the_direct_road_gives(files, backend):
    folder = torchvision.datasets.ImageFolder(str(Path(files[0]).parents[1]), RANDOM)
    direct = torch.cat([images for images, _ in ours(folder, 5, backend=backend)])
    views, _ = whole(ours(Own([path for path, _ in folder.samples], RANDOM, OTHER), 5, backend=backend))
    assert close(direct, views[0])


@pytest.mark.parametrize("backend", ["torchvision", "dali-cpu"])
def test_an_epoch_goes_on_where_it_was_left(files, backend):
    dataset = Own(files, RANDOM, OTHER)
    every = list(ours(dataset, 5, shuffle=True, backend=backend))
    loader = ours(dataset, 5, shuffle=True, backend=backend)
    next(iter(loader))
    state = json.loads(json.dumps(loader.state_dict()))
    assert len(json.dumps(state)) < 1000
    other = ours(dataset, 5, shuffle=True, backend=backend)
    other.load_state_dict(state)
    rest = list(other)
    assert [labels.tolist() for _, labels in rest] == [labels.tolist() for _, labels in every[1:]]
    for (views, _), (expected, _) in zip(rest, every[1:], strict=True):
        assert all(torch.equal(one, its) for one, its in zip(views, expected, strict=True))


def test_ranks_share_an_epoch_and_see_what_one_would(files):
    dataset = Own(files, RANDOM, RANDOM)
    views, order = whole(ours(dataset, 4, shuffle=True))
    found = {}
    for rank in range(2):
        mine, indices = whole(ours(dataset, 2, shuffle=True, rank=rank, world_size=2))
        found |= {index: mine[1][at] for at, index in enumerate(indices)}
    assert sorted(found) == list(range(COUNT))
    assert all(torch.equal(found[index], views[1][at]) for at, index in enumerate(order))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("own", [False, True])
def test_a_bad_file_in_the_middle_of_a_sample_is_quarantined(files, backend, own, tmp_path):
    bad = damage(files)
    last = v1.Compose([*RANDOM.transforms, v1.Lambda(lambda image: image * 2)])
    dataset = Own(files, last if own else RANDOM, OTHER)
    loader = ours(dataset, 5, backend=backend, on_error="skip", quarantine=tmp_path / "bad.jsonl")
    for _ in range(2):
        views, order = whole(loader)
        assert order == [index for index in range(COUNT) if index not in bad]
        assert [len(view) for view in views] == [COUNT - 3] * 2
    assert [file.index for file in loader.bad_files] == bad
    assert [file.path for file in loader.bad_files] == [files[index] for index in bad]
    assert "no such file" in loader.bad_files[2].reason and all(file.reason for file in loader.bad_files)
    lines = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == [files[index] for index in bad]
    replaced = ours(dataset, 5, backend=backend, on_error="substitute")
    views, order = whole(replaced)
    assert len(order) == COUNT and not set(bad) & set(order)
    with pytest.raises(dalipipe.DecodeError) as caught:
        list(ours(dataset, 5, backend=backend))
    assert files[1] in str(caught.value) and files[4] in str(caught.value)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_data_sets_own_answer_to_a_bad_file_counts(files, backend):
    bad = damage(files)
    loader = ours(Patient(files), 5, backend=backend)
    _, order = whole(loader)
    assert order == [index + 1 if index in bad else index for index in range(COUNT)]
    assert loader.bad_files == ()


def test_what_the_data_set_raises_comes_up_in_its_place(files):
    class Breaks(Own):
        def __getitem__(self, index):
            if index == 7:
                raise KeyError("seven")
            return super().__getitem__(index)

    for backend in BACKENDS:
        batches = iter(ours(Breaks(files), 3, backend=backend))
        assert [next(batches)[1].tolist() for _ in range(2)] == [[0, 1, 2], [3, 4, 5]]
        with pytest.raises(KeyError, match="seven"):
            next(batches)


def test_a_collate_function_gets_rows_of_the_finished_batch(files):
    seen = []

    def collate(samples):
        seen.append([views[0].untyped_storage().data_ptr() for views, _ in samples])
        assert all(type(views[0]) is torch.Tensor for views, _ in samples)
        return len(samples)

    assert list(ours(Own(files), 5, backend="dali-cpu", collate_fn=collate)) == [5, 5, 2]
    assert all(len(set(pointers)) == 1 for pointers in seen)
    folder = torchvision.datasets.ImageFolder(str(Path(files[0]).parents[1]), RANDOM)
    (first, *_) = ours(folder, 5, collate_fn=lambda samples: [label for _, label in samples])
    assert first == [0, 0, 0, 0, 0] or all(type(label) is int for label in first)


def test_what_a_collate_function_draws_belongs_to_the_batch(files):
    dataset = Own(files)

    def drawn(loader):
        return [float(each) for each in loader]

    def collate(_samples):
        return torch.rand(())

    every = drawn(ours(dataset, 5, collate_fn=collate))
    loader = ours(dataset, 5, collate_fn=collate)
    next(iter(loader))
    other = ours(dataset, 5, collate_fn=collate)
    other.load_state_dict(loader.state_dict())
    assert drawn(other) == every[1:] and len(set(every)) == 3


def test_other_threads_get_real_images_meanwhile_and_nothing_is_left_behind(files):
    gc.collect()  # what other tests have left
    before = Image.open, v1.Compose.__call__, v1.Resize.__call__, v1.ToTensor.__call__
    kinds, asked = [], threading.Event()

    def elsewhere(path):
        kinds.append(type(RANDOM(Image.open(path).convert("RGB"))))

    class Watched(Own):
        def __getitem__(self, index):
            thread = threading.Thread(target=elsewhere, args=(self.files[0],))
            thread.start()
            thread.join()
            kinds.append(type(Image.open(self.files[index])).__name__)
            asked.set()
            return super().__getitem__(index)

    loader, other = ours(Watched(files), 4), ours(Own(files), 4)
    assert Image.open is before[0]
    batches, others = iter(loader), iter(other)
    next(batches), next(others)
    assert Image.open is not before[0]
    inside = Image.open(files[0])
    assert type(inside).__module__ != "dalipipe.asking.images"
    assert type(RANDOM(inside.convert("RGB"))) is torch.Tensor
    assert asked.is_set() and set(kinds) == {torch.Tensor, "DeferredImage"}
    assert len(list(batches)) == 2
    assert Image.open is not before[0]
    others.close()
    assert (Image.open, v1.Compose.__call__, v1.Resize.__call__, v1.ToTensor.__call__) == before


def test_a_forgotten_loader_leaves_nothing_behind(files):
    gc.collect()
    before = Image.open
    loader = ours(Own(files), 4)
    next(iter(loader))
    del loader
    gc.collect()
    assert Image.open is before


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_transform_that_is_changed_counts_from_the_next_epoch(files, backend):
    transform = v1.Compose([v1.Resize((10, 10)), v1.ToTensor()])
    loader = ours(Own(files, transform), 6, backend=backend)
    assert next(iter(loader))[0][0].shape == (6, 3, 10, 10)
    transform.transforms[0] = v1.Resize((12, 8))
    assert next(iter(loader))[0][0].shape == (6, 3, 12, 8)


def test_samples_with_recipes_of_their_own_share_a_batch(files):
    class Sizes(Own):
        def __getitem__(self, index):
            index %= COUNT
            resize = v1.Resize((10, 10 + index % 3)) if index < 6 else v1.Resize((10, 20 + index))
            return v1.Compose([resize, v1.Pad((0, 0, 3, 0)), v1.CenterCrop(8), v1.ToTensor()])(
                Image.open(self.files[index]).convert("RGB")
            )

    expected = torch.stack([Sizes(files)[index] for index in range(COUNT)])
    for backend in BACKENDS:
        got = torch.cat(list(ours(Sizes(files * 4), 7, backend=backend)))
        assert close(got[:COUNT], expected) and close(got[-COUNT:], expected)


def test_what_is_not_there_is_refused_with_what_to_do(files):
    dataset = Own(files)
    with pytest.raises(dalipipe.ConfigError, match="cache='ram' needs images that belong to the data set"):
        ours(dataset, 4, cache="ram")
    with pytest.raises(dalipipe.ConfigError, match='dtype="uint8" needs one recipe'):
        ours(dataset, 4, dtype="uint8")
    with pytest.raises(dalipipe.ConfigError, match="collate_fn must be a function"):
        ours(dataset, 4, collate_fn=3)
    with pytest.raises(dalipipe.SourceError, match="the data set must be"):
        ours(iter(()), 4)


def test_memory_does_not_grow_with_the_epochs(files):
    class Large(Own):
        def __getitem__(self, index):
            return super().__getitem__(index % COUNT)

        def __len__(self):
            return 60

    loader = ours(Large(files, RANDOM, OTHER), 10, backend="dali-cpu")
    gc.disable()
    try:
        for _ in loader:
            pass
        counts = []
        for _ in range(2):
            for _ in loader:
                pass
            counts.append(sum(type(thing) in (np.ndarray, torch.Tensor) for thing in gc.get_objects()))
    finally:
        gc.enable()
    assert counts[1] - counts[0] <= 4


class GaussianBlur:
    def __call__(self, image):
        return image.filter(ImageFilter.GaussianBlur(1))


def test_it_explains_what_runs_where_and_why(files):
    class Cut(Own):
        def __getitem__(self, index):
            image = Image.open(self.files[index])
            return [self.transforms[0](image.convert("RGB")), OTHER(image.crop((0, 0, 9, 9)).convert("RGB")) + 1], index

    chain = v1.Compose([v1.Resize((16, 16)), GaussianBlur(), v1.ToTensor(), v1.Lambda(lambda image: image)])
    with ours(Cut(files, chain), 4) as loader:
        (asked, *_rest) = loader.explain().splitlines()
        assert asked.startswith("Cut is asked for each sample, which takes ") and asked.endswith("(measured on 1).")
        list(loader)
        lines = loader.explain().splitlines()
    assert lines[0].endswith(f"(measured on {COUNT + 1}).")
    assert "On torchvision: Resize." in lines
    (own,) = [line for line in lines if "GaussianBlur" in line]
    assert "ms an image" in own and "none of torchvision's own" in own
    assert own.endswith("torchvision's GaussianBlur would run on torchvision.")
    assert any(line.startswith("In Python: ToTensor") and line.endswith("it stands behind that.") for line in lines)
    assert any("Lambda" in line for line in lines)
    assert any(line.startswith("Decoded in Python, since Image.crop looks at the pixels") for line in lines)
    assert any(line.startswith("Made at once") for line in lines)
    folder = torchvision.datasets.ImageFolder(str(Path(files[0]).parents[1]), RANDOM)
    direct = ours(folder, 4).explain()
    assert "is read directly" in direct and "RandomResizedCrop: v2.functional.resized_crop" in direct


def test_one_line_of_logging_says_what_runs_where(files, caplog):
    chain = v1.Compose([v1.Resize((16, 16)), GaussianBlur(), v1.ToTensor()])
    with caplog.at_level("INFO", logger="dalipipe"):
        for _ in range(2):
            list(ours(Own(files, chain), 4))
    lines = [record.message for record in caplog.records if "is asked for each sample" in record.message]
    assert len(lines) == 2 and all("GaussianBlur" in line and "\n" not in line for line in lines)


def test_a_size_that_is_not_fixed_is_explained_with_what_to_do(files):
    chain = v1.Compose([v1.Resize(16), v1.ToTensor()])
    (_, line) = ours(Own(files, chain), 1).explain().splitlines()
    assert line.startswith("In Python: Resize, ToTensor") and "CenterCrop behind" in line


class Slow(Own):
    """Is slow, and may be asked by several threads."""

    def __init__(self, files, requests, draws=False):
        super().__init__(files * 6)
        self.max_requests, self.draws, self.threads = requests, draws, set()

    def __getitem__(self, index):
        self.threads.add(threading.get_ident())
        time.sleep(0.003)
        drawn = float(np.random.rand()) if self.draws and index % 7 == 3 else 0.0
        return self.transforms[0](Image.open(self.files[index]).convert("RGB")), index, drawn


def test_threads_ask_a_data_set_that_allows_it_where_nothing_is_drawn(files):
    for draws in (False, True):
        alone, together = Slow(files, 1, draws), Slow(files, 4, draws)
        one = list(ours(alone, 16, shuffle=True, num_workers=4))
        before = np.random.get_state()[1].tolist()
        other = list(ours(together, 16, shuffle=True))
        assert np.random.get_state()[1].tolist() == before
        assert len(alone.threads) == 1 and len(together.threads) > 1
        assert (threading.get_ident() in together.threads) == draws
        for mine, its in zip(one, other, strict=True):
            assert all(torch.equal(first, second) for first, second in zip(mine, its, strict=True))


def test_a_copy_and_a_pickle_of_a_loader_go_on_by_themselves(files):
    expected = whole(ours(Own(files, RANDOM, OTHER), 5))
    loader = ours(Own(files, RANDOM, OTHER), 5)
    for other in (copy.copy(loader), copy.deepcopy(loader), pickle.loads(pickle.dumps(loader))):
        views, order = whole(other)
        assert order == expected[1] and all(map(torch.equal, views, expected[0]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_a_data_set_goes_on_to_change_was_taken_as_it_was(files, backend, tmp_path):
    """One file, one array, one image and one tensor, which each sample overwrites."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    tensor = torch.zeros(3, 8, 8, dtype=torch.uint8)
    path, small = tmp_path / "same.png", v1.Compose([v1.CenterCrop(4), v1.ToTensor()])

    class Reuses(Own):
        def __getitem__(self, index):
            pixels[:] = tensor[:] = 10 * index
            Image.fromarray(pixels).resize((8 + index, 8)).save(path)
            image = Image.open(path).convert("RGB")
            drawn = small(image)
            whole = v1.ToTensor()(image)
            image.paste((255, 255, 255), (0, 0, 9, 9))
            array = v1.Compose([v1.ToPILImage(), small])(pixels)
            levels = v1.Compose([v1.CenterCrop(4), v1.ConvertImageDtype(torch.float32)])(tensor)
            return drawn, array, levels, whole[:, :4, :4]

    for parts in map(torch.cat, zip(*ours(Reuses(files), 4, backend=backend), strict=True)):
        levels = (parts.reshape(-1, 48)[..., 0] * 255 / 10).round().tolist()
        assert levels == list(range(COUNT))


def test_an_image_in_two_places_is_two_tensors(files):
    class Twice(Own):
        def __getitem__(self, index):
            (view,), _ = super().__getitem__(index)
            return {"one": view, "other": view}

    batch = next(iter(ours(Twice(files), 4)))
    assert torch.equal(batch["one"], batch["other"])
    batch["one"].zero_()
    assert batch["other"].any()
