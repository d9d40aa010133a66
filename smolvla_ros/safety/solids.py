"""Zones as solid bodies, for planners, who know no margins, no speeds and no outside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pinocchio as pin

from smolvla_ros.robot import RobotModel
from smolvla_ros.robot.hull import hull_around
from smolvla_ros.safety.zones import GUARDS, PlacedZone

_THICK = 0.2  # m of a wall, which no planner steps over
_WIDE = 10.0  # m of the wall that stands for a half-space


@dataclass(frozen=True)
class Solid:
    """A solid in the arm's root frame.

    Attributes:
        shape: box, sphere, cylinder or mesh. size: m, as of a zone; of a mesh none.
        pose: in the root frame. vertices, faces: of a mesh, ``[V, 3]`` m and ``[F, 3]``.
    """

    shape: str
    size: tuple[float, ...]
    pose: pin.SE3
    vertices: np.ndarray | None = None
    faces: np.ndarray | None = None


def solids(placed: PlacedZone, padding: float) -> list[Solid]:
    """What a planner must keep out of, ``padding`` metres larger all round; empty for a zone
    that has no such solid: one that only slows down, and the outside of a round or meshed one.
    """
    zone, pose, size = placed.zone, placed.pose, list(placed.zone.size)
    if zone.kind not in GUARDS:
        return []
    if zone.kind == "keep_in":
        if zone.shape == "box":
            return _walls(np.maximum(np.array(size) - 2.0 * padding, 0.0), pose)
        if zone.shape != "half_space":
            return []
        # What is allowed lies below z = 0.
        pose = pose * pin.SE3(pin.rpy.rpyToMatrix(np.pi, 0.0, 0.0), np.zeros(3))
    if placed.hull is not None:
        return [_grown_hull(placed.hull.vertices, padding, pose)]
    if zone.shape == "half_space":
        return [_slab(padding, pose)]
    if zone.shape == "box":
        return [Solid("box", tuple(x + 2.0 * padding for x in size), pose)]
    radius = size[0] + padding
    if zone.shape == "sphere":
        return [Solid("sphere", (radius,), pose)]
    if zone.shape == "cylinder":
        return [Solid("cylinder", (radius, size[1] + 2.0 * padding), pose)]
    ends = [_shifted(pose, 2, sign * size[1] / 2) for sign in (-1.0, 1.0)]
    column = Solid("cylinder", (radius, size[1]), pose)
    return [column, *(Solid("sphere", (radius,), end) for end in ends)]


def exempt_links(placed: PlacedZone, robot: RobotModel) -> list[str]:
    """Links with collision geometry that the gate does not keep out of a zone: those that the
    zone is not about, and those that no joint moves."""
    kept = {g.link for g in robot.geometries if robot.reach(g).any()}
    worn = {g.link for g in robot.geometries}
    return sorted(link for link in worn if link not in kept or not placed.zone.selects(link))


def _walls(inside: np.ndarray, pose: pin.SE3) -> list[Solid]:
    """Six plates around a box of ``[3]`` metres."""
    found = []
    for axis in range(3):
        size = inside + 2.0 * _THICK
        size[axis] = _THICK
        for sign in (-1.0, 1.0):
            at = _shifted(pose, axis, sign * (inside[axis] + _THICK) / 2)
            found.append(Solid("box", tuple(size.tolist()), at))
    return found


def _slab(padding: float, pose: pin.SE3) -> Solid:
    """A plate whose upper side is z = ``padding``, its middle below or above the root frame's
    origin."""
    origin = pose.inverse().translation
    middle = np.array([origin[0], origin[1], padding - _THICK / 2])
    return Solid("box", (_WIDE, _WIDE, _THICK), pose * pin.SE3(np.eye(3), middle))


def _shifted(pose: pin.SE3, axis: int, distance: float) -> pin.SE3:
    return pose * pin.SE3(np.eye(3), np.eye(3)[axis] * distance)


def _grown_hull(vertices: np.ndarray, padding: float, pose: pin.SE3) -> Solid:
    """The hull of balls around the vertices, each ball as the icosahedron around it."""
    points, faces, _ = hull_around((vertices[:, None] + padding * _BALL).reshape(-1, 3))
    return Solid("mesh", (), pose, points, faces)


def _icosahedron() -> np.ndarray:
    """``[12, 3]`` corners of the icosahedron that a ball of radius 1 just fits into."""
    golden = (1 + np.sqrt(5)) / 2
    corners = [np.roll([0.0, a, b * golden], k) for k in range(3) for a in (-1, 1) for b in (-1, 1)]
    return np.array(corners) * np.sqrt(3) / golden**2


_BALL = _icosahedron()
