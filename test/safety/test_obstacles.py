"""Obstacles beside the zones: kept clear of where they are, grown when they may have moved."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import numpy as np
import pinocchio as pin
import pytest
from cells import Run, tabletop

from smolvla_ros.safety import Clearance
from smolvla_ros.safety.obstacles import MAX_OBSTACLES, MAX_VERTICES, Obstacle, read_obstacle

NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def tip():
    _, robot = tabletop()
    return robot.frame_position(robot.pose("ready"), "gripper_frame_link")


@pytest.fixture
def world():
    cell, robot = tabletop()
    config = cell.safety_monitor
    clearance = Clearance(robot, config.zones, config.margin, config.slack)
    clearance.anchor(robot.pose("ready"))
    return clearance


def cup(at, radius=0.03, id="cup"):
    return read_obstacle(id, "sphere", [radius], at)


def above(tip, z):
    return tip + np.array([0.0, 0.0, z])


def nearest_to(clearance, id, q):
    d = clearance.distances(q)
    return min(x for x, p in zip(d, clearance.pairs, strict=True) if p.zone == id)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"shape": "cone"}, "box, sphere"),
        ({"shape": "mesh"}, "box, sphere"),
        ({"shape": "half_space", "size": []}, "box, sphere"),
        ({"size": [0.1]}, "a box has 3"),
        ({"size": [0.1, 0.0, 0.1]}, "above 0"),
        ({"size": [0.1, NAN, 0.1]}, "above 0"),
        ({"size": [0.1, 1e6, 0.1]}, "at most 100"),
        ({"position": [0.0, 0.0]}, "3 values"),
        ({"position": [0.0, INF, 0.0]}, "3 values"),
        ({"position": [0.0, NAN, 0.0]}, "3 values"),
        ({"quaternion": [0.0, 0.0, 0.0, 0.0]}, "length 1"),
        ({"quaternion": [0.0, 0.0, 1.0]}, "length 1"),
        ({"quaternion": [NAN, 0.0, 0.0, 1.0]}, "length 1"),
        ({"shape": "hull"}, "a hull has 0"),
        ({"shape": "hull", "size": []}, "0 vertices; a hull has 1 to"),
        ({"shape": "hull", "size": [], "vertices": [[0.0, 0.0]]}, "of x, y, z"),
        ({"shape": "hull", "size": [], "vertices": [[0.0, 0.0, NAN]]}, "within 100 m"),
        ({"shape": "hull", "size": [], "vertices": [[0.0] * 3] * (MAX_VERTICES + 1)}, "1 to"),
    ],
)
def test_f59_what_is_no_obstacle_is_refused_by_its_name(given, says):
    whole = {"shape": "box", "size": [0.1, 0.1, 0.1], "position": [0.3, 0.0, 0.1], **given}
    with pytest.raises(ValueError, match="'cup'") as error:
        read_obstacle("cup", **whole)
    assert says in str(error.value)


def test_a_pose_is_read_in_its_frame():
    frame = pin.SE3(pin.rpy.rpyToMatrix(0.0, 0.0, np.pi / 2), np.array([1.0, 0.0, 0.0]))
    half = np.sqrt(0.5)
    o = read_obstacle("o", "box", [1, 2, 3], [0.5, 0.0, 0.0], [0.0, 0.0, half, half], frame)
    np.testing.assert_allclose(o.pose.translation, [1.0, 0.5, 0.0], atol=1e-12)
    np.testing.assert_allclose(o.pose.rotation, np.diag([-1.0, -1.0, 1.0]), atol=1e-12)


def test_too_many_or_two_of_one_name_are_refused_and_change_nothing(world, tip):
    world.set_obstacles([cup(above(tip, 0.2))])
    before = [p.name for p in world.pairs]
    many = [cup([1.0, 0.0, k * 0.1], id=f"o{k}") for k in range(MAX_OBSTACLES + 1)]
    with pytest.raises(ValueError, match=str(MAX_OBSTACLES)):
        world.set_obstacles(many)
    with pytest.raises(ValueError, match="'cup' is there twice"):
        world.set_obstacles([cup(tip), cup(tip)])
    with pytest.raises(ValueError, match="margin"):
        world.set_obstacles([cup(tip)], margin=NAN)
    assert [p.name for p in world.pairs] == before


@pytest.mark.parametrize(
    ("shape", "size", "vertices"),
    [
        ("box", [0.06, 0.06, 0.06], ()),
        ("sphere", [0.03], ()),
        ("cylinder", [0.03, 0.06], ()),
        ("capsule", [0.02, 0.04], ()),
        ("hull", [], list(itertools.product((-0.03, 0.03), repeat=3))),
    ],
)
def test_f61_an_obstacle_of_every_shape_blocks_until_it_is_gone(world, tip, shape, size, vertices):
    down = world.robot.pose("ready")
    down[1] += 0.15
    zones = [p for p in world.pairs if p.check != "obstacle"]
    assert world.blocked(down[None]) is None
    below = world.robot.frame_position(down, "gripper_frame_link") - [0.0, 0.0, 0.02]
    world.set_obstacles([read_obstacle("thing", shape, size, below, vertices=vertices)])
    found = world.blocked(down[None])
    assert found is not None and found.check == "obstacle" and "~ thing would" in found.detail
    assert [p for p in world.pairs if p.check != "obstacle"] == zones, "added, never instead"
    world.set_obstacles([])
    assert world.blocked(down[None]) is None
    assert world.pairs == zones


def test_an_obstacle_that_moves_is_measured_where_it_is(world, tip):
    for z in (0.3, 0.15, 0.4):
        at = above(tip, z)
        world.set_obstacles([cup([0.0, 1.0, 1.0], id="far"), cup(at)])
        fresh = Clearance(world.robot, {}, world.margin, world.slack)
        fresh.set_obstacles([cup(at)])
        q = world.robot.pose("ready")
        assert nearest_to(world, "cup", q) == pytest.approx(nearest_to(fresh, "cup", q), abs=1e-9)


def test_zones_and_carried_bounds_survive_the_coming_and_going_of_obstacles(world, tip):
    rng = np.random.default_rng(0)
    q = world.robot.pose("ready")
    for k in range(120):
        q = np.clip(q + rng.normal(size=6) * 0.02, world.robot.lower, world.robot.upper)
        world.move(q)
        if k % 7 == 0:
            n = int(rng.integers(0, 5))
            world.set_obstacles([cup(tip + rng.normal(size=3) * 0.2, id=f"o{i}") for i in range(n)])
        if k % 5 == 0:
            world.grow_obstacles(float(rng.uniform(0.0, 0.05)))
        exact = world.distances(q)
        assert (world._low <= exact + 1e-7).all()
        nearest, pair = world.nearest()
        guarded = [d for d, p in zip(exact, world.pairs, strict=True) if p.check != "slow"]
        assert nearest == pytest.approx(min(guarded), abs=1e-7) and pair is not None


def test_f55_a_link_inside_an_obstacle_may_leave_it_and_not_go_deeper(world, tip):
    q = world.robot.pose("ready")
    up, down = q.copy(), q.copy()
    up[1] -= 0.6
    down[1] += 0.02
    world.set_obstacles([cup(above(tip, -0.06), radius=0.05)])
    assert {p.check for p in world.violated()} == {"obstacle"}
    assert nearest_to(world, "cup", up) > world.margin
    assert nearest_to(world, "cup", down) < nearest_to(world, "cup", q)
    assert world.blocked(down[None]) is not None
    assert world.blocked(up[None]) is None
    world.move(up)
    assert not world.violated()


def test_f58_growing_keeps_further_away_and_shrinks_again_with_the_next_word(world, tip):
    q = world.robot.pose("ready")
    toward = q.copy()
    toward[1] += 0.05
    obstacle = cup(above(tip, -0.08))
    world.set_obstacles([obstacle])
    room = nearest_to(world, "cup", q) - world.margin
    assert 0.01 < room < nearest_to(world, "cup", q)
    assert nearest_to(world, "cup", toward) - world.margin < room - 0.002
    assert world.blocked(toward[None]) is None
    world.grow_obstacles(room - 0.001)
    assert world.blocked(toward[None]).check == "obstacle"
    assert not world.violated()
    world.grow_obstacles(room + 0.02)
    assert {p.check for p in world.violated()} == {"obstacle"}
    world.set_obstacles([obstacle])
    assert not world.violated() and world.blocked(toward[None]) is None


@pytest.mark.parametrize("kind", ["the same", "renamed", "flickering"])
@pytest.mark.parametrize("shake", [0.0, 2e-5])
def test_a_stream_of_obstacles_does_not_let_the_arm_creep_in(world, tip, shake, kind):
    """Each word about an obstacle measures it anew; were that a new start, a push against it
    would gain the tolerance of a check each time."""
    rng = np.random.default_rng(0)
    q = world.robot.pose("ready")
    at = above(tip, -0.05)
    world.set_obstacles([cup(at)])
    start = nearest_to(world, "cup", q)
    assert start < world.margin + 0.03
    push = np.zeros(6)
    push[1] = 2e-4
    least = INF
    for k in range(400):
        name = f"cup {k}" if kind == "renamed" else "cup"
        if kind == "flickering":
            world.set_obstacles([])
        world.set_obstacles([replace(cup(at + rng.uniform(-shake, shake, 3)), id=name)])
        if world.blocked((q + push)[None]) is None:
            q = q + push
            world.move(q)
        least = min(least, nearest_to(world, name, q))
    assert least > min(start, world.margin) - world.slack - 2 * shake
    assert least < world.margin + 1e-3, "the push must reach the border to say anything"


def test_what_an_obstacle_did_to_a_stop_leaves_a_way_out(world, tip):
    """The arm brakes into what came into its way: it is held there, not frozen."""
    q = world.robot.pose("ready")
    down = q.copy()
    down[1] += 0.12
    below = world.robot.frame_position(down, "gripper_frame_link") - [0.0, 0.0, 0.03]
    world.set_obstacles([cup(below, radius=0.025)])
    assert not world.violated()
    for s in np.linspace(0.1, 1.0, 10):  # the stop that was kept from before
        world.move(q + s * (down - q))
    assert {p.check for p in world.violated()} == {"obstacle"}
    at = nearest_to(world, "cup", down)
    deeper, out = down.copy(), down.copy()
    deeper[1] += 0.03
    out[1] -= 0.05
    assert nearest_to(world, "cup", deeper) < at
    assert world.blocked(deeper[None]) is not None
    assert world.blocked(out[None]) is None


def test_obstacles_made_beforehand_are_the_same_obstacles(tip):
    run = Run().enable()
    here = [cup(above(tip, -0.1), id="a"), cup(above(tip, 0.1), id="b", radius=0.02)]
    run.gate.set_obstacles(0.0, here)
    wanted = run.gate.clearance.distances(run.q)
    assert run.gate.make_obstacles(here[:]) == [None, None], "others at most in their places"
    run.gate.set_obstacles(0.0, [])
    made = run.gate.make_obstacles(here)
    assert not any(p.zone == "a" for p in run.gate.clearance.pairs), "nothing has changed yet"
    run.gate.set_obstacles(0.0, here, made)
    np.testing.assert_allclose(run.gate.clearance.distances(run.q), wanted, atol=1e-6)
    moved = [cup(above(tip, -0.2), id="a"), here[1]]
    run.gate.set_obstacles(0.0, moved, run.gate.make_obstacles(moved))
    q = run.q
    far = [p.zone == "a" for p in run.gate.clearance.pairs]
    assert run.gate.clearance.distances(q)[far].min() > wanted[far].min() + 0.05
    with pytest.raises(ValueError, match="twice"):
        run.gate.make_obstacles([here[0], here[0]])


def test_obstacles_are_changed_within_the_time_a_tick_has(world, tip):
    rng = np.random.default_rng(0)

    def some(n, size):
        return [
            Obstacle(f"o{k}", "box", (size, 0.1, 0.1), pin.SE3(np.eye(3), p))
            for k, p in enumerate(rng.uniform([-0.2, -0.5, -0.2], [0.8, 0.5, 0.8], (n, 3)))
        ]

    def best(*calls):
        took = []
        for call in calls:
            begin = time.perf_counter()
            call()
            took.append(time.perf_counter() - begin)
        return min(took)

    def put(n, size):
        obstacles = some(n, size)
        return lambda: world.set_obstacles(obstacles)

    other = best(*(put(20, 0.1 + 0.01 * k) for k in range(8)))
    moved = best(*(put(20, 0.1) for k in range(8)))
    grown = best(*(lambda k=k: world.grow_obstacles(0.001 * k) for k in range(8)))
    assert other < 0.02 and moved < 0.005 and grown < 0.005, (other, moved, grown)
    print(f"20 obstacles: others {other * 1e3:.2f} ms, moved {moved * 1e3:.2f} ms, "
          f"grown {grown * 1e3:.2f} ms")  # fmt: skip
