"""An emulated SO-101 on a pseudo-terminal, and LeRobot's own driver on it."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

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

    def plain(self):
        """An arm without a serial bus, and LeRobot's robot behind it."""
        from smolvla_ros.arm.lerobot import LeRobotArm

        robot = Plain(self)
        names = {n: n for n in self.robot.names}
        return LeRobotArm(self.robot, robot, self.units, names, "arm", kind="puppet"), robot


class Plain:
    """As much of a robot of LeRobot's as an arm without a serial bus needs: it sags by ``sag``
    degrees from where it is sent."""

    name, is_calibrated, is_connected, sag = "plain", True, False, 0.0

    def __init__(self, bench):
        self.action_features = {f"{n}.pos": float for n in bench.robot.names}
        self.calibration_fpath = bench.file.parent / "plain.json"
        self.config = SimpleNamespace(type="plain", id="mine")
        self.seen = dict.fromkeys(self.action_features, 0.0)
        self.connections = 0

    def connect(self, calibrate):
        self.is_connected = True
        self.connections += 1

    def disconnect(self):
        self.is_connected = False

    def get_observation(self):
        return self.seen

    def send_action(self, action):
        self.seen = {k: v - self.sag for k, v in action.items()}
        return action


@pytest.fixture
def bench(tmp_path):
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name}: pip install 'smolvla_ros[arm]'")
    made = Bench(tmp_path)
    with made.bus:
        yield made
