"""The robot model: kinematics as published, limits, shapes, SRDF, and what is refused."""

from __future__ import annotations

import itertools
import math
import xml.etree.ElementTree as ET

import coal
import numpy as np
import pinocchio as pin
import pytest
from arms import CHAIN, GRIPPER, LIMIT, bent_plate, joint, link, mesh, write_mesh

from smolvla_ros.robot import Attachment, RobotError, RobotModel
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


# -- joints that follow others -------------------------------------------------------------


def test_f64_a_mimic_joint_follows_and_is_not_commanded(write) -> None:
    robot = RobotModel(write("a.urdf", GRIPPER))
    assert robot.names == ("turn", "left_slide")
    assert robot.dof == 2
    assert robot.mimics.keys() == {"right_slide"}
    for opening in (0.0, 0.03):
        q = np.array([0.0, opening])
        np.testing.assert_allclose(robot.frame_position(q, "left"), [1.0, opening, 0.0])
        np.testing.assert_allclose(robot.frame_position(q, "right"), [1.0, -opening, 0.0])


@pytest.mark.parametrize("frame", ["d", "right"])
def test_a_frame_moves_as_its_jacobian_says(write, frame) -> None:
    """Against differences of positions; a joint that mimics adds to the one it follows."""
    chain = CHAIN.replace('type="revolute"', 'type="continuous"', 1)
    robot = RobotModel(write("a.urdf", GRIPPER if frame == "right" else chain))
    q, h = np.linspace(0.02, 0.03, robot.dof), 1e-6
    moves = [
        (robot.frame_position(q + d, frame) - robot.frame_position(q - d, frame)) / (2 * h)
        for d in h * np.eye(robot.dof)
    ]
    found = robot.frame_jacobian(q, frame)
    np.testing.assert_allclose(found[:3].T, moves, atol=1e-6)
    turns = [1.0, 0.0] if frame == "right" else [1.0, 1.0, 1.0]
    np.testing.assert_allclose(found[3:].T, [[0.0, 0.0, t] for t in turns], atol=1e-12)
    with pytest.raises(RobotError, match="has no frame 'tool'"):
        robot.frame_jacobian(q, "tool")


def mimic(joint_: str, multiplier: float = 1.0, offset: float = 0.0, limit: str = LIMIT) -> str:
    return limit + f'<mimic joint="{joint_}" multiplier="{multiplier}" offset="{offset}"/>'


def test_a_mimic_of_a_mimic_and_of_a_turning_joint_is_followed(write) -> None:
    body = (
        "".join(f'<link name="{n}"/>' for n in "abcd")
        + joint("ab", "a", "b", "continuous", "")
        + joint("bc", "b", "c", "continuous", mimic("cd", -2.0, 0.1, ""))
        + joint("cd", "c", "d", "continuous", mimic("ab", 0.5, 0.3, ""))
    )
    robot = RobotModel(write("a.urdf", body))
    assert robot.names == ("ab",)
    for value in (0.0, 1.2, -40.0):
        first, second, third = value, -2.0 * (0.5 * value + 0.3) + 0.1, 0.5 * value + 0.3
        np.testing.assert_allclose(
            robot.configuration(np.array([value])),
            [f(v) for v in (first, second, third) for f in (math.cos, math.sin)],
            atol=1e-12,
        )


@pytest.mark.parametrize(
    ("multiplier", "offset", "lower", "upper", "velocity"),
    [
        (1.0, 0.0, -1.0, 1.0, 2.0),
        (4.0, 0.0, -0.25, 0.25, 0.5),
        (-4.0, 0.4, -0.15, 0.35, 0.5),
        (0.5, 0.75, -1.0, 0.5, 2.0),
        (0.0, 0.5, -1.0, 1.0, 2.0),
    ],
)
def test_a_mimic_joint_s_limits_hold_for_the_one_it_follows(
    write, multiplier, offset, lower, upper, velocity
) -> None:
    body = CHAIN.replace(
        joint("bc", "b", "c"), joint("bc", "b", "c", inside=mimic("ab", multiplier, offset))
    )
    robot = RobotModel(write("a.urdf", body))
    assert robot.limits_by_name()["ab"] == pytest.approx((lower, upper))
    assert robot.velocity[0] == velocity
    assert robot.limits_by_name()["cd"] == (-1.0, 1.0)


@pytest.mark.parametrize("multiplier", [1.0, 0.0])
def test_a_mimic_joint_that_leaves_nothing_is_refused(write, multiplier) -> None:
    inside = mimic("ab", multiplier, 2.5)
    body = CHAIN.replace(joint("bc", "b", "c"), joint("bc", "b", "c", inside=inside))
    with pytest.raises(RobotError, match=r"joint bc: its limits .* multiplier .* leave ab no room"):
        RobotModel(write("a.urdf", body))


def test_a_named_pose_may_name_mimic_joints(write) -> None:
    values = {"turn": 0.5, "left_slide": 0.02, "right_slide": 0.02}
    state = "".join(f'<joint name="{n}" value="{v}"/>' for n, v in values.items())
    srdf = write("a.srdf", f'<group_state name="p" group="g">{state}</group_state>')
    robot = RobotModel(write("a.urdf", GRIPPER), srdf)
    np.testing.assert_array_equal(robot.pose("p"), [0.5, 0.02])


# -- what the arm carries ------------------------------------------------------------------


def tool(link_: str = "d", may_touch=(), name: str = "stick") -> Attachment:
    placement = pin.SE3(np.eye(3), np.array([0.3, 0.0, 0.0]))
    return Attachment(name, link_, [(coal.Sphere(0.05), placement)], may_touch)


def test_f60_what_the_arm_carries_is_checked_against_all_but_its_link_and_what_it_may_touch(
    write,
) -> None:
    everything = '<disable_default_collisions link="a"/><disable_default_collisions link="b"/>'
    everything += '<disable_default_collisions link="c"/>'
    paths = write("a.urdf", CHAIN), write("a.srdf", everything)
    assert pairs(RobotModel(*paths)) == set()
    assert pairs(RobotModel(*paths, attachments=[tool()])) == {"ad", "bd", "cd"}
    assert pairs(RobotModel(*paths, attachments=[tool(may_touch=["b", "c"])])) == {"ad"}
    two = [tool("d"), tool("b", may_touch=["c", "d"], name="box")]
    assert pairs(RobotModel(*paths, attachments=two)) == {"ab", "ad", "bd", "cd"}


def test_what_the_arm_carries_is_where_it_was_put(write) -> None:
    robot = RobotModel(write("a.urdf", CHAIN), attachments=[tool()])
    stick = robot.geometries[-1]
    assert (stick.link, stick.attachment.name) == ("d", "stick")
    shape = robot.geometry.geometryObjects[stick.index]
    np.testing.assert_allclose(shape.placement.translation, [0.3, 0.0, 0.0])
    assert robot.carrier(stick) == robot.carrier(robot.geometries[-2])
    np.testing.assert_allclose(robot.reach(stick)[-1], 0.35)
    assert "attachment stick/0" in next(x for x in robot.report() if x.startswith("link d"))


@pytest.mark.parametrize(
    ("attachments", "says"),
    [
        ([tool("hand")], "attachment stick: hand is no link"),
        ([tool(may_touch=["b", "z"])], "attachment stick: z is no link"),
        ([tool(), tool()], "attachment stick: stands twice"),
        (
            [Attachment("wall", "d", [(coal.Halfspace(np.eye(3)[2], 0.0), pin.SE3.Identity())])],
            "attachment wall: part 0 has no finite size",
        ),
    ],
)
def test_an_attachment_that_does_not_fit_is_refused(write, attachments, says) -> None:
    with pytest.raises(RobotError, match=says):
        RobotModel(write("a.urdf", CHAIN), attachments=attachments)


# -- the description as a whole ------------------------------------------------------------


def test_links_that_a_joint_joins_are_adjacent_also_across_links_without_a_shape(write) -> None:
    body = CHAIN.replace(link("b"), '<link name="b"/>')
    robot = RobotModel(write("a.urdf", body))
    assert robot.adjacent("a", "c")
    assert robot.adjacent("d", "c")
    assert not robot.adjacent("a", "d")
    assert pairs(robot) == {"ad"}


def test_links_that_nothing_moves_against_each_other_are_no_pair(write) -> None:
    body = CHAIN.replace(joint("cd", "c", "d"), joint("cd", "c", "d", "fixed", ""))
    robot = RobotModel(write("a.urdf", body), write("a.srdf", ""))
    assert pairs(robot) == {"ab", "ac", "ad", "bc", "bd"}


def test_f14_the_fingerprint_changes_with_every_file_that_counts(tmp_path, write) -> None:
    part = write_mesh(tmp_path / "part.obj", *bent_plate())
    urdf = write("a.urdf", CHAIN.replace(link("d"), link("d", mesh("part.obj"))))
    srdf = write("a.srdf", "")
    seen = [RobotModel(urdf, srdf).fingerprint]
    assert RobotModel(urdf, srdf).fingerprint == seen[0]
    assert len(seen[0]) == 64
    seen.append(RobotModel(urdf).fingerprint)
    vertices, faces = bent_plate()
    write_mesh(part, 1.001 * vertices, faces)
    seen.append(RobotModel(urdf, srdf).fingerprint)
    srdf.write_text(srdf.read_text() + "\n")
    seen.append(RobotModel(urdf, srdf).fingerprint)
    urdf.write_text(urdf.read_text().replace("0.5 0 0", "0.6 0 0", 1))
    seen.append(RobotModel(urdf, srdf).fingerprint)
    assert len(set(seen)) == 5


# -- what a person should look at ----------------------------------------------------------


def test_f51_the_report_names_each_link_s_shapes(tmp_path, write) -> None:
    write_mesh(tmp_path / "part.obj", *bent_plate())
    body = CHAIN.replace(link("d"), link("d", mesh("part.obj"))).replace(
        link("a"), '<link name="a"/>'
    )
    lines = RobotModel(write("a.urdf", body)).report(samples=1)
    assert lines[0] == "link a: none"
    assert lines[1] == "link b: primitive (box)"
    assert (
        lines[3] == "link d: mesh hull (10 vertices, 0.1 x 0.3 x 0.4 m, 1.50 x the mesh's volume)"
    )
    assert lines[4] == "1 pairs of shapes checked for self-collision"


FOLDING = "".join(link(n) for n in "abcd") + "".join(
    joint(p + c, p, c, inside='<limit lower="-3" upper="3" velocity="2" effort="3"/>')
    for p, c in ("ab", "bc", "cd")
)


def test_f53_a_pair_that_the_srdf_hides_and_that_touches_is_told(write) -> None:
    urdf = write("a.urdf", FOLDING)
    hidden = "".join(
        f'<disable_collisions link1="{a}" link2="{b}" reason="Adjacent"/>'
        for a, b in ("ab", "bc", "cd", "db")
    )
    robot = RobotModel(urdf, write("a.srdf", hidden))
    told = [line for line in robot.report(samples=400, seed=1) if "SRDF" in line]
    assert len(told) == 1
    assert told[0].startswith("SRDF lets b and d touch, and they do: in ")
    assert robot.report(samples=400, seed=1) == robot.report(samples=400, seed=1)
    honest = RobotModel(urdf, write("b.srdf", hidden.replace('link1="d"', 'link1="c"')))
    assert not [line for line in honest.report(samples=400, seed=1) if "SRDF" in line]


def test_f66_a_limit_that_is_the_same_on_every_joint_is_told(write) -> None:
    def told(body: str) -> list[str]:
        return [x.split()[0] for x in RobotModel(write("a.urdf", body)).report(1) if "holder" in x]

    assert told(CHAIN) == ["velocity", "effort"]
    assert told(CHAIN.replace('velocity="2"', 'velocity="1"', 1)) == ["effort"]
