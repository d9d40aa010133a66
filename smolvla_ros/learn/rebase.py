"""A SmolVLA's weights under other statistics.

LeRobot's trainer normalises by the statistics of the dataset, whatever the checkpoint was
trained with. Where those differ, the policy would see and say other numbers than it learned,
and spend the first part of its training on that. Its first and last projections of state and
action are linear, so the change of units goes into their weights:

    x_old = a * x_new + b,  a = std_new / std_old,  b = (mean_new - mean_old) / std_old

For the state this changes nothing at all. An action is denoised from unit noise, which is
scaled with it: nearly the same where ``a`` is near 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from lerobot.utils.constants import ACTION, OBS_STATE
from safetensors.torch import load_file, save_file

from smolvla_ros.policy import files
from smolvla_ros.policy.checkpoint import CheckpointError, load_checkpoint

_WEIGHTS = "model.safetensors"
_SAME = 1e-3  # of a standard deviation
_STILL = 1e-6  # degrees, percent: a standard deviation below it is that of no motion


def is_other(folder: Path, stats: Mapping[str, Mapping[str, np.ndarray]]) -> bool:
    """Whether a SmolVLA in ``folder`` has statistics of state and action, and others than
    ``stats`` (feature → ``mean``, ``std``)."""
    if json.loads((folder / files.CONFIG).read_text()).get("type") != "smolvla":
        return False
    try:
        checkpoint = load_checkpoint(folder)
    except CheckpointError:  # one without statistics: it takes the dataset's as its own
        return False
    for key in (OBS_STATE, ACTION):
        found = checkpoint.statistics(key)
        if not found or key not in stats:
            return False
    changes = [_change(checkpoint.statistics(key), stats[key]) for key in (OBS_STATE, ACTION)]
    return any(np.abs([a - 1.0, b]).max() > _SAME for a, b in changes)


def rebase(folder: Path, stats: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Change the weights of the SmolVLA in ``folder`` so that it does with ``stats`` what it
    does with its own."""
    checkpoint = load_checkpoint(folder)
    weights = load_file(folder / _WEIGHTS)
    _absorb(
        weights, "model.state_proj", *_change(checkpoint.statistics(OBS_STATE), stats[OBS_STATE])
    )
    a, b = _change(checkpoint.statistics(ACTION), stats[ACTION])
    _absorb(weights, "model.action_in_proj", a, b)
    # What comes out is a difference of two such values: it has no offset.
    for name in ("weight", "bias"):
        name = f"model.action_out_proj.{name}"
        value = weights[name].double()
        scale = torch.ones(len(value), dtype=torch.float64)
        scale[: len(a)] = torch.from_numpy(a)
        scaled = value / scale.reshape(-1, *[1] * (value.ndim - 1))
        weights[name] = scaled.to(weights[name].dtype).contiguous()
    save_file(weights, folder / _WEIGHTS, metadata={"format": "pt"})


def _change(old: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray]):
    """``a`` and ``b``, ``[D]``, both finite.

    What did not move in the old data was always 0 to the policy, which learned nothing of its
    scale; what does not in the new is always 0, whatever ``a``.
    """
    (before, mean), (after, shifted) = (
        (np.asarray(stats["std"], dtype=float), np.asarray(stats["mean"], dtype=float))
        for stats in (old, new)
    )
    moved = before > _STILL
    std = np.where(moved, before, 1.0)
    a = np.where(moved & (after > _STILL), after / std, 1.0)
    b = np.where(moved, (shifted - mean) / std, 0.0)
    return a, b


def _absorb(weights: dict[str, torch.Tensor], layer: str, a: np.ndarray, b: np.ndarray) -> None:
    """Of a linear layer of ``[.., D + padding]`` inputs."""
    weight, bias = (weights[f"{layer}.{n}"] for n in ("weight", "bias"))
    scale = torch.ones(weight.shape[1], dtype=torch.float64)
    shift = torch.zeros(weight.shape[1], dtype=torch.float64)
    scale[: len(a)], shift[: len(b)] = torch.from_numpy(a), torch.from_numpy(b)
    weights[f"{layer}.bias"] = (bias.double() + weight.double() @ shift).to(bias.dtype)
    weights[f"{layer}.weight"] = (weight.double() * scale).to(weight.dtype).contiguous()
