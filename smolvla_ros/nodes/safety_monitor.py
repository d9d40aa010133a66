"""The safety monitor: the one node that may write the arm's command topic.

Callbacks fill mailboxes; one thread, on a steady clock, ticks the gate and publishes.
"""

from __future__ import annotations

import gc
import sys
import threading
import time

from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import MarkerArray

from smolvla_ros.cell import load_gate, load_robot
from smolvla_ros.ros import messages, qos
from smolvla_ros.ros.diagnostics import ERROR, OK, WARN, Diagnostics, Status
from smolvla_ros.ros.markers import zone_markers
from smolvla_ros.ros.parameters import declare
from smolvla_ros.ros.run import Fatal, run
from smolvla_ros.ros.scheduling import go_first
from smolvla_ros.ros.timing import Durations
from smolvla_ros.safety import Gate, Output, Refused, State, read_command
from smolvla_ros.safety.rehearsal import rehearse


class SafetyMonitor(Node):
    """Gates ``policy/joint_trajectory`` to ``arm/joint_trajectory``."""

    def __init__(self) -> None:
        super().__init__("safety_monitor", automatically_declare_parameters_from_overrides=True)
        self.failure: BaseException | None = None
        self._config, path = declare(self, "safety_monitor")
        robot = load_robot(self._config.robot, path)
        rehearse(load_gate(self._config, robot, path))
        self._gate: Gate = load_gate(self._config, robot, path)
        # Every call into the gate, and the publish that follows a tick, hold this lock:
        # once stop() has returned, nothing from before it can leave.
        self._lock = threading.Lock()
        self._dt = 1.0 / self._config.rate
        self._joints = robot.names
        self._output: Output | None = None
        self._periods, self._steps = Durations(), Durations()
        self._overruns = 0
        self._scheduling = ""
        self._last_refusal = ""
        self._arm = self.create_publisher(JointTrajectory, "arm/joint_trajectory", qos.STREAM_OUT)
        self._markers = self.create_publisher(MarkerArray, "~/markers", qos.EVENT)
        self.create_subscription(JointState, "joint_states", self._on_state, qos.NEWEST_IN)
        self.create_subscription(
            JointTrajectory, "policy/joint_trajectory", self._on_command, qos.NEWEST_IN
        )
        # A reliable and a best-effort reader: a stop is heard from whoever publishes it.
        for profile in (qos.EVENT, qos.NEWEST_IN):
            self.create_subscription(Bool, "stop", self._on_stop, profile)
        self.create_service(Trigger, "~/stop", self._serve_stop)
        self.create_service(Trigger, "~/reset", self._serve_reset)
        self.create_service(SetBool, "~/enable", self._serve_enable)
        self._diagnostics = Diagnostics(self, "safety_monitor", self._status)
        self._zone_markers = zone_markers(self._config.zones, robot.links[0])
        self.create_timer(1.0, lambda: self._markers.publish(self._zone_markers))
        self._closing = threading.Event()
        self._ticker = threading.Thread(target=self._run, name="gate", daemon=True)
        self._ticker.start()

    def close(self) -> None:
        """Bring the arm to rest, then end the tick thread: whoever ends the monitor in
        mid-motion must not leave a set-point that still moves as the last one."""
        with self._lock:
            self._gate.stop("the monitor is ending")
        until = time.monotonic() + 3.0
        while self._gate.state is not State.STOPPED and self._ticker.is_alive():
            if time.monotonic() > until:
                break
            time.sleep(self._dt)
        self._closing.set()
        self._ticker.join(timeout=2.0)

    # -- mailboxes ----------------------------------------------------------------------

    def _on_state(self, message: JointState) -> None:
        q = messages.joint_positions(message, self._joints)
        if q is None:
            self.get_logger().warning(
                "joint_states: not one finite position for each joint; ignored",
                throttle_duration_sec=5.0,
            )
            return
        with self._lock:
            self._gate.measure(time.monotonic(), q)

    def _on_command(self, message: JointTrajectory) -> None:
        now = time.monotonic()
        # ROS time is used for stamps alone; the gate lives on the steady clock. A message
        # without a stamp counts from its arrival.
        stamp = messages.seconds(message.header.stamp)
        age = self.get_clock().now().nanoseconds * 1e-9 - stamp if stamp else 0.0
        try:
            command = read_command(
                now - age,
                message.joint_names,
                [messages.seconds(p.time_from_start) for p in message.points],
                [p.positions for p in message.points],
                self._joints,
            )
            with self._lock:
                self._gate.propose(now, command)
        except Refused as refusal:
            with self._lock:
                self._gate.refuse(refusal)
            self._last_refusal = f"{refusal.check}: {refusal}"
            self.get_logger().warning(
                f"policy/joint_trajectory refused: {self._last_refusal}", throttle_duration_sec=5.0
            )

    def _on_stop(self, message: Bool) -> None:
        with self._lock:
            self._gate.hear_stop_channel(time.monotonic())
            # With a heartbeat, false says "all is well"; without one any message stops.
            if message.data or self._config.stop_heartbeat is None:
                self._gate.stop("message on stop")

    # -- services -----------------------------------------------------------------------

    def _serve_stop(self, _request, response):
        with self._lock:
            self._gate.stop("~/stop was called")
        response.success, response.message = True, "stopping"
        return response

    def _serve_reset(self, _request, response):
        return self._try(response, "disabled", lambda now: self._gate.reset(now))

    def _serve_enable(self, request, response):
        if not request.data:
            return self._try(response, "disabling", lambda now: self._gate.disable())
        response = self._try(response, "enabled", lambda now: self._gate.enable(now))
        if response.success:  # figures are of this run
            self._periods.clear()
            self._steps.clear()
        return response

    def _try(self, response, done: str, action):
        try:
            with self._lock:
                action(time.monotonic())
            response.success, response.message = True, done
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
        while not self._closing.is_set():
            started = time.monotonic()
            self._periods.add(started - last)
            last = started
            with self._lock:
                output = self._gate.tick(started)
                if output.positions is not None:
                    stamp = self.get_clock().now().to_msg()
                    self._arm.publish(
                        messages.setpoint_to_trajectory(
                            self._joints, output.positions, output.velocities, self._dt, stamp
                        )
                    )
            self._output = output
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

    # -- what people see ----------------------------------------------------------------

    def _status(self) -> Status:
        out = self._output
        if out is None:
            return Status(WARN, "starting")
        message = out.state.value
        if out.verdict.detail or out.verdict.check:
            message += f": {out.verdict.detail or out.verdict.check}"
        level = {State.WAITING: WARN, State.BRAKING: WARN, State.STOPPED: ERROR}.get(out.state, OK)
        return Status(level, message, lambda: self._values(out))

    def _values(self, out: Output) -> dict[str, object]:
        gate = self._gate
        values: dict[str, object] = {
            "state": out.state.value,
            "verdict": out.verdict.kind.value,
            "check": out.verdict.check,
            "detail": out.verdict.detail,
            "clearance_m": out.clearance,
            "nearest": out.pair,
            "tracking_error_rad": gate.tracking_error,
            "margin_m": self._config.margin,
            "slack_m": self._config.slack,
            "ticks": self._steps.count,
            "overruns": self._overruns,
            "scheduling": self._scheduling,
            "last_refusal": self._last_refusal,
        }
        counters = {"verdicts": gate.verdicts, "checks": gate.checks, "refused": gate.refusals}
        for name, counter in counters.items():
            with self._lock:  # they grow in the tick
                found = dict(counter)
            values |= {f"{name}/{k}": n for k, n in found.items()}
        values |= {f"tick_period_s/{k}": v for k, v in self._periods.summary().items()}
        values |= {f"gate_step_s/{k}": v for k, v in self._steps.summary().items()}
        return values


def main() -> int:
    """Entry point of ``safety_monitor``."""
    # Callbacks and the tick share the interpreter: hand over quickly.
    sys.setswitchinterval(0.0005)
    return run(SafetyMonitor)


if __name__ == "__main__":
    sys.exit(main())
