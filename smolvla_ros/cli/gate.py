"""``smolvla-ros gate``: the safety monitor's gate on a file of inputs, without ROS."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from smolvla_ros.cell import MonitorConfig
from smolvla_ros.cli import arm
from smolvla_ros.safety.offline import Line, Replay, read_lines, row
from smolvla_ros.schema import ConfigError


def add(subparsers: Any) -> None:
    """The subcommand's arguments."""
    parser = subparsers.add_parser(
        "gate",
        help="run the safety monitor's gate on a file of inputs, without ROS",
        description="Reads commands, joint states, stops, resets and enablings from JSON lines, a "
        "rosbag2 folder or an MCAP file, and writes one JSON line a tick: what the gate lets "
        "through and why. The same input gives the same bytes. Exit code 2 if the input or the "
        "arm's description is wrong, before anything is written.",
        epilog='Lines: {"t": s, "command": {"source": "policy", "stamp": s, "names": [...], '
        '"points": [{"t": s, "positions": [...]}]}}, {"t": s, "joint_state": {"names": [...], '
        '"positions": [...]}}, {"t": s, "stop": true}, also reset, enable (false: disable), '
        "heartbeat, obstacles. Without joint states the arm is where it was sent; without an "
        "enable the gate is enabled as soon as it may be.",
    )
    arm.add_arguments(parser)
    parser.add_argument(
        "--in", dest="input", required=True, metavar="IN",
        help="JSON lines (- for standard input), rosbag2 folder, .db3 or .mcap",
    )  # fmt: skip
    parser.add_argument("--out", default="-", metavar="FILE", help="JSON lines (default: -)")
    parser.add_argument(
        "--start", metavar="POSE",
        help="without joint states: group_state of the SRDF, name=value,... or values (default: "
        "ready, home or the middle of every range)",
    )  # fmt: skip
    parser.add_argument(
        "--follow", action="store_true",
        help="once enabled, the arm is where it was sent, whatever joint states say: for other "
        "zones or limits than it was recorded with; a cell with shadow: true does so by itself",
    )  # fmt: skip
    parser.add_argument(
        "--after", type=float, default=3.0, metavar="S",
        help="at most so long after the last line until at rest (default 3)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="summary on standard output")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the gate over the input. Returns 0."""
    problems = []
    if not 0 <= arguments.after < math.inf:
        problems.append(f"--after: is {arguments.after}; write seconds of at least 0")
    if arguments.json and arguments.out == "-":
        problems.append("--json: the summary and the rows would mix; give --out FILE")
    if problems:
        raise ConfigError(problems)
    config, path = arm.load_config(arguments)
    robot, gate = arm.load_arm(config, path)
    lines = read_input(arguments.input, config)
    start, words = arm.start_of(robot, gate.limits, arguments.start)
    replay = Replay(gate, lines, start, arguments.after, arguments.follow or config.shadow)
    with _opened(arguments.out) as out:
        for t, output in replay:
            out.write(json.dumps(row(t, output), allow_nan=False) + "\n")
    summary = {"start": words if replay.assumes_tracking else "joint states", **report(replay)}
    print(_sentence(summary), file=sys.stderr)
    if arguments.json:
        print(json.dumps(summary, indent=2, allow_nan=False))
    return 0


def report(replay: Replay) -> dict[str, Any]:
    """A run's summary as a JSON object."""
    gate, counts = replay.gate, replay.summary
    return {
        "joints": list(gate.names),
        "lines": len(replay.lines),
        "ticks": counts.ticks,
        "duration_s": round(counts.duration, 9),
        "enabled": counts.enabled,
        "not_enabled": "" if counts.enabled else counts.not_enabled,
        "final_state": gate.state.value,
        "stop_reason": gate.stop_reason,
        "states": dict(counts.states),
        "verdicts": dict(gate.verdicts),
        "checks": dict(gate.checks),
        "refusals": dict(gate.refusals),
        "min_clearance_m": counts.min_clearance if math.isfinite(counts.min_clearance) else None,
        "travel_rad": counts.travel,
    }


def _sentence(summary: dict[str, Any]) -> str:
    def counted(name: str) -> str:
        found = summary[name]
        return (
            ", ".join(f"{k} {n}" for k, n in sorted(found.items(), key=lambda x: -x[1])) or "none"
        )

    clearance = summary["min_clearance_m"]
    return "\n".join(
        [
            f"{summary['lines']} lines, {summary['ticks']} ticks, {summary['duration_s']:.2f} s, "
            f"start: {summary['start']}",
            f"verdicts: {counted('verdicts')}",
            f"checks: {counted('checks')}",
            f"refused: {counted('refusals')}",
            "smallest clearance: " + ("none" if clearance is None else f"{clearance * 1e3:.1f} mm"),
            f"ended {summary['final_state']}"
            + (f" ({summary['stop_reason']})" if summary["stop_reason"] else "")
            + ("" if summary["enabled"] else "; the gate was never enabled")
            + (f": {summary['not_enabled']}" if summary["not_enabled"] else ""),
        ]
    )


def read_input(name: str, config: MonitorConfig, sent: bool = False) -> list[Line]:
    """What ``--in`` names, as lines; of a bag also what the monitor ``sent``, where wanted.

    Raises:
        ConfigError: it is not there, or cannot be read.
    """
    if name == "-":
        return _read_text(sys.stdin, "standard input")
    path = Path(name)
    if not path.exists():
        raise ConfigError(f"--in: {path} is not there")
    if path.is_dir() or path.suffix in (".mcap", ".db3"):
        from smolvla_ros.cli.bags import read_bag  # its library only where a bag is read

        return read_bag(path, config, sent)
    with path.open(encoding="utf-8") as text:
        return _read_text(text, str(path))


def _read_text(text: IO[str], name: str) -> list[Line]:
    try:
        return read_lines(text, name)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: is not UTF-8 text ({error})") from error


@contextlib.contextmanager
def _opened(name: str) -> Iterator[IO[str]]:
    if name == "-":
        try:
            yield sys.stdout
            sys.stdout.flush()
        except BrokenPipeError:  # as of `| head`: nobody wants the rest
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    try:
        with Path(name).open("w", encoding="utf-8") as out:
            yield out
    except OSError as error:
        raise ConfigError(f"--out: {name}: {error.strerror}") from error
