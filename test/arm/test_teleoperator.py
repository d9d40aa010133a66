"""LeRobot's SO-101 leader behind ours, on the emulated bus; and what cannot be a teleoperator."""

from __future__ import annotations

import json
import os
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lerobot", reason="the extra policy is not installed")

from smolvla_ros.arm.devices import Lost
from smolvla_ros.arm.teleoperator import LeaderJoints, LerobotTeleoperator
from smolvla_ros.robot import JointMap
from smolvla_ros.schema import ConfigError


def patiently(action):
    """On a machine that is busy the emulator may answer later than LeRobot waits."""
    until = time.monotonic() + 60.0
    while True:
        try:
            return action()
        except Lost:
            assert time.monotonic() < until


@pytest.fixture
def leader(bench):
    device = LerobotTeleoperator("so101_leader", bench.options, "teleop")
    yield device
    device.close()


def joints_of(bench):
    mapping = JointMap(bench.units, bench.robot.limits_by_name())
    return LeaderJoints(mapping, bench.motors, "teleop")


def test_the_leaders_pose_is_read_in_radians_and_it_is_limp(bench, leader):
    patiently(leader.open)
    joints = joints_of(bench)
    for way in (0.0, 0.2, -0.1):
        bench.plant.q = bench.ready + way
        q = joints.read(patiently(leader.read))
        np.testing.assert_allclose(q, bench.ready + way, atol=2e-3)
    assert not any(bench.bus.torque().values()), "a person moves it"
    assert not bench.bus.goals, "and nothing else does"


def terminals() -> list[str]:
    """Those that this process has open."""
    found = [os.readlink(f) for f in Path("/proc/self/fd").iterdir() if f.is_symlink()]
    return [name for name in found if name.startswith("/dev/pts/")]


def test_a_leader_that_is_pulled_out_is_lost_and_can_be_opened_again(bench, leader):
    with pytest.raises(Lost):
        LerobotTeleoperator("so101_leader", bench.options | {"port": "/dev/none"}, "t").open()
    before = terminals()
    patiently(leader.open)
    assert len(terminals()) == len(before) + 1
    patiently(leader.read)
    bench.bus.unplug()
    with pytest.raises(Lost):
        leader.read()
    leader.close()
    assert terminals() == before, "or the system gives it another name when it is back"
    with pytest.raises(Lost):
        leader.open()
    bench.bus.plug()
    patiently(leader.open)
    assert len(patiently(leader.read)) == 6


def test_a_leader_of_another_calibration_is_refused(bench, leader):
    other = json.loads(bench.file.read_text())
    other["elbow_flex"]["homing_offset"] += 50
    bench.file.write_text(json.dumps(other))
    with pytest.raises(ConfigError) as error:
        patiently(leader.open)
    (line,) = error.value.problems
    assert line.startswith("teleop: so101_leader mine: its motors hold another calibration than ")
    assert str(bench.file) in line and "lerobot-calibrate --teleop.type=so101_leader" in line


@pytest.mark.skipif(find_spec("pynput") is not None, reason="needs an environment without pynput")
def test_a_keyboard_without_its_library_says_what_to_install():
    with pytest.raises(ConfigError, match=r"^teleop: 'pynput' is required"):
        LerobotTeleoperator("keyboard", {}, "teleop").open()
