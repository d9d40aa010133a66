"""Ways to come to rest, tick by tick.

Velocities are backward differences of set-points: ``v_k = (q_k - q_{k-1}) / dt``. A stop
is the rows of set-points that follow, the last one at rest; its deceleration
``(v_k - v_{k-1}) / dt`` never exceeds what it was given.
"""

from __future__ import annotations

import math

import numpy as np

_MOST_REPAIRS = 100


def synchronised_stop(q: np.ndarray, v: np.ndarray, dt: float, decel: np.ndarray) -> np.ndarray:
    """All joints stop together: a straight line in joint space.

    Args:
        q, v: ``[D]`` last set-point and its velocity (rad, rad/s). dt: s.
        decel: ``[D]`` rad/s², positive.

    Returns:
        ``[N, D]`` set-points; N is 0 at rest.
    """
    n = _ticks(float(np.max(np.abs(v) / (decel * dt), initial=0.0)))
    left = 1.0 - np.arange(1, n + 1) / n if n else np.zeros(0)
    return q + np.cumsum(left)[:, None] * v * dt


def each_joint_stop(q: np.ndarray, v: np.ndarray, dt: float, decel: np.ndarray) -> np.ndarray:
    """Every joint stops as soon as it can: shorter for slow joints, but no straight line.

    Arguments and result as :func:`synchronised_stop`.
    """
    ticks = np.array([_ticks(x) for x in np.abs(v) / (decel * dt)])
    n = int(ticks.max(initial=0))
    k = np.arange(1, n + 1)[:, None]
    left = np.maximum(0.0, 1.0 - k / np.maximum(ticks, 1))
    return q + np.cumsum(left, axis=0) * v * dt


def jerk_limited_stop(
    q: np.ndarray,
    v: np.ndarray,
    a: np.ndarray,
    dt: float,
    decel: np.ndarray,
    jerk: np.ndarray,
) -> np.ndarray:
    """Every joint stops as soon as its jerk limit allows, in whole ticks.

    The acceleration is a trapezoid: a ramp to the peak, a stretch at it, a ramp to zero.
    Each takes as many ticks as in the fastest continuous trapezoid, rounded up; the peak is
    then the one that ends the velocity exactly.

    Args:
        q, v, a: ``[D]`` last set-point, its velocity and acceleration (backward differences).
        dt: s. decel: ``[D]`` rad/s². jerk: ``[D]`` rad/s³, finite.

    Returns:
        ``[N, D]`` set-points, the last two the same; N is 0 at rest.
    """
    # Mirrored so that what is left of the velocity once the acceleration has ended is positive.
    way = np.where(v + a * np.abs(a) / (2.0 * jerk) < 0.0, -1.0, 1.0)
    speed, force, slew = way * v / dt, way * a, jerk * dt
    peak = np.minimum(np.sqrt(np.maximum(jerk * dt * speed + force**2 / 2.0, 0.0)), decel)
    down = np.maximum(np.ceil(np.abs(force + peak) / slew - 1e-9), 1.0)
    up = np.maximum(np.ceil(peak / slew - 1e-9), 1.0)
    lack = (speed + force * (down - 1.0) / 2.0) / np.maximum(peak, 1e-12) - (down + up) / 2.0
    flat = np.maximum(np.ceil(lack - 1e-9), 0.0)
    for _ in range(_MOST_REPAIRS):
        peak = (speed + force * (down - 1.0) / 2.0) / ((down + up) / 2.0 + flat)
        # Rounding may leave a ramp a tick too short.
        short_down = np.abs(force + peak) > down * slew * (1 + 1e-9)
        short_up = np.abs(peak) > up * slew * (1 + 1e-9)
        short_flat = np.abs(peak) > decel * (1 + 1e-9)
        if not (short_down | short_up | short_flat).any():
            break
        down, up, flat = down + short_down, up + short_up, flat + short_flat
    else:
        raise ValueError("no stop found; jerk and acceleration limits do not fit the tick")
    moving = (v != 0.0) | (a != 0.0)
    n = int(np.max((down + flat + up) * moving, initial=0.0))
    k = np.arange(1, n + 1)[:, None]
    ramp_down = force - (peak + force) * (k / down)
    ramp_up = -peak * np.maximum(1.0 - (k - down - flat) / up, 0.0)
    forces = np.where(k <= down, ramp_down, np.where(k <= down + flat, -peak, ramp_up))
    return q + np.cumsum(v + way * np.cumsum(forces, axis=0) * dt, axis=0) * dt


def stoppable_speed(
    gap: np.ndarray, dt: float, decel: np.ndarray, jerk: np.ndarray | float = np.inf
) -> np.ndarray:
    """``[D]`` the largest speed of one step from which a joint stops within ``gap``.

    Solves ``v dt + v² / (2 a) + v a / (2 j) <= gap``: the step itself counts, and the time
    it takes to build the deceleration up. The continuous ``sqrt(2 a gap)`` forgets both and
    overshoots.
    """
    step = decel * dt + decel * decel / (2.0 * jerk)
    return np.maximum(0.0, np.sqrt(step * step + 2.0 * decel * np.maximum(gap, 0.0)) - step)


def _ticks(ratio: float) -> int:
    # A hair of tolerance, or rounding would add a tick to every exact multiple.
    return math.ceil(ratio - 1e-9)
