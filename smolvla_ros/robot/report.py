"""What a person should know of a description before trusting a gate to it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from smolvla_ros.robot.sampling import sample_contacts

if TYPE_CHECKING:
    from smolvla_ros.robot.model import Geometry, RobotModel

_MANY = 3  # joints; fewer may well be alike
_FASTEST = 20.0  # rad/s (m/s): twice what the wrists of fast industrial arms do


def report(robot: RobotModel, samples: int, seed: int) -> list[str]:
    """See :meth:`RobotModel.report`."""
    lines = shapes_of(robot)
    lines.append(f"{len(robot.self_collision_pairs())} pairs of shapes checked for self-collision")
    lines += hidden_contacts(robot, samples, seed)
    lines += placeholder(robot, "velocity", "rad/s (m/s)")
    lines += placeholder(robot, "effort", "Nm (N)")
    lines += too_fast(robot).values()
    return lines + robot.notes


def shapes_of(robot: RobotModel) -> list[str]:
    """A line for each link: what the collision checks see of it."""
    return [f"link {name}: {_source(robot, name)}" for name in robot.links]


def hidden_contacts(robot: RobotModel, samples: int, seed: int) -> list[str]:
    """Pairs that the SRDF takes out of the check, are not adjacent, and do touch."""
    pairs = [
        (a, b)
        for a, b in itertools.combinations([g for g in robot.geometries if not g.attachment], 2)
        if robot.carrier(a) != robot.carrier(b)
        and robot.srdf.allows_contact(a.link, b.link)
        and not robot.adjacent(a.link, b.link)
    ]
    return [
        f"SRDF lets {a} and {b} touch, and they do: in {contact.share:.1%} of {samples} samples, "
        f"up to {-contact.nearest * 1e3:.0f} mm deep; they are not joined: check that entry"
        for (a, b), contact in sample_contacts(robot, pairs, samples, seed).items()
        if contact.share > 0
    ]


def placeholder(robot: RobotModel, attribute: str, unit: str) -> list[str]:
    """A line where a limit is the same on every joint: somebody may have filled it in."""
    values = getattr(robot, attribute)
    if robot.dof < _MANY or not np.isfinite(values[0]) or (values != values[0]).any():
        return []
    return [
        f"{attribute} limit of every joint is {values[0]:g} {unit} in the URDF: "
        "check that it is no placeholder"
    ]


def too_fast(robot: RobotModel) -> dict[str, str]:
    """Joint → a line, where no arm's joint is as fast as the URDF says: a placeholder too."""
    return {
        name: f"velocity limit of {name} is {v:g} rad/s (m/s) in the URDF: check that it is no "
        "placeholder"
        for name, v in zip(robot.names, robot.velocity, strict=True)
        if _FASTEST < v < np.inf
    }


def _source(robot: RobotModel, link: str) -> str:
    shapes = [g for g in robot.geometries if g.link == link]
    return ", ".join(_describe(robot, g) for g in shapes) or "none"


def _describe(robot: RobotModel, geometry: Geometry) -> str:
    if geometry.attachment:
        return f"attachment {geometry.name}"
    hull = robot.hulls.get(geometry.name)
    if hull is None:
        solid = robot.geometry.geometryObjects[geometry.index].geometry
        return f"primitive ({type(solid).__name__.lower()})"
    size = " x ".join(f"{s:.3g}" for s in np.ptp(hull.vertices, axis=0))
    ratio = hull.volume_ratio()
    volume = "of a mesh that is not closed" if ratio is None else f"{ratio:.2f} x the mesh's volume"
    return f"mesh hull ({len(hull.vertices)} vertices, {size} m, {volume})"
