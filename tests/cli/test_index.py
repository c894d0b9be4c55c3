"""`dalipipe index`: what it says, and what others then read."""

from typer.testing import CliRunner

from dalipipe.cli import app
from dalipipe.sources import FolderSource, index


def run(*arguments):
    return CliRunner().invoke(app, ["index", *map(str, arguments)])


def test_it_says_what_it_has_listed(make_image_folder, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    root = make_image_folder("photos/train", classes=("ant", "bee"), per_class=5).parent
    make_image_folder("photos/val", classes=("ant", "bee"), per_class=1, seed=1)
    result = run(root)
    assert (result.exit_code, result.stderr) == (0, "")
    first, second = result.stdout.splitlines()
    assert first.startswith(f"{root / 'train'}: 10 images of 2 classes in ") and f"wrote {root / 'train'}" in first
    assert second.startswith(f"{root / 'val'}: 2 images of 2 classes in ")
    assert (root / "val" / index.NAME).is_file() and len(FolderSource(root / "val").listing.visited) == 2


def test_a_folder_that_is_none_is_refused(tmp_path):
    result = run(tmp_path / "gone")
    assert result.exit_code == 2 and result.stderr.startswith("error: folder ") and "must exist" in result.stderr
