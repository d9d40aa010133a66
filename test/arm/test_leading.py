"""When a teleoperator has the arm: only when asked, only from near, and never with a jump."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cells import TABLETOP, Run
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Oracle

from smolvla_ros.arm.devices import Lost
from smolvla_ros.arm.leading import Leading, State
from smolvla_ros.arm.teleoperator import LeaderJoints
from smolvla_ros.cell import SourceConfig
from smolvla_ros.robot import JointMap, JointUnit
from smolvla_ros.schema import ConfigError

NAMES = ("pan", "jaw")
ARM = np.array([0.5, -0.2])


def test_nothing_leaves_before_somebody_asks():
    leading = Leading(NAMES, 0.3, 1.0)
    assert leading.step(0.0, ARM, ARM) is None and leading.state is State.PAUSED
    leading.start()
    assert leading.step(1.0, ARM, ARM) is not None and leading.state is State.LEADING
    leading.pause()
    assert leading.step(2.0, ARM, ARM) is None


def test_a_leader_that_is_far_from_the_arm_waits_and_says_where():
    leading = Leading(NAMES, 0.3, 1.0)
    leading.start()
    assert leading.step(0.0, ARM + np.array([0.2, 0.45]), ARM) is None
    assert leading.state is State.WAITING
    assert leading.reason == "bring the leader within 0.3 rad of the arm: jaw +0.45 rad"
    assert leading.step(0.1, ARM, None) is None
    assert leading.reason == "no fresh joint states of the arm"
    np.testing.assert_allclose(leading.step(0.2, ARM + 0.25, ARM), ARM)
    assert (leading.state, leading.reason) == (State.LEADING, "")


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-0.3, 0.3), min_size=2, max_size=2), st.floats(0.1, 3.0))
def test_the_arm_begins_where_it_is_and_ends_at_the_leader(offset, blend):
    leading, leader = Leading(NAMES, 0.31, blend), ARM + np.array(offset)
    leading.start()
    times = np.linspace(10.0, 10.0 + 1.5 * blend, 301)
    rows = np.array([leading.step(t, leader, ARM) for t in times])
    np.testing.assert_allclose(rows[0], ARM, atol=1e-9)
    np.testing.assert_allclose(rows[-1], leader, atol=1e-9)
    assert np.abs(np.diff(rows, axis=0)).max() <= 0.3 * 1.5 / 300 + 1e-9


def test_one_that_was_lost_has_to_be_asked_for_again():
    leading = Leading(NAMES, 0.3, 1.0)
    leading.start()
    leading.step(0.0, ARM, ARM)
    leading.pause("it was lost: unplugged")
    assert leading.step(1.0, ARM, ARM) is None
    assert leading.reason == "it was lost: unplugged"
    leading.start()
    assert leading.reason == "" and leading.step(2.0, ARM, ARM) is not None


def leading_from(arm):
    leading = Leading(NAMES, 0.3, 1.0)
    leading.start()
    assert leading.step(0.0, arm, arm) is not None
    return leading


def test_an_arm_that_does_not_come_along_is_given_back():
    leading, leader, t = leading_from(ARM), ARM.copy(), 0.0
    while (row := leading.step(t := t + 0.02, leader, ARM)) is not None:
        leader = leader + np.array([0.01, 0.0])
        assert row[0] < ARM[0] + 0.6
    assert leading.state is State.PAUSED and leading.reason.startswith("the arm does not follow")
    assert leading.step(t + 1.0, ARM, ARM) is None, "until somebody asks"


def test_an_arm_that_lags_behind_and_comes_after_is_led_on():
    leading, arm = leading_from(ARM), ARM.copy()
    for k in range(1, 100):
        row = leading.step(0.02 * k, ARM + np.array([0.5, 0.0]), arm)
        assert row is not None
        arm = arm + np.clip(row - arm, -0.015, 0.015)


def test_an_arm_that_is_not_heard_of_is_given_back():
    leading = leading_from(ARM)
    assert leading.step(0.4, ARM, None) is not None
    assert leading.step(0.6, ARM, None) is None
    assert leading.reason == "no fresh joint states of the arm"


def leader(**motors):
    units = [JointUnit("pan", "degrees", -1, 0.1), JointUnit("jaw", "percent")]
    joints = JointMap(units, {"pan": (-2.0, 2.0), "jaw": (0.0, 1.5)})
    return LeaderJoints(joints, {"pan": "pan", "jaw": "gripper"} | motors, "teleop")


def test_a_leaders_motors_become_radians_by_sign_offset_and_name():
    q = leader().read({"gripper.pos": 40.0, "pan.pos": 90.0, "other.pos": 1.0})
    np.testing.assert_allclose(q, [0.1 - math.pi / 2, 0.6])


def test_what_the_teleoperator_does_not_give_is_named():
    with pytest.raises(
        ConfigError, match=r"joint_map: .* gives no gripper.pos; it gives: pan.pos$"
    ):
        leader().read({"pan.pos": 1.0})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_no_position(value):
    with pytest.raises(Lost):
        leader().read({"pan.pos": value, "gripper.pos": 1.0})


def test_through_the_gate_the_arm_changes_hands_without_a_jump():
    teleop = SourceConfig(topic="t", type="JointState", priority=10, timeout=0.3)
    run = Run(sources={"policy": SourceConfig(topic="p"), "teleop": teleop}).enable()
    names, ready = run.robot.names, run.q.copy()
    leading, hands = Leading(names, 0.3, 0.5), []
    leader = ready + np.array([0.2, 0.1, 0.15, -0.2, 0.25, 0.1])
    for k in range(700):
        t = 0.01 * k
        if k % 50 == 0:  # the policy speaks all the time, and swings
            way = math.copysign(0.2, math.sin(2 * t))
            times = np.arange(30) / 30
            rows = run.q + np.outer(way * times, np.eye(6)[0])
            run.gate.offer(run.now, "policy", run.now, names, times, rows)
        if k == 200:
            leading.start()
        if k == 450:
            leading.pause()
        if k % 2 == 0:
            row = leading.step(run.now, leader, run.q)
            if row is not None:
                run.gate.offer(run.now, "teleop", run.now, names, [0.0], [row])
        run.ticks(1)
        hands.append(run.outputs[-1].source)
        if k == 440:
            np.testing.assert_allclose(run.q, leader, atol=2e-3)
    changes = [a for a, b in zip(hands[1:], hands, strict=False) if a != b and a]
    assert changes == ["policy", "teleop", "policy"] or changes == ["teleop", "policy"]
    assert hands[199] == "policy" and hands[210] == "teleop" and hands[-1] == "policy"
    assert not Oracle(TABLETOP).findings(run.stream, stops_every=25)
