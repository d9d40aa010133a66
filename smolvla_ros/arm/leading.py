"""When a person has the arm by a teleoperator: asked for, taken where it is near, given back."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import numpy as np

_TRAILS = 0.5  # s in which the arm may be further from where it is led than it may begin


class State(enum.Enum):
    """Of a teleoperator."""

    PAUSED = "paused"
    WAITING = "waiting"
    LEADING = "leading"


class Leading:
    """Nothing leaves before somebody asks; then the leader must be near the arm, and what
    leaves begins where the arm is and goes over to the leader. After it was lost, or the arm
    did not come along for half a second, somebody has to ask again.

    Args:
        names: the ``D`` joints. tolerance: rad (m) from the arm within which it takes over, and
            stays.
        blend: seconds over which the arm goes over to the leader.
    """

    def __init__(self, names: Sequence[str], tolerance: float, blend: float):
        self._names, self._tolerance, self._blend = tuple(names), tolerance, blend
        self.state = State.PAUSED
        self.reason = ""
        """Why it is not leading, for people."""
        self._offset = np.zeros(len(self._names))
        self._since = self._near = 0.0

    def start(self) -> None:
        """Lead as soon as the leader is near the arm."""
        if self.state is State.PAUSED:
            self.state, self.reason = State.WAITING, ""

    def pause(self, reason: str = "") -> None:
        """Give the arm back."""
        self.state, self.reason = State.PAUSED, reason

    def step(
        self, now: float, leader: np.ndarray, measured: np.ndarray | None
    ) -> np.ndarray | None:
        """``[D]`` rad for the arm, or None: it is not led.

        Args:
            now: steady seconds. leader: ``[D]`` rad. measured: ``[D]`` rad of the arm; None
                where that is not known.
        """
        if self.state is State.WAITING:
            self._try(now, leader, measured)
        if self.state is not State.LEADING:
            return None
        left = max(0.0, 1.0 - (now - self._since) / self._blend)
        row = leader + left * self._offset
        if measured is not None and np.abs(row - measured).max() <= self._tolerance:
            self._near = now
        elif now - self._near > _TRAILS:
            # It was stopped, or somebody else has it: it must not go to the leader from afar
            # when it is let go.
            self.pause(
                "no fresh joint states of the arm"
                if measured is None
                else "the arm does not follow; bring the leader back to it, then start again"
            )
            return None
        return row

    def _try(self, now: float, leader: np.ndarray, measured: np.ndarray | None) -> None:
        if measured is None:
            self.reason = "no fresh joint states of the arm"
            return
        offset = measured - leader
        far = [
            f"{name} {-d:+.2f}"
            for name, d in zip(self._names, offset, strict=True)
            if abs(d) > self._tolerance
        ]
        if far:
            self.reason = (
                f"bring the leader within {self._tolerance:g} rad of the arm: {', '.join(far)} rad"
            )
            return
        self.state, self.reason = State.LEADING, ""
        self._offset, self._since, self._near = offset, now, now
