"""Pictures → what a model takes."""

from __future__ import annotations

import numpy as np
import torch

from smolvla_ros.pictures import decode, decode_compressed

__all__ = ["decode", "decode_compressed", "to_tensor"]


def to_tensor(rgb: np.ndarray) -> torch.Tensor:
    """``[..., H, W, 3]`` uint8 RGB → ``[..., 3, H, W]`` float32 in 0..1, LeRobot's convention.

    The same values as LeRobot's own ``prepare_observation_for_inference``, in one pass. The
    memory stays in the camera's order (torch's channels-last), in which resizing and
    convolutions take it as it is.

    Raises:
        ValueError: no such array.
    """
    if rgb.dtype != np.uint8 or rgb.ndim < 3 or rgb.shape[-1] != 3:
        raise ValueError(f"{rgb.dtype} of shape {rgb.shape}; a picture is uint8 [..., H, W, 3]")
    scaled = np.divide(rgb, np.float32(255), dtype=np.float32, order="C")
    return torch.from_numpy(scaled).movedim(-1, -3)
