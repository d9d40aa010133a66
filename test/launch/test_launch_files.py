"""The launch files under the real launch system: real processes, real DDS, simulated arm."""

# ruff: noqa: E402 - these imports are of what may not be there

from __future__ import annotations

import os
import re
import shutil
import signal
from dataclasses import dataclass, field

import numpy as np
import pytest

launch_pytest = pytest.importorskip(
    "launch_pytest", reason="needs a ROS 2 install with launch_pytest (rosdep install)"
)

from cells import TABLETOP, tabletop
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription, RegisterEventHandler
from launch.event_handlers import OnProcessExit, OnProcessStart
from launch.substitutions import PathJoinSubstitution
from launch_pytest.actions import ReadyToTest
from launch_ros.substitutions import FindPackageShare
from launched import launch, needs_workspace, nodes, wait_until
from lifecycle_msgs.srv import GetState
from oracle import Oracle
from trajectory_msgs.msg import JointTrajectory

from smolvla_ros.chunk import ActionChunk
from smolvla_ros.cli.watch import Watcher
from smolvla_ros.ros import messages, qos

needs_workspace()

MONITOR = "safety_monitor"
ROBOT = tabletop()[1]
CHUNK_DT = 1.0 / 30.0


@pytest.fixture
def watcher(domain):
    with Watcher(ROBOT.names, domain) as watcher:
        yield watcher


@dataclass
class Processes:
    """What launch said of its processes, by executable."""

    pids: dict[str, int] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)

    def started(self, event, context) -> None:
        self.pids[_executable(event)] = event.pid

    def ended(self, event, context) -> None:
        self.codes[_executable(event)] = event.returncode


def _executable(event) -> str:
    return re.sub(r"-\d+$", "", event.process_name)  # launch numbers them


def launched(names, **arguments) -> tuple[LaunchDescription, Processes]:
    """Launch files of the installed package, and a record of their processes."""
    processes = Processes()

    def include(name):
        path = [FindPackageShare("smolvla_ros"), "launch", f"{name}.launch.py"]
        return IncludeLaunchDescription(
            PathJoinSubstitution(path), launch_arguments=arguments.items()
        )

    actions = [
        RegisterEventHandler(OnProcessStart(on_start=processes.started)),
        RegisterEventHandler(OnProcessExit(on_exit=processes.ended)),
        *map(include, names),
        ReadyToTest(),
    ]
    return LaunchDescription(actions), processes


@launch_pytest.fixture(params=["", "left"], ids=["", "in a namespace"])
def whole_cell(request, domain):
    return (*launched(["cell"], namespace=request.param), f"/{request.param}")


@launch_pytest.fixture
def gated_arm(domain):
    return launched(["safety_monitor", "sim"], cell=str(TABLETOP))


@launch_pytest.fixture
def gated_arm_in_a_namespace(domain):
    return launched(["safety_monitor", "sim"], cell=str(TABLETOP), namespace="left")


@launch_pytest.fixture
def gated_policy(domain):
    return launched(["safety_monitor", "vla"], cell=str(TABLETOP))


def state_of_policy(watcher, namespace: str) -> str:
    service = f"{namespace.rstrip('/')}/vla/get_state"
    return watcher.call(service, GetState, GetState.Request(), timeout=60.0).current_state.label


def enable(watcher) -> np.ndarray:
    """Enable the gate as soon as it can be; where the arm stands."""
    wait_until(lambda: watcher.says(MONITOR).startswith("disabled"), "the gate hears the arm")
    success, message = watcher.enable()
    assert success, message
    r = watcher.recording
    wait_until(lambda: r.sent and r.measured, "set-points leave the gate, joint states the arm")
    return r.sent[0][1]


def propose(watcher, rows: np.ndarray) -> None:
    """One chunk, as the policy would send it."""
    publisher = watcher.node.create_publisher(
        JointTrajectory, "policy/joint_trajectory", qos.STREAM_OUT
    )
    wait_until(lambda: publisher.get_subscription_count() == 2, "gate and watcher listen")
    chunk = ActionChunk(watcher.now(), CHUNK_DT, ROBOT.names, rows)
    publisher.publish(messages.chunk_to_trajectory(chunk))


def smooth(start: np.ndarray, goal: np.ndarray, seconds: float) -> np.ndarray:
    """Rows of a chunk from rest to rest."""
    s = np.linspace(0.0, 1.0, round(seconds / CHUNK_DT))[:, None]
    return start + (goal - start) * (3 * s**2 - 2 * s**3)


def sent(watcher) -> np.ndarray:
    return np.array([row for _, row, _ in list(watcher.recording.sent)])


def at_rest(watcher, ticks: int = 100) -> bool:
    newest = sent(watcher)[-ticks:]
    return len(newest) == ticks and bool((newest == newest[0]).all())


@pytest.mark.launch(fixture=whole_cell)
def test_every_node_of_a_cell_is_up_and_ends_cleanly(whole_cell, watcher):
    _, processes, namespace = whole_cell
    expected = {(name, namespace) for name in ("sim", MONITOR, "vla")}
    wait_until(lambda: expected <= nodes(watcher), f"{expected} are up")
    assert state_of_policy(watcher, namespace) == "active"
    yield
    assert processes.codes == {"sim_node": 0, "safety_monitor": 0, "vla_node": 0}


@pytest.mark.launch(fixture=gated_arm)
def test_legal_motion_passes_and_the_arm_follows(gated_arm, watcher):
    start = enable(watcher)
    goal = start + np.array([0.4, 0.0, 0.0, 0.0, 0.5, 0.0])
    propose(watcher, smooth(start, goal, 1.2))  # before command_timeout
    wait_until(
        lambda: np.abs(watcher.recording.measured[-1][1] - goal).max() < 0.05,
        "the measured arm is where it was told to go",
    )
    wait_until(lambda: at_rest(watcher), "the gate holds")
    np.testing.assert_allclose(sent(watcher)[-1], goal, atol=1e-4)
    verdicts = watcher.values(MONITOR, "verdicts")
    assert verdicts["passed"] > 100 and "clamped" not in verdicts, verdicts
    yield
    assert gated_arm[1].codes == {"sim_node": 0, "safety_monitor": 0}


@pytest.mark.launch(fixture=gated_arm)
def test_motion_into_the_table_is_refused(gated_arm, watcher):
    start = enable(watcher)
    goal = start + np.array([0.0, 1.2, 0.0, 0.0, 0.0, 0.0])
    assert ROBOT.frame_position(goal, "gripper_frame_link")[2] < -0.01, "the test is no test"
    propose(watcher, smooth(start, goal, 1.4))
    wait_until(lambda: "~ table" in watcher.says(MONITOR), "diagnostics name the table")
    assert watcher.values(MONITOR, "checks")["keep_out"] > 0
    wait_until(lambda: at_rest(watcher), "the gate holds")
    rows = sent(watcher)
    heights = [ROBOT.frame_position(row, "gripper_frame_link")[2] for row in rows]
    assert 0.0 < min(heights) < heights[0] - 0.05, "it came near the table and not into it"
    assert Oracle(TABLETOP).findings(rows) == []
    yield
    assert gated_arm[1].codes == {"sim_node": 0, "safety_monitor": 0}


@pytest.mark.launch(fixture=gated_arm)
def test_a_policy_that_falls_silent_in_motion_leads_to_a_hold(gated_arm, watcher):
    start = enable(watcher)
    swing = np.array([0.5, 0.0, 0.0, 0.0, 0.0, 0.0])  # rad/s, to the last row
    propose(watcher, start + swing * CHUNK_DT * np.arange(20)[:, None])
    wait_until(lambda: sent(watcher)[-1][0] > start[0] + 0.2, "the arm is under way")
    wait_until(lambda: at_rest(watcher), "the set-points come to rest")
    wait_until(lambda: watcher.says(MONITOR).startswith("holding"), "diagnostics say so")
    rest, count, began = sent(watcher)[-1], len(sent(watcher)), watcher.now()
    wait_until(lambda: len(sent(watcher)) >= count + 200, "set-points go on", seconds=10.0)
    rate = 200 / (watcher.now() - began)
    assert rate == pytest.approx(tabletop()[0].safety_monitor.rate, rel=0.2)
    assert (sent(watcher)[count:] == rest).all()
    measured = np.array([row for _, row in watcher.recording.measured[-100:]])
    assert np.ptp(measured, axis=0).max() < 0.005, "the arm stands still"
    assert Oracle(TABLETOP).findings(sent(watcher)) == []
    yield
    assert gated_arm[1].codes == {"sim_node": 0, "safety_monitor": 0}


@pytest.mark.launch(fixture=gated_arm)
def test_nothing_runs_on_without_its_monitor(gated_arm, watcher):
    processes = gated_arm[1]
    wait_until(lambda: watcher.says(MONITOR).startswith("disabled"), "the gate hears the arm")
    os.kill(processes.pids["safety_monitor"], signal.SIGKILL)
    wait_until(lambda: processes.codes.get("sim_node") == 0, "launch ends the simulator")


@pytest.mark.launch(fixture=gated_arm_in_a_namespace)
def test_nor_does_a_namespace_without_its_monitor(gated_arm_in_a_namespace, domain):
    processes = gated_arm_in_a_namespace[1]
    with Watcher(ROBOT.names, domain, namespace="left") as watcher:
        wait_until(lambda: watcher.says(MONITOR).startswith("disabled"), "the gate hears the arm")
    os.kill(processes.pids["safety_monitor"], signal.SIGKILL)
    wait_until(lambda: processes.codes.get("sim_node") == 0, "launch ends the simulator")


@pytest.mark.launch(fixture=gated_policy)
def test_a_monitor_outlives_its_policy(gated_policy, watcher):
    processes = gated_policy[1]
    wait_until(lambda: len(processes.pids) == 2, "both processes run")
    os.kill(processes.pids["vla_node"], signal.SIGKILL)
    wait_until(lambda: "vla_node" in processes.codes, "launch sees the end of the policy")
    watcher.status.clear()
    wait_until(lambda: watcher.says(MONITOR), "the monitor is there")
    assert "safety_monitor" not in processes.codes


def test_ctrl_c_ends_a_cell_with_nothing_left(domain, watcher, tmp_path):
    with launch(tmp_path / "log", "cell.launch.py") as cell:
        wait_until(lambda: ("vla", "/") in nodes(watcher), "the policy node is up")
        assert state_of_policy(watcher, "/") == "active"
        started = len(cell.pids())
        assert cell.interrupt() == 0
    assert "process has died" not in cell.said, cell.said
    assert cell.said.count("process has finished cleanly") == started, cell.said


def test_a_cell_file_that_is_not_there_starts_nothing(domain, tmp_path):
    with launch(tmp_path / "log", "cell.launch.py", f"cell:={tmp_path / 'my.yaml'}") as cell:
        assert cell.wait() == 1
    assert f"{tmp_path / 'my.yaml'}: no such file" in cell.said
    assert not cell.pids()


@pytest.mark.parametrize(
    ("right", "wrong", "line"),
    [
        ("margin:", "margn:", "safety_monitor: margn: unknown key"),
        ("chunk_rate:", "chunk_rat:", "vla: chunk_rat: unknown key"),
        ("camera_rate:", "camera_rte:", "sim: camera_rte: unknown key"),
    ],
    ids=["safety_monitor", "vla", "sim"],
)
def test_a_wrong_key_ends_the_cell_and_names_itself(domain, tmp_path, right, wrong, line):
    # Paths in a cell are relative to its file.
    shutil.copytree(TABLETOP.parent, tmp_path / "config")
    shutil.copytree(TABLETOP.parents[1] / "urdf", tmp_path / "urdf")
    file = tmp_path / "config" / TABLETOP.name
    file.write_text(file.read_text().replace(f" {right}", f" {wrong}", 1))
    with launch(tmp_path / "log", "cell.launch.py", f"cell:={file}") as cell:
        cell.wait()
    assert f"error: {file}: {line}" in cell.said
    assert "Traceback" not in cell.said
