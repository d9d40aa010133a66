"""Clearances are right, and what is called clear is clear all the way."""

import numpy as np
import pytest
from cells import TABLETOP, tabletop
from oracle import Oracle

from smolvla_ros.safety import Clearance, Zone
from smolvla_ros.schema import ConfigError


@pytest.fixture(scope="module")
def world():
    cell, robot = tabletop()
    config = cell.safety_monitor
    return Clearance(robot, config.zones, config.margin, config.slack), robot


@pytest.fixture(scope="module")
def oracle():
    return Oracle(TABLETOP)


def random_q(robot, rng, n):
    return rng.uniform(robot.lower, robot.upper, (n, robot.dof))


def room(world, q):
    d = world.distances(q)
    return min(x - p.margin for x, p in zip(d, world.pairs, strict=True) if p.check != "slow")


def test_room_beyond_the_margin_agrees_with_another_geometry_path(world, oracle):
    clearance, robot = world
    rng = np.random.default_rng(0)
    for q in random_q(robot, rng, 300):
        ours, theirs = room(clearance, q), oracle.room(q)
        if ours > 0 or theirs > 0:
            assert ours == pytest.approx(theirs, abs=2e-4)
        else:  # penetration depths are defined differently; that it is one is agreed on
            assert ours <= 1e-6 and theirs <= 1e-6


def test_what_is_called_clear_is_clear_in_a_dense_sweep(world, oracle):
    clearance, robot = world
    rng = np.random.default_rng(1)
    starts = [q for q in random_q(robot, rng, 400) if oracle.room(q) > 0.0]
    clear = blocked = 0
    for q in starts:
        step = rng.normal(size=robot.dof) * rng.choice([0.02, 0.3, 1.0])
        clearance.anchor(q)
        path = np.array([q + step * 0.3, q + step])
        if clearance.blocked(path) is not None:
            blocked += 1
            continue
        clear += 1
        dense = [oracle.room(q + s * step) for s in np.linspace(0, 1, 40)]
        assert min(dense) >= -clearance.slack - 1e-6
    assert clear > 50 and blocked > 20, "the sample says nothing if all went one way"


def test_end_points_alone_would_miss_a_pole_that_the_sweep_finds():
    _, robot = tabletop()
    ready = robot.pose("ready")
    tip = robot.frame_position(ready, "gripper_frame_link")
    pole = Zone(kind="keep_out", shape="cylinder", size=[0.004, 0.3], position=[*tip[:2], 0.15])
    world = Clearance(robot, {"pole": pole}, margin=0.005, slack=0.001)
    left, right = ready.copy(), ready.copy()
    left[0], right[0] = 0.6, -0.6
    for q in (left, right):
        assert room(world, q) > 0
    world.anchor(left)
    found = world.blocked(np.array([right]))
    assert found is not None and found.check == "keep_out" and "pole" in found.detail


def test_carried_bounds_never_exceed_the_clearance(world):
    clearance, robot = world
    rng = np.random.default_rng(2)
    q = robot.pose("ready")
    clearance.anchor(q)
    for _ in range(300):
        q = np.clip(q + rng.normal(size=robot.dof) * 0.02, robot.lower, robot.upper)
        clearance.move(q)
        exact = clearance.distances(q)
        assert (clearance._low <= exact + 1e-7).all()
        nearest, pair = clearance.nearest()
        guarded = [d for d, p in zip(exact, clearance.pairs, strict=True) if p.check != "slow"]
        assert nearest == pytest.approx(min(guarded), abs=1e-7)
        assert pair is not None


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ("box", [0.1, 0.1, 0.1]),
        ("sphere", [0.05]),
        ("cylinder", [0.05, 0.1]),
        ("capsule", [0.05, 0.05]),
        ("half_space", []),
    ],
)
def test_every_shape_blocks_a_motion_into_it_and_not_one_away(shape, size):
    _, robot = tabletop()
    ready = robot.pose("ready")
    tip = robot.frame_position(ready, "gripper_frame_link")
    below = [*tip[:2], tip[2] - 0.1 if shape != "half_space" else tip[2] - 0.06]
    zone = Zone(kind="keep_out", shape=shape, size=size, position=below)
    world = Clearance(robot, {"thing": zone}, margin=0.01, slack=0.001)
    world.anchor(ready)
    down, up = ready.copy(), ready.copy()
    down[1] += 0.8
    up[1] -= 0.3
    assert world.blocked(np.array([down])) is not None
    assert world.blocked(np.array([up])) is None


def test_links_are_selected_by_name():
    _, robot = tabletop()
    zone = {"kind": "keep_out", "shape": "box", "size": [1.0, 1.0, 1.0]}
    only = Clearance(robot, {"z": Zone(**zone, links=["wrist_link"])}, 0.01, 0.001)
    rest = Clearance(robot, {"z": Zone(**zone, except_links=["wrist_link"])}, 0.01, 0.001)
    with_zone = lambda c: {p.name.split(" ~ ")[0] for p in c.pairs if p.zone}  # noqa: E731
    assert with_zone(only) == {"wrist_link"}
    assert "wrist_link" not in with_zone(rest) and "gripper_link" in with_zone(rest)
    with pytest.raises(ConfigError, match="no link 'elbow'"):
        Clearance(robot, {"z": Zone(**zone, links=["elbow"])}, 0.01, 0.001)
