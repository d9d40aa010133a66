"""LeRobot's own SO-101 driver on an emulated bus: what is refused before torque is on, that
nothing jumps, and what bad packets do."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from feetech_bus import (
    GOAL,
    LOCK,
    OVERLOAD,
    POSITION,
    TEMPERATURE,
    TICKS,
    TORQUE,
    Still,
    write_calibration,
)

from smolvla_ros.arm.errors import ArmError
from smolvla_ros.schema import ConfigError

TICK = 1.0 / TICKS


def refused(bench, error: type[Exception] = ArmError, lines: int = 1, **options) -> str:
    """What the driver says against an arm, in so many lines; no motor has got torque or a goal."""
    with pytest.raises(error) as raised:
        bench.make(**options).connect()
    said = str(raised.value)
    assert len(said.splitlines()) == lines, said
    assert not any(bench.bus.torque().values()) and not bench.bus.goals
    return said


def patiently(ask):
    """Again and again: a busy machine may keep the emulator from answering in time."""
    until = time.monotonic() + 20.0
    while True:
        try:
            return ask()
        except ArmError:
            if time.monotonic() > until:
                raise


def connected(bench):
    arm = bench.make()
    arm.connect()
    return arm


# -- motion ------------------------------------------------------------------------------


def test_it_reads_radians_and_writes_them_back(bench) -> None:
    arm = connected(bench)
    np.testing.assert_allclose(arm.read()[0], bench.ready, atol=TICK)
    arm.set_torque(True)
    goal = bench.ready + np.array([0.2, -0.1, 0.15, -0.3, 0.4, 0.1])
    arm.write(goal, 0.01)
    time.sleep(0.1)
    positions, velocities, efforts = arm.read()
    np.testing.assert_allclose(positions, goal, atol=2 * TICK)
    np.testing.assert_allclose(bench.plant.q, goal, atol=2 * TICK)
    assert velocities[0] > 0 > velocities[1]
    assert np.isnan(efforts).all()


def test_what_the_servos_say_they_were_told_is_what_was_written_or_is_seen_to_be_another(
    bench,
) -> None:
    arm = connected(bench)
    arm.set_torque(True)
    draw = np.random.default_rng(0)
    for _ in range(50):
        goal = arm.within_range(bench.ready + draw.uniform(-0.5, 0.5, 6))
        arm.write(goal, 0.01)
        assert (np.abs(arm.told() - goal) <= arm.resolution).all()
        there = np.array([s.get(GOAL, 2) for s in bench.bus.servos])
        arm.write(arm.told(), 0.01)  # and again, it is the same tick
        np.testing.assert_array_equal([s.get(GOAL, 2) for s in bench.bus.servos], there)
        assert (np.abs(arm.told() - goal - 2.01 * arm.resolution) > arm.resolution).all()


def test_sign_and_offset_of_the_joint_map_count_both_ways(bench) -> None:
    bench.units[1] = replace(bench.units[1], sign=-1, offset=0.1)
    arm = connected(bench)
    positions = arm.read()[0]
    assert positions[1] == pytest.approx(-bench.ready[1] + 0.1, abs=TICK)
    arm.set_torque(True)
    arm.write(positions + np.array([0, 0.05, 0, 0, 0, 0]), 0.01)
    time.sleep(0.1)
    assert bench.plant.q[1] == pytest.approx(bench.ready[1] - 0.05, abs=3 * TICK)


def test_what_the_calibration_lets_each_motor_reach(bench) -> None:
    for numbers in (bench.calibration["elbow_flex"], bench.calibration["gripper"]):
        numbers["range_min"] += 100
        numbers["range_max"] -= 100
    write_calibration(bench.file.parent, "mine", bench.calibration)
    bench.units[2] = replace(bench.units[2], sign=-1, offset=0.2)
    reach = bench.make().reach()
    lower, upper = bench.robot.lower, bench.robot.upper
    assert reach["shoulder_pan"] == pytest.approx((lower[0], upper[0]), abs=2 * TICK)
    half = (upper[2] - lower[2]) / 2 - 100 * TICK
    assert reach["elbow_flex"] == pytest.approx((0.2 - half, 0.2 + half), abs=2 * TICK)
    assert reach["gripper"] == pytest.approx((lower[5], upper[5])), "percent of the URDF's range"


# -- torque ------------------------------------------------------------------------------


def test_torque_comes_on_where_the_arm_stands(bench) -> None:
    for servo in bench.bus.servos:  # what was left there earlier
        servo.put(42, 2, 3000)
    arm = connected(bench)
    assert len(arm.limp()) == 6
    arm.set_torque(True)
    assert all(bench.bus.torque().values())
    np.testing.assert_allclose(bench.plant.q, bench.ready, atol=TICK)


def test_an_arm_that_is_held_is_neither_dropped_nor_configured_anew(bench) -> None:
    first = connected(bench)
    first.set_torque(True)
    first.close()
    bench.bus.goals.clear()
    again = connected(bench)
    assert again.limp() == []
    again.set_torque(True)
    assert not bench.bus.goals
    np.testing.assert_allclose(again.held(), bench.ready, atol=1.5 * TICK)  # in the middle of one


def test_an_alarm_that_comes_with_the_torque_is_no_reason_to_say_that_there_is_none(bench) -> None:
    arm = connected(bench)
    sync_write = bench.bus._sync_write

    def sags(parameters):
        sync_write(parameters)
        if parameters[0] == TORQUE and parameters[3]:
            bench.bus.servo("shoulder_lift").alarm = 1  # the voltage, under load

    bench.bus._sync_write = sags
    arm.set_torque(True)
    assert all(bench.bus.torque().values())
    assert [s.registers[LOCK] for s in bench.bus.servos] == [1] * 6
    assert arm.read()[0] is not None and arm.alarms() == {"shoulder_lift": ("voltage",)}


def test_closing_keeps_the_torque_and_only_asking_ends_it(bench) -> None:
    arm = connected(bench)
    arm.set_torque(True)
    arm.close()
    del arm  # LeRobot's robot has a finaliser that disconnects
    time.sleep(0.1)
    assert all(bench.bus.torque().values())
    arm = connected(bench)
    arm.set_torque(False)
    assert not any(bench.bus.torque().values())


def test_an_arm_outside_of_its_calibrated_range_gets_no_torque(bench) -> None:
    bench.plant.q[2] = bench.robot.upper[2] + 35 * TICK
    arm = connected(bench)
    with pytest.raises(ArmError, match=r"motor elbow_flex stands at .* outside"):
        arm.set_torque(True)
    assert not any(bench.bus.torque().values())
    bench.plant.q[2] = bench.robot.upper[2] + 25 * TICK  # it sags at its end
    arm.set_torque(True)
    assert all(bench.bus.torque().values())


class Hand(Still):
    """Somebody moves the joints without torque, at so many rad/s; ``snaps`` are by how many rad
    a joint was somewhere else when it got torque."""

    def __init__(self, plant: Still, speeds: np.ndarray):
        super().__init__(plant.names, plant.q)
        self._speeds, self._limp = speeds, np.ones(len(speeds), dtype=bool)
        self._at = time.monotonic()
        self.snaps: list[float] = []

    def _move(self) -> None:
        now = time.monotonic()
        self.q = self.q + np.where(self._limp, self._speeds * (now - self._at), 0.0)
        self._at = now

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        self._move()
        return super().read()

    def drive(self, goals: np.ndarray) -> None:
        self._move()
        taken = self._limp & ~np.isnan(goals)
        self.snaps += list(np.abs(goals - self.q)[taken])
        self._limp = np.isnan(goals)
        super().drive(goals)


def moved_by_hand(bench, speed: float) -> Hand:
    bench.bus.plant = bench.plant = Hand(bench.plant, np.array([speed, 0.0, 0.0, 0.0, 0.0, 0.0]))
    return bench.plant


@pytest.mark.parametrize("lost", [0.0, 0.05])
def test_an_arm_that_is_moved_slowly_gets_torque_where_it_is_by_then(bench, lost) -> None:
    arm = connected(bench)
    bench.bus.faults.drop = lost  # each costs 0.3 s
    hand = moved_by_hand(bench, 0.1)
    arm.set_torque(True)
    assert all(bench.bus.torque().values())
    assert len(hand.snaps) == 6 and max(hand.snaps) < 0.02


def test_an_arm_that_is_moved_quickly_gets_no_torque_until_it_is_held_still(bench) -> None:
    arm = connected(bench)
    hand = moved_by_hand(bench, 0.6)
    with pytest.raises(ArmError, match="the arm moves; hold it still"):
        arm.set_torque(True)
    assert not hand.snaps and not any(bench.bus.torque().values())
    still = bench.bus.plant = bench.plant = Still(hand.names, hand.q)
    stood = still.q.copy()
    arm.set_torque(True)
    np.testing.assert_allclose(still.q, stood, atol=TICK)


class Startled(Hand):
    """Somebody moves a limp joint by 0.2 rad in the moment in which the motors are told where they
    stand: between the last look and the torque."""

    def __init__(self, bench):
        super().__init__(bench.plant, np.zeros(len(bench.plant.q)))
        self._bus, self._done = bench.bus, False

    def drive(self, goals: np.ndarray) -> None:
        if self._bus.goals and not self._done:
            self._done, self.q[2] = True, self.q[2] + 0.2
        super().drive(goals)


def test_an_arm_that_is_moved_in_the_last_moment_gets_torque_where_it_is_by_then(bench) -> None:
    arm = connected(bench)
    hand = bench.bus.plant = bench.plant = Startled(bench)
    before = hand.q[2]
    arm.set_torque(True)
    assert hand.q[2] == pytest.approx(before + 0.2, abs=2 * TICK)
    assert len(hand.snaps) == 6 and max(hand.snaps) < 2 * TICK


class Worsening(Still):
    """The line becomes too bad for a hundred instructions, once each motor has got two that
    begin its configuration; ``pulled`` is how many motors have had torque."""

    def __init__(self, bench):
        super().__init__(bench.plant.names, bench.plant.q)
        self._faults, self._changes, self.pulled = bench.bus.faults, 0, 0

    def drive(self, goals: np.ndarray) -> None:
        self._changes += 1
        self._faults.drop = 0.3 if self._changes > 13 else 0.0
        self.pulled = max(self.pulled, int(np.isfinite(goals).sum()))
        super().drive(goals)


def test_an_arm_that_cannot_be_configured_gets_no_torque(bench) -> None:
    arm = bench.make(retries=0, reply=0.02)
    patiently(arm.connect)
    plant = bench.bus.plant = Worsening(bench)
    with pytest.raises(ArmError):
        arm.set_torque(True)
    assert plant.pulled == 0 and not any(bench.bus.torque().values())


# -- a bad line --------------------------------------------------------------------------


def test_bad_packets_are_tried_again_and_counted(bench) -> None:
    arm = connected(bench)
    arm.set_torque(True)
    bench.bus.faults.corrupt = bench.bus.faults.drop = bench.bus.faults.noise = 0.01
    bench.bus.faults.corrupt_in = 0.03
    for i in range(150):
        arm.write(bench.ready + 0.001 * i, 0.01)
        np.testing.assert_allclose(arm.read()[0], bench.plant.q, atol=3 * TICK)
    assert arm.errors["read"] > 0
    counts = bench.bus.counts
    assert min(counts[w] for w in ("corrupted", "dropped", "noisy", "not_understood")) > 0


@pytest.mark.parametrize("late", [0.025, 0.045, 0.07])
def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_questions(bench, late) -> None:
    arm = bench.make(reply=0.02)
    arm.connect()
    for _ in range(5):
        for address in (TORQUE, POSITION, TEMPERATURE):
            bench.bus.faults.slow = (address, late)
            for ask in (arm.limp, arm.read, arm.temperatures):
                with contextlib.suppress(ArmError):  # late for good
                    ask()
                q = patiently(arm.read)[0]
                np.testing.assert_allclose(q, bench.plant.q, atol=3 * TICK)
                assert set(patiently(arm.temperatures).values()) == {35}
                assert len(patiently(arm.limp)) == 6


class Blocked(Still):
    """It stands where it stands."""

    def drive(self, goals: np.ndarray) -> None:
        pass


@pytest.mark.parametrize("late", [0.07, 0.13])
def test_what_comes_after_all_tries_were_in_vain_is_no_answer_to_something_else(
    bench, late
) -> None:
    """A goal and a position are as long as each other, and the answers do not say which."""
    bench.bus.plant = Blocked(bench.plant.names, bench.plant.q)
    arm = bench.make(reply=0.02, retries=2)
    patiently(arm.connect)
    patiently(lambda: arm.set_torque(True))
    arm.write(bench.ready + 0.3, 0.01)
    for _ in range(10):
        bench.bus.faults.slow = (GOAL, late)
        with contextlib.suppress(ArmError):
            arm.told()
        np.testing.assert_allclose(patiently(arm.read)[0], bench.ready, atol=3 * TICK)


def test_where_the_motors_were_sent_is_believed_when_they_say_it_twice(bench, monkeypatch) -> None:
    arm = connected(bench)
    arm.set_torque(True)
    bus = arm._buses[""]
    good = bus.told()
    garbled = iter([good | {"elbow_flex": 77.0}])
    monkeypatch.setattr(bus, "told", lambda: next(garbled, good))
    assert bus.goals() == good


def test_an_arm_that_was_moved_while_nobody_looked_has_no_velocity_from_that(bench) -> None:
    arm = connected(bench)
    arm.read()
    arm.close()
    bench.plant.q = bench.plant.q + 0.5
    arm.connect()
    np.testing.assert_array_equal(arm.read()[1], 0.0)


def test_it_connects_and_holds_over_a_bad_line(bench) -> None:
    bench.bus.faults.corrupt = bench.bus.faults.drop = 0.02
    arm = connected(bench)
    arm.set_torque(True)
    assert all(bench.bus.torque().values())
    np.testing.assert_allclose(bench.plant.q, bench.ready, atol=TICK)


def test_a_bus_that_was_unplugged_is_found_again_as_it_was_held(bench) -> None:
    arm = connected(bench)
    arm.set_torque(True)
    bench.bus.unplug()
    for call in (arm.read, lambda: arm.write(bench.ready, 0.01)):
        with pytest.raises(ArmError):
            call()
    with pytest.raises(ArmError, match="no such device"):
        arm.connect()
    bench.bus.plug()
    bench.bus.goals.clear()
    arm.connect()
    assert arm.limp() == [] and not bench.bus.goals
    np.testing.assert_allclose(arm.held(), bench.ready, atol=1.5 * TICK)  # in the middle of one
    np.testing.assert_allclose(arm.read()[0], bench.ready, atol=TICK)


def test_alarms_and_heat_are_seen(bench) -> None:
    arm = connected(bench)
    arm.set_torque(True)
    assert arm.alarms() == {} and arm.temperatures()["gripper"] == 35
    bench.bus.raise_alarm("elbow_flex", bits=OVERLOAD)
    bench.bus.raise_alarm("gripper", temperature=75)
    arm.read()
    assert arm.alarms() == {"elbow_flex": ("overload",), "gripper": ("over-temperature",)}
    assert list(arm.driven_by(arm.alarms())) == [n in arm.alarms() for n in arm.names]
    assert arm.temperatures()["gripper"] == 75


# -- what is refused before torque is on ---------------------------------------------------


def test_a_wrong_port_is_named(bench, tmp_path) -> None:
    assert "/dev/ttyNONE: no such device" in refused(bench, port="/dev/ttyNONE")
    file = tmp_path / "file"
    file.write_text("")
    assert f"{file}: is no serial port" in refused(bench, port=str(file))


def test_a_port_that_another_process_uses_is_named_with_it(bench) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", "import sys; f = open(sys.argv[1]); print(1, flush=True); input()",
         str(bench.bus.port)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        other.stdout.readline()
        assert f"used by process {other.pid}" in refused(bench)
    finally:
        other.communicate(b"\n")


def test_a_cable_that_is_pulled_out_while_the_motors_are_looked_at_is_an_error_of_the_arm(
    bench, monkeypatch
) -> None:
    pause, asks = time.sleep, threading.current_thread()

    def pull_out(seconds: float) -> None:
        if threading.current_thread() is asks:  # between an answer and what may come behind it
            bench.bus.unplug()
            pause(0.2)  # the emulator may be waiting for bytes of it
        pause(seconds)

    monkeypatch.setattr(time, "sleep", pull_out)
    with pytest.raises(ArmError, match=str(bench.bus.port)):
        bench.make().connect()


def test_a_port_that_is_locked_is_named(bench) -> None:
    held = os.open(bench.bus.port, os.O_RDWR | os.O_NOCTTY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert f"{bench.bus.port}: another program has locked it" in refused(bench)
    finally:
        os.close(held)


def test_an_arm_without_power_is_named(bench) -> None:
    bench.bus.faults.dead = set(range(1, 7))
    assert f"{bench.bus.port}: no motor answers" in refused(bench)


def test_a_motor_that_does_not_answer_is_named(bench) -> None:
    bench.bus.faults.dead = {3}
    assert "motor elbow_flex (id 3) does not answer" in refused(bench)


def test_two_motors_with_one_id_are_named(bench) -> None:
    bench.bus.servo("gripper").id = 5
    said = refused(bench)
    assert "two motors answer as wrist_roll (id 5), and none as gripper (id 6)" in said


def test_a_motor_of_another_model_is_named(bench) -> None:
    bench.bus.servo("gripper").put(3, 2, 1284)
    assert "gripper (id 6): is model 1284, not a sts3215 (777)" in refused(bench)


def test_a_limp_motor_with_an_alarm_is_named_and_gets_no_torque(bench) -> None:
    bench.bus.raise_alarm("wrist_flex", bits=OVERLOAD)
    arm = connected(bench)
    with pytest.raises(ArmError) as raised:
        arm.set_torque(True)
    (line,) = raised.value.problems
    assert line == "motor wrist_flex (id 4): alarm: overload; no torque until it ends"
    assert not any(bench.bus.torque().values()) and not bench.bus.goals


def test_an_arm_that_is_held_is_connected_whatever_a_motor_complains_of(bench) -> None:
    first = connected(bench)
    first.set_torque(True)
    first.close()
    bench.bus.raise_alarm("wrist_flex", temperature=75)
    again = connected(bench)
    assert again.limp() == [] and again.alarms() == {"wrist_flex": ("over-temperature",)}
    again.set_torque(True)  # it is on
    np.testing.assert_allclose(again.held(), bench.ready, atol=1.5 * TICK)


def test_a_calibration_of_another_arm_is_found_behind_an_alarm_too(bench) -> None:
    bench.bus.raise_alarm("elbow_flex", bits=OVERLOAD)
    bench.calibration["elbow_flex"]["homing_offset"] += 40
    write_calibration(bench.file.parent, "mine", bench.calibration)
    assert "elbow_flex has offset 55, not 95" in refused(bench)


def test_a_calibration_of_another_arm_is_named(bench) -> None:
    other = json.loads(bench.file.read_text())
    other["elbow_flex"]["homing_offset"] += 40
    write_calibration(bench.file.parent, "mine", other)
    said = refused(bench)
    assert str(bench.file) in said and "another arm" in said
    assert "elbow_flex has offset 55, not 95" in said


def test_a_drive_mode_that_is_another_arms_is_named_where_the_motors_hold_it(
    bench, monkeypatch
) -> None:
    """Dynamixel's do; Feetech's are turned round by LeRobot."""
    bench.calibration["elbow_flex"]["drive_mode"] = 1
    write_calibration(bench.file.parent, "mine", bench.calibration)
    arm = connected(bench)
    arm.close()
    monkeypatch.setattr(arm.robot.bus, "apply_drive_mode", False)
    with pytest.raises(ArmError, match=r"another arm.* elbow_flex has drive_mode 0, not 1"):
        arm.connect()


def test_a_missing_calibration_is_named_with_what_makes_it(bench) -> None:
    said = refused(bench, id="yours")
    assert "yours.json: no calibration of this arm" in said
    assert "lerobot-calibrate" in said and "--robot.id=yours" in said


def test_a_calibration_without_a_motor_is_named(bench) -> None:
    del bench.calibration["gripper"]
    write_calibration(bench.file.parent, "mine", bench.calibration)
    assert "motor gripper is missing" in refused(bench)


@pytest.mark.parametrize("value", [None, 1.5])
def test_a_calibration_with_a_number_that_is_none_is_named(bench, value) -> None:
    bench.calibration["gripper"]["range_min"] = value
    write_calibration(bench.file.parent, "mine", bench.calibration)
    with pytest.raises((ArmError, ConfigError)) as error:
        bench.make()
    (line,) = str(error.value).splitlines()
    assert str(bench.file) in line and "gripper" in line and "range_min" in line


def test_joints_that_are_not_the_drivers_are_named(bench) -> None:
    bench.motors["elbow_flex"] = "elbow"
    said = refused(bench, ConfigError)
    assert "joint_map.elbow_flex.motor: so_follower has no 'elbow'; it has: shoulder_pan" in said
    bench.units = [u for u in bench.units if u.joint != "elbow_flex"]
    del bench.motors["elbow_flex"]
    said = refused(bench, ConfigError, lines=2)
    assert "joint_map: leaves out joint 'elbow_flex' of the URDF; add it" in said
    assert "joint_map: no joint has motor 'elbow_flex' of so_follower" in said


def test_a_motor_that_two_joints_have_is_named_with_both(bench) -> None:
    bench.motors["elbow_flex"] = "wrist_flex"
    said = refused(bench, ConfigError, lines=2)
    assert (
        "joint_map: elbow_flex, wrist_flex have the same motor 'wrist_flex'; give each its own"
    ) in said
    assert "joint_map: no joint has motor 'elbow_flex'" in said


def test_joints_that_are_not_the_urdfs_are_named(bench) -> None:
    bench.units[2] = replace(bench.units[2], joint="elbow")
    bench.motors["elbow"] = bench.motors.pop("elbow_flex")
    assert "joint_map.elbow: is no joint of the URDF" in refused(bench, ConfigError)


def test_a_unit_that_is_not_the_motors_is_named(bench) -> None:
    bench.units[0] = replace(bench.units[0], unit="radians")
    said = refused(bench, ConfigError)
    assert "joint_map.shoulder_pan.unit: is radians" in said and "write unit: degrees" in said
    bench.units[0] = replace(bench.units[0], unit="degrees")
    assert "use_degrees: true" in refused(bench, ConfigError, lines=5, use_degrees=False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"potr": "/dev/x"}, "potr"),
        ({"id": ""}, "arm.options.id: missing"),
        ({"port": None}, "arm.options.port: is empty"),
        ({"type": "so100_follower"}, "arm.options.type: leave it out: arm.type says it"),
        ({"num_read_retries": -1}, "tries are the driver's: arm.retries"),
        ({"disable_torque_on_disconnect": True}, "torque goes off by ~/torque alone"),
    ],
)
def test_options_that_do_not_fit_are_named(bench, options, words) -> None:
    assert words in refused(bench, ConfigError, **options)


def test_a_folder_of_calibrations_that_is_none_is_named(bench) -> None:
    said = refused(bench, ConfigError, calibration_dir=str(bench.file))
    assert f"arm.options.calibration_dir: {bench.file}: is no folder" in said


def test_an_option_that_no_register_holds_is_one_line_and_no_torque(bench) -> None:
    arm = bench.make(position_p_coefficient=300)
    arm.connect()
    with pytest.raises(ArmError, match=r"^port .*ttyARM: Value 300 exceeds"):
        arm.set_torque(True)
    assert not any(bench.bus.torque().values())


def test_a_robot_that_lerobot_does_not_make_is_named(bench) -> None:
    bench.kind = "so102_follower"
    said = refused(bench, ConfigError)
    assert "so102_follower" in said and "so101_follower" in said


@pytest.mark.parametrize(
    "text", ["", "null", "{}", '{"elbow_flex": null}', '{"elbow_flex": {"id": 3}}']
)
def test_a_calibration_that_cannot_be_read_is_named(bench, text) -> None:
    bench.file.write_text(text)
    with pytest.raises((ConfigError, ArmError)) as error:
        bench.make()
    for line in str(error.value).splitlines():
        assert line.startswith(("arm.options", str(bench.file))) and str(bench.file) in line
        assert "lerobot-calibrate --robot.type=so101_follower" in line


def test_a_robot_that_drives_wheels_too_is_refused(bench) -> None:
    names = ("base_left_wheel", "base_back_wheel", "base_right_wheel")
    wheels = {
        n: {"id": 7 + i, "drive_mode": 0, "homing_offset": 0, "range_min": 0, "range_max": 4095}
        for i, n in enumerate(names)
    }
    arm = json.loads(bench.file.read_text())
    bench.file.write_text(json.dumps({f"arm_{n}": c for n, c in arm.items()} | wheels))
    bench.kind, bench.motors = "lekiwi", {n: f"arm_{n}" for n in bench.motors}
    with pytest.raises(ConfigError, match=r"^arm\.type: lekiwi is told x\.vel, y\.vel, theta\.vel"):
        bench.make(use_degrees=True)


def test_a_robot_without_a_bus_that_is_not_calibrated_is_not_even_connected(bench) -> None:
    arm, robot = bench.plain()
    robot.is_calibrated = False
    with pytest.raises(ArmError, match=r"plain\.json: the calibration is missing .*type=puppet "):
        arm.connect()
    assert robot.connections == 0
    robot.calibration_fpath.write_text("{}")  # it may find that out when it is connected
    with pytest.raises(ArmError, match="missing or another one"):
        arm.connect()
    assert robot.connections == 1 and not robot.is_connected


def test_what_a_robot_measures_that_is_no_number_is_an_error_and_nothing_is_held_there(
    bench,
) -> None:
    arm, robot = bench.plain()
    arm.connect()
    arm.read()
    robot.seen = robot.seen | {"elbow_flex.pos": np.nan}
    with pytest.raises(ArmError, match=r"^plain measures no number: elbow_flex\.pos$"):
        arm.read()
    with pytest.raises(ArmError, match="no number"):
        arm.held()
    assert arm.errors["read"] == 2 * 3


def test_what_a_robot_does_not_measure_is_named(bench) -> None:
    arm, robot = bench.plain()
    arm.connect()
    del robot.seen["elbow_flex.pos"]
    with pytest.raises(ArmError, match=r"^plain does not measure elbow_flex\.pos$"):
        arm.read()


def test_what_was_sent_with_an_error_may_have_arrived_or_not(bench) -> None:
    arm, robot = bench.plain()
    arm.connect()
    arm.write(bench.ready, 0.01)
    send = robot.send_action

    def arrives_and_fails(action):
        send(action)
        raise ValueError("a maker's own")

    robot.send_action = arrives_and_fails
    with pytest.raises(ArmError, match="cannot be sent: a maker's own"):
        arm.write(bench.ready + 0.1, 0.01)
    with pytest.raises(ArmError, match="nothing was sent"):
        arm.told()


def test_a_robot_without_a_bus_is_not_sent_where_it_was_before_it_was_lost(bench) -> None:
    arm, _ = bench.plain()
    arm.connect()
    with pytest.raises(ArmError, match="nothing was sent yet"):
        arm.told()
    arm.write(bench.ready, 0.01)
    np.testing.assert_allclose(arm.told(), bench.ready)
    arm.close()
    arm.connect()  # and may have been moved meanwhile
    with pytest.raises(ArmError, match="nothing was sent yet"):
        arm.told()
