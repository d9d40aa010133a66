"""Clocks, and durations of a loop kept without growing."""

from __future__ import annotations

import numpy as np
from rclpy.clock import Clock
from rclpy.clock_type import ClockType


def steady_clock() -> Clock:
    """A clock for timers: a node's own one stands still with simulated time."""
    return Clock(clock_type=ClockType.STEADY_TIME)


class Durations:
    """The newest 16,384 durations in seconds. One thread adds, any may read."""

    def __init__(self) -> None:
        self._ring = np.zeros(1 << 14)
        self._worst = 0.0
        self.count = 0

    def add(self, seconds: float) -> None:
        """Keep one."""
        self._ring[self.count & 0x3FFF] = seconds
        self._worst = max(self._worst, seconds)
        self.count += 1

    def clear(self) -> None:
        """Begin anew."""
        self.count, self._worst = 0, 0.0

    def summary(self) -> dict[str, float]:
        """p50 and p99 of what is kept, and max of all, in seconds; empty before the first."""
        n = min(self.count, len(self._ring))
        if not n:
            return {}
        p50, p99 = np.percentile(self._ring[:n], [50, 99])
        return {"p50": float(p50), "p99": float(p99), "max": self._worst}
