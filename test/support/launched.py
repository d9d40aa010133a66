"""``ros2 launch`` as a user runs it, and what a test asks of the nodes that it starts."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 60.0  # s


def wait_until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds:g} s: {what}"
        time.sleep(0.01)


def needs_workspace() -> None:
    """Skips the module where there is no ROS 2 install, or this package is not in it."""
    if shutil.which("ros2") is None:
        pytest.skip("needs a ROS 2 install (ros2 launch)", allow_module_level=True)
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix

    try:
        get_package_prefix("smolvla_ros")
    except PackageNotFoundError:
        pytest.skip(
            "needs smolvla_ros built and sourced: colcon build, then source install/setup.bash",
            allow_module_level=True,
        )


def nodes(watcher) -> set[tuple[str, str]]:
    """(name, namespace) of all that are there."""
    return set(watcher.node.get_node_names_and_namespaces())


class Launch:
    """A ``ros2 launch smolvla_ros`` in a process group of its own, like a terminal's."""

    def __init__(self, words: tuple[str, ...], log: Path):
        self._log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                ["ros2", "launch", "smolvla_ros", *words],
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        """All that it has said."""
        return self._log.read_text(errors="replace")

    def pids(self) -> dict[str, int]:
        """Process id by what launch calls it: the executable with a number."""
        found = re.findall(r"\[(\S+)\]: process started with pid \[(\d+)\]", self.said)
        return {name: int(pid) for name, pid in found}

    def pid(self, executable: str, *words: str) -> int:
        """The process of an executable whose command line has these words."""
        for name, pid in self.pids().items():
            if re.fullmatch(rf"{executable}-\d+", name):
                line = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
                if all(word in line for word in words):
                    return pid
        raise AssertionError(f"no {executable} {words} among {self.pids()}")

    def interrupt(self) -> int:
        """As Ctrl-C does it: launch and every node hear it. Returns launch's exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(timeout=PATIENCE)

    def wait(self) -> int:
        """Its exit code, once it has ended by itself."""
        return self.process.wait(timeout=2 * PATIENCE)


def _anybody(group: int) -> bool:
    """Whether a process group has members."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def launch(log: Path, *words: str) -> Iterator[Launch]:
    """Runs; fails where a process is left behind."""
    running = Launch(words, log)
    try:
        yield running
        if running.process.poll() is None:
            running.interrupt()
        wait_until(lambda: not _anybody(running.process.pid), "no process is left behind", 5.0)
    except AssertionError:
        print(running.said[-6000:])
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.process.pid, signal.SIGKILL)
        running.process.wait()
