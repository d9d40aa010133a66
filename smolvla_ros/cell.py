"""One YAML a cell: every node's parameters, checked before anything moves.

The file is in ROS parameter form, so ``--params-file`` and launch take it as it is. Here
it is read strictly, without ROS: the command line, the tests and the nodes (through
``ros.parameters``) share these classes, so that one mistake has one message.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pinocchio as pin

from smolvla_ros.robot import Attachment, JointMap, JointUnit, RobotError, RobotModel
from smolvla_ros.robot.joint_map import UNITS
from smolvla_ros.safety import (
    Clearance,
    Gate,
    GateSettings,
    JointLimit,
    Limits,
    Source,
    Zone,
    effective_limits,
)
from smolvla_ros.safety.moveit import read_joint_limits
from smolvla_ros.safety.shapes import SHAPES, Parts
from smolvla_ros.safety.zones import with_mesh_paths
from smolvla_ros.schema import ConfigError, flatten, key, load, read_yaml, unflatten

T = TypeVar("T")

TRANSPORTS = ("raw", "compressed")
RELIABILITIES = ("best_effort", "reliable")
CHUNKINGS = ("auto", "rtc", "blend")


@dataclass(frozen=True, kw_only=True)
class JointMapEntry:
    """How the policy writes one joint."""

    unit: str = key(doc="degrees, radians or percent of the URDF's range", choices=UNITS)
    sign: int = key(1, doc="1 or -1", choices=(1, -1))
    offset: float = key(0.0, doc="rad (m): where the policy's zero lies in the URDF")


@dataclass(frozen=True, kw_only=True)
class PayloadConfig:
    """A tool or a load that a link carries, in the link's frame."""

    link: str = key(doc="the link that carries it")
    shape: str = key(doc="its shape", choices=("box", "sphere", "cylinder", "capsule"))
    size: list[float] = key(doc="m, as of a zone", above=0.0, at_most=10.0)
    position: list[float] = key([0.0, 0.0, 0.0], doc="m in the link", length=3)
    rpy: list[float] = key([0.0, 0.0, 0.0], doc="rad, fixed-axis roll pitch yaw", length=3)
    may_touch: list[str] = key([], doc="links it may touch (the fingers that hold it)")

    def __post_init__(self) -> None:
        names = SHAPES[self.shape][0]
        if len(self.size) != len(names):
            raise ConfigError(
                f"size: has {len(self.size)} values; a {self.shape} needs {len(names)} "
                f"({', '.join(names)})"
            )

    def parts(self) -> Parts:
        """Its shapes with their place in the link."""
        pose = pin.SE3(pin.rpy.rpyToMatrix(*self.rpy), np.array(self.position))
        return [(shape, pose * at) for shape, at in SHAPES[self.shape][1](self.size)]


@dataclass(frozen=True, kw_only=True)
class RobotConfig:
    """The arm. Every node of a cell reads these keys."""

    urdf: str = key(doc="URDF file, relative to this file")
    srdf: str | None = key(None, doc="SRDF file, relative to this file")
    package_dirs: list[str] = key([], doc="folders, relative to this file, where the URDF's "
                                  "package:// meshes are looked for")  # fmt: skip
    links_without_geometry: list[str] = key([], doc="links that may lack collision geometry")
    fingerprint: str | None = key(None, doc="sha256 of the description; another one is refused")
    payload: dict[str, PayloadConfig] = key({}, doc="name → tool or load")


@dataclass(frozen=True, kw_only=True)
class LimitsConfig:
    """Joint limits on top of the URDF's; the tighter one counts."""

    joint_limits: str | None = key(None, doc="MoveIt's joint_limits.yaml, relative to this file")
    every_joint: JointLimit = key(JointLimit, doc="limits for each joint")
    joints: dict[str, JointLimit] = key({}, doc="joint name → limits")
    position_margin: float = key(0.0, doc="rad (m) kept from position limits", at_least=0.0)


FOLLOW_JOINT_TRAJECTORY = "FollowJointTrajectory"  # the one source that is an action
SOURCE_TYPES = ("JointTrajectory", "JointState", "Float64MultiArray", FOLLOW_JOINT_TRAJECTORY)
OUTPUT_TOPICS = {"JointTrajectory": "arm/joint_trajectory", "Float64MultiArray": "arm/commands"}


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One source of commands."""

    topic: str = key(doc="topic (or action), relative to the node's namespace", ros_name=True)
    type: str = key("JointTrajectory", doc="type of message or action", choices=SOURCE_TYPES)
    priority: int = key(0, doc="a higher one takes over from a lower one")
    timeout: float | None = key(None, doc="s of silence until it lets go; absent: command_timeout",
                                above=0.0)  # fmt: skip
    max_age: float | None = key(None, doc="s; an older stamp is refused; absent: max_command_age",
                                above=0.0)  # fmt: skip
    joints: list[str] = key([], doc="order of a Float64MultiArray's values")
    missing_joints: str = key("refuse", doc="hold: joints left out stay where they are",
                              choices=("refuse", "hold"))  # fmt: skip
    ignore_joints: list[str] = key([], doc="names in its commands that are not the arm's")
    require_stamp: bool = key(False, doc="refuse commands without a stamp")
    start_tolerance: float = key(0.5, doc="rad (m) from the arm where it may take over", above=0.0)
    path_tolerance: float = key(0.2, doc="rad (m) off the path that abort a goal", above=0.0)
    goal_tolerance: float = key(0.05, doc="rad (m) from its end that a goal may miss", above=0.0)
    goal_time: float = key(1.0, doc="s after its end in which a goal must be met", at_least=0.0)

    def __post_init__(self) -> None:
        if (self.type == "Float64MultiArray") != bool(self.joints):
            raise ConfigError(
                "joints: a Float64MultiArray needs the order of its values, other types carry names"
            )


@dataclass(frozen=True, kw_only=True)
class OutputConfig:
    """What leaves the monitor."""

    type: str = key("JointTrajectory", doc="message type", choices=tuple(OUTPUT_TOPICS))
    topic: str = key("", doc="topic; absent: arm/joint_trajectory or arm/commands",
                     ros_name=True)  # fmt: skip
    joints: list[str] = key([], doc="order of a Float64MultiArray; absent: the URDF's")
    ahead: float = key(
        0.0,
        doc="s after its stamp at which a set-point is due; 0: one period",
        at_least=0.0,
        at_most=0.5,
    )

    def __post_init__(self) -> None:
        if self.ahead and self.type != "JointTrajectory":
            raise ConfigError(f"ahead: a {self.type} says no time; leave it out")

    @property
    def topic_name(self) -> str:
        """The topic, or the type's own."""
        return self.topic or OUTPUT_TOPICS[self.type]


@dataclass(frozen=True, kw_only=True)
class ObstaclesConfig:
    """Obstacles that come and go, beside the zones."""

    topic: str = key(doc="visualization_msgs/MarkerArray", ros_name=True)
    timeout: float = key(0.5, doc="s of silence until the arm brakes", above=0.0)
    speed: float = key(0.0, doc="m/s by which they are grown while no word comes", at_least=0.0)


@dataclass(frozen=True, kw_only=True)
class PlanningSceneConfig:
    """MoveIt's planning scene: its objects for the gate, the zones for MoveIt."""

    take: bool = key(False, doc="the scene's objects are obstacles")
    give: bool = key(False, doc="the zones are collision objects of the scene")
    namespace: str = key("", doc="of move_group, / for none; absent: the monitor's")
    frame: str = key("", doc="take: of its objects, where that is no link: world, mostly")
    position: list[float] = key([0.0, 0.0, 0.0], doc="m: the root link in that frame", length=3,
                                at_least=-100.0, at_most=100.0)  # fmt: skip
    rpy: list[float] = key([0.0, 0.0, 0.0], doc="rad: the root link in that frame, fixed-axis roll "
                           "pitch yaw", length=3, at_least=-6.2832, at_most=6.2832)  # fmt: skip
    except_objects: list[str] = key([], doc="take: all but these, as block_*")
    timeout: float = key(3.0, doc="take: s without word of the scene until the arm brakes",
                         at_least=1.5)  # fmt: skip
    padding: float = key(0.0, doc="give: m by which zones are larger in the scene", at_least=0.0,
                         at_most=0.2)  # fmt: skip

    def __post_init__(self) -> None:
        if not (self.take or self.give):
            raise ConfigError("take: is false and so is give; set one of them, or leave this out")

    def name(self, topic: str) -> str:
        """The name of one of move_group's topics or services."""
        return f"{self.namespace.rstrip('/')}/{topic}" if self.namespace else topic


@dataclass(frozen=True, kw_only=True)
class RecordingConfig:
    """The last inputs and outputs, written to a file on every stop."""

    directory: str = key(doc="folder, relative to the working directory; a namespace is one in it")
    seconds: float = key(30.0, doc="s that are kept", above=0.0, at_most=600.0)


@dataclass(frozen=True, kw_only=True)
class MonitorConfig:
    """Parameters of the safety monitor."""

    robot: RobotConfig = key(doc="urdf and srdf")
    limits: LimitsConfig = key(doc="joint limits")
    zones: dict[str, Zone] = key({}, doc="zone name → zone")
    sources: dict[str, SourceConfig] = key({}, doc="source name → source; absent: policy alone")
    output: OutputConfig = key(OutputConfig, doc="what leaves")
    shadow: bool = key(False, doc="say what would be sent, on shadow/…; the arm gets nothing")
    obstacles: ObstaclesConfig | None = key(None, doc="a topic of moving obstacles")
    planning_scene: PlanningSceneConfig | None = key(None, doc="MoveIt's planning scene")
    recording: RecordingConfig | None = key(None, doc="a file on every stop")
    watch: list[str] = key([], doc="further command topics of the arm that nobody may write")
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
    measured_margin: float = key(0.0, doc="m; the measured arm nearer than this stops",
                                 at_least=0.0)  # fmt: skip
    joint_state_jump: float = key(0.3, doc="rad (m) beyond the velocity limit that one joint "
                                  "state may differ from the last", above=0.0)  # fmt: skip
    clock_tolerance: float = key(0.1, doc="s that ROS time may jump", above=0.0)
    late_ticks: int = key(3, doc="late ticks in a row that slow the arm down", at_least=1)
    stall: float = key(0.25, doc="s without a tick that brake the arm", above=0.0)
    blocked_timeout: float | None = key(None, doc="s of pushing against a zone that stop the arm",
                                        above=0.0)  # fmt: skip
    stop_heartbeat: float | None = key(None, doc="s of silence on `stop` that stop the arm",
                                       above=0.0)  # fmt: skip

    def __post_init__(self) -> None:
        topics: dict[str, str] = {}
        problems = []
        for name, source in self.named_sources().items():
            other = topics.setdefault(source.topic, name)
            if other != name:
                problems.append(f"sources.{name}.topic: {source.topic!r} is {other}'s topic too")
            if source.topic == self.output.topic_name:
                problems.append(f"sources.{name}.topic: {source.topic!r} is the output's topic")
        if problems:
            raise ConfigError(problems)

    @property
    def output_topic(self) -> str:
        """Where set-points go: to the arm, or beside it in shadow mode."""
        topic = self.output.topic_name
        return f"shadow/{topic.lstrip('/')}" if self.shadow else topic

    def named_sources(self) -> dict[str, SourceConfig]:
        """The sources; without any, the policy's chunks."""
        return self.sources or {"policy": SourceConfig(topic="policy/joint_trajectory")}


@dataclass(frozen=True, kw_only=True)
class CameraConfig:
    """One camera stream the policy sees."""

    topic: str = key(doc="Image topic; CompressedImage where transport says so", ros_name=True)
    feature: str = key(doc="the checkpoint's name for it, observation.images.…")
    transport: str = key("raw", doc="what the topic carries", choices=TRANSPORTS)
    reliability: str = key("best_effort", doc="of the subscription", choices=RELIABILITIES)
    max_age: float = key(0.2, doc="s; an older picture is no observation", above=0.0)
    frozen_after: float = key(2.0, doc="s of the same bytes until they count as old", above=0.0)


@dataclass(frozen=True, kw_only=True)
class VlaConfig:
    """Parameters of the policy node."""

    robot: RobotConfig = key(doc="urdf and srdf")
    checkpoint: str = key(doc="LeRobot folder relative to this file, or hub id owner/name")
    revision: str | None = key(None, doc="hub revision")
    statistics: str | None = key(
        None, doc="prefix of the statistics to use, where a checkpoint has several data sets'"
    )
    device: str = key("cpu", doc="torch device")
    torch_threads: int = key(1, doc="CPU threads for torch", at_least=1)
    seed: int | None = key(None, doc="seed of the policy's noise; absent: none")
    chunk_rate: float = key(doc="Hz: rows of a chunk per second, the rate of the data", above=0.0)
    period: float = key(0.4, doc="s from one observation to the next", above=0.0)
    chunking: str = key("auto", doc="how a chunk joins the one before", choices=CHUNKINGS)
    execution_horizon: int = key(10, doc="rows over which it joins", at_least=1)
    slowest_pace: float = key(
        0.2, doc="of the data's speed: how slow motion may get to bridge inference", above=0.0,
        at_most=1.0,
    )  # fmt: skip
    joint_order: list[str] = key(doc="the joints of state and action, in the policy's order")
    joint_map: dict[str, JointMapEntry] = key(doc="joint name → unit, sign, offset")
    joint_states_max_age: float = key(0.1, doc="s; an older state is no observation", above=0.0)
    cameras: dict[str, CameraConfig] = key(doc="camera name → stream")
    max_skew: float = key(0.2, doc="s between the streams of one observation", above=0.0)
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
    vary: bool = key(False, doc="draw start, light, cameras and colours from the seed as well")
    task: str = key("", doc="what an episode is judged by: touch BLOCK, pick BLOCK; empty: nothing")
    physics_rate: float = key(500.0, doc="Hz", at_least=100.0, at_most=5000.0)
    joint_state_rate: float = key(100.0, doc="Hz", above=0.0, at_most=1000.0)
    camera_rate: float = key(30.0, doc="Hz", above=0.0, at_most=200.0)


@dataclass(frozen=True, kw_only=True)
class RecorderConfig:
    """Parameters of the recorder. Cameras, joints, units and rate are the policy's."""

    robot: RobotConfig | None = key(None, doc="as for every node; the policy's is used")
    out: str = key("", doc="the dataset's folder, relative to the working directory")
    resume: bool = key(False, doc="append to the dataset that is there")
    video: bool = key(False, doc="keep pictures as video, lossy, instead of PNG")
    robot_type: str = key("", doc="LeRobot's word for the arm; absent: the URDF's name")
    max_gap: int = key(1, doc="frames in a row that may be missing in an episode", at_least=0)
    max_seconds: float = key(300.0, doc="s after which an episode ends", above=0.0)
    action_max_age: float = key(0.1, doc="s; an older set-point is none", above=0.0)


@dataclass(frozen=True, kw_only=True)
class MotorConfig(JointMapEntry):
    """How LeRobot writes one joint of a real arm."""

    motor: str = key("", doc="LeRobot's name of its motor; absent: the joint's")


class _Mapped:
    """A section with a joint map of LeRobot's motors."""

    joint_map: dict[str, MotorConfig]

    def units(self) -> list[JointUnit]:
        """How LeRobot writes each joint."""
        return [JointUnit(n, e.unit, e.sign, e.offset) for n, e in self.joint_map.items()]

    def motors(self) -> dict[str, str]:
        """Joint → LeRobot's name of its motor."""
        return {name: entry.motor or name for name, entry in self.joint_map.items()}


@dataclass(frozen=True, kw_only=True)
class ArmConfig(_Mapped):
    """Parameters of a real arm's driver."""

    robot: RobotConfig = key(doc="urdf and srdf")
    type: str = key(doc="LeRobot's word for the robot: so101_follower, …")
    options: dict[str, Any] = key({}, doc="the fields of its configuration there: port, id, …")
    joint_map: dict[str, MotorConfig] = key(doc="joint name → motor, unit, sign, offset")
    rate: float = key(100.0, doc="Hz of joint_states", above=0.0, at_most=1000.0)
    torque: bool = key(True, doc="hold the arm where it stands at start; false: ~/torque does")
    timeout: float = key(0.2, doc="s without a set-point until the last is held", above=0.0)
    takeover: float = key(0.15, doc="rad from the held position where set-points take over",
                          above=0.0)  # fmt: skip
    max_velocity: float | None = key(None, doc="rad/s of what is written, after a gap; absent: "
                                     "the URDF's", above=0.0)  # fmt: skip
    retries: int = key(2, doc="further tries of a transaction", at_least=0, at_most=20)
    reply_timeout: float = key(0.03, doc="s that a motor has to answer", above=0.0, at_most=1.0)
    lost_after: float = key(0.3, doc="s without an answer until the bus is opened anew", above=0.0)


@dataclass(frozen=True, kw_only=True)
class CameraDeviceConfig:
    """One camera that LeRobot reads."""

    type: str = key(doc="LeRobot's word for the camera: opencv, intelrealsense, …")
    options: dict[str, Any] = key({}, doc="the fields of its configuration there")
    calibration: str | None = key(
        None, doc="camera_calibration's YAML, relative to this file; absent: not calibrated"
    )
    frame_id: str = key("", doc="of its pictures; absent: <camera>_optical_frame")
    rate: float | None = key(None, doc="Hz at most; absent: every picture", above=0.0)
    latency: float = key(0.0, doc="s from the exposure until the driver has the picture",
                         at_least=0.0, at_most=1.0)  # fmt: skip
    timeout: float = key(2.0, doc="s without a picture until it is connected anew", above=0.0)
    jpeg_quality: int = key(90, doc="of the compressed topic", at_least=1, at_most=100)


@dataclass(frozen=True, kw_only=True)
class CameraNodeConfig:
    """Parameters of the camera node."""

    robot: RobotConfig | None = key(None, doc="as for every node; not read")
    cameras: dict[str, CameraDeviceConfig] = key(doc="camera name → device", ros_name=True)


@dataclass(frozen=True, kw_only=True)
class JogKeyConfig:
    """What a held key moves."""

    joint: str = key(doc="the joint")
    speed: float = key(doc="rad/s (m/s), with its sign", at_least=-10.0, at_most=10.0)


@dataclass(frozen=True, kw_only=True)
class TipConfig:
    """What a teleoperator moves that gives steps in space."""

    link: str = key(doc="the link whose origin it moves")
    speed: float = key(0.1, doc="m/s of a step of 1: a key that is held, a stick at its end",
                       above=0.0, at_most=2.0)  # fmt: skip
    yaw: float = key(0.0, doc="rad about the root link's z axis, from its x axis to that of the "
                     "teleoperator", at_least=-6.3, at_most=6.3)  # fmt: skip
    gripper: JogKeyConfig | None = key(None, doc="the joint that opens, and its speed in doing so")


@dataclass(frozen=True, kw_only=True)
class TeleopConfig(_Mapped):
    """Parameters of a teleoperator."""

    robot: RobotConfig = key(doc="urdf and srdf")
    type: str = key(doc="LeRobot's word for the teleoperator: so101_leader, keyboard, …")
    options: dict[str, Any] = key({}, doc="the fields of its configuration there: port, id, …")
    joint_map: dict[str, MotorConfig] = key({}, doc="of a leader: joint name → motor, unit, sign, "
                                            "offset")  # fmt: skip
    keys: dict[str, JogKeyConfig] = key({}, doc="of a keyboard: key → joint and speed")
    tip: TipConfig | None = key(None, doc="of a gamepad, keyboard_ee and others that give steps of "
                                "the gripper in space")  # fmt: skip
    rate: float = key(50.0, doc="Hz of set-points", above=0.0, at_most=500.0)
    start_tolerance: float = key(0.3, doc="rad (m) from the arm where a leader may take over",
                                 above=0.0)  # fmt: skip
    blend: float = key(1.0, doc="s over which the arm then goes over to the leader", above=0.0)
    ahead: float = key(0.2, doc="rad (m) by which keys and steps may be ahead of the arm",
                       above=0.0)  # fmt: skip
    joint_states_max_age: float = key(0.2, doc="s; an older joint state is none", above=0.0)

    def __post_init__(self) -> None:
        if bool(self.joint_map) + bool(self.keys) + (self.tip is not None) != 1:
            raise ConfigError(
                "joint_map: a leader needs it, a keyboard needs keys, what gives steps in space "
                "needs tip; write one of the three"
            )


SECTIONS: dict[str, type] = {
    "safety_monitor": MonitorConfig,
    "vla": VlaConfig,
    "sim": SimConfig,
    "arm": ArmConfig,
    "recorder": RecorderConfig,
    "camera": CameraNodeConfig,
    "teleop": TeleopConfig,
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell file, read and checked; sections that it leaves out are None."""

    path: Path
    safety_monitor: MonitorConfig | None = None
    vla: VlaConfig | None = None
    sim: SimConfig | None = None
    arm: ArmConfig | None = None
    recorder: RecorderConfig | None = None
    camera: CameraNodeConfig | None = None
    teleop: TeleopConfig | None = None


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
    where = f"{path or 'parameters'}: robot"
    urdf = beside(path, config.urdf)
    srdf = beside(path, config.srdf) if config.srdf else None
    folders = [beside(path, folder) for folder in config.package_dirs]
    problems = [
        f"{where}.{name}: {getattr(config, name)!r} is no file ({file}); write a path relative to "
        "the cell file"
        for name, file in (("urdf", urdf), ("srdf", srdf))
        if file is not None and not file.is_file()
    ]
    problems += [
        f"{where}.package_dirs: {given!r} is no folder ({folder}); write a path relative to the "
        "cell file"
        for given, folder in zip(config.package_dirs, folders, strict=True)
        if not folder.is_dir()
    ]
    if problems:
        raise ConfigError(problems)
    try:
        robot = RobotModel(
            urdf,
            srdf,
            package_dirs=folders,
            links_without_geometry=config.links_without_geometry,
            attachments=[
                Attachment(name, p.link, p.parts(), p.may_touch)
                for name, p in config.payload.items()
            ],
        )
    except RobotError as error:
        raise ConfigError(str(error).splitlines()) from error
    if config.fingerprint not in (None, robot.fingerprint):
        raise ConfigError(
            f"{where}.fingerprint: is {config.fingerprint!r}, but the description's is "
            f"{robot.fingerprint}; it has changed: look at it again, then write the new one"
        )
    return robot


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


def load_teleop_joints(
    config: TeleopConfig, robot: RobotModel, path: Path | None
) -> JointMap | None:
    """How a leader arm writes the joints of ``robot``, or some of them; None for keys and steps.

    Raises:
        ConfigError: a joint or a link that the URDF has not, or percent of a joint without limits.
    """
    where = f"{path or 'parameters'}: teleop"
    named = [(f"joint_map.{name}", name) for name in config.joint_map]
    named += [(f"keys.{name}.joint", entry.joint) for name, entry in config.keys.items()]
    if config.tip is not None and config.tip.gripper is not None:
        named.append(("tip.gripper.joint", config.tip.gripper.joint))
    problems = [
        f"{where}.{place}: {joint!r} is no joint of the URDF; it has: {', '.join(robot.names)}"
        for place, joint in named
        if joint not in robot.names
    ]
    if config.tip is not None and config.tip.link not in robot.links:
        problems.append(
            f"{where}.tip.link: {config.tip.link!r} is no link of the URDF; it has: "
            f"{', '.join(robot.links)}"
        )
    if problems:
        raise ConfigError(problems)
    if not config.joint_map:
        return None
    try:
        return JointMap(config.units(), robot.limits_by_name())
    except ValueError as error:
        raise ConfigError(f"{where}.joint_map: {error}") from error


def load_limits(config: MonitorConfig, robot: RobotModel, path: Path | None) -> Limits:
    """The effective joint limits of a cell.

    Raises:
        ConfigError: a joint that the URDF has not, a limit that nobody gave or that is none.
    """
    given, moveit = config.limits, None
    if given.joint_limits is not None:
        file = beside(path, given.joint_limits)
        if not file.is_file():
            raise ConfigError(
                f"limits.joint_limits: {given.joint_limits!r} is no file ({file}); write a path "
                "relative to the cell file"
            )
        try:
            moveit = read_joint_limits(file)
        except ConfigError as error:
            raise ConfigError([f"limits.joint_limits: {p}" for p in error.problems]) from error
    return effective_limits(
        robot, given.every_joint, given.joints, given.position_margin, moveit=moveit
    )


def load_zones(config: MonitorConfig, path: Path | None) -> dict[str, Zone]:
    """The zones of a cell, their mesh files found beside it."""
    return with_mesh_paths(config.zones, beside(path, "."))


def load_clearance(config: MonitorConfig, robot: RobotModel, path: Path | None) -> Clearance:
    """The arm against itself and the zones of a cell.

    Raises:
        ConfigError: zones that do not fit the robot, or no SRDF.
    """
    if config.robot.srdf is None:
        raise ConfigError(
            "robot.srdf: missing; which links may touch must be looked at by somebody: make one "
            "with `smolvla-ros srdf --urdf URDF --out FILE`, or take the one that `smolvla-ros "
            "init` wrote beside the cell; read it, and name it here"
        )
    return Clearance(robot, load_zones(config, path), config.margin, config.slack)


def load_gate(config: MonitorConfig, robot: RobotModel, path: Path | None) -> Gate:
    """The gate of a cell.

    Raises:
        ConfigError: limits, zones or sources that do not fit the robot.
    """
    problems: list[str] = []
    parts: list[Any] = []
    for load_part in (load_limits, load_clearance):
        try:
            parts.append(load_part(config, robot, path))
        except ConfigError as error:
            problems += error.problems
    problems += _unknown_joints(config, robot)
    if problems:
        where = f"{path or 'parameters'}: safety_monitor"
        raise ConfigError([f"{where}.{p}" for p in problems])
    # The rest of the section carries the settings' own names.
    names = {f.name for f in fields(GateSettings)} & {f.name for f in fields(MonitorConfig)}
    settings = {n: getattr(config, n) for n in names}
    if config.obstacles is not None:
        settings["obstacle_timeout"] = config.obstacles.timeout
        settings["obstacle_speed"] = config.obstacles.speed
    return Gate(*parts, GateSettings(dt=1.0 / config.rate, **settings), make_sources(config))


def make_sources(config: MonitorConfig) -> list[Source]:
    """The gate's side of the configured sources."""
    return [
        Source(
            name=name,
            priority=s.priority,
            timeout=s.timeout or config.command_timeout,
            max_age=s.max_age or config.max_command_age,
            require_stamp=s.require_stamp,
            start_tolerance=s.start_tolerance,
            missing_joints=s.missing_joints,
            ignore_joints=tuple(s.ignore_joints),
            whole=s.type == FOLLOW_JOINT_TRAJECTORY,
        )
        for name, s in config.named_sources().items()
    ]


def config_hash(config: MonitorConfig, robot: RobotModel) -> str:
    """sha256 over everything that says what the gate lets through: the section and the
    description of the arm."""
    text = json.dumps(asdict(config), sort_keys=True, default=str)
    return hashlib.sha256(f"{text}\n{robot.fingerprint}".encode()).hexdigest()


def _unknown_joints(config: MonitorConfig, robot: RobotModel) -> list[str]:
    """Joint names of sources and output that are not the arm's, or that are left out."""
    problems = []
    named = {f"sources.{n}": s.joints for n, s in config.sources.items()}
    named["output"] = config.output.joints
    for where, joints in named.items():
        problems += [
            f"{where}.joints: no joint {j!r}; the URDF has: {', '.join(robot.names)}"
            for j in joints
            if j not in robot.names
        ]
        if len(set(joints)) != len(joints):
            problems.append(f"{where}.joints: names a joint twice: {', '.join(joints)}")
    left_out = [n for n in robot.names if config.output.joints and n not in config.output.joints]
    if left_out:
        problems.append(f"output.joints: leaves out {', '.join(left_out)}; name every joint")
    return problems
