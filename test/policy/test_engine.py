"""Inference on the shipped checkpoint: one chunk an observation, in radians, by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from smolvla_ros.cell import load_cell, load_joint_map, load_robot
from smolvla_ros.policy import Observation
from smolvla_ros.policy.checkpoint import load_checkpoint
from smolvla_ros.policy.engine import LeRobotEngine
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
    assert chunk.positions.shape == (50, 6)
    assert chunk.names == tuple(config.joint_order)
    assert chunk.dt == pytest.approx(1 / 30)
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


def test_warm_up_is_one_inference_and_says_how_long(cell, engine) -> None:
    _, robot, joint_map = cell
    assert 0.0 < engine.warm_up(joint_map.to_policy(robot.pose("ready"))) < 30.0
