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
from scipy.interpolate import CubicSpline

from smolvla_ros.safety.command import Command


class Reference:
    """Where one command wants the arm, as a function of its own clock.

    Args:
        command: what to follow.
        now: steady-clock seconds of the take-over; the reference starts at the row that
            the command means for that instant.
        q, v: ``[D]`` the arm's last set-point and velocity (rad, rad/s).
        velocity, acceleration: ``[D]`` limits; the fade uses at most half of each.
        blend: seconds of fade at least.
        settle: seconds over which the clock slows before the end.
    """

    def __init__(
        self,
        command: Command,
        now: float,
        q: np.ndarray,
        v: np.ndarray,
        velocity: np.ndarray,
        acceleration: np.ndarray,
        blend: float,
        settle: float,
    ):
        self._times = command.times
        self._spline = None
        self._only = command.positions[0]
        if len(command.times) > 1:
            bc = "not-a-knot" if len(command.times) > 3 else "natural"
            self._spline = CubicSpline(command.times, command.positions, bc_type=bc)
        self.clock = now - command.stamp
        self._start = self.clock
        self._settle = min(settle, 0.5 * float(command.times[-1] - command.times[0]))
        place, rate = self._path_time(self._start)
        self._gap = q - self._row(place)
        self._gap_rate = np.zeros_like(v)
        # A single set-point is a stream's: it is meant as it is, now.
        self._fade = 0.0
        if self._spline is not None:
            self._gap_rate = v - self._spline(place, 1) * rate
            self._fade = _fade_time(self._gap, self._gap_rate, velocity, acceleration, blend)
            # A slope that the path does not keep up for the fade must not be faded out
            # either: it would carry the arm away from the path, the opposite way.
            later = self._row(self._path_time(self._start + self._fade)[0])
            kept = v - (later - self._row(place)) / self._fade
            least = acceleration * blend / 12.0  # what the shortest fade takes out anyway
            brief = np.abs(self._gap_rate) > 2.0 * np.abs(kept) + least
            self._gap_rate = np.where(brief, kept, self._gap_rate)
            self._fade = _fade_time(self._gap, self._gap_rate, velocity, acceleration, blend)

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
        # Quintic with value 1, 0 at the ends and slope, curvature 0 there; and the one with
        # slope 1 at the start: the two Hermite basis functions of the gap.
        place = 1.0 + u**3 * (-10.0 + u * (15.0 - 6.0 * u))
        slope = u + u**3 * (-6.0 + u * (8.0 - 3.0 * u))
        return wanted + place * self._gap + slope * self._fade * self._gap_rate

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


def _fade_time(gap, gap_rate, velocity, acceleration, least) -> float:
    """Seconds that keep the fade's own speed and acceleration under half the limits.

    A quintic over ``gap`` peaks at ``1.875 gap / T`` and ``5.78 gap / T²``; the one that
    takes out a rate peaks at about ``6 rate / T`` in acceleration.
    """
    by_speed = np.max(1.875 * np.abs(gap) / (0.5 * velocity), initial=0.0)
    by_force = math.sqrt(np.max(5.78 * np.abs(gap) / (0.5 * acceleration), initial=0.0))
    by_rate = np.max(6.0 * np.abs(gap_rate) / (0.5 * acceleration), initial=0.0)
    return max(least, 1e-3, float(by_speed), by_force, float(by_rate))
