"""A whole cell on an emulated servo bus: from a command to the servo, and a soak with faults."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from trajectory_msgs.msg import JointTrajectory

import smolvla_ros
from smolvla_ros.cell import load_cell, load_robot
from smolvla_ros.cli.benchmark.drive import milliseconds
from smolvla_ros.cli.processes import CellProcesses, die_with_parent, environment, private_domain
from smolvla_ros.cli.watch import Watcher
from smolvla_ros.ros import messages, qos
from smolvla_ros.ros.scheduling import go_second
from smolvla_ros.schema import ConfigError
from smolvla_ros.share import share

NODES = ("safety_monitor", "arm")
_TURN = 4095 / (2 * np.pi)  # ticks a radian
_SWAY = np.array([0.25, 0.05, 0.08, 0.05, 0.25, 0.1])  # rad, of the six joints
_PACE = 1.5  # rad/s of its phase
_DRIFT = 1.0007  # sent so much slower than the ticks, a run sees every phase between the two
_PACKET, _BYTE = 26, 1e-5  # bytes of six goals in one packet, s each at 1 Mbit/s
_CORRUPT = 0.01
_LOSS_EVERY, _LOSS = 60.0, 2.0  # s


class Emulator:
    """The process with the servos; a context manager.

    Raises:
        ConfigError: the package was installed without its source tree.
    """

    def __init__(self, folder: Path, domain: int, pictures: bool = False):
        script = Path(smolvla_ros.__file__).resolve().parents[1] / "test/support/bus_process.py"
        if not script.is_file():
            raise ConfigError(
                f"{script}: no servo bus emulator; it is part of the source tree: clone the "
                "repository and `pip install --editable '.[test]'` there"
            )
        self.port, self._calibration = folder / "ttyARM", folder / "calibration"
        self._command = [
            sys.executable, str(script), "--port", str(self.port),
            "--calibration", str(self._calibration), *(["--pictures"] if pictures else []),
        ]  # fmt: skip
        self._domain = domain

    def __enter__(self) -> Emulator:
        self.process = subprocess.Popen(
            self._command, env=environment(self._domain), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=die_with_parent,
        )  # fmt: skip
        if self.process.stdout.readline().strip() != "ready":
            raise RuntimeError("the servo bus emulator did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def tell(self, **words: Any) -> dict[str, Any]:
        """Give a command; its answer. See ``test/support/bus_process.py``."""
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def goals(self, folder: Path) -> tuple[np.ndarray, np.ndarray]:
        """Times ``[N]`` (monotonic s) and goals ``[N, 6]`` (rad; NaN: not told) so far."""
        path = folder / "goals.npz"
        self.tell(save=str(path))
        with np.load(path) as found:
            ticks = np.where(found["ticks"] < 0, np.nan, found["ticks"])
            return found["times"], (ticks - found["zeros"]) / _TURN

    def options(self) -> dict[str, str]:
        """LeRobot's fields of this arm."""
        return {"port": str(self.port), "id": "mine", "calibration_dir": str(self._calibration)}


def cell_file(
    folder: Path, emulator: Emulator, monitor: dict[str, Any] | None = None, **changes: Any
) -> Path:
    """The shipped cell of a real SO-101 with the emulated arm; ``changes``: of the arm's section,
    ``monitor``: of the safety monitor's."""
    shipped = share("config", "so101.yaml")
    document = yaml.safe_load(shipped.read_text())
    robot = document["/**"]["ros__parameters"]["robot"]
    for name, file in robot.items():
        robot[name] = os.path.normpath(shipped.parent / file)
    arm = document["/**/arm"]["ros__parameters"]
    arm |= {"options": emulator.options(), **changes}
    section = document["/**/safety_monitor"]["ros__parameters"]
    section |= {"recording": {"directory": str(folder)}, **(monitor or {})}
    path = folder / "cell.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


class Swaying(Watcher):
    """A policy that sways the arm by single set-points at the gate's rate, and a clock for what
    it sent."""

    def __init__(self, joints: tuple[str, ...], domain: int, centre: np.ndarray, dt: float):
        super().__init__(joints, domain)
        self._publisher = self.node.create_publisher(
            JointTrajectory, "policy/joint_trajectory", qos.STREAM_OUT
        )
        self._centre, self.dt = centre, dt
        self.commands: list[tuple[float, np.ndarray]] = []  # monotonic s, rad

    def sway(self, seconds: float, meanwhile: Callable[[], bool] = lambda: True) -> None:
        """From where the arm is to the sway, for so long or until ``meanwhile`` is false."""
        away = self.recording.measured[-1][1] - self._centre
        began = due = time.monotonic()
        while (t := due - began) < seconds and meanwhile():
            swing = _SWAY * np.sin(_PACE * t) * min(1.0, t)
            q = self._centre + away * np.exp(-t) + swing
            stamp = self.node.get_clock().now().to_msg()
            message = messages.setpoint_to_trajectory(self.joints, q, (), 0.0, stamp)
            self.commands.append((time.monotonic(), q))
            self._publisher.publish(message)
            due += _DRIFT * self.dt
            time.sleep(max(0.0, due - time.monotonic()))

    def forget(self) -> None:
        """Keep only the last of what was sent and heard."""
        heard = self.recording
        for rows in (heard.sent, heard.measured, heard.chunks, self.commands):
            del rows[:-1000]

    def until(self, condition: Callable[[], Any], what: str, patience: float = 60.0) -> None:
        """Wait until it holds.

        Raises:
            TimeoutError: it did not.
        """
        end = time.monotonic() + patience
        while not condition():
            if time.monotonic() > end:
                said = "; ".join(f"{n}: {self.says(n)}" for n in NODES)
                raise TimeoutError(f"waited {patience:.0f} s in vain for {what}: {said}")
            time.sleep(0.05)

    def enabled(self) -> None:
        """Reset, where the gate has stopped, and enable."""

        def done() -> bool:
            try:
                if self.says("safety_monitor").startswith("stopped"):
                    self.trigger("reset")
                if not self.enable()[0]:
                    return False
            except TimeoutError:  # on a busy machine: ask again
                return False
            time.sleep(0.5)  # until its word is here
            return not self.says("safety_monitor").startswith("stopped")

        self.until(lambda: self.recording.measured, "joint states")
        self.until(lambda: self.says("arm").startswith(("holding", "following")), "the arm")
        self.until(done, "the gate to be enabled")


@contextmanager
def cell(
    monitor: dict[str, Any] | None = None, pictures: bool = False, **changes: Any
) -> Iterator[tuple[Emulator, CellProcesses, Swaying, Path]]:
    """Gate, driver and servos, and a policy beside them; the gate is enabled.

    Args:
        pictures: the simulator's cameras look at the arm that the servos move. The others: as of
            :func:`cell_file`.
    """
    domain, lock = private_domain()
    with (
        lock,
        tempfile.TemporaryDirectory() as made,
        Emulator(Path(made), domain, pictures) as emulator,
    ):
        folder = Path(made)
        path = cell_file(folder, emulator, monitor, **changes)
        config = load_cell(path)
        robot = load_robot(config.arm.robot, path)
        dt = 1.0 / config.safety_monitor.rate
        with (
            CellProcesses(path, NODES, domain, folder) as nodes,
            Swaying(robot.names, domain, robot.pose("ready"), dt) as policy,
        ):
            policy.until(lambda: nodes.check() or policy.recording.measured, "the arm", 120)
            policy.enabled()
            yield emulator, nodes, policy, folder


def latency(seconds: float = 20.0) -> dict[str, Any]:
    """From a command to the goal in the servo's register, through gate, driver and wire.

    Returns:
        command_to_servo_ms and setpoint_to_servo_ms (from the stamp of the gate's set-point);
        bus_ms: what the driver's reads and writes took, and the set-point's packet on the wire,
        which a write does not wait for; tick_ms. budget_ms: a command waits for the gate's next
        tick, its set-point for the read that the line is busy with, and then it is written.
        of_budget: command_to_servo_ms in it; of either the same percentile.
    """
    with cell() as (emulator, nodes, policy, folder), _undisturbed():
        policy.sway(3.0)
        policy.commands.clear()
        policy.recording.sent.clear()
        behind = time.monotonic() - policy.now()  # of the clocks
        policy.sway(seconds)
        time.sleep(1.5)  # until the driver has said how long it took
        nodes.check()
        times, goals = emulator.goals(folder)
        sent = [(t + behind, row) for t, row, _ in policy.recording.sent]
        command = milliseconds(_crossings(policy.commands, times, goals[:, 0]))
        line = {
            f"{way}_{p}": round(policy.value("arm", f"{way}_ms/{p}"), 3)
            for way in ("read", "write")
            for p in ("p50", "p99")
        }
        tick, wire = 1e3 * policy.dt, 1e3 * _PACKET * _BYTE
        budget = {
            p: round(tick + line[f"read_{p}"] + line[f"write_{p}"] + wire, 3)
            for p in ("p50", "p99")
        }
        return {
            "command_to_servo_ms": command,
            "setpoint_to_servo_ms": milliseconds(_crossings(sent, times, goals[:, 0])),
            "tick_ms": tick,
            "bus_ms": line | {"wire": round(wire, 3)},
            "budget_ms": budget,
            "of_budget": {p: round(command[p] / budget[p], 3) for p in budget},
        }


@contextmanager
def _undisturbed() -> Iterator[None]:
    """This process goes before ordinary ones meanwhile: how long its commands wait for a core is
    not what is measured."""
    go_second()
    try:
        yield
    finally:
        for thread in os.listdir("/proc/self/task"):
            with suppress(ProcessLookupError):  # it has just ended
                os.sched_setscheduler(int(thread), os.SCHED_OTHER, os.sched_param(0))


def _crossings(
    sent: list[tuple[float, np.ndarray]], times: np.ndarray, goals: np.ndarray
) -> list[float]:
    """Seconds from each set-point of the first joint to when the servo's goal was there, while it
    moved by more than two ticks a set-point."""
    took = []
    for (_, before), (at, row) in itertools.pairwise(sent):
        step = row[0] - before[0]
        if abs(step) * _TURN < 2:
            continue
        later = np.flatnonzero((times > at) & (times < at + 0.5))
        there = later[(goals[later] - row[0]) * np.sign(step) >= -1.5 / _TURN]
        if len(there):
            took.append(float(times[there[0]] - at))
    if not took:
        raise RuntimeError("no set-point was seen to arrive at the servo")
    return took


def soak(minutes: float, **changes: Any) -> dict[str, Any]:
    """Motion with 1 % of the packets corrupt in either direction and the bus lost every minute.
    ``changes``: as of :func:`cell`.

    Returns:
        losses, and every stop of the gate, after which it was enabled again; the largest step
        between two goals that a servo got, beside what one may be in a tick, and steps_beyond:
        how many were larger than that and the encoder's tick. Memory of both processes in MB:
        each minute's median, what it grew by in the last two thirds, the most.

    Raises:
        RuntimeError: the gate did not stop when the bus was lost. NodeDied: a node ended.
    """
    memory: dict[str, list[float]] = {name: [] for name in NODES}
    stops: list[str] = []
    with cell(**changes) as (emulator, nodes, policy, folder), _undisturbed():
        emulator.tell(faults={"corrupt": _CORRUPT, "corrupt_in": _CORRUPT})
        config = load_cell(folder / "cell.yaml")
        looked = began = time.monotonic()
        end = began + 60.0 * minutes
        lost_at = began + min(_LOSS_EVERY, 30.0 * minutes)
        losses = 0

        def in_motion() -> bool:
            nonlocal looked
            if time.monotonic() > looked + 1.0:
                looked += 1.0
                nodes.check()
                for name, process in nodes.processes.items():
                    memory[name].append(_resident_mb(process.pid))
                policy.forget()
            return not policy.says("safety_monitor").startswith("stopped")

        while (now := time.monotonic()) < end:
            policy.sway(min(lost_at, end) - now, in_motion)
            if in_motion() and time.monotonic() >= lost_at:
                lost_at += _LOSS_EVERY
                losses += 1
                emulator.tell(unplug=_LOSS)
                policy.sway(10.0, in_motion)
                if in_motion():
                    raise RuntimeError("the bus was lost, and the gate did not stop")
            if not in_motion():
                stops.append(policy.says("safety_monitor"))
                policy.enabled()
        nodes.check()
        _, goals = emulator.goals(folder)
        state = emulator.tell(look=True)
        errors = {
            name: policy.value("arm", name)
            for name in ("read_errors", "write_errors", "losses", "setpoints_lost")
        }
    limit = config.arm.max_velocity / config.safety_monitor.rate
    steps = np.abs(np.diff(goals, axis=0)).max(axis=1)
    return {
        "minutes": minutes,
        "losses": losses,
        "stops": stops,
        "goals": len(goals),
        "largest_step_rad": round(float(steps.max()), 5),
        "limit_rad": round(limit, 5),
        "a_tick_of_the_encoder_rad": round(1 / _TURN, 5),
        "steps_beyond": int((steps > limit + 1 / _TURN).sum()),
        "driver": errors,
        "bus": state["counts"],
        "memory_mb": {name: _memory(samples) for name, samples in memory.items()},
    }


def _memory(samples: list[float]) -> dict[str, Any]:
    """What one process took: MB, of samples in seconds."""
    minutes = [float(np.median(samples[i : i + 60])) for i in range(0, len(samples), 60)]
    settled = minutes[len(minutes) // 3 :]
    return {
        "each_minute": minutes,
        "growth": round(settled[-1] - settled[0], 1),
        "most": max(samples),
    }


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)
