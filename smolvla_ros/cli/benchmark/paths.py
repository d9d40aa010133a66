"""Motions as a planner makes them: clear of everything and inside every limit.

What a gate changes about such a motion it changes without need.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.interpolate import CubicSpline

from smolvla_ros.cli.benchmark.scene import configurations
from smolvla_ros.robot import RobotModel
from smolvla_ros.safety import Clearance, Limits, Zone

_SPEED, _FORCE, _JERK = 0.9, 0.6, 0.6  # shares of the limits that are used
_ROOM = 0.006  # m beyond the margins that a path and its stops keep
_INWARD = 0.02  # rad kept from position limits
_GUARDS = ("self_collision", "keep_out", "keep_in", "obstacle")


class Planner:
    """Random motions of an arm, each from where the last one ended.

    Args:
        robot, limits, clearance: the arm; the clearance is its own, no gate's.
        zones: those of the clearance. dt: seconds between rows.
        braking_ratio: share of the acceleration that a stop is counted with.
        start: ``[D]`` rad, clear.
    """

    def __init__(
        self,
        robot: RobotModel,
        limits: Limits,
        clearance: Clearance,
        zones: Mapping[str, Zone],
        dt: float,
        braking_ratio: float,
        start: np.ndarray,
        seed: int = 0,
    ):
        self._clearance, self._limits, self.dt = clearance, limits, dt
        self._brake = braking_ratio * limits.acceleration
        self._rng = np.random.default_rng(seed)
        self._here = np.array(start, dtype=float)
        pairs = clearance.pairs
        self._guards = np.array([p.check in _GUARDS for p in pairs])
        self._floor = np.array([p.margin for p in pairs]) + _ROOM
        self._zones = [zones.get(p.zone) for p in pairs]
        # Twists of the wrist are as welcome as swings of the whole arm.
        spread = configurations(limits, np.random.default_rng(seed), 64).std(axis=0)
        self._spread = np.minimum(1.5 * spread, 1.5)
        self.refused = 0  # motions that were not clear

    def path(self) -> np.ndarray:
        """``[N, D]`` rad: the next motion, from rest to rest; the first row is where the
        last one ended.

        Raises:
            RuntimeError: none was found.
        """
        low, high = self._limits.lower + _INWARD, self._limits.upper - _INWARD
        for attempt in range(2000):
            # What does not get away with long motions tries shorter ones.
            share = 0.5 ** (attempt // 200)
            goal = self._here + share * self._rng.uniform(-1, 1, len(low)) * self._spread
            goal = np.clip(goal, low, high)
            rows = self._timed(goal, int(self._rng.integers(3)))
            if rows is not None and self._is_clear(rows):
                self._here = rows[-1]
                return rows
            self.refused += 1
        raise RuntimeError("found no clear motion from here; are the zones too narrow?")

    def anywhere(self, here: np.ndarray) -> np.ndarray:
        """``[N, D]`` rad: a straight motion to anywhere inside the limits, clear or not."""
        goal = configurations(self._limits, self._rng, 1)[0]
        return self.straight(here, goal)

    def straight(self, here: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """``[N, D]`` rad: straight from rest to rest, clear or not."""
        return self._stretched(lambda u: here + _smooth(u)[:, None] * (goal - here), least=0.1)

    def _timed(self, goal: np.ndarray, kind: int) -> np.ndarray | None:
        if np.abs(goal - self._here).max() < 1e-3:
            return None
        if kind == 0 and not np.isfinite(self._limits.jerk).any():
            return self._trapezoid(goal)
        if kind == 1:
            return self.straight(self._here, goal)
        middle = (self._here + goal) / 2 + self._rng.uniform(-0.25, 0.25, len(goal)) * self._spread
        curve = CubicSpline([0.0, 0.5, 1.0], [self._here, middle, goal], bc_type="clamped")
        return self._stretched(lambda u: curve(_smooth(u)))

    def _trapezoid(self, goal: np.ndarray) -> np.ndarray:
        """A straight line with constant acceleration, speed and deceleration."""
        way = np.abs(goal - self._here)
        moved = way > 1e-9
        force = float(np.min(_FORCE * self._limits.acceleration[moved] / way[moved]))
        speed = float(np.min(_SPEED * self._limits.velocity[moved] / way[moved]))
        speed = min(speed, np.sqrt(force))
        rise, total = speed / force, 1.0 / speed + speed / force
        t = np.arange(0.0, total + self.dt, self.dt)
        up, down = np.minimum(t, rise), np.clip(total - t, 0.0, rise)
        cruise = np.clip(t, rise, total - rise) - rise
        s = force * up**2 / 2 + speed * cruise + force * (rise**2 - down**2) / 2
        return self._here + np.minimum(s, 1.0)[:, None] * (goal - self._here)

    def _stretched(self, curve, least: float = 0.05) -> np.ndarray:
        """A curve over 0..1, as slow as the limits ask for; ``least`` seconds long."""
        u = np.linspace(0.0, 1.0, 400)
        rows, h = curve(u), u[1]
        v = np.abs(np.gradient(rows, h, axis=0)).max(axis=0)
        a = np.abs(np.diff(rows, n=2, axis=0) / h**2).max(axis=0)
        j = np.abs(np.diff(rows, n=3, axis=0) / h**3).max(axis=0)
        total = max(
            least,
            float(np.max(v / (_SPEED * self._limits.velocity))),
            float(np.sqrt(np.max(a / (_FORCE * self._limits.acceleration)))),
            float(np.cbrt(np.max(j / (_JERK * self._limits.jerk)))),
        )
        n = int(np.ceil(total / self.dt))
        return curve(np.arange(n + 1) / n)

    def _is_clear(self, rows: np.ndarray) -> bool:
        """The path and the straight stops from along it keep every rule, with room to spare."""
        low, high = self._limits.lower + _INWARD / 2, self._limits.upper - _INWARD / 2
        if (rows < low).any() or (rows > high).any():
            return False
        v = np.diff(rows, axis=0, append=rows[-1:]) / self.dt
        for k in range(0, len(rows), 5):
            seconds = float(np.max(np.abs(v[k]) / self._brake)) + 2 * self.dt
            stop = v[k] * seconds / 2
            end = rows[k] + stop
            if (end < low).any() or (end > high).any():
                return False
            fast = float(np.max(np.abs(v[k]) / self._limits.velocity))
            for q in (rows[k], rows[k] + stop / 2, end):
                if not self._may_be(q, fast):
                    return False
        return True

    def _may_be(self, q: np.ndarray, fast: float) -> bool:
        """``fast``: the largest share of a joint's speed limit."""
        found = self._clearance.distances(q)
        if (found < self._floor)[self._guards].any():
            return False
        for zone, distance, guards in zip(self._zones, found, self._guards, strict=True):
            if guards or fast == 0.0:
                continue
            begins = (zone.distance or 0.0) + (zone.margin or 0.0) + (zone.hysteresis or 0.005)
            if distance < begins + _ROOM and fast > 0.95 * (zone.speed_ratio or 0.0):
                return False
        return True


def _smooth(u: np.ndarray) -> np.ndarray:
    """0 to 1 with no speed or acceleration at the ends (minimum jerk)."""
    return u**3 * (10.0 - 15.0 * u + 6.0 * u**2)
