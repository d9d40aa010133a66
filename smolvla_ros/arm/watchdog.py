"""Which set-point an arm gets next, and when it only holds the last one. No clock, no bus.

The gate's set-points are carried out, not judged. Over any while nothing moves by more than the arm
may in it, and a set-point's time beside, whatever was lost between and however many come at once;
and an arm that had been left alone is not taken over by set-points that are somewhere else.
"""

from __future__ import annotations

from enum import Enum

import numpy as np

_LONGEST = 0.1  # s that one set-point may ask for
_REPEAT = 0.1  # s: a set-point whose packet got lost is sent again after so long
_LATE = 0.03  # s by which set-points may be late, and then come at once


class Mode(Enum):
    """What the driver does."""

    OFF = "torque off"
    HOLDING = "holding"
    FOLLOWING = "following"
    LOST = "no answer"


class Watchdog:
    """Keeps the last safe set-point.

    Times are steady-clock seconds. Not thread-safe.

    Args:
        velocity: ``[D]`` rad/s by which what is written may move. timeout: s of silence until
            the last set-point is held. takeover: rad from the held position at which
            set-points take over again.

    Attributes:
        mode: begins ``LOST``. written: ``[D]`` rad, what the servos have been told last.
        away: rad between the held position and the set-points that do not take over; 0: none.
        timeouts: how often set-points stopped while they were followed. limited: how often
            one was too far from the last, or too soon after it, to be written at once.
    """

    def __init__(self, velocity: np.ndarray, timeout: float, takeover: float):
        self._velocity = np.array(velocity, dtype=float)
        self._timeout, self._takeover = timeout, takeover
        self.mode = Mode.LOST
        self.written = np.full(len(self._velocity), np.nan)
        self._wanted = self.written
        self._over = _LONGEST
        self._heard = self._wrote = -np.inf
        self._credit = np.inf  # s of motion that were left after the last write
        self._new = False
        self.away = 0.0
        self.timeouts = self.limited = 0

    def hold(self, q: np.ndarray) -> None:
        """The servos hold ``q`` ``[D]`` rad, with torque."""
        self.mode, self.away, self._new = Mode.HOLDING, 0.0, False
        self.written = self._wanted = np.array(q, dtype=float)
        self._credit = np.inf

    def release(self) -> None:
        """The torque is off: nothing is written until :meth:`hold`."""
        self.mode, self.away = Mode.OFF, 0.0

    def lose(self) -> None:
        """The arm does not answer: nothing is written until :meth:`hold`."""
        self.mode, self.away = Mode.LOST, 0.0

    def hear(self, now: float, q: np.ndarray, over: float) -> bool:
        """A set-point of the gate: ``q`` ``[D]`` rad, to be reached in ``over`` seconds.

        Returns:
            Whether it is followed.
        """
        if self.mode in (Mode.OFF, Mode.LOST):
            return False
        self.look(now)
        self._heard = now
        if self.mode is Mode.HOLDING:
            self.away = float(np.abs(q - self.written).max())
            if self.away > self._takeover:
                return False
            self.mode, self.away = Mode.FOLLOWING, 0.0
        self._wanted = np.array(q, dtype=float)
        self._over = float(np.clip(over, 1e-3, _LONGEST))
        self._new = True
        return True

    def look(self, now: float) -> Mode:
        """The mode at ``now``: silence ends following."""
        if self.mode is Mode.FOLLOWING and now - self._heard > self._timeout:
            self.mode = Mode.HOLDING
            self.timeouts += 1
        # Set-points that did not take over are no news once they have stopped.
        if now - self._heard > self._timeout:
            self.away = 0.0
        return self.mode

    def due_at(self) -> float:
        """When :meth:`due` has something again if nothing is heard: steady-clock seconds."""
        if self.mode in (Mode.OFF, Mode.LOST):
            return np.inf
        if self._new:
            return -np.inf
        behind = bool((self.written != self._wanted).any())
        return self._wrote + (self._over if behind else _REPEAT)

    def due(self, now: float) -> np.ndarray | None:
        """``[D]`` rad to write now, or None. Say :meth:`wrote` when it is done."""
        self.look(now)
        if now < self.due_at():
            return None
        needs = self._seconds(self._wanted)
        may = min(self._over, self._earned(now))
        if needs <= may * (1.0 + 1e-6):  # rounding
            return self._wanted
        # All joints by the same share: the arm stays on the line between the two.
        self.limited += 1
        return self.written + (self._wanted - self.written) * (may / needs)

    def wrote(self, now: float, q: np.ndarray) -> None:
        """``q`` is with the servos."""
        self._credit = max(0.0, self._earned(now) - self._seconds(q))
        self.written, self._wrote, self._new = q, now, False

    def _seconds(self, q: np.ndarray) -> float:
        """That the arm needs at least from what is written to ``q``."""
        return float((np.abs(q - self.written) / self._velocity).max())

    def _earned(self, now: float) -> float:
        """Seconds of motion that may be written now: those that have gone by and were not used,
        kept only for as long as set-points are late."""
        return min(self._credit + max(0.0, now - self._wrote), self._over + _LATE)
