"""What was found in a folder of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final, Literal

import numpy as np

FAILING: Final = ("unreadable", "empty", "truncated", "undecodable", "enormous", "unsuitable")
"""Kinds of findings with which a file fails in training."""

WARNINGS: Final = ("large", "misnamed", "duplicate", "suspicious")
"""Kinds of findings that training does not mind."""

Across = Literal["train and val", "classes", "one class"]


@dataclass(frozen=True)
class Finding:
    """Something about a file: its kind, one of FAILING and WARNINGS, and in words what it is."""

    kind: str
    reason: str


@dataclass(frozen=True)
class File:
    """An image that training would load.

    Attributes:
        path: Where it is.
        name: Its path below the folder that was inspected.
        part: The folder of the part, "train" or "val" say; "" where the folder isn't divided.
        label: Its class.
        size_bytes: Of the file; None where it can't be read.
        width: px; None where it isn't known.
        height: px; None where it isn't known.
        form: Form of the image, as Pillow names it.
        findings: What there is to say about it.
    """

    path: str
    name: str
    part: str
    label: str
    size_bytes: int | None = None
    width: int | None = None
    height: int | None = None
    form: str | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def fails(self) -> bool:
        """Whether it would fail in training."""
        return any(finding.kind in FAILING for finding in self.findings)

    @property
    def broken(self) -> bool:
        """Whether it would fail in every training: not merely for its size, with one recipe."""
        return any(finding.kind in FAILING and finding.kind != "unsuitable" for finding in self.findings)


@dataclass(frozen=True)
class Duplicates:
    """Files with the same bytes: their positions in the report, and whether they lie in more than one place."""

    positions: tuple[int, ...]
    across: Across


@dataclass(frozen=True)
class Tally:
    """How many images of a class are good, would fail, or have warnings only."""

    part: str
    label: str
    good: int
    failing: int
    warned: int


@dataclass(frozen=True)
class Extent:
    """The least, the middle and the greatest of some values."""

    least: float
    median: float
    most: float


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        root: The folder, as it was given.
        files: Every image, in the order of training.
        duplicates: Which of them are the same; what lies in more places comes first.
        left_out: Files that training does not see, by name below the root: their ending is none of an image, or they
            lie in no class.
        refused: Why training would not begin on the folder; "" where it would.
    """

    root: str
    files: Sequence[File]
    duplicates: Sequence[Duplicates] = ()
    left_out: Sequence[str] = ()
    refused: str = ""

    @property
    def ok(self) -> bool:
        """Whether every image can be trained on; see `refused` for the folder as a whole."""
        return not any(file.fails for file in self.files)

    def of_kind(self, kind: str) -> list[tuple[File, str]]:
        """Return the files with a finding of a kind, each with its reason."""
        return [(file, found.reason) for file in self.files for found in file.findings if found.kind == kind]

    def tallies(self) -> list[Tally]:
        """Return the counts of each class of each part."""
        groups: dict[tuple[str, str], list[File]] = {}
        for file in self.files:
            groups.setdefault((file.part, file.label), []).append(file)
        rows = []
        for (part, label), files in groups.items():
            failing = sum(file.fails for file in files)
            good = sum(not file.findings for file in files)
            rows.append(Tally(part, label, good, failing, len(files) - failing - good))
        return rows

    def sizes(self) -> dict[str, Extent]:
        """Return the extent of width_px, height_px, megapixels and size_bytes over the images that don't fail."""
        kept = [file for file in self.files if not file.fails and file.width and file.height]
        if not kept:
            return {}
        width, height, size = (
            np.array([getattr(file, name) for file in kept], dtype=np.float64)
            for name in ("width", "height", "size_bytes")
        )
        measured = {"width_px": width, "height_px": height, "megapixels": width * height / 1e6, "size_bytes": size}
        return {
            name: Extent(float(values.min()), float(np.median(values)), float(values.max()))
            for name, values in measured.items()
        }

    def endings_left_out(self) -> dict[str, int]:
        """Return how many files of each ending are left out, the commonest first; "" stands for none."""
        return dict(Counter(PurePath(name).suffix.lower() for name in self.left_out).most_common())

    def plain(self) -> dict[str, Any]:
        """Return all of it as JSON's types. Names hold lone surrogates where they aren't UTF-8."""
        kinds = Counter(finding.kind for file in self.files for finding in file.findings)
        return {
            "root": self.root,
            "ok": self.ok and not self.refused,
            "refused": self.refused,
            "images": len(self.files),
            "would_fail": sum(file.fails for file in self.files),
            "findings": {kind: kinds[kind] for kind in (*FAILING, *WARNINGS)},
            "classes": [
                {
                    "part": row.part,
                    "class": row.label,
                    "good": row.good,
                    "would_fail": row.failing,
                    "warned": row.warned,
                }
                for row in self.tallies()
            ],
            "sizes": {
                name: {"min": extent.least, "median": extent.median, "max": extent.most}
                for name, extent in self.sizes().items()
            },
            "duplicates": [
                {"across": one.across, "files": [self.files[position].name for position in one.positions]}
                for one in self.duplicates
            ],
            "left_out": {"endings": self.endings_left_out(), "files": list(self.left_out)},
            "files": [_plain(file) for file in self.files],
        }


def _plain(file: File) -> dict[str, Any]:
    return {
        "path": file.path,
        "name": file.name,
        "part": file.part,
        "class": file.label,
        "would_fail": file.fails,
        "size_bytes": file.size_bytes,
        "width_px": file.width,
        "height_px": file.height,
        "format": file.form,
        "findings": [{"kind": found.kind, "reason": found.reason} for found in file.findings],
    }
