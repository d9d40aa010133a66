"""A LeRobot checkpoint, loaded whole and checked before anything may move.

Weights come from safetensors only. What LeRobot would let pass in silence is refused
here: weights that are missing, and statistics that the (un)normaliser does not find and
therefore skips, which sends z-scores to the motors.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lerobot.configs import FeatureType, NormalizationMode, PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.utils.constants import ACTION, OBS_STATE

_FILES = ("config.json", "model.safetensors", "policy_preprocessor.json",
          "policy_postprocessor.json")  # fmt: skip
_STATISTICS = {
    NormalizationMode.MEAN_STD: ("mean", "std"),
    NormalizationMode.MIN_MAX: ("min", "max"),
    NormalizationMode.QUANTILES: ("q01", "q99"),
    NormalizationMode.QUANTILE10: ("q10", "q90"),
}


class CheckpointError(ValueError):
    """A checkpoint that cannot be trusted; one line a finding in ``problems``."""

    def __init__(self, problems: list[str] | str):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class Checkpoint:
    """A policy with its processors, ready to infer on ``device``.

    Attributes:
        folder: where it was loaded from. config: LeRobot's.
        policy: the LeRobot policy, in evaluation mode.
        preprocess: observation batch → model batch. postprocess: model actions → the
            units of the data.
    """

    folder: Path
    config: PreTrainedConfig
    policy: torch.nn.Module
    preprocess: Any
    postprocess: Any

    @property
    def images(self) -> list[str]:
        """Feature names of the pictures it wants."""
        return list(self.config.image_features)

    @property
    def state_size(self) -> int:
        """Entries of the state vector."""
        return int(self.config.robot_state_feature.shape[0])

    @property
    def action_size(self) -> int:
        """Entries of an action."""
        return int(self.config.action_feature.shape[0])

    @property
    def chunk_size(self) -> int:
        """Actions in a chunk."""
        return int(self.config.chunk_size)


def find_checkpoint(reference: str, base: Path, revision: str | None = None) -> Path:
    """The folder behind a path (relative to ``base``) or a hub id ``owner/name``.

    Raises:
        CheckpointError: neither a folder with the files of a checkpoint nor to be had
            from the hub.
    """
    folder = Path(os.path.normpath(base / Path(reference).expanduser()))
    if not folder.is_dir():
        if not re.fullmatch(r"[\w][\w.-]*/[\w][\w.-]*", reference):
            raise CheckpointError(f"{reference!r} is no folder ({folder}); write the path of a "
                                  "LeRobot checkpoint or a hub id owner/name")  # fmt: skip
        folder = _download(reference, revision, folder)
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{folder}: lacks {', '.join(missing)}; save policy and processors together with "
            "LeRobot's save_pretrained"
        )
    return folder


def _download(repository: str, revision: str | None, tried: Path) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                # Nothing that could be unpickled or executed.
                allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model", "README.md"],
            )
        )
    except Exception as error:  # the hub client raises many unrelated types
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise CheckpointError(
            f"{repository!r}: no such folder ({tried}), and not to be had from the hub ({reason})"
        ) from error


def load_checkpoint(folder: Path, device: str = "cpu") -> Checkpoint:
    """Load policy, pre- and post-processor.

    Raises:
        CheckpointError: a policy type that is not SmolVLA, weights that do not fit, or
            statistics that would be skipped.
    """
    try:
        config = PreTrainedConfig.from_pretrained(str(folder))
    except Exception as error:
        raise CheckpointError(f"{folder}/config.json: {_first_line(error)}") from error
    if config.type != "smolvla":
        raise CheckpointError(
            f"{folder}/config.json: policy type {config.type!r}; this release runs 'smolvla'"
        )
    config.device = device
    overrides: dict[str, Any] = {"device_processor": {"device": device}}
    post_overrides: dict[str, Any] = {}
    # A checkpoint that brings its own small VLM names it relative to itself.
    own_vlm = folder / config.vlm_model_name
    if own_vlm.is_dir():
        config.vlm_model_name = str(own_vlm)
        overrides["tokenizer_processor"] = {"tokenizer_name": str(own_vlm)}
    try:
        policy = get_policy_class(config.type).from_pretrained(
            str(folder), config=config, strict=True
        )
        preprocess, postprocess = make_pre_post_processors(
            config,
            pretrained_path=str(folder),
            preprocessor_overrides=overrides,
            postprocessor_overrides=post_overrides,
        )
    except Exception as error:
        raise CheckpointError(f"{folder}: {_first_line(error)}") from error
    checkpoint = Checkpoint(folder, config, policy, preprocess, postprocess)
    problems = _skipped_statistics(checkpoint)
    if problems:
        raise CheckpointError([f"{folder}: {p}" for p in problems])
    return checkpoint


def check_features(checkpoint: Checkpoint, cameras: Mapping[str, str], joints: int) -> list[str]:
    """Findings where a cell does not fit a checkpoint.

    Args:
        cameras: camera name → feature name it feeds. joints: entries of state and action.
    """
    known = checkpoint.images
    problems = [
        f"cameras.{name}.feature: the checkpoint knows no {feature!r}; it knows: {', '.join(known)}"
        for name, feature in cameras.items()
        if feature not in known
    ]
    problems += [
        f"cameras: no camera feeds the checkpoint's {feature!r}; add one with that feature"
        for feature in known
        if feature not in cameras.values()
    ]
    features = list(cameras.values())
    problems += [
        f"cameras: {feature!r} is fed by several cameras; one feature, one camera"
        for feature in sorted({f for f in features if features.count(f) > 1})
    ]
    for what, size in (("state", checkpoint.state_size), ("action", checkpoint.action_size)):
        if size != joints:
            problems.append(
                f"joint_order: has {joints} joints; the checkpoint's {what} has {size} entries"
            )
    return problems


def _skipped_statistics(checkpoint: Checkpoint) -> list[str]:
    """Statistics that are needed and not there: LeRobot would pass the values through."""
    mapping = checkpoint.config.normalization_mapping
    problems = []
    for pipeline, key, kind in (
        (checkpoint.preprocess, OBS_STATE, "STATE"),
        (checkpoint.postprocess, ACTION, "ACTION"),
    ):
        wanted = _STATISTICS.get(mapping.get(kind, NormalizationMode.IDENTITY))
        if wanted is None:
            continue
        found: dict[str, Any] = {}
        for step in pipeline.steps:
            # A step whose own norm_map says otherwise does not use its statistics.
            if getattr(step, "norm_map", {}).get(FeatureType[kind]) == mapping[kind]:
                found.update(step.stats or {})
        if not all(name in found.get(key, {}) for name in wanted):
            problems.append(
                f"no statistics {' and '.join(wanted)} under {key!r}: LeRobot would skip the "
                f"(un)normaliser and send raw model output; found: {', '.join(found) or 'none'}"
            )
    return problems


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3]) or repr(error)
