"""Loads a LeRobot policy whole or not at all, and runs nothing that the files bring.

Some policies of LeRobot print what went wrong with their weights and go on with random ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies.factory import get_policy_class
from safetensors import safe_open

from smolvla_ros.policy.files import WEIGHTS, CheckpointError


@contextlib.contextmanager
def only_safetensors() -> Iterator[None]:
    """While it lasts, whatever would unpickle weights or import code from a model's
    repository fails: some policies ask for both with no key of their configuration."""

    def refuse(*_args: Any, **_keys: Any) -> None:
        raise CheckpointError("asks for pickled weights or for code from a model's repository")

    with contextlib.ExitStack() as stack:
        places: list[tuple[Any, str]] = [(torch, "load")]
        with contextlib.suppress(ImportError):  # policies without language need none
            from transformers import dynamic_module_utils

            places.append((dynamic_module_utils, "get_class_in_module"))
        for module, name in places:
            stack.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, refuse)
        yield


def load_policy(config: PreTrainedConfig, folder: Path) -> torch.nn.Module:
    """The policy with every weight from ``folder``, in evaluation mode, on ``config.device``.

    Raises:
        CheckpointError: tensors that are missing, left over, renamed or of another shape.
    """
    kind = get_policy_class(config.type)
    problems: list[str] = []
    loaded: list[str] = []

    class Whole(kind):  # type: ignore[misc,valid-type]
        """Keeps what LeRobot may print and forget."""

        def load_state_dict(self, state_dict: Any, *args: Any, **keys: Any) -> Any:
            """As torch's; names that do not meet are a problem for good."""
            try:
                found = super().load_state_dict(state_dict, *args, **keys)
            except RuntimeError as error:
                problems.append(first_lines(error))
                raise
            loaded.extend(state_dict)
            lacks = _without_aliases(self.state_dict(), found.missing_keys, loaded)
            for word, names in (("missing", lacks), ("unexpected", found.unexpected_keys)):
                if names:
                    problems.append(f"{word} tensors: {_some(names)}")
            return found

    Whole.__name__ = kind.__name__
    own_vlm_weights = _spare_other_weights(config)
    policy = Whole.from_pretrained(str(folder), config=config, strict=False)
    if problems:
        raise CheckpointError([f"{WEIGHTS}: {problem}" for problem in problems])
    if not loaded:
        raise CheckpointError(f"{WEIGHTS}: LeRobot's {config.type} read none of its tensors")
    policy.__class__ = kind
    if own_vlm_weights:
        _cast_as_stored(policy, folder)
    return policy.to(config.device).eval()


def first_lines(error: BaseException) -> str:
    """What an error says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3]) or repr(error)


def _spare_other_weights(config: PreTrainedConfig) -> bool:
    """Leave out weights that would be fetched only to be overwritten by the checkpoint's own;
    LeRobot would unpickle some of them. Returns whether a VLM's were among them."""
    if getattr(config, "pretrained_backbone_weights", None) is not None:
        config.pretrained_backbone_weights = None
    if getattr(config, "load_vlm_weights", False):
        config.load_vlm_weights = False
        return True
    return False


def _cast_as_stored(policy: torch.nn.Module, folder: Path) -> None:
    # A VLM that LeRobot loads itself comes in half precision, one that it builds does not.
    with safe_open(folder / WEIGHTS, "pt") as file:
        stored = set(file.keys())
        for name, parameter in policy.named_parameters():
            if name in stored:
                parameter.data = parameter.data.to(file.get_tensor(name).dtype)


def _without_aliases(
    own: dict[str, torch.Tensor], missing: list[str], loaded: list[str]
) -> list[str]:
    """Names that no loaded name shares its memory with: safetensors stores tied tensors once."""
    there = {own[name].data_ptr() for name in loaded if name in own}
    return [name for name in missing if own[name].numel() and own[name].data_ptr() not in there]


def _some(names: list[str]) -> str:
    shown = ", ".join(f'"{name}"' for name in sorted(names)[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
