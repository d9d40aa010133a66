"""A node that stands beside a cell, spun in a thread of its own."""

from __future__ import annotations

import threading

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy

EVERY_ONE = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
"""For a listener that must not miss a message, however late it comes to it."""


class Bystander:
    """A ROS node of its own context and thread. A context manager.

    Args:
        name: the node's. domain: ROS domain. namespace: of the node, and so of its topics.
    """

    def __init__(self, name: str, domain: int, namespace: str = ""):
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain, args=[])
        self.node = rclpy.create_node(name, context=self._context, namespace=namespace)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._spin, name=name, daemon=True)

    def start(self) -> None:
        """Spin: callbacks run in the thread from here on."""
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join(timeout=2.0)
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()

    def _spin(self) -> None:
        while not self._closing.is_set():
            self._executor.spin_once(timeout_sec=0.1)
