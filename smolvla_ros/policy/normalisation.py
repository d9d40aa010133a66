"""The statistics that LeRobot's (un)normaliser needs, and those that a checkpoint has.

LeRobot passes a value through unchanged where its statistics are missing or stand under
another name: the arm would be sent z-scores. Here that is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from lerobot.configs import FeatureType, NormalizationMode, PreTrainedConfig
from lerobot.utils.constants import ACTION, OBS_STATE
from safetensors.numpy import load_file

_NEEDED = {
    NormalizationMode.MEAN_STD: ("mean", "std"),
    NormalizationMode.MIN_MAX: ("min", "max"),
    NormalizationMode.QUANTILES: ("q01", "q99"),
    NormalizationMode.QUANTILE10: ("q10", "q90"),
}
EMPTY_CAMERA = "observation.images.empty_camera_"
"""Features that LeRobot masks out by itself; no camera feeds them."""


def select(folder: Path, steps: list[dict[str, Any]], prefix: str) -> dict[str, dict[str, Any]]:
    """Overrides that make a processor use the statistics of one data set.

    Args:
        steps: of ``files.read_steps``. prefix: what stands before ``.action`` and
            ``.observation.state`` in the names of that data set's statistics.

    Returns:
        Registry name of a step → its constructor's ``stats``. Statistics under the plain
        names stay where the data set has none of its own.
    """
    overrides: dict[str, dict[str, Any]] = {}
    for step in steps:
        if "norm_map" not in step["config"] or not step.get("state_file"):
            continue
        plain: dict[str, dict[str, np.ndarray]] = {}
        chosen: dict[str, dict[str, np.ndarray]] = {}
        for name, value in load_file(folder / step["state_file"]).items():
            key, statistic = name.rsplit(".", 1)
            table, feature = plain, key
            if key.startswith(prefix + "."):
                table, feature = chosen, _feature(key[len(prefix) + 1 :])
            table.setdefault(feature, {})[statistic] = value
        overrides[step["registry_name"]] = {"stats": plain | chosen}
    return overrides


def names(folder: Path, step: dict[str, Any]) -> list[str]:
    """Features that a step's file has statistics of."""
    return [name.rsplit(".", 1)[0] for name in load_file(folder / step["state_file"])]


def prefixes(names: list[str]) -> list[str]:
    """Prefixes under which statistics of an action or a state stand."""
    found = set()
    for name in names:
        for feature in (ACTION, OBS_STATE):
            if _feature(name).endswith("." + feature):
                found.add(name[: -len(feature) - 1])
    return sorted(found)


def problems(config: PreTrainedConfig, preprocess: Any, postprocess: Any) -> list[str]:
    """One line for every feature whose statistics are missing, unused or no numbers."""
    wanted = [(preprocess, name, feature) for name, feature in config.input_features.items()]
    wanted += [(postprocess, name, feature) for name, feature in config.output_features.items()]
    found = []
    for pipeline, name, feature in wanted:
        kind = FeatureType(feature.type)
        mode = config.normalization_mapping.get(kind.value, NormalizationMode.IDENTITY)
        if mode not in _NEEDED or name.startswith(EMPTY_CAMERA):
            continue
        known, used = _tables(pipeline, name, kind, mode)
        lacks = [word for word in _NEEDED[mode] if word not in used]
        if lacks:
            found.append(_missing(name, kind, _NEEDED[mode], known))
            continue
        found += [
            f"statistics {word} under {name!r} are no numbers: {used[word].tolist()}"
            for word in _NEEDED[mode]
            if not np.isfinite(used[word]).all()
        ]
        size = feature.shape[0]
        found += [
            f"statistics {word} under {name!r} have {used[word].size} entries; it has {size}"
            for word in _NEEDED[mode]
            if used[word].size not in (1, size)
        ]
    return found


def of(pipeline: Any, name: str) -> dict[str, np.ndarray]:
    """Statistics that a processor holds of a feature: name → ``[D]``; empty without any."""
    found: dict[str, np.ndarray] = {}
    for step in pipeline.steps:
        if hasattr(step, "norm_map"):
            found |= {k: _flat(v) for k, v in (step.stats or {}).get(name, {}).items()}
    return found


def _tables(
    pipeline: Any, name: str, kind: FeatureType, mode: NormalizationMode
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Names of everything that a processor has statistics of, and those that it will use."""
    known: list[str] = []
    used: dict[str, np.ndarray] = {}
    for step in pipeline.steps:
        # A step whose own norm_map says otherwise does not use its statistics.
        if getattr(step, "norm_map", {}).get(kind) != mode:
            continue
        known += step.stats or {}
        chosen = step.normalize_observation_keys
        applies = kind is FeatureType.ACTION or (
            name in step.features and (chosen is None or name in chosen)
        )
        if applies:
            used |= {k: _flat(v) for k, v in (step.stats or {}).get(name, {}).items()}
    return known, used


def _missing(name: str, kind: FeatureType, wanted: tuple[str, ...], known: list[str]) -> str:
    what = "send raw model output" if kind is FeatureType.ACTION else "show it raw to the model"
    text = (
        f"no statistics {' and '.join(wanted)} under {name!r}: LeRobot would skip the "
        f"(un)normaliser and {what}; found: {', '.join(known) or 'none'}"
    )
    ways = [p for p in prefixes(known) if any(_feature(k) == f"{p}.{name}" for k in known)]
    if ways:
        text += f"; `statistics: {ways[0]}` would select one"
        text += f" (or {', '.join(ways[1:])})" if ways[1:] else ""
    return text


def _feature(name: str) -> str:
    # LeRobot's own buffers, which older checkpoints were made from, write _ for the dots.
    return name.replace(OBS_STATE.replace(".", "_"), OBS_STATE)


def _flat(value: Any) -> np.ndarray:
    return np.asarray(value, dtype=float).reshape(-1)
