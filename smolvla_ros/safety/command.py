"""Proposed motion as it comes in: checked whole, or refused whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MAX_POINTS = 1000
MAX_VALUE = 1e3  # rad or m; beyond it nothing is a joint position


class Refused(ValueError):
    """A message that is not executed.

    ``check`` is the counter's word; the text is for people.
    """

    def __init__(self, check: str, detail: str):
        self.check = check
        super().__init__(detail)


@dataclass(frozen=True)
class Command:
    """A trajectory in the gate's own joint order.

    Attributes:
        stamp: steady-clock seconds that ``times`` count from.
        times: ``[N]`` seconds, strictly increasing. positions: ``[N, D]`` radians.
    """

    stamp: float
    times: np.ndarray
    positions: np.ndarray

    @property
    def end(self) -> float:
        """Steady-clock seconds of the last row."""
        return self.stamp + float(self.times[-1])


def read_command(
    stamp: float,
    names: Sequence[str],
    times: Sequence[float],
    positions: Sequence[Sequence[float]],
    joints: Sequence[str],
) -> Command:
    """Check a trajectory and bring its columns into the order of ``joints``, by name.

    Args:
        stamp: steady-clock seconds that the times count from.
        names: joint names of the columns. times: ``[N]`` seconds from the stamp.
        positions: ``[N, len(names)]`` radians (metres). joints: the gate's ``D`` joints.

    Raises:
        Refused: anything that is not one finite position for each joint at strictly
            increasing times.
    """
    if not len(positions) or not len(names):
        raise Refused("empty", f"{len(positions)} points, {len(names)} joint names")
    if len(positions) > MAX_POINTS:
        raise Refused("too_long", f"{len(positions)} points; at most {MAX_POINTS}")
    if len(set(names)) != len(names):
        twice = sorted({n for n in names if list(names).count(n) > 1})
        raise Refused("duplicate_joint", f"joint {', '.join(twice)} named twice")
    unknown = [n for n in names if n not in joints]
    if unknown:
        raise Refused("unknown_joint", f"joint {', '.join(unknown)}; known: {', '.join(joints)}")
    missing = [n for n in joints if n not in names]
    if missing:
        raise Refused("missing_joint", f"joint {', '.join(missing)} has no column")
    for row, point in enumerate(positions):
        if len(point) != len(names):
            raise Refused("wrong_length", f"point {row}: {len(point)} values, {len(names)} names")
    table = np.array(positions, dtype=float)
    clock = np.array(times, dtype=float)
    if clock.shape != (len(table),):
        raise Refused("wrong_length", f"{len(clock)} times for {len(table)} points")
    if not (np.isfinite(table).all() and np.isfinite(clock).all() and np.isfinite(stamp)):
        raise Refused("not_finite", "NaN or infinity among positions, times or stamp")
    if np.abs(table).max() > MAX_VALUE:
        raise Refused("out_of_range", f"|position| {np.abs(table).max():.3g} rad")
    if clock[0] < 0 or (np.diff(clock) <= 0).any():
        raise Refused("time_order", "time_from_start must not be negative and must increase")
    return Command(stamp, clock, table[:, [list(names).index(j) for j in joints]])
