"""The arm's shapes among fixed ones, and the distances of chosen pairs: coal's work."""

from __future__ import annotations

import coal
import numpy as np
import pinocchio as pin

from smolvla_ros.robot import RobotModel
from smolvla_ros.robot.reach import extreme_points


class Scene:
    """The arm's collision shapes with further shapes that stand still in the root frame.

    Shapes and pairs are added first; :meth:`finish` then makes room for the answers.
    ``placements`` is where each shape is, by index, in the root frame.
    """

    def __init__(self, robot: RobotModel):
        self._model = robot.model
        # A copy without the pairs that the robot's own may hold: only chosen ones count.
        self._geometry = pin.GeometryModel(robot.geometry)
        self._geometry.removeAllCollisionPairs()
        self._answers: pin.GeometryData | None = None
        self._pairs: list[tuple[int, int]] = []
        self._outlines: dict[int, tuple[np.ndarray, float]] = {}

    def add_shape(self, name: str, shape: coal.CollisionGeometry, placement: pin.SE3) -> int:
        """A shape fixed in the root frame; returns its index."""
        return self._geometry.addGeometryObject(pin.GeometryObject(name, 0, 0, placement, shape))

    def add_pair(self, first: int, second: int) -> int:
        """Two shapes, not a pair yet, whose distance will be asked for; returns the pair's
        number."""
        self._geometry.addCollisionPair(pin.CollisionPair(first, second))
        self._pairs.append((first, second))
        return len(self._pairs) - 1

    def finish(self) -> None:
        """All shapes and pairs are there."""
        self._answers = self._geometry.createData()

    def shift(self, index: int, placement: pin.SE3) -> None:
        """A fixed shape stands elsewhere; counts from the next :meth:`place` on."""
        self._geometry.geometryObjects[index].placement = placement

    @property
    def placements(self) -> pin.StdVec_SE3:
        """Where each shape is, by index; follows :meth:`place`."""
        return self._answers.oMg

    def place(self, kinematics: pin.Data) -> None:
        """Put the arm's shapes where ``kinematics`` says that its joints are."""
        pin.updateGeometryPlacements(self._model, kinematics, self._geometry, self._answers)

    def distance(self, pair: int) -> float:
        """Metres between the shapes of a pair; negative where they overlap."""
        found = pin.computeDistance(self._geometry, self._answers, pair).min_distance
        # A solver that failed proves nothing.
        return found if found == found else -np.inf

    def closest(self, pair: int) -> tuple[float, np.ndarray, np.ndarray]:
        """The distance and the nearest point ``[3]`` of either shape, in the root frame."""
        found = pin.computeDistance(self._geometry, self._answers, pair)
        points = found.getNearestPoint1(), found.getNearestPoint2()
        return self.distance(pair), np.array(points[0]), np.array(points[1])

    def direction(self, pair: int) -> np.ndarray:
        """``[3]`` unit vector in which the first shape of a pair is nearest to the second."""
        return np.array(pin.computeDistance(self._geometry, self._answers, pair).normal)

    def gap(self, pair: int, direction: np.ndarray) -> tuple[float, float]:
        """How far the first shape of a pair reaches in a direction ``[3]`` and where the second
        begins: metres from the root frame's origin, of hulls that enclose the shapes."""
        first, second = self._pairs[pair]
        return self._extent(first, direction), -self._extent(second, -direction)

    def _extent(self, index: int, direction: np.ndarray) -> float:
        if index not in self._outlines:
            self._outlines[index] = extreme_points(self._geometry.geometryObjects[index].geometry)
        points, radius = self._outlines[index]
        at = self._answers.oMg[index]
        farthest = (points @ (direction @ at.rotation)).max()
        return float(farthest + direction @ at.translation) + radius
