"""Zone shapes: one function a shape and one line in ``SHAPES``.

Each takes the zone's ``size`` (metres) and returns coal geometries with their placement
in the zone's own frame. The first element of a ``SHAPES`` entry names the sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import coal
import numpy as np
import pinocchio as pin

Parts = list[tuple[coal.CollisionGeometry, pin.SE3]]


def _centred(shape: coal.CollisionGeometry) -> Parts:
    return [(shape, pin.SE3.Identity())]


def box(size: Sequence[float]) -> Parts:
    """Edge lengths x, y, z; centred."""
    return _centred(coal.Box(*size))


def sphere(size: Sequence[float]) -> Parts:
    """Radius; centred."""
    return _centred(coal.Sphere(*size))


def cylinder(size: Sequence[float]) -> Parts:
    """Radius and length along z; centred."""
    return _centred(coal.Cylinder(*size))


def capsule(size: Sequence[float]) -> Parts:
    """Radius and length of the straight part along z, caps not counted; centred."""
    return _centred(coal.Capsule(*size))


def half_space(size: Sequence[float]) -> Parts:
    """Everything below z = 0 of the zone's frame; no size."""
    return _centred(coal.Halfspace(np.array([0.0, 0.0, 1.0]), 0.0))


SHAPES: dict[str, tuple[tuple[str, ...], Callable[[Sequence[float]], Parts]]] = {
    "box": (("x", "y", "z"), box),
    "sphere": (("radius",), sphere),
    "cylinder": (("radius", "length"), cylinder),
    "capsule": (("radius", "length"), capsule),
    "half_space": ((), half_space),
}


def outside(shape: str, size: Sequence[float]) -> Parts:
    """The complement of a shape, as half-spaces: what a keep-in zone keeps out of.

    Raises:
        ValueError: a shape whose outside is no union of half-spaces.
    """
    if shape == "half_space":
        return [(coal.Halfspace(np.array([0.0, 0.0, -1.0]), 0.0), pin.SE3.Identity())]
    if shape != "box":
        raise ValueError(f"a keep_in zone is a box or a half_space, not a {shape}")
    walls = []
    for axis in range(3):
        for sign in (1.0, -1.0):
            # Everything with sign * x[axis] >= size / 2 is the wall's inside.
            normal = np.zeros(3)
            normal[axis] = -sign
            walls.append((coal.Halfspace(normal, -size[axis] / 2), pin.SE3.Identity()))
    return walls
