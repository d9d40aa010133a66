"""The whole cell of a real SO-101 as processes: gate, driver, LeRobot, serial line, servos."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from cells import ROOT, tabletop
from rig import wait_until
from std_srvs.srv import SetBool

from smolvla_ros.cell import beside
from smolvla_ros.cli.benchmark.bus import Emulator, cell, cell_file
from smolvla_ros.cli.processes import NODES, CellProcesses, environment, private_domain
from smolvla_ros.cli.watch import Watcher
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


@pytest.fixture(scope="module")
def whole():
    """One cell for the tests of this module: it takes longer to start than each of them."""
    with cell(pictures=True, **PATIENT) as found:
        yield found


@pytest.fixture
def enabled(whole):
    """That cell, in motion if somebody wants it to be."""
    emulator, nodes, policy, folder = whole
    nodes.check()
    emulator.tell(faults={"corrupt": 0.0})
    policy.enabled()
    return emulator, nodes, policy, folder


def torque(policy, on: bool) -> str:
    answer = policy.call("arm/torque", SetBool, SetBool.Request(data=on), timeout=20.0)
    assert answer.success, answer.message
    return answer.message


def test_the_gates_set_points_move_the_servos_and_their_steps_are_a_ticks(enabled) -> None:
    emulator, nodes, policy, folder = enabled
    emulator.tell(faults={"corrupt": 0.01})
    policy.sway(4.0)
    nodes.check()
    sent = np.array([row for _, row, _ in policy.recording.sent])
    measured = np.array([row for _, row in policy.recording.measured])
    _, goals = emulator.goals(folder)
    assert np.ptp(sent[:, 0]) > 0.3, "the gate let it sway"
    assert np.ptp(measured[:, 0]) > 0.3, "the arm went with it"
    steps = np.abs(np.diff(goals, axis=0)).max()
    assert steps <= 1.0 / 100 + TICK, "no faster than arm.max_velocity"
    policy.until(lambda: policy.value("arm", "read_errors") > 0, "they are counted")


def test_the_cameras_see_the_arm_that_the_servos_move(enabled) -> None:
    emulator, _, policy, _ = enabled
    robot_cell, robot = tabletop()
    scene = load_scene(beside(robot_cell.path, robot_cell.sim.scene))
    policy.sway(2.5)
    policy.until(lambda: policy.says("safety_monitor").startswith("holding"), "rest")
    time.sleep(1.0)
    seen = policy.picture("front/image_raw", timeout=20.0).astype(float)
    q = np.array(emulator.tell(look=True)["q"])
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


def test_a_lost_bus_stops_the_gate_and_is_found_again_without_a_jump(enabled) -> None:
    emulator, nodes, policy, folder = enabled
    lost = policy.value("arm", "losses")
    before = len(emulator.goals(folder)[0])
    policy.sway(1.0)
    emulator.tell(unplug=2.0)
    policy.until(lambda: policy.says("safety_monitor").startswith("stopped"), "a stop")
    policy.until(lambda: policy.value("arm", "losses") == lost + 1, "the loss")
    policy.until(lambda: not policy.says("arm").startswith("lost"), "the arm again")
    policy.enabled()
    policy.sway(2.0)
    nodes.check()
    _, goals = emulator.goals(folder)
    assert len(goals) > before + 100
    assert np.abs(np.diff(goals[before:], axis=0)).max() <= 1.0 / 100 + TICK
    assert emulator.tell(look=True)["torque"], "it was never let go"


def comes_to_rest(emulator, what: str) -> np.ndarray:
    """Where the arm is once it does not move any more, rad."""
    seen = [np.array(emulator.tell(look=True)["q"])]

    def lies() -> bool:
        time.sleep(0.5)
        seen.append(np.array(emulator.tell(look=True)["q"]))
        return np.abs(seen[-1] - seen[-2]).max() < 0.01

    wait_until(lies, 30, what)
    return seen[-1]


def test_a_motor_that_is_too_hot_stops_the_gate_and_does_not_leap_back_when_it_has_cooled(
    enabled,
) -> None:
    emulator, nodes, policy, folder = enabled
    policy.sway(1.0)
    before = np.array(emulator.tell(look=True)["q"])
    emulator.tell(hot=["shoulder_lift", 75])
    alarm = "shoulder_lift: over-temperature"
    policy.sway(4.0, lambda: "tracking" not in policy.says("safety_monitor"))
    assert "tracking error" in policy.says("safety_monitor"), "the gate lets nothing through"
    policy.until(lambda: alarm in policy.says("arm"), "the alarm is shown")
    assert policy.value("arm", "temperature/shoulder_lift") >= 35
    sunk = comes_to_rest(emulator, "it has sunk")
    assert np.abs(sunk - before).max() > 0.2, "it was held up"
    goals = len(emulator.goals(folder)[0])
    emulator.tell(hot=["shoulder_lift", 40])
    policy.until(lambda: alarm not in policy.says("arm"), "it has cooled down")
    assert np.abs(comes_to_rest(emulator, "it is held") - sunk).max() < 0.1
    _, sent = emulator.goals(folder)
    assert np.nanmax(np.abs(sent[goals:] - sunk)) < 0.2, "where it stands"
    assert emulator.tell(look=True)["torque"]
    nodes.check()


def test_servos_that_lose_their_power_stop_the_gate_and_are_held_again_where_they_lie(
    enabled,
) -> None:
    emulator, nodes, policy, folder = enabled
    policy.sway(1.0)
    emulator.tell(lose_power=0.2)
    policy.until(lambda: policy.says("arm").startswith("no torque: "), "it is shown")
    policy.until(
        lambda: policy.says("safety_monitor").startswith(("holding", "stopped")), "the gate rests"
    )
    lies = comes_to_rest(emulator, "it has fallen")
    assert not emulator.tell(look=True)["torque"], "nobody asked"
    goals = len(emulator.goals(folder)[0])
    assert torque(policy, True) == "held"
    assert np.abs(comes_to_rest(emulator, "it is held") - lies).max() < 0.05
    _, sent = emulator.goals(folder)
    assert np.abs(sent[goals:] - lies).max() < 0.1
    policy.enable(False)
    policy.enabled()
    policy.sway(1.0)
    nodes.check()


def test_torque_goes_by_the_service_alone_and_comes_back_where_the_arm_is(enabled) -> None:
    emulator, _, policy, folder = enabled
    policy.enable(False)
    stood = np.array(emulator.tell(look=True)["q"])
    assert torque(policy, False) == "limp"
    lies = comes_to_rest(emulator, "it has fallen")
    assert np.abs(lies - stood).max() > 0.1, "it was held up"
    before = len(emulator.goals(folder)[0])
    assert torque(policy, True) == "held"
    _, goals = emulator.goals(folder)
    np.testing.assert_allclose(goals[before:], np.tile(lies, (len(goals) - before, 1)),
                               atol=0.05)  # fmt: skip


def test_a_silent_gate_leaves_the_arm_where_it_was_sent_last(enabled) -> None:
    """And so does a driver that ends: nothing is alive after this test."""
    emulator, nodes, policy, folder = enabled
    policy.sway(1.5)
    nodes.processes["safety_monitor"].send_signal(signal.SIGKILL)
    policy.until(lambda: policy.says("arm") == "holding", "the watchdog")
    del nodes.processes["safety_monitor"]
    time.sleep(0.5)
    _, goals = emulator.goals(folder)
    np.testing.assert_array_equal(goals[-1], goals[-2])
    look = emulator.tell(look=True)
    assert look["torque"] and np.abs(np.array(look["q"]) - goals[-1]).max() < 0.1
    nodes.processes["arm"].send_signal(signal.SIGINT)
    assert nodes.processes.pop("arm").wait(timeout=20) == 0
    assert emulator.tell(look=True)["torque"], "it holds when the driver ends"


# -- what is refused before torque is on -----------------------------------------------------


class Refusals:
    """An arm node that is to refuse an emulated arm."""

    def __init__(self, folder: Path, emulator: Emulator, domain: int):
        self.folder, self.emulator, self.domain = folder, emulator, domain
        self._cell = cell_file(folder, emulator, reply_timeout=0.3)
        self.calibration = folder / "calibration" / "mine.json"

    def line(self, code: int, robot: dict[str, str] | None = None, **options: object) -> str:
        """The one line that the node ends with, with this exit code; ``options``: of the arm's,
        ``robot``: of the description."""
        document = yaml.safe_load(self._cell.read_text())
        document["/**/arm"]["ros__parameters"]["options"] |= options
        if robot is not None:
            document["/**"]["ros__parameters"]["robot"] = robot
        path = self.folder / "other.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        done = subprocess.run(
            [sys.executable, "-m", NODES["arm"], "--ros-args", "--params-file", str(path)],
            env=environment(self.domain), capture_output=True, text=True, timeout=200,
            check=False,
        )  # fmt: skip
        lines = [x for x in done.stderr.splitlines() if x.startswith("error: ")]
        assert (done.returncode, len(lines)) == (code, 1), done.stderr
        look = self.emulator.tell(look=True)
        assert look["goals"] == 0 and not look["torque"], "before torque is on"
        return lines[0]


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refusals")
    domain, lock = private_domain()
    with lock, Emulator(folder, domain) as emulator:
        yield Refusals(folder, emulator, domain)


def test_a_wrong_port_is_one_line(refusals) -> None:
    assert "/dev/ttyNONE: no such device" in refusals.line(1, port="/dev/ttyNONE")


def test_a_busy_port_is_one_line_with_who_has_it(refusals) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", "import sys; f = open(sys.argv[1]); print(1, flush=True); input()",
         str(refusals.emulator.port)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        other.stdout.readline()
        assert f"is used by process {other.pid}" in refusals.line(1)
    finally:
        other.communicate(b"\n")


def test_a_motor_that_does_not_answer_is_one_line(refusals) -> None:
    refusals.emulator.tell(faults={"dead": [3]})
    try:
        assert "motor elbow_flex (id 3) does not answer" in refusals.line(1)
    finally:
        refusals.emulator.tell(faults={"dead": []})


def test_two_motors_with_one_id_are_one_line(refusals) -> None:
    refusals.emulator.tell(id=["gripper", 5])
    try:
        said = refusals.line(1)
    finally:
        refusals.emulator.tell(id=["gripper", 6])
    assert "two motors answer as wrist_roll (id 5), and none as gripper (id 6)" in said


def test_a_calibration_of_another_arm_is_one_line(refusals) -> None:
    kept = refusals.calibration.read_text()
    other = json.loads(kept)
    other["elbow_flex"]["homing_offset"] += 40
    refusals.calibration.write_text(json.dumps(other))
    try:
        said = refusals.line(1)
    finally:
        refusals.calibration.write_text(kept)
    assert str(refusals.calibration) in said and "is the calibration of another arm" in said
    assert "elbow_flex has offset" in said


def test_a_missing_calibration_is_one_line(refusals) -> None:
    said = refusals.line(1, id="yours")
    assert "yours.json: no calibration of this arm; make it with `lerobot-calibrate " in said


def test_a_urdf_whose_joints_are_not_the_drivers_is_one_line(refusals) -> None:
    text = (ROOT / "urdf" / "so101.urdf").read_text()
    assert text.count('"elbow_flex"') >= 1
    urdf = refusals.folder / "other.urdf"
    urdf.write_text(text.replace('"elbow_flex"', '"elbow"'))
    said = refusals.line(2, robot={"urdf": str(urdf)})
    assert "other.yaml: arm.joint_map.elbow_flex: is no joint of the URDF; it has: " in said
    assert "elbow," in said


def test_an_option_that_lerobot_does_not_know_is_one_line(refusals) -> None:
    assert "other.yaml: arm.options" in refusals.line(2, potr="x")


def test_an_arm_that_nothing_is_wrong_with_starts_after_all_of_that(refusals) -> None:
    """The same emulator and cell: what was refused above was refused for what was changed."""
    path = refusals.folder / "cell.yaml"
    with (
        Watcher(tabletop()[1].names, refusals.domain) as watcher,
        CellProcesses(path, ["arm"], refusals.domain, refusals.folder) as nodes,
    ):
        wait_until(lambda: watcher.says("arm") == "holding" or nodes.check(), 120, "it holds")
    assert refusals.emulator.tell(look=True)["torque"]
