"""Whatever lies where an image should: it costs itself, wherever in batch and epoch, and is named with a reason."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import dalipipe
from dalipipe.backends import BACKENDS, Job, compile_recipe
from dalipipe.errors import DecodeError
from dalipipe.recipes import Recipe, ops
from dalipipe.sampling import Batch, batched
from dalipipe.sources import FolderSource
from tests.faults.cases import FORMS, NAMES, Case, cases, encode, name_path, remove

CPU_BACKENDS = [name for name in BACKENDS if name != "dali-gpu"]
NOBODY = 65534
GOOD = 9
SPOT = GOOD  # the index of the file that a case takes the place of; the others are good
RECIPES = {
    # A window of the file is decoded: what is bad outside it may go unseen.
    "window": Recipe(name="window", ops=(ops.RandomResizedCrop(size=(13, 11)), ops.ToDtype(scale=True))),
    "whole": Recipe(name="whole", ops=(ops.RandomRotation(degrees=9), ops.Resize(size=(13, 11)))),
}
# First, in the middle, alone and last in a batch; first and last in the epoch.
EPOCH = [[SPOT, 0, 1], [2, SPOT, 3], [SPOT], [4, 5, 6], [7, 8, SPOT]]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that every user may read, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        (root / "a").mkdir(mode=0o755)
        forms = list(FORMS.values())
        for number in range(GOOD):
            data = forms[number % len(forms)]() if number % 2 else encode(seed=number)
            (root / "a" / f"{number}.jpg").write_bytes(data)
        (root / "a" / f"{SPOT}.jpg").write_bytes(encode(seed=SPOT))
        yield root


@contextlib.contextmanager
def other_user(wanted: bool) -> Iterator[None]:
    """Act as a user who may not read everything, where `wanted`."""
    if not wanted or os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def batches() -> Iterator[Batch]:
    for indices in EPOCH:
        yield Batch(0, np.array(indices), np.zeros(len(indices), np.int64))


class Runner:
    """An executor over a folder of good images, one of which makes room for whatever is to be tried."""

    def __init__(self, folder: Path, backend: str, recipe: str) -> None:
        self.spot = folder / "a" / f"{SPOT}.jpg"
        self.backend, self.recipe = backend, recipe
        self.executor = compile_recipe(Job(FolderSource(folder), RECIPES[recipe], 3, 3, 2), backend)
        self.clean, failures = self.run()
        assert set(self.clean) == set(range(GOOD + 1)) and not failures

    def run(self) -> tuple[dict[int, list[torch.Tensor]], list[str]]:
        """Return the images of an epoch by sample, and the reasons; checks that only SPOT fails, and none is lost."""
        images: dict[int, list[torch.Tensor]] = {}
        reasons = []
        results = list(self.executor.run(batches()))
        assert [result.batch.indices.tolist() for result in results] == EPOCH
        for indices, result in zip(EPOCH, results, strict=True):
            assert {indices[at] for at in result.failures} <= {SPOT}
            left = [index for at, index in enumerate(indices) if at not in result.failures]
            assert len(result.images) == len(result.labels) == len(left)
            for index, image in zip(left, result.images, strict=True):
                images.setdefault(index, []).append(image.clone())
            reasons += result.failures.values()
        return images, reasons

    def assert_good_ones_unchanged(self, images: dict[int, list[torch.Tensor]]) -> None:
        for index in range(GOOD):
            (image,) = images[index]
            assert torch.equal(image, self.clean[index][0])

    @contextlib.contextmanager
    def holding(self, case: Case) -> Iterator[None]:
        remove(self.spot)
        case.make(self.spot)
        try:
            with other_user(case.as_other_user):
                yield
        finally:
            remove(self.spot)
            self.spot.write_bytes(encode(seed=SPOT))


PAIRS = [("dali-cpu", "window"), ("dali-cpu", "whole"), ("dali-cpu-stock", "window"), ("torchvision", "whole")]


@pytest.fixture(scope="module", params=PAIRS, ids="-".join)
def runner(request, folder) -> Iterator[Runner]:
    runner = Runner(folder, *request.param)
    yield runner
    runner.executor.close()


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_a_case_costs_itself_wherever_it_is(runner, case):
    with runner.holding(case):
        images, reasons = runner.run()
    runner.assert_good_ones_unchanged(images)
    delivered = images.get(SPOT, [])
    assert len(delivered) + len(reasons) == sum(SPOT in indices for indices in EPOCH)
    if runner.backend in case.delivered:
        assert not reasons
    else:
        assert not delivered
    assert all(torch.equal(image, delivered[0]) for image in delivered)
    for reason in reasons:
        assert reason == " ".join(reason.split()) and case.reason in reason
        assert str(runner.spot) not in reason  # whoever reports the reason names the file


def test_an_epoch_after_all_that_is_whole(runner):
    images, reasons = runner.run()
    runner.assert_good_ones_unchanged(images)
    assert not reasons and all(torch.equal(image, runner.clean[SPOT][0]) for image in images[SPOT])


# Through the loader


@pytest.fixture(scope="module", params=CPU_BACKENDS)
def loader(request, folder) -> Iterator[dalipipe.DataLoader]:
    options = {"recipe": RECIPES["whole"], "backend": request.param, "seed": 3, "num_threads": 2}
    with dalipipe.DataLoader(folder, batch_sampler=[[0, SPOT, 1], [2, 3]], **options) as loader:
        yield loader


# Of the files that are cut off one each is enough here.
NAMED = [case for case in cases() if "cut after" not in case.name or "cut after 5" in case.name]


@pytest.mark.parametrize("case", NAMED, ids=lambda case: case.name)
def test_the_loader_names_the_file_or_delivers_it(loader, case, folder):
    holder = Runner.__new__(Runner)
    holder.spot = folder / "a" / f"{SPOT}.jpg"
    with holder.holding(case):
        if loader.backend in case.delivered:
            assert [len(images) for images, _ in loader] == [3, 2]
            return
        with pytest.raises(DecodeError) as caught:
            list(loader)
    message = str(caught.value)
    assert message.startswith(f"1 file can't be used: {str(holder.spot)!r} (")
    assert "). Replace or remove it, or go on without it: on_error=" in message and "\n" not in message


def mixed_folder(root: Path) -> tuple[FolderSource, dict[int, Case]]:
    """Make a folder with a file for each case and three good ones beside each; return it, and the cases by index."""
    (root / "a").mkdir()
    for number in range(len(cases())):
        for good in range(3):
            (root / "a" / f"{number:03} good {good}.jpg").write_bytes(encode(seed=3 * number + good, size=(19, 23)))
        (root / "a" / f"{number:03} odd.jpg").write_bytes(encode())
    source = FolderSource(root)
    by_index = {}
    for number, case in enumerate(cases()):
        path = root / "a" / f"{number:03} odd.jpg"
        by_index[source.samples.index((str(path), 0))] = case
        remove(path)
        case.make(path)
    return source, by_index


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_all_cases_in_one_shuffled_epoch(backend, tmp_path):
    source, odd = mixed_folder(tmp_path)
    order = np.random.default_rng(1).permutation(len(source)).tolist()
    executor = compile_recipe(Job(source, RECIPES["whole"], 3, 8, 2), backend)
    seen, failed = [], set()
    for result in executor.run(batched(order, 8, epoch=0, drop_last=False)):
        seen += result.batch.indices.tolist()
        failed |= {int(result.batch.indices[at]) for at in result.failures}
        assert len(result.images) == len(result.batch) - len(result.failures)
    executor.close()
    assert seen == order
    unreadable = {index for index, case in odd.items() if backend not in case.delivered}
    if os.geteuid() == 0:  # root may read anything
        unreadable -= {index for index, case in odd.items() if case.as_other_user}
    assert failed == unreadable


# Names


def folder_of_names(root: Path) -> FolderSource:
    (root / "a").mkdir()
    for number, name in enumerate(NAMES.values()):
        name_path(root / "a", name).write_bytes(encode(seed=number, size=(19, 23)))
    return FolderSource(root)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_a_file_may_have_any_name(backend, tmp_path):
    named, plain = tmp_path / "named", tmp_path / "plain"
    named.mkdir()
    (plain / "a").mkdir(parents=True)
    source = folder_of_names(named)
    assert len(source) == len(NAMES)
    for number, (path, _) in enumerate(source.samples):
        (plain / "a" / f"{number:02}.jpg").write_bytes(Path(path).read_bytes())
    options = {"batch_size": 4, "recipe": RECIPES["window"], "backend": backend, "seed": 3, "num_threads": 2}
    with dalipipe.DataLoader(source, **options) as loader, dalipipe.DataLoader(plain, **options) as wanted:
        for (images, _), (wanted_images, _) in zip(loader, wanted, strict=True):
            assert torch.equal(images, wanted_images)


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_a_bad_file_of_any_name_is_named_readably(backend, tmp_path):
    source = folder_of_names(tmp_path)
    for path, _ in source.samples:
        Path(path).write_bytes(b"this is no image")
    with (
        dalipipe.DataLoader(
            source, len(source), recipe=RECIPES["whole"], backend=backend, seed=3, num_threads=2
        ) as loader,
        pytest.raises(DecodeError) as caught,
    ):
        next(iter(loader))
    message = str(caught.value)
    assert message.startswith(f"{len(NAMES)} files can't be used: ")
    assert all(f"{path!r} (" in message for path, _ in source.samples)
    assert message.isprintable()
    message.encode("utf-8")  # what is not UTF-8 is escaped


def test_a_folder_named_like_an_image_is_a_folder(tmp_path):
    (tmp_path / "a" / "x.jpg").mkdir(parents=True)
    (tmp_path / "a" / "x.jpg" / "y.jpg").write_bytes(encode())
    (tmp_path / "a" / "empty.jpg").mkdir()
    assert FolderSource(tmp_path).samples == [(str(tmp_path / "a" / "x.jpg" / "y.jpg"), 0)]


# Replaced while running


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_a_file_that_is_replaced_during_an_epoch_is_what_it_is_when_its_turn_comes(backend, tmp_path):
    (tmp_path / "a").mkdir()
    paths = [tmp_path / "a" / f"{number:02}.jpg" for number in range(24)]
    for number, path in enumerate(paths):
        path.write_bytes(encode(seed=number))
    executor = compile_recipe(Job(FolderSource(tmp_path), RECIPES["window"], 3, 2, 2, prefetch=2), backend)

    def epoch() -> Iterator[tuple[int, torch.Tensor | str]]:
        for result in executor.run(batched(range(24), 2, epoch=0, drop_last=False)):
            images = iter(result.images.clone())
            for at, index in enumerate(result.batch.indices.tolist()):
                yield index, result.failures[at] if at in result.failures else next(images)

    clean = dict(epoch())
    paths[20].write_bytes(encode(seed=77))
    replaced = dict(epoch())
    paths[20].write_bytes(encode(seed=20))
    found = {}
    for index, outcome in epoch():
        if index == 0:  # the last batches are far from being read yet
            paths[20].write_bytes(encode(seed=77))
            paths[22].write_bytes(b"garbage")
            paths[23].unlink()
        found[index] = outcome
    executor.close()
    assert not torch.equal(replaced[20], clean[20]) and torch.equal(found[20], replaced[20])
    assert {index for index, outcome in found.items() if isinstance(outcome, str)} == {22, 23}
    assert "no such file" in found[23]
    assert all(torch.equal(found[index], clean[index]) for index in (*range(20), 21))
