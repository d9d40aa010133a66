"""MarkerArrays as obstacles: shapes, frames, and how they come and go."""

from __future__ import annotations

import json
import math

import numpy as np
import pinocchio as pin
import pytest
from builtin_interfaces.msg import Duration
from rclpy.serialization import serialize_message
from visualization_msgs.msg import Marker, MarkerArray

from smolvla_ros.ros.obstacles import MarkerObstacles, as_plain
from smolvla_ros.safety.command import Refused
from smolvla_ros.safety.obstacles import read_obstacle

SHELF = pin.SE3(pin.rpy.rpyToMatrix(0.0, 0.0, math.pi / 2), np.array([1.0, 0.0, 0.0]))


def frame(name: str) -> pin.SE3:
    if name not in ("base", "shelf"):
        raise ValueError(f"no frame {name!r}")
    return SHELF if name == "shelf" else pin.SE3.Identity()


def marker(id=0, type=Marker.CUBE, scale=(0.1, 0.2, 0.3), position=(0.5, 0.0, 0.0), **more):
    made = Marker(ns="cups", id=id, type=type, action=more.pop("action", Marker.ADD))
    made.header.frame_id = more.pop("frame_id", "base")
    made.scale.x, made.scale.y, made.scale.z = map(float, scale)
    made.pose.position.x, made.pose.position.y, made.pose.position.z = map(float, position)
    q = made.pose.orientation
    q.x, q.y, q.z, q.w = map(float, more.pop("quaternion", (0, 0, 0, 1)))
    made.lifetime = Duration(sec=more.pop("lifetime", 0))
    assert not more
    return made


def message(*markers) -> bytes:
    return serialize_message(MarkerArray(markers=list(markers)))


@pytest.fixture
def obstacles():
    return MarkerObstacles(frame)


@pytest.mark.parametrize(
    ("type", "shape", "size"),
    [
        (Marker.CUBE, "box", (0.1, 0.2, 0.3)),
        (Marker.SPHERE, "sphere", (0.15,)),  # the sphere around the ellipsoid
        (Marker.CYLINDER, "cylinder", (0.1, 0.3)),
    ],
)
def test_every_shape_has_its_size(obstacles, type, shape, size) -> None:
    obstacles.hear(0.0, message(marker(type=type)))
    (found,) = obstacles.present(0.0)
    assert (found.id, found.shape) == ("cups/0", shape)
    assert found.size == pytest.approx(size)


@pytest.mark.parametrize("quaternion", [(0, 0, 0, 1), (0, 0, 0, 0)])
def test_a_frame_that_is_fixed_to_the_arm_counts(obstacles, quaternion) -> None:
    obstacles.hear(0.0, message(marker(frame_id="shelf", quaternion=quaternion)))
    (found,) = obstacles.present(0.0)
    np.testing.assert_allclose(found.pose.translation, [1.0, 0.5, 0.0], atol=1e-12)
    np.testing.assert_allclose(found.pose.rotation, SHELF.rotation, atol=1e-12)


def test_obstacles_come_change_and_go(obstacles) -> None:
    obstacles.hear(0.0, message(marker(0), marker(1)))
    obstacles.hear(0.1, message(marker(1, position=(0.9, 0, 0)), marker(2)))
    at = {o.id: o.pose.translation[0] for o in obstacles.present(0.1)}
    assert at == {"cups/0": 0.5, "cups/1": 0.9, "cups/2": 0.5}
    obstacles.hear(0.2, message(marker(1, action=Marker.DELETE), marker(7, action=Marker.DELETE)))
    assert [o.id for o in obstacles.present(0.2)] == ["cups/0", "cups/2"]
    obstacles.hear(0.3, message(marker(action=Marker.DELETEALL), marker(5)))
    assert [o.id for o in obstacles.present(0.3)] == ["cups/5"]


def test_an_obstacle_goes_when_its_lifetime_ends(obstacles) -> None:
    obstacles.hear(10.0, message(marker(0, lifetime=2), marker(1)))
    assert len(obstacles.present(11.9)) == 2 and not obstacles.outlived(11.9)
    assert obstacles.outlived(12.1)
    assert [o.id for o in obstacles.present(12.1)] == ["cups/1"]
    assert not obstacles.outlived(12.1)


# F57, F59
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"frame_id": "gripper"}, "no frame 'gripper'"),
        ({"frame_id": ""}, "no frame ''"),
        ({"type": Marker.MESH_RESOURCE}, "type 10"),
        ({"type": Marker.ARROW}, "type 0"),
        ({"scale": (0.0, 0.2, 0.3)}, "scale"),
        ({"scale": (0.1, -0.2, 0.3), "type": Marker.SPHERE}, "scale"),
        ({"scale": (0.1, math.nan, 0.3), "type": Marker.SPHERE}, "cups/0"),
        ({"scale": (0.1, 0.2, math.inf)}, "size"),
        ({"position": (math.nan, 0, 0)}, "position"),
        ({"position": (1e9, 0, 0)}, "position"),
        ({"quaternion": (math.nan, 0, 0, 1)}, "quaternion"),
        ({"quaternion": (0, 0, 0, 5)}, "quaternion"),
        ({"action": 1}, "action 1"),
    ],
)
def test_a_message_with_one_bad_marker_changes_nothing(obstacles, changes, said) -> None:
    obstacles.hear(0.0, message(marker(9)))
    with pytest.raises(Refused, match=said) as caught:
        obstacles.hear(0.1, message(marker(1), marker(0, **changes)))
    assert caught.value.check == "obstacle" and "cups/0" in str(caught.value)
    assert [o.id for o in obstacles.present(0.1)] == ["cups/9"]


def test_too_many_obstacles_are_refused_together(obstacles) -> None:
    obstacles.hear(0.0, message(*(marker(k) for k in range(40))))
    with pytest.raises(Refused, match="obstacles; at most"):
        obstacles.hear(0.1, message(*(marker(k) for k in range(40, 80))))
    assert len(obstacles.present(0.1)) == 40


def test_bytes_that_are_no_markers_are_refused(obstacles) -> None:
    with pytest.raises(Refused) as caught:
        obstacles.hear(0.0, b"\x00\x01\x00\x00\xff\xff\xff\xff")
    assert caught.value.check == "malformed"


def test_a_recording_holds_what_makes_the_same_obstacle(obstacles) -> None:
    obstacles.hear(0.0, message(marker(frame_id="shelf", quaternion=(0.6, 0, 0.8, 0))))
    corners = [(0.0, 0.0, 0.0), (0.1, 0.0, 0.0), (0.0, 0.1, 0.0), (0.0, 0.0, 0.1)]
    rock = read_obstacle("rock", "hull", [], (1.0, 2.0, 3.0), vertices=corners)
    for found in (*obstacles.present(0.0), rock):
        (plain,) = json.loads(json.dumps(as_plain([found])))
        again = read_obstacle(**plain)
        assert (again.id, again.shape, again.size) == (found.id, found.shape, found.size)
        assert again.vertices == found.vertices
        np.testing.assert_allclose(again.pose.homogeneous, found.pose.homogeneous, atol=1e-12)
