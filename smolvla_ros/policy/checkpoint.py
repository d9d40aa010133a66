"""A LeRobot checkpoint of any type, loaded whole and checked before anything may move.

What LeRobot would let pass in silence is refused here: weights that are missing, and
statistics that the (un)normaliser does not find and therefore skips, which sends z-scores to
the motors.
"""

from __future__ import annotations

import importlib
import os
import re
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies.factory import make_pre_post_processors
from lerobot.processor import ProcessorStepRegistry
from lerobot.utils.constants import ACTION

from smolvla_ros.policy import files, normalisation
from smolvla_ros.policy.files import CheckpointError
from smolvla_ros.policy.strictness import first_lines, load_policy, only_safetensors

__all__ = ["Checkpoint", "CheckpointError", "find_checkpoint", "load_checkpoint"]

_DEVICE_STEP = "device_processor"
_TOKENIZER = "tokenizer_name"
# Settings of policies that bring a picture to their own size, keeping its shape.
_RESIZING = ("resize_imgs_with_padding", "image_resolution")


@dataclass(frozen=True)
class Checkpoint:
    """A policy with its processors, ready to infer on ``config.device``.

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
    def type(self) -> str:
        """LeRobot's name of the kind of policy."""
        return self.config.type

    @cached_property
    def hash(self) -> str:
        """12 digits that weights, configuration, processors and statistics are known by."""
        return files.digest(self.folder)

    @property
    def image_sizes(self) -> dict[str, tuple[int, int]]:
        """Feature name of each picture it wants → (height, width) it learned from."""
        return {
            name: (int(feature.shape[1]), int(feature.shape[2]))
            for name, feature in self.config.image_features.items()
            if not name.startswith(normalisation.EMPTY_CAMERA)
        }

    @property
    def images(self) -> list[str]:
        """Feature names of the pictures it wants."""
        return list(self.image_sizes)

    @property
    def resizes(self) -> bool:
        """Whether it brings pictures of another size to its own by itself."""
        return any(getattr(self.config, name, None) for name in _RESIZING) or any(
            getattr(step, "resize_size", None) for step in self.preprocess.steps
        )

    @property
    def state_size(self) -> int:
        """Entries of the state vector; 0 for a policy that is shown none."""
        feature = self.config.robot_state_feature
        return 0 if feature is None else int(feature.shape[0])

    @property
    def action_size(self) -> int:
        """Entries of an action."""
        return int(self.config.action_feature.shape[0])

    @property
    def chunk_size(self) -> int:
        """Rows of a chunk as ``predict_action_chunk`` returns it."""
        # A planner returns its whole horizon, the others that have one n_action_steps of it.
        if getattr(self.config, "use_mpc", False):
            return int(self.config.horizon)
        for name in ("chunk_size", "action_chunk_size", "n_action_steps"):
            if hasattr(self.config, name):
                return int(getattr(self.config, name))
        return 1

    @property
    def observation_steps(self) -> int:
        """Observations it is shown at once, at the data's rate: 1 for most."""
        return int(self.config.n_obs_steps)

    @property
    def supports_rtc(self) -> bool:
        """Whether it can be guided to the chunk before: real-time chunking."""
        return bool(self.policy.supports_rtc())

    @property
    def tokenizers(self) -> list[str]:
        """Tokenizers that its processors use: none where it takes no instruction."""
        return [
            str(name)
            for step in self.preprocess.steps
            if (name := getattr(step, _TOKENIZER, None)) is not None
        ]

    @property
    def parameters(self) -> int:
        """Weights of the policy."""
        return sum(p.numel() for p in self.policy.parameters())

    @property
    def bytes(self) -> int:
        """Memory that the weights take."""
        return sum(p.numel() * p.element_size() for p in self.policy.parameters())

    def statistics(self, feature: str) -> dict[str, np.ndarray]:
        """``mean``, ``std``, ``min`` … of ``action`` or ``observation.state``, ``[D]`` each, in
        the units of the data; empty where it has none."""
        pipeline = self.postprocess if feature == ACTION else self.preprocess
        return normalisation.of(pipeline, feature)

    @property
    def absolute(self) -> bool:
        """Whether its statistics of actions are those of positions, not of differences."""
        return not any("relative" in type(s).__name__.lower() for s in self.preprocess.steps)


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
    lacks = files.missing(folder)
    if lacks:
        raise CheckpointError([f"{folder}: {problem}" for problem in lacks])
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


def load_checkpoint(folder: Path, device: str = "cpu", statistics: str | None = None) -> Checkpoint:
    """Load policy, pre- and post-processor.

    Args:
        device: torch's name of it. statistics: which of several data sets' to use: what stands
            before ``.action`` in their names.

    Raises:
        CheckpointError: files that are missing or would run code, a type that LeRobot has
            not, weights that do not fit, or statistics that would be skipped.
    """
    folder = Path(folder)
    try:
        return _load(folder, device, statistics)
    except CheckpointError as error:
        raise CheckpointError([f"{folder}: {p}" for p in error.problems]) from error


def _load(folder: Path, device: str, prefix: str | None) -> Checkpoint:
    lacks = files.missing(folder)
    if lacks:
        raise CheckpointError(lacks)
    steps = {pipeline: files.read_steps(folder, pipeline) for pipeline in files.PIPELINES}
    config = _read_config(folder)
    config.device = device
    # Actions come back to the CPU, wherever they were computed.
    devices = {"pre": device, "post": "cpu"}
    overrides = {p: _overrides(folder, steps[p], devices[p]) for p in steps}
    if prefix:
        _select(folder, steps, prefix, overrides)
    _resolve_names(config, folder)
    try:
        with only_safetensors():
            _registered(config, steps)
            policy = load_policy(config, folder)
            preprocess, postprocess = make_pre_post_processors(
                config,
                pretrained_path=str(folder),
                preprocessor_overrides=overrides["pre"],
                postprocessor_overrides=overrides["post"],
            )
    except CheckpointError:
        raise
    except Exception as error:  # LeRobot and what it builds on raise many unrelated types
        problems = _tokenizer_problems(steps["pre"], overrides["pre"])
        raise CheckpointError(problems or first_lines(error)) from error
    found = normalisation.problems(config, preprocess, postprocess)
    if found:
        raise CheckpointError(found)
    return Checkpoint(folder, config, policy, preprocess, postprocess)


def _read_config(folder: Path) -> PreTrainedConfig:
    try:
        config = PreTrainedConfig.from_pretrained(str(folder))
    except Exception as error:  # draccus, json and LeRobot raise many unrelated types
        raise CheckpointError(f"{files.CONFIG}: {first_lines(error)}") from error
    if config.use_peft:
        raise CheckpointError("is an adapter (use_peft): merge it into its base and save that")
    if config.action_feature is None:
        raise CheckpointError(f"{files.CONFIG}: has no output feature {ACTION!r}")
    return config


def _overrides(folder: Path, steps: list[dict[str, Any]], device: str) -> dict[str, dict[str, Any]]:
    """What a processor is told other than its file says: the device, and where a tokenizer lies
    that the checkpoint brings and names relative to itself."""
    found: dict[str, dict[str, Any]] = {}
    for step in steps:
        name, config = step["registry_name"], step["config"]
        if name == _DEVICE_STEP and "device" in config:
            found[name] = {"device": device}
            continue
        own = {
            key: str(folder / value)
            for key, value in config.items()
            if key.endswith("_name") and _brought(folder, value)
        }
        if own:
            found[name] = own
    return found


def _select(folder: Path, steps: Any, prefix: str, overrides: dict[str, dict[str, Any]]) -> None:
    names: list[str] = []
    for pipeline, those in steps.items():
        chosen = normalisation.select(folder, those, prefix)
        for step in those:
            if step["registry_name"] in chosen:
                names += normalisation.names(folder, step)
        for step_name, changes in chosen.items():
            overrides[pipeline][step_name] = overrides[pipeline].get(step_name, {}) | changes
    known = normalisation.prefixes(names)
    if prefix not in known:
        raise CheckpointError(
            f"has no statistics of a data set {prefix!r}; it has those of: "
            f"{', '.join(known) or 'none by name'}"
        )


def _resolve_names(config: PreTrainedConfig, folder: Path) -> None:
    """Models that the checkpoint brings are named relative to it."""
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name.endswith("_name") and _brought(folder, value):
            setattr(config, field.name, str(folder / value))


def _brought(folder: Path, value: Any) -> bool:
    return isinstance(value, str) and value not in ("", ".") and (folder / value).is_dir()


def _registered(config: PreTrainedConfig, steps: dict[str, list[dict[str, Any]]]) -> None:
    """Refuse steps that neither LeRobot nor the policy's own processor module registers."""
    module = type(config).__module__.replace("configuration_", "processor_")
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
    known = ProcessorStepRegistry.list()
    problems = [
        f"{files.PIPELINES[pipeline]}: step {step['registry_name']!r} is registered by neither "
        f"LeRobot nor its policy {config.type!r}"
        for pipeline, those in steps.items()
        for step in those
        if step["registry_name"] not in known
    ]
    if problems:
        raise CheckpointError(problems)


def _tokenizer_problems(
    steps: list[dict[str, Any]], overrides: dict[str, dict[str, Any]]
) -> list[str]:
    """Tokenizers that cannot be had, where something could not be loaded."""
    problems = []
    for step in steps:
        name = (step["config"] | overrides.get(step["registry_name"], {})).get(_TOKENIZER)
        if name is None:
            continue
        from transformers import AutoTokenizer

        try:
            AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        except Exception as error:  # the hub client raises many unrelated types
            problems.append(
                f"tokenizer {name!r}: neither in this folder nor to be had from the hub "
                f"({first_lines(error)}); put it beside the weights and name it in "
                f"{files.PIPELINES['pre']}"
            )
    return problems
