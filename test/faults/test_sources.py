"""C: sources and plumbing, as far as the gate itself decides. Processes: test_processes.py."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from cells import TABLETOP
from trial import PERIOD, Trial

from smolvla_ros.cell import SourceConfig, load_cell, load_gate, load_robot
from smolvla_ros.safety import JointLimit, Refused, Zone, effective_limits
from smolvla_ros.safety.clearance import Clearance
from smolvla_ros.safety.tightening import limits_loosened, zones_loosened
from smolvla_ros.schema import ConfigError

POLICY = SourceConfig(topic="policy", start_tolerance=np.inf)
TELEOP = SourceConfig(topic="teleop", priority=10, timeout=0.4, start_tolerance=np.inf)
BOTH = {"policy": POLICY, "teleop": TELEOP}


def test_f27_a_source_that_dies_is_held_for_ever_at_full_rate(fault):
    trial = Trial().moving(120, seconds=10.0)
    trial.ticks(400)
    rows = np.array([o.positions for o in trial.outputs[-150:]])
    assert np.ptp(rows, axis=0).max() == 0.0
    fault.judge(trial, "command_timeout", trial.outputs[-1].verdict.check)


def test_f28_without_any_command_the_measured_pose_is_held(fault):
    trial = Trial()
    assert trial.ticks(20).positions is None, "nothing before it is enabled, and never zeros"
    trial.enable()
    trial.ticks(300)
    assert np.array_equal(trial.rows, np.tile(trial.start, (300, 1)))
    fault.judge(trial, "no_command", trial.outputs[-1].verdict.check)


def test_f29_a_a_second_publisher_is_refused(fault):
    trial, twin = Trial().enable(), Trial().enable()
    t = np.arange(0.0, 1.4, PERIOD)
    for run in (trial, twin):
        assert run.say(t, run.swing(t), publisher="one") is None
        run.ticks(50)
    refusal = trial.say(t, np.tile(trial.q, (len(t), 1)), publisher="two", legal=False)
    trial.ticks(60), twin.ticks(60)
    assert np.array_equal(trial.rows, twin.rows)
    fault.judge(trial, "second_publisher", refusal.check if refusal else "taken")


def test_f29_b_the_other_may_speak_once_the_first_is_silent(fault):
    trial = Trial().enable()
    t = np.arange(0.0, 1.0, PERIOD)
    assert trial.say(t, trial.swing(t), publisher="one") is None
    trial.ticks(200)
    began = trial.q.copy()
    refusal = trial.say(t, np.tile(trial.start, (len(t), 1)), publisher="two")
    trial.ticks(60)
    assert np.abs(trial.q - began).max() > 0.02
    fault.judge(trial, "taken", refusal.check if refusal else "taken")


def test_f29_c_a_higher_priority_takes_over_and_a_lower_one_waits(fault):
    trial = Trial(sources=BOTH).moving(60)
    t = np.arange(0.0, 1.0, PERIOD)
    goal = trial.q + 0.1
    away = trial.q + np.outer((1 - np.cos(np.pi * t)) / 2, goal - trial.q)
    began = trial.now
    for _ in range(8):
        assert trial.say(t, away, source="teleop", age=trial.now - began) is None
        trial.ticks(2)
        assert trial.gate.active_source == "teleop"
        refusal = trial.say_swing(source="policy", legal=False)
        trial.ticks(10)
    trial.ticks(100)
    assert np.abs(trial.q - goal).max() < 0.02
    assert trial.say_swing(source="policy") is None, "the other one has been silent"
    trial.ticks(30)
    assert trial.gate.active_source == "policy"
    fault.judge(trial, "lower_priority", refusal.check if refusal else "taken")


def test_f29_d_a_source_that_nobody_declared(fault):
    trial = Trial().moving()
    refusal = trial.say_swing(source="joystick", legal=False)
    trial.ticks(30)
    fault.judge(trial, "unknown_source", refusal.check if refusal else "taken")


def test_f34_what_queued_up_during_a_stall_does_not_play_back(fault):
    trial = Trial(command_timeout=0.6).moving(40, seconds=0.9)
    trial.ticks(220)
    stood = trial.q.copy()
    t = np.arange(0.0, 0.9, PERIOD)
    words = []
    for age in (2.4, 2.0, 1.6, 1.2, 0.95):  # five chunks at once, observed during the stall
        refusal = trial.say(t, trial.swing(t + 2.4 - age), age=age, legal=False)
        words.append(refusal.check if refusal else "taken")
    assert trial.at_rest(30) and np.array_equal(trial.q, stood)
    fault.judge(trial, {"too_old"}, set(words))
    assert set(words) == {"too_old"}


def test_f36_a_restart_in_motion_starts_disabled_and_from_the_measured_state(fault):
    trial = Trial().moving(90, seconds=5.0)
    before = trial.gate
    trial.gate = load_gate(trial.config, trial.robot, trial.cell.path)
    assert trial.gate is not before
    trial.q = trial.q + 0.02  # the arm ran on for a while
    assert trial.ticks(10).positions is None
    refusal = trial.say_swing(legal=False)
    assert refusal is not None
    trial.event("enable")
    assert np.array_equal(trial.ticks(1).positions, trial.q)
    assert trial.at_rest(20)
    fault.judge(trial, "not_enabled", refusal.check)


def test_f37_joint_states_that_are_no_longer_heard_latch(fault):
    trial = Trial().moving(60)
    trial.report = lambda q: None  # the callbacks starve, the loop runs on
    assert trial.at_rest(60)
    fault.judge(trial, "joint_state_age", trial.gate.stop_check)


def swapped(trial, zones, oracle_zones):
    gate = trial.gate
    old = trial.config.zones
    assert not zones_loosened(old, zones, trial.config.margin, trial.config.margin)
    clearance = Clearance(trial.robot, zones, trial.config.margin, trial.config.slack)
    gate.swap(gate.limits, clearance, None)
    trial.change(trial.oracle.changed(zones=oracle_zones))


def test_f38_a_zone_that_appears_under_way_is_kept_at_once(fault):
    trial = Trial(command_timeout=6.0).enable()
    t = np.arange(0.0, 4.0, PERIOD)
    trial.say(t, trial.swing(t, 0.9))
    trial.ticks(60)
    wall = {"kind": "keep_out", "shape": "box", "size": [0.5, 0.04, 0.8],
            "position": [0.3, -0.12, 0.3]}  # fmt: skip
    zones = {**trial.config.zones, "wall": Zone(**wall)}
    swapped(trial, zones, {**trial.oracle.scene.zones, "wall": wall})
    trial.ticks(300)
    fault.judge(trial, "keep_out", trial.checks)


def test_f38_b_looser_rules_are_seen_as_such(fault):
    cell = load_cell(TABLETOP).safety_monitor
    zones = cell.zones
    smaller = {**zones, "table": Zone(**{**vars(zones["table"]), "size": [0.5, 1.0, 0.04]})}
    assert zones_loosened(zones, smaller, 0.01, 0.01)
    assert zones_loosened(zones, {k: z for k, z in zones.items() if k != "bin"}, 0.01, 0.01)
    assert zones_loosened(zones, zones, 0.01, 0.005)
    robot = load_robot(cell.robot, TABLETOP)
    slow = effective_limits(robot, JointLimit(velocity=1.0, acceleration=15.0), {})
    fast = effective_limits(robot, JointLimit(velocity=1.5, acceleration=15.0), {})
    assert not limits_loosened(fast, slow, robot.names)
    lines = limits_loosened(slow, fast, robot.names)
    fault.reason({"limits.gripper.velocity: 1.0 -> 1.5"}, set(lines))


@pytest.mark.parametrize("factor", [0.5, 0.8])
def test_f38_c_limits_that_are_tightened_under_way(fault, factor):
    trial = Trial(command_timeout=6.0).enable()
    t = np.arange(0.0, 4.0, PERIOD)
    trial.say(t, trial.swing(t, 1.2))
    trial.ticks(100)
    given = {"velocity": 1.5 * factor, "acceleration": 15.0 * factor}
    config = trial.config.limits
    limits = effective_limits(
        trial.robot, JointLimit(**given), config.joints, config.position_margin
    )
    clearance = Clearance(trial.robot, trial.config.zones, trial.config.margin, trial.config.slack)
    trial.gate.swap(limits, clearance, None)
    trial.change(
        trial.oracle.changed(
            limits={"every_joint": given, "position_margin": config.position_margin}
        )
    )
    trial.ticks(300)
    fault.judge(trial, {"velocity"} if factor == 0.5 else set(), trial.checks)


@pytest.mark.parametrize("key", ["enabled", "bypass", "override", "safety_off", "disable_zones"])
def test_f39_there_is_no_off_switch(fault, tmp_path, key):
    document = yaml.safe_load(TABLETOP.read_text())
    document["/**/safety_monitor"]["ros__parameters"][key] = False
    (tmp_path / "cell.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigError) as error:
        load_cell(tmp_path / "cell.yaml")
    fault.rejected(error.value, key)


def test_f39_b_nor_is_there_a_word_that_lets_a_disabled_gate_move_the_arm(fault):
    trial = Trial()
    trial.ticks(5)
    refusal = trial.say_swing(legal=False)
    with pytest.raises(Refused):
        trial.event("reset")
    assert trial.ticks(100).positions is None
    fault.judge(trial, "not_enabled", refusal.check)
