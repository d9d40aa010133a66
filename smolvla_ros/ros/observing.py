"""What a policy sees, from ROS: subscriptions that only fill mailboxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from rclpy.node import Node
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String

from smolvla_ros.cell import VlaConfig
from smolvla_ros.ros import messages, qos

_TYPES = {"raw": Image, "compressed": CompressedImage}


class Mailboxes(Protocol):
    """Where messages are kept; times are header stamps in seconds."""

    instruction: str

    def put(self, name: str, stamp: float, message: Any) -> None:
        """A camera's message."""

    def put_joints(self, stamp: float, names: Sequence[str], positions: Sequence[float]) -> None:
        """A joint state, rad (m)."""

    def set_instruction(self, text: str) -> None:
        """What to do."""


class Observing:
    """Subscribes the streams of a policy.

    Callbacks run on the executor's thread.

    Args:
        node: the policy's. config: which cameras, on which topics. streams: filled.
        instructed: called with each instruction, after it counts.
    """

    def __init__(
        self,
        node: Node,
        config: VlaConfig,
        streams: Mailboxes,
        instructed: Callable[[str], None],
    ):
        self._node, self._config, self._streams = node, config, streams
        self._instructed = instructed
        # Told what to do also while it does not look.
        self._told = node.create_subscription(
            String, "instruction", self._on_instruction, qos.EVENT
        )
        self._seeing: list[Subscription] = []

    def look(self) -> None:
        """Listen to cameras and joint states from here on."""
        if self._seeing:
            return
        subscribe = self._node.create_subscription
        self._seeing = [
            # Not the newest alone: parts of the arm may be published by several nodes.
            subscribe(JointState, "joint_states", self._on_joints, qos.SENSOR_DATA)
        ] + [
            subscribe(
                _TYPES[camera.transport],
                camera.topic,
                partial(self._on_picture, name),
                qos.pictures(camera.reliability),
            )
            for name, camera in self._config.cameras.items()
        ]

    def look_away(self) -> None:
        """Listen to them no more: nobody needs them meanwhile, and they cost the most."""
        for subscription in self._seeing:
            self._node.destroy_subscription(subscription)
        self._seeing = []

    def close(self) -> None:
        """Listen to nothing more."""
        self.look_away()
        self._node.destroy_subscription(self._told)

    def _on_picture(self, camera: str, message: Image | CompressedImage) -> None:
        self._streams.put(camera, messages.seconds(message.header.stamp), message)

    def _on_joints(self, message: JointState) -> None:
        stamp = messages.seconds(message.header.stamp)
        self._streams.put_joints(stamp, message.name, message.position)

    def _on_instruction(self, message: String) -> None:
        self._streams.set_instruction(message.data)
        self._instructed(self._streams.instruction)
