"""The other side of a running safety monitor: a policy that commands and an arm that obeys."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from smolvla_ros.cli.bystander import EVERY_ONE, Bystander
from smolvla_ros.ros import messages, qos


class Probe(Bystander):
    """It is the arm: what the monitor sends comes back as a joint state, at 100 Hz at most.

    Args:
        joints: the ``D`` joint names. start: ``[D]`` rad. domain: ROS domain.
        source, output: topics of the monitor's commands in and out.
        heard: called with each set-point's message and its time of arrival (monotonic s).
    """

    def __init__(
        self,
        joints: tuple[str, ...],
        start: np.ndarray,
        domain: int,
        source: str,
        output: str,
        heard: Callable[[JointTrajectory, float], None],
    ):
        super().__init__("gate_bench", domain)
        self.joints = joints
        self._q = np.array(start, dtype=float)
        self._heard = heard
        self._status: tuple[str, dict[str, str]] = ("", {})
        node = self.node
        self._commands = node.create_publisher(JointTrajectory, source, qos.STREAM_OUT)
        self._states = node.create_publisher(JointState, "joint_states", qos.STREAM_OUT)
        node.create_subscription(JointTrajectory, output, self._on_setpoint, EVERY_ONE)
        node.create_subscription(DiagnosticArray, "diagnostics", self._on_status, qos.EVENT)
        node.create_timer(0.01, self._publish_state)
        self.start()

    def _on_setpoint(self, message: JointTrajectory) -> None:
        arrived = time.monotonic()
        row = dict(zip(message.joint_names, message.points[0].positions, strict=True))
        self._q = np.array([row[name] for name in self.joints])
        self._heard(message, arrived)

    def _publish_state(self) -> None:
        zeros = np.zeros(len(self.joints))
        message = messages.joint_state(self.joints, self._q, zeros, zeros)
        message.header.stamp = self.node.get_clock().now().to_msg()
        self._states.publish(message)

    def _on_status(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.rsplit("/", 1)[-1].endswith("safety_monitor"):
                self._status = (status.message, {v.key: v.value for v in status.values})

    @property
    def values(self) -> dict[str, str]:
        """The monitor's newest diagnostics."""
        return self._status[1]

    def trajectory(self, times, rows) -> JointTrajectory:
        """A command stamped now: ``times`` ``[N]`` s, ``rows`` ``[N, D]`` rad."""
        message = JointTrajectory(joint_names=list(self.joints))
        message.header.stamp = self.node.get_clock().now().to_msg()
        message.points = [
            JointTrajectoryPoint(
                positions=array("d", row), time_from_start=messages.duration_msg(float(t))
            )
            for t, row in zip(times, rows, strict=True)
        ]
        return message

    def command(self, message: JointTrajectory) -> None:
        """Send a command to the monitor."""
        self._commands.publish(message)

    def wait_for(self, condition: Callable[[], Any], what: str, patience: float = 30.0) -> None:
        """Wait until it holds.

        Raises:
            TimeoutError: it did not.
        """
        until = time.monotonic() + patience
        while not condition():
            if time.monotonic() > until:
                raise TimeoutError(f"waited {patience:.0f} s in vain for {what}")
            time.sleep(0.01)

    def enable(self) -> None:
        """Enable the gate, once the monitor has found this arm.

        Raises:
            TimeoutError: it did not come up, or refused all the time.
        """
        client = self.node.create_client(SetBool, "safety_monitor/enable")
        self.wait_for(client.service_is_ready, "the safety monitor")
        self.wait_for(lambda: self._commands.get_subscription_count() > 0, "its subscription")
        said = ""

        def enabled() -> bool:
            nonlocal said
            future = client.call_async(SetBool.Request(data=True))
            self.wait_for(future.done, "the enable service")
            said = future.result().message
            if not future.result().success:
                time.sleep(0.2)
            return future.result().success

        try:
            self.wait_for(enabled, "the gate to be enabled")
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {said}") from error
