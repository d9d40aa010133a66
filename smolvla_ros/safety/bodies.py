"""Bodies of a planner's world: several shapes under one name, moved as one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
import pinocchio as pin

from smolvla_ros.robot.hull import MeshError, hull_around
from smolvla_ros.safety.obstacles import MAX_VERTICES, Obstacle, read_obstacle

_FLAT = 1e-3  # m; less than this of a mesh has no volume
_PLATE = (20.0, 20.0, 2e-3)  # m: what stands for a plane, which has no end and no thickness


@dataclass(frozen=True)
class Part:
    """A shape of a body: ``shape``, ``size`` and ``vertices`` (m) as of an obstacle, ``pose`` in
    the body.

    ``inner`` is where the shape lies in the frame that the planner gives it.
    """

    shape: str
    size: tuple[float, ...]
    pose: pin.SE3
    inner: pin.SE3 = field(default_factory=pin.SE3.Identity)
    vertices: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True)
class Body:
    """A planner's object, ``pose`` in the arm's root frame."""

    pose: pin.SE3
    parts: tuple[Part, ...]

    def moved(self, pose: pin.SE3, poses: Sequence[pin.SE3] = ()) -> Body:
        """The body at another pose, its parts at other ``poses`` in it where there are any.

        Raises:
            ValueError: as many poses as parts, or none.
        """
        if poses and len(poses) != len(self.parts):
            raise ValueError(f"{len(poses)} poses for {len(self.parts)} shapes")
        parts = [replace(p, pose=at) for p, at in zip(self.parts, poses, strict=False)]
        return Body(pose, tuple(parts) or self.parts)

    def with_parts(self, others: Sequence[Part], pose: pin.SE3) -> Body:
        """The body at ``pose``, with further parts."""
        return Body(pose, (*self.parts, *others))

    def obstacles(self, name: str) -> list[Obstacle]:
        """Its parts as obstacles ``name/0``, ``name/1``, …

        Raises:
            ValueError: a part of no size, or farther away than anything is.
        """
        found = []
        for k, part in enumerate(self.parts):
            at = self.pose * part.pose * part.inner
            turn = pin.Quaternion(at.rotation).coeffs()
            found.append(
                read_obstacle(
                    f"{name}/{k}", part.shape, part.size, at.translation, turn,
                    vertices=part.vertices,
                )
            )  # fmt: skip
        return found


def around_points(points: np.ndarray, pose: pin.SE3) -> Part:
    """The convex hull of ``[N, 3]`` points (m); of one with more corners than an obstacle may have
    the box around them, along the axes of their frame.

    Raises:
        ValueError: no points, or some that are no numbers.
    """
    if not len(points) or not np.isfinite(points).all():
        raise ValueError("a mesh without vertices, or with some that are no numbers")
    with suppress(MeshError):
        corners, _, _ = hull_around(points)
        if len(corners) <= MAX_VERTICES:
            return Part("hull", (), pose, vertices=tuple(map(tuple, corners.tolist())))
    low, high = points.min(axis=0), points.max(axis=0)
    size = np.maximum(high - low, _FLAT)
    return Part("box", tuple(size.tolist()), pose, pin.SE3(np.eye(3), (low + high) / 2))


def along_plane(coefficients: Sequence[float], pose: pin.SE3, body: pin.SE3) -> Part:
    """A wide thin plate for the plane ``a x + b y + c z + d = 0`` of a frame, its middle where the
    arm's root frame is nearest.

    Args:
        coefficients: a b c d. pose: the plane's frame in its body. body: in the root frame.

    Raises:
        ValueError: a, b and c are all zero, or no numbers.
    """
    *normal, offset = map(float, coefficients)
    length = float(np.linalg.norm(normal))
    if not np.isfinite([length, offset]).all() or length < 1e-9:
        raise ValueError(f"plane {list(coefficients)} has no direction")
    unit = np.array(normal) / length
    origin = (body * pose).inverse().translation
    middle = origin - (unit @ origin + offset / length) * unit
    turn = pin.Quaternion.FromTwoVectors(np.array([0.0, 0.0, 1.0]), unit).toRotationMatrix()
    return Part("box", _PLATE, pose, pin.SE3(turn, middle))
