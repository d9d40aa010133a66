"""Judges what left a gate: set-points, and nothing that the gate thinks of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import yaml

from oracle.description import Description, Shape, pose_of
from oracle.limits import Bounds, bounds_of
from oracle.scene import Scene
from oracle.stops import PLANNED, families

ROUNDING = 1e-6  # rad, rad/s, rad/s²
DISTANCE = 2e-5  # m: two distance algorithms, the one that judges and the one that is judged
MOVING = 1e-9  # rad/s
ENABLED = ("holding", "following", "slowed", "braking")
RECENT = 100  # rows after which rules that held before are past


@dataclass
class Stream:
    """What left a gate, and what was done to it.

    Attributes:
        names: the joints of the columns. t: ``[N]`` s, of each tick.
        positions, velocities: ``[N, D]``; rows of NaN where nothing was commanded.
        states: ``N`` words.
        starts: row -> ``[D]`` where the arm was measured when that row's run of set-points
            began; without an entry the row itself is the start.
        changes: (row, oracle): what holds from that row on.
        heard: (t, stamp) of every command whose content, time and source are right.
        events: (t, what): stop, reset, enable, disable, restart (of the gate's process),
            elsewhere (the arm was away for longer than it may be and is back elsewhere, or is
            told where to be and stands elsewhere for longer than it may).
        command_timeout: s; None: silence is not judged.
    """

    names: list[str]
    t: list[float] = field(default_factory=list)
    positions: list[np.ndarray] = field(default_factory=list)
    velocities: list[np.ndarray] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    starts: dict[int, np.ndarray] = field(default_factory=dict)
    changes: list[tuple[int, Oracle]] = field(default_factory=list)
    heard: list[tuple[float, float]] = field(default_factory=list)
    events: list[tuple[float, str]] = field(default_factory=list)
    command_timeout: float | None = None

    def add(self, t: float, positions, velocities, state: str) -> None:
        """One tick's output."""
        nothing = np.full(len(self.names), np.nan)
        self.t.append(t)
        self.positions.append(nothing if positions is None else np.array(positions, float))
        self.velocities.append(nothing if velocities is None else np.array(velocities, float))
        self.states.append(str(state))


@dataclass(frozen=True)
class Finding:
    """A broken promise: which (I1 to I7), at which row, and the numbers."""

    rule: str
    row: int
    text: str

    def __str__(self) -> str:
        return f"{self.rule} at row {self.row}: {self.text}"


class Oracle:
    """The promise of one cell, checked from outside."""

    def __init__(self, cell: Path | str, section: str = "safety_monitor"):
        """Read a cell file."""
        cell = Path(cell)
        keys: dict = {}
        shared: dict = {}
        for name, body in yaml.safe_load(cell.read_text()).items():
            if name == "/**":
                shared = body["ros__parameters"]
            elif name.rsplit("/", 1)[-1] == section:
                keys = body["ros__parameters"]
        robot = keys.get("robot") or shared["robot"]
        limits = keys["limits"]
        self._set(
            urdf=cell.parent / robot["urdf"],
            srdf=cell.parent / robot["srdf"] if robot.get("srdf") else None,
            limits=limits,
            zones=keys.get("zones") or {},
            rate=keys.get("rate", 100.0),
            margin=keys["margin"],
            slack=keys.get("slack", 0.001),
            braking_ratio=keys.get("braking_ratio", 0.7),
            moveit=cell.parent / limits["joint_limits"] if limits.get("joint_limits") else None,
            package_dirs=[cell.parent / p for p in robot.get("package_dirs", [])],
            base=cell.parent,
            attached=[_payload(p) for p in (robot.get("payload") or {}).values()],
        )

    @classmethod
    def of(cls, **parts) -> Oracle:
        """From the pieces: urdf, srdf, limits, zones, rate, margin, slack, braking_ratio,
        moveit (a joint_limits.yaml), package_dirs, base, attached."""
        self = cls.__new__(cls)
        self._set(**parts)
        return self

    def _set(self, *, urdf, limits, margin, srdf=None, zones=None, rate=100.0, slack=0.001,
             braking_ratio=0.7, moveit=None, package_dirs=(), base=None, attached=()):  # fmt: skip
        description = Description(urdf, package_dirs)
        self.scene = Scene(description, srdf, zones or {}, margin, base, attached)
        self.dt = 1.0 / rate
        self.margin, self.slack, self.braking_ratio = margin, slack, braking_ratio
        self._given, self._moveit = limits, moveit
        self._take_bounds(bounds_of(self.scene.kinematics, limits, moveit))

    def _take_bounds(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.lower, self.upper = bounds.lower, bounds.upper
        self.velocity, self.acceleration, self.jerk = (
            bounds.velocity, bounds.acceleration, bounds.jerk,
        )  # fmt: skip

    @property
    def names(self) -> list[str]:
        """The joints, in the order of the columns that this oracle judges."""
        return self.scene.names

    def changed(self, zones=None, margin=None, limits=None) -> Oracle:
        """The same arm under other zones, another margin, or other limits."""
        other = object.__new__(Oracle)
        other.__dict__.update(self.__dict__)
        if zones is not None or margin is not None:
            other.scene = self.scene.changed(zones, margin)
            other.margin = other.scene.margin
        if limits is not None:
            other._given = limits
            other._take_bounds(bounds_of(other.scene.kinematics, limits, self._moveit))
        return other

    # -- one configuration --------------------------------------------------------------

    def room(self, q) -> float:
        """Metres of clearance beyond the margin at ``q``; negative: too near."""
        return float(self.rooms(q).min(initial=0.3))

    def rooms(self, q) -> np.ndarray:
        """``[R]`` metres beyond its margin of every rule at ``q``."""
        return self.scene.rooms(np.asarray(q, dtype=float)[None])[0]

    # -- a stream -----------------------------------------------------------------------

    def findings(self, stream, sweep: int = 4, stops_every: int = 3) -> list[Finding]:
        """Everything in a stream that breaks the promise, at most one finding a rule and run.

        Args:
            stream: a :class:`Stream`, or rows ``[N, D]`` of which the first is a start at
                rest. sweep: places looked at between two rows. stops_every: from every so
                manieth moving row a stop is simulated.
        """
        if not isinstance(stream, Stream):
            rows = np.asarray(stream, dtype=float)
            stream = Stream(list(self.names), starts={0: rows[0]})
            for k, row in enumerate(rows[1:]):
                velocity = (row - rows[k]) / self.dt
                stream.add(k * self.dt, row, velocity, "following")
        return Judgement(self, stream, sweep, stops_every).findings


def _payload(keys: dict):
    """What a link carries: link, shape, pose, links that it may touch."""
    size = keys["size"]
    shape = {
        "box": lambda: Shape("box", tuple(x / 2 for x in size)),
        "sphere": lambda: Shape("sphere", (size[0],)),
    }.get(keys["shape"], lambda: Shape(keys["shape"], (size[0], size[1] / 2)))()
    pose = pose_of(keys.get("position", (0, 0, 0)), keys.get("rpy", (0, 0, 0)))
    return keys["link"], shape, pose, tuple(keys.get("may_touch", ()))


class Judgement:
    """One stream before one oracle."""

    def __init__(self, oracle: Oracle, stream: Stream, sweep: int, stops_every: int):
        self.stream, self.sweep, self.stops_every = stream, sweep, stops_every
        self.dt, self._base = oracle.dt, oracle
        self.findings: list[Finding] = []
        self.steps = len(stream.t)
        if not stream.t:
            return
        self.t = np.array(stream.t)
        if sorted(stream.names) != sorted(oracle.names):
            self._find("I1", 0, f"joints {stream.names} are not {oracle.names}")
            return
        self.order = order = [stream.names.index(n) for n in oracle.names]
        self.rows = np.array(stream.positions)[:, order]
        self.speeds = np.array(stream.velocities)[:, order]
        self.on = ~np.isnan(self.rows).all(axis=1)
        self._form()
        if not self.findings:
            self._full_rate()
            self._silence()
            self._latch()
            edges = np.flatnonzero(np.diff(np.r_[False, self.on, False]))
            for first, end in edges.reshape(-1, 2).tolist():
                anew = [first, *sorted(k for k in stream.starts if first < k < end), end]
                for a, b in pairwise(anew):
                    self._run(oracle, a, b)

    def _find(self, rule: str, row: int, text: str) -> None:
        self.findings.append(Finding(rule, int(row), text))

    def _first(self, rule, bad, offset, values, what) -> bool:
        """A finding for the first True of ``bad`` ``[N, D]``."""
        if not bad.any():
            return False
        k, j = np.argwhere(bad)[0]
        name = self.stream.names[self.order[j]]
        self._find(rule, offset + k, f"{what} of {name}: {values[k, j]:.9g}")
        return True

    def _form(self) -> None:
        for what, table in (("position", self.rows), ("velocity", self.speeds)):
            bad = self.on[:, None] & ~np.isfinite(table)
            self._first("I1", bad, 0, table, what)
        late = np.flatnonzero(np.diff(self.t) <= 0)
        if late.size:
            self._find("I1", late[0] + 1, f"time goes from {self.t[late[0]]}")

    def _since(self, k: int) -> set[str]:
        """What was done between row ``k`` and the one before."""
        return {w for t, w in self.stream.events if self.t[k - 1] <= t < self.t[k]}

    # -- silence, stop, reset -----------------------------------------------------------

    def _full_rate(self) -> None:
        """I6: who has the arm goes on saying where it is to be, also at rest and stopped."""
        for k, state in enumerate(self.stream.states):
            stays = state == "stopped" and k > 0 and self.on[k - 1]
            # After a reset, and where another arm stands, there is nothing to hold.
            stays = stays and "reset" not in self._since(k)
            holds = state in ENABLED or stays
            gone = k > 0 and state in ("holding", "stopped") and "elsewhere" in self._since(k)
            if holds and not self.on[k] and not gone:
                self._find("I6", k, f"commands nothing while it is {state}")
                return

    def _moving(self) -> np.ndarray:
        """``[N]`` True where the set-point differs from the one before it."""
        step = np.zeros(len(self.rows))
        step[1:] = np.abs(np.diff(self.rows, axis=0)).max(axis=1)
        return np.nan_to_num(step) > 1e-12

    def _brake_time(self, oracle: Oracle) -> float:
        b = oracle.bounds
        brake = oracle.braking_ratio * b.acceleration
        ramp = np.where(np.isfinite(b.jerk), 2.0 * b.acceleration / b.jerk, 0.0)
        return float(np.max(b.velocity / brake + ramp)) + 5 * self.dt

    def _silence(self) -> None:
        """I6: no motion long after the last word. I7: none by what was said before enabling."""
        s = self.stream
        if s.command_timeout is None:
            return
        slowest = max(self._brake_time(o) for _, o in [*s.changes, (0, self._oracle_at(0))])
        moving = self._moving()
        moving[list(s.starts)] = False  # taken where the arm is: no motion
        moving |= np.nan_to_num(np.abs(self.speeds)).max(axis=1) > MOVING
        enables = np.array([-np.inf] + [t for t, what in s.events if what == "enable"])
        heard = np.array([t for t, _ in s.heard])
        stamps = np.array([x for _, x in s.heard])
        for k in np.flatnonzero(moving):
            t = self.t[k]
            begun = enables[enables <= t].max()
            ours = heard[(heard <= t) & (heard >= begun) & (stamps >= begun - 1e-9)]
            if not ours.size:
                self._find("I7", k, "moves, and no command was observed since it was enabled")
                return
            # A tick that comes late brakes no more than one that comes in time.
            braking = k - np.searchsorted(self.t, ours.max() + s.command_timeout)
            if braking * self.dt > slowest:
                self._find("I6", k, f"moves {t - ours.max():.2f} s after the last command")
                return

    def _oracle_at(self, row: int) -> Oracle:
        found = [o for k, o in self.stream.changes if k <= row]
        return found[-1] if found else self._base

    def _latch(self) -> None:
        """I7: what is stopped stands, and leaves only by a reset and an enable."""
        s = self.stream
        moving = self._moving()
        for k in range(1, len(self.t)):
            if s.states[k - 1] != "stopped":
                continue
            since = self._since(k)
            if s.states[k] == "stopped":
                if self.on[k] and self.on[k - 1] and moving[k]:
                    self._find("I7", k, "moves while it is stopped")
                    return
            elif not since & {"reset", "restart"}:
                self._find("I7", k, f"from stopped to {s.states[k]} without a reset")
                return
            elif self.on[k] and "enable" not in since:
                self._find("I7", k, "commands after a reset without an enable")
                return

    # -- limits and clearance -----------------------------------------------------------

    def _run(self, oracle: Oracle, first: int, end: int) -> None:
        """One run of set-points: from a start at rest to its end."""
        start = self.stream.starts.get(first)
        start = self.rows[first] if start is None else np.asarray(start)[self.order]
        rows = np.vstack([start, self.rows[first:end]])
        v = np.vstack([np.zeros(rows.shape[1]), np.diff(rows, axis=0) / self.dt])
        a = np.vstack([np.zeros(rows.shape[1]), np.diff(v, axis=0) / self.dt])
        j = np.vstack([np.zeros(rows.shape[1]), np.diff(a, axis=0) / self.dt])
        said = self.speeds[first:end]
        off = np.abs(said - v[1:]) > oracle.bounds.acceleration * self.dt + ROUNDING
        self._first("I3", off, first, said, "velocity that does not belong to the positions")
        changes = [(k, o) for k, o in self.stream.changes if first < k < end]
        before = [o for k, o in self.stream.changes if k <= first]
        pieces = [(first, before[-1] if before else oracle), *changes]
        ends = [k for k, _ in changes] + [end]
        older: list[tuple[int, Oracle]] = []  # (row where it ended, what held until then)
        for (begin, rule), stop in zip(pieces, ends, strict=True):
            i, n = begin - first, stop - first  # rows[i] is the last one before this piece
            recent = [o for end, o in older if begin - end < RECENT]
            piece = Piece(
                rule,
                recent,
                *(table[i : n + 1] for table in (rows, v, a, j)),
                self.sweep,
                self.stops_every,
            )
            for what, row, text in piece.findings():
                self._find(what, begin + row - 1, text)
            older.append((stop, rule))


class Piece:
    """Consecutive set-points under the same rules. Row 0 is where they begin.

    ``before``: the rules that held until shortly before; an arm in motion cannot keep others
    from one tick to the next. Empty where the arm begins at rest.
    """

    def __init__(self, oracle, before, rows, v, a, j, sweep, stops_every):
        self.o, self.before, self.rows, self.v, self.a, self.j = oracle, before, rows, v, a, j
        self.sweep, self.stops_every = sweep, stops_every
        self.dt = oracle.dt
        self.names = oracle.names

    def findings(self):
        """(rule, row, text) of everything found."""
        out = [*self._limits(), *self._positions()]
        return out or [*self._clearances()]

    def _limits(self):
        b = self.o.bounds
        old = [o.bounds for o in self.before]
        moving = np.abs(self.v).max(axis=1) > MOVING
        # Tighter limits meet an arm in motion: until it has braked, what held before holds.
        grace = np.zeros(len(self.rows), dtype=bool)
        if self.before and moving[0]:
            grace[: self._grace() + 2] = True
        room = {"velocity": 2e-15 / self.dt, "acceleration": 4e-15 / self.dt**2,
                "jerk": 8e-15 / self.dt**3}  # fmt: skip
        swing = np.minimum(self.a[0] ** 2 / (2 * b.jerk), np.abs(self.a[0]) * self.dt)
        for what, values, was in (
            ("velocity", self.v, [np.abs(self.v[0]) + swing]),
            ("acceleration", self.a, [x.acceleration for x in old]),
            ("jerk", self.j, [x.jerk for x in old]),
        ):
            new = getattr(b, what)
            bound = np.where(grace[:, None], np.max([new, *was], axis=0), new)
            bound = bound * (1 + ROUNDING) + ROUNDING + 100 * room[what]
            bad = np.abs(values) > bound
            bad[0] = False
            if bad.any():
                k, i = np.argwhere(bad)[0]
                yield ("I3", k, f"{what} of {self.names[i]}: {values[k, i]:.9g}, at most "
                                f"{new[i]:.9g}")  # fmt: skip

    def _excess(self, q):
        b = self.o.bounds
        return np.maximum(np.maximum(b.lower - q, q - b.upper), 0.0)

    def _positions(self):
        over = self._excess(self.rows)
        if not (over > ROUNDING).any():
            return
        level = over[0].copy()
        if self.before:  # it may need its stopping distance
            ends = [self._excess(path[-1]) for path in self._all_stops(0)[:PLANNED]]
            level = np.maximum(level, np.max(ends, axis=0))
        rested = np.abs(self.v[0]) <= MOVING
        for k in range(1, len(self.rows)):
            bad = over[k] > np.maximum(level, 0.0) + ROUNDING
            if bad.any():
                i = int(np.argmax(bad))
                yield "I2", k, f"position of {self.names[i]}: {self.rows[k, i]:.9g}"
                return
            rested |= over[k] <= over[k - 1]
            level = np.where(rested, np.minimum(level, over[k]), level)

    def _all_stops(self, k):
        """``[S, D]`` each: the ways to rest from row ``k``."""
        q, v, a = self.rows[k : k + 1], self.v[k : k + 1], self.a[k : k + 1]
        return [stop(q, v, a)[0] for stop in families(self.o.bounds, self.o.braking_ratio, self.dt)]

    def _clearances(self):
        scene, o = self.o.scene, self.o
        margin = np.array([r.margin for r in scene.rules])
        if not len(margin):
            yield from self._stops(None)
            return
        give = o.slack + DISTANCE
        moved = np.flatnonzero(np.abs(np.diff(self.rows, axis=0)).max(axis=1) > 1e-12)
        s = np.arange(1, self.sweep + 1) / self.sweep
        steps = self.rows[moved + 1] - self.rows[moved]
        q = (self.rows[moved][:, None] + s[None, :, None] * steps[:, None]).reshape(
            -1, self.rows.shape[1]
        )
        at = np.repeat(moved + 1, self.sweep)  # the row each belongs to
        start = self._levels(margin)
        levels = np.broadcast_to(start, (len(self.rows), len(margin)))
        near = np.flatnonzero(start < margin)
        if near.size:
            levels = levels.copy()
            self._recover(scene, near, margin, levels)
        rows, rules, d = scene.below(q, margin - give)
        lack = levels[at[rows] - 1, rules] - give - d
        # Depth is where two algorithms differ most.
        lack -= np.where(d < 0, 0.02 * np.abs(d), 0.0)
        if rows.size and lack.max() > 0:
            worst = rows[np.flatnonzero(lack > 0)].min()
            which = np.flatnonzero((rows == worst) & (lack > 0))
            k = which[int(np.argmax(lack[which]))]
            rule = scene.rules[rules[k]]
            yield ("I4", at[worst], f"{rule.check} {rule.name}: {d[k] * 1e3:.2f} mm, at least "
                   f"{levels[at[worst] - 1, rules[k]] * 1e3:.2f} mm less the slack")  # fmt: skip
            return
        yield from self._slow()
        yield from self._stops(levels)

    def _levels(self, margin):
        """What each clearance may not fall under, from row 0 on."""
        scene = self.o.scene
        level = margin.copy()
        _, rules, d = scene.below(self.rows[:1], margin)
        level[rules] = d
        if self.before and np.abs(self.v[0]).max() > MOVING:
            # Something came into the way of an arm in motion: all that it can do is stop.
            for path in self._all_stops(0)[:PLANNED]:
                _, rules, d = scene.below(path, margin)
                np.minimum.at(level, rules, d)
        return level

    def _recover(self, scene, near, margin, levels):
        """A clearance that began too small may grow, and not fall again."""
        rows, rules, d = scene.below(self.rows, margin, near)
        table = np.broadcast_to(margin, (len(self.rows), len(margin))).copy()
        table[rows, rules] = d
        moving = np.abs(self.v).max(axis=1) > MOVING
        braked = 0
        if self.before and moving[0]:
            still = np.flatnonzero(~moving)
            need = np.abs(self.v[0]) / (self.o.braking_ratio * self.o.bounds.acceleration)
            braked = int(np.max(need) / self.dt) + 3
            braked = min(braked, still[0] if still.size else len(moving))
        grown = np.maximum.accumulate(table[braked:, near], axis=0)
        levels[braked:, near] = np.minimum(np.maximum(grown, levels[0, near]), margin[near])

    def _slow(self):
        """In a slow zone the joint speeds fall to its share, as fast as braking goes."""
        o = self.o
        ratios = {
            n: z["speed_ratio"]
            for n, z in o.scene.zones.items()
            if z["kind"] == "slow" and z.get("speed_ratio")
        }
        share = np.abs(self.v / o.bounds.velocity).max(axis=1)
        fast = share > min(ratios.values(), default=np.inf) + ROUNDING
        if not fast.any():
            return
        for name, touched in o.scene.slow_touched(self.rows).items():
            if name not in ratios:
                continue
            most = ratios[name] * o.bounds.velocity
            brake = o.braking_ratio * o.bounds.acceleration * self.dt
            until = 0
            for k in range(len(self.rows)):
                if not touched[k]:
                    until = 0
                    continue
                if not until:  # it has come in: from here on it brakes
                    need = np.maximum(np.abs(self.v[k]) - most, 0.0) / brake
                    until = k + int(np.ceil(need.max())) + 3
                if k > until and share[k] > ratios[name] + ROUNDING:
                    yield (
                        "I4",
                        k,
                        f"slow zone {name}: {share[k]:.3f} of the joint speeds, at most "
                        f"{ratios[name]}",
                    )
                    return

    def _stops(self, levels):
        """I5: from every set-point there is a way to rest."""
        o, scene = self.o, self.o.scene
        moving = np.flatnonzero(np.abs(self.v).max(axis=1) > MOVING)
        moving = moving[moving > 0]
        left = moving[:: self.stops_every]
        if self.before:  # not where something new stands in every way
            left = left[left > self._grace()]
        give = o.slack + DISTANCE
        margin = np.array([r.margin for r in scene.rules])
        # Differences of set-points tell an acceleration to within a tick of jerk.
        jerk = o.bounds.jerk
        blur = np.where(np.isfinite(jerk), jerk, 0.0) * self.dt**3
        for stop in families(o.bounds, o.braking_ratio, self.dt):
            if not left.size:
                return
            paths = stop(self.rows[left], self.v[left], self.a[left])
            over = self._excess(paths[:, -1]) - self._excess(self.rows[left])
            bad = (over > ROUNDING + blur).any(axis=1)
            if len(margin):
                n = paths.shape[1]
                rows, rules, d = scene.below(paths.reshape(-1, paths.shape[2]), margin - give)
                at = left[rows // n]
                lack = levels[at, rules] - give - d - np.where(d < 0, 0.02 * np.abs(d), 0.0)
                bad[rows[lack > 0] // n] = True
            left = left[bad]
        if left.size:
            yield "I5", left[0], "no stop from here stays inside the limits and clear"

    def _grace(self) -> int:
        need = np.abs(self.v[0]) / (self.o.braking_ratio * self.o.bounds.acceleration)
        return int(np.max(need) / self.dt) + 3
