"""The simulated tabletop: the URDF's arm on a table, blocks where they belong, at rest."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest

from smolvla_ros.schema import ConfigError
from smolvla_ros.sim.world import World


def contacts(world: World) -> set[frozenset[str]]:
    """Pairs of names: the link for a shape of the arm, else the shape."""
    model, found = world.model, set()
    for contact in world.data.contact[: world.data.ncon]:
        names = []
        for geom in contact.geom:
            body = model.body(model.geom(geom).bodyid[0]).name
            names.append(body if body in world.robot.links else model.geom(geom).name)
        found.add(frozenset(names))
    return found


def test_mujoco_and_the_gates_model_put_every_link_at_the_same_place(world, robot) -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        q = rng.uniform(robot.lower, robot.upper)
        world.reset(0, q)
        for link in robot.links:
            here = world.data.body(link).xpos
            np.testing.assert_allclose(here, robot.frame_position(q, link), atol=1e-9)


def test_mujoco_collides_with_the_shapes_that_the_gate_reads(world, robot) -> None:
    model = world.model
    links = [model.body(model.geom(i).bodyid[0]).name for i in range(model.ngeom)]
    for link in robot.links:
        assert links.count(link) == sum(g.link == link for g in robot.geometries), link


def test_blocks_lie_in_their_area_apart_and_on_the_table(world, scene, robot) -> None:
    area = scene.block_area
    for seed in range(40):
        world.reset(seed, robot.pose("rest"))
        places = np.array([world.block_position(name) for name in scene.blocks])
        assert (places[:, :2] >= area.min).all()
        assert (places[:, :2] <= area.max).all()
        apart = np.linalg.norm(places[:, None, :2] - places[None, :, :2], axis=2)
        assert apart[np.triu_indices(len(places), 1)].min() >= area.spacing
        bottoms = places[:, 2] - [b.edge / 2 for b in scene.blocks.values()]
        np.testing.assert_allclose(bottoms, scene.table.surface, atol=1e-12)


def test_the_same_seed_gives_the_same_places_and_another_seed_others(world, scene, robot) -> None:
    def places(seed: int) -> np.ndarray:
        world.reset(seed, robot.pose("rest"))
        return np.array([world.block_position(name) for name in scene.blocks])

    first = places(3)
    world.step(0.2)
    np.testing.assert_array_equal(places(3), first)
    fresh = World(robot, scene, 3, robot.pose("rest"))
    np.testing.assert_array_equal([fresh.block_position(n) for n in scene.blocks], first)
    assert np.linalg.norm(places(4) - first, axis=1).min() > 1e-3


@pytest.mark.parametrize("pose", ["zero", "ready", "rest"])
def test_a_resting_arm_holds_its_place_under_gravity_and_touches_nothing(
    world, scene, robot, pose
) -> None:
    start = robot.pose(pose)
    world.reset(0, start)
    before = np.array([world.block_position(name) for name in scene.blocks])
    for _ in range(200):
        world.step(0.01)
        assert np.abs(world.joint_positions() - start).max() < 0.05
        for pair in contacts(world):
            assert not pair & set(robot.links), pair
    assert world.time == pytest.approx(2.0)
    assert np.abs(world.joint_velocities()).max() < 0.01
    after = np.array([world.block_position(name) for name in scene.blocks])
    np.testing.assert_allclose(after, before, atol=1e-3)  # neither falling nor creeping


def test_the_arm_presses_on_the_table_and_does_not_go_through_it(world, robot) -> None:
    # The table carries: the simulator shows what happens without a gate.
    world.reset(0, robot.pose("ready"))
    down = np.array([0.0, 0.6, 0.3, 0.5, 0.0, 0.0])
    assert robot.frame_position(down, "gripper_frame_link")[2] < -0.05
    world.command(down, over=1.0)
    world.step(2.0)
    assert any("table" in pair and pair & set(robot.links) for pair in contacts(world))
    tip = robot.frame_position(world.joint_positions(), "gripper_frame_link")
    assert tip[2] > -0.015


def test_command_ramps_the_set_point_and_the_arm_follows(world, robot) -> None:
    start = robot.pose("ready")
    goal = start + np.array([0.4, -0.2, 0.2, -0.3, 0.5, 0.3])
    world.reset(0, start)
    world.command(goal, over=1.0)
    for share in (0.25, 0.5, 0.75):
        world.step(0.25)
        np.testing.assert_allclose(world.data.ctrl, start + share * (goal - start), atol=2e-3)
        assert np.abs(world.joint_velocities()).max() < 1.0  # 0.5 rad in 1 s, and no leap
    world.step(1.0)
    np.testing.assert_array_equal(world.data.ctrl, goal)
    assert np.abs(world.joint_positions() - goal).max() < 0.05


def test_a_new_command_goes_on_from_the_set_point_that_stands(world, robot) -> None:
    start = robot.pose("ready")
    world.reset(0, start)
    world.command(start + 0.4, over=1.0)
    world.step(0.5)
    stands = np.array(world.data.ctrl)
    world.command(start, over=1.0)
    world.step(0.002)
    np.testing.assert_allclose(world.data.ctrl, stands, atol=2e-3)
    world.step(1.1)
    np.testing.assert_array_equal(world.data.ctrl, start)


def test_servos_pull_no_harder_than_the_urdf_allows(world, robot) -> None:
    world.reset(0, robot.pose("rest"))
    world.command(robot.pose("zero"), over=0.0)
    strongest = np.zeros(robot.dof)
    for _ in range(50):
        world.step(0.01)
        strongest = np.maximum(strongest, np.abs(world.joint_efforts()))
    assert (strongest <= robot.effort + 1e-9).all()
    assert strongest.max() == pytest.approx(1.91)  # the limit was met, not just far away


def test_reset_forgets_the_motion_that_was_commanded(world, robot) -> None:
    world.reset(0, robot.pose("ready"))
    world.command(robot.pose("zero"), over=1.0)
    world.step(0.3)
    world.reset(0, robot.pose("rest"))
    world.step(0.1)
    assert np.abs(world.joint_positions() - robot.pose("rest")).max() < 0.05


def test_blocks_that_do_not_fit_are_refused(robot, changed) -> None:
    with pytest.raises(ConfigError, match=r"block_area: no room for block 'blue'.*0\.15; make"):
        World(robot, changed("block_area", spacing=0.15, max=[0.2, 0.14]), 0, robot.pose("rest"))


def test_a_camera_on_a_link_that_is_not_there_is_refused(robot, scene) -> None:
    lost = dataclasses.replace(scene.cameras["wrist"], link="hand")
    other = dataclasses.replace(scene, cameras={"wrist": lost})
    with pytest.raises(ConfigError, match=r"cameras\.wrist\.link: no link 'hand'.*gripper_link"):
        World(robot, other, 0, robot.pose("rest"))


def test_physics_run_several_times_faster_than_the_clock(world, robot) -> None:
    world.reset(0, robot.pose("ready"))
    started = time.process_time()  # of this process: others share the machine
    world.step(2.0)
    assert 2.0 / (time.process_time() - started) > 5.0
