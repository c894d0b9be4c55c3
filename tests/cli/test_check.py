"""`dalipipe check`: what it says, writes and ends with."""

import json
import os
import pty
import select
import shutil
import subprocess
import sys

import pytest
from PIL import Image
from typer.testing import CliRunner

from dalipipe import inspection
from dalipipe.cli import app
from dalipipe.compilation import kept
from tests.warm import started

HTML = b"<html>no such page</html>"


def run(*arguments):
    return CliRunner().invoke(app, ["check", *(str(argument) for argument in arguments)])


@pytest.fixture
def good(make_image_folder):
    return make_image_folder("photos", classes=("ant", "bee"), per_class=3)  # the third of each is a PNG


@pytest.fixture
def messy(good):
    """A page and a cut file that would fail; a PNG called .jpg and an image in two classes that would not."""
    (good / "ant/page.jpg").write_bytes(HTML)
    (good / "ant/cut.jpg").write_bytes((good / "ant/ant_0.jpg").read_bytes()[:-50])
    (good / "bee/bee_2.png").rename(good / "bee/bee_2.jpg")
    shutil.copy(good / "ant/ant_0.jpg", good / "bee/same.jpg")
    (good / "bee/drawing.gif").write_bytes(b"GIF89a")
    return good


def test_a_good_folder_ends_with_0(good):
    result = run(good)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "6 images in 2 classes" in result.stdout
    assert "nothing is odd" in result.stdout
    assert "fail in training\n" not in result.stdout
    assert "Warnings" not in result.stdout


def test_a_messy_folder_ends_with_1_and_each_trouble_is_named(messy):
    result = run(messy)
    assert (result.exit_code, result.stderr) == (1, "")
    for said in (
        "ant/page.jpg  an HTML page",
        "ant/cut.jpg  a JPEG that ends early",
        "bee/bee_2.jpg  PNG content under the ending .jpg",
        "ant/ant_0.jpg  = bee/same.jpg",
        ".gif 1",
        "2 images would fail in training",
        f"dalipipe train {messy} --on-error skip",
    ):
        assert said in result.stdout
    assert [line.split() for line in result.stdout.splitlines() if line.startswith(("ant ", "bee "))] == [
        ["ant", "5", "2", "2", "1"],
        ["bee", "4", "2", "-", "2"],
    ]


def test_warnings_alone_end_with_0(messy):
    (messy / "ant/page.jpg").unlink()
    (messy / "ant/cut.jpg").unlink()
    result = run(messy)
    assert result.exit_code == 0
    assert "Every image can be trained on; the warnings are worth a look." in result.stdout


def test_an_image_in_train_and_val_is_said_to_be_refused(make_image_folder):
    train = make_image_folder("photos/train", classes=("ant", "bee"), per_class=2)
    val = make_image_folder("photos/val", classes=("ant", "bee"), per_class=2, seed=1)
    shutil.copy(train / "ant/ant_0.jpg", val / "ant/other.jpg")
    result = run(train.parent)
    assert result.exit_code == 1
    assert "train/ant/ant_0.jpg  = val/ant/other.jpg" in result.stdout
    assert "`dalipipe train` refuses the folder as it is" in result.stdout
    assert "must not share an image" in result.stdout
    assert "Every image can be decoded." in result.stdout


def test_the_fix_script_makes_it_pass(messy, tmp_path):
    script = tmp_path / "it's fixed.sh"
    result = run(messy, "--fix-list", script)
    assert result.exit_code == 1
    assert "renames 1 and moves 2" in result.stdout
    assert "Read it" in script.read_text().splitlines()[3]
    subprocess.run(["sh", script], check=True, cwd="/", timeout=240)
    after = run(messy, "--fix-list", script)
    assert after.exit_code == 0
    assert "has nothing to rename or to move" in after.stdout
    assert (tmp_path / "photos-rejected/ant/page.jpg").read_bytes() == HTML


def test_json_holds_all_of_it_whatever_the_names(messy, tmp_path):
    odd = os.fsdecode(b"ant/\xff\n.jpg")
    (messy / odd).write_bytes(HTML)
    for number in range(20):
        (messy / f"ant/page{number}.jpg").write_bytes(HTML)
    result = run(messy, "--json", tmp_path / "found.json")
    assert result.exit_code == 1
    assert "and 12 more; --json FILE lists all of them" in result.stdout
    written = json.loads((tmp_path / "found.json").read_bytes().decode("ascii"))
    assert (written["ok"], written["images"], written["would_fail"]) == (False, 30, 23)
    assert written["findings"] == {
        "unreadable": 0,
        "empty": 0,
        "truncated": 1,
        "undecodable": 22,
        "enormous": 0,
        "unsuitable": 0,
        "large": 0,
        "misnamed": 1,
        "duplicate": 2,
        "suspicious": 0,
    }
    assert odd in {file["name"] for file in written["files"] if file["would_fail"]}
    assert written["duplicates"] == [{"across": "classes", "files": ["ant/ant_0.jpg", "bee/same.jpg"]}]
    assert written["left_out"] == {"endings": {".gif": 1}, "files": ["bee/drawing.gif"]}
    assert written["sizes"]["width_px"]["min"] == 11


def test_an_image_that_the_recipe_cannot_use_fails_by_name_and_is_not_moved(good, tmp_path):
    Image.new("RGB", (9000, 1)).save(good / "bee/thin.png")
    script = tmp_path / "fix.sh"
    result = run(good, "--fix-list", script)
    assert result.exit_code == 1
    assert "not fit for the recipe: 1" in result.stdout
    assert "9000 x 1 px" in result.stdout
    assert "(recipe resnet18-train-eval)" in result.stdout
    assert "has nothing to rename or to move" in result.stdout
    assert run(good, "--recipe", "cifar-train").exit_code == 0
    refused = run(good, "--recipe", "text-eda")
    assert (refused.exit_code, "Traceback" in refused.output) == (2, False)


def test_many_classes_are_cut_to_those_with_trouble(make_image_folder):
    root = make_image_folder(classes=[f"class{number:02}" for number in range(23)], per_class=1)
    (root / "class22/bad.jpg").write_bytes(HTML)
    result = run(root)
    assert "class22" in result.stdout
    assert "class21" not in result.stdout
    assert "and 3 more classes" in result.stdout


def test_names_that_look_like_markup_are_shown_as_they_are(make_image_folder):
    root = make_image_folder("[red]photos", classes=("[b]ant[i]",), per_class=1)
    (root / "[b]ant[i]/[u].jpg").write_bytes(HTML)
    (root / "[b]ant[i]/a.[s]").touch()
    result = run(root)
    assert result.exit_code == 1, result.output
    for name in ("[red]photos", "[b]ant[i]  ", "[b]ant[i]/[u].jpg", ".[s] 1"):
        assert name in result.stdout


def test_without_data_the_demonstration_pictures_are_checked(tmp_path, monkeypatch):
    kept.home()  # is decided once: other tests must not compile anew, into this one's directory
    monkeypatch.setenv("DALIPIPE_CACHE", str(tmp_path))
    monkeypatch.setattr("dalipipe.samples.ensure.__kwdefaults__", {"train": 8, "val": 4, "size": (64, 48), "seed": 0})
    result = run()
    assert result.exit_code == 0, result.output
    assert "demonstration pictures" in result.stdout
    assert "12 images in 4 classes, train and val" in result.stdout


def test_mistakes_are_refused_in_one_line_before_anything_is_read(good, tmp_path, monkeypatch):
    def inspect(*_arguments):
        raise AssertionError("it began to work")

    assert run(good / "gone").exit_code == 2
    assert run(good / "ant").exit_code == 2
    monkeypatch.setattr(inspection, "inspect", inspect)
    same = tmp_path / "same"
    for options, said in (
        (["--json", tmp_path], "a directory"),
        (["--json", tmp_path / "no/such.json"], "no directory"),
        (["--fix-list", tmp_path / "no/such.sh"], "no directory"),
        (["--json", same, "--fix-list", same], "must be two files"),
    ):
        result = run(good, *options)
        assert result.exit_code == 2
        assert said in result.stderr
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_without_permission_is_refused(good, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert run(good, "--json", tmp_path / "locked/found.json").exit_code == 2


def test_interrupted_it_ends_with_130_and_gives_standard_error_back(good, monkeypatch, capfd):
    def interrupt(*_arguments):
        os.write(2, b"a decoder's complaint")
        raise KeyboardInterrupt

    monkeypatch.setattr(inspection, "inspect", interrupt)
    assert run(good).exit_code == 130
    os.write(2, b"afterwards")
    assert capfd.readouterr().err == "afterwards"


def check_on(terminal, folder):
    """Check a folder in a process whose standard error is a terminal."""
    os.environ["TERM"] = "xterm"
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(terminal, os.O_WRONLY | os.O_NOCTTY), 2)
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - for as long as the process lives
    app(["check", folder])


def test_on_a_terminal_there_is_a_bar_and_no_complaints_of_decoders(messy):
    parent, child = pty.openpty()
    with started(check_on, os.ttyname(child), str(messy)) as job:
        shown, running = b"", True
        while running:
            running = job.is_alive()
            while select.select([parent], [], [], 0.05)[0]:
                shown += os.read(parent, 65536)
        assert job.exitcode == 1
    os.close(child)
    os.close(parent)
    assert b"9/9" in shown
    assert b"Premature" not in shown
