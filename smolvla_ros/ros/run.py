"""How a node runs and ends: one clear line and a code, never a traceback for a user's slip."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from smolvla_ros.cell import load_cell
from smolvla_ros.ros.parameters import parameter_file
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
    up, ending = threading.Event(), threading.Event()

    def leave(*_: object) -> None:
        if not up.is_set():
            # Nothing has been told to move yet, and a checkpoint takes long to load: launch would
            # not wait. An exception here would make C++ modules abort in mid-import.
            os._exit(0)
        ending.set()

    node: Node | None = None
    failure: BaseException | None = None
    try:
        _on_signals(leave)
        rclpy.init(args=argv, signal_handler_options=SignalHandlerOptions.NO)
        node = make()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        up.set()
        # Shutting the context down under a spinning executor is a race inside rclpy: look
        # for the end between callbacks instead.
        while not ending.is_set() and getattr(node, "failure", None) is None:
            executor.spin_once(timeout_sec=0.1)
        executor.shutdown()
    except (ConfigError, Fatal) as error:
        failure = error
    except Exception:
        # ROS reads the parameters before our own checks can, and its words do not help.
        failure = _wrong_cell(argv)
        if failure is None:
            raise
    finally:
        # Launch forwards a Ctrl-C that the terminal has sent too. Ignored signals stay so
        # while Python ends; of handlers it would go back to the default, which kills.
        _on_signals(signal.SIG_IGN)
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


def _on_signals(action: Callable[..., None] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, action)


def _wrong_cell(argv: list[str] | None) -> ConfigError | None:
    """What a strict reading of the cell file finds, or None."""
    path = parameter_file(argv)
    try:
        if path is not None:
            load_cell(path)
    except ConfigError as error:
        return error
    return None
