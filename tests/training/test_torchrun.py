"""Several processes under torchrun train as one does, and go on as one does."""

import json
import os
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dalipipe.errors import ConfigError
from dalipipe.training.launch import Launch
from dalipipe.training.network.checkpoint import load_checkpoint
from dalipipe.training.run import loop
from dalipipe.training.run.processes import Processes, check_launch
from tests.training import under_torchrun
from tests.training.breaking import RECIPE, assert_same
from tests.training.under_torchrun import COUNT, VARIANTS, config, smooth_model, watched
from tests.warm import run_ranks


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Red and blue images, 23 to train on and 10 to validate; the same with files that are none."""
    root, rng = tmp_path_factory.mktemp("torchrun"), np.random.default_rng(3)
    for part, count in (("train", COUNT // 2), ("val", 5)):
        for label, channel in (("blue", 2), ("red", 0)):
            place = root / "images" / part / label
            place.mkdir(parents=True)
            for number in range(count + (part == "train" and label == "red")):
                pixels = rng.integers(0, 200, (17, 11, 3), dtype=np.uint8)
                pixels[..., channel] += 50
                Image.fromarray(pixels).save(place / f"{number}.png")
    shutil.copytree(root / "images", root / "spoilt")
    for bad in ("train/red/3.png", "train/blue/0.png", "val/blue/1.png"):
        (root / "spoilt" / bad).write_text("<html>")
    (root / "tiny.toml").write_text(RECIPE)
    (root / "other.toml").write_text(RECIPE.replace("0.5", "0.4"))
    for name in ("fewer", "renamed", "copied"):
        shutil.copytree(root / "images", root / name)
    (root / "fewer/train/red/3.png").unlink()
    for part in ("train", "val"):
        (root / "renamed" / part / "red").rename(root / "renamed" / part / "rot")
    return root


@pytest.fixture(scope="module", autouse=True)
def smooth():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "create_model", smooth_model)
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def begun(folder, smooth):
    """What a process alone saw of a run, before a signal stopped it after its first batch."""
    return watched(config(folder, "taken up"), 1, lambda: os.kill(os.getpid(), signal.SIGTERM))


@pytest.fixture(scope="module")
def two(folder, begun):
    """What each of two processes saw in every variant, and of the run that they took up."""
    return run_ranks(under_torchrun.variants, 2, folder)


def rows(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_two_processes_learn_what_one_does(folder, two, name):
    alone = watched(config(folder, f"one/{name}", **VARIANTS[name]))
    ours, theirs = rows(folder / "two" / name), rows(folder / "one" / name)
    assert len(ours) == len(theirs) == 2
    for one, other in zip(ours, theirs, strict=True):
        for measure, value in other.items():
            assert one[measure] == pytest.approx(value, abs=1e-4), measure
    # The same samples in each step, each process its half; substitutes too.
    parts = [rank[name] for rank in two]
    for (epoch, batch, indices), *mine in zip(alone, *parts, strict=True):
        assert [tuple(step[:2]) for step in mine] == [(epoch, batch)] * 2
        assert [index for step in mine for index in step[2]] == indices
        assert len(mine[0][2]) - len(mine[1][2]) in (0, 1)
    one, other = (load_checkpoint(folder / where / name / "last.pt").state_dict for where in ("one", "two"))
    for key, tensor in one.items():
        torch.testing.assert_close(other[key], tensor, rtol=0, atol=1e-4, msg=key)
    confusion = [json.loads((folder / where / name / "summary.json").read_text())["evaluation"]["confusion"]
                 for where in ("one", "two")]  # fmt: skip
    assert confusion[0] == confusion[1]
    assert np.sum(confusion[0]) == (9 if name == "substitutes" else 10)


@pytest.mark.slow
def test_bad_files_of_every_process_are_listed_once(folder, two):
    run = folder / "two" / "substitutes"
    for name, bad in (("quarantine.jsonl", ["blue/0.png", "red/3.png"]), ("quarantine-val.jsonl", ["blue/1.png"])):
        paths = [json.loads(line)["path"] for line in (run / name).read_text().splitlines()]
        assert sorted("/".join(Path(path).parts[-2:]) for path in paths) == bad
    summary = json.loads((run / "summary.json").read_text())
    assert (len(summary["bad_files"]["train"]), len(summary["bad_files"]["val"])) == (2, 1)


@pytest.mark.slow
def test_what_processes_tell_each_other(two):
    for rank in two:
        assert rank["checked"] == {
            "total": [3.0, 1.0],
            "greatest": [1.0, 0.0],
            "gathered": [{"rank": 0}, {"rank": 1}],
            "from_first": "rank 0",
        }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("files", r"rank 1: the training images must be the same as on rank 0, 23 \(\w+\), got 22 \(\w+\)"),
        ("classes", r"rank 1: the classes must be the same as on rank 0, .*'red'\), got .*'rot'\)"),
        ("recipe", r"rank 1: the training recipe must be the same as on rank 0, .* got "),
        ("options", "rank 1: the option lr must be the same as on rank 0, 0.02, got 0.03"),
        ("one that can't open its data", "rank 1.* rank 0 has no such problem"),
        ("one that can't find its weights", "rank 1.* rank 0 has no such problem"),
    ],
)
def test_a_process_that_sees_something_else_ends_the_run(two, name, words):
    for rank in two:
        assert re.search(words, rank["differing"][name], re.I), rank["differing"][name]


@pytest.mark.slow
def test_a_place_of_its_own_is_no_difference(folder, two):
    assert [rank["differing"]["another folder with the same images"] for rank in two] == ["", ""]
    assert (folder / "differing/summary.json").exists()


@pytest.mark.slow
def test_a_killed_process_costs_nothing(folder, two):
    """torchrun starts all of them anew, and they go on from the last checkpoint, without --resume."""
    (seen,) = run_ranks(under_torchrun.launched, 1, folder)
    assert_same(folder / "killed", folder / "two" / "plain")
    for rank in seen:
        assert 0 < len(rank) < 6, "it began anew"


@pytest.fixture(scope="module")
def stopped(folder):
    """What each of two processes saw until a signal to one of them stopped both."""
    return run_ranks(under_torchrun.stopped, 2, folder)


def left_of_the_epoch(before, after):
    """Which samples of the first epoch each side took."""
    return [sorted(index for rank in side for epoch, _, indices in rank if epoch == 0 for index in indices)
            for side in (before, after)]  # fmt: skip


@pytest.mark.slow
def test_one_process_goes_on_with_exactly_what_two_have_left(folder, two, stopped):
    assert [len(rank) for rank in stopped] == [2, 2], "both stop at the same batch"
    after = watched(config(folder, "stopped", resume=True))
    assert len(after) == 4
    done, left = left_of_the_epoch(stopped, [after])
    assert (len(done), sorted(done + left)) == (16, list(range(COUNT)))
    assert_nearly_the_same(folder / "stopped", folder / "two/plain")


@pytest.mark.slow
def test_two_processes_go_on_with_exactly_what_one_has_left(folder, begun, two):
    after = [rank["taken up"] for rank in two]
    assert [len(rank) for rank in after] == [5, 5]
    done, left = left_of_the_epoch([begun], after)
    assert (len(done), sorted(done + left)) == (8, list(range(COUNT)))
    assert_nearly_the_same(folder / "taken up", folder / "two/plain")


def assert_nearly_the_same(one, other):
    for row, wanted in zip(rows(one), rows(other), strict=True):
        assert row["train_loss"] == pytest.approx(wanted["train_loss"], abs=1e-4)
        assert row["val_loss"] == pytest.approx(wanted["val_loss"], abs=1e-4)


# What needs no second process


def test_alone_every_exchange_is_with_oneself():
    alone = Processes()
    assert (alone.total([1, 2.5]), alone.greatest([3]), alone.gathered("x")) == ([1, 2.5], [3], ["x"])
    assert alone.from_first(lambda: 4) == 4
    model = torch.nn.Linear(1, 1)
    assert alone.wrapped(model) is alone.synchronised(model) is model
    assert alone.device_name("auto") == "auto"


def test_torchruns_environment_is_read(monkeypatch):
    values = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "5")
    assert Launch.from_environment() == Launch(3, 4, 1, 2, 5)
    assert Processes.from_environment().device_name("cuda") == "cuda:1"
    monkeypatch.setenv("LOCAL_RANK", "one")
    with pytest.raises(ConfigError, match="LOCAL_RANK: must be a whole number in the environment, got 'one'"):
        Launch.from_environment()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_error": "skip"}, "--on-error: must keep batches equally large with torchrun, got skip"),
        ({"batch_size": 5}, "--batch-size: must be a multiple of the 2 processes that share it, got 5. Use 4."),
    ],
)
def test_what_processes_can_not_share_is_refused(folder, options, message):
    with pytest.raises(ConfigError, match=message):
        check_launch(config(folder, "x", **options), Processes(0, 2))


def test_an_output_must_be_named(folder):
    cfg = config(folder, "x")
    unnamed = type(cfg)(**{name: value for name, value in cfg if name != "output"})
    with pytest.raises(ConfigError, match="--output: must be given with torchrun"):
        check_launch(unnamed, Processes(1, 2))


def test_a_restart_is_a_resumption(folder):
    assert check_launch(config(folder, "x"), Processes(0, 2, restarts=1)).resume
    assert not check_launch(config(folder, "x"), Processes(0, 2)).resume
