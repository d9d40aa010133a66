"""``smolvla-ros bench policy``: what it measures, and that it sees what it is there to see."""

from __future__ import annotations

import dataclasses
import json
import time

import pytest

from smolvla_ros.cli.main import main


@pytest.fixture(scope="module")
def policy():
    pytest.importorskip("lerobot", reason="no LeRobot here")
    from smolvla_ros.cli.benchmark import policy

    return policy


def test_the_shipped_policy_is_compared_with_lerobot_alone(policy):
    found = policy.shipped(runs=3)
    for one in (found, found["guided"]):
        assert 0 < one["ours_s"] <= one["ours_p50_s"] and 0 < one["stock_s"] <= one["stock_p50_s"]
        assert one["ratio"] == pytest.approx(one["ours_s"] / one["stock_s"], abs=1e-3)
        assert one["ratio"] < 1.5


def test_a_slow_runtime_shows(policy, monkeypatch):
    infer = policy.LeRobotEngine.infer

    def slow(self, observation, guide=None):
        time.sleep(0.2)
        return infer(self, observation, guide)

    monkeypatch.setattr(policy.LeRobotEngine, "infer", slow)
    assert policy.shipped(runs=2)["ratio"] > 1.5


def test_other_actions_are_no_comparison(policy, monkeypatch):
    infer = policy.LeRobotEngine.infer

    def off(self, observation, guide=None):
        chunk = infer(self, observation, guide)
        return dataclasses.replace(chunk, positions=chunk.positions + 0.01)

    monkeypatch.setattr(policy.LeRobotEngine, "infer", off)
    with pytest.raises(RuntimeError, match="different actions"):
        policy.shipped(runs=1)


def test_the_command_prints_figures_alone(policy, tmp_path, capsys):
    out = tmp_path / "figures.json"
    words = ["bench", "policy", "--only", "image"]
    assert main([*words, "--json", "--out", str(out)]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures == json.loads(out.read_text())
    assert set(figures) == {"image", "machine", "seconds"}
    assert figures["image"]["ours_ms"] > 0 and figures["image"]["stock_ms"] > 0
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("a picture to its tensor: ")


def test_a_latency_is_from_the_observation_to_the_set_point_of_the_tick_after_its_chunk(policy):
    pytest.importorskip("rclpy", reason="no ROS here")
    from smolvla_ros.cli.benchmark.first_setpoint import _latencies

    lines = [
        {"t": 10.0, "enable": True},
        {"t": 10.1, "command": {"stamp": 9.9}},  # observed before
        {"t": 10.11, "output": {}},
        {"t": 10.5, "command": {"stamp": 10.3}},
        {"t": 10.505, "output": {}},
        {"t": 10.515, "output": {}},
        {"t": 10.9, "command": {"stamp": 10.8}},  # no tick came after
    ]
    ahead = 1000.0
    arrived = [(1010.111, 1010.112), (1010.506, 1010.508), (1010.516, 1010.518)]
    assert _latencies(lines, arrived, ahead) == [pytest.approx(0.208)]


def test_the_processes_of_the_first_set_point(policy):
    pytest.importorskip("rclpy", reason="no ROS here")
    from smolvla_ros.cli.benchmark.first_setpoint import first_setpoint

    found = first_setpoint(5.0)
    assert found["samples"] >= 3
    assert 0.02 < found["p50"] <= found["p99"] <= found["max"] < 3.0


def test_a_paused_policy_uses_next_to_nothing(policy):
    pytest.importorskip("rclpy", reason="no ROS here")
    from smolvla_ros.cli.benchmark.idle import idle

    found = idle(4.0)
    assert found["idle_cpu"] < 0.05
    assert found["idle_cpu"] < found["idle"]["without_instruction"], "pictures cost something"
