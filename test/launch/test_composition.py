"""What the launch files' arguments put together, as ``ros2 launch`` runs them."""

# ruff: noqa: E402 - these imports are of what may not be there

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from cells import ROOT, TABLETOP, tabletop
from launched import launch, needs_workspace, nodes, wait_until

needs_workspace()

from ament_index_python.packages import get_package_share_directory
from oracle import Oracle
from rig import changed_cell
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from smolvla_ros.chunk import ActionChunk
from smolvla_ros.cli.bystander import Bystander
from smolvla_ros.cli.watch import Watcher
from smolvla_ros.launching import installed
from smolvla_ros.ros import messages, qos
from smolvla_ros.ros.description import wait_for_description

MONITOR = "safety_monitor"
JOINTS = tabletop()[1].names
FILES = sorted(path.name for path in (ROOT / "launch").glob("*.launch.py"))
PERIOD = 1 / 30


def watching(domain: int, namespace: str = "", **topics: str) -> Watcher:
    return Watcher(JOINTS, domain, namespace=namespace, **topics)


def until_it_says(watcher: Watcher, words: str) -> None:
    wait_until(lambda: watcher.says(MONITOR).startswith(words), f"the gate is {words}")


def enable(watcher: Watcher) -> None:
    until_it_says(watcher, "disabled")
    wait_until(lambda: watcher.enable()[0], "enabled")
    wait_until(lambda: watcher.recording.sent, "set-points")


def swing(watcher: Watcher, seconds: float = 1.3) -> None:
    """A chunk about the first joint; the arm is seen to follow."""
    made = watcher.node.create_publisher(JointTrajectory, "policy/joint_trajectory", qos.STREAM_OUT)
    wait_until(lambda: made.get_subscription_count() >= 2, "gate and watcher listen")
    start = watcher.recording.sent[-1][1]
    rows = np.tile(start, (round(seconds / PERIOD), 1))
    rows[:, 0] += 0.4 * PERIOD * np.arange(len(rows))
    made.publish(messages.chunk_to_trajectory(ActionChunk(watcher.now(), PERIOD, JOINTS, rows)))
    wait_until(lambda: watcher.recording.measured[-1][1][0] > start[0] + 0.3, "the arm moves")


@pytest.mark.parametrize("file", FILES)
def test_every_argument_is_documented(file):
    done = subprocess.run(
        ["ros2", "launch", "smolvla_ros", file, "-s"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    arguments = re.findall(r"^    '(\w+)':\n +(.*)\n", done.stdout, re.MULTILINE)
    assert len(arguments) >= 2
    for name, words in arguments:
        assert words.endswith(".") or "Valid choices" in words, f"{name}: {words}"
        assert "no description" not in words


def test_the_share_folder_holds_what_the_launch_files_name():
    share = get_package_share_directory("smolvla_ros")
    for name in ("rviz/cell.rviz", "config/ros2_control/joint_trajectory_controller.yaml"):
        assert os.path.isfile(os.path.join(share, name)), name


def test_two_arms_move_stop_and_die_each_for_itself(domain, tmp_path):
    # A busy machine starves one simulator or the other for a moment: no business of this test.
    cell = changed_cell(tmp_path, joint_state_timeout=1.0)
    words = ["policy:=false", f"left_cell:={cell}", f"right_cell:={cell}"]
    with (
        launch(tmp_path / "log", "two_arms.launch.py", *words) as arms,
        watching(domain, "left") as left,
        watching(domain, "right") as right,
    ):
        for watcher in (left, right):
            until_it_says(watcher, "disabled")
        expected = {(n, ns) for n in (MONITOR, "sim") for ns in ("/left", "/right")}
        wait_until(lambda: expected <= nodes(left), "every node is there, by its name")
        enable(left)
        enable(right)
        swing(left)
        rows = np.array([row for _, row, _ in right.recording.sent])
        assert np.ptp(rows, axis=0).max() == 0.0, "nothing was said to the right arm"
        os.kill(arms.pid(MONITOR, "__ns:=/left"), signal.SIGKILL)
        wait_until(lambda: "sim_node" in _ended(arms.said), "launch ends the left simulator")
        wait_until(lambda: ("sim", "/right") in nodes(right), "the right one is still there")
        time.sleep(1.0)
        assert right.says(MONITOR).startswith("holding"), right.says(MONITOR)
        swing(right)
        rows = np.array([row for _, row, _ in right.recording.sent])
        assert not Oracle(TABLETOP).findings(rows, stops_every=25)
        assert arms.interrupt() == 0
    assert arms.said.count("process has finished cleanly") == len(arms.pids()) - 1, arms.said


def _ended(said: str) -> str:
    return "".join(line for line in said.splitlines() if "process has finished" in line)


def test_two_cells_of_one_name_or_without_a_file_start_nothing(domain, tmp_path):
    for words, line in (
        (["left_namespace:=a", "right_namespace:=/a/"], "give two different ones"),
        (["right_cell:=/nowhere.yaml"], "right_cell:=/nowhere.yaml: no such file"),
        (["moveit_config:=nothing"], "moveit_config:=nothing: not installed: "),
    ):
        with launch(tmp_path / "log", "two_arms.launch.py", *words) as arms:
            assert arms.wait() == 1
        assert line in arms.said and "Traceback" not in arms.said
        assert not re.search("process started|smolvla_ros/safety_monitor", arms.said)


def test_an_arm_that_runs_already_is_connected_by_remap(domain, tmp_path):
    words = ["hardware:=none", "policy:=false", "joint_states:=/drive/q", "arm_command:=/drive/go"]
    with (
        launch(tmp_path / "log", "cell.launch.py", *words) as cell,
        Bystander("drive", domain) as drive,
        watching(domain, setpoints="/drive/go") as watcher,
    ):
        drive.start()
        states = drive.node.create_publisher(messages.JointState, "/drive/q", qos.STREAM_OUT)
        at, still = np.array(tabletop()[1].pose("ready")), np.zeros(len(JOINTS))

        def speak() -> None:
            message = messages.joint_state(JOINTS, at, still, still)
            message.header.stamp = drive.node.get_clock().now().to_msg()
            states.publish(message)

        drive.node.create_timer(0.01, speak)
        enable(watcher)
        np.testing.assert_allclose(watcher.recording.sent[-1][1], at, atol=1e-6)
        assert {"sim", "vla"}.isdisjoint(name for name, _ in nodes(watcher))
    assert len(cell.pids()) == 1


@pytest.mark.parametrize(
    ("output", "controller", "topic", "kind"),
    [
        ({"type": "JointTrajectory"}, "joint_trajectory_controller", "joint_trajectory",
         JointTrajectory),
        ({"type": "Float64MultiArray"}, "forward_position_controller", "commands",
         Float64MultiArray),
    ],
)  # fmt: skip
def test_the_gate_gets_between_by_remap_and_finds_who_else_commands(
    domain, tmp_path, output, controller, topic, kind
):
    file = changed_cell(tmp_path, output=output)
    topic = f"/{controller}/{topic}"
    heard = []
    words = ["ros2_control.launch.py", f"cell:={file}", f"controller:={controller}"]
    with (
        launch(tmp_path / "log", *words) as _,
        launch(tmp_path / "sim", "sim.launch.py", f"cell:={file}") as _,
        # Stands for the controller: a node of that name, its topic below it.
        Bystander(controller, domain) as stand_in,
        watching(domain, setpoints="nothing") as watcher,
    ):
        stand_in.start()
        stand_in.node.create_subscription(kind, topic, heard.append, qos.NEWEST_IN)
        until_it_says(watcher, "disabled")
        rogue = watcher.node.create_publisher(kind, topic, qos.STREAM_OUT)
        wait_until(lambda: "publishes on" in watcher.enable()[1], "the other one is named")
        success, message = watcher.enable()
        assert not success and f"/cell_watcher publishes on {topic}" in message
        watcher.node.destroy_publisher(rogue)
        wait_until(lambda: watcher.enable()[0], "enabled")
        wait_until(lambda: len(heard) > 50, "the controller hears the gate")


def test_what_is_not_installed_is_said_and_the_cell_runs_without(domain, tmp_path):
    absent = [p for p in ("robot_state_publisher", "rviz2") if not installed(p)]
    if not absent:
        pytest.skip("both are installed here")
    with (
        launch(tmp_path / "log", "cell.launch.py", "policy:=false", "rviz:=true") as cell,
        watching(domain) as watcher,
    ):
        enable(watcher)
    for package in absent:
        assert f"{package} is not installed: " in cell.said


@pytest.mark.skipif(not installed("robot_state_publisher"), reason="needs robot_state_publisher")
def test_the_description_of_the_cell_is_published(domain, tmp_path):
    with (
        launch(tmp_path / "log", "description.launch.py", "namespace:=left"),
        Bystander("listener", domain, "left") as listener,
    ):
        listener.start()
        text = wait_for_description(listener.node, "robot_description", 20.0)
    assert text == (ROOT / "urdf" / "so101.urdf").read_text()


@pytest.mark.skipif(installed("moveit_configs_utils"), reason="MoveIt is installed")
def test_moveit_that_is_not_installed_starts_nothing(domain, tmp_path):
    with launch(tmp_path / "log", "cell.launch.py", "moveit_config:=my_moveit_config") as cell:
        assert cell.wait() == 1
    assert "not installed: moveit_configs_utils, " in cell.said
    assert not cell.pids()


def test_a_real_arm_on_an_emulated_bus_is_launched_with_its_gate(domain, tmp_path):
    pytest.importorskip("lerobot", reason="needs lerobot")
    pytest.importorskip("scservo_sdk", reason="needs lerobot[feetech]")
    for name in ("config", "urdf"):
        shutil.copytree(ROOT / name, tmp_path / name)
    port = tmp_path / "servos"
    document = yaml.safe_load((ROOT / "config" / "so101.yaml").read_text())
    document["/**/arm"]["ros__parameters"]["options"] = {
        "port": str(port), "id": "mine", "calibration_dir": str(tmp_path),
    }  # fmt: skip
    # A busy machine starves the servos for a moment: no business of this test.
    document[f"/**/{MONITOR}"]["ros__parameters"]["joint_state_timeout"] = 1.0
    file = tmp_path / "config" / "mine.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    bus = subprocess.Popen(
        [sys.executable, str(ROOT / "test" / "support" / "bus_process.py"),
         "--port", str(port), "--calibration", str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    words = [f"cell:={file}", "hardware:=lerobot", "policy:=false", "namespace:=left"]
    try:
        assert bus.stdout.readline().strip() == "ready"
        with (
            launch(tmp_path / "log", "cell.launch.py", *words) as cell,
            watching(domain, "left") as watcher,
        ):
            enable(watcher)
            swing(watcher)
            assert cell.interrupt() == 0
        assert {re.sub(r"-\d+$", "", n) for n in cell.pids()} >= {"safety_monitor", "arm_node"}
        assert "camera_node" not in cell.said, "this cell names no camera"
        assert "process has died" not in cell.said, cell.said
    finally:
        bus.stdin.close()
        bus.wait(timeout=20)
