"""What RViz is shown is where things are."""

from __future__ import annotations

import numpy as np
import pinocchio as pin
import pytest
from arms import write_mesh
from cells import tabletop
from rclpy.serialization import serialize_message
from scipy.spatial import ConvexHull
from visualization_msgs.msg import Marker, MarkerArray

from smolvla_ros.robot import RobotError
from smolvla_ros.ros.markers import (
    closest_marker,
    obstacle_markers,
    stopping_path_marker,
    zone_markers,
)
from smolvla_ros.safety import Clearance, Zone
from smolvla_ros.safety.obstacles import read_obstacle

PLACE = {"position": [0.1, 0.2, 0.3], "rpy": [0.0, 0.0, np.pi / 2]}


def scale(marker):
    return [marker.scale.x, marker.scale.y, marker.scale.z]


def pose(marker):
    p, q = marker.pose.position, marker.pose.orientation
    return pin.SE3(pin.Quaternion(q.w, q.x, q.y, q.z).toRotationMatrix(), np.array([p.x, p.y, p.z]))


def shown(zone, frame="base_link"):
    array = zone_markers({"z": zone}, frame)
    serialize_message(array)
    assert all(m.ns == "z" and m.action == Marker.ADD for m in array.markers)
    assert len({m.id for m in array.markers}) == len(array.markers)
    return array.markers


@pytest.mark.parametrize(
    ("shape", "size", "kinds", "scales"),
    [
        ("box", [0.1, 0.2, 0.3], [Marker.CUBE], [[0.1, 0.2, 0.3]]),
        ("sphere", [0.1], [Marker.SPHERE], [[0.2] * 3]),
        ("cylinder", [0.1, 0.4], [Marker.CYLINDER], [[0.2, 0.2, 0.4]]),
        ("half_space", [], [Marker.CUBE], [[4.0, 4.0, 0.002]]),
        (
            "capsule",
            [0.1, 0.4],
            [Marker.CYLINDER, Marker.SPHERE, Marker.SPHERE],
            [[0.2, 0.2, 0.4], [0.2] * 3, [0.2] * 3],
        ),
    ],
)
def test_every_shape_is_shown_where_it_is(shape, size, kinds, scales):
    markers = shown(Zone(kind="keep_out", shape=shape, size=size, **PLACE))
    assert [m.type for m in markers] == kinds
    assert [scale(m) for m in markers] == scales
    expected = pin.SE3(pin.rpy.rpyToMatrix(*PLACE["rpy"]), np.array(PLACE["position"]))
    assert pose(markers[0]).isApprox(expected, 1e-9)
    if shape == "capsule":
        assert [m.pose.position.z for m in markers[1:]] == pytest.approx([0.1, 0.5])


def test_a_mesh_is_shown_as_its_hull_in_the_zones_frame(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # of the hull, not the user's
    corners = np.array(np.meshgrid(*[[-0.5, 0.5]] * 3)).reshape(3, -1).T
    path = write_mesh(tmp_path / "m.stl", corners, ConvexHull(corners).simplices)
    zone = Zone(kind="keep_out", shape="mesh", mesh=str(path), scale=0.2, frame="stand", **PLACE)
    (marker,) = shown(zone)
    assert marker.type == Marker.TRIANGLE_LIST and marker.header.frame_id == "stand"
    assert scale(marker) == [1.0, 1.0, 1.0]
    points = np.array([[p.x, p.y, p.z] for p in marker.points])
    assert len(points) == 3 * 12
    np.testing.assert_allclose(np.unique(np.abs(points)), [0.1], atol=1e-6)


def test_kinds_have_colours_of_their_own():
    rules = {
        "keep_out": {},
        "keep_in": {},
        "slow": {"speed": 0.1},
        "approach": {"speed_ratio": 0.1, "distance": 0.2},
    }
    colours = set()
    for kind, more in rules.items():
        (marker,) = shown(Zone(kind=kind, shape="sphere", size=[0.1], **more))
        colours.add((marker.color.r, marker.color.g, marker.color.b))
        assert marker.color.a > 0 and marker.header.frame_id == "base_link"
    assert len(colours) == len(rules)


def test_obstacles_are_shown_and_fade():
    shapes = [
        read_obstacle("cup", "capsule", [0.1, 0.2], [0.1, 0.2, 0.3]),
        read_obstacle("tray", "box", [0.1, 0.2, 0.3], [0.0, 0.0, 1.0]),
        read_obstacle("rock", "hull", [], [0, 0, 1], vertices=[[0] * 3, *(0.1 * np.eye(3))]),
    ]
    array = obstacle_markers(shapes, "base_link")
    serialize_message(array)
    names = ["obstacle/cup"] * 3 + ["obstacle/tray", "obstacle/rock"]
    assert [m.ns for m in array.markers] == names
    assert array.markers[-1].type == Marker.TRIANGLE_LIST and len(array.markers[-1].points) == 12
    assert all(m.lifetime.sec == 1 for m in array.markers)
    assert obstacle_markers([], "base_link") == MarkerArray()


def test_near_pairs_are_lines_between_their_nearest_points():
    cell, robot = tabletop()
    config = cell.safety_monitor
    world = Clearance(robot, config.zones, config.margin, config.slack)
    world.anchor(robot.pose("ready"))
    world.set_obstacles([read_obstacle("cup", "sphere", [0.05], [0.23, 0.0, 0.1])])
    closest = world.closest(4)
    marker = closest_marker(closest, "base_link")
    serialize_message(marker)
    assert marker.type == Marker.LINE_LIST and len(marker.points) == len(marker.colors) == 8
    ends = np.array([[p.x, p.y, p.z] for p in marker.points]).reshape(4, 2, 3)
    for c, (a, b), colour in zip(closest, ends, marker.colors[::2], strict=True):
        np.testing.assert_allclose([a, b], [c.a, c.b])
        if c.distance <= c.pair.margin:
            assert (colour.r, colour.g) == (1.0, 0.0)
        else:
            assert colour.g > 0.0
    assert closest[0].pair.check == "obstacle" and closest[0].distance < 0


def test_the_stopping_path_follows_a_frame():
    _, robot = tabletop()
    q = robot.pose("ready")
    rows = q + np.linspace(0, 0.2, 5)[:, None]
    marker = stopping_path_marker(robot, "gripper_frame_link", rows, "base_link")
    serialize_message(marker)
    assert marker.type == Marker.LINE_STRIP and marker.action == Marker.ADD
    points = [[p.x, p.y, p.z] for p in marker.points]
    np.testing.assert_allclose(points[0], robot.frame_position(rows[0], "gripper_frame_link"))
    np.testing.assert_allclose(points[-1], robot.frame_position(rows[-1], "gripper_frame_link"))
    at_rest = stopping_path_marker(robot, "gripper_frame_link", rows[:0], "base_link")
    assert at_rest.action == Marker.DELETE
    with pytest.raises(RobotError):
        stopping_path_marker(robot, "nowhere", rows, "base_link")
