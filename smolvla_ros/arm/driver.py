"""What every arm can do."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class ArmDriver(Protocol):
    """One arm, in radians (metres) and the URDF's joint names.

    A driver is used by one thread at a time: whoever owns it sees to that. It carries out
    set-points; whether they are safe was decided before.
    """

    names: tuple[str, ...]
    """``D`` joints, the order of every vector."""

    def read(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``[D]`` positions (rad), velocities (rad/s) and efforts (N.m), as measured now."""

    def write(self, positions: np.ndarray, over: float) -> None:
        """Go to ``positions`` ``[D]`` rad within about ``over`` seconds, then hold them."""
