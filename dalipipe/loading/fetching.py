"""Running epochs on a backend, and what is done about samples that it can't use."""

from __future__ import annotations

import atexit
import contextlib
import os
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from dalipipe.backends import Executor, Job, Outcome, compile_recipe, forks, in_parts
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
        compiled: Makes an executor for a job, given the name of a backend; by default of its recipe.
    """

    def __init__(
        self, job: Job, backend: str, quarantine: Quarantine, compiled: Callable[[Job, str], Executor] | None = None
    ) -> None:
        self.job, self.backend, self.quarantine, self._compiled = job, backend, quarantine, compiled or compile_recipe
        self._idle: list[Executor] = [self._compiled(job, backend)]
        self._spare: Executor | None = None
        self._closed = False
        self.device = self._idle[0].device

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process, or a copy, needs: threads are made anew there."""
        return {**vars(self), "_idle": [], "_spare": None}

    def run(self, batches: Iterable[Batch]) -> Iterator[Outcome]:
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

    def _run(self, cut: Iterable[Batch]) -> Iterator[Outcome]:
        batches = self._fitted(cut)
        executor, job = self._idle.pop() if self._idle else self._compiled(self.job, self.backend), self.job
        asked: deque[Batch] = deque()
        results = in_parts(executor, self.quarantine.screen(batches, asked), job.batch_size)
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
            results.close()
            self._allow(largest)
            if self._closed or self.job is not job:
                executor.close()
            else:
                self._idle.append(executor)

    def _mend(self, asked: Batch, result: Outcome) -> Outcome:
        """Return what becomes of a batch with bad samples.

        Args:
            asked: As it was cut.
            result: What the backend made of it, without what was known as bad.
        """
        self.quarantine.add(result.batch, result.failures)
        failed = _failed(result)
        if self.quarantine.policy.on_error == "skip":
            return result.chosen(result.batch.select(~failed), channels_last=self.job.channels_last)
        found = {int(at): row for row, at in enumerate(np.flatnonzero(~failed))}
        batch, extras = result.batch, []
        while failed.any():
            batch = batch.merged(self.quarantine.without(asked), failed)
            extra = self._run_spare(batch.select(failed))
            places, still = np.flatnonzero(failed), _failed(extra)
            first = len(found)
            found |= {int(at): first + row for row, at in enumerate(places[~still])}
            extras.append(extra)
            failed = np.zeros_like(failed)
            failed[places[still]] = True
            if extra.failures:
                self.quarantine.add(extra.batch, extra.failures)
        rows = [found[at] for at in range(len(batch))]
        return result.joined(batch, extras).chosen(batch, rows, channels_last=self.job.channels_last)

    def _run_spare(self, batch: Batch) -> Outcome:
        """Run a batch while another epoch is under way."""
        if self._spare is None:
            self._spare = self._compiled(replace(self.job, prefetch=1), self.backend)
        result: Outcome
        (result,) = in_parts(self._spare, [batch], self.job.batch_size)
        return result

    def restart(self, job: Job) -> None:
        """Run something else from the next epoch on; an epoch that runs may end as it began."""
        self.job = job
        self._release()
        self._idle = [self._compiled(job, self.backend)]

    def _release(self) -> None:
        for executor in (*self._idle, *([self._spare] if self._spare is not None else [])):
            executor.close()
        self._idle.clear()
        self._spare = None

    def close(self) -> None:
        """Release threads and memory; an epoch that runs may end."""
        self._closed = True
        self._release()


def _failed(result: Outcome) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Return which samples of a result's batch could not be used."""
    failed = np.zeros(len(result.batch), dtype=np.bool_)
    failed[list(result.failures)] = True
    return failed
