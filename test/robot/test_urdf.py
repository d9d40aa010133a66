"""What a URDF may hold, and what is refused by file, element and fix."""

from __future__ import annotations

import numpy as np
import pinocchio as pin
import pytest
from arms import CHAIN, LIMIT, MASS, SHAPE, joint, link

from smolvla_ros.robot import RobotError, RobotModel
from smolvla_ros.share import share

TWO = link("a") + link("b")


def collision(inside: str) -> str:
    return link("a") + link("b", f"<collision>{inside}</collision>") + joint("j", "a", "b")


def one(kind: str = "revolute", inside: str = LIMIT, axis: str = "0 0 1") -> str:
    return TWO + joint("j", "a", "b", kind, inside, axis=axis)


def limit(**changes: str) -> str:
    values = {"lower": "-1", "upper": "1", "velocity": "2", "effort": "3", **changes}
    return "<limit " + " ".join(f'{k}="{v}"' for k, v in values.items() if v) + "/>"


def soft(attributes: str) -> str:
    return LIMIT + f'<safety_controller k_velocity="1" {attributes}/>'


REFUSED = {
    "mass": (
        link("a") + link("b", MASS) + joint("j", "a", "b"),
        "link b has a body but no <collision>",
    ),
    "visual": (
        link("a", "<visual><geometry><sphere radius='1'/></geometry></visual>")
        + link("b")
        + joint("j", "a", "b"),
        "link a has a body but no <collision>",
    ),
    "no_range": (one(inside=limit(lower="", upper="")), "joint j: no <limit lower upper>"),
    "no_lower": (one(inside=limit(lower="")), "joint j: no <limit lower upper>"),
    "no_limit": (one(inside=""), "joint j: no <limit lower upper>"),
    "inverted": (one(inside=limit(lower="1")), "joint j: lower 1 is not below upper 1"),
    "nan_limit": (one(inside=limit(upper="nan")), "joint j: <limit upper> is 'nan'"),
    "word_limit": (one(inside=limit(velocity="fast")), "joint j: <limit velocity> is 'fast'"),
    "negative_velocity": (one(inside=limit(velocity="-2")), "joint j: velocity -2 is negative"),
    "infinite_velocity": (one(inside=limit(velocity="inf")), "<limit velocity> is 'inf'"),
    "no_velocity": (one(inside=limit(velocity="")), "joint j: <limit> has no velocity"),
    "no_effort": (one(inside=limit(effort="")), "joint j: <limit> has no effort"),
    "soft_empty": (
        one(inside=soft('soft_lower_limit="1" soft_upper_limit="2"')),
        "joint j: soft_lower_limit and soft_upper_limit leave nothing",
    ),
    "soft_nan": (
        one(inside=soft('soft_lower_limit="nan"')),
        "joint j: <safety_controller soft_lower_limit> is 'nan'",
    ),
    "soft_alone": (
        one(inside=LIMIT + "<safety_controller/>"),
        "joint j: <safety_controller k_velocity> is ''; write a finite number",
    ),
    "floating": (one("floating", ""), "joint j: type 'floating'; only revolute"),
    "planar": (one("planar", ""), "joint j: type 'planar'; only revolute"),
    "unknown_type": (one("hinge"), "joint j: type 'hinge'"),
    "zero_axis": (one(axis="0 0 0"), "joint j: <axis xyz> is zero"),
    "bad_axis": (one(axis="0 0"), "joint j: <axis xyz> is '0 0'; write 3 finite numbers"),
    "all_fixed": (one("fixed", ""), "no movable joint"),
    "stray_child": (TWO + joint("j", "a", "z"), "joint j: link 'z' does not exist"),
    "no_parent": (TWO + '<joint name="j" type="fixed"><child link="b"/></joint>', "no <parent"),
    "loose_link": (TWO, "links a, b hang on no joint"),
    "ring": (
        CHAIN + link("e") + link("f") + joint("ef", "e", "f") + joint("fe", "f", "e"),
        "links e, f form a ring",
    ),
    "two_parents": (CHAIN + joint("ad", "a", "d"), "link d: is the child of two joints"),
    "same_name": (CHAIN + link("d"), "link d: stands twice"),
    "nameless": (CHAIN.replace('name="d"', ""), "<link> without a name"),
    "empty": ("", "an empty robot cannot be gated"),
    "mimics_itself": (one(inside=LIMIT + '<mimic joint="j"/>'), "joint j: mimics itself"),
    "mimics_nothing": (
        CHAIN.replace("</joint>", '<mimic joint="x"/></joint>', 1),
        "joint ab: mimics 'x', which is no movable joint",
    ),
    "mimic_ring": (
        CHAIN
        + link("e")
        + link("f")
        + joint("de", "d", "e", inside=LIMIT + '<mimic joint="ef"/>')
        + joint("ef", "e", "f", inside=LIMIT + '<mimic joint="de"/>'),
        "mimics itself through",
    ),
    "mimic_factor": (
        one(inside=LIMIT + '<mimic joint="k" multiplier="x"/>'),
        "joint j: <mimic multiplier> is 'x'",
    ),
    "no_mesh": (
        collision('<geometry><mesh filename="no.stl"/></geometry>'),
        "link b: mesh 'no.stl': no such file",
    ),
    "no_shape": (collision(""), "link b: collision 0: needs one shape in <geometry>, has 0"),
    "strange_shape": (collision("<geometry><cone/></geometry>"), "unknown shape <cone>"),
    "flat_box": (
        collision('<geometry><box size="1 1 0"/></geometry>'),
        "link b: collision 0: box size is not above 0",
    ),
    "negative_sphere": (
        collision('<geometry><sphere radius="-1"/></geometry>'),
        "link b: collision 0: sphere radius is not above 0",
    ),
    "no_length": (
        collision('<geometry><cylinder radius="1"/></geometry>'),
        "link b: collision 0: <cylinder length> is ''; write a finite number",
    ),
    "bad_origin": (
        collision('<origin rpy="0 x 0"/><geometry><sphere radius="1"/></geometry>'),
        "link b: collision 0: <origin rpy> is '0 x 0'; write 3 finite numbers",
    ),
    "flat_scale": (
        collision('<geometry><mesh filename="a.stl" scale="1 0 1"/></geometry>'),
        "link b: collision 0: mesh scale holds a 0",
    ),
    "cut_off": ("<link", "is not XML"),
    "xacro": (
        '<xacro:macro xmlns:xacro="http://www.ros.org/wiki/xacro" name="m"/>',
        "is xacro; expand it first",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("body", "says"), REFUSED.values(), ids=REFUSED)
def test_a_description_that_a_gate_cannot_use_is_refused_by_file_and_name(
    write, body, says
) -> None:
    path = write("a.urdf", body)
    with pytest.raises(RobotError) as caught:
        RobotModel(path)
    assert all(line.startswith(f"{path}: ") for line in str(caught.value).splitlines())
    assert says in str(caught.value)


def test_every_problem_of_a_file_is_told_at_once(write) -> None:
    body = (
        link("a", MASS)
        + link("b", '<collision><geometry><box size="0 1 1"/></geometry></collision>')
        + link("c")
        + joint("ab", "a", "b", inside=limit(lower="2"))
        + joint("bc", "b", "c", "floating", "")
    )
    with pytest.raises(RobotError) as caught:
        RobotModel(write("a.urdf", body), links_without_geometry=["c", "hand"])
    said = str(caught.value).splitlines()
    for part in ("link a has", "link b: coll", "joint ab: lower", "joint bc: type", "'hand' is no",
                 "link c has a <collision>"):  # fmt: skip
        assert sum(part in line for line in said) == 1, part
    assert len(said) == 6


def test_f50_a_link_with_a_body_needs_a_shape_unless_it_is_excused_by_name(write) -> None:
    path = write("a.urdf", link("a", MASS) + link("b") + joint("j", "a", "b"))
    with pytest.raises(RobotError, match="list it in links_without_geometry"):
        RobotModel(path)
    robot = RobotModel(path, links_without_geometry=["a"])
    assert [g.link for g in robot.geometries] == ["b"]
    assert "link a: none" in robot.report()


def test_a_file_that_is_no_text_or_another_document_is_refused(tmp_path) -> None:
    path = tmp_path / "a.urdf"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RobotError, match=r"a\.urdf: is not UTF-8"):
        RobotModel(path)
    path.write_text("<sdf/>")
    with pytest.raises(RobotError, match="starts with <robot>"):
        RobotModel(path)


def test_limits_that_do_not_count_are_noted(write) -> None:
    body = CHAIN.replace(LIMIT, soft('soft_lower_limit="0"'))
    body = body.replace('name="bc" type="revolute"', 'name="bc" type="continuous"')
    body = body.replace('name="ab" type="revolute"', 'name="ab" type="fixed"')
    robot = RobotModel(write("a.urdf", body))
    assert robot.names == ("bc", "cd")
    np.testing.assert_array_equal(robot.lower, [-np.inf, 0.0])
    assert [n.split(":")[0] for n in robot.notes] == [
        "joint ab is fixed",
        "joint bc is continuous",
    ]
    assert set(robot.notes) <= set(robot.report())


@pytest.mark.parametrize(
    ("given", "lower", "upper"),
    [
        ('soft_lower_limit="-0.5" soft_upper_limit="0.25"', -0.5, 0.25),
        ('soft_lower_limit="-3" soft_upper_limit="0.25"', -1.0, 0.25),
        ('soft_upper_limit="9"', -1.0, 1.0),
        ("", -1.0, 1.0),
    ],
)
def test_the_tighter_of_soft_and_hard_limits_counts(write, given, lower, upper) -> None:
    robot = RobotModel(write("a.urdf", one(inside=soft(given))))
    assert robot.limits_by_name() == {"j": (lower, upper)}


def test_a_velocity_or_effort_of_zero_means_that_nobody_gave_it(write) -> None:
    robot = RobotModel(write("a.urdf", one(inside=limit(velocity="0", effort="0"))))
    assert robot.velocity == robot.effort == [np.inf]


def test_shapes_stand_where_pinocchio_reads_them_too(so101, write, monkeypatch) -> None:
    every = write(
        "every.urdf",
        link("a", '<collision><origin xyz="1 2 3" rpy="0.1 -2 3"/>'
             '<geometry><cylinder radius="0.1" length="0.4"/></geometry></collision>' + SHAPE)
        + link("b", '<collision><origin rpy="1 0 0"/><geometry><sphere radius="0.2"/></geometry>'
               "</collision>")
        + link("c")
        + joint("ab", "a", "b") + joint("bc", "b", "c", "fixed", ""),
    )  # fmt: skip
    for path in (every, share("urdf", "so101.urdf")):
        robot = RobotModel(path)
        theirs = pin.buildGeomFromUrdf(robot.model, str(path), pin.GeometryType.COLLISION)
        ours = {g.name: g for g in robot.geometry.geometryObjects}
        assert set(ours) == {g.name for g in theirs.geometryObjects}
        for g in theirs.geometryObjects:
            mine = ours[g.name]
            assert mine.parentJoint == g.parentJoint
            assert mine.placement.isApprox(g.placement, 1e-12)
            assert mine.geometry == g.geometry
