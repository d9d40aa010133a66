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
) -> np.ndarray | None:
    """Every joint stops as soon as its jerk limit allows, in whole ticks.

    Args:
        q, v, a: ``[D]`` last set-point, its velocity and acceleration (backward differences).
        dt: s. decel: ``[D]`` rad/s². jerk: ``[D]`` rad/s³, finite.

    Returns:
        ``[N, D]`` set-points, the last two the same; N is 0 at rest. None where limits and
        ticks fit so badly that no such stop was found.
    """
    ramps = _Ramps(v, a, dt, decel, jerk)
    if not ramps.found.all():
        return None
    moving = (v != 0.0) | (a != 0.0)
    n = int(np.max(ramps.ticks * moving, initial=0.0))
    return q + np.cumsum(v + np.cumsum(ramps.forces(n), axis=0) * dt, axis=0) * dt


def jerk_limited_way(
    v: np.ndarray, a: np.ndarray, dt: float, decel: np.ndarray, jerk: np.ndarray
) -> np.ndarray:
    """``[D]`` how far a joint still goes in :func:`jerk_limited_stop`, signed.

    Arguments as there. Infinite, away from rest, where no stop was found.
    """
    ramps = _Ramps(v, a, dt, decel, jerk)
    return np.where(ramps.found, ramps.way_left(), np.copysign(np.inf, v))


class _Ramps:
    """Accelerations that end a velocity: a ramp to a peak, a stretch at it, a ramp to zero.

    Each takes as many ticks as in the fastest continuous trapezoid, rounded up; the peak is
    then the one that ends the velocity exactly. All ``[D]``, mirrored by ``side`` so that
    what is left of the velocity once the acceleration has ended is positive.
    """

    def __init__(self, v, a, dt, decel, jerk):
        self._v, self._dt = v, dt
        self._side = np.where(v + a * np.abs(a) / (2.0 * jerk) < 0.0, -1.0, 1.0)
        speed, force, slew = self._side * v / dt, self._side * a, jerk * dt
        peak = np.minimum(np.sqrt(np.maximum(jerk * dt * speed + force**2 / 2.0, 0.0)), decel)
        down = np.maximum(np.ceil(np.abs(force + peak) / slew - 1e-9), 1.0)
        up = np.maximum(np.ceil(peak / slew - 1e-9), 1.0)
        lack = (speed + force * (down - 1.0) / 2.0) / np.maximum(peak, 1e-12) - (down + up) / 2.0
        flat = np.maximum(np.ceil(lack - 1e-9), 0.0)
        for _ in range(_MOST_REPAIRS):
            total = (down + up) / 2.0 + flat
            peak = (speed + force * (down - 1.0) / 2.0) / total
            # Rounding may have left a ramp too short for the peak that came of it.
            steep = np.ceil(np.abs(force + peak) / slew * (1 - 1e-9) - 1e-9)
            rise = np.ceil(np.abs(peak) / slew * (1 - 1e-9) - 1e-9)
            over = np.abs(peak) > decel * (1 + 1e-9)
            self.found = (steep <= down) & (rise <= up) & ~over
            if self.found.all():
                break
            more = np.ceil((np.abs(peak) / decel - 1.0) * total)
            flat = flat + np.where(over, np.maximum(more, 1.0), 0.0)
            down, up = np.maximum(down, steep), np.maximum(up, rise)
        self._force, self._peak = force, peak
        self._down, self._flat, self._up = down, flat, up
        self.ticks = down + flat + up

    def forces(self, n: int) -> np.ndarray:
        """``[n, D]`` accelerations of the next ``n`` ticks."""
        k = np.arange(1, n + 1)[:, None]
        down, flat, up, peak = self._down, self._flat, self._up, self._peak
        ramp_down = self._force - (peak + self._force) * (k / down)
        ramp_up = -peak * np.maximum(1.0 - (k - down - flat) / up, 0.0)
        forces = np.where(k <= down, ramp_down, np.where(k <= down + flat, -peak, ramp_up))
        return self._side * forces

    def way_left(self) -> np.ndarray:
        """``[D]`` the sum of the velocities of all ticks, times ``dt``."""
        f, p, d, m, u = self._force, self._peak, self._down, self._flat, self._up
        n = d + m + u
        # The i-th acceleration counts in each of the n + 1 - i velocities from then on.
        in_down = f * (d * (n + 1) - d * (d + 1) / 2) - (p + f) * (d + 1) * (
            (n + 1) / 2 - (2 * d + 1) / 6
        )
        in_flat = -p * (m * (n + 1) - ((d + m) * (d + m + 1) - d * (d + 1)) / 2)
        in_up = -p * (u + 1) * (u - 1) / 3
        return self._dt * (n * self._v + self._side * self._dt * (in_down + in_flat + in_up))


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
