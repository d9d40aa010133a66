"""Transparency, tightening, mirrors and orders, determinism; on any arm there is.

The arms are the shipped one and those under ``SMOLVLA_ROS_ARMS``: folders with arm.urdf,
arm.srdf, joint_limits.yaml and packages of meshes.
"""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from cells import TABLETOP
from industrial import cell_of, there
from trial import PERIOD, Trial, write_cell

from smolvla_ros.safety import JointLimit, Zone, effective_limits
from smolvla_ros.safety.clearance import Clearance
from smolvla_ros.safety.tightening import limits_loosened, zones_loosened


@pytest.fixture(params=["so101", "ur5e", "panda"])
def arm(request, tmp_path):
    """(cell file, a free pose)."""
    if request.param == "so101":
        return TABLETOP, "ready"
    if not there(request.param):
        pytest.skip(f"SMOLVLA_ROS_ARMS has no {request.param}")
    return cell_of(request.param, tmp_path)


def legal_walk(trial, steps, seed):
    """Rows ``[N, D]`` from the trial's pose: smooth, inside limits, well clear, at rest at
    both ends. As a planner would make them, by the oracle's reading of the cell."""
    rng = np.random.default_rng(seed)
    oracle, dt = trial.oracle, trial.dt
    order = [oracle.names.index(n) for n in trial.names]
    lower, upper = oracle.lower[order], oracle.upper[order]
    speed, force, jerk = (getattr(oracle, a)[order] for a in ("velocity", "acceleration", "jerk"))
    back = np.argsort(order)
    # Well clear, but some links are always near to one another.
    room = min(0.01, 0.5 * oracle.room(trial.q[back]))
    assert room > 0
    rows, q = [trial.q.copy()], trial.q.copy()
    while len(rows) < steps:
        goal = np.clip(q + rng.normal(size=len(q)) * rng.choice([0.1, 0.4, 1.0]),
                       lower + 0.02 * (upper - lower).clip(0, 1),
                       upper - 0.02 * (upper - lower).clip(0, 1))  # fmt: skip
        way = goal - q
        line = q + np.linspace(0, 1, 60)[:, None] * way
        if oracle.scene.rooms(line[:, back]).min() < room:
            continue
        # A quintic: 1.875, 5.78 and 60 are its highest speed, acceleration and jerk. With some
        # of each to spare, and so slow that a slow zone lets it through.
        seconds = 1.2 * max(
            (1.875 * np.abs(way) / (0.5 * speed)).max(),
            np.sqrt((5.78 * np.abs(way) / force).max()),
            np.cbrt((60 * np.abs(way) / jerk).max()),
            0.3,
        )
        u = np.arange(1, int(seconds / dt) + 1) / int(seconds / dt)
        rows += list(q + np.outer(u**3 * (10 - 15 * u + 6 * u * u), way))
        q = rows[-1].copy()
    return np.array(rows)


@pytest.mark.parametrize("seed", range(2))
def test_legal_set_points_leave_unchanged(arm, seed):
    """I8, a stream at the gate's rate; 20,000 steps over both seeds."""
    cell, pose = arm
    trial = Trial(pose, cell=cell).enable()
    rows = legal_walk(trial, 10_000, seed)
    for row in rows[1:]:
        assert trial.say([0.0], [row], stamp=None) is None
        trial.ticks(1)
    altered = np.abs(trial.rows - rows[1:]).max(axis=1) > 0
    assert not altered.any(), f"{altered.sum()} of {len(altered)}, first at {altered.argmax()}"
    assert {o.verdict.kind for o in trial.outputs} == {"passed"}
    assert not trial.oracle.findings(trial.stream, stops_every=20)


def test_legal_chunks_leave_unchanged(arm):
    """I8, 30 Hz chunks that overlap, as a policy sends them; 10,000 steps."""
    cell, pose = arm
    trial = Trial(pose, cell=cell).enable()
    rows = legal_walk(trial, 10_000, 8)
    every = round(PERIOD / trial.dt)
    step = every * trial.dt
    began = trial.now
    latency = 0.1
    sent = 0
    while sent + 12 * every < len(rows):
        seen = max(0.0, trial.now - latency - began)  # s into the motion, at the observation
        first = int(np.ceil(seen / step - 1e-9))
        pick = rows[first * every :: every][:50]
        times = first * step + np.arange(len(pick)) * step - seen
        assert trial.say(times, pick, age=trial.now - began - seen) is None
        trial.ticks(12 * every)
        sent += 12 * every
    meant = rows[np.arange(2, len(trial.rows) + 2).clip(max=len(rows) - 1)]
    assert {o.verdict.kind for o in trial.outputs} == {"passed"}
    # Between its rows a chunk is a spline, not the quintic that they were taken from.
    assert np.abs(trial.rows - meant).max() < 5e-3
    assert not trial.oracle.findings(trial.stream, stops_every=20)


def wild(trial, seed, seconds=6.0):
    """The same wild commands for every gate: rows and times do not depend on the arm."""
    rng = np.random.default_rng(seed)
    while trial.now < 100.0 + seconds:
        n = int(rng.integers(2, 40))
        goal = trial.start + rng.normal(size=len(trial.start)) * rng.choice([0.2, 1.0])
        rough = rng.normal(size=(n, len(goal))) * rng.choice([0.0, 0.02])
        t = np.arange(n) * PERIOD
        trial.say(t, trial.start + np.outer(np.linspace(0, 1, n), goal - trial.start) + rough)
        trial.ticks(int(rng.integers(5, 60)))
    return trial


@pytest.mark.parametrize("seed", range(3))
def test_the_same_calls_give_the_same_output(arm, seed):
    """I11."""
    cell, pose = arm
    runs = [wild(Trial(pose, cell=cell).enable(), seed) for _ in range(2)]
    assert np.array_equal(runs[0].rows, runs[1].rows)
    assert [o.verdict for o in runs[0].outputs] == [o.verdict for o in runs[1].outputs]
    assert not runs[0].oracle.findings(runs[0].stream)


@pytest.mark.parametrize("seed", range(2))
def test_the_order_of_names_changes_nothing(arm, seed):
    """I10, names."""
    cell, pose = arm
    rng = np.random.default_rng(seed)
    plain, mixed = Trial(pose, cell=cell).enable(), Trial(pose, cell=cell).enable()

    def report(q):
        order = rng.permutation(len(q))
        return [mixed.names[i] for i in order], q[order]

    mixed.report = report
    for _ in range(8):
        t = np.arange(0.0, 1.2, PERIOD)
        goal = plain.start + rng.normal(size=len(plain.q)) * 0.5
        rows = plain.start + np.outer(t / 1.2, goal - plain.start)
        order = rng.permutation(len(goal))
        plain.say(t, rows)
        mixed.say(t, rows[:, order], names=[mixed.names[i] for i in order])
        plain.ticks(30), mixed.ticks(30)
    assert np.array_equal(plain.rows, mixed.rows)


MIRRORED = """<robot name="arm"><link name="base"/>
<link name="a"><collision><origin xyz="0.15 0 0"/><geometry><box size="0.3 0.05 0.05"/></geometry>
</collision></link>
<link name="b"><collision><origin xyz="0.15 0 0"/><geometry><box size="0.3 0.05 0.05"/></geometry>
</collision></link>
<joint name="one" type="revolute"><parent link="base"/><child link="a"/><axis xyz="0 0 AXIS"/>
<limit lower="-2.5" upper="2.5" velocity="2" effort="1"/></joint>
<joint name="two" type="revolute"><parent link="a"/><child link="b"/><origin xyz="0.32 0 0"/>
<axis xyz="0 0 AXIS"/><limit lower="-2.5" upper="2.5" velocity="2" effort="1"/></joint></robot>"""


@pytest.mark.parametrize("seed", range(4))
def test_a_mirrored_arm_does_the_mirrored_thing(tmp_path, seed):
    """I10: the axes turned round and the numbers with them, or the world mirrored about x."""
    walls = {
        "left": {"kind": "keep_out", "shape": "box", "size": [1, 0.1, 1], "position": [0, 0.5, 0]},
        "pole": {"kind": "keep_out", "shape": "sphere", "size": [0.08], "position": [0.3, -0.3, 0]},
    }
    flipped = {
        n: {**z, "position": [z["position"][0], -z["position"][1], z["position"][2]]}
        for n, z in walls.items()
    }
    sent = []
    for axis, zones in (("1", walls), ("-1", walls), ("1", flipped)):
        folder = tmp_path / f"{axis}{zones is walls}"
        folder.mkdir()
        cell = write_cell(folder, MIRRORED.replace("AXIS", axis), zones=zones)
        sign = 1.0 if axis == "1" and zones is walls else -1.0
        trial = Trial([sign * 0.1, sign * -0.2], cell=cell).enable()
        rng = np.random.default_rng(seed)
        for _ in range(12):
            t = np.arange(0.0, 1.0, PERIOD)
            goal = np.array([0.1, -0.2]) + rng.normal(size=2) * 1.2
            start = np.array([0.1, -0.2])
            trial.say(t, sign * (start + np.outer(t, goal - start)))
            trial.ticks(35)
        assert not trial.oracle.findings(trial.stream)
        sent.append(sign * trial.rows)
    assert np.abs(sent[0] - sent[1]).max() < 1e-6
    assert np.abs(sent[0] - sent[2]).max() < 1e-6


def tighter(rng, zones, margin):
    """Zones that let nothing more through, with the monitor's margin."""
    out = {}
    for name, zone in zones.items():
        zone = dict(zone)
        if rng.random() < 0.5 and zone.get("size"):
            by = rng.uniform(1.0, 1.3)
            inward = zone["kind"] == "keep_in"
            zone["size"] = [x / by if inward else x * by for x in zone["size"]]
        if rng.random() < 0.3 and zone["kind"] != "slow":
            zone["margin"] = float(zone.get("margin", margin) + rng.uniform(0, 0.02))
        if zone["kind"] == "slow":
            zone["speed_ratio"] = zone["speed_ratio"] * float(rng.uniform(0.5, 1.0))
        out[name] = zone
    if rng.random() < 0.5:
        out["more"] = {
            "kind": "keep_out", "shape": "sphere", "size": [float(rng.uniform(0.02, 0.1))],
            "position": [float(rng.uniform(0.2, 0.4)), float(rng.uniform(-0.3, 0.3)), 0.2],
        }  # fmt: skip
    return out


@pytest.mark.parametrize("seed", range(8))
def test_tighter_rules_let_nothing_more_through(seed):
    """I9: under tighter rules no single step passes that the looser ones do not pass, and what
    leaves a tighter gate keeps the looser promise too."""
    rng = np.random.default_rng(seed)
    plain = Trial()
    document = yaml.safe_load(TABLETOP.read_text())["/**/safety_monitor"]["ros__parameters"]
    zones = tighter(rng, document["zones"], plain.config.margin)
    every = {"velocity": 1.5 * float(rng.uniform(0.5, 1)), "acceleration": 15.0}
    built = {n: Zone(**z) for n, z in zones.items()}
    margin = plain.config.margin
    assert not zones_loosened(plain.config.zones, built, margin, margin)
    limits = effective_limits(plain.robot, JointLimit(**every), plain.config.limits.joints, 0.02)
    assert not limits_loosened(plain.gate.limits, limits, plain.names)
    strict = Clearance(plain.robot, built, margin, plain.config.slack)
    loose = plain.gate.clearance
    oracle = plain.oracle
    passed = 0
    while passed < 60:
        q = rng.uniform(oracle.lower, oracle.upper)
        if oracle.room(q) < 0:
            continue
        step = q + rng.normal(size=(1, 6)) * rng.choice([0.01, 0.1])
        strict.anchor(q)
        if strict.violated() or strict.blocked(step) is not None:
            continue
        loose.anchor(q)
        passed += 1
        assert loose.blocked(step) is None
    trial = Trial()
    trial.gate.swap(limits, strict, None)
    trial.change(oracle.changed(zones=zones, limits={"every_joint": every,
                                                     "position_margin": 0.02}))  # fmt: skip
    wild(trial.enable(), seed)
    assert not trial.oracle.findings(trial.stream)
    trial.stream.changes.clear()
    assert not trial.oracle.findings(trial.stream), "and so the looser promise"
