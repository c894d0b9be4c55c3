"""The check itself: it must be able to fail."""

import math

import numpy as np

from dalipipe.parity import MEASURED, TOLERANCES, Difference, Gathered, Tolerance, tolerance_of, tolerance_of_recipe
from dalipipe.parity.tolerances import EXACT, combined
from dalipipe.recipes import Recipe, ops
from dalipipe.recipes.primitives import Family


def gathered(found, expected, tolerance, size=None):
    into = Gathered(tolerance)
    into.add(("image", 0), found, expected, size)
    return into.row("step", 1, "dali-cpu")


def test_one_grey_level_too_many_is_beyond_exact():
    levels = np.full((3, 17, 11), 100.0)
    worse = levels.copy()
    worse[1, 4, 5] += 1
    assert gathered(levels, levels, EXACT).ok
    row = gathered(worse, levels, EXACT)
    assert not row.ok
    assert (row.over, row.worst, row.difference.max_abs) == (1, "image", 1.0)
    assert gathered(worse, levels, Tolerance(1, 1, 1, "")).ok
    for tight in (Tolerance(0.5, 1, 1, ""), Tolerance(1, 1e-4, 1, ""), Tolerance(1, 1, 1e-4, "")):
        assert not gathered(worse, levels, tight).ok


def test_what_is_missing_or_no_number_or_of_another_size_is_beyond_every_tolerance():
    loose = Tolerance(255, 255, 1, "")
    levels = np.zeros((3, 5, 7))
    broken = levels.copy()
    broken[0, 0, 0] = math.nan
    for found in (broken, levels[:, :4]):
        assert not gathered(found, levels, loose).ok
    lost = Gathered(loose)
    lost.add_missing(("image", 0))
    assert not lost.row("step", 1, "dali-cpu").ok
    assert not loose.problem(Difference(0, 0, 0, 0))
    assert loose.problem(Difference(math.nan, 0, 0, 0))


def test_the_figures_are_those_of_all_images_and_padding_does_not_dilute_them():
    into = Gathered(EXACT)
    for number, off in enumerate((0.0, 2.0)):
        found = np.zeros((1, 10, 10))
        found[0, :5] += off
        into.add((f"image {number}", 0), found, np.zeros((1, 10, 10)), 50)
    row = into.row("step", 1, "dali-cpu")
    assert row.difference == Difference(1.0, 2.0, 2.0, 0.5)
    assert (row.images, row.over, row.worst) == (2, 1, "image 1")


def test_every_family_has_a_tolerance_with_a_reason_for_every_backend():
    assert set(TOLERANCES) == set(Family)
    for row in TOLERANCES.values():
        assert set(row) == set(MEASURED)
        assert all(tolerance.because for tolerance in row.values())


def test_an_op_without_a_family_may_not_differ():
    class Unknown(ops.Op):
        op: str = "Unknown"

    assert tolerance_of(Unknown(), "dali-cpu") == EXACT


def test_tolerances_of_steps_add_up():
    one = Tolerance(1, 0.2, 0.1, "one")
    both = combined([(1.0, one), (1.0, EXACT), (1.0, Tolerance(2, 0.3, 0.1, "two"))])
    assert (both.max_abs, both.mean_abs, both.because) == (3, 0.5, "one; two")
    assert combined([(1.0, Tolerance(200, 1, 1, "")), (1.0, Tolerance(200, 1, 1, ""))]).max_abs == 255
    assert tolerance_of_recipe(Recipe.load("imagenet-train"), "dali-cpu").max_abs < 2
    grown = combined([(1.0, one), (7.0, EXACT)])
    assert (grown.max_abs, grown.because) == (7, "one; what differs by then comes out up to 7 times as large")
