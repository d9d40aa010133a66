"""LeRobot's calibration of an arm against what its motors hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

_TICKS = 5  # by which a motor may stand outside of its range


class Calibration(Protocol):
    """LeRobot's ``MotorCalibration``: encoder ticks of one motor."""

    id: int
    homing_offset: int
    range_min: int
    range_max: int


def missing(path: Path, motors: Mapping[str, Calibration], names: list[str], how: str) -> list[str]:
    """What a calibration file lacks: a line each.

    Args:
        path: the file. motors: what was read from it; empty without it. names: of the motors
            that must be there. how: the command that makes the file.
    """
    if not motors:
        return [f"{path}: no calibration of this arm; make it with `{how}`"]
    lines = [f"{path}: motor {n} is missing; calibrate again: `{how}`" for n in names
             if n not in motors]  # fmt: skip
    lines += [
        f"{path}: motor {n} has the range {motors[n].range_min} to {motors[n].range_max}; "
        f"calibrate again: `{how}`"
        for n in names
        if n in motors and motors[n].range_min >= motors[n].range_max
    ]
    return lines


def differences(
    path: Path, file: Mapping[str, Calibration], motors: Mapping[str, Calibration]
) -> list[str]:
    """Where the motors hold other numbers than the file: one line, or none. Set-points would
    mean other angles than they say."""
    found = [
        f"{name} {word} {getattr(found, field)}, not {getattr(file[name], field)}"
        for name, found in motors.items()
        for field, word in (
            ("homing_offset", "has offset"),
            ("range_min", "begins at"),
            ("range_max", "ends at"),
        )
        if name in file and getattr(found, field) != getattr(file[name], field)
    ]
    if not found:
        return []
    return [
        f"{path}: is the calibration of another arm, or an old one: the motors say "
        f"{', '.join(found)}; name this arm's id, or calibrate again"
    ]


def outside(file: Mapping[str, Calibration], ticks: Mapping[str, int]) -> list[str]:
    """Motors that stand outside of their range and would go there as soon as they have torque:
    a line each."""
    return [
        f"motor {name} stands at {at}, outside of its calibrated range {file[name].range_min} to "
        f"{file[name].range_max}, and would jump: move it by hand, or calibrate again"
        for name, at in ticks.items()
        if not file[name].range_min - _TICKS <= at <= file[name].range_max + _TICKS
    ]
