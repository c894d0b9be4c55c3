"""The README says what is true."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from dalipipe.backends import BACKENDS
from dalipipe.cli import app
from dalipipe.recipe import list_recipes

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title):
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.DOTALL | re.MULTILINE)
    assert found, f"the README has no section {title!r}"
    return found.group(1)


def first_column(title):
    return re.findall(r"^\| `([^`]+)`", section(title), re.MULTILINE)


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_every_recipe_is_in_its_table():
    assert sorted(first_column("Recipes")) == sorted(list_recipes())


def test_every_backend_is_in_its_table():
    assert first_column("Backends") == list(BACKENDS)


def test_every_command_is_in_its_table():
    commands = {command.name for command in app.registered_commands}
    assert {row.split()[1] for row in first_column("On the command line")} == commands


def test_the_first_two_commands_are_one_line_each_and_do_the_main_job_and_the_tests():
    first, second = (block.strip() for block in blocks("sh")[:2])
    assert "\n" not in first
    assert first.endswith("dalipipe train")
    assert "\n" not in second
    assert second.endswith("python -m pytest")


def test_the_mixing_example_runs(make_image_folder, monkeypatch, capsys):
    root = make_image_folder("photos/train", classes=("ant", "bee"), per_class=5)
    monkeypatch.chdir(root.parent.parent)
    (code,) = [block for block in blocks("python") if "MixUp" in block]
    shapes = code.replace("        ...", "        print(tuple(images.shape), labels.dtype, tuple(labels.shape))")
    exec(compile("import dalipipe\n" + shapes, "README.md", "exec"), {})
    assert capsys.readouterr().out.splitlines()[0] == "(4, 3, 224, 224) torch.float32 (4, 2)"


def test_the_library_example_runs(make_image_folder, monkeypatch, capsys):
    root = make_image_folder("photos", classes=("ant", "bee"), per_class=5)
    monkeypatch.chdir(root.parent)
    code = blocks("python")[0]
    shapes = code.replace("        ...", "        print(tuple(images.shape), images.dtype, labels.dtype)")
    exec(compile(shapes, "README.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == ["(8, 3, 224, 224) torch.float32 torch.int64"] * 2


def test_files_that_are_linked_or_named_are_there():
    linked = [
        target for target in re.findall(r"\]\(([^)]+)\)", README) if "://" not in target and not target.startswith("#")
    ]
    assert linked
    for name in [*linked, ".ci/run", "dalipipe/plan.py", "dalipipe/benchmark", "pipelines"]:
        assert (ROOT / name).exists(), name


def test_the_length_of_the_example_is_as_said():
    said = int(re.search(r"training script of (\d+) lines", README).group(1))
    assert abs(len((ROOT / "examples/quickstart.py").read_text().splitlines()) - said) <= 5


@pytest.mark.skipif(shutil.which("bash") is None, reason="the commands of the README are for a shell")
def test_the_shell_commands_are_ones_that_a_shell_can_read():
    import subprocess

    for block in blocks("sh"):
        assert subprocess.run(["bash", "-n", "-c", block], check=False).returncode == 0


def test_three_commands_lead_from_photos_to_an_exported_model(make_image_folder, monkeypatch):
    import onnx
    from typer.testing import CliRunner

    root = make_image_folder("photos", classes=("ant", "bee"), per_class=4)
    make_image_folder("new-photos", classes=("unsorted",), per_class=2)
    monkeypatch.chdir(root.parent)
    commands = section("From a folder of photos to an exported model").split("```sh\n")[1].split("```")[0].splitlines()
    quick = ["--weights", "none", "--epochs", "1", "--recipe", "cifar-train", "--backend", "torchvision", "--no-report"]
    outputs = []
    for command in commands:
        _, *arguments = shlex.split(command)
        result = CliRunner().invoke(app, arguments + (quick if arguments[0] == "train" else []))
        assert result.exit_code == 0, result.output
        outputs.append(result.stdout)
    assert len(commands) == 3
    assert len(outputs[1].splitlines()) == 2
    onnx.checker.check_model(onnx.load("photos.onnx"))
