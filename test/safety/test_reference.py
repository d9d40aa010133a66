"""A command becomes a smooth function of time, taken over without a jump."""

import numpy as np
import pytest

from smolvla_ros.safety import Limits
from smolvla_ros.safety.command import Command
from smolvla_ros.safety.reference import Reference, Stream

WIDE = np.full(2, np.inf)
LIMITS = Limits(-WIDE, WIDE, np.full(2, 2.0), np.full(2, 10.0), WIDE)
DT = 0.01


def refer(command, now, q, v, limits=LIMITS, a=(0.0, 0.0), blend=0.2, settle=0.15):
    q, v, a = (np.array(x, dtype=float) for x in (q, v, a))
    return Reference(command, now, q, v, a, limits, DT, blend, settle)


def wave(n=50, period=1 / 30, stamp=0.0):
    t = np.arange(n) * period
    return Command(stamp, t, np.column_stack([np.sin(t), np.cos(t)]))


def play(reference, seconds):
    rows = [reference.at()]
    for _ in range(round(seconds / DT)):
        reference.advance(DT)
        rows.append(reference.at())
    return np.array(rows)


def test_a_command_that_fits_is_followed_by_its_stamp():
    command = wave()
    now = 0.2  # the chunk answers an observation 0.2 s ago: its first rows are past
    start, rate = np.array([np.sin(0.2), np.cos(0.2)]), np.array([np.cos(0.2), -np.sin(0.2)])
    rows = play(refer(command, now, start, rate), 1.0)
    t = now + np.arange(len(rows)) * DT
    assert np.abs(rows - np.column_stack([np.sin(t), np.cos(t)])).max() < 1e-4


def test_take_over_from_elsewhere_has_no_jump_and_arrives():
    start, rate = np.array([0.5, 0.5]), np.array([-0.4, 0.3])
    reference = refer(wave(100), 0.0, start, rate)
    rows = play(reference, 2.0)
    v = np.diff(rows, axis=0) / DT
    a = np.diff(v, axis=0) / DT
    assert np.abs(rows[0] - start).max() < 1e-12
    assert np.abs(v[0] - rate).max() < 0.1
    assert np.abs(a).max() < LIMITS.acceleration[0], (
        "the fade asks for less than the acceleration limit"
    )
    t = 2.0
    assert np.abs(rows[-1] - [np.sin(t), np.cos(t)]).max() < 1e-4


def test_a_command_that_nothing_follows_comes_to_rest_on_its_own_path():
    command = wave()
    reference = refer(command, 0.0, command.positions[0], [1.0, 0.0])
    rows = play(reference, command.times[-1] + 0.5)
    assert np.abs(rows[-1] - command.positions[-1]).max() < 1e-9
    assert reference.finished
    assert np.abs(np.diff(rows, axis=0)[-10:]).max() < 1e-12
    assert np.abs(np.diff(rows, n=2, axis=0)).max() / DT**2 < 10.0
    assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-3, "the path was a circle"


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_short_commands_end_on_their_last_row(n):
    command = wave(n)
    reference = refer(command, 0.0, command.positions[0], [0.0, 0.0], blend=0.1)
    assert np.abs(play(reference, 2.0)[-1] - command.positions[-1]).max() < 1e-9


def test_a_goal_that_is_due_too_soon_takes_longer():
    command = Command(0.0, np.array([0.01]), np.array([[0.3, 0.4]]))
    rows = play(refer(command, 0.0, [0.0, 0.0], [0.0, 0.0]), 1.0)
    assert np.abs(np.diff(rows, axis=0)).max() / DT < LIMITS.velocity[0]
    assert np.abs(np.diff(rows, n=2, axis=0)).max() / DT**2 < LIMITS.acceleration[0]
    assert np.allclose(rows[-1], [0.3, 0.4])


def test_a_command_that_begins_later_starts_from_the_arm():
    command = Command(0.0, np.array([2.0]), np.array([[0.5, -0.5]]))
    rows = play(refer(command, 0.0, [0.0, 0.0], [0.0, 0.0]), 2.5)
    assert np.abs(rows[100] - [0.25, -0.25]).max() < 0.01, "half-way at half time"
    assert np.abs(rows[-1] - [0.5, -0.5]).max() < 1e-9
    assert np.abs(np.diff(rows, axis=0)).max() / DT < 0.5


def test_a_path_that_ends_at_rest_keeps_its_own_time():
    t = np.linspace(0.0, 2.0, 61)
    u = t / 2.0
    rest_to_rest = 0.5 * (u**3 * (10 - 15 * u + 6 * u * u))[:, None] * [1.0, -1.0]
    command = Command(0.0, t, rest_to_rest)
    rows = play(refer(command, 0.0, [0.0, 0.0], [0.0, 0.0]), 2.0)
    u = np.arange(len(rows)) * DT / 2.0
    wanted = 0.5 * (u**3 * (10 - 15 * u + 6 * u * u))[:, None] * [1.0, -1.0]
    assert np.abs(rows - wanted).max() < 1e-4


def test_times_that_are_far_from_even_do_not_swing_out():
    times = np.array([0.0, 1e-9, 1.0, 2.0, 2.0 + 1e-9])
    rows = np.array([[0.0, 0.0], [0.1, 0.1], [0.2, 0.2], [0.3, 0.3], [0.1, 0.0]])
    played = play(refer(Command(0.0, times, rows), 0.0, [0.0, 0.0], [0.0, 0.0]), 3.0)
    assert np.abs(played).max() < 0.5


def test_with_a_jerk_limit_a_take_over_keeps_it():
    limits = Limits(-WIDE, WIDE, np.full(2, 2.0), np.full(2, 10.0), np.full(2, 40.0))
    rows = play(refer(wave(200), 0.0, [0.3, 0.8], [-0.2, 0.3], limits, a=[1.0, -1.0]), 3.0)
    assert np.abs(np.diff(rows, n=3, axis=0)).max() / DT**3 < 40.0


def test_a_path_that_begins_later_and_in_motion_is_waited_for_at_its_first_row():
    t = 1.0 + np.arange(80) / 30
    moving = Command(0.0, t, np.outer(t - 1.0, [0.9, -0.9]))
    rows = play(refer(moving, 0.0, [0.3, 0.3], [0.0, 0.0]), 2.5)
    assert np.abs(rows[:100]).max() <= 0.3 + 1e-9, "never the other way"
    assert np.abs(rows[100]).max() < 1e-6, "at the first row in time"
    assert rows[100:, 0].min() >= -1e-9 and rows[100:, 1].max() <= 1e-9
    assert np.abs(rows[-1] - [1.35, -1.35]).max() < 0.01, "and on the path soon after"


def stream_of(period, path, until, jerk=np.inf):
    """What a stream asks of an arm that follows it; one set-point each ``period``."""
    limits = Limits(-WIDE, WIDE, np.full(2, 3.0), np.full(2, 20.0), np.full(2, jerk))
    stream, rows, heard = Stream(DT, limits), [path(0.0), path(0.0)], 0
    for k in range(round(until / DT)):
        if k * DT >= heard * period - 1e-9:
            stream.add(heard * period, path(heard * period))
            q, v = rows[-1], (rows[-1] - rows[-2]) / DT
            a = (rows[-1] - 2 * rows[-2] + rows[max(-3, -len(rows))]) / DT**2
            stream.take(k * DT, q, v, a)
            heard += 1
        stream.advance(DT)
        rows.append(stream.at())
    return np.array(rows[2:])


@pytest.mark.parametrize("jerk", [np.inf, 500.0])
@pytest.mark.parametrize("period", [DT, 0.02, 1 / 30, 0.1, 0.25])
def test_a_smooth_stream_of_any_rate_is_followed_a_period_late(period, jerk):
    def path(t):
        return np.array([0.5 * np.sin(1.5 * t), 0.3 * np.cos(1.5 * t)])

    rows = stream_of(period, path, 8.0, jerk)
    late = 0.0 if period == DT else period
    t = np.arange(len(rows)) * DT
    meant = np.array([path(max(0.0, x - late)) for x in t])
    settled = t > 3 * period
    assert np.abs(rows - meant)[settled].max() < 0.75 * (DT + 0.3 * period)
    asked = np.abs(np.diff(rows[settled], n=2, axis=0)).max() / DT**2
    assert asked < (1.1 if period == DT else 4.0) * 0.5 * 1.5**2


def test_where_a_set_point_is_missing_a_stream_goes_on_but_not_for_ever():
    stream, line = Stream(DT, LIMITS), np.array([0.5, -0.2])
    for k in range(20):
        stream.add(k * DT, line * k * DT)
        stream.take(k * DT, line * (k - 1) * DT, line, 0 * line)
    stream.advance(DT)
    assert np.allclose(stream.at(), line * 19 * DT), "at the set-point itself"
    stream.advance(DT)
    assert np.allclose(stream.at(), line * 20 * DT)
    stream.advance(5 * DT)
    assert np.allclose(stream.at(), line * 21 * DT) and stream.finished
