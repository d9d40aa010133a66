"""Small arms made for one test, and mesh files for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial import ConvexHull

LIMIT = '<limit lower="-1" upper="1" velocity="2" effort="3"/>'
SHAPE = '<collision><geometry><box size="0.1 0.1 0.1"/></geometry></collision>'
MASS = (
    '<inertial><mass value="1"/>'
    '<inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial>'
)


def link(name: str, inside: str = SHAPE) -> str:
    """A link; by default a cube of 0.1 m."""
    return f'<link name="{name}">{inside}</link>'


def joint(
    name: str,
    parent: str,
    child: str,
    kind: str = "revolute",
    inside: str = LIMIT,
    xyz: str = "0.5 0 0",
    axis: str = "0 0 1",
) -> str:
    """A joint; by default about z, half a metre along its parent's x axis."""
    return (
        f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>'
        f'<origin xyz="{xyz}"/><axis xyz="{axis}"/>{inside}</joint>'
    )


def mesh(filename: str, inside: str = "", scale: str = "1 1 1") -> str:
    """A collision shape from a file; ``inside`` may hold its origin."""
    return (
        f'<collision>{inside}<geometry><mesh filename="{filename}" scale="{scale}"/></geometry>'
        "</collision>"
    )


CHAIN = (
    "".join(link(n) for n in "abcd")
    + joint("ab", "a", "b")
    + joint("bc", "b", "c")
    + joint("cd", "c", "d")
)

# An arm whose hand has two fingers on one motor: the right one mimics the left.
GRIPPER = (
    "".join(link(n) for n in ("base", "hand"))
    + "".join(
        link(
            n,
            f'<collision><origin xyz="0 {y} 0"/><geometry><box size="0.1 0.02 0.02"/></geometry>'
            "</collision>",
        )
        for n, y in (("left", 0.01), ("right", -0.01))
    )
    + joint("turn", "base", "hand")
    + joint("left_slide", "hand", "left", "prismatic", axis="0 1 0", inside=
            '<limit lower="0" upper="0.04" velocity="0.2" effort="9"/>')
    + joint("right_slide", "hand", "right", "prismatic", axis="0 -1 0", inside=
            '<limit lower="0" upper="0.04" velocity="0.2" effort="9"/>'
            '<mimic joint="left_slide"/>')
)  # fmt: skip

# A bent plate: far from its own origin, and not convex.
CORNERS = np.array(
    [(x, y, z) for x in (1.0, 1.1) for y, z in ((0, 0), (0.3, 0), (0.3, 0.1), (0.1, 0.1),
                                                (0.1, 0.4), (0, 0.4))]
)  # fmt: skip


def bent_plate() -> tuple[np.ndarray, np.ndarray]:
    """``[12, 3]`` vertices and ``[F, 3]`` outward triangles of an L-shaped solid."""
    sides = [(i, (i + 1) % 6) for i in range(6)]
    ends = [(0, 1, 2), (0, 2, 3), (0, 3, 4), (0, 4, 5)]
    faces = [f for a, b in sides for f in ((a, a + 6, b), (b, a + 6, b + 6))]
    faces = [(a, c, b) for a, b, c in faces]
    faces += [(a, c, b) for a, b, c in ends] + [(a + 6, b + 6, c + 6) for a, b, c in ends]
    return CORNERS.copy(), np.array(faces)


def ball(points: int = 400, radius: float = 0.1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A sphere's surface as vertices ``[N, 3]`` and triangles."""
    v = np.random.default_rng(seed).normal(size=(points, 3))
    v *= radius / np.linalg.norm(v, axis=1, keepdims=True)
    return v, ConvexHull(v).simplices


def write_mesh(path: Path, vertices: np.ndarray, faces: np.ndarray, unit: float = 1.0) -> Path:
    """Write an STL, OBJ or DAE file, by the path's ending. ``unit``: metres, DAE only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = {".stl": _stl, ".obj": _obj, ".dae": _dae}[path.suffix.lower()](vertices, faces, unit)
    path.write_text(text)
    return path


def _stl(vertices: np.ndarray, faces: np.ndarray, _: float) -> str:
    facets = "".join(
        "facet normal 0 0 0\nouter loop\n"
        + "".join("vertex {!r} {!r} {!r}\n".format(*vertices[i].tolist()) for i in face)
        + "endloop\nendfacet\n"
        for face in faces
    )
    return f"solid t\n{facets}endsolid t\n"


def _obj(vertices: np.ndarray, faces: np.ndarray, _: float) -> str:
    lines = ["v {!r} {!r} {!r}".format(*v) for v in vertices.tolist()]
    return "\n".join(lines + ["f {} {} {}".format(*(f + 1)) for f in faces]) + "\n"


def _dae(vertices: np.ndarray, faces: np.ndarray, unit: float) -> str:
    points = " ".join(repr(v) for v in vertices.ravel().tolist())
    corners = " ".join(str(i) for i in faces.ravel().tolist())
    axes = "".join(f'<param name="{a}" type="float"/>' for a in "XYZ")
    return f"""<?xml version="1.0" encoding="utf-8"?>
<COLLADA xmlns="http://www.collada.org/2005/11/COLLADASchema" version="1.4.1">
<asset><unit name="u" meter="{unit!r}"/><up_axis>Y_UP</up_axis></asset>
<library_geometries><geometry id="g"><mesh>
<source id="p"><float_array id="a" count="{vertices.size}">{points}</float_array>
<technique_common><accessor source="#a" count="{len(vertices)}" stride="3">{axes}</accessor>
</technique_common></source>
<vertices id="v"><input semantic="POSITION" source="#p"/></vertices>
<triangles count="{len(faces)}"><input semantic="VERTEX" source="#v" offset="0"/>
<p>{corners}</p></triangles></mesh></geometry></library_geometries>
<library_visual_scenes><visual_scene id="s"><node id="n"><instance_geometry url="#g"/></node>
</visual_scene></library_visual_scenes><scene><instance_visual_scene url="#s"/></scene>
</COLLADA>
"""
