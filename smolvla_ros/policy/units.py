"""Whether a cell reads a policy's numbers in the units they were written in.

The statistics of the data tell: no joint can be, on average, where it cannot go, and none can
spread further than half of its range (the standard deviation of anything between two bounds is
at most half of their distance, Popoviciu's inequality).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from smolvla_ros.finding import Finding
from smolvla_ros.robot import JointMap, JointUnit
from smolvla_ros.robot.joint_map import UNITS

_TOLERANCE = 0.15  # of a joint's range: what zero and range of a calibration may differ by
_RADIANS = 2 * np.pi  # all of an arm's data within so many degrees: they are radians
_SHARE = 1.5  # percent of a range; a gripper that never opens further was written 0..1
_SPREADS = (("mean", "std"), ("min", "max"), ("q01", "q99"), ("q10", "q90"))


def judge(
    units: Sequence[JointUnit],
    limits: Mapping[str, tuple[float, float]],
    data: Mapping[str, Mapping[str, np.ndarray]],
) -> list[Finding]:
    """One finding a joint, and more where all of them say something together.

    Args:
        units: how the cell reads each of ``D`` joints, in the policy's order.
        limits: joint name → (lower, upper) in rad (m).
        data: ``action`` and, where there is one, ``observation.state`` → statistics, ``[D]``
            each, in the policy's units.
    """
    spreads = {
        feature: spread
        for feature, table in data.items()
        if (spread := _spread(table)) is not None and spread[0].size == len(units)
    }
    if not spreads:
        return [Finding("warning", "joint_map", "no statistics to judge the units by",
                        "watch the first motion in shadow mode")]  # fmt: skip
    findings = [_joint(i, unit, limits, spreads) for i, unit in enumerate(units)]
    findings += _all_too_small(units, spreads)
    findings += _share_of_one(units, spreads)
    return findings + list(_no_positions(units, limits, spreads))


def _spread(table: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """Where the data lie and how far they spread to each side of it, ``[D]`` each."""
    for first, second in _SPREADS:
        if first in table and second in table:
            a, b = table[first], table[second]
            return (a, b) if second == "std" else ((a + b) / 2, (b - a) / 2)
    return None


def _joint(i: int, unit: JointUnit, limits, spreads) -> Finding:
    lower, upper = limits[unit.joint]
    subject = f"joint_map.{unit.joint}"
    said = []
    for feature, (centre, half) in spreads.items():
        at, around = _read(unit, limits, centre[i], half[i])
        text = f"as {unit.unit}, the data's {feature} lies at {at:.3g} ± {around:.3g} rad (m)"
        if not _possible(at, around, lower, upper):
            return Finding(
                "error",
                subject,
                f"{text}, the joint moves from {lower:.3g} to {upper:.3g}",
                _instead(unit, limits, centre[i], half[i]),
            )
        said.append(text)
    return Finding("ok", subject, f"{said[0]}; limits {lower:.3g} to {upper:.3g}")


def _read(unit: JointUnit, limits, centre: float, half: float) -> tuple[float, float]:
    joint_map = JointMap([unit], dict(limits))
    return float(joint_map.to_urdf([centre])[0]), float(abs(joint_map.scale[0]) * half)


def _possible(at: float, around: float, lower: float, upper: float) -> bool:
    if not np.isfinite([lower, upper]).all():
        return True
    tolerance = _TOLERANCE * (upper - lower)
    inside = lower - tolerance <= at <= upper + tolerance
    return inside and around <= (upper - lower) / 2 + tolerance


def _instead(unit: JointUnit, limits, centre: float, half: float) -> str:
    """Another reading that the data would fit, or what to do."""
    lower, upper = limits[unit.joint]
    for other in (unit.unit, *UNITS):
        for sign in (unit.sign, -unit.sign):
            read = JointUnit(unit.joint, other, sign, unit.offset)
            at, around = _read(read, limits, centre, half)
            # What fits because next to nothing is left of it is no reading.
            if _possible(at, around, lower, upper) and around > 0.01 * (upper - lower):
                changes = [f"unit: {other}"] if other != unit.unit else []
                changes += [f"sign: {sign}"] if sign != unit.sign else []
                return f"{', '.join(changes)} would fit"
    return "no unit fits: set its offset, or look whether joint_order is the data's"


def _all_too_small(units, spreads) -> list[Finding]:
    degrees = [i for i, u in enumerate(units) if u.unit == "degrees"]
    for feature, (centre, half) in spreads.items():
        largest = (np.abs(centre) + 2 * half)[degrees]
        if len(degrees) > 1 and (largest <= _RADIANS).all():
            return [
                Finding(
                    "error",
                    "joint_map",
                    f"as degrees, all of the data's {feature} lies within {largest.max():.2g} "
                    "degrees of zero",
                    "that is radians (unit: radians), or statistics of normalised values",
                )
            ]
    return []


def _share_of_one(units, spreads) -> Iterator[Finding]:
    for i, unit in enumerate(units):
        for feature, (centre, half) in spreads.items():
            if unit.unit == "percent" and abs(centre[i]) + 2 * half[i] <= _SHARE:
                yield Finding(
                    "warning",
                    f"joint_map.{unit.joint}",
                    f"the data's {feature} lies at {centre[i]:.2g} ± {half[i]:.2g} percent of the "
                    "range",
                    "percent goes from 0 to 100; data from 0 to 1 cannot be read so",
                )
                break


def _no_positions(units, limits, spreads) -> Iterator[Finding]:
    """Actions that lie nowhere near the states they start from are no positions."""
    if len(spreads) < 2:
        return
    (state, around), (action, half) = spreads["observation.state"], spreads["action"]
    width = np.array([np.subtract(*limits[u.joint][::-1]) for u in units])
    scale = np.abs(JointMap(list(units), dict(limits)).scale)
    apart = scale * (np.abs(action - state) - 2 * (half + around)) > _TOLERANCE * width
    if apart.sum() > len(units) / 2:
        names = ", ".join(u.joint for u, far in zip(units, apart, strict=True) if far)
        yield Finding(
            "warning",
            "joint_map",
            f"the data's actions lie far from its states ({names})",
            "only actions that are absolute positions can be carried out",
        )
