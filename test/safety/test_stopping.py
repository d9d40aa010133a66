"""Stops keep the deceleration they were given, end at rest, and end where promised."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from smolvla_ros.safety.stopping import each_joint_stop, stoppable_speed, synchronised_stop

speeds = arrays(float, 4, elements=st.floats(-5, 5))
decels = arrays(float, 4, elements=st.floats(0.5, 50))
periods = st.sampled_from([0.002, 0.004, 0.01, 0.02])


def velocities(q, v, rows, dt):
    return np.vstack([v, np.diff(np.vstack([q, rows]), axis=0) / dt])


@given(v=speeds, decel=decels, dt=periods)
def test_every_stop_keeps_its_deceleration_and_ends_at_rest(v, decel, dt):
    q = np.array([0.1, -0.2, 0.3, 0.0])
    for plan in (synchronised_stop, each_joint_stop):
        rows = plan(q, v, dt, decel)
        if not len(rows):
            assert np.abs(v).max() <= 1e-9 * decel.max() * dt
            continue
        speed = velocities(q, v, rows, dt)
        assert (np.abs(np.diff(speed, axis=0)) <= decel * dt * (1 + 1e-6) + 1e-9).all()
        assert np.abs(speed[-1]).max() < 1e-9
        assert (np.diff(np.vstack([q, rows]), axis=0) * v >= -1e-15).all(), "never turns back"


@given(v=speeds, decel=decels, dt=periods)
def test_a_synchronised_stop_is_a_straight_line(v, decel, dt):
    q = np.zeros(4)
    rows = synchronised_stop(q, v, dt, decel)
    for row in rows:
        along = (row @ v) / max(v @ v, 1e-300)
        assert np.abs(row - along * v).max() < 1e-9


@given(gap=st.floats(0, 2), decel=st.floats(0.5, 50), dt=periods, sign=st.sampled_from([-1.0, 1.0]))
def test_from_the_stoppable_speed_a_joint_stops_within_the_gap(gap, decel, dt, sign):
    v = sign * stoppable_speed(np.array([gap]), dt, np.array([decel]))
    step = v * dt
    rows = each_joint_stop(step, v, dt, np.array([decel]))
    end = rows[-1] if len(rows) else step
    assert abs(end[0]) <= gap + 1e-9


def test_the_stoppable_speed_lands_on_a_near_goal_in_one_tick():
    v = stoppable_speed(np.array([1e-9]), 0.01, np.array([8.0]))
    assert np.isclose(v[0] * 0.01, 1e-9, rtol=1e-3)
