"""When a person has the arm by a teleoperator: asked for, taken where it is near, given back."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import numpy as np


class State(enum.Enum):
    """Of a teleoperator."""

    PAUSED = "paused"
    WAITING = "waiting"
    LEADING = "leading"


class Leading:
    """Nothing leaves before somebody asks; then the leader must be near the arm, and what
    leaves begins where the arm is and goes over to the leader. After it was lost, somebody
    has to ask again.

    Args:
        names: the ``D`` joints. tolerance: rad (m) from the arm within which it takes over.
        blend: seconds over which the arm goes over to the leader.
    """

    def __init__(self, names: Sequence[str], tolerance: float, blend: float):
        self._names, self._tolerance, self._blend = tuple(names), tolerance, blend
        self.state = State.PAUSED
        self.reason = ""
        """Why it is not leading, for people."""
        self._offset = np.zeros(len(self._names))
        self._since = 0.0

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
            now: any steady seconds. leader: ``[D]`` rad. measured: ``[D]`` rad of the arm; None
                where that is not known.
        """
        if self.state is State.WAITING:
            self._try(now, leader, measured)
        if self.state is not State.LEADING:
            return None
        left = max(0.0, 1.0 - (now - self._since) / self._blend)
        return leader + left * self._offset

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
        self._offset, self._since = offset, now
