"""Zones: what is refused, where they lie, and that every shape of workspace is kept."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
from arms import LIMIT, MASS, SHAPE, bent_plate, joint, link, write_mesh
from cells import TABLETOP, tabletop
from oracle import Oracle
from scipy.spatial import ConvexHull

from smolvla_ros.robot import RobotModel
from smolvla_ros.safety import Clearance, Zone
from smolvla_ros.safety.zones import check_zones, with_mesh_paths
from smolvla_ros.schema import ConfigError, load

BALL = {"kind": "keep_out", "shape": "sphere", "size": [0.1]}
BOX = {"kind": "keep_out", "shape": "box", "size": [0.1, 0.1, 0.1]}
SLOW = {**BALL, "kind": "slow"}
APPROACH = {**BALL, "kind": "approach"}
NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def so101():
    return tabletop()[1]


@pytest.fixture
def bench(tmp_path):
    """An arm on a bench: ``bench`` is fixed to the root, ``hand`` moves with ``turn``."""
    body = (
        link("base")
        + link("bench")
        + link("arm")
        + link("hand")
        + link("bare", MASS.replace('"1"', '"1e-6"'))
        + joint("bolt", "base", "bench", "fixed", "", xyz="0 0 1")
        + joint("turn", "bench", "arm")
        + joint("weld", "arm", "hand", "fixed", "", xyz="0.5 0 0")
        + joint("hang", "hand", "bare", "fixed", "")
    )
    path = tmp_path / "bench.urdf"
    path.write_text(f'<robot name="bench">{body}</robot>')
    return RobotModel(path)


@pytest.mark.parametrize(
    ("given", "key", "says"),
    [
        ({**BALL, "size": [0.0]}, "size", "above 0"),
        ({**BALL, "size": [-0.1]}, "size", "above 0"),
        ({**BALL, "size": [NAN]}, "size", ""),
        ({**BALL, "size": [1e9]}, "size", "100"),
        ({**BALL, "size": [0.1, 0.1]}, "size", "needs 1 (radius)"),
        ({**BOX, "size": []}, "size", "needs 3 (x, y, z)"),
        ({**BALL, "position": [INF, 0.0, 0.0]}, "position", ""),
        ({**BALL, "position": [0.0, -1e6, 0.0]}, "position", "100"),
        ({**BALL, "position": [0.0, 0.0]}, "position", "3"),
        ({**BALL, "rpy": [0.0, 90.0, 0.0]}, "rpy", "6.28"),
        ({**BALL, "rpy": [NAN, 0.0, 0.0]}, "rpy", ""),
        ({**BALL, "shape": "mesh", "size": []}, "mesh", "need a file"),
        ({**BALL, "mesh": "ball.stl"}, "mesh", "others have none"),
        ({**BALL, "scale": 0.001}, "scale", "mesh"),
        (SLOW, "speed_ratio", "speed_ratio or speed"),
        ({**SLOW, "speed": 0.1, "speed_ratio": 0.5}, "speed_ratio", "not both"),
        ({**BALL, "speed": 0.1}, "speed", "only slow"),
        ({**BALL, "speed_ratio": 0.1}, "speed_ratio", "only slow and approach"),
        ({**BALL, "hysteresis": 0.1}, "hysteresis", "only slow"),
        ({**SLOW, "speed": 0.1, "distance": 0.1}, "distance", "only approach"),
        ({**APPROACH, "speed_ratio": 0.1}, "distance", "need it"),
        ({**APPROACH, "distance": 0.1}, "speed_ratio", "need it"),
        ({**BALL, "links": ["a"], "except_links": ["b"]}, "links", "not both"),
    ],
)
def test_f59_what_is_no_zone_is_refused_by_its_key(given, key, says):
    """The same from a cell's file and from Python."""
    with pytest.raises(ConfigError) as from_python:
        Zone(**given)
    with pytest.raises(ConfigError) as from_file:
        load(Zone, given, "zones.z")
    assert from_python.value.problems[0].startswith(f"{key}: ")
    assert from_file.value.problems[0].startswith(f"zones.z: {key}")
    assert says in str(from_python.value) or says in str(from_file.value)


def test_f59_every_problem_of_a_set_of_zones_is_named_at_once(so101, tmp_path):
    zones = {
        "a": Zone(**BALL, links=["elbow"]),
        "b": Zone(**BALL, frame="nowhere", except_links=["knee"]),
        "c": Zone(**APPROACH, speed_ratio=0.1, distance=0.01),
        "d": Zone(**{**BALL, "shape": "mesh", "size": []}, mesh=str(tmp_path / "none.stl")),
        "e": Zone(**BALL, frame="gripper_link"),
        "f": Zone(**BALL, links=["base_link"]),
    }
    with pytest.raises(ConfigError) as error:
        Clearance(so101, zones, margin=0.02, slack=0.001)
    starts = [p.split(": ")[0] for p in error.value.problems]
    assert starts == [
        "zones.a.links",
        "zones.b.except_links",
        "zones.b.frame",
        "zones.c.distance",
        "zones.d.mesh",
        "zones.e.frame",
        "zones.f.links",
    ]


def test_f57_a_zone_lies_in_the_frame_it_names(bench):
    here = Zone(**BALL, position=[0.3, 0.0, 0.0], frame="bench")
    there = replace(here, frame=None, position=[0.3, 0.0, 1.0])
    for q in (-1.0, 0.0, 0.7):
        a, b = (
            Clearance(bench, {"z": z}, 0.01, 0.001).distances(np.array([q])) for z in (here, there)
        )
        np.testing.assert_allclose(a, b, atol=1e-9)
    turned = replace(here, rpy=[0.0, 0.0, 1.0], shape="box", size=[0.3, 0.1, 0.1])
    placed = check_zones({"z": turned}, bench, 0.01)["z"]
    assert placed.pose.translation.tolist() == [0.3, 0.0, 1.0]


def test_f57_the_world_of_a_fixed_virtual_joint_is_a_frame(bench, tmp_path):
    srdf = tmp_path / "bench.srdf"
    text = '<robot name="bench"><virtual_joint name="v" type="{}" parent_frame="world" '
    text += 'child_link="base"/></robot>'
    srdf.write_text(text.format("fixed"))
    robot = RobotModel(bench.urdf_path, srdf)
    placed = check_zones({"z": Zone(**BALL, frame="world")}, robot, 0.01)
    np.testing.assert_array_equal(placed["z"].pose.homogeneous, np.eye(4))
    srdf.write_text(text.format("floating"))  # nobody knows where it is
    with pytest.raises(ConfigError, match="no frame 'world'"):
        check_zones({"z": Zone(**BALL, frame="world")}, RobotModel(bench.urdf_path, srdf), 0.01)


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        ("bnech", "no frame 'bnech'; the URDF has: base, bench, arm, hand"),
        ("hand", "'hand' moves with joint 'turn'; name a link that is fixed to 'base'"),
    ],
)
def test_f57_a_frame_that_is_unknown_or_moves_is_refused(bench, frame, says):
    with pytest.raises(ConfigError, match=r"zones.z.frame") as error:
        check_zones({"z": Zone(**BALL, frame=frame)}, bench, 0.01)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("links", "says"),
    [
        (["bare"], "'bare' has no collision geometry"),
        (["hand", "bare"], "'bare' has no collision geometry"),
        (["bench"], "selects no link that moves"),
    ],
)
def test_a_zone_that_would_guard_nothing_is_refused(bench, links, says):
    with pytest.raises(ConfigError, match=r"zones.z.links") as error:
        check_zones({"z": Zone(**BALL, links=links)}, bench, 0.01)
    assert says in str(error.value)


def test_a_mesh_zone_is_the_hull_of_its_file_scaled_and_beside_the_cell(bench, tmp_path):
    corners = np.array(np.meshgrid(*[[-0.5, 0.5]] * 3)).reshape(3, -1).T * [200.0, 100.0, 300.0]
    write_mesh(tmp_path / "block.stl", corners, ConvexHull(corners).simplices)
    place = {"kind": "keep_out", "position": [0.2, 0.5, 1.2], "rpy": [0.1, 0.2, 0.3]}
    meshed = Zone(**place, shape="mesh", mesh="block.stl", scale=0.001)
    zones = with_mesh_paths({"z": meshed}, tmp_path)
    ours = Clearance(bench, zones, 0.01, 0.001)
    box = Clearance(bench, {"z": Zone(**place, shape="box", size=[0.2, 0.1, 0.3])}, 0.01, 0.001)
    for q in np.linspace(-1, 1, 9):
        np.testing.assert_allclose(
            ours.distances(np.array([q])), box.distances(np.array([q])), atol=1e-6
        )


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "is no file"), (b"solid x\nendsolid x\n", "mesh"), (b"\x00" * 90, "mesh")],
)
def test_a_mesh_file_that_is_none_is_refused(bench, tmp_path, content, says):
    path = tmp_path / "bad.stl"
    if content is not None:
        path.write_bytes(content)
    zone = Zone(kind="keep_out", shape="mesh", mesh=str(path))
    with pytest.raises(ConfigError, match=r"zones.z.mesh") as error:
        check_zones({"z": zone}, bench, 0.01)
    assert says in str(error.value)


def test_a_mesh_in_millimetres_is_noticed(bench, tmp_path):
    vertices, faces = bent_plate()
    write_mesh(tmp_path / "big.stl", vertices * 1e4, faces)
    zone = Zone(kind="keep_out", shape="mesh", mesh=str(tmp_path / "big.stl"))
    with pytest.raises(ConfigError, match="scale it"):
        check_zones({"z": zone}, bench, 0.01)


def room_shapes(folder):
    rng = np.random.default_rng(3)
    points = rng.normal(size=(40, 3))
    points *= [0.5, 0.4, 0.6] / np.linalg.norm(points, axis=1, keepdims=True)
    write_mesh(folder / "cave.stl", points, ConvexHull(points).simplices)
    return {
        "box": {"size": [0.7, 0.6, 0.5]},
        "sphere": {"size": [0.42]},
        "cylinder": {"size": [0.4, 0.6]},
        "capsule": {"size": [0.35, 0.3]},
        "half_space": {},
        "mesh": {"mesh": "cave.stl", "scale": 0.8},
    }


@pytest.mark.parametrize("shape", ["box", "sphere", "cylinder", "capsule", "half_space", "mesh"])
def test_a_workspace_of_every_shape_agrees_with_other_code(so101, tmp_path, shape):
    given = {
        "kind": "keep_in",
        "shape": shape,
        "position": [0.1, 0.02, 0.2],
        "rpy": [0.1, -0.15, 0.4],
        **room_shapes(tmp_path)[shape],
    }
    zones = with_mesh_paths({"room": Zone(**given)}, tmp_path)
    ours = Clearance(so101, zones, margin=0.01, slack=0.001)
    guarded = np.array([p.check == "keep_in" for p in ours.pairs])
    cell, _ = tabletop()
    limits = asdict(cell.safety_monitor.limits)["every_joint"]
    limits = {"every_joint": {k: v for k, v in limits.items() if v is not None}}
    theirs = Oracle.of(
        urdf=so101.urdf_path, margin=0.01, limits=limits, zones={"room": given}, base=tmp_path,
        srdf=TABLETOP.parent / cell.safety_monitor.robot.srdf,
    )  # fmt: skip
    walls = np.array([r.check == "keep_in" for r in theirs.scene.rules])
    rng = np.random.default_rng(0)
    inside = outside = 0
    for q in rng.uniform(so101.lower, so101.upper, (200, so101.dof)):
        a = float(ours.distances(q)[guarded].min()) - 0.01
        b = float(theirs.rooms(q)[walls].min())
        assert min(a, 0.3) == pytest.approx(b, abs=1e-6)
        inside, outside = inside + (a > 0), outside + (a < 0)
    assert inside > 10 and outside > 10, "the sample says nothing if all went one way"


@pytest.mark.parametrize("shape", ["sphere", "cylinder", "capsule", "mesh"])
def test_f56_a_workspace_is_kept_all_along_a_motion(so101, tmp_path, shape):
    given = {"kind": "keep_in", "shape": shape, "position": [0.1, 0.0, 0.2]}
    zone = Zone(**given, **room_shapes(tmp_path)[shape])
    world = Clearance(so101, with_mesh_paths({"room": zone}, tmp_path), margin=0.01, slack=0.001)
    rule = np.array([p.check == "keep_in" for p in world.pairs])
    room = lambda q: world.distances(q)[rule].min() - 0.01  # noqa: E731
    rng = np.random.default_rng(1)
    clear = blocked = 0
    for q in rng.uniform(so101.lower, so101.upper, (400, so101.dof)):
        world.anchor(q)
        if world.violated():
            continue
        step = rng.normal(size=so101.dof) * rng.choice([0.05, 0.5])
        found = world.blocked(np.array([q + step]))
        dense = min(room(q + s * step) for s in np.linspace(0, 1, 25))
        if found is None:
            clear += 1
            assert dense >= -world.slack - 1e-9
        elif found.check == "keep_in":
            blocked += 1
            assert dense < 1e-3, "blocked with plenty of room"
    assert clear > 10 and blocked > 10


def test_links_that_turn_in_round_shapes_are_measured_by_their_radius(tmp_path):
    ball = SHAPE.replace('<box size="0.1 0.1 0.1"/>', '<sphere radius="0.05"/>')
    tube = SHAPE.replace('<box size="0.1 0.1 0.1"/>', '<cylinder radius="0.02" length="0.2"/>')
    path = tmp_path / "round.urdf"
    body = link("a") + link("b", ball) + link("c", tube)
    body += joint("ab", "a", "b", inside=LIMIT) + joint("bc", "b", "c", inside=LIMIT)
    path.write_text(f'<robot name="r">{body}</robot>')
    zone = Zone(kind="keep_in", shape="sphere", size=[2.0])
    world = Clearance(RobotModel(path), {"z": zone}, 0.01, 0.001)
    found = world.distances(np.zeros(2))
    ball, tube = (d for d, p in zip(found, world.pairs, strict=True) if p.zone)
    assert ball == pytest.approx(2.0 - 0.55)
    # A polygon round the cylinder: never nearer to the border than it says.
    exact = 2.0 - np.hypot(1.02, 0.1)
    assert exact - 1e-4 < tube <= exact + 1e-9
