"""Obstacles that come and go while the arm works, beside the zones of its cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pinocchio as pin

from smolvla_ros.safety.shapes import SHAPES

OBSTACLE_SHAPES = ("box", "sphere", "cylinder", "capsule")
MAX_OBSTACLES = 64
_FARTHEST = 100.0  # m


@dataclass(frozen=True)
class Obstacle:
    """One obstacle: ``size`` in metres as of a zone of that shape, ``pose`` in the frame of
    the robot's root link."""

    id: str
    shape: str
    size: tuple[float, ...]
    pose: pin.SE3


def read_obstacle(
    id: str,
    shape: str,
    size: Sequence[float],
    position: Sequence[float],
    quaternion: Sequence[float] = (0.0, 0.0, 0.0, 1.0),
    frame: pin.SE3 | None = None,
) -> Obstacle:
    """An obstacle from plain values.

    Args:
        size: metres; box: x y z; sphere: radius; cylinder, capsule: radius length.
        position: metres. quaternion: x y z w. frame: what both are given in, in the root
            frame; absent: the root frame.

    Raises:
        ValueError: naming the obstacle, the value and what it must be.
    """
    if shape not in OBSTACLE_SHAPES:
        raise ValueError(f"obstacle {id!r}: shape {shape!r}; one of {', '.join(OBSTACLE_SHAPES)}")
    names = SHAPES[shape][0]
    size, position, quaternion = (
        tuple(map(float, values)) for values in (size, position, quaternion)
    )
    if len(size) != len(names) or not all(0.0 < x <= _FARTHEST for x in size):
        raise ValueError(
            f"obstacle {id!r}: size {size}; a {shape} has {len(names)} ({', '.join(names)}), each "
            f"above 0 and at most {_FARTHEST:.0f} m"
        )
    if len(position) != 3 or not all(abs(x) <= _FARTHEST for x in position):
        raise ValueError(
            f"obstacle {id!r}: position {position}; 3 values of at most {_FARTHEST:.0f} m"
        )
    norm = math.hypot(*quaternion)
    if len(quaternion) != 4 or not abs(norm - 1.0) < 0.01:
        raise ValueError(f"obstacle {id!r}: quaternion {quaternion} is not of length 1")
    rotation = pin.Quaternion(np.array(quaternion) / norm).toRotationMatrix()
    pose = pin.SE3(rotation, np.array(position))
    return Obstacle(id, shape, size, pose if frame is None else frame * pose)


def check_obstacles(obstacles: Sequence[Obstacle]) -> None:
    """Raises:
    ValueError: more than ``MAX_OBSTACLES``, or two of one name.
    """
    if len(obstacles) > MAX_OBSTACLES:
        raise ValueError(f"{len(obstacles)} obstacles; at most {MAX_OBSTACLES}")
    seen: set[str] = set()
    for obstacle in obstacles:
        if obstacle.id in seen:
            raise ValueError(f"obstacle {obstacle.id!r} is there twice")
        seen.add(obstacle.id)
