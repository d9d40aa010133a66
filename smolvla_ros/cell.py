"""One YAML a cell: every node's parameters, checked before anything moves.

The file is in ROS parameter form, so ``--params-file`` and launch take it as it is. Here
it is read strictly, without ROS: the command line, the tests and the nodes (through
``ros.parameters``) share these classes, so that one mistake has one message.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from smolvla_ros.robot import JointMap, JointUnit, RobotError, RobotModel
from smolvla_ros.robot.joint_map import UNITS
from smolvla_ros.safety import Clearance, Gate, GateSettings, JointLimit, Zone, effective_limits
from smolvla_ros.schema import ConfigError, flatten, key, load, read_yaml, unflatten

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class JointMapEntry:
    """How the policy writes one joint."""

    unit: str = key(doc="degrees, radians or percent of the URDF's range", choices=UNITS)
    sign: int = key(1, doc="1 or -1", choices=(1, -1))
    offset: float = key(0.0, doc="rad (m): where the policy's zero lies in the URDF")


@dataclass(frozen=True, kw_only=True)
class RobotConfig:
    """The arm. Every node of a cell reads these keys."""

    urdf: str = key(doc="URDF file, relative to this file")
    srdf: str | None = key(None, doc="SRDF file, relative to this file")


@dataclass(frozen=True, kw_only=True)
class LimitsConfig:
    """Joint limits on top of the URDF's; the tighter one counts."""

    every_joint: JointLimit = key(JointLimit, doc="limits for each joint")
    joints: dict[str, JointLimit] = key({}, doc="joint name → limits")
    position_margin: float = key(0.0, doc="rad (m) kept from position limits", at_least=0.0)


@dataclass(frozen=True, kw_only=True)
class MonitorConfig:
    """Parameters of the safety monitor."""

    robot: RobotConfig = key(doc="urdf and srdf")
    limits: LimitsConfig = key(doc="joint limits")
    zones: dict[str, Zone] = key({}, doc="zone name → zone")
    rate: float = key(100.0, doc="Hz of the gate and of its output", at_least=10.0, at_most=1000.0)
    margin: float = key(doc="m of clearance from zones and from the arm itself", at_least=0.0)
    slack: float = key(0.001, doc="m by which a motion may dip under it between set-points",
                       above=0.0)  # fmt: skip
    command_timeout: float = key(1.0, doc="s after the last command until the arm brakes",
                                 above=0.0)  # fmt: skip
    joint_state_timeout: float = key(0.2, doc="s of old feedback that stop the arm", above=0.0)
    max_command_age: float = key(2.0, doc="s between observation and command", above=0.0)
    future_tolerance: float = key(0.05, doc="s a stamp may be ahead", at_least=0.0)
    blend: float = key(0.2, doc="s over which a new command takes over", above=0.0)
    settle: float = key(0.15, doc="s over which the end of a command runs out", at_least=0.0)
    braking_ratio: float = key(0.7, doc="share of acceleration that stops are planned with",
                               above=0.0, at_most=1.0)  # fmt: skip
    recovery_ratio: float = key(0.1, doc="share of speed on the way out of a violation",
                                above=0.0, at_most=1.0)  # fmt: skip
    tracking_error: float = key(doc="rad (m) between set-point and measurement", above=0.0)
    tracking_time: float = key(0.5, doc="s that it may last", above=0.0)
    tracking_error_hard: float = key(doc="rad (m) that stop at once", above=0.0)
    stop_heartbeat: float | None = key(None, doc="s of silence on `stop` that stop the arm",
                                       above=0.0)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CameraConfig:
    """One camera stream the policy sees."""

    topic: str = key(doc="Image topic")
    feature: str = key(doc="the checkpoint's name for it, observation.images.…")
    max_age: float = key(0.2, doc="s; an older picture is no observation", above=0.0)


@dataclass(frozen=True, kw_only=True)
class VlaConfig:
    """Parameters of the policy node."""

    robot: RobotConfig = key(doc="urdf and srdf")
    checkpoint: str = key(doc="LeRobot folder relative to this file, or hub id owner/name")
    revision: str | None = key(None, doc="hub revision")
    device: str = key("cpu", doc="torch device")
    torch_threads: int = key(1, doc="CPU threads for torch", at_least=1)
    seed: int | None = key(None, doc="seed of the policy's noise; absent: none")
    chunk_rate: float = key(doc="Hz: rows of a chunk per second, the rate of the data", above=0.0)
    period: float = key(0.4, doc="s from one observation to the next", above=0.0)
    joint_order: list[str] = key(doc="the joints of state and action, in the policy's order")
    joint_map: dict[str, JointMapEntry] = key(doc="joint name → unit, sign, offset")
    joint_states_max_age: float = key(0.1, doc="s; an older state is no observation", above=0.0)
    cameras: dict[str, CameraConfig] = key(doc="camera name → stream")
    instruction: str = key("", doc="what to do until `instruction` says otherwise")
    autostart: bool = key(True, doc="configure and activate without being asked")

    def __post_init__(self) -> None:
        problems = [
            f"joint_order: {name!r} is not in joint_map; describe it there"
            for name in self.joint_order
            if name not in self.joint_map
        ]
        problems += [
            f"joint_map.{name}: is not in joint_order; add it there or delete it"
            for name in self.joint_map
            if name not in self.joint_order
        ]
        if problems:
            raise ConfigError(problems)

    def units(self) -> list[JointUnit]:
        """The joint map's entries in the policy's order."""
        entries = [(name, self.joint_map[name]) for name in self.joint_order]
        return [JointUnit(n, e.unit, e.sign, e.offset) for n, e in entries]


@dataclass(frozen=True, kw_only=True)
class SimConfig:
    """Parameters of the simulator."""

    robot: RobotConfig = key(doc="urdf and srdf")
    scene: str = key(doc="scene file, relative to this file")
    seed: int = key(0, doc="seed of where the blocks lie", at_least=0)
    start: str = key("ready", doc="group_state of the SRDF the arm starts in")
    physics_rate: float = key(500.0, doc="Hz", at_least=100.0, at_most=5000.0)
    joint_state_rate: float = key(100.0, doc="Hz", above=0.0, at_most=1000.0)
    camera_rate: float = key(30.0, doc="Hz", above=0.0, at_most=200.0)


SECTIONS: dict[str, type] = {
    "safety_monitor": MonitorConfig,
    "vla": VlaConfig,
    "sim": SimConfig,
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell file, read and checked; sections that it leaves out are None."""

    path: Path
    safety_monitor: MonitorConfig | None = None
    vla: VlaConfig | None = None
    sim: SimConfig | None = None


def load_cell(path: str | Path) -> Cell:
    """Read a cell file strictly.

    Raises:
        ConfigError: every problem found, each line naming file, key, value and fix.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; give the path of a cell's YAML")
    document = read_yaml(path)
    if not isinstance(document, Mapping):
        raise ConfigError(f"{path}: is empty; see config/so101_tabletop.yaml for a whole cell")
    sections: dict[str, dict[str, Any]] = {}
    shared: dict[str, Any] = {}
    problems: list[str] = []
    for name, body in document.items():
        inner = body.get("ros__parameters") if isinstance(body, Mapping) else None
        if not isinstance(inner, Mapping) or len(body) != 1:
            problems.append(f"{path}: {name}: a section holds ros__parameters: and nothing else")
        elif name == "/**":
            # As in ROS, of two sections that set a key the later one counts.
            shared |= flatten(inner)
            sections = {section: values | shared for section, values in sections.items()}
        elif (section := str(name).rsplit("/", 1)[-1]) in SECTIONS:
            sections[section] = sections.get(section, shared) | flatten(inner)
        else:
            problems.append(
                f"{path}: {name}: unknown section; known: /**, "
                + ", ".join(f"/**/{s}" for s in SECTIONS)
            )
    built: dict[str, Any] = {}
    for name, values in sections.items():
        problems += [f"{path}: {name}: {p}" for p in _not_for_ros(values)]
        try:
            built[name] = load_section(name, values, path)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return Cell(path=path, **built)


def load_section(name: str, values: Mapping[str, Any], path: Path | None) -> Any:
    """Check one node's parameters: a nested mapping, or ROS's flat one.

    Raises:
        ConfigError: every problem found, each line naming file, key, value and fix.
    """
    where = f"{path or 'parameters'}: {name}"
    try:
        nested = unflatten(values)
    except ConfigError as error:
        raise ConfigError([f"{where}: {p}" for p in error.problems]) from error
    return load(SECTIONS[name], nested, where)


def _not_for_ros(values: Mapping[str, Any]) -> list[str]:
    """What YAML can say and ROS parameters cannot: rcl's reader names no key for it."""
    problems = []
    for name, value in values.items():
        if value is None or value == [] or value == {}:
            problems.append(f"{name}: is empty; give a value or leave the key out")
        elif isinstance(value, list) and len({type(v) for v in value}) > 1:
            problems.append(f"{name}: mixes kinds {value}; write all alike, 1.0 and not 1")
    return problems


def beside(path: Path | None, name: str) -> Path:
    """A file that a cell names: absolute, or relative to the cell file's folder."""
    base = path.parent if path else Path.cwd()
    return Path(os.path.normpath(base / Path(name).expanduser()))


def load_robot(config: RobotConfig, path: Path | None) -> RobotModel:
    """The arm of a cell.

    Raises:
        ConfigError: naming the cell's key and what is wrong with the file behind it.
    """
    urdf = beside(path, config.urdf)
    srdf = beside(path, config.srdf) if config.srdf else None
    for name, file in (("urdf", urdf), ("srdf", srdf)):
        if file is not None and not file.is_file():
            raise ConfigError(
                f"{path or 'parameters'}: robot.{name}: {getattr(config, name)!r} is no file "
                f"({file}); write a path relative to the cell file"
            )
    try:
        return RobotModel(urdf, srdf)
    except RobotError as error:
        raise ConfigError(str(error).splitlines()) from error


def load_joint_map(config: VlaConfig, robot: RobotModel, path: Path | None) -> JointMap:
    """The policy's units for the joints of ``robot``.

    Raises:
        ConfigError: a joint that the URDF has not, or that the map leaves out.
    """
    where = f"{path or 'parameters'}: vla"
    problems = [
        f"{where}.joint_order: {name!r} is no joint of the URDF; it has: {', '.join(robot.names)}"
        for name in config.joint_order
        if name not in robot.names
    ]
    problems += [
        f"{where}.joint_order: leaves out joint {name!r} of the URDF; add it"
        for name in robot.names
        if name not in config.joint_order
    ]
    if problems:
        raise ConfigError(problems)
    try:
        return JointMap(config.units(), robot.limits_by_name())
    except ValueError as error:
        raise ConfigError(f"{where}.joint_map: {error}") from error


def load_gate(config: MonitorConfig, robot: RobotModel, path: Path | None) -> Gate:
    """The gate of a cell.

    Raises:
        ConfigError: limits or zones that do not fit the robot.
    """
    problems: list[str] = []
    limits = clearance = None
    try:
        given = config.limits
        limits = effective_limits(robot, given.every_joint, given.joints, given.position_margin)
    except ConfigError as error:
        problems += error.problems
    try:
        clearance = Clearance(robot, config.zones, config.margin, config.slack)
    except ConfigError as error:
        problems += error.problems
    if limits is None or clearance is None:
        where = f"{path or 'parameters'}: safety_monitor"
        raise ConfigError([f"{where}.{p}" for p in problems])
    # The rest of the section carries the settings' own names.
    names = {f.name for f in fields(GateSettings)} - {"dt"}
    settings = GateSettings(dt=1.0 / config.rate, **{n: getattr(config, n) for n in names})
    return Gate(limits, clearance, settings)
