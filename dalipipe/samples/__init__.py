"""Generated demonstration photographs: a small, learnable data set that needs no download.

`ensure` writes a folder of JPEG files, laid out as DIR/train/CLASS/*.jpg and DIR/val/CLASS/*.jpg, once. Sides, detail,
quantisation and chroma sampling follow ImageNet's files (about 500 x 375 px and 110 KB), so that decoding them costs
what decoding photographs costs. `render` makes one picture as an array.

A class is a shape and a colour. The mean colour of a picture does not give it away: the grounds come in the colours of
the objects.
"""

import json
import math
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import platformdirs
from PIL import Image

from dalipipe.errors import ConfigError
from dalipipe.samples.objects import CLASSES
from dalipipe.samples.scene import MIN_SIDE_PX, VERSION, check_number, render

__all__ = ["CLASSES", "ensure", "render"]

CACHE_VARIABLE: Final = "DALIPIPE_CACHE"
MANIFEST: Final = "manifest.json"
SPLITS: Final = ("train", "val")

# The commonest sizes in ImageNet, in px, and how often each comes here; scaled where another than (500, 375) is asked
# for.
_SIZES: Final = {
    (500, 375): 10,
    (500, 333): 4,
    (375, 500): 3,
    (333, 500): 1,
    (500, 400): 1,
    (500, 357): 1,
    (400, 300): 1,
    (640, 480): 2,
}
_COMMONEST: Final = (500, 375)


@dataclass(frozen=True)
class _Picture:
    """One file to be made."""

    path: str  # below the folder
    label: int
    entropy: tuple[int, ...]  # decides all that is random about it


@dataclass(frozen=True)
class _Parameters:
    """What decides every byte of a folder, for one version of Pillow."""

    train: int
    val: int
    size: tuple[int, int]
    seed: int

    def check(self) -> None:
        """Raise ConfigError where no folder can be made of these."""
        for name in SPLITS:
            check_number("samples", name, getattr(self, name), len(CLASSES))
        for name, side in zip(("width", "height"), self.size, strict=True):
            check_number("samples", name, side, 2 * MIN_SIDE_PX)  # a picture may have half of a side asked for
        check_number("samples", "seed", self.seed, 0)

    @property
    def folder(self) -> str:
        """The name of the folder: two sets of parameters never share one."""
        return f"samples-v{VERSION}-{self.train}-{self.val}-{self.size[0]}x{self.size[1]}-seed{self.seed}"

    def pictures(self) -> Iterator[_Picture]:
        """Yield every picture; which ones a split has does not depend on the size of the other."""
        for split, count in enumerate((self.train, self.val)):
            for number in range(count):
                label = number % len(CLASSES)
                name = f"{CLASSES[label]}/{CLASSES[label]}_{number // len(CLASSES):04d}.jpg"
                yield _Picture(f"{SPLITS[split]}/{name}", label, (VERSION, self.seed, split, number))


def ensure(
    root: Path | None = None, *, train: int = 100, val: int = 40, size: tuple[int, int] = (500, 375), seed: int = 0
) -> Path:
    """Return a folder of demonstration pictures, made now unless it is there already.

    The folder holds train/CLASS/*.jpg and val/CLASS/*.jpg. The same arguments give the same bytes with the same version
    of Pillow. It appears at once and complete, whichever process makes it; one with files missing or cut is mended.

    Args:
        root: Where the folder is made. Default: the directory that the environment variable DALIPIPE_CACHE names, or
            else the user's cache directory.
        train: Number of training pictures, >= 4; the classes share them evenly.
        val: Number of validation pictures, >= 4.
        size: (width, height) in px, each >= 32, of the commonest picture; others are narrower, square or upright.
        seed: Which set of pictures, >= 0.

    Raises:
        ConfigError: An argument is out of its range, or the folder cannot be written.
    """
    parameters = _Parameters(train, val, (size[0], size[1]), seed)
    parameters.check()
    if root is None:
        chosen = os.environ.get(CACHE_VARIABLE)
        root = Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("dalipipe"))
    target = root.absolute() / parameters.folder
    try:
        if not _is_complete(target, parameters):
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".making-", dir=root) as beside:
                made = Path(beside) / target.name
                _write(made, parameters)
                _install(made, target)
    except OSError as error:
        raise ConfigError(
            f"samples: the directory for generated pictures must be writable, got {str(root)!r} "
            f"({error.strerror or error}). Set {CACHE_VARIABLE} to a directory with room for {_room_mb(parameters)} MB."
        ) from error
    return target


def _room_mb(parameters: _Parameters) -> int:
    """Return the space that a folder takes, rounded up, at 0.7 bytes per px."""
    return math.ceil((parameters.train + parameters.val) * parameters.size[0] * parameters.size[1] * 0.7e-6)


def _is_complete(folder: Path, parameters: _Parameters) -> bool:
    """Return whether every file that the manifest names is there, at its length; only the manifest is opened."""
    try:
        manifest: Any = json.loads((folder / MANIFEST).read_text())
        if manifest["parameters"] != json.loads(json.dumps(asdict(parameters))):
            return False
        expected = {picture.path for picture in parameters.pictures()}
        bytes_of: dict[str, int] = manifest["bytes"]
        return bytes_of.keys() == expected and all((folder / path).stat().st_size == n for path, n in bytes_of.items())
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError, AttributeError):
        return False


def _write(folder: Path, parameters: _Parameters) -> None:
    """Make all pictures and, last, the manifest."""
    for split in SPLITS:
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True)

    pictures = list(parameters.pictures())
    with ThreadPoolExecutor(min(len(os.sched_getaffinity(0)), 16)) as pool:
        lengths = pool.map(lambda picture: _write_picture(folder, picture, parameters.size), pictures)
        bytes_of = {picture.path: length for picture, length in zip(pictures, lengths, strict=True)}
    manifest = {"parameters": asdict(parameters), "bytes": bytes_of}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


def _write_picture(folder: Path, picture: _Picture, size: tuple[int, int]) -> int:
    """Write one picture and return its length in bytes."""
    rng = np.random.default_rng(np.random.SeedSequence(picture.entropy))
    weights = np.array(list(_SIZES.values()))
    chosen = list(_SIZES)[int(rng.choice(len(weights), p=weights / weights.sum()))]
    width, height = (round(side * asked / usual) for side, asked, usual in zip(chosen, size, _COMMONEST, strict=True))
    pixels = render(picture.label, int(rng.integers(2**63)), height, width)
    # As most of ImageNet's files: light quantisation; chroma at full size in four files of five.
    quality, subsampling = int(rng.integers(94, 97)), 0 if rng.random() < 0.8 else 2
    path = folder / picture.path
    Image.fromarray(pixels).save(path, "JPEG", quality=quality, subsampling=subsampling)
    return path.stat().st_size


def _install(made: Path, target: Path) -> None:
    """Move a complete folder into place.

    Where one is already (another process was faster, or files are missing), it is mended file by file, the manifest
    last: a reader never finds a file gone that was there.
    """
    try:
        made.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        for path in sorted(made.rglob("*"), key=lambda path: path.name == MANIFEST):
            if path.is_file():
                place = target / path.relative_to(made)
                place.parent.mkdir(parents=True, exist_ok=True)
                path.replace(place)
