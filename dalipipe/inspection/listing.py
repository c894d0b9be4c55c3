"""Which files training would load from a folder, and which it would pass over."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dalipipe import samples
from dalipipe.inspection.report import File
from dalipipe.sources import FolderSource, find_parts, split_sources
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
        left_out += [_below(place, f"{place}{os.sep}{name}", part) for name in source.left_out.files]
        for name in source.classes:
            if not Path(place, name).is_dir():  # a class that val lacks
                continue
            outside += [path for path in list_files(f"{place}{os.sep}{name}") if not is_image_name(path)]
        left_out += [_below(place, path, part) for path in sorted(outside)]
    return Listing(root, files, left_out)


def _parts(root: str) -> dict[str, FolderSource]:
    parts = find_parts(root)
    if parts is None:
        return {"": FolderSource(root)}
    if parts.val is None:
        return {_name(parts.train): FolderSource(parts.train)}
    train, val = split_sources(root)
    assert isinstance(train, FolderSource)
    assert isinstance(val, FolderSource)
    return {_name(parts.train): train, _name(parts.val): val}


def _name(path: str) -> str:
    return path.rpartition(os.sep)[2]


def _below(place: str, path: str, part: str) -> str:
    name = str(Path(path).relative_to(place))
    return f"{part}/{name}" if part else name
