"""Which set-point an arm gets: one that moves it no faster than it may, the last one in silence,
none that is somewhere else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smolvla_ros.arm.watchdog import Mode, Watchdog

TICK = 0.01
LATE = 0.03  # s by which a set-point may be late, and the next come upon its heels
VELOCITY = np.array([1.0, 2.0])
RESOLUTION = 0.0015  # rad, of an encoder


def watchdog(held=(0.0, 0.0)) -> Watchdog:
    made = Watchdog(VELOCITY, timeout=0.2, takeover=0.15, resolution=RESOLUTION)
    made.hold(np.array(held))
    return made


def carried_out(arm: Watchdog, now: float) -> np.ndarray | None:
    q = arm.due(now)
    if q is not None:
        arm.wrote(now, q)
        arm.got(q)
    return q


def test_set_points_at_the_gates_rate_pass_unchanged() -> None:
    arm = watchdog()
    for i in range(1, 100):
        wanted = np.array([0.009, -0.02]) * i
        assert arm.hear(i * TICK, wanted, TICK)
        np.testing.assert_array_equal(carried_out(arm, i * TICK), wanted)
    assert arm.mode is Mode.FOLLOWING and arm.limited == 0


def test_silence_holds_the_last_set_point_and_a_near_one_goes_on() -> None:
    arm = watchdog()
    arm.hear(1.0, np.array([0.01, 0.0]), TICK)
    carried_out(arm, 1.0)
    assert arm.look(1.19) is Mode.FOLLOWING
    assert arm.look(1.21) is Mode.HOLDING and arm.timeouts == 1
    np.testing.assert_array_equal(carried_out(arm, 1.3), [0.01, 0.0])  # sent again
    assert arm.hear(2.0, np.array([0.1, 0.0]), TICK)


def test_set_points_that_are_somewhere_else_do_not_take_over() -> None:
    arm = watchdog(held=(0.5, 0.0))
    assert not arm.hear(1.0, np.array([0.2, 0.0]), TICK)
    assert arm.mode is Mode.HOLDING and arm.away == pytest.approx(0.3)
    np.testing.assert_array_equal(carried_out(arm, 1.0), [0.5, 0.0])
    assert arm.hear(1.01, np.array([0.45, 0.0]), TICK)
    assert arm.mode is Mode.FOLLOWING and arm.away == 0.0


def test_what_is_no_number_is_neither_held_nor_followed() -> None:
    arm = watchdog()
    assert not arm.hear(1.0, np.array([np.nan, 0.0]), TICK) and arm.mode is Mode.HOLDING
    with pytest.raises(ValueError, match="held at"):
        arm.hold(np.array([np.nan, 0.0]))


def test_a_first_set_point_after_a_silence_that_nobody_noticed_does_not_take_over_from_afar() -> (
    None
):
    arm = watchdog()
    arm.hear(1.0, np.array([0.01, 0.0]), TICK)
    carried_out(arm, 1.0)
    assert not arm.hear(60.0, np.array([0.5, 0.0]), TICK)  # this process had been stopped


@pytest.mark.parametrize("end", ["release", "lose"])
def test_nothing_is_written_without_torque_or_without_an_arm(end) -> None:
    arm = watchdog()
    arm.hear(1.0, np.array([0.01, 0.0]), TICK)
    getattr(arm, end)()
    assert arm.due(2.0) is None and arm.due_at() == np.inf
    assert not arm.hear(2.0, np.array([0.0, 0.0]), TICK)
    arm.hold(np.array([0.3, 0.3]))
    np.testing.assert_array_equal(carried_out(arm, 2.0), [0.3, 0.3])


def test_after_a_gap_it_follows_on_the_line_without_new_set_points() -> None:
    arm = watchdog()
    goal = np.array([0.1, 0.04])
    arm.hear(1.0, goal, TICK)
    rows = [carried_out(arm, 1.0 + i * TICK) for i in range(11)]
    steps = np.diff([np.zeros(2), *rows[:10]], axis=0)
    np.testing.assert_allclose(steps, np.tile(goal / 10, (10, 1)), atol=1e-12)
    np.testing.assert_allclose(rows[9], goal)


@settings(deadline=None)  # a busy machine
@given(
    st.lists(
        st.tuples(
            st.one_of(st.floats(0.0, 0.5), st.floats(0.0, 0.002)),  # s since the last
            st.one_of(st.none(), st.tuples(*2 * [st.floats(-0.2, 0.2)])),  # from the last
            st.tuples(st.booleans(), st.booleans()),  # which servos get it
            st.booleans(),  # whether they are heard when they say so
            st.integers(1, 20),  # times
        ),
        max_size=10,
    )
)
def test_what_servos_get_is_never_faster_than_the_arm_may_be(story) -> None:
    arm, now, has = watchdog(), 0.0, np.zeros(2)
    got = [(0.0, has)]
    for pause, ahead, arrives, heard, times in story:
        for _ in range(times):
            now += pause
            if ahead is not None:
                arm.hear(now, has + ahead, TICK)
            q = arm.due(now)
            if q is None:
                continue
            arm.wrote(now, q)
            before, has = has, np.where(arrives, q, has)
            # What they say comes in whole ticks of the encoder: they may be believed to have got
            # one that was as near to what they had.
            assert (np.abs(has - before) <= VELOCITY * TICK + 2 * RESOLUTION).all()
            got.append((now, has))
            if heard:
                arm.got(has)
    for i, (began, here) in enumerate(got):
        for ended, there in got[i + 1 :]:
            may = VELOCITY * (ended - began + TICK + LATE) + 2 * RESOLUTION
            assert (np.abs(there - here) <= may).all()


def test_what_was_lost_is_written_again_at_once_and_the_next_is_not_late() -> None:
    arm = watchdog()
    step = np.array([0.01, 0.02])
    arm.hear(1.0, step, TICK)
    carried_out(arm, 1.0)
    arm.hear(1.01, 2 * step, TICK)
    arm.wrote(1.01, arm.due(1.01))
    assert arm.unsure
    arm.got(step)
    assert arm.lost == 1 and not arm.unsure
    np.testing.assert_allclose(carried_out(arm, 1.012), 2 * step)
    arm.hear(1.02, 3 * step, TICK)
    np.testing.assert_allclose(carried_out(arm, 1.02), 3 * step)
    assert arm.limited == 0


def test_while_nobody_knows_what_servos_have_they_get_nothing_beyond_a_step_from_either() -> None:
    arm = watchdog()
    step = np.array([0.01, 0.0])
    for i in range(1, 6):
        arm.hear(0.01 * i, i * step, TICK)
        q = arm.due(0.01 * i)
        np.testing.assert_allclose(q, step)
        arm.wrote(0.01 * i, q)
    arm.got(step)
    assert arm.lost == 0
    np.testing.assert_allclose(carried_out(arm, 0.061), 2 * step)


def test_one_servo_that_missed_it_is_not_taken_farther_than_a_step() -> None:
    arm = watchdog()
    arm.hear(1.0, np.array([0.01, 0.02]), TICK)
    arm.wrote(1.0, arm.due(1.0))
    arm.got(np.array([0.01, 0.0]))
    np.testing.assert_array_equal(arm.written, [0.01, 0.0])
    arm.hear(1.01, np.array([0.02, 0.04]), TICK)
    assert carried_out(arm, 1.01)[1] <= 0.02 * (1 + 1e-5)


def test_what_servos_were_told_by_somebody_else_is_held_when_they_say_it_twice() -> None:
    arm = watchdog()
    arm.hear(1.0, np.array([0.01, 0.0]), TICK)
    arm.wrote(1.0, arm.due(1.0))
    arm.got(np.array([0.7, 0.0]))  # a garbled answer, perhaps
    assert arm.mode is Mode.FOLLOWING and arm.unsure
    arm.got(np.array([0.7, 0.0]))
    assert arm.mode is Mode.HOLDING
    np.testing.assert_array_equal(arm.written, [0.7, 0.0])
    assert not arm.hear(1.01, np.array([0.02, 0.0]), TICK)  # that far it does not jump back


def test_a_joint_that_gave_way_leaves_open_what_the_others_got() -> None:
    arm = watchdog()
    step = np.array([0.01, 0.02])
    arm.hear(1.0, step, TICK)
    arm.wrote(1.0, arm.due(1.0))  # and nobody says that it arrived
    arm.place(np.array([0.5, 0.7]), np.array([True, False]))
    np.testing.assert_array_equal(arm.written, [0.5, 0.02])
    assert arm.unsure and arm.mode is Mode.HOLDING
    assert not arm.hear(1.01, 2 * step, TICK)
    near = np.array([0.5, 0.04])
    arm.hear(1.01, near, TICK)
    arm.wrote(1.01, q := arm.due(1.01))
    np.testing.assert_allclose(q, [0.5, 0.02], atol=1e-9)  # from 0 it would be two steps
    arm.got(q)
    np.testing.assert_allclose(carried_out(arm, 1.02), near)


@pytest.mark.parametrize("end", ["release", "lose"])
def test_what_limp_servos_say_holds_nothing(end) -> None:
    arm = watchdog()
    arm.hear(1.0, np.array([0.01, 0.0]), TICK)
    arm.wrote(1.0, arm.due(1.0))
    getattr(arm, end)()
    assert not arm.unsure
    for _ in range(3):
        arm.got(np.array([0.7, 0.0]))
    assert arm.due(2.0) is None and arm.mode in (Mode.OFF, Mode.LOST)


def test_less_than_a_tick_of_the_encoder_is_not_asked_for() -> None:
    arm = watchdog()
    arm.hear(1.0, np.array([0.001, 0.0]), TICK)
    arm.wrote(1.0, arm.due(1.0))
    assert not arm.unsure
    for i in range(1, 3):
        arm.hear(1.0 + i * TICK, np.array([0.001 * (1 + i), 0.0]), TICK)
        arm.wrote(1.0 + i * TICK, arm.due(1.0 + i * TICK))
    assert arm.unsure


def test_set_points_that_come_all_at_once_are_not_carried_out_at_once() -> None:
    arm = watchdog()
    for i in range(1, 101):  # those of a second, within a tenth of one
        arm.hear(0.001 * i, np.array([0.01, 0.0]) * i, TICK)
        carried_out(arm, 0.001 * i)
    assert 0.1 <= arm.written[0] <= 0.1 + TICK + LATE and arm.limited > 50
    now = 0.1
    while now < 1.1:  # and the rest in the time that it takes
        carried_out(arm, now := now + TICK)
        arm.hear(now, np.array([1.0, 0.0]), TICK)
    np.testing.assert_allclose(arm.written, [1.0, 0.0])


@settings(deadline=None)
@given(st.lists(st.floats(0.0, 0.9 * LATE), min_size=50, max_size=50))
def test_set_points_of_full_speed_that_are_a_little_late_pass_unchanged(delays) -> None:
    arm, free = watchdog(), 0.0
    for i, late in enumerate(delays, start=1):
        free = max(free, i * TICK + late)
        wanted = VELOCITY * TICK * i
        assert arm.hear(free, wanted, TICK)
        np.testing.assert_array_equal(carried_out(arm, free), wanted)
    assert arm.limited == 0
