import json

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

from dalipipe import samples
from dalipipe.errors import ConfigError, DivergedError, RecipeError, SourceError
from dalipipe.loading import DataLoader
from dalipipe.recipes import Recipe
from dalipipe.sources import split_sources
from dalipipe.training.config import TrainConfig, read_config
from dalipipe.training.data import open_data
from dalipipe.training.measures.evaluation import evaluate
from dalipipe.training.network.checkpoint import load_checkpoint
from dalipipe.training.network.models import create_model
from dalipipe.training.network.weights import load_weights
from dalipipe.training.observer import Observer
from dalipipe.training.run import loop
from dalipipe.training.run.loop import train

TINY = """
name = "tiny"
[[ops]]
op = "RandomResizedCrop"
size = 32
[[ops]]
op = "RandomHorizontalFlip"
[[ops]]
op = "Normalize"
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
"""


@pytest.fixture
def data(tmp_path):
    """Red and blue images of 17 x 11 px, 10 each, and a recipe that makes 32 x 32 of them."""
    rng = np.random.default_rng(3)
    for label, channel in (("blue", 2), ("red", 0)):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(10):
            pixels = rng.integers(0, 100, (17, 11, 3), dtype=np.uint8)
            pixels[..., channel] += 120
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{number}.png")
    (tmp_path / "tiny.toml").write_text(TINY)
    return tmp_path


def config(data, output="run", **options):
    defaults = {"recipe": data / "tiny.toml", "weights": "none", "epochs": 1, "batch_size": 8, "backend": "torchvision"}
    given = {**defaults, "report": False, "data": data / "images", "output": data / output, **options}
    return TrainConfig(**{**given, "recipe": str(given["recipe"])})


def read_metrics(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def test_a_run_learns_leaves_all_its_files_and_gives_its_network_back(data):
    cfg = config(data, epochs=3, lr=0.02)
    summary = train(cfg)
    rows = read_metrics(data / "run")
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    scores = ["val_loss", "val_acc", "val_top5", "val_macro_f1", "val_calibration_error"]
    assert list(rows[0]) == ["epoch", "train_loss", "train_acc", *scores, "lr"]
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    times = [json.loads(line) for line in (data / "run/timing.jsonl").read_text().splitlines()]
    assert [list(row) for row in times] == [["epoch", "img_per_s", "data_wait_fraction"]] * 3
    assert all(row["img_per_s"] > 0 and 0 < row["data_wait_fraction"] < 1 for row in times)
    files = sorted(path.name for path in (data / "run").iterdir())
    assert files == [
        "best.pt",
        "checkpoints",
        "config.toml",
        "last.pt",
        "metrics.jsonl",
        "recipe-eval.toml",
        "recipe.toml",
        "summary.json",
        "timing.jsonl",
    ]

    assert summary == json.loads((data / "run/summary.json").read_text())
    assert summary["last"] == rows[-1]
    assert summary["best"] == min(rows, key=lambda row: row["val_loss"])
    assert summary["timing"]["last"] == times[-1]
    assert (summary["train_images"], summary["val_images"], summary["classes"]) == (16, 4, ["blue", "red"])
    assert summary["config"] == cfg.plain()

    checkpoint = load_checkpoint(data / "run/best.pt")
    assert (checkpoint.model, checkpoint.classes, checkpoint.metrics) == ("resnet18", ("blue", "red"), summary["best"])
    assert Recipe.from_toml(checkpoint.recipe).fingerprint() == Recipe.load(data / "tiny.toml").fingerprint()
    model = create_model("resnet18", 2)
    report = load_weights(model, "resnet18", ("blue", "red"), str(data / "run/best.pt"))
    assert report.fresh == ()
    val_source, eval_recipe = split_sources(data / "images")[1], Recipe.from_toml(checkpoint.eval_recipe)
    with DataLoader(val_source, 8, recipe=eval_recipe, backend="torchvision") as loader:
        result = evaluate(model, loader, checkpoint.classes)
    assert result.loss == pytest.approx(summary["best"]["val_loss"], rel=1e-6)
    assert result.top1 == summary["best"]["val_acc"]
    assert summary["evaluation"]["confusion"] == result.confusion.tolist()
    assert read_config(data / "run/config.toml", given={"output": cfg.output}) == cfg


def tiny_model(classes=2):
    """A network with batch norm and dropout, for images of 3 x 32 x 32, whose steps cost nothing."""
    pool = nn.AvgPool2d(4)
    return nn.Sequential(
        pool, nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, classes)
    )


@pytest.fixture
def quick(monkeypatch):
    """Let runs train the tiny network in place of a ResNet."""

    monkeypatch.setattr(loop, "create_model", lambda name, classes, head, dropout: tiny_model(classes))


def test_the_same_seed_gives_the_same_run_and_another_seed_another(data, quick):
    for output, seed in (("one", 4), ("same", 4), ("other", 5)):
        train(config(data, output, seed=seed, epochs=2))
    assert read_metrics(data / "one") == read_metrics(data / "same")
    assert read_metrics(data / "one") != read_metrics(data / "other")
    one, same = (load_checkpoint(data / name / "last.pt").state_dict for name in ("one", "same"))
    assert all(torch.equal(one[key], same[key]) for key in one)


def test_dali_trains_as_torchvision_does(data, quick):
    train(config(data, "reference", epochs=2))
    train(config(data, "dali", epochs=2, backend="dali-cpu-stock", threads=1))
    assert json.loads((data / "dali/summary.json").read_text())["backend"] == "dali-cpu-stock"
    for reference, dali in zip(read_metrics(data / "reference"), read_metrics(data / "dali"), strict=True):
        assert dali["train_loss"] == pytest.approx(reference["train_loss"], rel=0.02)
        assert dali["val_loss"] == pytest.approx(reference["val_loss"], rel=0.02)


class Recorder(Observer):
    def __init__(self):
        self.calls = []
        self.steps = []

    def preparing(self, what):
        self.calls.append("preparing")

    def started(self, info):
        self.info = info
        self.calls.append("started")

    def batch(self, step):
        self.steps.append(step)
        self.calls.append("batch")

    def validating(self, epoch):
        self.calls.append("validating")

    def epoch(self, metrics, best):
        self.calls.append(f"epoch {metrics.epoch} {best}")


def test_an_observer_is_told_of_every_step(data, quick):
    observer = Recorder()
    train(config(data, batch_size=6), observer)
    assert observer.calls == [
        "preparing",
        "preparing",
        "started",
        "batch",
        "batch",
        "batch",
        "validating",
        "epoch 1 True",
    ]
    assert [(step.batch, step.batches) for step in observer.steps] == [(1, 3), (2, 3), (3, 3)]
    assert observer.steps[-1].loss == pytest.approx(read_metrics(data / "run")[0]["train_loss"])
    assert (observer.info.backend, observer.info.device, observer.info.train_images) == ("torchvision", "cpu", 16)


def test_a_last_batch_of_one_image_is_left_out(data, quick):
    observer = Recorder()
    train(config(data, batch_size=5), observer)  # 16 images
    assert len(observer.steps) == 3


def test_weights_of_a_file_are_where_the_run_starts(data):
    torch.manual_seed(7)
    start = torchvision.models.resnet18(num_classes=2).state_dict()
    torch.save(start, data / "w.pt")
    train(config(data, weights=str(data / "w.pt"), lr=1e-12))
    end = load_checkpoint(data / "run/last.pt").state_dict
    assert all(torch.allclose(end[key], start[key], atol=1e-6) for key in start if "weight" in key)
    assert json.loads((data / "run/summary.json").read_text())["weights"]["loaded"] == len(start)


def test_val_fraction_is_obeyed(data, quick):
    observer = Recorder()
    train(config(data, val_fraction=0.4), observer)
    assert (observer.info.train_images, observer.info.val_images) == (12, 8)


def test_the_split_does_not_follow_the_seed(data):
    names = []
    for seed in (1, 2):
        with open_data(config(data, seed=seed), 0, Observer()) as opened:
            names.append([opened.val.source.item(index) for index in range(4)])
    assert names[0] == names[1]


def test_without_data_it_trains_on_the_demonstration(data, monkeypatch, quick):
    small = samples.ensure(data / "demo", train=8, val=4, size=(67, 43))
    monkeypatch.setattr(samples, "ensure", lambda: small)
    observer = Recorder()
    cfg = config(data).model_copy(update={"data": None})
    train(cfg, observer)
    assert observer.info.root == small
    assert observer.info.classes == samples.CLASSES
    assert (observer.info.train_images, observer.info.val_images) == (8, 4)


def test_one_class_is_refused_and_leaves_nothing_behind(data):
    (data / "images/red").rename(data / "red")
    with pytest.raises(SourceError, match="at least 2 classes"):
        train(config(data))
    assert not (data / "run").exists()


def test_a_recipe_that_gives_integers_is_refused(data):
    (data / "tiny.toml").write_text('name = "tiny"\n[[ops]]\nop = "Resize"\nsize = [32, 32]\n')
    with pytest.raises(RecipeError, match="recipe tiny: must give float32 images"):
        train(config(data))


def test_another_run_in_the_directory_is_kept(data, quick):
    train(config(data))
    before = (data / "run/best.pt").read_bytes()
    with pytest.raises(ConfigError, match=r"--output: must not hold another run.*best\.pt"):
        train(config(data, seed=1))
    assert (data / "run/best.pt").read_bytes() == before


def test_a_run_that_diverges_stops_and_keeps_what_it_has(data, quick):
    with pytest.raises(DivergedError, match=r"epoch \d, (batch \d|validation): the loss must be a finite number, got"):
        train(config(data, epochs=9, lr=1e30, patience=0))
    assert not (data / "run/summary.json").exists()
