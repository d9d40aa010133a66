"""The action chunk: the one word that policy, gate and messages share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ActionChunk:
    """A short piece of proposed motion.

    Attributes:
        stamp: time in seconds at which the observation was taken that this motion
            answers. Which clock is the holder's business: ROS time in messages, the
            gate's steady clock inside the gate.
        dt: seconds between rows; row ``k`` is meant for ``stamp + k * dt``.
        names: ``D`` joint names, in the order of the columns.
        positions: ``[N, D]`` joint positions in radians (metres for prismatic joints).
    """

    stamp: float
    dt: float
    names: tuple[str, ...]
    positions: np.ndarray

    def __post_init__(self) -> None:
        if self.positions.ndim != 2 or self.positions.shape[1] != len(self.names):
            raise ValueError(
                f"positions have shape {self.positions.shape}; {len(self.names)} joints need "
                f"[N, {len(self.names)}]"
            )
        if not self.dt > 0:
            raise ValueError(f"dt is {self.dt}; rows need a positive spacing in seconds")
