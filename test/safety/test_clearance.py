"""Clearances are right, and what is called clear is clear all the way."""

import coal
import numpy as np
import pinocchio as pin
import pytest
from arms import write_mesh
from cells import TABLETOP, tabletop
from oracle import Oracle
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation

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


def block(edge):
    """Vertices and faces of a cube."""
    corners = np.array(np.meshgrid(*[[-0.5, 0.5]] * 3)).reshape(3, -1).T * edge
    return corners, ConvexHull(corners).simplices


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


@pytest.mark.parametrize("shallow", [6, -1])
def test_what_is_called_clear_is_clear_in_a_dense_sweep(world, oracle, monkeypatch, shallow):
    """Also where every proof may lean on planes, not only the long ones."""
    monkeypatch.setattr("smolvla_ros.safety.clearance._SHALLOW", shallow)
    clearance, robot = world
    rng = np.random.default_rng(1)
    starts = random_q(robot, rng, 400)
    starts = starts[oracle.scene.rooms(starts).min(axis=1) > 0.0]
    clear = blocked = 0
    for q in starts:
        step = rng.normal(size=robot.dof) * rng.choice([0.02, 0.3, 1.0])
        clearance.anchor(q)
        path = np.array([q + step * 0.3, q + step])
        if clearance.blocked(path) is not None:
            blocked += 1
            continue
        clear += 1
        dense = oracle.scene.rooms(q + np.linspace(0, 1, 40)[:, None] * step)
        assert dense.min() >= -clearance.slack - 1e-6
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
        ("mesh", []),
    ],
)
def test_every_shape_blocks_a_motion_into_it_and_not_one_away(shape, size, tmp_path):
    _, robot = tabletop()
    ready = robot.pose("ready")
    tip = robot.frame_position(ready, "gripper_frame_link")
    below = [*tip[:2], tip[2] - 0.1 if shape != "half_space" else tip[2] - 0.06]
    mesh = str(write_mesh(tmp_path / "m.stl", *block(0.1))) if shape == "mesh" else None
    zone = Zone(kind="keep_out", shape=shape, size=size, position=below, mesh=mesh)
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


# -- the solver ----------------------------------------------------------------------------


def hull(points):
    vertices = coal.StdVec_Vec3s()
    vertices.extend(list(points))
    return coal.Convex.convexHull(vertices, True, "Qt")


def solver_shapes():
    rng = np.random.default_rng(0)
    egg = rng.normal(size=(400, 3))
    egg *= np.array([0.1, 0.06, 0.03]) / np.linalg.norm(egg, axis=1, keepdims=True)
    return {
        "box": coal.Box(0.1, 0.06, 0.2),
        "plate": coal.Box(1.0, 1.0, 0.001),
        "sphere": coal.Sphere(0.06),
        "cylinder": coal.Cylinder(0.04, 0.2),
        "capsule": coal.Capsule(0.04, 0.2),
        "hull": hull(rng.normal(size=(30, 3)) * 0.07),
        "egg": hull(egg),
        "half_space": coal.Halfspace(np.array([0.0, 0.0, 1.0]), 0.0),
    }


def solver_poses(n):
    """Random places of two shapes around touching; a third of them aligned, some on a grid."""
    rng = np.random.default_rng(1)
    for k in range(n):
        turn = Rotation.random(rng=rng).as_matrix() if k % 3 else np.eye(3)
        place = rng.normal(size=3) * 0.12
        yield turn, place.round(2) if k % 10 == 0 else place


def at(turn, place):
    transform = coal.Transform3s()
    transform.setRotation(turn)
    transform.setTranslation(place)
    return transform


@pytest.mark.parametrize("first", [n for n in solver_shapes() if n != "half_space"])
def test_f62_distance_and_collide_are_of_one_mind(first):
    """coal answers `do they touch` and `how far` in two ways; the clearance trusts the
    distance, since only it can keep a margin. Where it says more than a rounding, the other
    one must agree."""
    shapes = solver_shapes()
    origin = at(np.eye(3), np.zeros(3))
    touching = apart = 0
    for second in shapes.values():
        for turn, place in solver_poses(300):
            pair = shapes[first], at(turn, place), second, origin
            far = coal.distance(*pair, coal.DistanceRequest(), coal.DistanceResult())
            hit = coal.collide(*pair, coal.CollisionRequest(), coal.CollisionResult()) > 0
            assert np.isfinite(far)
            touching, apart = touching + hit, apart + (not hit)
            if abs(far) > 1e-9:
                assert hit == (far < 0), (first, turn, place, far)
    assert touching > 100 and apart > 100


def test_f62_a_distance_that_is_no_number_blocks(world, monkeypatch):
    clearance, robot = world

    class Failed:
        min_distance = float("nan")

    q = robot.pose("ready")
    clearance.anchor(q)
    monkeypatch.setattr(pin, "computeDistance", lambda *_: Failed)
    assert clearance.blocked(np.array([q + 0.3])) is not None


@pytest.mark.parametrize("kind", ["keep_in", "keep_out"])
def test_a_motion_that_is_no_number_is_blocked(kind):
    _, robot = tabletop()
    zone = Zone(kind=kind, shape="sphere", size=[0.9 if kind == "keep_in" else 0.01])
    world = Clearance(robot, {"z": zone}, 0.001, 0.0005)
    world.anchor(robot.pose("ready"))
    assert world.blocked(np.full((2, robot.dof), np.nan)) is not None


# -- speed ---------------------------------------------------------------------------------

SPEED = np.full(6, 2.0)
AROUND = {"shape": "box", "size": [0.2, 0.2, 0.2], "links": ["gripper_link"]}


def around_the_tip(shift=0.0, **rules):
    """The arm at its ready pose, and a zone below its tip with ``shift`` metres between."""
    _, robot = tabletop()
    q = robot.pose("ready")
    zone = {**AROUND, "position": [0.3, 0.0, 0.0], **rules}
    z = 0.0
    for _ in range(20):  # the gap is no linear function of the height: find it
        world = Clearance(robot, {"z": Zone(**{**zone, "position": [0.3, 0.0, z]})}, 0.01, 0.001)
        gap = min(d for d, p in zip(world.distances(q), world.pairs, strict=True) if p.zone)
        z += gap - shift
    world.anchor(q)
    assert gap == pytest.approx(shift, abs=1e-5)
    return world, q


def test_a_slow_zone_takes_the_share_that_is_too_much():
    world, _ = around_the_tip(-0.02, kind="slow", speed_ratio=0.25)
    v = np.array([0.1, -1.0, 0.0, 0.5, 0.0, 0.0])
    factor, check, why = world.speed_factor(v, SPEED)
    assert factor == pytest.approx(0.5) and check == "slow"
    assert why == "slow zone z: joint speeds at most 25% of their limits"
    assert world.speed_factor(0.5 * v, SPEED) == (1.0, "", "")
    assert world.speed_factor(np.zeros(6), SPEED) == (1.0, "", "")


def test_a_slow_zone_in_metres_a_second_holds_for_every_point_of_the_link():
    world, q = around_the_tip(-0.02, kind="slow", speed=0.1)
    robot = world.robot
    corners = np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T
    data = robot.model.createData()
    boxes = [g for g in robot.geometries if g.link == "gripper_link"]

    def points(q):
        geometry = robot.geometry.createData()
        pin.updateGeometryPlacements(robot.model, data, robot.geometry, geometry, q)
        found = []
        for g in boxes:
            half = np.asarray(robot.geometry.geometryObjects[g.index].geometry.halfSide)
            found += [geometry.oMg[g.index].act(c * half) for c in corners]
        return np.array(found)

    rng = np.random.default_rng(0)
    for v in rng.normal(size=(50, 6)):
        factor, check, why = world.speed_factor(v, SPEED)
        moved = points(q + 1e-6 * factor * v) - points(q - 1e-6 * factor * v)
        fastest = np.linalg.norm(moved, axis=1).max() / 2e-6
        assert fastest <= 0.1 * (1 + 1e-3)
        if factor < 1:
            assert fastest == pytest.approx(0.1, rel=1e-3)
            assert check == "slow" and "zone z: a point would move at" in why


def test_a_slow_zone_begins_at_its_margin():
    v = np.full(6, 2.0)
    near, _ = around_the_tip(0.03, kind="slow", speed_ratio=0.1, margin=0.04)
    assert near.speed_factor(v, SPEED)[1] == "slow"
    far, _ = around_the_tip(0.03, kind="slow", speed_ratio=0.1)
    assert far.speed_factor(v, SPEED) == (1.0, "", "")


def test_f71_a_slow_zone_is_left_later_than_it_is_entered():
    world, q = around_the_tip(0.0, kind="slow", speed_ratio=0.1, hysteresis=0.01)
    lift = np.array([0.0, -1.0, 0.0, 0.0, 0.0, 0.0])

    def gap(q):
        d = world.distances(q)
        return min(x for x, p in zip(d, world.pairs, strict=True) if p.zone)

    slow = lambda: world.speed_factor(np.full(6, 2.0), SPEED)[1] == "slow"  # noqa: E731
    seen = []
    for s in np.concatenate([np.linspace(0.02, -0.02, 21), np.linspace(-0.02, 0.1, 61)]):
        world.move(q + s * lift)
        seen.append((gap(q + s * lift), slow()))
    down, up = seen[:21], seen[21:]
    assert [s for _, s in down] == [d <= 0 for d, _ in down]
    assert [s for _, s in up] == [d <= 0.01 for d, _ in up]
    assert any(0 < d <= 0.01 for d, _ in up) and any(d > 0.01 for d, _ in up)
    assert any(0 < d <= 0.01 for d, _ in down)


def test_f71_trembling_at_a_border_does_not_chatter():
    world, q = around_the_tip(0.0005, kind="slow", speed_ratio=0.1)
    changes, was = 0, None
    for k in range(100):
        world.move(q + np.array([0.0, 0.01 * (-1) ** k, 0.0, 0.0, 0.0, 0.0]))
        now = world.speed_factor(np.full(6, 2.0), SPEED)[1]
        changes, was = changes + (now != was), now
    assert changes <= 3


@pytest.mark.parametrize(("gap", "ratio"), [(0.1, 1.0), (0.055, 0.6), (0.0325, 0.4), (0.01, 0.2)])
def test_an_approach_zone_slows_what_comes_nearer_by_how_near_it_is(gap, ratio):
    world, q = around_the_tip(gap, kind="approach", speed_ratio=0.2, distance=0.1)
    down = np.array([0.0, 2.0, 0.0, 0.0, 0.0, 0.0])
    closer, check, why = world.speed_factor(down, SPEED)
    assert closer == pytest.approx(ratio, abs=1e-3)
    if ratio < 1:
        assert check == "approach" and why.startswith("approach zone z: ")
    assert world.speed_factor(-down, SPEED) == (1.0, "", ""), "away is free"
    turning = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 2.0])  # the jaw is not in the zone's links
    assert world.speed_factor(turning, SPEED) == (1.0, "", "")
    assert world.blocked(np.array([q])) is None, "an approach zone stops nothing"
    assert world.nearest()[1].check == "self_collision"


def test_far_from_slow_zones_nothing_is_measured(monkeypatch):
    world, _ = around_the_tip(0.3, kind="approach", speed_ratio=0.2, distance=0.1)
    monkeypatch.setattr(pin, "computeDistance", None)
    assert world.speed_factor(np.full(6, 2.0), SPEED) == (1.0, "", "")


# -- what is near --------------------------------------------------------------------------


def test_the_closest_pairs_come_in_order_with_their_nearest_points(world):
    clearance, robot = world
    rng = np.random.default_rng(5)
    for q in random_q(robot, rng, 20):
        clearance.anchor(robot.pose("ready"))
        clearance.move(q)  # bounds only: closest() has to measure
        exact = clearance.distances(q)
        guarded = [d for d, p in zip(exact, clearance.pairs, strict=True) if p.check != "slow"]
        found = clearance.closest(5)
        assert [c.distance for c in found] == pytest.approx(sorted(guarded)[:5], abs=1e-7)
        for c in found:
            if c.distance > 0:
                assert np.linalg.norm(c.b - c.a) == pytest.approx(c.distance, abs=1e-5)
    assert len(clearance.closest(10_000)) == len(guarded)


def test_the_closest_point_of_a_round_workspace_is_on_its_border():
    _, robot = tabletop()
    zones = {
        "ball": Zone(kind="keep_in", shape="sphere", size=[0.5], position=[0.1, 0.0, 0.1]),
        "pipe": Zone(kind="keep_in", shape="cylinder", size=[0.5, 1.0]),
    }
    world = Clearance(robot, zones, 0.01, 0.001)
    rng = np.random.default_rng(0)
    for q in random_q(robot, rng, 10):
        world.anchor(q)
        for c in world.closest(100):
            if c.pair.zone:
                assert np.linalg.norm(c.b - c.a) == pytest.approx(abs(c.distance), abs=1e-5)
            if c.pair.zone == "ball":
                assert np.linalg.norm(c.b - [0.1, 0.0, 0.1]) == pytest.approx(0.5, abs=1e-5)


# -- cost ----------------------------------------------------------------------------------


def test_a_check_gives_up_after_so_many_configurations(world, monkeypatch):
    """Motions along a border need many looks; there is an end to them, and it blocks."""
    clearance, robot = world
    looked = []
    at = Clearance._at
    monkeypatch.setattr(Clearance, "_at", lambda self, q, p: looked.append(1) or at(self, q, p))
    rng = np.random.default_rng(3)
    most = 0
    for q in random_q(robot, rng, 400):
        looked.clear()
        clearance.anchor(q)
        clearance.blocked(np.array([q + rng.normal(size=6) * 0.5]))
        most = max(most, len(looked))
    assert 8 < most <= clearance.max_nodes + 20
