"""A real arm through LeRobot: joint_states out, arm/joint_trajectory in, one point a message."""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.time import Duration
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from smolvla_ros.arm.errors import ArmError
from smolvla_ros.arm.watchdog import Mode, Watchdog
from smolvla_ros.cell import ArmConfig, load_robot
from smolvla_ros.robot import RobotModel
from smolvla_ros.ros import messages, qos
from smolvla_ros.ros.diagnostics import ERROR, OK, WARN, Diagnostics, Status
from smolvla_ros.ros.middleware import leave_shared_memory
from smolvla_ros.ros.parameters import declare
from smolvla_ros.ros.run import Fatal, run
from smolvla_ros.ros.scheduling import go_second
from smolvla_ros.safety.command import Refused, read_command


class ArmNode(Node):
    """The arm has a thread of its own; callbacks run on the executor's.

    ``~/torque`` (std_srvs/SetBool) is the only way to switch the torque off. On again, the arm
    is held where it stands.
    """

    def __init__(self) -> None:
        super().__init__("arm", automatically_declare_parameters_from_overrides=True)
        config, path = declare(self, "arm")
        robot = load_robot(config.robot, path)
        # Imported here: it takes seconds, and a slip in the cell is to be told before.
        try:
            from smolvla_ros.arm.keeper import Keeper
        except ImportError as error:
            raise Fatal(f"{error}; pip install 'smolvla_ros[arm]'") from error
        self.failure: BaseException | None = None
        self._refused: dict[str, int] = {}
        self._rate = config.rate
        self._states = self.create_publisher(JointState, "joint_states", qos.STREAM_OUT)
        self._arm = _make_arm(config, robot, path)
        self._watchdog = Watchdog(
            np.minimum(robot.velocity, config.max_velocity or np.inf),
            config.timeout,
            config.takeover,
            self._arm.resolution,
        )
        self._keeper = Keeper(
            self._arm,
            self._watchdog,
            config.rate,
            config.lost_after,
            config.torque,
            self._publish,
            lambda words: self.get_logger().warning(words),
            self._fail,
        )
        try:
            self._arm.connect()
            self._keeper.start()
        except ArmError as error:
            self._arm.close()
            raise Fatal(str(error)) from error
        self.create_subscription(
            JointTrajectory, "arm/joint_trajectory", self._on_setpoint, qos.NEWEST_IN
        )
        self.create_service(SetBool, "~/torque", self._serve_torque)
        self._diagnostics = Diagnostics(self, "arm", self._status)
        # What LeRobot has brought along is no garbage, and looking it through would keep a
        # set-point waiting.
        gc.collect()
        gc.freeze()
        self._scheduling = go_second()  # behind the gate, before everything ordinary

    def close(self) -> None:
        """Let the port go; the motors hold on."""
        self._keeper.close()

    def _fail(self, error: BaseException) -> None:
        self.failure = Fatal(f"arm: {error!r}")

    # -- in and out -------------------------------------------------------------------------

    def _publish(self, ago, positions, velocities, efforts) -> None:
        known = efforts if np.isfinite(efforts).all() else efforts[:0]
        state = messages.joint_state(self._arm.names, positions, velocities, known)
        state.header.stamp = (self.get_clock().now() - Duration(seconds=ago)).to_msg()
        self._states.publish(state)

    def _on_setpoint(self, message: JointTrajectory) -> None:
        try:
            # The gate sends one point a message; a whole trajectory has come past it.
            if len(message.points) > 1:
                raise Refused("too_long", f"{len(message.points)} points; one is a set-point")
            command = read_command(
                0.0,
                message.joint_names,
                [messages.seconds(p.time_from_start) for p in message.points],
                [p.positions for p in message.points],
                self._arm.names,
            )
        except Refused as refusal:
            self._refused[refusal.check] = self._refused.get(refusal.check, 0) + 1
            self.get_logger().warning(
                f"arm/joint_trajectory refused: {refusal}", throttle_duration_sec=5.0
            )
            return
        self._keeper.offer(command.positions[0], float(command.times[0]) or 1.0 / self._rate)

    def _serve_torque(self, request, response):
        against = self._keeper.set_torque(request.data)
        response.success = not against
        response.message = against or ("held" if request.data else "limp")
        return response

    # -- how it is --------------------------------------------------------------------------

    def _status(self) -> Status:
        report = self._keeper.report
        mode = report.mode
        level, words = OK, mode.value
        if mode is Mode.LOST:
            level, words = ERROR, f"{mode.value}: {report.trouble}"
        elif report.alarms:
            level, words = ERROR, f"{mode.value}; {'; '.join(report.alarms)}"
        elif report.limp:
            level, words = WARN, f"no torque: {', '.join(report.limp)}; arm/torque holds the arm"
        elif report.away:
            level, words = (
                WARN,
                (
                    f"holding: set-points are {report.away:.2f} rad from where the arm is held; "
                    "reset and enable the safety monitor"
                ),
            )
        return Status(level, words, self._numbers)

    def _numbers(self) -> Mapping[str, Any]:
        report, watchdog = self._keeper.report, self._watchdog
        values: dict[str, Any] = {
            "torque": report.torque,
            "reads": report.reads,
            "writes": report.writes,
            "read_errors": self._arm.errors["read"],
            "write_errors": self._arm.errors["write"],
            "losses": report.losses,
            "last_error": report.trouble,
            "setpoint_timeouts": watchdog.timeouts,
            "setpoints_limited": watchdog.limited,
            "setpoints_lost": watchdog.lost,
            "setpoints_refused": sum(self._refused.values()),
            "scheduling": self._scheduling,
        }
        for name, seconds in (("read", report.read_s), ("write", report.write_s)):
            if seconds:
                p50, p99 = np.percentile(list(seconds), [50, 99])
                values |= {f"{name}_ms/p50": 1e3 * p50, f"{name}_ms/p99": 1e3 * p99}
        return values | {f"temperature/{m}": c for m, c in report.temperatures.items()}


def _make_arm(config: ArmConfig, robot: RobotModel, path: Path | None):
    """LeRobot's robot as an arm, nothing opened."""
    from smolvla_ros.arm.lerobot import make_arm

    try:
        return make_arm(config, robot, f"{path or 'parameters'}: arm")
    except ArmError as error:
        raise Fatal(str(error)) from error


def main() -> int:
    """Entry point of ``arm_node``."""
    # Callbacks and the bus share the interpreter: hand over quickly.
    sys.setswitchinterval(0.0005)
    leave_shared_memory()
    return run(ArmNode)


if __name__ == "__main__":
    sys.exit(main())
