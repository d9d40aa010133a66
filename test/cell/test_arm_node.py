"""The whole cell of a real SO-101 as processes: gate, driver, LeRobot, serial line, servos."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from cells import tabletop
from std_srvs.srv import SetBool

from smolvla_ros.cell import beside
from smolvla_ros.cli.benchmark.bus import Emulator, cell, cell_file
from smolvla_ros.cli.processes import NODES, environment
from smolvla_ros.sim.scene import load_scene
from smolvla_ros.sim.world import Cameras, World

for name in ("lerobot", "scservo_sdk", "mujoco"):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"needs {name}: pip install 'smolvla_ros[arm,sim]'", allow_module_level=True)

TICK = 2 * np.pi / 4095

# A busy machine keeps the emulator, and everybody else, waiting.
PATIENT = {
    "reply_timeout": 0.3,
    "lost_after": 1.0,
    "timeout": 1.0,
    "monitor": {
        "joint_state_timeout": 1.0, "tracking_time": 2.0, "tracking_error": 0.4,
        "tracking_error_hard": 1.0, "command_timeout": 2.0,
    },
}  # fmt: skip


def torque(policy, on: bool) -> str:
    answer = policy.call("arm/torque", SetBool, SetBool.Request(data=on), timeout=20.0)
    assert answer.success, answer.message
    return answer.message


def test_the_gates_set_points_move_the_servos_and_their_steps_are_a_ticks() -> None:
    with cell(**PATIENT) as (emulator, nodes, policy, folder):
        emulator.tell(faults={"corrupt": 0.01})
        policy.sway(6.0)
        nodes.check()
        sent = np.array([row for _, row, _ in policy.recording.sent])
        measured = np.array([row for _, row in policy.recording.measured])
        _, goals = emulator.goals(folder)
        assert np.ptp(sent[:, 0]) > 0.3, "the gate let it sway"
        assert np.ptp(measured[:, 0]) > 0.3, "the arm went with it"
        steps = np.abs(np.diff(goals, axis=0)).max()
        assert steps <= 1.0 / 100 + TICK, "no faster than arm.max_velocity"
        assert policy.value("arm", "read_errors") >= 0


def test_a_lost_bus_stops_the_gate_and_is_found_again_without_a_jump() -> None:
    with cell(**PATIENT) as (emulator, nodes, policy, folder):
        policy.sway(2.0)
        emulator.tell(unplug=4.0)
        policy.until(lambda: policy.says("safety_monitor").startswith("stopped"), "a stop")
        policy.until(lambda: policy.value("arm", "losses") == 1, "the loss")
        policy.until(lambda: not policy.says("arm").startswith("no answer"), "the arm again")
        policy.enabled()
        policy.sway(3.0)
        nodes.check()
        _, goals = emulator.goals(folder)
        assert np.abs(np.diff(goals, axis=0)).max() <= 1.0 / 100 + TICK
        assert emulator.tell(look=True)["torque"], "it was never let go"


def test_a_silent_gate_leaves_the_arm_where_it_was_sent_last() -> None:
    with cell(**PATIENT) as (emulator, nodes, policy, folder):
        policy.sway(1.5)
        nodes.processes["safety_monitor"].send_signal(signal.SIGKILL)
        policy.until(lambda: policy.says("arm") == "holding", "the watchdog")
        time.sleep(0.5)
        _, goals = emulator.goals(folder)
        np.testing.assert_array_equal(goals[-1], goals[-2])
        look = emulator.tell(look=True)
        assert look["torque"] and np.abs(np.array(look["q"]) - goals[-1]).max() < 0.1
        del nodes.processes["safety_monitor"]


def test_torque_goes_by_the_service_alone_and_comes_back_where_the_arm_is() -> None:
    with cell(**PATIENT) as (emulator, nodes, policy, folder):
        policy.enable(False)
        assert torque(policy, False) == "limp"
        time.sleep(1.5)
        fallen = np.array(emulator.tell(look=True)["q"])
        before = len(emulator.goals(folder)[0])
        assert torque(policy, True) == "held"
        _, goals = emulator.goals(folder)
        np.testing.assert_allclose(goals[before], fallen, atol=0.05)
        nodes.processes["arm"].send_signal(signal.SIGINT)
        assert nodes.processes.pop("arm").wait(timeout=20) == 0
        assert emulator.tell(look=True)["torque"], "it holds when the driver ends"


def test_the_cameras_see_the_arm_that_the_servos_move() -> None:
    robot_cell, robot = tabletop()
    scene = load_scene(beside(robot_cell.path, robot_cell.sim.scene))
    with cell(pictures=True, **PATIENT) as (emulator, nodes, policy, _):
        policy.sway(4.0)
        policy.until(lambda: policy.says("safety_monitor").startswith("holding"), "rest")
        time.sleep(2.0)
        seen = policy.picture("front/image_raw", timeout=20.0).astype(float)
        q = np.array(emulator.tell(look=True)["q"])
        nodes.check()
    assert np.abs(q - robot.pose("ready")).max() > 0.05, "it has moved"
    world = World(robot, scene, robot_cell.sim.seed, robot.pose("ready"))

    def difference(at: np.ndarray) -> float:
        world.place(at)
        cameras = Cameras(world)
        cameras.see(world)
        picture = cameras.render("front").astype(float)
        cameras.close()
        return float(np.abs(picture - seen).mean())

    assert difference(q) < 0.6 * difference(robot.pose("ready"))


def started(path: Path, domain: int) -> tuple[int, list[str]]:
    """Exit code and what an arm node said that cannot start."""
    done = subprocess.run(
        [sys.executable, "-m", NODES["arm"], "--ros-args", "--params-file", str(path)],
        env=environment(domain), capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    return done.returncode, [x for x in done.stderr.splitlines() if x.startswith("error: ")]


def test_what_cannot_start_says_so_in_a_line_and_gives_no_torque(domain, tmp_path) -> None:
    with Emulator(tmp_path, domain) as emulator:
        path = cell_file(tmp_path, emulator, reply_timeout=0.3)

        def changed(**options: object) -> tuple[int, list[str]]:
            document = yaml.safe_load(path.read_text())
            arm = document["/**/arm"]["ros__parameters"]
            for key, value in options.items():
                arm["options"][key] = value
            other = tmp_path / "other.yaml"
            other.write_text(yaml.safe_dump(document, sort_keys=False))
            return started(other, domain)

        code, said = changed(port="/dev/ttyNONE")
        assert (code, len(said)) == (1, 1) and "/dev/ttyNONE: no such device" in said[0]
        code, said = changed(id="yours")
        assert (code, len(said)) == (1, 1) and "yours.json: no calibration" in said[0]
        code, said = changed(potr="x")
        assert (code, len(said)) == (2, 1) and "other.yaml: arm.options" in said[0]
        emulator.tell(faults={"dead": [3]})
        code, said = started(path, domain)
        assert (code, len(said)) == (1, 1) and "elbow_flex (id 3) does not answer" in said[0]
        assert emulator.tell(look=True)["goals"] == 0
        assert not emulator.tell(look=True)["torque"]
