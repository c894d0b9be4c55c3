"""bench/check.py measures what it says, on few images."""

from bench.check import copy_photos, measure
from dalipipe.inspection import inspect


def test_copies_are_good_and_differ(make_image_folder, tmp_path):
    (tmp_path / "copies").mkdir()
    source = copy_photos(make_image_folder(per_class=2), tmp_path / "copies", 3)
    report = inspect(source.root, 2)
    assert len(source) == 18
    assert [file.findings for file in report.files] == [()] * 18


def test_every_figure_has_a_spread(make_image_folder, tmp_path):
    (tmp_path / "copies").mkdir()
    figures = measure(copy_photos(make_image_folder(per_class=2), tmp_path / "copies", 1), threads=2, rounds=2)
    assert figures["images"] == 6
    for name in ("check_img_per_s", "decode_only_img_per_s", "ratio", "ratio_by_cpu_time"):
        assert 0 < figures[name]["min"] <= figures[name]["median"] <= figures[name]["max"]
