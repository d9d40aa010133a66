"""Small genuine checkpoints of other policies than the shipped one, made with LeRobot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs import FeatureType
from lerobot.configs.types import PolicyFeature
from lerobot.policies.factory import (
    get_policy_class,
    make_policy_config,
    make_pre_post_processors,
)

FRONT, WRIST = "observation.images.front", "observation.images.wrist"
SMALL = {
    "act": {
        "chunk_size": 20, "n_action_steps": 20, "dim_model": 32, "n_heads": 2,
        "dim_feedforward": 64, "n_encoder_layers": 1, "n_vae_encoder_layers": 1, "latent_dim": 8,
        "pretrained_backbone_weights": None,
    },
    "diffusion": {
        "n_obs_steps": 2, "horizon": 16, "n_action_steps": 8, "down_dims": (16, 32),
        "n_groups": 4, "diffusion_step_embed_dim": 16, "spatial_softmax_num_keypoints": 4,
        "num_train_timesteps": 10, "num_inference_steps": 2,
        "pretrained_backbone_weights": None,
    },
    "vqbet": {
        "n_obs_steps": 3, "action_chunk_size": 5, "gpt_n_layer": 1, "gpt_n_head": 2,
        "gpt_hidden_dim": 32, "crop_shape": (84, 84), "pretrained_backbone_weights": None,
    },
    "tdmpc": {"horizon": 5},
}  # fmt: skip
# Degrees and a gripper from 0 to 100, as the shipped cell reads them.
MEAN = np.array([0.0, -20.0, 20.0, 60.0, 0.0, 30.0])
STD = np.array([25.0, 15.0, 15.0, 15.0, 25.0, 15.0])


def make(
    kind: str,
    folder: Path,
    cameras: tuple[str, ...] = (FRONT,),
    size: tuple[int, int] = (96, 96),
    joints: int = 6,
    state: bool = True,
    mean: np.ndarray = MEAN,
    std: np.ndarray = STD,
    **changes: Any,
) -> Path:
    """A checkpoint with random weights; ``size`` is (height, width), statistics ``[joints]``."""
    shape = {"shape": (joints,)}
    inputs = {c: PolicyFeature(FeatureType.VISUAL, (3, *size)) for c in cameras}
    if state:
        inputs["observation.state"] = PolicyFeature(FeatureType.STATE, **shape)
    config = make_policy_config(
        kind,
        device="cpu",
        input_features=inputs,
        output_features={"action": PolicyFeature(FeatureType.ACTION, **shape)},
        **(SMALL[kind] | changes),
    )
    torch.manual_seed(0)
    policy = get_policy_class(kind)(config)
    preprocess, postprocess = make_pre_post_processors(config, dataset_stats=table(
        cameras, mean[:joints], std[:joints]
    ))  # fmt: skip
    for part in (policy, preprocess, postprocess):
        part.save_pretrained(folder)
    return folder


def table(cameras: tuple[str, ...], mean: np.ndarray, std: np.ndarray) -> dict[str, Any]:
    """Statistics as a data set of LeRobot has them."""
    vector = {"mean": mean, "std": std, "min": mean - 2 * std, "max": mean + 2 * std}
    channel = np.full((3, 1, 1), 0.5)
    picture = {"mean": channel, "std": channel / 2, "min": 0 * channel, "max": 2 * channel}
    found = {"observation.state": vector, "action": vector} | dict.fromkeys(cameras, picture)
    return {
        feature: {name: value.astype(np.float32) for name, value in values.items()}
        for feature, values in found.items()
    }
