"""``smolvla-ros bench bus``: what it measures on the emulated servos, and what it would see."""

from __future__ import annotations

import json

import numpy as np
import pytest

from smolvla_ros.cli.main import main

pytest.importorskip("rclpy", reason="the extra ros is not installed")
pytest.importorskip("mujoco", reason="the extra sim is not installed")
pytest.importorskip("scservo_sdk", reason="the extra arm is not installed")

from smolvla_ros.cli.benchmark import bus


def test_a_latency_is_from_a_set_point_to_the_goal_that_is_as_far() -> None:
    sent = [(0.01 * k, np.array([0.01 * k])) for k in range(20)]
    times = np.array([0.01 * k + 0.007 for k in range(25)])
    goals = np.array([0.01 * k for k in range(25)])
    np.testing.assert_allclose(bus._crossings(sent, times, goals), 0.007, atol=1e-9)
    with pytest.raises(RuntimeError, match="no set-point was seen"):
        bus._crossings(sent, times, np.zeros(25))


def test_memory_that_grows_is_told_from_memory_that_was_taken_at_first() -> None:
    taken = bus._memory([100.0] * 60 + [150.0] * 540)
    assert (taken["growth"], taken["most"], len(taken["each_minute"])) == (0.0, 150.0, 10)
    assert bus._memory([100.0 + k / 60 for k in range(600)])["growth"] == pytest.approx(6, abs=0.5)


@pytest.mark.timeout(300)
def test_its_figures_are_of_a_cell_that_moved(tmp_path, capsys) -> None:
    out = tmp_path / "bus.json"
    words = ["--only", "latency", "--seconds", "3", "--json", "--out", str(out)]
    assert main(["bench", "bus", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert json.loads(out.read_text()) == found
    latency = found["latency"]
    line = latency["bus_ms"]
    command = latency["command_to_servo_ms"]
    for p, budget in latency["budget_ms"].items():
        assert budget == pytest.approx(10.0 + line[f"read_{p}"] + line[f"write_{p}"] + 0.26)
        assert latency["of_budget"][p] == pytest.approx(command[p] / budget, abs=0.01)
    # A wire of 1 Mbit/s is no faster; what is slower is a busy machine's.
    assert line["read_p50"] > 0.5
    assert 0.3 < latency["setpoint_to_servo_ms"]["p50"] < command["p50"] < command["p99"]


@pytest.mark.timeout(300)
def test_a_soak_loses_the_bus_and_goes_on_without_a_jump() -> None:
    # A busy machine keeps the emulator, and everybody else, waiting.
    patient = {"joint_state_timeout": 1.0, "tracking_time": 2.0, "tracking_error_hard": 1.0}
    soak = bus.soak(0.1, monitor=patient, reply_timeout=0.1, lost_after=1.0)
    assert soak["losses"] >= 1 and soak["stops"], "the bus was lost, and the gate stopped"
    assert soak["driver"]["losses"] >= 1 and soak["bus"]["corrupted"] > 0
    assert soak["goals"] > 200 and soak["largest_step_rad"] > 0.001, "it moved"
    assert soak["steps_beyond"] == 0
    assert all(took["most"] > 50 for took in soak["memory_mb"].values())


def test_a_length_that_is_none_is_refused(capsys) -> None:
    assert main(["bench", "bus", "--seconds", "0"]) == 2
    assert "--seconds: write a number from 2 to 600" in capsys.readouterr().err
