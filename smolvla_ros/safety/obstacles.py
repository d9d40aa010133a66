"""Obstacles that come and go while the arm works, beside the zones of its cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pinocchio as pin

from smolvla_ros.robot.hull import MeshError, convex_shape, hull_around
from smolvla_ros.safety.shapes import SHAPES, Parts

OBSTACLE_SHAPES = ("box", "sphere", "cylinder", "capsule", "hull")
MAX_OBSTACLES = 64
MAX_VERTICES = 1000  # of a hull
_FARTHEST = 100.0  # m


@dataclass(frozen=True)
class Obstacle:
    """One obstacle: ``size`` in metres as of a zone of that shape, ``pose`` in the frame of
    the robot's root link. A hull has no size, but ``vertices``: metres, in its own frame."""

    id: str
    shape: str
    size: tuple[float, ...]
    pose: pin.SE3
    vertices: tuple[tuple[float, float, float], ...] = ()

    def triangles(self) -> tuple[np.ndarray, np.ndarray]:
        """Of a hull: ``[V, 3]`` vertices and ``[F, 3]`` faces, in its own frame."""
        return hull_around(np.array(self.vertices))[:2]

    def parts(self) -> Parts:
        """Its geometries, each with its place in the obstacle's frame."""
        if self.shape == "hull":
            return [(convex_shape(*self.triangles()), pin.SE3.Identity())]
        return SHAPES[self.shape][1](self.size)


def read_obstacle(
    id: str,
    shape: str,
    size: Sequence[float],
    position: Sequence[float],
    quaternion: Sequence[float] = (0.0, 0.0, 0.0, 1.0),
    frame: pin.SE3 | None = None,
    vertices: Sequence[Sequence[float]] = (),
) -> Obstacle:
    """An obstacle from plain values.

    Args:
        size: metres; box: x y z; sphere: radius; cylinder, capsule: radius length.
        position: metres. quaternion: x y z w. frame: what both are given in, in the root
            frame; absent: the root frame. vertices: ``[V, 3]`` metres, of a hull.

    Raises:
        ValueError: naming the obstacle, the value and what it must be.
    """
    if shape not in OBSTACLE_SHAPES:
        raise ValueError(f"obstacle {id!r}: shape {shape!r}; one of {', '.join(OBSTACLE_SHAPES)}")
    names = SHAPES[shape][0] if shape in SHAPES else ()
    size, position, quaternion = (
        tuple(map(float, values)) for values in (size, position, quaternion)
    )
    if len(size) != len(names) or not all(0.0 < x <= _FARTHEST for x in size):
        raise ValueError(
            f"obstacle {id!r}: size {size}; a {shape} has {len(names)} ({', '.join(names)}), each "
            f"above 0 and at most {_FARTHEST:.0f} m"
        )
    if len(position) != 3 or not all(abs(x) <= _FARTHEST for x in position):
        raise ValueError(
            f"obstacle {id!r}: position {position}; 3 values of at most {_FARTHEST:.0f} m"
        )
    norm = math.hypot(*quaternion)
    if len(quaternion) != 4 or not abs(norm - 1.0) < 0.01:
        raise ValueError(f"obstacle {id!r}: quaternion {quaternion} is not of length 1")
    corners = tuple(tuple(map(float, v)) for v in vertices)
    if shape == "hull":
        _check_hull(id, corners)
    rotation = pin.Quaternion(np.array(quaternion) / norm).toRotationMatrix()
    pose = pin.SE3(rotation, np.array(position))
    return Obstacle(id, shape, size, pose if frame is None else frame * pose, corners)


def _check_hull(id: str, vertices: Sequence[Sequence[float]]) -> None:
    points = [x for v in vertices if len(v) == 3 for x in v]
    if len(points) != 3 * len(vertices) or not points or len(vertices) > MAX_VERTICES:
        raise ValueError(
            f"obstacle {id!r}: {len(vertices)} vertices; a hull has 1 to {MAX_VERTICES}, of x, y, z"
        )
    if not all(abs(x) <= _FARTHEST for x in points):
        raise ValueError(f"obstacle {id!r}: vertices; each within {_FARTHEST:.0f} m of its frame")
    try:
        hull_around(np.array(vertices))
    except MeshError as error:
        raise ValueError(f"obstacle {id!r}: {error}") from error


def check_obstacles(obstacles: Sequence[Obstacle]) -> None:
    """Raises:
    ValueError: more than ``MAX_OBSTACLES``, or two of one name.
    """
    if len(obstacles) > MAX_OBSTACLES:
        raise ValueError(f"{len(obstacles)} obstacles; at most {MAX_OBSTACLES}")
    seen: set[str] = set()
    for obstacle in obstacles:
        if obstacle.id in seen:
            raise ValueError(f"obstacle {obstacle.id!r} is there twice")
        seen.add(obstacle.id)
