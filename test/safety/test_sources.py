"""Who has the arm: by priority, by silence, and one publisher a source."""

import numpy as np
import pytest
from cells import Run

from smolvla_ros.cell import SourceConfig
from smolvla_ros.safety import State

DT = 0.01
SOURCES = {
    "policy": SourceConfig(topic="policy", priority=0, timeout=0.5),
    "teleop": SourceConfig(topic="teleop", type="JointState", priority=5, timeout=0.2),
    "planner": SourceConfig(topic="planner", priority=0, timeout=0.5),
    "gripper": SourceConfig(topic="gripper", priority=9, timeout=0.1, missing_joints="hold",
                            ignore_joints=["lamp"]),
}  # fmt: skip


@pytest.fixture
def run():
    return Run(sources=SOURCES).enable()


def offer(run, source, target, due=0.0, publisher="", stamp=None):
    refused = run.gate.offer(
        run.now, source, stamp, run.robot.names, [due], [run.q + target], publisher
    )
    return refused and refused.check


def test_a_higher_priority_takes_over_without_a_jump_and_lets_go_after_its_timeout(run):
    turn = np.array([0.4, 0, 0, 0, 0, 0])
    assert offer(run, "policy", turn, due=1.0) is None
    run.ticks(45)
    assert run.outputs[-1].source == "policy" and run.outputs[-1].velocities[0] > 0.3
    for _ in range(30):
        assert offer(run, "teleop", -0.005 * turn) is None
        assert offer(run, "policy", turn, due=1.0) == "lower_priority"
        run.ticks(1)
    assert run.outputs[-1].source == "teleop" and run.outputs[-1].velocities[0] < 0
    accelerations = np.diff(run.stream, n=2, axis=0) / DT**2
    assert np.abs(accelerations).max() <= run.gate.limits.acceleration[0] + 1e-6
    run.ticks(18)
    assert offer(run, "policy", turn, due=1.0) == "lower_priority"
    run.ticks(3)
    assert run.outputs[-1].state is State.HOLDING and run.outputs[-1].source == ""
    assert offer(run, "policy", turn, due=1.0) is None
    run.ticks(10)
    assert run.outputs[-1].source == "policy" and run.outputs[-1].velocities[0] > 0


def test_an_equal_priority_waits(run):
    assert offer(run, "planner", 0.1, due=1.0) is None
    run.ticks(10)
    assert offer(run, "policy", 0.1, due=1.0) == "lower_priority"


def test_nobody_else_may_speak_for_a_source_that_is_alive(run):
    assert offer(run, "policy", 0.1, due=1.0, publisher="a") is None
    run.ticks(10)
    assert offer(run, "policy", -0.1, due=1.0, publisher="b") == "second_publisher"
    assert offer(run, "policy", 0.1, due=1.0, publisher="a") is None
    run.ticks(51)
    assert offer(run, "policy", -0.1, due=1.0, publisher="b") is None


def test_a_source_begins_where_the_arm_is(run):
    assert offer(run, "policy", np.array([0.6, 0, 0, 0, 0, 0])) == "start_pose"
    assert offer(run, "policy", np.array([0.6, 0, 0, 0, 0, 0]), due=2.0) is None


def test_joints_left_out_stay_where_they_are(run):
    names = ["gripper", "lamp"]
    here = run.q.copy()
    for _ in range(20):
        run.gate.offer(run.now, "gripper", None, names, [0.0], [[run.q[5] + 0.002, 7.0]])
        run.ticks(1)
    assert run.q[5] > here[5] + 0.03
    assert np.array_equal(run.q[:5], here[:5])


def test_a_source_that_nobody_declared_is_refused(run):
    assert offer(run, "joystick", 0.0) == "unknown_source"


def test_a_source_may_insist_on_stamps():
    strict = SourceConfig(topic="policy", require_stamp=True)
    run = Run(sources={"policy": strict}).enable()
    assert offer(run, "policy", 0.0) == "no_stamp"
    assert offer(run, "policy", 0.0, stamp=run.now) is None
