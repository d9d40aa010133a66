"""Judges a recording against the cell's promise, from the topics alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smolvla_ros.cell import MonitorConfig
from smolvla_ros.robot import RobotModel
from smolvla_ros.safety.clearance import Clearance
from smolvla_ros.safety.limits import effective_limits

_ROUNDING = 1e-6  # rad, rad/s, rad/s²: nanosecond stamps and float text


@dataclass(frozen=True)
class Findings:
    """What the set-points that left the gate did.

    Attributes:
        limit_violations: set-points outside position, velocity or acceleration limits.
        clearance_breaches: set-points, or places half-way between two, nearer to anything
            than its margin less the slack.
        min_clearance: metres, the smallest of all. clearance: ``[N]`` at every set-point.
        first: what the first finding was, for people.
    """

    limit_violations: int
    clearance_breaches: int
    min_clearance: float
    clearance: np.ndarray
    first: str


def judge(
    robot: RobotModel, config: MonitorConfig, rows: np.ndarray, dt: float, precision: float = 1e-9
) -> Findings:
    """Check a stream of set-points.

    Args:
        rows: ``[N, D]`` rad, consecutive, ``dt`` seconds apart. The first is a start at
            rest. precision: rad of rounding in the rows.
    """
    limits = effective_limits(
        robot, config.limits.every_joint, config.limits.joints, config.limits.position_margin
    )
    v = np.diff(rows, axis=0, prepend=rows[:1]) / dt
    a = np.diff(v, axis=0, prepend=np.zeros((1, rows.shape[1]))) / dt
    speed_room = _ROUNDING + 2 * precision / dt
    force_room = _ROUNDING + 4 * precision / dt**2
    broken = {
        "position": (rows < limits.lower - _ROUNDING) | (rows > limits.upper + _ROUNDING),
        "velocity": np.abs(v) > limits.velocity + speed_room,
        "acceleration": np.abs(a) > limits.acceleration + force_room,
    }
    first = ""
    for what, where in broken.items():
        if where.any() and not first:
            row, joint = np.argwhere(where)[0]
            first = f"{what} of {robot.names[joint]} at set-point {row}"
    violations = int(np.any(list(broken.values()), axis=(0, 2)).sum())
    world = Clearance(robot, config.zones, config.margin, config.slack)
    guarded = [i for i, pair in enumerate(world.pairs) if pair.check != "slow"]
    floor = np.array([world.pairs[i].margin for i in guarded]) - config.slack - _ROUNDING
    nearest = np.full(len(rows), np.inf)
    breaches = 0
    lowest = np.inf
    for k, row in enumerate(rows):
        here = world.distances(row)[guarded]
        between = world.distances((row + rows[max(k - 1, 0)]) / 2)[guarded]
        nearest[k] = here.min(initial=np.inf)
        lowest = min(lowest, nearest[k], between.min(initial=np.inf))
        for found in (here, between):
            if (found < floor).any():
                breaches += 1
                pair = world.pairs[guarded[int(np.argmax(floor - found))]]
                first = first or f"clearance of {pair.name} at set-point {k}"
    return Findings(violations, breaches, float(lowest), nearest, first)
