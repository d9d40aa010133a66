"""The safety monitor on a machine that a full-size policy keeps busy."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from trajectory_msgs.msg import JointTrajectory

from smolvla_ros.cli.benchmark import drive, sleeper
from smolvla_ros.cli.benchmark.probe import Probe
from smolvla_ros.cli.benchmark.subject import Subject
from smolvla_ros.cli.processes import CellProcesses, environment, private_domain
from smolvla_ros.ros import messages

_POLICY = "smolvla_ros.cli.benchmark.policy_load"


def load(subject: Subject, minutes: float, threads: int = 2) -> dict[str, Any]:
    """The real monitor process in motion beside a 450 M SmolVLA that infers all the time.

    Missed ticks are counted outside, from the stamps of what left: two of them more than two
    periods apart. ``bare_loop`` is what a loop that does nothing misses meanwhile.
    """
    dt = subject.gate().settings.dt
    domain, lock = private_domain()
    stamps: list[float] = []

    def heard(message: JointTrajectory, _at: float) -> None:
        stamps.append(messages.seconds(message.header.stamp))

    rows = _tour(subject)
    with lock, tempfile.TemporaryDirectory() as folder:
        cell = subject.cell_file(Path(folder))
        log = Path(folder) / "policy.log"
        with (
            _Policy(log, domain, threads) as policy,
            CellProcesses(cell, ("safety_monitor",), domain, Path(folder)) as nodes,
            Probe(
                subject.robot.names, subject.start, domain, *subject.topics(), heard
            ) as probe,
        ):  # fmt: skip
            policy.wait_until_ready(probe)
            probe.enable()
            stamps.clear()
            before = os.times()
            with _Sleeper(dt) as bare:
                _follow(probe, rows, dt, time.monotonic() + 60.0 * minutes)
            after = os.times()
            nodes.check()
            policy.check()
            values, chunks = probe.values, policy.chunk_seconds()
    late = np.diff(stamps) - dt
    return {
        "minutes": minutes,
        "ticks": len(stamps),
        "missed_ticks": int((late > dt).sum()),
        "missed_at_s": [round(stamps[i] - stamps[0], 2) for i in np.flatnonzero(late > dt)[:20]],
        "worst_ms": round(1e3 * float(late.max()), 3),
        "late_ms": drive.milliseconds(late.tolist()),
        "policy": {
            "parameters": policy.parameters,
            "threads": threads,
            "chunks": len(chunks),
            "chunk_s": round(statistics.median(chunks), 3) if chunks else None,
        },
        "bare_loop": bare.found,
        "load_average": os.getloadavg()[0],
        "bench_cpu_s": round(after.user + after.system - before.user - before.system, 1),
        "monitor": {
            k: v
            for k, v in values.items()
            if k.startswith(("tick_period", "gate_step", "overruns", "late", "scheduling"))
        },
    }


def _tour(subject: Subject, seconds: float = 60.0) -> np.ndarray:
    """Clear motions there and all the way back, one row a tick."""
    planner = subject.planner(seed=5)
    parts, n = [], 0
    while n * planner.dt < seconds / 2:
        part = planner.path()
        parts.append(part)
        n += len(part)
    there = np.vstack(parts)
    return np.vstack([there, there[::-1]])


def _follow(probe: Probe, rows: np.ndarray, dt: float, until: float) -> None:
    """Send the tour in chunks of 30 Hz, round and round."""
    times = np.arange(drive.CHUNK_ROWS) / drive.CHUNK_RATE
    began = due = time.monotonic()
    while due < until:
        at = np.round((due - began + times) / dt).astype(int) % len(rows)
        probe.command(probe.trajectory(times, rows[at]))
        due += drive.CHUNK_EVERY
        time.sleep(max(0.0, due - time.monotonic()))


class _Sleeper:
    """A bare loop of the same period in a process of its own. A context manager; ``found`` is
    what it says in the end."""

    def __init__(self, dt: float):
        self.found: dict[str, Any] = {}
        command = [sys.executable, "-m", sleeper.__name__, str(dt)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> _Sleeper:
        self._process.stdout.readline()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        said, _errors = self._process.communicate(timeout=30)
        self.found = json.loads(said)


class _Policy:
    """The process that infers. A context manager."""

    def __init__(self, log: Path, domain: int, threads: int):
        self._log = log
        self.parameters = 0
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", _POLICY, "--threads", str(threads)],
                env=environment(domain) | {"HF_HUB_OFFLINE": "1"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> _Policy:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)

    def _lines(self) -> list[str]:
        return self._log.read_text(errors="replace").splitlines()

    def check(self) -> None:
        """Raise RuntimeError, with its last words, if it has ended."""
        if self._process.poll() is not None:
            raise RuntimeError("the policy ended:\n" + "\n".join(self._lines()[-15:]))

    def wait_until_ready(self, probe: Probe, patience: float = 300.0) -> None:
        """Wait for its first chunk: what comes before does not keep both cores busy."""

        def ready() -> bool:
            self.check()
            return bool(self.chunk_seconds())

        probe.wait_for(ready, "the policy's first chunk", patience)
        line = next(line for line in self._lines() if line.startswith("ready "))
        self.parameters = int(line.split()[1])

    def chunk_seconds(self) -> list[float]:
        """What each chunk took."""
        lines = self._lines()
        first = next((i for i, line in enumerate(lines) if line.startswith("ready ")), len(lines))
        return [float(line) for line in lines[first + 1 :] if line.replace(".", "").isdigit()]
