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
    parser.add_argument("--instruction", default="touch the red block", metavar="TEXT")
    parser.add_argument("--duration", type=float, default=30.0, metavar="S")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the summary here")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write plots and pictures here")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo. Returns the exit code."""
    if not arguments.duration > 0:
        raise ConfigError(f"--duration: is {arguments.duration}; write seconds above 0")
    if not arguments.instruction.strip():
        raise ConfigError("--instruction: is empty; write what to do")
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


class _Demo:
    def __init__(self, arguments, cell: Cell, robot: RobotModel, nodes: CellProcesses, domain: int):
        self._arguments = arguments
        self._cell = cell
        self._robot = robot
        self._nodes = nodes
        self._domain = domain
        self._live = sys.stdout.isatty()

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
            print(f"gate enabled; instruction: {self._arguments.instruction!r}")
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
        until = time.monotonic() + self._arguments.duration
        due = 0.0
        while (left := until - time.monotonic()) > 0:
            self._nodes.check()
            # A subscriber that was just discovered may have missed it: say it until heard.
            if watcher.status["vla"][2].get("instruction") != self._arguments.instruction:
                watcher.instruct(self._arguments.instruction)
            if time.monotonic() >= due:
                due = time.monotonic() + (0.25 if self._live else 5.0)
                self._line(watcher, self._arguments.duration - left)
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
        }

    def _finish(self, watcher, findings: Findings, summary, pictures, codes) -> int:
        config = self._cell.safety_monitor
        if self._arguments.report:
            from smolvla_ros.cli.report import write_report  # matplotlib only where it is wanted

            files = write_report(
                self._arguments.report, self._robot.names, watcher.recording,
                findings.clearance, config.margin, pictures,
                f"{self._arguments.instruction!r}, {summary['duration_s']:.0f} s",
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


def _percentiles(values: list[float], *which: int) -> dict[str, float]:
    if not values:
        return {}
    return {f"p{w}": round(float(np.percentile(values, w)), 5) for w in which}
