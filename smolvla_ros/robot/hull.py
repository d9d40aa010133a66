"""Convex hulls of mesh files: what the collision checks see of a mesh.

A hull encloses its mesh, costs a hundredth of it in a distance query and, unlike it, has
a depth where it is penetrated. Hulls are kept on disk, since reading a large mesh and
building its hull takes longer than everything else in a robot's description.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import xml.etree.ElementTree as ET
import zipfile
from dataclasses import dataclass
from pathlib import Path

import coal
import numpy as np
from scipy.spatial import ConvexHull, QhullError

KINDS = (".stl", ".obj", ".dae")
VERSION = 1  # of the way from file to hull; part of the cache's key
_TOLERANCE = 1e-9  # metres, for each metre of size, that a vertex may lie outside: rounding
_THICKNESS = 1e-4  # metres that a flat mesh is given to each side


class MeshError(ValueError):
    """A mesh file of which no hull can be made; the message says why."""


@dataclass(frozen=True)
class Hull:
    """Convex hull of a mesh, in metres, in the mesh's own frame, scale applied.

    Attributes:
        vertices: ``[V, 3]`` corners. faces: ``[F, 3]`` indices into them, counter-clockwise
            seen from outside.
        volume: of the hull, m³. mesh_volume: of the mesh, m³, as the sum of its signed
            tetrahedra; means nothing where the mesh is not closed.
        digest: sha256 of the mesh file, hexadecimal.
    """

    vertices: np.ndarray
    faces: np.ndarray
    volume: float
    mesh_volume: float
    digest: str

    def shape(self) -> coal.Convex:
        """The hull as a collision shape."""
        return convex_shape(self.vertices, self.faces)

    def volume_ratio(self) -> float | None:
        """Volume of the hull over that of the mesh; None where the mesh is not closed."""
        closed = 0.0 < self.mesh_volume <= self.volume * (1 + 1e-6)
        return self.volume / self.mesh_volume if closed else None


def convex_hull(path: Path, scale: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Hull:
    """Hull of an STL, OBJ or COLLADA file, from the cache where it was built before.

    As in RViz and MoveIt, COLLADA's unit counts and its up axis does not.

    Args:
        scale: factors along the mesh's axes; negative ones mirror it.

    Raises:
        MeshError: the file cannot be read as a mesh, or holds a value that is no number.
    """
    if path.suffix.lower() not in KINDS:
        raise MeshError(f"is no {', '.join(k[1:].upper() for k in KINDS)} file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MeshError(f"cannot be read ({error.strerror})") from error
    digest = hashlib.sha256(data).hexdigest()
    factors = np.array(scale, dtype=float)
    key = hashlib.sha256(f"{VERSION} {digest} {factors.tolist()}".encode()).hexdigest()
    cached = _cache_folder() / f"{key}.npz"
    hull = _load(cached, digest)
    if hull is None:
        if path.suffix.lower() == ".dae":
            factors = factors * _collada_unit(data)
        hull = _build(path, factors, digest)
        _store(cached, hull)
    return hull


def _build(path: Path, scale: np.ndarray, digest: str) -> Hull:
    try:
        mesh = coal.MeshLoader().load(str(path), scale)
    except ValueError as error:
        # The loader wraps the reason in its own source location and a hint about folders.
        reason = str(error).partition(f"resource {path}")[2].partition("Hint:")[0]
        raise MeshError(f"is no mesh ({' '.join(reason.split()) or error})") from error
    points = np.array(mesh.vertices(), dtype=float)
    if not len(points):
        raise MeshError("holds no triangle")
    if not np.isfinite(points).all():
        raise MeshError("holds a coordinate that is no finite number")
    vertices, faces, enclosed = hull_around(points)
    # A mirrored mesh is inside out: its volume comes out negative.
    volume = float(mesh.computeVolume()) * float(np.sign(np.prod(scale)))
    return Hull(vertices, faces, enclosed, volume, digest)


def hull_around(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """The convex hull of ``[N, 3]`` finite points: vertices ``[V, 3]``, faces ``[F, 3]``,
    counter-clockwise seen from outside, and volume. What is flat is given a thickness of 0.2 mm.

    Raises:
        MeshError: rounding leaves a point outside, or nothing of them.
    """
    try:
        hull = _enclosing(points)
    except QhullError:
        # Flat, or a line: it has no inside until it is given a thickness.
        sides = np.vstack([np.eye(3), -np.eye(3)]) * _THICKNESS
        try:
            hull = _enclosing((points[:, None, :] + sides).reshape(-1, 3))
        except QhullError as error:
            raise MeshError("has no hull: its coordinates are too large") from error
    index = np.full(len(hull.points), -1)
    index[hull.vertices] = np.arange(len(hull.vertices))
    vertices, faces = hull.points[hull.vertices], index[hull.simplices]
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    inward = np.einsum("ij,ij->i", np.cross(b - a, c - a), hull.equations[:, :3]) < 0
    faces[inward] = faces[inward][:, ::-1]
    return vertices, faces, float(hull.volume)


def convex_shape(vertices: np.ndarray, faces: np.ndarray) -> coal.Convex:
    """A collision shape of what :func:`hull_around` returns."""
    points = coal.StdVec_Vec3s()
    points.extend(list(vertices))
    triangles = coal.StdVec_Triangle()
    triangles.extend([coal.Triangle(a, b, c) for a, b, c in faces.tolist()])
    return coal.Convex(points, triangles)


def _enclosing(points: np.ndarray) -> ConvexHull:
    """Hull of ``[N, 3]`` points, proved to enclose each of them."""
    hull = ConvexHull(points)
    room = _TOLERANCE * max(1.0, float(np.abs(points).max()))
    for planes in np.array_split(hull.equations, len(hull.equations) // 256 + 1):
        if (planes[:, :3] @ points.T + planes[:, 3:]).max() > room:
            raise MeshError("has a hull that does not enclose it; simplify the mesh")
    return hull


def _collada_unit(data: bytes) -> float:
    """Metres per unit of a COLLADA file; its loader leaves that out."""
    try:
        unit = ET.fromstring(data).find("{*}asset/{*}unit")
        metres = 1.0 if unit is None else float(unit.get("meter", "1"))
    except (ET.ParseError, ValueError) as error:
        raise MeshError(f"is no COLLADA file ({error})") from error
    if not 0.0 < metres < np.inf:
        raise MeshError(f"has a unit of {metres} m")
    return metres


# -- cache --------------------------------------------------------------------------------


def _cache_folder() -> Path:
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG rules tell to ignore a relative path.
    base = given if given.is_absolute() else Path(os.path.expanduser("~/.cache"))
    return base / "smolvla_ros" / "hulls"


def _load(path: Path, digest: str) -> Hull | None:
    """The stored hull; None where there is none or it is not whole."""
    try:
        with np.load(path) as data:
            vertices, faces = data["vertices"], data["faces"]
            volume, mesh_volume = (float(v) for v in data["volumes"])
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        return None
    whole = (
        vertices.ndim == faces.ndim == 2
        and vertices.shape[1] == faces.shape[1] == 3
        and np.isfinite(vertices).all()
        and faces.dtype.kind == "i"
        and len(faces) > 0
        and 0 <= faces.min() <= faces.max() < len(vertices)
    )
    return Hull(vertices, faces, volume, mesh_volume, digest) if whole else None


def _store(path: Path, hull: Hull) -> None:
    # A cache that cannot be written costs time at the next start and nothing else.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(
                    file,
                    vertices=hull.vertices,
                    faces=hull.faces,
                    volumes=[hull.volume, hull.mesh_volume],
                )
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
