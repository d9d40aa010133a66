"""Between a policy's joint units and order and the URDF's.

LeRobot's SO-101 speaks degrees about the calibrated mid-range and a gripper from 0
(closed) to 100 (open); ROS speaks radians about the URDF's zero. Per joint the way
across is ``q = sign * scale * p + offset`` with ``scale`` in radians per policy unit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

UNITS = ("degrees", "radians", "percent")


@dataclass(frozen=True)
class JointUnit:
    """How a policy writes one joint.

    Attributes:
        joint: the URDF's joint name.
        unit: ``degrees``, ``radians`` (metres for a prismatic joint), or ``percent`` of
            the range between the URDF's limits (0 at lower, 100 at upper; with
            ``sign=-1`` 0 at upper, 100 at lower).
        sign: +1 or -1, the policy's positive direction seen from the URDF.
        offset: radians (metres) added after scaling; where the policy's zero lies.
    """

    joint: str
    unit: Literal["degrees", "radians", "percent"] = "radians"
    sign: int = 1
    offset: float = 0.0

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(f"{self.joint}: unit {self.unit!r}; write one of {', '.join(UNITS)}")
        if self.sign not in (1, -1):
            raise ValueError(f"{self.joint}: sign {self.sign}; write 1 or -1")


class JointMap:
    """Maps vectors in a policy's order and units to the URDF's names, in radians.

    Args:
        units: one entry a joint, in the policy's order.
        limits: joint name → (lower, upper) in radians or metres; read for ``percent``.

    Raises:
        ValueError: a joint named twice, or ``percent`` for a joint without two finite limits.
    """

    def __init__(self, units: list[JointUnit], limits: dict[str, tuple[float, float]]):
        self.names = tuple(u.joint for u in units)
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"joint_map names a joint twice: {', '.join(self.names)}")
        scale, offset = [], []
        for u in units:
            if u.unit == "percent":
                lower, upper = limits.get(u.joint, (-math.inf, math.inf))
                if not (math.isfinite(lower) and math.isfinite(upper)):
                    raise ValueError(f"{u.joint}: percent needs a lower and an upper limit")
                scale.append(u.sign * (upper - lower) / 100.0)
                offset.append((lower if u.sign > 0 else upper) + u.offset)
            else:
                scale.append(u.sign * (math.pi / 180.0 if u.unit == "degrees" else 1.0))
                offset.append(u.offset)
        self.scale = np.array(scale)
        self.offset = np.array(offset)

    def to_urdf(self, policy: np.ndarray) -> np.ndarray:
        """``[..., D]`` in policy units and order → radians (metres), same order as ``names``."""
        return np.asarray(policy, dtype=float) * self.scale + self.offset

    def to_policy(self, urdf: np.ndarray) -> np.ndarray:
        """``[..., D]`` radians (metres) in the order of ``names`` → policy units."""
        return (np.asarray(urdf, dtype=float) - self.offset) / self.scale
