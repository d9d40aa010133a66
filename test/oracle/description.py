"""Reads a URDF and an SRDF: links, joints, limits, shapes, allowed contacts."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.spatial import ConvexHull


@dataclass(frozen=True)
class Shape:
    """One convex shape in its own frame.

    ``kind``: box (half edges), sphere (radius), cylinder and capsule (radius, half length
    along z, caps not counted), hull (``points`` ``[V, 3]``). Metres.
    """

    kind: str
    size: tuple[float, ...] = ()
    points: np.ndarray | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Body:
    """A shape on a link, with its pose ``[4, 4]`` in the link's frame."""

    link: str
    shape: Shape
    pose: np.ndarray


@dataclass
class Joint:
    """One URDF joint. ``mimic``: (master, multiplier, offset)."""

    name: str
    kind: str
    parent: str
    child: str
    origin: np.ndarray
    axis: np.ndarray
    lower: float = -np.inf
    upper: float = np.inf
    velocity: float = np.inf
    mimic: tuple[str, float, float] | None = None


def rotation(rpy) -> np.ndarray:
    """Fixed-axis roll, pitch, yaw -> ``[3, 3]``."""
    (r, p, y) = rpy
    cr, sr, cp, sp, cy, sy = np.cos(r), np.sin(r), np.cos(p), np.sin(p), np.cos(y), np.sin(y)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def pose_of(xyz, rpy) -> np.ndarray:
    """``[4, 4]`` from a position and fixed-axis angles."""
    out = np.eye(4)
    out[:3, :3] = rotation(rpy)
    out[:3, 3] = xyz
    return out


def _numbers(text: str | None, default: str) -> list[float]:
    return [float(x) for x in (text or default).split()]


def _origin(element: ET.Element) -> np.ndarray:
    origin = element.find("origin")
    if origin is None:
        return np.eye(4)
    return pose_of(_numbers(origin.get("xyz"), "0 0 0"), _numbers(origin.get("rpy"), "0 0 0"))


class Description:
    """What a URDF says, in the order in which it says it."""

    def __init__(self, urdf: Path, package_dirs=()):
        self.urdf = Path(urdf)
        self.package_dirs = [Path(p) for p in package_dirs]
        root = ET.parse(urdf).getroot()
        self.links = [link.get("name") for link in root.findall("link")]
        self.joints = [self._joint(e) for e in root.findall("joint")]
        self.bodies = [
            Body(link.get("name"), self._shape(c.find("geometry")), _origin(c))
            for link in root.findall("link")
            for c in link.findall("collision")
        ]
        children = {j.child for j in self.joints}
        self.root = next(link for link in self.links if link not in children)

    def _joint(self, e: ET.Element) -> Joint:
        axis = np.array(_numbers(e.find("axis").get("xyz") if e.find("axis") is not None else None,
                                 "1 0 0"))  # fmt: skip
        joint = Joint(
            e.get("name"),
            e.get("type"),
            e.find("parent").get("link"),
            e.find("child").get("link"),
            _origin(e),
            axis / (np.linalg.norm(axis) or 1.0),
        )
        limit, soft, mimic = e.find("limit"), e.find("safety_controller"), e.find("mimic")
        if limit is not None and joint.kind in ("revolute", "prismatic", "continuous"):
            joint.velocity = float(limit.get("velocity", 0)) or np.inf
            if joint.kind != "continuous":
                joint.lower, joint.upper = float(limit.get("lower")), float(limit.get("upper"))
        if soft is not None and joint.kind in ("revolute", "prismatic"):
            joint.lower = max(joint.lower, float(soft.get("soft_lower_limit", joint.lower)))
            joint.upper = min(joint.upper, float(soft.get("soft_upper_limit", joint.upper)))
        if mimic is not None:
            joint.mimic = (
                mimic.get("joint"),
                float(mimic.get("multiplier", 1.0)),
                float(mimic.get("offset", 0.0)),
            )
        return joint

    def _shape(self, geometry: ET.Element) -> Shape:
        e = geometry[0]
        if e.tag == "box":
            return Shape("box", tuple(x / 2 for x in _numbers(e.get("size"), "")))
        if e.tag == "sphere":
            return Shape("sphere", (float(e.get("radius")),))
        if e.tag in ("cylinder", "capsule"):
            return Shape(e.tag, (float(e.get("radius")), float(e.get("length")) / 2))
        assert e.tag == "mesh", f"unknown shape {e.tag}"
        scale = _numbers(e.get("scale"), "1 1 1")
        return hull(read_points(self._find(e.get("filename"))) * scale)

    def _find(self, name: str) -> Path:
        if not name.startswith("package://"):
            path = Path(name.removeprefix("file://"))
            return path if path.is_absolute() else self.urdf.parent / path
        package, rest = name.removeprefix("package://").split("/", 1)
        places = [
            *(p / package / rest for p in self.package_dirs),
            *(p / rest for p in self.package_dirs if p.name == package),
        ]
        return next(p for p in places if p.is_file())


def hull(points: np.ndarray) -> Shape:
    """The convex hull of points as a shape."""
    points = np.asarray(points, dtype=float)
    return Shape("hull", (), points[ConvexHull(points).vertices])


def read_points(path: Path) -> np.ndarray:
    """``[V, 3]`` the vertices of an STL, OBJ or DAE file."""
    raw = path.read_bytes()
    kind = path.suffix.lower()
    if kind == ".obj":
        rows = [line.split()[1:4] for line in raw.decode().splitlines() if line[:2] == "v "]
        return np.array(rows, dtype=float)
    if kind == ".dae":
        return _collada(ET.fromstring(raw))
    assert kind == ".stl", f"{path}: unknown mesh format"
    count = int.from_bytes(raw[80:84], "little")
    if len(raw) == 84 + 50 * count:
        rows = np.frombuffer(raw, np.dtype([("n", "<3f4"), ("v", "<9f4"), ("a", "<u2")]), count, 84)
        return np.unique(rows["v"].reshape(-1, 3), axis=0).astype(float)
    found = re.findall(rb"vertex\s+(\S+)\s+(\S+)\s+(\S+)", raw)
    return np.array(found, dtype=float)


def _collada(root: ET.Element) -> np.ndarray:
    """Positions of every geometry that the scene places, in metres, z up."""

    def all_of(element, name):
        return [e for e in element.iter() if e.tag.rsplit("}", 1)[-1] == name]

    unit = next((float(e.get("meter", 1)) for e in all_of(root, "unit")), 1.0)
    up = next((e.text.strip() for e in all_of(root, "up_axis")), "Y_UP")
    turn = {"Z_UP": np.eye(3), "Y_UP": rotation((np.pi / 2, 0, 0))}.get(up, np.eye(3))
    tables = {}
    for geometry in all_of(root, "geometry"):
        used = {i.get("source")[1:] for v in all_of(geometry, "vertices") for i in v}
        for source in all_of(geometry, "source"):
            if source.get("id") in used:
                array = next(iter(all_of(source, "float_array")))
                tables[geometry.get("id")] = np.array(array.text.split(), float).reshape(-1, 3)
    out = []

    def walk(node, pose):
        for e in node:
            tag = e.tag.rsplit("}", 1)[-1]
            if tag == "matrix":
                pose = pose @ np.array(e.text.split(), float).reshape(4, 4)
            elif tag == "translate":
                pose = pose @ pose_of(_numbers(e.text, ""), (0, 0, 0))
            elif tag == "rotate":
                x, y, z, angle = _numbers(e.text, "")
                k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
                step = np.eye(4)
                a = np.radians(angle)
                step[:3, :3] += np.sin(a) * k + (1 - np.cos(a)) * k @ k
                pose = pose @ step
            elif tag == "scale":
                pose = pose @ np.diag([*_numbers(e.text, ""), 1.0])
            elif tag == "instance_geometry":
                points = tables[e.get("url")[1:]]
                out.append(points @ pose[:3, :3].T + pose[:3, 3])
            elif tag == "node":
                walk(e, pose)

    for scene in all_of(root, "visual_scene"):
        walk(scene, np.eye(4))
    return np.vstack(out) * unit @ turn.T


def allowed_contacts(srdf: Path | None, links: list[str], joints: list[Joint]):
    """A function of two link names: may they touch?"""
    if srdf is None:
        near = {frozenset((j.parent, j.child)) for j in joints}
        return lambda a, b: frozenset((a, b)) in near
    root = ET.parse(srdf).getroot()

    def pairs(tag):
        return {frozenset((e.get("link1"), e.get("link2"))) for e in root.iter(tag)}

    disabled, enabled = pairs("disable_collisions"), pairs("enable_collisions")
    silent = {e.get("link") for e in root.iter("disable_default_collisions")}

    def may(a, b):
        pair = frozenset((a, b))
        return pair not in enabled and (pair in disabled or bool(silent & pair))

    return may
