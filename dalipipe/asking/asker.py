"""A data set that is asked for the samples of a batch: one after the other, together, or by several threads."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from dalipipe.asking.account import Account
from dalipipe.asking.plans import Plan, Plans
from dalipipe.asking.sample import Asked
from dalipipe.backends import Job
from dalipipe.decisions import randomness
from dalipipe.decisions.generators import lent, states
from dalipipe.recipes import Recipe
from dalipipe.sampling import Batch


class Asker:
    """A data set that is asked for its samples.

    A data set with `max_requests` of 2 or more says, as a `Source` does, that so many threads may ask it at once; they
    do as long as it draws no random numbers, for then each sample needs the global generators for itself.

    Args:
        dataset: Has `__getitem__`, or `__getitems__`, which torch's loader prefers too.
        job: What a backend is to run, but for source and recipe.
        recipe: What is done to the images that it gives; None for what its own transforms do.
        paths: Gets, of the samples that can't be used, the files.

    Attributes:
        dataset: See above.
        recipe: See above.
        plans: What becomes of its transforms.
        paths: See above.
        account: What was done in Python, and what it cost.
        draws: Whether the data set draws random numbers, as far as is known.
        waiting: Of a data set that can only be gone through, the samples that have come, by their numbers; else None.
    """

    def __init__(self, dataset: Any, job: Job, recipe: Recipe | None, paths: dict[int, str]) -> None:
        self.dataset, self.recipe, self._job, self.paths = dataset, recipe, job, paths
        self.plans = Plans()
        self.account = Account()
        self.waiting: dict[int, Asked] | None = None
        self.draws = False
        if recipe is not None:
            self.own_plans = [
                Plan((), view, "float", (), "tensor", fingerprint=view.fingerprint()) for view in recipe.views
            ]

    def job_of(self, recipe: Recipe) -> Job:
        """Return what a backend is to run for a recipe."""
        return replace(self._job, recipe=recipe)

    def ask(self, batch: Batch, *, real: bool = False) -> list[Asked]:
        """Return the samples of a batch.

        Args:
            batch: Which.
            real: Whether images are to be opened and decoded at once, so that the data set meets what is wrong with
                them.

        Raises:
            Exception: what the data set raises, unless a file is to blame.
        """
        if self.waiting is not None:
            return self._waiting_for(self.waiting, batch)
        words = randomness.words(
            batch.seed or 0,
            batch.epoch,
            batch.indices.tolist(),
            batch.occurrences.tolist(),
            randomness.ASK_POSITION,
        )
        with lent():
            found = None
            if _answers_batches(self.dataset):
                found = self._ask_for_batch(batch, words[0], real)
            elif not real and not self.draws and _threads_of(self.dataset) > 1:
                found = self._ask_in_threads(batch)
            if found is not None:
                return found
            return [self._ask(batch, at, own, real=real) for at, own in enumerate(words)]

    def _ask(self, batch: Batch, at: int, words: Sequence[int] | None, *, real: bool = False) -> Asked:
        """Return a sample; where the data set stumbles, it is asked again with its images opened and made at once."""
        began = time.perf_counter()
        sample = Asked(self, batch, at, real=real)
        try:
            sample.ask(words, lambda: self.dataset[sample.index])
        except Exception:
            if real or not sample.deferred:
                raise
            sample = Asked(self, batch, at, real=True)
            sample.ask(words, lambda: self.dataset[sample.index])
        self.account.asking.add(time.perf_counter() - began)
        return sample

    def _ask_for_batch(self, batch: Batch, words: Sequence[int], real: bool) -> list[Asked] | None:
        """Return the samples of a batch that is asked for as a whole; None where a file is to blame for one of them.

        Then they are asked for one by one, where the data set has that too.
        """
        whole = Asked(self, batch, 0, real=real)
        indices = batch.indices.tolist()
        began = time.perf_counter()
        whole.ask(words, lambda: self.dataset.__getitems__(indices))
        if whole.reason:
            if len(batch) > 1 and hasattr(type(self.dataset), "__getitem__"):
                return None
            return [whole]
        samples = []
        for at, structure in enumerate(whole.structure):
            sample = Asked(self, batch, at, real=real)
            sample.adopt(structure, whole)
            samples.append(sample)
        self.account.asking.seconds += time.perf_counter() - began
        self.account.asking.count += len(samples)
        return samples

    def _ask_in_threads(self, batch: Batch) -> list[Asked] | None:
        """Return the samples of a batch, asked for by threads; None where one has drawn random numbers."""
        before = states()
        with ThreadPoolExecutor(_threads_of(self.dataset), thread_name_prefix="dalipipe-asking") as pool:
            try:
                samples = list(pool.map(lambda at: self._ask(batch, at, None), range(len(batch))))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        # One that seeds a generator and sets it back leaves no other trace, and spoils it for the other threads.
        self.draws = self.draws or states() != before or any(sample.reseeded for sample in samples)
        return None if self.draws else samples

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs: what is known by the transforms' numbers is found out anew there."""
        return {**vars(self), "plans": Plans(), "account": Account()}

    def _waiting_for(self, waiting: dict[int, Asked], batch: Batch) -> list[Asked]:
        """Return samples that have come already, and forget those before them."""
        samples = [waiting.pop(index) for index in batch.indices.tolist()]
        for number in [number for number in waiting if number < batch.indices[-1]]:
            del waiting[number]
        return samples


def _threads_of(dataset: Any) -> int:
    """Return how many threads may ask a data set at once."""
    most = getattr(dataset, "max_requests", 1)
    return most if isinstance(most, int) else 1


def _answers_batches(dataset: Any) -> bool:
    """Return whether a data set has a way of its own to give several samples at once."""
    kind = next((kind for kind in type(dataset).__mro__ if "__getitems__" in vars(kind)), None)
    return kind is not None and not kind.__module__.startswith("torch.utils.data")
