"""Joint limits: the tightest of every source, each with the name of where it came from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from smolvla_ros.robot import RobotModel
from smolvla_ros.robot.report import placeholder, too_fast
from smolvla_ros.robot.urdf import Mimic
from smolvla_ros.schema import ConfigError, key

_SIZES = ("velocity", "acceleration", "jerk")


@dataclass(frozen=True, kw_only=True)
class JointLimit:
    """Limits given for one joint, on top of the URDF's. The tighter one counts."""

    lower: float | None = key(None, doc="rad (m): never below this")
    upper: float | None = key(None, doc="rad (m): never above this")
    velocity: float | None = key(None, doc="rad/s (m/s)", above=0.0)
    acceleration: float | None = key(None, doc="rad/s² (m/s²)", above=0.0)
    jerk: float | None = key(None, doc="rad/s³ (m/s³); absent: no limit", above=0.0)


@dataclass(frozen=True)
class MoveItLimits:
    """What a ``joint_limits.yaml`` says.

    Attributes:
        source: the file's name, for messages. joints: joint name → limits.
        notes: what the file holds that does not count.
    """

    source: str
    joints: Mapping[str, JointLimit]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limits:
    """Effective limits, ``[D]`` each, in the robot's joint order; radians, seconds.

    ``jerk`` is infinite where nobody gave one. ``sources``: ``<joint>.<attribute>`` → who
    gave the value that counts. ``notes``: where sources disagree, and what a person should
    look at.
    """

    lower: np.ndarray
    upper: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray
    jerk: np.ndarray
    sources: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def effective_limits(
    robot: RobotModel,
    every: JointLimit,
    joints: Mapping[str, JointLimit],
    position_margin: float = 0.0,
    moveit: MoveItLimits | None = None,
) -> Limits:
    """The tightest of the URDF, MoveIt's file, and the cell's limits for all and for one.

    Args:
        every: limits that hold for each joint (velocity and acceleration, mostly).
        joints: joint name → further limits.
        position_margin: rad (m) kept from both position limits. Added inward, never a
            factor: a range that does not straddle zero would grow.
        moveit: what :func:`safety.moveit.read_joint_limits` found. A joint in it that the
            URDF lacks is noted; one that mimics limits the joint it follows.

    Raises:
        ConfigError: an unknown joint, a velocity or acceleration that nobody gave, a value
            that is no limit, or a range that is empty. An acceleration limit is asked for,
            never guessed.
    """
    problems = [
        f"limits.joints.{name}: {_whose(robot, name)}" for name in joints if name not in robot.names
    ]
    notes: list[str] = []
    by_file: dict[str, list[tuple[str, JointLimit]]] = {}
    if moveit is not None:
        notes += moveit.notes
        by_file = _of_masters(robot, moveit, notes)
    found: dict[str, list[float]] = {a: [] for a in ("lower", "upper", *_SIZES)}
    sources: dict[str, str] = {}
    for i, name in enumerate(robot.names):
        given = [
            ("URDF", _of_urdf(robot, i)),
            *by_file.get(name, ()),
            (f"limits.joints.{name}", joints.get(name, JointLimit())),
            ("limits.every_joint", every),
        ]
        for attribute, values in found.items():
            known = _known(given, name, attribute, problems)
            if known:
                pick = max if attribute == "lower" else min
                where, value = pick(known, key=lambda k: k[1])
                sources[f"{name}.{attribute}"] = where
                values.append(value)
                notes += _disagreements(name, attribute, known, where, value)
            elif attribute == "jerk":
                values.append(math.inf)
            else:
                problems.append(
                    f"limits.joints.{name}.{attribute}: nobody gave it; write it there or in "
                    f"limits.every_joint.{attribute}"
                )
                values.append(math.nan)
        found["lower"][-1] += position_margin
        found["upper"][-1] -= position_margin
        lower, upper = found["lower"][-1], found["upper"][-1]
        if not lower < upper:
            problems.append(
                f"limits.joints.{name}: nothing left between {lower:.4g} and {upper:.4g}; "
                "widen them or make limits.position_margin smaller"
            )
    if problems:
        raise ConfigError(problems)
    if all(sources[f"{name}.velocity"] == "URDF" for name in robot.names):
        notes += placeholder(robot, "velocity", "rad/s (m/s)")
    notes += [
        line for name, line in too_fast(robot).items() if sources[f"{name}.velocity"] == "URDF"
    ]
    arrays = {attribute: np.array(values) for attribute, values in found.items()}
    return Limits(**arrays, sources=sources, notes=notes)


def _whose(robot: RobotModel, name: str) -> str:
    if name in robot.mimics:
        return f"mimics {robot.mimics[name].joint}; limit that joint"
    return f"no such joint; the URDF has: {', '.join(robot.names)}"


def _of_urdf(robot: RobotModel, i: int) -> JointLimit:
    # Infinity means that the URDF's author left it out.
    velocity = float(robot.velocity[i])
    return JointLimit(
        lower=float(robot.lower[i]),
        upper=float(robot.upper[i]),
        velocity=velocity if math.isfinite(velocity) else None,
    )


def _of_masters(
    robot: RobotModel, moveit: MoveItLimits, notes: list[str]
) -> dict[str, list[tuple[str, JointLimit]]]:
    """Joint name → the file's limits for it and for the joints that mimic it."""
    found: dict[str, list[tuple[str, JointLimit]]] = {}
    for name, limit in moveit.joints.items():
        if name in robot.names:
            found.setdefault(name, []).append((moveit.source, limit))
        elif name in robot.mimics:
            mimic = robot.mimics[name]
            where = f"{moveit.source} ({name})"
            found.setdefault(mimic.joint, []).append((where, _through(mimic, limit)))
        else:
            notes.append(f"{moveit.source}: {name} is no joint of the URDF")
    return found


def _through(mimic: Mimic, limit: JointLimit) -> JointLimit:
    """A mimic joint's limits as limits of the joint it follows."""
    k = mimic.multiplier
    if k == 0.0:
        return JointLimit()
    ends = [None if v is None else (v - mimic.offset) / k for v in (limit.lower, limit.upper)]
    lower, upper = ends if k > 0.0 else ends[::-1]
    sizes = {a: getattr(limit, a) for a in _SIZES}
    return replace(
        limit,
        lower=lower,
        upper=upper,
        **{a: None if v is None else v / abs(k) for a, v in sizes.items()},
    )


def _known(
    given: list[tuple[str, JointLimit]], joint: str, attribute: str, problems: list[str]
) -> list[tuple[str, float]]:
    """Who gave a value, and which; what is no limit goes to ``problems``."""
    known = [(w, v) for w, x in given if (v := getattr(x, attribute)) is not None]
    for where, value in known:
        if math.isnan(value) or (attribute in _SIZES and not 0.0 < value < math.inf):
            problems.append(
                f"limits.joints.{joint}.{attribute}: {where} says {value:g}, which is no limit"
            )
    return known


def _disagreements(
    joint: str, attribute: str, known: list[tuple[str, float]], where: str, value: float
) -> list[str]:
    """Descriptions that contradict each other, and a joint's own limit that has no effect.

    That ``every_joint`` is looser or tighter than others is what it is for.
    """
    notes = []
    for other, theirs in known:
        if other in ("limits.every_joint", where) or theirs == value:
            continue
        if math.isinf(theirs) or (where.startswith("limits.") and not other.startswith("limits.")):
            continue  # the cell was meant to be tighter than a description
        notes.append(
            f"{attribute} of {joint}: {other} {theirs:.6g}, {where} {value:.6g}: the tighter counts"
        )
    return notes
