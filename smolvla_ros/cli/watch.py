"""Watches a running cell from outside: what was proposed, sent and done.

The figures come from the topics alone, not from what the gate says of itself, except for
its own timing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from smolvla_ros.cli.bystander import EVERY_ONE, Bystander
from smolvla_ros.ros import episode, messages, qos


@dataclass
class Recording:
    """What a watcher saw, times in seconds of the ROS clock, angles in radians.

    ``sent`` rows are (time, positions, seconds to reach them), ``measured`` rows (time,
    positions); ``chunks`` rows (time received, stamp, times [N], positions [N, D]).
    """

    sent: list[tuple[float, np.ndarray, float]] = field(default_factory=list)
    measured: list[tuple[float, np.ndarray]] = field(default_factory=list)
    chunks: list[tuple[float, float, np.ndarray, np.ndarray]] = field(default_factory=list)


class Watcher(Bystander):
    """Hears a cell's topics and speaks to its services.

    Args:
        joints: the arm's ``D`` joint names, the order of every row. domain: ROS domain.
        setpoints: topic of what the arm gets, one point a message. namespace: the cell's.
    """

    def __init__(
        self,
        joints: tuple[str, ...],
        domain: int,
        setpoints: str = "arm/joint_trajectory",
        namespace: str = "",
    ):
        super().__init__("cell_watcher", domain, namespace)
        self.joints = joints
        self._clients: dict[str, Any] = {}
        self.recording = Recording()
        self.status: dict[str, Any] = {}
        self.episode: episode.Episode | None = None
        node = self.node
        node.create_subscription(JointTrajectory, setpoints, self._on_sent, EVERY_ONE)
        node.create_subscription(JointState, "joint_states", self._on_measured, qos.NEWEST_IN)
        node.create_subscription(
            JointTrajectory, "policy/joint_trajectory", self._on_chunk, EVERY_ONE
        )
        node.create_subscription(DiagnosticArray, "diagnostics", self._on_status, qos.EVENT)
        node.create_subscription(DiagnosticStatus, "sim/episode", self._on_episode, qos.EVENT)
        self._instruction = node.create_publisher(String, "instruction", qos.EVENT)
        self.start()

    def now(self) -> float:
        """Seconds of the ROS clock."""
        return self.node.get_clock().now().nanoseconds * 1e-9

    # -- topics -------------------------------------------------------------------------

    def _order(self, message: JointTrajectory) -> list[int]:
        return [list(message.joint_names).index(name) for name in self.joints]

    def _on_sent(self, message: JointTrajectory) -> None:
        point = message.points[0]
        row = np.array(point.positions)[self._order(message)]
        at = messages.seconds(message.header.stamp)
        self.recording.sent.append((at, row, messages.seconds(point.time_from_start)))

    def _on_measured(self, message: JointState) -> None:
        row = messages.joint_positions(message, self.joints)
        if row is not None:
            self.recording.measured.append((messages.seconds(message.header.stamp), row))

    def _on_chunk(self, message: JointTrajectory) -> None:
        order = self._order(message)
        times = np.array([messages.seconds(p.time_from_start) for p in message.points])
        rows = np.array([p.positions for p in message.points])[:, order]
        stamp = messages.seconds(message.header.stamp)
        self.recording.chunks.append((self.now(), stamp, times, rows))

    def _on_status(self, message: DiagnosticArray) -> None:
        cell = self.node.get_namespace().lstrip("/") + "/"
        for status in message.status:
            self.status[status.name.removeprefix(cell)] = (
                status.level,
                status.message,
                {v.key: v.value for v in status.values},
            )

    def _on_episode(self, message: DiagnosticStatus) -> None:
        self.episode = episode.from_message(message)

    # -- talking to the cell --------------------------------------------------------------

    def says(self, node: str) -> str:
        """The newest diagnostic sentence of a node, or an empty text."""
        return self.status[node][1] if node in self.status else ""

    def value(self, node: str, name: str, default: float = float("nan")) -> float:
        """A number from a node's newest diagnostics."""
        return float(self.status[node][2].get(name, default)) if node in self.status else default

    def values(self, node: str, prefix: str) -> dict[str, float]:
        """All numbers of a node's diagnostics under ``prefix/``."""
        found = self.status[node][2] if node in self.status else {}
        return {
            k.split("/", 1)[1]: float(v) for k, v in found.items() if k.startswith(f"{prefix}/")
        }

    def call(self, service: str, kind: type, request: Any, timeout: float = 5.0) -> Any:
        """Call a service and wait.

        Raises:
            TimeoutError: no answer.
        """
        if service not in self._clients:
            self._clients[service] = self.node.create_client(kind, service)
        client = self._clients[service]
        if not client.wait_for_service(timeout):
            raise TimeoutError(f"{service}: not there after {timeout:g} s")
        future = client.call_async(request)
        until = time.monotonic() + timeout
        while not future.done():
            if time.monotonic() > until:
                raise TimeoutError(f"{service}: no answer in {timeout:g} s")
            time.sleep(0.005)
        return future.result()

    def enable(self, on: bool = True) -> tuple[bool, str]:
        """Enable (or disable) the gate: (success, message)."""
        answer = self.call("safety_monitor/enable", SetBool, SetBool.Request(data=on))
        return answer.success, answer.message

    def trigger(self, name: str) -> tuple[bool, str]:
        """Call ``safety_monitor/<name>`` (stop, reset): (success, message)."""
        answer = self.call(f"safety_monitor/{name}", Trigger, Trigger.Request())
        return answer.success, answer.message

    def set_parameters(self, node: str, **values: object) -> None:
        """Set parameters of a node.

        Raises:
            RuntimeError: it refuses one. TimeoutError: no answer.
        """
        parameters = [Parameter(name, value=v).to_parameter_msg() for name, v in values.items()]
        request = SetParameters.Request(parameters=parameters)
        answer = self.call(f"{node}/set_parameters", SetParameters, request)
        for result in answer.results:
            if not result.successful:
                raise RuntimeError(f"{node}: {result.reason}")

    def instruct(self, text: str) -> None:
        """Say what to do."""
        self._instruction.publish(String(data=text))

    def picture(self, topic: str, timeout: float = 3.0) -> np.ndarray | None:
        """One picture ``[H, W, 3]`` uint8 RGB of a camera topic, or None. Subscribed only
        meanwhile: thirty pictures a second cost more than all else that is watched."""
        got: list[Image] = []
        subscription = self.node.create_subscription(Image, topic, got.append, qos.SENSOR_DATA)
        until = time.monotonic() + timeout
        while not got and time.monotonic() < until:
            time.sleep(0.01)
        self.node.destroy_subscription(subscription)
        return messages.image_to_rgb(got[0]) if got else None
