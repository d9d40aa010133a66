"""A command as a smooth function of time, taken over from wherever the arm is.

The rows of a chunk are joined by a cubic spline (continuous acceleration: a polygon would
put an acceleration spike on every knot). The difference to the arm's present set-point
fades out along a quintic with position and velocity matched at both ends, so that a new
chunk takes over without a jump. Toward its end the clock of the reference slows evenly
to zero: an arm that gets no further chunk comes to rest on the chunk's own path.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.interpolate import CubicSpline, PchipInterpolator

from smolvla_ros.safety.command import Command
from smolvla_ros.safety.limits import Limits


class Reference:
    """Where one command wants the arm, as a function of its own clock.

    Args:
        command: what to follow.
        now: steady-clock seconds of the take-over; the reference starts at the row that
            the command means for that instant. A command that begins later starts from
            the arm, where there is time enough to get to its first row; a goal of a single
            row takes as long as that needs.
        q, v, a: ``[D]`` the arm's last set-point, velocity and acceleration (rad, s).
        limits: the fade uses at most half of each. dt: s between set-points.
        blend: seconds of fade at least.
        settle: seconds, at most, over which the clock slows before the end.

    Attributes:
        jump: rad, the largest difference over the joints at the take-over.
    """

    def __init__(
        self,
        command: Command,
        now: float,
        q: np.ndarray,
        v: np.ndarray,
        a: np.ndarray,
        limits: Limits,
        dt: float,
        blend: float,
        settle: float,
    ):
        self.clock = now - command.stamp
        self._times, self._first = command.times, command.positions[0]
        self._spline = _join(command.times, command.positions)
        self._onset = self._slope_at_first_row(limits)
        self._settle = self._run_out_time(limits, settle)
        self._gap, self._gap_rate, self._gap_bend = np.zeros((3, len(q)))
        self._fade_at, self._fade = self.clock, 0.0
        self._lead: CubicSpline | None = None
        self.jump = 0.0
        lead = float(self._times[0]) - self.clock
        need = _fade_time(q - self._first, v, 0.0 * v, limits, blend if self._spline else 0.0)
        if self._spline is None:
            # There is no path to join: a goal may take as long as it needs.
            self._lead_in(q, v, self.clock + max(lead, need))
        elif lead >= need:
            self._lead_in(q, v, float(self._times[0]))
            # The arm waits at the first row, which may move on at once.
            self._fade_from(self._first, 0.0 * v, 0.0 * v, limits, dt, blend)
        else:
            self._fade_from(q, v, a, limits, dt, blend)
            self.jump = float(np.max(np.abs(self._gap)))

    def _lead_in(self, q: np.ndarray, v: np.ndarray, until: float) -> None:
        """From the arm to the first row, there at the clock's ``until``, at rest."""
        self._fade_at = until
        ends = ((1, v), (1, np.zeros_like(v)))
        rows = np.vstack([q, self._first])
        self._lead = CubicSpline([self.clock, until], rows, bc_type=ends)

    def _fade_from(self, q, v, a, limits: Limits, dt: float, blend: float) -> None:
        """Take over from the arm's own motion, which is not the command's."""
        place, rate = self._path_time(self._fade_at)
        self._gap = q - self._row(place)
        # The arm's velocity and acceleration are differences of its last set-points: so must
        # the path's be, or what is the same motion would look like another.
        step = rate * dt
        before = q - dt * v - self._row(place - step)
        earlier = q - dt * (2.0 * v - dt * a) - self._row(place - 2.0 * step)
        bend = (self._gap - 2.0 * before + earlier) / dt**2
        self._gap_rate = (self._gap - before) / dt + 0.5 * dt * bend
        self._set_fade(bend, limits, blend)
        # A slope that the path does not keep up for the fade must not be faded out
        # either: it would carry the arm away from the path, the opposite way.
        later = self._row(self._path_time(self._fade_at + self._fade)[0])
        kept = v - (later - self._row(place)) / self._fade
        least = limits.acceleration * blend / 12.0  # what the shortest fade takes out anyway
        brief = np.abs(self._gap_rate) > 2.0 * np.abs(kept) + least
        self._gap_rate = np.where(brief, kept, self._gap_rate)
        self._set_fade(bend, limits, blend)

    def _set_fade(self, bend: np.ndarray, limits: Limits, blend: float) -> None:
        """How long the fade takes, and the curvature that it begins with."""
        jerky = np.isfinite(limits.jerk).any()
        # Where nothing keeps acceleration from changing at once, it is that of the cubic that ends
        # as this does, at rest: a fade that is begun again and again brakes as much each time. One
        # that began with none would never brake an arm that gets commands faster than it fades.
        self._fade = _fade_time(
            self._gap, self._gap_rate, bend if jerky else 0.0 * bend, limits, blend
        )
        cubic = -(6.0 * self._gap / self._fade + 4.0 * self._gap_rate) / self._fade
        self._gap_bend = bend if jerky else cubic

    def _run_out_time(self, limits: Limits, settle: float) -> float:
        """As much of ``settle`` as braking the last slope needs; a path that ends at rest
        keeps its own time."""
        if self._spline is None:
            return 0.0
        first, last = float(self._times[0]), float(self._times[-1])
        slope = np.abs(self._spline(last, 1))
        need = float(np.max(2.0 * slope / limits.acceleration))
        return min(settle, 0.5 * (last - first)) if need > 1e-3 else 0.0

    def advance(self, seconds: float) -> None:
        """Let the reference's clock run on (slower than time in a slow zone)."""
        self.clock += seconds

    @property
    def finished(self) -> bool:
        """True once the reference stands still for ever."""
        end = float(self._times[-1]) + self._settle
        return self.clock >= max(end, self._fade_at + self._fade)

    def at(self) -> np.ndarray:
        """``[D]`` radians: the set-point at the reference's clock."""
        if self._lead is not None and self.clock < self._fade_at:
            return self._lead(self.clock)
        wanted = self._row(self._path_time(self.clock)[0])
        since = self.clock - self._fade_at
        if since >= self._fade:
            return wanted
        u = since / self._fade
        # Quintics with value, slope and curvature 0 at the end, and one of the three 1 at the
        # start: the Hermite basis functions of the gap.
        place = 1.0 + u**3 * (-10.0 + u * (15.0 - 6.0 * u))
        slope = u + u**3 * (-6.0 + u * (8.0 - 3.0 * u))
        bend = u * u * (0.5 + u * (-1.5 + u * (1.5 - 0.5 * u)))
        return (
            wanted
            + place * self._gap
            + slope * self._fade * self._gap_rate
            + bend * self._fade**2 * self._gap_bend
        )

    def _slope_at_first_row(self, limits: Limits) -> np.ndarray:
        """``[D]`` rad/s, as fast as the arm may be."""
        if self._spline is None:
            return np.zeros_like(self._first)
        slope = self._spline(float(self._times[0]), 1)
        return np.clip(slope, -limits.velocity, limits.velocity)

    def _row(self, place: float) -> np.ndarray:
        # Whoever sends a path that begins in motion means an arm that comes along on it: one that
        # were waited for at the first row would have its slope twice.
        early = min(0.0, place - float(self._times[0]))
        if early or self._spline is None:
            return self._first + early * self._onset
        return self._spline(place)

    def _path_time(self, t: float) -> tuple[float, float]:
        """Which of the command's own times is meant at clock ``t``, and how fast it runs."""
        last = float(self._times[-1])
        into = t - (last - self._settle)
        if into <= 0:
            return t, 1.0
        if not self._settle:
            return last, 0.0
        # The clock's rate falls linearly from 1 to 0 over twice the settling time.
        into = min(into, 2.0 * self._settle)
        rate = 1.0 - into / (2.0 * self._settle)
        return last - self._settle + into * (1.0 + rate) / 2.0, rate


class Stream:
    """Where a stream of single set-points wants the arm.

    At the gate's rate that is at the newest set-point, now, and where one is missing on along
    the last difference. Set-points that come slower are joined one period late: a polynomial
    from the arm's own motion ends at the newest one just when the next is due, with the
    velocity that a parabola through the last three has there. Each ends at its set-point
    whatever was before it, so that nothing adds up.
    """

    def __init__(self, dt: float, limits: Limits):
        self._dt, self._limits = dt, limits
        self._points: list[np.ndarray] = []  # the newest three at most
        self._heard_at = -np.inf
        self.period = 0.0  # s, smoothed; 0: not known yet
        self.clock = 0.0
        self._segment: np.ndarray | None = None  # [K, D] coefficients in clock / time
        self._time = 0.0  # s from the take-over until the next set-point is due

    def add(self, now: float, row: np.ndarray) -> None:
        """The next set-point ``[D]``, heard at steady-clock seconds ``now``."""
        if self._points:
            gap = max(now - self._heard_at, 1e-6)
            self.period += (gap - self.period) * (0.25 if self.period else 1.0)
        self._points = [*self._points[-2:], row]
        self._heard_at = now

    def silent_for(self, now: float) -> float:
        """Seconds since the newest set-point."""
        return now - self._heard_at

    @property
    def alone(self) -> np.ndarray | None:
        """``[D]`` the set-point, while there is only one."""
        return self._points[0] if len(self._points) == 1 else None

    def take(self, now: float, q: np.ndarray, v: np.ndarray, a: np.ndarray) -> None:
        """Go on to the newest set-point from the arm's own motion (``[D]``, rad, s)."""
        if self.period <= 1.5 * self._dt:
            self._segment = None
            self.clock = -self._dt  # the next tick is meant to be at the set-point itself
            return
        self.clock = 0.0
        time = self._time = max(self.period - self.silent_for(now), 0.5 * self.period)
        starts, ends = [q, v * time], [self._points[-1], self._rate() * time]
        if np.isfinite(self._limits.jerk).any():
            starts.append(a * time * time)
            ends.append(self._bend() * time * time)
        self._segment = _hermite(starts, ends)

    def advance(self, seconds: float) -> None:
        """Let the stream's clock run on."""
        self.clock += seconds

    @property
    def finished(self) -> bool:
        """True once it stands still until the next set-point."""
        return len(self._points) < 2 or self.clock >= max(2.0 * self._dt, self._time + self.period)

    def at(self) -> np.ndarray:
        """``[D]`` radians: the set-point at the stream's clock."""
        if self._segment is None:
            return self._points[-1] + self._rate() * min(self.clock, 2.0 * self._dt)
        if self.clock < self._time:
            u = self.clock / self._time
            return np.array([u**k for k in range(len(self._segment))]) @ self._segment
        return self._points[-1] + self._rate() * min(self.clock - self._time, self.period)

    def _rate(self) -> np.ndarray:
        """``[D]`` rad/s at the newest set-point."""
        newest = self._points[-1]
        if len(self._points) < 2:
            return np.zeros_like(newest)
        ticks = max(1, round(self.period / self._dt))
        time = self.period if ticks > 1 else self._dt
        rate = (newest - self._points[-2]) / time + 0.5 * time * self._bend()
        return np.clip(rate, -self._limits.velocity, self._limits.velocity)

    def _bend(self) -> np.ndarray:
        """``[D]`` rad/s² through the newest three set-points."""
        if len(self._points) < 3:
            return np.zeros_like(self._points[-1])
        time = max(self.period, self._dt)
        bend = (self._points[-1] - 2.0 * self._points[-2] + self._points[-3]) / time**2
        return np.clip(bend, -self._limits.acceleration, self._limits.acceleration)


def _hermite(starts: Sequence[np.ndarray], ends: Sequence[np.ndarray]) -> np.ndarray:
    """``[2 K, D]`` coefficients of the polynomial on 0..1 with ``K`` given derivatives, from
    the value on, at both ends."""
    k = len(starts)
    powers = np.arange(2 * k)
    rows = []
    for at in (0.0, 1.0):
        factor = np.ones(2 * k)
        for order in range(k):
            rows.append(factor * np.where(powers >= order, at ** np.maximum(powers - order, 0), 0))
            factor = factor * np.maximum(powers - order, 0)
    return np.linalg.solve(np.array(rows), np.array([*starts, *ends]))


def _join(times: np.ndarray, rows: np.ndarray) -> CubicSpline | PchipInterpolator | None:
    """A smooth path through the rows; None for a single one."""
    if len(times) < 2:
        return None
    spline = CubicSpline(times, rows, bc_type="not-a-knot" if len(times) > 3 else "natural")
    # Times far from even make a cubic spline swing out between its rows by many times what
    # lies between them.
    middle = spline((times[1:] + times[:-1]) / 2) - (rows[1:] + rows[:-1]) / 2
    step = np.abs(np.diff(rows, axis=0))
    padded = np.pad(step, ((1, 1), (0, 0)))
    near = np.maximum(np.maximum(padded[:-2], padded[2:]), step)
    if (np.abs(middle) <= near + 1e-3).all():
        return spline
    return PchipInterpolator(times, rows)


def _fade_time(gap, gap_rate, gap_bend, limits: Limits, least: float) -> float:
    """Seconds that keep the fade's own speed, acceleration and jerk under half the limits.

    A quintic over ``gap`` peaks at ``1.875 gap / T``, ``6.13 gap / T²`` and ``60 gap / T³``;
    the one that takes out a rate peaks at about ``6 rate / T``, or ``4 rate / T`` where it may
    begin with that, and at ``36 rate / T²``; the one that takes out a curvature at ``9 bend / T``.
    """
    speed, force, jerk = (0.5 * x for x in (limits.velocity, limits.acceleration, limits.jerk))
    gap, gap_rate, gap_bend = np.abs(gap), np.abs(gap_rate), np.abs(gap_bend)
    braking = 6.0 if np.isfinite(jerk).any() else 4.0
    return max(
        least,
        1e-3,
        float(np.max(1.875 * gap / speed, initial=0.0)),
        math.sqrt(np.max(6.13 * gap / force, initial=0.0)),
        float(np.max(braking * gap_rate / force, initial=0.0)),
        math.cbrt(np.max(60.0 * gap / jerk, initial=0.0)),
        math.sqrt(np.max(36.0 * gap_rate / jerk, initial=0.0)),
        float(np.max(9.0 * gap_bend / jerk, initial=0.0)),
    )
