"""What people look at after a run: the pictures and report.html."""

import base64
import dataclasses
import io
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dalipipe.loading import DataLoader
from dalipipe.recipes import Recipe
from dalipipe.sources import FolderSource, split_sources
from dalipipe.training.config import TrainConfig
from dalipipe.training.measures.evaluation import Predictions, score
from dalipipe.training.measures.metrics import EpochMetrics
from dalipipe.training.network.weights import WeightsReport
from dalipipe.training.observer import RunInfo
from dalipipe.training.report import Outcome, write_report
from dalipipe.training.report.events import write_events
from dalipipe.training.report.page import read_rows
from dalipipe.training.report.tiles import augmentation_sheet, mistake_tiles
from dalipipe.training.run.loop import train

RECIPE = """name = "tiny"
[[ops]]
op = "RandomResizedCrop"
size = 32
[[ops]]
op = "Normalize"
mean = [0.5]
std = [0.5]
"""
PICTURES = ("curves.png", "confusion.png", "mistakes.png", "augmentations.png")


def foreign_parts(page):
    """Return what a page would fetch from elsewhere."""
    links = re.findall(r"""(?:src|href)=["']([^"']*)|url\(([^)]*)\)|(@import|<script|<link|<iframe)""", page)
    return [link for parts in links for link in parts if link and not link.startswith("data:")]


def images_of(page):
    """Return the type and content of every image in a page."""
    return [(kind, base64.b64decode(data)) for kind, data in re.findall(r'src="data:([^;]+);base64,([^"]+)"', page)]


@pytest.fixture
def run(make_image_folder, tmp_path):
    """run(classes, right) -> (directory, page) of a run whose network took some of the images for the next class."""

    def make(classes=("ant", "bee", "cat"), right=False):
        root = make_image_folder("photos", classes=classes, per_class=5)
        training, validation = split_sources(root, val_fraction=0.4)
        number = len(classes)
        labels = torch.from_numpy(validation.labels.copy())
        taken = labels if right else torch.where(torch.arange(len(labels)) % 2 == 0, labels, (labels + 1) % number)
        table = torch.full((len(labels), number), 0.1)
        table[torch.arange(len(labels)), taken] = 0.5 + 0.05 * torch.arange(len(labels))
        table /= table.sum(dim=1, keepdim=True)
        losses = -table[torch.arange(len(labels)), labels].log()
        evaluation = score(Predictions(np.arange(len(labels)), labels, table, losses), tuple(validation.classes))
        row = {"train_loss": 0.5, "train_acc": 0.8, "val_loss": 0.6, "val_acc": 0.7, "img_per_s": 4.5}
        rows = [{"epoch": epoch, **row, "data_wait_fraction": 0.25} for epoch in (1, 2)]
        output = tmp_path / "run"
        output.mkdir()
        (output / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        recipe = Recipe.from_toml(RECIPE)
        info = RunInfo(
            cfg=TrainConfig(data=root, output=output, lr=0.01234),
            root=root,
            classes=tuple(training.classes),
            train_images=len(training),
            val_images=len(validation),
            recipe=recipe,
            eval_recipe=recipe.eval_twin(),
            backend="torchvision",
            device="cpu",
            weights=WeightsReport("none", 0, ()),
        )
        summary = {"best": rows[0], "last": rows[1], "duration_s": 9.0, "device": "cpu", "backend": "torchvision"}
        summary |= {"platform": "Linux", "python": "3.11", "versions": {"torch": "2.99.1"}, "stopped_early": True}
        write_report(output, Outcome(info, training, validation, evaluation, summary))
        return output, (output / "report.html").read_text(encoding="utf-8")

    return make


def test_a_run_leaves_pictures_and_a_page_that_needs_nothing_else(run):
    output, page = run()
    for name in PICTURES:
        with Image.open(output / name) as picture:
            assert picture.format == "PNG"
            assert np.asarray(picture.convert("L")).std() > 5, f"{name} is blank"
    assert foreign_parts(page) == []
    images = images_of(page)
    assert "always " in page
    assert [kind for kind, _ in images].count("image/svg+xml") == 4  # loss, accuracy, confusion, timing
    for kind, data in images:
        if kind == "image/jpeg":
            Image.open(io.BytesIO(data)).load()
    for said in ("0.01234", "2.99.1", "tiny", "stopped early", "3 of 6 validation images"):
        assert said in page, said
    # 9 images at 4.5 a second, twice, a quarter of it waiting
    assert "4 s of training passes: 3.0 s computing, 1.0 s (25.0 %) waiting" in page


@pytest.mark.parametrize("part", ['<img src="http://a/b.png">', '<link rel="x">', "<style>@import 'a'</style>"])
def test_a_page_that_fetches_something_is_seen(part):
    assert foreign_parts(f"<html>{part}</html>")


def test_mistakes_are_named_the_most_confident_first(run):
    _, page = run()
    captions = re.findall(r"<figcaption><b>(.*?)</b>(\d+)% · (.*?)</figcaption>", page)
    confidences = [int(percent) for _, percent, _ in captions]
    assert len(captions) == 3
    assert confidences == sorted(confidences, reverse=True)
    for title, _, name in captions:
        assert title.startswith(name.split("_")[0] + ", taken for ")


def test_a_run_without_mistakes_says_so(run):
    output, page = run(right=True)
    assert "None: all 6 validation images were recognised." in page
    assert (output / "mistakes.png").stat().st_size > 0


def test_any_class_name_does_no_harm(run):
    odd = os.fsdecode(b"b\xe9 <b>$5^ {{ x }}")
    _, page = run(classes=("<script>x", odd, "蚂蚁"))
    assert foreign_parts(page) == []
    assert "&lt;script&gt;x" in page
    assert "蚂蚁" in page


def test_augmentations_are_what_training_will_see(make_image_folder):
    source, recipe = FolderSource(make_image_folder()), Recipe.from_toml(RECIPE)
    sheet = augmentation_sheet(source, recipe, seed=7, images=4, epochs=2)
    assert sheet.headings == ("as it is", "epoch 1", "epoch 2")
    with DataLoader(source, 12, recipe=recipe, backend="torchvision", seed=7, dtype="uint8") as loader:
        for epoch in range(2):
            ((images, _),) = loader
            seen = {name: image for name, image in zip(map(source.name, range(12)), images, strict=True)}
            for name, row in zip(sheet.names, sheet.rows, strict=True):
                (match,) = [image for path, image in seen.items() if path.endswith(name)]
                assert np.array_equal(row[1 + epoch], match.permute(1, 2, 0).numpy())
    assert len({name.split("_")[0] for name in sheet.names}) == 3  # each class has one


def test_what_is_erased_after_normalising_is_shown_too(make_image_folder):
    source = FolderSource(make_image_folder())
    sheet = augmentation_sheet(source, Recipe.load("imagenet-train-strong"), seed=7, images=4, epochs=3)
    assert {image.shape for row in sheet.rows for image in row[1:]} == {(224, 224, 3)}


def test_a_file_that_only_a_backend_can_read_is_a_grey_tile(make_image_folder):
    source = FolderSource(make_image_folder())
    Path(source.item(0)).write_bytes(b"no image")
    labels = torch.tensor([0])
    table = torch.tensor([[0.1, 0.8, 0.1]])
    evaluation = score(Predictions(np.zeros(1, np.int64), labels, table, torch.ones(1)), source.classes)
    (tile,) = mistake_tiles(evaluation, source)
    assert tile.pixels.std() == 0


def test_of_an_epoch_begun_anew_the_last_line_counts_and_timing_may_be_beside(tmp_path):
    lines = [{"epoch": 1, "val_loss": 3.0}, {"epoch": 2, "val_loss": 2.0}, {"epoch": 1, "val_loss": 1.0}]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "timing.jsonl").write_text('{"epoch": 2, "img_per_s": 5.0, "data_wait_fraction": 0.5}\n')
    first, second = read_rows(tmp_path, train_images=20)
    assert (first["val_loss"], second["val_loss"]) == (1.0, 2.0)
    assert (first["train_s"], second["train_s"]) == (0.0, 4.0)


def test_training_draws_its_report_unless_told_not_to(make_image_folder, tmp_path):
    (tmp_path / "tiny.toml").write_text(RECIPE)
    options = {"data": make_image_folder(per_class=4), "recipe": str(tmp_path / "tiny.toml"), "weights": "none"}
    options |= {"epochs": 1, "batch_size": 8, "backend": "torchvision", "tensorboard": True}
    summary = train(TrainConfig(**options, output=tmp_path / "drawn"))
    assert {*PICTURES, "report.html"} <= {path.name for path in (tmp_path / "drawn").iterdir()}
    page = (tmp_path / "drawn/report.html").read_text(encoding="utf-8")
    assert f"{summary['evaluation']['macro_f1']:.3f}" in page
    assert list((tmp_path / "drawn/tensorboard").iterdir())
    train(TrainConfig(**{**options, "report": False, "tensorboard": False}, output=tmp_path / "plain"))
    names = {path.name for path in (tmp_path / "plain").iterdir()}
    assert not {*PICTURES, "report.html", "tensorboard"} & names


def test_tensorboard_reads_a_curve_for_every_measure(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fields = [field.name for field in dataclasses.fields(EpochMetrics)]
    for epoch in (1, 2, 3):
        write_events(tmp_path, EpochMetrics(**{name: float(epoch) for name in fields} | {"epoch": epoch}))
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    for tag in ("loss/training", "loss/validation", "acc/validation", "lr"):
        assert [(event.step, event.value) for event in board.Scalars(tag)] == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_events_without_tensorboard_are_refused_before_the_run(tmp_path, monkeypatch):
    from dalipipe.errors import ConfigError
    from dalipipe.training.report import events

    monkeypatch.setattr(events.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'pip install "dalipipe\[tensorboard\]"'):
        train(TrainConfig(data=tmp_path, tensorboard=True, output=tmp_path / "run"))
    assert not (tmp_path / "run").exists()
