"""MoveIt's ``joint_limits.yaml``, read strictly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from smolvla_ros.safety.limits import JointLimit, MoveItLimits
from smolvla_ros.schema import ConfigError, StrictLoader, read_yaml

# MoveIt's key → whether it says that a limit holds, or how large it is.
_SWITCHES = {
    "has_position_limits": ("min_position", "max_position"),
    "has_velocity_limits": ("max_velocity",),
    "has_acceleration_limits": ("max_acceleration",),
    "has_deceleration_limits": ("max_deceleration",),
    "has_jerk_limits": ("max_jerk",),
}
# Known to MoveIt, and no limit of motion.
_OTHER = ("has_effort_limits", "max_effort", "angle_wraparound", "has_soft_limits",
          "k_position", "k_velocity", "soft_lower_limit", "soft_upper_limit")  # fmt: skip
_VALUES = tuple(value for values in _SWITCHES.values() for value in values)
_SCALING = ("default_velocity_scaling_factor", "default_acceleration_scaling_factor")


class _Loader(StrictLoader):
    """Knows the unit tags of MoveIt's and xacro's files."""


def _radians(loader: _Loader, node: yaml.ScalarNode) -> float:
    try:
        value = float(loader.construct_scalar(node))
    except ValueError as error:
        raise yaml.constructor.ConstructorError(
            None, None, f"{node.tag} stands before no number", node.start_mark
        ) from error
    return math.radians(value) if node.tag == "!degrees" else value


for _tag in ("!degrees", "!radians"):
    _Loader.add_constructor(_tag, _radians)


def read_joint_limits(path: Path) -> MoveItLimits:
    """Read MoveIt's ``joint_limits.yaml``; ``!degrees`` values become radians.

    A limit whose ``has_…`` says false does not count, and loosens nothing: the URDF's
    stays. One without ``has_…`` counts. ``max_deceleration`` counts as acceleration where
    it is the tighter. The default scaling factors are a planner's wishes and no limits.

    Raises:
        ConfigError: no such file, no YAML, a key that MoveIt does not know, or a value
            that is no limit; each line names file, joint and key.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; give the path of MoveIt's joint_limits.yaml")
    document = _unwrapped(read_yaml(path, _Loader))
    table = document.get("joint_limits") if isinstance(document, Mapping) else None
    if not isinstance(table, Mapping):
        raise ConfigError(f"{path}: has no group joint_limits; see MoveIt's joint_limits.yaml")
    notes = [f"{path.name}: {key} does not count" for key in _SCALING if key in document]
    problems: list[str] = []
    joints = {
        str(name): _joint(f"{path.name}: {name}", values, notes, problems)
        for name, values in table.items()
    }
    if problems:
        raise ConfigError([f"{path.parent / p}" for p in problems])
    return MoveItLimits(path.name, joints, tuple(notes))


def _unwrapped(document: Any) -> Any:
    """A file that is written for a node has its groups around MoveIt's."""
    while isinstance(document, Mapping) and "joint_limits" not in document and len(document) == 1:
        (document,) = document.values()
    return document


def _joint(where: str, values: Any, notes: list[str], problems: list[str]) -> JointLimit:
    if not isinstance(values, Mapping):
        problems.append(f"{where}: is {values!r}; write a group of keys")
        return JointLimit()
    found: dict[str, float | None] = {}
    for key, value in values.items():
        if key in _OTHER:
            notes.append(f"{where}.{key} does not count")
        elif key in _SWITCHES:
            if not isinstance(value, bool):
                problems.append(f"{where}.{key}: is {value!r}; write true or false")
        elif key not in _VALUES:
            problems.append(
                f"{where}.{key}: unknown key; known: {', '.join((*_SWITCHES, *_VALUES))}"
            )
    for switch, keys in _SWITCHES.items():
        for key in (k for k in keys if k in values):
            if values.get(switch, True) is False:
                notes.append(f"{where}.{key} does not count: {switch} is false")
            else:
                found[key] = _limit(f"{where}.{key}", values[key], problems)
        if values.get(switch) is True and not any(key in values for key in keys):
            problems.append(f"{where}.{switch}: is true, but there is no {' or '.join(keys)}")
    braking = found.get("max_deceleration")
    forces = [f for f in (found.get("max_acceleration"), braking) if f is not None]
    return JointLimit(
        lower=found.get("min_position"),
        upper=found.get("max_position"),
        velocity=found.get("max_velocity"),
        acceleration=min(forces, default=None),
        jerk=found.get("max_jerk"),
    )


def _limit(where: str, value: Any, problems: list[str]) -> float | None:
    """A finite number; a size is above 0 (MoveIt writes decelerations below it)."""
    number = float(value) if isinstance(value, (int, float)) and value is not True else math.nan
    if where.endswith("max_deceleration"):
        number = abs(number)
    if not math.isfinite(number):
        problems.append(f"{where}: is {value!r}; write a finite number")
        return None
    if not where.endswith("_position") and number <= 0.0:
        problems.append(f"{where}: is {value!r}; write a number above 0")
        return None
    return number
