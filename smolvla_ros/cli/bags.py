"""A rosbag2 folder, an .mcap or a .db3 file, and a gate's inputs out of it. No ROS needed."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from smolvla_ros.cell import FOLLOW_JOINT_TRAJECTORY, MonitorConfig, SourceConfig
from smolvla_ros.safety.offline import Line
from smolvla_ros.schema import ConfigError

TYPES = {
    "JointTrajectory": "trajectory_msgs/msg/JointTrajectory",
    "JointState": "sensor_msgs/msg/JointState",
    "Float64MultiArray": "std_msgs/msg/Float64MultiArray",
    "Bool": "std_msgs/msg/Bool",
    "String": "std_msgs/msg/String",
    "Image": "sensor_msgs/msg/Image",
    "CompressedImage": "sensor_msgs/msg/CompressedImage",
}

_OUT_OF_ORDER = 3 * 10**9  # ns by which a message may stand too late in its file


class Bag:
    """A rosbag2 folder (sqlite3 or MCAP), or one storage file. A context manager.

    Raises:
        ConfigError: no bag, or a library that is not installed.
    """

    def __init__(self, path: Path):
        try:
            from rosbags.highlevel import AnyReader, AnyReaderError
            from rosbags.typesys import Stores, get_typestore
        except ImportError as error:
            raise ConfigError(
                f"{path}: to read bags install rosbags: pip install 'smolvla_ros[bags]' ({error})"
            ) from error
        self.path = path
        self._errors = (AnyReaderError, OSError)
        with self._named():
            # Bags of sqlite3 from before Iron carry no message definitions.
            store = get_typestore(Stores.ROS2_JAZZY)
            self._reader = AnyReader([path], default_typestore=store)

    def __enter__(self) -> Bag:
        with self._named():
            self._reader.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def topics(self, name: str, kind: str) -> list[str]:
        """Those of one of ``TYPES`` that a cell may mean by ``name``. Its names are relative:
        a bag has them under its namespace."""
        there = sorted({c.topic for c in self._reader.connections if c.msgtype == TYPES[kind]})
        own = f"/{name.lstrip('/')}"
        return [t for t in there if t == own] or [t for t in there if t.endswith(own)]

    def holds(self, kind: str | None = None) -> str:
        """What is in it, or what of one of ``TYPES``, for people."""
        wanted = TYPES[kind] if kind else None
        found = {(c.topic, c.msgtype) for c in self._reader.connections}
        return ", ".join(f"{t} ({k})" for t, k in sorted(found) if wanted in (None, k)) or "nothing"

    def count(self, topics: Collection[str]) -> int:
        """How many messages there are on these."""
        return sum(c.msgcount for c in self._reader.connections if c.topic in topics)

    def messages(self, topics: Collection[str]) -> Iterator[tuple[float, str, Any]]:
        """(s when the bag received it, topic, message), in order of that time.

        Raises:
            ConfigError: the bag breaks off, or has what cannot be found in its files.
        """
        connections = [c for c in self._reader.connections if c.topic in topics]
        # Sorted here, and stably: of files that were closed in mid-recording not each storage
        # keeps the order. Pictures of minutes would not fit into memory.
        held: list[tuple[int, int, Any, bytes]] = []
        number = -1
        with self._named():
            for number, (c, at, raw) in enumerate(self._reader.messages(connections)):
                heapq.heappush(held, (at, number, c, raw))
                while at - held[0][0] > _OUT_OF_ORDER:
                    yield self._read(heapq.heappop(held))
            while held:
                yield self._read(heapq.heappop(held))
        # rosbags looks in the files for topics as metadata.yaml describes them, QoS and all;
        # `ros2 bag reindex` describes them otherwise than the recorder did.
        if number < 0 and self.count(topics):
            files = sorted(str(f) for f in self.path.glob("*") if f.suffix in (".db3", ".mcap"))
            raise ConfigError(
                f"{self.path}: its metadata.yaml is at odds with its files (reindexed?); "
                f"give them instead: {', '.join(files)}"
            )

    def _read(self, entry: tuple[int, int, Any, bytes]) -> tuple[float, str, Any]:
        at, _, connection, raw = entry
        message = self._reader.deserialize(raw, connection.msgtype)
        return at * 1e-9, connection.topic, message

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            raise ConfigError(f"{self.path}: is no bag that can be read ({error})") from error


def one_of(bag: Bag, name: str, kind: str) -> tuple[list[str], list[str]]:
    """The topic that a cell means by ``name``, if it is there, and what is wrong."""
    found = bag.topics(name, kind)
    if len(found) < 2:
        return found, []
    return [], [
        f"{bag.path}: {name!r} may be {' or '.join(found)}; write the one that is meant as the "
        "topic in the cell, or bag one arm's topics alone"
    ]


def read_bag(path: Path, config: MonitorConfig, sent: bool = False) -> list[Line]:
    """The commands, joint states and stops that the safety monitor of ``config`` would hear;
    with ``sent`` also what one has sent.

    Times are those at which the bag received a message; a header's stamp must be of the same
    clock. Services are in no bag: nothing in it enables or resets.

    Args:
        path: rosbag2 folder (sqlite3 or MCAP), or one storage file.

    Raises:
        ConfigError: no bag, a library that is not installed, a topic that stands for two, or
            none of the topics.
    """
    with Bag(path) as bag:
        read = _readers(bag, config, sent)
        lines = [Line(at, read[topic](message)) for at, topic, message in bag.messages(read)]
    if not lines:
        raise ConfigError(f"{path}: holds no message on {', '.join(sorted(read))}")
    return lines


def _readers(bag: Bag, config: MonitorConfig, sent: bool) -> dict[str, Any]:
    """Topic in the bag → function from its message to a line's body."""
    heartbeat = config.stop_heartbeat is not None
    wanted: list[tuple[str, str, Any]] = [
        ("joint_states", "JointState", _joint_state),
        ("stop", "Bool", lambda m: {"heartbeat": True} if heartbeat and not m.data else _STOP),
    ]
    for name, source in config.named_sources().items():
        if source.type == FOLLOW_JOINT_TRAJECTORY:
            continue  # goals of an action are requests of a service: no bag holds them
        wanted.append((source.topic, source.type, _command(name, source)))
    if sent:
        kind = config.output.type
        wanted.append((config.output_topic, kind, _SENT[kind]))
    topics: dict[str, Any] = {}
    problems: list[str] = []
    for topic, kind, read in wanted:
        found, wrong = one_of(bag, topic, kind)
        problems += wrong
        topics |= dict.fromkeys(found, read)
    if not topics and not problems:
        needed = ", ".join(f"{t} ({k})" for t, k, _ in wanted)
        problems.append(f"{bag.path}: none of {needed} in it; it holds {bag.holds()}")
    if problems:
        raise ConfigError(problems)
    return topics


_STOP = {"stop": True}


def _joint_state(message: Any) -> dict[str, Any]:
    return {"joint_state": {"names": list(message.name), "positions": message.position.tolist()}}


def _sent_point(message: Any) -> dict[str, Any]:
    first = message.points[0].positions.tolist() if message.points else []
    return {"output": {"names": list(message.joint_names), "positions": first}}


def _sent_array(message: Any) -> dict[str, Any]:
    return {"output": {"positions": message.data.tolist()}}


_SENT = {"JointTrajectory": _sent_point, "Float64MultiArray": _sent_array}


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
