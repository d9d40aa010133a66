"""``RobotModel.reach`` bounds how far a shape travels: the safety proof stands on it.

The arms here are checked by moving points of their shapes, not by the formula again.
"""

from __future__ import annotations

import math

import coal
import numpy as np
import pinocchio as pin
import pytest
from arms import GRIPPER, bent_plate, write_mesh
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from smolvla_ros.robot import Attachment, RobotModel
from smolvla_ros.share import share

STEPS = 24  # chords of a path: never longer than the path

# A rail, a tilted continuous turntable, an offset lift whose range does not straddle zero, a
# wrist and a branch; every kind of shape, each with an offset and a turn of its own.
ODD_ARM = """
<robot name="odd">
  <link name="world"/>
  <link name="slide">
    <collision><origin xyz="0.3 -0.2 0.1" rpy="0.4 1.1 -2"/>
      <geometry><box size="0.5 0.02 0.1"/></geometry></collision>
  </link>
  <link name="table">
    <collision><origin xyz="-0.1 0.4 0" rpy="1 0 2"/>
      <geometry><cylinder radius="0.03" length="0.7"/></geometry></collision>
  </link>
  <link name="lift">
    <collision><origin xyz="0 0 -0.6"/>
      <geometry><sphere radius="0.07"/></geometry></collision>
  </link>
  <link name="hand">
    <collision><origin xyz="0.05 0 0.02" rpy="0 0 1"/>
      <geometry><mesh filename="{mesh}" scale="0.5 1 2"/></geometry></collision>
  </link>
  <link name="plate">
    <collision><origin xyz="0.3 0 0"/>
      <geometry><box size="0.02 0.4 0.4"/></geometry></collision>
  </link>
  <link name="side">
    <collision><origin xyz="0.3 0.3 0.3"/>
      <geometry><box size="0.1 0.1 0.1"/></geometry></collision>
  </link>
  <joint name="rail" type="prismatic"><parent link="world"/><child link="slide"/>
    <origin xyz="0 0.5 0"/><axis xyz="0.6 0 0.8"/>
    <limit lower="-0.4" upper="1.3" velocity="1" effort="1"/></joint>
  <joint name="turn" type="continuous"><parent link="slide"/><child link="table"/>
    <origin xyz="0.4 0 -0.2" rpy="0.3 0.7 0"/><axis xyz="0 0.6 0.8"/></joint>
  <joint name="lift" type="prismatic"><parent link="table"/><child link="lift"/>
    <origin xyz="-0.3 0.1 0" rpy="0 0 1"/><axis xyz="1 0 0"/>
    <limit lower="-0.9" upper="-0.2" velocity="1" effort="1"/></joint>
  <joint name="wrist" type="revolute"><parent link="lift"/><child link="hand"/>
    <origin xyz="0.1 0.2 0.3" rpy="1 1 1"/><axis xyz="0 1 0"/>
    <limit lower="0.5" upper="3" velocity="1" effort="1"/></joint>
  <joint name="bolt" type="fixed"><parent link="hand"/><child link="plate"/>
    <origin xyz="0 0 0.5" rpy="0.5 0 0"/></joint>
  <joint name="branch" type="revolute"><parent link="slide"/><child link="side"/>
    <origin xyz="-0.2 0 0"/><axis xyz="0 0 1"/>
    <limit lower="-2" upper="2" velocity="1" effort="1"/></joint>
</robot>
"""
# A linkage: the knee turns twice as far as the hip and back, the foot slides with the knee.
LINKAGE = """
<robot name="linkage">
  <link name="world"/>
  <link name="thigh"><collision><origin xyz="0.2 0 0" rpy="0 1.5708 0"/>
    <geometry><capsule radius="0.03" length="0.4"/></geometry></collision></link>
  <link name="shin"><collision><origin xyz="0.1 0.1 0"/>
    <geometry><mesh filename="{mesh}" scale="0.3 -0.3 0.3"/></geometry></collision></link>
  <link name="foot"><collision><geometry><box size="0.1 0.2 0.02"/></geometry></collision></link>
  <joint name="hip" type="revolute"><parent link="world"/><child link="thigh"/>
    <axis xyz="0 1 0"/><limit lower="-1" upper="1" velocity="1" effort="1"/></joint>
  <joint name="knee" type="continuous"><parent link="thigh"/><child link="shin"/>
    <origin xyz="0.4 0 0"/><axis xyz="0 0.8 0.6"/><mimic joint="hip" multiplier="-2" offset="1"/>
    </joint>
  <joint name="ankle" type="prismatic"><parent link="shin"/><child link="foot"/>
    <origin xyz="0.3 0 0"/><axis xyz="-1 0 0"/>
    <limit lower="-0.5" upper="0.3" velocity="1" effort="1"/>
    <mimic joint="knee" multiplier="0.1"/></joint>
</robot>
"""


@pytest.fixture(scope="module")
def arms(tmp_path_factory) -> dict[str, RobotModel]:
    folder = tmp_path_factory.mktemp("odd")
    part = write_mesh(folder / "part.obj", *bent_plate())
    for name, text in (("odd", ODD_ARM), ("linkage", LINKAGE)):
        (folder / f"{name}.urdf").write_text(text.format(mesh=part))
    (folder / "gripper.urdf").write_text(f'<robot name="r">{GRIPPER}</robot>')
    tilted = pin.SE3(pin.rpy.rpyToMatrix(0.3, 1.0, -2.0), np.array([0.2, -0.1, 0.3]))
    stick = [(coal.Cylinder(0.02, 0.5), tilted), (coal.Sphere(0.1), tilted.inverse())]
    return {
        "so101": RobotModel(share("urdf", "so101.urdf"), share("urdf", "so101.srdf")),
        "odd": RobotModel(folder / "odd.urdf", attachments=[Attachment("stick", "hand", stick)]),
        "linkage": RobotModel(folder / "linkage.urdf"),
        "gripper": RobotModel(folder / "gripper.urdf"),
    }


# The bound over what 150 postures found. A joint's own range is not used, and a linkage's
# joints are taken as if each moved alone.
TIGHT = {"so101": 1.1, "odd": 1.1, "linkage": 2.8, "gripper": 1.1}
ARMS = ["so101", "odd", "linkage", "gripper"]


def surface(robot: RobotModel, index: int) -> np.ndarray:
    """``[N, 3]`` extreme points of a shape in its own frame, from its own numbers."""
    name = robot.geometry.geometryObjects[index].name
    shape = robot.geometry.geometryObjects[index].geometry
    angles = np.linspace(0, 2 * math.pi, 12, endpoint=False)
    ring = np.column_stack([np.cos(angles), np.sin(angles), np.zeros(12)])
    corners = np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T
    if isinstance(shape, coal.Box):
        return corners * shape.halfSide
    if isinstance(shape, coal.Cylinder):
        rings = [ring * shape.radius + [0, 0, s * shape.halfLength] for s in (-1, 1)]
        return np.vstack(rings)
    if isinstance(shape, coal.Sphere):
        return np.vstack([ring, np.roll(ring, 1, 1), np.roll(ring, 2, 1)]) * shape.radius
    if isinstance(shape, coal.Capsule):
        ends = [ring * shape.radius + [0, 0, s * shape.halfLength] for s in (-1, 1)]
        return np.vstack([*ends, [[0, 0, s * (shape.halfLength + shape.radius)] for s in (-1, 1)]])
    # From the mesh itself, not from its hull.
    scale = [0.5, 1.0, 2.0] if "hand" in name else [0.3, -0.3, 0.3]
    return bent_plate()[0] * scale


def travel(robot: RobotModel, q: np.ndarray, dq: np.ndarray) -> dict[str, float]:
    """Shape → metres that its furthest travelling point covers on the way q → q + dq."""
    points = {g.name: surface(robot, g.index).T for g in robot.geometries}
    gone = {name: np.zeros(p.shape[1]) for name, p in points.items()}
    last: dict[str, np.ndarray] = {}
    data, placed = robot.model.createData(), robot.geometry.createData()
    for share_ in np.linspace(0.0, 1.0, STEPS + 1):
        at = robot.configuration(q + share_ * dq)
        pin.updateGeometryPlacements(robot.model, data, robot.geometry, placed, at)
        for g in robot.geometries:
            pose = placed.oMg[g.index]
            now = pose.rotation @ points[g.name] + pose.translation[:, None]
            if g.name in last:
                gone[g.name] += np.linalg.norm(now - last[g.name], axis=0)
            last[g.name] = now
    return {name: float(way.max()) for name, way in gone.items()}


unit = arrays(float, 6, elements=st.floats(0, 1))


@pytest.mark.parametrize("arm", ARMS)
def test_no_point_of_a_shape_travels_further_than_its_reach(arms, arm) -> None:
    robot = arms[arm]
    lower = np.where(np.isfinite(robot.lower), robot.lower, -4.0)
    upper = np.where(np.isfinite(robot.upper), robot.upper, 4.0)
    reach = {g.name: robot.reach(g) for g in robot.geometries}

    @settings(max_examples=150, deadline=None, database=None)
    @given(start=unit, end=unit)
    def holds(start: np.ndarray, end: np.ndarray) -> None:
        n = robot.dof
        q = lower + start[:n] * (upper - lower)
        dq = lower + end[:n] * (upper - lower) - q
        for name, way in travel(robot, q, dq).items():
            assert way <= reach[name] @ np.abs(dq) + 1e-9, name

    holds()


@pytest.mark.parametrize("arm", ARMS)
def test_the_reach_holds_for_the_fastest_single_joint_in_every_posture(arms, arm) -> None:
    # The velocity of a point per unit of one joint, searched over postures: the bound must
    # lie above all of them, and not so far above that it says nothing.
    robot = arms[arm]
    rng = np.random.default_rng(0)
    lower = np.where(np.isfinite(robot.lower), robot.lower, -4.0)
    upper = np.where(np.isfinite(robot.upper), robot.upper, 4.0)
    fastest = np.zeros((len(robot.geometries), robot.dof))
    data, placed = robot.model.createData(), robot.geometry.createData()
    h = 1e-6

    def points(q: np.ndarray) -> list[np.ndarray]:
        at = robot.configuration(q)
        pin.updateGeometryPlacements(robot.model, data, robot.geometry, placed, at)
        poses = [placed.oMg[g.index] for g in robot.geometries]
        return [
            surface(robot, g.index) @ p.rotation.T + p.translation
            for g, p in zip(robot.geometries, poses, strict=True)
        ]

    for _ in range(150):
        corners = rng.choice([0.0, 1.0, rng.uniform()], robot.dof)
        q = lower + corners * (upper - lower)
        for j, step in enumerate(h * np.eye(robot.dof)):
            for row, (a, b) in enumerate(zip(points(q - step), points(q + step), strict=True)):
                speed = np.linalg.norm(b - a, axis=1).max() / (2 * h)
                fastest[row, j] = max(fastest[row, j], speed)
    bound = np.array([robot.reach(g) for g in robot.geometries])
    assert (fastest <= bound + 1e-7).all()
    np.testing.assert_array_equal(bound[fastest < 1e-7], 0.0)  # joints that do not carry it
    assert bound.sum() <= TIGHT[arm] * fastest.sum()


def test_reach_of_one_box_on_one_joint_is_its_furthest_corner(tmp_path) -> None:
    path = tmp_path / "a.urdf"
    path.write_text(
        '<robot name="r"><link name="w"/><link name="a"><collision><origin xyz="1 0 0"/>'
        '<geometry><box size="0.6 0.8 0.001"/></geometry></collision></link>'
        '<joint name="j" type="revolute"><parent link="w"/><child link="a"/><axis xyz="0 0 1"/>'
        '<origin xyz="5 5 5"/><limit lower="-1" upper="1" velocity="1" effort="1"/></joint></robot>'
    )
    robot = RobotModel(path)
    (bound,) = robot.reach(robot.geometries[0])
    assert bound == pytest.approx(math.hypot(1.3, 0.4), abs=1e-12)


def test_a_prismatic_joint_moves_a_shape_metre_by_metre(arms) -> None:
    odd = arms["odd"]
    reach = {g.link: dict(zip(odd.names, odd.reach(g), strict=True)) for g in odd.geometries}
    assert reach["slide"]["rail"] == 1.0
    assert reach["plate"]["rail"] == reach["plate"]["lift"] == 1.0
    assert reach["side"]["lift"] == reach["side"]["turn"] == 0.0
    assert reach["slide"]["branch"] == 0.0


@pytest.mark.parametrize("arm", ARMS)
def test_two_shapes_come_no_faster_together_than_their_relative_reach(arms, arm) -> None:
    robot = arms[arm]
    rng = np.random.default_rng(1)
    lower = np.where(np.isfinite(robot.lower), robot.lower, -4.0)
    upper = np.where(np.isfinite(robot.upper), robot.upper, 4.0)
    couples = [
        (a, b, robot.relative_reach(a, b))
        for k, a in enumerate(robot.geometries)
        for b in robot.geometries[:k]
    ]
    data, placed = robot.model.createData(), robot.geometry.createData()
    for _ in range(60):
        q, to = rng.uniform(lower, upper, (2, robot.dof))
        to = q + (to - q) * rng.integers(0, 2, robot.dof)
        poses = []
        for at in (q, to):
            pin.updateGeometryPlacements(
                robot.model, data, robot.geometry, placed, robot.configuration(at)
            )
            poses.append([pin.SE3(m) for m in placed.oMg])
        for a, b, reach in couples:
            seen = [p[b.index].inverse() * p[a.index] for p in poses]
            points = surface(robot, a.index)
            # Distances to points of b, which stand still in b's frame.
            here, there = (
                np.linalg.norm(
                    (points @ m.rotation.T + m.translation)[:, None]
                    - surface(robot, b.index)[None],
                    axis=2,
                )
                for m in seen
            )
            assert np.abs(here - there).max() <= reach @ np.abs(to - q) + 1e-9


def test_fingers_that_mimic_one_motor_move_against_each_other(arms) -> None:
    robot = arms["gripper"]
    left, right = (g for g in robot.geometries if g.link in ("left", "right"))
    np.testing.assert_allclose(robot.reach(left)[1], 1.0)
    np.testing.assert_allclose(robot.relative_reach(left, right), [0.0, 2.0])
