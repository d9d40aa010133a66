"""Proposed motion as it comes in: checked whole, or refused whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MAX_POINTS = 1000
MAX_NAMES = 256
MAX_TIME = 1e9  # s
MIN_STEP = 0.5e-9  # s: stamps of messages count nanoseconds
CONTENT = frozenset(
    {
        "empty",
        "too_long",
        "duplicate_joint",
        "unknown_joint",
        "missing_joint",
        "wrong_length",
        "malformed",
        "not_finite",
        "out_of_range",
        "time_order",
        "units",
    }
)
"""Refusals for what a command holds, not for when or by whom it came."""

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
    hold: np.ndarray | None = None,
    ignore: Sequence[str] = (),
) -> Command:
    """Check a trajectory and bring its columns into the order of ``joints``, by name.

    Args:
        stamp: steady-clock seconds that the times count from.
        names: joint names of the columns. times: ``[N]`` seconds from the stamp.
        positions: ``[N, len(names)]`` radians (metres). joints: the gate's ``D`` joints.
        hold: ``[D]`` values for joints without a column; None: each needs one.
        ignore: names whose columns are dropped.

    Raises:
        Refused: anything that is not one finite position for each joint at strictly
            increasing times.
    """
    try:
        return _read(stamp, names, times, positions, joints, hold, ignore)
    except Refused:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise Refused("malformed", f"cannot be read: {error}") from error


def _read(stamp, names, times, positions, joints, hold, ignore) -> Command:
    if not len(positions) or not len(names):
        raise Refused("empty", f"{len(positions)} points, {len(names)} joint names")
    if len(positions) > MAX_POINTS or len(names) > MAX_NAMES:
        raise Refused(
            "too_long",
            f"{len(positions)} points, {len(names)} names; at most {MAX_POINTS}, {MAX_NAMES}",
        )
    if len(set(names)) != len(names):
        twice = sorted({n for n in names if list(names).count(n) > 1})
        raise Refused("duplicate_joint", f"joint {', '.join(twice)} named twice")
    unknown = [n for n in names if n not in joints and n not in ignore]
    if unknown:
        raise Refused("unknown_joint", f"joint {', '.join(unknown)}; known: {', '.join(joints)}")
    missing = [n for n in joints if n not in names]
    if missing and (hold is None or len(missing) == len(joints)):
        raise Refused("missing_joint", f"joint {', '.join(missing)} has no column")
    for row, point in enumerate(positions):
        if len(point) != len(names):
            raise Refused("wrong_length", f"point {row}: {len(point)} values, {len(names)} names")
    if len(times) != len(positions):
        raise Refused("wrong_length", f"{len(times)} times for {len(positions)} points")
    table, clock = _numbers(positions), _numbers(times)
    if table.ndim != 2 or clock.ndim != 1:
        raise Refused("malformed", "positions are rows of numbers, times are numbers")
    if not (np.isfinite(table).all() and np.isfinite(clock).all() and np.isfinite(stamp)):
        raise Refused("not_finite", "NaN or infinity among positions, times or stamp")
    order = [list(names).index(j) if j in names else -1 for j in joints]
    table = np.where(np.array(order) < 0, 0.0 if hold is None else hold, table[:, order])
    if np.abs(table).max() > MAX_VALUE:
        raise Refused("out_of_range", f"|position| {np.abs(table).max():.3g} rad")
    if clock[0] < 0 or (np.diff(clock) < MIN_STEP).any():
        raise Refused("time_order", "time_from_start must not be negative and must increase")
    if clock[-1] > MAX_TIME:
        raise Refused("out_of_range", f"time_from_start {clock[-1]:.3g} s; at most {MAX_TIME:.0f}")
    return Command(float(stamp), clock, table)


def _numbers(values: Sequence) -> np.ndarray:
    found = np.array(values)
    if found.dtype.kind not in "fiu":
        raise Refused("malformed", f"not numbers: {str(values)[:60]}")
    return found.astype(float)
