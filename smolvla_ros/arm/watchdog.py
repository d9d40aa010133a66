"""Which set-point an arm gets next, and when it only holds the last one. No clock, no bus.

The gate's set-points are carried out, not judged. From what the servos have to what they get next
is never more than the arm may move in a set-point's time, whatever was lost on the line; over any
while it is no more than the arm may in it, and a set-point's time beside, however many come at
once; and an arm that had been left alone is not taken over by set-points that are somewhere else.
"""

from __future__ import annotations

from enum import Enum

import numpy as np

_LONGEST = 0.1  # s that one set-point may ask for
_REPEAT = 0.1  # s: a set-point whose packet got lost is sent again after so long
_LATE = 0.03  # s by which set-points may be late, and then come at once


class Mode(Enum):
    """What the driver does."""

    OFF = "no torque"
    HOLDING = "holding"
    FOLLOWING = "following"
    LOST = "lost"


class Watchdog:
    """Keeps the last safe set-point.

    Times are steady-clock seconds. Not thread-safe.

    Args:
        velocity: ``[D]`` rad/s by which what is written may move. timeout: s of silence until
            the last set-point is held. takeover: rad from the held position at which
            set-points take over again. resolution: ``[D]`` rad, what a servo says it was told
            is so near to what it was.

    Attributes:
        mode: begins ``LOST``. written: ``[D]`` rad, what the servos have been told last; until
            they have said that they got it (:meth:`got`), they may have what they had before.
        away: rad between the held position and the set-points that do not take over; 0: none.
        timeouts: how often set-points stopped while they were followed. limited: how often
            one was too far from the last, or too soon after it, to be written at once.
            lost: how often servos did not get what was written.
    """

    def __init__(
        self, velocity: np.ndarray, timeout: float, takeover: float, resolution: np.ndarray | float
    ):
        self._velocity = np.array(velocity, dtype=float)
        self._timeout, self._takeover, self._resolution = timeout, takeover, resolution
        self.mode = Mode.LOST
        self._over = _LONGEST
        self._heard = -np.inf
        self._new = False
        self.away = 0.0
        self.timeouts = self.limited = self.lost = 0
        self._begin(np.full(len(self._velocity), np.nan))

    def _begin(self, q: np.ndarray) -> None:
        self.written = self._wanted = q
        self._wrote = -np.inf
        self._credit = np.inf  # s of motion that were left after the last write
        self._settle()

    def _settle(self) -> None:
        """What is written is what the servos have."""
        self._sure = (self.written, self._wrote, self._credit)
        self._low = self._high = self.written  # between these is what they may have
        self._under_way = 0  # writes since then
        self._odd: np.ndarray | None = None

    def hold(self, q: np.ndarray) -> None:
        """The servos hold ``q`` ``[D]`` rad, with torque.

        Raises:
            ValueError: no numbers; nothing could be compared to them.
        """
        if not np.isfinite(q).all():
            raise ValueError(f"held at {q}")
        self.mode, self.away, self._new = Mode.HOLDING, 0.0, False
        self._begin(np.array(q, dtype=float))

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
        if not self._pulls():
            return False
        self.look(now)
        self._heard = now
        if self.mode is Mode.HOLDING:
            self.away = float(np.abs(q - self.written).max())
            if not self.away <= self._takeover:  # nor is a NaN
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
        if not self._pulls():
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
        reach = self._velocity * min(self._over, self._earned(now))
        ahead = self._wanted - self.written
        # From wherever between the two the servos are.
        room = np.where(
            ahead > 0, self._low + reach - self.written, self.written - self._high + reach
        )
        room, way = np.maximum(room, 0.0), np.abs(ahead)
        far = way > room + 1e-6 * reach  # rounding
        if not far.any():
            return self._wanted
        # All joints by the same share: the arm stays on the line between the two.
        self.limited += 1
        return self.written + ahead * (room[far] / way[far]).min()

    def wrote(self, now: float, q: np.ndarray) -> None:
        """``q`` is on its way to the servos."""
        self._credit = max(0.0, self._earned(now) - self._seconds(q))
        self.written, self._wrote, self._new = q, now, False
        self._low, self._high = np.minimum(self._low, q), np.maximum(self._high, q)
        self._under_way += 1

    @property
    def unsure(self) -> bool:
        """Whether the servos are to be asked what they have."""
        return self._pulls() and bool((self._high - self._low > self._resolution).any())

    def got(self, q: np.ndarray) -> None:
        """The servos say that they have been told ``q`` ``[D]`` rad. What is none of those that
        were written is believed when it is said twice; then it is held."""
        if not self._pulls():
            return
        if ((q < self._low - self._resolution) | (q > self._high + self._resolution)).any():
            if self._odd is not None and self._near(q, self._odd).all():
                self.hold(q)
            else:
                self._odd = q
            return
        before, wrote, credit = self._sure
        arrived, stayed = self._near(q, self.written), self._near(q, before)
        if not arrived.all():
            self.lost += 1
            # Nothing of it, for certain: it may be written again at once.
            if self._under_way == 1 and (stayed & ~(arrived & (self.written != before))).all():
                self._wrote, self._credit = wrote, credit
            self.written = np.where(arrived, self.written, np.where(stayed, before, q))
        self._settle()

    def apart(self, q: np.ndarray, goals: np.ndarray | None = None) -> np.ndarray:
        """``[D]`` joints that are, at ``q`` ``[D]`` rad, further from what was written (or from
        ``goals``) than set-points may take them over from."""
        return np.abs(q - (self.written if goals is None else goals)) > self._takeover

    def place(self, q: np.ndarray, which: np.ndarray) -> None:
        """The joints ``which`` (``[D]``, bool) have given way and are held at ``q`` ``[D]`` rad; of
        the others what was known stays so, and nothing is followed for now."""
        self.written, self._low, self._high, before = (
            np.where(which, q, x) for x in (self.written, self._low, self._high, self._sure[0])
        )
        self._sure = (before, *self._sure[1:])
        self._wanted, self._new, self._odd = self.written, False, None
        if self._pulls():
            self.mode, self.away = Mode.HOLDING, 0.0

    def _pulls(self) -> bool:
        return self.mode in (Mode.HOLDING, Mode.FOLLOWING)

    def _near(self, q: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.abs(q - other) <= self._resolution

    def _seconds(self, q: np.ndarray) -> float:
        """That the arm needs at least to ``q``, from wherever it may have been sent."""
        return float((np.maximum(q - self._low, self._high - q) / self._velocity).max())

    def _earned(self, now: float) -> float:
        """Seconds of motion that may be written now: those that have gone by and were not used,
        kept only for as long as set-points are late."""
        return min(self._credit + max(0.0, now - self._wrote), self._over + _LATE)
