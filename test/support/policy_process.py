"""A policy in a process of its own that always wants to turn on, without a model to load."""

import time

import numpy as np
import rclpy
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from smolvla_ros.chunk import ActionChunk
from smolvla_ros.ros import messages, qos
from smolvla_ros.ros.middleware import leave_shared_memory

PERIOD, SPEED, ROWS = 1 / 30, 0.1, 90  # s, rad/s: a chunk outlasts the cell's command_timeout


def main() -> None:
    # Made to be killed: as the monitor, it must not leave a lock in shared memory.
    leave_shared_memory()
    rclpy.init()
    node = rclpy.create_node("policy")
    publisher = node.create_publisher(JointTrajectory, "policy/joint_trajectory", qos.STREAM_OUT)
    newest: list[JointState] = []
    node.create_subscription(
        JointState, "joint_states", lambda m: newest.__setitem__(slice(None), [m]), qos.NEWEST_IN
    )
    way = SPEED * PERIOD * np.arange(ROWS)
    due = 0.0
    while rclpy.ok():
        rclpy.spin_once(node, timeout_sec=0.05)
        if newest and time.monotonic() > due:
            state = newest[0]
            rows = np.tile(state.position, (ROWS, 1))
            rows[:, list(state.name).index("shoulder_pan")] += way
            stamp = messages.seconds(state.header.stamp)
            chunk = ActionChunk(stamp, PERIOD, tuple(state.name), rows)
            publisher.publish(messages.chunk_to_trajectory(chunk))
            due = time.monotonic() + 0.4


if __name__ == "__main__":
    main()
