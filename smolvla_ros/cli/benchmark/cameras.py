"""Cameras without a scene: pictures that change, at a rate, on the topics of a cell.

    python -m smolvla_ros.cli.benchmark.cameras --cell FILE [--arm]

Each camera of the cell's vla section, raw or compressed as it says there; with --arm the
joint states of an arm at rest, too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image, JointState

from smolvla_ros.cell import VlaConfig, load_cell, load_robot
from smolvla_ros.ros import messages, qos
from smolvla_ros.ros.run import run

_DIFFERENT = 8
_ARM_RATE = 100.0  # Hz


class Cameras(Node):
    """Publishes; hears nothing."""

    def __init__(self, path: Path, width: int, height: int, rate: float, arm: bool):
        super().__init__("cameras")
        config = load_cell(path).vla
        for name, camera in config.cameras.items():
            compressed = camera.transport == "compressed"
            kind = CompressedImage if compressed else Image
            publisher = self.create_publisher(kind, camera.topic, qos.STREAM_OUT)
            pictures = cycle(list(_messages(name, width, height, compressed)))
            self.create_timer(1.0 / rate, lambda p=publisher, m=pictures: self._stamped(p, next(m)))
        if arm:
            self._publish_arm(path, config)

    def _publish_arm(self, path: Path, config: VlaConfig) -> None:
        robot = load_robot(config.robot, path)
        still = np.zeros(robot.dof)
        state = messages.joint_state(robot.names, robot.pose("ready"), still, still)
        publisher = self.create_publisher(JointState, "joint_states", qos.STREAM_OUT)
        self.create_timer(1.0 / _ARM_RATE, lambda: self._stamped(publisher, state))

    def _stamped(self, publisher, message) -> None:
        message.header.stamp = self.get_clock().now().to_msg()
        publisher.publish(message)


def _messages(
    name: str, width: int, height: int, compressed: bool
) -> Iterator[Image | CompressedImage]:
    """A bright square that wanders over a shaded ground."""
    ground = np.linspace(0, 160, width, dtype=np.uint8)
    for k in range(_DIFFERENT):
        picture = np.tile(ground[None, :, None], (height, 1, 3))
        x = k * width // _DIFFERENT
        picture[height // 3 : height // 2, x : x + width // _DIFFERENT] = (230, 60, 40)
        if compressed:
            _, data = cv2.imencode(".jpg", picture[:, :, ::-1])
            message = CompressedImage(format="rgb8; jpeg compressed bgr8", data=data.tobytes())
        else:
            message = Image(
                height=height, width=width, encoding="rgb8", step=3 * width, data=picture.tobytes()
            )
        message.header.frame_id = f"{name}_optical_frame"
        yield message


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cell", type=Path, required=True)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--rate", type=float, default=30.0, help="Hz")
    parser.add_argument("--arm", action="store_true")
    given = parser.parse_args()
    return run(lambda: Cameras(given.cell, given.width, given.height, given.rate, given.arm), [])


if __name__ == "__main__":
    sys.exit(main())
