"""A list of the images below a folder that is kept in a file, and believed only while no folder has changed since."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import platformdirs
from numpy.typing import NDArray

from dalipipe.errors import ConfigError, listed
from dalipipe.sources.clutter import LeftOut
from dalipipe.sources.paths import Paths
from dalipipe.writing import write_file

NAME: Final = ".dalipipe-index.parquet"
"""Of the file in the folder; hidden, so it is no image and no class."""

_VERSION = 1  # of what the file holds, and of the rules by which images are listed
_KEY, _DIGEST = b"dalipipe", b"dalipipe-digest"
_AT_ONCE = 16  # folders that are looked at
_SMALL: Final[dict[str, Any]] = {
    "compression": "zstd",
    "use_dictionary": ["class"],
    "column_encoding": {"path": "DELTA_BYTE_ARRAY"},  # each begins as the one before
}
_log = logging.getLogger("dalipipe")


@dataclass(frozen=True)
class Listing:
    """The images below a folder, class by class.

    Attributes:
        names: The folders of the classes, in order.
        counts: How many images each has, (classes,) int64.
        paths: The images.
        visited: Every folder below that was looked into, and when it was changed last, in ns.
        left_out: What lies there and is no data.
        fingerprint: Of a source of these classes and images, where it was kept; see `sources.fingerprint`.
    """

    names: tuple[str, ...]
    counts: NDArray[np.int64]
    paths: Paths
    visited: tuple[tuple[str, int], ...]
    left_out: LeftOut
    fingerprint: str | None = None

    def changed(self) -> list[str]:
        """Return the folders that have changed since."""
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="dalipipe-listing") as pool:
            times = pool.map(_changed_ns, (f"{self.paths.prefix}{folder}" for folder, _ in self.visited))
            return [folder for (folder, wanted), time_ns in zip(self.visited, times, strict=True) if time_ns != wanted]


def places(root: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Return where the index of a folder may be: in it, or in the user's cache where it can't be written to."""
    digest = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:32]
    home = Path(os.environ.get("DALIPIPE_CACHE") or platformdirs.user_cache_path("dalipipe"))
    return Path(root) / NAME, home / "indexes" / f"{digest}.parquet"


def write(root: str | os.PathLike[str], listing: Listing) -> Path:
    """Write an index, and return where.

    Raises:
        ConfigError: pyarrow is not installed, or the file can't be written.
    """
    pyarrow, parquet = _pyarrow()
    everything = np.arange(len(listing.paths))
    parts, lengths = listing.paths.joined_parts(everything)
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    buffers = [None, pyarrow.py_buffer(ends), pyarrow.py_buffer(parts)]
    table = pyarrow.table(
        {
            "path": pyarrow.LargeBinaryArray.from_buffers(pyarrow.large_binary(), len(everything), buffers),
            "class": pyarrow.array(np.repeat(np.arange(len(listing.names), dtype=np.int32), listing.counts)),
        }
    )
    left_out = listing.left_out
    known = {
        "version": _VERSION,
        "classes": listing.names,
        "folders": listing.visited,
        "left_out": [left_out.folders, left_out.files, left_out.runs],
        "fingerprint": listing.fingerprint,
    }
    text = json.dumps(known).encode("ascii")
    table = table.replace_schema_metadata({_KEY: text, _DIGEST: hashlib.sha256(text).hexdigest().encode("ascii")})
    problems = []
    for place in places(root):
        try:
            if place.name != NAME:
                place.parent.mkdir(parents=True, exist_ok=True)
            write_file(place, lambda file: parquet.write_table(table, file, write_page_checksum=True, **_SMALL))
        except OSError as error:
            problems.append(f"{str(place)!r}: {error.strerror or error}")
        else:
            return place
    raise ConfigError(
        f"index: must be written in the folder or in the cache, got {'; '.join(problems)}. See to one of them."
    )


def read(root: str, names: Sequence[str], prefix: str) -> Listing | None:
    """Return what the index of a folder lists; None where there is none, or it is no longer true.

    A line in the log says what is wrong with one that is there.

    Args:
        root: The folder.
        names: The class folders that are there now.
        prefix: What each path begins with.
    """
    place = next((each for each in places(root) if each.is_file()), None)
    if place is None:
        return None
    try:
        listing = _read(place, root, prefix)
        if listing.names != tuple(names):
            raise _Untrueness("it has other classes")
        changed = listing.changed()
        if changed:
            raise _Untrueness(f"{len(changed):,} folders have changed since: {listed(changed, 3)}")
    except _Untrueness as why:
        _log.warning(
            "folder %r: its index is not used, and it is listed anew: %s. Run `dalipipe index` again, or remove %s.",
            root,
            why,
            place,
        )
        return None
    return listing


class _Untrueness(Exception):
    """An index that is not to be believed; says why."""


def _read(place: Path, root: str, prefix: str) -> Listing:
    """Return what an index lists.

    Raises:
        _Untrueness: it is damaged, of another version, or can't be read.
    """
    try:
        pyarrow, parquet = _pyarrow()
    except ConfigError as error:
        raise _Untrueness("pyarrow, which reads it, is not installed") from error
    try:
        file = parquet.ParquetFile(place, page_checksum_verification=True)
        text, digest = (file.metadata.metadata[key] for key in (_KEY, _DIGEST))
        if hashlib.sha256(text).hexdigest().encode("ascii") != digest:
            raise _Untrueness("it is damaged (folders)")
        known = json.loads(text)
        if known["version"] != _VERSION:
            raise _Untrueness(f"it is of version {known['version']}, and {_VERSION} is read")
        table = file.read(["path", "class"])
        names, visited = tuple(known["classes"]), tuple((str(path), int(time)) for path, time in known["folders"])
        found = LeftOut(root)
        found.folders, found.files, found.runs = ([str(name) for name in each] for each in known["left_out"])
        labels = table["class"].combine_chunks().to_numpy(zero_copy_only=True)
        paths = _paths(table["path"], prefix, pyarrow)
    except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException) as error:
        raise _Untrueness(f"it is damaged ({type(error).__name__})") from error
    if len(labels) and not (labels[0] >= 0 and labels[-1] < len(names) and (np.diff(labels) >= 0).all()):
        raise _Untrueness("it is damaged (labels)")
    counts = np.bincount(labels, minlength=len(names)).astype(np.int64)
    return Listing(names, counts, paths, visited, found, known["fingerprint"])


def _paths(column: Any, prefix: str, pyarrow: Any) -> Paths:
    """Return a column of bytes as paths; its buffers are taken as they are."""
    array = column.combine_chunks().cast(pyarrow.large_binary())
    chunks: Iterable[Any] = array.chunks if isinstance(array, pyarrow.ChunkedArray) else [array]
    several = []
    for chunk in chunks:
        _, ends, parts = chunk.buffers()
        offsets = np.frombuffer(ends, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
        data = np.frombuffer(parts if parts is not None else b"", np.uint8)[offsets[0] : offsets[-1]]
        several.append(Paths(prefix, data, offsets[1:] - offsets[0]))
    return several[0] if len(several) == 1 else Paths.joined(prefix, several)


def require_pyarrow() -> None:
    """Refuse to go on without it.

    Raises:
        ConfigError: it is not installed.
    """
    _pyarrow()


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigError("index: needs pyarrow, which is not installed. Run `pip install pyarrow`.") from error
    return pyarrow, parquet


def _changed_ns(folder: str) -> int | None:
    try:
        return os.stat(folder).st_mtime_ns  # noqa: PTH116 (one for each folder)
    except OSError:
        return None
