"""One import changed: the example differs from torch's version in one line, and a page lists what else differs."""

import difflib
import inspect
import re
from itertools import chain
from pathlib import Path

import pytest
import torch

import dalipipe
from dalipipe.errors import ConfigError

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


@pytest.mark.parametrize("name", ["collate_fn", "worker_init_fn", "multiprocessing_context"])
def test_an_argument_that_the_table_calls_refused_is_refused(make_image_folder, name):
    assert rows()[name].startswith("**refused**")
    with pytest.raises(ConfigError, match=f"{name} is not supported"):
        dalipipe.DataLoader(make_image_folder(), recipe="cifar-train", **{name: list})


def test_an_argument_that_the_table_calls_meaningless_is_accepted_and_kept(make_image_folder):
    values = {"timeout": 3.5, "persistent_workers": True, "pin_memory_device": "cuda", "in_order": False}
    assert {name for name, meaning in rows().items() if meaning.startswith("no meaning")} == set(values)
    assert [name for name, meaning in rows().items() if meaning.startswith("**refused**")] == [
        "collate_fn",
        "worker_init_fn",
        "multiprocessing_context",
    ]
    with dalipipe.DataLoader(make_image_folder(), 5, recipe="cifar-train", seed=0, **values) as loader:
        assert {name: getattr(loader, name) for name in values} == values
        assert [len(labels) for _, labels in loader] == [5, 5, 2]
