"""A cell's nodes as processes of one parent: started together, ended together."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

NODES = {
    "sim": "smolvla_ros.nodes.sim_node",
    "safety_monitor": "smolvla_ros.nodes.safety_monitor",
    "vla": "smolvla_ros.nodes.vla_node",
    "arm": "smolvla_ros.nodes.arm_node",
    "camera": "smolvla_ros.nodes.camera_node",
    "teleop": "smolvla_ros.nodes.teleop_node",
}
"""Node name → module."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class NodeDied(RuntimeError):
    """A node ended by itself; the text holds what it said."""


def private_domain() -> tuple[int, IO[str]]:
    """A ROS domain that no other cell of this user's machine uses, and the lock that
    keeps it: close it to give the domain back.

    Raises:
        RuntimeError: all of them are taken.
    """
    for domain in range(60, 100):  # below 102, where Linux's ephemeral ports begin
        path = Path(tempfile.gettempdir()) / f"smolvla_ros_domain_{domain}.lock"
        try:
            lock = path.open("a")
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return domain, lock
        except OSError:
            continue
    raise RuntimeError("no free ROS domain between 60 and 99; end another cell first")


def environment(domain: int) -> dict[str, str]:
    """The environment of a cell that stays on this machine."""
    return os.environ | {
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        # Mesa's software renderer would start a thread a core beside the policy's.
        "LP_NUM_THREADS": os.environ.get("LP_NUM_THREADS", "1"),
        "PYTHONUNBUFFERED": "1",
    }


class CellProcesses:
    """Starts nodes of a cell and ends them; a context manager.

    Args:
        cell: the cell's YAML. names: which of ``NODES``. domain: ROS_DOMAIN_ID.
        logs: folder for one log file a node. arguments: further ``--ros-args`` words.
        variables: environment variables of the nodes, over those of :func:`environment`.
    """

    def __init__(
        self,
        cell: Path,
        names: Iterable[str],
        domain: int,
        logs: Path,
        arguments: Iterable[str] = (),
        variables: Mapping[str, str] | None = None,
    ):
        self._cell = cell
        self._names = tuple(names)
        self._domain = domain
        self._logs = logs
        self._arguments = tuple(arguments)
        self._variables = dict(variables or {})
        self.processes: dict[str, subprocess.Popen[Any]] = {}

    def __enter__(self) -> CellProcesses:
        self._logs.mkdir(parents=True, exist_ok=True)
        for name in self._names:
            self.start(name)
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self, name: str) -> None:
        """Start one node."""
        command = [
            sys.executable, "-m", NODES[name],
            "--ros-args", "--params-file", str(self._cell), *self._arguments,
        ]  # fmt: skip
        with self.log(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                env=environment(self._domain) | self._variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Its own session: a Ctrl-C in the terminal reaches the parent alone, which
                # ends the nodes in order. And if the parent is killed they go with it.
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def log(self, name: str) -> Path:
        """What a node said."""
        return self._logs / f"{name}.log"

    def check(self) -> None:
        """Raise NodeDied, with the node's own words, if one has ended."""
        for name, process in self.processes.items():
            code = process.poll()
            if code is not None:
                raise NodeDied(f"{name} ended with code {code}:\n{self.last_words(name)}")

    def end(self, patience: float = 8.0) -> dict[str, int]:
        """SIGINT to all, SIGKILL to what is still there after ``patience`` seconds.

        Returns:
            Exit code of every node.
        """
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        until = time.monotonic() + patience
        for process in self.processes.values():
            try:
                process.wait(timeout=max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        return {name: p.returncode for name, p in self.processes.items()}

    def last_words(self, name: str) -> str:
        """Why a node ended: its error lines, or the last that it said."""
        lines = self.log(name).read_text(errors="replace").splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        return "\n".join(errors or lines[-15:])


def die_with_parent() -> None:
    """Called in a child: it is killed when its parent ends, however that ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
