import json
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from dalipipe.benchmark import measure as measuring
from dalipipe.benchmark import process as starting
from dalipipe.benchmark import worker
from dalipipe.cli import app
from tests.warm import Served

ENDING = ("--repetitions", "2", "--seconds", "0.1", "--threads", "1", "--batch-size", "8")


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def started(monkeypatch):
    """What is started for a subject: the first as people start it, the others forked from a process that is warm."""
    commands = []

    def start(command, **options):
        commands.append(command)
        return subprocess.Popen(command, **options) if len(commands) == 1 else Served(worker.main)

    monkeypatch.setattr(starting, "subprocess", SimpleNamespace(Popen=start, PIPE=subprocess.PIPE))
    return commands


@pytest.fixture
def warm(started):
    """Let every process of a subject be forked from one that is warm."""
    started.append("as if one had been started")


def test_a_benchmark_from_end_to_end(make_image_folder, started, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    root, out = make_image_folder(sizes=((101, 67), (59, 83))), tmp_path / "bench.json"
    names = "dali-cpu-stock,torchvision-pil,decode-only"
    result = run("bench", root, "--backends", names, *ENDING, "--json", out, "--plot", tmp_path / "bench.svg")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    rows = [line.split() for line in lines if line.startswith(tuple(names.split(",")))]
    assert {row[0] for row in rows} == set(names.split(","))
    assert "not ranked" not in result.stdout
    plain = json.loads(out.read_text())
    assert [one["name"] for one in plain["subjects"]] == names.split(",")
    for one in plain["subjects"]:
        assert one["img_per_s"]["median"] > 0
        assert one["cpu_s_per_1000"]["median"] > 0
        assert one["peak_memory_mb"] > 50
        assert len(one["rounds"]) == 2
        assert all(stretch["images"] % 12 == 0 for stretch in one["rounds"])
        assert all(0 < stretch["first_batch_s"] <= stretch["wall_s"] for stretch in one["rounds"])
    pil = plain["subjects"][1]
    assert pil["ratio_to_torchvision-pil"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    assert all(one["agreement"]["ok"] for one in plain["subjects"][:2])
    assert "</svg>" in (tmp_path / "bench.svg").read_text()


class FakeSubject:
    """A subject's process without a process: 100 img/s, and pictures that may be too bright."""

    def __init__(self, name, work, pool):
        self.name, self.pool, self.peak_memory_mb = name, pool, 1234.5

    def sample(self, count, recipe, path):
        offset = 1.0 if self.name == "torchvision-tensor" else 0.0
        np.savez(path, images=np.full((count, 3, 224, 224), offset, np.float32), labels=np.zeros(count))

    def time(self, passes, limit_s=None):
        images = passes * len(self.pool)
        return measuring.Stretch(images, images / 123456, 0.25, 9.0, 8)

    def build_model(self, model, classes):
        return "cpu"

    def train(self, part, passes, limit_s):
        return measuring.Stretch(100, 100 / {"model": 10, "loader": 4321, "both": 9}[part], 0.1, 9.0, 8)

    def close(self):
        pass


@pytest.fixture
def fakes(monkeypatch):
    monkeypatch.setattr(measuring, "SubjectProcess", FakeSubject)


def test_the_table_fits_100_columns_and_says_what_was_measured(make_image_folder, fakes, tmp_path):
    result = run("bench", make_image_folder(), "--repetitions", "3", "--batch-size", "16", "--threads", "3")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 100
    start = next(at for at, line in enumerate(lines) if line.startswith("backend"))
    table = lines[start : lines.index("", start)]
    assert not any("…" in line for line in lines)
    assert any("123,456" in line and "1,234" in line for line in table)
    text = " ".join(lines)
    for said in ("12 images", "imagenet-train", "batches of 16", "3 threads", "Pillow", "DALI", "torch ", "Python 3."):
        assert said in text
    assert "torchvision-tensor is not ranked" in text
    assert next(line for line in table if line.startswith("torchvision-tensor")).split()[1:3] == ["not", "ranked"]
    rows = [line.split()[0] for line in table[1:]]
    assert rows.index("decode-only") > rows.index("dali-cpu-stock")


def test_a_network_is_set_beside_its_loader(make_image_folder, fakes, tmp_path):
    out = tmp_path / "bench.json"
    names = "decode-only,dali-cpu-stock"
    result = run(
        "bench", make_image_folder(), "--backends", names, "--repetitions", "2", "--model", "resnet18", "--json", out
    )
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert "    model only  10    dali-cpu-stock only  4,321    both together  9" in lines
    assert any(line.startswith("The model limits: dali-cpu-stock could feed 432.1 times") for line in lines)
    training = json.loads(out.read_text())["training"]
    assert training["limit"] == "model"
    assert len(training["rounds"]["both"]) == 2


def test_a_network_is_trained_from_end_to_end(make_image_folder, warm):
    choice = ("--backends", "torchvision-pil", "--recipe", "cifar-train", "--model", "resnet18")
    result = run("bench", make_image_folder(), *choice, *ENDING)
    assert result.exit_code == 0, result.stderr
    assert "resnet18 in training on " in result.stdout
    assert " limits: " in result.stdout


def test_without_data_the_demonstration_pictures_are_measured(make_image_folder, fakes, monkeypatch):
    root = make_image_folder("samples/train").parent
    monkeypatch.setattr("dalipipe.samples.ensure", lambda: root)
    result = run("bench", "--repetitions", "1", "--backends", "decode-only")
    assert result.exit_code == 0, result.stderr
    assert "demonstration pictures" in result.stdout
    assert str(root / "train") in result.stdout
    assert "x torchvision-pil" in result.stdout
    assert "One repetition says nothing about noise" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--batch-size", "0"), "--batch-size: must be at least 1, got 0"),
        (("--threads", "0"), "--threads: must be at least 1, got 0"),
        (("--repetitions", "0"), "--repetitions: must be at least 1"),
        (("--seconds", "0"), "--seconds: must be more than 0"),
        (("--seconds", "soon"), "--seconds"),
        (("--recipe", "imagenet-trian"), "Did you mean 'imagenet-train'?"),
        (("--backends", "torchvision-pill"), "Did you mean 'torchvision-pil'?"),
        (("--backends", ""), "--backends"),
        (("--backends", "decode-only,decode-only"), "twice"),
        (("--model", "resnet19"), "Did you mean 'resnet18'?"),
        (("--model", "resnet18", "--backends", "decode-only"), "--model: needs a loader"),
        (("--json", "missing/bench.json"), "--json: must be a file in a directory that is there"),
        (("--plot", "bench.doc"), "--plot: must end in .png"),
    ],
)
def test_mistakes_are_one_line_and_status_2(make_image_folder, arguments, said):
    result = run("bench", make_image_folder(), *arguments)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    assert said in result.stderr


def test_folders_that_cannot_be_used_are_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder, said in (("gone", "must exist"), ("empty", "must hold one folder per class")):
        result = run("bench", tmp_path / folder, "--backends", "decode-only")
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1
        assert said in result.stderr


def test_a_gpu_that_is_not_there_is_one_line(make_image_folder, monkeypatch):
    monkeypatch.setattr("dalipipe.backends.cuda_works", lambda: False)
    result = run("bench", make_image_folder(), "--backends", "dali-gpu,torchvision-pil")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: dali-gpu: needs a CUDA device")
    assert "dali-cpu" in result.stderr


@pytest.mark.parametrize("name", ["dali-cpu-stock", "torchvision-pil"])
def test_a_file_that_is_no_image_is_named_in_one_line(make_image_folder, warm, name):
    root = make_image_folder()
    (root / "bee" / "bee_1.png").write_bytes(b"no image")
    result = run("bench", root, "--backends", name, *ENDING)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "bee_1.png" in result.stderr
