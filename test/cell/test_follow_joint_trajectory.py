"""The real monitor in its own process, driven by an action client as MoveIt drives it."""

from __future__ import annotations

import time

import numpy as np
import pytest
from cells import TABLETOP
from oracle import Oracle
from rclpy.action import ActionClient
from rig import PAN, Rig, changed_cell, rig, wait_until
from trajectory_msgs.msg import JointTrajectoryPoint

from smolvla_ros.ros import messages

action = pytest.importorskip(
    "control_msgs.action", reason="needs control_msgs (ros-$ROS_DISTRO-control-msgs)"
)
FollowJointTrajectory = action.FollowJointTrajectory
SUCCEEDED, CANCELED, ABORTED = 4, 5, 6  # action_msgs/GoalStatus
SOURCES = {
    "policy": {"topic": "policy/joint_trajectory"},
    "moveit": {
        "topic": "arm_controller/follow_joint_trajectory",
        "type": "FollowJointTrajectory",
        "priority": 5,
        "missing_joints": "hold",
    },
}


class Client:
    """Sends goals as MoveIt's controller manager does, and keeps the feedback."""

    def __init__(self, arm: Rig):
        self.arm = arm
        self.feedback: list = []
        self.client = ActionClient(arm.node, FollowJointTrajectory, SOURCES["moveit"]["topic"])
        wait_until(self.client.server_is_ready, 10, "the action server")

    def goal(self, way=PAN, far=0.5, seconds=2.0, joints=None):
        """Rows with their velocities, at rest at both ends, as time parametrisation leaves it."""
        joints = list(self.arm.joints) if joints is None else joints
        columns = [self.arm.joints.index(j) for j in joints]
        start = self.arm.rows[-1] if len(self.arm.rows) else self.arm.q
        goal = FollowJointTrajectory.Goal()
        goal.trajectory.joint_names = joints
        goal.trajectory.header.frame_id = "world"
        for t in np.linspace(0.0, seconds, round(seconds / 0.1) + 1):
            u = t / seconds
            place = start + far * (3 * u**2 - 2 * u**3) * way
            speed = far * 6 * (u - u**2) / seconds * way
            force = far * 6 * (1 - 2 * u) / seconds**2 * way
            goal.trajectory.points.append(
                JointTrajectoryPoint(
                    positions=place[columns].tolist(),
                    velocities=speed[columns].tolist(),
                    accelerations=force[columns].tolist(),
                    time_from_start=messages.duration_msg(float(t)),
                )
            )
        return goal

    def send(self, goal):
        """The goal's handle; every goal is accepted."""
        # From the executor's thread: rclpy loses an answer that comes while another sends.
        asked = self.arm.node.executor.create_task(
            self.client.send_goal_async, goal, lambda m: self.feedback.append(m.feedback)
        )
        wait_until(asked.done, 5, "the goal is sent")
        sent = asked.result()
        wait_until(sent.done, 5, "an answer to the goal")
        assert sent.result().accepted
        return sent.result()

    def result(self, handle, seconds=15.0):
        """Status, error code and text."""
        asked = handle.get_result_async()
        wait_until(asked.done, seconds, "a result")
        answer = asked.result()
        return answer.status, answer.result.error_code, answer.result.error_string


@pytest.fixture
def cell(tmp_path):
    return changed_cell(tmp_path, sources=SOURCES)


def test_moveits_goals_go_through_the_gate(domain, tmp_path, cell):
    codes = FollowJointTrajectory.Result
    with rig(domain, tmp_path, cell) as (_, arm):
        client = Client(arm)
        status, code, text = client.result(client.send(client.goal()))
        assert (status, code) == (ABORTED, codes.INVALID_GOAL), "the gate is not enabled yet"
        assert "not_enabled" in text
        arm.enabled()
        start = arm.rows[-1].copy()

        # A goal, whole.
        status, code, text = client.result(client.send(client.goal()))
        assert (status, code, text) == (SUCCEEDED, codes.SUCCESSFUL, "")
        np.testing.assert_allclose(arm.rows[-1], start + 0.5 * PAN, atol=1e-3)
        assert len(client.feedback) > 20, "20 a second"
        middle = client.feedback[len(client.feedback) // 2]
        assert list(middle.joint_names) == list(arm.joints)
        desired = np.array(middle.desired.positions)
        np.testing.assert_allclose(
            desired - middle.actual.positions, middle.error.positions, atol=1e-9
        )
        assert start[0] < desired[0] < start[0] + 0.5 and middle.actual.velocities[0] > 0.1
        assert 0.2 < messages.seconds(middle.desired.time_from_start) < 1.8
        wait_until(lambda: arm.text("action/moveit") == "succeeded", 3, "diagnostics say so")

        # Joints left out stay.
        status, *_ = client.result(client.send(client.goal(far=-0.3, joints=[arm.joints[0]])))
        assert status == SUCCEEDED
        np.testing.assert_allclose(arm.rows[-1], start + 0.2 * PAN, atol=1e-3)

        # Cancelled in mid-motion: the answer comes when the arm is at rest.
        handle = client.send(client.goal(far=-0.6))
        wait_until(lambda: arm.rows[-1][0] < start[0] + 0.1, 5, "moving")
        cancelled = handle.cancel_goal_async()
        wait_until(cancelled.done, 5, "an answer to the cancel")
        assert len(cancelled.result().goals_canceling) == 1
        status, *_ = client.result(handle)
        assert status == CANCELED
        rested = arm.rows[-1].copy()
        time.sleep(0.3)
        np.testing.assert_array_equal(arm.rows[-1], rested)
        assert rested[0] > start[0] - 0.35

        # Joints that the arm has not.
        goal = client.goal()
        goal.trajectory.joint_names[0] = "elbow_of_another"
        status, code, text = client.result(client.send(goal))
        assert (status, code) == (ABORTED, codes.INVALID_JOINTS) and "elbow_of_another" in text

        # Through the table: aborted with the gate's reason.
        down = np.array([0.0, 1.0, 0.0, 0.0, 0.0, 0.0])
        status, code, text = client.result(client.send(client.goal(down, 1.5, 3.0)))
        assert (status, code) == (ABORTED, codes.PATH_TOLERANCE_VIOLATED)
        assert "keep_out" in text and "table" in text

        # The policy has the arm back after the timeout, and MoveIt takes it over in motion.
        policy = arm.publisher()
        wait_until(lambda: arm.text("source") == "", 5, "nobody has the arm")
        policy.publish(arm.swing(0.2, seconds=3.0))
        wait_until(lambda: arm.text("source") == "policy", 3, "the policy has the arm")
        status, code, text = client.result(client.send(client.goal(far=-0.3)))
        assert status == SUCCEEDED, text

        # A stop in mid-motion.
        handle = client.send(client.goal(far=0.5))
        time.sleep(0.8)
        assert arm.trigger("stop")[0]
        status, code, text = client.result(handle)
        assert (status, code) == (ABORTED, codes.INVALID_GOAL) and "stop was called" in text
        rows = arm.rows
    assert not Oracle(TABLETOP).findings(rows, stops_every=100)


def test_in_a_namespace_and_in_shadow_the_arm_gets_nothing_and_no_goal_succeeds(domain, tmp_path):
    cell = changed_cell(tmp_path, sources=SOURCES, shadow=True)
    space = ["-r", "__ns:=/left"]
    with rig(domain, tmp_path, cell, arguments=space, namespace="left", up="shadow") as (_, arm):
        client = Client(arm)  # in the namespace too
        names = [name for name, _ in arm.node.get_topic_names_and_types()]
        assert f"/left/{SOURCES['moveit']['topic']}/_action/status" in names
        assert arm.enable()[0]
        arm.wait_for_words("shadow: holding")
        status, code, text = client.result(client.send(client.goal(far=0.3)))
        assert (status, code) == (ABORTED, FollowJointTrajectory.Result.INVALID_GOAL)
        assert text.startswith("shadow")
        down = np.array([0.0, 1.0, 0.0, 0.0, 0.0, 0.0])
        # Where the gate's shadow stands by now is not where the arm is: a planner begins there.
        status, code, text = client.result(client.send(client.goal(down, 1.5, 3.0)))
        assert code == FollowJointTrajectory.Result.PATH_TOLERANCE_VIOLATED and "table" in text
        assert not len(arm.rows), "the arm was sent nothing"
        np.testing.assert_array_equal(arm.q, arm.robot.pose("ready"))
