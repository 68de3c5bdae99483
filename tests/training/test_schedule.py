import math
import os

import pytest

from nerf_app.training import schedule
from nerf_app.training.schedule import (
    COMING,
    DETAILS_BEGIN,
    ENOUGH_LOOKS,
    FALL_BEGINS,
    FEW_LEVELS,
    GROWTH,
    HASTY_THRESHOLD,
    LEVELS_GROW,
    WARM_UP,
    Budget,
    learning_rate,
    levels_wanted,
    rays_of_pixel,
    samples_wanted,
    stride_wanted,
    threshold_wanted,
)
from nerf_app.training.settings import TrainingSettings


class Clocks:
    """Two clocks that a test sets by hand."""

    wall = cpu = 1000.0


@pytest.fixture
def clocks(monkeypatch):
    clocks = Clocks()
    monkeypatch.setattr(schedule.time, "monotonic", lambda: clocks.wall)
    monkeypatch.setattr(schedule.os, "times", lambda: os.times_result((0.75 * clocks.cpu, 0.25 * clocks.cpu, 99.0, 99.0, 5.0)))
    return clocks


def test_minutes_pass_on_the_wall(clocks):
    budget = Budget(TrainingSettings(minutes=2.0), threads=4)
    assert (budget.seconds, budget.fraction(10)) == (0.0, 0.0)
    clocks.wall += 30.0
    clocks.cpu += 500.0
    assert budget.seconds == 30.0 and budget.fraction(10) == pytest.approx(0.25)
    clocks.wall += 1000.0
    assert budget.fraction(10) == 1.0


def test_the_cpu_clock_counts_the_seconds_of_this_process_for_each_thread(clocks):
    budget = Budget(TrainingSettings(minutes=1.0, clock="cpu"), threads=4)
    clocks.wall += 500.0
    assert budget.fraction(3) == 0.0
    clocks.cpu += 60.0
    assert budget.seconds == pytest.approx(15.0) and budget.fraction(3) == pytest.approx(0.25)


def test_steps_alone_look_at_no_clock(clocks):
    budget = Budget(TrainingSettings(minutes=None, steps=200), threads=1)
    clocks.wall += 1e6
    assert [budget.fraction(step) for step in (0, 50, 200, 300)] == [0.0, 0.25, 1.0, 1.0]


def test_of_two_limits_the_one_that_ends_first_counts(clocks):
    budget = Budget(TrainingSettings(minutes=1.0, steps=100), threads=1)
    clocks.wall += 15.0
    assert budget.fraction(10) == pytest.approx(0.25)
    assert budget.fraction(60) == pytest.approx(0.6)


def test_a_later_sitting_goes_on_where_the_earlier_ended(clocks):
    first = Budget(TrainingSettings(minutes=2.0), threads=1)
    clocks.wall += 45.0
    used = first.seconds
    clocks.wall += 10_000.0  # the machine was off
    second = Budget(TrainingSettings(minutes=2.0), threads=1, seconds_used=used)
    clocks.wall += 15.0
    assert second.seconds == pytest.approx(60.0) and second.fraction(0) == pytest.approx(0.5)


def test_what_is_left_follows_from_the_pace(clocks):
    budget = Budget(TrainingSettings(minutes=None, steps=100), threads=1)
    assert budget.seconds_left(0) is None
    clocks.wall += 20.0
    assert budget.seconds_left(25) == pytest.approx(60.0)
    assert budget.seconds_left(100) == 0.0


def test_no_minutes_are_used_at_once(clocks):
    budget = Budget(TrainingSettings(minutes=0.0), threads=1)
    clocks.wall += 1e-3
    assert budget.fraction(0) == 1.0


def test_the_learning_rate_rises_shortly_and_falls_geometrically_to_its_end():
    settings = TrainingSettings(learning_rate=0.02, final_learning_rate=0.05)
    assert learning_rate(settings, 0.0) == pytest.approx(0.1 * 0.02)
    assert learning_rate(settings, 1.0) == pytest.approx(0.05 * 0.02)
    assert learning_rate(settings, 0.5) == pytest.approx(0.02)
    assert learning_rate(settings, (1.0 + FALL_BEGINS) / 2) ** 2 == pytest.approx(0.02 * 0.02 * 0.05)
    rates = [learning_rate(settings, i / 1000) for i in range(1001)]
    top = rates.index(max(rates))
    assert 0 < top / 1000 <= WARM_UP
    assert rates[:top + 1] == sorted(rates[:top + 1]) and rates[top:] == sorted(rates[top:], reverse=True)


def test_a_step_grows_in_equal_ratios_until_the_rate_falls():
    settings = TrainingSettings(samples_per_step=1000)
    sizes = [samples_wanted(settings, fraction * FALL_BEGINS) for fraction in (0.0, 0.5, 1.0)]
    assert sizes == pytest.approx([1000.0, 1000.0 * GROWTH**0.5, 1000.0 * GROWTH])
    assert samples_wanted(settings, 1.0) == sizes[-1]


def test_a_reflective_field_begins_with_few_levels_and_has_all_before_the_rate_falls():
    wanted = [levels_wanted(8, fraction) for fraction in (0.0, 0.1, 0.2, 0.3, LEVELS_GROW, 1.0)]
    assert wanted[0] == FEW_LEVELS and wanted == sorted(wanted) and wanted[-2:] == [8, 8]
    assert [levels_wanted(2, fraction) for fraction in (0.0, 1.0)] == [2, 2]
    assert LEVELS_GROW < FALL_BEGINS


def test_rays_begin_with_long_steps_and_end_with_those_of_the_lattice():
    assert [stride_wanted(fraction) for fraction in (0.0, 0.29, 0.3, 0.79, 0.8, 1.0)] == [4, 4, 2, 2, 1, 1]


def test_while_most_pixels_were_never_looked_at_details_do_not_count():
    for looks, rays, threshold in ((0.0, 1, HASTY_THRESHOLD), (0.9, 1, HASTY_THRESHOLD), (1.0, 2, HASTY_THRESHOLD),
                                   (1.0 + 0.5 * COMING, 2, math.sqrt(0.001 * HASTY_THRESHOLD)), (1.0 + COMING, 2, 0.001)):
        looks *= ENOUGH_LOOKS
        assert rays_of_pixel(1.0, looks) == rays and threshold_wanted(0.001, 1.0, looks) == pytest.approx(threshold)
        assert rays_of_pixel(0.99 * DETAILS_BEGIN, looks) == 1


def test_what_is_thin_counts_as_empty_until_details_are_looked_for():
    times = 0.0, DETAILS_BEGIN, (1 + 0.5 * COMING) * DETAILS_BEGIN, (1 + COMING) * DETAILS_BEGIN, 1.0
    assert [threshold_wanted(0.001, fraction, 2 * ENOUGH_LOOKS) for fraction in times] == pytest.approx(
        [HASTY_THRESHOLD, HASTY_THRESHOLD, math.sqrt(0.001 * HASTY_THRESHOLD), 0.001, 0.001])
    for said in (0.0, HASTY_THRESHOLD, 0.02):  # all is sampled, as before, coarser: whoever asks for that has it throughout
        assert {threshold_wanted(said, fraction, ENOUGH_LOOKS) for fraction in times} == {said}
