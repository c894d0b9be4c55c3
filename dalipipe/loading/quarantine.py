"""Samples that can't be used: the account of them, and what a batch becomes without them.

What becomes of a batch depends on which files are bad, never on when that was found out: so an epoch that meets a bad
file, one that knows of it beforehand and one that goes on from a saved state give the same batches.
"""

from __future__ import annotations

import json
import logging
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dalipipe.decisions import randomness
from dalipipe.errors import ConfigError, DecodeError, StateError, listed, shown
from dalipipe.sampling import Batch
from dalipipe.sources import Source, name_of
from dalipipe.writing import append_file

OnError = Literal["raise", "skip", "substitute"]

_DRAWS = 16  # of a substitute; beyond these the class is searched in order
_SHOWN = 5
_log = logging.getLogger("dalipipe")


@dataclass(frozen=True)
class BadFile:
    """A sample that can't be used.

    Attributes:
        index: Its position in the source.
        path: What the source calls it: the path of a file.
        reason: Why, in a few words.
        epoch: In which it was found.
    """

    index: int
    path: str
    reason: str
    epoch: int


@dataclass(frozen=True)
class ErrorPolicy:
    """What is to happen where a sample can't be used.

    Attributes:
        on_error: "raise": DecodeError. "skip": the batch is smaller. "substitute": another sample of the same class
            stands in its place.
        max_bad: Most bad samples: a number, or a fraction of all as a float from 0 to 1; None for any number.
        file: Where the bad samples are listed as JSON lines of path, reason and epoch; None for nowhere.

    Raises:
        ConfigError: a value out of its range.
    """

    on_error: OnError = "raise"
    max_bad: int | float | None = None
    file: Path | None = None

    def __post_init__(self) -> None:
        if self.on_error not in get_args(OnError):
            raise ConfigError(
                f'DataLoader: on_error must be "raise", "skip" or "substitute", got {self.on_error!r}. Choose one.'
            )
        if self.file is not None and self.file.is_dir():
            raise ConfigError(
                f"DataLoader: quarantine must be a file, got the directory {str(self.file)!r}. Name a file in it."
            )
        if self.max_bad is None:
            return
        is_number = isinstance(self.max_bad, int | float) and not isinstance(self.max_bad, bool)
        most = 1.0 if isinstance(self.max_bad, float) else math.inf
        if not is_number or not 0 <= self.max_bad <= most:
            raise ConfigError(
                "DataLoader: max_bad must be a whole number of at least 0, or a fraction from 0.0 to 1.0, "
                f"got {self.max_bad!r}. Use 0.01 for one in a hundred."
            )
        if self.on_error == "raise":
            raise ConfigError(
                f'DataLoader: max_bad needs on_error="skip" or "substitute", got {self.max_bad!r} with "raise". '
                "Leave one of them out."
            )

    def most(self, length: int) -> int | None:
        """Return how many of `length` samples may be bad; None for any number."""
        return int(self.max_bad * length) if isinstance(self.max_bad, float) else self.max_bad


class Quarantine:
    """The samples of a source that can't be used, each found once and never opened again.

    Args:
        source: Where the samples come from.
        policy: What is to happen.

    Attributes:
        files: What was found, by position in the source.
        rank: Which of several ranks this is: each but the first writes a file of its own.
    """

    def __init__(self, source: Source, policy: ErrorPolicy) -> None:
        self.source, self.policy = source, policy
        self.files: dict[int, BadFile] = {}
        self.rank = 0
        self._classes: dict[int, NDArray[np.int64]] = {}
        self._told: set[int] = set()
        self._begun = False

    def screen(self, batches: Iterable[Batch], asked: deque[Batch]) -> Iterator[Batch]:
        """Yield what is left of batches without the samples known as bad.

        Batches of which nothing is left fall out; one that was empty from the beginning does not.

        Args:
            batches: As they were cut.
            asked: Gets at its end, for each batch that is yielded, the one that was cut.
        """
        for batch in batches:
            left = self.without(batch)
            if len(left) or not len(batch):
                asked.append(batch)
                yield left

    def without(self, batch: Batch) -> Batch:
        """Return a batch without the samples known as bad, or with substitutes in their places.

        Raises:
            DecodeError: a class has no sample left to take.
        """
        if not self.files or self.policy.on_error == "raise":
            return batch
        good = np.array([index not in self.files for index in batch.indices.tolist()], dtype=np.bool_)
        if good.all():
            return batch
        if self.policy.on_error == "skip":
            return batch.select(good)
        indices, occurrences = batch.indices.copy(), batch.occurrences.copy()
        for at in np.flatnonzero(~good).tolist():
            indices[at], occurrences[at] = self._substitute(batch, at)
        return replace(batch, indices=indices, occurrences=occurrences)

    def _substitute(self, batch: Batch, at: int) -> tuple[int, int]:
        """Return which sample stands for a bad one, and the occurrence under which its random decisions are made.

        Samples of the class are drawn until one is good. The occurrence is drawn too, from numbers that no
        sampler reaches, so that the substitute doesn't look as it does in its own place.
        """
        index, occurrence = int(batch.indices[at]), int(batch.occurrences[at])
        members = self._members(index)
        chosen, again = 0, 0
        for attempt in range(_DRAWS):
            fraction, again = randomness.substitute(batch.seed or 0, batch.epoch, index, occurrence, attempt)
            chosen = int(fraction * len(members))
            if int(members[chosen]) not in self.files:
                return int(members[chosen]), again
        for step in range(len(members)):
            candidate = int(members[(chosen + step) % len(members)])
            if candidate not in self.files:
                return candidate, again
        name = self.source.classes[int(self.source.labels[index])]
        raise DecodeError(
            f"class {name!r}: must have a file that can stand for one that can't be used, got none that can be used "
            f"of {len(members)}. Remove the class or replace its files."
        )

    def _members(self, index: int) -> NDArray[np.int64]:
        """Return the samples of the class of a sample."""
        label = int(self.source.labels[index])
        if label not in self._classes:
            self._classes[label] = np.flatnonzero(self.source.labels == label)
        return self._classes[label]

    def add(self, batch: Batch, failures: Mapping[int, str]) -> None:
        """Take in the samples of a batch that could not be used, by position, with the reasons.

        Raises:
            DecodeError: naming each of them, with "raise"; naming some, where they are more than may be.
            ConfigError: the list of them can't be written.
        """
        new = []
        for position, reason in sorted(failures.items()):
            index = int(batch.indices[position])
            if index not in self.files:
                self.files[index] = BadFile(index, name_of(self.source, index), reason, batch.epoch)
                new.append(self.files[index])
        self._write(new)
        if self.policy.on_error == "raise":
            bad = [self.files[int(batch.indices[position])] for position in sorted(failures)]
            self.files.clear()  # whoever goes on asks for them anew
            files, them = ("file", "it") if len(bad) == 1 else ("files", "them")
            raise DecodeError(
                f"{len(bad)} {files} can't be used: {_listed(bad, len(bad))}. Replace or remove {them}, "
                f'or go on without {them}: on_error="skip" or "substitute".'
            )
        self._check_number()

    def merge(self, files: Iterable[BadFile]) -> None:
        """Take in what others found: other ranks of the same run.

        Raises:
            DecodeError: they are more than may be.
            ConfigError: the list of them can't be written.
        """
        new = [file for file in files if file.index not in self.files]
        self.files.update({file.index: file for file in new})
        self._write(new)
        self._check_number()

    def _check_number(self) -> None:
        length = len(self.source)
        most, count = self.policy.most(length), len(self.files)
        if count == length and length:
            most = length - 1
        if most is None or count <= most:
            return
        rule = f"max_bad = {self.policy.max_bad}" if self.policy.max_bad is not None else "all but one"
        raise DecodeError(
            f"at most {most} of {length} files may be bad ({rule}), got {count}: "
            f"{_listed(list(self.files.values()))}. Replace or remove them, or raise max_bad."
        )

    def tell(self) -> None:
        """Log a warning about the bad samples that were not told of before."""
        new = [file for index, file in self.files.items() if index not in self._told]
        self._told.update(self.files)
        if new:
            what = {"skip": "left out", "substitute": "replaced by others of their class"}[self.policy.on_error]
            where = f" All are listed in {self.policy.file}." if self.policy.file is not None else ""
            _log.warning("%d of %d files can't be used and are %s: %s.%s", len(self.files), len(self.source), what,
                         _listed(new), where)  # fmt: skip

    def _write(self, new: list[BadFile]) -> None:
        """List further files; what an earlier loader has left in the file is overwritten."""
        if self.policy.file is None or not new:
            return
        path = self.policy.file
        if self.rank:
            path = path.with_name(f"{path.stem}.rank{self.rank}{path.suffix}")
        lines = "".join(
            json.dumps({"path": file.path, "reason": file.reason, "epoch": file.epoch}) + "\n" for file in new
        )
        append_file(path, lines.encode("ascii"), anew=not self._begun)
        self._begun = True

    def state(self) -> list[list[Any]]:
        """Return what `restore` takes, as JSON: position, reason and epoch of each."""
        return [[file.index, file.reason, file.epoch] for file in self.files.values()]

    def restore(self, state: object) -> None:
        """Know the samples that a state lists, and no others.

        Raises:
            StateError: it is malformed.
            ConfigError: the list of them can't be written.
        """
        self.files = {index: BadFile(index, name_of(self.source, index), reason, epoch)
                      for index, reason, epoch in checked_state(state, len(self.source))}  # fmt: skip
        self._told, self._begun = set(self.files), False
        self._write(list(self.files.values()))


def checked_state(state: object, length: int) -> list[tuple[int, str, int]]:
    """Return the rows of a list of bad samples, as a saved state has them.

    Raises:
        StateError: it is malformed.
    """
    rows: list[Any] = state if isinstance(state, list) else [None]
    for row in rows:
        is_row = isinstance(row, list) and [type(each) for each in row] == [int, str, int]
        if not is_row or not 0 <= row[0] < length or not 0 <= row[2] < 2**32:
            raise StateError(
                "loader state: bad must be a list of [position, reason, epoch], "
                f"got {shown(row if isinstance(state, list) else state)}. Use what state_dict() gave."
            )
    return [(row[0], row[1], row[2]) for row in rows]


def _listed(files: list[BadFile], limit: int = _SHOWN) -> str:
    return listed([f"{file.path!r} ({file.reason})" for file in files], limit)
