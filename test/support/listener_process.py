"""Somebody who listens to a cell from another machine, as a recorder and RViz would, and prints
what the policy's node says of itself."""

import sys

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import MarkerArray

from smolvla_ros.ros import qos


def main() -> None:
    rclpy.init()
    node = rclpy.create_node("listener")
    for kind, topic in (
        (JointTrajectory, "arm/joint_trajectory"),
        (JointState, "joint_states"),
        (MarkerArray, "safety_monitor/markers"),
    ):
        node.create_subscription(kind, topic, lambda _: None, qos.STREAM_OUT)

    def on_status(message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "vla":
                print(status.message, flush=True)

    node.create_subscription(DiagnosticArray, "diagnostics", on_status, qos.EVENT)
    rclpy.spin(node)


if __name__ == "__main__":
    sys.exit(main())
