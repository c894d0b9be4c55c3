"""Asking a source for its items: one after the other, or many requests at once, ahead of the decoder, in order."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from dalipipe.backends.base import Job, checked, checked_batch, items_of
from dalipipe.errors import SourceError
from dalipipe.sampling import Batch
from dalipipe.sources import Item, Source, describe
from dalipipe.sources.base import answers_batches, max_requests_of
from dalipipe.sources.stores import Absent, from_store

_FIRST = 64  # items that are looked at for one that is there
MOST_BYTES = 256 * 2**20
"""Of items that have arrived or are expected, and are not needed yet; one that turns out larger comes on top."""


def kind_of(source: Source) -> str:
    """Return what a source's items are: "path", "bytes", "pixels", or what the source itself says."""
    own: str | None = getattr(source, "kind", None)
    if own is not None:
        return own
    if len(source) == 0:
        return "path"
    return _kind_of(from_store(source, "item 0", lambda: _first(source)))


def _first(source: Source) -> Item:
    """Return the first item that is there."""
    for index in range(min(len(source), _FIRST)):
        with suppress(FileNotFoundError):
            return source.item(index)
    return b""


def _kind_of(item: Item) -> str:
    return "path" if isinstance(item, str) else "bytes" if isinstance(item, bytes) else "pixels"


def with_items(
    job: Job, kind: str, batches: Iterable[Batch], most_bytes: int = MOST_BYTES
) -> Generator[tuple[Batch, list[Item]], None, None]:
    """Yield each batch with its items, in order.

    Paths cost nothing, and are asked for when they are needed. So are the items of a source that allows one request.
    All others are asked for by as many threads as the source allows, ahead of the batch that is needed. A source whose
    items come with the batches allows one request.

    Args:
        job: Whose source is asked.
        kind: What its items are; see `kind_of`.
        batches: What is asked for.
        most_bytes: Where that much has arrived or is expected beyond the batch that is needed, nothing more is asked
            for.

    Raises:
        Exception: what the source raises, in the place of the batch that it concerns.
    """
    most = 1 if kind.endswith("path") else max_requests_of(job.source)
    if most == 1:
        for batch in batches:
            items = _ask(job, batch.indices.tolist()) if batch.items is None else items_of(job, batch)
            yield batch, _alike(job.source, kind, batch, items)
        return
    window = _Window(job, most, most_bytes)
    try:
        for batch, items in window.run(iter(batches)):
            yield batch, _alike(job.source, kind, batch, items)
    finally:
        window.close()


def _ask(job: Job, indices: list[int]) -> list[Item]:
    """Return some items of a source."""
    source, channels = job.source, job.recipe.input_channels
    if answers_batches(source):
        return checked_batch(source, indices, channels)
    return [checked(source, index, channels) for index in indices]


def _alike(source: Source, kind: str, batch: Batch, items: list[Item]) -> list[Item]:
    """Return items of a source, which are of its kind.

    Raises:
        SourceError: there is an item among pixels that is none, or the store doesn't have one of these.
    """
    if kind == "pixels":
        for index, item in zip(batch.indices.tolist(), items, strict=True):
            if not isinstance(item, np.ndarray):
                reason = (
                    item.reason if isinstance(item, Absent) else f"{type(item).__name__} where sample 0 is an array"
                )
                raise SourceError(
                    f"{describe(source)}: item {index} must be a uint8 array as the others are, got {reason}."
                    " Return arrays for all samples, or encoded bytes for all."
                )
    return items


def _size_bytes(item: Item) -> int:
    return len(item) if isinstance(item, str | bytes) else item.nbytes


@dataclass(eq=False)
class _Request:
    """What a source is asked for at once: one item, or a whole batch where it answers batches.

    Attributes:
        number: Which of the epoch's batches it belongs to.
        indices: What is asked for.
        answer: The items, or what the source raised.
        size_bytes: Of the answer.
    """

    number: int
    indices: list[int]
    answer: Future[list[Item]] = field(default_factory=Future)
    size_bytes: int = 0


class _Window:
    """The requests of one epoch that are under way, or answered and not needed yet; and the threads that make them.

    A thread that is done begins the next request itself, so that the source is never left waiting while the decoder
    works; but only the caller's thread takes batches from their iterator.
    """

    def __init__(self, job: Job, most_requests: int, most_bytes: int) -> None:
        self._job, self._most_requests, self._most_bytes = job, most_requests, most_bytes
        self._pool = ThreadPoolExecutor(most_requests, thread_name_prefix="dalipipe-requests")
        self._pid, self._current_pid, self._is_ending = os.getpid(), os.getpid, sys.is_finalizing
        self._lock = threading.Lock()  # of all that follows
        self._waiting: deque[_Request] = deque()
        self._needed = 0  # number of the batch that is needed next
        self._under_way = 0
        self._held_bytes = 0
        self._answers, self._answered_bytes = 0, 0  # so far, for the size to expect
        self._closed = False

    def run(self, batches: Iterator[Batch]) -> Iterator[tuple[Batch, list[Item]]]:
        """Yield each batch with its items, in order."""
        ahead: deque[tuple[Batch, list[_Request]]] = deque()
        count, number = 0, 0
        more = True
        while True:
            while more and (not ahead or count - len(ahead[0][1]) < 2 * self._most_requests):
                batch = next(batches, None)
                if batch is None:
                    more = False
                    break
                requests = self._divide(number, batch)
                self._add(requests)
                ahead.append((batch, requests))
                count, number = count + len(requests), number + 1
            if not ahead:
                return
            batch, requests = ahead.popleft()
            items = [item for request in requests for item in request.answer.result()]
            count -= len(requests)
            self._taken(requests)
            yield batch, items

    def _divide(self, number: int, batch: Batch) -> list[_Request]:
        indices = batch.indices.tolist()
        if answers_batches(self._job.source):
            return [_Request(number, indices)]
        return [_Request(number, [index]) for index in indices]

    def _add(self, requests: list[_Request]) -> None:
        with self._lock:
            self._waiting.extend(requests)
            self._begin()

    def _taken(self, requests: list[_Request]) -> None:
        with self._lock:
            self._needed += 1
            self._held_bytes -= sum(request.size_bytes for request in requests)
            self._begin()

    def _begin(self) -> None:
        """Begin what may begin. The caller holds the lock."""
        while self._waiting and self._under_way < self._most_requests and not self._closed:
            if self._waiting[0].number > self._needed and self._is_full():
                return
            self._under_way += 1
            self._pool.submit(self._make, self._waiting.popleft())

    def _is_full(self) -> bool:
        expected = self._answered_bytes / max(1, self._answers)  # 0 until the first answer tells more
        return self._held_bytes + (self._under_way + 1) * expected > self._most_bytes

    def _make(self, request: _Request) -> None:
        items: list[Item] = []
        failure: BaseException | None = None
        try:
            items = _ask(self._job, request.indices)
        except BaseException as error:  # whatever it is, whoever needs the batch is told
            failure = error
        with self._lock:
            request.size_bytes = sum(map(_size_bytes, items))
            self._under_way -= 1
            self._held_bytes += request.size_bytes
            self._answered_bytes += request.size_bytes
            self._answers += 1
            self._begin()
        if failure is None:
            request.answer.set_result(items)
        else:
            request.answer.set_exception(failure)

    def close(self) -> None:
        """Make no more requests; those that are under way end by themselves."""
        if self._is_ending() or self._pid != self._current_pid():
            return  # the threads are gone; a forked child has the parent's locks, but not its threads
        with self._lock:
            self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
