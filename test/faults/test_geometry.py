"""E: geometry. What is missing, hidden, moved, carried; and starts in the wrong place."""

from __future__ import annotations

from dataclasses import replace

import arms
import numpy as np
import pinocchio as pin
import pytest
import yaml
from cells import TABLETOP
from oracle import Oracle
from trial import DOWN, PERIOD, Trial, write_cell
from turret import CONTACTS, TURRET

from smolvla_ros.cell import load_cell, load_gate, load_robot
from smolvla_ros.robot import RobotError, RobotModel
from smolvla_ros.safety import Refused, Zone
from smolvla_ros.safety.bodies import Body, Part
from smolvla_ros.safety.clearance import Clearance
from smolvla_ros.safety.obstacles import read_obstacle
from smolvla_ros.schema import ConfigError

BODY = '<visual><geometry><box size="0.1 0.1 0.1"/></geometry></visual>'


def described(tmp_path, inside, **more):
    (tmp_path / "arm.urdf").write_text(f'<robot name="arm">{inside}</robot>')
    return RobotModel(tmp_path / "arm.urdf", **more)


def with_zones(**zones):
    """A trial of the shipped arm among other zones, gate and oracle told the same."""
    oracle = Trial().oracle.changed(zones=zones)
    return Trial(oracle=oracle, zones={n: Zone(**z) for n, z in zones.items()})


@pytest.mark.parametrize("name", ["package://nowhere/m.stl", "missing.stl", "file:///no/m.stl"])
def test_f49_a_mesh_that_is_missing(fault, tmp_path, name):
    with pytest.raises(RobotError) as error:
        described(tmp_path, arms.link("a") + arms.link("b", arms.mesh(name))
                  + arms.joint("ab", "a", "b"))  # fmt: skip
    fault.rejected(error.value, "b", name.rsplit("/", 1)[-1])


def test_f50_a_link_without_geometry(fault, tmp_path):
    text = arms.link("a") + arms.link("b", BODY) + arms.joint("ab", "a", "b")
    with pytest.raises(RobotError) as error:
        described(tmp_path, text)
    fault.rejected(error.value, "b", "collision")
    assert described(tmp_path, text, links_without_geometry=["b"]).names == ("ab",)
    with pytest.raises(RobotError) as error:
        described(tmp_path, text, links_without_geometry=["b", "c"])
    fault.rejected(error.value, "c")


def test_f51_a_mesh_that_is_not_convex_is_its_hull(fault, tmp_path):
    points, faces = arms.bent_plate()
    arms.write_mesh(tmp_path / "plate.stl", points, faces)
    text = (
        '<robot name="arm">' + arms.link("base", "") + arms.link("a", arms.mesh("plate.stl"))
        + arms.joint("turn", "base", "a") + "</robot>"
    )  # fmt: skip
    ball = {"kind": "keep_out", "shape": "sphere", "size": [0.05], "position": [1.45, 0.55, 0.2]}
    cell = write_cell(tmp_path, text, zones={"ball": ball})
    trial = Trial([-0.6], cell=cell).enable()
    t = np.arange(0.0, 1.4, PERIOD)
    trial.say(t, -0.6 + 1.4 * (1 - np.cos(np.pi * t[:, None] / 1.4)) / 2)
    trial.ticks(200)
    fault.judge(trial, "keep_out", trial.checks)
    ratio = next(line for line in trial.robot.report(100, 0) if "mesh's volume" in line)
    fault.rejected(ValueError(ratio), "link a", "x the mesh's volume")


def test_f52_without_an_srdf_no_gate(fault):
    config = load_cell(TABLETOP).safety_monitor
    config = replace(config, robot=replace(config.robot, srdf=None))
    robot = load_robot(config.robot, TABLETOP)
    with pytest.raises(ConfigError) as error:
        load_gate(config, robot, TABLETOP)
    fault.rejected(error.value, "robot.srdf", "smolvla-ros srdf")


def test_f53_a_collision_that_the_srdf_hides_is_reported(fault, tmp_path):
    hide = '<disable_collisions link1="base_link" link2="gripper_link" reason="Never"/></robot>'
    text = (TABLETOP.parent / "../urdf/so101.srdf").read_text().replace("</robot>", hide)
    (tmp_path / "so101.srdf").write_text(text)
    robot = RobotModel(TABLETOP.parent / "../urdf/so101.urdf", tmp_path / "so101.srdf")
    lines = [line for line in robot.report(2000, 0) if "SRDF" in line]
    fault.rejected(ValueError("; ".join(lines)), "base_link", "gripper_link")


@pytest.mark.parametrize(
    ("entries", "checked"),
    [
        ("", {"base ~ b", "base ~ c"}),
        ('<disable_default_collisions link="c"/>', {"base ~ b"}),
        ('<disable_default_collisions link="c"/><enable_collisions link1="base" link2="c"/>',
         {"base ~ b", "base ~ c"}),
        ('<disable_collisions link1="base" link2="b"/>', {"base ~ c"}),
    ],
)  # fmt: skip
def test_f54_all_three_entries_of_an_srdf_count(fault, tmp_path, entries, checked):
    near = (
        '<disable_collisions link1="base" link2="a"/><disable_collisions link1="a" link2="b"/>'
        '<disable_collisions link1="a" link2="c"/><disable_collisions link1="b" link2="c"/>'
    )
    text = (
        '<robot name="arm">' + "".join(arms.link(n) for n in ("base", "a", "b", "c"))
        + arms.joint("one", "base", "a") + arms.joint("two", "a", "b")
        + arms.joint("three", "b", "c") + "</robot>"
    ).replace('lower="-1" upper="1"', 'lower="-3.1" upper="3.1"')  # fmt: skip
    cell = write_cell(tmp_path, text, f'<robot name="arm">{near}{entries}</robot>')
    trial = Trial([0.0, 1.0, 0.0], cell=cell).enable()
    names = {p.name for p in trial.gate.clearance.pairs}
    assert {r.name for r in trial.oracle.scene.rules} == names
    t = np.arange(0.0, 2.4, PERIOD)
    fold = np.outer((1 - np.cos(np.pi * t / 2.4)) / 2, [0.0, 0.4, 2.4])
    for k in range(4):
        trial.say(t, trial.start + fold, age=min(0.4 * k, trial.now - 100.0))
        trial.ticks(90)
    fault.judge(trial, checked, names)


# -- starts that are not allowed -------------------------------------------------------------


def in_the_table(depth):
    trial = Trial()
    low = trial.q.copy()
    while trial.oracle.room(low) > -depth:
        low = low + 0.002 * DOWN
    return low


@pytest.mark.parametrize("depth", [0.004, 0.008, 0.03])
def test_f55_a_from_inside_a_zone_only_outward_and_slowly(fault, depth):
    low = in_the_table(depth)
    trial = Trial(low).enable()
    t = np.arange(0.0, 2.0, PERIOD)
    trial.say(t, low + np.outer(t / 2.0, 0.5 * DOWN))
    trial.ticks(120)
    assert trial.oracle.room(trial.q) > trial.oracle.room(low) - 1.1e-3
    word = {o.verdict.check for o in trial.outputs}
    for _ in range(8):
        trial.say(t, np.tile(low - 0.5 * DOWN, (len(t), 1)))
        trial.ticks(100)
    assert trial.oracle.room(trial.q) > 0.0, "out"
    inside = trial.oracle.scene.rooms(trial.rows).min(axis=1) < -1e-3
    speeds = np.array([o.velocities for o in trial.outputs])[inside]
    share = np.abs(speeds / trial.oracle.velocity).max()
    assert share <= 0.1 + 1e-6, "at a tenth of the speed"
    fault.judge(trial, {"keep_out"}, word)
    fault.reason({"recovery"}, trial.checks)


@pytest.mark.parametrize("joint", [0, 4])
def test_f55_b_from_outside_a_limit_only_back(fault, joint):
    trial = Trial()
    beyond = trial.q.copy()
    beyond[joint] = trial.oracle.upper[joint] + 0.05
    trial = Trial(beyond).enable()
    goal = beyond.copy()
    goal[joint] += 0.3
    trial.say([0.3], [goal])
    trial.ticks(140)
    assert trial.q[joint] == pytest.approx(trial.gate.limits.upper[joint]), "to the limit at most"
    word = trial.checks
    goal[joint] = beyond[joint] - 0.4
    for _ in range(8):
        trial.say([0.3], [goal])
        trial.ticks(100)
    assert trial.q[joint] < trial.oracle.upper[joint]
    outside = trial.rows[:-1, joint] > trial.gate.limits.upper[joint] + 1e-9
    assert (np.diff(trial.rows[:, joint])[outside] < 0).all(), "never further out"
    fault.judge(trial, {"recovery"}, word)


def test_f55_c_from_self_collision(fault):
    oracle = Trial().oracle
    rng = np.random.default_rng(55)
    tried = home = 0
    words = set()
    while tried < 4:
        q = rng.uniform(oracle.lower, oracle.upper)
        rooms = oracle.rooms(q)
        rule = oracle.scene.rules[int(np.argmin(rooms))]
        if not -0.02 < rooms.min() < -0.002 or rule.check != "self_collision":
            continue
        line = np.linspace(0, 1, 60)[:, None]
        goals = [q + rng.normal(size=6) * 0.3 for _ in range(40)]
        goals = [g for g in goals if (g > oracle.lower).all() and (g < oracle.upper).all()]
        free = None
        for goal in goals:
            way = oracle.scene.rooms(q + line * (goal - q))
            if way[-1].min() > 0.005 and (np.diff(np.minimum(way, 0), axis=0) >= -1e-7).all():
                free = goal
        if free is None:
            continue
        tried += 1
        trial = Trial(q).enable()
        t = np.arange(0.0, 1.5, PERIOD)
        for _ in range(10):
            trial.say(t, trial.q + np.outer(np.clip(t, 0, 1), free - trial.q))
            trial.ticks(130)
        home += np.abs(trial.q - free).max() < 1e-3
        words |= trial.checks
        fault.judge(trial, set(), trial.checks)
    assert home >= 3
    fault.reason({"recovery"}, words)


# -- ways through and around -----------------------------------------------------------------


@pytest.mark.parametrize("thick", [0.002, 0.02])
@pytest.mark.parametrize("apart", [0.2, 1.0])
def test_f56_two_points_on_either_side_of_a_plate(fault, thick, apart):
    plate = {"kind": "keep_out", "shape": "box", "size": [0.2, thick, 0.5], "margin": 0.001,
             "position": [0.3, 0.0, 0.25]}  # fmt: skip
    trial = with_zones(plate=plate)
    trial.q = trial.start = trial.start - 0.9 * np.eye(6)[0]
    assert trial.oracle.room(trial.q) > 0
    trial.enable()
    far = trial.start + 1.8 * np.eye(6)[0]
    assert trial.oracle.room(far) > 0
    assert trial.say([0.0, apart], [trial.start, far]) is None
    trial.ticks(149)
    assert trial.q[0] < 0.0
    fault.judge(trial, "keep_out", trial.checks)


@pytest.mark.parametrize(
    ("frame", "words"), [("nowhere", ("nowhere", "base_link")), ("gripper_link", ("shoulder_pan",))]
)
def test_f57_a_frame_that_is_unknown_or_moves(fault, frame, words):
    zone = Zone(kind="keep_out", shape="box", size=[0.1, 0.1, 0.1], frame=frame)
    with pytest.raises(ConfigError) as error:
        Trial(zones={"crate": zone})
    fault.rejected(error.value, "zones.crate.frame", *words)


def test_f57_b_a_frame_that_is_fixed(fault, tmp_path):
    floor = {
        "kind": "keep_out",
        "shape": "box",
        "size": [2.0, 2.0, 0.1],
        "frame": "table",
        "position": [0.0, 0.0, -0.05],
        "rpy": [0.0, 0.0, 0.4],
        "except_links": ["column"],
    }
    trial = Trial([0.2, 0.5, 0.01], cell=write_cell(tmp_path, TURRET, CONTACTS,
                                                    zones={"floor": floor})).enable()  # fmt: skip
    t = np.arange(0.0, 1.5, PERIOD)
    trial.say(t, trial.start + np.outer((1 - np.cos(np.pi * t / 1.5)) / 2, [0.5, -1.6, 0.0]))
    trial.ticks(200)
    assert trial.q[1] < 0.4
    fault.judge(trial, "keep_out", trial.checks)


def box_at(position, size=(0.06, 0.06, 0.3)):
    return read_obstacle("crate", "box", size, position)


def seen_by_oracle(trial, position, size=(0.06, 0.06, 0.3)):
    crate = {"kind": "keep_out", "shape": "box", "size": list(size), "position": list(position)}
    return trial.oracle.changed(zones={**trial.oracle.scene.zones, "crate": crate})


def test_f58_a_an_obstacle_that_comes_into_the_way(fault):
    trial = Trial(command_timeout=6.0).enable()
    place = (0.2, -0.15, 0.15)
    t = np.arange(0.0, 4.0, PERIOD)
    trial.say(t, trial.swing(t, 0.9))
    trial.ticks(50)
    trial.gate.set_obstacles(trial.now, [box_at(place)])
    trial.change(seen_by_oracle(trial, place))
    trial.ticks(300)
    fault.judge(trial, "obstacle", trial.checks)


def test_f58_b_obstacles_that_are_no_longer_heard_of_brake(fault):
    trial = Trial(command_timeout=6.0)
    settings = replace(trial.gate.settings, obstacle_timeout=0.5, obstacle_speed=0.05)
    trial.gate.settings = settings
    far = (0.0, 0.5, 0.5)
    trial.gate.set_obstacles(trial.now, [box_at(far)])
    trial.enable()
    t = np.arange(0.0, 4.0, PERIOD)
    trial.say(t, trial.swing(t))
    for _ in range(6):
        trial.ticks(10)
        trial.gate.set_obstacles(trial.now, [box_at(far)])
    trial.ticks(60)
    assert trial.at_rest(40)
    fault.judge(trial, "obstacles_stale", trial.outputs[-1].verdict.check)


def test_f61_a_planning_scene_that_arrives_late(fault):
    trial = Trial(command_timeout=6.0)
    trial.gate.hinder("planning_scene", "no whole planning scene yet")
    with pytest.raises(Refused, match="no whole planning scene yet"):
        trial.enable()
    trial.gate.hinder("planning_scene", "")
    trial.enable()
    t = np.arange(0.0, 4.0, PERIOD)
    trial.say(t, trial.swing(t, 0.9))
    trial.ticks(50)
    # An object of the scene in the arm's way, beside the zones; then the scene is gone.
    place = (0.2, -0.15, 0.15)
    box = Part("box", (0.06, 0.06, 0.3), pin.SE3(np.eye(3), np.array(place)))
    body = Body(pin.SE3.Identity(), (box,))
    trial.gate.set_obstacles(-np.inf, body.obstacles("scene/crate"))
    trial.change(seen_by_oracle(trial, place))
    trial.ticks(200)
    assert "obstacle" in trial.checks
    trial.gate.hinder("planning_scene", "no word of the planning scene")
    trial.ticks(60)
    assert trial.at_rest(40)
    fault.judge(trial, "planning_scene", trial.outputs[-1].verdict.check)


@pytest.mark.parametrize(
    "zone",
    [
        {"shape": "box", "size": [0.1, 0.0, 0.1]},
        {"shape": "box", "size": [0.1, -0.2, 0.1]},
        {"shape": "sphere", "size": [float("nan")]},
        {"shape": "sphere", "size": [1e9]},
        {"shape": "cylinder", "size": [0.1]},
        {"shape": "box", "size": [0.1, 0.1, 0.1], "position": [float("inf"), 0.0, 0.0]},
        {"shape": "box", "size": [0.1, 0.1, 0.1], "rpy": [90.0, 0.0, 0.0]},
    ],
)
def test_f59_sizes_and_places_that_are_none(fault, tmp_path, zone):
    document = yaml.safe_load(TABLETOP.read_text())
    zones = document["/**/safety_monitor"]["ros__parameters"]["zones"]
    zones["crate"] = {"kind": "keep_out", **zone}
    (tmp_path / "cell.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigError) as error:
        load_cell(tmp_path / "cell.yaml")
    key = next(k for k in ("rpy", "position", "size") if k in zone)
    fault.rejected(error.value, f"zones.crate.{key}")


def test_f60_what_the_arm_carries_is_kept_clear_too(fault, tmp_path):
    floor = {"kind": "keep_out", "shape": "half_space", "except_links": ["column"]}
    tool = {"link": "beam", "shape": "cylinder", "size": [0.03, 0.3], "position": [0.4, 0.0, -0.1],
            "may_touch": ["left", "right"]}  # fmt: skip
    heights = []
    for payload in ({}, {"drill": tool}):
        folder = tmp_path / str(len(payload))
        folder.mkdir()
        cell = write_cell(folder, TURRET, CONTACTS, zones={"floor": floor}, command_timeout=3.0,
                          robot={"payload": payload} if payload else {})  # fmt: skip
        trial = Trial([0.0, 0.6, 0.0], cell=cell).enable()
        t = np.arange(0.0, 2.0, PERIOD)
        trial.say(t, trial.start - np.outer((1 - np.cos(np.pi * t / 2.0)) / 2, [0, 1.7, 0]))
        trial.ticks(260)
        fault.judge(trial, "keep_out", trial.checks)
        heights.append(trial.q[1])
    assert heights[1] > heights[0] + 0.1, "the drill hangs lower than the beam"


def test_f62_distances_agree_with_a_library_that_is_not_the_gate_s(fault):
    """The gate trusts coal's distances; a contact that it missed would show here."""
    rng = np.random.default_rng(62)
    zones = {
        "ball": {"kind": "keep_out", "shape": "sphere", "size": [0.08],
                 "position": [0.2, 0.1, 0.2]},
        "post": {"kind": "keep_out", "shape": "cylinder", "size": [0.04, 0.4],
                 "position": [0.25, -0.15, 0.2], "rpy": [0.3, 0.2, 0.0]},
        "pill": {"kind": "keep_out", "shape": "capsule", "size": [0.03, 0.2],
                 "position": [0.1, 0.0, 0.35], "rpy": [0.0, 1.2, 0.0]},
        "crate": {"kind": "keep_out", "shape": "box", "size": [0.1, 0.2, 0.1],
                  "position": [0.3, 0.0, 0.05], "rpy": [0.1, 0.2, 0.3]},
    }  # fmt: skip
    trial = with_zones(**zones)
    clearance = Clearance(
        trial.robot, {n: Zone(**z) for n, z in zones.items()}, trial.config.margin, 0.001
    )
    oracle: Oracle = trial.oracle
    margins = np.array([p.margin for p in clearance.pairs])
    worst = missed = 0
    for q in rng.uniform(oracle.lower, oracle.upper, (600, 6)):
        ours, theirs = (clearance.distances(q) - margins).min(), oracle.room(q)
        missed += ours > 0 > theirs + 1e-4
        if -0.01 < theirs < 0.25:
            worst = max(worst, abs(ours - theirs))
    assert missed == 0
    assert worst < 5e-5
    fault.reason("agree", "agree")
