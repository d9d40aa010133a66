"""LeRobot's robot of two SO-101 arms, each on an emulated bus of its own, as one arm."""

from __future__ import annotations

import gc
import re
import threading
import time

import numpy as np
import pytest
from cells import ROOT, tabletop
from feetech_bus import TICKS, FeetechBus, Still, so101_servos, write_calibration

from smolvla_ros.arm.errors import ArmError
from smolvla_ros.cell import RobotConfig, load_robot
from smolvla_ros.robot import JointUnit
from smolvla_ros.schema import ConfigError

pytest.importorskip("lerobot", reason="the extra arm is not installed")
pytest.importorskip("scservo_sdk", reason="the extra arm is not installed")

from smolvla_ros.arm.lerobot import LeRobotArm, make_robot

SIDES = ("left", "right")


def two_arms(folder):
    """A URDF of two SO-101 side by side."""
    text = (ROOT / "urdf" / "so101.urdf").read_text()
    inside = text[text.index(">", text.index("<robot")) + 1 : text.index("</robot>")]
    inside = re.sub(r"<material\b[^>]*/>|<material\b.*?</material>", "", inside, flags=re.S)
    root = tabletop()[1].links[0]
    parts = ['<robot name="pair"><link name="bench"/>']
    for i, side in enumerate(SIDES):
        named = re.sub(r'(<(?:link|joint) name|(?:parent|child) link)="', rf'\1="{side}_', inside)
        parts.append(named)
        parts.append(
            f'<joint name="{side}_mount" type="fixed"><parent link="bench"/>'
            f'<child link="{side}_{root}"/><origin xyz="0 {0.4 * i} 0"/></joint>'
        )
    path = folder / "pair.urdf"
    path.write_text("".join([*parts, "</robot>"]))
    return load_robot(RobotConfig(urdf=str(path)), None)


@pytest.fixture
def pair(tmp_path):
    """Both buses, and how to make the arm."""
    single = tabletop()[1]
    model = two_arms(tmp_path)
    buses = []
    for side in SIDES:
        servos, calibration = so101_servos(single)
        write_calibration(tmp_path / "calibration", f"mine_{side}", calibration)
        plant = Still(single.names, single.pose("ready"))
        buses.append(FeetechBus(tmp_path / f"tty{side}", plant, servos))
    options = {"id": "mine", "calibration_dir": str(tmp_path / "calibration")}
    options |= {
        f"{side}_arm_config": {"port": str(bus.port)}
        for side, bus in zip(SIDES, buses, strict=True)
    }

    def make(**more):
        robot = make_robot("bi_so_follower", options | more, "arm")
        units = [JointUnit(n, "percent" if "gripper" in n else "degrees") for n in model.names]
        motors = {n: n for n in model.names}
        return LeRobotArm(model, robot, units, motors, "arm", retries=6, reply=0.3)

    with buses[0], buses[1]:
        yield make, buses, np.concatenate([single.pose("ready")] * 2), model


def test_both_arms_are_read_and_moved_as_one(pair) -> None:
    make, buses, ready, model = pair
    order = [model.names.index(f"{side}_{n}") for side in SIDES for n in tabletop()[1].names]
    arm = make()
    arm.connect()
    assert len(arm.limp()) == 12 and set(arm.reach()) == set(model.names)
    arm.set_torque(True)
    assert all(on for bus in buses for on in bus.torque().values())
    np.testing.assert_allclose(arm.read()[0][order], ready, atol=2 / TICKS)
    goal = ready + 0.1 * np.array([1, 0, -1, 0, 1, 0, -1, 0, 1, 0, 0, 0])
    row = np.empty(12)
    row[order] = goal
    arm.write(row, 0.01)
    time.sleep(0.1)
    np.testing.assert_allclose(np.concatenate([bus.plant.q for bus in buses]), goal, atol=2 / TICKS)
    np.testing.assert_allclose(arm.held()[order], goal, atol=2 / TICKS)


def test_both_hold_on_when_the_driver_goes_without_a_word(pair) -> None:
    make, buses, _, _ = pair
    arm = make()
    arm.connect()
    arm.set_torque(True)
    del arm  # LeRobot's robots have a finaliser that disconnects
    gc.collect()
    time.sleep(0.2)
    assert all(on for bus in buses for on in bus.torque().values())


def test_a_silent_motor_of_one_arm_is_named_and_neither_gets_torque(pair) -> None:
    make, buses, _, _ = pair
    buses[1].faults.dead = {2}
    with pytest.raises(ArmError) as raised:
        make().connect()
    (line,) = raised.value.problems
    assert str(buses[1].port) in line and "motor shoulder_lift (id 2) does not answer" in line
    assert not any(on for bus in buses for on in bus.torque().values())


def test_what_is_the_nodes_is_refused_of_each_arm(pair) -> None:
    make, buses, _, _ = pair
    with pytest.raises(ConfigError) as raised:
        make(left_arm_config={"port": str(buses[0].port), "max_relative_target": 5})
    (line,) = raised.value.problems
    assert line.startswith("arm.options.left_arm_config.max_relative_target: leave it out: ")


def test_torque_goes_off_on_one_arm_though_the_other_has_a_dead_motor(pair) -> None:
    make, buses, _, _ = pair
    arm = make()
    arm.connect()
    arm.set_torque(True)
    buses[0].faults.dead = {6}
    with pytest.raises(ArmError, match=r"^left_"):
        arm.set_torque(False)
    assert not any(buses[1].torque().values())
    assert sum(buses[0].torque().values()) <= 1, "and of this one all that hear"


def test_torque_goes_off_at_once_on_the_arm_that_hears_it_though_the_other_is_silent(pair) -> None:
    make, buses, _, _ = pair
    arm = make()
    arm.connect()
    arm.set_torque(True)
    buses[0].faults.dead = set(range(1, 7))
    said: list[str] = []

    def off() -> None:
        try:
            arm.set_torque(False)
        except ArmError as error:
            said.extend(error.problems)

    asks = threading.Thread(target=off)
    asks.start()
    until = time.monotonic() + 4.0  # the other's answers would take ten
    while any(buses[1].torque().values()):
        assert time.monotonic() < until, "it does not wait for the other's answers"
        time.sleep(0.01)
    assert asks.is_alive()
    asks.join()
    (line,) = said
    assert line.startswith(f"left_port {buses[0].port}: motor shoulder_pan (id 1), ")
    assert line.endswith("does not say that it let go; none did")
