"""A gate on trial: simulated time, an arm that can misbehave, and a record for the oracle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import yaml
from cells import TABLETOP
from oracle import Oracle, Stream

from smolvla_ros.cell import SourceConfig, load_cell, load_gate, load_robot
from smolvla_ros.safety import Gate, Output, Refused

PERIOD = 1 / 30
SHAPE = np.array([1.0, 0.2, -0.3, 0.3, 0.8, 0.5])  # of the SO-101: moves every joint
DOWN = np.array([0.0, 1.0, 0.0, 0.0, 0.0, 0.0])  # of the SO-101: toward the table


@cache
def _read(path: Path):
    """A cell file as the gate reads it, its arm, and the oracle's own reading of it."""
    cell = load_cell(path)
    return cell, load_robot(cell.safety_monitor.robot, cell.path), Oracle(path)


class Trial:
    """One gate of a cell, its arm, and everything that leaves it.

    Args:
        start: ``[D]`` rad or a pose of the SRDF, where the arm is.
        cell: a cell file; absent: the shipped one.
        sources: name -> SourceConfig; absent: a policy that may begin anywhere.
        oracle: who judges; absent: the cell file's.
        changes: keys of the monitor's section, other than the cell's.
    """

    def __init__(
        self, start: np.ndarray | str = "ready", *, cell=TABLETOP, sources=None, oracle=None,
        **changes,
    ):  # fmt: skip
        self.cell, self.robot, own = _read(cell)
        policy = {"policy": SourceConfig(topic="policy", start_tolerance=np.inf)}
        monitor = self.cell.safety_monitor
        self.config = replace(monitor, sources=sources or monitor.sources or policy, **changes)
        self.gate: Gate = load_gate(self.config, self.robot, self.cell.path)
        self.oracle = oracle or own
        self.names = list(self.robot.names)
        self.dt = 1.0 / self.config.rate
        self.now = 100.0
        self.q = self.robot.pose(start) if isinstance(start, str) else np.array(start, float)
        self.start = self.q.copy()
        timeouts = [s.timeout for s in self.config.sources.values() if s.timeout]
        self.stream = Stream(
            self.names, command_timeout=max([self.config.command_timeout, *timeouts])
        )
        self.outputs: list[Output] = []
        self._seed: np.ndarray | None = None  # where the gate was last enabled
        self._spoke = dict.fromkeys(self.names, self.now)  # when each joint was last reported
        self._was_away = False
        self._said = dict(zip(self.names, self.q, strict=True))
        self._off_since: float | None = None
        self._near = 0  # joint states in a row, near to what was sent
        self.follow: Callable[[np.ndarray], np.ndarray] = lambda q: q
        """Set-point -> where the arm gets to by the next tick."""
        self.report: Callable[[np.ndarray], tuple | None] = lambda q: (self.names, q)
        """Where the arm is -> the joint state it publishes; None: nothing."""

    # -- what is done to it -------------------------------------------------------------

    def enable(self) -> Trial:
        """Let the arm be measured, and enable."""
        self._feel()
        self.event("enable")
        return self

    def restart(self) -> None:
        """The gate's process ends, and another one begins in the midst of what goes on."""
        self.gate = load_gate(self.config, self.robot, self.cell.path)
        self.stream.events.append((self.now, "restart"))

    def event(self, what: str) -> None:
        """``stop``, ``disable``, ``reset`` or ``enable``; what is refused raises."""
        if what == "enable":
            anew = self.gate.state in ("waiting", "disabled")
            self.gate.enable(self.now)
            if not anew:
                return
            self._seed = self.gate.feedback.positions.copy()
        elif what == "reset":
            self.gate.reset(self.now)
        elif what == "stop":
            self.gate.stop("test")
        else:
            self.gate.disable()
        self.stream.events.append((self.now, what))

    def say(
        self, times, rows, *, age=0.0, source="policy", names=None, stamp=..., publisher="",
        legal=True,
    ) -> Refused | None:  # fmt: skip
        """Offer a command, stamped ``age`` seconds ago. ``legal``: it may move the arm."""
        at = self.now - age if stamp is ... else stamp
        refusal = self.gate.offer(
            self.now, source, at, self.names if names is None else names, times, rows, publisher
        )
        if legal and refusal is None:
            self.stream.heard.append((self.now, self.now if at is None else at))
        return refusal

    def ticks(self, n: int = 1, late: float = 0.0) -> Output:
        """Run on, each tick ``late`` seconds after it was due; returns the last output."""
        for _ in range(n):
            self.now += self.dt + late
            self._feel()
            output = self.gate.tick(self.now)
            self.outputs.append(output)
            if output.positions is not None:
                if self._seed is not None:
                    self.stream.starts[len(self.stream.t)], self._seed = self._seed, None
                self.q = np.array(self.follow(output.positions), dtype=float)
            self.stream.add(self.now, output.positions, output.velocities, output.state)
        return self.outputs[-1]

    def change(self, oracle: Oracle) -> None:
        """From the next tick on other rules hold."""
        self.stream.changes.append((len(self.stream.t), oracle))

    def _feel(self) -> None:
        said = self.report(self.q)
        if said is not None:
            self._note_return(dict(zip(*said, strict=False)))
            self.gate.hear_joint_state(self.now, *said)

    def _note_return(self, said: dict[str, float]) -> None:
        """For the oracle: an arm that was away, and is back elsewhere, or that stands elsewhere
        although it is told where to be."""
        patience = self.config.joint_state_timeout
        self._was_away |= self.now - min(self._spoke.values()) > patience
        self._spoke |= {n: self.now for n, q in said.items() if n in self._spoke and np.isfinite(q)}
        sent = next((o.positions for o in reversed(self.outputs) if o.positions is not None), None)
        self._said |= {n: q for n, q in said.items() if n in self._said and np.isfinite(q)}
        if sent is None:
            return
        off = max(abs(self._said[n] - q) for n, q in zip(self.names, sent, strict=True))
        near = off <= self.config.tracking_error
        self._near = self._near + 1 if near else 0
        # A value that no motion explains may be a glitch until the third, on the way back too.
        if near and (self._off_since is None or self._near >= 3):
            self._off_since = None
            return
        self._off_since = self.now if self._off_since is None else self._off_since
        if self._was_away or self.now - self._off_since > self.config.tracking_time - self.dt:
            self.stream.events.append((np.nextafter(self.now, 0), "elsewhere"))

    # -- motions ------------------------------------------------------------------------

    def swing(self, t, amplitude=0.3) -> np.ndarray:
        """A legal motion from the start, at rest at first. ``t``: s; returns ``[N, D]``."""
        return self.start + amplitude * np.outer((1 - np.cos(1.5 * np.asarray(t))) / 2, SHAPE)

    def say_swing(self, seconds=1.6, amplitude=0.3, **more) -> Refused | None:
        """Offer the swing, from its beginning."""
        t = np.arange(0.0, seconds, PERIOD)
        return self.say(t, self.swing(t, amplitude), **more)

    def moving(self, ticks=70, **more) -> Trial:
        """Enabled, and in the midst of a swing."""
        self.enable()
        assert self.say_swing(**more) is None
        assert self.ticks(ticks).velocities.any(), "the arm should be moving"
        return self

    def plunge(self, depth=1.0, seconds=1.3, **more) -> Refused | None:
        """Offer a way from where the arm is down through the table."""
        t = np.arange(0.0, seconds, PERIOD)
        return self.say(t, self.q + np.outer(t / seconds, depth * DOWN), **more)

    # -- what came of it ----------------------------------------------------------------

    @property
    def rows(self) -> np.ndarray:
        """``[N, D]`` everything that was sent."""
        return np.array([o.positions for o in self.outputs if o.positions is not None])

    @property
    def checks(self) -> set[str]:
        """Every check word so far."""
        return {o.verdict.check for o in self.outputs} - {""}

    def at_rest(self, ticks=60) -> bool:
        """Runs on; True if the arm then is sent to one place for 20 ticks at full rate, or to
        none at all, as it stands elsewhere."""
        self.ticks(ticks)
        rows = [self.ticks().positions for _ in range(20)]
        if all(r is None for r in rows):
            return self.stream.events[-1] == (np.nextafter(self.now, 0), "elsewhere")
        return all(r is not None for r in rows) and np.ptp(rows, axis=0).max() == 0.0


def write_cell(folder: Path, urdf: str, srdf: str = '<robot name="arm"/>', **monitor) -> Path:
    """A cell file of an arm made for one test, with a URDF's and an SRDF's text beside it.

    monitor: keys of its section; ``robot`` adds to the keys of that section.
    """
    (folder / "arm.urdf").write_text(urdf)
    (folder / "arm.srdf").write_text(srdf)
    robot = {"urdf": "arm.urdf", "srdf": "arm.srdf", **monitor.pop("robot", {})}
    keys = {
        "margin": 0.01,
        "tracking_error": 0.25,
        "tracking_error_hard": 0.6,
        "joint_state_timeout": 0.2,
        "limits": {"every_joint": {"velocity": 1.5, "acceleration": 15.0}},
        **monitor,
    }
    document = {
        "/**/safety_monitor": {"ros__parameters": keys},
        "/**": {"ros__parameters": {"robot": robot}},
    }
    path = folder / "cell.yaml"
    path.write_text(yaml.safe_dump(_floats(document), sort_keys=False))
    return path


def _floats(value):
    """The same, whole numbers in lists written as 1.0: ROS reads no mixed lists."""
    if isinstance(value, dict):
        return {k: _floats(v) for k, v in value.items()}
    if isinstance(value, list):
        return [float(v) if isinstance(v, int) else v for v in value]
    return value
