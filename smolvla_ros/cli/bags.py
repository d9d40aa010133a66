"""Inputs of a gate out of a rosbag2 folder, an .mcap or a .db3 file. No ROS needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from smolvla_ros.cell import MonitorConfig, SourceConfig
from smolvla_ros.safety.offline import Line
from smolvla_ros.schema import ConfigError

_TYPES = {
    "JointTrajectory": "trajectory_msgs/msg/JointTrajectory",
    "JointState": "sensor_msgs/msg/JointState",
    "Float64MultiArray": "std_msgs/msg/Float64MultiArray",
    "Bool": "std_msgs/msg/Bool",
}


def read_bag(path: Path, config: MonitorConfig) -> list[Line]:
    """The commands, joint states and stops that the safety monitor of ``config`` would hear.

    Times are those at which the bag received a message; a header's stamp must be of the same
    clock. Services are in no bag: nothing in it enables or resets.

    Args:
        path: rosbag2 folder (sqlite3 or MCAP), or one storage file.

    Raises:
        ConfigError: no bag, a library that is not installed, a topic that stands for two, or
            none of the topics.
    """
    try:
        from rosbags.highlevel import AnyReader, AnyReaderError
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise ConfigError(
            f"{path}: to read bags install rosbags: pip install 'smolvla_ros[bags]' ({error})"
        ) from error
    try:
        # Bags of sqlite3 from before Iron carry no message definitions.
        with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as bag:
            read = _readers(bag.connections, config, path)
            connections = [c for c in bag.connections if c.topic in read]
            # Sorted here, and stably: of files that were closed in mid-recording not each
            # storage keeps the order.
            found = sorted(bag.messages(connections), key=lambda m: m[1])
            return [
                Line(at * 1e-9, read[c.topic](bag.deserialize(raw, c.msgtype)))
                for c, at, raw in found
            ]
    except (AnyReaderError, OSError) as error:
        raise ConfigError(f"{path}: is no bag that can be read ({error})") from error


def _readers(connections: list[Any], config: MonitorConfig, path: Path) -> dict[str, Any]:
    """Topic in the bag → function from its message to a line's body."""
    heartbeat = config.stop_heartbeat is not None
    wanted: list[tuple[str, str, Any]] = [
        ("joint_states", "JointState", _joint_state),
        ("stop", "Bool", lambda m: {"heartbeat": True} if heartbeat and not m.data else _STOP),
    ]
    for name, source in config.named_sources().items():
        wanted.append((source.topic, source.type, _command(name, source)))
    topics: dict[str, Any] = {}
    problems = []
    for topic, kind, read in wanted:
        there = sorted({c.topic for c in connections if c.msgtype == _TYPES[kind]})
        own = f"/{topic.lstrip('/')}"
        # The monitor's names are relative: a bag has them under its namespace.
        found = [t for t in there if t == own] or [t for t in there if t.endswith(own)]
        if len(found) > 1:
            problems.append(
                f"{path}: {topic!r} may be {' or '.join(found)}; write the one that is meant as "
                "the topic in the cell, or bag one arm's topics alone"
            )
        topics |= dict.fromkeys(found, read)
    if not topics and not problems:
        needed = ", ".join(f"{t} ({k})" for t, k, _ in wanted)
        there = ", ".join(sorted({f"{c.topic} ({c.msgtype})" for c in connections})) or "nothing"
        problems.append(f"{path}: none of {needed} in it; it holds {there}")
    if problems:
        raise ConfigError(problems)
    return topics


_STOP = {"stop": True}


def _joint_state(message: Any) -> dict[str, Any]:
    return {"joint_state": {"names": list(message.name), "positions": message.position.tolist()}}


def _command(name: str, source: SourceConfig) -> Any:
    def trajectory(message: Any) -> dict[str, Any]:
        points = [
            {"t": _seconds(p.time_from_start), "positions": p.positions.tolist()}
            for p in message.points
        ]
        return _body(message.joint_names, points, _seconds(message.header.stamp))

    def joint_state(message: Any) -> dict[str, Any]:
        point = {"t": 0.0, "positions": message.position.tolist()}
        return _body(message.name, [point], _seconds(message.header.stamp))

    def array(message: Any) -> dict[str, Any]:
        return _body(source.joints, [{"t": 0.0, "positions": message.data.tolist()}], 0.0)

    def _body(names: Any, points: list[Any], stamp: float) -> dict[str, Any]:
        return {"command": {"source": name, "stamp": stamp, "names": list(names), "points": points}}

    return {"JointTrajectory": trajectory, "JointState": joint_state, "Float64MultiArray": array}[
        source.type
    ]


def _seconds(stamp: Any) -> float:
    return stamp.sec + stamp.nanosec * 1e-9
