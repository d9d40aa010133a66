"""How a node runs and ends: one clear line and a code, never a traceback for a user's slip."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from smolvla_ros.schema import ConfigError

CONFIG_ERROR = 2
"""Exit code of a node whose configuration is wrong."""


class Fatal(Exception):
    """Ends the node: the message is shown as it is, exit code 1."""


def run(make: Callable[[], Node], argv: list[str] | None = None) -> int:
    """Make a node and spin it until SIGINT, SIGTERM or a fatal error.

    A node may have ``close()``, called before it is destroyed, and ``failure`` (an
    exception or None), which any of its threads may set to end the process with its text.

    Returns:
        0 after a signal, 2 for a ConfigError, 1 for any other failure.
    """
    ending = threading.Event()
    node: Node | None = None
    failure: BaseException | None = None
    try:
        # Launch forwards a Ctrl-C that the terminal has sent too: a second signal must
        # find its handler from the first line on.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: ending.set())
        rclpy.init(args=argv, signal_handler_options=SignalHandlerOptions.NO)
        node = make()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        # Shutting the context down under a spinning executor is a race inside rclpy: look
        # for the end between callbacks instead.
        while not ending.is_set() and getattr(node, "failure", None) is None:
            executor.spin_once(timeout_sec=0.1)
        executor.shutdown()
    except (ConfigError, Fatal) as error:
        failure = error
    finally:
        if node is not None:
            failure = failure or getattr(node, "failure", None)
            close = getattr(node, "close", None)
            if close is not None:
                close()
            node.destroy_node()
        rclpy.try_shutdown()
    if failure is None:
        return 0
    for line in str(failure).splitlines():
        print(f"error: {line}", file=sys.stderr, flush=True)
    return CONFIG_ERROR if isinstance(failure, ConfigError) else 1
