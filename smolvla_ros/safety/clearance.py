"""How far the arm stays from itself and from zones, over whole motions.

Between two configurations no point of a shape travels further than its reach times the
joint motion (``RobotModel.reach``). So with clearances ``d0`` and ``d1`` at the ends of a
motion and the bound ``mu`` on the relative travel of a pair, the clearance on the way is
at least ``(d0 + d1 - mu) / 2``: where that is enough the motion is proved clear, else it
is bisected. The same bound carries clearances from one tick to the next, so that a pair
far away costs nothing until the arm could have come near.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pinocchio as pin

from smolvla_ros.robot import RobotModel
from smolvla_ros.safety.zones import Zone, check_zones


@dataclass(frozen=True)
class Pair:
    """Two shapes whose distance matters.

    ``name`` is for people (``link ~ link`` or ``link ~ zone``), ``check`` the counter's
    word (``self_collision``, ``keep_out``, ``keep_in``, ``slow``), ``margin`` in metres.
    """

    name: str
    check: str
    margin: float
    zone: str = ""


@dataclass(frozen=True)
class Blocked:
    """Why a step was not taken: the counter's word, and a sentence with the numbers."""

    check: str
    detail: str


class Clearance:
    """Clearances of one arm against itself and its zones, carried along its motion.

    Not thread-safe: one thread anchors, checks and moves.

    Args:
        robot: the arm. zones: name → zone, in the root link's frame.
        margin: metres kept between any guarded pair where the zone names none.
        slack: metres by which a motion between two set-points may dip under the margin;
            the room that the proof needs near the border.
        max_nodes: configurations that one check may look at before it gives up; what is
            not proved by then counts as blocked.
    """

    def __init__(
        self,
        robot: RobotModel,
        zones: dict[str, Zone],
        margin: float,
        slack: float,
        max_nodes: int = 96,
    ):
        check_zones(zones, robot.links)
        self.robot = robot
        self.slack = slack
        self.max_nodes = max_nodes
        self._tolerance = 0.1 * slack
        self._geometry = pin.GeometryModel(robot.geometry)
        guarded: list[tuple[int, int, Pair, np.ndarray]] = []
        slow: list[tuple[int, int, Pair, np.ndarray]] = []
        reach = {g.index: robot.reach(g) for g in robot.geometries}
        for a, b in robot.self_collision_pairs():
            pair = Pair(f"{a.link} ~ {b.link}", "self_collision", margin)
            relative = _relative_reach(reach[a.index], reach[b.index])
            guarded.append((a.index, b.index, pair, relative))
        for name, zone in zones.items():
            for k, (shape, placement) in enumerate(zone.parts()):
                index = self._geometry.addGeometryObject(
                    pin.GeometryObject(f"zone/{name}/{k}", 0, 0, placement, shape)
                )
                for g in robot.geometries:
                    # A shape that no joint carries (the base on its table) cannot be kept
                    # away from anything by a gate.
                    if not zone.selects(g.link) or not reach[g.index].any():
                        continue
                    own = margin if zone.margin is None else zone.margin
                    pair = Pair(f"{g.link} ~ {name}", zone.kind, own, name)
                    into = slow if zone.kind == "slow" else guarded
                    into.append((g.index, index, pair, reach[g.index]))
        everything = guarded + slow
        # A static pair of self collision (both on the root) cannot change either.
        everything = [e for e in everything if e[3].any()]
        self.pairs = [e[2] for e in everything]
        self._guards = sum(p.check != "slow" for p in self.pairs)
        for first, second, _, _ in everything:
            self._geometry.addCollisionPair(pin.CollisionPair(first, second))
        self._reach = np.array([e[3] for e in everything]).reshape(len(everything), robot.dof)
        self._margin = np.array([p.margin for p in self.pairs])
        self._data = robot.model.createData()
        self._geometry_data = self._geometry.createData()
        self._zone_ratio = {n: z.speed_ratio for n, z in zones.items() if z.kind == "slow"}
        self._q = np.zeros(robot.dof)
        self._low = np.zeros(len(self.pairs))  # lower bound on each clearance at _q
        self._exact = np.zeros(len(self.pairs), dtype=bool)  # _low is the clearance itself
        self._level = self._margin.copy()
        self._nodes = 0
        self.anchor(self._q)

    # -- state --------------------------------------------------------------------------

    def anchor(self, q: np.ndarray) -> None:
        """Start from ``q`` ``[D]``: measure every pair there.

        A pair that is nearer than its margin here is held at that clearance, and at every
        better one it reaches, until it is back at the margin: the way out stays open.
        """
        self._q = np.array(q, dtype=float)
        self._low = self.distances(self._q)
        self._exact[:] = True
        self._level = np.minimum(self._margin, self._low)

    def move(self, q: np.ndarray) -> None:
        """The arm's set-point went straight to ``q`` ``[D]``."""
        travel = self._reach @ np.abs(q - self._q)
        self._q = np.array(q, dtype=float)
        self._low -= travel
        self._exact &= travel == 0.0
        recovering = np.flatnonzero(self._level[: self._guards] < self._margin[: self._guards])
        if recovering.size:
            self._measure(recovering)
            found = np.minimum(self._margin[recovering], self._low[recovering])
            self._level[recovering] = np.maximum(self._level[recovering], found)

    def distances(self, q: np.ndarray) -> np.ndarray:
        """``[P]`` metres: the clearance of every pair at ``q``; negative where they overlap."""
        self._place(q)
        return np.array([self._distance(i) for i in range(len(self.pairs))])

    def nearest(self) -> tuple[float, Pair | None]:
        """The smallest guarded clearance in metres where the arm is, and its pair."""
        if not self._guards:
            return np.inf, None
        low, exact = self._low[: self._guards], self._exact[: self._guards]
        placed = False
        while True:
            i = int(np.argmin(low))
            if exact[i]:
                return float(low[i]), self.pairs[i]
            if not placed:
                self._place(self._q)
                placed = True
            low[i] = self._distance(i)
            exact[i] = True

    def violated(self) -> list[Pair]:
        """Guarded pairs that are nearer than their margin where the arm is."""
        below = self._level[: self._guards] < self._margin[: self._guards] - self._tolerance
        return [self.pairs[i] for i in np.flatnonzero(below)]

    def speed_ratio(self, extra: float = 0.0) -> tuple[float, str]:
        """The lowest ratio of the slow zones that a link touches (within ``extra`` metres),
        with the zone's name; (1, "") outside all of them."""
        near = self._guards + np.flatnonzero(self._low[self._guards :] <= extra)
        self._measure(near)
        ratio, name = 1.0, ""
        for i in near:
            if self._low[i] <= extra and self._zone_ratio[self.pairs[i].zone] < ratio:
                name = self.pairs[i].zone
                ratio = self._zone_ratio[name]
        return ratio, name

    # -- checking -----------------------------------------------------------------------

    def blocked(self, path: np.ndarray) -> Blocked | None:
        """None if the motion from where the arm is along ``path`` is proved clear.

        Args:
            path: ``[N, D]`` radians, set-points in order, each joint moving one way only
                (a step and its stop). Clear means: at the first row and the last every
                guarded pair has its margin, and between rows at least margin - slack.
                A pair that started nearer gets no nearer.
        """
        n = self._guards
        if not len(path) or not n:
            return None
        travel = self._reach[:n] @ np.abs(path[-1] - self._q)
        near = np.flatnonzero(self._low[:n] - travel < self._level[:n])
        if near.size:
            self._measure(near)
            near = near[self._low[near] - travel[near] < self._level[near]]
        if not near.size:
            return None
        points = np.vstack([self._q, path])
        self._nodes = 0
        last = self._at(points[-1], near)
        first = self._at(points[1], near) if len(path) > 1 else last
        for there in (last, first):
            lack = self._level[near] - self._tolerance - there
            worst = int(np.argmax(lack))
            if lack[worst] > 0:
                return self._report(near[worst], there[worst])
        return self._span(points, 0.0, 1.0, near, self._low[near], first) or self._span(
            points, 1.0, float(len(path)), near, first, last
        )

    def _span(self, points, s0, s1, pairs, d0, d1) -> Blocked | None:
        """Prove the motion between two places on the path, or say which pair stands in it."""
        if s1 <= s0:
            return None
        a, b = _between(points, s0), _between(points, s1)
        mu = self._reach[pairs] @ np.abs(b - a)
        unproved = (d0 + d1 - mu) / 2 < self._level[pairs] - self.slack
        if not unproved.any():
            return None
        pairs, d0, d1 = pairs[unproved], d0[unproved], d1[unproved]
        middle = (s0 + s1) / 2
        dm = self._at(_between(points, middle), pairs)
        lack = self._level[pairs] - self.slack - dm
        worst = int(np.argmax(lack))
        if lack[worst] > 0:
            return self._report(pairs[worst], dm[worst])
        if self._nodes > self.max_nodes:
            return self._report(pairs[worst], dm[worst], "could not be proved clear from")
        return self._span(points, s0, middle, pairs, d0, dm) or self._span(
            points, middle, s1, pairs, dm, d1
        )

    def _report(self, pair: int, clearance: float, verb: str = "would come to") -> Blocked:
        p = self.pairs[pair]
        return Blocked(
            p.check,
            f"{p.name} {verb} {clearance * 1e3:.1f} mm, margin {p.margin * 1e3:.1f} mm",
        )

    # -- measuring ----------------------------------------------------------------------

    def _at(self, q: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        self._nodes += 1
        self._place(q)
        return np.array([self._distance(i) for i in pairs])

    def _measure(self, pairs: np.ndarray) -> None:
        """Replace the bounds of these pairs by their clearances where the arm is."""
        stale = pairs[~self._exact[pairs]]
        if stale.size:
            self._place(self._q)
            self._low[stale] = [self._distance(i) for i in stale]
            self._exact[stale] = True

    def _place(self, q: np.ndarray) -> None:
        pin.updateGeometryPlacements(
            self.robot.model,
            self._data,
            self._geometry,
            self._geometry_data,
            self.robot.configuration(q),
        )

    def _distance(self, pair: int) -> float:
        return pin.computeDistance(self._geometry, self._geometry_data, int(pair)).min_distance


def _relative_reach(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A joint that carries both shapes does not move them against each other; one that
    carries a single shape moves it by that shape's reach."""
    return np.where((a > 0) & (b > 0), 0.0, a + b)


def _between(points: np.ndarray, s: float) -> np.ndarray:
    i = min(int(s), len(points) - 2)
    return points[i] + (s - i) * (points[i + 1] - points[i])
