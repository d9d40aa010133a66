"""F: joints that wrap, follow others, or have no limits that mean anything."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from cells import TABLETOP
from trial import PERIOD, Trial, write_cell
from turret import CONTACTS, TURRET

from smolvla_ros.cell import load_cell, load_gate, load_limits, load_robot
from smolvla_ros.safety import JointLimit
from smolvla_ros.schema import ConfigError

WALL = {"kind": "keep_out", "shape": "box", "size": [1.0, 0.05, 1.0], "position": [0.4, 0.35, 0.3]}


def ease(seconds, way):
    t = np.arange(0.0, seconds, PERIOD)
    return t, np.outer((1 - np.cos(np.pi * t / t[-1])) / 2, way)


def test_f63_a_a_continuous_joint_is_not_normalised(fault, tmp_path):
    cell = write_cell(tmp_path, TURRET, CONTACTS)
    trial = Trial([3.0, 0.0, 0.01], cell=cell, command_timeout=4.0).enable()
    t, way = ease(2.5, [1.2, 0.1, 0.02])
    assert trial.say(t, trial.start + way) is None
    trial.ticks(280)
    assert trial.q[0] == pytest.approx(4.2, abs=1e-6)
    fault.judge(trial, {"passed"}, {o.verdict.kind.value for o in trial.outputs})


@pytest.mark.parametrize("turns", [0, 1, -3])
def test_f63_b_zones_see_it_modulo_a_turn(fault, tmp_path, turns):
    cell = write_cell(tmp_path, TURRET, CONTACTS, zones={"wall": WALL})
    trial = Trial([2 * math.pi * turns, 0.0, 0.01], cell=cell).enable()
    t, way = ease(1.4, [1.2, 0.0, 0.0])
    assert trial.say(t, trial.start + way) is None
    trial.ticks(200)
    assert trial.q[0] - trial.start[0] == pytest.approx(0.49, abs=0.12)
    fault.judge(trial, "keep_out", trial.checks)


def test_f63_c_a_driver_that_wraps_stops_the_gate(fault, tmp_path):
    cell = write_cell(tmp_path, TURRET, CONTACTS)
    trial = Trial([3.0, 0.0, 0.01], cell=cell, command_timeout=4.0)
    trial.report = lambda q: (
        trial.names, [(q[0] + math.pi) % (2 * math.pi) - math.pi, *q[1:]]
    )  # fmt: skip
    trial.enable()
    t, way = ease(2.5, [1.2, 0.1, 0.02])
    trial.say(t, trial.start + way)
    trial.ticks(280)
    assert trial.at_rest(20)
    fault.judge(trial, "joint_state_jump", trial.gate.stop_check)


def test_f64_a_the_finger_that_follows_is_kept_clear_too(fault, tmp_path):
    beside = {"kind": "keep_out", "shape": "box", "size": [0.4, 0.05, 0.2], "margin": 0.005,
              "position": [0.55, -0.09, 0.45]}  # fmt: skip
    cell = write_cell(tmp_path, TURRET, CONTACTS, zones={"beside": beside})
    trial = Trial([0.0, 0.0, 0.0], cell=cell, margin=0.005).enable()
    assert trial.names == ["turn", "lift", "grip"]
    t, way = ease(1.5, [0.0, 0.0, 0.055])
    assert trial.say(t, way) is None
    trial.ticks(200)
    assert 0.01 < trial.q[2] < 0.05, "stopped by the other finger"
    fault.judge(trial, "keep_out", trial.checks)


def test_f64_b_it_takes_no_commands_of_its_own(fault, tmp_path):
    trial = Trial([0.0, 0.0, 0.0], cell=write_cell(tmp_path, TURRET, CONTACTS)).enable()
    refusal = trial.say([0.2], [[0, 0, 0, 0.05]], names=[*trial.names, "other"], legal=False)
    trial.ticks(30)
    fault.judge(trial, "unknown_joint", refusal.check if refusal else "taken")


def test_f65_a_gripper_has_limits_of_its_own(fault):
    own = {"lower": 0.1, "upper": 1.0, "velocity": 0.3, "acceleration": 4.0}
    plain = Trial()
    limits = replace(plain.config.limits, joints={"gripper": JointLimit(**own)})
    oracle = plain.oracle.changed(
        limits={
            "every_joint": {"velocity": 1.5, "acceleration": 15.0},
            "joints": {"gripper": own},
            "position_margin": 0.02,
        }
    )
    trial = Trial(limits=limits, oracle=oracle).enable()
    for _ in range(8):
        trial.say([0.3], [trial.start + 1.5 * np.eye(6)[5]])
        trial.ticks(100)
    assert trial.q[5] == pytest.approx(0.98, abs=1e-3)
    fault.judge(trial, {"position"}, trial.checks)


def limits_of(text, srdf, tmp_path, **limits):
    cell = load_cell(write_cell(tmp_path, text, srdf, limits=limits))
    robot = load_robot(cell.safety_monitor.robot, cell.path)
    return robot, load_limits(cell.safety_monitor, robot, cell.path)


def test_f66_a_an_acceleration_that_nobody_gave(fault, tmp_path):
    with pytest.raises(ConfigError) as error:
        limits_of(TURRET, CONTACTS, tmp_path, every_joint={"velocity": 1.0})
    fault.rejected(error.value, "acceleration", "turn", "lift", "grip")


def test_f66_b_a_velocity_of_zero_is_none(fault, tmp_path):
    text = TURRET.replace('upper="1.2" velocity="2"', 'upper="1.2" velocity="0"')
    with pytest.raises(ConfigError) as error:
        limits_of(text, CONTACTS, tmp_path, every_joint={"acceleration": 5.0})
    fault.rejected(error.value, "lift", "velocity")


def test_f66_c_a_placeholder_is_pointed_out(fault, tmp_path):
    text = TURRET.replace('velocity="0.2"', 'velocity="10"').replace(
        'velocity="2"', 'velocity="10"'
    )
    _, limits = limits_of(text, CONTACTS, tmp_path, every_joint={"acceleration": 5.0})
    fault.rejected(ValueError("; ".join(limits.notes)), "10", "placeholder")


@pytest.mark.parametrize("bad", ["0.0", "-1.0", ".nan"])
def test_f66_d_a_limit_that_is_none(fault, tmp_path, bad):
    path = write_cell(tmp_path, TURRET, CONTACTS)
    path.write_text(path.read_text().replace("acceleration: 15.0", f"acceleration: {bad}"))
    with pytest.raises(ConfigError) as error:
        cell = load_cell(path)
        robot = load_robot(cell.safety_monitor.robot, path)
        load_gate(cell.safety_monitor, robot, path)
    fault.rejected(error.value, "acceleration")


def test_f67_the_tighter_of_two_counts_and_both_are_told(fault, tmp_path):
    (tmp_path / "joint_limits.yaml").write_text(
        "joint_limits:\n  turn: {has_velocity_limits: true, max_velocity: 1.1,\n"
        "    has_acceleration_limits: true, max_acceleration: 4.0}\n"
        "  lift: {has_velocity_limits: true, max_velocity: 5.0}\n"
    )
    path = write_cell(
        tmp_path, TURRET, CONTACTS,
        limits={"joint_limits": "joint_limits.yaml", "every_joint": {"acceleration": 15.0}},
    )  # fmt: skip
    trial = Trial([0.0, 0.0, 0.0], cell=path).enable()
    trial.say([0.2], [[1.5, 0.8, 0.03]])
    trial.ticks(140)
    notes = "; ".join(trial.gate.limits.notes)
    assert np.allclose(trial.gate.limits.velocity, trial.oracle.velocity)
    fault.judge(trial, {"velocity"}, trial.checks | {"velocity"})
    fault.rejected(ValueError(notes), "turn", "1.1", "2")


def test_f66_e_the_shipped_arm_has_limits_for_everything(fault):
    config = load_cell(TABLETOP).safety_monitor
    limits = load_limits(config, load_robot(config.robot, TABLETOP), TABLETOP)
    whole = all(np.isfinite(getattr(limits, a)).all() for a in ("velocity", "acceleration"))
    fault.reason(True, whole)


def test_f68_a_stop_says_zero_velocity_and_goes_on_saying_it(fault):
    trial = Trial(command_timeout=6.0).moving(100, seconds=4.0)
    trial.event("stop")
    trial.ticks(100)
    last = trial.outputs[-50:]
    assert all(o.velocities is not None and not o.velocities.any() for o in last)
    fault.judge(trial, "stop", trial.gate.stop_check)
