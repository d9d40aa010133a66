"""The oracle is not blind: each rule broken once is found, and legal motion is not."""

from __future__ import annotations

import time
from pathlib import Path

import coal
import numpy as np
import pinocchio as pin
import pytest
import yaml

from oracle import Oracle, Stream
from oracle.description import Shape, hull, pose_of, read_points
from oracle.geometry import Meter, extreme_points
from oracle.scene import room_inside

CELL = __file__.rsplit("/test/", 1)[0] + "/config/so101_tabletop.yaml"
READY = np.array([0.0, -0.5, 0.1, 1.5, 0.0, 0.5])
SHAPE = np.array([1.0, 0.2, -0.3, 0.3, 0.8, 0.5])
DT = 0.01


@pytest.fixture(scope="module")
def oracle():
    return Oracle(CELL)


def swing(n=400, amplitude=0.3, rate=1.5):
    t = np.arange(n) * DT
    return READY + amplitude * np.outer((1 - np.cos(rate * t)) / 2, SHAPE)


def stream_of(oracle, rows, **more) -> Stream:
    stream = Stream(list(oracle.names), starts={0: rows[0]}, **more)
    for k, row in enumerate(rows[1:]):
        stream.add(100.0 + k * DT, row, (row - rows[k]) / DT, "following")
    return stream


def rules(findings) -> set[str]:
    return {f.rule for f in findings}


def ramp(start, direction, speed, seconds, force=10.0):
    """Rows that speed up along a direction, go on, and brake."""
    rows, q, v = [np.array(start)], np.array(start, dtype=float), 0.0
    direction = np.asarray(direction, dtype=float)
    n = int(seconds / DT)
    for k in range(n):
        left = (n - k) * DT
        v = min(v + force * DT, speed, force * left)
        q = q + v * direction * DT
        rows.append(q)
    return np.array(rows)


DOWN = np.array([0.0, 1.0, 0.0, 0.0, 0.0, 0.0])


# -- a legal stream, and each rule broken ----------------------------------------------------


def test_legal_motion_has_no_finding(oracle):
    assert not oracle.findings(swing())
    assert not oracle.findings(stream_of(oracle, swing(), heard=[(99.9, 99.9)],
                                         command_timeout=10.0))  # fmt: skip


def test_what_is_not_finite_is_found(oracle):
    rows = swing()
    rows[200, 3] = np.nan
    assert rules(oracle.findings(rows)) == {"I1"}


def test_time_that_does_not_advance_is_found(oracle):
    stream = stream_of(oracle, swing())
    stream.t[77] = stream.t[76]
    assert rules(oracle.findings(stream)) == {"I1"}


def test_a_joint_that_is_missing_is_found(oracle):
    stream = stream_of(oracle, swing())
    stream.names[2] = "elbow"
    assert rules(oracle.findings(stream)) == {"I1"}


def test_a_position_beyond_a_limit_is_found(oracle):
    rows = ramp(READY, [0, 0, 0, 0, 1, 0], 1.4, 2.2)
    assert rows[-1, 4] > oracle.upper[4] > rows[-1, 4] - 0.4
    found = oracle.findings(rows)
    assert "I2" in rules(found) and "wrist_roll" in str(found[0])


def test_only_the_way_back_is_open_from_outside_a_limit(oracle):
    start = READY.copy()
    start[4] = oracle.upper[4] + 0.1
    assert not oracle.findings(ramp(start, [0, 0, 0, 0, -1, 0], 0.5, 1.0))
    assert rules(oracle.findings(ramp(start, [0, 0, 0, 0, 1, 0], 0.01, 1.0))) == {"I2"}
    back_and_forth = np.vstack(
        [r := ramp(start, [0, 0, 0, 0, -1, 0], 0.2, 0.4), ramp(r[-1], [0, 0, 0, 0, 1, 0], 0.1, 0.2)]
    )
    assert rules(oracle.findings(back_and_forth)) == {"I2"}


def test_a_velocity_beyond_its_limit_is_found(oracle):
    assert not oracle.findings(ramp(READY, [1, 0, 0, 0, 0, 0], 1.499, 1.0))
    assert rules(oracle.findings(ramp(READY, [1, 0, 0, 0, 0, 0], 1.501, 1.0))) == {"I3"}


def test_an_acceleration_beyond_its_limit_is_found(oracle):
    rows = swing()
    rows[200:, 0] += 0.0016
    assert rules(oracle.findings(rows)) == {"I3"}
    sudden = np.vstack([READY, READY + 0.002 * DOWN])
    assert rules(oracle.findings(sudden)) == {"I3"}, "also in the first row"


def test_a_jerk_beyond_its_limit_is_found(oracle):
    strict = oracle.changed(
        limits={"every_joint": {"velocity": 1.5, "acceleration": 15.0, "jerk": 100.0}}
    )
    assert not strict.findings(swing(rate=1.5))  # 0.15 * 1.5³ rad/s³
    assert rules(strict.findings(ramp(READY, [1, 0, 0, 0, 0, 0], 0.5, 1.0))) == {"I3"}


def test_a_velocity_that_is_not_the_positions_own_is_found(oracle):
    stream = stream_of(oracle, swing())
    stream.velocities[150] = stream.velocities[150] + 0.4
    assert rules(oracle.findings(stream)) == {"I3"}


def test_too_near_to_a_zone_is_found(oracle):
    found = oracle.findings(ramp(READY, DOWN, 0.5, 2.0))
    assert rules(found) == {"I4"} and "table" in str(found[0])


def test_a_thin_plate_between_two_set_points_is_found(oracle):
    tip = READY + 0.4 * DOWN
    plate = {"kind": "keep_out", "shape": "box", "size": [0.3, 0.0004, 0.3], "margin": 0.0,
             "position": [0.3, 0.0, 0.2]}  # fmt: skip
    thin = oracle.changed(zones={"plate": plate})
    reach = ramp(tip, [1, 0, 0, 0, 0, 0], 1.45, 1.0)
    assert thin.room(reach[0]) > 0 or thin.room(reach[-1]) > 0
    start = ramp(tip, [-1, 0, 0, 0, 0, 0], 1.0, 0.8)[-1]
    assert thin.room(start) > 0
    assert "I4" in rules(thin.findings(ramp(start, [1, 0, 0, 0, 0, 0], 1.45, 1.0)))


def test_self_collision_is_found(oracle):
    alone = oracle.changed(zones={})
    folded = np.array([0.44, -0.4, 1.66, 1.58, 1.08, 1.07])  # the wrist in the shoulder
    found = alone.findings(ramp(READY, (folded - READY) / 1.56, 0.8, 1.95))
    assert rules(found) == {"I4"} and "self_collision" in str(found[0])


def test_leaving_a_workspace_is_found(oracle):
    small = {"kind": "keep_in", "shape": "box", "size": [0.8, 0.5, 0.9], "position": [0.1, 0, 0.3]}
    inside = oracle.changed(zones={"cage": small})
    assert inside.room(READY) > 0
    found = inside.findings(ramp(READY, [1, 0, 0, 0, 0, 0], 1.0, 1.6))
    assert rules(found) == {"I4"} and "cage" in str(found[0])


def test_a_state_that_cannot_stop_is_found(oracle):
    rows = ramp(READY, DOWN, 1.4, 3.0)
    bad = next(k for k in range(len(rows)) if oracle.room(rows[k]) < 0)
    cut = rows[: bad - 2]  # ends in mid-motion, still outside the margin
    assert "I5" in rules(oracle.findings(cut, stops_every=1))
    assert not oracle.findings(rows[: bad - 25], stops_every=1)


def test_motion_after_silence_is_found(oracle):
    said = {"heard": [(99.9, 99.9)]}
    slow = swing(800)
    assert not oracle.findings(stream_of(oracle, slow, command_timeout=8.0, **said))
    assert rules(oracle.findings(stream_of(oracle, slow, command_timeout=1.0, **said))) == {"I6"}


@pytest.mark.parametrize("state", ["holding", "stopped"])
def test_falling_silent_is_found(oracle, state):
    stream = stream_of(oracle, np.tile(READY, (50, 1)))
    stream.states[20:] = [state] * len(stream.states[20:])
    stream.positions[40:] = [np.full(6, np.nan)] * len(stream.states[40:])
    assert rules(oracle.findings(stream)) == {"I6"}


def test_stopped_anew_between_a_reset_and_the_next_tick_is_rightly_silent(oracle):
    stream = stream_of(oracle, np.tile(READY, (51, 1)))
    stream.states[20:] = ["stopped"] * 30
    stream.positions[40:] = [np.full(6, np.nan)] * 10
    stream.events += [(stream.t[39], "reset"), (stream.t[39], "stop")]
    assert not oracle.findings(stream)


def test_motion_by_an_old_command_is_found(oracle):
    old = {"heard": [(99.9, 99.2)], "events": [(99.5, "enable")], "command_timeout": 10.0}
    assert rules(oracle.findings(stream_of(oracle, swing(), **old))) == {"I7"}


def test_motion_while_stopped_is_found(oracle):
    stream = stream_of(oracle, swing())
    stream.states[300:] = ["stopped"] * len(stream.states[300:])
    assert rules(oracle.findings(stream)) == {"I7"}


def test_leaving_stopped_without_a_reset_is_found(oracle):
    rows = np.tile(READY, (100, 1))
    stream = stream_of(oracle, rows)
    stream.states[20:50] = ["stopped"] * 30
    assert rules(oracle.findings(stream)) == {"I7"}
    stream.events = [(stream.t[50] - 0.001, "reset")]
    assert rules(oracle.findings(stream)) == {"I7"}, "enabling is a second call"
    stream.events.append((stream.t[50] - 0.0005, "enable"))
    assert not oracle.findings(stream)


def test_going_deeper_from_inside_a_zone_is_found(oracle):
    low = READY.copy()
    while oracle.room(low) > -0.004:
        low = low + 0.002 * DOWN
    assert not oracle.findings(ramp(low, -DOWN, 0.3, 0.6))
    assert rules(oracle.findings(ramp(low, DOWN, 0.1, 0.5))) == {"I4"}
    there_and_back = np.vstack([r := ramp(low, -DOWN, 0.1, 0.06), ramp(r[-1], DOWN, 0.1, 0.2)])
    assert rules(oracle.findings(there_and_back)) == {"I4"}


def test_too_fast_in_a_slow_zone_is_found(oracle):
    low = READY + 0.62 * DOWN
    assert not oracle.findings(ramp(low, [1, 0, 0, 0, 0, 0], 0.74, 1.0))
    found = oracle.findings(ramp(low, [1, 0, 0, 0, 0, 0], 1.0, 1.0))
    assert rules(found) == {"I4"} and "slow zone low" in str(found[0])


# -- rules that change under way -------------------------------------------------------------

WALL = {"kind": "keep_out", "shape": "box", "size": [0.4, 0.02, 0.6], "position": [0.3, 0.1, 0.3]}


def test_an_obstacle_that_appears_must_be_kept_clear_of_from_then_on(oracle):
    walled = oracle.changed(zones={**oracle.scene.zones, "wall": WALL})
    start = ramp(READY, [-1, 0, 0, 0, 0, 0], 1.0, 0.0)[0]
    rows = ramp(start, [-1, 0, 0, 0, 0, 0], 1.0, 1.2)
    bad = next(k for k in range(len(rows)) if walled.room(rows[k]) < 0)
    for row, expected in ((bad - 60, {"I4", "I5"}), (len(rows) + 5, set())):
        stream = stream_of(oracle, rows)
        stream.changes = [(row, walled)]
        assert rules(oracle.findings(stream)) & {"I4", "I5"} <= expected
        assert bool(oracle.findings(stream)) == bool(expected)


def test_braking_before_what_appeared_too_near_is_no_finding(oracle):
    walled = oracle.changed(zones={**oracle.scene.zones, "wall": WALL})
    rows = ramp(READY, [-1, 0, 0, 0, 0, 0], 1.2, 1.2)
    bad = next(k for k in range(len(rows)) if walled.room(rows[k]) < 0)
    k = bad - 4
    v = (rows[k] - rows[k - 1]) / DT
    braking, q = [], rows[k].copy()
    while np.abs(v).max() > 1e-9:
        v = np.sign(v) * np.maximum(np.abs(v) - 10.5 * DT, 0.0)
        q = q + v * DT
        braking.append(q)
    assert walled.room(q) < 0, "it could not have stopped in time"
    stream = stream_of(oracle, np.vstack([rows[: k + 1], braking, np.tile(q, (20, 1))]))
    stream.changes = [(k, walled)]
    assert not oracle.findings(stream)
    onward = stream_of(oracle, rows)
    onward.changes = [(k, walled)]
    assert rules(oracle.findings(onward)) & {"I4"}


def test_limits_that_are_tightened_hold_after_the_time_it_takes_to_brake(oracle):
    strict = oracle.changed(limits={"every_joint": {"velocity": 0.5, "acceleration": 15.0}})
    stream = stream_of(oracle, ramp(READY, [1, 0, 0, 0, 0, 0], 1.0, 1.2))
    stream.changes = [(40, strict)]
    assert rules(oracle.findings(stream)) == {"I3"}


# -- geometry against other libraries --------------------------------------------------------

SHAPES = {
    "box": (Shape("box", (0.1, 0.05, 0.02)), coal.Box(0.2, 0.1, 0.04)),
    "sphere": (Shape("sphere", (0.06,)), coal.Sphere(0.06)),
    "cylinder": (Shape("cylinder", (0.05, 0.08)), coal.Cylinder(0.05, 0.16)),
    "capsule": (Shape("capsule", (0.04, 0.07)), coal.Capsule(0.04, 0.14)),
}


@pytest.mark.parametrize("first", SHAPES)
@pytest.mark.parametrize("second", SHAPES)
def test_distances_agree_with_another_library(first, second):
    rng = np.random.default_rng(3)
    (a, coal_a), (b, coal_b) = SHAPES[first], SHAPES[second]
    meter = Meter([a, b])
    for _ in range(60):
        pose = pose_of(rng.uniform(-0.25, 0.25, 3), rng.uniform(-3, 3, 3))
        result = coal.DistanceResult()
        at = coal.Transform3s()
        at.setRotation(pose[:3, :3])
        at.setTranslation(pose[:3, 3])
        theirs = coal.distance(
            coal_a, coal.Transform3s.Identity(), coal_b, at, coal.DistanceRequest(), result
        )
        eye = np.eye(3)[None]
        ours = meter.distances(
            np.array([0]), np.array([1]), (eye, pose[None, :3, :3]),
            (np.zeros((1, 3)), pose[None, :3, 3]), 2.0,
        )[0]  # fmt: skip
        if theirs > 0:
            assert ours == pytest.approx(theirs, abs=1e-5)
        else:
            assert ours < 1e-6


def test_a_mesh_is_its_hull_wherever_it_lies(tmp_path):
    rng = np.random.default_rng(1)
    corners = extreme_points(Shape("box", (0.1, 0.05, 0.02)))[0] + [0.3, -0.2, 0.1]
    mesh = hull(np.vstack([corners, corners.mean(axis=0) + rng.uniform(-0.01, 0.01, (50, 3))]))
    assert len(mesh.points) == 8
    meter = Meter([mesh, Shape("sphere", (0.05,))])
    turn = pose_of((0, 0, 0), (0.3, -0.4, 1.0))[:3, :3]
    away = turn @ np.array([0.55, -0.2, 0.1])
    d = meter.distances(np.array([0]), np.array([1]), (turn[None], np.eye(3)[None]),
                        (np.zeros((1, 3)), away[None]), 2.0)  # fmt: skip
    assert d[0] == pytest.approx(0.25 - 0.1 - 0.05, abs=1e-6)
    text = "solid x\n" + "".join(
        "facet normal 0 0 0\nouter loop\n"
        + "".join(f"vertex {x} {y} {z}\n" for x, y, z in corners[[0, i, i + 1]])
        + "endloop\nendfacet\n"
        for i in range(1, 7)
    )
    (tmp_path / "m.stl").write_text(text + "endsolid x\n")
    assert len(np.unique(read_points(tmp_path / "m.stl"), axis=0)) == 8


@pytest.mark.parametrize(
    ("shape", "point", "room"),
    [
        (Shape("sphere", (0.3,)), (0.1, 0.0, 0.0), 0.2),
        (Shape("sphere", (0.3,)), (0.0, 0.4, 0.0), -0.1),
        (Shape("cylinder", (0.2, 0.3)), (0.05, 0.0, 0.0), 0.15),
        (Shape("cylinder", (0.2, 0.3)), (0.0, 0.05, 0.28), 0.02),
        (Shape("cylinder", (0.2, 0.3)), (0.23, 0.0, -0.34), -0.05),
        (Shape("capsule", (0.2, 0.3)), (0.0, 0.0, 0.45), 0.05),
        (Shape("capsule", (0.2, 0.3)), (0.0, 0.15, 0.1), 0.05),
        (Shape("capsule", (0.2, 0.3)), (0.18, 0.0, 0.54), -0.1),
        (hull(extreme_points(Shape("box", (0.2, 0.3, 0.4)))[0]), (0.15, 0.0, 0.0), 0.05),
    ],
)
def test_room_inside_a_zone(shape, point, room):
    assert room_inside(shape, np.array([point]))[0] == pytest.approx(room, abs=1e-9)


ARM = """<robot name="arm">
<link name="base"/><link name="a"><collision><geometry><box size="0.1 0.1 0.1"/></geometry>
</collision></link>
<link name="b"><collision><origin xyz="0 0 0.2" rpy="0.1 0.2 0.3"/><geometry>
<sphere radius="0.05"/></geometry></collision></link>
<link name="left"><collision><geometry><box size="0.02 0.02 0.1"/></geometry></collision></link>
<link name="right"><collision><geometry><box size="0.02 0.02 0.1"/></geometry></collision></link>
<joint name="mount" type="fixed"><parent link="base"/><child link="table"/>
<origin xyz="0 0 1" rpy="0 0 0.5"/></joint><link name="table"/>
<joint name="turn" type="continuous"><parent link="base"/><child link="a"/>
<origin xyz="0 0 0.1" rpy="0.2 0 0.4"/><axis xyz="0 0 1"/><limit velocity="2" effort="1"/></joint>
<joint name="lift" type="prismatic"><parent link="a"/><child link="b"/><origin xyz="0.1 0 0"/>
<axis xyz="0.6 0 0.8"/><limit lower="-0.1" upper="0.5" velocity="1" effort="1"/>
<safety_controller soft_lower_limit="-0.05" soft_upper_limit="0.6" k_velocity="1"/></joint>
<joint name="grip" type="prismatic"><parent link="b"/><child link="left"/>
<origin xyz="0 0.1 0.3"/><axis xyz="0 1 0"/><limit lower="0" upper="0.04" velocity="0.2"
effort="1"/></joint>
<joint name="other" type="prismatic"><parent link="b"/><child link="right"/>
<origin xyz="0 -0.1 0.3"/><axis xyz="0 1 0"/><limit lower="-0.02" upper="0.01" velocity="0.1"
effort="1"/><mimic joint="grip" multiplier="-1" offset="0.005"/></joint>
</robot>"""


@pytest.fixture
def arm(tmp_path):
    (tmp_path / "arm.urdf").write_text(ARM)
    return Oracle.of(
        urdf=tmp_path / "arm.urdf",
        limits={"every_joint": {"acceleration": 5.0}},
        margin=0.01,
        zones={
            "lid": {"kind": "keep_out", "shape": "half_space", "frame": "table",
                    "rpy": [np.pi, 0, 0]},
        },
    )  # fmt: skip


def test_kinematics_agree_with_another_library(arm, tmp_path):
    model = pin.buildModelFromXML(ARM)
    data = model.createData()
    rng = np.random.default_rng(0)
    assert arm.names == ["turn", "lift", "grip"]
    for q in rng.uniform(-3, 3, (50, 3)):
        full = np.zeros(model.nq)
        full[model.joints[model.getJointId("turn")].idx_q :][:2] = np.cos(q[0]), np.sin(q[0])
        full[model.joints[model.getJointId("lift")].idx_q] = q[1]
        full[model.joints[model.getJointId("grip")].idx_q] = q[2]
        full[model.joints[model.getJointId("other")].idx_q] = -q[2] + 0.005
        pin.framesForwardKinematics(model, data, full)
        links = arm.scene.kinematics.links(q[None])
        for name, (turn, place) in links.items():
            there = data.oMf[model.getFrameId(name)]
            assert np.allclose(turn[0], there.rotation, atol=1e-12)
            assert np.allclose(place[0], there.translation, atol=1e-12)


def test_limits_of_continuous_soft_and_mimic_joints(arm):
    assert arm.lower.tolist() == [-np.inf, -0.05, pytest.approx(-0.005)] or arm.lower[2] == 0.0
    assert arm.upper.tolist() == [np.inf, 0.5, pytest.approx(0.025)]
    assert arm.velocity.tolist() == [2.0, 1.0, pytest.approx(0.1)]


def test_a_zone_in_the_frame_of_a_fixed_link(arm):
    q = np.array([0.3, 0.0, 0.0])
    links = arm.scene.kinematics.links(q[None])
    turn, place = links["left"]
    corners = extreme_points(Shape("box", (0.01, 0.01, 0.05)))[0] @ turn[0].T + place[0]
    assert arm.room(q) <= 1.0 - corners[:, 2].max() - arm.margin + 1e-9


def test_joint_limits_of_moveit_with_degrees(tmp_path):
    (tmp_path / "arm.urdf").write_text(ARM)
    (tmp_path / "limits.yaml").write_text(
        "joint_limits:\n  turn: {has_velocity_limits: true, max_velocity: !degrees 45,\n"
        "    has_acceleration_limits: true, max_acceleration: 3.0,\n"
        "    has_jerk_limits: true, max_jerk: 50.0}\n"
    )
    arm = Oracle.of(
        urdf=tmp_path / "arm.urdf", moveit=tmp_path / "limits.yaml", margin=0.01,
        limits={"every_joint": {"acceleration": 5.0}},
    )  # fmt: skip
    assert arm.velocity[0] == pytest.approx(np.pi / 4) and arm.acceleration[0] == 3.0
    assert arm.jerk.tolist() == [50.0, np.inf, np.inf]


def test_a_cell_is_read_as_it_is_written(oracle):
    cell = yaml.safe_load(Path(CELL).read_text())["/**/safety_monitor"]["ros__parameters"]
    assert oracle.margin == cell["margin"] and oracle.dt == 1 / cell["rate"]
    assert {r.zone for r in oracle.scene.rules} == {"", "table", "bin", "workspace"}


def test_fifty_thousand_rows_are_judged_in_time(oracle):
    rows = np.vstack([swing(10_000, 0.2, 1.0)] * 5)
    rows[:, 0] += 0.0  # every run of the swing ends where it began only by chance
    starts = np.arange(5) * 10_000
    stream = Stream(list(oracle.names))
    for k, row in enumerate(rows):
        if k in starts:
            stream.add(k * DT, None, None, "disabled")
            continue
        before = rows[k - 1]
        if k - 1 in starts:
            stream.starts[k] = before
        stream.add(k * DT, row, (row - before) / DT, "following")
    began = time.perf_counter()
    assert not oracle.findings(stream)
    assert time.perf_counter() - began < 120
