"""Pace, join, seam and the way to rest."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smolvla_ros.chunk import ActionChunk
from smolvla_ros.policy import chunking

DT = 1 / 30


def chunk(rows, stamp: float = 0.0, dt: float = DT) -> ActionChunk:
    rows = np.asarray(rows, dtype=float)
    rows = rows[:, None] if rows.ndim == 1 else rows
    return ActionChunk(stamp, dt, tuple(f"j{k}" for k in range(rows.shape[1])), rows)


def test_a_chunk_is_straight_between_its_rows_and_rests_before_and_after() -> None:
    c = chunk([0.0, 1.0, 3.0], stamp=10.0, dt=0.5)
    at = chunking.sample(c, np.array([9.0, 10.0, 10.25, 10.5, 10.75, 11.0, 12.0]))
    np.testing.assert_allclose(at[:, 0], [0.0, 0.0, 0.5, 1.0, 2.0, 3.0, 3.0])
    assert chunking.end_of(c) == 11.0


def test_a_chunk_may_run_on_with_its_last_slope() -> None:
    c = chunk([0.0, 1.0, 3.0], dt=0.5)
    assert chunking.sample(c, np.array([1.25]), run_on=True)[0, 0] == pytest.approx(4.0)
    assert chunking.sample(chunk([2.0]), np.array([5.0]), run_on=True)[0, 0] == 2.0


@given(
    rows=st.integers(3, 100),
    dt=st.floats(0.01, 0.2),
    latency=st.floats(0.01, 20.0),
    horizon=st.integers(1, 50),
)
def test_at_its_pace_a_chunk_outlasts_two_inferences_and_a_join(rows, dt, latency, horizon) -> None:
    fade = chunking.fade_rows(rows, horizon)
    pace = chunking.unbounded_pace(rows, dt, latency, fade)
    usable = (rows - 1 - fade) * dt / pace
    assert usable >= 2.0 * latency * (1.0 - 1e-9)
    # And it is no slower than that: either the join or the reserve is just met.
    assert min(usable, (rows - 1) * dt / pace / chunking.RESERVE) <= 2.0 * latency * (1.0 + 1e-9)


def test_nothing_is_slowed_where_inference_takes_no_time() -> None:
    assert chunking.unbounded_pace(50, DT, 0.0, 10) == math.inf
    assert chunking.unbounded_pace(1, DT, 1.0, 1) == math.inf


@given(
    seed=st.integers(0, 1000),
    first=st.integers(0, 30),
    fade=st.integers(1, 12),
    shift=st.floats(0.0, 0.3),
)
def test_a_join_keeps_goes_over_and_ends_in_the_answer(seed, first, fade, shift) -> None:
    rng = np.random.default_rng(seed)
    old, answer = chunk(rng.normal(size=(60, 3))), rng.normal(size=(50, 3))
    joined = chunking.join(answer, shift, DT, old, first, fade)
    before = chunking.sample(old, shift + DT * np.arange(50))
    np.testing.assert_allclose(joined[: first + 1], before[: first + 1])
    np.testing.assert_array_equal(joined[first + fade :], answer[first + fade :])
    low, high = np.minimum(before, answer), np.maximum(before, answer)
    assert (joined >= low - 1e-12).all()
    assert (joined <= high + 1e-12).all()
    # What the seam adds to the speed is bounded by how far the two are apart there.
    window = slice(max(first - 1, 0), first + fade + 1)
    apart = (answer - before)[window]
    own = np.abs(np.diff(apart, axis=0)).max(initial=0.0)
    added = np.abs(np.diff((joined - before)[window], axis=0)).max(initial=0.0)
    assert added <= 1.5 * np.abs(apart).max(initial=0.0) / fade + own + 1e-9


def test_an_old_chunk_that_ends_within_the_join_runs_on_and_does_not_brake() -> None:
    old = chunk(0.3 * DT * np.arange(20))
    answer = 0.3 * DT * (np.arange(50) + 10) + 0.02
    joined = chunking.join(answer[:, None], 10 * DT, DT, old, first=7, fade=10)
    steps = np.diff(joined[:, 0]) / DT
    assert steps.min() > 0.29
    assert steps.max() < 0.3 + 1.5 * 0.02 / (10 * DT)


def test_from_rest_the_arm_waits_and_then_makes_the_whole_motion() -> None:
    answer = 0.1 + 0.3 * DT * np.arange(50)[:, None]
    rows = chunking.start_from(np.array([0.1]), answer, first=6, fade=8)
    assert rows.shape == (56, 1)
    np.testing.assert_allclose(rows[:7], 0.1)
    np.testing.assert_array_equal(rows[14:], answer[8:])
    assert (np.diff(rows[:, 0]) >= 0).all()


def test_coming_to_rest_stays_on_the_path_and_slows_evenly() -> None:
    path = chunk(np.stack([np.linspace(0, 1, 50), np.linspace(0, -2, 50)], axis=1), stamp=5.0)
    held = chunking.come_to_rest(path, 5.5, within=0.3)
    assert held.stamp == 5.5
    assert chunking.end_of(held) == pytest.approx(5.5 + 0.3, abs=held.dt + 1e-9)
    np.testing.assert_allclose(held.positions[0], chunking.sample(path, np.array([5.5]))[0])
    np.testing.assert_allclose(held.positions[:, 1], -2.0 * held.positions[:, 0])
    speed = np.diff(held.positions[:, 0]) / held.dt
    assert speed[0] == pytest.approx(1 / (49 * DT), rel=0.1)
    assert (np.diff(speed) < 1e-9).all()
    assert speed[-1] == 0.0


def test_what_has_ended_is_not_brought_to_rest() -> None:
    assert chunking.come_to_rest(chunk([0.0, 1.0]), 1.0, within=0.3) is None


def test_a_seam_is_what_neither_chunk_does_by_itself() -> None:
    line = 0.3 * DT * np.arange(50)
    old = chunk(line)
    same = chunk(line[10:], stamp=10 * DT)
    assert chunking.seam(old, same, same, 0.5, 0.5, DT) == pytest.approx((0.0, 0.0), abs=1e-9)
    jump = chunk(line[10:] + 0.06, stamp=10 * DT)
    dq, dv = chunking.seam(old, jump, jump, 20 * DT, 0.5, DT)
    assert dq == pytest.approx(0.06)
    assert dv == pytest.approx(0.06 / DT)
    rows = chunking.join(jump.positions, jump.stamp, DT, old, first=10, fade=10)
    faded = chunk(rows, stamp=jump.stamp)
    dq, dv = chunking.seam(old, jump, faded, 20 * DT, 0.5, DT)
    assert 0.0 < dq < 1.5 * 0.06 / 10
    assert 0.0 < dv < 0.06 / DT / 10
