"""G: motion that is legal row by row and still no good, or the other way round."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from trial import DOWN, PERIOD, Trial

from smolvla_ros.cell import SourceConfig


def kinds(trial):
    return {o.verdict.kind.value for o in trial.outputs}


@pytest.mark.parametrize("jump", [0.02, 0.2, 0.6])
def test_f69_a_jump_from_chunk_to_chunk(fault, jump):
    trial = Trial().moving(60)
    t = np.arange(0.0, 1.6, PERIOD)
    for k in range(6):
        rows = trial.swing(t + 0.6 + 0.4 * k)
        assert trial.say(t, rows + (jump if k % 2 else -jump) * np.eye(6)[0]) is None
        trial.ticks(40)
    trial.ticks(150)
    assert sum(trial.gate.chunk_jumps.values()) >= 5, "policy authors see it"
    steps = np.abs(np.diff(trial.rows, axis=0)).max() / trial.dt
    assert steps <= trial.oracle.velocity.max() + 1e-6
    largest = max(trial.gate.chunk_jumps, key=lambda word: float(word.strip("<>= ")))
    fault.judge(trial, set(), trial.checks)
    fault.reason(True, float(largest.strip("<>= ")) >= jump)


def test_f70_a_a_first_command_far_from_the_arm(fault):
    trial = Trial(sources={"policy": SourceConfig(topic="policy", start_tolerance=0.3)}).enable()
    t = np.arange(0.0, 1.2, PERIOD)
    refusal = trial.say(t, trial.swing(t) + 0.4, legal=False)
    assert trial.at_rest(30)
    fault.judge(trial, "start_pose", refusal.check if refusal else "taken")


def test_f70_b_where_it_may_begin_anywhere_it_is_approached_gently(fault):
    trial = Trial().enable()
    t = np.arange(0.0, 1.2, PERIOD)
    assert trial.say(t, trial.swing(t) + 0.4 * np.eye(6)[0]) is None
    trial.ticks(200)
    assert trial.q[0] > trial.start[0] + 0.3
    fault.judge(trial, set(), trial.checks)


def turns(rows):
    """How often a joint's direction changes, summed over the joints."""
    v = np.diff(rows, axis=0)
    v = np.where(np.abs(v) < 1e-6, 0.0, np.sign(v))
    flips = 0
    for column in v.T:
        seen = column[column != 0]
        flips += int((np.diff(seen) != 0).sum())
    return flips


def test_f71_a_a_command_that_swings_across_a_border(fault):
    trial = Trial().enable()
    trial.plunge()
    trial.ticks(200)
    edge = trial.q.copy()
    began = len(trial.outputs)
    t = np.arange(0.0, 0.8, PERIOD)
    for k in range(20):
        side = 0.02 if k % 2 else -0.02
        trial.say(t, np.tile(edge + side * DOWN, (len(t), 1)))
        trial.ticks(20)
    trial.ticks(100)
    rows = np.array([o.positions for o in trial.outputs[began:]])
    assert turns(rows) <= 25, "no more turns than the command has"
    fault.judge(trial, {"keep_out"}, trial.checks)


def test_f71_b_a_speed_zone_s_border_does_not_chatter(fault):
    trial = Trial()
    low = trial.q + 0.48 * DOWN
    trial = Trial(low, command_timeout=6.0).enable()
    t = np.arange(0.0, 5.0, PERIOD)
    ripple = np.outer(np.sin(12 * t) * 0.02, DOWN)
    way = np.outer((1 - np.cos(np.pi * t / 5.0)) / 2, [1.5, 0, 0, 0, 0, 0])
    trial.say(t, low + way + ripple - ripple[0])
    trial.ticks(500)
    states = [o.state.value for o in trial.outputs]
    changes = sum(a != b for a, b in pairwise(states))
    assert changes < 30
    fault.judge(trial, set(), trial.checks)


def test_f72_a_far_goal_is_approached_in_a_straight_line(fault):
    goal = np.array([0.9, -0.2, 0.1, -0.3, 1.2, 0.5])
    trial = Trial().enable()
    for _ in range(3):
        trial.say([0.3], [trial.start + goal])
        trial.ticks(100)
    way = trial.rows - trial.start
    along = np.outer(way @ goal / (goal @ goal), goal)
    assert np.abs(trial.q - trial.start - goal).max() < 1e-6
    assert np.abs(way - along).max() < 0.06, "it bends"
    fault.judge(trial, set(), trial.checks)


def test_f72_b_an_arm_at_a_zone_comes_away_along_it_and_back(fault):
    trial = Trial().enable()
    trial.plunge()
    trial.ticks(220)
    word = trial.checks
    t = np.arange(0.0, 1.8, PERIOD)
    for _ in range(4):
        trial.say(t, np.tile(trial.start, (len(t), 1)))
        trial.ticks(100)
    assert np.abs(trial.q - trial.start).max() < 1e-6, "home"
    fault.judge(trial, {"keep_out"}, word)


def push(trial, seconds):
    for _ in range(int(seconds / 0.3)):
        trial.plunge()
        trial.ticks(30)


def test_f73_a_a_policy_that_pushes_is_told(fault):
    trial = Trial().enable()
    push(trial, 5.0)
    assert trial.gate.blocked_for > 1.0
    fault.judge(trial, {"keep_out"}, trial.checks)


def test_f73_b_and_stopped_where_that_is_wanted(fault):
    trial = Trial(blocked_timeout=1.0).enable()
    push(trial, 5.0)
    assert trial.at_rest(60)
    fault.judge(trial, "blocked", trial.gate.stop_check)
