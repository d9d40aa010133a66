"""How far a shape can travel when a joint moves: a bound for every posture.

A shape is enclosed by the convex hull of a few points, grown by a radius. Turning a joint
without end takes each point round a circle, which a polygon drawn around it encloses; and
whatever the posture, the shape stays in the hull of those polygons. The distance from an
axis is a convex function, so over that hull it is largest at one of the points. Walking
from the shape to the root this gives, joint by joint, the largest distance from the axis.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import coal
import numpy as np
import pinocchio as pin
from scipy.spatial import ConvexHull

_SIDES = 64  # of the polygon round a circle: 0.12 % more than the circle
_FLAT = 1e-9  # metres; less than this has no two-dimensional hull

_ANGLES = np.arange(_SIDES) * (2 * np.pi / _SIDES)
_RING = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1) / np.cos(np.pi / _SIDES)


@dataclass(frozen=True)
class Link:
    """One joint on the way from a shape to the root.

    Attributes:
        index: which joint. axis: ``[3]`` unit vector in the joint's own frame.
        placement: the joint's frame in its parent joint's. travel: metres between which a
            prismatic joint slides; None for one that turns.
    """

    index: int
    axis: np.ndarray
    placement: pin.SE3
    travel: tuple[float, float] | None


def extreme_points(shape: coal.CollisionGeometry) -> tuple[np.ndarray, float]:
    """``[N, 3]`` points and a radius; the shape lies in the hull of balls around the points."""
    if isinstance(shape, coal.Sphere):
        points, radius = np.zeros((1, 3)), shape.radius
    elif isinstance(shape, coal.Capsule):
        points, radius = np.array([[0, 0, 1], [0, 0, -1]]) * shape.halfLength, shape.radius
    elif isinstance(shape, coal.Cylinder):
        ring = _RING * shape.radius
        rims = [np.column_stack([ring, np.full(_SIDES, z)]) for z in (-1, 1)]
        points, radius = np.vstack(rims) * [1, 1, shape.halfLength], 0.0
    elif isinstance(shape, coal.ConvexBase):
        points, radius = np.array(shape.points()), 0.0
    else:
        shape.computeLocalAABB()
        box = shape.aabb_local
        points, radius = _corners(np.array(box.min_), np.array(box.max_)), 0.0
    return points, radius + shape.getSweptSphereRadius()


def reach_of_joints(
    points: np.ndarray, radius: float, chain: Iterable[Link]
) -> Iterator[tuple[int, float]]:
    """Joint index and metres that a shape travels at most per radian, or metre, of it.

    Args:
        points: ``[N, 3]`` in the frame of the first joint of ``chain``. radius: metres.
        chain: the joints that carry the shape, nearest first.
    """
    for link in chain:
        if link.travel is None:
            along = points @ link.axis
            across = np.linalg.norm(points - np.outer(along, link.axis), axis=1)
            yield link.index, float(across.max()) + radius
            points = _turned(along, across, link.axis)
        else:
            yield link.index, 1.0
            points = np.vstack([points + s * link.axis for s in link.travel])
        points = points @ link.placement.rotation.T + link.placement.translation


def _turned(along: np.ndarray, across: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Points whose hull encloses circles ``across`` from an axis at heights ``along`` it."""
    if across.max() < _FLAT or np.ptp(along) < _FLAT:
        rims = np.array([[across.max(), along.min()], [across.max(), along.max()]])
    else:
        # Only the outline of the profile (a circle cuts it on both sides of the axis) counts.
        profile = np.column_stack([np.r_[across, -across], np.r_[along, along]])
        rims = profile[ConvexHull(profile).vertices]
        rims = rims[rims[:, 0] >= 0.0]
    first = np.cross(axis, np.eye(3)[int(np.argmin(np.abs(axis)))])
    first /= np.linalg.norm(first)
    ring = _RING @ np.stack([first, np.cross(axis, first)])
    return (rims[:, 0, None, None] * ring + np.outer(rims[:, 1], axis)[:, None, :]).reshape(-1, 3)


def _corners(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    signs = np.array(np.meshgrid(*[[0, 1]] * 3)).reshape(3, -1).T
    return lower + signs * (upper - lower)
