"""Inspecting a folder of images: every file is read once, looked at, and decoded by DALI (Pillow where that isn't).

    threads:  read a file, look at its header ─► queue of a few batches
    here:     take a batch ─► DALI decodes it in threads of its own, while the threads above read on

Python's part for a photo takes about a thirtieth of the time that decoding it does.
"""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from dalipipe.backends import dali_is_there
from dalipipe.errors import ResourceError
from dalipipe.inspection.content import ENDINGS, Content, ends_early, explain, sniff
from dalipipe.inspection.listing import list_data
from dalipipe.inspection.reference import ReferenceDecoder
from dalipipe.inspection.report import Across, Duplicates, File, Finding, Report
from dalipipe.inspection.verdict import Fit, refusal
from dalipipe.limits import pixel_limit
from dalipipe.recipes import Recipe
from dalipipe.sources.duplicates import Mark, find_equal, mark_of
from dalipipe.sources.reading import read_file

if TYPE_CHECKING:
    from dalipipe.inspection.decoding import Decoder

BATCH = 64
_CHUNK = 16  # files that a thread reads at a time
_AHEAD = 12  # chunks that are read before DALI takes them: three batches
_BATCH_PIXELS = 100_000_000  # 300 MB of pixels; a larger image is decoded alone

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class _Read:
    """A file as it was read: where it is in the report, and what its bytes and its header say.

    Attributes:
        index: Position in the report.
        data: Its bytes; empty where DALI shall not see it.
        content: What the header says.
        mark: The same for files with the same bytes.
        problem: Why DALI shall not see it.
    """

    index: int
    data: bytes = b""
    content: Content = field(default_factory=Content)
    mark: Mark | None = None
    problem: Finding | None = None

    @property
    def doubtful(self) -> bool:
        """Whether it may well spoil a batch."""
        return self.problem is not None or self.content.form not in ENDINGS or ends_early(self.data)


def inspect(
    data: str | os.PathLike[str] | None,
    threads: int,
    progress: Progress | None = None,
    recipe: Recipe | None = None,
) -> Report:
    """Return what there is to say about every image of a folder.

    Args:
        data: A folder of classes, or one that holds train and val; None for generated demonstration pictures.
        threads: Threads that read, and as many that decode.
        progress: Is told what is done, how far it is, and how much there is.
        recipe: Of the training, which must be able to use each image; None for none in particular.

    Raises:
        SourceError: the folder can't be used.
    """
    fit = None if recipe is None else Fit(recipe)
    listing = list_data(data)
    files, marks = list(listing.files), dict[int, Mark]()
    tell = progress or (lambda what, done, total: None)
    done = 0
    with (
        warnings.catch_warnings(),
        _decoder(threads) as decoder,
        ThreadPoolExecutor(threads) as pool,
        closing(_reads(pool, [file.path for file in files])) as reads,  # before the pool, so that Ctrl-C ends at once
    ):
        warnings.filterwarnings("ignore", module=r"PIL\.")  # what Pillow warns of is found and said here
        for batch in _batches(reads):
            for read, failure in zip(batch, _failures(batch, decoder), strict=True):
                files[read.index] = _judge(files[read.index], read, failure, fit)
                if read.mark is not None and not files[read.index].fails:
                    marks[read.index] = read.mark
            done += len(batch)
            tell("decoding", done, len(files))
    tell("comparing", done, len(files))
    duplicates = _duplicates(files, marks)
    _note(files, duplicates)
    return Report(listing.root, files, duplicates, listing.left_out, refusal(listing.root))


def _decoder(threads: int) -> Decoder | ReferenceDecoder:
    """Return what decodes here as training would."""
    if dali_is_there():
        from dalipipe.inspection.decoding import Decoder

        return Decoder(threads, BATCH)
    return ReferenceDecoder(threads)


def _reads(pool: ThreadPoolExecutor, paths: Sequence[str]) -> Generator[_Read, None, None]:
    """Yield every file in order, read by the threads of a pool a little ahead."""
    chunks = (range(begin, min(begin + _CHUNK, len(paths))) for begin in range(0, len(paths), _CHUNK))
    pending: deque[Future[list[_Read]]] = deque()

    def submit(count: int) -> None:
        pending.extend(
            pool.submit(lambda these: [_read(at, paths[at]) for at in these], c) for c in islice(chunks, count)
        )

    try:
        submit(_AHEAD)
        while pending:
            reads = pending.popleft().result()
            submit(1)
            yield from reads
    finally:
        for future in pending:
            future.cancel()


def _read(index: int, path: str) -> _Read:
    try:
        data = read_file(path)
    except ResourceError:
        raise
    except OSError as error:
        return _Read(index, problem=Finding("unreadable", _why(path, error)))
    if not data:
        return _Read(index, mark=mark_of(data), problem=Finding("empty", "0 bytes"))
    content = sniff(data)
    mark = mark_of(data)
    if content.claimed_px:
        return _Read(index, content=content, mark=mark, problem=_enormous(content.claimed_px))
    return _Read(index, data, content, mark)


def _why(path: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "a link to nothing" if Path(path).is_symlink() else "it was there a moment ago, and is gone"
    return (error.strerror or str(error)).lower()


def _enormous(pixels: int) -> Finding:
    return Finding("enormous", f"its header claims {pixels:,} pixels, more than the {pixel_limit():,} that are allowed")


def _batches(reads: Iterable[_Read]) -> Iterator[list[_Read]]:
    """Yield what DALI is to decode at once: at most BATCH images and so many pixels; the doubtful alone."""
    held: list[_Read] = []
    pixels = 0
    for read in reads:
        if read.doubtful:
            yield [read]
            continue
        own = read.content.width * read.content.height
        if held and (len(held) == BATCH or pixels + own > _BATCH_PIXELS):
            yield held
            held, pixels = [], 0
        held.append(read)
        pixels += own
    if held:
        yield held


def _failures(batch: list[_Read], decoder: Decoder | ReferenceDecoder) -> list[Finding | None]:
    """Return for each file of a batch why it would fail in training, None where it would not."""
    first = batch[0]
    if first.problem is not None:
        return [first.problem]
    if first.content.form is None:  # Pillow knows no size, and none may be decoded whose size is not known
        pixels, limit = decoder.pixels(first.data), pixel_limit()
        if pixels == 0:
            return [Finding(*explain(first.data, None, ""))]
        if limit is not None and pixels > limit:
            return [_enormous(pixels)]
    reasons = decoder.failures([read.data for read in batch])
    return [
        Finding(*explain(read.data, read.content.form, reasons[position])) if position in reasons else None
        for position, read in enumerate(batch)
    ]


def _judge(file: File, read: _Read, failure: Finding | None, fit: Fit | None) -> File:
    """Return a file with what was found."""
    content = read.content
    if failure is None and fit is not None and content.width:
        failure = fit.problem(file.part, content.height, content.width)
    findings = [] if failure is None else [failure]
    if content.form is not None:
        findings += _misnamed(file.path, content.form)
    if failure is None:
        pixels, most = content.width * content.height, Image.MAX_IMAGE_PIXELS
        if most is not None and pixels > most:
            findings.append(Finding("large", f"{pixels / 1e6:,.0f} megapixels: slow to decode"))
        findings += [Finding("suspicious", trait) for trait in content.traits]
    return replace(
        file,
        size_bytes=None if read.mark is None else read.mark[0],
        width=content.width or None,
        height=content.height or None,
        form=content.form,
        findings=tuple(findings),
    )


def _misnamed(path: str, form: str) -> list[Finding]:
    ending = os.path.splitext(path)[1].lower()  # noqa: PTH122 (a Path may not be made of every path)
    if ending in ENDINGS.get(form, ()):
        return []
    return [Finding("misnamed", f"{form} content under the ending {ending or 'of none'}")]


def _duplicates(files: Sequence[File], marks: dict[int, Mark]) -> list[Duplicates]:
    """Return the groups of files with the same bytes, those that lie in more places first."""
    groups = []
    for positions in find_equal({index: files[index].path for index in marks}, marks):
        parts = {files[index].part for index in positions}
        labels = {files[index].label for index in positions}
        across: Across = "train and val" if len(parts) > 1 else "classes" if len(labels) > 1 else "one class"
        groups.append(Duplicates(tuple(positions), across))
    order: tuple[Across, ...] = ("train and val", "classes", "one class")
    return sorted(groups, key=lambda group: (order.index(group.across), group.positions))


def _note(files: list[File], duplicates: Sequence[Duplicates]) -> None:
    """Add to the files of each group that there are others."""
    where = {"train and val": ", in both train and val", "classes": ", in another class", "one class": ""}
    for group in duplicates:
        for index in group.positions:
            other = group.positions[group.positions[0] == index]
            reason = f"the same bytes as {files[other].name}{where[group.across]}"
            files[index] = replace(files[index], findings=(*files[index].findings, Finding("duplicate", reason)))
