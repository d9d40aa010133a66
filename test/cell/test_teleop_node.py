"""The teleop node as a process: it leads when asked, from where the arm is, and lets go."""

from __future__ import annotations

import contextlib
import json
import os
import textwrap
import time

import numpy as np
import pytest
import yaml
from cells import tabletop
from keyboards import Keyboard, needs_pynput, needs_screen
from leaders import joint_map, leader_bus
from rig import changed_cell, wait_until
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

pytest.importorskip("lerobot", reason="the extra policy is not installed")

from smolvla_ros.cli.processes import CellProcesses
from smolvla_ros.cli.watch import Watcher
from smolvla_ros.ros import messages, qos

PATIENCE = 240  # s for a process that imports LeRobot on a machine that does other things too
TOPIC = "teleop/joint_states"
ELBOW = np.array([0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
PUPPET = """
    import json
    import time
    from dataclasses import dataclass
    from pathlib import Path

    from lerobot.teleoperators import Teleoperator, TeleoperatorConfig


    @TeleoperatorConfig.register_subclass("puppet")
    @dataclass
    class PuppetConfig(TeleoperatorConfig):
        strings: Path = Path("strings.json")


    class Puppet(Teleoperator):
        config_class = PuppetConfig
        name = "puppet"
        action_features = {}
        feedback_features = {}

        def __init__(self, config):
            super().__init__(config)
            self._config, self._there = config, False

        is_connected = property(lambda self: self._there)

        @property
        def is_calibrated(self):
            return not self._config.strings.with_suffix(".another").exists()

        def connect(self, calibrate=True):
            self._there = True

        def calibrate(self):
            pass

        def configure(self):
            pass

        def get_action(self):
            while self._config.strings.with_suffix(".stuck").exists():
                time.sleep(0.01)
            return json.loads(self._config.strings.read_text())

        def send_feedback(self, feedback):
            pass

        def disconnect(self):
            self._there = False
"""


def write_cell(folder, **teleop):
    path = changed_cell(folder)
    document = yaml.safe_load(path.read_text())
    everyone = document.pop("/**")
    teleop |= {"joint_states_max_age": 2.0}  # a busy machine may be late
    document["/**/teleop"] = {"ros__parameters": teleop}
    path.write_text(yaml.safe_dump(document | {"/**": everyone}, sort_keys=False))
    return path


def puppet_cell(folder, strings, **teleop):
    """A cell whose teleoperator is the plug-in's."""
    options = {"strings": str(strings), "id": "p", "calibration_dir": str(folder / "c")}
    return write_cell(folder, type="puppet", options=options, **teleop)


class Arm(Watcher):
    """An arm that stands, and what the teleop node would have it do."""

    def __init__(self, domain):
        _, robot = tabletop()
        super().__init__(robot.names, domain)
        self.ready = robot.pose("ready")
        self.rows = []
        self._states = self.node.create_publisher(JointState, "joint_states", qos.STREAM_OUT)
        self.node.create_subscription(JointState, TOPIC, self._on_row, qos.EVERY_ONE_IN)
        self.node.create_timer(0.02, self._speak)

    def _speak(self):
        message = JointState(name=list(self.joints), position=list(self.ready))
        message.header.stamp = self.node.get_clock().now().to_msg()
        self._states.publish(message)

    def _on_row(self, message):
        assert 0 <= self.now() - messages.seconds(message.header.stamp) < 5.0
        self.rows.append(dict(zip(message.name, message.position, strict=True)))

    def row(self, k=-1):
        return np.array([self.rows[k][name] for name in self.joints])

    def is_silent(self):
        """Whether it is, from a moment on: it would say something 50 times a second."""
        time.sleep(0.3)
        before = len(self.rows)
        time.sleep(0.4)
        return len(self.rows) == before


@contextlib.contextmanager
def teleop(domain, tmp_path, cell, up="paused", **variables):
    """The node, up and paused, with these in its environment."""
    with (
        Arm(domain) as arm,
        CellProcesses(cell, ["teleop"], domain, tmp_path, variables=variables) as nodes,
    ):
        try:
            wait_until(
                lambda: arm.says("teleop").startswith(up) or nodes.check(), PATIENCE, "is up"
            )
            yield arm
            nodes.check()
        except AssertionError:
            print(arm.says("teleop"), nodes.log("teleop").read_text()[-3000:], sep="\n")
            raise


def call(arm, name):
    answer = arm.call(f"teleop/{name}", Trigger, Trigger.Request(), timeout=20.0)
    return answer.success, answer.message


def says(arm, *words, seconds=30.0):
    wait_until(
        lambda: all(w in arm.says("teleop") for w in words),
        seconds,
        f"{words}: {arm.says('teleop')}",
    )


@pytest.mark.timeout(600)
def test_the_so101_leader_leads_from_where_the_arm_is_and_is_silent_when_it_does_not(
    domain, tmp_path
):
    _, robot = tabletop()
    with leader_bus(tmp_path, robot) as (bus, plant, options):
        cell = write_cell(
            tmp_path, type="so101_leader", options=options, joint_map=joint_map(robot), blend=2.0
        )
        with teleop(domain, tmp_path, cell) as arm:
            assert arm.is_silent() and not arm.rows, "nobody has asked"
            plant.q = arm.ready + 0.8 * ELBOW
            assert call(arm, "start") == (True, "leads when it is near the arm")
            says(arm, "waiting: bring the leader within 0.3 rad of the arm: elbow_flex +0.")
            assert not arm.rows

            plant.q = leader = arm.ready + 0.15 * ELBOW + 0.1
            wait_until(lambda: arm.rows, 20, "it leads")
            assert np.abs(arm.row(0) - arm.ready).max() < 0.1, "from where the arm is"
            wait_until(lambda: np.abs(arm.row() - leader).max() < 3e-3, 20, "to the leader")
            says(arm, "leading")
            plant.q = leader - 0.5 * ELBOW
            wait_until(lambda: np.abs(arm.row() - plant.q).max() < 3e-3, 20, "wherever it goes")

            assert call(arm, "pause") == (True, "the arm is given back")
            assert arm.is_silent()
            says(arm, "paused")

            plant.q = arm.ready.copy()
            assert call(arm, "start")[0]
            before = len(arm.rows)
            wait_until(lambda: len(arm.rows) > before, 20, "it leads again")
            bus.unplug()
            says(arm, "no teleoperator: ")
            assert arm.is_silent()
            success, words = call(arm, "start")
            assert not success and words.startswith("no teleoperator: ")
            bus.plug()
            says(arm, "paused: it was lost: ")
            assert arm.is_silent(), "it is back, but nobody has asked"
            assert not any(bus.torque().values()) and not bus.goals, "the leader stays limp"


@pytest.fixture
def puppet(tmp_path, monkeypatch):
    """A plug-in's teleoperator that does what a file says."""
    name = "lerobot_teleoperator_puppet"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(PUPPET))
    about = tmp_path / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    )
    strings = tmp_path / "strings.json"

    def pull(**action):
        new = strings.with_suffix(".new")
        new.write_text(json.dumps(action))
        new.rename(strings)

    pull()
    return strings, pull


@pytest.mark.timeout(600)
def test_keys_of_a_plug_in_jog_the_arm_while_they_are_held(domain, tmp_path, puppet):
    strings, pull = puppet
    cell = puppet_cell(
        tmp_path,
        strings,
        keys={
            "a": {"joint": "shoulder_pan", "speed": 0.1},
            "d": {"joint": "shoulder_pan", "speed": -0.1},
            "up": {"joint": "wrist_flex", "speed": 0.2},
        },
    )
    with teleop(domain, tmp_path, cell) as arm:
        pull(a=None)
        assert arm.is_silent() and not arm.rows, "nobody has asked"
        pull()
        assert call(arm, "start")[0]
        wait_until(lambda: arm.rows, 20, "it has the arm, and holds it")
        pan, wrist = arm.ready[0], arm.ready[3]
        assert arm.rows[-1] == pytest.approx({"shoulder_pan": pan, "wrist_flex": wrist})
        pull(d=None, up=None)
        end = tabletop()[1].upper[3]
        assert end < wrist + 0.2
        far = pytest.approx({"shoulder_pan": pan - 0.2, "wrist_flex": end})
        wait_until(
            lambda: arm.rows[-1] == far, 30, "no further from an arm that stands, or its end"
        )
        pull()
        time.sleep(0.5)
        assert arm.rows[-1] == far, "and stays when let go"
        strings.unlink()
        says(arm, "no teleoperator: ", "strings.json")
        assert arm.is_silent(), "it has let the arm go"
        pull()
        says(arm, "paused: it was lost: ")
        assert arm.is_silent()


@pytest.mark.timeout(600)
def test_a_leader_that_hung_does_not_take_the_arm_to_where_it_is_by_then(domain, tmp_path, puppet):
    strings, pull = puppet
    cell = puppet_cell(
        tmp_path,
        strings,
        joint_map={"shoulder_pan": {"unit": "radians", "motor": "pan"}},
    )
    pull(**{"pan.pos": tabletop()[1].pose("ready")[0]})
    with teleop(domain, tmp_path, cell) as arm:
        assert call(arm, "start")[0]
        wait_until(lambda: arm.rows, 20, "it leads")
        stuck = strings.with_suffix(".stuck")
        stuck.touch()
        says(arm, "no teleoperator: no answer for ")
        before = len(arm.rows)
        pull(**{"pan.pos": arm.ready[0] + 0.2})
        stuck.unlink()
        says(arm, "paused: the teleoperator gave no answer for ")
        assert arm.is_silent() and len(arm.rows) == before
        assert call(arm, "start")[0]
        wait_until(lambda: len(arm.rows) > before, 20, "it leads again")
        assert abs(arm.rows[before]["shoulder_pan"] - arm.ready[0]) < 0.1, "from where the arm is"


@pytest.mark.timeout(600)
def test_another_leader_that_is_plugged_in_later_is_not_led_by_and_the_node_goes_on(
    domain, tmp_path, puppet
):
    strings, pull = puppet
    cell = puppet_cell(
        tmp_path,
        strings,
        joint_map={"shoulder_pan": {"unit": "radians", "motor": "pan"}},
    )
    place = {"pan.pos": tabletop()[1].pose("ready")[0]}
    pull(**place)
    with teleop(domain, tmp_path, cell) as arm:
        assert call(arm, "start")[0]
        wait_until(lambda: arm.rows, 20, "it leads")
        another = strings.with_suffix(".another")
        another.touch()
        strings.unlink()
        says(arm, "no teleoperator: ", "its motors hold another calibration than ")
        started, words = call(arm, "start")
        assert not started and "another calibration" in words
        pull(**place)
        assert arm.is_silent()
        another.unlink()
        says(arm, "paused: it was lost: ")
        assert call(arm, "start")[0]
        before = len(arm.rows)
        wait_until(lambda: len(arm.rows) > before, 20, "it leads again")


def height(arm, row):
    """m of the gripper above the table, at a row."""
    q = np.array([row[name] for name in arm.joints])
    return tabletop()[1].frame_position(q, "gripper_link")[2]


TIP = {"link": "gripper_link", "speed": 0.05, "gripper": {"joint": "gripper", "speed": 0.2}}


@pytest.mark.timeout(600)
def test_steps_of_a_plug_in_move_the_gripper_in_space(domain, tmp_path, puppet):
    strings, pull = puppet
    still = {"delta_x": 0.0, "delta_y": 0.0, "delta_z": 0.0, "gripper": 1}
    cell = puppet_cell(
        tmp_path,
        strings,
        tip=TIP,
    )
    pull(**still)
    with teleop(domain, tmp_path, cell) as arm:
        assert call(arm, "start")[0]
        wait_until(lambda: arm.rows, 20, "it has the arm, and holds it")
        np.testing.assert_allclose(arm.row(), arm.ready)
        pull(**still | {"delta_z": 0.5, "gripper": 2})
        begin = height(arm, arm.rows[-1])
        wait_until(lambda: height(arm, arm.rows[-1]) > begin + 0.01, 20, "up")
        wait_until(lambda: arm.rows[-1]["gripper"] > arm.ready[-1] + 0.05, 20, "and open")
        pull(**still)
        time.sleep(0.3)
        here = arm.rows[-1]
        time.sleep(0.3)
        assert arm.rows[-1] == here, "and stays when let go"


KEYBOARD = {
    "type": "keyboard",
    "options": {"id": "k"},
    "keys": {
        "a": {"joint": "shoulder_pan", "speed": 0.1},
        "up": {"joint": "wrist_flex", "speed": 0.2},
    },
}


@needs_pynput
@needs_screen
@pytest.mark.timeout(600)
def test_lerobots_own_keyboard_jogs_the_arm(domain, tmp_path):
    cell = write_cell(tmp_path, **KEYBOARD)
    with (
        Keyboard() as keyboard,
        teleop(domain, tmp_path, cell, **keyboard.variables) as arm,
    ):
        assert call(arm, "start")[0]
        wait_until(lambda: arm.rows, 20, "it has the arm, and holds it")
        pan, wrist = arm.ready[0], arm.ready[3]
        assert arm.rows[-1] == pytest.approx({"shoulder_pan": pan, "wrist_flex": wrist})
        keyboard.press("a", "Up")
        wait_until(lambda: arm.rows[-1]["wrist_flex"] > wrist + 0.05, 20, "both move")
        assert arm.rows[-1]["shoulder_pan"] > pan
        keyboard.let_go("a", "Up")
        time.sleep(0.3)
        here = arm.rows[-1]
        time.sleep(0.3)
        assert arm.rows[-1] == here, "and stay when let go"
        keyboard.press("Escape")
        keyboard.let_go("Escape")
        says(arm, "paused: it was lost: Esc has ended it")
        assert arm.is_silent()
        assert arm.value("teleop", "losses") == 1, "it is connected anew"
        wait_until(lambda: call(arm, "start")[0], 20, "and leads again")
        before = len(arm.rows)
        wait_until(lambda: len(arm.rows) > before, 20, "when asked")


@needs_pynput
@needs_screen
@pytest.mark.timeout(600)
def test_lerobots_own_keyboard_ee_moves_the_gripper(domain, tmp_path):
    cell = write_cell(tmp_path, type="keyboard_ee", options={"id": "k"}, tip=TIP)
    with (
        Keyboard() as keyboard,
        teleop(domain, tmp_path, cell, **keyboard.variables) as arm,
    ):
        assert call(arm, "start")[0]
        wait_until(lambda: arm.rows, 20, "it has the arm, and holds it")
        begin = height(arm, arm.rows[-1])
        keyboard.press("Shift_R")
        wait_until(lambda: height(arm, arm.rows[-1]) > begin + 0.01, 20, "up")
        keyboard.let_go("Shift_R")
        keyboard.press("Control_L")
        wait_until(lambda: arm.rows[-1]["gripper"] < arm.ready[-1] - 0.05, 20, "it closes")
        keyboard.let_go("Control_L")
        time.sleep(0.3)
        here = arm.rows[-1]
        time.sleep(0.3)
        assert arm.rows[-1] == here, "and all of it stays when let go"
        keyboard.press("Escape")
        keyboard.let_go("Escape")
        says(arm, "paused: it was lost: Esc has ended it")
        assert arm.is_silent()


@needs_pynput
def test_a_keyboard_without_a_screen_says_what_it_needs(domain, tmp_path):
    cell = write_cell(tmp_path, **KEYBOARD)
    lacks = "no teleoperator: keyboard did not connect; LeRobot's keyboard needs an X11 session"
    with teleop(domain, tmp_path, cell, up=lacks, DISPLAY="") as arm:
        assert not arm.rows
