"""What lies in a checkpoint's folder, judged before LeRobot reads any of it.

Nothing that is loaded may run code: weights come from safetensors alone, a processor step is
one that LeRobot registered and never a class that the file names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CONFIG, WEIGHTS = "config.json", "model.safetensors"
PIPELINES = {"pre": "policy_preprocessor.json", "post": "policy_postprocessor.json"}
FILES = (CONFIG, WEIGHTS, *PIPELINES.values())
_PICKLED = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}


class CheckpointError(ValueError):
    """A checkpoint that cannot be trusted; one line a finding in ``problems``."""

    def __init__(self, problems: list[str] | str):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


def missing(folder: Path) -> list[str]:
    """Files of a checkpoint that ``folder`` lacks: at most one line, with what to do."""
    lacks = [name for name in FILES if not (folder / name).is_file()]
    if not lacks:
        return []
    fix = "save policy and processors together with LeRobot's save_pretrained"
    pickled = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLED)
    if WEIGHTS in lacks and pickled:
        fix = (
            f"{', '.join(pickled)} could run code when it is read; save the weights as safetensors"
        )
    elif (folder / "adapter_model.safetensors").is_file():
        fix = "it is an adapter: merge it into its base model and save that"
    elif WEIGHTS not in lacks and CONFIG not in lacks:
        fix = (
            "LeRobot's module lerobot.processor.migrate_policy_normalization makes them from "
            "the statistics of an older checkpoint"
        )
    return [f"lacks {', '.join(lacks)}; {fix}"]


def read_steps(folder: Path, pipeline: str) -> list[dict[str, Any]]:
    """The steps of a processor (a key of :data:`PIPELINES`): each has a ``registry_name``,
    and a ``config``, which may be empty.

    Raises:
        CheckpointError: no processor file, or one that asks for code or files from elsewhere.
    """
    name = PIPELINES[pipeline]
    try:
        document = json.loads((folder / name).read_text())
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{name}: is no JSON ({error})") from error
    steps = document.get("steps") if isinstance(document, dict) else None
    if not isinstance(steps, list) or not all(isinstance(s, dict) for s in steps):
        raise CheckpointError(f"{name}: has no list of steps")
    problems = [f"{name}: {problem}" for s in steps for problem in _step_problems(folder, s)]
    if problems:
        raise CheckpointError(problems)
    return [{**step, "config": step.get("config") or {}} for step in steps]


def _step_problems(folder: Path, step: dict[str, Any]) -> Iterator[str]:
    if "registry_name" not in step:
        yield (
            f"a step names the class {step.get('class')!r}, which would be imported and run; only "
            "steps by registry_name are taken"
        )
        return
    shown = f"step {step['registry_name']!r}"
    if not isinstance(step.get("config") or {}, dict):
        yield f"{shown}: its config is no group of keys"
    elif _asks_for_code(step.get("config")):
        yield f"{shown}: asks for trust_remote_code, to run code that comes with a model"
    state = step.get("state_file")
    if state is None:
        return
    if (
        not isinstance(state, str)
        or Path(state).name != state
        or not state.endswith(".safetensors")
    ):
        yield f"{shown}: its state_file {state!r} is no safetensors file of this folder"
    elif not (folder / state).is_file():
        yield f"{shown}: {state} is missing; it holds its statistics"


def _asks_for_code(value: Any) -> bool:
    if isinstance(value, dict):
        return any(
            (k == "trust_remote_code" and bool(v)) or _asks_for_code(v) for k, v in value.items()
        )
    return isinstance(value, list) and any(_asks_for_code(v) for v in value)


def digest(folder: Path) -> str:
    """The first 12 digits of a sha256 over weights, configuration, processors and their
    statistics: what a checkpoint is known by."""
    states = [
        step["state_file"]
        for pipeline in PIPELINES
        for step in read_steps(folder, pipeline)
        if step.get("state_file")
    ]
    whole = hashlib.sha256()
    for name in sorted({*FILES, *states}):
        with (folder / name).open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()[:12]
