"""A robot's description from a topic, as robot_state_publisher and MoveIt give it."""

from __future__ import annotations

import threading

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import String

_LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)


def wait_for_description(node: Node, topic: str, seconds: float) -> str | None:
    """The text on a latched std_msgs/String topic; None where none comes within ``seconds``.

    Args:
        node: spun by somebody else meanwhile.
    """
    come = threading.Event()
    texts: list[str] = []

    def take(message: String) -> None:
        texts.append(message.data)
        come.set()

    subscription = node.create_subscription(String, topic, take, _LATCHED)
    come.wait(seconds)
    node.destroy_subscription(subscription)
    return texts[0] if texts else None
