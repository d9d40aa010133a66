"""Bags of the shipped cell's topics, written by the library that others use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_JAZZY)
TYPES = STORE.types
NAMES = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]
BEGIN = 1_700_000_000.0
SIZE = (6, 8)  # pixels, height and width

Row = tuple[float, str, Any]


def stamp(t: float, kind: str = "Time") -> Any:
    nanoseconds = round(t * 1e9)
    return TYPES[f"builtin_interfaces/msg/{kind}"](
        sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9
    )


def header(t: float) -> Any:
    return TYPES["std_msgs/msg/Header"](stamp=stamp(t), frame_id="")


def pixels(k: int) -> np.ndarray:
    """``[H, W, 3]`` RGB of the k-th picture; no two alike."""
    return np.random.default_rng(k).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def picture(t: float, k: int, encoding: str = "rgb8", padding: int = 0) -> Any:
    rgb = pixels(k)[:, :, :: -1 if encoding == "bgr8" else 1].reshape(SIZE[0], -1)
    data = np.pad(rgb, ((0, 0), (0, padding)))
    return TYPES["sensor_msgs/msg/Image"](
        header=header(t), height=SIZE[0], width=SIZE[1], encoding=encoding, is_bigendian=0,
        step=data.shape[1], data=data.ravel(),
    )  # fmt: skip


def compressed(t: float, file: bytes, kind: str = "png") -> Any:
    return TYPES["sensor_msgs/msg/CompressedImage"](
        header=header(t), format=kind, data=np.frombuffer(file, np.uint8)
    )


def joint_state(t: float, q: np.ndarray) -> Any:
    nothing = np.zeros(0)
    return TYPES["sensor_msgs/msg/JointState"](
        header=header(t), name=NAMES[::-1], position=np.array(q, float)[::-1].copy(),
        velocity=nothing, effort=nothing,
    )  # fmt: skip


def setpoint(t: float, q: np.ndarray) -> Any:
    nothing = np.zeros(0)
    point = TYPES["trajectory_msgs/msg/JointTrajectoryPoint"](
        positions=np.array(q, float), velocities=nothing, accelerations=nothing, effort=nothing,
        time_from_start=stamp(0.01, "Duration"),
    )  # fmt: skip
    return TYPES["trajectory_msgs/msg/JointTrajectory"](
        header=header(t), joint_names=list(NAMES), points=[point]
    )


def say(text: str) -> Any:
    return TYPES["std_msgs/msg/String"](data=text)


def measured(k: int) -> np.ndarray:
    """``[6]`` rad of the k-th joint state."""
    return np.array([0.001 * k, -0.5, 0.1, 1.5, 0.0, 0.5])


def sent(k: int) -> np.ndarray:
    """``[6]`` rad of the k-th set-point."""
    return measured(k) + 0.01


def run(seconds: float, begin: float = BEGIN) -> list[Row]:
    """A cell at 20 Hz: the k-th of everything is stamped ``begin + k / 20`` and received 25 ms
    later, between two frames of any whole rate up to 20 Hz."""
    found: list[Row] = []
    for k in range(round(seconds * 20)):
        t = begin + k / 20
        found += [
            (t + 0.025, "/front/image_raw", picture(t, 2 * k)),
            (t + 0.025, "/wrist/image_raw", picture(t, 2 * k + 1, "bgr8", padding=5)),
            (t + 0.025, "/joint_states", joint_state(t, measured(k))),
            (t + 0.025, "/arm/joint_trajectory", setpoint(t, sent(k))),
        ]
    return found


def told(*at: tuple[float, str], begin: float = BEGIN) -> list[Row]:
    """Instructions: (s from the beginning, text)."""
    return [(begin + t, "/instruction", say(text)) for t, text in at]


def write(
    path: Path,
    rows: Iterable[Row],
    plugin: StoragePlugin = StoragePlugin.SQLITE3,
    prefix: str = "",
) -> Path:
    """A bag of ``(s received, topic, message)``."""
    with Writer(path, version=9, storage_plugin=plugin) as bag:
        connections: dict[str, Any] = {}
        for t, topic, message in sorted(rows, key=lambda row: row[0]):
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = bag.add_connection(prefix + topic, kind, typestore=STORE)
            raw = STORE.serialize_cdr(message, kind)
            bag.write(connections[topic], round(t * 1e9), raw)
    return path


def without(
    rows: Iterable[Row], topic: str, first: float = 0.0, last: float = 1e9
) -> Iterator[Row]:
    """What is left where a topic is silent for some time, s from the beginning."""
    for row in rows:
        if row[1] != topic or not first <= row[0] - BEGIN < last:
            yield row
