"""The gate without ROS and without a clock: recorded inputs in, one row a tick out.

The same lines give the same rows, to the last bit. A line is a JSON object with its time
``t`` in seconds and one or more of (rad, m):

    "command": {"source": "policy", "stamp": s, "names": [...],
                "points": [{"t": s after the stamp, "positions": [...]}, ...]}
    "joint_state": {"names": [...], "positions": [...]}
    "obstacles": [{"id": "...", "shape": "box", "size": [...], "position": [x, y, z],
                   "quaternion": [x, y, z, w]}, ...]     all there are, in the root frame;
                   a "hull" has "vertices": [[x, y, z], ...] and no size
    "stop", "heartbeat", "reset": anything      "enable": anything; false disables
    "cancel": "moveit"                          brakes the goal of a source that has the arm
    "hinder": {"check": "...", "detail": "..."} brakes until the same without a detail

A command without a source is the policy's; without a stamp, or at 0, it counts from ``t``.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from smolvla_ros.safety.command import Refused
from smolvla_ros.safety.gate import Gate, Output
from smolvla_ros.safety.obstacles import Obstacle, check_obstacles, read_obstacle
from smolvla_ros.safety.verdict import State
from smolvla_ros.schema import ConfigError

INPUTS = (
    "joint_state", "heartbeat", "obstacles", "hinder", "reset", "enable", "command", "cancel",
    "stop", "output",
)  # fmt: skip
"""What a line may hold beside its time ``t``; ``output`` (what a monitor sent) is no input."""

LONGEST = 24 * 3600.0  # s; a longer file is a slip in its times, and would run for hours
_AT_REST = (State.WAITING, State.DISABLED, State.HOLDING, State.STOPPED)
_SHOWN = 20  # problems of one file


@dataclass(frozen=True)
class Line:
    """One recorded input: its time in seconds, and what was heard."""

    t: float
    body: dict[str, Any]


def read_lines(text: Iterable[str], name: str) -> list[Line]:
    """Read JSON lines; ``name`` is the file's, for messages.

    The shape of the file is checked here. What a command or a joint state holds is not: to
    judge that is the gate's business.

    Raises:
        ConfigError: lines that are no JSON object, have no time, go back in time or hold
            nothing that is known, each with its number.
    """
    lines: list[Line] = []
    problems: list[str] = []
    for number, raw in enumerate(text, start=1):
        if not raw.strip():
            continue
        try:
            lines.append(_line(raw, lines[-1].t if lines else None))
        except (ValueError, RecursionError) as error:
            problems.append(f"{name}: line {number}: {error}")
    if len(problems) > _SHOWN:
        problems[_SHOWN:] = [f"{name}: {len(problems) - _SHOWN} further lines like these"]
    if not lines and not problems:
        problems.append(
            f'{name}: holds no line; write JSON lines such as {{"t": 0, "enable": true}}'
        )
    if lines and lines[-1].t - lines[0].t > LONGEST:
        problems.append(
            f"{name}: spans {lines[-1].t - lines[0].t:.0f} s; at most {LONGEST:.0f} s: are all "
            "its times of one clock?"
        )
    if problems:
        raise ConfigError(problems)
    return lines


def _line(raw: str, before: float | None) -> Line:
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise ValueError(f"is no JSON ({error})") from error
    if not isinstance(body, dict):
        raise ValueError(f'is {type(body).__name__}; write an object {{"t": seconds, ...}}')
    if "t" not in body:
        raise ValueError("has no time; write t in seconds")
    t = body.pop("t")
    if not _is_number(t) or not math.isfinite(t):
        raise ValueError(f"t is {t!r:.60}; write seconds")
    if before is not None and t < before:
        raise ValueError(f"t goes back from {before} to {t}; write lines in the order of time")
    unknown = [k for k in body if k not in INPUTS]
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r:.60}; known: t, {', '.join(INPUTS)}")
    return Line(float(t), body)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        float(value)
    except OverflowError:  # JSON knows whole numbers that no float can hold
        return False
    return True


@dataclass
class Summary:
    """What a whole run did. Seconds, radians, metres; ``min_clearance`` is infinite where
    nothing was commanded."""

    ticks: int = 0
    duration: float = 0.0
    states: Counter[str] = field(default_factory=Counter)
    enabled: bool = False
    not_enabled: str = ""  # why enabling was refused last
    min_clearance: float = math.inf
    travel: float = 0.0
    _last: np.ndarray | None = None

    def add(self, t: float, output: Output) -> None:
        """Count one tick."""
        self.ticks += 1
        self.duration = t
        self.states[output.state.value] += 1
        if output.positions is None:
            self._last = None  # what it does meanwhile is not the gate's
            return
        self.enabled = True
        self.min_clearance = min(self.min_clearance, output.clearance)
        if self._last is not None:
            self.travel += float(np.abs(output.positions - self._last).sum())
        self._last = output.positions


def as_if_followed(gate: Gate, names: list[str], positions: list[float]) -> list[float]:
    """A joint state of an arm that nobody moves, or that another gate moved: one that is enabled
    hears, as often as the arm speaks, that it stands where it would have been sent."""
    if gate.state in (State.WAITING, State.DISABLED) or len(names) != len(positions):
        return positions
    sent = dict(zip(gate.names, gate.motion.q.tolist(), strict=True))
    # What is no number stays none: it is to be told as ever.
    return [
        sent.get(name, position) if position == position else position
        for name, position in zip(names, positions, strict=True)
    ]


class Replay:
    """A gate that hears recorded lines; iterate over it once for ``(t, Output)`` of each tick.

    Ticks stand at the first line's time and every ``dt`` after it. A line is heard before
    the first tick that is not earlier. After the last one the run goes on until the arm is
    at rest.

    Without an enabling line the gate is enabled once, as soon as it may be. Without joint
    states the arm is where it was sent, from ``start``.

    Args:
        gate: fresh, nobody else's. lines: in the order of time, at least one.
        start: ``[D]`` rad, where the arm is; needed where no line holds a joint state.
        after: seconds at most after the last line.
        follow: joint states are heard as :func:`as_if_followed`.
    """

    def __init__(
        self,
        gate: Gate,
        lines: list[Line],
        start: np.ndarray | None = None,
        after: float = 3.0,
        follow: bool = False,
    ):
        self.gate = gate
        self.lines = lines
        self.summary = Summary()
        self._after, self._follow = after, follow
        self.assumes_tracking = not any("joint_state" in line.body for line in lines)
        if self.assumes_tracking and start is None:
            raise ValueError("no joint state among the lines, and no start")
        self._arm = np.array(start, dtype=float) if self.assumes_tracking else None
        self._enable_once = not any("enable" in line.body for line in lines)
        self._zero = lines[0].t
        if self._enable_once:
            # Of what stands at the very beginning the joint states come first: a command
            # beside them is meant for the enabled gate.
            first = [line for line in lines if line.t == self._zero]
            first.sort(key=lambda line: "joint_state" not in line.body)
            self.lines = first + lines[len(first) :]

    def __iter__(self) -> Iterator[tuple[float, Output]]:
        gate, dt = self.gate, self.gate.settings.dt
        # Times such as 0.1 + 0.2 are meant to stand on a tick.
        nearly = max(1e-9, 2.0 * math.ulp(self._zero))
        last = self.lines[-1].t - self._zero
        heard = k = 0
        self._measure(0.0)
        while True:
            now = k * dt
            while heard < len(self.lines):
                line = self.lines[heard]
                if line.t - self._zero > now + nearly:
                    break
                self._hear(min(line.t - self._zero, now), line.body)
                heard += 1
            self._measure(now)
            output = gate.tick(now)
            if self._arm is not None and output.positions is not None:
                self._arm = output.positions
            self.summary.add(now, output)
            yield round(self._zero + now, 9), output
            over = heard == len(self.lines)
            if over and (output.state in _AT_REST or now >= last + self._after):
                return
            k += 1

    def _measure(self, now: float) -> None:
        if self._arm is not None:
            self.gate.measure(now, self._arm)
        self._enable(now)

    def _enable(self, now: float) -> None:
        """Enable, where no line does, as soon as the gate has measured the arm."""
        if not self._enable_once or self.gate.state is not State.DISABLED:
            return
        try:
            self.gate.enable(now)
            self._enable_once = False
        except Refused as refusal:  # nobody asked: not counted, and tried again
            self.summary.not_enabled = str(refusal)

    def _hear(self, now: float, body: dict[str, Any]) -> None:
        for name, value in body.items():
            if name != "output":
                getattr(self, f"_hear_{name}")(now, value)

    def _hear_joint_state(self, now: float, value: Any) -> None:
        names, positions = _fields(value, "names", "positions")
        if not (_are(names, _is_text) and _are(positions, _is_number)):
            names = positions = None
        elif self._follow:
            positions = as_if_followed(self.gate, names, positions)
        self.gate.hear_joint_state(now, names, positions)
        self._enable(now)

    def _hear_command(self, now: float, value: Any) -> None:
        source, stamp, names, points, publisher = _fields(
            value, "source", "stamp", "names", "points", "publisher"
        )
        heard_as = "policy" if source is None else source if _is_text(source) else repr(source)[:60]
        # What cannot be read goes on as None: to refuse and count it is the gate's business.
        times = positions = steady = None
        if _are(names, _is_text) and _are(points, _is_point) and _is_number(stamp or 0):
            times = [p["t"] for p in points]
            positions = [p["positions"] for p in points]
            steady = float(stamp) - self._zero if stamp else None
        self.gate.offer(
            now, heard_as, steady, names, times, positions, publisher if _is_text(publisher) else ""
        )

    def _hear_cancel(self, _now: float, value: Any) -> None:
        self.gate.cancel(value, "the goal was cancelled")

    def _hear_hinder(self, _now: float, value: Any) -> None:
        check, detail = _fields(value, "check", "detail")
        self.gate.hinder(str(check), detail if _is_text(detail) else "")

    def _hear_stop(self, now: float, _value: Any) -> None:
        self.gate.hear_stop_channel(now)
        self.gate.stop("stop line")

    def _hear_heartbeat(self, now: float, _value: Any) -> None:
        self.gate.hear_stop_channel(now)

    def _hear_enable(self, now: float, value: Any) -> None:
        if value is False:
            self.gate.disable()
            return
        try:
            self.gate.enable(now)
        except Refused as refusal:
            self.summary.not_enabled = str(refusal)
            self.gate.refuse(now, refusal)

    def _hear_reset(self, now: float, _value: Any) -> None:
        try:
            self.gate.reset(now)
        except Refused as refusal:
            self.gate.refuse(now, refusal)

    def _hear_obstacles(self, now: float, value: Any) -> None:
        try:
            self.gate.set_obstacles(now, _obstacles(value))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            self.gate.refuse(now, Refused("obstacle", str(error)))


def _obstacles(value: Any) -> list[Obstacle]:
    origin = (0.0, 0.0, 0.0)
    found = [
        read_obstacle(
            str(o["id"]), o["shape"], o.get("size", ()), o.get("position", origin),
            o.get("quaternion", (*origin, 1.0)), vertices=o.get("vertices", ()),
        )
        for o in value
    ]  # fmt: skip
    check_obstacles(found)
    return found


def _fields(value: Any, *names: str) -> list[Any]:
    return [value.get(n) for n in names] if isinstance(value, dict) else [None] * len(names)


def _are(values: Any, kind) -> bool:
    return isinstance(values, list) and all(map(kind, values))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_point(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _is_number(value.get("t"))
        and _are(value.get("positions"), _is_number)
    )


def row(t: float, output: Output) -> dict[str, Any]:
    """One tick as a strict JSON object: radians, metres; null where there is no number."""
    verdict = output.verdict
    return {
        "t": t,
        "positions": None if output.positions is None else output.positions.tolist(),
        "velocities": None if output.velocities is None else output.velocities.tolist(),
        "state": output.state.value,
        "verdict": verdict.kind.value,
        "reason": ": ".join(x for x in (verdict.check, verdict.detail) if x),
        "clearance": float(output.clearance) if math.isfinite(output.clearance) else None,
    }
