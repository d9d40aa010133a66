"""How far the arm stays from itself and from zones, over whole motions.

Between two configurations no point of a shape travels further than its reach times the
joint motion (``RobotModel.reach``). So with clearances ``d0`` and ``d1`` at the ends of a
motion and the bound ``mu`` on the relative travel of a pair, the clearance on the way is
at least ``(d0 + d1 - mu) / 2``: where that is enough the motion is proved clear, else it
is bisected, unless the little that the arm's points bend away from straight lines proves it
sooner. The same bound carries clearances from one tick to the next, so that a pair far away
costs nothing until the arm could have come near. Comparisons are written so that what is no
number counts as not clear.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pinocchio as pin

from smolvla_ros.robot import RobotModel
from smolvla_ros.safety.obstacles import Obstacle, check_obstacles
from smolvla_ros.safety.pairs import ObstacleRows, Pair, Row, arm_rows, moving, obstacle_rows
from smolvla_ros.safety.scene import Scene
from smolvla_ros.safety.speed import FREE, Factor, SpeedZones, closing
from smolvla_ros.safety.way import Way, turning
from smolvla_ros.safety.zones import Zone, check_zones

_SOLVER = 1e-6  # m to which distances are known
_SHALLOW = 6  # configurations


@dataclass(frozen=True)
class Closest:
    """A pair, its clearance in metres (negative: overlap), and the nearest points ``[3]`` of
    its two shapes in the root frame."""

    pair: Pair
    distance: float
    a: np.ndarray
    b: np.ndarray


@dataclass(frozen=True)
class Blocked:
    """Why a step was not taken: the counter's word, and a sentence with the numbers."""

    check: str
    detail: str


class Clearance:
    """Clearances of one arm against itself, its zones and obstacles, carried along its motion.

    Not thread-safe: one thread anchors, checks and moves.

    Args:
        robot: the arm. zones: name → zone; mesh files absolute or relative to the working
            directory (:func:`~smolvla_ros.safety.zones.with_mesh_paths`).
        margin: metres kept between any guarded pair where the zone names none.
        slack: metres by which a motion between two set-points may dip under the margin;
            the room that the proof needs near the border.
        max_nodes: configurations that one check may look at before it gives up; what is
            not proved by then counts as blocked.

    Raises:
        ConfigError: zones that do not fit the robot, every problem of all of them.
    """

    def __init__(
        self,
        robot: RobotModel,
        zones: dict[str, Zone],
        margin: float,
        slack: float,
        max_nodes: int = 96,
    ):
        placed = check_zones(zones, robot, margin)
        self._zones = zones
        self.robot = robot
        self.margin = margin
        self.slack = slack
        self.max_nodes = max_nodes
        self._tolerance = 0.1 * slack
        self._kinematics = robot.model.createData()
        self._turning = turning(robot)
        self._speed_zones = SpeedZones(robot, placed, margin)
        self._scene, self._fixed, self._slowing = arm_rows(robot, placed, margin)
        self._obstacles: list[Obstacle] = []
        self._obstacle_scene: Scene | None = None
        self._obstacle_shapes: list[int] = []
        self._obstacle_margin = 0.0
        # Most that any obstacle was owed by now, for each shape of the arm; see _hold.
        self._owed = np.zeros(len(moving(robot)))
        self._set_rows([])
        self._q = np.zeros(robot.dof)
        self._low = np.zeros(len(self.pairs))  # lower bound on each clearance at _q
        self._exact = np.zeros(len(self.pairs), dtype=bool)  # _low is the clearance itself
        self._level = self._margin.copy()
        self._nodes = 0
        self.anchor(self._q)

    @cached_property
    def of_measured(self) -> Clearance:
        """The same pairs once more, to be carried along the measured arm."""
        return Clearance(self.robot, self._zones, self.margin, self.slack, self.max_nodes)

    def _set_rows(self, obstacles: list[Row]) -> None:
        """Guarded pairs first: the arm's and the zones', then the obstacles'; then those that
        only slow the arm down."""
        rows = [*self._fixed, *obstacles, *self._slowing]
        self.pairs = [row.pair for row in rows]
        self._guards = len(self._fixed) + len(obstacles)
        self._meters = [(row.meter, row.number) for row in rows]
        self._reach = np.array([row.reach for row in rows]).reshape(len(rows), self.robot.dof)
        self._margin = np.array([p.margin for p in self.pairs])
        self._swing = np.array([row.swing for row in rows]).reshape(self._reach.shape)
        self._walled = np.array([row.walled for row in rows], dtype=bool)
        self._heed = np.array([self._speed_zones.heed(row.pair.zone) for row in self._slowing])

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
        self._owed[:] = 0.0
        self._speed_zones.leave()

    def take_over(self, before: Clearance) -> None:
        """Start where ``before`` is, in its place: as :meth:`anchor`, but what its checks have
        let through stays owed where this one guards the same pair."""
        self.anchor(before._q)
        whole = slice(0, before._guards)
        owed = dict(zip(before._keys(), before._debt(whole, before._margin[whole]), strict=True))
        debt = np.array([owed.get(key, 0.0) for key in self._keys()])
        self._hold(slice(0, self._guards), self._margin[: self._guards].copy(), debt)

    def _keys(self) -> list[tuple[str, int]]:
        """Names of the guarded pairs, each with a number: a link may wear several shapes."""
        seen: Counter[str] = Counter()
        keys = []
        for pair in self.pairs[: self._guards]:
            keys.append((pair.name, seen[pair.name]))
            seen[pair.name] += 1
        return keys

    def move(self, q: np.ndarray) -> None:
        """The arm's set-point went straight to ``q`` ``[D]``.

        A pair that recovers is held at the best clearance it has reached. One that lost more
        than any check lets through (an obstacle came into the way of a stop) is held at what
        is left, so that there is a way out.
        """
        travel = self._reach @ np.abs(q - self._q)
        self._q = np.array(q, dtype=float)
        self._low -= travel
        self._exact &= travel == 0.0
        n = self._guards
        low, level, margin = self._low[:n], self._level[:n], self._margin[:n]
        changed = np.flatnonzero((level < margin) | ~(low >= level - self.slack))
        if changed.size:
            self._measure(changed)
            low, held = low[changed], level[changed]
            lost = ~(low >= held - self.slack - _SOLVER)
            best = np.maximum(held, np.minimum(margin[changed], low))
            level[changed] = np.where(lost, low, best)

    def distances(self, q: np.ndarray) -> np.ndarray:
        """``[P]`` metres: the clearance of every pair at ``q``; negative where they overlap."""
        self._place(q)
        return self._distances(range(len(self.pairs)))

    def nearest(self) -> tuple[float, Pair | None]:
        """The smallest guarded clearance in metres where the arm is, and its pair."""
        found = self._smallest(1)
        return (float(self._low[found[0]]), self.pairs[found[0]]) if found else (np.inf, None)

    def closest(self, n: int) -> list[Closest]:
        """The ``n`` nearest guarded pairs where the arm is, nearest first."""
        found = self._smallest(n)
        self._place(self._q)
        meters = [self._meters[i] for i in found]
        return [
            Closest(self.pairs[i], *meter.closest(number))
            for i, (meter, number) in zip(found, meters, strict=True)
        ]

    def violated(self) -> list[Pair]:
        """Guarded pairs that are nearer than their margin where the arm is."""
        below = self._level[: self._guards] < self._margin[: self._guards] - self._tolerance
        return [self.pairs[i] for i in np.flatnonzero(below)]

    def _smallest(self, n: int) -> list[int]:
        """The ``n`` guarded pairs of smallest clearance, in order, each measured."""
        low, exact = self._low[: self._guards], self._exact[: self._guards]
        n = min(n, self._guards)
        placed = False
        while n:
            # A pair is only measured once its bound is among the smallest.
            first = [int(low.argmin())] if n == 1 else np.argsort(low, kind="stable")[:n].tolist()
            stale = [i for i in first if not exact[i]]
            if not stale:
                return first
            if not placed:
                self._place(self._q)
                placed = True
            for i in stale:
                meter, number = self._meters[i]
                low[i] = meter.distance(number)
                exact[i] = True
        return []

    # -- obstacles ----------------------------------------------------------------------

    def make_obstacles(self, obstacles: Sequence[Obstacle]) -> ObstacleRows:
        """What of :meth:`set_obstacles` takes longest: 10 ms for 64 obstacles. It changes
        nothing, so that whoever must not be kept waiting need not wait for it."""
        return obstacle_rows(self.robot, obstacles, self.margin)

    def set_obstacles(
        self,
        obstacles: Sequence[Obstacle],
        margin: float | None = None,
        made: ObstacleRows | None = None,
    ) -> None:
        """Keep clear of these as well, by ``margin`` metres (absent: the margin of everything),
        where they are now. ``made``: by :meth:`make_obstacles` of the same ones, if it was.

        They take the place of the obstacles given before, never of a zone, and are as large
        as given: growth is forgotten. A link nearer than the margin is held at its
        clearance, as by :meth:`anchor`.

        Raises:
            ValueError: more than ``MAX_OBSTACLES``, two of one name, or a margin that is
                none; nothing has changed then.
        """
        check_obstacles(obstacles)
        margin = self.margin if margin is None else margin
        if not 0.0 <= margin < np.inf:
            raise ValueError(f"obstacles' margin: is {margin}; write metres, 0 or more")
        before = slice(len(self._fixed), self._guards)
        debts = np.split(self._debt(before, self._margin[before]), max(len(self._obstacles), 1))
        owed = {o.id: debt for o, debt in zip(self._obstacles, debts, strict=False)}
        if self._obstacles:
            self._owed = np.max([self._owed, *debts], axis=0)
        if made is None and self.has_shapes_of(obstacles):
            for index, obstacle in zip(self._obstacle_shapes, obstacles, strict=True):
                self._obstacle_scene.shift(index, obstacle.pose)
        else:
            self._replace_obstacle_rows(made or obstacle_rows(self.robot, obstacles, margin))
        self._obstacles = list(obstacles)
        self._obstacle_margin = margin
        here = slice(len(self._fixed), self._guards)
        self._place(self._q)
        self._low[here] = self._distances(range(here.start, here.stop))
        self._exact[here] = True
        # One of another name may be the same thing, or one that was away for a moment.
        debt = np.array([owed.get(o.id, self._owed) for o in obstacles]).reshape(-1)
        self._hold(here, np.full_like(debt, margin), debt)

    def grow_obstacles(self, extra: float) -> None:
        """Keep ``extra`` metres (0 or more) further from obstacles that may have moved unseen."""
        here = slice(len(self._fixed), self._guards)
        margin = np.full(here.stop - here.start, self._obstacle_margin + extra)
        self._hold(here, margin, self._debt(here, margin))

    def has_shapes_of(self, obstacles: Sequence[Obstacle]) -> bool:
        """Whether these are the obstacles that there are, at other places at most."""
        return [(o.id, o.shape, o.size, o.vertices) for o in obstacles] == [
            (o.id, o.shape, o.size, o.vertices) for o in self._obstacles
        ]

    def _replace_obstacle_rows(self, made: ObstacleRows) -> None:
        fixed, end = len(self._fixed), self._guards
        self._obstacle_scene, self._obstacle_shapes, rows = made
        self._set_rows(rows)
        room = np.zeros(len(rows))
        self._low = np.concatenate([self._low[:fixed], room, self._low[end:]])
        self._exact = np.concatenate([self._exact[:fixed], room > 0, self._exact[end:]])
        self._level = np.concatenate([self._level[:fixed], room, self._level[end:]])

    def _debt(self, rows: slice, margin: np.ndarray) -> np.ndarray:
        """By how much each pair is nearer than the level it is held at: what a check's
        tolerance has let through. Pairs that may be within ``margin`` are measured."""
        near = ~(self._low[rows] >= np.maximum(margin, self._level[rows]))
        self._measure(rows.start + np.flatnonzero(near))
        return np.maximum(self._level[rows] - self._low[rows], 0.0)

    def _hold(self, rows: slice, margin: np.ndarray, debt: np.ndarray) -> None:
        """New levels after margins or obstacles have changed: the margin, or the clearance.

        What was owed stays owed. Were each change a new start, a stream of them would let
        the arm creep nearer, a tolerance at a time.
        """
        self._margin[rows] = margin
        self._level[rows] = np.minimum(margin, self._low[rows] + debt)

    # -- speed --------------------------------------------------------------------------

    def speed_factor(self, v: np.ndarray, velocity: np.ndarray) -> Factor:
        """What slow and approach zones leave of a proposed velocity where the arm is.

        Args:
            v: ``[D]`` rad/s, the velocity of the proposed step. velocity: ``[D]`` rad/s, the
                joint speed limits.

        Returns:
            The largest factor up to 1 for which ``factor * v`` keeps the rule of every zone
            (point speeds to first order in the step), the word of the check that decides
            (``slow``, ``approach``; empty at 1), and its reason.
        """
        n = self._guards
        near = n + np.flatnonzero(~(self._low[n:] > self._heed))
        self._measure(near)
        near = near[~(self._low[near] > self._heed[near - n])]
        if not near.size:
            self._speed_zones.leave()
            return FREE
        zones, nearest = self._speed_zones, {}
        approached = []
        for i in near.tolist():
            name, d = self.pairs[i].zone, float(self._low[i])
            nearest[name] = min(d, nearest.get(name, np.inf))
            if zones.is_approach(name):
                approached.append((zones.approach(name, d, v, velocity), i))
        least = zones.slow(nearest, self._q, v, velocity)
        for factor, i in sorted(approached, key=lambda found: found[0][0]):
            if factor[0] >= least[0]:
                break
            if closing(
                lambda q, i=i: self._at(q, [i])[0], self._low[i], self._q, v, self._reach[i]
            ):
                return factor
        return least

    # -- checking -----------------------------------------------------------------------

    def blocked(self, path: np.ndarray) -> Blocked | None:
        """None if the motion from where the arm is along ``path`` is proved clear.

        Args:
            path: ``[N, D]`` radians, set-points in order (a step and its stop). Clear
                means: at the first row and the last every guarded pair has its margin, and
                between rows at least margin - slack. A pair that started nearer gets no
                nearer.
        """
        n = self._guards
        if not len(path) or not n:
            return None
        way = Way(np.vstack([self._q, path]), self._turning)
        travel = self._reach[:n] @ way.whole
        near = np.flatnonzero(~(self._low[:n] - travel >= self._level[:n]))
        if near.size:
            self._measure(near)
            near = near[~(self._low[near] - travel[near] >= self._level[near])]
        if not near.size:
            return None
        self._nodes = 0
        last = self._at(path[-1], near)
        first = self._at(path[0], near) if len(path) > 1 else last
        for there in (last, first):
            lack = self._level[near] - self._tolerance - there
            worst = int(np.argmax(lack))
            if not lack[worst] <= 0:
                return self._report(near[worst], there[worst])
        return self._span(way, 0.0, 1.0, near, self._low[near], first) or self._span(
            way, 1.0, way.end, near, first, last
        )

    def _span(self, way, s0, s1, pairs, d0, d1) -> Blocked | None:
        """Prove the motion between two places on the path, or say which pair stands in it."""
        if s1 <= s0:
            return None
        mu = self._reach[pairs] @ way.travel(s0, s1)
        unproved = ~((d0 + d1 - mu) / 2 >= self._level[pairs] - self.slack)
        unproved[unproved] = ~self._bends_clear(
            way, s0, s1, pairs[unproved], d0[unproved], d1[unproved]
        )
        if not unproved.any():
            return None
        pairs, d0, d1 = pairs[unproved], d0[unproved], d1[unproved]
        middle = (s0 + s1) / 2
        dm = self._at(way.at(middle), pairs)
        lack = self._level[pairs] - self.slack - dm
        worst = int(np.argmax(lack))
        if not lack[worst] <= 0:
            return self._report(pairs[worst], dm[worst])
        if self._nodes > self.max_nodes:
            return self._report(pairs[worst], dm[worst], "could not be proved clear from")
        return self._span(way, s0, middle, pairs, d0, dm) or self._span(
            way, middle, s1, pairs, dm, d1
        )

    def _bends_clear(self, way, s0, s1, pairs, d0, d1) -> np.ndarray:
        """Pairs of which the straight line between two places, and what the arm's points bend
        away from it, prove that the motion between is clear.

        On the line a point is nowhere further in any direction than at both ends. So what is
        kept inside a convex set is clear if both ends are; and two shapes are, if there is a
        plane that has them on its two sides at both ends.
        """
        if not pairs.size:
            return np.zeros(0, dtype=bool)
        floor = self._level[pairs] - self.slack + self._swing[pairs] @ way.bow(s0, s1)
        ends = np.minimum(d0, d1) >= floor
        clear = ends & self._walled[pairs]
        # Looking at a plane costs more than bisecting; it pays where bisecting goes deep.
        if self._nodes > _SHALLOW:
            for near, far, group in ((s0, s1, d0 <= d1), (s1, s0, d0 > d1)):
                hopeful = np.flatnonzero(ends & ~clear & group)
                if hopeful.size:
                    gaps = self._plane_gaps(way.at(near), way.at(far), pairs[hopeful])
                    clear[hopeful] = gaps >= floor[hopeful]
        return clear

    def _plane_gaps(self, near: np.ndarray, far: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """Metres between the two shapes of each pair, in the direction in which they are nearest
        at ``near`` ``[D]``, the worst of there and ``far``."""
        meters = [self._meters[i] for i in pairs]
        self._place(near)
        directions = [meter.direction(k) for meter, k in meters]
        ends = []
        for q in (near, far):
            self._place(q)
            ends.append([m.gap(k, n) for (m, k), n in zip(meters, directions, strict=True)])
        first, second = np.array(ends).transpose(2, 0, 1)
        return second.min(axis=0) - first.max(axis=0)

    def _report(self, pair: int, clearance: float, verb: str = "would come to") -> Blocked:
        p = self.pairs[pair]
        here, margin = float(clearance) * 1e3, self._margin[pair] * 1e3
        return Blocked(p.check, f"{p.name} {verb} {here:.1f} mm, margin {margin:.1f} mm")

    # -- measuring ----------------------------------------------------------------------

    def _at(self, q: np.ndarray, pairs: Iterable[int]) -> np.ndarray:
        self._nodes += 1
        self._place(q)
        return self._distances(pairs)

    def _measure(self, pairs: np.ndarray) -> None:
        """Replace the bounds of these pairs by their clearances where the arm is."""
        stale = pairs[~self._exact[pairs]]
        if stale.size:
            self._place(self._q)
            self._low[stale] = self._distances(stale)
            self._exact[stale] = True

    def _place(self, q: np.ndarray) -> None:
        robot = self.robot
        pin.forwardKinematics(robot.model, self._kinematics, robot.configuration(q))
        self._scene.place(self._kinematics)
        if self._obstacles:
            self._obstacle_scene.place(self._kinematics)

    def _distances(self, pairs: Iterable[int]) -> np.ndarray:
        chosen = [self._meters[i] for i in pairs]
        return np.array([meter.distance(k) for meter, k in chosen])
