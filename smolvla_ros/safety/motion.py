"""The arm's set-point, moved only where it can still stop.

Each step is the wanted one where that is legal, or the nearest legal one; the stop from
there is planned, and step and stop are proved clear. If they are, the step is taken and
that stop is kept; if not, the set-point follows the stop it kept. So from every set-point
there is a known way to rest inside the position limits and clear of everything guarded.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from smolvla_ros.safety.clearance import Blocked, Clearance
from smolvla_ros.safety.limits import Limits
from smolvla_ros.safety.stopping import (
    each_joint_stop,
    jerk_limited_stop,
    jerk_limited_way,
    stoppable_speed,
    synchronised_stop,
)
from smolvla_ros.safety.verdict import Kind, Verdict

_EPS = 1e-9  # rounding, relative to limits
_BISECTIONS = 8  # of what a jerk limit allows in a tick


class Motion:
    """Set-point, velocity and the kept stop of one arm. Not thread-safe.

    Velocities and accelerations are backward differences of set-points.

    Args:
        limits, clearance: what every step keeps. dt: s a step.
        braking_ratio: share of the acceleration limit that stops are planned with.

    Attributes:
        q, v, a: ``[D]`` the last set-point, its velocity and acceleration (rad, s).
        stop_rows: ``[N, D]`` the kept stop: what follows where nothing better is found.
    """

    def __init__(self, limits: Limits, clearance: Clearance, dt: float, braking_ratio: float):
        self.dt = dt
        self._braking_ratio = braking_ratio
        dof = len(limits.lower)
        self.q, self.v, self.a = np.zeros(dof), np.zeros(dof), np.zeros(dof)
        self.stop_rows = np.zeros((0, dof))
        self._on_track = True  # the last set-point was taken as it was
        self._use(limits, clearance)

    def _use(self, limits: Limits, clearance: Clearance) -> None:
        self.limits, self.clearance = limits, clearance
        self._brake = self._braking_ratio * limits.acceleration
        self._jerk_limited = bool(np.isfinite(limits.jerk).any())
        # Twice the acceleration within a tick is all that an unlimited joint can ask for.
        self._jerk = np.minimum(limits.jerk, 2.0 * limits.acceleration / self.dt)

    def seed(self, q: np.ndarray) -> None:
        """Stand at ``q`` ``[D]``."""
        self.q = np.array(q, dtype=float)
        self.v, self.a = np.zeros_like(self.q), np.zeros_like(self.q)
        self.stop_rows = self.stop_rows[:0]
        self._on_track = True
        self.clearance.anchor(self.q)

    def swap(self, limits: Limits, clearance: Clearance) -> None:
        """Go on under other limits and zones.

        The kept stop is planned anew under them. Where none is clear any more, the old one
        goes on being kept: it is still the known way to rest.
        """
        clearance.take_over(self.clearance)
        self._use(limits, clearance)
        for rows in self._stops(self.q, self.v, self.a):
            if rows is None:
                continue
            if self._stays_inside(rows) and clearance.blocked(rows) is None:
                self.stop_rows = rows
                return

    @property
    def at_rest(self) -> bool:
        """True where the set-point stands and no stop is being followed."""
        return not self.v.any() and not len(self.stop_rows)

    @property
    def recovering(self) -> str:
        """What the set-point is on its way out of; empty where nothing is violated."""
        if self._outside().any():
            return "outside a position limit"
        violated = self.clearance.violated()
        return violated[0].name if violated else ""

    def run_out(self) -> None:
        """One step along the kept stop; at its end, stand."""
        self._take_kept_stop()
        self._on_track = self.at_rest

    def follow(self, wanted: np.ndarray, rate: np.ndarray, ratio: float) -> tuple[Verdict, bool]:
        """One step to ``wanted``, or the nearest legal one.

        Args:
            wanted: ``[D]`` rad, the set-point meant for this tick. rate: ``[D]`` rad/s, its
                own velocity. ratio: share of the joint speeds that may be used.

        Returns:
            What became of it, and whether it was joint speeds or a speed zone that shaped it.
        """
        speed = self.limits.velocity * ratio
        wanted, rate = self._into_limits(wanted, rate)
        exact = (wanted - self.q) / self.dt
        broken = self._illegal(exact, speed)
        # An arm that was on its set-points goes on with them as they are. One that catches
        # up lands only where it can then keep the set-point's own speed.
        step = self.limits.acceleration * self.dt * (1 + _EPS)
        if not broken and not (self._on_track or (np.abs(exact - rate) <= step).all()):
            broken = "acceleration"
        self._on_track = False
        if not broken:
            shaped = exact
            blocked = self._take(wanted, exact)
            self._on_track = blocked is None
        else:
            shaped = self._shape(wanted, rate, speed)
            blocked = self._take(self.q + shaped * self.dt, shaped)
        by_speed = broken in ("velocity", "slow", "approach")
        if blocked is None:
            return Verdict(Kind.CLAMPED, broken) if broken else Verdict(Kind.PASSED), by_speed
        # Not clear. Moving: half-way to braking. At rest: straight at the set-point, in a
        # smaller step, since shaping joint by joint may have bent it into the obstacle.
        for smaller in self._smaller(wanted, shaped, speed):
            if self._take(self.q + smaller * self.dt, smaller) is None:
                return Verdict(Kind.CLAMPED, blocked.check, blocked.detail), False
        self._take_kept_stop()
        return Verdict(Kind.HELD, blocked.check, blocked.detail), False

    # -- one step -----------------------------------------------------------------------

    def _into_limits(self, wanted: np.ndarray, rate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is wanted of joints that are outside a limit ends at it: one that is held where it
        rests, a gripper at its end, would keep the whole arm at the speed of a recovery."""
        inside = np.clip(wanted, self.limits.lower, self.limits.upper)
        led = self._outside() & (inside != wanted)
        return np.where(led, inside, wanted), np.where(led, 0.0, rate)

    def _outside(self) -> np.ndarray:
        low, high = self.limits.lower, self.limits.upper
        return (self.q < low - _EPS) | (self.q > high + _EPS)

    def _illegal(self, v: np.ndarray, speed: np.ndarray) -> str:
        """The first rule that a step at ``v`` breaks, or an empty text."""
        dt, lim = self.dt, self.limits
        # Written so that what is no number breaks them.
        if not (np.abs(v) <= speed * (1 + _EPS)).all():
            return "velocity"
        a = (v - self.v) / dt
        if not (np.abs(a) <= lim.acceleration * (1 + _EPS) + _EPS / dt).all():
            return "acceleration"
        if not (np.abs(a - self.a) <= lim.jerk * dt * (1 + _EPS) + _EPS / dt).all():
            return "jerk"
        if self._jerk_limited:
            low, high = self._ends()
            end = self.q + v * dt + self._way_left(v, 0.0)
            inside = (end >= low - _EPS) & (end <= high + _EPS)
        else:
            low, high = self._position_bound()
            inside = (v >= low - _EPS) & (v <= high + _EPS)
        if not inside.all():
            return "position"
        factor, check, _ = self.clearance.speed_factor(v, lim.velocity)
        return check if factor < 1.0 - _EPS else ""

    def legal(self, q: np.ndarray) -> bool:
        """True where the next set-point may be ``q`` ``[D]``, clearances aside."""
        return not self._illegal((q - self.q) / self.dt, self.limits.velocity)

    def _ends(self) -> tuple[np.ndarray, np.ndarray]:
        """``[D]`` between which a stop must end: the limits, or where the arm is."""
        return np.minimum(self.limits.lower, self.q), np.maximum(self.limits.upper, self.q)

    def _position_bound(self) -> tuple[np.ndarray, np.ndarray]:
        """Velocities from which every joint still stops inside its limits. Outside a
        limit: only the way back."""
        lim = self.limits
        return -self._stoppable(self.q - lim.lower), self._stoppable(lim.upper - self.q)

    def _stoppable(self, gap: np.ndarray) -> np.ndarray:
        return stoppable_speed(gap, self.dt, self._brake, self.limits.jerk)

    def _shape(self, wanted, rate, speed) -> np.ndarray:
        """The nearest legal velocity: catch up with the set-point and be able to stay on it.

        ``rate`` is the set-point's own velocity. The rest of the way is closed no faster
        than a stop allows; one factor over the vector keeps the direction for speed.
        """
        if self._jerk_limited:
            return self._shape_with_jerk(wanted, rate, speed)
        dt = self.dt
        error = wanted - rate * dt - self.q
        catch_up = self._stoppable(np.abs(error))
        need = np.abs(error) / dt
        factor = np.min(catch_up / np.maximum(need, 1e-12), initial=1.0, where=need > 1e-12)
        v = rate + error / dt * factor
        v = v * min(1.0, float(np.min(speed / np.maximum(np.abs(v), 1e-12))))
        v = v * self.clearance.speed_factor(v, self.limits.velocity)[0]
        slowest, fastest = self._next_velocities(speed)
        low, high = self._position_bound()
        # What cannot be braked away in one tick stays: never ask for more than the limit.
        v = np.clip(v, np.minimum(low, fastest), np.maximum(high, slowest))
        return np.clip(v, slowest, fastest)

    def _shape_with_jerk(self, wanted, rate, speed) -> np.ndarray:
        """As :meth:`_shape`, joint by joint: the largest velocity from which a stop against
        the set-point's own motion ends at the set-point. With a jerk limit what the arm will
        do depends on its acceleration too, and a speed alone would swing past for ever."""
        dt, (lower, upper) = self.dt, self._ends()
        goal = np.clip(wanted, lower, upper)
        rate = np.where(goal == wanted, rate, 0.0)
        slowest, fastest = self._next_velocities(speed)
        v = _largest(lambda v: v * dt + self._way_left(v, rate) <= goal - self.q, slowest, fastest)
        v = v * self.clearance.speed_factor(v, self.limits.velocity)[0]
        v = np.clip(v, slowest, fastest)
        end = self.q + v * dt + self._way_left(v, 0.0)
        if ((end >= lower) & (end <= upper)).all():
            return v
        most = _largest(
            lambda v: v * dt + self._way_left(v, 0.0) <= upper - self.q, slowest, fastest
        )
        least = -_largest(
            lambda v: v * dt - self._way_left(-v, 0.0) <= self.q - lower, -fastest, -slowest
        )
        return np.minimum(np.maximum(v, least), most)

    def _way_left(self, v: np.ndarray, rate: np.ndarray | float) -> np.ndarray:
        """``[D]`` how far a step at ``v`` still goes after it, seen from what moves at ``rate``."""
        a = (v - self.v) / self.dt
        return jerk_limited_way(v - rate, a, self.dt, self._brake, self._jerk)

    def _next_velocities(self, speed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``[D]`` lowest and highest velocity that acceleration and jerk allow next."""
        dt, lim = self.dt, self.limits
        most = lim.acceleration
        low, high = -most, most
        if self._jerk_limited:
            slew = self._jerk * dt
            # As braking for a position: leave the jerk room to end at the joint speed.
            up = np.minimum(stoppable_speed(speed - self.v, dt, self._jerk), most)
            down = np.minimum(stoppable_speed(speed + self.v, dt, self._jerk), most)
            high = np.clip(up, self.a - slew, self.a + slew)
            low = np.clip(-down, self.a - slew, self.a + slew)
        return self.v + low * dt, self.v + high * dt

    def _smaller(self, wanted, shaped, speed) -> list[np.ndarray]:
        dt = self.dt
        if not self.at_rest:
            rows = self.stop_rows
            braking = (rows[0] - self.q) / dt if len(rows) else np.zeros_like(self.v)
            return [(shaped + braking) / 2]
        way = wanted - self.q
        slowest, fastest = self._next_velocities(speed)
        cap = np.minimum(np.minimum(-slowest, fastest), speed)
        longest = float(np.max(np.abs(way) / (cap * dt), initial=0.0))
        if longest < 1e-6:
            return []
        straight = way / dt / max(longest, 1.0)
        straight = straight * self.clearance.speed_factor(straight, self.limits.velocity)[0]
        low, high = self._position_bound()
        return [np.clip(straight * f, low, high) for f in (1.0, 0.25)]

    def _stops(self, q: np.ndarray, v: np.ndarray, a: np.ndarray):
        """Ways to rest from a set-point, the likelier ones first."""
        if self._jerk_limited:
            yield jerk_limited_stop(q, v, a, self.dt, self._brake, self._jerk)
        else:
            yield synchronised_stop(q, v, self.dt, self._brake)
            yield each_joint_stop(q, v, self.dt, self._brake)

    def _take(self, q: np.ndarray, v: np.ndarray) -> Blocked | None:
        """Take the step to ``q`` if it and a stop from it are inside limits and clear."""
        a = (v - self.v) / self.dt
        blocked: Blocked | None = None
        for i, rows in enumerate(self._stops(q, v, a)):
            if rows is None:
                continue
            path = np.vstack([q[None], rows])
            if not self._stays_inside(path):
                continue
            if i == 0 and not self._jerk_limited:  # the synchronised stop is a line
                path = path[[0, -1]] if len(rows) else path
            blocked = self.clearance.blocked(path)
            if blocked is None:
                self._move(q, v, rows)
                return None
        return blocked or Blocked("position", "no stop from here stays inside the limits")

    def _stays_inside(self, rows: np.ndarray) -> bool:
        """True where no row is outside a position limit, or further outside than the ones
        before it; a stop that begins while the arm still gains speed must not gain too much
        either."""
        low, high = self._ends()
        if len(rows):
            low = np.minimum(self.limits.lower, np.maximum(low, rows[0]))
            high = np.maximum(self.limits.upper, np.minimum(high, rows[0]))
        if not ((rows >= low - _EPS) & (rows <= high + _EPS)).all():
            return False
        if not self._jerk_limited or len(rows) < 2:
            return True
        fastest = np.maximum(self.limits.velocity, np.abs(self.v))
        return bool((np.abs(np.diff(rows, axis=0)) <= fastest * self.dt + _EPS).all())

    def _take_kept_stop(self) -> None:
        if not len(self.stop_rows):
            self._move(self.q, np.zeros_like(self.v), self.stop_rows)
            return
        q = self.stop_rows[0]
        self._move(q, (q - self.q) / self.dt, self.stop_rows[1:])

    def _move(self, q: np.ndarray, v: np.ndarray, stop: np.ndarray) -> None:
        self.clearance.move(q)
        self.a = (v - self.v) / self.dt
        self.q, self.v, self.stop_rows = np.array(q), v, stop


def _largest(
    fits: Callable[[np.ndarray], np.ndarray], least: np.ndarray, most: np.ndarray
) -> np.ndarray:
    """``[D]`` the largest values between ``least`` and ``most`` that fit, by bisection, each
    for itself; ``least`` where none is found to."""
    done = fits(most)
    low, high = least, most
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        good = fits(middle)
        low, high = np.where(good, middle, low), np.where(good, high, middle)
    return np.where(done, most, low)
