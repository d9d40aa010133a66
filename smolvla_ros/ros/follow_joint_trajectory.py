"""The FollowJointTrajectory action as a source of the gate: what MoveIt drives an arm through.

control_msgs is looked for when a cell has such a source, and only then.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import GoalEvent, ServerGoalHandle
from rclpy.node import Node
from trajectory_msgs.msg import JointTrajectoryPoint

from smolvla_ros.cell import SourceConfig
from smolvla_ros.ros.messages import duration_msg, seconds
from smolvla_ros.ros.timing import steady_clock
from smolvla_ros.safety import Gate, Refused
from smolvla_ros.safety.command import MAX_POINTS
from smolvla_ros.safety.goal import (
    End,
    ErrorCode,
    Execution,
    Goal,
    Outcome,
    on_the_arms_turn,
    read_tolerance,
    refused,
    with_derivatives,
)
from smolvla_ros.safety.recording import Ring, command_line

_UNKNOWN = "off: this rclpy starts goals in a way that is not known here"
OFF = "off: control_msgs is not installed (sudo apt install ros-$ROS_DISTRO-control-msgs)"
SHADOW = "shadow: the gate has carried it out, the arm was sent nothing"

_PERIOD = 0.025  # s between two looks at a goal; feedback at every second one
_FORGET_AFTER = 10  # s for which a result can be asked for


class TrajectoryAction:
    """One action, as one source. Callbacks run on the executor's thread.

    A goal is accepted, and aborted with the reason where it cannot be executed: of a goal that
    is not accepted a client hears no reason. A newer goal replaces the one before. In shadow
    mode no goal succeeds: whoever plans would go on from where the arm is not.

    Args:
        node: the monitor. name: of the source. gate: under ``lock``. ring: hears the commands.
        steady: from a ROS stamp in seconds, and now, to steady seconds.
        heard: told when a goal was taken. refused: told the action's name and why not.
        shadow: the arm is sent nothing.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        source: SourceConfig,
        gate: Gate,
        lock: threading.Lock,
        ring: Ring,
        steady: Callable[[float, float | None], float | None],
        heard: Callable[[float], None],
        refused: Callable[[str, Refused], None],
        shadow: bool = False,
    ):
        self._node, self._name, self._source = node, name, source
        self._gate, self._lock, self._ring = gate, lock, ring
        self._steady, self._heard, self._refused = steady, heard, refused
        self._shadow = shadow
        self._handle: ServerGoalHandle | None = None  # of the goal that is carried out
        self._execution: Execution | None = None
        self._delay = 0.0  # s from that goal's arrival to its begin
        self._looks = 0
        self.status = "no goal yet"
        try:
            from control_msgs.action import FollowJointTrajectory
        except ImportError:
            self.status = OFF
            node.get_logger().warning(f"{source.topic}: {OFF}")
            return
        if not hasattr(ServerGoalHandle, "_update_state"):  # see _on_accepted
            self.status = _UNKNOWN
            node.get_logger().error(f"{source.topic}: {_UNKNOWN}")
            return
        self._type = FollowJointTrajectory
        self._server = ActionServer(
            node,
            FollowJointTrajectory,
            source.topic,
            _never,
            handle_accepted_callback=self._on_accepted,
            cancel_callback=self._on_cancel,
            result_timeout=_FORGET_AFTER,
        )
        self._timer = node.create_timer(_PERIOD, self._look, clock=steady_clock())
        self._timer.cancel()  # until there is a goal

    # -- goals ----------------------------------------------------------------------------

    def _on_accepted(self, handle: ServerGoalHandle) -> None:
        # The goal is under way from here on, without a task that waits for its end: rclpy
        # asks a waiting task at every turn of the executor whether it is done.
        handle._update_state(GoalEvent.EXECUTE)
        now = time.monotonic()
        try:
            goal = on_the_arms_turn(self._read(handle.request), self._endless())
            refusal = self._offer(now, handle.request, goal)
        except Refused as error:
            refusal = error
            with self._lock:
                self._gate.refuse(now, error, self._name)
        if refusal is not None:
            self._refused(self._source.topic, refusal)
            self._finish(handle, refused(refusal))
            return
        self._heard(now)
        if self._handle is not None:
            self._finish(self._handle, self._execution.replaced())
        with self._lock:
            self._execution = Execution(self._gate, self._name, goal, now)
        self._handle = handle
        self.status = f"executing, {goal.times[-1]:.1f} s"
        self._timer.reset()

    def _endless(self) -> dict[str, float]:
        """Joint that turns for ever → rad where it is sent now."""
        with self._lock:
            gate = self._gate
            return {
                name: float(q)
                for name, q, end in zip(gate.names, gate.motion.q, gate.limits.upper, strict=True)
                if np.isinf(end)
            }

    def _read(self, request: Any) -> Goal:
        if request.multi_dof_trajectory.points or request.multi_dof_trajectory.joint_names:
            raise Refused("multi_dof", "joints of several degrees of freedom are not supported")
        if request.component_path_tolerance or request.component_goal_tolerance:
            raise Refused("multi_dof", "tolerances of several degrees of freedom are not supported")
        trajectory, source = request.trajectory, self._source
        names = list(trajectory.joint_names)
        # Before a row is touched: this is the thread that hears joint states and `stop`.
        if len(trajectory.points) > MAX_POINTS:
            raise Refused("too_long", f"{len(trajectory.points)} points; at most {MAX_POINTS}")
        times, positions = with_derivatives(
            [seconds(p.time_from_start) for p in trajectory.points],
            [p.positions for p in trajectory.points],
            [p.velocities for p in trajectory.points],
            [p.accelerations for p in trajectory.points],
        )
        path, end = (
            read_tolerance(
                [(t.name, t.position, t.velocity, t.acceleration) for t in given], names, default
            )
            for given, default in (
                (request.path_tolerance, source.path_tolerance),
                (request.goal_tolerance, source.goal_tolerance),
            )
        )
        time_given = seconds(request.goal_time_tolerance)
        after = source.goal_time if time_given == 0 else time_given if time_given > 0 else np.inf
        return Goal(names, times, positions, path, end, after)

    def _offer(self, now: float, request: Any, goal: Goal) -> Refused | None:
        stamp = self._steady(now, seconds(request.trajectory.header.stamp) or None)
        times, delay = goal.times, 0.0
        if len(times) and times[0] < 0.0:
            raise Refused("time_order", f"first time_from_start is {times[0]:.3f} s")
        if stamp is not None and stamp > now:
            # To begin later is to have a later first row.
            delay, stamp = stamp - now, now
            times = [t + delay for t in times]
        values = (self._name, stamp, goal.names, times, goal.positions)
        with self._lock:
            refusal = self._gate.offer(now, *values)
        self._delay = self._delay if refusal else delay
        self._ring.add(now, "command", command_line(*values))
        return refusal

    def _on_cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        if handle != self._handle:
            return CancelResponse.REJECT
        with self._lock:
            self._execution.cancel()
        self._ring.add(time.monotonic(), "cancel", self._name)
        return CancelResponse.ACCEPT

    def _look(self) -> None:
        now = time.monotonic()
        execution = self._execution
        with self._lock:
            outcome = execution.step(now)
            clock = self._gate.clock
        self._looks += 1
        told = execution.desired is not None and not execution.cancelled
        if told and (outcome is not None or self._looks % 2):
            self._handle.publish_feedback(self._feedback(execution, clock))
        if outcome is not None:
            if self._shadow and outcome.end is End.SUCCEEDED:
                outcome = Outcome(End.ABORTED, ErrorCode.INVALID_GOAL, SHADOW)
            if outcome.code is ErrorCode.PATH_TOLERANCE_VIOLATED:
                self._ring.add(now, "cancel", self._name)
            handle, self._handle, self._execution = self._handle, None, None
            self._timer.cancel()
            self._finish(handle, outcome)

    def _finish(self, handle: ServerGoalHandle, outcome: Outcome) -> None:
        self.status = f"{outcome.end.value}: {outcome.text}" if outcome.text else outcome.end.value
        if outcome.end is End.ABORTED:
            self._node.get_logger().warning(
                f"{self._source.topic}: {outcome.code.name}: {outcome.text}"
            )

        # At once, not with the result: of a request to cancel all goals rclpy skips the goal behind
        # one that is refused, and says that it was cancelled.
        {
            End.SUCCEEDED: handle.succeed,
            End.ABORTED: handle.abort,
            End.CANCELED: handle.canceled,
        }[outcome.end]()

        def end(_: ServerGoalHandle) -> Any:
            return self._type.Result(error_code=int(outcome.code), error_string=outcome.text)

        self._server.notify_execute(handle, end)

    def _feedback(self, execution: Execution, clock: float | None) -> Any:
        def point(positions: np.ndarray, velocities: np.ndarray) -> JointTrajectoryPoint:
            return JointTrajectoryPoint(
                positions=array("d", positions),
                velocities=array("d", velocities),
                time_from_start=at,
            )

        end = float(execution.goal.times[-1])
        at = duration_msg(end if clock is None else min(max(clock - self._delay, 0.0), end))
        e = execution
        feedback = self._type.Feedback(
            joint_names=e.names,
            desired=point(e.desired, e.desired_rate),
            actual=point(e.actual, e.actual_rate),
            error=point(e.desired - e.actual, e.desired_rate - e.actual_rate),
        )
        feedback.header.stamp = self._node.get_clock().now().to_msg()
        return feedback


def _never(handle: ServerGoalHandle) -> Any:
    raise RuntimeError("a goal is ended by the callback that its end comes with")
