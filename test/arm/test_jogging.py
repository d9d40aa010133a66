"""What somebody holds down, as set-points: keys for joints, steps of a link in space."""

from __future__ import annotations

import numpy as np
import pinocchio as pin
import pytest
from cells import tabletop
from hypothesis import given, settings
from hypothesis import strategies as st

from smolvla_ros.arm.devices import Lost
from smolvla_ros.arm.jogging import KeyJogging, TipJogging
from smolvla_ros.schema import ConfigError

ARM = tabletop()[1]
READY = ARM.pose("ready")
LINK = "gripper_link"
KEYS = {"a": ("shoulder_pan", 0.5), "d": ("shoulder_pan", -0.5), "up": ("gripper", 0.2)}


class Special:
    """As pynput's keys without a character."""

    name = "up"


def held(*keys):
    return dict.fromkeys(keys)


def test_held_keys_move_joints_and_released_ones_hold_them():
    jogging = KeyJogging(ARM, KEYS, 0.2)
    assert jogging.names == ("shoulder_pan", "gripper")
    start = q = np.array([0.3, 0.1])
    for _ in range(20):
        q = jogging.move(held("a", Special()), q, 0.01)
    np.testing.assert_allclose(q, start + np.array([0.1, 0.04]))
    np.testing.assert_allclose(jogging.move({}, q, 0.01), q)
    np.testing.assert_allclose(jogging.move(held("x", "a", "d"), q, 0.01), q)


def test_keys_do_not_run_away_from_an_arm_that_is_kept_from_following():
    jogging = KeyJogging(ARM, KEYS, 0.2)
    start = np.array([0.3, 0.1])
    for _ in range(1000):
        q = jogging.move(held("a"), start, 0.01)
    np.testing.assert_allclose(q, start + np.array([0.2, 0.0]))
    np.testing.assert_allclose(jogging.move(held("d"), start, 0.1), start + np.array([0.15, 0.0]))
    jogging.rest()
    np.testing.assert_allclose(jogging.move({}, start, 0.1), start)


def test_keys_end_where_the_joint_does_and_come_back_at_once():
    low, high = ARM.limits_by_name()["shoulder_pan"]
    jogging = KeyJogging(ARM, KEYS, 0.2)
    for _ in range(30):
        q = jogging.move(held("a"), np.array([high - 0.01, 0.1]), 0.01)
    assert q[0] == high
    assert jogging.move(held("d"), np.array([high - 0.01, 0.1]), 0.01)[0] == pytest.approx(
        high - 0.005
    )
    jogging.rest()
    beyond = np.array([low - 0.05, 0.1])
    np.testing.assert_allclose(jogging.move({}, beyond, 0.01), beyond)  # not by itself


def step(x=0.0, y=0.0, z=0.0, **more):
    return {"delta_x": x, "delta_y": y, "delta_z": z, **more}


def tip(robot=ARM, link=LINK, speed=0.1, yaw=0.0, gripper=("gripper", 0.5), ahead=0.2):
    return TipJogging(robot, link, speed, yaw, gripper, ahead, "cell: teleop")


def carry_out(jogging, action, q, seconds=0.5, dt=0.02):
    """An arm that follows at once."""
    for _ in range(round(seconds / dt)):
        q = jogging.move(action, q, dt)
    return q


def placement(q):
    data = ARM.model.createData()
    pin.framesForwardKinematics(ARM.model, data, ARM.configuration(q))
    return data.oMf[ARM.model.getFrameId(LINK)].copy()


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("way", [1.0, -1.0])
def test_a_step_moves_the_link_that_way_at_that_speed(axis, way):
    direction = np.eye(3)[axis] * way
    end = carry_out(tip(), step(*direction), READY)
    moved = placement(end).translation - placement(READY).translation
    assert moved @ direction == pytest.approx(0.05, rel=0.1)
    assert np.linalg.norm(moved - (moved @ direction) * direction) < 0.005, "and no other way"
    assert end[-1] == READY[-1], "the gripper stays"


def turned(before, after):
    return np.linalg.norm(pin.log3(placement(before).rotation.T @ placement(after).rotation))


def test_the_link_turns_no_more_than_the_arm_has_to():
    start = READY - 0.5 * np.eye(6)[3]
    assert turned(start, carry_out(tip(), step(z=1.0), start)) < 0.02, "the hand stays level"


def test_a_joint_at_its_end_leaves_the_way_to_the_others():
    start = np.where(np.arange(6) == 3, ARM.upper, READY)
    end = carry_out(tip(), step(z=1.0), start)  # which the wrist would go on for
    moved = placement(end).translation - placement(start).translation
    assert end[3] == start[3] and turned(start, end) > 0.1
    np.testing.assert_allclose(moved, [0.0, 0.0, 0.05], atol=0.005)


def test_the_teleoperators_axes_are_turned_by_yaw():
    end = carry_out(tip(yaw=np.pi / 2), step(x=1.0), READY)
    moved = placement(end).translation - placement(READY).translation
    assert moved[1] == pytest.approx(0.05, rel=0.1) and abs(moved[0]) < 0.005


def test_the_gripper_opens_closes_and_stays():
    assert carry_out(tip(), step(gripper=2), READY)[-1] == pytest.approx(READY[-1] + 0.25)
    assert carry_out(tip(), step(gripper=0), READY, 0.1)[-1] == pytest.approx(READY[-1] - 0.05)
    # What LeRobot's keyboard_ee says once the key that closes has been let go of.
    np.testing.assert_array_equal(carry_out(tip(), step(gripper=-1), READY), READY)
    np.testing.assert_array_equal(carry_out(tip(gripper=None), step(gripper=2), READY), READY)


@settings(max_examples=60, deadline=None)
@given(
    share=st.lists(st.floats(0.0, 1.0), min_size=6, max_size=6),
    steps=st.lists(st.tuples(*[st.floats(-1e3, 1e3)] * 3), min_size=1, max_size=8),
    fast=st.booleans(),
)
def test_from_anywhere_no_joint_is_faster_than_it_can_be_nor_over_its_end(share, steps, fast):
    q = np.minimum(ARM.lower + np.array(share) * (ARM.upper - ARM.lower), ARM.upper)
    jogging = tip(speed=2.0 if fast else 0.1, ahead=0.2)
    for way in steps:
        after = carry_out(jogging, step(*way), q, 0.1)
        assert (np.abs(after - q) <= 0.1 * ARM.velocity + 1e-9).all()
        assert (after >= ARM.lower).all() and (after <= ARM.upper).all()
        q = after


@pytest.mark.parametrize(
    ("action", "error"),
    [
        ({"a": None}, ConfigError),
        ({}, ConfigError),
        (step(x=np.nan), Lost),
    ],
)
def test_what_are_no_steps_move_nothing(action, error):
    with pytest.raises(error) as raised:
        tip().move(action, READY, 0.02)
    if error is ConfigError:
        assert str(raised.value).startswith("cell: teleop.tip: the teleoperator gives no delta_x")
