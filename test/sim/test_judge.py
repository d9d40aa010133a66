"""Success and failure are what the simulator's state says, on real MuJoCo states."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from smolvla_ros.sim.judge import Judge, Judgement
from smolvla_ros.sim.world import World

TICK = 0.01
EDGE = 0.03


def put(world: World, block: str, centre, yaw: float = 0.0) -> None:
    """Place a block's centre ``[3]`` m."""
    address = world.model.joint(f"block_{block}").qposadr[0]
    turn = [np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)]
    world.data.qpos[address : address + 7] = [*centre, *turn]
    mujoco.mj_forward(world.model, world.data)


def wait(world: World, judge: Judge, seconds: float) -> Judgement:
    """Let time pass while everything stays where it is."""
    for _ in range(round(seconds / TICK)):
        world.data.time += TICK
        mujoco.mj_forward(world.model, world.data)
        judge.look()
    return judge.judgement


def beside_tip(world: World, gap: float) -> np.ndarray:
    """Where a block's centre is when its surface is ``gap`` in front of the fingertip, which
    points down: so the finger does not touch it."""
    x, y, z = world.fingertip()
    return np.array([x, y, z - gap - EDGE / 2])


@pytest.fixture
def scene_world(world, scene, robot):
    assert {b.edge for b in scene.blocks.values()} == {EDGE}
    world.reset(50000, robot.pose("ready"))
    return world


@pytest.fixture
def judge(scene_world):
    return lambda kind="", block="": Judge(scene_world, kind, block)


def test_the_distance_is_to_the_surface_whatever_the_yaw(scene_world, judge) -> None:
    j = judge()
    for yaw in (0.0, 0.5, np.pi / 4):
        put(scene_world, "red", [0.25, 0.0, 0.2], yaw)
        along = np.array([np.cos(yaw), np.sin(yaw), 0.0])
        assert j.distance("red", [0.25, 0.0, 0.2] + along * 0.035) == pytest.approx(0.02)
    put(scene_world, "red", [0.25, 0.0, 0.2])
    assert j.distance("red", np.array([0.25, 0.0, 0.2])) == 0.0
    corner = np.array([0.25, 0.0, 0.2]) + EDGE / 2 + np.array([0.003, 0.004, 0.012])
    assert j.distance("red", corner) == pytest.approx(0.013)


def test_near_the_named_block_for_half_a_second_is_a_touch(scene_world, judge) -> None:
    put(scene_world, "red", beside_tip(scene_world, 0.014))
    j = judge("touch", "red")
    assert not wait(scene_world, j, 0.49).success
    found = wait(scene_world, j, 0.05)
    assert found.success and found.over
    assert found.at == pytest.approx(0.51, abs=0.011)


def test_not_near_enough_or_not_long_enough_is_none(scene_world, judge) -> None:
    put(scene_world, "red", beside_tip(scene_world, 0.016))
    j = judge("touch", "red")
    assert not wait(scene_world, j, 2.0).success
    for _ in range(3):  # the time near it does not add up
        put(scene_world, "red", beside_tip(scene_world, 0.010))
        wait(scene_world, j, 0.4)
        put(scene_world, "red", beside_tip(scene_world, 0.030))
        found = wait(scene_world, j, 0.1)
    assert not found.success and not found.over


def test_another_block_touched_first_is_a_failure_for_good(scene_world, judge) -> None:
    put(scene_world, "blue", beside_tip(scene_world, 0.004))
    j = judge("touch", "red")
    found = wait(scene_world, j, 0.02)
    assert found.touched == ("blue",) and found.lost and found.over
    put(scene_world, "blue", [0.25, 0.2, 0.3])
    put(scene_world, "red", beside_tip(scene_world, 0.010))
    assert not wait(scene_world, j, 1.0).success


def test_passing_by_another_block_is_no_touch(scene_world, judge) -> None:
    put(scene_world, "blue", beside_tip(scene_world, 0.012))
    found = wait(scene_world, judge("touch", "red"), 1.0)
    assert found.touched == () and not found.lost


def test_any_link_that_hits_another_block_counts(scene_world, judge, robot) -> None:
    forearm = np.array(scene_world.data.body("lower_arm_link").xpos)
    put(scene_world, "green", forearm)
    assert scene_world.contacts() & {
        tuple(sorted(("block_green", link))) for link in robot.links
    }  # the state is what the test says
    found = wait(scene_world, judge("touch", "red"), 0.05)
    assert found.touched == ("green",) and found.lost


def held(world: World, block: str, height: float, robot) -> None:
    """A block in contact with the gripper, its centre ``height`` m above its place at rest."""
    q, wanted = robot.pose("ready"), world.scene.table.surface + EDGE / 2 + height
    for lift in np.linspace(robot.lower[1] + 0.1, robot.upper[1] - 0.1, 400):
        q[1] = lift
        world.data.qpos[world._qpos] = q
        mujoco.mj_kinematics(world.model, world.data)
        x, y, z = world.fingertip()
        if abs(z - wanted) < 0.002:
            put(world, block, [x, y, wanted])
            return
    raise AssertionError("no pose of that height")


def test_held_high_for_a_second_is_a_pick(scene_world, judge, robot) -> None:
    held(scene_world, "green", 0.055, robot)
    j = judge("pick", "green")
    assert not wait(scene_world, j, 0.99).success
    found = wait(scene_world, j, 0.05)
    assert found.success and found.lifted == ("green",)
    assert found.at == pytest.approx(1.01, abs=0.011)


def test_not_high_enough_is_lifted_but_not_picked(scene_world, judge, robot) -> None:
    held(scene_world, "green", 0.045, robot)
    found = wait(scene_world, judge("pick", "green"), 1.5)
    assert not found.success and found.lifted == ("green",)


def test_high_in_the_air_but_not_in_the_gripper_is_none(scene_world, judge) -> None:
    put(scene_world, "green", [0.25, 0.25, 0.2])
    found = wait(scene_world, judge("pick", "green"), 1.5)
    assert not found.success and found.lifted == ()


def test_another_block_picked_is_no_success(scene_world, judge, robot) -> None:
    held(scene_world, "blue", 0.055, robot)
    found = wait(scene_world, judge("pick", "green"), 1.5)
    assert not found.success and found.lifted == ("blue",)


def test_a_pressed_table_is_counted_once_a_contact(world, robot) -> None:
    world.reset(50001, robot.pose("ready"))
    judge = Judge(world)
    down = np.array([0.0, 0.6, 0.3, 0.5, 0.0, 0.0])
    for goal in (down, robot.pose("ready"), down):
        world.command(goal, over=0.8)
        for _ in range(160):
            world.step(TICK)
            judge.look()
    found = judge.judgement
    # More than one link may press on it; each counts when it comes and not while it stays.
    assert 2 <= found.contacts["table"] <= 2 * len(robot.links)
    assert found.contacts["bin"] == found.contacts["self"] == 0


def test_blocks_at_rest_on_the_table_are_nobodys_contact(scene_world, judge) -> None:
    j = judge("touch", "red")
    for _ in range(50):
        scene_world.step(TICK)
        j.look()
    assert j.judgement == Judgement(contacts={"table": 0, "bin": 0, "self": 0})


@pytest.mark.parametrize("task", [("push", "red"), ("touch", ""), ("touch", "pink"), ("", "red")])
def test_a_task_that_cannot_be_judged_is_refused(judge, task) -> None:
    with pytest.raises(ValueError, match=r"known: touch, pick|no block 'pink'; the scene has: red"):
        judge(*task)
