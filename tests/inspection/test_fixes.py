"""The script that mends a folder: run by a shell, whatever the names, and the folder is good afterwards."""

import os
import shutil
import subprocess

import pytest
from PIL import Image

from dalipipe.inspection import fixes, inspect
from dalipipe.sources import FolderSource

HTML = b"<html>no such page</html>"


def run(script, folder):
    """Run a script by sh in a folder; return what it says."""
    path = folder / "fix script.sh"
    path.write_bytes(script)
    done = subprocess.run(["sh", str(path)], cwd=folder, capture_output=True, text=True, check=True, timeout=240)
    assert done.stdout == ""
    return done.stderr


def contents(root):
    """Return the bytes of every file by its path below a folder; None for a link to nothing."""
    paths = [path for path in root.rglob("*") if path.is_symlink() or path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() if path.exists() else None for path in paths}


@pytest.fixture
def root(make_image_folder):
    return make_image_folder(classes=("ant", "bee"), per_class=3)  # the third of each is a PNG


@pytest.fixture
def elsewhere(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere"


NAMES = [
    "plain",
    "two  words",
    "line\nbreak\n",
    "it's",
    '"quoted"',
    "snow ☃ 🐜",
    "-rf",
    "$(touch made)`touch made`",
    "*",
    os.fsdecode(b"\xff\xfe"),
    "a\\b\ttab",
    "'; touch made; '",
]


def test_the_script_mends_a_folder_whatever_the_names(root, elsewhere):
    for name in NAMES:
        (root / "ant" / f"{name}.jpg").write_bytes(HTML + os.fsencode(name))
        shutil.copy(root / "bee/bee_2.png", root / "bee" / f"{name}.jpg")
    before = contents(root)
    report = inspect(root, 2)
    assert not report.ok
    assert run(fixes(report).script(), elsewhere) == ""
    after = inspect(root, 2)
    assert after.ok
    assert not after.of_kind("misnamed")
    assert {f"bee/{name}.png" for name in NAMES} <= {file.name for file in after.files}
    rejected = contents(root.parent / f"{root.name}-rejected")
    assert rejected == {f"ant/{name}.jpg": HTML + os.fsencode(name) for name in NAMES}
    assert sorted(before.values()) == sorted([*contents(root).values(), *rejected.values()])
    assert not (elsewhere / "made").exists()


def test_a_second_run_does_no_harm(root, elsewhere):
    (root / "ant/bad.jpg").write_bytes(HTML)
    script = fixes(inspect(root, 2)).script()
    run(script, elsewhere)
    once = contents(root.parent)
    assert "no longer there" in run(script, elsewhere)
    assert contents(root.parent) == once


def test_nothing_is_overwritten(root, elsewhere):
    shutil.copy(root / "bee/bee_2.png", root / "bee/one.jpg")
    shutil.copy(root / "bee/bee_2.png", root / "bee/two.jpg")
    (root / "bee/one.png").write_bytes((root / "bee/bee_0.jpg").read_bytes())
    (root / "ant/bad.jpg").write_bytes(HTML)
    plan = fixes(inspect(root, 2))
    # The JPEG that is called one.png goes first, to one-2.jpg, for one.jpg is there.
    assert [target.rpartition("/")[2] for _, target in plan.renamed] == ["one-2.png", "one-2.jpg", "two.png"]
    (root / "bee/two.png").write_bytes(b"came later")
    (root.parent / f"{root.name}-rejected/ant").mkdir(parents=True)
    (root.parent / f"{root.name}-rejected/ant/bad.jpg").write_bytes(b"came later")
    kept = sorted(contents(root.parent).values())
    said = run(plan.script(), elsewhere)
    assert said.count("its new name is taken") == 2
    assert (root / "ant/bad.jpg").exists()
    after = contents(root.parent)
    del after["elsewhere/fix script.sh"]
    assert sorted(after.values()) == kept


def test_links_to_nothing_are_moved_and_what_has_vanished_is_not(root, elsewhere):
    (root / "ant/link.jpg").symlink_to("nowhere.jpg")
    (root / "ant/gone.jpg").write_bytes(HTML)
    report = inspect(root, 2)
    (root / "ant/gone.jpg").unlink()
    assert run(fixes(report).script(), elsewhere) == ""
    assert contents(root.parent / f"{root.name}-rejected") == {"ant/link.jpg": None}
    assert inspect(root, 2).ok


def test_paths_are_absolute_wherever_the_folder_was_named_from(root, elsewhere, monkeypatch):
    (root / "ant/bad.jpg").write_bytes(HTML)
    monkeypatch.chdir(root / "ant")
    run(fixes(inspect("..", 2)).script(), elsewhere)
    assert contents(root.parent / f"{root.name}-rejected") == {"ant/bad.jpg": HTML}


def test_with_train_and_val_what_fails_goes_beside_both(make_image_folder, elsewhere):
    train = make_image_folder("photos/train", classes=("ant", "bee"), per_class=1)
    val = make_image_folder("photos/val", classes=("ant", "bee"), per_class=1, seed=1)
    for part in (train, val):
        (part / "ant/bad.jpg").write_bytes(HTML)
    run(fixes(inspect(train.parent, 2)).script(), elsewhere)
    assert set(contents(train.parent.parent / "photos-rejected")) == {"train/ant/bad.jpg", "val/ant/bad.jpg"}
    assert inspect(train.parent, 2).ok


def test_an_image_whose_right_ending_training_would_not_see_is_not_renamed(root):
    with Image.open(root / "ant/ant_0.jpg") as image:
        image.save(root / "ant/a.jp2", "JPEG2000")
    (root / "ant/a.jp2").rename(root / "ant/a.jpg")
    report = inspect(root, 2)
    assert [file.name for file, _ in report.of_kind("misnamed")] == ["ant/a.jpg"]
    assert fixes(report).renamed == ()
    assert FolderSource(root).samples


def test_a_good_folder_needs_nothing(root, elsewhere):
    before = contents(root)
    plan = fixes(inspect(root, 2))
    assert (plan.renamed, plan.moved) == ((), ())
    assert run(plan.script(), elsewhere) == ""
    assert contents(root) == before
    assert not (root.parent / f"{root.name}-rejected").exists()


def test_a_name_cannot_put_a_command_into_a_comment(make_image_folder, elsewhere):
    root = make_image_folder("photos\ntouch made\n", classes=("ant",), per_class=1)
    (root / "ant/bad.jpg").write_bytes(HTML)
    run(fixes(inspect(root, 2)).script(), elsewhere)
    assert not (elsewhere / "made").exists()
    assert set(contents(root.parent / f"{root.name}-rejected")) == {"ant/bad.jpg"}
