"""The tightest limit counts, whoever gave it, and what nobody gave is asked for."""

import math

import numpy as np
import pytest
from arms import CHAIN, GRIPPER

from smolvla_ros.robot import RobotModel
from smolvla_ros.safety.limits import JointLimit, MoveItLimits, effective_limits
from smolvla_ros.safety.moveit import read_joint_limits
from smolvla_ros.schema import ConfigError
from smolvla_ros.share import share

EVERY = JointLimit(velocity=2.0, acceleration=8.0)


@pytest.fixture(scope="module")
def robot():
    return RobotModel(share("urdf", "so101.urdf"), share("urdf", "so101.srdf"))


@pytest.fixture
def write(tmp_path):
    def to(name: str, text: str):
        path = tmp_path / name
        path.write_text(text)
        return path

    return to


def arm(write, body: str) -> RobotModel:
    return RobotModel(write("a.urdf", f'<robot name="r">{body}</robot>'))


def moveit(**joints: JointLimit) -> MoveItLimits:
    return MoveItLimits("joint_limits.yaml", joints)


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


def test_a_velocity_that_no_joint_of_an_arm_has_is_pointed_out(write):
    fast = arm(write, CHAIN.replace('velocity="2"', 'velocity="10000"', 1))
    limits = effective_limits(fast, JointLimit(acceleration=8.0), {})
    (note,) = [n for n in limits.notes if "placeholder" in n]
    assert "10000 rad/s" in note and "check that it is no placeholder" in note
    assert note in fast.report(100, 0)
    given = effective_limits(fast, EVERY, {})
    assert not any("placeholder" in n for n in given.notes), "somebody has said better"


def test_without_other_limits_the_servo_s_speed_counts(robot):
    limits = effective_limits(robot, JointLimit(acceleration=8.0), {})
    assert np.allclose(limits.velocity, 4.71), "the STS3215's no-load speed, not a placeholder"


def test_a_position_margin_is_kept_inward_at_both_ends(robot):
    limits = effective_limits(robot, EVERY, {}, position_margin=0.1)
    assert np.allclose(limits.lower, robot.lower + 0.1)
    assert np.allclose(limits.upper, robot.upper - 0.1)


def test_jerk_is_free_where_nobody_limits_it(robot):
    limits = effective_limits(robot, EVERY, {"gripper": JointLimit(jerk=50.0)})
    assert limits.jerk[robot.names.index("gripper")] == 50.0
    assert np.isinf(limits.jerk).sum() == 5
    assert "shoulder_pan.jerk" not in limits.sources


@pytest.mark.parametrize(
    ("every", "joints", "margin", "said"),
    [
        (JointLimit(velocity=1.0), {}, 0.0, "shoulder_pan.acceleration: nobody gave it"),
        (EVERY, {"elbow": JointLimit()}, 0.0, "limits.joints.elbow: no such joint"),
        (EVERY, {}, 3.0, "nothing left between"),
        (EVERY, {"gripper": JointLimit(lower=2.0)}, 0.0, "gripper: nothing left between"),
        (EVERY, {"gripper": JointLimit(lower=math.nan)}, 0.0, "gripper.lower: limits.joints.grip"),
        (EVERY, {"gripper": JointLimit(jerk=0.0)}, 0.0, "limits.joints.gripper says 0, which is"),
        (
            JointLimit(velocity=-1.0, acceleration=1.0),
            {},
            0.0,
            "shoulder_pan.velocity: limits.every_joint says -1, which is no limit",
        ),
        (
            JointLimit(acceleration=math.inf),
            {},
            0.0,
            "shoulder_pan.acceleration: limits.every_joint says inf, which is no limit",
        ),
    ],
)
def test_limits_that_cannot_be_used_are_named(robot, every, joints, margin, said):
    with pytest.raises(ConfigError, match=said):
        effective_limits(robot, every, joints, margin)


def test_a_limit_of_nothing_in_any_source_is_named(robot):
    with pytest.raises(ConfigError, match=r"gripper\.velocity: joint_limits\.yaml says nan"):
        effective_limits(robot, EVERY, {}, moveit=moveit(gripper=JointLimit(velocity=math.nan)))


# -- MoveIt's file -------------------------------------------------------------------------


def test_f67_of_two_limits_the_tighter_counts_and_both_are_told(robot):
    file = moveit(
        wrist_roll=JointLimit(velocity=2.175, acceleration=3.0, upper=9.0),
        gripper=JointLimit(velocity=7.0),
    )
    limits = effective_limits(robot, JointLimit(acceleration=8.0), {}, moveit=file)
    roll, gripper = robot.names.index("wrist_roll"), robot.names.index("gripper")
    assert (limits.velocity[roll], limits.acceleration[roll]) == (2.175, 3.0)
    assert limits.velocity[gripper] == 4.71
    assert limits.sources["wrist_roll.velocity"] == "joint_limits.yaml"
    assert limits.notes == [
        "upper of wrist_roll: joint_limits.yaml 9, URDF 2.84121: the tighter counts",
        "velocity of wrist_roll: URDF 4.71, joint_limits.yaml 2.175: the tighter counts",
        "velocity of gripper: joint_limits.yaml 7, URDF 4.71: the tighter counts",
    ]


def test_a_cell_that_is_tighter_on_purpose_is_no_conflict_and_one_without_effect_is(robot):
    notes = effective_limits(robot, EVERY, {"gripper": JointLimit(velocity=1.0)}).notes
    assert notes == []
    (note,) = effective_limits(robot, EVERY, {"gripper": JointLimit(velocity=3.0)}).notes
    assert note.startswith("velocity of gripper: limits.joints.gripper 3, limits.every_joint 2")


def test_f66_one_velocity_on_every_joint_is_told_where_it_counts(robot):
    (note,) = effective_limits(robot, JointLimit(acceleration=8.0), {}).notes
    assert note.startswith("velocity limit of every joint is 4.71")
    assert effective_limits(robot, EVERY, {}).notes == []


def test_a_velocity_of_zero_in_the_urdf_is_asked_for(write):
    robot = arm(write, CHAIN.replace('velocity="2"', 'velocity="0"', 1))
    with pytest.raises(ConfigError, match=r"limits\.joints\.ab\.velocity: nobody gave it") as one:
        effective_limits(robot, JointLimit(acceleration=1.0), {})
    assert len(one.value.problems) == 1


def test_what_limits_a_mimic_joint_limits_the_one_it_follows(write):
    robot = arm(write, GRIPPER.replace('joint="left_slide"', 'joint="left_slide" multiplier="-2" '
                                       'offset="0.05"'))  # fmt: skip
    file = moveit(
        right_slide=JointLimit(lower=0.01, upper=0.03, velocity=0.1, acceleration=4.0, jerk=6.0),
        thumb=JointLimit(velocity=1.0),
    )
    limits = effective_limits(robot, JointLimit(acceleration=9.0), {}, moveit=file)
    assert robot.names[1] == "left_slide"
    found = [getattr(limits, a)[1] for a in ("lower", "upper", "velocity", "acceleration", "jerk")]
    np.testing.assert_allclose(found, [0.01, 0.02, 0.05, 2.0, 3.0])
    assert limits.sources["left_slide.velocity"] == "joint_limits.yaml (right_slide)"
    assert "joint_limits.yaml: thumb is no joint of the URDF" in limits.notes
    with pytest.raises(ConfigError, match="right_slide: mimics left_slide; limit that joint"):
        effective_limits(robot, EVERY, {"right_slide": JointLimit(velocity=1.0)})


FILE = """
default_velocity_scaling_factor: 0.1
joint_limits:
  ab:
    has_velocity_limits: true
    max_velocity: !degrees 90
    has_acceleration_limits: true
    max_acceleration: 3
    has_deceleration_limits: true
    max_deceleration: -2.5
    has_position_limits: true
    min_position: !degrees -45
    max_position: !radians 0.5
    has_jerk_limits: true
    max_jerk: 100.0
  bc:
    has_velocity_limits: false
    max_velocity: 0.1
    max_acceleration: 4.0
    angle_wraparound: false
"""


def test_moveit_s_file_is_read_in_radians(write):
    found = read_joint_limits(write("joint_limits.yaml", FILE))
    assert found.joints["ab"] == JointLimit(
        lower=pytest.approx(-math.pi / 4),
        upper=0.5,
        velocity=pytest.approx(math.pi / 2),
        acceleration=2.5,
        jerk=100.0,
    )
    assert found.joints["bc"] == JointLimit(acceleration=4.0)
    assert found.notes == (
        "joint_limits.yaml: default_velocity_scaling_factor does not count",
        "joint_limits.yaml: bc.angle_wraparound does not count",
        "joint_limits.yaml: bc.max_velocity does not count: has_velocity_limits is false",
    )


def test_a_limit_that_is_switched_off_loosens_nothing(write):
    robot = arm(write, CHAIN)
    file = read_joint_limits(write("joint_limits.yaml", FILE))
    limits = effective_limits(robot, JointLimit(acceleration=9.0), {}, moveit=file)
    np.testing.assert_allclose(limits.velocity, [math.pi / 2, 2.0, 2.0])
    np.testing.assert_allclose(limits.acceleration, [2.5, 4.0, 9.0])
    np.testing.assert_array_equal(limits.jerk, [100.0, math.inf, math.inf])
    np.testing.assert_allclose(limits.upper, [0.5, 1.0, 1.0])
    assert set(file.notes) < set(limits.notes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no group joint_limits"),
        ("joint_limits: 3", "has no group joint_limits"),
        ("joint_limits: {ab: 3}", "ab: is 3; write a group of keys"),
        ("joint_limits: {ab: {max_velocity: 0.0}}", "ab.max_velocity: is 0.0; write a number ab"),
        ("joint_limits: {ab: {max_jerk: -1}}", "ab.max_jerk: is -1; write a number above 0"),
        ("joint_limits: {ab: {max_velocity: .nan}}", "ab.max_velocity: is nan; write a finite"),
        ("joint_limits: {ab: {max_velocity: fast}}", "ab.max_velocity: is 'fast'; write a finite"),
        ("joint_limits: {ab: {max_velocity: true}}", "ab.max_velocity: is True; write a finite"),
        ("joint_limits: {ab: {max_position: .inf}}", "ab.max_position: is inf; write a finite"),
        ("joint_limits: {ab: {max_velocty: 1}}", "ab.max_velocty: unknown key"),
        ("joint_limits: {ab: {has_velocity_limits: 1}}", "has_velocity_limits: is 1; write true"),
        ("joint_limits: {ab: {has_jerk_limits: true}}", "is true, but there is no max_jerk"),
        ("joint_limits: {ab: {max_velocity: !degrees x}}", "!degrees stands before no number"),
        ("joint_limits: {ab: {max_velocity: !inches 3}}", "is not YAML"),
        ("joint_limits: {ab: {max_jerk: 1}, ab: {}}", "key 'ab' stands twice"),
    ],
)
def test_a_file_that_is_no_list_of_limits_is_refused_by_joint_and_key(write, text, said):
    path = write("joint_limits.yaml", text)
    with pytest.raises(ConfigError) as caught:
        read_joint_limits(path)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}: ")
    assert said in problem


def test_every_problem_of_the_file_is_told_at_once(write, tmp_path):
    text = "joint_limits: {ab: {max_velocity: 0.0, max_jerk: x}, bc: 1}"
    with pytest.raises(ConfigError) as caught:
        read_joint_limits(write("joint_limits.yaml", text))
    assert len(caught.value.problems) == 3
    with pytest.raises(ConfigError, match=r"no\.yaml: no such file"):
        read_joint_limits(tmp_path / "no.yaml")
