"""LeRobot's calibration of an arm against what its motors hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import draccus
from lerobot.motors.motors_bus import MotorCalibration

from smolvla_ros.arm.errors import one_line

# By which a motor may stand outside of its range: one that rests at its end sags, and a few ticks
# more are no jump.
_TICKS = 30


def unreadable(path: Path) -> str:
    """Why LeRobot cannot read a calibration file, or nothing."""
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            return f"it holds {json.dumps(found)}, and no motors"
        for name, numbers in found.items():
            if not isinstance(numbers, dict):
                return f"motor {name} is {json.dumps(numbers)}"
        draccus.decode(dict[str, MotorCalibration], found)
    except (draccus.utils.DraccusException, ValueError, TypeError, OSError) as error:
        return one_line(error)
    return ""


def missing(
    path: Path, motors: Mapping[str, MotorCalibration], names: list[str], how: str
) -> list[str]:
    """What a calibration file lacks: a line each.

    Args:
        path: the file. motors: what was read from it; empty without it. names: of the motors
            that must be there. how: the command that makes the file.
    """
    if not motors:
        return [f"{path}: no calibration of this arm; make it with `{how}`"]
    lines = []
    for n in names:
        if n not in motors:
            lines.append(f"{path}: motor {n} is missing; calibrate again: `{how}`")
            continue
        numbers = vars(motors[n])
        if odd := [f"{field}: {v}" for field, v in numbers.items() if not isinstance(v, int)]:
            lines.append(
                f"{path}: motor {n} has {', '.join(odd)}, no whole number; calibrate again: `{how}`"
            )
        elif motors[n].range_min >= motors[n].range_max:
            lines.append(
                f"{path}: motor {n} has the range {motors[n].range_min} to {motors[n].range_max}; "
                f"calibrate again: `{how}`"
            )
    return lines


def differences(
    path: Path,
    file: Mapping[str, MotorCalibration],
    motors: Mapping[str, MotorCalibration],
    also: Sequence[str] = (),
) -> list[str]:
    """Where the motors hold other numbers than the file: one line, or none. Set-points would
    mean other angles than they say. ``also``: further fields that both hold."""
    found = [
        f"{name} {word} {getattr(found, field)}, not {getattr(file[name], field)}"
        for name, found in motors.items()
        for field, word in (
            ("homing_offset", "has offset"),
            ("range_min", "begins at"),
            ("range_max", "ends at"),
            *((field, f"has {field}") for field in also),
        )
        if name in file and getattr(found, field) != getattr(file[name], field)
    ]
    if not found:
        return []
    return [
        f"{path}: is the calibration of another arm, or an old one: the motors say "
        f"{', '.join(found)}; name this arm's id, or calibrate again"
    ]


def outside(file: Mapping[str, MotorCalibration], ticks: Mapping[str, int]) -> list[str]:
    """Motors that stand outside of their range and would go there as soon as they have torque:
    a line each."""
    return [
        f"motor {name} stands at {at}, outside of its calibrated range {file[name].range_min} to "
        f"{file[name].range_max}, and would jump: move it by hand, or calibrate again"
        for name, at in ticks.items()
        if not file[name].range_min - _TICKS <= at <= file[name].range_max + _TICKS
    ]
