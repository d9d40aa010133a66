"""D: what the arm says of itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from trial import PERIOD, Trial

from smolvla_ros.cell import SourceConfig
from smolvla_ros.safety import Refused


def after(ticks, then, before=None):
    """A report that changes after so many calls."""
    calls = [0]

    def report(q):
        calls[0] += 1
        if calls[0] <= ticks:
            return before(q) if before else None
        return then(q)

    return report


def say_on(trial, seconds, amplitude=0.3):
    """Moves on for so long, with a chunk every 0.4 s."""
    began = trial.now
    t = np.arange(0.0, 1.6, PERIOD)
    while trial.now - began < seconds:
        if trial.gate.state not in ("following", "slowed", "holding"):
            trial.ticks(1)
            continue
        trial.say(t, trial.swing(t + trial.now - began, amplitude))
        trial.ticks(40)


def test_f42_a_joint_states_that_end_latch(fault):
    trial = Trial().moving(60)
    trial.report = lambda q: None
    assert trial.at_rest(60) and trial.gate.state == "stopped"
    fault.judge(trial, "joint_state_age", trial.gate.stop_check)


def test_f42_b_joint_states_that_are_frozen_brake(fault):
    trial = Trial().enable()
    frozen = trial.q.copy()
    trial.report = lambda q: (trial.names, frozen)
    say_on(trial, 3.0, 0.7)
    assert trial.at_rest(60)
    assert np.abs(trial.q - frozen).max() < 0.65
    fault.judge(trial, {"frozen"}, trial.checks)


def test_f43_a_parts_of_the_arm_may_be_published_apart_and_in_any_order(fault):
    trial, twin = Trial(), Trial()
    turn = [0]

    def report(q):
        turn[0] += 1
        pick = ([4, 1, 0], [2, 5, 3])[turn[0] % 2]
        names = [trial.names[i] for i in pick]
        return (["gantry", *names], [99.0, *q[pick]])

    trial.report = report
    trial._feel()
    with pytest.raises(Refused) as refused:
        trial.gate.enable(trial.now)
    for run in (trial, twin):
        run.ticks(4)
        run.event("enable")
        run.say_swing()
        run.ticks(120)
    assert np.array_equal(trial.rows, twin.rows)
    fault.judge(trial, {"passed"}, {o.verdict.kind.value for o in trial.outputs})
    fault.rejected(refused.value, "joint state")


def test_f43_b_each_joint_has_its_own_age(fault):
    trial = Trial().moving(60)
    trial.report = lambda q: (trial.names[:5], q[:5])
    assert trial.at_rest(60)
    assert "gripper" in trial.gate.stop_reason
    fault.judge(trial, "joint_state_age", trial.gate.stop_check)


def test_f44_a_position_that_is_no_number_brakes(fault):
    trial = Trial().moving(60)
    trial.report = lambda q: (trial.names, np.where(np.arange(6) == 2, math.nan, q))
    trial.ticks(2)
    trial.report = lambda q: (trial.names, q)
    assert trial.at_rest(60)
    word = {o.verdict.check for o in trial.outputs[-80:]}
    assert trial.say_swing() is None, "nothing is latched"
    trial.ticks(60)
    fault.judge(trial, {"joint_state_not_finite"}, word)


def test_f44_b_and_as_long_as_it_lasts_nothing_is_executed(fault):
    trial = Trial().moving(60)
    trial.report = lambda q: (trial.names, np.where(np.arange(6) == 2, math.nan, q))
    trial.ticks(10)
    refusal = trial.say_swing(legal=False)
    assert refusal is not None
    assert trial.at_rest(60) and trial.gate.state == "stopped", "a joint without a number ages"
    fault.judge(trial, {"joint_state_not_finite"}, trial.checks)


@pytest.mark.parametrize("by", [2 * math.pi, -2 * math.pi, 0.8, 1e9])
def test_f45_a_a_single_outlier_changes_nothing(fault, by):
    trial, twin = Trial().moving(60), Trial().moving(60)
    trial.report = lambda q: (trial.names, q + by * (np.arange(6) == 1))
    trial.ticks(1)
    trial.report = lambda q: (trial.names, q)
    trial.ticks(60), twin.ticks(61)
    assert np.array_equal(trial.rows, twin.rows)
    fault.judge(trial, {"joint_state_jump"}, set(trial.gate.refusals))


def test_f45_b_one_that_stays_latches(fault):
    trial = Trial().moving(60)
    trial.report = lambda q: (trial.names, q + 2 * math.pi * (np.arange(6) == 1))
    assert trial.at_rest(60)
    fault.judge(trial, "joint_state_jump", trial.gate.stop_check)


def test_f46_a_an_arm_that_lags_behind_brakes_the_gate(fault):
    trial = Trial()
    trial.follow = lambda q: trial.q + 0.005 * (q - trial.q)
    trial.enable()
    say_on(trial, 1.9, 0.5)
    assert trial.at_rest(250)
    fault.judge(trial, {"tracking_error"}, trial.checks)


def test_f46_b_an_arm_that_hits_something_stops_it(fault):
    trial = Trial().enable()
    trial.follow = lambda q: np.minimum(q, trial.start + 0.05)
    say_on(trial, 2.5, 1.2)
    assert trial.at_rest(60)
    fault.judge(trial, "tracking_error_hard", trial.gate.stop_check)


def test_f46_c_a_usual_lag_changes_nothing(fault):
    trial = Trial()
    trial.follow = lambda q: trial.q + 0.2 * (q - trial.q)
    trial.enable()
    say_on(trial, 3.0)
    fault.judge(trial, {"passed"}, {o.verdict.kind.value for o in trial.outputs})


def test_f47_an_arm_moved_by_hand_is_taken_where_it_is(fault):
    trial = Trial().moving(60)
    trial.event("disable")
    trial.ticks(60)
    assert trial.outputs[-1].positions is None
    for _ in range(40):
        trial.q = trial.q + 0.01
        trial.ticks(1)
    trial.event("enable")
    first = trial.ticks(1).positions
    assert np.array_equal(first, trial.q)
    assert trial.at_rest(30)
    fault.judge(trial, "no_command", trial.outputs[-1].verdict.check)


def test_f48_a_command_from_a_stale_observation(fault):
    policy = SourceConfig(topic="policy", start_tolerance=np.inf, max_age=0.5)
    trial = Trial(sources={"policy": policy}).moving(60)
    t = np.arange(0.0, 3.0, PERIOD)
    refusal = trial.say(t, trial.swing(t), age=0.55, legal=False)
    trial.ticks(60)
    fault.judge(trial, "too_old", refusal.check if refusal else "taken")
