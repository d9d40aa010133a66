"""From a command on one topic to its set-point on another, through real DDS and processes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from trajectory_msgs.msg import JointTrajectory

from smolvla_ros.cli.benchmark import relay
from smolvla_ros.cli.benchmark.drive import milliseconds
from smolvla_ros.cli.benchmark.probe import Probe
from smolvla_ros.cli.benchmark.subject import Subject
from smolvla_ros.cli.processes import CellProcesses, environment, private_domain
from smolvla_ros.ros import qos

_WANDER = 2e-5  # rad; such steps are legal at once, whatever the arm
_DIGITS = 11
_WARM_UP = 250
_DRIFT = 1.007  # sent so much slower than the ticks, a run sees every phase between the two


def latency(subject: Subject, samples: int = 2000) -> dict[str, Any]:
    """The same stream of single set-points at the gate's rate to the safety monitor and to a
    bare relay, turn by turn.

    Returns:
        relay_ms, gate_ms (p50, p99, max), how many came through, and the ratio of medians.
        The gate's ticks do not wait for a command: half a period of its median is that wait,
        a whole one of its worst.
    """
    dt = subject.gate().settings.dt
    domain, lock = private_domain()
    arrived: dict[str, dict[float, float]] = {"gate": {}, "relay": {}}

    def heard(way: str, message: JointTrajectory, at: float) -> None:
        names, point = message.joint_names, message.points[0]
        arrived[way].setdefault(round(point.positions[names.index(joint)], _DIGITS), at)

    with lock, tempfile.TemporaryDirectory() as folder:
        cell = subject.cell_file(Path(folder))
        command = [sys.executable, "-m", relay.__name__]
        process = subprocess.Popen(command, env=environment(domain), stdin=subprocess.DEVNULL)
        joint = subject.robot.names[0]
        try:
            with (
                CellProcesses(cell, ("safety_monitor",), domain, Path(folder)) as nodes,
                Probe(
                    subject.robot.names, subject.start, domain, *subject.topics(),
                    lambda message, at: heard("gate", message, at),
                ) as probe,
            ):  # fmt: skip
                to_relay = probe.node.create_publisher(JointTrajectory, relay.IN, qos.STREAM_OUT)
                probe.node.create_subscription(
                    JointTrajectory, relay.OUT,
                    lambda message: heard("relay", message, time.monotonic()), qos.STREAM_OUT,
                )  # fmt: skip
                probe.wait_for(to_relay.get_subscription_count, "the relay")
                probe.enable()
                sent = _send(probe, to_relay, subject.start, dt, samples + _WARM_UP)
                time.sleep(0.5)
                nodes.check()
        finally:
            process.terminate()
            process.wait(timeout=10)
    found: dict[str, Any] = {}
    for way, times in sent.items():
        took = [arrived[way][value] - at for value, at in times[_WARM_UP:] if value in arrived[way]]
        if not took:
            raise RuntimeError(f"no set-point came back through the {way}")
        found[f"{way}_ms"] = milliseconds(took) | {"samples": len(took)}
    ratio = found["gate_ms"]["p50"] / found["relay_ms"]["p50"]
    return found | {"sent": samples, "gate_over_relay": round(ratio, 3)}


def _send(
    probe: Probe, to_relay, start: np.ndarray, dt: float, n: int
) -> dict[str, list[tuple[float, float]]]:
    """``n`` set-points each way; gives (value of the first joint, time sent)."""
    # Each value is another one, and none is what a stream would be carried on to.
    rng = np.random.default_rng(0)
    inward = _WANDER * rng.uniform(-1, 1, n)
    sent: dict[str, list[tuple[float, float]]] = {"gate": [], "relay": []}
    due = time.monotonic()
    for offset in inward:
        row = start.copy()
        row[0] = round(row[0] + offset, _DIGITS)
        for way, publish in (("gate", probe.command), ("relay", to_relay.publish)):
            message = probe.trajectory([0.0], [row])
            sent[way].append((float(row[0]), time.monotonic()))
            publish(message)
            due += _DRIFT * dt / 2
            time.sleep(max(0.0, due - time.monotonic()))
    return sent
