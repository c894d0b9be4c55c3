"""What the page says of learning is what the committed results say."""

import copy
import json

import pytest
from PIL import Image

from bench import learning_report as report
from bench.learning import BACKENDS, MODELS, RECIPES, SEEDS, SETS, collect, plan
from bench.report import between, digest
from dalipipe.recipes import Recipe
from dalipipe.training.config import TrainConfig


def epochs(losses):
    return [
        {"epoch": number, "train_loss": loss, "train_acc": 0.5, "val_loss": loss, "val_acc": 1 - loss / 2}
        for number, loss in enumerate(losses, 1)
    ]


@pytest.fixture
def result():
    losses = {"augmented": [0.9, 0.5, 0.6, 0.7, 0.8, 0.4], "plain": [0.8] * 6, "frozen": [0.3, 0.2], "full": [0.2, 0.1]}
    found = {run.name: {"epochs": epochs(losses.get(run.name.split()[0], [0.7, 0.6])), "options": {}} for run in plan()}
    found["resnet18 dali-cpu"]["epochs"][1]["train_loss"] = 0.625
    found["augmented 1"]["epochs"] = epochs([0.9, 0.8, 0.7, 0.6, 0.5, 0.2])
    made = collect(found)
    return {**made, "date": "2030-01-02"}


def test_early_stopping_is_that_of_training():
    assert [row["epoch"] for row in report.stopped(epochs([0.9, 0.5, 0.6, 0.7, 0.8, 0.4]), 3)] == [1, 2, 3, 4, 5]
    assert len(report.stopped(epochs([0.9, 0.5, 0.6, 0.7, 0.4, 0.5]), 3)) == 6


def test_the_words_are_those_of_the_figures(result):
    text = report.render(result)
    assert "| resnet18 | `dali-cpu` | 0.700 | 0.625 |" in text
    assert "resnet18 0.025 (rounding alone 0.000, another seed 0.000)" in text
    assert "| random crop and flip | 60 | 6 | 83.3% (80.0% to 90.0%) | 0.333 (0.200 to 0.400) |" in text
    # two of the seeds stop after epoch 5 and keep the second, one runs on to its last
    assert "5 (5 to 6) epochs of 6; accuracy 80.0% with it, 83.3% without" in text
    assert "2030-01-02" in text


def test_a_picture_is_of_its_results_only(result, tmp_path):
    report.draw(result, tmp_path / "learning.png")
    other = copy.deepcopy(result)
    other["study"]["full"]["0"][0]["val_loss"] += 0.1
    with Image.open(tmp_path / "learning.png") as picture:
        assert picture.info["Description"] == digest(result) != digest(other)


def test_the_runs_are_ones_that_training_takes(tmp_path):
    runs = plan()
    names = [run.name for run in runs]
    assert len(set(names)) == len(names)
    assert {f"{model} {backend}" for model in MODELS for backend in BACKENDS} <= set(names)
    assert {f"{kind} {seed}" for kind in report.KINDS for seed in SEEDS} <= set(names)
    for run in runs:
        TrainConfig(data=tmp_path, **run.options)
        assert not run.start or names.index(run.start) < names.index(run.name)
        assert run.data in (*SETS, "hymenoptera")
    for name, ops in RECIPES.items():
        recipe = Recipe.from_toml(f'name = "{name}"\n{ops}')
        assert (recipe.output_shape, recipe.is_random) == ((3, 64, 64), name == "augmented")


def test_the_page_says_what_the_results_say():
    text = between(report.PAGE.read_text(encoding="utf-8"), report.BEGIN, report.END)
    if not report.RESULTS.exists():
        assert text == ""
        return
    result = json.loads(report.RESULTS.read_text(encoding="utf-8"))
    assert text == report.render(result), "run: python -m bench.learning_report"
    with Image.open(report.RESULTS.with_suffix(".png")) as picture:
        assert picture.info["Description"] == digest(result), "run: python -m bench.learning_report"
