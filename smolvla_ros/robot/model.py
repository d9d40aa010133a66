"""One model of the arm from URDF and SRDF: joints, limits, kinematics, collision geometry.

Kinematics and geometry are pinocchio's and coal's. Everything here is ROS-free.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import coal
import numpy as np
import pinocchio as pin

from smolvla_ros.robot.hull import Hull, MeshError, convex_hull
from smolvla_ros.robot.meshes import find_mesh
from smolvla_ros.robot.reach import Link, extreme_points, reach_of_joints
from smolvla_ros.robot.report import report
from smolvla_ros.robot.srdf import Srdf, read_srdf
from smolvla_ros.robot.urdf import MeshFile, Mimic, RobotError, Shape, Urdf, read_urdf

_BEYOND = 0.05  # m by which a prismatic joint may be found outside its limits


@dataclass(frozen=True)
class Attachment:
    """Something fixed to a link that the URDF does not know: a tool, a grasped object.

    Attributes:
        name: what messages call it. link: the link it is fixed to.
        shape_parts: collision shapes, each with its placement in the link's frame.
        may_touch: links, beside its own, that it need not keep clear of. What the SRDF
            allows to its link is not allowed to it: it may stick out.
    """

    name: str
    link: str
    shape_parts: Sequence[tuple[coal.CollisionGeometry, pin.SE3]]
    may_touch: Collection[str] = ()


@dataclass(frozen=True)
class Geometry:
    """One collision shape: its index in ``RobotModel.geometry`` and the link that wears it.

    ``attachment`` is None for the URDF's own shapes.
    """

    index: int
    name: str
    link: str
    attachment: Attachment | None = None


class RobotModel:
    """Joints, limits and collision geometry of one arm.

    Vectors of joint positions ``q`` have one entry a movable joint, in the order of
    ``names``, in radians (metres for prismatic joints). Mimic joints follow theirs.

    Attributes:
        names: ``D`` movable joints, root to tip, mimic joints left out.
        mimics: joint name → the movable joint it follows, with multiplier and offset.
        lower, upper: ``[D]`` position limits, the tighter of hard and soft ones and of
            those of the joints that mimic; infinite for continuous joints.
        velocity: ``[D]`` rad/s or m/s, likewise; infinite where the URDF gives none.
        effort: ``[D]`` Nm or N; infinite where the URDF gives none.
        model: the pinocchio model, with a joint for each mimic joint: its configurations
            come from :meth:`configuration`.
        geometry: its collision geometry, no pairs added; meshes are convex hulls.
        geometries: the shapes, each with its link. srdf: what the SRDF said.
        hulls: name of a shape → the hull of its mesh, for shapes that are meshes.
        fingerprint: sha256, hexadecimal, of URDF, SRDF and mesh files.
        notes: what the description holds that does not count, for people.
    """

    def __init__(
        self,
        urdf: str | Path,
        srdf: str | Path | None = None,
        *,
        package_dirs: Sequence[str | Path] = (),
        links_without_geometry: Collection[str] = (),
        attachments: Sequence[Attachment] = (),
    ):
        """Read the description.

        Args:
            urdf: a URDF file. srdf: its SRDF; without one only links that a joint joins
                are exempt from the self-collision check.
            package_dirs: folders that hold the packages of ``package://`` meshes, or are one.
            links_without_geometry: links with mass or visual that may go unprotected.
            attachments: what the arm carries.

        Raises:
            RobotError: a file that is missing or unreadable, a joint without the limits a
                gate needs, a link with mass or visual but no collision shape, a mesh that
                is not found, an attachment to no link, or an SRDF that names an unknown
                link or joint. All problems of the URDF stand in one error.
        """
        self.urdf_path = Path(urdf)
        if not self.urdf_path.is_file():
            raise RobotError(f"{self.urdf_path}: no such file; give the path of a URDF")
        try:
            text = self.urdf_path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise RobotError(f"{self.urdf_path}: is not UTF-8 text ({error})") from error
        description = read_urdf(self.urdf_path, text, links_without_geometry)
        self.hulls = self._find_hulls(description.shapes, [Path(p) for p in package_dirs])
        try:
            self.model = pin.buildModelFromXML(text)
        except (ValueError, RuntimeError) as error:
            raise RobotError(f"{self.urdf_path}: not a usable URDF ({error})") from error
        self._data = self.model.createData()
        self.notes = list(description.notes)
        self.links = [f.name for f in self.model.frames if f.type == pin.FrameType.BODY]
        self._take_joints(description)
        self._take_shapes(description.shapes, attachments)
        self._adjacent = _adjacent_links(description)
        self.srdf = Srdf()
        if srdf is not None:
            self.srdf = self._read_srdf(Path(srdf), description)
        self._has_srdf = srdf is not None
        self.fingerprint = _fingerprint(
            [self.urdf_path, *([Path(srdf)] if srdf else [])],
            [self.hulls[s.name].digest for s in description.shapes if s.name in self.hulls],
        )
        self._reach: dict[int, np.ndarray] = {}

    # -- reading ------------------------------------------------------------------------

    def _find_hulls(self, shapes: list[Shape], package_dirs: list[Path]) -> dict[str, Hull]:
        hulls: dict[str, Hull] = {}
        built: dict[MeshFile, Hull] = {}
        problems = []
        for shape in shapes:
            mesh = shape.geometry
            if not isinstance(mesh, MeshFile):
                continue
            where = f"{self.urdf_path}: link {shape.link}: mesh {mesh.filename!r}"
            try:
                if mesh not in built:
                    path = find_mesh(mesh.filename, self.urdf_path, package_dirs)
                    built[mesh] = convex_hull(path, mesh.scale)
                hulls[shape.name] = built[mesh]
            except FileNotFoundError as error:
                problems.append(f"{where}: {error}; put it there or name its package's folder")
            except MeshError as error:
                problems.append(f"{where}: {path} {error}; write an STL, OBJ or DAE of the part")
        if problems:
            raise RobotError("\n".join(problems))
        return hulls

    def _take_joints(self, description: Urdf) -> None:
        every = [description.joints[name] for name in self.model.names[1:]]
        self.names: tuple[str, ...] = tuple(j.name for j in every if j.mimic is None)
        follows = [_follow(j.name, description) for j in every]
        self.mimics = {j.name: m for j, m in zip(every, follows, strict=True) if j.mimic}
        # Of each joint of the model: which entry of q moves it, how much, and from where.
        self._master = np.array([self.names.index(m.joint) for m in follows])
        self._multiplier = np.array([m.multiplier for m in follows])
        self._offset = np.array([m.offset for m in follows])
        self._rotates = np.array([j.kind != "prismatic" for j in every])
        self._travel = [j.travel for j in every]
        self._first = np.array([j.idx_q for j in self.model.joints[1:]])
        # pinocchio writes a continuous joint as (cos, sin): two numbers for one freedom.
        self._wraps = np.array([j.nq == 2 for j in self.model.joints[1:]])
        self._plain = not self.mimics and not self._wraps.any()
        self._axes = [np.array(j.axis) for j in every]
        own = [description.joints[name] for name in self.names]
        self.lower, self.upper, self.velocity, self.effort = (
            np.array([getattr(j, attribute) for j in own])
            for attribute in ("lower", "upper", "velocity", "effort")
        )
        for name, mimic in self.mimics.items():
            self._tighten(self.names.index(mimic.joint), name, mimic, description)

    def _tighten(self, i: int, name: str, mimic: Mimic, description: Urdf) -> None:
        """A joint that mimics holds its limits by those of the one it follows."""
        joint = description.joints[name]
        if mimic.multiplier != 0.0:
            ends = sorted((v - mimic.offset) / mimic.multiplier for v in (joint.lower, joint.upper))
            self.lower[i] = max(self.lower[i], ends[0])
            self.upper[i] = min(self.upper[i], ends[1])
            self.velocity[i] = min(self.velocity[i], joint.velocity / abs(mimic.multiplier))
        stays_inside = mimic.multiplier != 0.0 or joint.lower <= mimic.offset <= joint.upper
        if not (stays_inside and self.lower[i] < self.upper[i]):
            raise RobotError(
                f"{self.urdf_path}: joint {name}: its limits {joint.lower:g} .. {joint.upper:g}, "
                f"multiplier {mimic.multiplier:g} and offset {mimic.offset:g} leave {mimic.joint} "
                "no room; widen the limits or mend multiplier and offset"
            )

    def _take_shapes(self, shapes: list[Shape], attachments: Sequence[Attachment]) -> None:
        self.geometry = pin.GeometryModel()
        self.geometries: list[Geometry] = []
        solids = {mesh: hull.shape() for mesh, hull in self._hull_of_mesh(shapes).items()}
        for s in shapes:
            solid = solids[s.geometry] if isinstance(s.geometry, MeshFile) else s.geometry
            self._add_shape(s.name, s.link, solid, s.placement, None)
        problems = []
        for attachment in attachments:
            where = f"attachment {attachment.name}"
            unknown = {attachment.link, *attachment.may_touch} - set(self.links)
            if unknown:
                problems.append(
                    f"{where}: {', '.join(sorted(unknown))} is no link of {self.urdf_path}; "
                    f"it has: {', '.join(self.links)}"
                )
                continue
            for k, (solid, placement) in enumerate(attachment.shape_parts):
                solid.computeLocalAABB()
                if not math.isfinite(solid.aabb_radius):
                    problems.append(f"{where}: part {k} has no finite size")
                    continue
                name = f"{attachment.name}/{k}"
                self._add_shape(name, attachment.link, solid, placement, attachment)
        names = [a.name for a in attachments]
        problems += [
            f"attachment {n}: stands twice" for n in sorted(set(names)) if names.count(n) > 1
        ]
        if problems:
            raise RobotError("\n".join(problems))

    def _hull_of_mesh(self, shapes: list[Shape]) -> dict[MeshFile, Hull]:
        return {s.geometry: self.hulls[s.name] for s in shapes if s.name in self.hulls}

    def _add_shape(
        self,
        name: str,
        link: str,
        solid: coal.CollisionGeometry,
        placement: pin.SE3,
        attachment: Attachment | None,
    ) -> None:
        number = self.model.getFrameId(link, pin.FrameType.BODY)
        frame = self.model.frames[number]
        shape = pin.GeometryObject(
            name, frame.parentJoint, number, frame.placement * placement, solid
        )
        index = self.geometry.addGeometryObject(shape)
        self.geometries.append(Geometry(index, name, link, attachment))

    def _read_srdf(self, path: Path, description: Urdf) -> Srdf:
        if not path.is_file():
            raise RobotError(f"{path}: no such file; give the path of an SRDF")
        try:
            srdf = read_srdf(path)
        except ValueError as error:
            raise RobotError(str(error)) from error
        unknown = srdf.links() - set(self.links)
        if unknown:
            raise RobotError(
                f"{path}: names unknown link {', '.join(sorted(unknown))}; is it of this robot?"
            )
        if srdf.name != self.model.name:
            self.notes.append(f"{path.name} is of robot {srdf.name!r}, not of {self.model.name!r}")
        for name, pose in srdf.states.items():
            stray = set(pose) - set(description.joints)
            if stray:
                raise RobotError(
                    f"{path}: group_state {name} names unknown joint {', '.join(sorted(stray))}"
                )
        return srdf

    # -- using --------------------------------------------------------------------------

    @property
    def dof(self) -> int:
        """Number of movable joints ``D``."""
        return len(self.names)

    def limits_by_name(self) -> dict[str, tuple[float, float]]:
        """Joint name → (lower, upper) in radians or metres."""
        return dict(zip(self.names, zip(self.lower, self.upper, strict=True), strict=True))

    def pose(self, state: str) -> np.ndarray:
        """``[D]`` joint positions of the SRDF's ``group_state`` named ``state``.

        Raises:
            RobotError: no such state, or it leaves a joint out.
        """
        known = self.srdf.states
        if state not in known:
            raise RobotError(
                f"SRDF has no group_state {state!r}; it has: {', '.join(sorted(known)) or 'none'}"
            )
        missing = [n for n in self.names if n not in known[state]]
        if missing:
            raise RobotError(f"group_state {state!r} leaves out joint {', '.join(missing)}")
        return np.array([known[state][n] for n in self.names])

    def configuration(self, q: np.ndarray) -> np.ndarray:
        """``[D]`` joint positions → pinocchio's configuration vector ``[nq]``."""
        if self._plain:
            return q
        values = self._multiplier * np.asarray(q)[self._master] + self._offset
        out = np.empty(self.model.nq)
        out[self._first] = np.where(self._wraps, np.cos(values), values)
        out[self._first[self._wraps] + 1] = np.sin(values[self._wraps])
        return out

    def frame_position(self, q: np.ndarray, frame: str) -> np.ndarray:
        """``[3]`` metres: where the origin of ``frame`` is in the root frame at ``q``."""
        number = self._frame(frame)
        pin.framesForwardKinematics(self.model, self._data, self.configuration(q))
        return np.array(self._data.oMf[number].translation)

    def frame_jacobian(self, q: np.ndarray, frame: str) -> np.ndarray:
        """``[6, D]``: how the origin of ``frame`` moves (m/s, the first three rows) and ``frame``
        turns (rad/s) along the root frame's axes, for each rad/s (m/s) of a joint at ``q``."""
        number, way = self._frame(frame), pin.ReferenceFrame.LOCAL_WORLD_ALIGNED
        q = self.configuration(q)
        return self.per_joint(pin.computeFrameJacobian(self.model, self._data, q, number, way))

    def per_joint(self, rows: np.ndarray) -> np.ndarray:
        """Derivatives ``[..., nv]`` by the joints of :attr:`model` → ``[..., D]`` by those that
        move: one that mimics adds to the one it follows."""
        found = np.zeros((*rows.shape[:-1], self.dof))
        np.add.at(found.T, self._master, (rows * self._multiplier).T)
        return found

    def _frame(self, name: str) -> int:
        if not self.model.existFrame(name):
            raise RobotError(f"{self.urdf_path}: has no frame {name!r}")
        return self.model.getFrameId(name)

    def self_collision_pairs(self) -> list[tuple[Geometry, Geometry]]:
        """Every pair of shapes on two links that must not touch.

        Shapes that no joint moves against each other are left out, and so are pairs the
        SRDF allows; without an SRDF, those of links that a joint joins.
        """
        return [
            (a, b)
            for a, b in itertools.combinations(self.geometries, 2)
            if self.carrier(a) != self.carrier(b) and not self._may_touch(a, b)
        ]

    def carrier(self, geometry: Geometry) -> int:
        """Index of the joint of ``model`` that carries a shape; 0 where none does."""
        return self.geometry.geometryObjects[geometry.index].parentJoint

    def adjacent(self, link1: str, link2: str) -> bool:
        """True where a joint joins two links, or links without a shape lie between them."""
        return frozenset((link1, link2)) in self._adjacent

    def _may_touch(self, a: Geometry, b: Geometry) -> bool:
        if a.attachment or b.attachment:
            return any(
                one.attachment is not None and other.link in one.attachment.may_touch
                for one, other in ((a, b), (b, a))
            )
        if self._has_srdf:
            return self.srdf.allows_contact(a.link, b.link)
        return self.adjacent(a.link, b.link)

    def reach(self, geometry: Geometry) -> np.ndarray:
        """``[D]`` how far any point of a shape can travel per unit of each joint.

        Metres per radian for rotating joints, per metre for prismatic ones; zero for
        joints that do not carry the shape. A bound for every configuration that is not
        :meth:`out_of_reach`; see ``robot.reach``.
        """
        return self._per_master(self._reach_of(geometry))

    def out_of_reach(self, q: np.ndarray) -> list[str]:
        """Prismatic joints that are so far outside their hard limits at ``q`` ``[D]`` that
        :meth:`reach` is no bound there."""
        at = self._multiplier * np.asarray(q)[self._master] + self._offset
        return [
            name
            for name, value, (lower, upper), rotates in zip(
                self.model.names[1:], at, self._travel, self._rotates, strict=True
            )
            if not rotates and not lower - _BEYOND <= value <= upper + _BEYOND
        ]

    def relative_reach(self, a: Geometry, b: Geometry) -> np.ndarray:
        """``[D]`` how far points of two shapes can travel against each other per unit of
        each joint; as :meth:`reach`.

        A joint that carries both does not move them against each other. That holds for a
        joint, not for an entry of ``q``: two fingers that mimic one motor move apart.
        """
        of_a, of_b = self._reach_of(a), self._reach_of(b)
        return self._per_master(np.where((of_a > 0) & (of_b > 0), 0.0, of_a + of_b))

    def report(self, samples: int = 1000, seed: int = 0) -> list[str]:
        """What the collision checks see, and what a person should look at; a line each.

        Args:
            samples: random configurations in which pairs that the SRDF allows to touch
                are tried. seed: of these.
        """
        return report(self, samples, seed)

    def _reach_of(self, geometry: Geometry) -> np.ndarray:
        """``[J]`` reach per joint of the model, mimic joints included."""
        if geometry.index not in self._reach:
            shape = self.geometry.geometryObjects[geometry.index]
            points, radius = extreme_points(shape.geometry)
            points = points @ shape.placement.rotation.T + shape.placement.translation
            found = np.zeros(self.model.njoints - 1)
            for j, metres in reach_of_joints(points, radius, self._chain(shape.parentJoint)):
                found[j] = metres
            self._reach[geometry.index] = found
        return self._reach[geometry.index]

    def _chain(self, joint: int) -> list[Link]:
        """The joints from ``joint`` to the root."""
        chain = []
        while joint > 0:
            placement = self.model.jointPlacements[joint]
            lower, upper = self._travel[joint - 1]
            travel = None if self._rotates[joint - 1] else (lower - _BEYOND, upper + _BEYOND)
            chain.append(Link(joint - 1, self._axes[joint - 1], placement, travel))
            joint = self.model.parents[joint]
        return chain

    def _per_master(self, per_joint: np.ndarray) -> np.ndarray:
        moved = per_joint * np.abs(self._multiplier)
        return np.bincount(self._master, weights=moved, minlength=self.dof)


def _follow(name: str, description: Urdf) -> Mimic:
    """The movable joint behind ``name``, through every mimic joint between."""
    found = Mimic(name, 1.0, 0.0)
    while (next_ := description.joints[found.joint].mimic) is not None:
        found = replace(
            found,
            joint=next_.joint,
            multiplier=found.multiplier * next_.multiplier,
            offset=found.multiplier * next_.offset + found.offset,
        )
    return found


def _adjacent_links(description: Urdf) -> set[frozenset[str]]:
    """Pairs of links with a shape between which lie one joint, or links without a shape."""
    shaped = {s.link for s in description.shapes}
    neighbours: dict[str, set[str]] = {name: set() for name in description.links}
    for joint in description.joints.values():
        neighbours[joint.parent].add(joint.child)
        neighbours[joint.child].add(joint.parent)
    for bare in set(description.links) - shaped:
        around = neighbours.pop(bare)
        for name in around:
            neighbours[name] |= around - {name}
            neighbours[name].discard(bare)
    return {frozenset((a, b)) for a, near in neighbours.items() for b in near}


def _fingerprint(files: list[Path], digests: list[str]) -> str:
    parts = [hashlib.sha256(f.read_bytes()).hexdigest() for f in files] + digests
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
