import dataclasses
import json

import numpy as np
import pytest

from dalipipe.benchmark.files import require_plot, write_json, write_plot
from dalipipe.benchmark.measure import Settings, measure, rotated
from dalipipe.benchmark.meter import Stretch
from dalipipe.benchmark.subjects import check_subjects, default_subjects
from dalipipe.errors import BackendError, ConfigError, DalipipeError, SourceError

NAMES = ("dali-cpu-stock", "torchvision-pil", "decode-only")


class FakeSubjects:
    """Stands in for the subjects' processes: pictures and speeds as planted, every call written down."""

    def __init__(self, speeds, offsets=None):
        self.speeds = speeds  # img/s of a name: one number, or one for each call of time
        self.offsets = offsets or {}
        self.calls = []
        self.closed = []

    def __call__(self, name, work, pool):
        fakes = self

        class Fake:
            peak_memory_mb = 123.0

            def sample(self, count, recipe, path):
                images = np.zeros((count, 3, 224, 224), dtype=np.float32) + fakes.offsets.get(name, 0.0)
                np.savez(path, images=images, labels=np.arange(count))

            def time(self, passes, limit_s=None):
                rates = fakes.speeds[name]
                rate = rates if isinstance(rates, int | float) else rates[sum(call[0] == name for call in fakes.calls)]
                fakes.calls.append((name, passes, limit_s))
                images = passes * len(pool)
                return Stretch(images, images / rate, 4 / rate, 2.0, 4)

            def close(self):
                fakes.closed.append(name)

        return Fake()


def test_each_repetition_takes_every_subject_once_and_the_order_rotates(make_image_folder):
    fakes = FakeSubjects(dict.fromkeys(NAMES, 100.0))
    measure(Settings(make_image_folder(), backends=NAMES, repetitions=4), start=fakes)
    timed = [name for name, _, limit_s in fakes.calls if limit_s is None]
    assert timed == [*NAMES, *NAMES[1:], NAMES[0], NAMES[2], *NAMES[:2], *NAMES]
    assert sorted(set(fakes.closed)) == sorted({*NAMES, "torchvision"})


def test_ratios_are_taken_round_by_round(make_image_folder):
    # The machine halves its speed in the second round: the ratio of medians would be 3, that of each round is 2.
    fakes = FakeSubjects(
        {"torchvision-pil": [100, 100, 50, 100], "dali-cpu-stock": [200, 300, 100, 200], "decode-only": 500}
    )
    report = measure(Settings(make_image_folder(), backends=NAMES, repetitions=3), start=fakes)
    stock, pil, _ = report.subjects
    assert [round(stretch.img_per_s) for stretch in stock.rounds] == [300, 100, 200]
    assert (stock.img_per_s.median, stock.img_per_s.low, stock.img_per_s.high) == pytest.approx((200, 100, 300))
    assert report.ratio(stock).median == pytest.approx(2.0)
    assert report.ratio(pil).median == 1.0
    assert report.largest_spread == pytest.approx(1.0)


def test_a_stretch_is_made_of_whole_passes_and_lasts_long_enough(make_image_folder):
    root = make_image_folder(per_class=7)  # 21 images
    fakes = FakeSubjects({"dali-cpu-stock": 100.0})
    report = measure(Settings(root, backends=("dali-cpu-stock",), repetitions=1, seconds=2.0), start=fakes)
    stretch = report.subjects[0].rounds[0]
    assert stretch.images % 21 == 0
    assert 2.0 <= stretch.wall_s < 2.0 + 21 / 100


def test_a_large_folder_is_represented_by_some_images(make_image_folder):
    pools = []
    fakes = FakeSubjects({"dali-cpu-stock": 100.0})

    def start(name, work, pool):
        pools.append(pool.tolist())
        return fakes(name, work, pool)

    root = make_image_folder(per_class=7)
    report = measure(Settings(root, backends=("dali-cpu-stock",), repetitions=1, images=5), start=start)
    assert report.data["images"] == len(set(pools[0])) == 5
    assert all(pool == pools[0] for pool in pools)
    assert set(pools[0]) <= set(range(21))


def test_a_subject_that_disagrees_is_neither_timed_nor_ranked(make_image_folder):
    offsets = {"dali-cpu-stock": 8 / 57.375}  # 8 levels brighter in red, as imagenet-train normalises
    fakes = FakeSubjects(dict.fromkeys(NAMES, 100.0) | {"dali-cpu-stock": 9999.0}, offsets)
    report = measure(Settings(make_image_folder(), backends=NAMES, repetitions=2), start=fakes)
    assert [one.name for one in report.refused] == ["dali-cpu-stock"]
    assert sorted(one.name for one in report.ranking) == ["decode-only", "torchvision-pil"]
    assert [name for name, _, limit_s in fakes.calls if limit_s is None and name == "dali-cpu-stock"] == []
    assert "levels on average" in report.refused[0].agreement.because
    plain = json.loads(json.dumps(report.plain(), allow_nan=False))
    refused = next(one for one in plain["subjects"] if one["name"] == "dali-cpu-stock")
    assert refused["ranked"] is False
    assert "img_per_s" not in refused


def test_a_peer_that_disagrees_is_refused_too(make_image_folder):
    fakes = FakeSubjects(dict.fromkeys(NAMES, 100.0), {"torchvision-pil": 0.5})
    report = measure(Settings(make_image_folder(), backends=NAMES, repetitions=1), start=fakes)
    assert [one.name for one in report.refused] == ["torchvision-pil"]
    assert report.ratio(report.subjects[0]) is None


def test_processes_end_when_one_of_them_fails(make_image_folder):
    fakes = FakeSubjects({"torchvision-pil": 100.0})  # the others have no speed: KeyError
    with pytest.raises(KeyError):
        measure(Settings(make_image_folder(), backends=("torchvision-pil", "decode-only")), start=fakes)
    assert sorted(fakes.closed) == ["decode-only", "torchvision-pil"]


def test_a_folder_that_holds_train_is_measured_on_it(make_image_folder):
    root = make_image_folder("data/train").parent
    report = measure(Settings(root, backends=("decode-only",), repetitions=1), start=FakeSubjects({"decode-only": 9}))
    assert report.data["root"] == str(root / "train")
    assert report.data["images"] == 12


def test_a_class_called_train_is_a_class(make_image_folder):
    root = make_image_folder(classes=("train", "car"))
    report = measure(Settings(root, backends=("decode-only",), repetitions=1), start=FakeSubjects({"decode-only": 9}))
    assert report.data["root"] == str(root)


def test_progress_counts_to_its_end(make_image_folder):
    told = []
    measure(
        Settings(make_image_folder(), backends=NAMES, repetitions=2),
        notify=lambda *step: told.append(step),
        start=FakeSubjects(dict.fromkeys(NAMES, 100.0)),
    )
    assert [done for _, done, _ in told] == list(range(len(told)))
    assert {total for _, _, total in told} == {len(told)}


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"batch_size": 0}, "--batch-size: must be at least 1, got 0"),
        ({"threads": -1}, "--threads: must be at least 1, got -1"),
        ({"repetitions": 0}, "--repetitions: must be at least 1"),
        ({"images": 0}, "--images: must be at least 1"),
        ({"seconds": 0.0}, "--seconds: must be more than 0"),
        ({"seconds": float("nan")}, "--seconds: must be more than 0"),
        ({"seed": -1}, "--seed: must be 0 to"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, named):
    with pytest.raises(ConfigError, match=named):
        Settings(**wrong)


def test_names_are_checked():
    with pytest.raises(ConfigError, match=r"unknown name 'torchvision-pill'\. Did you mean 'torchvision-pil'\?"):
        check_subjects(["torchvision-pill"])
    with pytest.raises(ConfigError, match="got 'decode-only' twice"):
        check_subjects(["decode-only", "torchvision", "decode-only"])
    with pytest.raises(ConfigError, match="must name at least one"):
        check_subjects([])
    assert "auto" not in check_subjects(["auto"])


def test_a_gpu_is_measured_only_where_there_is_one(monkeypatch):
    monkeypatch.setattr("dalipipe.backends.cuda_works", lambda: False)
    assert "dali-gpu" not in default_subjects()
    assert {"dali-cpu-stock", "torchvision", "torchvision-pil", "torchvision-tensor", "decode-only"} <= set(
        default_subjects()
    )
    with pytest.raises(BackendError, match=r"dali-gpu.*dali-cpu"):
        check_subjects(["decode-only", "dali-gpu"])


def test_a_file_that_cannot_be_read_is_named(make_image_folder):
    root = make_image_folder()
    link = root / "ant" / "gone.jpg"
    link.symlink_to(root / "nowhere.jpg")
    with pytest.raises(SourceError, match=r"gone\.jpg"):
        measure(Settings(root, backends=("decode-only",)), start=FakeSubjects({"decode-only": 9}))


def test_rotation_of_nothing_is_nothing():
    assert rotated([], 3) == []
    assert rotated("abc", 4) == ["b", "c", "a"]


@pytest.fixture
def report(make_image_folder):
    fakes = FakeSubjects({"torchvision-pil": [100, 90, 110], "dali-cpu-stock": 200.0, "decode-only": 400.0})
    return measure(Settings(make_image_folder(), backends=NAMES, repetitions=2), start=fakes)


def test_json_holds_what_a_reader_needs_to_check_the_figures(report, tmp_path):
    write_json(report, tmp_path / "bench.json")
    plain = json.loads((tmp_path / "bench.json").read_text())
    stock = plain["subjects"][0]
    assert stock["name"] == "dali-cpu-stock"
    for middle, of in (("img_per_s", "img_per_s"), ("first_batch_s", "first_batch_s")):
        assert stock[middle]["median"] == pytest.approx(np.median([one[of] for one in stock["rounds"]]))
    assert stock["peak_memory_mb"] == 123.0
    assert stock["cpu_s_per_1000"]["median"] == pytest.approx(1000 * 2.0 / stock["rounds"][0]["images"])
    assert stock["agreement"]["ok"] is True
    assert {"cpu", "cpus", "date", "versions", "load_1min"} <= set(plain["environment"])
    assert {"torch", "torchvision", "pillow", "python", "dalipipe"} <= set(plain["environment"]["versions"])
    assert plain["settings"]["batch_size"] == 64
    assert len(plain["settings"]["fingerprint"]) == 16


@pytest.mark.parametrize("ending", [".png", ".svg"])
def test_a_chart_is_drawn(report, tmp_path, ending):
    path = tmp_path / f"chart{ending}"
    require_plot("--plot", path)
    write_plot(report, path)
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG") if ending == ".png" else b"</svg>" in data


def test_places_that_cannot_be_written_are_refused_before_measuring(report, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"must end in \.png"):
        require_plot("--plot", tmp_path / "chart.doc")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install matplotlib"):
        require_plot("--plot", tmp_path / "chart.png")
    with pytest.raises(ConfigError, match="must be writable"):
        write_json(report, tmp_path / "missing" / "bench.json")


def test_settings_can_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().threads = 3
    assert issubclass(ConfigError, DalipipeError)
