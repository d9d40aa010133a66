"""The tightest of what URDF, joint_limits.yaml and cell say of each joint."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from oracle.geometry import Kinematics


@dataclass(frozen=True)
class Bounds:
    """``[D]`` each; radians (metres), seconds. ``jerk`` is infinite where nobody set it."""

    lower: np.ndarray
    upper: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray
    jerk: np.ndarray


class _Loader(yaml.SafeLoader):
    """MoveIt's files may carry a tag for degrees."""


_Loader.add_constructor("!degrees", lambda loader, node: math.radians(float(node.value)))
_Loader.add_constructor("!radians", lambda loader, node: float(node.value))


def read_moveit(path: Path) -> dict[str, dict]:
    """Joint -> lower, upper, velocity, acceleration, jerk where the file sets them."""
    named = {
        "lower": ("has_position_limits", "min_position"),
        "upper": ("has_position_limits", "max_position"),
        "velocity": ("has_velocity_limits", "max_velocity"),
        "acceleration": ("has_acceleration_limits", "max_acceleration"),
        "jerk": ("has_jerk_limits", "max_jerk"),
    }
    joints = yaml.load(Path(path).read_text(), _Loader)["joint_limits"]
    return {
        joint: {k: float(e[v]) for k, (has, v) in named.items() if e.get(has) and v in e}
        for joint, e in joints.items()
    }


def bounds_of(kinematics: Kinematics, given: dict, moveit: Path | None = None) -> Bounds:
    """Effective limits of the joints that can be commanded, mimic joints folded in.

    given: ``limits`` as in a cell file (every_joint, joints, position_margin).
    """
    from_file = read_moveit(moveit) if moveit else {}
    every = given.get("every_joint") or {}
    inward = given.get("position_margin", 0.0)
    rows = []
    for joint in kinematics.joints:
        sources = [every, (given.get("joints") or {}).get(joint.name, {}),
                   from_file.get(joint.name, {})]  # fmt: skip
        lower = [joint.lower] + [s["lower"] for s in sources if "lower" in s]
        upper = [joint.upper] + [s["upper"] for s in sources if "upper" in s]
        speed = [joint.velocity] + [s["velocity"] for s in sources if "velocity" in s]
        force = [s["acceleration"] for s in sources if "acceleration" in s]
        jerk = [s["jerk"] for s in sources if "jerk" in s]
        for mimic, column, times, plus in kinematics.mimics:
            if kinematics.joints[column] is joint and times:
                ends = sorted(((mimic.lower - plus) / times, (mimic.upper - plus) / times))
                lower.append(ends[0])
                upper.append(ends[1])
                speed.append(mimic.velocity / abs(times))
        rows.append((max(lower) + inward, min(upper) - inward, min(speed), min(force),
                     min(jerk, default=math.inf)))  # fmt: skip
    return Bounds(*np.array(rows, dtype=float).reshape(-1, 5).T)
