"""Running a DALI graph: which batch is where, and what becomes of one that DALI gives up."""

from __future__ import annotations

import atexit
import ctypes
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali._utils import dali_trace
from nvidia.dali.pipeline import Pipeline
from nvidia.dali.plugin.pytorch import DALIGenericIterator

from dalipipe.backends import forks, pillow
from dalipipe.backends.base import UNREADABLE, Job, items_of, obvious_reason, uniforms_of
from dalipipe.backends.blame import Fault, fault_of, require_bytes, unread
from dalipipe.backends.dali import Feed, outputs_of
from dalipipe.backends.dali_input import Device
from dalipipe.backends.requests import kind_of, with_items
from dalipipe.backends.results import Result
from dalipipe.decisions.status import Status
from dalipipe.decisions.status import reason_of as status_reason
from dalipipe.errors import BackendError, ResourceError
from dalipipe.sampling import Batch
from dalipipe.sources import Item, Source
from dalipipe.sources.reading import PAUSES_S

Repaired = TypeVar("Repaired")
Repair = Callable[[Batch, Exception], Repaired]
Prepare = Callable[[Sequence[Item], str], tuple[tuple[Any, ...], Any]]


@dataclass(frozen=True)
class Graph:
    """How a job becomes a pipeline.

    Attributes:
        build: Returns the pipeline of a job, given the kind of its items and what feeds it: see `dali.build`.
        prepare: Returns what the pipeline gets for some items, given their kind, and what must stay alive meanwhile.
    """

    build: Callable[[Job, str, Device, Feed], Pipeline]
    prepare: Prepare


@contextmanager
def _untraced() -> Iterator[None]:
    """Keep DALI from noting where in Python each operator was made: as dear as all else about it, and never shown."""
    traced = dali_trace.is_tracing_enabled()
    dali_trace.set_tracing(enabled=False)
    try:
        yield
    finally:
        dali_trace.set_tracing(enabled=traced)


_open: weakref.WeakSet[DaliExecutor] = weakref.WeakSet()
_lost_cuda = False  # whether this is a child of a process that used CUDA


@atexit.register
def _close_all() -> None:
    """Close what is left before the interpreter takes DALI's modules apart."""
    for executor in list(_open):
        executor.close()


def inputs(job: Job, batch: Batch, items: Sequence[Item], kind: str, prepare: Prepare) -> tuple[tuple[Any, ...], Any]:
    """Return what DALI gets for a batch, and what must stay alive meanwhile.

    DALI gets what `prepare` makes of the items, labels (n,) int64 and, for each view, uniforms (n, max(1, total))
    float64.
    """
    fed, keep = prepare(items, kind)
    uniforms = [drawn if drawn.shape[1] else np.zeros((len(batch), 1)) for drawn in uniforms_of(job, batch)]
    return (*fed, job.source.labels[batch.indices], *uniforms), keep


class _Decoded:
    """A source of which one sample is known, as pixels."""

    kind, max_requests = "pixels", 1

    def __init__(self, source: Source, pixels: NDArray[np.uint8]) -> None:
        self.classes, self.labels, self._length, self._pixels = source.classes, source.labels, len(source), pixels

    def __len__(self) -> int:
        return self._length

    def item(self, index: int) -> Item:
        """Return the pixels, whichever sample is asked for."""
        return self._pixels


def _only(batch: Batch, position: int) -> Batch:
    """Return a batch of one of the samples."""
    return batch.select(np.arange(len(batch)) == position)


class _Pipelines:
    """All pipelines of this process, those that are garbage already among them."""

    def after_fork(self) -> None:
        """Forget them: DALI waits for ever, or aborts, where a child takes apart what has its threads elsewhere."""
        for known in list(Pipeline._pipes):
            pipeline = known()
            if pipeline is not None and pipeline._pipe is not None:
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(pipeline._pipe))  # so that nothing ever takes it apart
                pipeline._pipe = None


_pipelines = _Pipelines()
forks.register(_pipelines, first=True)  # whatever else is forgotten may be the last that holds one


class DaliExecutor:
    """A DALI pipeline behind a DALIGenericIterator, with an account of the batches inside it.

    DALI reads ahead, and gives up a whole batch when one of its samples fails, naming no file. So the executor keeps
    the batches that it fed in a queue; when DALI raises, the batch at the head of the queue is the one that failed,
    and its samples are run again one by one, which yields the good ones and names the bad. Samples that the graph put
    off, because decoded they would take too much memory beside the others, are run again in smaller batches.

    Args:
        job: What to run.
        device: "cpu" or "gpu".
        graph: How the job becomes a pipeline.
    """

    def __init__(self, job: Job, device: Device, graph: Graph) -> None:
        self.job = job
        self.device = torch.device("cuda", job.device_id) if device == "gpu" else torch.device("cpu")
        self._graph_device: Device = device
        self._graph = graph
        self._kind = kind_of(job.source)
        self._batches: Generator[tuple[Batch, list[Item]], None, None] = with_items(job, self._kind, ())
        self._ahead: deque[Batch] = deque()
        # Pixels that a graph reads where they lie, for as long as a batch can be on its way.
        self._alive: deque[Any] = deque(maxlen=job.prefetch + 4)
        self._name = "dali-gpu" if device == "gpu" else "dali-cpu"
        self._feed_error: BaseException | None = None
        self._iterator: DALIGenericIterator | None = None
        self._single: DaliExecutor | None = None
        self._parts: _Parts | None = None
        self._running = False
        _open.add(self)
        forks.register(self)

    def _feed(self) -> Any:
        try:
            batch, items = next(self._batches)
            fed, keep = inputs(self.job, batch, items, self._kind, self._graph.prepare)
        except BaseException as error:
            self._feed_error = error
            if self._running and isinstance(error, Exception):
                raise StopIteration from error  # so that what was fed before comes out first; then `_run` raises it
            raise
        self._ahead.append(batch)
        self._alive.append(keep)
        return fed

    def _restart(self, batches: Iterable[Batch]) -> DALIGenericIterator:
        """Return the iterator, at the beginning of `batches`."""
        self._batches, self._feed_error = with_items(self.job, self._kind, batches), None
        try:
            return self._begin()
        except (RuntimeError, MemoryError) as error:  # no file has been opened yet
            require_bytes(self._name, error)
            raise

    def _begin(self) -> DALIGenericIterator:
        if self._iterator is None:
            if self._graph_device == "gpu" and forks.is_child() and (_lost_cuda or torch.cuda._is_in_bad_fork()):
                raise BackendError(
                    "dali-gpu: CUDA can't be used in a process that was forked from one that used it. Start processes "
                    'with the method "spawn", or fork before the first batch.'
                )
            # A weak reference, so that the pipeline does not keep its executor alive.
            feed = weakref.WeakMethod(self._feed)
            with _untraced():
                pipeline = self._graph.build(self.job, self._kind, self._graph_device, lambda: feed()())  # type: ignore[misc]
            self._iterator = DALIGenericIterator(
                pipeline, outputs_of(self.job), size=-1, auto_reset=False, prepare_first_batch=False
            )
        else:
            self._iterator.reset()
        return self._iterator

    def run(self, batches: Iterable[Batch]) -> Iterator[Result]:
        """Yield one result for each batch, in order. See `Executor`."""
        return self._epoch(batches, self._repair)

    def _epoch(self, batches: Iterable[Batch], repair: Repair[Repaired]) -> Iterator[Result | Repaired]:
        assert not self._running, "an executor runs one epoch at a time"
        self._running = True
        try:
            yield from self._run(self._restart(batches), repair)
        except Exception as error:  # by no name of this module: an epoch may be closed when they are gone
            if isinstance(error, ResourceError | BackendError):
                self._forget()  # whatever state that has left it in
            raise
        finally:
            self._drain()
            self._running = False

    def _run(self, iterator: DALIGenericIterator, repair: Repair[Repaired]) -> Iterator[Result | Repaired]:
        result: Result | Repaired
        while True:
            try:
                outputs = next(iterator)[0]
            except StopIteration:
                if self._feed_error is not None and not isinstance(self._feed_error, StopIteration):
                    raise self._feed_error  # noqa: B904 (the end of the epoch is no cause)
                return
            except Exception as error:
                require_bytes(self._name, error)
                result = repair(self._ahead.popleft(), error)
                # DALIGenericIterator schedules the next run after a success only.
                iterator._schedule_runs(release_outputs=False)
            else:
                views = [outputs[name] for name in outputs if name.startswith("images")]
                result = self._result(self._ahead.popleft(), views, outputs["labels"], outputs["status"])
            yield result

    def iterator(self, batches: Iterable[Batch]) -> DALIGenericIterator:
        """Return the bare iterator over some batches; it keeps the executor alive."""
        iterator = self._restart(batches)
        iterator.executor = self
        return iterator

    def _stop_asking(self) -> None:
        self._batches.close()  # no name of this module: at the end of the process they are gone

    def _drain(self) -> None:
        """Give up what was fed but not taken, so that the pipeline is empty."""
        self._stop_asking()
        while self._ahead and self._iterator is not None:
            try:
                next(self._iterator)
            except StopIteration:
                break
            except Exception:  # of batches that nobody asks for any more
                self._iterator._schedule_runs(release_outputs=False)
            self._ahead.popleft()
        if self._feed_error is not None and not isinstance(self._feed_error, StopIteration):
            self._iterator = None
        self._ahead.clear()

    def _result(self, batch: Batch, views: list[torch.Tensor], labels: torch.Tensor, status: torch.Tensor) -> Result:
        if self.job.channels_last:
            views = [images.permute(0, 3, 1, 2) for images in views]
        whole = Result(batch, views[0], labels, {}, tuple(views[1:]))
        codes = status.flatten().tolist()
        if not any(codes):
            return whole
        late = [at for at, code in enumerate(codes) if code == Status.PUT_OFF]
        failures = {at: status_reason(Status(code)) for at, code in enumerate(codes) if code and at not in late}
        for at in [at for at, code in enumerate(codes) if code == Status.UNREADABLE]:
            result = self._by_pillow(_only(batch, at))
            if result.failures:
                failures[at] = result.failures[0]
            else:
                whole.put([at], result)
                del failures[at]
        if late:
            failures = dict(sorted((failures | self._later(batch, late, whole)).items()))
        good = torch.tensor([at not in failures for at in range(len(codes))], device=labels.device)
        images, *others = (view[good] for view in views)
        return Result(batch, images, labels[good], failures, tuple(others))

    def _later(self, batch: Batch, late: list[int], whole: Result) -> dict[int, str]:
        """Put the images of samples that were put off where they belong; return why some of them can't be used."""
        if self._parts is None:
            self._parts = _Parts(replace(self.job, prefetch=1), self._graph_device, self._graph)
        failures: dict[int, str] = {}
        done = len(batch) - len(late)
        while late:
            # About as many as fitted; and each by itself, since the next one would be decoded meanwhile.
            size = min(len(late), done + done // 4 + 1)
            part, late = late[:size], late[size:]
            result, left = self._parts.one(batch.select(np.isin(np.arange(len(batch)), part)))
            whole.put([at for number, at in enumerate(part) if number not in result.failures], result)
            failures |= {part[number]: reason for number, reason in result.failures.items() if number not in left}
            late, done = sorted([part[number] for number in left] + late), size - len(left)
        return failures

    def _repair(self, batch: Batch, _error: Exception) -> Result:
        """Return what can be had of a batch that DALI gave up, its samples run one by one."""
        alone = [batch.select(np.arange(len(batch)) == position) for position in range(len(batch))]
        results = [
            self._look_again(sample, found) if isinstance(found, Exception) else found
            for sample, found in zip(alone, self._singly(alone), strict=True)
        ]
        return results[0].joined(batch, results[1:])

    def after_fork(self) -> None:
        """Forget the parent's pipeline; see `_Pipelines`."""
        global _lost_cuda
        _lost_cuda = _lost_cuda or (self._iterator is not None and self._graph_device == "gpu")
        self._single = self._parts = self._iterator = None
        self._batches, self._feed_error = with_items(self.job, self._kind, ()), None
        self._ahead.clear()

    def _singly(self, samples: list[Batch]) -> list[Result | Exception]:
        """Return what becomes of samples, each in a batch of its own, or what was raised over it."""
        if self._single is None:
            job = replace(self.job, batch_size=1, num_threads=1, prefetch=1)
            self._single = DaliExecutor(job, self._graph_device, self._graph)
        return list(self._single._epoch(samples, lambda _sample, error: error))

    def _look_again(self, sample: Batch, error: Exception) -> Result:
        """Return what becomes of a sample that failed alone: it may have failed for what an earlier one left behind.

        A file that could not be read, and now can, is given three tries.
        """
        (item,) = items_of(self.job, sample)
        for pause_s in (0.0, *PAUSES_S):
            if obvious_reason(item) is not None:
                break
            time.sleep(pause_s)
            if self._single is not None and self._graph_device == "gpu":
                self._single.close()  # what an error leaves behind on a GPU stays with the pipeline
                self._single = None
            (found,) = self._singly([sample])
            if not isinstance(found, Exception):
                return found
            error = found
            if fault_of(str(error)) is not Fault.READING:
                break
        return self._by_pillow(sample, error)

    def _by_pillow(self, sample: Batch, error: Exception | None = None) -> Result:
        """Return what Pillow, whose word counts, makes of a sample that could not be had otherwise.

        Args:
            sample: A batch of one.
            error: What DALI raised when it was alone.
        """
        (item,) = items_of(self.job, sample)
        if isinstance(item, np.ndarray) or (error is not None and fault_of(str(error)) is Fault.READING):
            obvious = obvious_reason(item)
            if obvious is None:
                raise unread(self._name, error)
            return self._failed(sample, obvious)
        try:
            pixels = pillow.decode(item, self.job.recipe.apply_exif_orientation)
        except UNREADABLE as found:
            return self._failed(sample, pillow.why_not(self._name, item, found))
        job = replace(self.job, source=_Decoded(self.job.source, pixels), batch_size=1, num_threads=1, prefetch=1)
        executor = DaliExecutor(job, self._graph_device, self._graph)
        try:
            return next(iter(executor.run([replace(sample, items=None)])))
        finally:
            executor.close()

    def _failed(self, sample: Batch, reason: str) -> Result:
        return self.job.nothing(sample, self.device, {0: reason})

    def none(self, batch: Batch) -> Result:
        """Return what becomes of a batch without samples."""
        return self.job.nothing(batch, self.device)

    def _forget(self) -> None:
        """Give up the pipeline; the next epoch has a new one."""
        for other in (self._single, self._parts):
            if other is not None:
                other.close()
        self._single = self._parts = self._iterator = None
        self._stop_asking()
        self._ahead.clear()

    def close(self) -> None:
        """Release DALI's threads and memory."""
        self._forget()


class _Parts(DaliExecutor):
    """An executor for batches by themselves, which says what was put off once more."""

    _left: Sequence[int] = ()

    def one(self, batch: Batch) -> tuple[Result, Sequence[int]]:
        """Return what became of a batch, and the positions that were put off; the first one never is."""
        self._left = ()
        (result,) = self.run([batch])
        return result, self._left

    def _later(self, batch: Batch, late: list[int], whole: Result) -> dict[int, str]:
        self._left = late
        return dict.fromkeys(late, status_reason(Status.PUT_OFF))
