"""A bare relay: what rclpy and DDS take for a command to go through one more process.

python -m smolvla_ros.cli.benchmark.relay
"""

from __future__ import annotations

import sys

from rclpy.node import Node
from trajectory_msgs.msg import JointTrajectory

from smolvla_ros.ros import qos
from smolvla_ros.ros.run import run

IN, OUT = "relay/in", "relay/out"


class Relay(Node):
    """Sends on each JointTrajectory as it is."""

    def __init__(self) -> None:
        super().__init__("relay")
        out = self.create_publisher(JointTrajectory, OUT, qos.STREAM_OUT)
        self.create_subscription(JointTrajectory, IN, out.publish, qos.NEWEST_IN)


if __name__ == "__main__":
    sys.exit(run(Relay))
