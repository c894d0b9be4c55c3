"""What options do to a whole run, from a folder of images to the files that it leaves."""

import json
import shutil

import pytest
import torch
from torch import nn

from dalipipe.errors import ConfigError, DivergedError, ResourceError, SourceError
from dalipipe.sources import FolderSource
from dalipipe.training.config import TrainConfig
from dalipipe.training.data import class_weights, open_data
from dalipipe.training.network.checkpoint import load_checkpoint
from dalipipe.training.observer import Observer
from dalipipe.training.run import loop
from dalipipe.training.run.loop import train
from tests.training.breaking import Watching

RECIPE = 'name = "tiny"\n[[ops]]\nop = "Resize"\nsize = [8, 9]\n[[ops]]\nop = "Normalize"\nmean = [0.5]\nstd = [0.25]\n'


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Train one linear layer in place of a network."""

    def create(name, classes, head, dropout):
        return nn.Sequential(nn.Flatten(), nn.Linear(216, classes))

    monkeypatch.setattr(loop, "create_model", create)


@pytest.fixture
def folder(make_image_folder, tmp_path):
    """Twelve images in three classes; a recipe."""
    make_image_folder("photos", sizes=((11, 13),))
    (tmp_path / "tiny.toml").write_text(RECIPE)
    return tmp_path


def config(folder, **options):
    given = {"weights": "none", "epochs": 2, "batch_size": 4, "backend": "torchvision", "lr": 0.01, "report": False}
    given |= options
    return TrainConfig(data=folder / "photos", recipe=str(folder / "tiny.toml"), **{"output": folder / "run", **given})


def rows(folder):
    return [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]


class Spoiling(Observer):
    """Changes the weights after chosen epochs, so that these get worse than the one before."""

    def __init__(self, model, after):
        self.model, self.after, self.kept = model, after, None

    def validating(self, epoch):
        if epoch == self.after:
            self.kept = self.model[1].weight.detach().clone()
        if epoch > self.after:
            with torch.no_grad():
                self.model[1].weight.add_(torch.randn_like(self.model[1].weight), alpha=5.0 * (epoch - self.after))


def test_a_run_stops_early_and_ends_with_its_best_network(folder, monkeypatch):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(216, 3))
    monkeypatch.setattr(loop, "create_model", lambda *_: model)
    observer = Spoiling(model, after=2)
    summary = train(config(folder, epochs=20, patience=2, lr=0.001), observer)
    assert (len(rows(folder)), summary["best"]["epoch"], summary["stopped_early"]) == (4, 2, True)
    assert torch.equal(model[1].weight, observer.kept)
    assert torch.equal(load_checkpoint(folder / "run/best.pt").state_dict["1.weight"], observer.kept)
    assert summary["evaluation"]["loss"] == pytest.approx(summary["best"]["val_loss"])


def test_patience_is_three_for_few_images_and_can_be_turned_off(folder, monkeypatch):
    for patience, epochs in ((None, 4), (0, 6)):
        model = nn.Sequential(nn.Flatten(), nn.Linear(216, 3))
        monkeypatch.setattr(loop, "create_model", lambda *_, model=model: model)
        train(config(folder, epochs=6, patience=patience, lr=0.001), Spoiling(model, after=1))
        assert len(rows(folder)) == epochs
        shutil.rmtree(folder / "run")


def test_the_measure_that_decides_can_be_chosen(folder):
    summary = train(config(folder, epochs=6, monitor="val_calibration_error", lr=0.05))
    assert summary["best"]["val_calibration_error"] == min(row["val_calibration_error"] for row in rows(folder))


def test_the_average_is_what_is_validated_and_saved(folder, monkeypatch):
    states = []
    state_of = loop.TrainState
    monkeypatch.setattr(loop, "TrainState", lambda *arguments: states.append(state_of(*arguments)) or states[-1])
    train(config(folder, ema=0.9, epochs=1))
    saved = load_checkpoint(folder / "run/last.pt").state_dict
    assert torch.equal(saved["1.weight"], states[0].network[1].weight)
    assert not torch.equal(saved["1.weight"], states[0].model[1].weight)


def test_flips_change_what_validation_sees(folder):
    plain = train(config(folder))["last"]
    flipped = train(config(folder, tta=True, output=folder / "other"))["last"]
    assert plain["train_loss"] == flipped["train_loss"]
    assert plain["val_loss"] != flipped["val_loss"]


def test_each_fold_validates_on_other_images_and_the_mean_is_taken(folder):
    class Sizes(Observer):
        def __init__(self):
            self.images = []

        def started(self, info):
            self.images.append((info.train_images, info.val_images))

    observer = Sizes()
    summary = train(config(folder, folds=4, epochs=1), observer)
    assert observer.images == [(9, 3)] * 4
    losses = [each["best"]["val_loss"] for each in summary["folds"]]
    assert len(set(losses)) == 4
    assert summary["mean"]["val_loss"] == pytest.approx(sum(losses) / 4)
    assert summary["std"]["val_loss"] == pytest.approx(torch.tensor(losses).std().item(), rel=1e-4)
    assert json.loads((folder / "run/summary.json").read_text())["mean"] == summary["mean"]
    assert (folder / "run/config.toml").is_file()
    assert all((folder / f"run/fold-{number}/best.pt").is_file() for number in (1, 2, 3, 4))


def test_folds_of_the_demonstration_are_refused():
    with pytest.raises(ConfigError, match="--folds: needs DATA"):
        train(TrainConfig(folds=2))


# -------------------------------------------------------------------------------------------------------------- data


@pytest.fixture
def unequal(folder):
    """Two images of one class beside four of each other."""
    for path in FolderSource(folder / "photos").samples[:2]:
        folder.joinpath(path[0]).unlink()
    return folder


def labels_of(cfg):
    with open_data(cfg, 0, Observer()) as data:
        return data, torch.cat([labels for _ in range(30) for _, labels in data.train])


def test_classes_more_unequal_than_five_to_one_are_said_with_what_to_do(make_image_folder, tmp_path):
    make_image_folder("photos", classes=("ant", "bee"), per_class=12, sizes=((11, 13),))
    (tmp_path / "tiny.toml").write_text(RECIPE)

    def told(**options):
        watching = Watching()
        with open_data(config(tmp_path, val_fraction=0.2, check_split=False, **options), 0, watching):
            return watching.warnings

    assert told() == []
    for path in sorted((tmp_path / "photos/bee").iterdir())[2:]:
        path.unlink()
    (warning,) = told()
    for words in ("'ant' has 10", "'bee' has 1", "--balance sampler", "--monitor val_macro_f1"):
        assert words in warning
    assert told(balance="sampler") == told(monitor="val_macro_f1") == []


def test_a_balanced_sampler_shows_each_class_as_often(unequal):
    _, plain = labels_of(config(unequal, val_fraction=0.4, batch_size=5))
    data, balanced = labels_of(config(unequal, val_fraction=0.4, batch_size=5, balance="sampler"))
    assert (plain.bincount() / len(plain)).tolist() == pytest.approx([1 / 5, 2 / 5, 2 / 5])
    assert (balanced.bincount() / len(balanced)).tolist() == pytest.approx([1 / 3] * 3, abs=0.1)
    assert len(plain) == len(balanced)
    assert list(data.val.sampler) == list(range(len(data.val.source)))
    assert torch.equal(labels_of(config(unequal, val_fraction=0.4, batch_size=5, balance="sampler"))[1], balanced)


def test_class_weights_make_classes_count_the_same(unequal):
    weights = class_weights(FolderSource(unequal / "photos"))
    assert weights.tolist() == pytest.approx([10 / 6, 10 / 12, 10 / 12])
    losses = {
        balance: train(config(unequal, balance=balance, output=unequal / balance, epochs=1))["best"]["train_loss"]
        for balance in ("none", "loss")
    }
    assert losses["none"] != losses["loss"]


def test_a_file_in_both_parts_is_an_error_that_names_it_twice(folder):
    first = FolderSource(folder / "photos").samples[0][0]
    for part in ("train", "val"):
        shutil.copytree(folder / "photos", folder / "parts" / part)
    with pytest.raises(SourceError, match=r"must not share an image, got 12 in both.*parts/train.*parts/val"):
        train(config(folder, output=folder / "no").model_copy(update={"data": folder / "parts"}))
    shutil.copy(first, folder / "photos/bee/again.jpg")
    cfg = config(folder, val_fraction=0.5, split_seed=1)
    with pytest.raises(SourceError, match=r"got 1 in both.*ant_0\.jpg.*again\.jpg|again\.jpg.*ant_0\.jpg"):
        train(cfg)
    assert not (folder / "run").exists()
    train(cfg.model_copy(update={"check_split": False}))


# ----------------------------------------------------------------------------------------------------------- machine


def test_images_and_weights_are_channels_last_on_request(folder, monkeypatch):
    seen = []

    def create(*_):
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(168, 3))
        network[0].register_forward_hook(
            lambda module, arguments, output: seen.append(
                [t.is_contiguous(memory_format=torch.channels_last) for t in (arguments[0], module.weight)]
            )
        )
        return network

    monkeypatch.setattr(loop, "create_model", create)
    monkeypatch.setattr(loop, "check_images", lambda *_, **__: None)
    train(config(folder, channels_last=True, epochs=1))
    assert seen and all(both == [True, True] for both in seen)


def test_only_deterministic_algorithms_run_on_request_and_only_then(folder):
    seen = []

    class Watch(Observer):
        def batch(self, step):
            seen.append(torch.are_deterministic_algorithms_enabled())

    train(config(folder, deterministic=True, epochs=1), Watch())
    train(config(folder, epochs=1, output=folder / "other"), Watch())
    assert set(seen[: len(seen) // 2]) == {True}
    assert set(seen[len(seen) // 2 :]) == {False}


# ------------------------------------------------------------------------------------------------- what can go wrong


class Failing(Observer):
    """Lets the network fail from the second epoch on."""

    def __init__(self, fail):
        self.fail = fail

    def epoch(self, metrics, best):
        self.fail()


def test_a_nan_stops_the_run_and_leaves_the_last_good_checkpoint(folder, monkeypatch):
    model = nn.Sequential(nn.Flatten(), nn.Linear(216, 3))
    monkeypatch.setattr(loop, "create_model", lambda *_: model)
    spoil = Failing(lambda: model[1].bias.data.fill_(float("nan")))
    with pytest.raises(DivergedError, match=r"epoch 2, batch 1: the loss must be a finite number, got nan\. .*photos/"):
        train(config(folder), spoil)
    for name in ("best.pt", "last.pt"):
        kept = load_checkpoint(folder / "run" / name)
        assert kept.epoch == 1
        assert all(tensor.isfinite().all() for tensor in kept.state_dict.values())


def test_a_lack_of_memory_leaves_the_last_checkpoint(folder, monkeypatch):
    model = nn.Sequential(nn.Flatten(), nn.Linear(216, 3))
    monkeypatch.setattr(loop, "create_model", lambda *_: model)

    def fail(module, arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    with pytest.raises(ResourceError, match=r"epoch 2, batch 1: needs more memory than there is\. Lower --batch-size"):
        train(config(folder), Failing(lambda: model.register_forward_pre_hook(fail)))
    assert load_checkpoint(folder / "run/last.pt").epoch == 1
