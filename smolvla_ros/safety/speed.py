"""Where zones make the arm slow, and by how much."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pinocchio as pin
from scipy.spatial import ConvexHull

from smolvla_ros.robot import RobotModel
from smolvla_ros.robot.reach import extreme_points
from smolvla_ros.safety.zones import PlacedZone, Zone

Factor = tuple[float, str, str]  # of the proposed velocity; the check's word; the reason
FREE: Factor = (1.0, "", "")

_INSTANT = 1e-4  # s over which point speeds are differences


class SpeedZones:
    """The slow and approach zones of a cell, and which slow zones the arm is in.

    Args:
        placed: name → zone; those of other kinds are left out. margin: the monitor's, m.
    """

    def __init__(self, robot: RobotModel, placed: Mapping[str, PlacedZone], margin: float):
        self._zones: dict[str, Zone] = {}
        self._margins: dict[str, float] = {}
        self._points: dict[str, PointSpeed] = {}
        self._entered: set[str] = set()
        for name, zone in ((n, p.zone) for n, p in placed.items()):
            if zone.kind not in ("slow", "approach"):
                continue
            self._zones[name] = zone
            self._margins[name] = zone.own_margin(margin)
            if zone.speed is not None:
                self._points[name] = PointSpeed(robot, zone)

    def heed(self, name: str) -> float:
        """Metres of clearance beyond which the zone asks for nothing."""
        zone = self._zones[name]
        if zone.kind == "approach":
            return zone.distance
        return self._margins[name] + zone.leave_at

    def leave(self) -> None:
        """The arm is in none of the slow zones."""
        self._entered.clear()

    def slow(self, nearest: Mapping[str, float], q, v, velocity) -> Factor:
        """What the slow zones ask for.

        Args:
            nearest: zone name → clearance in metres, of every zone within its ``heed``.
            q, v, velocity: ``[D]`` where the arm is, the proposed velocity, and limits.
        """
        near = {n: d for n, d in nearest.items() if self._zones[n].kind == "slow"}
        # Within the band between its margin and heed an entered zone is not yet left.
        self._entered = {
            n for n, d in near.items() if n in self._entered or not d > self._margins[n]
        }
        least = FREE
        for name in sorted(self._entered):
            zone = self._zones[name]
            if zone.speed is None:
                factor = _of_limits(zone.speed_ratio, v, velocity)
                text = f"joint speeds at most {zone.speed_ratio:.0%} of their limits"
            else:
                if self._points[name].bound(v) <= zone.speed:
                    continue
                fastest = self._points[name].fastest(q, v)
                factor = min(1.0, zone.speed / max(fastest, 1e-12))
                text = f"a point would move at {fastest:.3f} m/s, at most {zone.speed:.3f}"
            if factor < least[0]:
                least = (factor, "slow", f"slow zone {name}: {text}")
        return least

    def approach(self, name: str, clearance: float, v, velocity) -> Factor:
        """What an approach zone asks for while a link at ``clearance`` (m) comes nearer."""
        zone, margin = self._zones[name], self._margins[name]
        way = min(1.0, max(0.0, (clearance - margin) / (zone.distance - margin)))
        ratio = zone.speed_ratio + (1.0 - zone.speed_ratio) * way
        text = f"{clearance * 1e3:.0f} mm away, joint speeds at most {ratio:.0%} of their limits"
        return _of_limits(ratio, v, velocity), "approach", f"approach zone {name}: {text}"

    def is_approach(self, name: str) -> bool:
        """True for an approach zone."""
        return self._zones[name].kind == "approach"


class PointSpeed:
    """How fast the fastest point of the links that a zone selects moves."""

    def __init__(self, robot: RobotModel, zone: Zone):
        self._robot = robot
        self._data = robot.model.createData()
        chosen = [g for g in robot.geometries if zone.selects(g.link)]
        self._reach = np.array([robot.reach(g) for g in chosen])
        bodies: dict[tuple[int, float], list[np.ndarray]] = {}
        for g in chosen:
            shape = robot.geometry.geometryObjects[g.index]
            if shape.parentJoint > 0:
                points, radius = extreme_points(shape.geometry)
                at = shape.placement
                points = points @ at.rotation.T + at.translation
                bodies.setdefault((shape.parentJoint, radius), []).append(points)
        self._bodies = [(j, r, _outermost(np.vstack(found))) for (j, r), found in bodies.items()]

    def bound(self, v: np.ndarray) -> float:
        """m/s that no point exceeds in any posture."""
        return float((self._reach @ np.abs(v)).max(initial=0.0))

    def fastest(self, q: np.ndarray, v: np.ndarray) -> float:
        """m/s at ``q`` with joint velocities ``v`` ``[D]``; the speed of a rigid body's points
        is a convex function of the point, so extreme points are enough."""
        before, after = self._frames(q), self._frames(q + _INSTANT * v)
        worst = 0.0
        for joint, radius, points in self._bodies:
            (r0, t0), (r1, t1) = before[joint], after[joint]
            way = points @ (r1 - r0).T + (t1 - t0)
            speed = np.sqrt((way * way).sum(axis=1).max())
            if radius:
                speed += radius * np.linalg.norm(r1 - r0) / np.sqrt(2.0)  # a small turn
            worst = max(worst, float(speed))
        return worst / _INSTANT

    def _frames(self, q: np.ndarray) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        robot = self._robot
        pin.forwardKinematics(robot.model, self._data, robot.configuration(q))
        frames = self._data.oMi
        return {
            j: (frames[j].rotation.copy(), frames[j].translation.copy())
            for j in {joint for joint, _, _ in self._bodies}
        }


def _outermost(points: np.ndarray) -> np.ndarray:
    """The corners of the hull; all of them where there are too few for one."""
    return points[ConvexHull(points).vertices] if len(points) > 4 else points


def _of_limits(ratio: float, v: np.ndarray, velocity: np.ndarray) -> float:
    """The largest factor at which no joint exceeds ``ratio`` of its speed limit."""
    return min(1.0, ratio / max(float(np.max(np.abs(v) / velocity)), 1e-12))


def closing(
    distance_at: Callable[[np.ndarray], float],
    now: float,
    q: np.ndarray,
    v: np.ndarray,
    reach: np.ndarray,
) -> bool:
    """True where a clearance gets smaller over the next millimetre of motion along ``v``.

    Args:
        distance_at: the clearance in metres at a configuration. now: at ``q``.
        reach: ``[D]`` of the pair.
    """
    travel = float(reach @ np.abs(v))
    if travel < 1e-9:
        return False
    return not distance_at(q + v * (1e-3 / travel)) > now - 1e-6
