"""How near two links can come, searched for: random postures alone miss what is rare.

Projected gradient descent on the distance of their nearest points, from several postures. What it
finds is so; what it does not find may still be.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pinocchio as pin

if TYPE_CHECKING:
    from smolvla_ros.robot.model import Geometry, RobotModel

_FIRST, _LAST = 0.1, 0.0005  # steps, as a share of each joint's range
_MOST = 80  # steps from one posture


def nearest(
    robot: RobotModel,
    pairs: Sequence[tuple[Geometry, Geometry]],
    starts: Iterable[np.ndarray],
) -> float:
    """The smallest distance found of any of ``pairs``, metres; the search ends where one touches.

    Args:
        pairs: shapes of the two links. starts: postures ``[D]`` to search from, within the limits.
    """
    search = _Search(robot, pairs)
    least = np.inf
    for q in starts:
        least = min(least, search.descend(q))
        if least <= 0.0:
            break
    return least


class _Search:
    def __init__(self, robot: RobotModel, pairs: Sequence[tuple[Geometry, Geometry]]):
        self._robot, self._data = robot, robot.model.createData()
        # Only what is measured is placed: an arm may have a hundred other shapes.
        self._geometry = pin.GeometryModel()
        every = {g.index for pair in pairs for g in pair}
        here = {
            i: self._geometry.addGeometryObject(robot.geometry.geometryObjects[i]) for i in every
        }
        for a, b in pairs:
            self._geometry.addCollisionPair(pin.CollisionPair(here[a.index], here[b.index]))
        self._placed = self._geometry.createData()
        self._low = np.where(np.isfinite(robot.lower), robot.lower, -np.pi)
        self._high = np.where(np.isfinite(robot.upper), robot.upper, np.pi)

    def descend(self, q: np.ndarray) -> float:
        """Metres, at the end of the way down from ``q``."""
        span, step = self._high - self._low, _FIRST
        here, slope = self._measure(q)
        for _ in range(_MOST):
            way = span * slope  # in shares of the ranges, steepest
            length = float(np.linalg.norm(way))
            if here <= 0.0 or length < 1e-9 or step < _LAST:
                break
            there = np.clip(q - step * span * way / length, self._low, self._high)
            found, at = self._measure(there)
            if found < here:
                q, here, slope = there, found, at
            else:
                step /= 2.0
        return here

    def _measure(self, q: np.ndarray) -> tuple[float, np.ndarray]:
        """The distance, m, and its slope ``[D]`` in m/rad (m/m)."""
        robot, data = self._robot, self._data
        pin.computeJointJacobians(robot.model, data, robot.configuration(q))
        pin.updateGeometryPlacements(robot.model, data, self._geometry, self._placed)
        pin.computeDistances(self._geometry, self._placed)
        results = self._placed.distanceResults
        k = min(range(len(results)), key=lambda i: results[i].min_distance)
        found, pair = results[k], self._geometry.collisionPairs[k]
        a, b = np.array(found.getNearestPoint1()), np.array(found.getNearestPoint2())
        apart = float(np.linalg.norm(b - a))
        if apart < 1e-12:
            return found.min_distance, np.zeros(robot.dof)
        unit = (b - a) / apart
        moved = self._along(pair.second, b, unit) - self._along(pair.first, a, unit)
        return found.min_distance, robot.per_joint(moved)

    def _along(self, shape: int, point: np.ndarray, unit: np.ndarray) -> np.ndarray:
        """How fast a point of a shape moves along ``unit``, for each joint of the model."""
        joint = self._geometry.geometryObjects[shape].parentJoint
        rows = pin.getJointJacobian(self._robot.model, self._data, joint, pin.WORLD)
        return unit @ rows[:3] + np.cross(point, unit) @ rows[3:]
