"""Ways to come to rest, tick by tick.

Velocities are backward differences of set-points: ``v_k = (q_k - q_{k-1}) / dt``. A stop
is the rows of set-points that follow, the last one at rest; its deceleration
``(v_k - v_{k-1}) / dt`` never exceeds what it was given.
"""

from __future__ import annotations

import math

import numpy as np


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


def stoppable_speed(gap: np.ndarray, dt: float, decel: np.ndarray) -> np.ndarray:
    """``[D]`` the largest speed of one step from which a joint stops within ``gap``.

    Solves ``v dt + v² / (2 a) <= gap``: the step itself counts. The continuous
    ``sqrt(2 a gap)`` forgets it and overshoots.
    """
    step = decel * dt
    return np.maximum(0.0, np.sqrt(step * step + 2.0 * decel * np.maximum(gap, 0.0)) - step)


def _ticks(ratio: float) -> int:
    # A hair of tolerance, or rounding would add a tick to every exact multiple.
    return math.ceil(ratio - 1e-9)
