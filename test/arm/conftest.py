"""An emulated SO-101 on a pseudo-terminal, and LeRobot's own driver on it."""

from __future__ import annotations

import importlib.util

import pytest
from cells import tabletop
from feetech_bus import FeetechBus, Still, so101_servos, write_calibration

from smolvla_ros.robot import JointUnit

NEEDED = ("lerobot", "scservo_sdk", "serial")


class Bench:
    """One emulated arm, and what a driver for it is made with."""

    def __init__(self, folder):
        _, self.robot = tabletop()
        self.ready = self.robot.pose("ready")
        self.plant = Still(self.robot.names, self.ready)
        servos, self.calibration = so101_servos(self.robot)
        self.bus = FeetechBus(folder / "ttyARM", self.plant, servos)
        self.file = write_calibration(folder / "calibration", "mine", self.calibration)
        self.options = {
            "port": str(self.bus.port),
            "id": "mine",
            "calibration_dir": str(self.file.parent),
        }
        self.units = [
            JointUnit(n, "percent" if n == "gripper" else "degrees") for n in self.robot.names
        ]
        self.motors = {n: n for n in self.robot.names}
        self.kind = "so101_follower"

    # A busy machine may keep the emulator waiting for longer than any servo would.
    def make(self, retries: int = 6, reply: float = 0.3, **options):
        from smolvla_ros.arm.lerobot import LeRobotArm, make_robot

        robot = make_robot(self.kind, self.options | options, "arm")
        return LeRobotArm(
            self.robot, robot, self.units, self.motors, "arm", retries, reply, self.kind
        )


@pytest.fixture
def bench(tmp_path):
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name}: pip install 'smolvla_ros[arm]'")
    made = Bench(tmp_path)
    with made.bus:
        yield made
