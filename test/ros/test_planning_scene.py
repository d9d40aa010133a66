"""A planning scene and a monitor's node, over real DDS, with a stand-in for move_group."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import rclpy
from cells import Run, tabletop
from rclpy.executors import SingleThreadedExecutor
from rclpy.serialization import serialize_message
from visualization_msgs.msg import Marker, MarkerArray

from smolvla_ros.cell import ObstaclesConfig, PlanningSceneConfig
from smolvla_ros.cli.processes import private_domain
from smolvla_ros.ros.inputs import Inputs
from smolvla_ros.ros.planning_scene import OFF, PlanningScene
from smolvla_ros.safety import Refused
from smolvla_ros.safety.obstacles import read_obstacle
from smolvla_ros.safety.recording import Ring
from smolvla_ros.safety.zones import Zone, check_zones
from smolvla_ros.schema import ConfigError

BOX = (0.1, 0.2, 0.3)


class Bench:
    """The exchange on a node of its own, and what it told the gate."""

    def __init__(self, context, zones=None, **config):
        _, self.robot = tabletop()
        self.node = rclpy.create_node("monitor", namespace="left", context=context)
        self.other = rclpy.create_node("move_group", context=context)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.executor.add_node(self.other)
        self.zones = zones if zones is not None else {}
        self.objects: list[list[str]] = []
        self.places: dict[str, list[float]] = {}
        self.hindrance = ""
        self.refusals: list[str] = []
        self.scene = PlanningScene(
            self.node, PlanningSceneConfig(namespace="/", **config), self.robot,
            lambda: self.zones, self.hear, self.hinder, lambda _, r: self.refusals.append(str(r)),
        )  # fmt: skip

    def hear(self, obstacles):
        self.objects.append([o.id for o in obstacles])
        self.places = {o.id: o.pose.translation.round(6).tolist() for o in obstacles}

    def hinder(self, text):
        self.hindrance = text

    def until(self, done, seconds=30.0):
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, f"not within time: {self.scene.status}"
            self.executor.spin_once(timeout_sec=0.05)

    def spin(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.05)

    def placed(self, **zones):
        self.zones = check_zones(zones, self.robot, 0.01)


@pytest.fixture
def make():
    """Benches that leave nothing behind."""
    number, lock = private_domain()
    made = []
    with lock:
        context = rclpy.Context()
        rclpy.init(context=context, domain_id=number)

        def bench(**options):
            made.append(Bench(context, **options))
            return made[-1]

        yield bench
        for each in made:
            each.scene.close()
            each.node.destroy_node()
            each.other.destroy_node()
        context.try_shutdown()


@pytest.fixture
def move_group():
    pytest.importorskip("moveit_msgs", reason="needs moveit_msgs (ros-$ROS_DISTRO-moveit-msgs)")
    import move_group

    return move_group


def test_without_moveit_msgs_it_is_off_and_what_counts_on_it_does_not_move(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "moveit_msgs", None)
    given = make(give=True)
    assert given.scene.status == OFF and given.hindrance == ""
    taken = make(take=True)
    assert taken.scene.status == OFF == taken.hindrance


def test_a_cell_that_neither_takes_nor_gives_is_an_error():
    with pytest.raises(ConfigError, match="take: is false and so is give"):
        PlanningSceneConfig()
    names = [
        PlanningSceneConfig(take=True, namespace=n).name("t") for n in ("", "/", "left", "/r/")
    ]
    assert names == ["t", "/t", "left/t", "/r/t"]


def test_the_scene_s_objects_and_the_markers_are_one_set_with_one_age(make):
    node, run, ring = make(give=True).node, Run(), Ring(60.0)
    config = replace(
        tabletop()[0].safety_monitor, obstacles=ObstaclesConfig(topic="obstacles", timeout=0.5)
    )
    run.gate.settings = replace(run.gate.settings, obstacle_timeout=60.0, joint_state_timeout=60.0)
    inputs = Inputs(node, run.gate, threading.Lock(), config, run.robot, ring, dict)

    def refused():
        run.gate.measure(time.monotonic(), run.q)
        try:
            run.gate.enable(time.monotonic())
        except Refused as refusal:
            return str(refusal)
        run.gate.disable()
        run.gate.tick(time.monotonic())
        return ""

    here = [read_obstacle(f"scene/{k}", "sphere", (0.1,), (2.0, k, 0.0)) for k in range(60)]
    inputs.hear_scene(here)
    assert "obstacles are never heard" in refused(), "word of the scene is none of the markers"
    balls = [Marker(ns="ball", id=k, type=Marker.SPHERE) for k in range(5)]
    for ball in balls:
        ball.header.frame_id = "base_link"
        ball.scale.x = ball.scale.y = ball.scale.z = 0.1
        ball.pose.position.z = 3.0
    inputs._on_obstacles(serialize_message(MarkerArray(markers=balls[:4])))
    assert refused() == "" and len(inputs.obstacles) == 64
    inputs._on_obstacles(serialize_message(MarkerArray(markers=balls)))
    assert refused() == "obstacle: 65 obstacles; at most 64" and len(inputs.obstacles) == 64
    inputs.hear_scene(here[:50])
    assert refused() == "" and len(inputs.obstacles) == 55
    kinds = [next(k for k in line if k != "t") for line in ring.lines()]
    assert kinds == ["obstacles", "obstacles", "hinder", "obstacles", "hinder"]


def test_objects_come_move_and_go_and_the_arm_waits_for_the_first_scene(make, move_group):
    bench = make(take=True, except_objects=["block_*"])
    assert bench.hindrance.startswith("no whole planning scene yet")
    bench.spin(0.5)
    assert bench.hindrance, "and there is nobody who could tell"
    thing, pose = move_group.thing, move_group.pose
    moveit = move_group.MoveGroup(bench.other, frame="base_link")
    moveit.objects["there"] = thing("there", box=(BOX, pose(1)))  # of before it was listened to
    bench.until(lambda: bench.places == {"scene/there/0": [1, 0, 0]})
    assert bench.hindrance == ""
    moveit.add(thing("cup", cylinder=((0.1, 0.04), pose(2))), thing("block_1", box=BOX))
    bench.until(lambda: "scene/cup/0" in bench.places)
    assert sorted(bench.places) == ["scene/cup/0", "scene/there/0"]
    moveit.add(thing("cup", cylinder=((0.1, 0.04), pose(0, 2))))
    bench.until(lambda: bench.places["scene/cup/0"] == [0, 2, 0])
    moveit.remove("there")
    bench.until(lambda: list(bench.places) == ["scene/cup/0"])
    moveit.attach("cup")
    bench.until(lambda: bench.places == {})
    assert "held by the arm and not guarded: cup" in bench.scene.status
    moveit.detach("cup")
    bench.until(lambda: list(bench.places) == ["scene/cup/0"])
    assert bench.scene.status == "1 objects taken" and not bench.refusals
    # Told only of changes, however often it asks.
    told, answers = len(bench.objects), moveit.answers
    bench.until(lambda: moveit.answers > answers + 2)
    assert len(bench.objects) == told


def test_another_s_whole_scene_does_not_take_the_objects_away(make, move_group):
    bench = make(take=True)
    moveit = move_group.MoveGroup(bench.other)
    moveit.add(move_group.thing("cup", box=BOX))
    bench.until(lambda: bench.places)
    told, answers = len(bench.objects), moveit.answers
    moveit.publish(move_group.scene(diff=False))  # MoveIt Servo starts, with a scene of its own
    bench.until(lambda: moveit.answers > answers + 1)
    assert len(bench.objects) == told, "not for a moment"


def test_a_scene_that_falls_silent_hinders_and_its_objects_stay(make, move_group):
    bench = make(take=True, timeout=1.5)
    moveit = move_group.MoveGroup(bench.other)
    moveit.add(move_group.thing("cup", box=BOX))
    bench.until(lambda: bench.places and not bench.hindrance)
    bench.spin(2.5)
    assert bench.hindrance == "", "nothing changes, and it is asked"
    moveit.leave(bench.other)
    bench.until(lambda: bench.hindrance == "no word of the planning scene for 1.5 s")
    assert list(bench.places) == ["scene/cup/0"]
    move_group.MoveGroup(bench.other)  # started anew, its scene is empty
    bench.until(lambda: not bench.places and not bench.hindrance)


def test_no_other_node_s_scene_stands_for_a_move_group_that_is_not_there(make, move_group):
    from moveit_msgs.msg import PlanningScene as Message

    bench = make(take=True, timeout=1.5)
    servo = bench.node.create_publisher(Message, "/monitored_planning_scene", 10)
    bench.until(servo.get_subscription_count)
    servo.publish(move_group.scene(diff=False))
    bench.spin(1.0)
    assert "no whole planning scene yet" in bench.hindrance, "an empty one of its own"
    moveit = move_group.MoveGroup(bench.other)
    moveit.add(move_group.thing("cup", box=BOX))
    bench.until(lambda: bench.places and not bench.hindrance)
    moveit.leave(bench.other)
    bench.until(lambda: "no word of the planning scene" in bench.hindrance)
    servo.publish(move_group.scene(diff=False))
    bench.spin(1.0)
    assert "no word of the planning scene" in bench.hindrance
    assert list(bench.places) == ["scene/cup/0"], "what was there stays"


def test_a_diff_that_nobody_can_read_hinders_until_a_whole_scene_comes(make, move_group):
    bench = make(take=True)
    moveit = move_group.MoveGroup(bench.other)
    moveit.add(move_group.thing("a", box=BOX))
    bench.until(lambda: len(bench.places) == 1)
    moveit.publish(move_group.scene(move_group.thing("c", prism=(0.1,))))
    bench.until(lambda: any("object 'c'" in r for r in bench.refusals))
    bench.until(lambda: not bench.hindrance)
    assert list(bench.places) == ["scene/a/0"]


def test_what_no_hull_can_be_made_of_is_refused_and_the_next_scene_is_heard(make, move_group):
    bench = make(take=True)
    moveit = move_group.MoveGroup(bench.other)
    bench.until(lambda: not bench.hindrance)
    far = [(1e80, 0.0, 0.0), (0.0, 1e80, 0.0), (0.0, 0.0, 1e80), (1e80, 1e80, 1e80)]
    moveit.add(move_group.thing("far", mesh=far))
    bench.until(lambda: "'far'" in bench.hindrance)
    moveit.remove("far")
    bench.until(lambda: not bench.hindrance)


def test_a_scene_that_takes_long_to_read_is_told_of(make, move_group):
    bench = make(take=True)
    moveit = move_group.MoveGroup(bench.other)
    points = np.random.default_rng(0).normal(size=(20000, 3))
    moveit.add(move_group.thing("cloud", mesh=points.tolist()))
    bench.until(lambda: "simplify its meshes" in bench.scene.status)
    moveit.remove("cloud")
    bench.until(lambda: "simplify" not in bench.scene.status)


def test_what_nobody_can_read_hinders_and_the_next_answer_makes_it_good(make, move_group):
    bench = make(take=True)
    moveit = move_group.MoveGroup(bench.other, frame="base_link")
    bench.until(lambda: not bench.hindrance)
    moveit.publish(move_group.scene(move_group.thing("far", frame="gripper_link", box=BOX)))
    bench.until(lambda: bench.refusals)
    assert "'far': 'gripper_link' moves with joint" in bench.refusals[0]
    bench.until(lambda: not bench.hindrance)
    moveit.frame = "odom"  # its planning frame: in the service's answers as well
    moveit.add(move_group.thing("far", box=BOX))
    bench.until(lambda: "no frame 'odom'" in bench.hindrance)
    answers = moveit.answers
    bench.until(lambda: moveit.answers > answers + 1)
    assert "no frame 'odom'" in bench.hindrance, "for as long as it stands there"
    moveit.remove("far")
    bench.until(lambda: not bench.hindrance)


def test_zones_are_given_and_made_good_and_what_may_touch_them(make, move_group):
    cell, _ = tabletop()
    bench = make(give=True, padding=0.01)
    bench.placed(**cell.safety_monitor.zones)
    assert "has not answered" in bench.scene.status
    links = ["base_link", "shoulder_link", "gripper_link"]
    moveit = move_group.MoveGroup(bench.other, links, frame="base_link")
    moveit.add(move_group.thing("cup", box=BOX))
    names = {f"left/monitor/{name}" for name in ("table", "bin", "workspace")}
    bench.until(lambda: set(moveit.objects) == names | {"cup"})
    (size,) = [p.dimensions for p in moveit.objects["left/monitor/table"].primitives]
    np.testing.assert_allclose(size, [0.92, 1.02, 0.06], atol=1e-9)
    assert len(moveit.objects["left/monitor/workspace"].primitives) == 6
    assert moveit.allows("left/monitor/table", "shoulder_link")
    assert moveit.allows("base_link", "left/monitor/bin")
    assert not moveit.allows("left/monitor/table", "gripper_link")
    assert moveit.allows("base_link", "base_link"), "and what was there is kept"
    bench.until(lambda: bench.scene.status == "3 zones given")
    heard, answers = len(moveit.heard), moveit.answers
    bench.until(lambda: moveit.answers > answers + 2)
    assert len(moveit.heard) == heard, "what is there is not given again"
    # Taken away from outside, or moved, in MoveIt's scene: the gate's own stand, and MoveIt's
    # are made good.
    moveit.remove("left/monitor/table")
    moveit.objects["left/monitor/bin"].primitives[0].dimensions[0] = 0.01
    bench.until(lambda: len(moveit.heard) > heard)
    bench.until(lambda: bench.scene.status == "3 zones given")
    assert moveit.objects["left/monitor/bin"].primitives[0].dimensions[0] == pytest.approx(0.14)
    # Other zones.
    ball = Zone(kind="keep_in", shape="sphere", size=[0.9])
    bench.placed(bin=cell.safety_monitor.zones["bin"], dome=ball)
    bench.until(lambda: set(moveit.objects) == {"cup", "left/monitor/bin"})
    bench.until(lambda: "1 zones given, without dome" in bench.scene.status)


def test_zones_are_not_said_to_be_given_by_a_move_group_that_has_gone(make, move_group):
    cell, _ = tabletop()
    bench = make(give=True, timeout=1.5)
    bench.placed(bin=cell.safety_monitor.zones["bin"])
    moveit = move_group.MoveGroup(bench.other, ["base_link"])
    bench.until(lambda: bench.scene.status == "1 zones given")
    moveit.leave(bench.other)
    bench.until(lambda: "zones not given: get_planning_scene has been silent" in bench.scene.status)


def test_its_own_zones_are_not_taken_and_those_of_another_monitor_are(make, move_group):
    cell, _ = tabletop()
    bench = make(give=True, take=True)
    bench.placed(bin=cell.safety_monitor.zones["bin"])
    moveit = move_group.MoveGroup(bench.other, ["base_link"])
    moveit.add(move_group.thing("right/monitor/bin", box=BOX))
    bench.until(lambda: len(moveit.objects) == 2 and bench.places)
    bench.until(lambda: bench.scene.status == "1 objects taken; 1 zones given")
    assert list(bench.places) == ["scene/right/monitor/bin/0"]


def test_the_frame_that_the_arm_stands_in_is_the_cell_s_to_say(make, move_group):
    bench = make(take=True, frame="world", position=[1.0, 0.0, 0.5], rpy=[0.0, 0.0, np.pi / 2])
    moveit = move_group.MoveGroup(bench.other, frame="world")
    moveit.add(move_group.thing("cup", sphere=((0.1,), move_group.pose(1, 2, 1))))
    bench.until(lambda: bench.places == {"scene/cup/0": [2, 0, 0.5]})


def test_an_octomap_is_not_taken_and_that_is_told(make, move_group):
    bench = make(take=True)
    moveit = move_group.MoveGroup(bench.other)
    bench.until(lambda: not bench.hindrance)
    told = move_group.scene()
    told.world.octomap.octomap.id, told.world.octomap.octomap.data = "OcTree", [1]
    moveit.publish(told)
    bench.until(lambda: "its octomap is not taken" in bench.scene.status)
    bench.spin(1.5)
    assert "its octomap is not taken" in bench.scene.status
    told.world.octomap.octomap.id, told.world.octomap.octomap.data = "cleared", []
    moveit.publish(told)
    bench.until(lambda: "octomap" not in bench.scene.status)
