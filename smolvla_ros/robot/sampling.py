"""Which shapes of an arm touch, found by trying random configurations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pinocchio as pin

if TYPE_CHECKING:
    from smolvla_ros.robot.model import Geometry, RobotModel


@dataclass(frozen=True)
class Contact:
    """What was seen of two links: the share of samples in which they touched, and the
    smallest distance in metres (negative: depth)."""

    share: float
    nearest: float


def drawn(robot: RobotModel, samples: int, seed: int) -> np.ndarray:
    """``[samples, D]`` configurations, drawn evenly between the position limits.

    A joint without limits is drawn over one turn.
    """
    lower = np.where(np.isfinite(robot.lower), robot.lower, -np.pi)
    upper = np.where(np.isfinite(robot.upper), robot.upper, np.pi)
    return np.random.default_rng(seed).uniform(lower, upper, (samples, robot.dof))


def sample_contacts(
    robot: RobotModel, pairs: Sequence[tuple[Geometry, Geometry]], samples: int, seed: int
) -> dict[tuple[str, str], Contact]:
    """Try ``samples`` configurations of :func:`drawn`.

    Args:
        pairs: shapes; those of the same two links are taken together.

    Returns:
        the two links' names, in the order of ``pairs`` → what was seen.
    """
    if not pairs:
        return {}
    geometry = pin.GeometryModel(robot.geometry)
    for a, b in pairs:
        geometry.addCollisionPair(pin.CollisionPair(a.index, b.index))
    links = [(a.link, b.link) for a, b in pairs]
    names = list(dict.fromkeys(links))
    which = np.array([names.index(pair) for pair in links], dtype=int)
    data, placed = robot.model.createData(), geometry.createData()
    touched, nearest = np.zeros(len(names)), np.full(len(names), np.inf)
    for q in drawn(robot, samples, seed):
        pin.computeDistances(robot.model, data, geometry, placed, robot.configuration(q))
        now = np.full(len(names), np.inf)
        found = [result.min_distance for result in placed.distanceResults]
        np.minimum.at(now, which, found)
        touched += now <= 0.0
        nearest = np.minimum(nearest, now)
    return {
        pair: Contact(float(touched[i]) / samples, float(nearest[i]))
        for i, pair in enumerate(names)
    }
