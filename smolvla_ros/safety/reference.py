"""A command as a smooth function of time, taken over from wherever the arm is.

The rows of a chunk are joined by a cubic spline (continuous acceleration: a polygon would
put an acceleration spike on every knot). The difference to the arm's present set-point
fades out along a quintic with position and velocity matched at both ends, so that a new
chunk takes over without a jump. Toward its end the clock of the reference slows evenly
to zero: an arm that gets no further chunk comes to rest on the chunk's own path.
"""

from __future__ import annotations

import math

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
        self.clock = self._start = now - command.stamp
        times, rows = command.times, command.positions
        lead = float(times[0]) - self.clock
        need = _fade_time(q - rows[0], v, 0 * v, limits, 0.0)
        goal = len(times) == 1 and lead > 0  # there is no path to join: it may take longer
        spare = goal or lead >= need
        self.jump = 0.0
        if spare:
            times = np.append(self.clock, [self.clock + max(lead, need)] if goal else times)
            rows = np.vstack([q, rows])
        self._times = times
        self._spline = _join(times, rows, v if spare else None)
        self._only = rows[0]
        self._settle = self._run_out_time(limits, settle)
        self._gap, self._gap_rate, self._gap_bend = np.zeros((3, len(q)))
        self._fade = 0.0
        if not spare and self._spline is not None:
            self._fade_from(q, v, a, limits, dt, blend)

    def _fade_from(self, q, v, a, limits: Limits, dt: float, blend: float) -> None:
        """Take over from the arm's own motion, which is not the command's."""
        place, rate = self._path_time(self._start)
        self._gap = q - self._row(place)
        self.jump = float(np.max(np.abs(self._gap)))
        # The arm's velocity and acceleration are differences of its last set-points: so must
        # the path's be, or what is the same motion would look like another.
        step = rate * dt
        before = q - dt * v - self._row(place - step)
        earlier = q - dt * (2.0 * v - dt * a) - self._row(place - 2.0 * step)
        bend = (self._gap - 2.0 * before + earlier) / dt**2
        self._gap_rate = (self._gap - before) / dt + 0.5 * dt * bend
        if not np.isfinite(limits.jerk).any():
            bend = 0.0 * bend  # nothing keeps acceleration from changing at once
        self._gap_bend = bend
        self._fade = _fade_time(self._gap, self._gap_rate, bend, limits, blend)
        # A slope that the path does not keep up for the fade must not be faded out
        # either: it would carry the arm away from the path, the opposite way.
        later = self._row(self._path_time(self._start + self._fade)[0])
        kept = v - (later - self._row(place)) / self._fade
        least = limits.acceleration * blend / 12.0  # what the shortest fade takes out anyway
        brief = np.abs(self._gap_rate) > 2.0 * np.abs(kept) + least
        self._gap_rate = np.where(brief, kept, self._gap_rate)
        self._fade = _fade_time(self._gap, self._gap_rate, bend, limits, blend)

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
        return self.clock >= max(end, self._start + self._fade)

    def at(self) -> np.ndarray:
        """``[D]`` radians: the set-point at the reference's clock."""
        wanted = self._row(self._path_time(self.clock)[0])
        since = self.clock - self._start
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

    def _row(self, place: float) -> np.ndarray:
        return self._only if self._spline is None else self._spline(place)

    def _path_time(self, t: float) -> tuple[float, float]:
        """Which of the command's own times is meant at clock ``t``, and how fast it runs."""
        first, last = float(self._times[0]), float(self._times[-1])
        if t < first:
            return first, 0.0
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
    """Where a stream of single set-points wants the arm: at the newest one, now.

    Between set-points, and for two of their periods after the last, it goes on along the
    last difference. The reference of set-points that come slower than the gate ticks fades
    from the arm's own motion over three periods, or each would be a step.
    """

    jump = 0.0

    def __init__(self, dt: float):
        self._dt = dt
        self._points: list[tuple[float, np.ndarray]] = []
        self._rate: np.ndarray | None = None
        self.period = 0.0  # s, smoothed; 0: not known yet
        self.clock = 0.0

    def add(self, stamp: float, row: np.ndarray) -> None:
        """The next set-point ``[D]`` and when it is meant, in steady-clock seconds."""
        if self._points:
            before, last = self._points[-1]
            gap = max(stamp - before, 1e-6)
            self.period += (gap - self.period) * (0.25 if self.period else 1.0)
            ticks = max(1, round(self.period / self._dt))
            rate = (row - last) / max(ticks * self._dt, self.period if ticks > 1 else 0.0)
            self._rate = rate if self._rate is None else 0.5 * (rate + self._rate)
        self._points = [(stamp, row)]
        self.clock = -self._dt  # the next tick is meant to be at the set-point itself

    def silent_for(self, now: float) -> float:
        """Seconds since the newest set-point."""
        return now - self._points[-1][0]

    def slower(self) -> Command | None:
        """The line through the newest set-point, for a stream that is slower than the gate."""
        if self.period <= 1.5 * self._dt or self._rate is None:
            return None
        stamp, row = self._points[-1]
        ahead = 2.0 * self.period
        return Command(stamp, np.array([0.0, ahead]), np.vstack([row, row + ahead * self._rate]))

    def advance(self, seconds: float) -> None:
        """Let the stream's clock run on."""
        self.clock += seconds

    @property
    def finished(self) -> bool:
        """True once it stands still until the next set-point."""
        return self._rate is None or self.clock >= 2.0 * self._dt

    def at(self) -> np.ndarray:
        """``[D]`` radians: the set-point at the stream's clock."""
        row = self._points[-1][1]
        if self._rate is None:
            return row
        return row + self._rate * min(self.clock, 2.0 * self._dt)


def _join(times: np.ndarray, rows: np.ndarray, slope: np.ndarray | None):
    """A smooth path through the rows, None for a single one. ``slope``: rad/s at its start."""
    if len(times) < 2:
        return None
    ends = ["not-a-knot", "not-a-knot"] if len(times) > 3 else ["natural", "natural"]
    if slope is not None:
        ends[0] = (1, slope)
        if len(times) == 2:
            ends[1] = (1, np.zeros_like(slope))
        elif len(times) == 3:
            ends[1] = "natural"
    spline = CubicSpline(times, rows, bc_type=tuple(ends) if slope is not None else ends[0])
    # Times far from even make a cubic spline swing out between its rows by many times what
    # lies between them.
    middle = spline((times[1:] + times[:-1]) / 2) - (rows[1:] + rows[:-1]) / 2
    step = np.abs(np.diff(rows, axis=0))
    padded = np.pad(step, ((1, 1), (0, 0)))
    near = np.maximum(np.maximum(padded[:-2], padded[2:]), step)
    swings = np.abs(middle) > near + 1e-3
    if slope is not None:
        swings[0] = False  # the arm's own slope bends the first piece
    return PchipInterpolator(times, rows) if swings.any() else spline


def _fade_time(gap, gap_rate, gap_bend, limits: Limits, least: float) -> float:
    """Seconds that keep the fade's own speed, acceleration and jerk under half the limits.

    A quintic over ``gap`` peaks at ``1.875 gap / T``, ``5.78 gap / T²`` and ``60 gap / T³``;
    the one that takes out a rate peaks at about ``6 rate / T`` and ``36 rate / T²``, the one
    that takes out a curvature at ``9 bend / T``.
    """
    speed, force, jerk = (0.5 * x for x in (limits.velocity, limits.acceleration, limits.jerk))
    gap, gap_rate, gap_bend = np.abs(gap), np.abs(gap_rate), np.abs(gap_bend)
    return max(
        least,
        1e-3,
        float(np.max(1.875 * gap / speed, initial=0.0)),
        math.sqrt(np.max(5.78 * gap / force, initial=0.0)),
        float(np.max(6.0 * gap_rate / force, initial=0.0)),
        math.cbrt(np.max(60.0 * gap / jerk, initial=0.0)),
        math.sqrt(np.max(36.0 * gap_rate / jerk, initial=0.0)),
        float(np.max(9.0 * gap_bend / jerk, initial=0.0)),
    )
