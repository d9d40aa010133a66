"""A leader beside a policy at a real safety monitor: it takes the arm, gives it back, is lost."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import yaml
from cells import TABLETOP, tabletop
from keyboards import Keyboard, needs_pynput, needs_screen
from leaders import joint_map, leader_bus
from oracle import Oracle
from rig import PAN, changed_cell, rig, wait_until
from std_srvs.srv import Trigger

pytest.importorskip("lerobot", reason="the extra policy is not installed")

from smolvla_ros.cli.processes import NODES, environment

PATIENCE = 240  # s for a process that imports LeRobot on a machine that does other things too
SOURCES = {
    "policy": {"topic": "policy/joint_trajectory"},
    "teleop": {"topic": "teleop/joint_states", "type": "JointState", "priority": 10,
               "timeout": 0.3, "missing_joints": "hold"},
}  # fmt: skip


def leader(robot, options):
    return {"type": "so101_leader", "options": options, "joint_map": joint_map(robot)}


def write_cell(folder, **teleop):
    path = changed_cell(folder, sources=SOURCES)
    document = yaml.safe_load(path.read_text())
    everyone = document.pop("/**")
    document["/**/teleop"] = {"ros__parameters": teleop}
    path.write_text(yaml.safe_dump(document | {"/**": everyone}, sort_keys=False))
    return path


class Policy:
    """Swings the first joint to and fro, for ever, a chunk at a time."""

    def __init__(self, arm):
        self._arm, self._ended = arm, threading.Event()
        self._made = arm.publisher()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def _run(self):
        way = 0.2
        while not self._ended.wait(0.3):
            here = self._arm.rows[-1][0] - self._arm.robot.pose("ready")[0]
            way = -0.2 if here > 0.1 else 0.2 if here < -0.1 else way
            self._made.publish(self._arm.swing(way, 1.0))


def call(arm, name):
    answer = arm.call(f"teleop/{name}", Trigger, Trigger.Request(), timeout=20.0)
    return answer.success, answer.message


def says(arm, *words):
    wait_until(
        lambda: all(w in arm.says("teleop") for w in words), 30, f"{words}: {arm.says('teleop')}"
    )


def has_the_arm(arm, source):
    wait_until(lambda: arm.text("source") == source, 20, f"{source} has the arm")


@pytest.mark.timeout(600)
def test_the_leader_takes_the_arm_from_the_policy_and_gives_it_back_without_a_jump(
    domain, tmp_path
):
    robot = tabletop()[1]
    with leader_bus(tmp_path, robot) as (bus, plant, options):
        cell = write_cell(tmp_path, blend=0.5, joint_states_max_age=1.0, **leader(robot, options))
        with rig(domain, tmp_path, cell) as (nodes, arm):
            nodes.start("teleop")  # after the monitor, whose start it would hold up
            wait_until(lambda: arm.says("teleop") == "paused" or nodes.check(), PATIENCE, "is up")
            arm.enabled()
            with Policy(arm):
                has_the_arm(arm, "policy")
                plant.q = robot.pose("ready") + np.array([0.0, 0.0, 0.8, 0.0, 0.0, 0.0])
                assert call(arm, "start") == (True, "leads when it is near the arm")
                says(arm, "waiting: bring the leader within 0.3 rad of the arm: elbow_flex +0.")
                assert arm.text("source") == "policy", "the leader is far"

                goal = robot.pose("ready") + np.array([0.0, 0.1, 0.15, 0.1, 0.2, 0.1])
                plant.q = goal
                has_the_arm(arm, "teleop")
                says(arm, "leading")
                near = lambda: np.abs(arm.rows[-1] - plant.q).max() < 0.01  # noqa: E731
                wait_until(near, 10, "the arm is where the leader is")
                for k in range(20):
                    plant.q = goal + 0.01 * k * PAN
                    time.sleep(0.03)
                wait_until(near, 10, "and follows it")
                refused = lambda: arm.counts("refused").get("lower_priority", 0)  # noqa: E731
                wait_until(refused, 10, "the policy has spoken on, and was not heard")

                assert call(arm, "pause")[0]
                has_the_arm(arm, "policy")
                says(arm, "paused")

                plant.q = arm.rows[-1].copy()
                assert call(arm, "start")[0]
                has_the_arm(arm, "teleop")
                bus.unplug()
                has_the_arm(arm, "policy")  # silence gives it back
                says(arm, "no teleoperator: ")
                success, words = call(arm, "start")
                assert not success and words.startswith("no teleoperator: ")
                bus.plug()
                says(arm, "paused: it was lost: ")
                time.sleep(0.5)
                assert arm.text("source") == "policy", "it comes back, but nobody has asked"
            rows = arm.rows
            assert not arm.words.startswith("stopped"), arm.words
    assert not Oracle(TABLETOP).findings(rows, stops_every=25), "no step that an arm may not make"


def test_a_leader_of_another_calibration_ends_the_node_with_one_line(domain, tmp_path):
    robot = tabletop()[1]
    with leader_bus(tmp_path, robot) as (_, _, options):
        file = tmp_path / "calibration" / "mine.json"
        other = json.loads(file.read_text())
        other["elbow_flex"]["homing_offset"] += 50
        file.write_text(json.dumps(other))
        done = subprocess.run(
            [sys.executable, "-m", NODES["teleop"], "--ros-args",
             "--params-file", str(write_cell(tmp_path, **leader(robot, options)))],
            env=environment(domain), capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    (line,) = [x for x in done.stderr.splitlines() if x.startswith("error: ")]
    assert "teleop: so101_leader mine: its motors hold another calibration than " in line
    assert "lerobot-calibrate --teleop.type=so101_leader" in line


@needs_pynput
@needs_screen
@pytest.mark.timeout(600)
def test_keys_move_the_arm_through_the_monitor_and_hold_it_where_none_is_held(
    domain, tmp_path, monkeypatch
):
    keys = {
        "a": {"joint": "shoulder_pan", "speed": 0.3},
        "d": {"joint": "shoulder_pan", "speed": -0.3},
        "up": {"joint": "wrist_flex", "speed": 0.2},
    }
    cell = write_cell(
        tmp_path, type="keyboard", options={"id": "k"}, keys=keys, joint_states_max_age=1.0
    )
    with Keyboard() as keyboard, rig(domain, tmp_path, cell) as (nodes, arm):
        for name, value in keyboard.variables.items():
            monkeypatch.setenv(name, value)
        nodes.start("teleop")
        wait_until(lambda: arm.says("teleop") == "paused" or nodes.check(), PATIENCE, "is up")
        arm.enabled()
        start = arm.rows[-1]
        assert call(arm, "start")[0]
        has_the_arm(arm, "teleop")
        np.testing.assert_allclose(arm.rows[-1], start, atol=1e-3)
        keyboard.press("a", "Up")
        wait_until(lambda: arm.rows[-1][0] > start[0] + 0.2, 20, "while they are held")
        keyboard.let_go("a", "Up")
        wait_until(arm.at_rest, 10, "it stays when they are let go")
        moved = arm.rows[-1] - start
        assert moved[3] > 0.08 and np.abs(moved[[1, 2, 4, 5]]).max() < 1e-3
        keyboard.press("d")
        wait_until(lambda: arm.rows[-1][0] < start[0] + 0.15, 20, "back")
        keyboard.press("Escape")
        wait_until(lambda: arm.text("source") != "teleop", 20, "Esc lets the arm go, mid-motion")
        keyboard.let_go("d", "Escape")
        wait_until(arm.at_rest, 10, "and it comes to rest")
        rows = arm.rows
    assert not Oracle(TABLETOP).findings(rows, stops_every=25)
