"""The pages' figures are those of the committed results."""

import copy
import json

import pytest
from PIL import Image

from bench import report
from bench.contenders import CONTENDERS, SCENES

RATES = {"dali-cpu": [900, 1000, 1100], "dali-cpu, 1 thread": [500, 500, 500], "torchvision-pil, 2 workers": [250] * 3}
RATES |= {"torchvision-pil, 1 worker": [240, 245, 900], "FFCV, JPEG": [400, 500, 450]}


def contender(label, rates):
    one = CONTENDERS[label]
    return {
        "label": label,
        "subject": one.subject,
        "threads": one.threads or 2,
        "refused": "",
        "versions": {"ffcv": "1.0.2"} if one.peer == "ffcv" else {},
        "rounds": [{"images": 100 * rate, "wall_s": 100.0} for rate in rates],
    }


@pytest.fixture
def result():
    scene = {"name": "photos", "longest_px": None, "images": 12, "mean_kb": 110.4, "mean_mp": 0.2}
    scene["contenders"] = [contender(label, rates) for label, rates in RATES.items()]
    small = {**scene, "name": "256 px", "longest_px": 256, "mean_kb": 20.0}
    small["contenders"] = [contender("FFCV, raw", [3000] * 3)]
    return {
        "date": "2030-01-02",
        "commit": "abc",
        "settings": {"batch_size": 64, "threads": 2, "rounds": 3, "seconds": 3.0, "jpeg_quality": 90},
        "environment": {
            "cpu": "A CPU",
            "cpus": 2,
            "versions": {"torch": "2", "torchvision": "0", "nvidia-dali-cuda120": "2.1.1"},
        },
        "scenes": [scene, small],
        "own": {"feed_ms_per_batch": {"median": 0.234}, "start_s": {"cold": 33.3, "warm": 2.22}},
    }


def test_the_best_number_of_workers_is_the_one_with_the_best_median(result):
    found = report.speeds(result["scenes"][0])
    assert (found["torchvision-pil"].median, found["torchvision-pil"].threads) == (250, 2)
    assert (found["dali-cpu"].median, found["dali-cpu"].low, found["dali-cpu"].high) == (1000, 900, 1100)


def test_what_was_refused_is_left_out(result):
    result["scenes"][0]["contenders"][0]["refused"] = "pixels differ"
    assert "dali-cpu" not in report.speeds(result["scenes"][0])
    assert "`dali-cpu` |" not in report.render(result)


def test_the_table_has_the_medians_and_the_ratios_the_fastest_first(result):
    rows = [line for line in report.render(result).splitlines() if line.startswith("|")]
    assert rows[0] == "| images per second | as they are, 110 KB | longest side 256 px, 20 KB |"
    assert rows[2] == "| `dali-cpu` | 1,000 (×4.0) |  |"
    assert rows[3] == "| FFCV, JPEG | 450 (×1.8) |  |"
    assert rows[4] == "| PyTorch `DataLoader`, Pillow | 250 (×1.0) |  |"
    assert rows[5] == "| FFCV, raw pixels |  | 3,000 |"


def test_the_words_say_what_the_figures_depend_on(result):
    text = report.render(result)
    for said in ("A CPU, 2 CPUs", "2030-01-02", "commit abc", "DALI 2.1.1", "FFCV 1.0.2", "batches of 64", "3 rounds"):
        assert said in text
    assert "0.23 ms of Python" in text
    assert "2.2 s, and 33 s the first time" in text
    assert "2.0 times as much" in text


def test_a_picture_is_of_its_results_only(result, tmp_path):
    report.draw(result, tmp_path / "cpu.png")
    other = copy.deepcopy(result)
    other["scenes"][0]["contenders"][0]["rounds"][0]["wall_s"] += 1
    with Image.open(tmp_path / "cpu.png") as picture:
        assert picture.info["Description"] == report.digest(result) != report.digest(other)


def test_every_loader_that_is_compared_is_called_something():
    known = {label.split(" worker")[0].rsplit(", ", 1)[0] if "worker" in label else label for label in CONTENDERS}
    assert set(report.LOADERS) <= known
    assert {label for scene in SCENES for label in scene.contenders} <= set(CONTENDERS)


def test_the_pages_say_what_the_results_say():
    page, readme = (report.between(path.read_text(encoding="utf-8")) for path in (report.PAGE, report.README))
    if not report.RESULTS.exists():
        assert page == readme == ""
        return
    result = json.loads(report.RESULTS.read_text(encoding="utf-8"))
    assert page == report.render(result), "run: python -m bench.report"
    assert readme == report.render_short(result), "run: python -m bench.report"
    with Image.open(report.RESULTS.with_suffix(".png")) as picture:
        assert picture.info["Description"] == report.digest(result), "run: python -m bench.report"
