"""An SO-101 from the box on an emulated bus: LeRobot's own commands, then our driver."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cells import ROOT, tabletop
from feetech_bus import (
    BROADCAST,
    ID,
    OFFSET,
    PING,
    POSITION,
    TICKS,
    FeetechBus,
    Servo,
    Still,
    signed,
)
from feetech_bus import packet as whole

from smolvla_ros.cell import load_cell

for name in ("lerobot", "scservo_sdk", "serial"):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"needs {name}: pip install 'smolvla_ros[arm]'", allow_module_level=True)

FACTORY_ID = 1
MOUNTED = (2310, 1890, 2455, 1744, 3001, 2120)  # what the encoders show at the URDF's zero


class FromTheBox(Servo):
    """A servo that nobody has calibrated: its offset counts, and so does a new id."""

    def show(self, position: float, velocity: float) -> None:
        super().show(position, velocity)
        ticks = self.zero + round(position * TICKS) - signed(self.get(OFFSET, 2), 11)
        self.put(POSITION, 2, ticks % 4096)

    def write(self, address: int, data: bytes) -> None:
        super().write(address, data)
        self.id = self.registers[ID]


class Bus(FeetechBus):
    """Answers a broadcast ping, too, as the search for a motor's id begins with one."""

    def _obey(self, identity: int, instruction: int, parameters: bytes) -> bytes:
        if (identity, instruction) == (BROADCAST, PING):
            return b"".join(whole(s.id, bytes([s.status])) for s in self.servos)
        return super()._obey(identity, instruction, parameters)


class Command:
    """One of LeRobot's commands, and the person in front of it."""

    def __init__(self, name: str, *words: str):
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"lerobot.scripts.{name}", *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        os.set_blocking(self._process.stdout.fileno(), False)
        self.said = ""

    def asks(self, words: str, times: int = 1) -> None:
        """Wait until it has said this."""
        self._until(lambda: self.said.count(words) >= times, words)

    def enter(self) -> None:
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def ends(self) -> None:
        self._until(lambda: self._process.poll() is not None, "the end")
        assert self._process.returncode == 0, self.said[-2000:]
        self._process.stdin.close()
        self._process.stdout.close()

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + 120
        while True:
            self.said += (self._process.stdout.read() or b"").decode(errors="replace")
            if condition():
                return
            in_vain = self._process.poll() is not None or time.monotonic() > until
            assert not in_vain, f"not said: {what}: {self.said[-2000:]}"
            time.sleep(0.02)


@pytest.fixture
def arm(tmp_path):
    """The bus, its arm in somebody's hand, and what LeRobot's commands are told of it."""
    _, robot = tabletop()
    plant = Still(robot.names, np.zeros(robot.dof))
    servos = [FromTheBox(FACTORY_ID, j, z) for j, z in zip(robot.names, MOUNTED, strict=True)]
    with Bus(tmp_path / "ttyARM", plant, servos) as bus:
        words = ["--robot.type=so101_follower", f"--robot.port={bus.port}"]
        yield bus, robot, words


def calibrate(bus: FeetechBus, robot, words: list[str], folder: Path) -> None:
    """As the page says: at the URDF's zero, then each joint from end to end."""
    words = [*words, "--robot.id=my_arm", f"--robot.calibration_dir={folder}"]
    command = Command("lerobot_calibrate", *words)
    command.asks("middle of its range")
    bus.plant.q[:] = 0.0
    command.enter()
    command.asks("Press ENTER to stop")
    for i, name in enumerate(robot.names):
        if name == "wrist_roll":  # LeRobot gives it the whole turn
            continue
        for end in (robot.lower[i], robot.upper[i], 0.0):
            bus.plant.q[i] = end
            seen = bus.counts["instructions"] + 3
            while bus.counts["instructions"] < seen:
                time.sleep(0.005)
    command.enter()
    command.ends()


def test_what_lerobot_sets_up_and_calibrates_our_driver_reads_as_it_is(arm, tmp_path) -> None:
    from smolvla_ros.arm.lerobot import LeRobotArm, make_robot

    bus, robot, words = arm
    everything = list(bus.servos)
    command = Command("lerobot_setup_motors", *words)
    for servo in reversed(everything):
        command.asks(f"'{servo.joint}' motor only")
        bus.servos[:] = [servo]
        command.enter()
    command.ends()
    assert [s.id for s in everything] == [1, 2, 3, 4, 5, 6]
    bus.servos[:] = everything
    calibrate(bus, robot, words, tmp_path / "calibration")
    section = load_cell(ROOT / "config" / "so101.yaml").arm
    options = {
        "port": str(bus.port),
        "id": "my_arm",
        "calibration_dir": str(tmp_path / "calibration"),
    }
    lerobot = make_robot(section.type, section.options | options, "arm")
    driver = LeRobotArm(robot, lerobot, section.units(), section.motors(), "arm", 6, reply=0.3)
    driver.connect()
    # LeRobot's zero is the middle of the range that was swept, or where the arm was held.
    middle = np.where(np.array(robot.names) == "wrist_roll", 0.0, (robot.lower + robot.upper) / 2)
    middle[robot.names.index("gripper")] = 0.0  # percent of the range count from its end
    for q in (robot.pose("ready"), np.array([0.4, 0.3, -0.6, 0.8, 1.1, 0.9])):
        bus.plant.q[:] = q
        np.testing.assert_allclose(driver.read()[0], q - middle, atol=3 / TICKS)
    driver.close()
    assert not bus.goals, "nobody has moved it"
