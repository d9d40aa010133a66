"""A cell's policy, checked and warmed up: what must be done before anything moves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from smolvla_ros.policy.check import load_checked
from smolvla_ros.policy.checkpoint import Checkpoint
from smolvla_ros.policy.engine import LeRobotEngine
from smolvla_ros.policy.observation import Streams, cell_streams
from smolvla_ros.robot import JointMap, RobotModel
from smolvla_ros.schema import ConfigError

if TYPE_CHECKING:
    from smolvla_ros.cell import VlaConfig


@dataclass(frozen=True)
class Policy:
    """A policy that may be asked.

    Attributes:
        engine: warmed up. inference: s that one takes. warnings: what was found, a line each.
    """

    checkpoint: Checkpoint
    engine: LeRobotEngine
    inference: float
    warnings: list[str]


def load_policy(
    config: VlaConfig, robot: RobotModel, joint_map: JointMap, path: Path | None
) -> Policy:
    """Load, check and warm up the checkpoint of a cell; torch's threads and seed are set.

    Args:
        path: the cell file, or None.

    Raises:
        ConfigError: every error found, a line each.
    """
    torch.set_num_threads(config.torch_threads)
    cv2.setNumThreads(config.torch_threads)  # it would start one a core for a picture's colours
    if config.seed is not None:
        torch.manual_seed(config.seed)
    checkpoint, findings = load_checked(config, robot, path)
    rtc = config.chunking != "blend"
    engine = LeRobotEngine(checkpoint, joint_map, 1.0 / config.chunk_rate, rtc)
    inference = engine.warm_up(np.zeros(len(config.joint_order)))
    if config.chunking == "rtc" and not engine.guided:
        raise ConfigError(
            f"{path or 'parameters'}: vla.chunking: is 'rtc', but LeRobot cannot guide this "
            f"{checkpoint.type} policy; write 'auto' or 'blend'"
        )
    return Policy(
        checkpoint,
        engine,
        inference,
        [str(finding) for finding in findings if finding.level == "warning"],
    )


def make_streams(
    config: VlaConfig,
    policy: Policy,
    joint_map: JointMap,
    decoders: Mapping[str, Callable[[Any], np.ndarray]],
) -> Streams:
    """The streams that a policy of a cell needs.

    Args:
        decoders: a camera's transport → its messages to ``[H, W, 3]`` uint8 RGB.
    """
    checkpoint = policy.checkpoint
    sizes = {} if checkpoint.resizes else checkpoint.image_sizes
    return cell_streams(config, joint_map, decoders, sizes, checkpoint.observation_steps)
