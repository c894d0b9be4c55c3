"""Running epochs on a backend, and what is done about samples that it can't use."""

from __future__ import annotations

import atexit
import contextlib
import os
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import accumulate, chain, islice
from typing import Any

import numpy as np
import torch

from dalipipe.backends import Executor, Job, Result, compile_recipe, forks
from dalipipe.backends.blame import explained
from dalipipe.errors import ConfigError
from dalipipe.loading.quarantine import Quarantine
from dalipipe.sampling import Batch

_running: weakref.WeakSet[Any] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """End the epochs that run, while there still are modules: what they do then may need any of them."""
    for results in list(_running):
        with contextlib.suppress(ValueError):  # a thread is in the middle of it
            results.close()


class Fetcher:
    """A backend, with an account of the samples that it can't use.

        batches ─► without what is known as bad ─► executor ─► result ─► what failed: raise, leave out or replace

    Args:
        job: What to run.
        backend: Its name.
        quarantine: The bad samples, and what is to happen with them.
    """

    def __init__(self, job: Job, backend: str, quarantine: Quarantine) -> None:
        self.job, self.backend, self.quarantine = job, backend, quarantine
        self._idle: list[Executor] = [compile_recipe(job, backend)]
        self._spare: Executor | None = None
        self._closed = False
        self.device = self._idle[0].device

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process, or a copy, needs: threads are made anew there."""
        return {**vars(self), "_idle": [], "_spare": None}

    def run(self, batches: Iterable[Batch]) -> Iterator[Result]:
        """Yield a result without failures for each batch of which something is left, in order.

        Raises:
            DecodeError: as the policy has it.
            ConfigError: in a process that was forked since the first batch.
            ResourceError, BackendError: what is no file's fault. Nothing is remembered of it.
        """
        results = self._run(batches)
        if forks.is_child():
            results = forks.elsewhere(results)
        getpid = os.getpid  # a name of its own: at the end of the interpreter modules are gone
        process = getpid()
        _running.add(results)
        try:
            for result in results:
                yield result
                if getpid() != process:
                    raise ConfigError(
                        f"DataLoader: an iterator belongs to the process that made it, got another, {getpid()}. "
                        "Iterate the loader itself there."
                    )
        finally:
            if getpid() == process:
                results.close()  # type: ignore[attr-defined]

    def _fitted(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Return the batches, once the job allows for the size of the first."""
        ahead = iter(batches)
        first = next(ahead, None)
        if first is None:
            return iter(())
        self._allow(len(first))
        return chain([first], ahead)

    def _allow(self, size: int) -> None:
        """Make the executors that are to come take batches of so many samples in one piece."""
        if size > self.job.batch_size:
            self.job = replace(self.job, batch_size=size)
            self._release()

    def _run(self, cut: Iterable[Batch]) -> Iterator[Result]:
        batches = self._fitted(cut)
        executor, job = self._idle.pop() if self._idle else compile_recipe(self.job, self.backend), self.job
        asked: deque[Batch] = deque()
        results = self._in_parts(executor, self.quarantine.screen(batches, asked), job.batch_size)
        largest = 0
        try:
            with explained(self.backend):
                for result in results:
                    batch = asked.popleft()
                    largest = max(largest, len(batch))
                    whole = self._mend(batch, result) if result.failures else result
                    if len(whole.batch) or not len(batch):
                        yield whole
            self.quarantine.tell()
        finally:
            results.close()  # type: ignore[attr-defined]
            self._allow(largest)
            if self._closed or self.job is not job:
                executor.close()
            else:
                self._idle.append(executor)

    def _in_parts(self, executor: Executor, batches: Iterable[Batch], most: int) -> Iterator[Result]:
        """Yield one result for each batch; those of more than `most` samples go through in parts."""
        waiting: deque[tuple[Batch, int]] = deque()  # and how many parts each has

        def parts() -> Iterator[Batch]:
            for batch in batches:
                cut = batch.parts(most)
                waiting.append((batch, len(cut)))
                yield from cut

        def empty() -> Iterator[Result]:
            while waiting and waiting[0][1] == 0:
                labels = torch.empty(0, dtype=torch.int64, device=self.device)
                yield Result(waiting.popleft()[0], self.job.no_images(self.device), labels)

        results = executor.run(parts())
        try:
            for result in results:
                yield from empty()
                batch, count = waiting.popleft()
                yield result if count == 1 else self._joined(batch, [result, *islice(results, count - 1)])
            yield from empty()
        finally:
            results.close()  # type: ignore[attr-defined]

    def _joined(self, batch: Batch, parts: list[Result]) -> Result:
        starts = accumulate((len(part.batch) for part in parts), initial=0)
        failures = {
            start + at: why for start, part in zip(starts, parts, strict=False) for at, why in part.failures.items()
        }
        images, labels = (torch.cat([getattr(part, name) for part in parts]) for name in ("images", "labels"))
        return Result(batch, self._formed(images), labels, failures)

    def _mend(self, asked: Batch, result: Result) -> Result:
        """Return what becomes of a batch with bad samples.

        Args:
            asked: As it was cut.
            result: What the backend made of it, without what was known as bad.
        """
        self.quarantine.add(result.batch, result.failures)
        failed = _failed(result)
        if self.quarantine.policy.on_error == "skip":
            return replace(result, batch=result.batch.select(~failed), images=self._formed(result.images), failures={})
        found = {int(at): row for row, at in enumerate(np.flatnonzero(~failed))}
        images, labels, batch = [result.images], [result.labels], result.batch
        while failed.any():
            batch = batch.merged(self.quarantine.without(asked), failed)
            extra = self._run_spare(batch.select(failed))
            places, still = np.flatnonzero(failed), _failed(extra)
            first = len(found)
            found |= {int(at): first + row for row, at in enumerate(places[~still])}
            images.append(extra.images)
            labels.append(extra.labels)
            failed = np.zeros_like(failed)
            failed[places[still]] = True
            if extra.failures:
                self.quarantine.add(extra.batch, extra.failures)
        rows = torch.tensor([found[at] for at in range(len(batch))], device=self.device)
        return Result(batch, self._formed(torch.cat(images)[rows]), torch.cat(labels)[rows])

    def _run_spare(self, batch: Batch) -> Result:
        """Run a batch while another epoch is under way."""
        if self._spare is None:
            self._spare = compile_recipe(replace(self.job, prefetch=1), self.backend)
        (result,) = self._in_parts(self._spare, [batch], self.job.batch_size)
        return result

    def _formed(self, images: torch.Tensor) -> torch.Tensor:
        """Return images in the job's memory format, which choosing among them may have lost."""
        form = torch.channels_last if self.job.channels_last else torch.contiguous_format
        return images.contiguous(memory_format=form)

    def restart(self, job: Job) -> None:
        """Run something else from the next epoch on; an epoch that runs may end as it began."""
        self.job = job
        self._release()
        self._idle = [compile_recipe(job, self.backend)]

    def _release(self) -> None:
        for executor in (*self._idle, *([self._spare] if self._spare is not None else [])):
            executor.close()
        self._idle.clear()
        self._spare = None

    def close(self) -> None:
        """Release threads and memory; an epoch that runs may end."""
        self._closed = True
        self._release()


def _failed(result: Result) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Return which samples of a result's batch could not be used."""
    failed = np.zeros(len(result.batch), dtype=np.bool_)
    failed[list(result.failures)] = True
    return failed
