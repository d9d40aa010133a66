"""What the gate sees, as RViz markers: zones, obstacles, near pairs, the stopping path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pinocchio as pin
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from smolvla_ros.robot import RobotModel
from smolvla_ros.safety.clearance import Closest
from smolvla_ros.safety.obstacles import Obstacle
from smolvla_ros.safety.shapes import mesh_hull
from smolvla_ros.safety.zones import Zone

_COLOURS = {
    "keep_out": (0.9, 0.1, 0.1, 0.35),
    "keep_in": (0.1, 0.7, 0.2, 0.12),
    "slow": (0.95, 0.75, 0.1, 0.25),
    "approach": (0.95, 0.5, 0.1, 0.2),
    "obstacle": (0.6, 0.1, 0.8, 0.5),
}
_PATH = (0.1, 0.5, 0.95, 0.9)
_PLATE = 4.0  # m: a half-space is shown as a plate of this width
_LINE = 0.003  # m
_AMPLE = 0.05  # m beyond the margin from which on a pair's line is green
_SHORT_LIVED = Duration(sec=1)  # what changes with the arm goes away with its publisher

_Body = tuple[int, tuple[float, ...], tuple[float, float, float]]


def zone_markers(zones: Mapping[str, Zone], frame_id: str) -> MarkerArray:
    """One marker a zone, in the zone's own frame (a capsule is its cylinder and two spheres).

    Args:
        zones: name → zone, mesh files named as for the clearance.
        frame_id: the robot's root link, for zones that name no frame.
    """
    out = MarkerArray()
    for name, zone in zones.items():
        pose = pin.SE3(pin.rpy.rpyToMatrix(*zone.rpy), np.array(zone.position))
        frame = zone.frame or frame_id
        if zone.shape == "mesh":
            hull = mesh_hull(zone.mesh, 1.0 if zone.scale is None else zone.scale)
            colour = _COLOURS[zone.kind]
            out.markers.append(_mesh(name, hull.vertices, hull.faces, pose, frame, colour))
        else:
            bodies = _bodies(zone.shape, zone.size)
            out.markers += _solid(name, bodies, pose, frame, _COLOURS[zone.kind])
    return out


def obstacle_markers(obstacles: Iterable[Obstacle], frame_id: str) -> MarkerArray:
    """One marker an obstacle, in the root link ``frame_id``; they fade after a second."""
    out = MarkerArray()
    for o in obstacles:
        name, colour = f"obstacle/{o.id}", _COLOURS["obstacle"]
        if o.shape == "hull":
            out.markers.append(_mesh(name, *o.triangles(), o.pose, frame_id, colour))
        else:
            out.markers += _solid(name, _bodies(o.shape, o.size), o.pose, frame_id, colour)
    for marker in out.markers:
        marker.lifetime = _SHORT_LIVED
    return out


def closest_marker(closest: Sequence[Closest], frame_id: str) -> Marker:
    """A line between the nearest points of each pair: red at its margin, green with room.

    Args:
        closest: pairs where the arm is, in the root link ``frame_id``.
    """
    marker = _marker("closest", 0, Marker.LINE_LIST, pin.SE3.Identity(), frame_id, _PATH)
    marker.scale.x, marker.lifetime = _LINE, _SHORT_LIVED
    for c in closest:
        room = min(1.0, max(0.0, (c.distance - c.pair.margin) / _AMPLE))
        colour = ColorRGBA(r=1.0 - room, g=room, b=0.0, a=0.9)
        marker.points += _points([c.a, c.b])
        marker.colors += [colour, colour]
    return marker


def stopping_path_marker(robot: RobotModel, frame: str, rows: np.ndarray, frame_id: str) -> Marker:
    """The way of ``frame``'s origin along joint positions ``rows`` ``[N, D]``, as a line in the
    root link ``frame_id``.

    Raises:
        RobotError: the robot has no such frame.
    """
    marker = _marker("stopping_path", 0, Marker.LINE_STRIP, pin.SE3.Identity(), frame_id, _PATH)
    marker.scale.x, marker.lifetime = _LINE, _SHORT_LIVED
    marker.points = _points([robot.frame_position(q, frame) for q in rows])
    if len(rows) < 2:
        marker.action = Marker.DELETE  # RViz complains of a line through fewer than two points
    return marker


def _bodies(shape: str, size: Sequence[float]) -> list[_Body]:
    """Marker type, scale and offset in its own frame of everything that shows a shape."""
    here = (0.0, 0.0, 0.0)
    if shape == "box":
        return [(Marker.CUBE, tuple(size), here)]
    if shape == "half_space":
        return [(Marker.CUBE, (_PLATE, _PLATE, 0.002), here)]
    diameter = 2.0 * size[0]
    if shape == "sphere":
        return [(Marker.SPHERE, (diameter,) * 3, here)]
    length = size[1]
    column = (Marker.CYLINDER, (diameter, diameter, length), here)
    if shape == "cylinder":
        return [column]
    ends = [(Marker.SPHERE, (diameter,) * 3, (0.0, 0.0, s * length / 2)) for s in (-1, 1)]
    return [column, *ends]


def _solid(ns: str, bodies: list[_Body], pose: pin.SE3, frame_id: str, colour) -> list[Marker]:
    markers = []
    for i, (kind, scale, offset) in enumerate(bodies):
        at = pose * pin.SE3(np.eye(3), np.array(offset))
        marker = _marker(ns, i, kind, at, frame_id, colour)
        marker.scale.x, marker.scale.y, marker.scale.z = map(float, scale)
        markers.append(marker)
    return markers


def _mesh(
    ns: str, vertices: np.ndarray, faces: np.ndarray, pose: pin.SE3, frame_id: str, colour
) -> Marker:
    marker = _marker(ns, 0, Marker.TRIANGLE_LIST, pose, frame_id, colour)
    marker.scale.x = marker.scale.y = marker.scale.z = 1.0
    marker.points = _points(vertices[faces].reshape(-1, 3))
    return marker


def _marker(ns: str, id: int, kind: int, pose: pin.SE3, frame_id: str, colour) -> Marker:
    marker = Marker(ns=ns, id=id, type=kind, action=Marker.ADD)
    marker.header.frame_id = frame_id
    place, turn = marker.pose.position, marker.pose.orientation
    place.x, place.y, place.z = map(float, pose.translation)
    turn.x, turn.y, turn.z, turn.w = map(float, pin.Quaternion(pose.rotation).coeffs())
    r, g, b, a = colour
    marker.color = ColorRGBA(r=r, g=g, b=b, a=a)
    return marker


def _points(rows: Iterable[Iterable[float]]) -> list[Point]:
    return [Point(x=float(x), y=float(y), z=float(z)) for x, y, z in rows]
