"""What a cell says of its cameras and its teleoperator, as far as can be seen without them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from smolvla_ros.cell import Cell, beside, load_teleop_joints
from smolvla_ros.finding import Finding, problem
from smolvla_ros.robot import RobotModel
from smolvla_ros.schema import ConfigError

_TOPIC = "teleop/joint_states"


def examine_devices(cell: Cell, robot: RobotModel) -> list[Finding]:
    """What is to be said of the sections ``camera`` and ``teleop``: nothing where there is none."""
    names = [n for n in ("camera", "teleop") if getattr(cell, n) is not None]
    if not names:
        return []
    if importlib.util.find_spec("lerobot") is None:
        text = "was not looked at: LeRobot is not installed here"
        return [Finding("warning", n, text, "pip install 'smolvla_ros[policy]'") for n in names]
    found = [] if cell.camera is None else [*_cameras(cell)]
    return found if cell.teleop is None else [*found, *_teleop(cell, robot)]


def _cameras(cell: Cell) -> Iterator[Finding]:
    from smolvla_ros.arm.camera import LerobotCamera

    for name, config in cell.camera.cameras.items():
        key = f"camera.cameras.{name}"
        try:
            LerobotCamera(config.type, config.options, f"{cell.path}: {key}", config.timeout)
            if config.calibration and importlib.util.find_spec("sensor_msgs") is not None:
                from smolvla_ros.ros.camera_info import read_camera_info

                read_camera_info(beside(cell.path, config.calibration))
        except ConfigError as error:
            for line in error.problems:
                told = line if key in line else f"{key}.calibration: {line}"
                yield problem(told, cell.path)
        else:
            calibrated = config.calibration or "not calibrated"
            yield Finding("ok", key, f"{config.type}, {calibrated}, on {name}/image_raw")


def _teleop(cell: Cell, robot: RobotModel) -> Iterator[Finding]:
    from smolvla_ros.arm.teleoperator import LerobotTeleoperator

    config = cell.teleop
    try:
        load_teleop_joints(config, robot, cell.path)
        LerobotTeleoperator(config.type, config.options, f"{cell.path}: teleop")
    except ConfigError as error:
        yield from (problem(line, cell.path) for line in error.problems)
        return
    yield Finding("ok", "teleop", f"{config.type}, on {_TOPIC}")
    monitor = cell.safety_monitor
    if monitor is not None and not any(
        s.type == "JointState" and s.topic.rstrip("/").endswith(_TOPIC)
        for s in monitor.sources.values()
    ):
        yield Finding(
            "warning", "teleop", f"no source of the safety monitor hears {_TOPIC}",
            f"sources.teleop: {{topic: {_TOPIC}, type: JointState, priority: 10, timeout: 0.3}}, "
            "unless it is remapped",
        )  # fmt: skip
