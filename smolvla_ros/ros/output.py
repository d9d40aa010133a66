"""Set-points as they leave: the message an arm's controller takes."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.node import Node
from rclpy.publisher import Publisher
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from smolvla_ros.ros import messages, qos


class Output:
    """Publishes set-points, one message each.

    Args:
        node: the monitor. kind: ``JointTrajectory`` of one point, or ``Float64MultiArray``
            of positions. topic: where. joints: the gate's ``D`` joints.
        order: joints in the order of the array. ahead: s after its stamp at which a point is due.
        unheard: called with a text when a subscription asks for what is not offered.
    """

    def __init__(
        self,
        node: Node,
        kind: str,
        topic: str,
        joints: Sequence[str],
        order: Sequence[str],
        ahead: float,
        unheard: Callable[[str], None],
    ):
        kinds: dict[str, tuple[type, Callable[..., Any]]] = {
            "JointTrajectory": (JointTrajectory, self._trajectory),
            "Float64MultiArray": (Float64MultiArray, self._array),
        }
        message, self._make = kinds[kind]
        self._joints = list(joints)
        self._columns = [self._joints.index(name) for name in order or joints]
        self._ahead = ahead
        self.publisher: Publisher = node.create_publisher(
            message,
            topic,
            qos.STREAM_OUT,
            event_callbacks=PublisherEventCallbacks(
                incompatible_qos=lambda event: unheard(
                    f"{topic}: a subscription asks for a QoS that is not offered "
                    f"({event.total_count} so far)"
                )
            ),
        )

    def publish(self, positions: np.ndarray, velocities: np.ndarray, stamp: Time) -> None:
        """Send one set-point: ``[D]`` rad and rad/s, to be reached ``ahead`` after the stamp."""
        self.publisher.publish(self._make(positions, velocities, stamp))

    def _trajectory(self, positions, velocities, stamp) -> JointTrajectory:
        return messages.setpoint_to_trajectory(
            self._joints, positions, velocities, self._ahead, stamp
        )

    def _array(self, positions, velocities, stamp) -> Float64MultiArray:
        return Float64MultiArray(data=array("d", positions[self._columns]))
