"""The measurement of data sets that are asked runs, and writes what its page reports."""

import json
import sys

import pytest

from bench import any_data_set


def test_it_measures_what_it_says(make_image_folder, monkeypatch, capsys, tmp_path):
    folder = make_image_folder(per_class=2)
    for path in folder.glob("*/*.png"):
        path.rename(path.with_suffix(".jpg"))
    monkeypatch.setattr(sys, "argv", ["any_data_set", str(folder), "--turns", "1", "--threads", "1",
                                      "--backend", "torchvision", "--json", str(tmp_path / "out.json")])  # fmt: skip
    any_data_set.main()
    figures = json.loads((tmp_path / "out.json").read_text())
    assert set(figures["ratios"]) == {"own over direct", "two views over two loaders", "own step over torch"}
    assert all(ratio["least"] <= ratio["median"] <= ratio["most"] for ratio in figures["ratios"].values())
    assert "us a sample" in capsys.readouterr().out


def test_a_folder_without_photos_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["any_data_set", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"holds no \.jpg file"):
        any_data_set.main()
