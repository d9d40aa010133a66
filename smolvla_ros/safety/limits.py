"""Joint limits: the tightest of every source, each with the name of where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from smolvla_ros.robot import RobotModel
from smolvla_ros.schema import ConfigError, key


@dataclass(frozen=True, kw_only=True)
class JointLimit:
    """Limits a cell gives for one joint, on top of the URDF's. The tighter one counts."""

    lower: float | None = key(None, doc="rad (m): never below this")
    upper: float | None = key(None, doc="rad (m): never above this")
    velocity: float | None = key(None, doc="rad/s (m/s)", above=0.0)
    acceleration: float | None = key(None, doc="rad/s² (m/s²)", above=0.0)


@dataclass(frozen=True)
class Limits:
    """Effective limits, ``[D]`` each, in the robot's joint order; radians, seconds."""

    lower: np.ndarray
    upper: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray
    sources: dict[str, str] = field(default_factory=dict)


def effective_limits(
    robot: RobotModel,
    every: JointLimit,
    joints: Mapping[str, JointLimit],
    position_margin: float = 0.0,
) -> Limits:
    """The tightest of the URDF, the cell's limits for every joint, and those for one.

    Args:
        every: limits that hold for each joint (velocity and acceleration, mostly).
        joints: joint name → further limits.
        position_margin: rad (m) kept from both position limits. Added inward, never a
            factor: a range that does not straddle zero would grow.

    Raises:
        ConfigError: an unknown joint, a velocity or acceleration that nobody gave, or a
            range that is empty. An acceleration limit is asked for, never guessed.
    """
    problems = [
        f"limits.joints.{name}: no such joint; the URDF has: {', '.join(robot.names)}"
        for name in joints
        if name not in robot.names
    ]
    lower, upper, velocity, acceleration = [], [], [], []
    sources: dict[str, str] = {}
    for i, name in enumerate(robot.names):
        own = joints.get(name, JointLimit())
        named = ((f"limits.joints.{name}", own), ("limits.every_joint", every))

        def tightest(attribute: str, urdf: float | None, pick, name=name, named=named):
            found = [("URDF", urdf)] + [(w, getattr(x, attribute)) for w, x in named]
            found = [(w, v) for w, v in found if v is not None]
            if not found:
                problems.append(
                    f"limits.joints.{name}.{attribute}: nobody gave it; write it there or in "
                    f"limits.every_joint.{attribute}"
                )
                return np.nan
            where, value = pick(found, key=lambda f: f[1])
            sources[f"{name}.{attribute}"] = where
            return value

        lower.append(tightest("lower", robot.lower[i], max) + position_margin)
        upper.append(tightest("upper", robot.upper[i], min) - position_margin)
        urdf_velocity = robot.velocity[i]
        # Zero and infinity both mean that the URDF's author left it out.
        known = urdf_velocity if 0 < urdf_velocity < np.inf else None
        velocity.append(tightest("velocity", known, min))
        acceleration.append(tightest("acceleration", None, min))
        if not lower[-1] < upper[-1]:
            problems.append(
                f"limits.joints.{name}: nothing left between {lower[-1]:.4g} and {upper[-1]:.4g}; "
                "widen them or make limits.position_margin smaller"
            )
    if problems:
        raise ConfigError(problems)
    return Limits(
        np.array(lower), np.array(upper), np.array(velocity), np.array(acceleration), sources
    )
