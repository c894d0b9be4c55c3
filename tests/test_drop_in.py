"""One import changed: the example differs from torch's version in one line, and a page lists what else differs."""

import copy
import difflib
import inspect
import pickle
import re
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler

import dalipipe
from dalipipe.errors import ConfigError, SamplerError
from dalipipe.sources import ArraySource

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = (ROOT / "examples/drop_in.py").read_text()
AFTER = "from dalipipe import DataLoader\n"
BEFORE = "from torch.utils.data import DataLoader\n"
TITLE = "Change one import"
PAGE = ROOT / "dalipipe/loading/README.md"


def page_section():
    found = re.search(rf"^## {TITLE}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert found
    return found.group(1)


def rows():
    """Return the page's table: {argument: what it means here}."""
    found = {}
    for names, meaning in re.findall(r"^\| (`.+?`) \| (.+) \|$", page_section(), re.MULTILINE):
        for name in re.findall(r"`([a-z_]+)`", names):
            assert name not in found
            found[name] = meaning
    return found


def labels_by_call(monkeypatch, capsys, code, folder):
    """Run a version of the script; return the labels of every training step."""
    seen = []
    loss = torch.nn.functional.cross_entropy

    def noted(outputs, labels):
        seen.append(labels.tolist())
        return loss(outputs, labels)

    with monkeypatch.context() as patch:
        options = ["--data", str(folder), "--epochs", "2", "--batch-size", "4", "--workers", "0", "--weights", "none"]
        patch.setattr("sys.argv", ["drop_in.py", *options])
        patch.setattr(torch.nn.functional, "cross_entropy", noted)
        torch.manual_seed(0)
        exec(compile(code, "drop_in.py", "exec"), {"__name__": "__main__"})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 1", "epoch 2"]
    assert all(line.endswith("of 2 validation images right") for line in lines)
    return seen


def test_exactly_one_line_of_the_example_differs_and_the_page_shows_it():
    assert EXAMPLE.count(AFTER) == 1 and len(EXAMPLE.splitlines()) < 80
    before = EXAMPLE.replace(AFTER, BEFORE)
    changed = [line for line in difflib.ndiff(before.splitlines(True), EXAMPLE.splitlines(True)) if line[0] in "+-"]
    assert changed == [f"- {BEFORE}", f"+ {AFTER}"]
    assert f"-{BEFORE}+{AFTER}" in page_section()
    assert "dalipipe" not in before.split('"""')[2]


def test_both_versions_of_the_example_see_the_same_labels_in_each_epoch(make_image_folder, monkeypatch, capsys):
    folder = make_image_folder("photos/train", classes=("ant", "bee"), per_class=3).parent
    make_image_folder("photos/val", classes=("ant", "bee"), per_class=1, seed=1)
    after = labels_by_call(monkeypatch, capsys, EXAMPLE, folder)
    before = labels_by_call(monkeypatch, capsys, EXAMPLE.replace(AFTER, BEFORE), folder)
    for seen in (before, after):
        assert [len(labels) for labels in seen] == [4, 2] * 2
    for epoch in (slice(0, 2), slice(2, 4)):
        assert sorted(chain(*after[epoch])) == sorted(chain(*before[epoch])) == [0] * 3 + [1] * 3


def test_every_argument_of_both_loaders_is_in_the_pages_table():
    theirs = set(inspect.signature(torch.utils.data.DataLoader.__init__).parameters) - {"self"}
    ours = set(inspect.signature(dalipipe.DataLoader.__init__).parameters) - {"self"}
    assert theirs <= ours
    assert set(rows()) == ours


def test_torchs_own_collate_functions_do_what_they_do_there(make_image_folder):
    folder = make_image_folder()
    usual, single = torch.utils.data.default_collate, torch.utils.data.default_convert
    assert rows()["collate_fn"].startswith("as in torch")
    for batch_size, function in ((2, usual), (2, single), (None, single)):
        loader = dalipipe.DataLoader(folder, batch_size, recipe="cifar-train", collate_fn=function, num_threads=1)
        assert loader.collate_fn is function
        first = next(iter(loader))
        shape = (2, 3, 32, 32) if function is usual else (3, 32, 32)
        assert (first[0][0] if function is single and batch_size else first[0]).shape == shape


def test_arguments_for_worker_processes_are_accepted_with_one_warning_where_they_were_given(make_image_folder):
    values = {"worker_init_fn": print, "multiprocessing_context": "fork"}
    assert [name for name, meaning in rows().items() if "with a warning" in meaning] == [*values]
    with pytest.warns(UserWarning) as caught:
        loader = dalipipe.DataLoader(make_image_folder(), 5, recipe="cifar-train", num_workers=2, **values)
    (warning,) = caught
    assert warning.filename == __file__
    assert all(f"{name} (" in str(warning.message) for name in values)
    assert {name: getattr(loader, name) for name in values} == values
    assert [len(labels) for _, labels in loader] == [5, 5, 2]


def test_an_argument_that_the_table_calls_meaningless_is_accepted_and_kept(make_image_folder):
    values = {"timeout": 3.5, "persistent_workers": True, "pin_memory_device": "cuda", "in_order": False}
    assert {name for name, meaning in rows().items() if meaning.startswith("no meaning")} == set(values)
    with dalipipe.DataLoader(make_image_folder(), 5, recipe="cifar-train", seed=0, **values) as loader:
        assert {name: getattr(loader, name) for name in values} == values
        assert [len(labels) for _, labels in loader] == [5, 5, 2]


RECIPE = dalipipe.Recipe.from_toml('ops = [{ op = "RandomCrop", size = 4, padding = 2 }]')


def loaders(count=10, **options):
    """Torch's loader and ours of the same samples, whose labels are their numbers."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    theirs = torch.utils.data.DataLoader([(image, label) for label, image in enumerate(pixels)], **options)
    mine = {"recipe": RECIPE, "backend": "torchvision", "num_threads": 1}
    return theirs, dalipipe.DataLoader(ArraySource(pixels, range(count)), **options, **mine)


def labels_of(loader):
    return [labels.tolist() for _, labels in loader]


def sums(loader):
    return [images.sum().item() for images, _ in loader]


def test_what_scripts_ask_a_loader_for_is_what_torchs_has():
    for options in (
        {"batch_size": 4},
        {"batch_size": 4, "shuffle": True, "drop_last": True, "generator": torch.Generator()},
        {"batch_size": None},
        {"batch_size": 3, "sampler": [1, 2, 3]},
        {"batch_sampler": [[1], [2, 3]]},
    ):
        theirs, mine = loaders(**options)
        for name in ("sampler", "batch_sampler"):
            one, other = getattr(theirs, name), getattr(mine, name)
            assert isinstance(other, type(one))
            assert one is None or len(one) == len(other)
        for name in ("batch_size", "drop_last", "generator", "collate_fn", "worker_init_fn", "multiprocessing_context"):
            assert getattr(theirs, name) is getattr(mine, name) or getattr(theirs, name) == getattr(mine, name), name
        assert len(theirs) == len(mine) and len(theirs.dataset) == len(mine.dataset)
        one, other = next(iter(theirs)), next(iter(mine))
        assert type(other) is type(one) is list and type(other[1]) is type(one[1])
        if mine.batch_sampler is not None and not isinstance(mine.batch_sampler, list):
            assert mine.batch_sampler.sampler is mine.sampler
            assert isinstance(mine.sampler, RandomSampler | SequentialSampler | list)
            assert isinstance(mine.batch_sampler, BatchSampler)
    annotation: dalipipe.DataLoader[int] | None = None
    assert annotation is None


@pytest.mark.parametrize(
    "name", ["batch_size", "sampler", "batch_sampler", "drop_last", "dataset", "persistent_workers"]
)
def test_what_torchs_loader_does_not_let_be_set_is_not_set(name):
    for loader in loaders(batch_size=4, shuffle=True):
        before = getattr(loader, name)
        with pytest.raises(ValueError, match=name):
            setattr(loader, name, None)
        assert getattr(loader, name) is before
    _, mine = loaders(batch_size=4, shuffle=True)
    for attribute in ("shuffle", "num_workers", "recipe", "backend", "seed", "source", "collate_fn", "epoch"):
        with pytest.raises(ConfigError, match=f"{attribute} can't be set"):
            setattr(mine, attribute, None)
    for owner, attribute in ((mine.sampler, "generator"), (mine.batch_sampler, "batch_size")):
        with pytest.raises(ConfigError, match="can't be changed"):
            setattr(owner, attribute, None)
    mine.pin_memory = False
    mine.timeout = 3


# Seeds


def test_a_new_loader_in_each_epoch_is_another_epoch_and_manual_seed_repeats_the_run():
    runs = []
    for _ in range(2):
        torch.manual_seed(3)
        runs.append([(labels_of(mine), sums(mine)) for mine in (loaders(batch_size=4, shuffle=True)[1] for _ in "123")])
    assert runs[0] == runs[1]
    assert len({str(order) for order, _ in runs[0]}) == len({str(made) for _, made in runs[0]}) == 3


def test_each_iterator_of_a_shuffled_loader_begins_with_another_batch():
    _, mine = loaders(40, batch_size=10, shuffle=True)
    assert len({tuple(next(iter(mine))[1].tolist()) for _ in range(4)}) == 4
    assert [one[1].tolist() != other[1].tolist() for one, other in zip(mine, mine, strict=True)] == [True] * 4


def test_torchs_generator_is_left_where_torchs_own_loader_leaves_it():
    for options in ({}, {"shuffle": True}, {"sampler": RandomSampler(range(10))}, {"batch_size": None}):
        after = []
        for loader in loaders(**options):
            torch.manual_seed(5)
            for _ in range(2):
                for _ in loader:
                    pass
            after.append(torch.rand(()).item())
        assert after[0] == after[1]


def test_a_seed_leaves_torchs_generator_alone():
    _, mine = loaders(batch_size=4, shuffle=True)
    before = torch.get_rng_state()
    seeded = dalipipe.DataLoader(mine.source, 4, True, recipe=RECIPE, backend="torchvision", num_threads=1, seed=1)
    labels_of(seeded)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_generator_decides_on_each_epoch_and_can_be_seeded_anew():
    _, mine = loaders(batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(1))
    first, second = (labels_of(mine), sums(mine)), (labels_of(mine), sums(mine))
    mine.generator.manual_seed(1)
    mine.set_epoch(0)
    torch.manual_seed(99)
    assert (labels_of(mine), sums(mine)) == first != second
    state = mine.state_dict()
    wanted = labels_of(mine)
    _, other = loaders(batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(7))
    other.load_state_dict(state)
    assert labels_of(other) == wanted


def test_what_is_left_of_an_epoch_keeps_the_seed_that_was_drawn():
    torch.manual_seed(1)
    _, mine = loaders(batch_size=2, shuffle=True)
    iterator = iter(mine)
    early = mine.state_dict()  # an iterator is there, and has not begun
    next(iterator)
    state = mine.state_dict()
    rest = [(labels.tolist(), images.sum().item()) for images, labels in iterator]
    for taken, wanted in ((state, rest), (early, None)):
        torch.manual_seed(2)
        _, other = loaders(batch_size=2, shuffle=True)
        other.load_state_dict(taken)
        got = [(labels.tolist(), images.sum().item()) for images, labels in other]
        assert (got if wanted is not None else got[1:]) == rest


# Samplers


def test_a_generator_of_batches_is_used_as_it_is_iterated():
    taken = []

    def batches():
        for batch in ([0, 1, 2], [3], [], [4, 5, 6, 7, 8, 9, 0]):
            taken.append(batch)
            yield batch

    _, mine = loaders(batch_sampler=batches())
    assert taken == []
    assert labels_of(mine) == taken == [[0, 1, 2], [3], [], [4, 5, 6, 7, 8, 9, 0]]
    assert labels_of(mine) == []  # it is used up, as it is with torch's loader
    with pytest.raises(TypeError, match="len"):
        len(mine)


@pytest.mark.parametrize("backend", ["dali-cpu", "torchvision"])
def test_batches_larger_than_their_sampler_says_come_whole(backend):
    class Larger:
        batch_size = 2

        def __iter__(self):
            return iter([[0, 1], [], [2, 3, 4, 5, 6], [-1, -2, 7]])

        def __len__(self):
            return 4

    _, mine = loaders(batch_size=10)
    options = {"recipe": RECIPE, "seed": 1, "num_threads": 1}
    whole = dalipipe.DataLoader(mine.source, 10, backend=backend, **options)
    images = next(iter(whole))[0]
    loader = dalipipe.DataLoader(mine.source, batch_sampler=Larger(), backend=backend, **options)
    for epoch in range(2):  # in the second the backend takes them in one piece
        loader.set_epoch(0)
        batches = list(loader)
        assert [labels.tolist() for _, labels in batches] == [[0, 1], [], [2, 3, 4, 5, 6], [9, 8, 7]], epoch
        assert len(batches) == len(loader)
        assert batches[1][0].shape == (0, *images.shape[1:]) and batches[1][0].dtype == images.dtype
        assert all(torch.equal(each, images[labels]) for each, labels in batches)


@pytest.mark.parametrize("index", [10, -11, 2**40, 1.5, "3", None])
def test_an_index_that_no_sample_has_is_named(index):
    for options, where in (({"sampler": [0, 1, index]}, "2"), ({"batch_sampler": [[0], [1, index]]}, "1 of batch 1")):
        _, mine = loaders(**options)
        with pytest.raises(SamplerError, match=rf"got {re.escape(repr(index))} at position {where}\. .*") as caught:
            labels_of(mine)
        assert "below 10" in str(caught.value)
        assert isinstance(caught.value, IndexError | ValueError)


def test_indices_may_be_tensors_and_count_from_the_end():
    _, mine = loaders(batch_size=3, sampler=torch.tensor([3, -1, 9, 3]))
    assert labels_of(mine) == [[3, 9, 9], [3]]
    assert [batch.occurrences.tolist() for batch in mine.batches(0)] == [[0, 0, 1], [1]]


# Copies


def test_a_loader_can_be_copied_and_pickled():
    _, mine = loaders(batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(3))
    next(iter(mine))
    copies = copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))
    wanted = labels_of(mine)
    assert [labels_of(each) for each in copies] == [wanted, wanted]


def test_a_class_of_ones_own_may_set_its_sampler_before_it_calls_ours(make_image_folder):
    class Base(dalipipe.DataLoader):
        def __init__(self, dataset, batch_size):
            self.sampler = torch.utils.data.SubsetRandomSampler(range(5))
            self.others = torch.utils.data.SubsetRandomSampler(range(5, 7))
            self.given = {"dataset": dataset, "batch_size": batch_size, "recipe": "cifar-train", "num_threads": 1}
            super().__init__(sampler=self.sampler, **self.given)

        def split_validation(self):
            return dalipipe.DataLoader(sampler=self.others, **self.given)

    loader = Base(make_image_folder(), 2)
    assert (len(loader), sum(len(labels) for _, labels in loader)) == (3, 5)
    assert sum(len(labels) for _, labels in loader.split_validation()) == 2
    assert isinstance(loader.sampler, torch.utils.data.SubsetRandomSampler)
