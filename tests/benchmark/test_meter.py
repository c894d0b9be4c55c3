from contextlib import contextmanager

import pytest

from dalipipe.benchmark.meter import time_stretch, tree_cpu_s, tree_memory_mb


class FakeClock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def slow_loader(clock, batches, batch_size=4, seconds=1.0, opening_s=0.0, first_s=None):
    """A loader that sleeps before each batch; the first may take longer."""

    @contextmanager
    def open_loader():
        clock.now += opening_s

        def batch(number):
            clock.now += first_s if number == 0 and first_s is not None else seconds
            return None, [0] * batch_size

        yield (batch(number) for number in range(batches))

    return open_loader


def timed(clock, loader, **options):
    return time_stretch(loader, clock=clock, cpu_clock=lambda: 0.0, **options)


@pytest.mark.parametrize("batches", [1, 2, 7])
def test_a_loader_that_sleeps_one_second_a_batch_of_four_scores_four(batches):
    clock = FakeClock()
    stretch = timed(clock, slow_loader(clock, batches))
    assert stretch.img_per_s == 4.0
    assert (stretch.images, stretch.wall_s, stretch.first_batch_s) == (4 * batches, float(batches), 1.0)


def test_making_the_loader_and_waiting_for_the_first_batch_count():
    clock = FakeClock()
    stretch = timed(clock, slow_loader(clock, batches=4, opening_s=2.0, first_s=3.0))
    assert stretch.first_batch_s == 5.0
    assert stretch.wall_s == 8.0
    assert stretch.img_per_s == 2.0
    assert stretch.steady_img_per_s == 4.0


def test_work_that_is_still_running_at_the_end_counts():
    clock = FakeClock()

    def finish():
        clock.now += 4.0

    assert timed(clock, slow_loader(clock, batches=4), finish=finish).img_per_s == 2.0


def test_a_limit_stops_at_the_first_batch_after_it_and_leaves_the_first_wait_out():
    clock = FakeClock()
    stretch = timed(clock, slow_loader(clock, batches=100, first_s=50.0), limit_s=2.5)
    assert stretch.wall_s == 53.0
    assert stretch.images == 16


def test_cpu_time_is_for_1000_images():
    clock = FakeClock()
    readings = iter([3.0, 5.0])
    stretch = time_stretch(slow_loader(clock, batches=10), clock=clock, cpu_clock=lambda: next(readings))
    assert stretch.cpu_s == 2.0
    assert stretch.cpu_s_per_1000 == 50.0


def test_a_loader_without_batches_has_no_speed():
    clock = FakeClock()
    with pytest.raises(ValueError, match="at least one batch"):
        timed(clock, slow_loader(clock, batches=0))


def test_cpu_time_and_memory_of_children_count():
    import os
    import subprocess
    import sys

    before = tree_cpu_s()
    code = """
import time
blob = bytearray(60_000_000)
while time.process_time() < 0.4:
    pass
print(flush=True)
input()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        assert tree_cpu_s() - before >= 0.35
        child_mb = tree_memory_mb(child.pid)
        assert child_mb >= 60
        assert tree_memory_mb(os.getpid()) >= child_mb
        child.communicate(b"\n", timeout=60)
    assert tree_cpu_s() - before >= 0.35  # an ended child keeps counting
    assert tree_memory_mb(child.pid) == 0.0
