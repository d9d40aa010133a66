"""The real processes over real DDS: simulator, safety monitor, policy."""

from __future__ import annotations

import contextlib
import signal
import time

import numpy as np
import pytest
from cells import TABLETOP, tabletop
from oracle import Oracle
from rig import wait_until
from trajectory_msgs.msg import JointTrajectory

from smolvla_ros.chunk import ActionChunk
from smolvla_ros.cli.processes import CellProcesses
from smolvla_ros.cli.watch import Watcher
from smolvla_ros.ros import messages, qos

PERIOD = 1 / 30
IDLE = "no observation: instruction: none given"  # every stream there, nothing to do


@contextlib.contextmanager
def running(domain, tmp_path, *names):
    """Nodes of the shipped cell and a watcher, the gate not yet enabled."""
    _, robot = tabletop()
    with (
        CellProcesses(TABLETOP, names, domain, tmp_path) as nodes,
        Watcher(robot.names, domain) as watcher,
    ):
        if "safety_monitor" in names:
            wait_until(
                lambda: watcher.says("safety_monitor").startswith("disabled"), 30, "monitor up"
            )
        yield nodes, watcher
        nodes.check()


def enable(watcher) -> None:
    success, message = watcher.enable()
    assert success, message


def publisher(watcher):
    made = watcher.node.create_publisher(JointTrajectory, "policy/joint_trajectory", qos.STREAM_OUT)
    wait_until(lambda: made.get_subscription_count() >= 2, 10, "gate and watcher discovered")
    return made


def sent(watcher) -> np.ndarray:
    return np.array([row for _, row, _ in watcher.recording.sent])


def publish(made, watcher, rows) -> None:
    chunk = ActionChunk(watcher.now(), PERIOD, watcher.joints, rows)
    made.publish(messages.chunk_to_trajectory(chunk))


def test_the_policy_moves_the_arm_through_the_gate(domain, tmp_path):
    with running(domain, tmp_path, "sim", "safety_monitor", "vla") as (_, watcher):
        wait_until(lambda: watcher.says("vla") == IDLE, 60, "policy up")
        enable(watcher)
        time.sleep(0.5)
        assert np.ptp(sent(watcher), axis=0).max() == 0.0, "no instruction, no motion"
        start = watcher.recording.measured[-1][1]
        wait_until(
            lambda: watcher.instruct("touch the red block") or len(watcher.recording.chunks) >= 8,
            20, "chunks",
        )  # fmt: skip
        assert np.abs(watcher.recording.measured[-1][1] - start).max() > 0.05, "the arm moved"
        latencies = [received - stamp for received, stamp, _, _ in watcher.recording.chunks]
        assert 0 < np.median(latencies) < 1.0
        assert watcher.recording.chunks[-1][3].shape == (16, 6)
        success, _ = watcher.trigger("stop")
        assert success
        wait_until(lambda: watcher.says("safety_monitor").startswith("stopped"), 5, "stopped")
    assert not Oracle(TABLETOP).findings(sent(watcher), stops_every=25)


def test_another_process_commanding_through_the_table_is_stopped_above_it(domain, tmp_path):
    oracle = Oracle(TABLETOP)
    with running(domain, tmp_path, "sim", "safety_monitor") as (_, watcher):
        made = publisher(watcher)
        enable(watcher)
        wait_until(lambda: watcher.recording.sent, 5, "holding")
        start = sent(watcher)[-1]
        t = np.arange(40) * PERIOD
        down = np.array([0.0, 1.2, 0.0, 0.0, 0.0, 0.0])
        for _ in range(3):  # three times the same plunge, from wherever it is
            publish(made, watcher, start + np.outer(np.minimum(t / 1.2, 1.0), down))
            time.sleep(1.0)
        wait_until(lambda: "table" in watcher.says("safety_monitor"), 5, "says what is in the way")
        assert "mm, margin 10.0 mm" in watcher.says("safety_monitor")
        assert watcher.values("safety_monitor", "checks")["keep_out"] > 0
        measured = watcher.recording.measured[-1][1]
    assert start[1] + 0.3 < measured[1] < start[1] + 1.0, "went down, and not through"
    # The margin is there for this: the simulated servos, like real ones, sag under load.
    assert oracle.room(measured) + oracle.margin > 0.0, "the arm itself is above the table"
    assert not oracle.findings(sent(watcher), stops_every=25)


def test_a_silent_policy_leads_to_a_hold_at_full_rate(domain, tmp_path):
    with running(domain, tmp_path, "sim", "safety_monitor") as (_, watcher):
        made = publisher(watcher)
        enable(watcher)
        wait_until(lambda: watcher.recording.sent, 5, "holding")
        start = sent(watcher)[-1]
        t = np.arange(150) * PERIOD  # five seconds of motion, and then no word
        publish(made, watcher, start + np.outer(0.1 * t, [1, 0, 0, 0, 0, 0]))
        wait_until(
            lambda: watcher.values("safety_monitor", "checks").get("command_timeout"), 5, "timeout"
        )
        wait_until(lambda: watcher.says("safety_monitor").startswith("holding"), 3, "hold")
        before = len(watcher.recording.sent)
        time.sleep(1.0)
        rows = sent(watcher)[before:]
    assert 85 <= len(rows) <= 115, "set-points go on at full rate"
    assert np.ptp(rows, axis=0).max() == 0.0
    assert 0.1 < rows[0][0] - start[0] < 0.3, "braked near the timeout, not at the end"


def test_a_monitor_that_is_ended_in_motion_brakes_first(domain, tmp_path):
    with running(domain, tmp_path, "sim", "safety_monitor") as (nodes, watcher):
        made = publisher(watcher)
        enable(watcher)
        wait_until(lambda: watcher.recording.sent, 5, "holding")
        start = sent(watcher)[-1]
        t = np.arange(150) * PERIOD
        publish(made, watcher, start + np.outer(0.3 * t, [1, 0, 0, 0, 0, 0]))
        wait_until(lambda: sent(watcher)[-1][0] - start[0] > 0.1, 5, "moving")
        monitor = nodes.processes.pop("safety_monitor")
        monitor.send_signal(signal.SIGTERM)
        assert monitor.wait(timeout=5) == 0
        rows = sent(watcher)
    assert np.array_equal(rows[-1], rows[-2]), "the last set-point is at rest"
    assert not Oracle(TABLETOP).findings(rows, stops_every=25)


def test_a_dead_stream_means_no_chunk_and_is_named(domain, tmp_path):
    with running(domain, tmp_path, "sim", "vla") as (nodes, watcher):
        wait_until(lambda: watcher.says("vla") == IDLE, 60, "policy up")
        wait_until(
            lambda: watcher.instruct("touch the red block") or len(watcher.recording.chunks) >= 2,
            20, "chunks",
        )  # fmt: skip
        nodes.processes["sim"].send_signal(signal.SIGSTOP)
        wait_until(lambda: "s old, at most" in watcher.says("vla"), 5, "staleness is said")
        for stream in ("front", "wrist", "joint_states"):
            assert stream in watcher.says("vla")
        chunks = len(watcher.recording.chunks)
        time.sleep(1.5)
        assert len(watcher.recording.chunks) == chunks
        nodes.processes["sim"].send_signal(signal.SIGCONT)
        wait_until(lambda: len(watcher.recording.chunks) > chunks, 10, "goes on by itself")
        watcher.instruct("")
        wait_until(lambda: "instruction: none given" in watcher.says("vla"), 5, "stops acting")


def test_a_stop_on_the_topic_latches_until_reset_and_enable(domain, tmp_path):
    from std_msgs.msg import Bool

    with running(domain, tmp_path, "sim", "safety_monitor") as (_, watcher):
        stop = watcher.node.create_publisher(Bool, "stop", qos.SENSOR_DATA)
        wait_until(lambda: stop.get_subscription_count() >= 1, 10, "monitor listens")
        enable(watcher)
        stop.publish(Bool(data=False))  # any message stops
        wait_until(lambda: watcher.says("safety_monitor").startswith("stopped"), 5, "stopped")
        success, message = watcher.enable()
        assert not success and "stopped" in message
        assert watcher.trigger("reset")[0]
        before = len(watcher.recording.sent)
        time.sleep(0.3)
        assert len(watcher.recording.sent) - before <= 1, "disabled: nothing is commanded"
        assert watcher.enable()[0]


def test_a_dead_simulator_stops_the_gate(domain, tmp_path):
    with running(domain, tmp_path, "sim", "safety_monitor") as (nodes, watcher):
        enable(watcher)
        nodes.processes["sim"].send_signal(signal.SIGSTOP)
        wait_until(lambda: watcher.says("safety_monitor").startswith("stopped"), 5, "stopped")
        assert "joint_states: " in watcher.says("safety_monitor")
        success, message = watcher.trigger("reset")
        assert not success and "cause stands" in message
        nodes.processes["sim"].send_signal(signal.SIGCONT)
        wait_until(lambda: watcher.trigger("reset")[0], 5, "reset once the cause is gone")


@pytest.mark.parametrize("name", ["sim", "safety_monitor", "vla"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_node_ends_with_zero_on_a_signal(domain, tmp_path, name, how):
    with CellProcesses(TABLETOP, [name], domain, tmp_path) as nodes:
        _, robot = tabletop()
        with Watcher(robot.names, domain) as watcher:
            wait_until(lambda: watcher.says(name) not in ("", "not configured"), 60, "up")
        nodes.processes[name].send_signal(how)
        assert nodes.processes[name].wait(timeout=10) == 0, nodes.log(name).read_text()
