"""Bytes of commands and joint states: read, or refused before anything is spent on them."""

from __future__ import annotations

import time
from array import array

import numpy as np
import pytest
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, MultiArrayDimension, MultiArrayLayout, String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from smolvla_ros.ros import intake, messages
from smolvla_ros.safety.command import Refused

JOINTS = ("shoulder", "elbow", "wrist_roll")


def trajectory(points: int, names=JOINTS, frame: str = "", stamp: float = 12.5) -> JointTrajectory:
    message = JointTrajectory(joint_names=list(names))
    message.header.frame_id = frame
    message.header.stamp = messages.time_msg(stamp)
    message.points = [
        JointTrajectoryPoint(
            positions=array("d", [0.1 * k] * len(names)),
            velocities=array("d", [9.0] * len(names)),
            time_from_start=messages.duration_msg(0.02 * k),
        )
        for k in range(points)
    ]
    return message


def refused(read, data) -> Refused:
    with pytest.raises(Refused) as caught:
        read(data, JOINTS)
    return caught.value


# Every length of what stands before the points: the counts lie on four bytes.
@pytest.mark.parametrize("frame", ["", "b", "ba", "bas", "base"])
@pytest.mark.parametrize("names", [JOINTS, (), ("j",), ("jo", "joint_7"), ("é",)])
def test_a_trajectory_is_read_as_it_was_sent(frame, names) -> None:
    reading = intake.read_trajectory(serialize_message(trajectory(3, names, frame)), JOINTS)
    assert reading.stamp == pytest.approx(12.5)
    assert list(reading.names) == list(names)
    assert reading.times == pytest.approx([0.0, 0.02, 0.04])
    np.testing.assert_allclose(reading.positions, np.outer([0.0, 0.1, 0.2], np.ones(len(names))))


def test_no_stamp_is_no_time() -> None:
    data = serialize_message(trajectory(1, stamp=0.0))
    assert intake.read_trajectory(data, JOINTS).stamp is None


# F16
@pytest.mark.parametrize("points", [1001, 1_000_000])
def test_points_without_end_are_refused_before_they_are_looked_at(points) -> None:
    # 20 zeros and more are an empty point: four fields without a value, and its time.
    none = serialize_message(JointTrajectory(joint_names=["a"]))
    head = none.rstrip(b"\0")
    head += bytes(-len(head) % 4)
    huge = head + points.to_bytes(4, "little") + bytes(24 * points)
    began = time.perf_counter()
    refusal = refused(intake.read_trajectory, huge)
    assert time.perf_counter() - began < 0.005
    assert refusal.check == "too_long" and f"{points} points" in str(refusal)
    few = head + (1000).to_bytes(4, "little") + bytes(24 * 1000)
    assert len(intake.read_trajectory(few, JOINTS).positions) == 1000


def test_1000_points_of_many_joints_with_every_field_are_no_huge_message() -> None:
    names = [f"a_joint_with_a_rather_long_name_{k}" for k in range(14)]
    message = trajectory(1000, names)
    for point in message.points:
        point.accelerations = point.effort = point.velocities
    reading = intake.read_trajectory(serialize_message(message), names)
    assert len(reading.positions) == 1000


def test_points_that_carry_too_much_are_refused() -> None:
    message = trajectory(1)
    message.points[0].effort = array("d", bytes(8_000_000))
    assert refused(intake.read_trajectory, serialize_message(message)).check == "too_long"
    assert (
        refused(
            intake.read_trajectory, serialize_message(trajectory(0, [str(k) for k in range(5000)]))
        ).check
        == "too_long"
    )


@pytest.mark.parametrize("kind", intake.READERS)
def test_bytes_that_are_no_such_message_are_refused(kind) -> None:
    read = intake.READERS[kind][1]
    whole = {
        "JointTrajectory": trajectory(3),
        "JointState": JointState(name=list(JOINTS), position=[0.1, 0.2, 0.3]),
        "Float64MultiArray": Float64MultiArray(data=[0.1, 0.2, 0.3]),
    }[kind]
    data = serialize_message(whole)
    read(data, JOINTS)
    for cut in range(len(data) // 2):
        assert refused(read, data[:cut]).check == "malformed"
    generator = np.random.default_rng(0)
    noise = [generator.integers(0, 256, n, np.uint8).tobytes() for n in range(300)]
    for broken in [
        *(b"\x00\x01\x00\x00" + n for n in noise),
        *(data[:n] for n in range(len(data))),
    ]:
        try:  # Fast CDR fills some of what is missing with zeros: the gate judges those
            read(broken, JOINTS)
        except Refused as refusal:
            assert refusal.check in ("malformed", "too_long", "wrong_length")


def test_a_joint_state_as_a_set_point_is_one_row_by_name() -> None:
    message = JointState(name=["elbow", "shoulder"], position=[0.2, 0.1], velocity=[np.nan, 1.0])
    message.header.stamp = messages.time_msg(3.0)
    reading = intake.read_set_point(serialize_message(message), JOINTS)
    assert (reading.stamp, reading.times) == (3.0, [0.0])
    assert list(reading.names) == ["elbow", "shoulder"]
    assert [list(row) for row in reading.positions] == [[0.2, 0.1]]


# F08
def test_an_array_is_one_row_in_the_declared_order() -> None:
    message = Float64MultiArray(data=[0.1, 0.2, 0.3])
    reading = intake.read_array(serialize_message(message), JOINTS)
    assert (reading.stamp, reading.times, reading.names) == (None, [0.0], JOINTS)
    assert list(reading.positions[0]) == [0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("layout", "values"),
    [
        (MultiArrayLayout(), [0.1, 0.2]),
        (MultiArrayLayout(), [0.1, 0.2, 0.3, 0.4]),
        (MultiArrayLayout(), []),
        (MultiArrayLayout(data_offset=1), [0.1, 0.2, 0.3]),
        (MultiArrayLayout(dim=[MultiArrayDimension(size=3), MultiArrayDimension(size=1)]),
         [0.1, 0.2, 0.3]),
    ],
    ids=["fewer", "more", "none", "offset", "matrix"],
)  # fmt: skip
def test_an_array_that_is_not_one_value_a_joint_is_refused(layout, values) -> None:
    data = serialize_message(Float64MultiArray(layout=layout, data=values))
    assert refused(intake.read_array, data).check == "wrong_length"


# F44
def test_measured_joints_come_with_whatever_velocity() -> None:
    message = JointState(name=["a", "b"], position=[1.0, 2.0], velocity=[np.nan])
    names, positions = intake.read_joint_state(serialize_message(message))
    assert (list(names), list(positions)) == (["a", "b"], [1.0, 2.0])


def test_a_long_text_is_no_joint_state() -> None:
    data = serialize_message(String(data="x" * 100_000))
    with pytest.raises(Refused, match="100") as caught:
        intake.read_joint_state(data)
    assert caught.value.check == "too_long"


def test_a_publisher_has_a_name_where_the_middleware_gives_one() -> None:
    assert intake.publisher_id({"publisher_gid": {"data": b"\x01\x0f"}}) == "010f"
    assert intake.publisher_id({"source_timestamp": 1}) == ""
