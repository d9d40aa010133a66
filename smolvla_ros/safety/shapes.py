"""Zone shapes: one function a shape and one line in ``SHAPES``; beside them convex meshes.

Each takes the zone's ``size`` (metres) and returns coal geometries with their placement
in the zone's own frame. The first element of a ``SHAPES`` entry names the sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import coal
import numpy as np
import pinocchio as pin

from smolvla_ros.robot.hull import Hull, MeshError, convex_hull

_FARTHEST = 100.0  # m from a mesh's own origin: more is a wrong scale

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


def walls(shape: str, size: Sequence[float]) -> Parts:
    """The outside of a box or a half-space, as half-spaces: what a keep-in zone keeps out of.

    Other shapes have no such outside; :mod:`smolvla_ros.safety.inside` measures them.

    Raises:
        ValueError: a shape whose outside is no union of half-spaces.
    """
    if shape == "half_space":
        return [(coal.Halfspace(np.array([0.0, 0.0, -1.0]), 0.0), pin.SE3.Identity())]
    if shape != "box":
        raise ValueError(f"the outside of a {shape} is no union of half-spaces")
    found = []
    for axis in range(3):
        for sign in (1.0, -1.0):
            # Everything with sign * x[axis] >= size / 2 is the wall's inside.
            normal = np.zeros(3)
            normal[axis] = -sign
            found.append((coal.Halfspace(normal, -size[axis] / 2), pin.SE3.Identity()))
    return found


@lru_cache(maxsize=64)
def mesh_hull(path: str, scale: float) -> Hull:
    """The convex hull of a mesh file (STL, OBJ, DAE), scaled about its own origin.

    A file is read once in a process: two zones that name the same file and scale are the
    same shape, whatever has happened to the file since.

    Raises:
        ValueError: no file, no mesh in it, or one with another unit than was said.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path!r} is no file; write a path relative to the cell file")
    try:
        hull = convex_hull(Path(path), (scale, scale, scale))
    except MeshError as error:
        raise ValueError(f"{path!r} {error}") from error
    if np.abs(hull.vertices).max() > _FARTHEST:
        raise ValueError(
            f"{path!r} reaches further than {_FARTHEST:.0f} m; scale it (0.001 for millimetres)"
        )
    return hull
