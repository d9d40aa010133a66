"""A whole trajectory to be carried out through the gate: read, watched, and judged at its end.

What a joint trajectory controller does for the FollowJointTrajectory action, with the gate in
its place: the numbers and their meaning are those of control_msgs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, IntEnum

import numpy as np
from scipy.interpolate import CubicHermiteSpline, PPoly

from smolvla_ros.safety.command import MAX_POINTS, Refused
from smolvla_ros.safety.gate import Gate
from smolvla_ros.safety.verdict import Kind, State

_STEP = 0.02  # s between the rows of a path that is given with its derivatives
_BEGIN = 0.05  # s in which the gate's last output may still be of what was before
_BLOCKED = 0.5  # s of pushing against something guarded that end a goal
_RATE_OVER = 0.05  # s over which the measured velocity is taken


class ErrorCode(IntEnum):
    """``error_code`` of the action's result."""

    SUCCESSFUL = 0
    INVALID_GOAL = -1
    INVALID_JOINTS = -2
    OLD_HEADER_TIMESTAMP = -3
    PATH_TOLERANCE_VIOLATED = -4
    GOAL_TOLERANCE_VIOLATED = -5


_CODES = {
    "duplicate_joint": ErrorCode.INVALID_JOINTS,
    "unknown_joint": ErrorCode.INVALID_JOINTS,
    "missing_joint": ErrorCode.INVALID_JOINTS,
    "too_old": ErrorCode.OLD_HEADER_TIMESTAMP,
    "before_enable": ErrorCode.OLD_HEADER_TIMESTAMP,
}


class End(Enum):
    """How a goal ends, in the action's words."""

    SUCCEEDED = "succeeded"
    ABORTED = "aborted"
    CANCELED = "canceled"


@dataclass(frozen=True)
class Outcome:
    """The end of a goal; ``text`` is for people."""

    end: End
    code: ErrorCode
    text: str


@dataclass(frozen=True)
class Tolerance:
    """``[M]`` each, of the goal's joints: rad (m) and rad/s (m/s); infinite: any."""

    position: np.ndarray
    velocity: np.ndarray


@dataclass(frozen=True)
class Goal:
    """A trajectory with what it must keep.

    Attributes:
        names: the ``M`` joints that it moves. times: ``[N]`` s. positions: ``[N, M]`` rad (m).
        path, end: tolerances on the way and at its last row.
        time: s after the last row in which the arm must have come there.
    """

    names: Sequence[str]
    times: Sequence[float]
    positions: Sequence[Sequence[float]]
    path: Tolerance
    end: Tolerance
    time: float


def refused(refusal: Refused) -> Outcome:
    """The outcome of a goal that is not begun."""
    code = _CODES.get(refusal.check, ErrorCode.INVALID_GOAL)
    return Outcome(End.ABORTED, code, f"{refusal.check}: {refusal}")


def read_tolerance(
    given: Sequence[tuple[str, float, float, float]], names: Sequence[str], default: float
) -> Tolerance:
    """A goal's tolerances, by name.

    Args:
        given: name, position, velocity, acceleration; 0: not given, below 0: any.
        names: the goal's ``M`` joints. default: rad (m) where no position is given.

    Raises:
        Refused: a joint that the goal does not move, no number, or an acceleration, which
            nobody measures.
    """
    if len(given) > len(names):
        raise Refused("tolerance", f"{len(given)} tolerances, {len(names)} joints")
    position, velocity = np.full(len(names), default), np.full(len(names), np.inf)
    columns = {name: i for i, name in enumerate(names)}
    for name, *values in given:
        if name not in columns:
            raise Refused("unknown_joint", f"tolerance of joint {name}, which the goal lacks")
        if not np.isfinite(values).all():
            raise Refused("not_finite", f"tolerance of joint {name}: {values}")
        if values[2] > 0:
            raise Refused("tolerance", f"joint {name}: accelerations are not measured; write 0")
        for kept, value in zip((position, velocity), values, strict=False):
            if value:
                kept[columns[name]] = value if value > 0 else np.inf
    return Tolerance(position, velocity)


def with_derivatives(
    times: Sequence[float],
    positions: Sequence[Sequence[float]],
    velocities: Sequence[Sequence[float]],
    accelerations: Sequence[Sequence[float]],
) -> tuple[Sequence[float], Sequence[Sequence[float]]]:
    """Rows on the path that points mean together with their derivatives: between each two, as a
    joint trajectory controller of ros2_control goes, a cubic where they have velocities and a
    quintic where they have accelerations too. Without velocities the rows stay as they are.

    Raises:
        Refused: velocities or accelerations of some points only, of another length, or that are
            no numbers.
    """
    if not any(len(v) for v in velocities) or len(positions) < 2:
        return times, positions
    known = [positions, velocities]
    if any(len(a) for a in accelerations):
        known.append(accelerations)
    for what, rows in zip(("velocities", "accelerations"), known[1:], strict=False):
        for k, (point, values) in enumerate(zip(positions, rows, strict=True)):
            if len(values) != len(point):
                raise Refused(
                    "wrong_length", f"point {k}: {len(values)} {what}, {len(point)} positions"
                )
        if not np.isfinite(np.concatenate([np.asarray(v, float) for v in rows])).all():
            raise Refused("not_finite", f"NaN or infinity among {what}")
    gaps = np.diff(times)
    whole = len({len(p) for p in positions}) == 1 and np.isfinite(np.array(positions)).all()
    spare = MAX_POINTS - len(times)
    if spare <= 0 or not whole or not (gaps > 0).all():
        return times, positions  # dense enough; or the gate says what is wrong with them
    step = max(_STEP, float(np.sum(gaps)) / spare)
    parts = np.maximum(1, np.ceil(gaps / step)).astype(int)
    dense = [
        a + (b - a) * np.arange(n) / n for a, b, n in zip(times[:-1], times[1:], parts, strict=True)
    ]
    dense = np.append(np.concatenate(dense), times[-1])
    if len(dense) == len(times):
        return times, positions
    path = _path(np.asarray(times, float), *(np.array(rows, float) for rows in known))
    return dense.tolist(), path(dense).tolist()


def _path(
    t: np.ndarray, q: np.ndarray, v: np.ndarray, a: np.ndarray | None = None
) -> CubicHermiteSpline | PPoly:
    """Through ``[N, M]`` points at ``[N]`` s with their derivatives. All pieces at once: this is
    the thread that hears joint states and `stop`."""
    if a is None:
        return CubicHermiteSpline(t, q, v)
    # A quintic a piece, by what its cubic Taylor polynomial misses at the next point.
    h = np.diff(t)[:, None]
    place = q[1:] - q[:-1] - h * (v[:-1] + h / 2 * a[:-1])
    slope = h * (v[1:] - v[:-1] - h * a[:-1])
    bend = h**2 * (a[1:] - a[:-1])
    powers = [
        (6 * place - 3 * slope + bend / 2) / h**5,
        (-15 * place + 7 * slope - bend) / h**4,
        (10 * place - 4 * slope + bend / 2) / h**3,
        a[:-1] / 2,
        v[:-1],
        q[:-1],
    ]
    return PPoly(np.array(powers), t)


def on_the_arms_turn(goal: Goal, q: Mapping[str, float]) -> Goal:
    """The same goal where the arm is: a joint that turns for ever may have gone round, and plans
    are within half a turn.

    Args:
        q: joint that has no end → rad where it is.
    """
    rows = goal.positions
    turned = [i for i, name in enumerate(goal.names) if name in q]
    whole = len(rows) and {len(row) for row in rows} == {len(goal.names)}
    if not turned or not whole or not np.isfinite(rows[0]).all():
        return goal
    rows = np.array(rows, dtype=float)
    here = np.array([q[goal.names[i]] for i in turned])
    rows[:, turned] += math.tau * np.round((here - rows[0, turned]) / math.tau)
    return replace(goal, positions=rows.tolist())


class Execution:
    """One goal that the gate has accepted, until its end. Its callers hold the gate's lock.

    Args:
        gate: carries it out. source: as whom it was offered. now: when, in steady seconds.
    """

    def __init__(self, gate: Gate, source: str, goal: Goal, now: float):
        self._gate, self._source, self.goal, self._since = gate, source, goal, now
        self._joints = [gate.names.index(name) for name in goal.names if name in gate.names]
        self._columns = [i for i, name in enumerate(goal.names) if name in gate.names]
        self.desired: np.ndarray | None = None  # [M'] of the goal's joints that are the arm's
        self.desired_rate = np.zeros(len(self._joints))
        self.actual = self._measured()
        self.actual_rate = np.zeros(len(self._joints))
        self._before = [(now, self.actual)]
        self.cancelled = False
        self._done_at: float | None = None
        self._kept_off = ""  # the newest thing that the gate kept the arm from

    @property
    def names(self) -> list[str]:
        """The goal's joints that are the arm's."""
        return [self.goal.names[i] for i in self._columns]

    def cancel(self) -> None:
        """Brake; the goal ends once the arm is at rest."""
        self._gate.cancel(self._source, "the goal was cancelled")
        self.cancelled = True

    def replaced(self) -> Outcome:
        """The end of a goal that the next one has taken over from."""
        return self._aborted(ErrorCode.INVALID_GOAL, "replaced by a newer goal")

    def step(self, now: float) -> Outcome | None:
        """Look at where the arm is; the outcome once there is one. Call it often (40 Hz)."""
        gate = self._gate
        self._measure(now)
        if self.cancelled:
            if gate.active_source not in ("", self._source):
                text = f"cancelled; {gate.active_source} has the arm"
                return Outcome(End.CANCELED, ErrorCode.SUCCESSFUL, text)
            if gate.motion.at_rest:
                return Outcome(End.CANCELED, ErrorCode.SUCCESSFUL, "cancelled; the arm is at rest")
            return None
        if not gate.follows(self._source):
            return self._ended(now)
        if now - self._since < _BEGIN or gate.output is None or gate.output.wanted is None:
            return None
        self.desired = gate.output.wanted[self._joints]
        verdict = gate.output.verdict
        kept_off = verdict.kind in (Kind.HELD, Kind.CLAMPED)
        self._kept_off = _joined(verdict.check, verdict.detail) if kept_off else ""
        if min(gate.blocked_for, now - self._since) > _BLOCKED:
            return self._abort(ErrorCode.PATH_TOLERANCE_VIOLATED, f"kept off by {self._kept_off}")
        off = self._off(self.goal.path, self.desired, self.desired_rate)
        if off:
            return self._abort(ErrorCode.PATH_TOLERANCE_VIOLATED, f"off the path: {off}")
        return None

    def _ended(self, now: float) -> Outcome | None:
        """The gate follows it no more: it is through, or something has come between."""
        gate = self._gate
        why = ""
        if gate.stop_check:
            why = f"stopped: {gate.stop_check}: {gate.stop_reason}"
        elif gate.state in (State.WAITING, State.DISABLED):
            why = "the gate was disabled"
        elif gate.active_source not in ("", self._source):
            why = f"{gate.active_source} has taken the arm over"
        elif gate.held[0] != "no_command":
            why = _joined(*gate.held)
        if why:
            return self._aborted(ErrorCode.INVALID_GOAL, why)
        if self._done_at is None:
            self._done_at = now
        self.desired = np.array([self.goal.positions[-1][i] for i in self._columns], dtype=float)
        self.desired_rate = np.zeros_like(self.desired)
        off = self._off(self.goal.end, self.desired, self.desired_rate)
        if not off:
            return Outcome(End.SUCCEEDED, ErrorCode.SUCCESSFUL, "")
        if gate.active_source != self._source:  # disabled and enabled between two looks
            return self._aborted(ErrorCode.INVALID_GOAL, f"it has lost the arm, short of it: {off}")
        if now - self._done_at < self.goal.time:
            gate.keep(now, self._source)  # until the arm has come there, or time is up
            return None
        return self._aborted(ErrorCode.GOAL_TOLERANCE_VIOLATED, f"short of the goal: {off}")

    def _abort(self, code: ErrorCode, text: str) -> Outcome:
        self._gate.cancel(self._source, "the goal was aborted")
        return self._aborted(code, text)

    def _aborted(self, code: ErrorCode, text: str) -> Outcome:
        if self._kept_off and self._kept_off not in text:
            text += f" (the gate: {self._kept_off})"
        return Outcome(End.ABORTED, code, text)

    def _measured(self) -> np.ndarray:
        return self._gate.feedback.positions[self._joints]

    def _measure(self, now: float) -> None:
        self.actual = self._measured()
        self._before.append((now, self.actual))
        while len(self._before) > 2 and now - self._before[1][0] >= _RATE_OVER:
            self._before.pop(0)
        then, place = self._before[0]
        if now > then:
            self.actual_rate = (self.actual - place) / (now - then)
        self.desired_rate = self._gate.motion.v[self._joints]

    def _off(self, tolerance: Tolerance, desired: np.ndarray, rate: np.ndarray) -> str:
        """Which joint is out of tolerance and by how much; empty for none."""
        checks = (
            ("rad", tolerance.position, desired - self.actual),
            ("rad/s", tolerance.velocity, rate - self.actual_rate),
        )
        for unit, allowed, error in checks:
            allowed = allowed[self._columns]
            if (np.abs(error) > allowed).any():
                worst = int(np.argmax(np.abs(error) / allowed))
                return (
                    f"{self.names[worst]} by {abs(error[worst]):.3f} {unit}, "
                    f"tolerance {allowed[worst]:.3f}"
                )
        return ""


def _joined(*texts: str) -> str:
    return ": ".join(text for text in texts if text)
