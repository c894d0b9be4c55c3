"""Thousands of random histories: each sample comes once, and once only, whatever is saved, loaded and changed midway.

A history runs through a few epochs. Now and then a run breaks off: its state goes, as JSON, to loaders of another batch
size, number of ranks or number of batches prepared ahead. Beside it runs a model that knows nothing of batches.
"""

import itertools
import json
import random

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DistributedSampler, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

import dalipipe
import dalipipe.loading.arguments
import dalipipe.loading.fetching
from dalipipe.backends import Result
from dalipipe.backends.ram_cache import RamCache
from dalipipe.decisions.permutation import permutation
from dalipipe.errors import StateError

RECIPE = dalipipe.Recipe.from_toml('ops = [{ op = "CenterCrop", size = 1 }]')
HISTORIES = 1000


class Marked:
    """A source of which some samples can't be used."""

    classes = ("a", "b")

    def __init__(self, count, bad=()):
        self.labels = np.arange(count, dtype=np.int64) % 2
        self.bad = frozenset(bad)

    def __len__(self):
        return len(self.labels)

    def item(self, index):
        return np.full((1, 1, 3), index, np.uint8)


class Told:
    """An executor whose images are what was asked for: index, occurrence, epoch and seed; a few batches ahead."""

    device = torch.device("cpu")

    def __init__(self, job, _backend):
        self.job = job
        self.source = job.source.source if isinstance(job.source, RamCache) else job.source

    def run(self, batches):
        ahead = []
        for batch in itertools.chain(batches, [None] * self.job.prefetch):
            ahead.append(batch)
            if len(ahead) > self.job.prefetch and (first := ahead.pop(0)) is not None:
                yield self.result(first)

    def result(self, batch):
        assert 0 < len(batch) <= self.job.batch_size
        pairs = zip(batch.indices.tolist(), batch.occurrences.tolist(), strict=True)
        rows = [(*pair, batch.epoch, batch.seed) for pair in pairs]
        bad = {at: "bad" for at, row in enumerate(rows) if row[0] in self.source.bad}
        good = [row for at, row in enumerate(rows) if at not in bad]
        images = torch.tensor(good, dtype=torch.int64).reshape(-1, 4)
        return Result(batch, images, images[:, 0].clone(), bad)

    def none(self, batch):
        nothing = torch.empty(0, 4, dtype=torch.int64)
        return Result(batch, nothing, nothing[:, 0].clone())

    def close(self):
        pass


def generator():
    return torch.Generator().manual_seed(8)


SAMPLERS = {
    "random": lambda n: RandomSampler(range(n), generator=generator()),
    "global": lambda n: RandomSampler(range(n)),
    "subset": lambda n: SubsetRandomSampler(range(0, n, 2), generator=generator()),
    "weighted": lambda n: WeightedRandomSampler([1.0] * n, 2 * n, generator=generator()),
    "list": lambda n: [3 * index % n - n * (index % 2) for index in range(n + n // 2)],
    "distributed": lambda n: DistributedSampler(range(n), num_replicas=2, rank=1, seed=3),
    "batches": lambda n: BatchSampler(RandomSampler(range(n), generator=generator()), 3, False),
    "lists": lambda n: [[], [0] * 5, *([index, index - 1] for index in range(n)), []],
}
ONE_RANK = {"global", "batches", "lists"}


class History:
    """One random history, with what stays the same in it."""

    def __init__(self, number):
        self.dice = dice = random.Random(number)
        self.kind = dice.choice([None, None, None, *SAMPLERS])
        self.count, self.shuffle = dice.randint(1, 24), self.kind is None and dice.random() < 0.7
        self.seed = dice.choice([None, 5])
        self.lists = self.kind in ("batches", "lists")
        self.drop_last = not self.lists and dice.random() < 0.3
        self.policy = dice.choice(["raise", "skip", "substitute"])
        bad = [] if self.policy == "raise" else [index for index in range(2, self.count) if dice.random() < 0.15]
        self.source, self.cache = Marked(self.count, bad), dice.choice([*[None] * 9, "ram"])
        self.model = SAMPLERS[self.kind](self.count) if self.kind else None
        self.make()

    def make(self):
        """Make the loaders of all ranks anew, with another batch size, number of ranks and batches ahead."""
        dice = self.dice
        # With "skip" a rank may have fewer batches than the others, which no step of all ranks is then at.
        self.world = 1 if self.kind in ONE_RANK or self.policy == "skip" else dice.choice([1, 1, 2, 3])
        size = None if dice.random() < 0.2 and not self.drop_last else dice.randint(1, 9)
        self.step = (size or 1) * self.world
        options = {} if self.lists else {"drop_last": self.drop_last, "batch_size": size}
        if self.kind is None:
            options["shuffle"] = self.shuffle
        name = "batch_sampler" if self.lists else "sampler"
        self.loaders = [
            dalipipe.DataLoader(
                self.source, **options, rank=rank, world_size=self.world, seed=self.seed, prefetch=dice.randint(1, 3),
                pad=False, recipe=RECIPE, backend="torchvision", num_threads=1, cache=self.cache, on_error=self.policy,
                **({name: SAMPLERS[self.kind](self.count)} if self.kind else {}),
            )
            for rank in range(self.world)
        ]  # fmt: skip

    def hop(self):
        """Go on in other processes: new loaders get the state of the first of those that were."""
        states = [json.loads(json.dumps(loader.state_dict())) for loader in self.loaders]
        known = {row[0]: row for state in states for row in state["bad"]}
        torch.default_generator.manual_seed(self.dice.randint(0, 10**6))
        self.make()
        for loader in self.loaders:
            loader.load_state_dict({**states[0], "bad": list(known.values())})
            if self.dice.random() < 0.3:
                iter(loader)  # libraries ask for one and drop it
            if self.dice.random() < 0.3:
                loader.set_epoch(loader.epoch)  # as a script does in each epoch
        return states[0]["position"]

    def steps(self):
        """Yield what all ranks together hand out, step by step: rows of (index, occurrence, epoch, seed)."""
        iterators = [iter(loader) for loader in self.loaders]
        while any(found := [next(iterator, None) for iterator in iterators]):
            rows = [batch[0].tolist() for batch in found if batch is not None]
            single = self.loaders[0].batch_sampler is None
            yield [tuple(row) for row in (rows if single else itertools.chain(*rows))]

    def order(self, epoch):
        """The model: the samples of an epoch that is about to begin, in lists where a sampler gives such."""
        with torch.random.fork_rng(devices=[]):
            seed = self.seed if self.seed is not None else int(torch.empty((), dtype=torch.int64).random_())
            if self.model is not None:
                return list(self.model)
        if not self.shuffle:
            return list(range(self.count))
        return permutation(self.count, seed if self.seed is not None or self.world == 1 else 0, epoch).tolist()

    def matches(self, came, order, epoch):
        """Return whether what came is what the model has, without what is bad or with others of its class instead."""
        samples = [index % self.count for index in (itertools.chain(*order) if self.lists else order)]
        rows = [(index, samples[:at].count(index), epoch) for at, index in enumerate(samples)]
        if self.policy == "skip":
            rows = [row for row in rows if row[0] not in self.source.bad]
        assert self.seed is None or {row[3] for row in came} <= {self.seed}
        return len(came) == len(rows) and all(
            mine[:3] == row
            if row[0] not in self.source.bad
            else mine[0] not in self.source.bad and (mine[0] - row[0]) % 2 == 0 and mine[1] >= 2**31
            for mine, row in zip(came, rows, strict=True)
        )

    def run(self):
        """Go through some epochs; each must match the model at every break, and at its end."""
        dice, epoch, left = self.dice, 0, False
        for _ in range(dice.randint(1, 3)):
            for _ in range(0 if left else dice.choice([0, 0, 1, 2])):
                assert self.hop() == 0
            if self.kind is None and dice.random() < 0.3:
                epoch = dice.randint(0, 5)
                for loader in self.loaders:
                    loader.set_epoch(epoch)
            order, came, begin, most = self.order(epoch), [], 0, self.world
            steps = self.steps()
            while (rows := next(steps, None)) is not None:
                came += rows
                if dice.random() < 0.25:
                    assert self.loaders[0].place[0] == epoch
                    begin = self.hop()
                    most += self.world if self.world > 1 else 0
                    assert self.matches(came, order[:begin], epoch)
                    steps = self.steps()
                elif dice.random() < 0.03:
                    break
            else:
                last = len(order) - (len(order) - begin) % self.step if self.drop_last else len(order)
                assert self.matches(came, order[:last], epoch)
                assert len({row[3] for row in came}) <= most
                epoch, left = epoch + 1, False
                continue
            if self.kind is not None:
                return  # how much a sampler draws for an epoch that is left early is its own affair
            epoch, left = epoch + 1, True


@pytest.mark.parametrize("part", range(4))
def test_every_history_sees_each_sample_once(monkeypatch, part):
    monkeypatch.setattr(dalipipe.loading.fetching, "compile_recipe", Told)
    monkeypatch.setattr(dalipipe.loading.arguments, "_distributed", lambda: True)  # so that ranks need no seed
    for number in range(part * HISTORIES // 4, (part + 1) * HISTORIES // 4):
        torch.default_generator.manual_seed(number)  # manual_seed, without asking CUDA
        try:
            History(number).run()
        except Exception as error:
            error.add_note(f"history {number}")
            raise


def test_a_sampler_that_does_not_repeat_itself_is_refused_and_not_skipped_into():
    class Whim:
        def __iter__(self):
            return iter(torch.randperm(20, generator=generator_of_its_own).tolist())

        def __len__(self):
            return 20

    generator_of_its_own = generator()
    options = {"recipe": RECIPE, "backend": "torchvision", "num_threads": 1}
    first, second = (dalipipe.DataLoader(Marked(20), 4, sampler=Whim(), **options) for _ in range(2))
    iterator = iter(first)
    next(iterator), next(iterator)
    second.load_state_dict(first.state_dict())
    with pytest.raises(StateError, match="must give the order that it gave when the state was saved"):
        list(second)
