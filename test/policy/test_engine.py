"""Inference on the shipped checkpoint: one chunk an observation, in radians, by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.checkpoints import FRONT, make

from smolvla_ros.cell import load_cell, load_joint_map, load_robot
from smolvla_ros.policy import Observation
from smolvla_ros.policy.checkpoint import load_checkpoint
from smolvla_ros.policy.engine import Guide, LeRobotEngine
from smolvla_ros.share import share

CELL = share("config", "so101_tabletop.yaml")


@pytest.fixture(scope="module")
def cell():
    config = load_cell(CELL).vla
    robot = load_robot(config.robot, CELL)
    return config, robot, load_joint_map(config, robot, CELL)


@pytest.fixture(scope="module")
def engine(cell, loaded) -> LeRobotEngine:
    config, _, joint_map = cell
    torch.set_num_threads(config.torch_threads)
    return LeRobotEngine(loaded, joint_map, 1.0 / config.chunk_rate)


def observation(cell, seed: int = 0, instruction: str = "put the red block into the bin"):
    config, robot, joint_map = cell
    rng = np.random.default_rng(seed)
    pictures = {
        c.feature: rng.integers(0, 255, (240, 320, 3), np.uint8) for c in config.cameras.values()
    }
    state = joint_map.to_policy(robot.pose("ready"))
    return Observation(pictures, state, instruction, {"front": 12.5, "joint_states": 12.53})


def infer(engine, seen, noise: int = 0):
    torch.manual_seed(noise)
    return engine.infer(seen)


def test_a_chunk_is_in_radians_by_joint_name_stamped_with_the_observation(cell, engine) -> None:
    config, robot, _ = cell
    chunk = infer(engine, observation(cell))
    assert chunk.positions.shape == (16, 6)
    assert chunk.names == tuple(config.joint_order)
    assert chunk.dt == pytest.approx(1 / 10)
    assert chunk.stamp == 12.5
    q = chunk.positions[:, [chunk.names.index(n) for n in robot.names]]
    # Degrees would leave this range some fifty times over.
    assert (q >= 2 * robot.lower).all()
    assert (q <= 2 * robot.upper).all()


def test_the_statistics_of_the_checkpoint_reach_the_chunk(cell, engine, copy) -> None:
    # Ten units more in the mean of every action are ten units more in every row.
    _, _, joint_map = cell
    path = copy / "policy_postprocessor_step_0_unnormalizer_processor.safetensors"
    table = load_file(path)
    save_file(table | {"action.mean": table["action.mean"] + 10.0}, path)
    shifted = LeRobotEngine(load_checkpoint(copy), joint_map, 0.03)
    before, after = (infer(e, observation(cell)).positions for e in (engine, shifted))
    expected = np.broadcast_to(10.0 * joint_map.scale, before.shape)
    np.testing.assert_allclose(after - before, expected, atol=1e-5)


def test_the_same_seed_gives_the_same_chunk_and_another_seed_another(cell, engine) -> None:
    seen = observation(cell)
    first = infer(engine, seen, noise=1).positions
    np.testing.assert_array_equal(infer(engine, seen, noise=1).positions, first)
    assert not np.allclose(infer(engine, seen, noise=2).positions, first)


@pytest.mark.parametrize("part", ["images", "state", "instruction"])
def test_the_chunk_depends_on_every_part_of_the_observation(cell, engine, part) -> None:
    seen = observation(cell)
    parts = {"images": seen.images, "state": seen.state, "instruction": seen.instruction}
    other = observation(cell, seed=5, instruction="open the gripper")
    parts[part] = {"images": other.images, "state": seen.state + 20.0,
                   "instruction": other.instruction}[part]  # fmt: skip
    changed = Observation(**parts, stamps=seen.stamps)
    assert not np.array_equal(infer(engine, changed).positions, infer(engine, seen).positions)


def test_output_that_is_not_finite_is_refused(cell, copy) -> None:
    _, _, joint_map = cell
    broken = load_checkpoint(copy)
    with torch.no_grad():
        broken.policy.model.action_out_proj.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        LeRobotEngine(broken, joint_map, 0.03).infer(observation(cell))


def test_warm_up_says_how_long_an_inference_takes_and_that_it_can_be_guided(cell, engine) -> None:
    _, robot, joint_map = cell
    assert 0.0 < engine.warm_up(joint_map.to_policy(robot.pose("ready"))) < 30.0
    assert engine.guided
    assert engine.rows == 16


def test_a_guided_chunk_continues_the_motion_that_is_under_way(cell, engine) -> None:
    seen = observation(cell)
    free = infer(engine, seen, noise=1).positions
    # Half a radian aside: nothing that the policy would do by itself.
    under_way = infer(engine, seen, noise=2).positions[:10] + 0.5
    torch.manual_seed(1)
    guided = engine.infer(seen, Guide(under_way, committed=4, horizon=7)).positions
    apart = np.abs(guided[:10] - under_way).max(axis=1)
    assert apart[:4].max() < 0.05
    assert np.abs(free[:4] - under_way[:4]).max() > 0.4
    # Behind the horizon it is free again.
    assert np.abs(guided[7:] - free[7:]).mean() < 0.15
    assert apart[7:].min() > 0.2


def test_no_horizon_means_no_guidance_behind_what_is_committed(cell, engine) -> None:
    seen = observation(cell)
    free = infer(engine, seen, noise=1).positions
    rows = free[:8] + 0.3
    torch.manual_seed(1)
    np.testing.assert_allclose(engine.infer(seen, Guide(rows, 0, 0)).positions, free, atol=1e-5)


def test_guidance_is_left_out_where_radians_do_not_lead_back_to_the_model(cell, copy) -> None:
    _, robot, joint_map = cell
    state = joint_map.to_policy(robot.pose("ready"))
    checkpoint = load_checkpoint(copy)
    unnormalise = checkpoint.postprocess

    class Further:
        """Adds to the actions what the engine cannot know, as actions relative to a state do."""

        steps = unnormalise.steps

        def __call__(self, actions):
            return unnormalise(actions) + 5.0

    engine = LeRobotEngine(replace(checkpoint, postprocess=Further()), joint_map, 0.03)
    assert engine.guided
    engine.warm_up(state)
    assert not engine.guided


def test_where_it_is_not_wanted_there_is_no_guidance(cell, copy) -> None:
    _, _, joint_map = cell
    engine = LeRobotEngine(load_checkpoint(copy), joint_map, 0.03, rtc=False)
    seen = observation(cell)
    free = infer(engine, seen, noise=1).positions
    torch.manual_seed(1)
    given = engine.infer(seen, Guide(free[:8] + 0.3, 10, 20)).positions
    assert not engine.guided
    np.testing.assert_array_equal(given, free)


@pytest.mark.parametrize(
    ("kind", "rows", "steps"),
    [("act", 20, 1), ("diffusion", 8, 2), ("vqbet", 5, 3), ("tdmpc", 5, 1)],
)
def test_policies_of_other_types_infer_alike(cell, tmp_path, kind, rows, steps) -> None:
    _, robot, joint_map = cell
    # TD-MPC takes one small picture, and that under this name.
    camera, size = ("observation.image", 64) if kind == "tdmpc" else (FRONT, 96)
    checkpoint = load_checkpoint(make(kind, tmp_path / kind, (camera,), (size, size)))
    engine = LeRobotEngine(checkpoint, joint_map, 1 / 30)
    state = joint_map.to_policy(robot.pose("ready"))
    engine.warm_up(state)
    assert (engine.rows, engine.guided) == (rows, False)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (steps, size, size, 3), np.uint8)
    states = np.repeat(state[None], steps, axis=0)
    if steps == 1:
        pictures, states = pictures[0], states[0]
    seen = Observation({camera: pictures}, states, "reach", {"front": 3.0})
    chunk = infer(engine, seen)
    assert chunk.positions.shape == (rows, 6)
    assert chunk.stamp == 3.0
    np.testing.assert_allclose(engine.measured(seen), joint_map.to_urdf(state))
    # The same again: nothing of the last observation is left in the policy.
    infer(engine, Observation({camera: 255 - pictures}, states, "reach", {"front": 4.0}))
    np.testing.assert_allclose(infer(engine, seen).positions, chunk.positions, atol=1e-6)


def test_a_policy_of_several_steps_sees_them_in_order(cell, tmp_path) -> None:
    _, robot, joint_map = cell
    engine = LeRobotEngine(load_checkpoint(make("diffusion", tmp_path / "d")), joint_map, 1 / 30)
    state = joint_map.to_policy(robot.pose("ready"))
    pictures = np.random.default_rng(0).integers(0, 255, (2, 96, 96, 3), np.uint8)
    states = np.stack([state - 10.0, state])
    seen, turned = (
        Observation({FRONT: p}, s, "reach", {"front": 3.0})
        for p, s in ((pictures, states), (pictures[::-1], states[::-1]))
    )
    assert np.abs(infer(engine, seen).positions - infer(engine, turned).positions).max() > 1e-4
    np.testing.assert_allclose(engine.measured(seen), joint_map.to_urdf(state))
