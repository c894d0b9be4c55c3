import pytest

from dalipipe.training.measures.metrics import EpochMetrics
from dalipipe.training.run.stopping import Stopper


def epoch(number, val_loss, val_acc=0.5, ece=0.1):
    return EpochMetrics(number, 1.0, 0.5, val_loss, val_acc, 1.0, 0.5, ece, 0.01, 10.0, 0.1)


def run(stopper, losses):
    """Return after how many epochs it stops, and which was the best."""
    for number, loss in enumerate(losses, 1):
        stopper.update(epoch(number, loss))
        if stopper.stopped:
            return number, stopper.best.epoch
    return None, stopper.best.epoch


@pytest.mark.parametrize(
    ("patience", "min_delta", "losses", "expected"),
    [
        (2, 0.0, [3, 2, 2.5, 2.4, 1], (4, 2)),
        (2, 0.0, [3, 2, 2.5, 1.9, 2, 2], (6, 4)),
        (0, 0.0, [1, 2, 3, 4, 5], (None, 1)),
        (2, 0.5, [3, 2.9, 2.8, 1], (3, 3)),  # better, though not by enough: it is kept all the same
        (2, 0.5, [3, 2.7, 2.4, 2.3], (None, 4)),
    ],
)
def test_a_run_stops_where_it_gets_no_better(patience, min_delta, losses, expected):
    assert run(Stopper("val_loss", patience, min_delta), losses) == expected


def test_any_measure_can_decide_and_knows_which_way_is_better():
    first, second = epoch(1, 1.0, 0.8, 0.3), epoch(2, 0.9, 0.7, 0.2)
    for monitor, best in (("val_loss", 2), ("val_acc", 1), ("val_calibration_error", 2)):
        stopper = Stopper(monitor)
        stopper.update(first)
        stopper.update(second)
        assert stopper.best.epoch == best, monitor


def test_of_equal_ones_the_lower_loss_is_better():
    stopper = Stopper("val_acc")
    assert [stopper.update(epoch(n, loss, 0.8)) for n, loss in enumerate((1.0, 0.9, 0.9), 1)] == [True, True, False]


def test_its_state_goes_on():
    whole, first, second = (Stopper("val_loss", 2) for _ in range(3))
    losses = [3, 2, 2.5, 2.4, 1]
    run(first, losses[:3])
    second.load_state_dict(first.state_dict())
    assert run(whole, losses) == (4, 2)
    second.update(epoch(4, losses[3]))
    assert (second.stopped, second.best.epoch) == (True, 2)
