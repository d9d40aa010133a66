"""Faults of processes and topics: a real monitor over real DDS, judged by what it sends."""

from __future__ import annotations

import signal
import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs rclpy")

from cells import TABLETOP
from oracle import Oracle
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rig import MONITOR, PAN, PERIOD, rig, wait_until
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from smolvla_ros.ros import monitor_status, qos

TOPIC = "policy/joint_trajectory"


def judge(fault, rows):
    fault.sent(Oracle(TABLETOP).findings(rows, stops_every=25))


def moved(arm, start):
    return lambda: abs(arm.rows[-1][0] - start) > 0.05


def test_f27_a_policy_that_is_killed(fault, domain, tmp_path):
    """The other end of the topic goes without a word; what it had sent runs out."""
    with rig(domain, tmp_path) as (_, arm):
        made = arm.publisher()
        arm.enabled()
        made.publish(arm.swing(0.1))
        arm.node.destroy_publisher(made)
        wait_until(moved(arm, arm.rows[0][0]), 5, "moving")
        wait_until(lambda: arm.counts("checks").get("command_timeout"), 5, "timeout")
        wait_until(arm.at_rest, 3, "rest")
        before = len(arm.rows)
        time.sleep(1.0)
        held = arm.rows[before:]
        words = set(arm.counts("checks"))
    assert 70 <= len(held) <= 115 and np.ptp(held, axis=0).max() == 0.0
    judge(fault, arm.rows)
    fault.reason({"command_timeout"}, words)


def test_f30_somebody_else_writes_to_the_arm(fault, domain, tmp_path):
    with rig(domain, tmp_path) as (_, arm):
        made = arm.publisher()
        arm.enabled()
        made.publish(arm.swing(0.1))
        wait_until(moved(arm, arm.rows[0][0]), 5, "moving")
        arm.node.create_publisher(JointTrajectory, "arm/joint_trajectory", qos.STREAM_OUT)
        arm.wait_for_words("stopped", "arm/joint_trajectory")
        assert arm.status[MONITOR][0] == b"\x02"
        assert not arm.trigger("reset")[0], "it is still there"
        word = arm.text("stop")
    judge(fault, arm.rows)
    fault.reason("bypass", word)


@pytest.mark.parametrize("reliability", [ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT])
def test_f32_whatever_quality_of_service_is_heard_and_nothing_old(
    fault, domain, tmp_path, reliability
):
    with rig(domain, tmp_path) as (_, arm):
        keeps = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        old = arm.node.create_publisher(JointTrajectory, TOPIC, keeps)
        rows = arm.q + np.outer(0.3 * PERIOD * np.arange(60), PAN)
        arm.wait_for_listener(old)
        old.publish(arm.chunk(rows))  # before it is enabled
        arm.enabled()
        time.sleep(0.7)
        assert np.ptp(arm.rows, axis=0).max() == 0.0, "an old command was replayed"
        arm.node.destroy_publisher(old)
        time.sleep(1.6)  # its voice is gone after the source's timeout
        profile = QoSProfile(depth=5, reliability=reliability)
        new = arm.node.create_publisher(JointTrajectory, TOPIC, profile)
        wait_until(new.get_subscription_count, 10, "the monitor listens")
        time.sleep(0.3)
        new.publish(arm.swing(0.2))
        wait_until(moved(arm, arm.rows[0][0]), 5, "moving")
        words = set(arm.counts("refused"))
    judge(fault, arm.rows)
    fault.reason({"not_enabled"}, words)


def test_f35_a_monitor_that_is_killed_in_motion(fault, domain, tmp_path):
    with rig(domain, tmp_path, nodes=("sim", MONITOR), arm=False) as (nodes, arm):
        made = arm.publisher()
        arm.enabled()
        made.publish(arm.swing(0.4))
        wait_until(moved(arm, arm.rows[0][0]), 5, "moving")
        dead = nodes.processes.pop(MONITOR)
        dead.send_signal(signal.SIGKILL)
        dead.wait()
        time.sleep(0.5)
        before = len(arm.recording.measured)
        time.sleep(1.0)
        measured = np.array([q for _, q in arm.recording.measured[before:]])
        rows = arm.rows
    assert np.ptp(measured, axis=0).max() < 0.005, "the arm runs on"
    assert np.abs(measured[-1] - rows[-1]).max() < 0.1
    judge(fault, rows)


def test_f40_nobody_hears_the_output(fault, domain, tmp_path):
    remap = ("-r", "arm/joint_trajectory:=elsewhere/joint_trajectory")
    with rig(domain, tmp_path, arguments=remap) as (_, arm):
        success, message = arm.enable()
        assert not success and not len(arm.rows)
    fault.rejected(ValueError(message), "nobody subscribes", "elsewhere/joint_trajectory")


def test_f41_the_diagnostics_say_whether_sros2_is_used(fault, domain, tmp_path, monkeypatch):
    with rig(domain, tmp_path) as (_, arm):
        fault.reason("off", arm.text("security"))
    monkeypatch.setenv("ROS_SECURITY_ENABLE", "true")
    monkeypatch.setenv("ROS_SECURITY_STRATEGY", "Enforce")
    fault.reason("Enforce", monitor_status.security())


@pytest.mark.parametrize("value", [True, False])
def test_f80_any_message_on_the_stop_topic_stops(fault, domain, tmp_path, value):
    with rig(domain, tmp_path) as (_, arm):
        made = arm.publisher()
        stop = arm.publisher(Bool, "stop")
        arm.enabled()
        made.publish(arm.swing(0.3))
        wait_until(moved(arm, arm.rows[0][0]), 5, "moving")
        stop.publish(Bool(data=value))
        arm.wait_for_words("stopped")
        wait_until(arm.at_rest, 3, "rest")
        word = arm.text("stop")
    judge(fault, arm.rows)
    fault.reason("stop", word)
