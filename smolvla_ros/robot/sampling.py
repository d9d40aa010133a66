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
    """What was seen of two links.

    Attributes:
        share: of the samples, in which they touched. nearest: m, the smallest distance (negative:
            depth). close: share of the samples in which they were nearer than was asked about.
        posture: number of the sample in which they were nearest.
    """

    share: float
    nearest: float
    close: float = 0.0
    posture: int = 0


def drawn(robot: RobotModel, samples: int, seed: int) -> np.ndarray:
    """``[samples, D]`` configurations, drawn evenly between the position limits.

    A joint without limits is drawn over one turn.
    """
    lower = np.where(np.isfinite(robot.lower), robot.lower, -np.pi)
    upper = np.where(np.isfinite(robot.upper), robot.upper, np.pi)
    return np.random.default_rng(seed).uniform(lower, upper, (samples, robot.dof))


def sample_contacts(
    robot: RobotModel,
    pairs: Sequence[tuple[Geometry, Geometry]],
    samples: int,
    seed: int,
    margin: float = 0.0,
) -> dict[tuple[str, str], Contact]:
    """Try ``samples`` configurations of :func:`drawn`.

    Args:
        pairs: shapes; those of the same two links are taken together. margin: m, for ``close``.

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
    close, postures = np.zeros(len(names)), np.zeros(len(names), dtype=int)
    for k, q in enumerate(drawn(robot, samples, seed)):
        pin.computeDistances(robot.model, data, geometry, placed, robot.configuration(q))
        now = np.full(len(names), np.inf)
        found = [result.min_distance for result in placed.distanceResults]
        np.minimum.at(now, which, found)
        touched += now <= 0.0
        close += now <= margin
        postures[now < nearest] = k
        nearest = np.minimum(nearest, now)
    return {
        pair: Contact(
            float(touched[i]) / samples, float(nearest[i]), float(close[i]) / samples,
            int(postures[i]),
        )
        for i, pair in enumerate(names)
    }  # fmt: skip
