"""What a description says of an arm, and what it leaves open, put together for a person."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pinocchio as pin

from smolvla_ros.robot.descent import nearest
from smolvla_ros.robot.model import Geometry, RobotModel
from smolvla_ros.robot.reach import extreme_points
from smolvla_ros.robot.sampling import Contact, drawn, sample_contacts
from smolvla_ros.robot.urdf import UrdfJoint, bodies_without_shape, read_urdf

_ALWAYS = 0.95  # share of samples from which on a contact belongs to the arm, as in MoveIt
_OFTEN = 0.25  # share from which on a pair that is checked is in the arm's way
_STARTS = 6  # postures that a search begins from, beside the nearest one
_POSITION = "position"


@dataclass(frozen=True)
class Joint:
    """One movable joint.

    Attributes:
        kind: revolute, continuous or prismatic. followers: the joints that mimic it.
        sources: lower, upper, velocity → what in the URDF gave the value that counts.
    """

    name: str
    kind: str
    followers: list[str]
    sources: dict[str, str]


def describe_joints(robot: RobotModel) -> list[Joint]:
    """The movable joints, in the order of ``robot.names``."""
    text = robot.urdf_path.read_text(encoding="utf-8")
    bare = bodies_without_shape(robot.urdf_path, text)
    joints = read_urdf(robot.urdf_path, text, bare).joints
    found = []
    for i, name in enumerate(robot.names):
        followers = [f for f, mimic in robot.mimics.items() if mimic.joint == name]
        sources = {
            attribute: _source(joints[name], attribute, float(getattr(robot, attribute)[i]))
            for attribute in ("lower", "upper", "velocity")
        }
        found.append(Joint(name, joints[name].kind, followers, sources))
    return found


def _source(joint: UrdfJoint, attribute: str, value: float) -> str:
    if value != getattr(joint, attribute):
        return "URDF, a joint that mimics it"
    hard = dict(zip(("lower", "upper"), joint.travel, strict=True)).get(attribute, value)
    return "URDF" if value == hard else "URDF, soft limit"


@dataclass(frozen=True)
class Pairs:
    """Pairs of links, the nearest first, by what random postures say of them, and a search from
    those for the ones that none shows to touch.

    Attributes:
        margin: m that ``close`` of a contact is about. adjacent: joined by a joint.
        always: they touch in nearly every posture. never: in none that was tried or found.
        sometimes: in the rest.
    """

    samples: int
    margin: float = 0.0
    adjacent: list[tuple[str, str, Contact]] = field(default_factory=list)
    always: list[tuple[str, str, Contact]] = field(default_factory=list)
    never: list[tuple[str, str, Contact]] = field(default_factory=list)
    sometimes: list[tuple[str, str, Contact]] = field(default_factory=list)


def sort_pairs(robot: RobotModel, samples: int, seed: int = 0, margin: float = 0.0) -> Pairs:
    """Every two links with shapes, whatever the SRDF says of them."""
    pairs = [(a, b) for a, b in itertools.combinations(robot.geometries, 2) if a.link != b.link]
    found = Pairs(samples, margin)
    seen = sample_contacts(robot, pairs, samples, seed, margin)
    seen = _searched(robot, pairs, seen, drawn(robot, samples, seed))
    for (a, b), contact in sorted(seen.items(), key=lambda item: item[1].nearest):
        if robot.adjacent(a, b):
            group = found.adjacent
        elif contact.share >= _ALWAYS:
            group = found.always
        elif contact.nearest > 0.0:
            group = found.never
        else:
            group = found.sometimes
        group.append((a, b, contact))
    return found


def _searched(
    robot: RobotModel,
    pairs: list[tuple[Geometry, Geometry]],
    seen: dict[tuple[str, str], Contact],
    postures: np.ndarray,
) -> dict[tuple[str, str], Contact]:
    """What was seen, with the nearest that a search finds where no contact was."""
    shapes: dict[tuple[str, str], list[tuple[Geometry, Geometry]]] = {}
    for a, b in pairs:
        shapes.setdefault((a.link, b.link), []).append((a, b))
    others = postures[:_STARTS]
    found = dict(seen)
    for links, contact in seen.items():
        a, b = shapes[links][0]
        if (
            contact.nearest > 0.0
            and not robot.adjacent(*links)
            and robot.relative_reach(a, b).any()
        ):
            starts = [postures[contact.posture], *others]
            least = min(contact.nearest, nearest(robot, shapes[links], starts))
            found[links] = replace(contact, nearest=least)
    return found


def hidden(robot: RobotModel, pairs: Pairs) -> list[str]:
    """Pairs that touch, are not joined, and that the SRDF takes out of the check.

    Fingers of one motor touch when they close, and are left out.
    """
    return [
        f"{a} ~ {b}: touch in {often(contact)} of {pairs.samples} postures, up to "
        f"{-contact.nearest * 1e3:.0f} mm deep, and the SRDF lets them; look at that entry"
        for a, b, contact in [*pairs.always, *pairs.sometimes]
        if robot.srdf.allows_contact(a, b) and motor_between(robot, a, b) is None
    ]


def often(contact: Contact) -> str:
    """The share of postures with a contact, for people."""
    return f"{contact.share:.1%}" if contact.share >= 0.001 or contact.nearest > 0.0 else "<0.1%"


def stuck(robot: RobotModel, pairs: Pairs) -> list[str]:
    """Pairs that are checked and nearly always, or much of the time, nearer than the margin."""
    checked = [
        (a, b, contact)
        for a, b, contact in [*pairs.always, *pairs.adjacent, *pairs.sometimes, *pairs.never]
        if contact.close >= _OFTEN and not robot.srdf.allows_contact(a, b)
    ]
    return [
        f"{a} ~ {b}: are checked, and nearer than {pairs.margin * 1e3:g} mm in "
        f"{contact.close:.0%} of {pairs.samples} postures: "
        + ("nothing would move" if contact.close >= _ALWAYS else "the gate holds them apart there")
        + "; let them touch in the SRDF, where they may, or mend the shapes"
        for a, b, contact in checked
        if motor_between(robot, a, b) is None
    ]


def gripping(robot: RobotModel, pairs: Pairs) -> list[str]:
    """Pairs that a gripper's motor alone moves against each other, and that are checked."""
    return [
        f"{a} ~ {b}: moved by {motor} alone and checked; where they are fingers that have to "
        "close, let them touch in the SRDF"
        for a, b, _ in pairs.sometimes
        if not robot.srdf.allows_contact(a, b) and (motor := motor_between(robot, a, b)) is not None
    ]


def motor_between(robot: RobotModel, link1: str, link2: str) -> str | None:
    """The joint of a gripper that alone moves two links against each other; None: other joints
    do, or one that no joint mimics."""
    one, other = (next(g for g in robot.geometries if g.link == n) for n in (link1, link2))
    moving = np.flatnonzero(robot.relative_reach(one, other))
    name = robot.names[moving[0]] if len(moving) == 1 else ""
    return name if any(m.joint == name for m in robot.mimics.values()) else None


def extent(robot: RobotModel, samples: int, seed: int = 0) -> np.ndarray:
    """``[2, 3]`` m: corners of the box, in the root frame, that random postures filled."""
    data, placed = robot.model.createData(), robot.geometry.createData()
    solids = [extreme_points(g.geometry) for g in robot.geometry.geometryObjects]
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for q in drawn(robot, samples, seed):
        pin.updateGeometryPlacements(
            robot.model, data, robot.geometry, placed, robot.configuration(q)
        )
        for (points, radius), at in zip(solids, placed.oMg, strict=True):
            there = points @ at.rotation.T + at.translation
            low = np.minimum(low, there.min(axis=0) - radius)
            high = np.maximum(high, there.max(axis=0) + radius)
    return np.stack([low, high])


def without_position_interface(urdf: Path) -> dict[str, list[str]]:
    """ros2_control's joints that take no position commands → the interfaces that they have."""
    root = ET.parse(urdf).getroot()
    return {
        joint.get("name", ""): interfaces
        for joint in root.iterfind("ros2_control/joint")
        if _POSITION
        not in (interfaces := [c.get("name", "") for c in joint.iterfind("command_interface")])
    }
