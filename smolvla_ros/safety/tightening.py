"""Whether new zones or limits let anything through that the old ones did not.

While the arm is enabled its rules may only become tighter. What these functions cannot see
to be tighter counts as looser: a zone that moved, another shape, another link list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from smolvla_ros.safety.limits import Limits
from smolvla_ros.safety.zones import Zone

_PLACE = ("kind", "shape", "mesh", "scale", "frame", "position", "rpy")
_LOWER_IS_LOOSER = {"lower": True, "upper": False, "velocity": False, "acceleration": False,
                    "jerk": False}  # fmt: skip


def zones_loosened(
    old: Mapping[str, Zone], new: Mapping[str, Zone], old_margin: float, new_margin: float
) -> list[str]:
    """Every way in which ``new`` may let more through than ``old``; empty: none.

    Args:
        old, new: name → zone; mesh files named in the same way.
        old_margin, new_margin: metres, the monitor's.

    Returns:
        A line each: the key, the old value and the new one.
    """
    found = []
    if not new_margin >= old_margin:
        found.append(f"margin: {old_margin} -> {new_margin}")
    for name, zone in old.items():
        if name not in new:
            found.append(f"zones.{name}: there -> removed")
            continue
        lines = _zone_loosened(zone, new[name], old_margin, new_margin)
        found += [f"zones.{name}.{line}" for line in lines]
    return found


def _zone_loosened(old: Zone, new: Zone, old_margin: float, new_margin: float) -> list[str]:
    moved = [f for f in _PLACE if getattr(old, f) != getattr(new, f)]
    found = [f"{f}: {getattr(old, f)} -> {getattr(new, f)}" for f in moved]
    if "shape" not in moved:
        inner, outer = (new.size, old.size) if old.kind == "keep_in" else (old.size, new.size)
        # A motion towards the old border may lead away from a wider one, and be free there.
        kept = old.size == new.size if old.kind == "approach" else True
        if not (kept and all(a <= b for a, b in zip(inner, outer, strict=True))):
            found.append(f"size: {old.size} -> {new.size}")
    if not new.own_margin(new_margin) >= old.own_margin(old_margin):
        found.append(f"margin: {old.own_margin(old_margin)} -> {new.own_margin(new_margin)}")
    for field in ("speed_ratio", "speed"):
        a, b = getattr(old, field), getattr(new, field)
        if a is not None and not (b is not None and b <= a):
            found.append(f"{field}: {a} -> {b}")
    if old.distance is not None and not (new.distance is not None and new.distance >= old.distance):
        found.append(f"distance: {old.distance} -> {new.distance}")
    if old.kind == "slow" and not new.leave_at >= old.leave_at:
        found.append(f"hysteresis: {old.leave_at} -> {new.leave_at}")
    if not _selects_all_of(new, old):
        found.append(f"links: {_selection(old)} -> {_selection(new)}")
    return found


def _selects_all_of(new: Zone, old: Zone) -> bool:
    """True where ``new`` is about every link that ``old`` is about, whatever links there are."""
    if new.links:
        return bool(old.links) and set(old.links) <= set(new.links)
    if old.links:
        return not set(old.links) & set(new.except_links)
    return set(new.except_links) <= set(old.except_links)


def _selection(zone: Zone) -> str:
    if zone.links:
        return ", ".join(zone.links)
    return "all but " + ", ".join(zone.except_links) if zone.except_links else "all"


def limits_loosened(old: Limits, new: Limits, names: Sequence[str]) -> list[str]:
    """Every joint limit of ``new`` that lets more through than ``old``; a line each.

    Args:
        names: the joints, in the limits' order.

    Raises:
        ValueError: limits of other joints.
    """
    found = []
    for what, low in _LOWER_IS_LOOSER.items():
        a, b = np.asarray(getattr(old, what)), np.asarray(getattr(new, what))
        if not a.shape == b.shape == (len(names),):
            raise ValueError(f"{what}: limits of {a.shape}, {b.shape} and {len(names)} joints")
        tighter = b >= a if low else b <= a
        found += [f"limits.{names[i]}.{what}: {a[i]} -> {b[i]}" for i in np.flatnonzero(~tighter)]
    return found
