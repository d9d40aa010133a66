"""Commands and joint states as they come from the wire: bytes to plain values, or refused.

Subscriptions are raw: what rclpy would unpack before anybody looks at it (a trajectory of
100,000 points takes it a second, in which nothing else runs) is measured first.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from smolvla_ros.ros.messages import seconds
from smolvla_ros.safety.command import MAX_NAMES, MAX_POINTS, Refused

MAX_BYTES = 65536  # of any message that is not a trajectory


@dataclass(frozen=True)
class Reading:
    """A command in plain values, not judged yet.

    Attributes:
        stamp: seconds of the sender's ROS clock, or None where there is none.
        names: joint names of the columns. times: ``[N]`` seconds from the stamp.
        positions: ``[N]`` rows of radians (metres), of any length.
    """

    stamp: float | None
    names: Sequence[str]
    times: Sequence[float]
    positions: Sequence[Sequence[float]]


def read_trajectory(data: bytes, joints: Sequence[str]) -> Reading:
    """A JointTrajectory.

    Raises:
        Refused: it cannot be read, or has more points than anybody needs.
    """
    points = _point_count(data)
    if points > MAX_POINTS:
        raise Refused("too_long", f"{points} points; at most {MAX_POINTS}")
    message = unpack(data, JointTrajectory, 2 * MAX_BYTES + MAX_POINTS * 32 * (len(joints) + 2))
    return Reading(
        seconds(message.header.stamp) or None,
        message.joint_names,
        [seconds(p.time_from_start) for p in message.points],
        [p.positions for p in message.points],
    )


def read_set_point(data: bytes, joints: Sequence[str]) -> Reading:
    """A JointState as one set-point, by name; only its positions count.

    Raises:
        Refused: it cannot be read.
    """
    message = unpack(data, JointState)
    return Reading(seconds(message.header.stamp) or None, message.name, [0.0], [message.position])


def read_array(data: bytes, joints: Sequence[str]) -> Reading:
    """A Float64MultiArray as one set-point in the order of ``joints``.

    Raises:
        Refused: it cannot be read, is no plain vector, or has not one value for each joint.
    """
    message = unpack(data, Float64MultiArray)
    layout = message.layout
    if len(layout.dim) > 1 or layout.data_offset:
        raise Refused("wrong_length", f"an array of {len(layout.dim)} dimensions is no vector")
    if len(message.data) != len(joints):
        raise Refused("wrong_length", f"{len(message.data)} values, {len(joints)} joints")
    return Reading(None, joints, [0.0], [message.data])


READERS: dict[str, tuple[type, Callable[[bytes, Sequence[str]], Reading]]] = {
    "JointTrajectory": (JointTrajectory, read_trajectory),
    "JointState": (JointState, read_set_point),
    "Float64MultiArray": (Float64MultiArray, read_array),
}
"""Message type of a source → its class, and the reader of its bytes."""


def read_joint_state(data: bytes) -> tuple[Sequence[str], Sequence[float]]:
    """Names and positions of a measured JointState; velocities and efforts are not used.

    Raises:
        Refused: it cannot be read.
    """
    message = unpack(data, JointState)
    return message.name, message.position


def unpack(data: bytes, kind: type, most: int = MAX_BYTES) -> Any:
    """A message from its bytes.

    Raises:
        Refused: longer than ``most`` bytes, or no such message.
    """
    if len(data) > most:
        raise Refused("too_long", f"{len(data)} bytes; at most {most}")
    try:
        return deserialize_message(data, kind)
    except Exception as error:  # whatever rclpy makes of bytes that are no such message
        raise Refused("malformed", f"no {kind.__name__}: {error}") from error


def publisher_id(info: dict[str, Any]) -> str:
    """Who sent a message, as text; empty where the middleware does not say."""
    return bytes((info.get("publisher_gid") or {}).get("data", b"")).hex()


def _point_count(data: bytes) -> int:
    """How many points a serialised JointTrajectory says it has. CDR: four bytes of
    encapsulation, then stamp, frame, names and points; every count on four bytes."""
    try:
        order = "<" if data[1] & 1 else ">"

        def word(at: int) -> tuple[int, int]:
            at += -at % 4
            return struct.unpack_from(f"{order}I", data, 4 + at)[0], at + 4

        def skip_text(at: int) -> int:
            length, at = word(at)
            return at + length

        names, at = word(skip_text(8))
        if names > MAX_NAMES:
            raise Refused("too_long", f"{names} joint names; at most {MAX_NAMES}")
        for _ in range(names):
            at = skip_text(at)
        return word(at)[0]
    except (struct.error, IndexError) as error:
        raise Refused("malformed", f"no JointTrajectory: {error}") from error
