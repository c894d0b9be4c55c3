import contextlib
import faulthandler
import functools
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

# Before anything imports torch: tests are small, and threads beyond the cores only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np
import psutil
import pytest
from hypothesis import settings
from PIL import Image
from pytest_timeout import is_debugging

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
TESTS = Path(__file__).parent
WORKERS = 2  # processes that share the whole suite; each takes about 1.5 GB

# What needs no compiled kernels, or asks for them last: folders, and beginnings of files' names.
WITHOUT_KERNELS = (
    "compilation/",
    "sources/test_array",
    "sources/test_base",
    "sources/test_duplicates",
    "sources/test_folder",
    "sources/test_split",
    "test_adapt",
    "test_api",
    "test_house",
    "test_recipe_",
    "test_samples",
    "test_sampling",
    "test_translate.",
    "test_writing",
    "text/",
    "training/test_config",
    "training/test_foreign",
    "training/test_malformed",
    "training/test_metrics",
    "training/test_models",
    "training/test_record",
    "training/test_stopping",
    "training/test_weights",
)

# (height, width): odd, prime and unequal, so that a swapped axis or a wrong rounding shows.
ODD_SIZES = ((17, 11), (31, 47), (101, 67), (59, 83), (13, 19))

# A slow machine is no failure, and a failure found once must be found again.
settings.register_profile("dalipipe", deadline=None, derandomize=True)
settings.load_profile("dalipipe")


@functools.cache
def cuda_works() -> bool:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of a driver that it cannot use; False says the same
        return torch.cuda.is_available()


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Share the whole suite between processes where pytest-xdist is there; `-n` says otherwise.

    Not in pyproject's addopts: `-p no:xdist`, `--pdb`, `-s` and a single file or folder, which is sooner done by one
    process, must go on working as they do without it.
    """
    option = config.option
    if hasattr(config, "workerinput") or not config.pluginmanager.hasplugin("xdist"):
        return
    if option.numprocesses is not None or option.tx or option.dist != "no":
        return
    if option.usepdb or option.trace or option.capture == "no" or option.collectonly:
        return
    if any(TESTS.is_relative_to(Path(argument).resolve()) for argument in config.args):
        # A file's tests stay together, as do their fixtures, until a worker has none left and takes over some.
        option.numprocesses, option.dist = WORKERS, "worksteal"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let the second of two processes begin with what needs no kernels, while the first compiles them for both.

    pytest-xdist gives each process its half of the tests, in their order.
    """
    if not hasattr(config, "workerinput"):
        return
    quick = [item for item in items if item.path.relative_to(TESTS).as_posix().startswith(WITHOUT_KERNELS)]
    known = set(quick)
    others = [item for item in items if item not in known]
    half = len(items) // 2
    items[:] = [*others[:half], *quick, *others[half:]]


_nearly_over = pytest.StashKey[threading.Timer]()


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> Generator[None, bool, bool]:
    """Look at a test that hangs shortly before pytest-timeout ends its process."""
    timer = item.stash[_nearly_over] = threading.Timer(0.95 * settings.timeout, _warn_and_end_children, [item])
    timer.daemon = True
    timer.start()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_timeout_cancel_timer(item: pytest.Item) -> Generator[None, bool, bool]:
    if (timer := item.stash.get(_nearly_over, None)) is not None:
        timer.cancel()
    return (yield)


def _warn_and_end_children(item: pytest.Item) -> None:
    """Show where all threads are, which pytest-timeout does not under pytest-xdist, and kill what the test has started.

    A test that waits for a child fails then, as any other. And a forked child has the pipe to pytest-xdist too: as long
    as it lives, nobody would see that the test's process doesn't.
    """
    if is_debugging():
        return
    with item.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{item.nodeid} hangs; its threads:", file=sys.__stderr__, flush=True)
        faulthandler.dump_traceback(sys.__stderr__)
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()


@pytest.fixture(scope="session", autouse=True)
def _signals_as_on_a_terminal() -> Iterator[None]:
    """Let SIGINT arrive: a shell's background job, and all that it starts, ignore it."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is None or cuda_works():
        return
    if os.environ.get("DALIPIPE_REQUIRE") == "gpu":
        pytest.fail("needs a CUDA device, there is none, and DALIPIPE_REQUIRE=gpu forbids a skip", pytrace=False)
    pytest.skip("needs a CUDA device")


def _data(name: str) -> Path:
    path = DATA / name
    if not path.is_dir():
        pytest.skip(f"needs the photos in {path}")
    return path


@pytest.fixture(scope="session")
def photos() -> Path:
    """200 ImageNet photos in ten class folders, three of them grey."""
    return _data("photos")


@pytest.fixture(scope="session")
def hymenoptera() -> Path:
    """Ants and bees, divided into train (245 files) and val (153), a .gif and a .jpeg among them."""
    return _data("hymenoptera")


def make_pixels(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return an RGB image, HWC uint8: a gradient along each axis, with noise on top."""
    rng = np.random.default_rng(seed)
    rows = np.linspace(0, 200, height)[:, None]
    columns = np.linspace(200, 0, width)[None, :]
    image = np.stack([rows + 0 * columns, columns + 0 * rows, (rows + columns) / 2], axis=-1)
    return (image + rng.uniform(0, 55, image.shape)).astype(np.uint8)


@pytest.fixture
def make_image() -> Callable[..., np.ndarray]:
    """make_image(height, width, seed=0) -> HWC uint8 RGB pixels."""
    return make_pixels


@pytest.fixture
def make_image_folder(tmp_path: Path) -> Callable[..., Path]:
    """make_image_folder(name=, classes=, per_class=, sizes=, seed=) -> a new folder of JPEG and PNG files."""

    def make(
        name: str = "images",
        classes: Sequence[str] = ("ant", "bee", "cat"),
        per_class: int = 4,
        sizes: Sequence[tuple[int, int]] = ODD_SIZES,
        seed: int = 0,
    ) -> Path:
        root = tmp_path / name
        number = 0
        for label in classes:
            folder = root / label
            folder.mkdir(parents=True)
            for index in range(per_class):
                height, width = sizes[number % len(sizes)]
                image = Image.fromarray(make_pixels(height, width, seed=seed * 1_000_003 + number))
                suffix = "png" if number % 3 == 2 else "jpg"
                image.save(folder / f"{label}_{index}.{suffix}", **({"quality": 90} if suffix == "jpg" else {}))
                number += 1
        return root

    return make


EVAL = """name = "small-eval"
[[ops]]
op = "Resize"
size = [37, 35]
[[ops]]
op = "Normalize"
mean = [0.5, 0.4, 0.3]
std = [0.2, 0.25, 0.3]
"""


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a ResNet-18 with the classes ant, bee and cat, its weights drawn at random."""
    import torch

    from dalipipe.training.network.checkpoint import Checkpoint, save_checkpoint
    from dalipipe.training.network.models import create_model

    classes = ("ant", "bee", "cat")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = create_model("resnet18", len(classes))
    path = tmp_path_factory.mktemp("checkpoint") / "best.pt"
    save_checkpoint(path, Checkpoint("resnet18", classes, EVAL, EVAL, model.state_dict(), 1, {"val_acc": 0.5}))
    return path
