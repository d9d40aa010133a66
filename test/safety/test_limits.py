"""The tightest limit counts, whoever gave it, and what nobody gave is asked for."""

import numpy as np
import pytest
from cells import tabletop

from smolvla_ros.safety import JointLimit, effective_limits
from smolvla_ros.schema import ConfigError

EVERY = JointLimit(velocity=2.0, acceleration=8.0)


@pytest.fixture(scope="module")
def robot():
    return tabletop()[1]


def test_the_tightest_source_counts_and_is_named(robot):
    joints = {
        "wrist_roll": JointLimit(velocity=1.0, upper=1.0, lower=-9.0),
        "gripper": JointLimit(velocity=100.0),
    }
    limits = effective_limits(robot, EVERY, joints)
    roll, gripper = robot.names.index("wrist_roll"), robot.names.index("gripper")
    assert limits.velocity[roll] == 1.0 and limits.upper[roll] == 1.0
    assert limits.lower[roll] == pytest.approx(robot.lower[roll])
    assert limits.velocity[gripper] == 2.0
    assert limits.sources["wrist_roll.velocity"] == "limits.joints.wrist_roll"
    assert limits.sources["gripper.velocity"] == "limits.every_joint"
    assert limits.sources["gripper.upper"] == "URDF"


def test_without_other_limits_the_servo_s_speed_counts(robot):
    limits = effective_limits(robot, JointLimit(acceleration=8.0), {})
    assert np.allclose(limits.velocity, 4.71), "the STS3215's no-load speed, not a placeholder"


def test_a_position_margin_is_kept_inward_at_both_ends(robot):
    limits = effective_limits(robot, EVERY, {}, position_margin=0.1)
    assert np.allclose(limits.lower, robot.lower + 0.1)
    assert np.allclose(limits.upper, robot.upper - 0.1)


@pytest.mark.parametrize(
    ("every", "joints", "margin", "said"),
    [
        (JointLimit(velocity=1.0), {}, 0.0, "shoulder_pan.acceleration: nobody gave it"),
        (EVERY, {"elbow": JointLimit()}, 0.0, "limits.joints.elbow: no such joint"),
        (EVERY, {}, 3.0, "nothing left between"),
        (EVERY, {"gripper": JointLimit(lower=2.0)}, 0.0, "gripper: nothing left between"),
    ],
)
def test_limits_that_cannot_be_used_are_named(robot, every, joints, margin, said):
    with pytest.raises(ConfigError, match=said):
        effective_limits(robot, every, joints, margin)
