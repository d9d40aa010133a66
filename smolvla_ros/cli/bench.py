"""``smolvla-ros bench gate``: what the gate costs, and what it changes that it need not."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smolvla_ros.cell import MonitorConfig, load_limits, load_robot
from smolvla_ros.cli import arm
from smolvla_ros.cli.benchmark import offline, scene
from smolvla_ros.cli.benchmark.subject import Subject
from smolvla_ros.schema import ConfigError, load

PARTS = ("decision", "tick", "legal", "latency", "load", "faults")


def add(subparsers: Any) -> None:
    """The subcommand's arguments."""
    bench = subparsers.add_parser("bench", help="measure")
    what = bench.add_subparsers(required=True, metavar="WHAT")
    parser = what.add_parser(
        "gate",
        help="time of a decision, latency through DDS, legal motion altered",
        description="Measures the safety monitor's gate, by default on the SO-101 with ten zones "
        "at 250 Hz. Times in milliseconds, beside what the same work takes without the gate.",
    )
    arm.add_arguments(parser)
    parser.add_argument("--start", metavar="POSE", help="as of smolvla-ros gate")
    parser.add_argument("--json", action="store_true", help="only the figures, on standard output")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument(
        "--only", action="append", choices=PARTS, metavar="PART",
        help=f"only this; may be repeated: {', '.join(PARTS)}",
    )  # fmt: skip
    parser.add_argument("--legal-steps", type=int, default=72_000, metavar="N")
    parser.add_argument(
        "--load-minutes", type=float, default=0.0, metavar="M",
        help="run the monitor so long beside a full-size policy (default: not)",
    )  # fmt: skip
    parser.add_argument("--faults", action="store_true", help="count faults survived, too")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the benchmark. Returns 0, or 1 if a part of it failed."""
    if not arguments.legal_steps > 0 or not 0 <= arguments.load_minutes <= 24 * 60:
        raise ConfigError("--legal-steps, --load-minutes: write a number above 0")
    subject, words = make_subject(arguments)
    figures: dict[str, Any] = {
        "subject": words,
        "joints": subject.robot.dof,
        "zones": len(subject.config.zones),
        "rate_hz": subject.config.rate,
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
    }
    failed = False
    for name, measure in _parts(arguments).items():
        began = time.monotonic()
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            figures |= measure(subject)
        except ConfigError:
            raise
        except (RuntimeError, TimeoutError, OSError) as error:
            failed = True
            figures[f"{name}_failed"] = str(error)
            print(f"error: {name}: {error}", file=sys.stderr)
        figures.setdefault("seconds", {})[name] = round(time.monotonic() - began, 1)
    text = json.dumps(figures, indent=2, allow_nan=False)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text + "\n")
    print(text if arguments.json else _sentences(figures))
    return 1 if failed else 0


def make_subject(arguments: argparse.Namespace) -> tuple[Subject, str]:
    """What the arguments name; without zones of its own it gets ten.

    Raises:
        ConfigError: every problem found.
    """
    if arguments.cell is not None:
        config, path = arm.load_config(arguments)
        section, words = {}, str(arguments.cell)
    else:
        path = None
        if arguments.urdf is None:
            section, words = scene.so101(), "SO-101"
        else:
            section, words = arm.document(arguments), str(arguments.urdf)
        config = load(MonitorConfig, section, "arguments")
    robot = load_robot(config.robot, path)
    limits = load_limits(config, robot, path)
    start, _ = arm.start_of(robot, limits, arguments.start)
    if not config.zones and path is None:
        section |= {"zones": scene.ten_zones(robot, limits, start, config.margin)}
        config = load(MonitorConfig, section, "arguments")
    return Subject(config, path, section, robot, start), words


def _parts(arguments: argparse.Namespace) -> dict[str, Callable[[Subject], dict[str, Any]]]:
    wanted = arguments.only or [
        "decision", "tick", "legal", "latency",
        *(["load"] if arguments.load_minutes else []),
        *(["faults"] if arguments.faults else []),
    ]  # fmt: skip
    every = {
        "decision": offline.decision,
        "tick": offline.whole_tick,
        "legal": lambda subject: offline.legal(subject, arguments.legal_steps),
        "latency": _latency,
        "load": lambda subject: _load(subject, arguments.load_minutes or 10.0),
        "faults": _faults,
    }
    return {name: measure for name, measure in every.items() if name in wanted}


def _without_ros(name: str) -> dict[str, Any] | None:
    if importlib.util.find_spec("rclpy") is None:
        return {f"{name}_skipped": "rclpy is not installed: no DDS to go through"}
    return None


def _latency(subject: Subject) -> dict[str, Any]:
    skipped = _without_ros("latency")
    if skipped:
        return skipped
    from smolvla_ros.cli.benchmark.latency import latency

    found = latency(subject)
    return {
        "relay_ms": found["relay_ms"],
        "gate_ms": found["gate_ms"],
        "gate_over_relay": found["gate_over_relay"],
    }


def _load(subject: Subject, minutes: float) -> dict[str, Any]:
    skipped = _without_ros("load")
    if skipped:
        return skipped
    if importlib.util.find_spec("lerobot") is None:
        return {"load_skipped": "lerobot is not installed: no policy to compute"}
    from smolvla_ros.cli.benchmark.load import load as load_test

    return {"load": load_test(subject, minutes)}


def _faults(_subject: Subject) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "smolvla_ros.cli.main", "faults", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        found = json.loads(done.stdout)
    except ValueError as error:
        raise RuntimeError(f"smolvla-ros faults: {done.stderr[-500:]}") from error
    return {"faults": {k: v for k, v in found.items() if k != "faults"}}


def _sentences(figures: dict[str, Any]) -> str:
    def times(name: str) -> str:
        found = figures[name]
        return f"p50 {found['p50']:.3f}, p99 {found['p99']:.3f}, max {found['max']:.3f} ms"

    lines = [f"{figures['subject']}, {figures['zones']} zones, {figures['rate_hz']:g} Hz"]
    for name, words in (
        ("decision_ms", "one tick in motion"),
        ("limit_ms", "bare distances of the same pairs"),
        ("tick_ms", "one tick of smolvla-ros gate"),
        ("gate_ms", "command to set-point through the monitor"),
        ("relay_ms", "command to command through a bare relay"),
    ):
        if name in figures:
            lines.append(f"{words}: {times(name)}")
    if "legal_steps" in figures:
        lines.append(f"legal steps altered: {figures['legal_altered']} of {figures['legal_steps']}")
    if "load" in figures:
        found = figures["load"]
        lines.append(
            f"beside a full-size policy for {found['minutes']:g} min: {found['missed_ticks']} of "
            f"{found['ticks']} ticks missed, worst {found['worst_ms']:.1f} ms late"
        )
    if "faults" in figures:
        lines.append("faults: " + ", ".join(f"{k} {v}" for k, v in figures["faults"].items()))
    lines += [f"{k}: {v}" for k, v in figures.items() if k.endswith(("_skipped", "_failed"))]
    return "\n".join(lines)
