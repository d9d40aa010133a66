"""The robot model: kinematics as published, limits, shapes, SRDF, and what is refused."""

from __future__ import annotations

import itertools
import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from arms import CHAIN, LIMIT, joint

from smolvla_ros.robot import RobotError, RobotModel
from smolvla_ros.share import share


# Computed with pinocchio from The Robot Studio's SO-ARM100, Simulation/SO101/
# so101_new_calib.urdf (Apache-2.0, commit fda892c); the shipped file rounds origins to 0.01 mm.
@pytest.mark.parametrize(
    ("q", "tool", "jaw"),
    [
        ((0, 0, 0, 0, 0, 0), (0.39136, -0.00001, 0.22647), (0.31663, 0.01762, 0.25546)),
        (
            (0.7, -0.5, 0.9, -0.4, 1.2, 0.3),
            (0.25315, -0.19029, 0.17805),
            (0.21752, -0.11660, 0.17213),
        ),
        (
            (-1.1, 0.8, -0.6, 1.0, -2.0, 1.5),
            (0.17998, 0.29262, 0.00608),
            (0.19941, 0.25649, 0.07716),
        ),
    ],
)
def test_the_arm_reaches_where_the_public_description_says(so101, q, tool, jaw) -> None:
    assert so101.names == (
        "shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper",
    )  # fmt: skip
    for frame, expected in (("gripper_frame_link", tool), ("moving_jaw_so101_v1_link", jaw)):
        np.testing.assert_allclose(
            so101.frame_position(np.array(q, float), frame), expected, atol=2e-5
        )


def test_a_frame_that_is_not_there_is_refused(so101) -> None:
    with pytest.raises(RobotError, match=r"so101\.urdf.*'hand'"):
        so101.frame_position(np.zeros(6), "hand")


def test_position_limits_are_the_public_ones_and_speed_is_the_servos(so101) -> None:
    np.testing.assert_allclose(
        so101.lower, [-1.91986, -1.74533, -1.69, -1.65806, -2.74385, -0.174533]
    )
    np.testing.assert_allclose(so101.upper, [1.91986, 1.74533, 1.69, 1.65806, 2.84121, 1.74533])
    # STS3215, the slower version: 45 rpm without load. The public file's 10 is a placeholder.
    assert (so101.velocity <= 45 / 60 * 2 * math.pi).all()
    assert (so101.velocity > 0).all()
    assert so101.limits_by_name()["gripper"] == (-0.174533, 1.74533)


def test_every_link_with_mass_wears_a_collision_shape(so101) -> None:
    root = ET.parse(share("urdf", "so101.urdf")).getroot()
    heavy = {e.get("name") for e in root.iter("link") if e.find("inertial") is not None}
    assert heavy == {g.link for g in so101.geometries}
    assert len(heavy) == 7


@pytest.mark.parametrize("pose", ["zero", "ready", "rest"])
def test_named_poses_of_the_arm_lie_inside_its_limits(so101, pose) -> None:
    q = so101.pose(pose)
    assert (so101.lower <= q).all()
    assert (q <= so101.upper).all()


def test_a_pose_that_is_unknown_or_partial_is_refused(so101) -> None:
    with pytest.raises(RobotError, match=r"'asleep'.*ready, rest, zero"):
        so101.pose("asleep")
    with pytest.raises(RobotError, match="'open' leaves out joint shoulder_pan"):
        so101.pose("open")


def pairs(robot: RobotModel) -> set[str]:
    return {"".join(sorted((a.link, b.link))) for a, b in robot.self_collision_pairs()}


@pytest.mark.parametrize(
    ("srdf", "checked"),
    [
        (None, {"ac", "ad", "bd"}),  # only parent and child are exempt
        ("", {"ab", "ac", "ad", "bc", "bd", "cd"}),
        (
            '<disable_collisions link1="b" link2="a"/><disable_collisions link1="c" link2="d"/>',
            {"ac", "ad", "bc", "bd"},
        ),
        ('<disable_default_collisions link="b"/>', {"ac", "ad", "cd"}),
        (
            '<disable_default_collisions link="b"/><enable_collisions link1="d" link2="b"/>',
            {"ac", "ad", "bd", "cd"},
        ),
        (
            '<disable_collisions link1="a" link2="b"/><enable_collisions link1="b" link2="a"/>',
            {"ab", "ac", "ad", "bc", "bd", "cd"},
        ),
    ],
    ids=["no_srdf", "empty", "disable", "default", "default_enable", "enable_wins"],
)
def test_the_srdf_decides_which_links_may_touch(write, srdf, checked) -> None:
    urdf = write("a.urdf", CHAIN)
    robot = RobotModel(urdf, None if srdf is None else write("a.srdf", srdf))
    assert pairs(robot) == checked


def test_each_shape_of_a_link_is_checked_against_each_of_another(so101) -> None:
    shapes = {
        n: [g for g in so101.geometries if g.link == n] for n in ("base_link", "gripper_link")
    }
    wanted = set(itertools.product(*[[g.name for g in s] for s in shapes.values()]))
    found = {(a.name, b.name) for a, b in so101.self_collision_pairs()}
    assert wanted <= found | {(b, a) for a, b in found}
    assert len(wanted) == 12


def test_a_pose_spread_over_two_groups_is_one_pose(write) -> None:
    srdf = write(
        "a.srdf",
        '<group_state name="p" group="x"><joint name="cd" value="0.3"/></group_state>'
        '<group_state name="p" group="y"><joint name="ab" value="0.1"/>'
        '<joint name="bc" value="-2e-1"/></group_state>',
    )
    np.testing.assert_array_equal(
        RobotModel(write("a.urdf", CHAIN), srdf).pose("p"), [0.1, -0.2, 0.3]
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('<disable_collisions link1="a" link2="z"/>', "unknown link z"),
        ('<enable_collisions link1="z" link2="a"/>', "unknown link z"),
        ('<disable_default_collisions link="z"/>', "unknown link z"),
        ('<disable_collisions link1="a"/>', "no attribute 'link2'"),
        ('<group_state name="p"><joint name="zz" value="0"/></group_state>', "unknown joint zz"),
        ('<group_state name="p"><joint name="ab" value="up"/></group_state>', "'up'"),
        ('<group_state name="p"><joint name="ab"/></group_state>', "no attribute 'value'"),
        ("<group", "is not XML"),
    ],
)
def test_an_srdf_that_does_not_fit_is_refused_by_file_and_name(write, text, says) -> None:
    path = write("a.srdf", text)
    with pytest.raises(RobotError) as caught:
        RobotModel(write("a.urdf", CHAIN), path)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_pose_that_is_no_position_is_refused(write, value) -> None:
    state = f'<group_state name="p"><joint name="ab" value="{value}"/></group_state>'
    with pytest.raises(RobotError, match=value):
        RobotModel(write("a.urdf", CHAIN), write("a.srdf", state))


def test_missing_files_are_named(tmp_path, write) -> None:
    with pytest.raises(RobotError, match=r"no\.urdf: no such file"):
        RobotModel(tmp_path / "no.urdf")
    with pytest.raises(RobotError, match=r"no\.srdf: no such file"):
        RobotModel(write("a.urdf", CHAIN), tmp_path / "no.srdf")
    (tmp_path / "b.srdf").write_text("<srdf/>")
    with pytest.raises(RobotError, match="starts with <robot>"):
        RobotModel(write("a.urdf", CHAIN), tmp_path / "b.srdf")


@pytest.mark.parametrize("inside", ["", '<limit velocity="2" effort="3"/>', LIMIT])
def test_a_continuous_joint_turns_without_end_whatever_limits_it_carries(write, inside) -> None:
    body = CHAIN.replace(joint("bc", "b", "c"), joint("bc", "b", "c", "continuous", inside))
    robot = RobotModel(write("a.urdf", body))
    assert robot.names == ("ab", "bc", "cd")
    assert robot.dof == 3
    np.testing.assert_array_equal(robot.lower, [-1, -np.inf, -1])
    np.testing.assert_array_equal(robot.upper, [1, np.inf, 1])
    q = np.array([0.3, 2.0, -0.4])
    np.testing.assert_allclose(
        robot.configuration(q), [0.3, math.cos(2.0), math.sin(2.0), -0.4], atol=1e-15
    )
    # A plane chain of three links of 0.5 m: d's origin, worked out by hand.
    expected = [0.5 + 0.5 * math.cos(0.3) + 0.5 * math.cos(2.3),
                0.5 * math.sin(0.3) + 0.5 * math.sin(2.3), 0.0]  # fmt: skip
    for turns in (0, 1, -3):
        there = robot.frame_position(q + np.array([0.0, 2 * math.pi * turns, 0.0]), "d")
        np.testing.assert_allclose(there, expected, atol=1e-12)
