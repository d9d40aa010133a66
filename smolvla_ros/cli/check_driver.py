"""What a cell says of a real arm's driver, as far as can be seen without the arm."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping

from smolvla_ros.arm.errors import ArmError
from smolvla_ros.cell import ArmConfig, Cell, load_limits
from smolvla_ros.finding import Finding, problem
from smolvla_ros.robot import RobotModel
from smolvla_ros.schema import ConfigError

_ROUNDING = 2e-3  # rad: an encoder's tick, and a bit


def examine_driver(cell: Cell, robot: RobotModel) -> list[Finding]:
    """What is to be said of the section ``arm``: nothing where there is none."""
    if cell.arm is None:
        return []
    if importlib.util.find_spec("lerobot") is None:
        text = f"{cell.arm.type}: was not looked at: LeRobot is not installed here"
        return [Finding("warning", "arm", text, "pip install 'smolvla_ros[arm]'")]
    where = f"{cell.path}: arm"
    try:
        return [*_driver(cell.arm, cell, robot, where)]
    except ConfigError as error:
        return [problem(line, cell.path) for line in error.problems]
    except ArmError as error:
        return [problem(f"arm.calibration: {line}", cell.path) for line in error.problems]


def _driver(config: ArmConfig, cell: Cell, robot: RobotModel, where: str) -> Iterator[Finding]:
    from smolvla_ros.arm.lerobot import make_arm

    arm = make_arm(config, robot, where)
    port = config.options.get("port")
    there = f" on {port}" if port else ""
    yield Finding("ok", "arm", f"{config.type} {config.options['id']}{there}, {config.rate:g} Hz")
    reach = arm.reach()
    if reach:
        yield Finding("ok", "arm.calibration", str(arm.robot.calibration_fpath))
    if cell.safety_monitor is not None:
        try:
            limits = load_limits(cell.safety_monitor, robot, cell.path)
        except ConfigError:
            return  # has been said of the gate
        ranges = {n: (limits.lower[i], limits.upper[i]) for i, n in enumerate(robot.names)}
        yield from _narrower(reach, ranges)


def _narrower(
    reach: Mapping[str, tuple[float, float]], ranges: Mapping[str, tuple[float, float]]
) -> Iterator[Finding]:
    """Joints that the gate lets go further than their motors do, which then stay behind: the
    gate stops the arm for it."""
    for name, (low, high) in reach.items():
        lower, upper = ranges[name]
        ends = {}
        if lower < low - _ROUNDING:
            ends["lower"] = low
        if upper > high + _ROUNDING:
            ends["upper"] = high
        if ends:
            write = ", ".join(f"{end}: {value:.3f}" for end, value in ends.items())
            yield Finding(
                "warning", f"limits.{name}",
                f"the gate lets it go {lower:.3f} .. {upper:.3f} rad, its motor is calibrated for "
                f"{low:.3f} .. {high:.3f} rad and stays behind there",
                f"limits.joints.{name}: {{{write}}}, or calibrate again",
            )  # fmt: skip
