"""``smolvla-ros demo``: a whole cell on this machine, watched from start to end."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from smolvla_ros.cell import Cell, load_cell, load_gate, load_joint_map, load_robot
from smolvla_ros.cli.judge import Findings, judge
from smolvla_ros.cli.processes import CellProcesses, NodeDied, private_domain
from smolvla_ros.robot import RobotModel
from smolvla_ros.schema import ConfigError
from smolvla_ros.share import share

_READY = ("no observation: instruction: none given", "publishing chunks")
_DONE, _MOVING = "done", "moving"  # of what was asked for before: when the next is given
_INSTRUCTIONS = (("touch the green block", _DONE), ("pick up the red block", _DONE))
_OPTIONS = {_DONE: "instruction", _MOVING: "meanwhile"}
_UNDER_WAY = 0.3  # rad/s of the fastest joint at which the arm is under way
MOVED = 0.05  # rad of travel, summed over the joints, that count as moving
FIRST_MOTION = 0.01  # rad away from the start


def add(subparsers: Any) -> None:
    """The subcommand's arguments."""
    parser = subparsers.add_parser(
        "demo",
        help="run a simulated cell: cameras, policy, safety monitor, arm",
        description="Starts the nodes of a cell as processes, enables the gate, gives the "
        "instruction, watches, and ends everything. Exit code 1 if a node died, the arm did "
        "not move or the gate's promise was broken; 2 if the cell is wrong.",
    )
    parser.add_argument("--cell", type=Path, help="cell YAML (default: the SO-101 tabletop)")
    parser.add_argument(
        "--instruction", action="append", metavar="TEXT", dest="instructions",
        type=lambda text: (text, _DONE),
        help="what to do; again: the next, when the one before is done (default: "
        f"{' '.join(f'--{_OPTIONS[when]} {text!r}' for text, when in _INSTRUCTIONS)})",
    )  # fmt: skip
    parser.add_argument(
        "--meanwhile", action="append", metavar="TEXT", dest="instructions",
        type=lambda text: (text, _MOVING),
        help="what to do instead, given while the arm moves for the instruction before",
    )  # fmt: skip
    parser.add_argument("--duration", type=float, default=30.0, metavar="S")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the summary here")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write plots and pictures here")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo. Returns the exit code."""
    if not arguments.duration > 0:
        raise ConfigError(f"--duration: is {arguments.duration}; write seconds above 0")
    arguments.instructions = arguments.instructions or list(_INSTRUCTIONS)
    if arguments.instructions[0][1] == _MOVING:
        raise ConfigError("--meanwhile: is the first; write an --instruction before it")
    for text, when in arguments.instructions:
        if not text.strip():
            raise ConfigError(f"--{_OPTIONS[when]}: is empty; write what to do")
    try:
        path = arguments.cell or share("config", "so101_tabletop.yaml")
    except FileNotFoundError as error:
        raise ConfigError(str(error)) from error
    cell, robot = check_cell(path)
    # A SIGTERM ends the nodes too.
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    domain, lock = private_domain()
    with lock, tempfile.TemporaryDirectory(prefix="smolvla_ros_") as folder:
        logs = arguments.report / "logs" if arguments.report else Path(folder)
        for old in logs.glob("*.log"):
            old.unlink()
        nodes = CellProcesses(cell.path.resolve(), ("sim", "safety_monitor", "vla"), domain, logs)
        try:
            with nodes:
                return _Demo(arguments, cell, robot, nodes, domain).run()
        except (NodeDied, TimeoutError) as error:
            print(f"\nerror: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\ninterrupted: every node was ended", file=sys.stderr)
            return 130


def check_cell(path: Path) -> tuple[Cell, RobotModel]:
    """Read everything of a cell that can be read without starting it.

    Raises:
        ConfigError: every problem found.
    """
    cell = load_cell(path)
    lacking = [s for s in ("safety_monitor", "vla", "sim") if getattr(cell, s) is None]
    if lacking:
        raise ConfigError(
            [f"{path}: no section /**/{s}: a simulated cell needs it" for s in lacking]
        )
    if not cell.vla.autostart:
        raise ConfigError(f"{path}: vla.autostart: is False; the demo needs true")
    robot = load_robot(cell.safety_monitor.robot, cell.path)
    load_gate(cell.safety_monitor, robot, cell.path)
    load_joint_map(cell.vla, robot, cell.path)
    return cell, robot


class Asked:
    """One instruction, from when it is given on; times in seconds of the ROS clock."""

    def __init__(self, text: str, watcher):
        from smolvla_ros.learn.tasks import parse_task

        self.text = text
        self._task = parse_task(text)
        self._speed = _speed(watcher.recording.measured)
        self._given = watcher.now()
        self._done: float | None = None
        if self._task is not None:
            watcher.set_parameters("sim", task=self._judged)
        watcher.instruct(text)

    @property
    def _judged(self) -> str:
        return f"{self._task.kind} {self._task.block}"

    def gives_way(self, when: str, watcher, patience: float) -> bool:
        """Whether the next one is due, that is to be given ``when``; always after
        ``patience`` s."""
        waited = watcher.now() - self._given
        if when == _DONE:
            ready = self._done is not None
        else:  # a moment later: what moves then moves for this instruction
            ready = waited > 0.25 and _speed(watcher.recording.measured) > _UNDER_WAY
        return ready or waited > patience

    def say_until_heard(self, watcher) -> None:
        """A subscriber that was just discovered may have missed it."""
        if watcher.status["vla"][2].get("instruction") != self.text:
            watcher.instruct(self.text)

    def look(self, watcher) -> None:
        """What the simulator says of it."""
        seen = watcher.episode
        if self._task is None or seen is None or seen.task != self._judged:
            return
        if self._done is None and seen.success:
            self._done = watcher.now()

    def figures(self, began: float) -> dict[str, Any]:
        """Seconds from ``began`` on; None for what did not come to pass."""
        times = {"given_s": self._given, "done_s": self._done}
        return {
            "text": self.text,
            "arm_speed_when_given_rad_s": round(self._speed, 3),
            **{k: None if t is None else round(t - began, 2) for k, t in times.items()},
        }


class _Demo:
    def __init__(self, arguments, cell: Cell, robot: RobotModel, nodes: CellProcesses, domain: int):
        self._arguments = arguments
        self._cell = cell
        self._robot = robot
        self._nodes = nodes
        self._domain = domain
        self._live = sys.stdout.isatty()
        self._asked: list[Asked] = []

    def run(self) -> int:
        from smolvla_ros.cli.watch import Watcher  # rclpy only now: --help needs no ROS

        print(f"cell {self._cell.path}, ROS_DOMAIN_ID={self._domain}")
        with Watcher(self._robot.names, self._domain) as watcher:
            self._wait_until_up(watcher)
            success, message = watcher.enable()
            if not success:
                print(f"error: the gate refused to be enabled: {message}", file=sys.stderr)
                return 1
            self._wait(lambda: watcher.says("safety_monitor").startswith("holding"), 5.0, "holding")
            pictures = self._pictures(watcher, "start")
            print("gate enabled")
            began = watcher.now()
            self._watch(watcher)
            ended = watcher.now()
            pictures |= self._pictures(watcher, "end")
            watcher.trigger("stop")
        self._nodes.check()
        codes = self._nodes.end()
        print("judging what was sent ...", flush=True)
        findings = self._judge(watcher)
        summary = self._summary(watcher, findings, began, ended)
        return self._finish(watcher, findings, summary, pictures, codes)

    # -- phases ---------------------------------------------------------------------------

    def _wait_until_up(self, watcher, patience: float = 120.0) -> None:
        signs = {
            "simulator": lambda: bool(watcher.recording.measured),
            "safety monitor": lambda: watcher.says("safety_monitor").startswith("disabled"),
            # Every stream fresh; only the instruction may still be lacking.
            "policy": lambda: watcher.says("vla") in _READY,
        }
        until = time.monotonic() + patience
        for what, is_up in signs.items():
            print(f"waiting for the {what} ...", end="", flush=True)
            began = time.monotonic()
            self._wait(is_up, until - began, f"the {what}")
            print(f" up ({time.monotonic() - began:.1f} s)")

    def _wait(self, condition: Callable[[], bool], patience: float, what: str) -> None:
        until = time.monotonic() + patience
        while not condition():
            self._nodes.check()
            if time.monotonic() > until:
                raise TimeoutError(f"waited {patience:.0f} s in vain for {what}")
            time.sleep(0.05)

    def _watch(self, watcher) -> None:
        duration = self._arguments.duration
        until = time.monotonic() + duration
        due = 0.0
        waiting = list(self._arguments.instructions)
        share = duration / len(waiting)
        while (left := until - time.monotonic()) > 0:
            self._nodes.check()
            asked = self._asked[-1] if self._asked else None
            if asked is not None:
                asked.look(watcher)
            if waiting and (asked is None or asked.gives_way(waiting[0][1], watcher, share)):
                self._asked.append(Asked(waiting.pop(0)[0], watcher))
                if self._live and asked is not None:
                    print()
                print(f"{duration - left:5.1f} s  instruction: {self._asked[-1].text!r}")
            elif asked is not None:
                asked.say_until_heard(watcher)
            if time.monotonic() >= due:
                due = time.monotonic() + (0.25 if self._live else 5.0)
                self._line(watcher, duration - left)
            time.sleep(0.05)
        if self._live:
            print()

    def _line(self, watcher, at: float) -> None:
        r = watcher.recording
        line = (
            f"{at:5.1f} s  {watcher.says('safety_monitor')[:46]:46s}  chunks {len(r.chunks):4d}  "
            f"clearance {watcher.value('safety_monitor', 'clearance_m') * 1e3:5.1f} mm  "
            f"travel {_travel(r.measured):6.2f} rad"
        )
        print(f"\r{line}\x1b[K" if self._live else line, end="" if self._live else "\n", flush=True)

    def _pictures(self, watcher, when: str) -> dict[str, np.ndarray]:
        if not self._arguments.report:
            return {}
        found = {
            f"{name}_{when}": watcher.picture(camera.topic)
            for name, camera in self._cell.vla.cameras.items()
        }
        return {name: picture for name, picture in found.items() if picture is not None}

    # -- figures ----------------------------------------------------------------------------

    def _judge(self, watcher) -> Findings:
        rows = np.array([row for _, row, _ in watcher.recording.sent])
        rows = rows.reshape(len(rows), len(self._robot.names))
        config = self._cell.safety_monitor
        return judge(self._robot, config, rows, 1.0 / config.rate)

    def _summary(self, watcher, findings: Findings, began: float, ended: float) -> dict[str, Any]:
        r = watcher.recording
        monitor = "safety_monitor"
        latency = [received - stamp for received, stamp, _, _ in r.chunks]
        start = next((q for t, q in r.measured if t >= began), None)
        first = next(
            (t - began for t, q in r.measured if t >= began
             and np.max(np.abs(q - start)) > FIRST_MOTION), None,
        )  # fmt: skip
        return {
            "duration_s": round(ended - began, 3),
            "chunks": len(r.chunks),
            "chunk_latency_s": _percentiles(latency, 50, 99),
            "ticks": int(watcher.value(monitor, "ticks", 0)),
            "tick_period_s": watcher.values(monitor, "tick_period_s"),
            "gate_step_s": watcher.values(monitor, "gate_step_s"),
            "verdicts": {k: int(v) for k, v in watcher.values(monitor, "verdicts").items()},
            "arm_travel_rad": round(_travel([m for m in r.measured if m[0] >= began]), 4),
            "min_clearance_m": round(findings.min_clearance, 6),
            "limit_violations": findings.limit_violations,
            "clearance_breaches": findings.clearance_breaches,
            "first_motion_s": None if first is None else round(first, 3),
            "instructions": [asked.figures(began) for asked in self._asked],
        }

    def _finish(self, watcher, findings: Findings, summary, pictures, codes) -> int:
        config = self._cell.safety_monitor
        if self._arguments.report:
            from smolvla_ros.cli.report import write_report  # matplotlib only where it is wanted

            files = write_report(
                self._arguments.report, self._robot.names, watcher.recording,
                findings.clearance, config.margin, pictures,
                f"{', '.join(a.text for a in self._asked)}: {summary['duration_s']:.0f} s",
            )  # fmt: skip
            print(f"picture: {files[0]}")
        text = json.dumps(summary, indent=2)
        print(text)
        if self._arguments.json:
            self._arguments.json.parent.mkdir(parents=True, exist_ok=True)
            self._arguments.json.write_text(text + "\n")
        failures = [
            f"{name} ended with code {code}:\n{self._nodes.last_words(name)}"
            for name, code in codes.items()
            if code
        ]
        if summary["arm_travel_rad"] < MOVED:
            failures.append(f"the arm did not move ({summary['arm_travel_rad']} rad)")
        if findings.limit_violations or findings.clearance_breaches:
            failures.append(f"the gate's promise was broken: {findings.first}")
        for failure in failures:
            print(f"error: {failure}", file=sys.stderr)
        return 1 if failures else 0


def _travel(measured: list[tuple[float, np.ndarray]]) -> float:
    """Path length in rad, summed over the joints."""
    if len(measured) < 2:
        return 0.0
    return float(np.abs(np.diff(np.array([q for _, q in measured]), axis=0)).sum())


def _speed(measured: list[tuple[float, np.ndarray]]) -> float:
    """The fastest joint over the last tenth of a second, rad/s."""
    recent = measured[-11:]
    if len(recent) < 2 or recent[-1][0] <= recent[0][0]:
        return 0.0
    (t0, q0), (t1, q1) = recent[0], recent[-1]
    return float(np.abs(q1 - q0).max() / (t1 - t0))


def _percentiles(values: list[float], *which: int) -> dict[str, float]:
    if not values:
        return {}
    return {f"p{w}": round(float(np.percentile(values, w)), 5) for w in which}
