"""The safety monitor: the one node that may write the arm's command topic.

Callbacks hand over to the gate; one thread, on a steady clock, ticks it and publishes.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger
from visualization_msgs.msg import MarkerArray

from smolvla_ros.cell import load_gate, load_robot
from smolvla_ros.ros import qos
from smolvla_ros.ros.commanding import past
from smolvla_ros.ros.diagnostics import WARN, Diagnostics, Status
from smolvla_ros.ros.graph import Findings, GraphWatch
from smolvla_ros.ros.inputs import Inputs
from smolvla_ros.ros.middleware import leave_shared_memory
from smolvla_ros.ros.monitor_markers import all_markers
from smolvla_ros.ros.monitor_status import figures, level_and_words, security
from smolvla_ros.ros.output import Output as ArmOutput
from smolvla_ros.ros.parameters import declare
from smolvla_ros.ros.reconfigure import Configuration
from smolvla_ros.ros.run import Fatal, run
from smolvla_ros.ros.scheduling import go_first, go_second
from smolvla_ros.ros.timing import Durations, steady_clock
from smolvla_ros.safety import Gate, Output, Refused, State
from smolvla_ros.safety.recording import Recorder, Ring
from smolvla_ros.safety.rehearsal import rehearse

_GRAPH_PERIOD = 0.5  # s
_MARKER_PERIOD = 0.2  # s


class SafetyMonitor(Node):
    """Gates the sources of a cell to its arm."""

    def __init__(self) -> None:
        super().__init__("safety_monitor", automatically_declare_parameters_from_overrides=True)
        self.failure: BaseException | None = None
        config, path = declare(self, "safety_monitor")
        self._folder = path.parent if path else Path.cwd()
        self._robot = load_robot(config.robot, path)
        rehearse(load_gate(config, self._robot, path), next(iter(config.named_sources())))
        self._gate: Gate = load_gate(config, self._robot, path)
        # Every call into the gate, and the publish that follows a tick, hold this lock:
        # once stop() has returned, nothing from before it can leave.
        self._lock = threading.Lock()
        self._dt = 1.0 / config.rate
        self._output: Output | None = None
        self._periods, self._steps = Durations(), Durations()
        self._overruns = self._late_before = 0
        self._scheduling = self._told = ""
        self._mismatch = ""
        self._config = Configuration(self, config, path, self._robot, self._gate, self._lock)
        keep = config.recording
        self._ring = Ring(keep.seconds if keep else 0.0)
        # Two cells may stop for one reason in one second.
        own = self.get_namespace().strip("/")
        self._recorder = Recorder(self._ring, Path(keep.directory) / own) if keep else None
        self._arm = ArmOutput(
            self, config.output.type, config.output_topic, self._robot.names,
            config.output.joints, config.output.ahead or self._dt, self._on_mismatch,
        )  # fmt: skip
        self._inputs = Inputs(
            self, self._gate, self._lock, config, self._robot, self._ring,
            self._config.placed_zones,
        )  # fmt: skip
        # What moves nothing may be sent beside whoever moves the arm.
        watched = () if config.shadow else config.watch
        self._graph = GraphWatch(
            self, self._arm.publisher, watched, self._inputs.topics, config.shadow
        )
        self._findings = Findings()
        self._markers = self.create_publisher(MarkerArray, "~/markers", qos.EVENT)
        self.create_service(Trigger, "~/stop", self._serve_stop)
        self.create_service(Trigger, "~/reset", self._serve_reset)
        self.create_service(SetBool, "~/enable", self._serve_enable)
        self.create_service(Trigger, "~/reload", self._serve_reload)
        self._diagnostics = Diagnostics(self, "safety_monitor", self._status)
        self.create_timer(_GRAPH_PERIOD, self._watch_graph, clock=steady_clock())
        self.create_timer(_MARKER_PERIOD, self._show, clock=steady_clock())
        for line in [*self._gate.limits.notes, *self._robot.report()]:
            self.get_logger().info(line)
        self.get_logger().info(f"configuration {self._config.hash[:12]}")
        self._closing = threading.Event()
        self._ticker = threading.Thread(target=self._run, name="gate", daemon=True)
        go_second()
        self._ticker.start()

    def close(self) -> None:
        """Bring the arm to rest, then end the threads: whoever ends the monitor in
        mid-motion must not leave a set-point that still moves as the last one."""
        with self._lock:
            self._gate.stop("the monitor is ending", "ending")
        until = time.monotonic() + 3.0
        while self._gate.state is not State.STOPPED and self._ticker.is_alive():
            if time.monotonic() > until:
                break
            time.sleep(self._dt)
        self._closing.set()
        self._ticker.join(timeout=2.0)
        self._inputs.close()
        if self._recorder is not None:
            self._recorder.close()

    # -- services -----------------------------------------------------------------------

    def _serve_stop(self, _request, response):
        with self._lock:
            self._gate.stop("~/stop was called")
        self._ring.add(time.monotonic(), "stop", True)
        response.success, response.message = True, "stopping"
        return response

    def _serve_reset(self, _request, response):
        def reset() -> str:
            now = time.monotonic()
            with self._lock:
                self._gate.reset(now)
            self._ring.add(now, "reset", True)
            return "disabled"

        return self._try(response, reset)

    def _serve_enable(self, request, response):
        def enable() -> str:
            self._watch_graph()
            if self._findings.against_enabling:
                raise Refused("enable", self._findings.against_enabling)
            now = time.monotonic()
            with self._lock:
                self._gate.enable(now)
            self._ring.add(now, "enable", True)
            for figure in (self._periods, self._steps):  # figures are of this run
                figure.clear()
            said = "; ".join(["enabled", *map(str, past(self, self._graph.moving))])
            self.get_logger().info(said)
            return said

        def disable() -> str:
            with self._lock:
                self._gate.disable()
                state = self._gate.state
            self._ring.add(time.monotonic(), "enable", False)
            idle = (State.WAITING, State.DISABLED, State.STOPPED)
            return f"it is {state.value}" if state in idle else "disabling"

        return self._try(response, enable if request.data else disable)

    def _serve_reload(self, _request, response):
        return self._try(response, self._config.reload)

    def _try(self, response, action: Callable[[], str]):
        try:
            response.success, response.message = True, action()
        except Refused as refusal:
            response.success, response.message = False, str(refusal)
            self.get_logger().warning(f"refused: {refusal}")
        return response

    # -- the loop -----------------------------------------------------------------------

    def _run(self) -> None:
        try:
            # A collection in mid-tick would be a late tick; young garbage is collected in
            # the slack at the end of one.
            gc.collect()
            gc.freeze()
            gc.disable()
            self._scheduling = go_first()
            self._loop()
        except Exception as error:
            if not self._closing.is_set():
                self.failure = Fatal(f"gate thread died: {error!r}")

    def _loop(self) -> None:
        due = last = time.monotonic()
        ticks = 0
        state = None
        while not self._closing.is_set():
            started = time.monotonic()
            self._periods.add(started - last)
            last = started
            with self._lock:
                output = self._gate.tick(started)
                if output.positions is not None:
                    stamp = self.get_clock().now().to_msg()
                    self._arm.publish(output.positions, output.velocities, stamp)
            self._output = output
            if output.positions is not None:
                self._ring.add(started, "output", output)
            if output.state is State.STOPPED and state is not State.STOPPED:
                self._record()
            state = output.state
            self._steps.add(time.monotonic() - started)
            ticks += 1
            if ticks % 50 == 0:
                gc.collect(1)
            due += self._dt
            left = due - time.monotonic()
            if left < 0:
                self._overruns += 1
                due -= left  # a late tick is not made up for: that would be a burst
            else:
                time.sleep(left)

    def _record(self) -> None:
        # That somebody has ended the monitor is nothing to look into.
        if self._recorder is not None and self._gate.stop_check != "ending":
            self._recorder.write(self._gate.stop_check)

    # -- what people see ----------------------------------------------------------------

    def _on_mismatch(self, text: str) -> None:
        self._mismatch = text

    def _watch_graph(self) -> None:
        self._findings = self._graph.look()
        with self._lock:
            self._gate.fault("bypass", "; ".join(self._findings.bypass))

    def _show(self) -> None:
        if self._markers.get_subscription_count():
            self._markers.publish(
                all_markers(
                    self._gate,
                    self._lock,
                    self._robot,
                    self._config.config.zones,
                    self._folder,
                    self._inputs.obstacles,
                )
            )

    def _status(self) -> Status:
        out = self._output
        if out is None:
            return Status(WARN, "starting")
        late, self._late_before = self._gate.late_ticks > self._late_before, self._gate.late_ticks
        alarms = [text for text in (self._mismatch, self._recording_problem()) if text]
        level, words = level_and_words(out, self._gate, self._findings, alarms, late)
        if self._config.config.shadow:
            words = f"shadow: {words}"
        if self._told != (stop := self._gate.stop_reason):
            self._told = stop
            if stop:
                self.get_logger().error(f"stop: {self._gate.stop_check}: {stop}")
        return Status(level, words, lambda: self._values(out))

    def _recording_problem(self) -> str:
        return self._recorder.problem if self._recorder is not None else ""

    def _values(self, out: Output) -> dict[str, object]:
        now = time.monotonic()
        with self._lock:
            values = figures(out, self._gate, now)
        heard = self._inputs.commanded_at
        config = self._config.config
        values |= {
            "command_age_s": now - heard if heard is not None else float("inf"),
            "margin_m": config.margin,
            "slack_m": config.slack,
            "configuration": self._config.hash,
            "ticks": self._steps.count,
            "overruns": self._overruns,
            "scheduling": self._scheduling,
            "security": security(),
            "shadow": config.shadow,
            "against_enabling": self._findings.against_enabling,
            "last_refusal": self._inputs.last_refusal,
        }
        if self._recorder is not None:
            values["recording"] = self._recorder.problem or self._recorder.written
        values |= self._inputs.statuses
        values |= {f"tick_period_s/{k}": v for k, v in self._periods.summary().items()}
        values |= {f"gate_step_s/{k}": v for k, v in self._steps.summary().items()}
        return values


def main() -> int:
    """Entry point of ``safety_monitor``."""
    # Callbacks and the tick share the interpreter: hand over quickly.
    sys.setswitchinterval(0.0005)
    leave_shared_memory()
    return run(SafetyMonitor)


if __name__ == "__main__":
    sys.exit(main())
