"""A gate from a cell's safety_monitor section."""

from __future__ import annotations

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
    settings = GateSettings(
        dt=1.0 / config.rate,
        command_timeout=config.command_timeout,
        joint_state_timeout=config.joint_state_timeout,
        max_command_age=config.max_command_age,
        tracking_error=config.tracking_error,
        tracking_error_hard=config.tracking_error_hard,
        tracking_time=config.tracking_time,
        future_tolerance=config.future_tolerance,
        blend=config.blend,
        settle=config.settle,
        braking_ratio=config.braking_ratio,
        recovery_ratio=config.recovery_ratio,
        stop_heartbeat=config.stop_heartbeat,
    )
    return Gate(limits, clearance, settings)
