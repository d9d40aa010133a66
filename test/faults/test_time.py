"""B: time. Stamps, clocks, late messages, late ticks."""

from __future__ import annotations

import numpy as np
import pytest
from trial import PERIOD, Trial

from smolvla_ros.cell import SourceConfig


def kinds(trial) -> set[str]:
    return {o.verdict.kind.value for o in trial.outputs}


def refused_unharmed(fault, word, say, **how):
    trial, twin = Trial(**how).moving(130), Trial(**how).moving(130)
    refusal = say(trial)
    assert refusal is not None, "it was taken"
    trial.ticks(60), twin.ticks(60)
    assert np.array_equal(trial.rows, twin.rows)
    fault.judge(trial, word, refusal.check)


def swing_of(trial, **more):
    t = np.arange(0.0, 3.0, PERIOD)
    return trial.say(t, trial.swing(t) + 0.1, legal=False, **more)


def test_f19_a_an_old_stamp(fault):
    old = {"policy": SourceConfig(topic="policy", start_tolerance=np.inf, max_age=0.5)}
    refused_unharmed(fault, "too_old", lambda r: swing_of(r, age=0.6), sources=old)


def test_f19_b_a_command_whose_last_row_is_past(fault):
    def say(trial):
        t = np.arange(0.0, 0.3, PERIOD)
        return trial.say(t, trial.swing(t), age=0.5, legal=False)

    refused_unharmed(fault, "too_old", say)


@pytest.mark.parametrize("ahead", [0.06, 1.0, 3600.0, 1e9])
def test_f20_a_stamp_in_the_future(fault, ahead):
    refused_unharmed(fault, "future", lambda r: swing_of(r, age=-ahead))


def test_f21_a_without_a_stamp_it_counts_from_its_arrival(fault):
    trial, twin = Trial().enable(), Trial().enable()
    for run, stamp in ((trial, None), (twin, trial.now)):
        t = np.arange(0.0, 1.4, PERIOD)
        assert run.say(t, run.swing(t), stamp=stamp) is None
        run.ticks(120)
    assert np.array_equal(trial.rows, twin.rows)
    fault.judge(trial, {"passed"}, kinds(trial))


def test_f21_b_or_is_refused_where_a_stamp_is_required(fault):
    strict = SourceConfig(topic="policy", start_tolerance=np.inf, require_stamp=True)
    refused_unharmed(
        fault, "no_stamp", lambda r: swing_of(r, stamp=None), sources={"policy": strict}
    )


def test_f22_a_clock_that_stands_still(fault):
    trial = Trial(command_timeout=5.0).enable()
    t = np.arange(0.0, 3.0, PERIOD)
    trial.say(t, trial.swing(t, 0.2))
    for k in range(400):
        trial.gate.hear_clock(trial.now, 50.0 + min(trial.now, 100.7))
        trial.ticks()
        if k == 150:
            assert trial.outputs[-1].positions is not None, "the output goes on"
    assert trial.at_rest(20)
    fault.judge(trial, "clock_jump", trial.checks)


@pytest.mark.parametrize("jump", [0.5, -0.5, 1e6, -1e6])
def test_f23_a_clock_that_jumps(fault, jump):
    trial = Trial(command_timeout=5.0).enable()
    t = np.arange(0.0, 3.0, PERIOD)
    trial.say(t, trial.swing(t, 0.2))
    for k in range(300):
        trial.gate.hear_clock(trial.now, trial.now + 50.0 + (jump if k > 80 else 0.0))
        trial.ticks()
    assert trial.at_rest(5), "the old command is not taken up again"
    word = trial.outputs[-1].verdict.check
    began = trial.q.copy()
    assert trial.say(t, np.tile(trial.start, (len(t), 1))) is None, "a new one is"
    trial.ticks(100)
    assert np.abs(trial.q - began).max() > 0.02
    fault.judge(trial, "clock_jump", word)


def test_f23_b_slow_drift_is_no_jump(fault):
    trial = Trial().enable()
    t = np.arange(0.0, 1.4, PERIOD)
    trial.say(t, trial.swing(t))
    for k in range(120):
        trial.gate.hear_clock(trial.now, trial.now * (1 + 1e-4) + 1e-3 * np.sin(k))
        trial.ticks()
    fault.judge(trial, {"passed"}, kinds(trial))


def test_f24_a_lost_messages_brake_after_the_timeout(fault):
    trial = Trial().enable()
    t = np.arange(0.0, 10.0, 0.1)
    trial.say(t, trial.swing(t))
    trial.ticks(149)
    assert trial.outputs[-1].velocities.any()
    trial.ticks(60)
    rows = trial.rows[-20:]
    assert np.ptp(rows, axis=0).max() == 0.0
    fault.judge(trial, "command_timeout", trial.checks)


def test_f24_b_jitter_changes_nothing(fault):
    rng = np.random.default_rng(24)
    trial = Trial().enable()
    began = trial.now
    t = np.arange(0.0, 2.4, PERIOD)
    for gap in rng.integers(8, 110, 14):
        age = min(float(rng.uniform(0.01, 0.3)), trial.now - began)
        assert trial.say(t, trial.swing(t + trial.now - age - began), age=age) is None
        trial.ticks(int(gap))
    sent_at = (np.arange(len(trial.rows)) + 2) * trial.dt
    assert np.abs(trial.rows - trial.swing(sent_at)).max() < 2e-3
    fault.judge(trial, {"passed"}, kinds(trial))


def test_f25_a_late_ticks_slow_the_arm_down(fault):
    trial = Trial(command_timeout=5.0).moving(100, seconds=3.0, amplitude=1.2)
    share = [np.abs(o.velocities / trial.oracle.velocity).max() for o in trial.outputs]
    assert share[-1] > 0.55
    trial.ticks(8, late=0.025)
    assert trial.gate.late_ticks == 8
    assert np.abs(trial.outputs[-1].velocities / trial.oracle.velocity).max() <= 0.5 + 1e-9
    assert trial.outputs[-1].state == "slowed"
    fault.judge(trial, "overrun", trial.outputs[-1].verdict.check)


def test_f25_b_many_late_ticks_brake_it(fault):
    trial = Trial(command_timeout=9.0).moving(70, seconds=3.0)
    trial.ticks(30, late=0.025)
    rows = trial.rows[-5:]
    assert np.ptp(rows, axis=0).max() == 0.0, "it stands"
    fault.judge(trial, "overrun", trial.outputs[-1].verdict.check)


def test_f26_a_a_pause_brakes_and_what_was_running_does_not_go_on(fault):
    trial = Trial(command_timeout=9.0).moving(70, seconds=3.0)
    trial.ticks(1, late=0.4)
    assert trial.at_rest(40)
    fault.judge(trial, "overrun", trial.outputs[-1].verdict.check)


def test_f26_b_a_short_pause_is_only_counted(fault):
    trial = Trial(command_timeout=9.0).moving(70, seconds=3.0)
    trial.ticks(1, late=0.05)
    trial.ticks(40)
    assert trial.gate.late_ticks == 1 and trial.outputs[-1].velocities.any()
    fault.judge(trial, {"passed"}, kinds(trial))
