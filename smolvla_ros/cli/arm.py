"""Arguments that name an arm: a cell file, or a URDF and what a cell would add to it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from smolvla_ros.cell import MonitorConfig, load_cell, load_gate, load_robot
from smolvla_ros.robot import RobotError, RobotModel
from smolvla_ros.safety import Gate, Limits
from smolvla_ros.schema import ConfigError, load, read_yaml

_START_STATES = ("ready", "home")
_INSTEAD = (
    "srdf", "acceleration", "velocity", "jerk", "limits", "zones", "package_dir", "rate", "margin",
    "command_timeout", "links_without_geometry",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--cell``, or ``--urdf`` with the arguments that stand for a cell's keys."""
    parser.add_argument("--cell", type=Path, metavar="FILE", help="cell YAML")
    other = parser.add_argument_group("any arm, instead of --cell")
    other.add_argument("--urdf", type=Path)
    other.add_argument("--srdf", type=Path)
    other.add_argument("--acceleration", type=float, metavar="A", help="rad/s² of each joint")
    other.add_argument("--velocity", type=float, metavar="V", help="rad/s of each joint")
    other.add_argument("--jerk", type=float, metavar="J", help="rad/s³ of each joint")
    other.add_argument("--limits", type=Path, metavar="YAML", help="MoveIt's joint_limits.yaml")
    other.add_argument("--zones", type=Path, metavar="YAML", help="zone name → zone, as in a cell")
    other.add_argument(
        "--package-dir", type=Path, action="append", metavar="DIR",
        help="where package:// meshes are looked for; may be repeated",
    )  # fmt: skip
    other.add_argument("--rate", type=float, help="Hz (default 250)")
    other.add_argument("--margin", type=float, help="m (default 0.01)")
    other.add_argument(
        "--command-timeout", type=float, metavar="S",
        help="s after a command until the arm brakes (default 1); one long trajectory needs it",
    )  # fmt: skip
    other.add_argument(
        "--links-without-geometry", metavar="A,B", help="links that may lack collision geometry"
    )


def load_config(arguments: argparse.Namespace) -> tuple[MonitorConfig, Path | None]:
    """The safety monitor's configuration that the arguments name, and its cell file.

    Raises:
        ConfigError: every problem found.
    """
    given = [f"--{n.replace('_', '-')}" for n in _INSTEAD if getattr(arguments, n) is not None]
    if arguments.cell is not None:
        if arguments.urdf is not None or given:
            raise ConfigError(f"--cell: goes alone; leave out {', '.join(given) or '--urdf'}")
        cell = load_cell(arguments.cell)
        if cell.safety_monitor is None:
            raise ConfigError(f"{arguments.cell}: no section /**/safety_monitor: the gate is there")
        return cell.safety_monitor, cell.path
    if arguments.urdf is None:
        raise ConfigError("give --cell FILE, or --urdf FILE --srdf FILE --acceleration A")
    return load(MonitorConfig, document(arguments), "arguments"), None


def load_arm(config: MonitorConfig, path: Path | None) -> tuple[RobotModel, Gate]:
    """The arm and a fresh gate of a configuration.

    Raises:
        ConfigError: every problem found.
    """
    robot = load_robot(config.robot, path)
    return robot, load_gate(config, robot, path)


def document(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the safety monitor's section of a cell would say in place of ``--urdf`` and the like.

    Raises:
        ConfigError: zones that cannot be read.
    """
    links = [link.strip() for link in (arguments.links_without_geometry or "").split(",")]
    folders = [str(folder.absolute()) for folder in arguments.package_dir or ()]
    found = {
        "robot": {
            "urdf": _absolute(arguments.urdf),
            "srdf": _absolute(arguments.srdf),
            "package_dirs": folders or None,
            "links_without_geometry": [link for link in links if link] or None,
        },
        "limits": {
            "position_margin": 0.0,
            "every_joint": {
                "velocity": arguments.velocity,
                "acceleration": arguments.acceleration,
                "jerk": arguments.jerk,
            },
            "joint_limits": _absolute(arguments.limits),
        },
        "zones": read_zones(arguments.zones) if arguments.zones is not None else None,
        "rate": 250.0 if arguments.rate is None else arguments.rate,
        "margin": 0.01 if arguments.margin is None else arguments.margin,
        "command_timeout": arguments.command_timeout,
        "tracking_error": 0.25,
        "tracking_error_hard": 0.6,
    }
    return _given(found)


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())


def _given(tree: dict[str, Any]) -> dict[str, Any]:
    """Without the keys that nobody gave."""
    kept = {k: _given(v) if isinstance(v, dict) else v for k, v in tree.items()}
    return {k: v for k, v in kept.items() if v is not None and v != {}}


def read_zones(path: Path) -> dict[str, Any]:
    """Zones of a YAML file: name → zone, also below a key ``zones``; meshes lie beside it.

    Raises:
        ConfigError: no such file, no YAML, no mapping.
    """
    if not path.is_file():
        raise ConfigError(f"--zones: {path} is no file")
    found = read_yaml(path) or {}
    if isinstance(found, dict) and set(found) == {"zones"}:
        found = found["zones"] or {}
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: write zone names with a zone's keys below each")
    for zone in found.values():
        if isinstance(zone, dict) and isinstance(zone.get("mesh"), str):
            zone["mesh"] = str(path.parent.absolute() / Path(zone["mesh"]).expanduser())
    return found


def start_of(robot: RobotModel, limits: Limits, text: str | None) -> tuple[np.ndarray, str]:
    """Where the arm starts: ``[D]`` rad (m), and in words.

    Args:
        text: a ``group_state`` of the SRDF; ``name=value,...`` (the other joints stay where
            they are by default); one value for each joint; or None for ``ready``, ``home``
            or, with neither in the SRDF, the middle of every range.

    Raises:
        ConfigError: none of these.
    """
    for state in _START_STATES if text is None else (text.strip(),):
        if state in robot.srdf.states:
            try:
                return robot.pose(state), f"group_state {state!r}"
            except RobotError as error:
                if text is not None:
                    raise ConfigError(f"--start: {error}") from error
    bounded = np.isfinite(limits.lower) & np.isfinite(limits.upper)
    middle = np.zeros(len(limits.lower))
    middle[bounded] = (limits.lower[bounded] + limits.upper[bounded]) / 2
    if text is None:
        return middle, "the middle of every range"
    joints = ", ".join(robot.names)
    if "=" not in text:
        values = [_number(word) for word in text.replace(",", " ").split()]
        if len(values) != robot.dof or None in values:
            states = ", ".join(sorted(robot.srdf.states)) or "none"
            raise ConfigError(
                f"--start: {text!r} is no group_state of the SRDF (it has: {states}), nor one "
                f"number for each of {joints}"
            )
        return np.array(values), "as given"
    start, _ = start_of(robot, limits, None)
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, word = (p.strip() for p in part.partition("="))
        value = _number(word)
        if name not in robot.names or value is None:
            raise ConfigError(f"--start: {part!r} is not name=value with one of: {joints}")
        start[robot.names.index(name)] = value
    return start, "as given"


def _number(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if np.isfinite(value) else None
