"""What every peer goes through: its environment's header, the protocol, the check of its pictures."""

import sys
import textwrap

import numpy as np
import pytest

from bench import suite
from bench.contenders import CONTENDERS, Contender
from bench.environments import PEERS, missing, needs, peers
from dalipipe.benchmark.measure import Settings
from dalipipe.benchmark.process import SubjectProcess
from dalipipe.benchmark.work import Work
from dalipipe.errors import BackendError
from dalipipe.recipes import Recipe
from dalipipe.sources import FolderSource

PEER = """
import contextlib, sys
import numpy as np
from bench.peers.protocol import main

class Peer:
    def __init__(self, task):
        self.task = task

    def batches(self, order):
        if {fail}:
            raise ValueError("no such codec")
        for start in range(0, len(order), self.task.batch_size):
            labels = [self.task.files[at][1] for at in order[start : start + self.task.batch_size]]
            print("a library that prints")
            yield np.full((len(labels), 3, 224, 224), {level}, np.float32), np.array(labels)

    def first(self, count):
        return self.batches(list(range(count)))

    @contextlib.contextmanager
    def passes(self, order):
        yield self.batches(order)

main(Peer, "numpy")
"""


def start(root, pool, level=0.0, fail=False):
    work = Work(str(root), Recipe.load("imagenet-train"), batch_size=5, threads=1)
    command = (sys.executable, "-P", "-c", textwrap.dedent(PEER).format(level=level, fail=fail))
    return SubjectProcess("fake", work, pool, command)


def test_a_peer_loads_the_images_of_the_pool_and_says_its_versions(make_image_folder, tmp_path):
    root = make_image_folder()
    pool = np.array([7, 0, 11, 3, 5, 2])
    with start(root, pool, level=0.5) as process:
        assert process.facts["versions"] == {"numpy": np.__version__}
        process.sample(4, "", tmp_path / "sample.npz")
        with np.load(tmp_path / "sample.npz") as arrays:
            assert arrays["labels"].tolist() == FolderSource(root).labels[pool[:4]].tolist()
            assert arrays["images"].shape == (4, 3, 224, 224)
        stretch = process.time(3)
    assert (stretch.images, stretch.images_in_first_batch) == (18, 5)
    assert 0 < stretch.first_batch_s <= stretch.wall_s


def test_a_peer_that_fails_says_why(make_image_folder):
    with (
        start(make_image_folder(), np.arange(12), fail=True) as process,
        pytest.raises(BackendError, match="no such codec"),
    ):
        process.time(1)


def test_a_peer_whose_pictures_are_wrong_is_not_timed(make_image_folder, monkeypatch):
    def begin(self, contender, root, pool):
        return start(root, pool, level={"right": 0.1, "wrong": 3.0}.get(contender.subject, 0.0))

    monkeypatch.setattr(suite.Plan, "start", begin)
    contenders = [Contender("right", "right", "fake"), Contender("wrong", "wrong", "fake")]
    settings = Settings(repetitions=2, seconds=0.01, batch_size=5)
    told = []
    found = suite.measure(make_image_folder(), contenders, suite.Plan(settings, None), told.append)
    right, wrong = found["contenders"]
    assert (right["refused"], len(right["rounds"])) == ("", 2)
    assert "the mean of a channel differs" in wrong["refused"]
    assert wrong["rounds"] == []
    assert found["images"] == 12
    assert not any("wrong: round" in what for what in told)


def test_images_are_reduced_and_keep_their_classes(make_image_folder, tmp_path):
    from PIL import Image

    root = make_image_folder(sizes=((101, 67), (31, 47)))
    suite.reduce(root, 53, tmp_path / "small")
    before, after = FolderSource(root), FolderSource(tmp_path / "small")
    assert after.classes == before.classes
    assert after.labels.tolist() == before.labels.tolist()
    sizes = set()
    for path, _ in after.samples:
        with Image.open(path) as image:
            assert image.format == "JPEG"
            sizes.add(image.size)
    assert sizes == {(35, 53), (47, 31)}


def test_every_peer_that_is_measured_names_what_it_needs():
    assert set(peers()) == {one.peer for one in CONTENDERS.values() if one.peer}
    assert all("psutil" in wanted.python for wanted in peers().values())
    assert "ffcv==1.0.2" in peers()["ffcv"].python
    assert "libturbojpeg0-dev" in peers()["ffcv"].debian
    assert needs(PEERS / "protocol.py") is None


def test_debian_packages_that_are_missing_are_named(monkeypatch):
    monkeypatch.setattr("bench.environments.shutil.which", lambda name: None)
    assert missing(("no-such-package",)) == []
