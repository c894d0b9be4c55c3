"""Which files training would load from a folder, and which it would pass over."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dalipipe import samples
from dalipipe.inspection.report import File
from dalipipe.sources import FolderSource, split_sources
from dalipipe.sources.folder import expand, is_folder, is_image_name, list_files, scan_folder


@dataclass(frozen=True)
class Listing:
    """What there is to inspect: the folder, a file for each image in it, and the names of what is left out."""

    root: str
    files: list[File]
    left_out: list[str]


def list_data(data: str | os.PathLike[str] | None) -> Listing:
    """List a folder of classes, or one that holds train and val; None stands for generated demonstration pictures.

    Raises:
        SourceError: the folder can't be used.
    """
    root = expand(samples.ensure() if data is None else data)
    files: list[File] = []
    left_out: list[str] = []
    for part, source in _parts(root).items():
        place = str(source.root)
        for index, label in enumerate(source.labels.tolist()):
            key = source.key(index)
            files.append(File(source.item(index), f"{part}/{key}" if part else key, part, source.classes[label]))
        outside = [entry.path for entry in scan_folder(place) if not is_folder(entry)]
        for name in source.classes:
            outside += [path for path in list_files(f"{place}{os.sep}{name}") if not is_image_name(path)]
        left_out += [_below(place, path, part) for path in sorted(outside)]
    return Listing(root, files, left_out)


def _parts(root: str) -> dict[str, FolderSource]:
    folders = {entry.name: entry.path for entry in scan_folder(root) if is_folder(entry)}
    train, val = folders.get("train"), folders.get("val")
    if train is not None and val is not None:
        both = split_sources(root)
        assert isinstance(both[0], FolderSource)
        assert isinstance(both[1], FolderSource)
        return {"train": both[0], "val": both[1]}
    if train is not None and any(is_folder(entry) for entry in scan_folder(train)):
        return {"train": FolderSource(train)}
    return {"": FolderSource(root)}


def _below(place: str, path: str, part: str) -> str:
    name = str(Path(path).relative_to(place))
    return f"{part}/{name}" if part else name
