"""`dalipipe eval`, `predict` and `export`: what one does with a checkpoint."""

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from dalipipe.cli import app
from dalipipe.training.network.trained import load_model


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def folder(make_image_folder):
    """Two images each of ant, bee and cat."""
    return make_image_folder(per_class=2)


def predict(checkpoint, *arguments):
    return run("predict", checkpoint, *arguments, "--backend", "torchvision")


def test_predict_prints_a_line_for_each_image(checkpoint, folder):
    result = predict(checkpoint, folder)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines] == sorted(str(path) for path in folder.glob("*/*"))
    assert all(line.split()[-2] in ("ant", "bee", "cat") and line.endswith("%") for line in lines)


def test_predict_reports_bad_files_and_predicts_the_rest(checkpoint, folder):
    (folder / "bee/bad.jpg").write_bytes(b"no image")
    result = predict(checkpoint, folder / "bee", folder / "gone.jpg", "--json", "--top-k", 2)
    assert result.exit_code == 1
    errors = result.stderr.splitlines()
    assert [str(folder / "bee/bad.jpg") in errors[0], str(folder / "gone.jpg") in errors[1]] == [True, True]
    assert "2 of 4 could not be used" in errors[2]
    rows = json.loads(result.stdout)
    good = [row for row in rows if "error" not in row]
    assert (len(good), len(rows)) == (2, 4)
    for row in good:
        assert row["top"][0] == {"class": row["class"], "probability": row["probability"]}
        assert row["top"][0]["probability"] >= row["top"][1]["probability"]


def test_predict_writes_csv(checkpoint, folder):
    odd = folder / 'ant/a, "b".png'
    (folder / "ant").joinpath(sorted(path.name for path in (folder / "ant").iterdir())[0]).rename(odd)
    result = predict(checkpoint, odd, "--csv", "--top-k", 3)
    (row,) = csv.DictReader(io.StringIO(result.stdout))
    assert row["file"] == str(odd)
    assert {row["class"], row["class_2"], row["class_3"]} == {"ant", "bee", "cat"}
    assert sum(float(row[name]) for name in ("probability", "probability_2", "probability_3")) == pytest.approx(1)


ODD_NAMES = ["a\rb.png", "a\nb.png", "a\u2028b.png", " a.png", 'a,"b".png']
ODD_NAMES += ["=1+1.png", "@SUM(A1).png", "-x.png", "+1.png"]


def test_csv_is_valid_for_any_name_and_holds_no_formula(checkpoint, folder, monkeypatch):
    (image, *_) = (folder / "ant").iterdir()
    odd = folder / "odd"
    odd.mkdir()
    for name in ODD_NAMES:
        shutil.copy(image, odd / name)
    monkeypatch.chdir(odd)
    trained = load_model(checkpoint)
    classes = ("=cmd", "a\rb", "c")
    monkeypatch.setattr("dalipipe.training.network.trained.load_model", lambda *_: trained._replace(classes=classes))
    result = predict(checkpoint, "*", "--csv", "--top-k", 3)
    rows = list(csv.reader(io.StringIO(result.stdout, newline="")))
    assert [len(row) for row in rows] == [7] * (1 + len(ODD_NAMES))
    names = [row[0] for row in rows[1:]]
    assert [Path(name).name for name in names] == sorted(ODD_NAMES)
    assert {row[at] for row in rows[1:] for at in (1, 3, 5)} == {"'=cmd", "a\rb", "c"}
    assert not [name for name in names if name.startswith(("=", "+", "-", "@"))]
    assert all(Path(name).exists() for name in names)


def test_of_several_processes_one_speaks(checkpoint, folder, monkeypatch):
    arguments = ("predict", checkpoint, folder, "--backend", "torchvision", "--json")
    alone = run(*arguments)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    first = run(*arguments)
    assert (first.exit_code, first.stdout) == (0, alone.stdout)
    assert first.stderr == "warning: predict: one of 2 processes does the work, the others end; only train shares it.\n"
    monkeypatch.setenv("RANK", "1")
    for command in (arguments, ("eval", checkpoint, folder), ("export", checkpoint, "--output", folder / "x.onnx")):
        second = run(*command)
        assert (second.exit_code, second.output) == (0, "")
    assert not (folder / "x.onnx").exists()


def test_an_archive_is_to_be_unpacked(checkpoint, folder):
    (folder / "photos.zip").write_bytes(b"PK")
    result = predict(checkpoint, folder / "photos.zip")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "an archive. Unpack it (`unzip " in result.stderr


def test_export_goes_into_a_pipe_or_to_standard_output(checkpoint, tmp_path):
    command = [sys.executable, "-m", "dalipipe", "export", str(checkpoint), "--format", "torch-export", "--output"]
    done = subprocess.run([*command, "/dev/stdout"], capture_output=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    (tmp_path / "net.pt2").write_bytes(done.stdout)
    assert torch.export.load(tmp_path / "net.pt2").module()(torch.zeros(2, 3, 37, 35)).shape == (2, 3)
    assert done.stderr.startswith(b"Wrote /dev/stdout, ")


def test_eval_measures_as_training_does(checkpoint, folder):
    arguments = ("eval", checkpoint, folder, "--backend", "torchvision")
    found = json.loads(run(*arguments, "--json").stdout)
    confusion = found["confusion"]
    assert sum(map(sum, confusion)) == found["images"] == 6
    assert found["acc"] == pytest.approx(sum(confusion[label][label] for label in range(3)) / 6)
    assert len(found["mistakes"]) == 6 - sum(confusion[label][label] for label in range(3))
    text = run(*arguments).stdout
    assert f"6 images of {folder}" in text
    assert f"{found['acc']:.1%}" in text
    for row in found["per_class"]:
        assert row["name"] in text
    assert found["baseline"] == {"class": found["per_class"][0]["name"], "acc": pytest.approx(1 / 3)}
    assert f"(always {found['per_class'][0]['name']}: 33.3%)" in text
    assert json.loads(run(*arguments, "--json", "--tta").stdout)["loss"] != found["loss"]


def test_eval_leaves_out_what_can_not_be_used_where_it_is_asked_to(checkpoint, folder):
    (folder / "bee/broken.jpg").write_text("<html>")
    arguments = ("eval", checkpoint, folder, "--backend", "torchvision")
    refused = run(*arguments)
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "broken.jpg" in refused.stderr
    found = json.loads(run(*arguments, "--json", "--on-error", "skip").stdout)
    assert found["images"] == 6
    assert [file["file"] for file in found["bad_files"]] == [str(folder / "bee/broken.jpg")]


def test_export_writes_a_file_and_says_how_to_use_it(checkpoint, tmp_path):
    result = run("export", checkpoint, "--format", "torch-export", "--output", tmp_path / "net.pt2")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "net.pt2").stat().st_size > 1e6
    assert "(N, 3, 37, 35) float32" in result.stdout
    assert "dalipipe.json" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict", "CHECKPOINT", "gone"], ["at least one image", "'gone': no such file"]),
        (["predict", "CHECKPOINT", "FOLDER", "--json", "--csv"], ["exclude one another"]),
        (["predict", "CHECKPOINT", "FOLDER", "--top-k", "0"], ["--top-k"]),
        (["predict", "gone.pt", "FOLDER"], ["gone.pt", "Check the path"]),
        (["predict", "FOLDER/ant/ant_0.jpg", "FOLDER"], ["ant_0.jpg", "torch.save"]),
        (["eval", "CHECKPOINT", "gone"], ["gone"]),
        (["eval", "CHECKPOINT", "FOLDER", "--on-error", "substitute"], ["--on-error: must be raise or skip"]),
        (["export", "CHECKPOINT"], ["--output"]),
        (
            ["export", "CHECKPOINT", "--format", "tflite", "--output", "net"],
            ["--format", "onnx, torch-export", "tflite"],
        ),
        (["export", "CHECKPOINT", "--format", "torch-export", "--output", "/proc/none"], ["/proc/none", "writable"]),
        (["export", "CHECKPOINT", "--output", "CHECKPOINT"], ["--output: must not be a file that is read", "best.pt"]),
        (["export", "CHECKPOINT", "--output", ""], ["--output", "must be a path, got ''"]),
        (["export", "CHECKPOINT", "--output", "FOLDER"], ["--output", "got a directory"]),
        (["export", "", "--output", "x"], ["CHECKPOINT", "must be a path, got ''"]),
        (["eval", "CHECKPOINT", ""], ["DATA", "must be a path, got ''"]),
        (["predict", "CHECKPOINT", ""], ["must name something, got ''"]),
        (["predict", "CHECKPOINT", "FOLDER", ""], ["must name something, got ''"]),
    ],
)
def test_a_mistake_is_one_line(checkpoint, folder, arguments, words):
    places = {"CHECKPOINT": str(checkpoint), "FOLDER": str(folder)}
    for name, place in places.items():
        arguments = [argument.replace(name, place) for argument in arguments]
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr
