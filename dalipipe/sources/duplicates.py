"""Which images are the same: the same bytes, whatever the name."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import TypeAlias

from dalipipe.errors import ResourceError, SourceError, listed
from dalipipe.sources.base import Item, Source, encoded_bytes, name_of
from dalipipe.sources.reading import open_ordinary, patiently

_END = 4096  # bytes: two photos of the same size nearly always differ in their ends, where their headers often don't

Group: TypeAlias = tuple[list[int], list[int]]
Mark: TypeAlias = tuple[int, bytes]
"""A size in bytes and a digest of the end: the same for files with the same bytes."""


def find_shared(train: Source, val: Source) -> list[tuple[int, int]]:
    """Return (index in train, index in val) of images with the same content: for each of val's the first of train's.

    Files are opened only where both sides have one of the same size, and read whole only where their ends agree too.
    What can't be read, or is no image, such as the same error page in the place of two photos, is left out: the loader
    names it.
    """
    groups: list[Group] = [(list(range(len(train))), list(range(len(val))))]
    for key in (_size, _end, _whole):
        groups = [part for group in groups for part in _divide(group, (train, val), key)]
    images = [(ours, theirs) for ours, theirs in groups if _is_image(train.item(ours[0]))]
    return sorted((ours[0], other) for ours, theirs in images for other in theirs)


def require_disjoint(train: Source, val: Source) -> None:
    """Refuse sources that share an image: a network must not be judged by what it has learnt.

    Raises:
        SourceError: they do; both names are given, of five images at most.
    """
    shared = find_shared(train, val)
    if not shared:
        return
    pairs = listed([f"{name_of(train, one)!r} is {name_of(val, other)!r}" for one, other in shared], separator="; ")
    raise SourceError(
        f"training and validation: must not share an image, got {len(shared)} in both, by content: {pairs}. "
        "Remove one of each two files, or allow it with --no-check-split."
    )


def mark_of(content: bytes) -> Mark:
    """Return the mark of a file that is in memory."""
    return len(content), hashlib.sha256(content[-_END:]).digest()


def find_equal(items: Mapping[int, Item], marks: Mapping[int, Mark]) -> list[list[int]]:
    """Return the groups of two or more indices whose items have the same content, each in order.

    Items are read whole only where their marks agree. Those that can't be read are left out.

    Args:
        items: What to compare, by index.
        marks: The mark of each.
    """
    alike: dict[Mark, list[int]] = {}
    for index in sorted(items):
        alike.setdefault(marks[index], []).append(index)
    found: list[list[int]] = []
    for group in alike.values():
        if len(group) > 1:
            same: dict[Hashable, list[int]] = {}
            for index in group:
                try:
                    same.setdefault(_asked(items[index], _whole), []).append(index)
                except ResourceError:
                    raise
                except OSError:
                    continue
            found += [indices for indices in same.values() if len(indices) > 1]
    return found


def _divide(group: Group, sources: tuple[Source, Source], key: Callable[[Item], Hashable]) -> list[Group]:
    """Return the parts of a group whose images have the same key, those with images of both sources."""
    parts: dict[Hashable, Group] = {}
    for side in (1, 0):  # validation first: it is smaller, and only its keys matter
        for index in group[side]:
            try:
                found = _asked(sources[side].item(index), key)
            except ResourceError:
                raise
            except OSError:
                continue
            if side == 1 or found in parts:
                parts.setdefault(found, ([], []))[side].append(index)
    return [part for part in parts.values() if part[0]]


def _asked(item: Item, key: Callable[[Item], Hashable]) -> Hashable:
    """Return the key of an item.

    Raises:
        OSError: it can't be read.
        ResourceError: it can't, and that is not its fault.
    """
    return patiently(f"reading {item!r}", lambda: key(item)) if isinstance(item, str) else key(item)


def _is_image(item: Item) -> bool:
    """Return whether the header of an item is that of an image."""
    if not isinstance(item, str | bytes):
        return True
    from PIL import Image  # here, so that sources can be used without Pillow

    try:
        with Image.open(io.BytesIO(encoded_bytes(item))):
            return True
    except ResourceError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _size(item: Item) -> int:
    if isinstance(item, str):
        return Path(item).stat().st_size
    return len(item) if isinstance(item, bytes) else item.nbytes


def _end(item: Item) -> bytes:
    if not isinstance(item, str):
        return _whole(item)
    with open_ordinary(item) as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - _END))
        return hashlib.sha256(file.read()).digest()


def _whole(item: Item) -> bytes:
    if isinstance(item, str):
        with open_ordinary(item) as file:
            return hashlib.file_digest(file, "sha256").digest()
    content = item if isinstance(item, bytes) else repr(item.shape).encode() + item.tobytes()
    return hashlib.sha256(content).digest()
