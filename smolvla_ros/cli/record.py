"""``smolvla-ros record``: what a cell sees and what its arm is sent, into a LeRobotDataset."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from smolvla_ros.cell import load_cell
from smolvla_ros.schema import ConfigError

_PERIOD = 0.2  # s between two progress lines
_WIDTH = 110


def add(subparsers: Any) -> None:
    """The subcommand's arguments."""
    parser = subparsers.add_parser(
        "record",
        help="record episodes of a running cell into a LeRobotDataset",
        description="Takes the cell's cameras, joint states and instruction as its policy takes "
        "them, and what the arm is sent, at the rate of the data (vla.chunk_rate). Enter starts "
        "an episode and keeps it, d discards it, e ends it, q quits; so do the services "
        "recorder/start, /keep, /discard and /end. A crash or a full disk loses the running "
        "episode at most.",
    )
    parser.add_argument("--cell", type=Path, required=True, metavar="FILE", help="cell YAML")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the dataset")
    parser.add_argument("--resume", action="store_true", help="append to the dataset in DIR")
    parser.add_argument(
        "--video", action="store_true", help="keep pictures as video (lossy) instead of PNG"
    )
    parser.add_argument("--namespace", default="", metavar="NS", help="of the cell's nodes")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Record until told to quit. Returns 0, 1 if recording failed, 2 for a wrong cell.

    Raises:
        ConfigError: a cell that cannot be read, or no ROS.
    """
    load_cell(arguments.cell)  # its mistakes before rclpy's
    if importlib.util.find_spec("rclpy") is None:
        raise ConfigError("record needs rclpy, of a ROS install or pip install 'smolvla_ros[ros]'")
    from smolvla_ros.nodes.recorder_node import RecorderNode
    from smolvla_ros.ros.run import run as spin

    # A node reads its parameters from the command line of its process: this is one.
    sys.argv = ["recorder_node", *ros_arguments(arguments)]
    closing = threading.Event()

    def make() -> RecorderNode:
        node = RecorderNode()
        threading.Thread(target=_show, args=(node, closing), daemon=True).start()
        threading.Thread(target=_listen, args=(node,), daemon=True).start()
        return node

    try:
        return spin(make)
    finally:
        closing.set()


def ros_arguments(arguments: argparse.Namespace) -> list[str]:
    """What the node's command line says."""
    out = str(arguments.out).replace("'", "''")  # as YAML quotes it
    words = ["--ros-args", "--params-file", str(arguments.cell), "-p", f"out:='{out}'"]
    if arguments.resume:
        words += ["-p", "resume:=true"]
    if arguments.video:
        words += ["-p", "video:=true"]
    if arguments.namespace:
        words += ["-r", f"__ns:=/{arguments.namespace.strip('/')}"]
    return words


def _show(node: Any, closing: threading.Event) -> None:
    """A line that stays where it is; in a file, one each time that what it says is new."""
    last = ""
    while not closing.wait(_PERIOD):
        words = node.progress()
        if sys.stderr.isatty():
            print(f"\r{words[:_WIDTH]:<{_WIDTH}}", end="", file=sys.stderr, flush=True)
        elif _without_numbers(words) != _without_numbers(last):
            print(words, file=sys.stderr, flush=True)
        last = words


def _listen(node: Any) -> None:
    """Keys; without a terminal the services alone."""
    keys = {"d": node.discard, "e": node.end}
    for line in sys.stdin:
        word = line.strip().lower()
        if word == "q":
            os.kill(os.getpid(), signal.SIGINT)  # as Ctrl-C does
            return
        if word in keys:
            node.act(keys[word])
        elif not word:
            node.act(node.keep if node.has_episode else node.start)
        else:
            print("Enter: start, keep; d: discard; e: end; q: quit", file=sys.stderr)


def _without_numbers(words: str) -> str:
    return "".join(c for c in words if not c.isdigit())
