"""``smolvla-ros check``: whether a cell is whole and its policy can be trusted, before anything
moves."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import Any

from smolvla_ros.cell import Cell, load_cell
from smolvla_ros.cli.check_arm import examine_arm
from smolvla_ros.cli.check_devices import examine_devices
from smolvla_ros.cli.check_driver import examine_driver
from smolvla_ros.finding import Finding, errors
from smolvla_ros.robot import RobotModel
from smolvla_ros.schema import ConfigError

_WIDTH = 110
_MARKS = {"ok": "ok", "warning": "warn", "error": "ERROR"}


def add(subparsers: Any) -> None:
    """The subcommand's arguments."""
    parser = subparsers.add_parser(
        "check",
        help="check a cell: its arm and limits, its policy; with --live the running topics",
        description="Says what is left to fill in of a cell's arm (description, limits, zones), "
        "and loads the checkpoint that it names and judges it: files, weights and statistics, "
        "cameras, joints and units, chunks, device. The nodes refuse to start on the same errors. "
        "Exit code 0 without an error, 1 with one, 2 if the cell cannot be read.",
    )
    parser.add_argument("--cell", type=Path, required=True, metavar="FILE", help="cell YAML")
    parser.add_argument(
        "--live", action="store_true", help="look at the running topics too (ROS_DOMAIN_ID)"
    )
    parser.add_argument(
        "--seconds", type=float, default=3.0, metavar="S",
        help="how long --live listens (default 3)",
    )  # fmt: skip
    parser.add_argument("--namespace", default="", metavar="NS", help="of the cell's nodes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the findings here too")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the table. Returns 0, or 1 where there is an error in it.

    Raises:
        ConfigError: a cell that cannot be read, or something that is not installed.
    """
    if not 0 < arguments.seconds <= 600:
        raise ConfigError(f"--seconds: is {arguments.seconds:g}; write seconds up to 600")
    cell = load_cell(arguments.cell)
    _needs(cell, arguments.live)
    robot, found = examine_arm(cell)
    if robot is not None:
        with contextlib.redirect_stdout(sys.stderr):
            found += [*examine_driver(cell, robot), *examine_devices(cell, robot)]
    about, sizes = None, {}
    if cell.vla is None:
        found.append(Finding("warning", "vla", "no section: no policy runs in this cell"))
    elif robot is not None:
        # LeRobot says on standard output what it does.
        with contextlib.redirect_stdout(sys.stderr):
            judged, about, sizes = _checkpoint(cell, robot)
        found += judged
    if arguments.live and robot is not None:
        found += _live(cell, robot, sizes, arguments)
    bad, doubtful = len(errors(found)), sum(f.level == "warning" for f in found)
    if arguments.json is not None:
        document = {
            "cell": str(cell.path),
            "fingerprint": None if robot is None else robot.fingerprint,
            "checkpoint": about,
            "errors": bad,
            "warnings": doubtful,
            "findings": [asdict(f) for f in found],
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")
    print(table(found))
    print(f"{bad} error(s), {doubtful} warning(s)")
    return 1 if bad else 0


def _needs(cell: Cell, live: bool) -> None:
    """Raises ConfigError where what is asked for needs something that is not there."""
    if live and cell.vla is None and cell.safety_monitor is None:
        raise ConfigError(f"--live: {cell.path} has neither a policy nor a safety monitor")
    if live and importlib.util.find_spec("rclpy") is None:
        raise ConfigError("--live: needs rclpy, of a ROS install or pip install 'smolvla_ros[ros]'")
    missing = [m for m in ("torch", "lerobot") if importlib.util.find_spec(m) is None]
    if missing and cell.vla is not None:
        raise ConfigError(
            f"the policy needs {' and '.join(missing)}; pip install 'smolvla_ros[policy]'"
        )


def table(findings: list[Finding]) -> str:
    """A line for each finding: level, subject, what was found and what to change."""
    width = max(len(f.subject) for f in findings)
    lines = []
    for f in findings:
        text = f.text + (f"; {f.fix}" if f.fix else "")
        first = f"{_MARKS[f.level]:<6} {f.subject:<{width}}  "
        lines += textwrap.wrap(
            text,
            max(_WIDTH, len(first) + 40),
            initial_indent=first,
            subsequent_indent=" " * len(first),
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def _checkpoint(
    cell: Cell, robot: RobotModel
) -> tuple[list[Finding], dict[str, Any] | None, dict[str, tuple[int, int]]]:
    """Findings, what the checkpoint is, and the picture sizes that it insists on."""
    from smolvla_ros.policy.check import examine

    checkpoint, found = examine(cell.vla, robot, cell.path)
    if checkpoint is None:
        return found, None, {}
    about = {
        "folder": str(checkpoint.folder),
        "type": checkpoint.type,
        "hash": checkpoint.hash,
        "parameters": checkpoint.parameters,
        "chunk_size": checkpoint.chunk_size,
        "supports_rtc": checkpoint.supports_rtc,
    }
    sizes = {} if checkpoint.resizes else checkpoint.image_sizes
    return found, about, sizes


def _live(cell: Cell, robot: RobotModel, sizes: Any, arguments: Any) -> list[Finding]:
    from smolvla_ros.cli.bystander import Bystander
    from smolvla_ros.ros.live import Look

    domain = int(os.environ.get("ROS_DOMAIN_ID") or 0)
    with Bystander(f"check_{os.getpid()}", domain) as bystander:
        bystander.start()
        look = Look(
            bystander.node,
            cell.vla,
            cell.safety_monitor,
            robot.limits_by_name(),
            sizes,
            arguments.namespace,
        )
        return look.take(arguments.seconds)
