import torch

from dalipipe.training.measures.metrics import Meter, Tally


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def batches(clock: FakeClock, count: int, size: int, wait_s: float):
    for _ in range(count):
        clock.now_s += wait_s
        yield torch.zeros(size, 3, 1, 1), torch.zeros(size, dtype=torch.int64)


def test_a_loader_that_takes_1_s_for_4_images_scores_exactly_4_img_per_s():
    clock = FakeClock()
    meter = Meter(clock)
    for _ in meter.watch(batches(clock, count=3, size=4, wait_s=1.0)):
        pass
    assert meter.img_per_s == 4.0
    assert meter.data_wait_fraction == 1.0


def test_waiting_and_computing_are_told_apart():
    clock = FakeClock()
    meter = Meter(clock)
    for _ in meter.watch(batches(clock, count=5, size=4, wait_s=1.0)):
        clock.now_s += 3.0
    clock.now_s += 50.0  # what comes after the pass is not part of it
    assert meter.elapsed_s == 20.0
    assert meter.img_per_s == 1.0
    assert meter.data_wait_fraction == 0.25


def test_a_slow_start_and_a_slow_end_of_the_loader_count_as_waiting():
    clock = FakeClock()

    class Slow:
        def __iter__(self):
            clock.now_s += 6.0
            yield from batches(clock, count=1, size=4, wait_s=0.0)
            clock.now_s += 2.0

    meter = Meter(clock)
    for _ in meter.watch(Slow()):
        clock.now_s += 2.0
    assert meter.elapsed_s == 10.0
    assert meter.data_wait_fraction == 0.8


def test_it_can_be_read_while_it_runs():
    clock = FakeClock()
    meter = Meter(clock)
    assert (meter.img_per_s, meter.data_wait_fraction) == (0.0, 0.0)
    seen = []
    for _ in meter.watch(batches(clock, count=2, size=4, wait_s=1.0)):
        clock.now_s += 1.0
        seen.append((meter.img_per_s, meter.data_wait_fraction))
    assert seen == [(2.0, 0.5), (2.0, 0.5)]


def test_a_small_last_batch_weighs_by_its_images():
    tally = Tally()
    tally.add(1.0, torch.tensor([[2.0, 1.0], [2.0, 1.0], [2.0, 1.0]]), torch.tensor([0, 0, 1]))
    tally.add(5.0, torch.tensor([[0.0, 1.0]]), torch.tensor([1]))
    assert tally.images == 4
    assert tally.loss == 2.0
    assert tally.accuracy == 0.75


def test_time_spent_on_compiling_does_not_count():
    clock, compiled = FakeClock(), FakeClock()

    def compiling():
        clock.now_s += 40.0
        compiled.now_s += 40.0
        yield from batches(clock, count=3, size=4, wait_s=1.0)

    compiled.now_s = 7.0  # before the epoch
    meter = Meter(clock, compiled)
    for _ in meter.watch(compiling()):
        clock.now_s += 1.0
    assert meter.img_per_s == 2.0
    assert meter.data_wait_fraction == 0.5
