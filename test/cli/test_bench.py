"""``smolvla-ros bench gate``: what it measures, and that it sees what it is there to see."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

import numpy as np
import pytest

from smolvla_ros.cell import load_clearance, load_limits
from smolvla_ros.cli import bench
from smolvla_ros.cli.benchmark import offline, subject
from smolvla_ros.cli.benchmark.paths import Planner
from smolvla_ros.cli.main import main
from smolvla_ros.safety import Gate


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    bench.add(parser.add_subparsers())
    return parser.parse_args(["bench", "gate", *words])


@pytest.fixture(scope="module")
def so101() -> subject.Subject:
    return bench.make_subject(parsed())[0]


def test_its_ten_zones_are_always_the_same_and_leave_the_start_free(so101):
    kinds = [zone.kind for zone in so101.config.zones.values()]
    assert (kinds.count("keep_out"), kinds.count("keep_in"), kinds.count("slow")) == (7, 1, 2)
    again, _ = bench.make_subject(parsed())
    assert again.section == so101.section
    world = load_clearance(so101.config, so101.robot, None)
    found = world.distances(so101.start)
    assert min(d for d, p in zip(found, world.pairs, strict=True) if p.zone) > 0.03


def test_a_planner_makes_motions_inside_every_limit_and_clear(so101):
    planner = so101.planner(seed=9)
    limits = load_limits(so101.config, so101.robot, None)
    world = load_clearance(so101.config, so101.robot, None)
    guards = [i for i, p in enumerate(world.pairs) if p.check not in ("slow", "approach")]
    here = so101.start
    for _ in range(6):
        rows = planner.path()
        assert np.array_equal(rows[0], here)
        here = rows[-1]
        v = np.diff(rows, axis=0) / planner.dt
        a = np.diff(v, axis=0, prepend=np.zeros((1, 6))) / planner.dt
        assert (rows > limits.lower).all() and (rows < limits.upper).all()
        assert (np.abs(v) <= limits.velocity).all()
        assert (np.abs(a) <= 0.7 * limits.acceleration).all()
        for row in rows[::7]:
            assert (world.distances(row)[guards] > so101.config.margin).all()


def test_no_legal_step_is_altered(so101):
    found = offline.legal(so101, 3000)
    assert found["legal_steps"] >= 3000
    assert found["legal_steps_single"] >= 1500
    assert found["legal_altered"] == 0, found["legal_altered_first"]
    assert found["chunk_path_rad"] < 0.005


def test_altered_steps_are_counted(so101, monkeypatch):
    """Motions made for four times the acceleration that the gate allows."""

    def hasty(self, seed: int) -> Planner:
        limits = load_limits(self.config, self.robot, None)
        return Planner(
            self.robot,
            replace(limits, acceleration=4.0 * limits.acceleration),
            load_clearance(self.config, self.robot, None),
            self.config.zones,
            1.0 / self.config.rate,
            self.config.braking_ratio,
            self.start,
            seed,
        )

    monkeypatch.setattr(subject.Subject, "planner", hasty)
    found = offline.legal(so101, 400)
    assert found["legal_altered_single"] > 20
    assert found["legal_altered_by"]


def test_a_decision_is_compared_with_the_bare_distances(so101, monkeypatch):
    found = offline.decision(so101, 300)
    for name in ("decision_ms", "limit_ms", "decision_cpu_ms", "limit_cpu_ms"):
        assert 0 < found[name]["p50"] <= found[name]["p99"] <= found[name]["max"]
    assert found["pairs"] > 50
    assert set(found["verdicts"]) >= {"passed", "held"}
    tick = Gate.tick

    def slow(self, now):
        sum(range(60_000))
        return tick(self, now)

    monkeypatch.setattr(Gate, "tick", slow)
    burdened = offline.decision(so101, 300)
    assert burdened["decision_over_limit"]["p50"] > 2 * found["decision_over_limit"]["p50"]


def test_the_command_writes_what_it_prints(tmp_path, capsys):
    out = tmp_path / "deep" / "figures.json"
    words = ["--only", "legal", "--legal-steps", "300", "--only", "tick"]
    assert main(["bench", "gate", *words, "--json", "--out", str(out)]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures == json.loads(out.read_text())
    assert figures["legal_altered"] == 0 and figures["tick_ms"]["p50"] > 0
    assert "decision_ms" not in figures
    assert main(["bench", "gate", *words[:4]]) == 0
    assert "legal steps altered: 0 of" in capsys.readouterr().out


def test_zones_that_are_given_are_left_as_they_are(tmp_path):
    zones = tmp_path / "zones.yaml"
    zones.write_text(
        "ceiling: {kind: keep_out, shape: box, size: [2, 2, 0.1], position: [0, 0, 1]}"
    )
    config = bench.make_subject(parsed())[0].config.robot
    words = ["--urdf", config.urdf, "--srdf", config.srdf, "--acceleration", "15"]
    found, _ = bench.make_subject(parsed(*words, "--velocity", "1.5", "--zones", str(zones)))
    assert list(found.config.zones) == ["ceiling"]


def test_the_processes_of_the_latency(so101):
    pytest.importorskip("rclpy", reason="no ROS here")
    from smolvla_ros.cli.benchmark.latency import latency

    found = latency(so101, samples=300)
    for way in ("relay_ms", "gate_ms"):
        assert found[way]["samples"] > 20, "of a busy machine some set-points overtake others"
        assert 0 < found[way]["p50"] < 100
