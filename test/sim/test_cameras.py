"""The pictures: their size, what is in them, and where, by the pinhole matrix."""

from __future__ import annotations

import math

import numpy as np
import pytest

from smolvla_ros.sim.grain import add_grain
from smolvla_ros.sim.scene import CameraPose
from smolvla_ros.sim.world import intrinsics

CHANNEL = {"red": 0, "green": 1, "blue": 2}


def coloured(picture: np.ndarray, colour: str) -> np.ndarray:
    """``[N, 2]`` u, v of the centres of all pixels in which a colour prevails."""
    i = CHANNEL[colour]
    p = picture.astype(float)
    rest = np.delete(p, i, axis=2).max(axis=2)
    v, u = np.nonzero((p[:, :, i] > 1.5 * rest) & (p[:, :, i] > 60))
    return np.column_stack([u, v]) + 0.5


def projected(world, camera: str, point: np.ndarray) -> np.ndarray:
    """u, v of a point by K and the camera's pose (MuJoCo's looks along -z, y up)."""
    view = world.data.camera(camera)
    x, y, z = view.xmat.reshape(3, 3).T @ (point - view.xpos)
    u, v, w = intrinsics(world.scene.cameras[camera]) @ [x, -y, -z]
    assert w > 0
    return np.array([u / w, v / w])


@pytest.mark.parametrize("camera", ["front", "wrist"])
def test_a_picture_has_the_size_of_the_scene_file(world, robot, cameras, camera) -> None:
    pose = world.scene.cameras[camera]
    world.reset(0, robot.pose("ready"))
    cameras.see(world)
    picture = cameras.render(camera)
    assert picture.shape == (pose.height, pose.width, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 10  # of something, not of nothing


@pytest.mark.parametrize("seed", range(6))
def test_each_block_is_seen_where_the_pinhole_matrix_puts_it(world, robot, cameras, seed) -> None:
    world.reset(seed, robot.pose("rest"))
    cameras.see(world)
    picture = cameras.render("front")
    for colour in CHANNEL:
        pixels = coloured(picture, colour)
        assert len(pixels) > 90, colour
        expected = projected(world, "front", world.block_position(colour))
        np.testing.assert_allclose(pixels.mean(axis=0), expected, atol=1.0, err_msg=colour)


def test_the_front_picture_is_upright_and_not_mirrored(world, robot, cameras) -> None:
    # The camera looks back at the arm: what is nearer to it (x) lies lower in the picture,
    # what is on the arm's left (y) lies on the right.
    world.reset(2, robot.pose("rest"))
    cameras.see(world)
    picture = cameras.render("front")
    seen = np.array([coloured(picture, colour).mean(axis=0) for colour in CHANNEL])
    real = np.array([world.block_position(colour) for colour in CHANNEL])
    assert (np.argsort(seen[:, 0]) == np.argsort(real[:, 1])).all()
    assert (np.argsort(seen[:, 1]) == np.argsort(real[:, 0])).all()


def test_the_picture_is_of_what_was_seen_last(world, robot, cameras) -> None:
    world.reset(0, robot.pose("rest"))
    cameras.see(world)
    first = cameras.render("front").copy()
    world.reset(1, robot.pose("rest"))
    np.testing.assert_array_equal(cameras.render("front"), first)
    cameras.see(world)
    assert not np.array_equal(cameras.render("front"), first)


def test_the_wrist_camera_rides_on_the_gripper(world, robot, cameras) -> None:
    views = []
    for pan in (0.0, 0.6):
        q = robot.pose("ready")
        q[0] = pan
        world.reset(0, q)
        cameras.see(world)
        views.append(cameras.render("wrist").copy())
    assert np.abs(views[0].astype(int) - views[1]).mean() > 5


def test_intrinsics_of_a_right_angle() -> None:
    pose = CameraPose(
        position=[0.0, 0.0, 0.0], look_at=[1.0, 0.0, 0.0], fovy=math.pi / 2, width=640, height=480
    )
    np.testing.assert_allclose(intrinsics(pose), [[240, 0, 320], [0, 240, 240], [0, 0, 1]])


def test_grain_makes_pictures_of_a_standing_world_differ_and_nobody_sees_it(
    world, robot, cameras
) -> None:
    world.reset(0, robot.pose("rest"))
    cameras.see(world)
    rng = np.random.default_rng(0)
    first, second = cameras.render("front"), cameras.render("front")
    np.testing.assert_array_equal(first, second)
    add_grain(first, rng)
    add_grain(second, rng)
    assert not np.array_equal(first, second)
    assert np.abs(first.astype(int) - second.astype(int)).max() == 1
