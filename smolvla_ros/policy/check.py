"""Whether a checkpoint fits a cell: everything that can be told before anything moves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lerobot.configs import FeatureType
from lerobot.utils.constants import ACTION, OBS_STATE

from smolvla_ros.finding import Finding, errors
from smolvla_ros.policy import resources, units
from smolvla_ros.policy.checkpoint import (
    Checkpoint,
    CheckpointError,
    find_checkpoint,
    load_checkpoint,
)
from smolvla_ros.policy.files import WEIGHTS
from smolvla_ros.robot import RobotModel
from smolvla_ros.schema import ConfigError

if TYPE_CHECKING:
    from smolvla_ros.cell import VlaConfig

_SPARE = 500e6  # bytes that a machine should have left beside a policy


def load_checked(
    config: VlaConfig, robot: RobotModel, path: Path | None
) -> tuple[Checkpoint, list[Finding]]:
    """The checkpoint that a cell names, and what was found without an error among it.

    Args:
        path: the cell file, or None; a folder is named relative to it.

    Raises:
        ConfigError: every error found, a line each, naming file, key and what to change.
    """
    checkpoint, findings = examine(config, robot, path)
    found = errors(findings)
    if checkpoint is None or found:
        raise ConfigError([f"{path or 'parameters'}: vla.{finding}" for finding in found])
    return checkpoint, findings


def examine(
    config: VlaConfig, robot: RobotModel, path: Path | None
) -> tuple[Checkpoint | None, list[Finding]]:
    """As :func:`load_checked`, but errors are findings too; None where nothing was loaded."""
    problem = resources.device_problem(config.device)
    if problem:
        return None, [Finding("error", "device", problem, "write one that is there, or cpu")]
    base = path.parent if path else Path.cwd()
    try:
        folder = find_checkpoint(config.checkpoint, base, config.revision)
        size, free = (folder / WEIGHTS).stat().st_size, resources.free_bytes(config.device)
        if size > free:
            text = f"{_mega(size)} of weights, but {_mega(free)} are free on {config.device}"
            return None, [Finding("error", "device", text, "end what else takes memory")]
        checkpoint = load_checkpoint(folder, config.device, config.statistics)
    except CheckpointError as error:
        return None, check(error, config, robot)
    return checkpoint, check(checkpoint, config, robot)


def check(
    checkpoint: Checkpoint | CheckpointError, config: VlaConfig, robot: RobotModel
) -> list[Finding]:
    """Whether a checkpoint, or what came of loading it, fits a cell.

    Subjects are keys of the cell's ``vla`` section, or parts of the checkpoint.
    """
    if isinstance(checkpoint, CheckpointError):
        return [Finding("error", "checkpoint", problem) for problem in checkpoint.problems]
    return [
        Finding("ok", "checkpoint", f"{checkpoint.type} {checkpoint.hash}, {checkpoint.folder}"),
        *_features(checkpoint),
        *_cameras(checkpoint, config),
        *_joints(checkpoint, config),
        *_units(checkpoint, config, robot),
        *_chunk(checkpoint, config),
        *_machine(checkpoint, config),
    ]


def _features(checkpoint: Checkpoint) -> Iterator[Finding]:
    for name, feature in checkpoint.config.input_features.items():
        fed = FeatureType(feature.type) in (FeatureType.VISUAL, FeatureType.LANGUAGE)
        if not fed and name != OBS_STATE:
            yield Finding("error", "checkpoint", f"wants {name!r}, which nothing in a cell feeds",
                          "take a policy of pictures, joint positions and words")  # fmt: skip
    names = checkpoint.tokenizers
    text = ", ".join(names) if names else "none: it takes no instruction"
    yield Finding("ok", "tokenizer", text)


def _cameras(checkpoint: Checkpoint, config: VlaConfig) -> Iterator[Finding]:
    sizes = checkpoint.image_sizes
    features = [camera.feature for camera in config.cameras.values()]
    for name, camera in config.cameras.items():
        if camera.feature not in sizes:
            yield Finding("error", f"cameras.{name}.feature",
                          f"the checkpoint knows no {camera.feature!r}",
                          f"it knows: {', '.join(sizes) or 'no pictures'}")  # fmt: skip
            continue
        height, width = sizes[camera.feature]
        other = "or resized" if checkpoint.resizes else "no other size"
        size = f"{width}x{height}, {other}"
        text = f"{camera.topic} ({camera.transport}) feeds {camera.feature}, {size}"
        yield Finding("ok", f"cameras.{name}", text)
    for feature in sizes:
        if feature not in features:
            yield Finding("error", "cameras", f"no camera feeds the checkpoint's {feature!r}",
                          "add one with that feature")  # fmt: skip
    for feature in sorted({f for f in features if features.count(f) > 1}):
        yield Finding("error", "cameras", f"{feature!r} is fed by several cameras",
                      "one feature, one camera")  # fmt: skip


def _joints(checkpoint: Checkpoint, config: VlaConfig) -> Iterator[Finding]:
    order = config.joint_order
    fits = True
    for what, size in (("state", checkpoint.state_size), ("action", checkpoint.action_size)):
        if size != len(order) and (what == "action" or size):
            fits = False
            yield Finding("error", "joint_order",
                          f"has {len(order)} joints; the checkpoint's {what} has {size} entries",
                          "name the joints it was trained on, in its order")  # fmt: skip
    if not fits:
        return
    given = getattr(checkpoint.config, "action_feature_names", None) or []
    names = [str(name).removesuffix(".pos") for name in given]
    if names and names != order:
        # Names are the data's own; where they are the same in another order, that order counts.
        same = sorted(names) == sorted(order)
        yield Finding(
            "error" if same else "warning",
            "joint_order",
            f"is {', '.join(order)}; the checkpoint's action is {', '.join(names)}",
            "write its order" if same else "see that each is the same joint",
        )
        return
    shown = "state and action" if checkpoint.state_size else "action; it is shown no state"
    known = "as the checkpoint names them" if names else "the checkpoint carries no names"
    yield Finding("ok", "joint_order", f"{', '.join(order)}: {shown} ({known})")


def _units(checkpoint: Checkpoint, config: VlaConfig, robot: RobotModel) -> list[Finding]:
    sizes = {checkpoint.action_size, checkpoint.state_size or checkpoint.action_size}
    if sizes != {len(config.joint_order)}:
        return []  # nothing to judge entry by entry
    features = [ACTION] if checkpoint.absolute else []
    features += [OBS_STATE] if checkpoint.state_size else []
    data = {feature: checkpoint.statistics(feature) for feature in features}
    return units.judge(config.units(), robot.limits_by_name(), data)


def _chunk(checkpoint: Checkpoint, config: VlaConfig) -> Iterator[Finding]:
    rows = checkpoint.chunk_size
    lasts = rows / config.chunk_rate
    text = f"{rows} rows at {config.chunk_rate:g} Hz, the rate of the data: {lasts:.2f} s"
    yield Finding("ok", "chunk_rate", text)
    if config.period >= lasts:
        yield Finding("error", "period", f"is {config.period:g} s, but a chunk lasts {lasts:.2f} s",
                      "write a shorter one, or the arm stops between chunks")  # fmt: skip
    if config.execution_horizon > rows:
        yield Finding("warning", "execution_horizon",
                      f"is {config.execution_horizon} rows; a chunk has {rows}",
                      "it joins over as many as it can")  # fmt: skip
    guided = checkpoint.supports_rtc
    if config.chunking == "rtc" and not guided:
        yield Finding("error", "chunking", f"is rtc, which {checkpoint.type} cannot do",
                      "write auto or blend")  # fmt: skip
    else:
        how = "real-time chunking" if guided and config.chunking != "blend" else "blending"
        yield Finding("ok", "chunking", how)
    if checkpoint.observation_steps > 1:
        yield Finding(
            "ok",
            "observations",
            f"{checkpoint.observation_steps} at once, {1 / config.chunk_rate:.3g} s apart",
        )


def _machine(checkpoint: Checkpoint, config: VlaConfig) -> Iterator[Finding]:
    yield Finding("ok", "device", config.device)
    free = resources.free_bytes(config.device)
    yield Finding(
        "ok" if free > _SPARE else "warning",
        "memory",
        f"{checkpoint.parameters / 1e6:.1f} M parameters, {_mega(checkpoint.bytes)}; this process "
        f"{_mega(resources.resident_bytes())}, {_mega(free)} free on {config.device}",
        "" if free > _SPARE else "end what else takes memory",
    )


def _mega(size: float) -> str:
    return f"{size / 1e6:.0f} MB"
