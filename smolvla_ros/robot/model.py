"""One model of the arm from URDF and SRDF: joints, limits, kinematics, collision geometry.

Kinematics and geometry are pinocchio's and coal's. Everything here is ROS-free.
"""

from __future__ import annotations

import itertools
import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pinocchio as pin

from smolvla_ros.robot.srdf import Srdf, read_srdf


class RobotError(ValueError):
    """A description that cannot be used; the message names file, element and fix."""


@dataclass(frozen=True)
class Geometry:
    """One collision shape: its index in ``RobotModel.geometry`` and the link that wears it."""

    index: int
    name: str
    link: str


class RobotModel:
    """Joints, limits and collision geometry of one arm.

    Vectors of joint positions ``q`` have one entry a movable joint, in the order of
    ``names``, in radians (metres for prismatic joints).

    Attributes:
        names: ``D`` movable joints, root to tip.
        lower, upper: ``[D]`` position limits; infinite for continuous joints.
        velocity: ``[D]`` rad/s or m/s, from the URDF.
        model: the pinocchio model. geometry: its collision geometry, no pairs added.
        geometries: the shapes, each with its link. srdf: what the SRDF said.
    """

    def __init__(self, urdf: str | Path, srdf: str | Path | None = None):
        """Read the description.

        Args:
            urdf: a URDF file. srdf: its SRDF; without one only parent and child links
                are exempt from the self-collision check.

        Raises:
            RobotError: a file that is missing or unreadable, a joint without the limits a
                gate needs, a mimic joint, a link with mass or visual but no collision
                shape, or an SRDF that names an unknown link or joint.
        """
        self.urdf_path = Path(urdf)
        if not self.urdf_path.is_file():
            raise RobotError(f"{self.urdf_path}: no such file; give the path of a URDF")
        text = self.urdf_path.read_text()
        try:
            root = ET.fromstring(text)
            self.model = pin.buildModelFromXML(text)
            self.geometry = pin.buildGeomFromUrdfString(
                self.model,
                text,
                pin.GeometryType.COLLISION,
                package_dirs=[str(self.urdf_path.parent)],
            )
        except (ET.ParseError, ValueError, RuntimeError) as error:
            raise RobotError(f"{self.urdf_path}: not a usable URDF ({error})") from error
        self.names: tuple[str, ...] = tuple(self.model.names[1:])
        self._check_joints(root)
        self._check_geometry(root)
        self.lower = np.where(self._continuous, -np.inf, self._per_joint("lowerPositionLimit"))
        self.upper = np.where(self._continuous, np.inf, self._per_joint("upperPositionLimit"))
        self.velocity = np.array(self.model.velocityLimit)
        self.effort = np.array(self.model.effortLimit)
        self.geometries = [
            Geometry(i, g.name, self.model.frames[g.parentFrame].name)
            for i, g in enumerate(self.geometry.geometryObjects)
        ]
        self.links = [f.name for f in self.model.frames if f.type == pin.FrameType.BODY]
        self._parents = {
            frozenset((j.find("parent").get("link"), j.find("child").get("link")))
            for j in root.iter("joint")
            if j.find("parent") is not None and j.find("child") is not None
        }
        self.srdf = Srdf()
        if srdf is not None:
            self.srdf = self._read_srdf(Path(srdf))
        self._has_srdf = srdf is not None
        self._data = self.model.createData()

    # -- reading ------------------------------------------------------------------------

    def _check_joints(self, root: ET.Element) -> None:
        problems = []
        for joint in root.iter("joint"):
            if joint.find("mimic") is not None:
                problems.append(
                    f"joint {joint.get('name')}: mimic joints are not supported yet; "
                    "make it fixed at its widest opening"
                )
            if joint.get("type") not in ("revolute", "prismatic"):
                continue
            limit = joint.find("limit")
            if limit is None or limit.get("lower") is None or limit.get("upper") is None:
                problems.append(f"joint {joint.get('name')}: no <limit lower upper>; add both")
            elif not float(limit.get("lower")) < float(limit.get("upper")):
                problems.append(
                    f"joint {joint.get('name')}: lower {limit.get('lower')} is not below "
                    f"upper {limit.get('upper')}"
                )
        if not self.names:
            problems.append("no movable joint; a gate needs at least one")
        for name, joint in zip(self.names, self.model.joints[1:], strict=True):
            if joint.nv != 1:
                problems.append(
                    f"joint {name}: has {joint.nv} degrees of freedom; only revolute, "
                    "continuous and prismatic joints can be gated"
                )
        if problems:
            raise RobotError("\n".join(f"{self.urdf_path}: {p}" for p in problems))
        # pinocchio writes a continuous joint as (cos, sin): two numbers for one freedom.
        self._continuous = np.array([j.nq == 2 for j in self.model.joints[1:]])
        self._prismatic = np.array(
            [j.shortname().startswith("JointModelP") for j in self.model.joints[1:]]
        )

    def _check_geometry(self, root: ET.Element) -> None:
        """No geometry must never come to mean no collision."""
        bare = []
        for link in root.iter("link"):
            mass = link.find("inertial/mass")
            has_body = link.find("visual") is not None or (
                mass is not None and float(mass.get("value", 0)) > 1e-3
            )
            if has_body and link.find("collision") is None:
                bare.append(link.get("name"))
        if bare:
            raise RobotError(
                f"{self.urdf_path}: link {', '.join(bare)} has a body but no <collision>; the gate "
                "cannot protect what it cannot see: add a shape that encloses it"
            )

    def _read_srdf(self, path: Path) -> Srdf:
        if not path.is_file():
            raise RobotError(f"{path}: no such file; give the path of an SRDF")
        try:
            srdf = read_srdf(path)
        except ValueError as error:
            raise RobotError(str(error)) from error
        unknown = srdf.links() - set(self.links)
        if unknown:
            raise RobotError(f"{path}: names unknown link {', '.join(sorted(unknown))}")
        for name, pose in srdf.states.items():
            stray = set(pose) - set(self.names)
            if stray:
                raise RobotError(
                    f"{path}: group_state {name} names unknown joint {', '.join(sorted(stray))}"
                )
        return srdf

    def _per_joint(self, attribute: str) -> np.ndarray:
        values = np.asarray(getattr(self.model, attribute))
        return np.array([values[j.idx_q] for j in self.model.joints[1:]])

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
        if not self._continuous.any():
            return q
        out = np.empty(self.model.nq)
        for value, joint, wraps in zip(q, self.model.joints[1:], self._continuous, strict=True):
            i = joint.idx_q
            if wraps:
                out[i], out[i + 1] = math.cos(value), math.sin(value)
            else:
                out[i] = value
        return out

    def frame_position(self, q: np.ndarray, frame: str) -> np.ndarray:
        """``[3]`` metres: where the origin of ``frame`` is in the root frame at ``q``."""
        if not self.model.existFrame(frame):
            raise RobotError(f"{self.urdf_path}: has no frame {frame!r}")
        pin.framesForwardKinematics(self.model, self._data, self.configuration(q))
        return np.array(self._data.oMf[self.model.getFrameId(frame)].translation)

    def self_collision_pairs(self) -> list[tuple[Geometry, Geometry]]:
        """Every pair of shapes on two links that must not touch.

        Shapes on one link never move against each other and are left out, and so are
        pairs the SRDF allows; without an SRDF, parent and child links.
        """
        return [
            (a, b)
            for a, b in itertools.combinations(self.geometries, 2)
            if a.link != b.link and not self._may_touch(a.link, b.link)
        ]

    def _may_touch(self, link1: str, link2: str) -> bool:
        if self._has_srdf:
            return self.srdf.allows_contact(link1, link2)
        return frozenset((link1, link2)) in self._parents

    def reach(self, geometry: Geometry) -> np.ndarray:
        """``[D]`` how far any point of a shape can travel per unit of each joint.

        Metres per radian for rotating joints, per metre for prismatic ones; zero for
        joints that do not carry the shape. A bound for every configuration: the chain of
        link offsets from the joint's axis to the shape, plus the shape's radius.
        """
        shape = self.geometry.geometryObjects[geometry.index]
        shape.geometry.computeLocalAABB()
        radius = float(shape.geometry.aabb_radius)
        centre = shape.placement.act(np.asarray(shape.geometry.aabb_center))
        distance = float(np.linalg.norm(centre)) + radius
        bound = np.zeros(self.dof)
        joint = shape.parentJoint
        while joint > 0:
            if self._prismatic[joint - 1]:
                bound[joint - 1] = 1.0
                travel = max(abs(self.lower[joint - 1]), abs(self.upper[joint - 1]))
                distance += travel
            else:
                bound[joint - 1] = distance
            distance += float(np.linalg.norm(self.model.jointPlacements[joint].translation))
            joint = self.model.parents[joint]
        return bound
