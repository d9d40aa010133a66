"""What a LeRobotDataset holds, read from its few small files, and how it differs from a cell."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smolvla_ros.schema import ConfigError

if TYPE_CHECKING:
    from smolvla_ros.cell import Cell

STATE, ACTION = "observation.state", "action"
INFO, STATS = Path("meta/info.json"), Path("meta/stats.json")
UNITS = Path("meta/smolvla_ros.json")
"""Beside LeRobot's own files: what they have no place for."""

VERSION = "v3.0"
_NEEDED = ("fps", "features", "total_episodes", "total_frames")
_AXES = ("height", "width", "channels")
_SUFFIX = ".pos"  # LeRobot's names of joint positions


@dataclass(frozen=True, kw_only=True)
class Description:
    """What the frames of a dataset are.

    Attributes:
        fps: frames a second. state, action: joint names, in the order of the numbers.
        cameras: feature → (height, width) in pixels; None where it may be any.
        units: joint → ``degrees``, ``radians`` or ``percent``; empty where nobody wrote them.
        robot: the kind of robot, in LeRobot's words ``robot_type``.
        video: whether pictures are kept as video (lossy).
        episodes, frames: how many there are.
    """

    fps: float
    state: tuple[str, ...]
    action: tuple[str, ...]
    cameras: Mapping[str, tuple[int, int] | None]
    units: Mapping[str, str]
    robot: str = ""
    video: bool = False
    episodes: int = field(default=0, compare=False)
    frames: int = field(default=0, compare=False)


def describe(folder: str | Path) -> Description:
    """The dataset in ``folder``.

    Raises:
        ConfigError: there is none, or one of another format.
    """
    folder = Path(folder)
    info = _read(folder, INFO)
    version = info.get("codebase_version")
    if version != VERSION:
        raise ConfigError(
            f"{folder}: is of format {version}, {VERSION} is read; LeRobot converts older ones"
        )
    if lacking := [k for k in _NEEDED if k not in info]:
        raise ConfigError(f"{folder}: {INFO} has no {', '.join(lacking)}")
    features = info["features"]
    for name in (STATE, ACTION):
        if name not in features:
            raise ConfigError(f"{folder}: has no feature {name}; it has: {', '.join(features)}")
    pictures = {f: v for f, v in features.items() if v["dtype"] in ("image", "video")}
    return Description(
        fps=info["fps"],
        state=_joints(features[STATE]),
        action=_joints(features[ACTION]),
        cameras={f: _size(folder, f, v) for f, v in pictures.items()},
        units=_read(folder, UNITS)["units"] if (folder / UNITS).is_file() else {},
        robot=info.get("robot_type") or "",
        video=any(v["dtype"] == "video" for v in pictures.values()),
        episodes=info["total_episodes"],
        frames=info["total_frames"],
    )


def of_cell(
    cell: Cell,
    sizes: Mapping[str, tuple[int, int]] | None = None,
    robot: str = "",
    video: bool = False,
) -> Description:
    """What the frames of a cell are.

    Args:
        sizes: feature → (height, width) in pixels, where known.

    Raises:
        ConfigError: a cell without a policy's section.
    """
    vla = cell.vla
    if vla is None:
        raise ConfigError(
            f"{cell.path}: no section /**/vla: cameras, joint order and units are there"
        )
    features = [camera.feature for camera in vla.cameras.values()]
    return Description(
        fps=vla.chunk_rate,
        state=tuple(vla.joint_order),
        action=tuple(vla.joint_order),
        cameras={f: (sizes or {}).get(f) for f in features},
        units={name: vla.joint_map[name].unit for name in vla.joint_order},
        robot=robot,
        video=video,
    )


def check_dataset(
    folder: str | Path, cell: Cell, sizes: Mapping[str, tuple[int, int]] | None = None
) -> list[str]:
    """How the dataset in ``folder`` differs from what ``cell`` reads and sends: joint order,
    rate, cameras and their sizes, units; one line each, none where it fits.

    Where nobody wrote the units into the dataset, its statistics are judged as those of a
    checkpoint are.

    Args:
        sizes: feature → (height, width) in pixels, where something insists on them.

    Raises:
        ConfigError: no dataset, or no policy in the cell.
    """
    folder = Path(folder)
    found, wanted = describe(folder), of_cell(cell, sizes)
    problems = differences(found, wanted, "the cell")
    if not found.units and not problems:
        problems += _judged(folder, cell)
    return [f"{folder}: {problem}" for problem in problems]


def differences(found: Description, wanted: Description, who: str) -> list[str]:
    """What in ``found`` is not as ``wanted``, a line each; ``who`` wants it."""
    problems = []
    if found.fps != wanted.fps:
        problems.append(f"rate: {found.fps:g} Hz, {who} has {wanted.fps:g}")
    for name in ("state", "action"):
        there, here = getattr(found, name), getattr(wanted, name)
        if there != here:
            what = "joint order" if sorted(there) == sorted(here) else "joints"
            problems.append(f"{what} of {name}: {_list(there)}; {who} has {_list(here)}")
    missing = [f for f in wanted.cameras if f not in found.cameras]
    more = [f for f in found.cameras if f not in wanted.cameras]
    if missing or more:
        problems.append(f"cameras: {_list(found.cameras)}; {who} has {_list(wanted.cameras)}")
    for feature in wanted.cameras:
        there, here = found.cameras.get(feature), wanted.cameras[feature]
        if None not in (there, here) and tuple(there) != tuple(here):
            problems.append(
                f"size of {feature}: {there[1]}x{there[0]} pixels, {who} has {here[1]}x{here[0]}"
            )
    problems += [
        f"unit of {joint}: {found.units[joint]}, {who} has {wanted.units[joint]}"
        for joint in wanted.units
        if found.units.get(joint, wanted.units[joint]) != wanted.units[joint]
    ]
    return problems


def statistics(folder: str | Path) -> dict[str, dict[str, np.ndarray]]:
    """Feature → statistic → values, of the numbers in a dataset."""
    tables = _read(Path(folder), STATS)
    return {
        name: {key: np.atleast_1d(np.array(value)) for key, value in table.items()}
        for name, table in tables.items()
    }


def _judged(folder: Path, cell: Cell) -> list[str]:
    if not (folder / STATS).is_file():
        return ["units: written nowhere in it, and there are no statistics to judge them by"]
    from smolvla_ros.cell import load_robot
    from smolvla_ros.policy.units import judge

    tables = {name: table for name, table in statistics(folder).items() if name in (STATE, ACTION)}
    limits = load_robot(cell.vla.robot, cell.path).limits_by_name()
    found = judge(cell.vla.units(), limits, tables)
    return [f"units: {f.subject}: {f.text}; {f.fix}" for f in found if f.level == "error"]


def _read(folder: Path, name: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / name).read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder}: is no LeRobotDataset ({name}: {error})") from error


def _joints(feature: Mapping[str, Any]) -> tuple[str, ...]:
    names = feature.get("names") or [str(i) for i in range(feature["shape"][0])]
    if isinstance(names, Mapping):  # {"motors": [...]}, as older recorders wrote it
        names = [name for group in names.values() for name in group]
    return tuple(name.removesuffix(_SUFFIX) for name in names)


def _size(folder: Path, name: str, feature: Mapping[str, Any]) -> tuple[int, int]:
    shape, names = feature["shape"], feature.get("names") or _AXES
    at = {name: i for i, name in enumerate(names)}
    if not set(_AXES[:2]) <= set(at) or len(shape) != len(at):
        raise ConfigError(
            f"{folder}: {name}: axes {_list(map(str, names))}; LeRobot writes {_list(_AXES)}"
        )
    return shape[at["height"]], shape[at["width"]]


def _list(names: Any) -> str:
    return ", ".join(names) or "none"
