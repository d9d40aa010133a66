"""``smolvla-ros bench``: what the gate, the policy's runtime and a real arm's driver cost."""

from __future__ import annotations

import argparse
import contextlib
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
BUS_PARTS = ("latency", "soak")
CELLS_PARTS = ("one", "two")
POLICY_PARTS = ("shipped", "full", "image", "first_setpoint", "delays", "idle")

Figures = dict[str, Any]


def add(subparsers: Any) -> None:
    """The subcommand's arguments."""
    bench = subparsers.add_parser("bench", help="measure")
    what = bench.add_subparsers(required=True, metavar="WHAT")
    _add_gate(what)
    _add_policy(what)
    _add_bus(what)
    _add_cells(what)


def _add_gate(what: Any) -> None:
    parser = what.add_parser(
        "gate",
        help="time of a decision, latency through DDS, legal motion altered",
        description="Measures the safety monitor's gate, by default on the SO-101 with ten zones "
        "at 250 Hz. Times in milliseconds, beside what the same work takes without the gate.",
    )
    arm.add_arguments(parser)
    parser.add_argument("--start", metavar="POSE", help="as of smolvla-ros gate")
    _add_common(parser, PARTS)
    parser.add_argument("--legal-steps", type=int, default=72_000, metavar="N")
    parser.add_argument(
        "--load-minutes", type=float, default=0.0, metavar="M",
        help="run the monitor so long beside a full-size policy (default: not)",
    )  # fmt: skip
    parser.add_argument("--faults", action="store_true", help="count faults survived, too")
    parser.set_defaults(run=run_gate)


def _add_policy(what: Any) -> None:
    parser = what.add_parser(
        "policy",
        help="inference, pictures, joining of chunks, latency through DDS, idle cost",
        description="Measures the policy's runtime beside LeRobot's own, with the shipped "
        "checkpoint and with random weights of full size (450 million, float32; 6 GB of memory).",
    )
    _add_common(parser, POLICY_PARTS)
    parser.add_argument(
        "--seconds", type=float, default=40.0, metavar="S",
        help="of motion, for the latency to the first set-point",
    )  # fmt: skip
    parser.set_defaults(run=run_policy)


def _add_bus(what: Any) -> None:
    parser = what.add_parser(
        "bus",
        help="from a command to the servo of a real arm, and a soak of its driver",
        description="Runs gate, driver and LeRobot's SO-101 on emulated servos behind a "
        "pseudo-terminal. Needs the package's source tree and its arm and sim extras.",
    )
    _add_common(parser, BUS_PARTS)
    parser.add_argument(
        "--seconds", type=float, default=20.0, metavar="S", help="of motion, for the latency"
    )
    parser.add_argument(
        "--minutes", type=float, default=0.0, metavar="M",
        help="of motion with corrupt packets and a bus that is lost every minute (default: none)",
    )  # fmt: skip
    parser.set_defaults(run=run_bus)


def _add_cells(what: Any) -> None:
    parser = what.add_parser(
        "cells",
        help="one arm and two arms at once, each with its policy",
        description="Runs the shipped cell, simulated arm and cameras, policy and safety monitor, "
        "once and then twice at the same time, in namespaces: lateness of set-points, chunks, and "
        "what each process uses of a core.",
    )
    _add_common(parser, CELLS_PARTS)
    parser.add_argument(
        "--seconds", type=float, default=60.0, metavar="S", help="of motion, of each (default 60)"
    )
    parser.set_defaults(run=run_cells)


def _add_common(parser: argparse.ArgumentParser, parts: tuple[str, ...]) -> None:
    parser.add_argument("--json", action="store_true", help="only the figures, on standard output")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument(
        "--only", action="append", choices=parts, metavar="PART",
        help=f"only this; may be repeated: {', '.join(parts)}",
    )  # fmt: skip


def run_gate(arguments: argparse.Namespace) -> int:
    """Measure the gate. Returns 0, or 1 if a part of it failed."""
    if not arguments.legal_steps > 0 or not 0 <= arguments.load_minutes <= 24 * 60:
        raise ConfigError("--legal-steps, --load-minutes: write a number above 0")
    subject, words = make_subject(arguments)
    figures: Figures = {
        "subject": words,
        "joints": subject.robot.dof,
        "zones": len(subject.config.zones),
        "rate_hz": subject.config.rate,
    }
    return _measure(arguments, figures, _gate_parts(arguments, subject), _gate_sentences)


def run_policy(arguments: argparse.Namespace) -> int:
    """Measure the policy's runtime. Returns 0, or 1 if a part of it failed."""
    if not 5 <= arguments.seconds <= 500:
        raise ConfigError("--seconds: write a number from 5 to 500")
    wanted = arguments.only or POLICY_PARTS
    every = {
        "shipped": _shipped,
        "full": _full,
        "image": _image,
        "first_setpoint": lambda: _first_setpoint(arguments.seconds),
        "delays": _delays,
        "idle": _idle,
    }
    parts = {name: measure for name, measure in every.items() if name in wanted}
    return _measure(arguments, {}, parts, _policy_sentences)


def run_bus(arguments: argparse.Namespace) -> int:
    """Measure a real arm's driver. Returns 0, or 1 if a part of it failed."""
    if not 2 <= arguments.seconds <= 600 or not 0 <= arguments.minutes <= 24 * 60:
        raise ConfigError("--seconds: write a number from 2 to 600; --minutes: one above 0")
    wanted = arguments.only or ["latency", *(["soak"] if arguments.minutes else [])]
    every = {
        "latency": lambda: _bus("latency", arguments.seconds),
        "soak": lambda: _bus("soak", arguments.minutes or 3.0),
    }
    parts = {name: measure for name, measure in every.items() if name in wanted}
    return _measure(arguments, {}, parts, _bus_sentences)


def run_cells(arguments: argparse.Namespace) -> int:
    """Measure whole cells. Returns 0, or 1 if a part of it failed."""
    if not 5 <= arguments.seconds <= 3600:
        raise ConfigError("--seconds: write a number from 5 to 3600")
    every = {
        "one": lambda: _cells("one", 1, arguments.seconds),
        "two": lambda: _cells("two", 2, arguments.seconds),
    }
    wanted = arguments.only or CELLS_PARTS
    parts = {name: measure for name, measure in every.items() if name in wanted}
    return _measure(arguments, {}, parts, _cells_sentences)


def _measure(
    arguments: argparse.Namespace,
    figures: Figures,
    parts: dict[str, Callable[[], Figures]],
    sentences: Callable[[Figures], list[str]],
) -> int:
    figures["machine"] = {"cores": os.cpu_count(), "python": platform.python_version()}
    failed = False
    for name, measure in parts.items():
        began = time.monotonic()
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            with contextlib.redirect_stdout(sys.stderr):  # LeRobot prints as it loads
                figures |= measure()
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
    ends = [f"{k}: {v}" for k, v in figures.items() if k.endswith(("_skipped", "_failed"))]
    print(text if arguments.json else "\n".join(sentences(figures) + ends))
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


def _gate_parts(
    arguments: argparse.Namespace, subject: Subject
) -> dict[str, Callable[[], Figures]]:
    wanted = arguments.only or [
        "decision", "tick", "legal", "latency",
        *(["load"] if arguments.load_minutes else []),
        *(["faults"] if arguments.faults else []),
    ]  # fmt: skip
    every = {
        "decision": lambda: offline.decision(subject),
        "tick": lambda: offline.whole_tick(subject),
        "legal": lambda: offline.legal(subject, arguments.legal_steps),
        "latency": lambda: _latency(subject),
        "load": lambda: _load(subject, arguments.load_minutes or 10.0),
        "faults": _faults,
    }
    return {name: measure for name, measure in every.items() if name in wanted}


def _without(name: str, *needed: str) -> Figures | None:
    missing = [module for module in needed if importlib.util.find_spec(module) is None]
    return {f"{name}_skipped": f"{' and '.join(missing)}: not installed"} if missing else None


def _latency(subject: Subject) -> Figures:
    skipped = _without("latency", "rclpy")
    if skipped:
        return skipped
    from smolvla_ros.cli.benchmark.latency import latency

    found = latency(subject)
    return {
        "relay_ms": found["relay_ms"],
        "gate_ms": found["gate_ms"],
        "gate_over_relay": found["gate_over_relay"],
    }


def _load(subject: Subject, minutes: float) -> Figures:
    skipped = _without("load", "rclpy", "lerobot")
    if skipped:
        return skipped
    from smolvla_ros.cli.benchmark.load import load as load_test

    return {"load": load_test(subject, minutes)}


def _faults() -> Figures:
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


def _shipped() -> Figures:
    if skipped := _without("shipped", "lerobot"):
        return skipped
    from smolvla_ros.cli.benchmark import policy

    return {"shipped": policy.shipped()}


def _full() -> Figures:
    if skipped := _without("full", "lerobot"):
        return skipped
    from smolvla_ros.cli.benchmark import policy

    return {"full": policy.full()}


def _image() -> Figures:
    if skipped := _without("image", "cv_bridge", "torch"):
        return skipped
    from smolvla_ros.cli.benchmark.images import image_costs

    return {"image": image_costs()}


def _first_setpoint(seconds: float) -> Figures:
    if skipped := _without("first_setpoint", "rclpy", "lerobot", "mujoco"):
        return skipped
    from smolvla_ros.cli.benchmark.first_setpoint import first_setpoint

    return {"first_setpoint_s": first_setpoint(seconds)}


def _delays() -> Figures:
    if skipped := _without("delays", "lerobot"):
        return skipped
    from smolvla_ros.cli.benchmark.delays import delays

    return {"delays": delays()}


def _idle() -> Figures:
    if skipped := _without("idle", "rclpy", "lerobot"):
        return skipped
    from smolvla_ros.cli.benchmark.idle import idle

    return idle()


def _bus(part: str, length: float) -> Figures:
    if skipped := _without(part, "rclpy", "lerobot", "scservo_sdk", "mujoco"):
        return skipped
    from smolvla_ros.cli.benchmark import bus

    return {part: getattr(bus, part)(length)}


def _cells(part: str, count: int, seconds: float) -> Figures:
    if skipped := _without(part, "rclpy", "lerobot", "mujoco"):
        return skipped
    from smolvla_ros.cli.benchmark.cells import cells

    return {part: cells(count, seconds)}


def _gate_sentences(figures: Figures) -> list[str]:
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
    return lines


def _policy_sentences(figures: Figures) -> list[str]:
    lines = []
    for name, words in (("shipped", "the shipped policy"), ("full", "450 million weights")):
        if name in figures:
            found = figures[name]
            lines.append(
                f"a chunk of {words}: {found['ours_s']:.3f} s, LeRobot alone "
                f"{found['stock_s']:.3f} s, ratio {found['ratio']:.3f}"
            )
    if "image" in figures:
        found = figures["image"]
        lines.append(
            f"a picture to its tensor: {found['ours_ms']:.2f} ms, cv_bridge and LeRobot "
            f"{found['stock_ms']:.2f} ms, ratio {found['ratio']:.2f}"
        )
    if "first_setpoint_s" in figures:
        found = figures["first_setpoint_s"]
        lines.append(
            f"observation to the first set-point of its chunk: p50 {found['p50']:.3f}, "
            f"p99 {found['p99']:.3f} s"
        )
    lines += [
        f"inference takes {row['delay']:g} of a chunk, {row['mode']}: {row['starved']} ticks "
        f"starved, seams up to {row['seam_dq']:.4f} rad, {row['seam_dv']:.3f} rad/s"
        for row in figures.get("delays", [])
    ]
    if "idle_cpu" in figures:
        lines.append(f"the paused policy node uses {100 * figures['idle_cpu']:.1f} % of a core")
    return lines


def _bus_sentences(figures: Figures) -> list[str]:
    lines = []
    if "latency" in figures:
        found = figures["latency"]
        for name, words in (("command", "a command"), ("setpoint", "the gate's set-point")):
            took = found[f"{name}_to_servo_ms"]
            lines.append(
                f"{words} to the servo: p50 {took['p50']:.2f}, p99 {took['p99']:.2f}, "
                f"max {took['max']:.2f} ms"
            )
        line = found["bus_ms"]
        lines.append(
            f"p99 of a tick ({found['tick_ms']:g} ms), a read ({line['read_p99']:.2f}), a write "
            f"({line['write_p99']:.2f}) and its packet ({line['wire']:.2f}): "
            f"{found['budget_ms']['p99']:.2f} ms; a command's is {found['of_budget']['p99']:.2f} "
            "of that"
        )
    if "soak" in figures:
        found = figures["soak"]
        lines.append(
            f"{found['minutes']:g} min, {found['losses']} losses of the bus: steps of at most "
            f"{found['largest_step_rad']:.4f} rad ({found['limit_rad']:.4f} a tick, "
            f"{found['steps_beyond']} beyond), {found['driver']['read_errors']:.0f} bad reads, "
            f"{len(found['stops'])} stops of the gate"
        )
        lines += [
            f"memory of {name}: {took['most']:.0f} MB at most, of its last two thirds "
            f"{took['growth']:+.1f} MB"
            for name, took in found["memory_mb"].items()
        ]
    return lines


def _cells_sentences(figures: Figures) -> list[str]:
    lines = []
    for part in CELLS_PARTS:
        for name, found in figures.get(part, {}).get("arms", {}).items():
            late = found["late_ms"]
            lines.append(
                f"{part}, {name}: {found['rate_hz']:.1f} set-points a second, {late['p99']:.2f} ms "
                f"late (p99), {late['max']:.1f} ms at most, {found['missed_ticks']} of "
                f"{found['setpoints']} missed; {found['chunks_hz']:.2f} chunks a second, "
                f"pace {found['pace']:g}; {sum(found['cores'].values()):.2f} cores"
            )
    return lines
