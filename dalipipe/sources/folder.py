"""A folder of images with one folder per class."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dalipipe.errors import SourceError, SourceNotFoundError
from dalipipe.sources.base import list_names

IMG_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Endings of the files that count as images, in any case. Source: torchvision.datasets.folder.IMG_EXTENSIONS."""


class FolderSource:
    """The images below a folder that holds one folder per class, listed without opening any of them.

    Classes, labels and order are `torchvision.datasets.ImageFolder`'s: classes sorted by name, each searched to any
    depth, links followed. Any file name that the system allows works; one that is not UTF-8 comes as `os.fsdecode`
    gives it.

    Args:
        root: The folder, with or without a leading `~`.

    Attributes:
        root: The folder.
        classes: The class names, sorted.
        class_to_idx: The label of each class name.
        samples: (path, label) of every image.
        labels: The label of every image, (N,) int64.

    Raises:
        SourceNotFoundError: There is no such folder, it has no class folders, or a class has no image.
        SourceError: The path is not a folder, a folder cannot be read, or links lead in a circle.

    Source: torchvision.datasets.ImageFolder. It differs where a folder cannot be read (torchvision skips it) and where
    a link leads back into its own folder (torchvision lists the images some forty times), and for pipes and devices
    (torchvision opens them).
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = expand(root)
        self.root = Path(self._root)
        self.classes = self._find_classes()
        self.class_to_idx = {name: label for label, name in enumerate(self.classes)}
        self.samples: list[tuple[str, int]] = []
        empty: list[str] = []
        for label, name in enumerate(self.classes):
            paths = list_images(f"{self._prefix}{name}")
            self.samples.extend((path, label) for path in paths)
            if not paths:
                empty.append(name)
        if empty:
            raise SourceNotFoundError(
                f"{self._where}: every class folder must hold an image, got none in {list_names(empty)}."
                f" Add images ({' '.join(IMG_EXTENSIONS)}) or remove the folder."
            )
        self.labels: NDArray[np.int64] = np.array([label for _, label in self.samples], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        return f"FolderSource({self._root!r}, {len(self.classes)} classes, {len(self)} images)"

    def item(self, index: int) -> str:
        """Return the path of image `index`."""
        return self.samples[index][0]

    def name(self, index: int) -> str:
        """Return the path of image `index`."""
        return self.samples[index][0]

    def key(self, index: int) -> str:
        """Return the path of image `index` below the root."""
        return self.samples[index][0][len(self._prefix) :]

    @property
    def _where(self) -> str:
        return f"folder {self._root!r}"

    @property
    def _prefix(self) -> str:
        return self._root if self._root.endswith(os.sep) else self._root + os.sep

    def _find_classes(self) -> tuple[str, ...]:
        entries = scan_folder(self._root)
        classes = tuple(sorted(entry.name for entry in entries if is_folder(entry)))
        if not classes:
            images = sorted(entry.name for entry in entries if is_image_name(entry.name))
            found = f"{len(images)} image(s) lying directly in it ({list_names(images, 1)})" if images else "no folder"
            raise SourceNotFoundError(
                f"{self._where}: must hold one folder per class, got {found}."
                " Put the images of each class into a folder named after the class."
            )
        return classes


def expand(root: str | os.PathLike[str]) -> str:
    """Return a path as text, its leading `~` replaced, nothing else changed."""
    return os.path.expanduser(os.fsdecode(root))  # noqa: PTH111 - Path would drop "./", and samples keep their root


def is_image_name(name: str) -> bool:
    """Return whether the ending of a file name says that it is an image."""
    return name.lower().endswith(IMG_EXTENSIONS)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link that cannot be followed is a file to os.walk, and so to torchvision
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry that is no folder is a file, or a link that leads nowhere and so to no pipe."""
    try:
        return entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists())
    except OSError:  # links in a circle
        return True


def scan_folder(folder: str) -> list[os.DirEntry[str]]:
    """Return the entries of a folder, unsorted.

    Raises:
        SourceError: There is no such folder (`SourceNotFoundError`), or it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (OSError, ValueError) as error:
        raise _unreadable(folder, error) from error


def list_images(top: str) -> list[str]:
    """Return the images below `top`: folders sorted by their whole path, within each the files by name."""
    return [path for path in list_files(top) if is_image_name(path)]


def list_files(top: str) -> list[str]:
    """Return every file below `top`, whatever it holds: folders sorted by their whole path, within each by name.

    Pipes, sockets and devices are no files: who opens a pipe may wait for ever.

    Raises:
        SourceError: a folder cannot be read, or links lead in a circle.
    """
    found: list[tuple[str, list[str]]] = []
    pending: list[tuple[str, tuple[tuple[int, int], ...]]] = [(top, ())]
    while pending:
        folder, above = pending.pop()
        identity = _identify(folder)
        if identity in above:
            raise SourceError(
                f"folder {folder!r}: a link must not lead back to a folder that it lies in, got one that does."
                " Remove the link."
            )
        names = []
        for entry in scan_folder(folder):
            if is_folder(entry):
                pending.append((entry.path, (*above, identity)))
            elif _is_file(entry):
                names.append(entry.name)
        found.append((folder, sorted(names)))
    return [f"{folder}{os.sep}{name}" for folder, names in sorted(found) for name in names]


def _identify(folder: str) -> tuple[int, int]:
    """Return what tells a folder from every other, by whatever path it was reached: (device, inode)."""
    try:
        status = Path(folder).stat()
    except OSError as error:
        raise _unreadable(folder, error) from error
    return status.st_dev, status.st_ino


def _unreadable(folder: str, error: OSError | ValueError) -> SourceError:
    if isinstance(error, FileNotFoundError):
        return SourceNotFoundError(f"folder {folder!r}: must exist, got nothing at that path. Check the spelling.")
    if isinstance(error, NotADirectoryError):
        return SourceError(
            f"folder {folder!r}: must be a folder with one folder per class, got a file. Give the folder that holds it."
        )
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return SourceError(f"folder {folder!r}: must be readable, got {reason!r}. Check the path and its permissions.")
