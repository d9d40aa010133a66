"""What a URDF says of joints, limits and collision shapes, checked before it is used.

pinocchio builds the kinematics; it leaves out mimic joints, soft limits and the reason why
a file will not do. Every problem of a file is reported at once.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import coal
import numpy as np
import pinocchio as pin

MOVABLE = ("revolute", "continuous", "prismatic")
_BODY_MASS = 1e-3  # kg; less is a frame that some simulator wanted a mass for


class RobotError(ValueError):
    """A description that cannot be used; the message names file, element and fix."""


@dataclass(frozen=True)
class Mimic:
    """A joint that stands at ``multiplier * joint + offset``, never commanded itself."""

    joint: str
    multiplier: float
    offset: float


@dataclass(frozen=True)
class UrdfJoint:
    """One joint. Radians for rotating joints, metres for prismatic ones.

    Attributes:
        axis: unit vector in the joint's frame.
        lower, upper: the tighter of hard and soft limits; infinite for continuous joints,
            whatever limits they carry, since URDF gives them none.
        travel: lower and upper of the hard limits alone.
        velocity, effort: infinite where the file gives none or 0.
    """

    name: str
    kind: str
    parent: str
    child: str
    axis: tuple[float, float, float] = (1.0, 0.0, 0.0)
    lower: float = -math.inf
    upper: float = math.inf
    travel: tuple[float, float] = (-math.inf, math.inf)
    velocity: float = math.inf
    effort: float = math.inf
    mimic: Mimic | None = None


@dataclass(frozen=True)
class MeshFile:
    """A mesh as the URDF names it, and its scale."""

    filename: str
    scale: tuple[float, float, float]


@dataclass(frozen=True)
class Shape:
    """One ``<collision>``; ``placement`` in the link's frame."""

    link: str
    name: str
    placement: pin.SE3
    geometry: coal.CollisionGeometry | MeshFile


@dataclass(frozen=True)
class Urdf:
    """A URDF's tree. ``notes`` says what was read and does not count, for people."""

    links: list[str]
    joints: dict[str, UrdfJoint]
    shapes: list[Shape]
    notes: list[str] = field(default_factory=list)


def read_urdf(path: Path, text: str, links_without_geometry: Collection[str] = ()) -> Urdf:
    """Read a URDF.

    Args:
        path: what messages call it. links_without_geometry: links with a body that may go
            without a collision shape.

    Raises:
        RobotError: with every problem found, one line each.
    """
    root = _root(path, text)
    if any("xacro" in e.tag for e in root.iter() if isinstance(e.tag, str)):
        raise RobotError(f"{path}: is xacro; expand it first: xacro {path.name} > arm.urdf")
    reader = _Reader()
    urdf = reader.read(root)
    reader.check_bodies(root, urdf, links_without_geometry)
    if reader.problems:
        raise RobotError("\n".join(f"{path}: {p}" for p in reader.problems))
    return urdf


def bodies_without_shape(path: Path, text: str) -> list[str]:
    """Links of a URDF with a body that no collision check can see, in the file's order.

    Args:
        path: what messages call it.

    Raises:
        RobotError: not XML, or no robot.
    """
    return _Reader().bodies_without_shape(_root(path, text))


def _root(path: Path, text: str) -> ET.Element:
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise RobotError(f"{path}: is not XML ({error})") from error
    if root.tag != "robot":
        raise RobotError(f"{path}: root element is <{root.tag}>; a URDF starts with <robot>")
    return root


class _Reader:
    """Reads elements and collects what is wrong with them."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.notes: list[str] = []

    def read(self, root: ET.Element) -> Urdf:
        links = [self._name(e) for e in root.findall("link")]
        joints = [self._joint(e) for e in root.findall("joint")]
        for kind, names in (("link", links), ("joint", [j.name for j in joints])):
            for name in sorted({n for n in names if names.count(n) > 1}):
                self.problems.append(f"{kind} {name}: stands twice; names are unique")
        self._check_tree(links, joints)
        shapes = [
            self._shape(link.get("name", ""), i, e)
            for link in root.findall("link")
            for i, e in enumerate(link.findall("collision"))
        ]
        by_name = {j.name: j for j in joints}
        self._check_mimics(by_name)
        if not any(j.kind in MOVABLE and j.mimic is None for j in joints):
            self.problems.append("no movable joint; a gate needs at least one")
        return Urdf(links, by_name, [s for s in shapes if s is not None], self.notes)

    def check_bodies(self, root: ET.Element, urdf: Urdf, excused: Collection[str]) -> None:
        """No geometry must never come to mean no collision."""
        bare = set(self.bodies_without_shape(root))
        for name in sorted(bare - set(excused)):
            self.problems.append(
                f"link {name} has a body but no <collision>; the gate cannot protect what it "
                "cannot see: add a shape that encloses it, or list it in links_without_geometry"
            )
        shaped = {s.link for s in urdf.shapes}
        for name in excused:
            if name not in urdf.links:
                self.problems.append(
                    f"links_without_geometry: {name!r} is no link; the URDF has: "
                    + ", ".join(urdf.links)
                )
            elif name in shaped:
                self.problems.append(
                    f"links_without_geometry: link {name} has a <collision>; take it off the list"
                )

    def bodies_without_shape(self, root: ET.Element) -> list[str]:
        """Links with a mass or a visual and no collision shape, in the file's order."""
        bare = []
        for link in root.findall("link"):
            mass = link.find("inertial/mass")
            kilograms = 0.0 if mass is None else self._number(mass, "value", 0.0, _named(link))
            has_body = link.find("visual") is not None or kilograms > _BODY_MASS
            if has_body and link.find("collision") is None:
                bare.append(link.get("name", ""))
        return bare

    # -- joints -------------------------------------------------------------------------

    def _joint(self, element: ET.Element) -> UrdfJoint:
        name, kind = self._name(element), element.get("type", "")
        where = f"joint {name}"
        ends = {}
        for end in ("parent", "child"):
            found = element.find(end)
            ends[end] = "" if found is None else found.get("link", "")
            if not ends[end]:
                self.problems.append(f'{where}: no <{end} link="…">; add it')
        if kind not in (*MOVABLE, "fixed"):
            self.problems.append(
                f"{where}: type {kind!r}; only {', '.join(MOVABLE)} and fixed joints can be gated"
            )
        self._origin(element, where)
        limit, soft = element.find("limit"), element.find("safety_controller")
        if kind not in MOVABLE:
            if limit is not None or soft is not None:
                self.notes.append(f"{where} is {kind}: its limits do not count")
            return UrdfJoint(name, kind, ends["parent"], ends["child"])
        if soft is not None:
            # Without it URDF's own reader refuses the file.
            self._number(soft, "k_velocity", None, where)
        lower, upper, travel = self._positions(kind, limit, soft, where)
        return UrdfJoint(
            name,
            kind,
            ends["parent"],
            ends["child"],
            self._axis(element, where),
            lower,
            upper,
            travel,
            self._rating(limit, "velocity", where),
            self._rating(limit, "effort", where),
            self._mimic(element, where),
        )

    def _axis(self, element: ET.Element, where: str) -> tuple[float, float, float]:
        axis = element.find("axis")
        if axis is None:
            return (1.0, 0.0, 0.0)
        direction = self._numbers(axis, "xyz", "1 0 0", 3, where)
        length = np.linalg.norm(direction)
        if length < 1e-6:
            self.problems.append(f"{where}: <axis xyz> is zero; give a direction")
            return (1.0, 0.0, 0.0)
        return tuple((direction / length).tolist())

    def _positions(
        self, kind: str, limit: ET.Element | None, soft: ET.Element | None, where: str
    ) -> tuple[float, float, tuple[float, float]]:
        endless = (-math.inf, math.inf)
        if kind == "continuous":
            given = [a for e in (limit, soft) if e is not None for a in e.attrib]
            if any("lower" in a or "upper" in a for a in given):
                self.notes.append(
                    f"{where} is continuous: its lower and upper limits do not count; "
                    "make it revolute if it has any"
                )
            return *endless, endless
        if limit is None or limit.get("lower") is None or limit.get("upper") is None:
            self.problems.append(f"{where}: no <limit lower upper>; add both")
            return *endless, endless
        lower = self._number(limit, "lower", 0.0, where)
        upper = self._number(limit, "upper", 0.0, where)
        travel = (lower, upper)
        if not lower < upper:
            self.problems.append(f"{where}: lower {lower:g} is not below upper {upper:g}")
        elif soft is not None:
            lower = max(lower, self._number(soft, "soft_lower_limit", lower, where))
            upper = min(upper, self._number(soft, "soft_upper_limit", upper, where))
            if not lower < upper:
                self.problems.append(
                    f"{where}: soft_lower_limit and soft_upper_limit leave nothing between "
                    f"{lower:g} and {upper:g}; write both, inside <limit lower upper>"
                )
        return lower, upper, travel

    def _rating(self, limit: ET.Element | None, attribute: str, where: str) -> float:
        """Velocity or effort limit; 0 is how URDFs write that they do not know it."""
        if limit is None:
            return math.inf
        if limit.get(attribute) is None:
            self.problems.append(f"{where}: <limit> has no {attribute}; add it (0: not known)")
            return math.inf
        value = self._number(limit, attribute, 0.0, where)
        if value < 0.0:
            self.problems.append(f"{where}: {attribute} {value:g} is negative; write its size")
        return value if value > 0.0 else math.inf

    def _mimic(self, element: ET.Element, where: str) -> Mimic | None:
        mimic = element.find("mimic")
        if mimic is None:
            return None
        return Mimic(
            mimic.get("joint", ""),
            self._number(mimic, "multiplier", 1.0, where),
            self._number(mimic, "offset", 0.0, where),
        )

    def _check_mimics(self, joints: dict[str, UrdfJoint]) -> None:
        for joint in joints.values():
            seen, at = {joint.name}, joint
            while at.mimic is not None:
                master = joints.get(at.mimic.joint)
                if master is None or master.kind not in MOVABLE:
                    self.problems.append(
                        f"joint {at.name}: mimics {at.mimic.joint!r}, which is no movable joint"
                    )
                    break
                if master.name in seen:
                    self.problems.append(
                        f"joint {joint.name}: mimics itself through {at.name}; "
                        "let one joint of the ring go free"
                    )
                    break
                seen.add(master.name)
                at = master

    def _check_tree(self, links: list[str], joints: list[UrdfJoint]) -> None:
        if not links:
            self.problems.append("no <link>; an empty robot cannot be gated")
            return
        children: dict[str, list[str]] = {}
        above: set[str] = set()
        for joint in joints:
            for end in (joint.parent, joint.child):
                if end and end not in links:
                    self.problems.append(f"joint {joint.name}: link {end!r} does not exist")
            if joint.child in above:
                self.problems.append(
                    f"link {joint.child}: is the child of two joints; URDF knows trees only"
                )
            above.add(joint.child)
            children.setdefault(joint.parent, []).append(joint.child)
        roots = [name for name in links if name not in above]
        if len(roots) > 1:
            self.problems.append(
                f"links {', '.join(roots)} hang on no joint; join all but one to the tree"
            )
            return
        reached, todo = set(), list(roots)
        while todo:
            link = todo.pop()
            reached.add(link)
            todo += [c for c in children.get(link, ()) if c not in reached]
        if astray := [name for name in links if name not in reached]:
            self.problems.append(f"links {', '.join(astray)} form a ring; URDF knows trees only")

    # -- shapes -------------------------------------------------------------------------

    def _shape(self, link: str, index: int, element: ET.Element) -> Shape | None:
        where = f"link {link}: collision {index}"
        placement = self._origin(element, where)
        kinds = [e for g in element.findall("geometry") for e in g]
        if len(kinds) != 1:
            self.problems.append(f"{where}: needs one shape in <geometry>, has {len(kinds)}")
            return None
        geometry = self._geometry(kinds[0], where)
        return None if geometry is None else Shape(link, f"{link}_{index}", placement, geometry)

    def _geometry(
        self, element: ET.Element, where: str
    ) -> coal.CollisionGeometry | MeshFile | None:
        if element.tag == "mesh":
            scale = self._numbers(element, "scale", "1 1 1", 3, where)
            if not scale.all():
                self.problems.append(f"{where}: mesh scale holds a 0")
            if not element.get("filename"):
                self.problems.append(f"{where}: <mesh> names no filename")
            return MeshFile(element.get("filename", ""), tuple(scale.tolist()))
        if element.tag == "box":
            size = self._numbers(element, "size", "", 3, where)
            return coal.Box(size) if self._positive(size, "box size", where) else None
        attributes = {
            "sphere": ("radius",),
            "cylinder": ("radius", "length"),
            "capsule": ("radius", "length"),
        }.get(element.tag)
        if attributes is None:
            self.problems.append(
                f"{where}: unknown shape <{element.tag}>; "
                "write box, cylinder, capsule, sphere or mesh"
            )
            return None
        size = np.array([self._number(element, a, None, where) for a in attributes])
        if not self._positive(size, f"{element.tag} {' or '.join(attributes)}", where):
            return None
        made = {"sphere": coal.Sphere, "cylinder": coal.Cylinder, "capsule": coal.Capsule}
        return made[element.tag](*size.tolist())

    def _positive(self, values: np.ndarray, what: str, where: str) -> bool:
        if (values > 0.0).all():
            return True
        if not np.isnan(values).any():  # what is no number has been reported
            self.problems.append(f"{where}: {what} is not above 0")
        return False

    def _origin(self, element: ET.Element, where: str) -> pin.SE3:
        origin = element.find("origin")
        if origin is None:
            return pin.SE3.Identity()
        xyz = self._numbers(origin, "xyz", "0 0 0", 3, where)
        rpy = self._numbers(origin, "rpy", "0 0 0", 3, where)
        return pin.SE3(pin.rpy.rpyToMatrix(rpy), xyz)

    # -- values -------------------------------------------------------------------------

    def _name(self, element: ET.Element) -> str:
        name = element.get("name", "")
        if not name:
            self.problems.append(f"<{element.tag}> without a name; name it")
        return name

    def _number(
        self, element: ET.Element, attribute: str, default: float | None, where: str
    ) -> float:
        if element.get(attribute) is None and default is not None:
            return default
        return float(self._numbers(element, attribute, "", 1, where)[0])

    def _numbers(
        self, element: ET.Element, attribute: str, default: str, count: int, where: str
    ) -> np.ndarray:
        text = element.get(attribute, default)
        try:
            values = np.array([float(v) for v in text.split()])
        except ValueError:
            values = np.array([])
        if len(values) != count or not np.isfinite(values).all():
            what = "a finite number" if count == 1 else f"{count} finite numbers"
            self.problems.append(f"{where}: <{element.tag} {attribute}> is {text!r}; write {what}")
            return np.full(count, np.nan)
        return values


def _named(element: ET.Element) -> str:
    return f"{element.tag} {element.get('name', '')}"
