"""The simulated arm keeps the driver's protocol: names, order, radians, set-points."""

from __future__ import annotations

import numpy as np
import pytest

from smolvla_ros.arm import ArmDriver
from smolvla_ros.arm.mujoco import MujocoArm
from smolvla_ros.cell import beside, load_cell, load_robot
from smolvla_ros.share import share
from smolvla_ros.sim.scene import load_scene
from smolvla_ros.sim.world import World


@pytest.fixture
def world() -> World:
    cell = load_cell(share("config", "so101_tabletop.yaml"))
    robot = load_robot(cell.sim.robot, cell.path)
    scene = load_scene(beside(cell.path, cell.sim.scene))
    return World(robot, scene, 0, robot.pose("ready"))


def test_it_reads_the_joints_of_the_urdf_in_their_order(world) -> None:
    arm: ArmDriver = MujocoArm(world)
    assert arm.names == world.robot.names
    positions, velocities, efforts = arm.read()
    assert positions.shape == velocities.shape == efforts.shape == (6,)
    np.testing.assert_allclose(positions, world.robot.pose("ready"))
    np.testing.assert_array_equal(velocities, 0.0)


@pytest.mark.parametrize("joint", range(6))
def test_a_set_point_moves_its_own_joint_to_its_place_and_holds_it(world, joint) -> None:
    arm = MujocoArm(world)
    start = world.robot.pose("ready")
    step = 0.3 if joint != 3 else -0.3  # wrist_flex starts near its upper limit
    goal = start.copy()
    goal[joint] += step
    arm.write(goal, over=0.5)
    world.step(0.25)
    halfway, speed, _ = arm.read()
    assert 0.05 < (halfway[joint] - start[joint]) / np.sign(step) < 0.25
    assert speed[joint] * np.sign(step) > 0.2
    world.step(1.25)
    positions, velocities, _ = arm.read()
    np.testing.assert_allclose(positions, goal, atol=0.05)
    assert np.abs(velocities).max() < 0.05


def test_what_it_read_does_not_change_when_time_goes_on(world) -> None:
    arm = MujocoArm(world)
    arm.write(world.robot.pose("zero"), over=0.5)
    before = arm.read()
    kept = [values.copy() for values in before]
    world.step(0.3)
    for values, copy in zip(before, kept, strict=True):
        np.testing.assert_array_equal(values, copy)
