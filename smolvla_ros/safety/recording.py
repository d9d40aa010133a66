"""The last seconds of what a gate heard and said, on disk after every stop.

The file is in the form that ``smolvla-ros gate`` reads, so that a stop can be run again.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from smolvla_ros.safety.gate import Output

Line = dict[str, Any]


class Ring:
    """Lines of the last ``seconds``, by steady-clock time.

    Whoever adds must not wait: a line is kept as it is handed over, nothing is copied or
    written, and it must not be changed afterwards. Any thread may add.
    """

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._lines: deque[tuple[float, str, Any]] = deque()
        self._before = _Before()
        self._lock = threading.Lock()

    def add(self, t: float, key: str, value: Any) -> None:
        """Keep one line: ``key`` is its kind (``command``, ``joint_state``, ``enable``, …)."""
        with self._lock:
            self._lines.append((t, key, value))
            while self._lines[0][0] < t - self._seconds:
                self._before.take(*self._lines.popleft())

    def lines(self) -> list[Line]:
        """What is kept, oldest first, as JSON values. Where the ring begins in mid-motion
        the first lines say what was so by then: the measured joints, the obstacles, what
        hindered, that the gate was enabled, and what was left of the last command of each
        source."""
        with self._lock:
            kept = list(self._lines)
            before = self._before.lines(kept[0][0]) if kept else []
        kept.sort(key=lambda line: line[0])  # callbacks and ticks overtake one another
        return [{"t": t, key: _plain(value)} for t, key, value in before + kept]


class _Before:
    """What the lines that a ring has let go of add up to."""

    def __init__(self) -> None:
        self._joints: dict[str, float] = {}
        self._commands: dict[str, Any] = {}
        self._obstacles: Any = None
        self._hindrances: dict[str, Any] = {}
        self._enabled = False

    def take(self, t: float, key: str, value: Any) -> None:
        if key == "joint_state":
            self._joints |= zip(value["names"], value["positions"], strict=False)
        elif key == "command":
            self._commands[value["source"]] = (t, value)
        elif key == "cancel":
            self._commands.pop(value, None)
        elif key == "obstacles":
            self._obstacles = value
        elif key == "hinder":
            self._hindrances[value["check"]] = value
        elif key in ("enable", "stop", "reset"):
            self._enabled = key == "enable" and bool(value)
            self._commands.clear()

    def lines(self, t: float) -> list[tuple[float, str, Any]]:
        out: list[tuple[float, str, Any]] = []
        if self._joints:
            measured = {"names": list(self._joints), "positions": list(self._joints.values())}
            out.append((t, "joint_state", measured))
        if self._obstacles is not None:
            out.append((t, "obstacles", self._obstacles))
        if self._enabled:
            out.append((t, "enable", True))
            rest = [_rest(heard, value, t) for heard, value in self._commands.values()]
            out += [(t, "command", value) for value in rest if value["points"]]
        # Last: what hinders would keep the gate from being enabled.
        out += [(t, "hinder", value) for value in self._hindrances.values() if value["detail"]]
        return out


def _rest(heard: float, command: Line, t: float) -> Line:
    """What of a command is still to come at ``t``: it is stamped anew, since a gate takes
    nothing that is older than its enabling."""
    passed = t - (command["stamp"] if command.get("stamp") is not None else heard)
    points = _points(command["points"])
    coming = [{**p, "t": p["t"] - passed} for p in points if p["t"] >= passed]
    return {**command, "stamp": t, "points": coming}


def command_line(
    source: str,
    stamp: float | None,
    names: Sequence[str],
    times: Sequence[float],
    positions: Sequence[Sequence[float]],
    publisher: str = "",
) -> Line:
    """The value of a ``command`` line. ``stamp``: steady-clock seconds, or None. Times and
    positions are put together only when they are written."""
    line = {"source": source, "names": names, "points": (times, positions)}
    if stamp is not None:
        line["stamp"] = stamp
    if publisher:
        line["publisher"] = publisher
    return line


def _points(points: Any) -> list[Line]:
    if isinstance(points, tuple):
        times, positions = points
        return [{"t": t, "positions": p} for t, p in zip(times, positions, strict=False)]
    return points


def _plain(value: Any) -> Any:
    if isinstance(value, Output):
        verdict = value.verdict
        value = {
            "positions": value.positions,
            "velocities": value.velocities,
            "state": value.state.value,
            "verdict": verdict.kind.value,
            "reason": ": ".join(x for x in (verdict.check, verdict.detail) if x),
            "clearance": value.clearance if np.isfinite(value.clearance) else None,
            "source": value.source,
        }
    if isinstance(value, Mapping):
        return {k: _plain(_points(v) if k == "points" else v) for k, v in value.items()}
    if isinstance(value, (str, bool, int, float)) or value is None:
        return value
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return [_plain(v) for v in value]  # lists, tuples, array.array


class Recorder:
    """Writes a ring to a file when told to, in a thread of its own.

    A full or unwritable disk shows in :attr:`problem` and nowhere else.

    Args:
        ring: what is written. directory: made when it is first needed.
        wall: seconds since 1970, for the file's name.
    """

    def __init__(self, ring: Ring, directory: Path, wall: Callable[[], float] = time.time):
        self._ring = ring
        self._directory = directory
        self._wall = wall
        self._wanted: deque[str] = deque(maxlen=1)  # of stops in a row the last counts
        self._wake = threading.Event()
        self._closing = False
        self.written = ""  # the last file
        self.problem = ""  # why the last file could not be written
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def write(self, reason: str) -> None:
        """Ask for a file; returns at once. ``reason``: a word for its name."""
        self._wanted.append(reason)
        self._wake.set()

    def close(self, patience: float = 2.0) -> None:
        """End the thread, after the file that was asked for last."""
        self._closing = True
        self._wake.set()
        self._thread.join(patience)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._wanted:
                self._write(self._wanted.popleft())
            elif self._closing:
                return

    def _write(self, reason: str) -> None:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._wall()))
        word = "".join(c if c.isalnum() or c in "_-" else "_" for c in reason)[:40]
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            path = self._directory / f"stop_{stamp}_{word}.jsonl"
            part = path.with_suffix(".part")
            with part.open("w") as file:
                for line in self._ring.lines():
                    file.write(json.dumps(line) + "\n")
            part.replace(path)
        except (OSError, ValueError, TypeError) as error:
            self.problem = f"{self._directory}: {error}"
        else:
            self.written, self.problem = str(path), ""
