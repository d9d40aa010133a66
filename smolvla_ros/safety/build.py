"""A gate from a cell's safety_monitor section."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from smolvla_ros.robot import RobotModel
from smolvla_ros.safety.clearance import Clearance
from smolvla_ros.safety.gate import Gate, GateSettings
from smolvla_ros.safety.limits import effective_limits
from smolvla_ros.schema import ConfigError

if TYPE_CHECKING:
    from smolvla_ros.cell import MonitorConfig


def build_gate(robot: RobotModel, config: MonitorConfig) -> Gate:
    """The gate of a cell.

    Raises:
        ConfigError: limits or zones that do not fit the robot; keys without file name.
    """
    problems: list[str] = []
    limits = clearance = None
    try:
        limits = effective_limits(
            robot, config.limits.every_joint, config.limits.joints, config.limits.position_margin
        )
    except ConfigError as error:
        problems += error.problems
    try:
        clearance = Clearance(robot, config.zones, config.margin, config.slack)
    except ConfigError as error:
        problems += error.problems
    if problems or limits is None or clearance is None:
        raise ConfigError(problems)
    # The rest of the section carries the settings' own names.
    names = {f.name for f in fields(GateSettings)} - {"dt"}
    settings = GateSettings(dt=1.0 / config.rate, **{n: getattr(config, n) for n in names})
    return Gate(limits, clearance, settings)
