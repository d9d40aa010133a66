"""A chunk through the package's engine and through LeRobot alone, turn by turn."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs import FeatureType, PolicyFeature

from smolvla_ros.cell import load_cell, load_joint_map, load_robot
from smolvla_ros.learn.models import FULL, PLAIN, make_policy, make_vlm
from smolvla_ros.policy.checkpoint import Checkpoint, find_checkpoint, load_checkpoint
from smolvla_ros.policy.engine import Guide, LeRobotEngine
from smolvla_ros.policy.observation import Observation
from smolvla_ros.robot import JointMap
from smolvla_ros.share import share

_CELL = ("config", "so101_tabletop.yaml")
_FULL_IMAGE = (480, 640)
_COMMITTED, _HORIZON = 6, 16  # rows


def shipped(runs: int = 30) -> dict[str, Any]:
    """The shipped checkpoint with pictures of its own size, as :func:`compare`; under
    ``guided`` the same with real-time chunking."""
    path = share(*_CELL)
    config = load_cell(path).vla
    checkpoint = load_checkpoint(find_checkpoint(config.checkpoint, path.parent), config.device)
    joint_map, dt = _joint_map(), 1.0 / config.chunk_rate
    with _threads(config.torch_threads):
        return compare(checkpoint, joint_map, dt, runs) | {
            "guided": compare(checkpoint, joint_map, dt, runs, guided=True)
        }


def full(runs: int = 6) -> dict[str, Any]:
    """450 million random weights with two pictures of 640x480, as :func:`compare`."""
    # Threads wait for one another: one that shares its core would be measured with it.
    threads = max(1, (os.cpu_count() or 1) - 1)
    with tempfile.TemporaryDirectory() as folder, _threads(threads):
        make_vlm(Path(folder), FULL)
        policy, preprocess, postprocess = make_policy(Path(folder), 0, PLAIN, FULL)
        for feature in policy.config.image_features:
            policy.config.input_features[feature] = PolicyFeature(
                type=FeatureType.VISUAL, shape=(3, *_FULL_IMAGE)
            )
        checkpoint = Checkpoint(Path(folder), policy.config, policy, preprocess, postprocess)
        found = compare(checkpoint, _joint_map(), 1.0 / 30.0, runs)
    parameters = sum(p.numel() for p in policy.parameters())
    return found | {"parameters": parameters, "threads": threads}


def compare(
    checkpoint: Checkpoint, joint_map: JointMap, dt: float, runs: int, guided: bool = False
) -> dict[str, Any]:
    """The same observations and the same noise to :class:`LeRobotEngine` and to LeRobot alone:
    its processors around its ``predict_action_chunk``, pictures as ``[H, W, 3]`` uint8 RGB.

    Args:
        dt: s between rows. runs: of each. guided: both continue one and the same chunk.

    Returns:
        ours_s, stock_s: the fastest run each, in seconds: what else the machine does makes a
        run slower and never faster. ratio: ours by stock. ours_p50_s, stock_p50_s, runs.

    Raises:
        RuntimeError: they gave different actions.
    """
    engine = LeRobotEngine(checkpoint, joint_map, dt)
    rng = np.random.default_rng(0)
    guide, words = None, {}
    if guided:
        before = _predict(checkpoint, _observation(checkpoint, rng), {})
        rows = joint_map.to_urdf(_in_units_of_the_data(checkpoint, before))
        guide = Guide(rows, _COMMITTED, _HORIZON)
        words = {
            "inference_delay": _COMMITTED,
            "execution_horizon": _HORIZON,
            "prev_chunk_left_over": before.squeeze(0),
        }
    ways: dict[str, Callable[[Observation], np.ndarray]] = {
        "ours": lambda observation: engine.infer(observation, guide).positions,
        "stock": lambda observation: _in_units_of_the_data(
            checkpoint, _predict(checkpoint, observation, words)
        ),
    }
    took: dict[str, list[float]] = {way: [] for way in ways}
    for k in range(-1, runs):  # the first is a warm-up
        observation = _observation(checkpoint, rng)
        rows: dict[str, np.ndarray] = {}
        for way in sorted(ways, reverse=bool(k % 2)):
            torch.manual_seed(k + 1)
            started = time.perf_counter()
            rows[way] = ways[way](observation)
            if k >= 0:
                took[way].append(time.perf_counter() - started)
        if not np.allclose(rows["ours"], joint_map.to_urdf(rows["stock"]), atol=1e-3):
            raise RuntimeError("the engine and LeRobot alone gave different actions")
    ours, stock = min(took["ours"]), min(took["stock"])
    return {
        "ours_s": round(ours, 5),
        "stock_s": round(stock, 5),
        "ratio": round(ours / stock, 4),
        "ours_p50_s": round(float(np.median(took["ours"])), 5),
        "stock_p50_s": round(float(np.median(took["stock"])), 5),
        "runs": runs,
    }


def _predict(
    checkpoint: Checkpoint, observation: Observation, words: dict[str, Any]
) -> torch.Tensor:
    """What a script around LeRobot does: ``[1, N, D]`` in the model's own units."""
    batch: dict[str, Any] = {
        "observation.state": torch.from_numpy(observation.state).float(),
        "task": observation.instruction,
    }
    for feature, picture in observation.images.items():
        batch[feature] = torch.from_numpy(picture).permute(2, 0, 1).contiguous().float() / 255
    with torch.no_grad():
        return checkpoint.policy.predict_action_chunk(checkpoint.preprocess(batch), **words)


def _in_units_of_the_data(checkpoint: Checkpoint, actions: torch.Tensor) -> np.ndarray:
    # Some post-processors write into what they are given.
    return checkpoint.postprocess(actions.clone()).squeeze(0).cpu().numpy()


def _observation(checkpoint: Checkpoint, rng: np.random.Generator) -> Observation:
    shapes = {n: f.shape for n, f in checkpoint.config.image_features.items()}
    images = {n: rng.integers(256, size=(s[1], s[2], 3), dtype=np.uint8) for n, s in shapes.items()}
    state = rng.normal(0.0, 5.0, checkpoint.state_size)
    return Observation(images, state, "touch the red block", {"bench": 0.0})


def _joint_map() -> JointMap:
    path = share(*_CELL)
    config = load_cell(path).vla
    return load_joint_map(config, load_robot(config.robot, path), path)


@contextmanager
def _threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
