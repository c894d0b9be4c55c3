"""Damaged images by the thousand: no crash, no hang, and every good sample beside them unchanged."""

import sys

import numpy as np
import pytest
import torch

from dalipipe.backends.results import Result
from dalipipe.sampling import Batch
from tests.faults.mutations import Tally, attempts, damaged, in_process, main, originals
from tests.warm import run_apart

COUNTS = {"dali-cpu": 928, "dali-cpu-stock": 640, "torchvision": 480}  # 2,048 files, in whole epochs


@pytest.fixture(scope="module")
def outcomes():
    """What became of the files, by backend, in a process of its own: it may crash or hang."""
    return run_apart(attempts, COUNTS)


@pytest.mark.parametrize("backend", COUNTS)
def test_damaged_files_cost_themselves_at_most(backend, outcomes):
    tally = outcomes[backend]
    assert not tally.wrong, tally
    assert tally.tried == tally.good == COUNTS[backend] == tally.delivered + tally.failed
    # Were all of them refused, or none, the damage would not reach the decoders.
    assert tally.delivered > tally.tried / 10 and tally.failed > tally.tried / 10


def test_damage_is_repeatable_and_various():
    some = [damaged(number) for number in range(300)]
    assert some == [damaged(number) for number in range(300)]
    assert len(set(some)) > 290
    assert not set(originals()) & set(some)


# The count


def counted(images: torch.Tensor, failures: dict[int, str], slots: list[int]) -> Tally:
    tally = Tally()
    batch = Batch(0, np.array(slots), np.zeros(len(slots), np.int64))
    tally.count(Result(batch, images, torch.zeros(len(images)), failures), {0: torch.zeros(3), 2: torch.ones(3)})
    return tally


ZERO, ONE = torch.zeros(3), torch.ones(3)


@pytest.mark.parametrize(
    ("images", "failures", "fault"),
    [
        ([ZERO, ONE], {1: "why"}, ""),
        ([ZERO, ONE, ONE], {}, ""),
        ([ZERO, ZERO], {1: "why"}, "good_changed"),
        ([ONE], {0: "why", 1: "why"}, "good_failed"),
        ([ZERO, ONE], {1: ""}, "unclear"),
        ([ZERO, ONE], {1: "two\nlines"}, "unclear"),
        ([ZERO, ONE, ONE], {1: "why"}, "lost"),
    ],
)
def test_the_count_finds_what_is_wrong(images, failures, fault):
    tally = counted(torch.stack(images), failures, [0, 1, 2])
    assert tally.wrong == bool(fault)
    assert not fault or getattr(tally, fault) == 1


@pytest.mark.parametrize(
    ("code", "limit_s", "fault", "message"),
    [
        ("import os; os.kill(os.getpid(), 11)", 60, "crashed", "SIGSEGV"),
        ("raise SystemExit(3)", 60, "crashed", "status 3"),
        ("import time; time.sleep(60)", 0.2, "hung", "not done after 0.2 s"),
    ],
)
def test_a_process_that_crashes_or_hangs_is_told(code, limit_s, fault, message):
    (tally,), trouble = in_process([sys.executable, "-c", code], limit_s)
    assert tally.wrong and getattr(tally, fault) == 1 and message in trouble


def test_a_campaign_by_hand(monkeypatch, capsys):
    monkeypatch.setattr("tests.faults.mutations.portion", lambda *_: ([Tally(tried=5, delivered=2, failed=3)], ""))
    assert main(["dali-cpu=5000"]) == 0
    assert "dali-cpu: Tally(tried=10, delivered=4, failed=6" in capsys.readouterr().out
    monkeypatch.setattr("tests.faults.mutations.portion", lambda *_: ([Tally(crashed=1)], "crashed: SIGBUS"))
    assert main(["dali-cpu=5000"]) == 1
    assert "dali-cpu, files 2500 to 4999: crashed: SIGBUS" in capsys.readouterr().out
