import itertools
import json
import multiprocessing
from collections import Counter
from pathlib import Path

import numpy as np
import platformdirs
import pytest
from PIL import Image

from dalipipe import samples
from dalipipe.errors import ConfigError, DalipipeError

# Mean RGB of picture 0 of each class at 67 x 101 px.
PICTURES = [[84.8, 130.0, 162.5], [115.0, 150.5, 166.1], [140.2, 143.3, 138.8], [86.6, 124.3, 130.1]]

SMALL = {"train": 9, "val": 5, "size": (61, 43)}


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return samples.ensure(tmp_path_factory.mktemp("samples"), **SMALL)


@pytest.mark.parametrize("label", range(len(samples.CLASSES)))
@pytest.mark.parametrize(("height", "width"), [(43, 61), (101, 67), (16, 16), (17, 211)])
def test_render_returns_pixels_of_the_asked_size(label: int, height: int, width: int) -> None:
    pixels = samples.render(label, 3, height, width)
    assert pixels.shape == (height, width, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.std() > 10


def test_render_depends_on_its_arguments_alone() -> None:
    np.random.seed(1)
    first = samples.render(2, 5, 67, 101)
    np.random.seed(2)
    state = np.random.get_state()[1].copy()
    assert np.array_equal(samples.render(2, 5, 67, 101), first)
    assert np.array_equal(np.random.get_state()[1], state)
    for other in (samples.render(1, 5, 67, 101), samples.render(2, 6, 67, 101)):
        assert not np.array_equal(other, first)


def test_render_makes_the_pictures_of_this_version() -> None:
    # Where this fails, the pictures have changed: raise VERSION, so that nobody's cache mixes them.
    means = [samples.render(label, 0, 67, 101).mean((0, 1)) for label in range(len(samples.CLASSES))]
    assert np.allclose(means, PICTURES, atol=0.5), np.round(means, 1).tolist()


def test_a_picture_has_the_detail_of_a_photograph() -> None:
    # The amplitude of natural images falls as 1 / f or a little faster; white noise would score 0.
    slopes = []
    for seed in range(4):
        grey = samples.render(seed, seed, 211, 211).mean(-1)
        window = np.outer(np.hanning(211), np.hanning(211))
        amplitude = np.abs(np.fft.fft2((grey - grey.mean()) * window))
        f = np.hypot(*np.meshgrid(np.fft.fftfreq(211), np.fft.fftfreq(211)))
        bands = np.geomspace(0.02, 0.3, 9)
        mean = [amplitude[(f >= low) & (f < high)].mean() for low, high in itertools.pairwise(bands)]
        slopes.append(-np.polyfit(np.log(np.sqrt(bands[:-1] * bands[1:])), np.log(mean), 1)[0])
    assert 0.9 < np.mean(slopes) < 2.2, slopes


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((4, 0, 43, 61), "label"), ((-1, 0, 43, 61), "label"), ((0, -1, 43, 61), "seed"), ((0, 0, 15, 61), "height")],
)
def test_render_refuses_arguments_out_of_range(arguments: tuple[int, ...], name: str) -> None:
    with pytest.raises(ConfigError, match=rf"render: {name} must be"):
        samples.render(*arguments)


def test_ensure_lays_the_files_out_by_split_and_class(small: Path) -> None:
    pictures = sorted(path.relative_to(small) for path in small.rglob("*.jpg"))
    assert Counter(path.parts[0] for path in pictures) == {"train": 9, "val": 5}
    assert Counter(path.parts[:2] for path in pictures) == {
        ("train", "berry"): 3,
        ("train", "blossom"): 2,
        ("train", "leaf"): 2,
        ("train", "starfish"): 2,
        ("val", "berry"): 2,
        ("val", "blossom"): 1,
        ("val", "leaf"): 1,
        ("val", "starfish"): 1,
    }
    assert tuple(sorted(path.name for path in (small / "train").iterdir())) == samples.CLASSES
    for path in pictures:
        with Image.open(small / path) as image:
            image.load()
            assert (image.format, image.mode) == ("JPEG", "RGB")
    assert len({(small / path).read_bytes() for path in pictures}) == len(pictures)
    assert [path.name for path in small.parent.iterdir()] == [small.name]


def test_ensure_gives_the_same_bytes_for_the_same_arguments(small: Path, tmp_path: Path) -> None:
    np.random.seed(7)
    assert files_of(samples.ensure(tmp_path, **SMALL)) == files_of(small)
    other = samples.ensure(tmp_path, **SMALL, seed=1)
    assert other.name != small.name
    assert not set(files_of(other).values()) & set(files_of(small).values())


def test_a_split_does_not_depend_on_the_size_of_the_other(small: Path, tmp_path: Path) -> None:
    other = samples.ensure(tmp_path, **{**SMALL, "train": 4})
    assert files_of(other / "val") == files_of(small / "val")


def test_ensure_reuses_a_complete_folder(small: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    assert samples.ensure(small.parent, **SMALL) == small
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before


def test_ensure_reuses_a_complete_folder_that_it_cannot_write(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert samples.ensure(small.parent, **SMALL) == small


@pytest.mark.parametrize("harm", ["missing", "cut", "class", "manifest", "manifest text", "manifest shape"])
def test_ensure_mends_a_folder(harm: str, small: Path, tmp_path: Path) -> None:
    folder = samples.ensure(tmp_path, **SMALL)
    picture = folder / "train" / "leaf" / "leaf_0001.jpg"
    if harm == "missing":
        picture.unlink()
    elif harm == "cut":
        picture.write_bytes(picture.read_bytes()[:-100])
    elif harm == "class":
        for path in picture.parent.iterdir():
            path.unlink()
        picture.parent.rmdir()
    elif harm == "manifest":
        (folder / samples.MANIFEST).unlink()
    elif harm == "manifest text":
        (folder / samples.MANIFEST).write_text('{"parameters": ')
    else:
        (folder / samples.MANIFEST).write_text(json.dumps(["parameters"]))
    assert samples.ensure(tmp_path, **SMALL) == folder
    assert files_of(folder) == files_of(small)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_two_processes_at_once_both_end_with_a_good_folder(small: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=samples.ensure, args=(tmp_path,), kwargs=SMALL) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
    assert [process.exitcode for process in processes] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == [small.name]
    assert files_of(tmp_path / small.name) == files_of(small)


def test_a_folder_that_another_process_has_just_made_is_kept(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = samples._write

    def write_slowly(folder: Path, parameters: samples._Parameters) -> None:
        write(folder, parameters)
        write(tmp_path / folder.name, parameters)  # the other process is faster

    monkeypatch.setattr(samples, "_write", write_slowly)
    assert files_of(samples.ensure(tmp_path, **SMALL)) == files_of(small)


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_the_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fill_the_disk)
    with pytest.raises(ConfigError, match="No space left on device"):
        samples.ensure(tmp_path, **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_the_variable_names_the_directory(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DALIPIPE_CACHE", str(small.parent))
    assert samples.ensure(**SMALL) == small
    monkeypatch.setenv("HOME", str(small.parent.parent))
    monkeypatch.setenv("DALIPIPE_CACHE", f"~/{small.parent.name}")
    assert samples.ensure(**SMALL) == small


@pytest.mark.parametrize("value", [None, ""])
def test_the_user_cache_directory_is_the_default(
    value: str | None, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platformdirs, "user_cache_dir", {"dalipipe": str(small.parent)}.__getitem__)
    if value is None:
        monkeypatch.delenv("DALIPIPE_CACHE", raising=False)
    else:
        monkeypatch.setenv("DALIPIPE_CACHE", value)
    assert samples.ensure(**SMALL) == small


def test_an_unusable_directory_is_named_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    cache.write_text("a file")
    for unusable in (cache, cache / "below"):
        monkeypatch.setenv("DALIPIPE_CACHE", str(unusable))
        with pytest.raises(DalipipeError) as caught:
            samples.ensure(**SMALL)
        message = str(caught.value)
        assert repr(str(unusable)) in message
        assert "Set DALIPIPE_CACHE to a directory" in message
        assert "\n" not in message


def test_a_file_in_the_place_of_the_folder_is_an_error(small: Path, tmp_path: Path) -> None:
    (tmp_path / small.name).write_text("a file")
    with pytest.raises(ConfigError, match="must be writable"):
        samples.ensure(tmp_path, **SMALL)
    assert (tmp_path / small.name).read_text() == "a file"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [({"train": 3}, "train"), ({"val": 0}, "val"), ({"size": (500, 31)}, "height"), ({"seed": -1}, "seed")],
)
def test_ensure_refuses_arguments_out_of_range(arguments: dict[str, int], name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"samples: {name} must be at least"):
        samples.ensure(tmp_path, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_files_weigh_what_photographs_weigh(tmp_path: Path) -> None:
    folder = samples.ensure(tmp_path, train=24, val=4)
    pictures = list(folder.rglob("*.jpg"))
    sizes = Counter(size_of(path) for path in pictures)
    px = sum(width * height * count for (width, height), count in sizes.items())
    assert sizes.most_common(1)[0][0] == (500, 375)
    assert any(height > width for width, height in sizes)
    assert 0.45 < sum(path.stat().st_size for path in pictures) / px < 0.75
