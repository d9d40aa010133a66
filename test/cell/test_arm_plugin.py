"""A robot of somebody else's LeRobot plug-in, without a servo bus, behind the real arm node."""

from __future__ import annotations

import json
import os
import textwrap

import numpy as np
import pytest
import yaml
from cells import ROOT, tabletop
from rig import wait_until
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

pytest.importorskip("lerobot", reason="the extra arm is not installed")

from smolvla_ros.cli.processes import CellProcesses
from smolvla_ros.cli.watch import Watcher
from smolvla_ros.ros import messages, qos

NAME = "lerobot_robot_puppet"
PLUGIN = """
    import json
    from dataclasses import dataclass
    from pathlib import Path

    from lerobot.robots import Robot, RobotConfig


    class Tangled(Exception):
        pass  # a maker's library has errors of its own


    @RobotConfig.register_subclass("puppet")
    @dataclass
    class PuppetConfig(RobotConfig):
        strings: Path = Path("strings.json")


    class Puppet(Robot):
        config_class = PuppetConfig
        name = "puppet"
        is_calibrated = True

        def __init__(self, config):
            super().__init__(config)
            self._strings, self._there = config.strings, False

        def _hanging(self):
            if self._strings.with_suffix(".cut").exists():
                raise Tangled("the strings are cut")
            return json.loads(self._strings.read_text())

        observation_features = property(lambda self: dict.fromkeys(self._hanging(), float))
        action_features = property(lambda self: dict.fromkeys(self._hanging(), float))
        is_connected = property(lambda self: self._there)

        def connect(self, calibrate=True):
            self._hanging()
            self._there = True

        def calibrate(self):
            pass

        def configure(self):
            pass

        def get_observation(self):
            return self._hanging()

        def send_action(self, action):
            self._hanging()
            new = self._strings.with_suffix(".new")
            new.write_text(json.dumps(action))
            new.rename(self._strings)
            return action

        def disconnect(self):
            self._hanging()
            self._there = False
"""


@pytest.fixture
def strings(tmp_path, monkeypatch):
    """The plug-in, installed as far as LeRobot looks, and the file that is its arm."""
    (tmp_path / f"{NAME}.py").write_text(textwrap.dedent(PLUGIN))
    about = tmp_path / f"{NAME}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1.0\n")
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    )
    return tmp_path / "strings.json"


@pytest.mark.timeout(300)
def test_a_plug_ins_robot_is_read_and_moved_and_found_again(domain, tmp_path, strings) -> None:
    robot = tabletop()[1]
    ready = robot.pose("ready")
    hang = {f"m_{n}.pos": -q for n, q in zip(robot.names, ready.tolist(), strict=True)}
    strings.write_text(json.dumps(hang))
    document = yaml.safe_load((ROOT / "config" / "so101.yaml").read_text())
    description = document["/**"]["ros__parameters"]["robot"]
    for key, file in description.items():
        description[key] = str((ROOT / "config" / file).resolve())
    document["/**/arm"]["ros__parameters"] |= {
        "type": "puppet",
        "options": {"strings": str(strings), "id": "p", "calibration_dir": str(tmp_path / "c")},
        "joint_map": {n: {"unit": "radians", "sign": -1, "motor": f"m_{n}"} for n in robot.names},
        "timeout": 2.0,
        "lost_after": 1.0,
    }
    cell = tmp_path / "cell.yaml"
    cell.write_text(yaml.safe_dump(document, sort_keys=False))
    with (
        Watcher(robot.names, domain) as watcher,
        CellProcesses(cell, ["arm"], domain, tmp_path) as nodes,
    ):
        wait_until(lambda: watcher.says("arm") == "holding" or nodes.check(), 120, "it holds")
        wait_until(lambda: watcher.recording.measured, 10, "joint states")
        np.testing.assert_allclose(watcher.recording.measured[-1][1], ready, atol=1e-6)

        made = watcher.node.create_publisher(
            JointTrajectory, "arm/joint_trajectory", qos.STREAM_OUT
        )
        wait_until(lambda: made.get_subscription_count() >= 2, 10, "it listens")
        goal = ready + np.array([0.1, 0.0, -0.05, 0.0, 0.1, 0.0])

        def there() -> bool:
            stamp = watcher.node.get_clock().now().to_msg()
            made.publish(messages.setpoint_to_trajectory(robot.names, goal, (), 0.01, stamp))
            return np.allclose(watcher.recording.measured[-1][1], goal, atol=1e-6)

        wait_until(there, 10, "it goes where it is sent")
        assert json.loads(strings.read_text())["m_shoulder_pan.pos"] == pytest.approx(-goal[0])

        answer = watcher.call("arm/torque", SetBool, SetBool.Request(data=False), timeout=20.0)
        assert not answer.success
        assert answer.message == "puppet: LeRobot has no way to set its torque"

        cut = strings.with_suffix(".cut")
        cut.touch()
        lost = "lost: puppet: the strings are cut"
        wait_until(lambda: watcher.says("arm") == lost, 20, "it is lost")
        cut.unlink()
        wait_until(lambda: watcher.says("arm") == "holding", 20, "it is found, and holds")
        assert watcher.value("arm", "losses") == 1
        np.testing.assert_allclose(watcher.recording.measured[-1][1], goal, atol=1e-6)
        assert nodes.end() == {"arm": 0}
