"""Any LeRobot teleoperator as a source of the safety monitor."""

from __future__ import annotations

import sys
import threading
import time

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from smolvla_ros.arm.devices import Lost
from smolvla_ros.arm.jogging import Jogging, KeyJogging, TipJogging
from smolvla_ros.arm.leading import Leading, State
from smolvla_ros.arm.teleoperator import LeaderJoints, LerobotTeleoperator
from smolvla_ros.cell import TeleopConfig, load_robot, load_teleop_joints
from smolvla_ros.robot import RobotModel
from smolvla_ros.ros import messages, qos
from smolvla_ros.ros.diagnostics import ERROR, OK, WARN, Diagnostics, Status
from smolvla_ros.ros.parameters import declare
from smolvla_ros.ros.run import Fatal, run
from smolvla_ros.schema import ConfigError

_RETRY = 1.0  # s from a failure to the next try
_LONGEST = 0.1  # s that a key may count as held, however late its thread is
_SILENT = 0.5  # s in which the device must have answered


class TeleopNode(Node):
    """Publishes ``teleop/joint_states`` between ``~/start`` and ``~/pause``; silent, it lets the
    arm go. A thread speaks to the device; callbacks are the executor's."""

    def __init__(self) -> None:
        super().__init__("teleop", automatically_declare_parameters_from_overrides=True)
        self.failure: BaseException | None = None
        config, path = declare(self, "teleop")
        self._config = config
        where = f"{path or 'parameters'}: teleop"
        self._joints = self._jogging = None
        robot = load_robot(config.robot, path)
        joints = load_teleop_joints(config, robot, path)
        if joints is not None:
            self._joints = LeaderJoints(joints, config.motors(), where)
        else:
            self._jogging = _jogging(config, robot, where)
        self._names = (self._joints or self._jogging).names
        self._device = LerobotTeleoperator(config.type, config.options, where)
        self._lock = threading.Lock()  # of what follows
        self._leading = Leading(self._names, config.start_tolerance, config.blend)
        self._heard: dict[str, tuple[float, float]] = {}  # joint → (position, steady seconds)
        self._lost, self._losses = "connecting", 0
        self._answered = self._started = -float("inf")
        self._published = 0
        self._out = self.create_publisher(JointState, "teleop/joint_states", qos.STREAM_OUT)
        self.create_subscription(JointState, "joint_states", self._on_states, qos.EVERY_ONE_IN)
        self.create_service(Trigger, "~/start", self._serve_start)
        self.create_service(Trigger, "~/pause", self._serve_pause)
        self._diagnostics = Diagnostics(self, "teleop", self._status)
        self._closing = threading.Event()
        self._worker = threading.Thread(target=self._guard, name="teleop", daemon=True)
        self._worker.start()

    def close(self) -> None:
        """Let the device go."""
        self._closing.set()
        self._worker.join(timeout=2.0)

    # -- what people do -----------------------------------------------------------------

    def _serve_start(self, _request, response):
        with self._lock:
            lost = self._lost or self._silence()
            if not lost:
                self._started = time.monotonic()
                self._leading.start()
        response.success = not lost
        response.message = f"no teleoperator: {lost}" if lost else "leads when it is near the arm"
        return response

    def _serve_pause(self, _request, response):
        with self._lock:
            self._leading.pause()
        response.success, response.message = True, "the arm is given back"
        return response

    def _on_states(self, message: JointState) -> None:
        now = time.monotonic()
        with self._lock:
            for name, position in zip(message.name, message.position, strict=False):
                if np.isfinite(position):
                    self._heard[name] = (position, now)

    def _measured(self) -> np.ndarray | None:
        since = time.monotonic() - self._config.joint_states_max_age
        found = [self._heard.get(name, (0.0, -np.inf)) for name in self._names]
        return np.array([q for q, _ in found]) if all(t >= since for _, t in found) else None

    # -- the device's thread ------------------------------------------------------------

    def _guard(self) -> None:
        try:
            while not self._closing.is_set():
                try:
                    self._device.open()
                    self._read_on()
                except Lost as error:
                    self._lose(str(error))
                except ConfigError as error:
                    if self._answered == -float("inf"):
                        raise
                    # It was right before, and another one has been plugged in since.
                    self._lose("; ".join(error.problems))
                finally:
                    self._device.close()
                self._closing.wait(_RETRY)
        except ConfigError as error:
            self.failure = error
        except Exception as error:
            self.failure = Fatal(f"teleop: its thread died: {error!r}")

    def _lose(self, why: str) -> None:
        with self._lock:
            news = why != self._lost
            self._losses += not self._lost
            self._lost = why
            if self._leading.state is not State.PAUSED:
                self._leading.pause(f"it was lost: {why}")
        if news:
            self.get_logger().warning(f"no teleoperator: {why}")

    def _read_on(self) -> None:
        period = 1.0 / self._config.rate
        due = last = time.monotonic()
        while not self._closing.is_set():
            asked = time.monotonic()
            action = self._device.read()
            stamp, now = self.get_clock().now().to_msg(), time.monotonic()
            with self._lock:
                if (silent := self._silence()) and self._leading.state is not State.PAUSED:
                    # It hung, and may be anywhere by now.
                    self._leading.pause(f"the teleoperator gave {silent}")
                # As with the gate, only what is observed after that counts.
                late = asked < self._started
                row = None if late else self._step(action, now, min(now - last, _LONGEST))
                self._answered, self._lost = now, ""
            if row is not None:
                zeros = np.zeros(0)
                message = messages.joint_state(self._names, row, zeros, zeros)
                message.header.stamp = stamp
                self._out.publish(message)
                self._published += 1
            last, due = now, max(due + period, now)
            self._closing.wait(due - now if due > now else period)

    def _step(self, action: dict, now: float, dt: float) -> np.ndarray | None:
        measured = self._measured()
        if self._joints is not None:
            return self._leading.step(now, self._joints.read(action), measured)
        if measured is None:  # where the arm is, keys and steps cannot say
            if self._leading.state is State.LEADING:
                self._leading.pause("no fresh joint states of the arm")
            return None
        if self._leading.state is not State.LEADING:
            self._jogging.rest()
        return self._leading.step(now, self._jogging.move(action, measured, dt), measured)

    # -- what people see ----------------------------------------------------------------

    def _silence(self) -> str:
        silent = time.monotonic() - self._answered
        return f"no answer for {silent:.1f} s" if silent > _SILENT else ""

    def _status(self) -> Status:
        with self._lock:
            lost, leading = self._lost or self._silence(), self._leading
            state, reason = leading.state, leading.reason
        if lost:
            return Status(ERROR, f"no teleoperator: {lost}", self._values)
        words = f"{state.value}: {reason}" if reason else state.value
        if state is State.LEADING and not self._out.get_subscription_count():
            words = f"leading, but nobody hears {self._out.topic_name}"
            return Status(WARN, f"{words}: name it in the safety monitor's sources", self._values)
        return Status(WARN if state is State.WAITING or reason else OK, words, self._values)

    def _values(self) -> dict[str, object]:
        return {
            "state": self._leading.state.value,
            "losses": self._losses,
            "published": self._published,
            "age_s": time.monotonic() - self._answered,
        }


def _jogging(config: TeleopConfig, robot: RobotModel, where: str) -> Jogging:
    if config.tip is None:
        keys = {name: (key.joint, key.speed) for name, key in config.keys.items()}
        return KeyJogging(robot, keys, config.ahead)
    tip, grip = config.tip, config.tip.gripper
    gripper = None if grip is None else (grip.joint, grip.speed)
    return TipJogging(robot, tip.link, tip.speed, tip.yaw, gripper, config.ahead, where)


def main() -> int:
    """Entry point of ``teleop_node``."""
    return run(TeleopNode)


if __name__ == "__main__":
    sys.exit(main())
