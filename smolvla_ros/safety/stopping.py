"""Ways to come to rest, tick by tick.

Velocities are backward differences of set-points: ``v_k = (q_k - q_{k-1}) / dt``. A stop
is the rows of set-points that follow, the last one at rest; its deceleration
``(v_k - v_{k-1}) / dt`` never exceeds what it was given.
"""

from __future__ import annotations

import math

import numpy as np

_MOST_ROWS = 20_000


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
    """Every joint stops as soon as its jerk limit allows.

    Velocity is brought to zero as :func:`stoppable_speed` brings a position to its limit:
    the deceleration is what the jerk can still take back before the velocity is gone.

    Args:
        q, v, a: ``[D]`` last set-point, its velocity and acceleration (backward differences).
        dt: s. decel: ``[D]`` rad/s². jerk: ``[D]`` rad/s³, infinite where there is none.

    Returns:
        ``[N, D]`` set-points, the last one at rest and N as small as can be; N is 0 at rest.
    """
    rows = []
    q, v, a = q.copy(), v.copy(), a.copy()
    slew = jerk * dt
    while np.any(v) or np.any(np.abs(a) > slew * (1 + 1e-9)):
        way = np.where(v != 0.0, np.sign(v), -np.sign(a))
        toward_rest = -way * a
        wanted = np.minimum(stoppable_speed(np.abs(v), dt, jerk), decel)
        # Where acceleration can be zero again in the next tick, the rest comes at once.
        last = np.abs(v) / dt
        wanted = np.where(last <= np.minimum(slew, decel) * (1 + 1e-9), last, wanted)
        low, high = toward_rest - slew, toward_rest + slew
        a = -way * np.clip(wanted, low, high)
        done = np.abs(v + a * dt) < 1e-12
        v = np.where(done, 0.0, v + a * dt)
        q = q + v * dt
        rows.append(q)
        if len(rows) > _MOST_ROWS:
            raise ValueError(f"no stop within {_MOST_ROWS} ticks; the jerk limit is too small")
    return np.array(rows).reshape(len(rows), len(q))


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
