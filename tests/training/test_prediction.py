import os
from pathlib import Path

import pytest
import torch

import dalipipe
from dalipipe.sources import FolderSource
from dalipipe.training.measures.prediction import find_images, predict_files


@pytest.fixture(scope="module")
def trained(checkpoint):
    return dalipipe.load_model(checkpoint)


def test_every_file_gets_what_the_network_says_of_it(trained, make_image_folder):
    source = FolderSource(make_image_folder())
    files = [source.item(index) for index in range(len(source))]
    with dalipipe.DataLoader(source, len(source), recipe=trained.recipe, backend="torchvision") as loader:
        ((images, _),) = loader
        with torch.inference_mode():
            expected = trained.model(images).softmax(dim=1)
    found = list(predict_files(trained, files, top_k=9, batch_size=5, backend="torchvision"))
    assert [one.file for one in found] == files
    for one, row in zip(found, expected, strict=True):
        values = {guess.name: guess.probability for guess in one.guesses}
        assert [values[name] for name in trained.classes] == pytest.approx(row.tolist(), abs=1e-5)
        assert list(values.values()) == sorted(values.values(), reverse=True)


@pytest.mark.parametrize("backend", ["torchvision", "dali-cpu-stock"])
def test_a_bad_file_costs_only_itself_even_a_whole_batch_of_them(trained, make_image_folder, backend):
    root = make_image_folder(classes=("ant",), per_class=4)
    good = find_images([root])[0]
    bad = [root / f"bad{number}.jpg" for number in range(2)]
    for path in bad:
        path.write_bytes(b"no image")
    files = [good[0], good[1], *map(str, bad), good[2], str(root / "gone.jpg")]
    found = list(predict_files(trained, files, batch_size=2, backend=backend))
    assert [bool(one.error) for one in found] == [False, False, True, True, False, True]
    alone = list(predict_files(trained, good[:3], batch_size=1, backend=backend))
    for one, again in zip([found[0], found[1], found[4]], alone, strict=True):
        assert one.file == again.file
        assert one.guesses[0].probability == pytest.approx(again.guesses[0].probability, abs=1e-5)


def test_paths_are_files_folders_and_patterns_each_image_once(make_image_folder, tmp_path, monkeypatch):
    root = make_image_folder(classes=("ant", "bee"), per_class=2)
    (root / "ant/odd[1].jpg").write_bytes(b"")
    (root / "ant/noise.txt").write_text("")
    monkeypatch.chdir(tmp_path)
    files, problems = find_images(["images/bee", "images/*/*.png", "images/ant/odd[1].jpg", "images/ant/noise.txt"])
    names = [Path(path).name for path in files]
    assert names == ["bee_0.png", "bee_1.jpg", "odd[1].jpg", "noise.txt"]
    assert not problems
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    files, problems = find_images(["gone.jpg", "*.jpeg", "empty", "pipe.jpg", "pip*.jpg", "/dev/zero"])
    assert not files
    assert [problem.error.split(" (")[0] for problem in problems] == [
        "no such file",
        "no file matches this pattern",
        "no image in this folder",
        "a pipe, a device or a socket, and no file",
        "no file matches this pattern",
        "a pipe, a device or a socket, and no file",
    ]
