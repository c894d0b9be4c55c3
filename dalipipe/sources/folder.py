"""A folder of images with one folder per class."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from dalipipe.errors import SourceError, SourceNotFoundError
from dalipipe.sources import index
from dalipipe.sources.base import fingerprint_of, list_names
from dalipipe.sources.clutter import LeftOut, advice_on_archive, archives_in, is_clutter, is_run
from dalipipe.sources.paths import Paths, Samples
from dalipipe.sources.roles import role_of

IMG_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Endings of the files that count as images, in any case. Source: torchvision.datasets.folder.IMG_EXTENSIONS."""

Progress: TypeAlias = Callable[[int, int], None]

_LISTED_AT_ONCE = 16  # folders
_LISTINGS, _SETTLED_S = 3, 2.0  # file systems note times with steps of up to 2 s
_log = logging.getLogger("dalipipe")
_told: set[str] = set()  # what was said of folders in this process: a loader may be made anew in each epoch


class FolderSource:
    """The images below a folder that holds one folder per class, listed without opening any of them.

    Classes, labels and order are `torchvision.datasets.ImageFolder`'s: classes sorted by name, each searched to any
    depth, links followed. Any file name that the system allows works; one that is not UTF-8 comes as `os.fsdecode`
    gives it. What no one takes for data is left out, see `dalipipe.sources.clutter`: hidden files and folders, what
    systems and editors keep for themselves, and runs of `dalipipe train`. A line in the log says so.

    Args:
        root: The folder, with or without a leading `~`.
        classes: The class names in the order of their labels, of which some may have no image here; by default the
            folders' names, sorted, and each must have one.
        indexed: Whether the list that `dalipipe index` has left there is taken, where no folder has changed since.
        progress: Is told how many class folders of how many have been listed.

    Attributes:
        root: The folder.
        classes: The class names.
        class_to_idx: The label of each class name.
        paths: The path of every image.
        samples: (path, label) of every image.
        labels: The label of every image, (N,) int64.
        left_out: What is there and is no data.

    Raises:
        SourceNotFoundError: There is no such folder, it has no class folders, or a class has no image.
        SourceError: The path is not a folder, a folder cannot be read, links lead in a circle, or a folder is none of
            the given classes.

    Source: torchvision.datasets.ImageFolder. It differs in what is left out, where a folder cannot be read (torchvision
    skips it) and where a link leads back into its own folder (torchvision lists the images some forty times), and for
    pipes and devices (torchvision opens them).
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        classes: Sequence[str] | None = None,
        *,
        indexed: bool = True,
        progress: Progress | None = None,
    ) -> None:
        self._root = expand(root)
        self.root = Path(self._root)
        self.left_out = LeftOut(self._root)
        names = self._find_classes()
        listing = index.read(self._root, names, self._prefix) if indexed else None
        self.listing = self._list(names, progress) if listing is None else listing
        self.left_out.add(self.listing.left_out)
        found = dict(zip(self.listing.names, self.listing.counts.tolist(), strict=True))
        # A folder of runs and nothing else is no class.
        found = {name: count for name, count in found.items() if count or not self.left_out.has_run_below(name)}
        if not found:
            raise self._no_classes([])
        if classes is None:
            self._require_images(found)
        self.classes: tuple[str, ...] = tuple(found if classes is None else classes)
        self.class_to_idx = {name: label for label, name in enumerate(self.classes)}
        unknown = sorted(set(found) - set(self.classes))
        if unknown:
            raise SourceError(
                f"{self._where}: must have no other classes than {list_names(self.classes)}, got"
                f" {list_names(unknown)} in addition. Remove or rename that."
            )
        labels = np.array([self.class_to_idx[name] for name in found], np.int64)
        self.labels: NDArray[np.int64] = np.repeat(labels, list(found.values()))
        self.paths = self.listing.paths
        self._known: str | None = self.listing.fingerprint if self.classes == tuple(found) else None
        self._samples = Samples(self.paths, self.labels)
        tell(self.left_out.words)
        if classes is None and {"train", "val", "test"} & {role_of(name) for name in self.classes} > {"train"}:
            tell(f"{self._where}: {list_names(self.classes)} are taken for classes. Give one of them if they are parts")

    @property
    def samples(self) -> Samples:
        """(path, label) of every image."""
        return self._samples

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"FolderSource({self._root!r}, {len(self.classes)} classes, {len(self)} images)"

    def item(self, index: int) -> str:
        """Return the path of image `index`."""
        return self.paths[index]

    def name(self, index: int) -> str:
        """Return the path of image `index`."""
        return self.paths[index]

    def key(self, index: int) -> str:
        """Return the path of image `index` below the root."""
        return self.paths.below(index)

    def joined_keys(self, indices: NDArray[np.int64]) -> tuple[bytes, NDArray[np.int64]]:
        """Return the keys of some images; see `sources.base.fingerprint`."""
        return self.paths.joined_parts(indices)

    def fingerprint(self) -> str:
        """Return what changes with the classes, the images or their labels; see `sources.fingerprint`."""
        if self._known is None:
            self._known = fingerprint_of(self)
        return self._known

    def _list(self, names: Sequence[str], progress: Progress | None) -> index.Listing:
        """Return the images of each class; several folders are listed at once, for a network answers slowly."""
        left_out, visited, several = LeftOut(self._root), [], []

        def listed(name: str) -> tuple[Paths, list[tuple[str, int]], LeftOut]:
            times: list[tuple[str, int]] = []
            beside = LeftOut(self._root)
            images = [path for path in list_files(f"{self._prefix}{name}", beside, times) if is_image_name(path)]
            return Paths.of(self._prefix, images), times, beside

        with ThreadPoolExecutor(_LISTED_AT_ONCE, thread_name_prefix="dalipipe-listing") as pool:
            for paths, times, beside in pool.map(listed, names):
                several.append(paths)
                visited += [(folder[len(self._prefix) :], time_ns) for folder, time_ns in times]
                left_out.add(beside)
                if progress is not None:
                    progress(len(several), len(names))
        counts = np.array([len(paths) for paths in several], np.int64)
        return index.Listing(tuple(names), counts, Paths.joined(self._prefix, several), tuple(visited), left_out)

    @property
    def _where(self) -> str:
        return f"folder {self._root!r}"

    @property
    def _prefix(self) -> str:
        return self._root if self._root.endswith(os.sep) else self._root + os.sep

    def _find_classes(self) -> tuple[str, ...]:
        entries = scan_folder(self._root)
        classes = tuple(
            sorted(entry.name for entry in entries if is_folder(entry) and not self.left_out.takes(entry.path, True))
        )
        if not classes:
            raise self._no_classes(sorted(entry.name for entry in entries if not is_folder(entry)))
        return classes

    def _no_classes(self, files: Sequence[str]) -> SourceNotFoundError:
        """Return the error of a folder without a class, given the names of the files in it."""
        images = [name for name in files if is_image_name(name) and not is_clutter(name)]
        found = f"{len(images)} image(s) lying directly in it ({list_names(images, 1)})" if images else "no folder"
        advice = "Put the images of each class into a folder named after the class."
        archives = archives_in(files)
        if archives and not images:
            found, advice = f"no folder but an archive ({list_names(archives, 1)})", advice_on_archive(archives[0])
        words = f" {self.left_out.words}." if self.left_out.words else ""
        return SourceNotFoundError(f"{self._where}: must hold one folder per class, got {found}. {advice}{words}")

    def _require_images(self, found: dict[str, int]) -> None:
        empty = [name for name, count in found.items() if not count]
        if not empty:
            return
        archives = archives_in(entry.name for entry in scan_folder(f"{self._prefix}{empty[0]}"))
        advice = f"Add images ({' '.join(IMG_EXTENSIONS)}) or remove the folder."
        raise SourceNotFoundError(
            f"{self._where}: every class folder must hold an image, got none in {list_names(empty)}."
            f" {advice_on_archive(archives[0]) if archives else advice}"
        )


def index_folder(root: str | os.PathLike[str], progress: Progress | None = None) -> tuple[FolderSource, Path]:
    """Keep the list of a folder's images in a file, which further sources of that folder take; return where it is.

    A folder that was changed a moment ago may be changed again without a sign of it: then all is listed once more.

    Args:
        root: The folder, as `FolderSource` takes it.
        progress: See `FolderSource`.

    Raises:
        SourceError: See `FolderSource`.
        ConfigError: pyarrow is not installed, or the file can't be written.
    """
    index.require_pyarrow()
    for _ in range(_LISTINGS):
        begun_s = time.time()
        source = FolderSource(root, indexed=False, progress=progress)
        if all(abs(time_ns * 1e-9 - begun_s) > _SETTLED_S for _, time_ns in source.listing.visited):
            break
        time.sleep(_SETTLED_S)
    return source, index.write(source.root, replace(source.listing, fingerprint=source.fingerprint()))


def tell(words: str) -> None:
    """Say something of a folder in the log, once in a process."""
    if words and words not in _told:
        _told.add(words)
        _log.warning("%s.", words)


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


def list_images(top: str, left_out: LeftOut | None = None) -> list[str]:
    """Return the images below `top`: folders sorted by their whole path, within each the files by name.

    Args:
        top: The folder.
        left_out: Is told what lies there and is no data, and is not listed.
    """
    return [path for path in list_files(top, left_out) if is_image_name(path)]


def list_files(top: str, left_out: LeftOut | None = None, visited: list[tuple[str, int]] | None = None) -> list[str]:
    """Return every file below `top`, whatever it holds: folders sorted by their whole path, within each by name.

    Pipes, sockets and devices are no files: who opens a pipe may wait for ever. Neither is what `LeftOut` takes.

    Args:
        top: The folder.
        left_out: See `list_images`.
        visited: Gets each folder that is looked into, and when it was changed last, in ns.

    Raises:
        SourceError: a folder cannot be read, or links lead in a circle.
    """
    left_out = LeftOut(top) if left_out is None else left_out
    found: list[tuple[str, list[str]]] = []
    pending: list[tuple[str, tuple[tuple[int, int], ...]]] = [(top, ())]
    while pending:
        folder, above = pending.pop()
        identity, changed_ns = _identify(folder)
        if visited is not None:
            visited.append((folder, changed_ns))
        if identity in above:
            raise SourceError(
                f"folder {folder!r}: a link must not lead back to a folder that it lies in, got one that does."
                " Remove the link."
            )
        entries = scan_folder(folder)
        if folder != left_out.root and is_run(folder, [entry.name for entry in entries]):
            left_out.add_run(folder)
            continue
        names = []
        for entry in entries:
            is_a_folder = is_folder(entry)
            if left_out.takes(entry.path, is_a_folder):
                continue
            if is_a_folder:
                pending.append((entry.path, (*above, identity)))
            elif _is_file(entry):
                names.append(entry.name)
        found.append((folder, sorted(names)))
    return [f"{folder}{os.sep}{name}" for folder, names in sorted(found) for name in names]


def _identify(folder: str) -> tuple[tuple[int, int], int]:
    """Return what tells a folder from every other, by whatever path it was reached: (device, inode); and its time.

    That is when it was changed last, in ns.
    """
    try:
        status = Path(folder).stat()
    except OSError as error:
        raise _unreadable(folder, error) from error
    return (status.st_dev, status.st_ino), status.st_mtime_ns


def _unreadable(folder: str, error: OSError | ValueError) -> SourceError:
    if isinstance(error, FileNotFoundError):
        return SourceNotFoundError(f"folder {folder!r}: must exist, got nothing at that path. Check the spelling.")
    if isinstance(error, NotADirectoryError) and archives_in([folder]):
        return SourceError(
            f"folder {folder!r}: must be a folder with one folder per class, got an archive."
            f" {advice_on_archive(folder)}"
        )
    if isinstance(error, NotADirectoryError):
        return SourceError(
            f"folder {folder!r}: must be a folder with one folder per class, got a file. Give the folder that holds it."
        )
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return SourceError(f"folder {folder!r}: must be readable, got {reason!r}. Check the path and its permissions.")
