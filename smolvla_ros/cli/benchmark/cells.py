"""Whole cells beside each other on one machine: simulated arm and cameras, policy and monitor."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from smolvla_ros.cell import Cell, load_cell, load_robot
from smolvla_ros.cli.benchmark import drive
from smolvla_ros.cli.benchmark.idle import cpu_seconds
from smolvla_ros.cli.processes import CellProcesses, private_domain
from smolvla_ros.cli.watch import Watcher
from smolvla_ros.share import share

_NODES = ("safety_monitor", "sim", "vla")
_NAMES = ("left", "right", "third", "fourth")
_UP = ("instruction: none given", "publishing chunks")
_TASKS = ("touch the red block", "touch the green block", "touch the blue block")
_EACH = 8.0  # s until the next task


class _Arm:
    """One cell in a namespace of its own, and who watches it."""

    def __init__(self, name: str, cell: Cell, joints: tuple[str, ...], domain: int, folder: Path):
        self._stack = contextlib.ExitStack()
        self._dt = 1.0 / cell.safety_monitor.rate
        space = ["-r", f"__ns:=/{name}"]
        self.nodes = self._stack.enter_context(
            CellProcesses(cell.path, _NODES, domain, folder / name, space)
        )
        self.watcher = self._stack.enter_context(Watcher(joints, domain, namespace=name))
        self._tasks = itertools.cycle(_TASKS)

    def close(self) -> dict[str, int]:
        """End it: exit code of every node."""
        codes = self.nodes.end(patience=30.0)
        self._stack.close()
        return codes

    def up(self) -> bool:
        """Whether its policy only lacks something to do."""
        self.nodes.check()
        return self.watcher.says("vla").endswith(_UP)

    def enabled(self) -> bool:
        """Whether the gate takes commands."""
        self.nodes.check()
        return self.watcher.enable()[0]

    def under_way(self) -> bool:
        """Whether the policy acts. Until it is heard it is told again."""
        if not self.watcher.recording.chunks:
            self.watcher.instruct(_TASKS[0])
        return len(self.watcher.recording.chunks) > 1

    def next_task(self) -> None:
        """Something else to do, so that it moves on."""
        self.watcher.instruct(next(self._tasks))

    def begin(self) -> None:
        """Figures are of what comes after this."""
        recording = self.watcher.recording
        for heard in (recording.sent, recording.measured, recording.chunks):
            heard.clear()
        self._began, self._cpu = time.monotonic(), self._cpu_seconds()

    def _cpu_seconds(self) -> dict[str, float]:
        return {name: cpu_seconds(p.pid) for name, p in self.nodes.processes.items()}

    def figures(self) -> dict[str, Any]:
        """Set-points as they left (by their stamps), chunks, and what the nodes say and use."""
        lasted, cpu = time.monotonic() - self._began, self._cpu_seconds()
        watcher = self.watcher
        recording = watcher.recording
        stamps = np.array([stamp for stamp, _, _ in list(recording.sent)])
        latencies = [received - stamp for received, stamp, _, _ in list(recording.chunks)]
        late = np.diff(stamps) - self._dt
        monitor = "safety_monitor"
        return {
            "rate_hz": round((len(stamps) - 1) / float(stamps[-1] - stamps[0]), 2),
            "setpoints": len(stamps),
            # Two set-points more than two periods apart.
            "missed_ticks": int((late > self._dt).sum()),
            "late_ms": drive.milliseconds(late.tolist()),
            "gate_step_ms": _milliseconds(watcher.values(monitor, "gate_step_s")),
            "chunks_hz": round(len(latencies) / lasted, 2),
            "chunk_latency_s": _percentiles(latencies),
            "inference_s": watcher.values("vla", "inference_s"),
            "pace": watcher.value("vla", "pace"),
            "starved_s": watcher.value("vla", "starved_s"),
            "travel_rad": round(_travel(recording.measured), 2),
            "verdicts": {k: int(v) for k, v in watcher.values(monitor, "verdicts").items()},
            "refused": {k: int(v) for k, v in watcher.values(monitor, "refused").items() if v},
            "state": watcher.says(monitor),
            "scheduling": watcher.status[monitor][2].get("scheduling", ""),
            "cores": {
                name: round((cpu[name] - before) / lasted, 3) for name, before in self._cpu.items()
            },
        }


def cells(count: int, seconds: float) -> dict[str, Any]:
    """``count`` of the shipped cell in motion for ``seconds``, all at once, each with its policy.

    Returns:
        arms: name → figures. bench_cores, others_cores: cores that measuring used, and everything
        else on this machine.

    Raises:
        RuntimeError, TimeoutError: a node ended by itself, or did not come up.
    """
    cell = load_cell(share("config", "so101_tabletop.yaml"))
    joints = load_robot(cell.safety_monitor.robot, cell.path).names
    domain, lock = private_domain()
    with lock, tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        arms = {}
        for name in _NAMES[:count]:
            arms[name] = _Arm(name, cell, joints, domain, Path(folder))
            stack.callback(arms[name].close)
        for what, reached in (
            ("policies", _Arm.up),
            ("gates to be enabled", _Arm.enabled),
            ("chunks", _Arm.under_way),
        ):
            _wait(arms, reached, what)
        for arm in arms.values():
            arm.begin()
        began, before, busy = time.monotonic(), os.times(), _busy_seconds()
        while time.monotonic() < began + seconds:
            for arm in arms.values():
                arm.nodes.check()
                arm.next_task()
            time.sleep(min(_EACH, max(0.0, began + seconds - time.monotonic())))
        after, busy, lasted = os.times(), _busy_seconds() - busy, time.monotonic() - began
        found = {name: arm.figures() for name, arm in arms.items()}
        for name, arm in arms.items():
            # Negative: it had to be killed.
            found[name]["exit_codes"] = arm.close()
    measuring = (after.user + after.system - before.user - before.system) / lasted
    ours = measuring + sum(sum(arm["cores"].values()) for arm in found.values())
    return {
        "seconds": seconds,
        "arms": found,
        "bench_cores": round(measuring, 3),
        "others_cores": round(busy / lasted - ours, 3),
    }


def _busy_seconds() -> float:
    """Processor time that anything on this machine has used."""
    user, nice, system, _idle, _iowait, *interrupts = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:8]
    )
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def _wait(
    arms: dict[str, _Arm], reached: Callable[[_Arm], bool], what: str, patience: float = 120.0
) -> None:
    until = time.monotonic() + patience
    for name, arm in arms.items():
        while not reached(arm):
            if time.monotonic() > until:
                said = {node: arm.watcher.says(node) for node in _NODES}
                raise TimeoutError(f"{name}: waited {patience:.0f} s in vain for {what}: {said}")
            time.sleep(0.1)


def _travel(measured: list[tuple[float, np.ndarray]]) -> float:
    rows = np.array([q for _, q in list(measured)])
    return float(np.abs(np.diff(rows, axis=0)).sum())


def _milliseconds(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(1e3 * value, 3) for name, value in seconds.items()}


def _percentiles(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    p50, p99 = np.percentile(values, [50, 99])
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3), "max": round(max(values), 3)}
