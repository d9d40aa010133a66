"""From an observation to the first set-point of the chunk that answers it, as the arm hears it."""

from __future__ import annotations

import bisect
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from trajectory_msgs.msg import JointTrajectory

from smolvla_ros.cell import load_cell, load_robot
from smolvla_ros.cli.processes import CellProcesses, private_domain
from smolvla_ros.cli.watch import Watcher
from smolvla_ros.ros import messages
from smolvla_ros.share import share

_NOT_YET = ("not_enabled", "before_enable")
_UP = ("instruction: none given", "publishing chunks")


class _Arm(Watcher):
    """Knows when each set-point came."""

    def __init__(self, joints: tuple[str, ...], domain: int):
        self.arrived: list[tuple[float, float]] = []  # (stamp, arrival), s of the ROS clock
        super().__init__(joints, domain)

    def _on_sent(self, message: JointTrajectory) -> None:
        self.arrived.append((messages.seconds(message.header.stamp), self.now()))
        super()._on_sent(message)


def first_setpoint(seconds: float) -> dict[str, Any]:
    """The shipped cell in motion for ``seconds``: simulator, policy and safety monitor as
    processes, all through DDS.

    Which set-point is the first of a chunk is read in the monitor's own recording: the one of
    the first tick after it took the chunk.

    Returns:
        p50, p99, max in seconds from the observation's stamp to the arrival of that set-point;
        samples.

    Raises:
        RuntimeError, TimeoutError: a node ended, did not come up or refused chunks.
    """
    path = share("config", "so101_tabletop.yaml")
    robot = load_robot(load_cell(path).vla.robot, path)
    domain, lock = private_domain()
    with lock, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recording = ("-p", f"recording.directory:={folder}", "-p", "recording.seconds:=600.0")
        with (
            CellProcesses(path, ("safety_monitor",), domain, folder, recording) as monitor,
            CellProcesses(path, ("sim", "vla"), domain, folder) as nodes,
            _Arm(robot.names, domain) as arm,
        ):

            def wait(condition, what: str, patience: float = 90.0) -> None:
                until = time.monotonic() + patience
                while not condition():
                    monitor.check()
                    nodes.check()
                    if time.monotonic() > until:
                        raise TimeoutError(f"waited {patience:.0f} s in vain for {what}")
                    time.sleep(0.05)

            wait(lambda: arm.says("vla").endswith(_UP), "the policy")
            wait(lambda: arm.enable()[0], "the gate to be enabled")
            wait(
                lambda: arm.instruct("touch the red block") or len(arm.recording.chunks) > 1,
                "chunks",
            )
            time.sleep(seconds)
            counts = arm.values("safety_monitor", "refused")
            refused = {k: v for k, v in counts.items() if v and k not in _NOT_YET}
            arm.trigger("stop")
            wait(lambda: list(folder.glob("stop_*.jsonl")), "the monitor's recording", 20.0)
            monitor.check()
            nodes.check()
            ahead = time.time() - time.monotonic()
            arrived = list(arm.arrived)
        lines = [
            json.loads(line) for line in next(folder.glob("stop_*.jsonl")).read_text().splitlines()
        ]
    if refused:
        raise RuntimeError(f"the monitor refused chunks: {refused}")
    took = _latencies(lines, arrived, ahead)
    if not took:
        raise RuntimeError("no set-point followed a chunk")
    p50, p99 = np.percentile(took, [50, 99])
    return {
        "p50": round(float(p50), 4),
        "p99": round(float(p99), 4),
        "max": round(max(took), 4),
        "samples": len(took),
    }


def _latencies(
    lines: list[dict[str, Any]], arrived: list[tuple[float, float]], ahead: float
) -> list[float]:
    """Seconds of each chunk observed since the gate was enabled.

    Args:
        lines: of the recording, on the steady clock. arrived: set-points, (stamp, arrival), on
            the ROS clock. ahead: what that clock shows more, s.
    """
    ticks = [line["t"] for line in lines if "output" in line]
    enabled = max(line["t"] for line in lines if line.get("enable"))
    stamps = [stamp for stamp, _ in arrived]
    took = []
    for line in lines:
        command = line.get("command", {})
        if command.get("stamp", -math.inf) < enabled:
            continue
        tick = bisect.bisect_right(ticks, line["t"])
        if tick == len(ticks):
            continue
        # Its set-point is stamped within the tick.
        heard = bisect.bisect_left(stamps, ticks[tick] + ahead)
        if heard < len(arrived):
            took.append(arrived[heard][1] - (command["stamp"] + ahead))
    return took
