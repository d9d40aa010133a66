"""The action's own server, with a real client beside it and a gate that is ticked by hand."""

from __future__ import annotations

import sys
import threading
import time

import numpy as np
import pytest
import rclpy
import yaml
from action_msgs.msg import GoalStatus
from cells import ROOT, Run, tabletop
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectoryPoint

from smolvla_ros.cell import SourceConfig
from smolvla_ros.cli.processes import private_domain
from smolvla_ros.ros import follow_joint_trajectory, messages
from smolvla_ros.ros.follow_joint_trajectory import OFF, SHADOW, TrajectoryAction
from smolvla_ros.safety.recording import Ring

SUCCEEDED, CANCELED, ABORTED = 4, 5, 6  # action_msgs/GoalStatus
MOVEIT = SourceConfig(
    topic="arm_controller/follow_joint_trajectory",
    type="FollowJointTrajectory",
    priority=5,
    timeout=0.5,
    missing_joints="hold",
)
PAN = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
DOWN = np.array([0.0, 1.0, 0.0, 0.0, 0.0, 0.0])


class Bench:
    """A gate whose ticks may be late, its action, and a client."""

    def __init__(self, context, shadow=False, namespace=""):
        sources = {"policy": SourceConfig(topic="policy"), "moveit": MOVEIT}
        slow = {"stall": 1e3, "late_ticks": 10**6, "joint_state_timeout": 1e3}
        self.run = Run(sources=sources, **slow)
        self.gate = self.run.gate
        self.node = rclpy.create_node("bench", context=context, namespace=namespace)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.ring = Ring(60.0)
        self.action = TrajectoryAction(
            self.node, "moveit", MOVEIT, self.gate, threading.Lock(), self.ring,
            self.steady, lambda now: None, lambda topic, refusal: None, shadow,
        )  # fmt: skip
        self.feedback: list = []
        self.tick()

    def steady(self, now, stamp):
        if stamp is None:
            return None
        return now - (self.node.get_clock().now().nanoseconds * 1e-9 - stamp)

    def connect(self, kind, name=MOVEIT.topic):
        self.kind = kind
        self.client = ActionClient(self.node, kind, name)
        self.until(self.client.server_is_ready)
        return self

    def enable(self):
        self.gate.enable(time.monotonic())
        return self

    def tick(self):
        now = time.monotonic()
        self.gate.measure(now, self.run.q)
        output = self.gate.tick(now)
        if output.positions is not None:
            self.run.q = output.positions

    def until(self, done, seconds=60.0):
        """Spin, and tick at the gate's rate or as fast as the machine can."""
        end = time.monotonic() + seconds
        due = time.monotonic()
        while not done():
            assert time.monotonic() < end, "not within time"
            self.executor.spin_once(timeout_sec=max(0.0, due - time.monotonic()))
            if time.monotonic() >= due:
                self.tick()
                due = time.monotonic() + self.run.dt

    def goal(self, way=PAN, far=0.4, seconds=1.0, joints=None):
        """Rows with their velocities, at rest at both ends, as time parametrisation leaves it."""
        joints = list(self.run.robot.names) if joints is None else joints
        columns = [self.run.robot.names.index(j) for j in joints]
        goal = self.kind.Goal()
        goal.trajectory.joint_names = joints
        for t in np.linspace(0.0, seconds, 11):
            u = t / seconds
            place = self.run.q + far * (3 * u**2 - 2 * u**3) * way
            speed = far * 6 * (u - u**2) / seconds * way
            goal.trajectory.points.append(
                JointTrajectoryPoint(
                    positions=place[columns].tolist(),
                    velocities=speed[columns].tolist(),
                    time_from_start=messages.duration_msg(float(t)),
                )
            )
        return goal

    def send(self, goal):
        sent = self.client.send_goal_async(goal, lambda m: self.feedback.append(m.feedback))
        self.until(sent.done)
        assert sent.result().accepted
        return sent.result()

    def result(self, handle):
        """Status, error code and text."""
        asked = handle.get_result_async()
        self.until(asked.done)
        answer = asked.result()
        return answer.status, answer.result.error_code, answer.result.error_string


@pytest.fixture
def context():
    number, lock = private_domain()
    with lock:
        context = rclpy.Context()
        rclpy.init(context=context, domain_id=number)
        yield context
        context.try_shutdown()


@pytest.fixture
def action():
    found = pytest.importorskip(
        "control_msgs.action", reason="needs control_msgs (ros-$ROS_DISTRO-control-msgs)"
    )
    return found.FollowJointTrajectory


@pytest.fixture
def bench(context, action):
    return Bench(context).connect(action)


def test_without_control_msgs_the_action_is_off_and_says_so(context, monkeypatch):
    monkeypatch.setitem(sys.modules, "control_msgs.action", None)
    assert Bench(context).action.status == OFF


def test_an_rclpy_that_starts_goals_otherwise_turns_the_action_off(context, action, monkeypatch):
    monkeypatch.delattr(follow_joint_trajectory.ServerGoalHandle, "_update_state")
    assert Bench(context).action.status.startswith("off: this rclpy")


def test_a_goal_with_feedback(bench):
    bench.enable()
    start = bench.run.q.copy()
    status, code, text = bench.result(bench.send(bench.goal(joints=["shoulder_pan"])))
    assert (status, code, text) == (SUCCEEDED, bench.kind.Result.SUCCESSFUL, "")
    np.testing.assert_allclose(bench.run.q, start + 0.4 * PAN, atol=1e-5)
    assert bench.action.status == "succeeded"
    assert len(bench.feedback) >= 2
    for each in bench.feedback:
        assert list(each.joint_names) == ["shoulder_pan"]
        error = np.subtract(each.desired.positions, each.actual.positions)
        np.testing.assert_allclose(error, each.error.positions)
        assert start[0] - 1e-6 <= each.desired.positions[0] <= start[0] + 0.4 + 1e-6
    ends = [messages.seconds(f.desired.time_from_start) for f in bench.feedback]
    assert ends == sorted(ends) and ends[-1] == 1.0


def test_a_goal_is_cancelled_in_mid_motion(bench):
    bench.enable()
    start = bench.run.q[0]
    handle = bench.send(bench.goal())
    bench.until(lambda: bench.run.q[0] > start + 0.1)
    asked = handle.cancel_goal_async()
    bench.until(asked.done)
    assert len(asked.result().goals_canceling) == 1
    status, *_ = bench.result(handle)
    assert status == CANCELED
    assert bench.gate.motion.at_rest and start + 0.1 < bench.run.q[0] < start + 0.35
    assert bench.ring.lines()[-1]["cancel"] == "moveit"
    again = bench.result(bench.send(bench.goal(far=-0.1)))
    assert again[0] == SUCCEEDED, "and the next one is carried out"


def test_a_goal_through_a_zone_is_aborted_with_the_gates_reason(bench):
    bench.enable()
    status, code, text = bench.result(bench.send(bench.goal(DOWN, 1.5, 2.0)))
    assert (status, code) == (ABORTED, bench.kind.Result.PATH_TOLERANCE_VIOLATED)
    assert "keep_out" in text and "table" in text and text in bench.action.status


def test_what_cannot_be_carried_out_is_aborted_with_code_and_reason(bench):
    codes = bench.kind.Result
    status, code, text = bench.result(bench.send(bench.goal()))
    assert (status, code) == (ABORTED, codes.INVALID_GOAL) and text.startswith("not_enabled")
    bench.enable()

    def unknown(goal):
        goal.trajectory.joint_names[0] = "elbow_of_another"

    def old(goal):
        goal.trajectory.header = Header(stamp=messages.time_msg(1.0))

    def nothing(goal):
        goal.trajectory.points = []

    def long(goal):
        goal.trajectory.points = goal.trajectory.points[:1] * 1001

    def multi(goal):
        goal.multi_dof_trajectory.joint_names = ["base"]

    def short(goal):
        goal.trajectory.points[3].velocities = [0.0]

    def elsewhere(goal):
        for point in goal.trajectory.points:
            point.positions[0] += 0.7

    refused = {
        unknown: (codes.INVALID_JOINTS, "elbow_of_another"),
        old: (codes.OLD_HEADER_TIMESTAMP, "before_enable"),
        nothing: (codes.INVALID_GOAL, "empty"),
        long: (codes.INVALID_GOAL, "too_long"),
        multi: (codes.INVALID_GOAL, "multi_dof"),
        short: (codes.INVALID_GOAL, "point 3: 1 velocities, 6 positions"),
        elsewhere: (codes.INVALID_GOAL, "start_pose"),
    }
    running = bench.send(bench.goal(seconds=3.0))
    for spoil, (wanted, words) in refused.items():
        goal = bench.goal()
        spoil(goal)
        status, code, text = bench.result(bench.send(goal))
        assert (status, code) == (ABORTED, wanted) and words in text, spoil.__name__
    assert bench.result(running)[0] == SUCCEEDED, "none of them has disturbed it"


def test_a_newer_goal_replaces_the_one_before(bench):
    bench.enable()
    start = bench.run.q[0]
    first = bench.send(bench.goal(seconds=2.0))
    bench.until(lambda: bench.run.q[0] > start + 0.1)
    second = bench.send(bench.goal(far=-0.2))
    status, _, text = bench.result(first)
    assert status == ABORTED and "newer goal" in text
    assert bench.result(second)[0] == SUCCEEDED
    asked = first.cancel_goal_async()
    bench.until(asked.done)
    assert not asked.result().goals_canceling, "what has ended cannot be cancelled"


def test_a_goal_may_begin_later(bench):
    bench.enable()
    start = bench.run.q.copy()
    goal = bench.goal(seconds=0.5)
    at = bench.node.get_clock().now().nanoseconds * 1e-9 + 1.0
    goal.trajectory.header.stamp = messages.time_msg(at)
    handle = bench.send(goal)
    sent = time.monotonic()
    bench.until(lambda: abs(bench.run.q[0] - start[0]) > 1e-3)
    assert time.monotonic() - sent > 0.8
    into = [messages.seconds(f.desired.time_from_start) for f in bench.feedback]
    assert into and into[0] == 0.0 and max(into) < 0.3, "counted from where it begins"
    assert bench.result(handle)[0] == SUCCEEDED


def test_a_goal_before_its_own_beginning_is_refused_whenever_it_begins(bench):
    bench.enable()
    for ahead in (0.0, 2.0):
        goal = bench.goal(seconds=0.5)
        goal.trajectory.points[0].time_from_start = messages.duration_msg(-1.0)
        if ahead:
            at = bench.node.get_clock().now().nanoseconds * 1e-9 + ahead
            goal.trajectory.header.stamp = messages.time_msg(at)
        status, _, text = bench.result(bench.send(goal))
        assert status == ABORTED and text.startswith("time_order: ")


def test_a_cancelled_goal_is_told_no_more_of(bench):
    bench.enable()
    handle = bench.send(bench.goal(seconds=2.0))
    bench.until(lambda: len(bench.feedback) > 5)
    bench.until(handle.cancel_goal_async().done)
    told = len(bench.feedback)
    assert bench.result(handle)[0] == CANCELED
    assert len(bench.feedback) == told
    into = [messages.seconds(f.desired.time_from_start) for f in bench.feedback]
    assert max(into) < 1.5


def test_in_a_namespace_the_action_is_in_it(context, action):
    bench = Bench(context, namespace="left").connect(action, f"/left/{MOVEIT.topic}").enable()
    assert bench.result(bench.send(bench.goal(seconds=0.5)))[0] == SUCCEEDED


def test_in_shadow_mode_no_goal_succeeds(context, action):
    bench = Bench(context, shadow=True).connect(action).enable()
    status, code, text = bench.result(bench.send(bench.goal(seconds=0.5)))
    assert (status, code) == (ABORTED, action.Result.INVALID_GOAL) and text == SHADOW
    assert bench.feedback, "the gate has carried it out"
    status, code, text = bench.result(bench.send(bench.goal(DOWN, 1.5, 2.0)))
    assert code == action.Result.PATH_TOLERANCE_VIOLATED and "table" in text
    handle = bench.send(bench.goal(far=-0.3))
    bench.until(lambda: bench.gate.motion.v.any())
    bench.until(handle.cancel_goal_async().done)
    assert bench.result(handle)[0] == CANCELED


def test_moveits_example_names_the_joints_of_the_shipped_cell():
    moveit = yaml.safe_load((ROOT / "config/moveit_simple_controllers.yaml").read_text())
    manager = moveit["moveit_simple_controller_manager"]
    for name in manager["controller_names"]:
        assert f"{name}/{manager[name]['action_ns']}" == MOVEIT.topic
        assert manager[name]["type"] == MOVEIT.type
        assert manager[name]["joints"] == list(tabletop()[1].names)


def test_a_goal_and_a_cancel_of_all_at_once_leave_an_arm_that_rests(bench):
    """While another is under way: rclpy skips a goal behind one whose cancel is refused."""
    from action_msgs.srv import CancelGoal

    start = bench.enable().run.q[0]
    bench.send(bench.goal(seconds=3.0))
    bench.until(lambda: bench.run.q[0] > start + 0.02)
    everything = bench.node.create_client(CancelGoal, f"{MOVEIT.topic}/_action/cancel_goal")
    bench.until(everything.service_is_ready)
    sent = bench.client.send_goal_async(bench.goal(seconds=3.0))
    cancelled = everything.call_async(CancelGoal.Request())
    time.sleep(0.3)  # both are there when the server looks
    bench.until(lambda: sent.done() and cancelled.done())
    here = bench.run.q[0]
    status, _, text = bench.result(sent.result())
    assert status == GoalStatus.STATUS_CANCELED and text == "cancelled; the arm is at rest"
    assert bench.run.q[0] < here + 0.1
