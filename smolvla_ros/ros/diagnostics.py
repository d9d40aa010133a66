"""diagnostic_msgs, once a second and on every change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from smolvla_ros.ros.qos import EVENT
from smolvla_ros.ros.timing import steady_clock

OK, WARN, ERROR, STALE = (
    DiagnosticStatus.OK,
    DiagnosticStatus.WARN,
    DiagnosticStatus.ERROR,
    DiagnosticStatus.STALE,
)


@dataclass(frozen=True)
class Status:
    """One component's health: level, a sentence, and a function for the numbers, which is
    called only when they are published."""

    level: bytes
    message: str
    values: Callable[[], Mapping[str, Any]] = dict


class Diagnostics:
    """Publishes what ``read`` returns: at 1 Hz, and within 0.2 s of a new level or message.

    ``read`` is called on the executor's thread and must not block.
    """

    def __init__(self, node: Node, name: str, read: Callable[[], Status]):
        self._node = node
        # The name carries the namespace: two cells on one network stay apart.
        self._name = f"{node.get_namespace().rstrip('/')}/{name}".lstrip("/")
        self._read = read
        self._publisher = node.create_publisher(DiagnosticArray, "diagnostics", EVENT)
        self._last: tuple[bytes, str] | None = None
        self._due = 0
        self._timer = node.create_timer(0.2, self._poll, clock=steady_clock())

    def _poll(self) -> None:
        self._due -= 1
        status = self._read()
        # Numbers inside a sentence may change all the time: compare it without them.
        words = "".join(c for c in status.message if not c.isdigit())
        if self._due > 0 and (status.level, words) == self._last:
            return
        self._last = (status.level, words)
        self._due = 5
        self.publish(status)

    def publish(self, status: Status) -> None:
        """Publish one status now."""
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.status = [
            DiagnosticStatus(
                level=status.level,
                name=self._name,
                message=status.message,
                hardware_id="smolvla_ros",
                values=[KeyValue(key=k, value=_text(v)) for k, v in status.values().items()],
            )
        ]
        self._publisher.publish(message)


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
