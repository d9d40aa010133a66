"""A running cell is looked at through real DDS: each thing that is wrong is named."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
import pytest
from cells import tabletop
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Int32
from trajectory_msgs.msg import JointTrajectory

from smolvla_ros.cell import CameraConfig
from smolvla_ros.cli.bystander import Bystander
from smolvla_ros.cli.processes import private_domain
from smolvla_ros.ros import messages, qos
from smolvla_ros.ros.live import Look

FRONT = "observation.images.front"
RATE = 30.0


@dataclass
class Parts:
    """What is published, and how; changed by a test before it looks."""

    names: list[str]
    positions: list[float]
    topic: str = "front/image_raw"
    compressed: bool = False
    encoding: str = "rgb8"
    rate: float = RATE
    camera_qos: QoSProfile = field(default_factory=lambda: qos.SENSOR_DATA)
    frozen: bool = False
    late: float = 0.0  # s that pictures are stamped too early
    unstamped: bool = False
    old: tuple[str, ...] = ()  # joints that come by themselves, stamped 2 s too early
    namespace: str = ""
    more: Callable[[Any], object] = lambda node: None


class Robot(Bystander):
    """A camera and an arm."""

    def __init__(self, parts: Parts, domain: int):
        super().__init__("driver", domain)
        self.parts, self.count = parts, 0
        kind = CompressedImage if parts.compressed else Image
        node, space = self.node, parts.namespace
        self.pictures = node.create_publisher(kind, f"{space}{parts.topic}", parts.camera_qos)
        self.joints = node.create_publisher(JointState, f"{space}joint_states", qos.STREAM_OUT)
        parts.more(node)
        node.create_timer(1 / parts.rate, self.picture)
        node.create_timer(1 / 100, self.joint_state)
        self.start()

    def stamp(self, late: float = 0.0):
        if self.parts.unstamped:
            return messages.time_msg(0.0)
        return messages.time_msg(self.node.get_clock().now().nanoseconds * 1e-9 - late)

    def picture(self) -> None:
        parts, stamp = self.parts, self.stamp(self.parts.late)
        self.count += not parts.frozen
        rgb = np.full((48, 64, 3), self.count % 250, np.uint8)
        if parts.compressed:
            data = cv2.imencode(".jpg", rgb)[1].tobytes()
            message = CompressedImage(format="jpeg", data=array("B", data))
            message.header.stamp = stamp
        else:
            message = messages.rgb_to_image(rgb, "camera", stamp)
            message.encoding = parts.encoding
        self.pictures.publish(message)

    def joint_state(self) -> None:
        pairs = list(zip(self.parts.names, self.parts.positions, strict=True))
        for old in (True, False) if self.parts.old else (False,):
            chosen = [(n, q) for n, q in pairs if (n in self.parts.old) == old]
            message = JointState(
                name=[n for n, _ in chosen], position=array("d", [q for _, q in chosen])
            )
            message.header.stamp = self.stamp(2.0 if old else 0.0)
            self.joints.publish(message)


@pytest.fixture
def domain(monkeypatch):
    monkeypatch.setitem(os.environ, "ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    number, lock = private_domain()
    with lock:
        yield number


def look(domain: int, parts: Parts, camera: dict[str, Any] | None = None, **changes: Any):
    """Findings that are not ok, as (level, line), and the texts of those that are."""
    cell, robot = tabletop()
    given = {"topic": "front/image_raw", "feature": FRONT, "max_age": 0.3, "frozen_after": 0.3}
    sizes = changes.pop("sizes", {})
    watch = changes.pop("watch", [])
    namespace = changes.pop("namespace", "")
    vla = replace(cell.vla, cameras={"front": CameraConfig(**(given | (camera or {})))}, **changes)
    monitor = replace(cell.safety_monitor, watch=watch)
    with (
        Robot(parts, domain),
        Bystander("safety_monitor", domain, parts.namespace.strip("/")) as gate,
        Bystander("check", domain) as bystander,
    ):
        gate.node.create_publisher(JointTrajectory, "arm/joint_trajectory", qos.STREAM_OUT)
        gate.start()
        bystander.start()
        found = Look(bystander.node, vla, monitor, robot.limits_by_name(), sizes, namespace).take(
            0.8
        )
    bad = [(f.level, str(f)) for f in found if f.level != "ok"]
    # That nobody listens to the gate is so in all of these.
    unheard = [b for b in bad if b[1].startswith("command: nobody subscribes")]
    return [b for b in bad if b not in unheard], [str(f) for f in found if f.level == "ok"], unheard


@pytest.fixture
def parts() -> Parts:
    _, robot = tabletop()
    return Parts(list(robot.names), [float(q) for q in robot.pose("ready")])


def test_a_cell_that_runs_well_is_told_its_rates_and_ages(domain, parts) -> None:
    bad, well, unheard = look(domain, parts)
    assert bad == []
    assert len(unheard) == 1 and unheard[0][0] == "warning"
    said = " | ".join(well)
    assert "cameras.front: rgb8 64x48, " in said and "joint_states: 6 joints, " in said
    assert "/policy/joint_trajectory: nobody" in said
    assert "instruction: none until somebody says one" in said


def test_a_cell_in_a_namespace_is_found_there(domain, parts) -> None:
    parts.namespace = "left/"
    bad, well, _ = look(domain, parts, namespace="/left")
    assert bad == []
    assert "command: /left/arm/joint_trajectory: /left/safety_monitor" in well


def test_compressed_pictures_are_read(domain, parts) -> None:
    parts.compressed = True
    bad, well, _ = look(domain, parts, {"transport": "compressed"})
    assert bad == []
    assert any(line.startswith("cameras.front: jpeg 64x48, ") for line in well)


def joints(**changes: float):
    def change(parts: Parts) -> None:
        parts.positions = [
            changes.get(n, q) for n, q in zip(parts.names, parts.positions, strict=True)
        ]

    return change


def publisher(kind: type, topic: str):
    return lambda parts: setattr(parts, "more", lambda n: n.create_publisher(kind, topic, 1))


def having(**changes: Any):
    return lambda parts: [setattr(parts, name, value) for name, value in changes.items()]


RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)


@pytest.mark.parametrize(
    ("change", "camera", "config", "says"),
    [
        (having(topic="top/image_raw"), {}, {},
         ["cameras.front: nobody publishes on /front/image_raw; start it, or name another: there "
          "is /top/image_raw"]),
        (having(compressed=True), {}, {},
         ["cameras.front: /driver publishes sensor_msgs/msg/CompressedImage on /front/image_raw; "
          "write transport: compressed"]),
        (having(), {"reliability": "reliable"}, {},
         ["cameras.front: what /driver offers on /front/image_raw does not reach the policy"]),
        (having(encoding="32FC1"), {}, {},
         ["cameras.front: encoding '32FC1' is no colour picture"]),
        (having(frozen=True), {}, {}, ["cameras.front: the same bytes for 0."]),
        (having(late=5.0), {}, {},
         ["cameras.front: 5.", "max_skew: front is 5."]),
        (having(late=-2.0), {}, {},
         ["cameras.front: stamped 1.9", "max_skew: joint_states is "]),
        (having(unstamped=True), {}, {},
         ["cameras.front: its messages carry no stamp",
          "joint_states: its messages carry no stamp"]),
        (having(), {"max_age": 0.001}, {}, ["cameras.front: 0.0"]),
        (having(), {}, {"sizes": {FRONT: (96, 96)}},
         ["cameras.front: sends 64x48; the checkpoint takes only 96x96; set the camera"]),
        (joints(shoulder_pan=40.0), {}, {},
         ["joint_states.shoulder_pan: is at 40 rad (m); its limits are -1.92 and 1.92; joint "
          "states are in radians"]),
        (joints(gripper=float("nan")), {}, {}, ["joint_states.gripper: is nan"]),
        (having(old=("wrist_roll",)), {}, {}, ["joint_states.wrist_roll: 2.0"]),
        (lambda parts: (parts.names.pop(), parts.positions.pop()), {}, {},
         ["joint_states: no gripper; there is: elbow_flex, shoulder_lift"]),
        (publisher(JointTrajectory, "arm/joint_trajectory"), {}, {},
         ["command: /driver publishes on /arm/joint_trajectory; nobody else may: end it"]),
        (publisher(JointTrajectory, "policy/joint_trajectory"), {}, {},
         ["command: /driver publishes on /policy/joint_trajectory; it would be taken"]),
        (publisher(JointTrajectory, "other"), {}, {"watch": ["other"]},
         ["command: /driver publishes on /other; it moves the arm"]),
        (publisher(Int32, "instruction"), {}, {},
         ["instruction: /driver publishes std_msgs/msg/Int32 on /instruction; it must be"]),
    ],
    ids=[
        "topic", "transport", "qos", "depth", "frozen", "late", "ahead", "unstamped", "old",
        "size", "degrees", "nan", "part_silent", "joint_missing", "bypass", "second_policy",
        "watch", "instruction_type",
    ],
)  # fmt: skip
def test_what_is_wrong_is_an_error_that_names_it(domain, parts, change, camera, config, says):
    change(parts)
    bad, _, _ = look(domain, parts, camera, **config)
    errors = [line for level, line in bad if level == "error"]
    assert len(errors) == len(says), errors
    for line, wanted in zip(errors, says, strict=True):
        assert line.startswith(wanted)


def test_a_slow_camera_is_told_its_rate(domain, parts) -> None:
    parts.rate = 5.0
    bad, _, _ = look(domain, parts, {"max_age": 0.199, "frozen_after": 9.0}, max_skew=1.0)
    # The newest picture may be too old at the moment of the look, which is the same fault.
    ((level, line),) = bad
    assert level == "error"
    assert line.startswith(("cameras.front: 5.0 Hz", "cameras.front: 0.", "cameras.front: 4.9 Hz"))


def test_two_cameras_on_one_topic_are_doubted(domain, parts) -> None:
    parts.more = lambda node: node.create_publisher(Image, "front/image_raw", qos.SENSOR_DATA)
    bad, _, _ = look(domain, parts)
    assert bad == [
        ("warning", "cameras.front: /front/image_raw has 2 publishers: /driver, /driver; one "
                    "camera, one topic")
    ]  # fmt: skip
