"""What the gate says of one tick."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """The gate's states."""

    WAITING = "waiting"  # no whole joint state yet
    DISABLED = "disabled"  # publishes nothing; the arm is not the gate's
    HOLDING = "holding"  # publishes one position for ever
    FOLLOWING = "following"
    SLOWED = "slowed"  # following, at the speed a zone or a recovery allows
    BRAKING = "braking"  # on the kept stop
    STOPPED = "stopped"  # latched; leaves by reset


class Kind(StrEnum):
    """What happened to the set-point of one tick."""

    PASSED = "passed"  # left unchanged
    SLOWED = "slowed"  # a zone or a recovery caps the speed
    CLAMPED = "clamped"  # shaped by a position, velocity or acceleration limit
    HELD = "held"  # not taken: the arm brakes or stands
    STOPPED = "stopped"  # a stop is latched


@dataclass(frozen=True)
class Verdict:
    """One tick's outcome, the check that decided it, and its numbers.

    ``check`` is a short stable word for counters; ``detail`` is for people.
    """

    kind: Kind
    check: str = ""
    detail: str = ""
