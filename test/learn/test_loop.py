"""A cell in one process: the gate is the monitor's, time is simulated, a seed says it all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from smolvla_ros.chunk import ActionChunk
from smolvla_ros.learn.loop import CellLoop
from smolvla_ros.safety.verdict import Kind, State
from smolvla_ros.schema import ConfigError

SCENE = 71000


def plunge(loop) -> ActionChunk:
    """Straight down through the table, from the set-point, in 1.5 s."""
    rows = np.repeat(loop.setpoint[None], 16, axis=0)
    rows[:, 1] += np.linspace(0.0, 1.2, 16)
    return ActionChunk(loop.time, 0.1, loop.robot.names, rows)


def run(loop, seconds: float):
    return [loop.step() for _ in range(round(seconds / loop.dt))]


def test_a_scene_begins_enabled_and_holding(loop):
    loop.reset(SCENE)
    before = loop.world.joint_positions()
    outputs = run(loop, 0.5)
    assert {o.state for o in outputs} == {State.HOLDING}
    assert np.abs(loop.setpoint - before).max() < 1e-9


def test_one_seed_is_one_course_of_events(loop):
    ends = []
    for _ in range(2):
        loop.reset(SCENE)
        loop.send(plunge(loop))
        run(loop, 1.0)
        ends.append(loop.world.joint_positions())
    assert (ends[0] == ends[1]).all()


def test_varied_scenes_differ_in_where_the_arm_starts(loop):
    starts = []
    for seed in (SCENE, SCENE + 1):
        loop.reset(seed)
        starts.append(loop.setpoint)
    loop.reset(SCENE, vary=False)
    assert np.abs(starts[0] - starts[1]).max() > 0.05
    assert np.allclose(loop.setpoint, loop.robot.pose("ready"))


def test_the_gate_stops_what_would_go_through_the_table(loop):
    loop.reset(SCENE, vary=False)
    loop.send(plunge(loop))
    outputs = run(loop, 2.0)
    assert any(o.verdict.check == "keep_out" for o in outputs)
    touching = {name for pair in loop.world.contacts() if "table" in pair for name in pair}
    assert not touching & set(loop.robot.links)


def test_without_a_gate_the_arm_follows_the_chunk(tabletop):
    loop = CellLoop(tabletop, "off")
    loop.reset(SCENE, vary=False)
    chunk = plunge(loop)
    loop.send(chunk)
    assert set(run(loop, 2.0)) == {None}
    assert loop.setpoint == pytest.approx(chunk.positions[-1])
    pressed = {name for pair in loop.world.contacts() if "table" in pair for name in pair}
    assert pressed & set(loop.robot.links)


def test_in_shadow_the_gate_says_and_the_arm_follows_the_chunk(tabletop):
    loop = CellLoop(tabletop, "shadow")
    loop.reset(SCENE, vary=False)
    chunk = plunge(loop)
    loop.send(chunk)
    outputs = run(loop, 1.6)
    assert any(o.verdict.kind is not Kind.PASSED for o in outputs)
    assert loop.setpoint == pytest.approx(chunk.positions[-1])


def test_an_observation_is_in_the_policys_units_order_and_features(loop, tabletop):
    loop.reset(SCENE, vary=False)
    seen = loop.observe("touch the red block")
    assert set(seen.images) == {c.feature for c in tabletop.vla.cameras.values()}
    assert {p.shape for p in seen.images.values()} == {(128, 128, 3)}
    by_name = dict(zip(loop.joint_map.names, loop.joint_map.to_urdf(seen.state), strict=True))
    measured = [by_name[name] for name in loop.robot.names]
    assert measured == pytest.approx(loop.world.joint_positions())
    assert set(seen.stamps.values()) == {loop.time}


def test_a_cell_that_cannot_be_simulated_is_refused_with_what_it_lacks(tabletop):
    with pytest.raises(ConfigError, match="no section sim"):
        CellLoop(replace(tabletop, sim=None))
    with pytest.raises(ConfigError, match="'perhaps' is none; write one of on, off, shadow"):
        CellLoop(tabletop, "perhaps")
    camera = replace(tabletop.vla.cameras["front"], topic="side/image_raw")
    vla = replace(tabletop.vla, cameras={"front": camera})
    with pytest.raises(ConfigError, match=r"vla\.cameras\.front\.topic: 'side/image_raw'"):
        CellLoop(replace(tabletop, vla=vla))
