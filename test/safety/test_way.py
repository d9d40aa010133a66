"""How far points on the arm leave the straight line: never more than is said."""

from __future__ import annotations

import numpy as np
import pinocchio as pin
import pytest
from arms import GRIPPER, LIMIT, joint, link
from cells import tabletop

from smolvla_ros.robot import RobotModel
from smolvla_ros.robot.reach import extreme_points
from smolvla_ros.safety.way import Way, turning

SLIDING = (
    "".join(link(n) for n in "abcd")
    + joint("ab", "a", "b")
    + joint("bc", "b", "c", "prismatic", axis="0.6 0.8 0")
    + joint("cd", "c", "d", "continuous", LIMIT, axis="0 0.6 0.8")
)


@pytest.fixture(params=["so101", "mimic", "sliding"])
def robot(request, tmp_path):
    if request.param == "so101":
        return tabletop()[1]
    path = tmp_path / "arm.urdf"
    body = GRIPPER if request.param == "mimic" else SLIDING
    path.write_text(f'<robot name="r">{body}</robot>')
    return RobotModel(path)


class Points:
    """Where the corners of every shape are."""

    def __init__(self, robot):
        self.robot, self.data = robot, robot.model.createData()
        self.placed = robot.geometry.createData()
        shapes = robot.geometry.geometryObjects
        self.corners = [extreme_points(shapes[g.index].geometry)[0] for g in robot.geometries]

    def at(self, q):
        """For each shape, ``[K, 3]`` in the root frame."""
        r = self.robot
        pin.updateGeometryPlacements(
            r.model, self.data, r.geometry, self.placed, r.configuration(q)
        )
        poses = [self.placed.oMg[g.index] for g in r.geometries]
        return [c @ m.rotation.T + m.translation for c, m in zip(self.corners, poses, strict=True)]


def off_the_line(x, a, b):
    """Metres from points ``x`` to the straight lines from ``a`` to ``b``, the farthest."""
    along = b - a
    share = ((x - a) * along).sum(axis=1) / np.maximum((along**2).sum(axis=1), 1e-15)
    return np.linalg.norm(x - a - np.clip(share, 0, 1)[:, None] * along, axis=1).max()


def paths(robot, rng):
    """Straight motions, bent ones, and such that turn back."""
    low, high = np.maximum(robot.lower, -3.0), np.minimum(robot.upper, 3.0)
    a, b = rng.uniform(low, high, (2, robot.dof))
    size = rng.choice([0.05, 0.3, 1.0])
    b = a + size * (b - a)
    yield np.array([a, b])
    together = np.linspace(0, 1, 5)[:, None]
    each = np.minimum(1.0, together * rng.uniform(1.0, 4.0, robot.dof))
    yield a + each * (b - a)
    back = np.sin(np.linspace(0, rng.uniform(1.0, 3.0), 6))[:, None] ** rng.uniform(0.5, 2.0)
    yield a + back * (b - a)


def test_no_point_bends_away_further_than_the_bow_says(robot):
    rng = np.random.default_rng(0)
    bends, points = turning(robot), Points(robot)
    reach = [robot.reach(g) for g in robot.geometries]
    tightest = 0.0
    for _ in range(25):
        for rows in paths(robot, rng):
            way = Way(rows, bends)
            s0, s1 = sorted(rng.uniform(0, way.end, 2))
            bound = [r @ way.bow(s0, s1) for r in reach]
            first, last = points.at(way.at(s0)), points.at(way.at(s1))
            for s in np.linspace(s0, s1, 12)[1:-1]:
                for x, a, b, most in zip(points.at(way.at(s)), first, last, bound, strict=True):
                    off = off_the_line(x, a, b)
                    assert off <= most + 1e-9
                    tightest = max(tightest, off / max(most, 1e-12))
    assert tightest > 0.1, "a bound that is never near is worth nothing"


def test_travel_counts_the_way_back_too(robot):
    rows = np.array([0.0, 0.3, 0.1])[:, None] * np.ones(robot.dof)
    way = Way(rows, turning(robot))
    np.testing.assert_allclose(way.travel(0.0, way.end), 0.5)
    np.testing.assert_allclose(way.travel(0.5, 1.5), 0.25)
    np.testing.assert_allclose(way.at(1.5), 0.2)
