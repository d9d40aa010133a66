"""H: stop and reset."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import yaml
from cells import TABLETOP
from trial import PERIOD, Trial

from smolvla_ros.cell import load_cell
from smolvla_ros.safety import Kind, Refused
from smolvla_ros.safety.recording import Recorder, Ring
from smolvla_ros.schema import ConfigError


def test_f74_a_stop_in_motion_brakes_and_holds(fault):
    trial = Trial(command_timeout=6.0).moving(100, seconds=4.0, amplitude=1.0)
    speed = np.abs(trial.outputs[-1].velocities)
    trial.event("stop")
    braking = 0
    while trial.ticks().velocities.any():
        braking += 1
    need = np.ceil((speed / (0.7 * trial.oracle.acceleration)).max() / trial.dt)
    assert braking <= need + 1, "as hard as it plans to"
    assert trial.at_rest(200) and trial.gate.state == "stopped"
    fault.judge(trial, "stop", trial.gate.stop_check)


def test_f74_b_every_queue_is_flushed(fault):
    trial = Trial(command_timeout=6.0).moving(60, seconds=4.0)
    assert trial.say_swing(seconds=4.0) is None  # waits for the next tick
    trial.event("stop")
    refusal = trial.say_swing(legal=False)
    assert trial.at_rest(60)
    stood = trial.q.copy()
    trial.event("reset")
    assert trial.ticks(20).positions is None
    trial.event("enable")
    trial.ticks(200)
    assert np.array_equal(trial.q, stood)
    fault.judge(trial, "not_enabled", refusal.check if refusal else "taken")


def test_f75_a_reset_does_not_restart(fault):
    trial = Trial(command_timeout=6.0).moving(60, seconds=4.0)
    trial.event("stop")
    trial.ticks(60)
    observed = trial.now
    trial.ticks(10)
    trial.event("reset")
    assert trial.ticks(10).positions is None and trial.gate.state == "disabled"
    trial.event("enable")
    t = np.arange(0.0, 3.0, PERIOD)
    refusal = trial.say(t, trial.swing(t), age=trial.now - observed, legal=False)
    assert trial.at_rest(60)
    assert trial.say(t, trial.swing(t)) is None
    trial.ticks(60)
    assert np.abs(trial.q - trial.start).max() > 0.01, "a fresh one is executed"
    fault.judge(trial, "before_enable", refusal.check if refusal else "taken")


def test_f75_b_an_enable_while_stopped_is_refused(fault):
    trial = Trial().moving(60)
    trial.event("stop")
    trial.ticks(60)
    with pytest.raises(Refused) as refused:
        trial.event("enable")
    assert trial.at_rest(20)
    fault.judge(trial, "enable", refused.value.check)


def test_f76_no_reset_while_the_cause_stands(fault):
    trial = Trial().moving(60)
    trial.report = lambda q: None
    trial.ticks(80)
    with pytest.raises(Refused) as refused:
        trial.event("reset")
    fault.rejected(refused.value, "cause stands")
    trial.report = lambda q: (trial.names, q)
    trial.ticks(2)
    trial.event("reset")
    fault.judge(trial, "disabled", trial.gate.state.value)


def test_f76_b_no_reset_while_it_still_brakes(fault):
    trial = Trial(command_timeout=6.0).moving(100, seconds=4.0, amplitude=1.0)
    trial.event("stop")
    trial.ticks(2)
    with pytest.raises(Refused) as refused:
        trial.event("reset")
    trial.ticks(60)
    fault.judge(trial, "reset", refused.value.check)


def test_f78_nothing_from_before_a_stop_leaves_after_it(fault):
    """A stop and the ticks race for the lock, as they do in the monitor."""
    for delay in np.linspace(0.0, 0.02, 25):
        trial = Trial(command_timeout=60.0).moving(60, seconds=4.0)
        lock, stopped_at, going = threading.Lock(), [], threading.Event()

        def press(trial=trial, lock=lock, stopped_at=stopped_at, going=going, delay=delay):
            going.wait()
            time.sleep(delay)
            with lock:
                trial.event("stop")
                stopped_at.append(len(trial.outputs))

        thread = threading.Thread(target=press)
        thread.start()
        going.set()
        for k in range(60):
            with lock:
                if k % 3 == 0 and not stopped_at:
                    trial.say_swing(seconds=4.0)
                trial.ticks(1)
            time.sleep(1e-4)
        thread.join()
        after = trial.outputs[stopped_at[0] :]
        assert all(o.verdict.kind is Kind.STOPPED for o in after)
        trial.ticks(60)
        fault.judge(trial, "stop", trial.gate.stop_check)


def test_f79_a_silence_of_the_stop_input_stops(fault):
    trial = Trial(stop_heartbeat=0.3, command_timeout=6.0)
    trial.gate.hear_stop_channel(trial.now)
    trial.enable()
    trial.say_swing(seconds=4.0)
    for _ in range(12):
        trial.ticks(5)
        trial.gate.hear_stop_channel(trial.now)
    assert trial.outputs[-1].velocities.any()
    trial.ticks(30)
    assert trial.at_rest(60)
    with pytest.raises(Refused):
        trial.event("reset")
    fault.judge(trial, "heartbeat", trial.gate.stop_check)


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_f79_b_a_timeout_of_zero_is_no_heartbeat(fault, tmp_path, value):
    document = yaml.safe_load(TABLETOP.read_text())
    document["/**/safety_monitor"]["ros__parameters"]["stop_heartbeat"] = value
    (tmp_path / "cell.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigError) as error:
        load_cell(tmp_path / "cell.yaml")
    fault.rejected(error.value, "stop_heartbeat")


@pytest.mark.parametrize("detail", ["", "x" * 100_000, "\0\udcff", "stop"])
def test_f80_whatever_a_stop_says_it_stops(fault, detail):
    trial = Trial().moving(60)
    trial.gate.stop(detail)
    trial.stream.events.append((trial.now, "stop"))
    assert trial.at_rest(60) and trial.gate.state == "stopped"
    fault.judge(trial, "stop", trial.gate.stop_check)


def test_f82_a_disk_that_cannot_be_written_delays_nothing(fault, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    ring = Ring(30.0)
    recorder = Recorder(ring, tmp_path / "file" / "out")
    trial = Trial().moving(60)
    spent = []
    for k in range(200):
        began = time.perf_counter()
        ring.add(trial.now, "output", trial.outputs[-1])
        if k == 50:
            recorder.write("stop")
        spent.append(time.perf_counter() - began)
        trial.ticks(1)
    recorder.close()
    assert np.median(spent) < 2e-4
    assert str(tmp_path) in recorder.problem and not recorder.written
    fault.judge(trial, set(), trial.checks)
