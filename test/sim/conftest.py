"""The shipped cell's world; tests put it where they need it with ``reset``."""

from __future__ import annotations

import dataclasses

import pytest

from smolvla_ros.cell import beside, load_cell, load_robot
from smolvla_ros.robot import RobotModel
from smolvla_ros.share import share
from smolvla_ros.sim.scene import Scene, load_scene
from smolvla_ros.sim.world import Cameras, World

CELL = share("config", "so101_tabletop.yaml")


@pytest.fixture(scope="session")
def robot() -> RobotModel:
    return load_robot(load_cell(CELL).sim.robot, CELL)


@pytest.fixture(scope="session")
def scene() -> Scene:
    return load_scene(beside(CELL, load_cell(CELL).sim.scene))


@pytest.fixture(scope="session")
def world(robot, scene) -> World:
    return World(robot, scene, 0, robot.pose("rest"))


@pytest.fixture(scope="session")
def cameras(world):
    cameras = Cameras(world)
    yield cameras
    cameras.close()


@pytest.fixture
def changed(scene):
    """The shipped scene with one group changed: ``changed("block_area", spacing=0.3)``."""

    def change(group: str, **values) -> Scene:
        new = dataclasses.replace(getattr(scene, group), **values)
        return dataclasses.replace(scene, **{group: new})

    return change
