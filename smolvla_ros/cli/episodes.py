"""Episodes of an evaluation through a cell's real nodes, watched from outside."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from smolvla_ros.cell import Cell
from smolvla_ros.cli.judge import judge
from smolvla_ros.cli.processes import CellProcesses
from smolvla_ros.cli.watch import Watcher
from smolvla_ros.learn.sheet import Film
from smolvla_ros.learn.trials import NONE, Outcome, Trial
from smolvla_ros.robot import RobotModel
from smolvla_ros.ros import messages, qos

MONITOR = "safety_monitor"
_SETTLED = 0.4  # s of joint states after a reset until the gate may take the arm there
_PATIENCE = 15.0  # s
_UP = 120.0  # s that nodes may take to start
_READY = ("no observation: instruction: none given", "publishing chunks")


def nodes_of(gate: str) -> tuple[str, ...]:
    """The nodes that take part: without a gate, no monitor."""
    return ("sim", "vla") if gate == "off" else ("sim", MONITOR, "vla")


def arguments_of(gate: str, checkpoint: str | None = None) -> list[str]:
    """``--ros-args`` words that make the arm follow the gate, or the policy itself."""
    words = ["-p", f"vla:checkpoint:={checkpoint}"] if checkpoint else []
    if gate != "on":
        words += ["-r", "sim:arm/joint_trajectory:=policy/joint_trajectory"]
    if gate == "shadow":
        words += ["-p", f"{MONITOR}:shadow:=true"]
    return words


class NodeEpisodes:
    """Runs trials one after the other, in real time. A context manager.

    Args:
        cell, robot: of the nodes. nodes: running. domain: their ROS domain.
        gate: ``on``, ``off`` or ``shadow``. film: whether to keep pictures.
    """

    def __init__(
        self,
        cell: Cell,
        robot: RobotModel,
        nodes: CellProcesses,
        domain: int,
        gate: str,
        film: bool = False,
    ):
        self._cell, self._robot, self._nodes = cell, robot, nodes
        self._gated, self._film = gate != "off", film
        setpoints = "arm/joint_trajectory" if gate == "on" else "sim/setpoint"
        self._watcher = Watcher(robot.names, domain, setpoints)
        self._acted = [0.0, 0.0]  # s of simulated and of real time

    def __enter__(self) -> NodeEpisodes:
        self._watcher.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._watcher.__exit__(*error)

    def wait_until_up(self) -> None:
        """Until every node answers.

        Raises:
            NodeDied, TimeoutError: one does not.
        """
        says, up = self._watcher.says, time.monotonic() + _UP
        signs = {"the simulator": lambda: bool(self._watcher.recording.measured)}
        if self._gated:
            signs["the safety monitor"] = lambda: says(MONITOR) != ""
        signs["the policy"] = lambda: says("vla") in _READY
        for what, is_up in signs.items():
            self._wait(is_up, up - time.monotonic(), what)

    def run(self, trial: Trial) -> tuple[Outcome, Film | None]:
        """Run one trial.

        Raises:
            NodeDied, TimeoutError: the nodes do not do as they are told.
        """
        self._rest()
        self._reset(trial)
        recording = self._watcher.recording
        for kept in (recording.sent, recording.measured, recording.chunks):
            kept.clear()
        self._enable()
        before = self._counters()
        film = Film(trial.limit) if self._film else None
        stop_filming = self._start(film)
        started = time.monotonic()
        number = self._watcher.episode.number
        began = self._watcher.episode.time
        self._watcher.set_parameters("vla", instruction=trial.instruction)
        self._trigger("vla/start")
        self._wait(lambda: self._is_over(trial, began), 3.0 * trial.limit + _PATIENCE, "its end")
        stop_filming()
        found, stopped = self._watcher.episode, self._stopped()
        assert found.number == number
        self._acted[0] += found.time - began
        self._acted[1] += time.monotonic() - started
        self._rest()
        counted = self._counters()
        counted.subtract(before)
        rows = np.array([row for _, row, _ in recording.sent])
        rows = rows.reshape(len(rows), len(self._robot.names))
        config = self._cell.safety_monitor
        findings = judge(self._robot, config, rows, 1.0 / config.rate) if len(rows) else None
        outcome = Outcome(
            trial=trial,
            success=found.success,
            seconds=found.at - began if found.success else None,
            lasted=found.time - began,
            touched=found.touched,
            lifted=found.lifted,
            contacts=found.contacts,
            verdicts=_under("verdicts", counted),
            checks=_under("checks", counted),
            refused=_under("refused", counted),
            stopped=stopped,
            limit_violations=findings.limit_violations if findings else 0,
            clearance_breaches=findings.clearance_breaches if findings else 0,
            min_clearance=findings.min_clearance if findings else math.inf,
        )
        return outcome, film

    def health(self) -> dict[str, float | None]:
        """Whether the machine kept up: simulated s a real one (1 if it did), and s from an
        observation to its chunk."""
        simulated, real = self._acted
        latency = self._watcher.value("vla", "latency_s", math.nan)
        return {
            "real_time": round(simulated / real, 3) if real else None,
            "latency_s": round(latency, 3) if math.isfinite(latency) else None,
        }

    # -- phases ---------------------------------------------------------------------------

    def _rest(self) -> None:
        """The policy paused, the gate disabled and nothing moving."""
        self._trigger("vla/pause")
        if not self._gated:
            time.sleep(0.4)  # it comes to rest within 0.3 s
            return

        def disabled() -> bool:
            if self._state() == "stopped":
                self._watcher.trigger("reset")
            elif self._state() != "disabled":
                self._watcher.enable(False)
            return self._state() == "disabled"

        self._wait(disabled, _PATIENCE, "the gate to be disabled", every=0.1)

    def _reset(self, trial: Trial) -> None:
        """A new scene; after this the arm is where it is, for whoever measures it."""
        task = f"{trial.task.kind} {trial.task.block}" if trial.task else ""
        self._watcher.set_parameters("sim", seed=trial.seed, task=task, vary=True)
        answer = self._watcher.call("sim/reset", Trigger, Trigger.Request())
        number = int(answer.message)

        def settled() -> bool:
            now = self._watcher.episode
            return now is not None and now.number == number and now.time > _SETTLED

        self._wait(settled, _PATIENCE, "the simulator to begin anew")

    def _enable(self) -> None:
        if not self._gated:
            return
        said = [""]

        def enabled() -> bool:
            success, said[0] = self._watcher.enable()
            return success

        try:
            self._wait(enabled, _PATIENCE, "the gate to be enabled", every=0.2)
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {said[0]}") from error
        # Its counters as of now, with what it made of the arm's leap.
        self._wait(lambda: self._state() == "holding", _PATIENCE, "the gate to hold")

    def _start(self, film: Film | None) -> Callable[[], None]:
        if film is None:
            return lambda: None
        topic = next(iter(self._cell.vla.cameras.values())).topic
        subscription = self._watcher.node.create_subscription(
            Image, topic,
            lambda m: film.add(messages.seconds(m.header.stamp), messages.image_to_rgb(m)),
            qos.SENSOR_DATA,
        )  # fmt: skip
        return lambda: self._watcher.node.destroy_subscription(subscription)

    def _is_over(self, trial: Trial, began: float) -> bool:
        now = self._watcher.episode
        done = bool(now.touched) if trial.check == NONE else now.success or now.lost
        return done or now.time - began >= trial.limit or bool(self._stopped())

    # -- words ------------------------------------------------------------------------------

    def _wait(
        self, condition: Callable[[], bool], patience: float, what: str, every: float = 0.02
    ) -> None:
        until = time.monotonic() + patience
        while not condition():
            self._nodes.check()
            if time.monotonic() > until:
                raise TimeoutError(f"waited {patience:.0f} s in vain for {what}")
            time.sleep(every)

    def _trigger(self, service: str) -> None:
        self._watcher.call(service, Trigger, Trigger.Request())

    def _state(self) -> str:
        return self._watcher.status.get(MONITOR, (0, "", {}))[2].get("state", "")

    def _stopped(self) -> str:
        return self._watcher.status.get(MONITOR, (0, "", {}))[2].get("stop", "")

    def _counters(self) -> Counter[str]:
        values = self._watcher.status.get(MONITOR, (0, "", {}))[2]
        prefixes = ("verdicts/", "checks/", "refused/")
        return Counter({k: int(v) for k, v in values.items() if k.startswith(prefixes)})


def _under(prefix: str, counted: Counter[str]) -> dict[str, int]:
    return {k.split("/", 1)[1]: n for k, n in counted.items() if n and k.startswith(f"{prefix}/")}
