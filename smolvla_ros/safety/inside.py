"""How deep a shape of the arm lies inside a convex zone that it must not leave.

The signed distance of a convex set (negative inside) is a convex function, so over a
convex shape it is largest at an extreme point of that shape: a corner of a box, a vertex
of a hull. A sphere and a capsule are points grown by a radius.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import coal
import numpy as np
import pinocchio as pin
from scipy.spatial import ConvexHull

from smolvla_ros.robot.hull import Hull
from smolvla_ros.robot.reach import extreme_points
from smolvla_ros.safety.scene import Scene

SignedDistance = Callable[[np.ndarray], np.ndarray]  # [K, 3] m in the zone's frame -> [K] m


def signed_distance(shape: str, size: Sequence[float], hull: Hull | None) -> SignedDistance:
    """The signed distance of a zone's shape, in the zone's own frame.

    Of a mesh it is the largest distance to a face's plane: exact inside, and outside never
    more than the true one. Each is convex and changes by at most a metre a metre.
    """
    if shape == "mesh":
        normals, offsets = _planes(hull)
        return lambda x: (x @ normals.T + offsets).max(axis=1)
    if shape == "sphere":
        return lambda x: np.sqrt((x * x).sum(axis=1)) - size[0]
    if shape == "capsule":
        half = size[1] / 2

        def capsule(x: np.ndarray) -> np.ndarray:
            z = x[:, 2] - np.clip(x[:, 2], -half, half)
            return np.sqrt(x[:, 0] ** 2 + x[:, 1] ** 2 + z * z) - size[0]

        return capsule
    if shape == "cylinder":

        def cylinder(x: np.ndarray) -> np.ndarray:
            side = np.sqrt(x[:, 0] ** 2 + x[:, 1] ** 2) - size[0]
            end = np.abs(x[:, 2]) - size[1] / 2
            outside = np.hypot(np.maximum(side, 0.0), np.maximum(end, 0.0))
            return outside + np.minimum(np.maximum(side, end), 0.0)

        return cylinder
    raise ValueError(f"a keep_in {shape} is measured by its walls")


def _planes(hull: Hull) -> tuple[np.ndarray, np.ndarray]:
    """Normals ``[F, 3]`` and offsets ``[F]`` of a hull's faces, each once; inside is negative."""
    planes = ConvexHull(hull.vertices).equations
    planes = planes[np.unique(planes.round(9), axis=0, return_index=True)[1]]
    return planes[:, :3], planes[:, 3]


class InsidePairs:
    """Pairs of a shape of the arm and a keep-in zone that has no walls.

    Args:
        scene: says where the shapes of the arm are.
    """

    def __init__(self, scene: Scene):
        self._scene = scene
        self._rows: list[tuple[int, np.ndarray, float, pin.SE3, SignedDistance]] = []

    def add(
        self, index: int, shape: coal.CollisionGeometry, pose: pin.SE3, signed: SignedDistance
    ) -> int:
        """A further pair: shape ``index`` of the arm, and the zone at ``pose``."""
        points, radius = extreme_points(shape)
        self._rows.append((index, points, radius, pose, signed))
        return len(self._rows) - 1

    def distance(self, pair: int) -> float:
        """Metres from the shape to the zone's border; negative where it sticks out."""
        index, points, radius, pose, signed = self._rows[pair]
        at = pose.actInv(self._scene.placements[index])
        return -float(signed(points @ at.rotation.T + at.translation).max()) - radius

    def closest(self, pair: int) -> tuple[float, np.ndarray, np.ndarray]:
        """The distance, the shape's point ``[3]`` that is farthest out, and the border's point
        ``[3]`` next to it, in the root frame."""
        index, points, radius, pose, signed = self._rows[pair]
        at = pose.actInv(self._scene.placements[index])
        inside = points @ at.rotation.T + at.translation
        depths = signed(inside)
        k = int(np.argmax(depths))
        step = 1e-6 * np.eye(3)
        outward = (signed(inside[k] + step) - signed(inside[k] - step)) / 2e-6
        outward /= max(float(np.linalg.norm(outward)), 1e-9)
        tip, border = inside[k] + radius * outward, inside[k] - depths[k] * outward
        return -float(depths[k]) - radius, pose.act(tip), pose.act(border)
