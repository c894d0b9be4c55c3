"""Running epochs on a backend, and what is done about samples that it can't use."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch

from dalipipe.backends import Executor, Job, Result, compile_recipe
from dalipipe.backends.blame import explained
from dalipipe.quarantine import Quarantine
from dalipipe.sampling import Batch


class Delivery:
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

    def run(self, batches: Iterable[Batch]) -> Iterator[Result]:
        """Yield a result without failures for each batch of which something is left, in order.

        Raises:
            DecodeError: as the policy has it.
            ResourceError, BackendError: what is no file's fault. Nothing is remembered of it.
        """
        job = self.job
        executor = self._idle.pop() if self._idle else compile_recipe(job, self.backend)
        asked: deque[Batch] = deque()
        results = executor.run(self.quarantine.screen(batches, asked))
        try:
            with explained(self.backend):
                for result in results:
                    batch = asked.popleft()
                    whole = self._mend(batch, result) if result.failures else result
                    if len(whole.batch):
                        yield whole
            self.quarantine.tell()
        finally:
            results.close()  # type: ignore[attr-defined]
            if self._closed or job is not self.job:
                executor.close()
            else:
                self._idle.append(executor)

    def _mend(self, asked: Batch, result: Result) -> Result:
        """Return what becomes of a batch with bad samples.

        Args:
            asked: As it was cut.
            result: What the backend made of it, without what was known as bad.
        """
        self.quarantine.admit(result.batch, result.failures)
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
                self.quarantine.admit(extra.batch, extra.failures)
        rows = torch.tensor([found[at] for at in range(len(batch))], device=self.device)
        return Result(batch, self._formed(torch.cat(images)[rows]), torch.cat(labels)[rows])

    def _run_spare(self, batch: Batch) -> Result:
        """Run a batch while another epoch is under way."""
        if self._spare is None:
            self._spare = compile_recipe(replace(self.job, prefetch=1), self.backend)
        (result,) = self._spare.run([batch])
        return result

    def _formed(self, images: torch.Tensor) -> torch.Tensor:
        """Return images in the job's memory format, which choosing among them may have lost."""
        form = torch.channels_last if self.job.channels_last else torch.contiguous_format
        return images.contiguous(memory_format=form)

    def reseed(self, seed: int) -> None:
        """Take another seed; the bad samples stay known."""
        self.quarantine.seed = seed
        self.restart(self.job.reseeded(seed))

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
