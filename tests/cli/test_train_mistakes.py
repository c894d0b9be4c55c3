"""What people give to `dalipipe train` by mistake, and what they are told."""

import shutil

import pytest
import torch
import torchvision
from typer.testing import CliRunner

from dalipipe.cli import app

RECIPE = (
    'name = "tiny"\n[[ops]]\nop = "Resize"\nsize = [32, 32]\n[[ops]]\nop = "Normalize"\nmean = [0.5]\nstd = [0.5]\n'
)


@pytest.fixture
def folder(make_image_folder, tmp_path):
    """Eight images in the classes ant and bee; a recipe."""
    make_image_folder("photos", classes=("ant", "bee"), sizes=((17, 11),))
    (tmp_path / "tiny.toml").write_text(RECIPE)
    return tmp_path


def run(folder, data, **options):
    """Train squeezenet for an epoch."""
    given = {"recipe": folder / "tiny.toml", "weights": "none", "epochs": 1, "batch_size": 4, "lr": 0.001,
             "backend": "torchvision", "model": "squeezenet1_1", "output": folder / "run", **options}  # fmt: skip
    arguments = [str(part) for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
    return CliRunner().invoke(app, ["train", str(folder / data), *arguments])


def assert_one_line(result, status, *words):
    assert result.exit_code == status, result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    for word in words:
        assert str(word) in result.stderr


@pytest.fixture
def parts(folder):
    """The same images for training and for validation."""
    for part in ("train", "val"):
        shutil.copytree(folder / "photos", folder / "parts" / part)
    return folder / "parts"


def test_a_class_that_train_lacks(folder, parts):
    shutil.rmtree(parts / "train" / "bee")
    result = run(folder, "parts")
    assert_one_line(result, 2, parts / "val", "got 'bee' in addition", f"The classes are those of '{parts}/train'")


def test_a_class_that_val_lacks_is_told_of(folder, parts, caplog):
    shutil.rmtree(parts / "val" / "ant")
    result = run(folder, "parts", set="check_split=false")
    assert result.exit_code == 0, result.output
    assert "val': has no image of 'ant', which training has" in caplog.text
    assert "8 to train on, 4 to validate on" in result.stdout


def test_a_class_of_one_image(folder):
    for path in sorted((folder / "photos/bee").iterdir())[1:]:
        path.unlink()
    assert_one_line(run(folder, "photos"), 2, "a class needs 2 images", "got 1 in 'bee'", "Add images")


def test_an_image_in_both_parts(folder, parts):
    words = "parts/train/ant/ant_0.jpg", "parts/val/ant/ant_0.jpg", "--no-check-split"
    assert_one_line(run(folder, "parts"), 2, "must not share an image, got 8 in both", *words)
    assert run(folder, "parts", set="check_split=false").exit_code == 0


def test_weights_of_another_network(folder):
    torch.save(torchvision.models.squeezenet1_0(num_classes=2).state_dict(), folder / "w.pt")
    result = run(folder, "photos", weights=folder / "w.pt")
    assert_one_line(
        result, 2, "must be weights of squeezenet1_1, got those of squeezenet1_0. Use --model squeezenet1_0"
    )


def test_a_checkpoint_of_another_number_of_classes_gives_all_but_its_head(folder):
    torch.save(torchvision.models.squeezenet1_1(num_classes=5).state_dict(), folder / "w.pt")
    result = run(folder, "photos", weights=folder / "w.pt")
    assert result.exit_code == 0, result.output
    assert "50 tensors from" in result.stdout
    assert "2 missing there, so random (classifier.1.weight, classifier.1.bias)" in result.stdout
    assert "2 skipped of it (classifier.1.weight, classifier.1.bias)" in result.stdout


def test_a_loss_that_is_no_number_ends_with_1_and_names_the_files(folder, monkeypatch):
    monkeypatch.setattr(torch.nn.CrossEntropyLoss, "forward", lambda self, logits, labels: logits.sum() * float("nan"))
    result = run(folder, "photos")
    assert_one_line(result, 1, "epoch 1, batch 1: the loss must be a finite number, got nan.", "Lower --lr")
    assert result.stderr.count("photos/") == 4


def test_memory_that_does_not_suffice_ends_with_1_and_says_what_to_lower(folder, monkeypatch):
    def fail(self, logits, labels):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    monkeypatch.setattr(torch.nn.CrossEntropyLoss, "forward", fail)
    words = "epoch 1, batch 1: needs more memory than there is. Lower --batch-size (now 4", "--precision bf16"
    assert_one_line(run(folder, "photos"), 1, *words)
