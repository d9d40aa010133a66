"""A command becomes a smooth function of time, taken over without a jump."""

import numpy as np
import pytest

from smolvla_ros.safety.command import Command
from smolvla_ros.safety.reference import Reference

LIMITS = (np.full(2, 2.0), np.full(2, 10.0))
DT = 0.01


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
    rows = play(Reference(command, now, start, rate, *LIMITS, blend=0.2, settle=0.15), 1.0)
    t = now + np.arange(len(rows)) * DT
    assert np.abs(rows - np.column_stack([np.sin(t), np.cos(t)])).max() < 1e-4


def test_take_over_from_elsewhere_has_no_jump_and_arrives():
    start, rate = np.array([0.5, 0.5]), np.array([-0.4, 0.3])
    reference = Reference(wave(100), 0.0, start, rate, *LIMITS, blend=0.2, settle=0.15)
    rows = play(reference, 2.0)
    v = np.diff(rows, axis=0) / DT
    a = np.diff(v, axis=0) / DT
    assert np.abs(rows[0] - start).max() < 1e-12
    assert np.abs(v[0] - rate).max() < 0.1
    assert np.abs(a).max() < LIMITS[1][0], "the fade asks for less than the acceleration limit"
    t = 2.0
    assert np.abs(rows[-1] - [np.sin(t), np.cos(t)]).max() < 1e-4


def test_a_command_that_nothing_follows_comes_to_rest_on_its_own_path():
    command = wave()
    reference = Reference(
        command, 0.0, command.positions[0], np.array([1.0, 0.0]), *LIMITS, blend=0.2, settle=0.15
    )
    rows = play(reference, command.times[-1] + 0.5)
    assert np.abs(rows[-1] - command.positions[-1]).max() < 1e-9
    assert reference.finished
    assert np.abs(np.diff(rows, axis=0)[-10:]).max() < 1e-12
    assert np.abs(np.diff(rows, n=2, axis=0)).max() / DT**2 < 10.0
    assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-3, "the path was a circle"


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_short_commands_end_on_their_last_row(n):
    command = wave(n)
    reference = Reference(
        command, 0.0, command.positions[0], np.zeros(2), *LIMITS, blend=0.1, settle=0.15
    )
    assert np.abs(play(reference, 2.0)[-1] - command.positions[-1]).max() < 1e-9


def test_a_single_set_point_is_meant_as_it_is():
    command = Command(0.0, np.array([0.01]), np.array([[0.3, 0.4]]))
    reference = Reference(command, 0.0, np.zeros(2), np.zeros(2), *LIMITS, blend=0.2, settle=0.15)
    reference.advance(DT)
    assert np.array_equal(reference.at(), [0.3, 0.4])
