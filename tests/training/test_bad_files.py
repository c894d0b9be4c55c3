"""Training on folders in which not every file is an image."""

import json

import pytest

from dalipipe.errors import ConfigError, DecodeError
from dalipipe.training.config import TrainConfig
from dalipipe.training.run.loop import train
from tests.training.breaking import Watching, assert_same, config, kill, resume


@pytest.fixture(autouse=True)
def data(tiny_network, tiny_data):
    """Ten red and ten blue images, of which three are web pages."""
    for name in ("red/2.png", "red/7.png", "blue/0.png"):
        (tiny_data / "images" / name).write_text("<html>")
    return tiny_data


def listed(run):
    names = []
    for name in ("quarantine.jsonl", "quarantine-val.jsonl"):
        lines = (run / name).read_text().splitlines() if (run / name).exists() else []
        names += ["/".join(json.loads(line)["path"].split("/")[-2:]) for line in lines]
    return sorted(names)


def test_a_bad_file_ends_a_run_unless_told_otherwise(data):
    with pytest.raises(DecodeError, match=r"can't be used: .*red/2\.png|.*red/7\.png|.*blue/0\.png"):
        train(config(data))


@pytest.mark.parametrize("backend", ["torchvision", "dali-cpu"])
@pytest.mark.parametrize("on_error", ["skip", "substitute"])
def test_a_run_goes_on_without_bad_files_and_lists_them(data, on_error, backend):
    observer = Watching()
    summary = train(config(data, on_error=on_error, backend=backend), observer)
    assert listed(data / "run") == ["blue/0.png", "red/2.png", "red/7.png"]
    bad = summary["bad_files"]["train"] + summary["bad_files"]["val"]
    assert sorted(file["path"] for file in bad) == sorted(
        str(data / "images" / name) for name in ("red/2.png", "red/7.png", "blue/0.png")
    )
    assert all(file["reason"] and file["epoch"] == 0 for file in bad)
    assert summary["evaluation"]["images"] == 4 - len(summary["bad_files"]["val"])
    if on_error == "substitute":
        assert [batch for _, batch in observer.batches] == [1, 2, 3, 4] * 3


@pytest.mark.parametrize("on_error", ["skip", "substitute"])
@pytest.mark.parametrize("options", [{}, {"accumulate": 3, "balance": "sampler"}], ids=["plain", "gathered"])
def test_a_run_with_bad_files_goes_on_as_if_it_had_not_been_killed(data, on_error, options):
    cfg = config(data, on_error=on_error, **options)
    whole = Watching()
    train(cfg.model_copy(update={"output": data / "whole"}), whole)
    for number, moment in enumerate((1, 4, 7, whole.moments - 1)):
        one = cfg.model_copy(update={"output": data / f"run{number}"})
        kill(one, moment)
        resume(one)
        assert_same(one.output, data / "whole")
        for name in ("quarantine.jsonl", "quarantine-val.jsonl"):
            texts = [path.read_text() if path.exists() else "" for path in (one.output / name, data / "whole" / name)]
            assert texts[0] == texts[1]


def test_one_image_left_of_a_batch_is_not_learnt_from(data):
    """Batch norm could not; and the gradients gathered before it are not lost."""
    for number in range(3, 10):
        (data / "images/red" / f"{number}.png").write_text("<html>")
    observer = Watching()
    summary = train(config(data, on_error="skip", batch_size=2, accumulate=2), observer)
    assert summary["last"]["epoch"] == 3
    assert 3 <= len(observer.batches) < 3 * 8


def test_where_no_batch_has_two_images_nothing_can_be_learnt(data):
    for number in range(10):
        (data / "images/red" / f"{number}.png").write_text("<html>")
        if number != 4:
            (data / "images/blue" / f"{number}.png").write_text("<html>")
    with pytest.raises(DecodeError, match="epoch 1: must have a batch of two images that can be used, got none"):
        train(config(data, on_error="skip", val_fraction=0.1))


@pytest.mark.parametrize(
    ("max_bad", "enough"), [("0", False), ("0.05", False), ("0.5", True), ("5", True), ("any", True)]
)
def test_too_many_bad_files_end_a_run(data, max_bad, enough):
    cfg = config(data, on_error="substitute", max_bad=max_bad)
    if enough:
        train(cfg)
    else:
        with pytest.raises(DecodeError, match="may be bad"):
            train(cfg)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_bad": "3"}, "--max-bad: needs --on-error skip or substitute, got 3 with raise"),
        ({"max_bad": "-1", "on_error": "skip"}, "--max-bad: "),
        ({"max_bad": "many", "on_error": "skip"}, "--max-bad: "),
        ({"max_bad": "1.5", "on_error": "skip"}, "--max-bad: "),
        ({"on_error": "ignore"}, "--on-error: must be 'raise', 'skip' or 'substitute', got 'ignore'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**options)


def test_a_list_of_an_earlier_run_does_not_stay(data):
    cfg = config(data, on_error="substitute")
    kill(cfg, 1)
    (data / "run/quarantine.jsonl").write_text("of another run\n")
    for name in ("red/2.png", "red/7.png", "blue/0.png"):
        (data / "images" / name).write_bytes((data / "images/red/1.png").read_bytes())
    for path in (data / "run/checkpoints").glob("*"):
        path.unlink()
    train(cfg.model_copy(update={"check_split": False}))
    assert listed(data / "run") == []
