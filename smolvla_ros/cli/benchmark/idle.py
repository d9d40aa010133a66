"""What the policy's node uses while it has nothing to do."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from std_srvs.srv import Trigger

from smolvla_ros.cell import load_cell, load_robot
from smolvla_ros.cli.benchmark import cameras
from smolvla_ros.cli.processes import CellProcesses, environment, private_domain
from smolvla_ros.cli.watch import Watcher
from smolvla_ros.share import share

_SETTLE = 2.0  # s


def idle(seconds: float = 10.0) -> dict[str, Any]:
    """The vla node of the shipped cell beside two cameras of 640x480 at 30 Hz and an arm.

    Returns:
        idle_cpu: the share of one core it uses while paused. idle: the same while inactive, and
        while it acts and has no instruction, too.

    Raises:
        RuntimeError, TimeoutError: a process ended or did not come up.
    """
    cell = share("config", "so101_tabletop.yaml")
    robot = load_robot(load_cell(cell).vla.robot, cell)
    domain, lock = private_domain()
    with lock, tempfile.TemporaryDirectory() as folder:
        publisher = subprocess.Popen(
            [sys.executable, "-m", cameras.__name__, "--cell", str(cell), "--arm"],
            env=environment(domain),
            stdin=subprocess.DEVNULL,
        )
        try:
            with (
                CellProcesses(cell, ("vla",), domain, Path(folder)) as nodes,
                Watcher(robot.names, domain) as watcher,
            ):
                _wait(nodes, lambda: watcher.says("vla").endswith("instruction: none given"))
                waiting = _cpu(nodes, seconds)
                watcher.call("vla/pause", Trigger, Trigger.Request())
                _wait(nodes, lambda: watcher.says("vla") == "paused")
                paused = _cpu(nodes, seconds)
                _change(watcher, Transition.TRANSITION_DEACTIVATE)
                _wait(nodes, lambda: watcher.says("vla") == "inactive")
                inactive = _cpu(nodes, seconds)
        finally:
            publisher.terminate()
            publisher.wait(timeout=10)
    return {
        "idle_cpu": paused,
        "idle": {"inactive": inactive, "without_instruction": waiting},
    }


def _cpu(nodes: CellProcesses, seconds: float) -> float:
    """Share of a core that the vla process uses."""
    time.sleep(_SETTLE)
    before, began = cpu_seconds(nodes.processes["vla"].pid), time.monotonic()
    time.sleep(seconds)
    after, ended = cpu_seconds(nodes.processes["vla"].pid), time.monotonic()
    nodes.check()
    return round((after - before) / (ended - began), 4)


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of a process."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _change(watcher: Watcher, transition: int) -> None:
    request = ChangeState.Request(transition=Transition(id=transition))
    if not watcher.call("vla/change_state", ChangeState, request).success:
        raise RuntimeError(f"the vla node refused transition {transition}")


def _wait(nodes: CellProcesses, condition, patience: float = 90.0) -> None:
    until = time.monotonic() + patience
    while not condition():
        nodes.check()
        if time.monotonic() > until:
            raise TimeoutError(f"waited {patience:.0f} s in vain for the vla node")
        time.sleep(0.05)
