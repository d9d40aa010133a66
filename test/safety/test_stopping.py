"""Stops keep the deceleration they were given, end at rest, and end where promised."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from smolvla_ros.safety.stopping import (
    each_joint_stop,
    jerk_limited_stop,
    jerk_limited_way,
    stoppable_speed,
    synchronised_stop,
)

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


@given(
    v=speeds,
    decel=decels,
    jerk=arrays(float, 4, elements=st.floats(1, 2000)),
    share=arrays(float, 4, elements=st.floats(-1.4, 1.4)),
    dt=periods,
)
@example(np.zeros(4), np.full(4, 23.0), np.ones(4), np.ones(4), 0.002)  # ends 8357 rad on
def test_a_jerk_limited_stop_keeps_its_limits_and_ends_at_rest(v, decel, jerk, share, dt):
    q = np.array([0.1, -0.2, 0.3, 0.0])
    a = share * decel  # whatever the motion was about to do
    rows = jerk_limited_stop(q, v, a, dt, decel, jerk)
    end = rows[-1] if len(rows) else q
    assert np.allclose(q + jerk_limited_way(v, a, dt, decel, jerk), end, atol=1e-9)
    speed = velocities(q, v, rows, dt)
    force = np.vstack([a, np.diff(speed, axis=0) / dt, np.zeros(4)])
    # Twice differenced, a set-point thousands of radians off has lost digits to rounding.
    lost = 1e-6 + 8 * np.finfo(float).eps * np.abs(np.vstack([q, rows])).max() / dt**2
    assert np.abs(speed[-1]).max() < 1e-9
    assert (np.abs(force) <= np.maximum(decel, np.abs(a)) * (1 + 1e-6) + lost).all()
    assert (np.abs(np.diff(force, axis=0)) <= jerk * dt * (1 + 1e-6) + lost).all()


@given(
    gap=st.floats(0, 2), decel=st.floats(0.5, 50), jerk=st.floats(20, 2000), dt=periods
)  # fmt: skip
def test_from_the_stoppable_speed_a_jerk_limited_joint_stops_within_the_gap(gap, decel, jerk, dt):
    one = np.ones(1)
    v = stoppable_speed(one * gap, dt, one * decel, jerk)
    rows = jerk_limited_stop(v * dt, v, 0 * v, dt, one * decel, one * jerk)
    end = rows[-1] if len(rows) else v * dt
    # Its discrete ramps may need up to a tick more than the formula's continuous ones.
    assert end[0] <= gap + v[0] * dt + 1e-9
