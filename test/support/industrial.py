"""Public arms that are not in the repository, where ``SMOLVLA_ROS_ARMS`` has them.

It names a folder with ``ur5e`` and ``panda``, each with arm.urdf, arm.srdf, joint_limits.yaml
and the packages of its meshes.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from trial import write_cell

_ROOT = {"ur5e": ["shoulder_link"], "panda": ["panda_link1"]}  # links that turn on the floor
_POSE = {
    "ur5e": [0.0, -1.4, 1.6, -1.8, -1.57, 0.0],
    "panda": [0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785, 0.02],
}
_ZONES = {
    "post": {"kind": "keep_out", "shape": "cylinder", "size": [0.08, 1.2],
             "position": [0.45, 0.45, 0.6]},
    "ball": {"kind": "keep_out", "shape": "sphere", "size": [0.15], "position": [-0.3, 0.5, 0.6]},
    "cage": {"kind": "keep_in", "shape": "cylinder", "size": [1.1, 2.6],
             "position": [0.0, 0.0, 0.4]},
}  # fmt: skip


def _folder(name: str) -> Path:
    return Path(os.environ.get("SMOLVLA_ROS_ARMS", "nowhere")) / name


def there(name: str) -> bool:
    """Whether that arm is there."""
    return (_folder(name) / "arm.urdf").is_file()


def cell_of(name: str, made: Path) -> tuple[Path, np.ndarray]:
    """A cell file of that arm in the folder ``made``, and a free pose ``[D]`` in rad."""
    folder = _folder(name)
    floor = {"kind": "keep_out", "shape": "box", "size": [2.4, 2.4, 0.2],
             "position": [0.0, 0.0, -0.12], "except_links": _ROOT[name]}  # fmt: skip
    cell = write_cell(
        made,
        (folder / "arm.urdf").read_text(),
        (folder / "arm.srdf").read_text(),
        robot={"package_dirs": [str(folder)]},
        zones={"floor": floor, **_ZONES},
        rate=250.0,
        tracking_error=0.3,
        limits={
            "joint_limits": str(folder / "joint_limits.yaml"),
            "position_margin": 0.001,
            "every_joint": {"velocity": 3.0},
        },
    )
    return cell, np.array(_POSE[name])
