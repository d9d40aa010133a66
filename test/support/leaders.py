"""Teleoperators for tests: LeRobot's leader on the emulated bus."""

from __future__ import annotations

import contextlib

import pytest
from feetech_bus import FeetechBus, Still, so101_servos, write_calibration


def joint_map(robot):
    return {n: {"unit": "percent" if n == "gripper" else "degrees"} for n in robot.names}


@contextlib.contextmanager
def leader_bus(folder, robot):
    """LeRobot's SO-101 leader: six servos without torque on a pseudo-terminal."""
    for name in ("scservo_sdk", "serial"):
        pytest.importorskip(name, reason="pip install 'lerobot[feetech]'")
    plant = Still(robot.names, robot.pose("ready"))
    servos, calibration = so101_servos(robot)
    file = write_calibration(folder / "calibration", "mine", calibration)
    with FeetechBus(folder / "ttyLEADER", plant, servos) as bus:
        yield (
            bus,
            plant,
            {"port": str(bus.port), "id": "mine", "calibration_dir": str(file.parent)},
        )
