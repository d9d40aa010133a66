"""What a cell says of its arm, and what is left to say before the gate starts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from smolvla_ros.cell import (
    FOLLOW_JOINT_TRAJECTORY,
    Cell,
    MonitorConfig,
    RobotConfig,
    beside,
    load_gate,
    load_robot,
)
from smolvla_ros.finding import Finding
from smolvla_ros.robot import RobotError, RobotModel
from smolvla_ros.robot.describing import (
    Pairs,
    describe_joints,
    gripping,
    hidden,
    sort_pairs,
    stuck,
)
from smolvla_ros.robot.urdf import bodies_without_shape
from smolvla_ros.safety import Limits
from smolvla_ros.schema import ConfigError

_SAMPLES = 1000
_RATES = {"velocity": "s", "acceleration": "s²", "jerk": "s³"}


def examine_arm(cell: Cell) -> tuple[RobotModel | None, list[Finding]]:
    """The arm of a cell, None where it cannot be used, and what is to be said of it.

    Raises:
        ConfigError: a cell that names no arm.
    """
    monitor = cell.safety_monitor
    section = monitor or cell.vla
    if section is None:
        raise ConfigError(
            f"{cell.path}: neither /**/safety_monitor nor /**/vla: there is nothing to check"
        )
    robot, found = _load(section.robot, cell.path)
    if robot is not None:
        margin = monitor.margin if monitor else 0.0
        found += _description(robot, section.robot, margin)
    if monitor is None:
        found.append(Finding("warning", "safety_monitor", "no section: nothing gates this arm"))
    elif robot is not None:
        found += _gate(monitor, robot, cell.path)
        found += _zones(monitor)
        found += _topics(monitor)
        found += _interfaces(monitor)
    return robot, found


def _load(config: RobotConfig, path: Path) -> tuple[RobotModel | None, list[Finding]]:
    """Links without geometry are errors, but hide nothing of what else there is to say."""
    try:
        return load_robot(config, path), []
    except ConfigError as error:
        found = [_error(problem, f"{path}: ") for problem in error.problems]
    try:
        urdf = beside(path, config.urdf)
        bare = bodies_without_shape(urdf, urdf.read_text(encoding="utf-8"))
        excused = sorted({*config.links_without_geometry, *bare})
        return load_robot(replace(config, links_without_geometry=excused), path), found
    except (ConfigError, RobotError, OSError, UnicodeDecodeError):
        return None, found  # what is wrong has been said


def _description(robot: RobotModel, config: RobotConfig, margin: float) -> Iterator[Finding]:
    followers = f" and {len(robot.mimics)} that mimic" if robot.mimics else ""
    yield Finding(
        "ok", "robot.urdf",
        f"{robot.model.name}: {robot.dof} joints{followers}, {len(robot.links)} links, "
        f"{len(robot.geometries)} collision shapes",
    )  # fmt: skip
    given = "as the cell says" if config.fingerprint else "not in the cell"
    yield Finding("ok", "robot.fingerprint", f"{robot.fingerprint} ({given})")
    if config.srdf is not None:
        pairs = sort_pairs(robot, _SAMPLES, margin=margin)
        checked = {frozenset((a.link, b.link)) for a, b in robot.self_collision_pairs()}
        yield Finding("ok", "robot.srdf", f"{len(checked)} pairs of links are checked")
        yield from _doubts(robot, pairs)


def _doubts(robot: RobotModel, pairs: Pairs) -> Iterator[Finding]:
    for doubt in [*hidden(robot, pairs), *stuck(robot, pairs), *gripping(robot, pairs)]:
        text, _, fix = doubt.partition("; ")
        yield Finding("warning", "robot.srdf", text, fix)


def _gate(config: MonitorConfig, robot: RobotModel, path: Path) -> Iterator[Finding]:
    try:
        gate = load_gate(config, robot, path)
    except ConfigError as error:
        for problem in error.problems:
            yield _error(problem, f"{path}: safety_monitor.")
        return
    yield from _limits(gate.limits, robot)


def _zones(config: MonitorConfig) -> Iterator[Finding]:
    if config.zones:
        kinds = ", ".join(f"{name} ({zone.kind})" for name, zone in config.zones.items())
        yield Finding("ok", "zones", kinds)
    else:
        yield Finding("warning", "zones", "none: the gate knows the arm, and nothing around it",
                      "write the table, the walls, the workspace")  # fmt: skip


def _limits(limits: Limits, robot: RobotModel) -> Iterator[Finding]:
    for i, joint in enumerate(describe_joints(robot)):
        unit = "m" if joint.kind == "prismatic" else "rad"
        ends = f"{limits.lower[i]:.4g} .. {limits.upper[i]:.4g} {unit}"
        sources = dict.fromkeys(limits.sources[f"{joint.name}.{a}"] for a in ("lower", "upper"))
        known = [f"{ends} ({'; '.join(sources)})"]
        known += [
            f"{value:.4g} {unit}/{time} ({limits.sources[f'{joint.name}.{attribute}']})"
            for attribute, time in _RATES.items()
            if math.isfinite(value := getattr(limits, attribute)[i])
        ]
        yield Finding("ok", f"limits.{joint.name}", ", ".join(known))
    for note in limits.notes:
        yield Finding("warning", "limits", note)


def _topics(config: MonitorConfig) -> Iterator[Finding]:
    for name, source in config.named_sources().items():
        text = f"{source.type} on {source.topic}, priority {source.priority}"
        yield Finding("ok", f"sources.{name}", text)
    text = f"{config.output.type} on {config.output_topic}, {config.rate:g} Hz"
    if config.shadow:
        yield Finding("warning", "output", f"{text}: the arm gets nothing", "shadow: false")
    else:
        yield Finding("ok", "output", text)


def _interfaces(config: MonitorConfig) -> Iterator[Finding]:
    """What is off where an interface package is not installed."""
    wanted = {
        f"sources.{name}": ("control_msgs", "the action is off")
        for name, source in config.named_sources().items()
        if source.type == FOLLOW_JOINT_TRAJECTORY
    }
    if config.planning_scene is not None:
        off = "it is off" + (", and the arm will not move" if config.planning_scene.take else "")
        wanted["planning_scene"] = ("moveit_msgs", off)
    for subject, (package, off) in wanted.items():
        if find_spec(package) is None:
            fix = f"sudo apt install ros-$ROS_DISTRO-{package.replace('_', '-')}"
            yield Finding("warning", subject, f"{package} is not installed here: {off}", fix)


def _error(problem: str, prefix: str) -> Finding:
    subject, colon, text = problem.removeprefix(prefix).partition(": ")
    if not colon or " " in subject or "/" in subject:
        return Finding("error", "robot", problem.removeprefix(prefix))
    text, _, fix = text.partition("; ")
    return Finding("error", subject, text, fix)
